//! What runs around tasks: hooks, and the ambient states of other libraries.

use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use heirloom::context::{Ambient, Crossing, CrossingKind};
use heirloom::runtime::Hooks;
use heirloom::task::TaskMeta;
use heirloom::{Context, Runtime, context_var, sleep, spawn, spawn_blocking, task, yield_now};
use heirloom_tests::{Log, MARK, OnDrop, PATIENCE, Probe, Step, idle, quiet_panic, watchdog};

/// A thread-local of some other library, that is to follow tasks. Each test counts captures of its
/// own.
struct Foreign {
    captures: AtomicUsize,
    /// Whether it goes with everything, or with what it goes with by default.
    with_all: bool,
}

thread_local! {
    static FOREIGN: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

struct Restore(u32);

impl Drop for Restore {
    fn drop(&mut self) {
        FOREIGN.set(self.0);
    }
}

impl Foreign {
    const fn new(with_all: bool) -> Foreign {
        Foreign { captures: AtomicUsize::new(0), with_all }
    }

    /// How many captures there were since the last call.
    fn captures(&self) -> usize {
        self.captures.swap(0, Ordering::SeqCst)
    }
}

impl Ambient for Foreign {
    type State = u32;
    type Guard<'a> = Restore;

    fn capture(&self, crossing: &Crossing<'_>) -> Option<u32> {
        assert_eq!(crossing.spawned_at().file(), file!());
        assert_eq!(crossing.name().is_some(), task::current().is_none() && FOREIGN.get() == NAMED);
        self.captures.fetch_add(1, Ordering::SeqCst);
        Some(FOREIGN.get())
    }

    fn enter(&self, captured: &mut u32) -> Restore {
        if *captured == NAMED {
            // The task is there, and is the current one, in its polls and in its drop.
            assert_eq!(task::current().unwrap().name(), Some("named"));
        }
        Restore(FOREIGN.replace(*captured))
    }

    fn goes_with(&self, kind: CrossingKind) -> bool {
        self.with_all || matches!(kind, CrossingKind::Task | CrossingKind::Local | CrossingKind::Blocking)
    }
}

/// What a task called `named` is spawned in.
const NAMED: u32 = 77;

#[test]
fn a_foreign_ambient_state_follows_tasks_closures_and_drops() {
    static STAYS: Foreign = Foreign::new(false);
    watchdog(PATIENCE, || {
        let runtime = Runtime::builder().workers(2).ambient(&STAYS).build().unwrap();
        FOREIGN.set(7);
        let seen = runtime.spawn(async {
            let before = FOREIGN.get();
            yield_now().await;
            let child = spawn(async { FOREIGN.get() }).await.unwrap();
            let closure = spawn_blocking(|| FOREIGN.get()).await.unwrap();
            (before, FOREIGN.get(), child, closure)
        });
        FOREIGN.set(8);
        assert_eq!(runtime.block_on(seen).unwrap(), (7, 7, 7, 7));
        assert_eq!(STAYS.captures(), 3, "captured once per spawn");
        let dropped = Log::new();
        let told = dropped.clone();
        let witness = OnDrop::new(move || told.push(FOREIGN.get()));
        let (probe, watch) = Probe::new([Step::Wait]);
        let task = runtime.spawn(async move {
            let _witness = witness;
            probe.await;
        });
        idle(&runtime);
        drop(task);
        idle(&runtime);
        watch.assert_counts(1, 1);
        assert_eq!(dropped.take(), [8]);
        assert_eq!(FOREIGN.get(), 8);
        // A future that is ready is dropped in it, too.
        let told = dropped.clone();
        let witness = OnDrop::new(move || told.push(FOREIGN.get()));
        runtime.block_on(runtime.spawn(async move { drop(witness) })).unwrap();
        let told = dropped.clone();
        let witness = OnDrop::new(move || told.push(FOREIGN.get()));
        let mut ready = Some(());
        let returns = std::future::poll_fn(move |_| {
            let _ = &witness;
            std::task::Poll::Ready(ready.take())
        });
        runtime.block_on(runtime.spawn(returns)).unwrap();
        assert_eq!(dropped.take(), [8, 8]);
        // A panic puts it back, too.
        FOREIGN.set(9);
        let panicked = runtime.spawn(async { heirloom_tests::quiet_panic("in an ambient state") });
        assert!(runtime.block_on(panicked).unwrap_err().is_panic());
        FOREIGN.set(0);
        let threads = (0..20).map(|_| runtime.spawn(async { FOREIGN.get() }));
        for task in threads.collect::<Vec<_>>() {
            assert_eq!(runtime.block_on(task).unwrap(), 0);
        }
    });
}

#[test]
fn an_ambient_state_sees_which_task_it_is_about() {
    static STAYS: Foreign = Foreign::new(false);
    watchdog(PATIENCE, || {
        let runtime = Runtime::builder().workers(1).ambient(&STAYS).build().unwrap();
        FOREIGN.set(NAMED);
        let named = task::Builder::new().name("named").on(runtime.handle()).spawn(async {
            yield_now().await;
            FOREIGN.get()
        });
        FOREIGN.set(0);
        assert_eq!(runtime.block_on(named).unwrap(), NAMED);
        assert_eq!(STAYS.captures(), 1);
    });
}

/// A panic of the future's destructor is one of the task, also where the future has returned: its
/// output is dropped. The state is put back.
#[test]
fn a_future_that_panics_in_its_drop_panics_in_its_ambient_state() {
    static STAYS: Foreign = Foreign::new(false);
    watchdog(PATIENCE, || {
        let runtime = Runtime::builder().workers(1).ambient(&STAYS).build().unwrap();
        FOREIGN.set(7);
        let outputs = Log::new();
        for steps in [&[Step::Ready][..], &[Step::Yield, Step::Ready], &[Step::Panic]] {
            let (probe, watch) = Probe::new(steps.iter().copied());
            let mut probe = Box::pin(probe.panicking_on_drop());
            let told = outputs.clone();
            let task = runtime.spawn(std::future::poll_fn(move |poller| {
                let told = told.clone();
                probe.as_mut().poll(poller).map(|_| OnDrop::new(move || told.push(FOREIGN.get())))
            }));
            assert!(runtime.block_on(task).err().unwrap().is_panic());
            assert_eq!(watch.drops(), 1);
        }
        assert_eq!(outputs.take().len(), 2, "outputs that nothing can have are dropped");
        FOREIGN.set(0);
        assert_eq!(runtime.block_on(runtime.spawn(async { FOREIGN.get() })).unwrap(), 0);
    });
}

/// A capture that panics is the spawner's panic, and the task is cancelled: its future is dropped,
/// and the runtime counts it no more.
#[test]
fn a_capture_that_panics_cancels_the_task() {
    struct Panics;
    impl Ambient for Panics {
        type State = ();
        type Guard<'a> = ();
        fn capture(&self, _: &Crossing<'_>) -> Option<()> {
            quiet_panic("in a capture")
        }
        fn enter(&self, (): &mut ()) {}
    }
    watchdog(PATIENCE, || {
        let runtime = Runtime::builder().workers(1).ambient(&Panics).build().unwrap();
        let dropped = Log::new();
        let told = dropped.clone();
        let witness = OnDrop::new(move || told.push(()));
        let spawned = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            runtime.spawn(async move { drop(witness) }).detach();
        }));
        assert!(spawned.is_err());
        assert_eq!(dropped.take().len(), 1);
        idle(&runtime);
        assert_eq!(runtime.stats().tasks, 0);
        // Where it does not go along, nothing is captured.
        let (send, receive) = std::sync::mpsc::channel();
        let _ = runtime.handle().spawn_background(async move { send.send(1) });
        assert_eq!(receive.recv(), Ok(1));
    });
}

