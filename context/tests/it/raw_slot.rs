//! What an executor uses: one state per task, one swap in and one swap out per poll, and execution
//! state beside it.

use std::pin::pin;
use std::time::{Duration, Instant};

use heirloom_context::raw::{self, Execution, Live};
use heirloom_context::{
    Context, ContextFutureExt, ContextIteratorExt, ContextVar, ResetErrorKind, context_var,
};

use crate::support::{
    Ledger, Log, OnDrop, block_on, caught, on_a_fresh_thread, poll_once, quiet_panic, yield_once,
};

context_var! {
    static LEVEL: u32;
    static OTHER: u32;
}

/// Runs `f` in a task's state, as an executor runs a poll.
fn step<R>(live: &mut Live, f: impl FnOnce() -> R) -> R {
    struct Back<'a>(&'a mut Live);
    impl Drop for Back<'_> {
        fn drop(&mut self) {
            raw::swap(self.0);
        }
    }
    raw::swap(live);
    let _back = Back(live);
    f()
}

#[test]
fn a_swap_installs_and_a_swap_takes_back() {
    on_a_fresh_thread(|| {
        LEVEL.set(1);
        let mut live = Live::new(Context::empty().with_var(&OTHER, 2));
        step(&mut live, || {
            assert_eq!((LEVEL.get(), OTHER.get()), (None, Some(2)));
            LEVEL.set(3);
        });
        assert_eq!((LEVEL.get(), OTHER.get()), (Some(1), None));
        assert_eq!((live.snapshot().get(&LEVEL), live.snapshot().get(&OTHER)), (Some(3), Some(2)));
        step(&mut live, || assert_eq!(LEVEL.get(), Some(3)));
    });
}

#[test]
fn an_empty_state_is_empty() {
    on_a_fresh_thread(|| {
        LEVEL.set(1);
        let mut live = Live::empty();
        assert!(live.snapshot().is_empty());
        step(&mut live, || {
            assert!(Context::current().is_empty());
            assert_eq!(raw::execution(), Execution::NONE);
        });
    });
}

#[test]
fn tokens_and_guards_stay_with_the_task_from_poll_to_poll_and_thread_to_thread() {
    let mut live = Live::new(Context::empty().with_var(&LEVEL, 1));
    let (token, guard) = on_a_fresh_thread(|| step(&mut live, || (LEVEL.set(2), OTHER.bind(5))));
    let token = on_a_fresh_thread(|| LEVEL.reset(token).unwrap_err().into_token());
    let mut stranger = Live::new(live.snapshot());
    let token = step(&mut stranger, || {
        let error = LEVEL.reset(token).unwrap_err();
        assert_eq!(
            error.kind(),
            ResetErrorKind::WrongContext,
            "a copy of a task's context is not the task's"
        );
        error.into_token()
    });
    on_a_fresh_thread(|| {
        step(&mut live, || {
            LEVEL.reset(token).unwrap();
            drop(guard);
        });
    });
    assert_eq!(live.snapshot().get(&LEVEL), Some(1));
    assert!(!live.snapshot().contains(&OTHER));
}

#[test]
fn a_panic_between_the_swaps_leaves_both_sides_whole() {
    on_a_fresh_thread(|| {
        LEVEL.set(1);
        let mut live = Live::empty();
        caught(|| {
            step(&mut live, || {
                LEVEL.set(2);
                quiet_panic("in a poll")
            })
        });
        assert_eq!(LEVEL.get(), Some(1));
        assert_eq!(live.snapshot().get(&LEVEL), Some(2));
    });
}

#[test]
fn a_state_is_polled_inside_another() {
    on_a_fresh_thread(|| {
        LEVEL.set(0);
        let mut outer = Live::new(Context::empty().with_var(&LEVEL, 1));
        let mut inner = Live::new(Context::empty().with_var(&LEVEL, 2));
        step(&mut outer, || {
            step(&mut inner, || {
                assert_eq!(LEVEL.get(), Some(2));
                LEVEL.set(20);
            });
            assert_eq!(LEVEL.get(), Some(1));
        });
        assert_eq!((LEVEL.get(), inner.snapshot().get(&LEVEL)), (Some(0), Some(20)));
    });
}

