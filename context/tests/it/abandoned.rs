//! Guards that are begun in one context and dropped in another.
//!
//! The kind: a future that one task begins and another one ends in the middle of a poll, as the
//! inner future of `Shared`. What was begun in the first context cannot be ended from the second.
//! It stays bound there; but it does not add up, and it is reported.

use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;

use futures::FutureExt;
use heirloom_context::{
    Binding, Context, ContextCell, ContextFutureExt, ContextVar, ResetErrorKind, context_var,
};

use crate::support::{
    Dice, Gate, Ledger, Log, Probe, block_on, count, on_a_fresh_thread, poll_once, yield_once,
};

context_var! {
    static LEVEL: u32;
}

type Boxed = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Binds a value in its first poll, and drops the guard in its second.
fn holds_a_guard(variable: &'static ContextVar<Probe>, probe: Probe) -> Boxed {
    Box::pin(async move {
        let _guard = variable.bind(probe);
        yield_once().await;
    })
}

/// A variable of its own for each test. It is kept in a static, where no search for leaks takes it
/// for one.
fn fresh_variable() -> &'static ContextVar<Probe> {
    static MADE: Mutex<Vec<&ContextVar<Probe>>> = Mutex::new(Vec::new());
    let variable = Box::leak(Box::new(ContextVar::new("probe")));
    MADE.lock().unwrap().push(variable);
    variable
}

fn drop_elsewhere(guards: impl Send) {
    Context::empty().run(|| drop(guards));
}

#[test]
fn many_futures_begun_by_one_task_and_ended_by_another_leave_one_value() {
    on_a_fresh_thread(|| {
        let (ledger, variable) = (Ledger::new(), fresh_variable());
        for number in 0..count(40_000) as u32 {
            let mut future = holds_a_guard(variable, ledger.probe(number));
            assert!(poll_once(future.as_mut()).is_pending());
            Context::empty().run(|| assert!(poll_once(future.as_mut()).is_ready()));
            assert!(ledger.alive() <= 2, "the newest two at most");
            assert_eq!(variable.with(|probe| probe.map(|probe| probe.id)), Some(number), "as if it lived");
        }
        drop(variable.bind(ledger.probe(0)));
        assert_eq!(ledger.alive(), 1);
    });
}

#[test]
fn the_same_on_another_thread_in_a_layer_in_a_cell_and_in_a_scope() {
    let rounds = count(1_000) as u32;
    // Each is a home in which a future is begun; it is ended on another thread.
    let begin_and_end = |ledger: &Ledger, variable, number| {
        let mut future = holds_a_guard(variable, ledger.probe(number));
        assert!(poll_once(future.as_mut()).is_pending());
        std::thread::scope(|scope| {
            scope.spawn(|| assert!(poll_once(future.as_mut()).is_ready()));
        });
        assert!(ledger.alive() <= 3, "{} values", ledger.alive());
    };
    on_a_fresh_thread(|| {
        let (ledger, variable) = (Ledger::new(), fresh_variable());
        let body = || async {
            for number in 0..rounds {
                begin_and_end(&ledger, variable, number);
                yield_once().await;
            }
        };
        block_on(body().isolated());
        assert_eq!(ledger.alive(), 0, "they have ended with the layer");
        block_on(body().with_var(variable, ledger.probe(0)));
        assert_eq!(ledger.alive(), 0, "they have ended with the scope");
        let cell = ContextCell::new(Context::empty());
        block_on(body().in_cell(cell.clone()));
        assert!((1..=3).contains(&ledger.alive()));
        drop(cell);
        assert_eq!(ledger.alive(), 0, "they have ended with the cell");
    });
}

#[test]
fn a_guard_dropped_outside_its_scope_does_not_add_up_in_the_scope() {
    on_a_fresh_thread(|| {
        let (ledger, variable, gate) = (Ledger::new(), fresh_variable(), Gate::new());
        let handed_out: Log<Binding> = Log::new();
        let (out, probes) = (handed_out.clone(), ledger.clone());
        let body = async {
            for number in 1..count(1_000) as u32 {
                out.push(variable.bind(probes.probe(number)));
                yield_once().await;
            }
            gate.opened().await;
        };
        let mut scoped = Box::pin(body.with_var(variable, ledger.probe(0)));
        for _ in 0..count(1_000) {
            assert!(poll_once(scoped.as_mut()).is_pending());
            assert!(!variable.is_set());
            drop(handed_out.take());
            assert!(ledger.alive() <= 3, "{} values", ledger.alive());
        }
        gate.open();
        assert!(poll_once(scoped.as_mut()).is_ready());
        drop(scoped);
        assert_eq!(ledger.alive(), 0);
    });
}