/// The kind: what goes with a crossing is for the ambient state to say; a span stays behind where a
/// background task starts, a runtime's handle goes along. By default a call's future is inside the
/// state of its thread; a state that wants it is captured for the call.
#[test]
fn an_ambient_state_says_with_which_crossings_it_goes() {
    static STAYS: Foreign = Foreign::new(false);
    static GOES: Foreign = Foreign::new(true);
    watchdog(PATIENCE, || {
        let taken = || (STAYS.captures(), GOES.captures());
        let runtime = Runtime::builder().workers(1).ambient(&STAYS).ambient(&GOES).build().unwrap();
        FOREIGN.set(7);
        let (send, receive) = std::sync::mpsc::channel();
        let witness = send.clone();
        let witness = OnDrop::new(move || witness.send(FOREIGN.get()).unwrap());
        let background = async move {
            let _witness = witness;
            yield_now().await;
            let child = spawn(async { FOREIGN.get() }).await.unwrap();
            let _ = send.send(FOREIGN.get() * 10 + child);
        };
        let _ = runtime.handle().spawn_background(background);
        assert_eq!([receive.recv().unwrap(), receive.recv().unwrap()], [77, 7]);
        assert_eq!(taken(), (1, 2), "the child has both");
        // The calls: what they capture is in force in each poll and in the drop.
        let dropped = Log::new();
        let told = dropped.clone();
        let witness = OnDrop::new(move || told.push(FOREIGN.get()));
        let call = async move {
            let _witness = witness;
            FOREIGN.set(8);
            yield_now().await;
            FOREIGN.get()
        };
        assert_eq!(runtime.block_on(call), 7);
        assert_eq!((FOREIGN.get(), dropped.take()), (7, vec![7]));
        assert_eq!(taken(), (0, 1));
        let entered = runtime.enter();
        assert_eq!(heirloom::run_eagerly(async { FOREIGN.replace(9) }), 7);
        assert_eq!(FOREIGN.get(), 7);
        assert_eq!(taken(), (0, 1));
        // Tasks of eager code and of a local set are tasks.
        heirloom::run_eagerly(async { spawn(async { FOREIGN.set(9) }).await.unwrap() });
        assert_eq!(taken(), (1, 2));
        let set = task::LocalSet::new();
        let local = set.spawn_local(async { FOREIGN.replace(9) });
        FOREIGN.set(8);
        assert_eq!(taken(), (1, 1));
        assert_eq!(set.block_on(local).unwrap(), 7);
        assert_eq!((FOREIGN.get(), taken()), (8, (0, 1)));
        drop(entered);
        FOREIGN.set(0);
    });
}

