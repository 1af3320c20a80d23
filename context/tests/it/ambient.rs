//! Ambient state that is not ours: captured where a task is made, put around each poll and the
//! drop.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::task::{Context as Poller, Poll};

use heirloom_context::{Ambient, AmbientSnapshot, Ambients, Crossing, CrossingKind};

use crate::support::{
    Executor, Log, OnDrop, caught, never, on_a_fresh_thread, poll_once, quiet_panic, yield_once,
};

// The example of the docs, to the letter. The kind: an example that shows how to keep a contract,
// and would break it if copied.
include!("../../src/ambient/locale.rs");

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Logs in which order the ambients are entered and left, on this thread.
struct Ordered(&'static str);

thread_local! {
    static LOGGED: RefCell<Vec<(&'static str, &'static str)>> = const { RefCell::new(Vec::new()) };
}

fn log(what: &'static str, name: &'static str) {
    LOGGED.with_borrow_mut(|log| log.push((what, name)));
}

fn logged() -> Vec<(&'static str, &'static str)> {
    LOGGED.take()
}

/// Leaves an [`Ordered`]. Larger than the place that a guard has.
struct Leave(&'static str, #[expect(dead_code, reason = "it takes room")] [u64; 8]);

impl Drop for Leave {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
        log("leave", self.0);
    }
}

impl Ambient for Ordered {
    type State = ();
    type Guard<'a> = Leave;

    fn capture(&self, _: &Crossing<'_>) -> Option<()> {
        log("capture", self.0);
        Some(())
    }

    fn enter(&self, (): &mut ()) -> Leave {
        log("enter", self.0);
        DEPTH.set(DEPTH.get() + 1);
        Leave(self.0, [0; 8])
    }
}

/// What an executor makes of a task's future: the captured state around each poll and around the
/// drop.
struct Around {
    inner: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    ambient: AmbientSnapshot,
}

impl Future for Around {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, poller: &mut Poller<'_>) -> Poll<()> {
        let this = &mut *self;
        let inner = this.inner.as_mut().expect("not dropped yet");
        let _entered = this.ambient.enter();
        inner.as_mut().poll(poller)
    }
}

impl Drop for Around {
    fn drop(&mut self) {
        let inner = self.inner.take();
        let _entered = self.ambient.enter();
        drop(inner);
    }
}

fn in_ambients(ambients: &Ambients, future: impl Future<Output = ()> + Send + 'static) -> Around {
    Around { inner: Some(Box::pin(future)), ambient: captured(ambients) }
}

fn captured(ambients: &Ambients) -> AmbientSnapshot {
    captured_for(ambients, CrossingKind::Task)
}

fn captured_for(ambients: &Ambients, kind: CrossingKind) -> AmbientSnapshot {
    let mut snapshot = AmbientSnapshot::empty();
    ambients.capture_into(&mut snapshot, &Crossing::new(kind));
    snapshot
}

fn around<R>(snapshot: &mut AmbientSnapshot, f: impl FnOnce() -> R) -> R {
    let _entered = snapshot.enter();
    f()
}

fn with_locale() -> Ambients {
    let mut ambients = Ambients::new();
    ambients.push(&Locale);
    ambients
}

#[test]
fn without_ambients_nothing_is_captured() {
    let ambients = Ambients::new();
    assert!(ambients.is_empty());
    assert!(captured(&ambients).is_empty());
    assert_eq!(around(&mut captured(&ambients), || 42), 42);
    assert!(!with_locale().is_empty());
}

#[test]
fn what_was_captured_is_in_force_around_and_gone_after() {
    on_a_fresh_thread(|| {
        let ambients = with_locale();
        LOCALE.set("fr");
        let mut captured = captured(&ambients);
        LOCALE.set("de");
        assert_eq!(around(&mut captured, || LOCALE.get()), "fr");
        assert_eq!(LOCALE.get(), "de");
        assert_eq!(around(&mut captured, || LOCALE.get()), "fr", "as often as it takes");
        std::thread::scope(|scope| {
            let there = scope.spawn(move || (around(&mut captured, || LOCALE.get()), LOCALE.get()));
            assert_eq!(there.join().unwrap(), ("fr", "en"));
        });
    });
}

fn two() -> Ambients {
    let mut ambients = Ambients::new();
    ambients.push(&Ordered("a"));
    ambients.push(&Ordered("b"));
    ambients
}