#[test]
fn what_lies_above_an_abandoned_guard_lives_on_and_what_lies_below_goes() {
    on_a_fresh_thread(|| {
        let (ledger, variable) = (Ledger::new(), fresh_variable());
        let shown = || variable.with(|probe| probe.map(|probe| probe.id));
        variable.set(ledger.probe(0));
        let one = variable.bind(ledger.probe(1));
        let two = variable.bind(ledger.probe(2));
        let three = variable.bind(ledger.probe(3));
        drop_elsewhere(two);
        assert_eq!((shown(), ledger.alive()), (Some(3), 4));
        let four = variable.bind(ledger.probe(4));
        assert_eq!((shown(), ledger.alive()), (Some(4), 3), "the base and the first are never seen again");
        drop(four);
        drop(three);
        assert_eq!((shown(), ledger.alive()), (Some(2), 1));
        variable.set(ledger.probe(5));
        assert_eq!((shown(), ledger.alive()), (Some(5), 1), "a write goes into the newest entry");
        drop(one);
        assert_eq!((shown(), ledger.alive()), (Some(5), 1));
        drop(variable.unset());
        assert_eq!((shown(), ledger.alive()), (None, 0));
    });
}

#[test]
fn a_token_made_under_an_abandoned_guard_is_good_until_another_one_covers_it() {
    on_a_fresh_thread(|| {
        let living = LEVEL.bind(1);
        let under_living = LEVEL.set(2);
        let covered = LEVEL.bind(3);
        let under_covered = LEVEL.set(4);
        drop_elsewhere(covered);
        let newest = LEVEL.bind(5);
        let under_newest = LEVEL.set(6);
        drop_elsewhere(newest);

        assert_eq!(LEVEL.reset(under_covered).unwrap_err().kind(), ResetErrorKind::Stale);
        assert_eq!(LEVEL.get(), Some(6));
        LEVEL.reset(under_newest).unwrap();
        assert_eq!(LEVEL.get(), Some(5));
        LEVEL.reset(under_living).unwrap();
        assert_eq!(LEVEL.get(), Some(1), "literally what was before");
        drop(living);
        assert_eq!(LEVEL.get(), Some(1));
    });
}

#[test]
fn a_hundred_thousand_guards_dropped_elsewhere_in_any_order_leave_the_newest() {
    on_a_fresh_thread(|| {
        let (ledger, variable, mut dice) = (Ledger::new(), fresh_variable(), Dice::new(11));
        let number = count(100_000);
        let mut guards: Vec<Binding> =
            (0..number).map(|number| variable.bind(ledger.probe(number as u32))).collect();
        // Every tenth at home.
        while !guards.is_empty() {
            let guard = guards.swap_remove(dice.below(guards.len()));
            if dice.below(10) == 0 { drop(guard) } else { drop_elsewhere(guard) }
        }
        drop(variable.bind(ledger.probe(0)));
        assert!(ledger.alive() <= 1, "{} values", ledger.alive());
    });
}