#[test]
fn hooks_come_in_pairs_whatever_panics() {
    /// Counts what it is told, and panics each time.
    #[derive(Default)]
    struct Counts([AtomicUsize; 5]);
    impl Counts {
        fn count(&self, hook: usize) {
            self.0[hook].fetch_add(1, Ordering::SeqCst);
            quiet_panic("in a hook");
        }
    }
    impl Hooks for Counts {
        fn on_spawn(&self, _: &TaskMeta, _: &Context) {
            self.count(0);
        }
        fn before_poll(&self, _: &TaskMeta) {
            self.count(1);
        }
        fn after_poll(&self, _: &TaskMeta) {
            self.count(2);
        }
        fn on_done(&self, _: &TaskMeta) {
            self.count(3);
        }
        fn on_wake(&self, _: &TaskMeta) {
            self.count(4);
        }
    }
    watchdog(PATIENCE, || {
        let counts = Arc::new(Counts::default());
        let runtime = Runtime::builder().workers(1).hooks(counts.clone()).build().unwrap();
        let scripts: [&[Step]; 4] =
            [&[], &[Step::Yield, Step::Ready], &[Step::Yield, Step::Panic], &[Step::Wait; 2]];
        let mut polls = 0;
        let mut tasks = 0;
        let mut wake_ups = 0;
        for script in scripts {
            for panics_on_drop in [false, true] {
                let (mut probe, watch) = Probe::new(script.iter().copied());
                if panics_on_drop {
                    probe = probe.panicking_on_drop();
                }
                let task = runtime.spawn(probe);
                runtime.wait_until_idle();
                task.abort();
                let _ = runtime.block_on(task);
                assert_eq!(watch.drops(), 1);
                polls += watch.polls();
                tasks += 1;
                wake_ups += usize::from(script.contains(&Step::Wait));
            }
        }
        let counted: Vec<_> = counts.0.iter().map(|count| count.load(Ordering::SeqCst)).collect();
        assert_eq!(counted, [tasks, polls, polls, tasks, wake_ups]);
    });
}