#[test]
fn two_tasks_on_a_hand_written_executor_do_not_mix() {
    on_a_fresh_thread(|| {
        LEVEL.set(1);
        let log = Log::new();
        let task = |number: u32| {
            let log = log.clone();
            let live = Live::new(Context::inherited());
            let future = Box::pin(async move {
                assert_eq!(LEVEL.get(), Some(1));
                LEVEL.set(number);
                for _ in 0..3 {
                    yield_once().await;
                    log.push(LEVEL.get());
                }
            });
            (live, future)
        };
        let mut tasks = [task(10), task(20)];
        for _ in 0..4 {
            for (live, future) in &mut tasks {
                let _ = step(live, || poll_once(future.as_mut()));
            }
        }
        assert_eq!(log.take(), [Some(10), Some(20), Some(10), Some(20), Some(10), Some(20)]);
        assert_eq!(LEVEL.get(), Some(1));
    });
}

#[test]
fn the_values_of_a_task_go_with_its_state() {
    on_a_fresh_thread(|| {
        let ledger = Ledger::new();
        let variable = ContextVar::new("probe");
        let mut live = Live::new(Context::empty().with_var(&variable, ledger.probe(1)));
        let guard = step(&mut live, || {
            variable.set(ledger.probe(2));
            variable.bind(ledger.probe(3))
        });
        assert_eq!(ledger.alive(), 2);
        drop(live);
        assert_eq!(ledger.alive(), 0, "though a guard of it is still around");
        drop(guard);
    });
}

#[test]
fn values_are_dropped_in_an_empty_context_that_is_thrown_away() {
    on_a_fresh_thread(|| {
        let log = Log::new();
        let seen = log.clone();
        let witness = OnDrop(move || {
            seen.push((LEVEL.get(), Context::current().is_empty()));
            LEVEL.set(99);
        });
        let variable = ContextVar::new("witness");
        let live = Live::new(
            Context::empty().with_var(&LEVEL, 1).with_var(&variable, std::sync::Mutex::new(witness)),
        );
        LEVEL.set(7);
        drop(live);
        assert_eq!(log.take(), [(None, true)]);
        assert_eq!(LEVEL.get(), Some(7));
    });
}

#[test]
fn swaps_that_are_no_pair_mix_contexts_up_and_do_nothing_worse() {
    let ledger = Ledger::new();
    let variable = ContextVar::new("probe");
    type Border<'a> = &'a dyn Fn(&mut dyn FnMut());
    let borders: [Border<'_>; 4] = [
        &|f| Context::empty().run(f),
        &|f| LEVEL.scope(1, f),
        &|f| std::iter::repeat_with(f).isolated().take(1).for_each(drop),
        &|f| std::iter::repeat_with(f).in_current_context().take(1).for_each(drop),
    ];
    for outer in borders {
        for inner in borders {
            in_an_empty_root(&ledger, |ledger| {
                variable.set(ledger.probe(1));
                let mut live = Live::new(Context::empty().with_var(&variable, ledger.probe(2)));
                outer(&mut || {
                    variable.set(ledger.probe(3));
                    inner(&mut || {
                        variable.set(ledger.probe(4));
                        let _guard = LEVEL.bind(5);
                        raw::swap(&mut live);
                        LEVEL.set(6);
                        variable.set(ledger.probe(7));
                    });
                    variable.set(ledger.probe(8));
                });
                // Wherever we are now: contexts work.
                let token = LEVEL.set(9);
                assert_eq!(LEVEL.get(), Some(9));
                LEVEL.reset(token).unwrap();
                drop(live);
                assert!(Context::current().len() <= 2);
            });
            assert_eq!(ledger.alive(), 0, "every value is freed once");
        }
    }
}

#[test]
fn a_scope_that_ends_in_another_context_leaves_its_variable_there() {
    let mut live = Live::new(Context::empty());
    Context::empty().run(|| {
        LEVEL.set(1);
        // In both contexts the variable is bound in place.
        Context::empty().run(|| {
            raw::swap(&mut live);
            LEVEL.set(2);
            LEVEL.set(3);
            raw::swap(&mut live);
        });
        LEVEL.scope(4, || raw::swap(&mut live));
        assert_eq!(LEVEL.get(), Some(3));
        raw::swap(&mut live);
        assert_eq!(LEVEL.get(), Some(4));
    });
}