#[test]
fn the_first_ambient_is_the_outermost() {
    on_a_fresh_thread(|| {
        let mut captured = captured(&two());
        assert_eq!(logged(), [("capture", "a"), ("capture", "b")]);
        for _ in 0..2 {
            assert_eq!(around(&mut captured, || DEPTH.get()), 2);
            assert_eq!(logged(), [("enter", "a"), ("enter", "b"), ("leave", "b"), ("leave", "a")]);
        }
    });
}

#[test]
fn a_later_ambient_does_not_change_what_was_captured_before() {
    on_a_fresh_thread(|| {
        let mut ambients = Ambients::new();
        ambients.push(&Ordered("a"));
        let mut before = captured(&ambients);
        ambients.push(&Ordered("b"));
        logged();
        around(&mut before, || ());
        assert_eq!(logged(), [("enter", "a"), ("leave", "a")]);
    });
}

#[test]
fn a_panic_passes_through_and_everything_is_left() {
    on_a_fresh_thread(|| {
        let mut ambients = with_locale();
        ambients.push(&Ordered("a"));
        LOCALE.set("fr");
        let mut captured = captured(&ambients);
        LOCALE.set("de");
        logged();
        assert_eq!(caught(|| around(&mut captured, || quiet_panic("inside"))), "inside");
        assert_eq!(LOCALE.get(), "de");
        assert_eq!(logged(), [("enter", "a"), ("leave", "a")]);
    });
}

/// The second of two panics where it is entered: the first is left.
#[test]
fn an_ambient_that_panics_where_it_is_entered_leaves_the_others() {
    struct Panics;
    impl Ambient for Panics {
        type State = ();
        type Guard<'a> = ();
        fn capture(&self, _: &Crossing<'_>) -> Option<()> {
            Some(())
        }
        fn enter(&self, (): &mut ()) {
            quiet_panic("in an ambient state");
        }
    }
    on_a_fresh_thread(|| {
        let mut ambients = Ambients::new();
        ambients.push(&Ordered("a"));
        ambients.push(&Panics);
        let mut captured = captured(&ambients);
        logged();
        assert_eq!(caught(|| around(&mut captured, || ())), "in an ambient state");
        assert_eq!(logged(), [("enter", "a"), ("leave", "a")]);
    });
}

/// A guard that panics where it is left: the others are left all the same.
#[test]
fn an_ambient_that_panics_where_it_is_left_leaves_the_others() {
    struct Panics;
    struct PanickingGuard;
    impl Drop for PanickingGuard {
        fn drop(&mut self) {
            quiet_panic("in a guard");
        }
    }
    impl Ambient for Panics {
        type State = ();
        type Guard<'a> = PanickingGuard;
        fn capture(&self, _: &Crossing<'_>) -> Option<()> {
            Some(())
        }
        fn enter(&self, (): &mut ()) -> PanickingGuard {
            PanickingGuard
        }
    }
    on_a_fresh_thread(|| {
        let mut ambients = Ambients::new();
        ambients.push(&Ordered("a"));
        ambients.push(&Panics);
        ambients.push(&Ordered("b"));
        let mut captured = captured(&ambients);
        logged();
        assert_eq!(caught(|| around(&mut captured, || ())), "in a guard");
        assert_eq!(logged(), [("enter", "a"), ("enter", "b"), ("leave", "b"), ("leave", "a")]);
    });
}

/// Guards that borrow their states, write them, and have destructors, several at a time: for Miri.
#[test]
fn guards_of_several_ambients_may_write_the_states_that_they_borrow() {
    struct Writes;
    struct Writing<'a>(&'a mut String);
    impl Drop for Writing<'_> {
        fn drop(&mut self) {
            self.0.push('.');
            log("leave", if self.0.len() == 2 { "once" } else { "twice" });
        }
    }
    impl Ambient for Writes {
        type State = String;
        type Guard<'a> = Writing<'a>;
        fn capture(&self, _: &Crossing<'_>) -> Option<String> {
            Some("s".to_string())
        }
        fn enter<'a>(&self, state: &'a mut String) -> Writing<'a> {
            Writing(state)
        }
    }
    on_a_fresh_thread(|| {
        let mut ambients = Ambients::new();
        (0..3).for_each(|_| ambients.push(&Writes));
        let mut captured = captured(&ambients);
        logged();
        around(&mut captured, || ());
        assert_eq!(logged(), [("leave", "once"); 3]);
        around(&mut captured, || ());
        assert_eq!(logged(), [("leave", "twice"); 3]);
    });
}