#[test]
fn a_background_task_has_nothing_of_a_foreign_ambient_state() {
    static STAYS: Foreign = Foreign::new(false);
    watchdog(PATIENCE, || {
        let runtime = Runtime::builder().workers(1).ambient(&STAYS).build().unwrap();
        FOREIGN.set(7);
        let (send, receive) = std::sync::mpsc::channel();
        runtime.handle().spawn_background(async move { send.send(FOREIGN.get()) });
        assert_eq!(receive.recv().unwrap(), 0);
        assert_eq!(STAYS.captures(), 0);
        FOREIGN.set(0);
    });
}

/// The kind: what is not overridden costs nothing, so the runtime stops calling it; what is
/// overridden is called each time, also where it calls in turn hooks of the same name that are not,
/// be they of its own type's making or at its own address.
#[test]
fn hooks_that_pass_calls_on_to_hooks_that_do_nothing_go_on_being_called() {
    #[derive(Default)]
    struct Idle;
    impl Hooks for Idle {}
    #[derive(Default)]
    #[repr(C)]
    struct Outer {
        inner: Idle,
        calls: [AtomicUsize; 5],
        next: Option<Box<Outer>>,
    }
    impl Outer {
        fn count(&self, hook: usize) -> usize {
            self.calls[hook].fetch_add(1, Ordering::SeqCst)
        }
    }
    impl Hooks for Outer {
        fn on_spawn(&self, task: &TaskMeta, context: &Context) {
            self.count(0);
            self.inner.on_spawn(task, context);
        }
        fn before_poll(&self, task: &TaskMeta) {
            self.count(1);
            self.next.iter().for_each(|next| next.before_poll(task));
            self.inner.before_poll(task);
        }
        fn after_poll(&self, task: &TaskMeta) {
            self.count(2);
            self.inner.after_poll(task);
        }
        fn on_done(&self, task: &TaskMeta) {
            self.count(3);
            self.inner.on_done(task);
        }
        fn on_wake(&self, task: &TaskMeta) {
            self.count(4);
            self.next.iter().for_each(|next| next.inner.on_wake(task));
            self.inner.on_wake(task);
        }
    }
    watchdog(PATIENCE, || {
        let hooks = Arc::new(Outer { next: Some(Box::default()), ..Outer::default() });
        let runtime = Runtime::builder().workers(1).hooks(hooks.clone()).build().unwrap();
        for _ in 0..10 {
            // The outer task is woken by the end of the inner one.
            runtime.block_on(runtime.spawn(async { spawn(async {}).await })).unwrap().unwrap();
        }
        drop(runtime);
        let counted = |hooks: &Outer| [0, 1, 2, 3, 4].map(|hook| hooks.count(hook));
        assert_eq!(counted(&hooks), [20, 30, 30, 20, 10]);
        assert_eq!(counted(hooks.next.as_deref().unwrap()), [0, 30, 0, 0, 0]);
    });
}