/// Runs `f` with an empty root context. The borders above may not be sent to a fresh thread.
fn in_an_empty_root(ledger: &Ledger, f: impl FnOnce(&Ledger)) {
    let mut root = Live::empty();
    raw::swap(&mut root);
    f(ledger);
    raw::swap(&mut root);
}

#[test]
fn a_context_that_is_given_up_leaves_what_nobody_else_has() {
    on_a_fresh_thread(|| {
        let ledger = Ledger::new();
        let variable = ContextVar::new("probe");
        let context = Context::empty().with_var(&variable, ledger.probe(1));
        let (mut one, mut other) = (Live::new(context.clone()), Live::new(context));
        assert!(one.take_unique().is_none() && one.is_empty());
        assert_eq!(ledger.alive(), 1);
        assert!(other.snapshot().contains(&variable));
        let remains = other.take_unique();
        assert!(remains.is_some() && other.is_empty());
        assert_eq!(ledger.alive(), 1);
        drop(remains);
        assert_eq!(ledger.alive(), 0);
        assert!(Live::empty().take_unique().is_none());
        // What was written to is always one's own.
        let mut written = Live::empty();
        step(&mut written, || variable.set(ledger.probe(2)));
        let remains = written.take_unique();
        assert!(remains.is_some() && written.is_empty());
        drop(remains);
        assert_eq!(ledger.alive(), 0);
    });
}

/// A poll of a worker, which keeps spare handles of the task's context. Panics if a former context
/// ends before or after it.
fn worker_step<R>(live: &mut Live, f: impl FnOnce() -> R) -> R {
    assert!(raw::keep_spare_handles(live, || true).is_none());
    let result = step(live, f);
    assert!(raw::settle_spare_handles().is_none());
    result
}

fn fork() -> Live {
    Live::new(Context::inherited())
}

/// So many that a worker keeps spare handles.
const VERY_MANY: usize = 3_000;

#[test]
fn with_spare_handles_a_context_ends_with_the_last_task_of_a_worker() {
    for many in [1, 2, 100, VERY_MANY] {
        on_a_fresh_thread(move || {
            raw::begin_spare_handles(2);
            let ledger = Ledger::new();
            let variable = ContextVar::new("probe");
            let mut parent = Live::new(Context::empty().with_var(&variable, ledger.probe(1)));
            let children: Vec<_> = worker_step(&mut parent, || (0..many).map(|_| fork()).collect());
            assert!(parent.take_unique().is_none());
            let mut last = None;
            for mut child in children {
                assert!(last.is_none() && ledger.alive() == 1);
                worker_step(&mut child, || assert!(variable.is_set()));
                last = child.take_unique();
            }
            assert!(last.is_some() && ledger.alive() == 1);
            drop(last);
            assert_eq!(ledger.alive(), 0);
            assert!(raw::give_back_spare_handles().is_none());
        });
    }
}

#[test]
fn a_context_that_few_tasks_share_has_no_spare_handles() {
    on_a_fresh_thread(|| {
        raw::begin_spare_handles(2);
        let ledger = Ledger::new();
        let variable = ContextVar::new("probe");
        let mut parent = Live::new(Context::empty().with_var(&variable, ledger.probe(1)));
        let children: Vec<_> = worker_step(&mut parent, || (0..100).map(|_| fork()).collect());
        assert!(parent.take_unique().is_none());
        std::thread::spawn(|| drop(children)).join().unwrap();
        assert_eq!(ledger.alive(), 0, "nothing is kept until this worker's next look");
    });
}

#[test]
fn spare_handles_keep_a_context_until_the_worker_looks_for_a_task() {
    on_a_fresh_thread(|| {
        raw::begin_spare_handles(2);
        let ledger = Ledger::new();
        let variable = ContextVar::new("probe");
        // What the worker does next: it polls a task of another context, of none, or finds no task.
        for next in [Some(Context::empty().with_var(&LEVEL, 1)), Some(Context::empty()), None] {
            let mut parent = Live::new(Context::empty().with_var(&variable, ledger.probe(1)));
            let children: Vec<_> = worker_step(&mut parent, || (0..VERY_MANY).map(|_| fork()).collect());
            assert!(parent.take_unique().is_none());
            std::thread::spawn(|| drop(children)).join().unwrap();
            assert_eq!(ledger.alive(), 1);
            let last = match next {
                Some(next) => raw::keep_spare_handles(&Live::new(next), || true),
                None => raw::give_back_spare_handles(),
            };
            assert!(last.is_some() && ledger.alive() == 1);
            drop(last);
            assert_eq!(ledger.alive(), 0);
        }
    });
}

