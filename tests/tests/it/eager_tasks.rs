//! Tasks whose first poll is inline: `task::Builder::start_inline`.

use std::future::{Future, pending, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use heirloom::context::ContextCell;
use heirloom::runtime::Hooks;
use heirloom::task::{LocalSet, TaskMeta};
use heirloom::{
    Context, Handle, JoinHandle, Runtime, context_var, deadline, is_eager, sleep, spawn, task, wait_for,
    yield_now,
};
use heirloom_tests::{
    Gate, Log, MARK, Probe, SCRIPTED, Step, in_a_worker, occupy, outside, quiet_panic, run, runtime, scaled,
    with_runtime,
};

const LONG: Duration = Duration::from_secs(3_600);

context_var! {
    static LEVEL: u32;
}

fn eager() -> task::Builder {
    task::Builder::new().start_inline(true)
}

#[test]
fn a_body_that_never_suspends_is_finished_and_was_never_queued() {
    with_runtime(1, |runtime| {
        // The only worker is busy: nothing that is queued can end.
        let occupied = occupy(runtime, 1);
        let polls = runtime.stats().workers[0].polls;
        let here = std::thread::current().id();
        let child = eager().on(runtime.handle()).spawn(async move { std::thread::current().id() == here });
        assert!(child.is_finished());
        let stats = runtime.stats();
        assert_eq!((stats.injected, stats.workers[0].queued, stats.workers[0].polls), (0, 0, polls));
        assert!(runtime.block_on(child).unwrap());
        occupied.release();
    });
    in_a_worker(1, async {
        let child = eager().spawn(ready(7));
        assert!(child.is_finished());
        assert_eq!(child.await.unwrap(), 7);
    });
}

#[test]
fn a_body_that_suspends_goes_on_as_any_other() {
    for steps in [vec![Step::Wait], vec![Step::Yield], vec![Step::WokenElsewhere, Step::Yield, Step::Wait]] {
        with_runtime(2, move |runtime| {
            let polls = steps.len() + 1;
            let (probe, watch) = Probe::returning(7, steps);
            let child = eager().on(runtime.handle()).spawn(probe);
            assert!(watch.polls() >= 1);
            runtime.wait_until_idle();
            if !child.is_finished() {
                watch.wake();
            }
            assert_eq!(runtime.block_on(child).unwrap(), 7);
            watch.assert_counts(polls, 1);
        });
    }
    // Its leaves have found its runtime.
    with_runtime(1, |runtime| {
        let child = eager().on(runtime.handle()).spawn(async {
            let handle = Handle::current().is_some();
            sleep(Duration::from_millis(1)).await;
            (handle, is_eager())
        });
        assert!(!child.is_finished());
        assert_eq!(runtime.block_on(child).unwrap(), (true, false));
        let waits = eager().on(runtime.handle()).spawn(sleep(LONG));
        assert_eq!(runtime.stats().timers, 1, "a timer of its own runtime");
        drop(waits);
    });
}

#[test]
fn the_first_poll_sees_the_childs_context_and_deadline() {
    run(1, || async {
        LEVEL.set(1);
        MARK.set(5);
        let child = eager().spawn(async {
            let inherited = LEVEL.get();
            LEVEL.set(2);
            yield_now().await;
            (inherited, LEVEL.get(), deadline().is_some())
        });
        assert_eq!(LEVEL.get(), Some(1));
        assert_eq!(child.await.unwrap(), (Some(1), Some(2), false));
        let limited = wait_for(async { eager().spawn(async { deadline().is_some() }).await.unwrap() }, LONG);
        assert_eq!(limited.await, Ok(true));
        // Given contexts are taken as given; futures are dropped inside.
        let (probe, watch) = Probe::new([]);
        let given = Context::empty().with_var(&MARK, 8);
        eager().context(given).spawn(probe.expecting(Some(8))).await.unwrap();
        watch.assert_counts(1, 1);
        let cell = ContextCell::new(Context::empty());
        eager().cell(cell.clone()).spawn(async { LEVEL.set(9) }).await.unwrap();
        assert_eq!(cell.snapshot().get(&LEVEL), Some(9));
    });
}

#[test]
fn the_first_poll_is_the_childs_in_every_respect() {
    with_runtime(1, |runtime| {
        let handle = runtime.handle().clone();
        let seen = runtime.spawn(async move {
            let parent = task::current().unwrap().id();
            let budget = task::budget::remaining();
            let child = eager().name("child").spawn(async move {
                let me = task::current().unwrap();
                let dump = handle.dump();
                let state = |id| dump.iter().find(|task| task.id == id).map(|task| task.state);
                (me.id(), me.name().map(str::to_owned), state(me.id()), state(parent))
            });
            let after = task::current().unwrap();
            assert_eq!(after.id(), parent);
            assert_eq!(task::budget::remaining(), budget, "the child has a budget of its own");
            let id = child.id();
            let (me, name, mine, parents) = child.await.unwrap();
            assert_eq!(me, id);
            assert_ne!(after.id(), id);
            (name, mine, parents)
        });
        let seen = runtime.block_on(seen).unwrap();
        let running = Some(task::TaskState::Running);
        assert_eq!(seen, (Some("child".to_owned()), running, running));
    });
}

#[test]
fn a_panic_in_the_first_poll_is_the_joiners() {
    in_a_worker(1, async {
        LEVEL.set(1);
        let child = eager().name("unlucky").spawn(async {
            LEVEL.set(2);
            quiet_panic(SCRIPTED)
        });
        assert!(child.is_finished());
        assert_eq!(LEVEL.get(), Some(1));
        let error = child.await.unwrap_err();
        assert_eq!((error.panic_message(), error.task_name()), (Some(SCRIPTED), Some("unlucky")));
    });
}

#[test]
fn a_child_that_suspended_can_be_cancelled() {
    with_runtime(1, |runtime| {
        let (probe, watch) = Probe::new([Step::Wait]);
        let child = eager()
            .on(runtime.handle())
            .context(Context::empty().with_var(&MARK, 3))
            .spawn(probe.expecting(Some(3)));
        child.abort();
        assert!(runtime.block_on(child).unwrap_err().is_cancelled());
        watch.assert_counts(1, 1);
        let (probe, watch) = Probe::new([Step::Wait]);
        drop(eager().on(runtime.handle()).spawn(probe));
        runtime.wait_until_idle();
        watch.assert_counts(1, 1);
        // One that aborts itself is gone after the poll.
        let (send, receive) = futures::channel::oneshot::channel();
        let gate = Gate::new();
        let theirs = gate.clone();
        let child: JoinHandle<()> = eager().on(runtime.handle()).spawn(async move {
            let abort: heirloom::task::AbortHandle = receive.await.unwrap();
            abort.abort();
            theirs.open();
            pending().await
        });
        assert!(send.send(child.abort_handle()).is_ok());
        assert!(runtime.block_on(child).unwrap_err().is_cancelled());
        assert!(gate.is_open());
    });
}

#[test]
fn on_a_runtime_that_is_gone_it_is_not_polled() {
    outside(|| {
        let handle = runtime(1).handle().clone();
        let (probe, watch) = Probe::new([]);
        let child = eager().on(&handle).spawn(probe);
        assert!(child.is_finished());
        assert!(heirloom::block_on(child).unwrap_err().is_cancelled());
        watch.assert_counts(0, 1);
    });
}

#[test]
fn a_runtime_that_ends_takes_along_what_has_suspended() {
    outside(|| {
        let runtime = runtime(1);
        let (probe, watch) = Probe::new([Step::Wait]);
        let child = eager().name("waits").on(runtime.handle()).spawn(probe);
        let report = runtime.shutdown(Duration::ZERO);
        assert_eq!(report.to_string(), "cancelled: waits");
        assert!(heirloom::block_on(child).unwrap_err().is_cancelled());
        watch.assert_counts(1, 1);
    });
}

#[test]
fn a_local_child_is_polled_here_too() {
    run(1, || async {
        let set = LocalSet::new();
        let shared = std::rc::Rc::new(std::cell::Cell::new(0));
        let (mine, theirs) = (shared.clone(), shared.clone());
        set.run_until(async move {
            let child = eager().spawn_local(async move {
                theirs.set(1);
                yield_now().await;
                theirs.set(2);
            });
            assert!(!child.is_finished());
            assert_eq!(mine.get(), 1);
            child.await.unwrap();
            assert_eq!(mine.get(), 2);
        })
        .await;
    });
}

#[test]
fn a_blocking_closure_takes_no_notice() {
    run(1, || async {
        let here = std::thread::current().id();
        let elsewhere = eager().spawn_blocking(move || std::thread::current().id() != here);
        assert!(elsewhere.await.unwrap());
    });
}

#[test]
fn a_chain_of_any_depth_does_not_overflow_the_stack() {
    fn link(left: usize) -> Pin<Box<dyn Future<Output = usize> + Send>> {
        Box::pin(async move {
            if left == 0 {
                return 0;
            }
            // A frame that would be felt if there were thousands of them.
            let ballast = std::hint::black_box([left as u8; 1024]);
            let next = eager().spawn(link(left - 1));
            next.await.unwrap() + 1 + usize::from(ballast[0] != left as u8)
        })
    }
    let depth = scaled(100_000);
    assert_eq!(in_a_worker(2, link(depth)), depth);
    // From a thread that is none of the workers.
    with_runtime(1, move |runtime| {
        let chain = eager().on(runtime.handle()).spawn(link(depth));
        assert_eq!(runtime.block_on(chain).unwrap(), depth);
    });
    // None of them waits for the next.
    fn detached(left: usize, done: Gate) {
        let body = async move {
            match left {
                0 => done.open(),
                _ => detached(left - 1, done),
            }
        };
        eager().spawn(body).detach();
    }
    run(1, move || async move {
        let done = Gate::new();
        detached(depth, done.clone());
        done.opened().await;
    });
}

#[test]
fn siblings_are_begun_in_order() {
    in_a_worker(1, async {
        let log = Log::default();
        for number in 0..100 {
            let theirs = log.clone();
            eager().spawn(async move { theirs.push(number) }).detach();
        }
        assert_eq!(log.take(), (0..100).collect::<Vec<_>>());
    });
}

#[derive(Default)]
struct Counts {
    spawned: AtomicUsize,
    begun: AtomicUsize,
    ended: AtomicUsize,
    done: AtomicUsize,
}

impl Hooks for Counts {
    fn on_spawn(&self, _: &TaskMeta, _: &Context) {
        assert_eq!(self.begun.load(SeqCst), self.spawned.fetch_add(1, SeqCst), "before the poll");
    }
    fn before_poll(&self, _: &TaskMeta) {
        assert_eq!(Context::current().get(&LEVEL), Some(4));
        self.begun.fetch_add(1, SeqCst);
    }
    fn after_poll(&self, _: &TaskMeta) {
        self.ended.fetch_add(1, SeqCst);
    }
    fn on_done(&self, _: &TaskMeta) {
        self.done.fetch_add(1, SeqCst);
    }
}

#[test]
fn hooks_see_an_inline_poll_as_any_other() {
    outside(|| {
        let counts = Arc::new(Counts::default());
        let runtime = Runtime::builder().workers(1).hooks(counts.clone()).build().unwrap();
        let given = || Context::empty().with_var(&LEVEL, 4);
        let child = eager().context(given()).on(runtime.handle()).spawn(ready(()));
        assert!(child.is_finished());
        // Eager calls are no exception.
        heirloom::run_eagerly(async {
            runtime.handle().spawn_in(given(), sleep(Duration::from_millis(1))).await.unwrap();
        });
        let all =
            [&counts.spawned, &counts.begun, &counts.ended, &counts.done].map(|count| count.load(SeqCst));
        assert_eq!(all, [2, 2, 2, 2]);
    });
}

#[test]
fn eager_and_queued_tasks_end_alike_under_load() {
    in_a_worker(2, async {
        let mut tasks = Vec::new();
        for number in 0..scaled(10_000) {
            let body = async move {
                if number % 3 == 0 {
                    yield_now().await;
                }
                if number % 7 == 0 {
                    spawn(ready(())).await.unwrap();
                }
                number
            };
            tasks.push(task::Builder::new().start_inline(number % 2 == 0).spawn(body));
        }
        for (number, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.await.unwrap(), number);
        }
    });
}