/// Each state is dropped once, with its snapshot, wherever it lies: in the place, in a box, in the
/// list of several.
#[test]
fn states_of_all_sizes_are_dropped_once() {
    thread_local! { static DROPS: Cell<usize> = const { Cell::new(0) }; }
    struct Counted<const WORDS: usize>([usize; WORDS]);
    impl<const WORDS: usize> Drop for Counted<WORDS> {
        fn drop(&mut self) {
            assert_eq!(self.0, [WORDS; WORDS]);
            DROPS.set(DROPS.get() + 1);
        }
    }
    struct Sized<const WORDS: usize>;
    impl<const WORDS: usize> Ambient for Sized<WORDS> {
        type State = Counted<WORDS>;
        type Guard<'a> = &'a mut [usize; WORDS];
        fn capture(&self, _: &Crossing<'_>) -> Option<Counted<WORDS>> {
            Some(Counted([WORDS; WORDS]))
        }
        fn enter<'a>(&self, state: &'a mut Counted<WORDS>) -> &'a mut [usize; WORDS] {
            &mut state.0
        }
    }
    let mut ambients = Ambients::new();
    for number in 1..=4 {
        match number {
            1 => ambients.push(&Sized::<0>),
            2 => ambients.push(&Sized::<5>),
            3 => ambients.push(&Sized::<6>),
            _ => ambients.push(&Sized::<100>),
        }
        let mut captured = captured(&ambients);
        around(&mut captured, || ());
        assert_eq!(DROPS.get(), 0);
        let moved = Box::new(captured);
        drop(moved);
        assert_eq!(DROPS.take(), number);
    }
}

/// What goes along with which crossing is for the ambient state to say: once for each kind, and
/// with `None` for each capture.
#[test]
fn an_ambient_state_says_with_what_it_goes() {
    struct Picky;
    impl Ambient for Picky {
        type State = ();
        type Guard<'a> = Leave;
        fn capture(&self, crossing: &Crossing<'_>) -> Option<()> {
            assert_eq!(crossing.spawned_at().file(), file!());
            (crossing.name() == Some("taken")).then_some(())
        }
        fn enter(&self, (): &mut ()) -> Leave {
            Ordered("picky").enter(&mut ())
        }
        fn goes_with(&self, kind: CrossingKind) -> bool {
            matches!(kind, CrossingKind::Background | CrossingKind::Eager)
        }
    }
    let mut ambients = Ambients::new();
    ambients.push(&Picky);
    let kinds = [
        (CrossingKind::Task, 0, 1),
        (CrossingKind::Local, 0, 1),
        (CrossingKind::Blocking, 0, 1),
        (CrossingKind::Background, 1, 1),
        (CrossingKind::BlockOn, 0, 0),
        (CrossingKind::Eager, 1, 1),
    ];
    for with_another in [false, true] {
        if with_another {
            ambients.push(&Ordered("default"));
        }
        for (kind, own, both) in kinds {
            assert_eq!(ambients.go_with(kind), if with_another { both != 0 } else { own == 1 });
            let mut captured = AmbientSnapshot::empty();
            for (name, own) in [(None, 0), (Some("other"), 0), (Some("taken"), own)] {
                ambients.capture_into(&mut captured, &Crossing::new(kind).named(name));
                let default =
                    matches!(kind, CrossingKind::Task | CrossingKind::Local | CrossingKind::Blocking);
                let depth = own + u32::from(with_another && default);
                assert_eq!(around(&mut captured, || DEPTH.get()), depth, "{kind:?} {name:?}");
            }
        }
    }
    assert!(captured_for(&ambients, CrossingKind::BlockOn).is_empty());
}

#[test]
fn a_task_carries_its_ambient_state_through_polls_and_drop() {
    Executor::each(|executor| {
        let log = Log::new();
        let (own, seen) = (executor.clone(), log.clone());
        executor.run(async move {
            let ambients = with_locale();
            let before = LOCALE.replace("fr");
            let task = in_ambients(&ambients, async move {
                for _ in 0..5 {
                    seen.push(LOCALE.get());
                    yield_once().await;
                }
            });
            LOCALE.set(before);
            own.spawn_plain(task).await;
        });
        assert_eq!(log.take(), ["fr"; 5]);
    });
}

#[test]
fn a_task_dropped_half_way_is_dropped_under_its_ambient_state() {
    on_a_fresh_thread(|| {
        let log = Log::new();
        LOCALE.set("fr");
        let seen = log.clone();
        let witness = OnDrop(move || seen.push(LOCALE.get()));
        let mut task = Box::pin(in_ambients(&with_locale(), async move {
            let _witness = witness;
            never().await;
        }));
        LOCALE.set("de");
        assert!(poll_once(task.as_mut()).is_pending());
        drop(task);
        assert_eq!(log.take(), ["fr"]);
        assert_eq!(LOCALE.get(), "de");
    });
}