#[test]
fn spare_handles_do_not_keep_what_a_write_replaces() {
    on_a_fresh_thread(|| {
        raw::begin_spare_handles(2);
        let ledger = Ledger::new();
        let variable = ContextVar::new("probe");
        let mut parent = Live::new(Context::empty().with_var(&variable, ledger.probe(1)));
        let children = worker_step(&mut parent, || {
            let children: Vec<_> = (0..VERY_MANY).map(|_| fork()).collect();
            drop(variable.set(ledger.probe(2)));
            // Of what was written to, there are no spare handles.
            drop(fork());
            drop(variable.set(ledger.probe(3)));
            assert_eq!(ledger.alive(), 2);
            children
        });
        drop(children);
        assert_eq!(ledger.alive(), 1);
        drop(parent);
        assert_eq!(ledger.alive(), 0);
    });
}

#[test]
fn no_handle_is_spare_on_a_thread_that_is_no_worker_or_inside_another_poll() {
    on_a_fresh_thread(|| {
        let ledger = Ledger::new();
        let variable = ContextVar::new("probe");
        for is_worker in [false, true] {
            if is_worker {
                raw::begin_spare_handles(2);
            }
            let mut parent = Live::new(Context::empty().with_var(&variable, ledger.probe(1)));
            assert!(raw::keep_spare_handles(&parent, || !is_worker).is_none());
            let children: Vec<_> = step(&mut parent, || (0..VERY_MANY).map(|_| fork()).collect());
            assert!(parent.take_unique().is_none());
            std::thread::spawn(|| drop(children)).join().unwrap();
            assert_eq!(ledger.alive(), 0);
        }
    });
}

// The kind: a function whose name says more than it looks at. A task with a deadline and no
// variables is not nothing.
#[test]
fn a_state_with_a_deadline_is_not_nothing() {
    let executions = [
        Execution::NONE.with_deadline(Some(Instant::now())),
        Execution::NONE.with_limit(Duration::from_secs(1)).unwrap(),
        Execution::NONE.with_eager(true),
    ];
    for execution in executions {
        let mut live = Live::empty();
        assert!(live.is_empty());
        live.set_execution(execution);
        assert!(!live.is_empty());
        live.clear();
        assert_eq!(live.execution(), execution, "given up is the context only");
        live.set_execution(Execution::NONE);
        assert!(live.is_empty());
    }
}

#[test]
fn execution_state_is_beside_the_context_and_follows_the_call() {
    on_a_fresh_thread(|| {
        let soon = Instant::now() + Duration::from_secs(3600);
        assert_eq!(raw::execution(), Execution::NONE);
        let eager = Execution::NONE.with_eager(true).with_deadline(Some(soon));
        assert_eq!(raw::set_execution(eager), Execution::NONE);
        assert_eq!(raw::execution(), eager);

        Context::empty().run(|| assert_eq!(raw::execution(), eager));
        Context::current().wrap(|| assert_eq!(raw::execution(), eager))();
        LEVEL.scope(1, || assert_eq!(raw::execution(), eager));
        block_on(async { assert_eq!(raw::execution(), eager) }.in_current_context());
        block_on(async { assert_eq!(raw::execution(), eager) }.isolated());
        block_on(async { assert_eq!(raw::execution(), eager) }.with_var(&LEVEL, 1));
        assert_eq!(std::iter::repeat_with(raw::execution).isolated().next(), Some(eager));

        assert_eq!(raw::set_execution(Execution::NONE), eager);
    });
}

#[test]
fn execution_state_set_inside_a_run_or_layer_stays_set() {
    on_a_fresh_thread(|| {
        let eager = Execution::NONE.with_eager(true);
        Context::empty().run(|| raw::set_execution(eager));
        assert_eq!(raw::execution(), eager, "it is no part of the copy");
        block_on(async { raw::set_execution(Execution::NONE) }.isolated());
        assert_eq!(raw::execution(), Execution::NONE);
    });
}