#[test]
fn hooks_read_the_tasks_context_and_may_keep_what_they_are_told_of_a_task() {
    #[derive(Default)]
    struct Told(Mutex<Vec<(&'static str, Option<u64>, TaskMeta)>>);
    impl Told {
        fn note(&self, hook: &'static str, mark: Option<u64>, task: &TaskMeta) {
            self.0.lock().unwrap().push((hook, mark, task.clone()));
        }
    }
    impl Hooks for Told {
        fn on_spawn(&self, task: &TaskMeta, context: &Context) {
            self.note("spawn", context.get(&MARK), task);
        }
        fn before_poll(&self, task: &TaskMeta) {
            self.note("before", MARK.get(), task);
        }
        fn after_poll(&self, task: &TaskMeta) {
            self.note("after", Context::current().get(&MARK), task);
        }
        fn on_done(&self, task: &TaskMeta) {
            self.note("done", MARK.get(), task);
        }
    }
    watchdog(PATIENCE, || {
        let told = Arc::new(Told::default());
        let runtime = Runtime::builder().workers(1).hooks(told.clone()).build().unwrap();
        let id = runtime.block_on(async {
            MARK.set(3);
            let named = task::Builder::new().name("told").on(runtime.handle());
            let task = named.spawn(async {
                MARK.set(4);
                task::current().unwrap().id()
            });
            MARK.set(5);
            task.await.unwrap()
        });
        drop(runtime);
        let told = std::mem::take(&mut *told.0.lock().unwrap());
        let heard: Vec<_> = told.iter().map(|(hook, mark, _)| (*hook, *mark)).collect();
        assert_eq!(heard, [("spawn", Some(3)), ("before", Some(3)), ("after", Some(4)), ("done", Some(4))]);
        for (_, _, task) in told {
            assert_eq!((task.id(), task.name(), task.spawned_at().file()), (id, Some("told"), file!()));
        }
    });
}

/// Notes the wake-ups and the polls of tasks with a name, and the mark that it reads.
#[derive(Default)]
struct Woken(Log<(&'static str, Option<u64>)>);

impl Hooks for Woken {
    fn before_poll(&self, task: &TaskMeta) {
        if task.name().is_some() {
            self.0.push(("poll", MARK.get()));
        }
    }
    fn on_wake(&self, task: &TaskMeta) {
        if task.name().is_some() {
            self.0.push(("wake", MARK.get()));
        }
    }
}

/// A task with a name that waits, with mark 4, and its waker.
fn waiting(runtime: &Runtime) -> (task::JoinHandle<()>, Waker) {
    let (send, receive) = std::sync::mpsc::channel();
    let task = task::Builder::new().name("waits").on(runtime.handle()).spawn(async move {
        MARK.set(4);
        poll_fn(|cx| {
            let _ = send.send(cx.waker().clone());
            Poll::Pending
        })
        .await
    });
    idle(runtime);
    (task, receive.iter().next().unwrap())
}

/// The kind: what is told is that an idle task became runnable, once for each time, on the thread
/// and in the context that did it, before the poll.
#[test]
fn a_hook_is_told_of_a_wake_up_that_makes_an_idle_task_runnable_and_of_no_other() {
    watchdog(PATIENCE, || {
        let hooks = Arc::new(Woken::default());
        let log = &hooks.0;
        let runtime = Runtime::builder().workers(1).hooks(hooks.clone()).build().unwrap();
        let (send, wakers) = std::sync::mpsc::channel();
        let task = task::Builder::new().name("waits").on(runtime.handle()).spawn(async move {
            MARK.set(4);
            let mut polls = 0;
            poll_fn(move |cx| {
                polls += 1;
                if polls == 2 {
                    // During the poll the task is not idle.
                    cx.waker().wake_by_ref();
                }
                send.send(cx.waker().clone()).unwrap();
                Poll::<()>::Pending
            })
            .await;
        });
        idle(&runtime);
        let waker = wakers.recv().unwrap();
        assert_eq!(log.take(), [("poll", None)], "a spawn is no wake-up");
        MARK.set(9);
        waker.wake_by_ref();
        idle(&runtime);
        assert_eq!(log.take(), [("wake", Some(9)), ("poll", Some(4)), ("poll", Some(4))]);
        // On the worker, in a task. It is not left between the two wake-ups.
        let wakes = waker.clone();
        runtime
            .block_on(runtime.spawn(async move {
                MARK.set(7);
                wakes.wake_by_ref();
                wakes.wake();
            }))
            .unwrap();
        idle(&runtime);
        assert_eq!(log.take(), [("wake", Some(7)), ("poll", Some(4))]);
        std::thread::scope(|scope| scope.spawn(|| waker.wake_by_ref()).join().unwrap());
        idle(&runtime);
        assert_eq!(log.take(), [("wake", None), ("poll", Some(4))]);
        task.abort();
        idle(&runtime);
        assert_eq!(log.take(), [("wake", Some(9))], "it is woken to end");
        assert!(task.is_finished());
        task.abort();
        waker.wake_by_ref();
        assert_eq!(log.take(), []);
        while runtime.stats().totals.wake_ups != 4 {
            std::thread::yield_now();
        }
    });
}

/// The kind: what outlives the runtime neither calls its hooks nor keeps them.
#[test]
fn a_waker_that_outlives_the_runtime_calls_no_hook() {
    watchdog(PATIENCE, || {
        let hooks = Arc::new(Woken::default());
        let runtime = Runtime::builder().workers(1).hooks(hooks.clone()).build().unwrap();
        let (task, waker) = waiting(&runtime);
        hooks.0.take();
        drop(runtime);
        waker.wake_by_ref();
        task.abort();
        assert_eq!(hooks.0.take(), []);
        assert_eq!(Arc::strong_count(&hooks), 1);
        drop((task, waker));
    });
}

/// The kind: a hook may do whatever a waker may: it is called under no lock of the crate's, by none
/// of those that wake.
#[test]
fn a_hook_that_is_told_of_a_wake_up_may_use_everything() {
    struct Curious {
        runtime: std::sync::OnceLock<heirloom::Handle>,
        token: heirloom::CancelToken,
        next: Mutex<Option<Waker>>,
        calls: AtomicUsize,
        nested: AtomicUsize,
    }
    impl Hooks for Curious {
        fn on_wake(&self, task: &TaskMeta) {
            self.calls.fetch_add(1, Ordering::SeqCst);
            if task.name().is_some() {
                self.nested.fetch_add(1, Ordering::SeqCst);
                return;
            }
            let runtime = self.runtime.get().unwrap();
            let _ = (runtime.stats(), task.clone());
            runtime.spawn(sleep(Duration::ZERO)).detach();
            drop(runtime.spawn(pending::<()>()));
            drop(self.token.child());
            // Wakes another task, from within the call.
            let next = self.next.lock().unwrap().take();
            next.iter().for_each(Waker::wake_by_ref);
            quiet_panic("in a hook");
        }
    }
    watchdog(PATIENCE, || {
        let hooks = Arc::new(Curious {
            runtime: std::sync::OnceLock::new(),
            token: heirloom::CancelToken::new(),
            next: Mutex::default(),
            calls: AtomicUsize::new(0),
            nested: AtomicUsize::new(0),
        });
        let runtime = Runtime::builder().workers(2).hooks(hooks.clone()).build().unwrap();
        hooks.runtime.set(runtime.handle().clone()).unwrap();
        let wait = |number: usize| {
            let (token, handle) = (hooks.token.clone(), runtime.handle().clone());
            async move {
                match number {
                    0 => sleep(Duration::from_millis(1)).await,
                    1 => drop(token.cancelled().await),
                    2 => handle.spawn(sleep(Duration::from_millis(1))).await.unwrap(),
                    3 => {
                        handle.spawn_blocking(|| std::thread::sleep(Duration::from_millis(1))).await.unwrap()
                    }
                    _ => {
                        let (send, receive) = heirloom::context::channel::bounded(1);
                        let sends = async move {
                            sleep(Duration::from_millis(1)).await;
                            send.send(5).await.unwrap();
                        };
                        handle.spawn(sends).detach();
                        assert_eq!(receive.recv().await.unwrap().0, 5);
                    }
                }
            }
        };
        for round in 1..=5 {
            let (task, waker) = waiting(&runtime);
            *hooks.next.lock().unwrap() = Some(waker);
            let waits = runtime.spawn(wait(round - 1));
            if round == 2 {
                idle(&runtime);
                hooks.token.cancel("enough");
            }
            runtime.block_on(waits).unwrap();
            while hooks.nested.load(Ordering::SeqCst) < 2 * round - 1 {
                std::thread::yield_now();
            }
            // The task waits again: then its drop makes the second call for a task with a name.
            idle(&runtime);
            drop(task);
            idle(&runtime);
            assert_eq!(hooks.nested.load(Ordering::SeqCst), 2 * round);
        }
        assert!(hooks.calls.load(Ordering::SeqCst) >= 15);
        // The hooks have a handle of the runtime, which ends here all the same.
        drop(runtime);
    });
}

/// The wrapper of a future whose task was never made is dropped inside of the spawner's task.
#[test]
fn a_spawn_that_panics_is_the_end_of_no_task() {
    context_var! {
        static BROKEN: u32, inherit = Derive(|_| quiet_panic("no child"));
    }
    #[derive(Default)]
    struct Ends(AtomicUsize);
    impl Hooks for Ends {
        fn on_done(&self, _: &TaskMeta) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    watchdog(PATIENCE, || {
        let hooks = Arc::new(Ends::default());
        let runtime = Runtime::builder().workers(1).inspect(true).hooks(hooks.clone()).build().unwrap();
        let counted = hooks.clone();
        let task = runtime.spawn(async move {
            BROKEN.set(1);
            let spawned = catch_unwind(AssertUnwindSafe(|| spawn(async {})));
            assert!(spawned.is_err(), "the spawner hears of it");
            counted.0.load(Ordering::SeqCst)
        });
        assert_eq!(runtime.block_on(task).unwrap(), 0);
        runtime.wait_until_idle();
        assert_eq!(hooks.0.load(Ordering::SeqCst), 1);
        assert_eq!(runtime.stats().totals.finished.returned, 1);
    });
}

#[test]
fn ambient_states_and_hooks_go_with_local_tasks_too() {
    #[derive(Default)]
    struct Spawns(AtomicUsize, AtomicUsize, AtomicUsize);
    impl Hooks for Spawns {
        fn on_spawn(&self, _: &TaskMeta, _: &Context) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
        fn on_done(&self, _: &TaskMeta) {
            self.1.fetch_add(1, Ordering::SeqCst);
        }
        fn on_wake(&self, _: &TaskMeta) {
            self.2.fetch_add(1, Ordering::SeqCst);
        }
    }
    watchdog(PATIENCE, || {
        let hooks = Arc::new(Spawns::default());
        static STAYS: Foreign = Foreign::new(false);
        let runtime = Runtime::builder().workers(1).ambient(&STAYS).hooks(hooks.clone()).build().unwrap();
        let set = heirloom::task::LocalSet::new();
        FOREIGN.set(5);
        let seen = runtime.block_on(set.run_until(async {
            let child = heirloom::spawn_local(async { FOREIGN.get() });
            FOREIGN.set(6);
            let seen = child.await.unwrap();
            let (send, receive) = futures::channel::oneshot::channel();
            let waits = heirloom::spawn_local(receive);
            yield_now().await;
            send.send(()).unwrap();
            waits.await.unwrap().unwrap();
            seen
        }));
        assert_eq!(seen, 5);
        let Spawns(spawned, done, woken) = &*hooks;
        assert_eq!([spawned, done, woken].map(|count| count.load(Ordering::SeqCst)), [2, 2, 1]);
        FOREIGN.set(0);
    });
}
