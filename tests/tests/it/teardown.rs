//! Threads and processes that end: every call answers, nothing aborts.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::Waker;
use std::time::Duration;

use heirloom::context::{ContextCell, Token};
use heirloom::task::{AbortHandle, LocalSet};
use heirloom::{
    CancelToken, Context, Handle, JoinHandle, Runtime, TaskGroup, context_var, sleep, spawn,
    spawn_background, spawn_blocking, spawn_in, spawn_local, task, wait_for,
};
use heirloom_tests::{
    Gate, Ledger, PATIENCE, Probe, Step, in_child, poll_once, runtime, say_as_child, watchdog,
};

context_var! {
    static LEVEL: u32;
    static VALUE: heirloom_tests::Counted;
}

type Report = Arc<Mutex<Vec<Result<(), String>>>>;

/// What a user may keep in a thread-local, and use in its destructor.
struct Late {
    report: Report,
    runtime: Option<Runtime>,
    handle: Handle,
    join: Option<JoinHandle<u32>>,
    abort: AbortHandle,
    sleep: Option<Pin<Box<heirloom::time::Sleep>>>,
    waker: Waker,
    context: Context,
    token: Option<Token<u32>>,
    cancel: CancelToken,
    group: Option<TaskGroup<()>>,
    set: Option<LocalSet>,
}

thread_local! {
    static LATE: RefCell<Option<Late>> = const { RefCell::new(None) };
    static LATER: RefCell<Option<Late>> = const { RefCell::new(None) };
}

impl Late {
    fn new(report: &Report) -> Late {
        let runtime = runtime(1);
        let handle = runtime.handle().clone();
        let (probe, watch) = Probe::new([Step::Wait, Step::Wait]);
        let waiting = runtime.spawn(probe);
        runtime.wait_until_idle();
        let abort = waiting.abort_handle();
        waiting.detach();
        let group = TaskGroup::new();
        let sleep = runtime.block_on(async {
            group.spawn(std::future::pending());
            let mut sleep = Box::pin(sleep(Duration::from_secs(3_600)));
            assert!(futures::poll!(sleep.as_mut()).is_pending());
            sleep
        });
        let set = LocalSet::new();
        set.spawn_local(std::future::pending::<()>()).detach();
        set.block_on(async {
            assert!(poll_once(&mut spawn_local(std::future::pending::<()>())).is_pending())
        });
        Late {
            report: report.clone(),
            join: Some(runtime.spawn(async { 7 })),
            runtime: Some(runtime),
            handle,
            abort,
            sleep: Some(sleep),
            waker: watch.waker().unwrap(),
            context: Context::empty().with_var(&LEVEL, 1),
            token: Some(LEVEL.set(1)),
            cancel: CancelToken::new(),
            group: Some(group),
            set: Some(set),
        }
    }

    fn use_everything(&mut self) {
        // What was there before.
        self.waker.wake_by_ref();
        assert_eq!(heirloom::block_on(self.join.take().unwrap()).unwrap(), 7);
        let mut sleep = self.sleep.take().unwrap();
        assert!(poll_once(&mut sleep).is_pending());
        drop(sleep);
        self.cancel.child().cancel("late");
        drop(self.group.take());
        let set = self.set.take().unwrap();
        set.block_on(async { spawn_local(async {}).await.unwrap() });
        drop(set);
        let _ = LEVEL.reset(self.token.take().unwrap());
        assert_eq!(self.context.run(|| LEVEL.get()), Some(1));
        self.abort.abort();

        // What is asked for now.
        assert!(task::current().is_none());
        let _ = (Handle::current(), task::budget::remaining(), heirloom::deadline(), heirloom::remaining());
        let _ = (self.handle.stats(), self.handle.dump(), Context::inherited());
        LEVEL.set(2);
        let everything = async {
            let spawned = spawn(async { LEVEL.get() }).await.unwrap();
            let given = spawn_in(Context::empty().with_var(&LEVEL, 5), async { LEVEL.get() }).await.unwrap();
            let blocking = spawn_blocking(|| 6).await.unwrap();
            drop(spawn_background(async {}));
            drop(spawn(std::future::pending::<()>()));
            heirloom::yield_now().await;
            heirloom::sleep(Duration::from_millis(1)).await;
            wait_for(std::future::pending::<()>(), Duration::from_millis(1)).await.unwrap_err();
            let group = TaskGroup::<(), u32>::new();
            group.spawn(async { Ok(8) });
            let results = group.join().await.unwrap();
            (spawned, given, blocking, results)
        };
        let (spawned, given, blocking, results) = heirloom::block_on(everything);
        // The thread's own context is there still, or gone.
        assert!(spawned.is_none_or(|level| level == 2), "{spawned:?}");
        assert_eq!((given, blocking, results), (Some(5), 6, vec![8]));
        let runtime = self.runtime.take().unwrap();
        assert_eq!(runtime.block_on(runtime.spawn(async { 9 })).unwrap(), 9);
        assert!(runtime.shutdown(Duration::from_secs(3_600)).is_clean());
        // And on a runtime that is gone.
        assert!(heirloom::block_on(self.handle.spawn(async {})).unwrap_err().is_cancelled());
        self.waker.wake_by_ref();
        self.abort.abort();
    }
}