#[test]
fn execution_state_is_captured_by_no_snapshot() {
    on_a_fresh_thread(|| {
        let eager = Execution::NONE.with_eager(true);
        raw::set_execution(eager);
        let snapshot = Context::current();
        assert!(snapshot.is_empty());
        raw::set_execution(Execution::NONE);
        snapshot.run(|| assert_eq!(raw::execution(), Execution::NONE));
        assert_eq!(Live::new(snapshot).execution(), Execution::NONE);
    });
}

#[test]
fn a_pinned_future_sees_the_execution_state_of_each_poll() {
    on_a_fresh_thread(|| {
        let log = Log::new();
        let seen = log.clone();
        let mut future = pin!(
            async move {
                loop {
                    seen.push(raw::execution().eager());
                    yield_once().await;
                }
            }
            .in_current_context()
        );
        for eager in [false, true, false] {
            raw::set_execution(Execution::NONE.with_eager(eager));
            assert!(poll_once::<dyn Future<Output = ()>>(future.as_mut()).is_pending());
        }
        assert_eq!(log.take(), [false, true, false]);
    });
}

#[test]
fn each_task_has_its_own_execution_state() {
    on_a_fresh_thread(|| {
        let eager = Execution::NONE.with_eager(true);
        raw::set_execution(eager);
        let mut live = Live::empty();
        step(&mut live, || {
            assert_eq!(raw::execution(), Execution::NONE);
            raw::set_execution(Execution::NONE.with_deadline(Some(Instant::now())));
        });
        assert_eq!(raw::execution(), eager);
        assert!(live.execution().deadline().is_some() && !live.execution().eager());
        live.set_execution(eager);
        step(&mut live, || assert_eq!(raw::execution(), eager));
    });
}

#[test]
fn the_parts_of_an_execution_state_do_not_disturb_each_other() {
    let now = Instant::now();
    for deadline in
        [None, Some(now), Some(now + Duration::from_nanos(1)), Some(now + Duration::from_secs(1 << 20))]
    {
        for eager in [false, true] {
            let execution = Execution::NONE.with_eager(eager).with_deadline(deadline);
            assert_eq!((execution.deadline(), execution.eager()), (deadline, eager));
            assert_eq!(execution, Execution::NONE.with_deadline(deadline).with_eager(eager));
            assert_eq!(execution.with_deadline(None).with_eager(false), Execution::NONE);
        }
    }
    if let Some(past) = now.checked_sub(Duration::from_millis(1)) {
        assert_eq!(Execution::NONE.with_deadline(Some(past)).deadline(), Some(past));
    }
}

#[test]
fn a_limit_stands_in_the_place_of_a_deadline_until_it_begins() {
    let soon = Instant::now() + Duration::from_secs(3600);
    let limit = Duration::from_nanos(1_234_567_891);
    let limited = Execution::NONE.with_eager(true).with_deadline(Some(soon)).with_limit(limit).unwrap();
    assert_eq!((limited.limit(), limited.deadline(), limited.eager()), (Some(limit), None, true));
    let begun = limited.with_deadline(Some(soon));
    assert_eq!((begun.limit(), begun.deadline(), begun.eager()), (None, Some(soon), true));
    assert_eq!(limited.with_eager(false).limit(), Some(limit));

    const YEAR: u64 = 365 * 24 * 60 * 60;
    let possible = |seconds| Execution::NONE.with_limit(Duration::from_secs(seconds)).map(Execution::limit);
    assert_eq!(possible(100 * YEAR), Some(Some(Duration::from_secs(100 * YEAR))));
    assert_eq!(possible(100 * YEAR + 1), None);
    assert_eq!(Execution::NONE.with_limit(Duration::MAX), None);
    assert_eq!(Execution::NONE.with_limit(Duration::ZERO).unwrap().limit(), Some(Duration::ZERO));
}

#[test]
fn a_deadline_a_century_ahead_is_not_rounded() {
    let ahead = Instant::now() + Duration::from_secs(100 * 365 * 24 * 60 * 60) + Duration::from_nanos(1);
    let beyond = ahead + Duration::from_secs(100 * 365 * 24 * 60 * 60);
    assert_eq!(Execution::NONE.with_deadline(Some(ahead)).deadline(), Some(ahead));
    let capped = Execution::NONE.with_deadline(Some(beyond)).deadline().unwrap();
    assert!(ahead < capped && capped < beyond);
}