#[test]
fn a_value_let_go_may_use_contexts_and_hold_guards() {
    /// Drops a guard of another context, and makes and abandons one itself.
    struct Holder(Option<Binding>, Log<&'static str>);

    impl Drop for Holder {
        fn drop(&mut self) {
            drop(self.0.take());
            drop_elsewhere(LEVEL.bind(7));
            self.1.push("dropped");
        }
    }

    on_a_fresh_thread(|| {
        let (log, variable) = (Log::new(), ContextVar::new("holder"));
        let cell = ContextCell::new(Context::empty());
        for _ in 0..3 {
            let foreign = cell.run(|| LEVEL.bind(1)).unwrap();
            drop_elsewhere(variable.bind(Holder(Some(foreign), log.clone())));
        }
        assert_eq!(log.take().len(), 1);
        drop(variable.bind(Holder(None, log.clone())));
        assert_eq!(log.take().len(), 2);
        assert_eq!(cell.run(|| LEVEL.get()).unwrap(), Some(1));
    });
}

/// Sets, binds and reads, before and after a wake-up.
async fn writes(log: Log<Option<u32>>) {
    log.push(LEVEL.get());
    LEVEL.set(100);
    let _guard = LEVEL.bind(200);
    yield_once().await;
    log.push(LEVEL.get());
    LEVEL.set(300);
    yield_once().await;
    log.push(LEVEL.get());
}

/// Polls a `Shared` in three contexts in turn, in which the level is 1, 2 and 3. Returns what the
/// inner future has read, and what the three have in the end.
fn polled_by_three(
    inner: impl FnOnce(Log<Option<u32>>) -> Boxed + Send,
) -> (Vec<Option<u32>>, [Option<u32>; 3]) {
    on_a_fresh_thread(|| {
        let log = Log::new();
        let shared = inner(log.clone()).shared();
        let cells = [1, 2, 3].map(|level| ContextCell::new(Context::empty().with_var(&LEVEL, level)));
        let polls = cells.each_ref().map(|cell| cell.run(|| poll_once(Box::pin(shared.clone()).as_mut())));
        assert!(polls[2].as_ref().unwrap().is_ready());
        drop(shared);
        (log.take(), cells.each_ref().map(|cell| cell.run(|| LEVEL.get()).unwrap()))
    })
}

#[test]
fn a_shared_future_without_a_context_of_its_own_writes_where_it_is_polled() {
    let (read, left) = polled_by_three(|log| Box::pin(writes(log)));
    assert_eq!(read, [Some(1), Some(2), Some(3)], "in each polling task");
    assert_eq!(left, [Some(200), Some(300), Some(3)], "the guard stays bound in the first");
}

#[test]
fn a_shared_future_that_is_isolated_leaves_nothing() {
    let (read, left) = polled_by_three(|log| Box::pin(writes(log).isolated()));
    assert_eq!(read, [Some(1), Some(200), Some(300)]);
    assert_eq!(left, [Some(1), Some(2), Some(3)]);
    let (read, left) = polled_by_three(|log| Box::pin(writes(log).in_context(Context::empty())));
    assert_eq!(read, [None, Some(200), Some(300)]);
    assert_eq!(left, [Some(1), Some(2), Some(3)]);
}

/// Runs the test of this name again in a process of its own, whose standard error goes where the
/// shell command says.
#[cfg(all(unix, not(miri)))]
fn again(name: &str, redirected: &str) -> std::process::Output {
    let command = format!("exec \"$0\" --exact \"$1\" --nocapture {redirected}");
    std::process::Command::new("sh")
        .args(["-c", &command])
        .arg(std::env::current_exe().unwrap())
        .arg(name)
        .env("HEIRLOOM_ABANDON", "1")
        .output()
        .unwrap()
}

#[cfg(all(unix, not(miri)))]
fn is_run_again() -> bool {
    std::env::var_os("HEIRLOOM_ABANDON").is_some()
}

#[cfg(all(unix, not(miri)))]
#[test]
fn a_guard_dropped_elsewhere_is_reported_once_for_each_place_in_debug_builds() {
    if is_run_again() {
        for _ in 0..3 {
            drop_elsewhere(LEVEL.bind(1));
        }
        drop_elsewhere(LEVEL.bind(2));
        // At home, or with its home gone: nothing stays bound.
        drop(LEVEL.bind(3));
        drop(Context::empty().run(|| LEVEL.bind(4)));
        return;
    }
    let name = "abandoned::a_guard_dropped_elsewhere_is_reported_once_for_each_place_in_debug_builds";
    let output = again(name, "");
    assert!(output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    let reports: Vec<_> = said.lines().filter(|line| line.starts_with("heirloom: a guard")).collect();
    assert_eq!(reports.len(), if cfg!(debug_assertions) { 2 } else { 0 }, "{said}");
    for report in reports {
        for part in ["`LEVEL`", file!(), "keep the guard", "`.isolated()`"] {
            assert!(report.contains(part), "{report}");
        }
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
#[test]
fn a_report_that_cannot_be_written_is_no_panic() {
    if is_run_again() {
        drop_elsewhere(LEVEL.bind(1));
        assert_eq!(LEVEL.get(), Some(1));
        return;
    }
    let output = again("abandoned::a_report_that_cannot_be_written_is_no_panic", "2>/dev/full");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}