impl Drop for Late {
    fn drop(&mut self) {
        // A panic in the destructor of a thread-local would abort the process.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.use_everything()));
        let outcome = outcome.map_err(|panic| match panic.downcast::<String>() {
            Ok(text) => *text,
            Err(panic) => panic.downcast_ref::<&str>().unwrap_or(&"another panic").to_string(),
        });
        self.report.lock().unwrap().push(outcome);
    }
}

fn use_the_crate() {
    LEVEL.set(1);
    heirloom::block_on(async { spawn(async {}).await.unwrap() });
}

fn run(values: usize, body: impl FnOnce(Report) + Send + 'static) {
    watchdog(PATIENCE, move || {
        let report = Report::default();
        let inside = report.clone();
        std::thread::spawn(move || body(inside)).join().unwrap();
        assert_eq!(*report.lock().unwrap(), vec![Ok(()); values]);
    });
}

#[test]
fn a_thread_local_that_is_older_than_the_crates_own() {
    run(1, |report| {
        // Registered before anything of ours: its destructor runs after ours.
        LATE.with(|_| ());
        use_the_crate();
        LATE.set(Some(Late::new(&report)));
    });
}

#[test]
fn a_thread_local_that_is_younger_than_the_crates_own() {
    run(1, |report| {
        use_the_crate();
        LATE.set(Some(Late::new(&report)));
    });
}

#[test]
fn thread_locals_on_both_sides() {
    run(2, |report| {
        LATE.with(|late| *late.borrow_mut() = None);
        let older = Late::new(&report);
        LATE.set(Some(older));
        use_the_crate();
        LATER.set(Some(Late::new(&report)));
    });
}

#[test]
fn a_thread_local_of_a_worker_may_use_the_runtime_that_ends() {
    watchdog(PATIENCE, || {
        struct OfAWorker(Handle, Ledger, Gate);
        impl Drop for OfAWorker {
            fn drop(&mut self) {
                let value = self.1.counted(1);
                let late = self.0.spawn(async move { drop(value) });
                late.detach();
                LEVEL.set(1);
                let _ = (self.0.stats(), Context::current());
                self.2.open();
            }
        }
        thread_local! { static OF_A_WORKER: RefCell<Option<OfAWorker>> = const { RefCell::new(None) }; }
        let (ledger, ended) = (Ledger::new(), Gate::new());
        let runtime = runtime(1);
        let of_a_worker = OfAWorker(runtime.handle().clone(), ledger.clone(), ended.clone());
        runtime.block_on(runtime.spawn(async move { OF_A_WORKER.set(Some(of_a_worker)) })).unwrap();
        drop(runtime);
        ended.wait();
        assert!(heirloom_tests::wait_until(|| ledger.made() == 1 && ledger.alive() == 0));
    });
}

#[test]
fn values_bound_in_a_blocking_thread_and_a_worker_are_dropped() {
    watchdog(PATIENCE, || {
        let ledger = Ledger::new();
        let runtime = runtime(1);
        let (one, two) = (ledger.counted(1), ledger.counted(2));
        runtime.block_on(runtime.spawn_blocking(move || drop(VALUE.set(one)))).unwrap();
        runtime.block_on(runtime.spawn(async move { drop(VALUE.set(two)) })).unwrap();
        assert!(
            heirloom_tests::wait_until(|| ledger.alive() == 0),
            "they go with their task, not with the thread"
        );
        drop(runtime);
    });
}

/// The process ends while tasks, timers, blocking closures and threads go on, and a thread-local of
/// the main thread uses the crate in its destructor.
#[test]
fn a_process_may_end_in_the_middle_of_everything() {
    static KEPT: OnceLock<(Waker, JoinHandle<()>, Handle)> = OnceLock::new();
    for main_thread in [true, false] {
        let test = "teardown::a_process_may_end_in_the_middle_of_everything";
        if in_child(test, main_thread).is_here() {
            let runtime = runtime(2);
            let (probe, watch) = Probe::new(std::iter::repeat_n(Step::Wait, 100_000));
            let waiting = runtime.spawn(probe);
            runtime.wait_until_idle();
            for _ in 0..4 {
                runtime
                    .spawn(async {
                        loop {
                            heirloom::yield_now().await
                        }
                    })
                    .detach();
                runtime.spawn(sleep(Duration::from_millis(1))).detach();
                heirloom::block_on(async { spawn(sleep(Duration::from_secs(3_600))).detach() });
            }
            let (entered, gate) = (Gate::new(), Gate::new());
            let inside = entered.clone();
            runtime
                .spawn_blocking(move || {
                    inside.open();
                    gate.wait();
                })
                .detach();
            entered.wait();
            let waker = watch.waker().unwrap();
            let (kept, late) = (waker.clone(), waker.clone());
            let _ = KEPT.set((kept, waiting, runtime.handle().clone()));
            // A thread that is not joined goes on waking.
            std::thread::spawn(move || {
                loop {
                    late.wake_by_ref();
                    std::thread::yield_now();
                }
            });
            LATE.set(Some(Late::new(&Report::default())));
            let cell = ContextCell::new(Context::current());
            cell.run(|| LEVEL.set(1)).unwrap();
            std::mem::forget(runtime);
            say_as_child();
            return;
        }
    }
}
