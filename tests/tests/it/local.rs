//! Tasks that stay on their thread: the same rules, without `Send`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use futures::task::LocalSpawn;
use heirloom::task::{CancelReason, LocalSet};
use heirloom::{deadline, sleep, spawn, spawn_local, task, wait_for, yield_now};
use heirloom_tests::{
    CountingWaker, Fault, Gate, MARK, PATIENCE, Probe, SCRIPTED, Step, poll_once, poll_with, quiet_panic,
    scaled, wait_until, watchdog,
};

const LONG: Duration = Duration::from_secs(3_600);

/// Runs a body in a local set on a thread of its own, under the watchdog.
#[track_caller]
fn locally<F: Future<Output = ()>>(body: impl FnOnce() -> F + Send + 'static) {
    watchdog(PATIENCE, move || LocalSet::new().block_on(body()));
}

#[test]
fn a_local_task_may_hold_what_is_not_send() {
    locally(|| async {
        let shared = Rc::new(Cell::new(0));
        let tasks: Vec<_> = (1..=10)
            .map(|number| {
                let shared = shared.clone();
                spawn_local(async move {
                    yield_now().await;
                    shared.set(shared.get() + number);
                    Rc::new(number)
                })
            })
            .collect();
        for (number, task) in (1..=10).zip(tasks) {
            assert_eq!(*task.await.unwrap(), number);
        }
        assert_eq!(shared.get(), 55);
    });
}

#[test]
fn all_of_a_set_runs_on_its_thread() {
    locally(|| async {
        let own = std::thread::current().id();
        let gate = Gate::new();
        let opened = gate.opened();
        let local = spawn_local(async move {
            // Woken from elsewhere, it goes on here.
            opened.await;
            sleep(Duration::from_millis(1)).await;
            std::thread::current().id()
        });
        yield_now().await;
        std::thread::spawn(move || gate.open()).join().unwrap();
        assert_eq!(local.await.unwrap(), own);
        assert_ne!(spawn(async { std::thread::current().id() }).await.unwrap(), own);
    });
}

#[test]
fn spawning_locally_forks_and_awaiting_shares() {
    locally(|| async {
        MARK.set(1);
        let child = spawn_local(async {
            let seen = MARK.get();
            MARK.set(2);
            yield_now().await;
            (seen, MARK.get())
        });
        MARK.set(3);
        assert_eq!(child.await.unwrap(), (Some(1), Some(2)));
        assert_eq!(MARK.get(), Some(3));
        let given = heirloom::Context::empty().with_var(&MARK, 7);
        let built = task::Builder::new()
            .name("local")
            .context(given)
            .spawn_local(async { (MARK.get(), task::current().unwrap().name().map(str::to_owned)) });
        assert_eq!(built.await.unwrap(), (Some(7), Some("local".to_owned())));
        let limited = wait_for(async { spawn_local(async { deadline() }).await.unwrap() }, LONG);
        assert!(limited.await.unwrap().is_some());
        // And from a local task to the workers and back.
        let around = spawn_local(async { spawn(async { MARK.get() }).await.unwrap() });
        assert_eq!(around.await.unwrap(), Some(3));
    });
}

#[test]
fn handles_of_local_tasks_obey_the_same_rules() {
    locally(|| async {
        let settle = || async {
            for _ in 0..3 {
                yield_now().await;
            }
        };
        let (probe, watch) = Probe::new([Step::Wait]);
        let task = spawn_local(probe);
        settle().await;
        watch.assert_counts(1, 0);
        drop(task);
        settle().await;
        watch.assert_counts(1, 1);

        let (probe, watch) = Probe::new([Step::Wait]);
        let task = spawn_local(probe);
        settle().await;
        task.abort_handle().abort_with("by hand");
        let error = task.await.unwrap_err();
        assert_eq!(error.reason(), Some(&CancelReason::from("by hand")));
        watch.assert_counts(1, 1);

        let (probe, watch) = Probe::new([Step::Yield]);
        spawn_local(probe).detach();
        settle().await;
        watch.assert_counts(2, 1);

        let error = spawn_local(async { quiet_panic(SCRIPTED) }).await.unwrap_err();
        assert_eq!(error.panic_message(), Some(SCRIPTED));
        assert_eq!(MARK.get(), None);
    });
}

#[test]
fn a_local_task_that_is_aborted_from_elsewhere_is_dropped_on_its_thread() {
    locally(|| async {
        let own = std::thread::current().id();
        let (probe, watch) = Probe::new([Step::Wait]);
        let task = spawn_local(probe);
        yield_now().await;
        let abort = task.abort_handle();
        std::thread::spawn(move || abort.abort()).join().unwrap();
        assert!(task.await.unwrap_err().is_cancelled());
        watch.assert_counts(1, 1);
        assert_eq!(watch.dropped_on(), Some(own));
        // A handle may go to another thread and be dropped there, if the output may.
        let (probe, watch) = Probe::new([Step::Wait]);
        let task = spawn_local(probe);
        yield_now().await;
        std::thread::spawn(move || drop(task)).join().unwrap();
        while watch.drops() == 0 {
            yield_now().await;
        }
        assert_eq!(watch.dropped_on(), Some(own));
    });
}

#[test]
fn dropping_a_set_drops_its_tasks_here_and_now() {
    watchdog(PATIENCE, || {
        let set = LocalSet::new();
        MARK.set(5);
        let (waiting, waiting_watch) = Probe::new([Step::Wait]);
        let (queued, queued_watch) = Probe::new([Step::Wait]);
        let (bomb, bomb_watch) = Probe::new([Step::Wait]);
        let waiting = set.spawn_local(waiting.expecting(Some(5)));
        set.spawn_local(bomb.panicking_on_drop()).detach();
        set.block_on(async {
            for _ in 0..3 {
                yield_now().await;
            }
        });
        set.spawn_local(queued.expecting(Some(5))).detach();
        MARK.set(6);
        let waker = waiting_watch.waker().unwrap();
        drop(set);
        waiting_watch.assert_counts(1, 1);
        queued_watch.assert_counts(0, 1);
        bomb_watch.assert_counts(1, 1);
        assert!(heirloom::block_on(waiting).unwrap_err().is_cancelled());
        // Wakers outlive the set as they outlive a runtime.
        waker.wake_by_ref();
        std::thread::spawn(move || waker.wake()).join().unwrap();
        waiting_watch.assert_counts(1, 1);
    });
}

#[test]
fn a_destructor_may_spawn_into_the_set_that_ends() {
    struct Spawner(Rc<RefCell<Option<heirloom::JoinHandle<()>>>>, Rc<LocalSet>);
    impl Drop for Spawner {
        fn drop(&mut self) {
            *self.0.borrow_mut() = Some(self.1.spawn_local(async {}));
        }
    }
    watchdog(PATIENCE, || {
        // The last handle of the set goes while one of its tasks is dropped by hand.
        let set = Rc::new(LocalSet::new());
        let late = Rc::new(RefCell::new(None));
        let spawner = Spawner(late.clone(), set.clone());
        let task = set.spawn_local(async move {
            let _spawner = spawner;
            std::future::pending::<()>().await;
        });
        set.block_on(async {
            yield_now().await;
            yield_now().await;
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
        });
        let late = late.borrow_mut().take().expect("the destructor has spawned");
        set.block_on(late).unwrap();
    });
}

#[test]
fn tasks_stay_in_the_set_between_its_runs() {
    watchdog(PATIENCE, || {
        let set = LocalSet::new();
        let (probe, watch) = Probe::new([Step::Wait, Step::Wait]);
        let mut task = set.spawn_local(probe);
        assert!(poll_once(&mut task).is_pending());
        watch.assert_counts(0, 0);
        set.block_on(yield_now());
        watch.assert_counts(1, 0);
        watch.wake();
        watch.assert_counts(1, 0);
        set.block_on(async {
            while watch.polls() < 2 {
                yield_now().await
            }
        });
        watch.wake();
        set.block_on(task).unwrap();
        watch.assert_counts(3, 1);
    });
}

#[test]
fn a_set_shares_its_thread_fairly() {
    locally(|| async {
        // A task that never rests keeps neither the root nor its siblings from going on.
        let busy = spawn_local(async {
            loop {
                yield_now().await;
            }
        });
        let sibling = spawn_local(async {
            for _ in 0..scaled(100) {
                yield_now().await;
            }
        });
        sleep(Duration::from_millis(5)).await;
        sibling.await.unwrap();
        busy.abort();
        let error: heirloom::task::JoinError = match busy.await {
            Err(error) => error,
            Ok(never) => never,
        };
        assert!(error.is_cancelled());
    });
}

#[test]
fn a_set_can_be_run_inside_another_future() {
    watchdog(PATIENCE, || {
        heirloom::block_on(async {
            let (outer, inner) = (LocalSet::new(), LocalSet::new());
            let seen = outer
                .run_until(async {
                    let own = spawn_local(async { 1 });
                    let nested = inner.run_until(async { spawn_local(async { 2 }).await.unwrap() }).await;
                    // Back in the outer one.
                    (own.await.unwrap(), nested, spawn_local(async { 3 }).await.unwrap())
                })
                .await;
            assert_eq!(seen, (1, 2, 3));
        });
    });
}

#[test]
fn spawning_locally_outside_of_a_set_panics_in_clear_words() {
    watchdog(PATIENCE, || {
        let panic = std::panic::catch_unwind(|| drop(spawn_local(async {}))).unwrap_err();
        let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap();
        assert!(text.contains("LocalSet"), "{text}");
    });
}

#[test]
fn generic_code_may_spawn_into_a_set() {
    watchdog(PATIENCE, || {
        let set = LocalSet::new();
        let done = Rc::new(Cell::new(false));
        let told = done.clone();
        set.spawn_local_obj(Box::pin(async move { told.set(true) }).into()).unwrap();
        set.block_on(async {
            while !done.get() {
                yield_now().await
            }
        });
    });
}

#[test]
fn a_runners_waker_that_panics_harms_neither_the_waker_nor_another_runner() {
    watchdog(PATIENCE, || {
        let set = LocalSet::new();
        let (tell, told) = futures::channel::oneshot::channel::<()>();
        let task = set.spawn_local(told);
        let (mut one, mut two) =
            (Box::pin(set.run_until(std::future::pending::<()>())), Box::pin(set.run_until(task)));
        let (bad, _) = CountingWaker::create(Fault::Wake);
        let (good, counts) = CountingWaker::create(Fault::None);
        assert!(poll_with(&mut one, &bad).is_pending());
        assert!(poll_with(&mut two, &good).is_pending());
        tell.send(()).unwrap();
        assert!(counts.wakes() >= 1, "the other runner was not woken");
        // The first runs the task, which wakes its joiner.
        assert!(poll_with(&mut two, &good).is_pending());
        assert!(poll_with(&mut two, &good).is_ready());
    });
}

#[test]
fn a_runner_that_has_gone_leaves_no_waker_behind() {
    watchdog(PATIENCE, || {
        let set = LocalSet::new();
        let (waker, counts) = CountingWaker::create(Fault::None);
        for _ in 0..3 {
            let mut runner = Box::pin(set.run_until(std::future::pending::<()>()));
            assert!(poll_with(&mut runner, &waker).is_pending());
        }
        // Two by the same task: one goes, the other is woken all the same.
        let (mut one, mut two) = (
            Box::pin(set.run_until(std::future::pending::<()>())),
            Box::pin(set.run_until(std::future::pending::<()>())),
        );
        assert!(poll_with(&mut one, &waker).is_pending());
        assert!(poll_with(&mut two, &waker).is_pending());
        drop(one);
        set.spawn_local(async {}).detach();
        assert_eq!(counts.wakes(), 1);
        drop((two, waker));
        assert!(counts.is_gone(), "a waker is kept");
    });
}

/// Spawns in every way when it is dropped, and leaves the handles.
struct SpawnsWhenDropped {
    group: heirloom::group::GroupHandle<(), ()>,
    left: Rc<RefCell<Vec<heirloom::task::AbortHandle>>>,
    witness: Rc<Cell<usize>>,
}

impl Drop for SpawnsWhenDropped {
    fn drop(&mut self) {
        let mut left = self.left.borrow_mut();
        let witness = Rc::clone(&self.witness);
        let body = move || async move { witness.set(witness.get() + 1) };
        // Aborted by being dropped, too; what counts is the handle.
        left.push(spawn_local(body.clone()()).abort_handle());
        left.push(task::Builder::new().name("late").spawn_local(body.clone()()).abort_handle());
        left.push(task::Builder::new().start_inline(true).spawn_local(body()).abort_handle());
        left.push(spawn(async {}).abort_handle());
        left.push(heirloom::spawn_blocking(|| ()).abort_handle());
        left.push(heirloom::spawn_background(async {}));
        left.push(self.group.spawn(async { Ok(()) }));
    }
}

/// The kind: a spawn into something that is ending gives a cancelled handle, whatever is spawned
/// and whatever ends: a set, the call of a set, a group, a runtime. A destructor that panicked
/// instead would abort the process if it ran by unwinding, and under `PanicPolicy::Abort` anyway.
#[test]
fn a_destructor_may_spawn_into_a_set_that_is_ending() {
    fn ends(end: impl FnOnce(SpawnsWhenDropped)) {
        let left = Rc::<RefCell<Vec<_>>>::default();
        let witness = Rc::<Cell<usize>>::default();
        let group = heirloom::TaskGroup::<(), ()>::new();
        let spawns =
            SpawnsWhenDropped { group: group.handle(), left: left.clone(), witness: witness.clone() };
        drop(group);
        end(spawns);
        let left = left.take();
        assert_eq!(left.len(), 7);
        assert_eq!(witness.get(), 0, "none of them began");
        for local in &left[..3] {
            assert!(local.is_finished());
        }
        assert!(wait_until(|| left.iter().all(heirloom::task::AbortHandle::is_finished)));
    }
    fn dropped_with_the_set(spawns: SpawnsWhenDropped) {
        let set = LocalSet::new();
        let task = set.spawn_local(async move {
            let _spawns = spawns;
            std::future::pending::<()>().await;
        });
        set.block_on(yield_now());
        drop(set);
        let error = heirloom::block_on(task).unwrap_err();
        assert_eq!(error.reason(), Some(&CancelReason::RuntimeGone));
    }
    watchdog(PATIENCE, || {
        ends(dropped_with_the_set);
        // Not begun.
        ends(|spawns| {
            let set = LocalSet::new();
            set.spawn_local(async move { drop(spawns) }).detach();
        });
        // By unwinding.
        ends(|spawns| {
            let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let set = LocalSet::new();
                set.spawn_local(async move { drop(spawns) }).detach();
                quiet_panic("beside a set");
            }));
            assert!(panicked.is_err());
        });
        // In a call that runs eagerly.
        ends(|spawns| {
            heirloom::run_eagerly(async move {
                let body = async move {
                    let _spawns = spawns;
                    std::future::pending::<()>().await;
                };
                let wait = wait_for(async { spawn_local(body).await }, Duration::from_millis(1));
                assert!(wait.await.is_err());
            });
        });
        // In a runtime where a panic would be the end.
        ends(|spawns| {
            let builder = heirloom::Runtime::builder().workers(1);
            let runtime = builder.on_panic(heirloom::runtime::PanicPolicy::Abort).build().unwrap();
            runtime.block_on(async { dropped_with_the_set(spawns) });
        });
    });
}

#[test]
fn what_a_set_is_run_for_is_dropped_inside_it() {
    struct Spawns(Rc<Cell<bool>>);
    impl Drop for Spawns {
        fn drop(&mut self) {
            let ran = Rc::clone(&self.0);
            spawn_local(async move { ran.set(true) }).detach();
        }
    }
    watchdog(PATIENCE, || {
        let set = LocalSet::new();
        let ran = Rc::<Cell<bool>>::default();
        let spawns = Spawns(ran.clone());
        let endless = async move {
            let _spawns = spawns;
            std::future::pending::<()>().await;
        };
        heirloom::block_on(async {
            assert!(wait_for(set.run_until(endless), Duration::from_millis(1)).await.is_err());
            assert!(!ran.get());
            set.run_until(yield_now()).await;
        });
        assert!(ran.get());
    });
}

// The kind: the set frees slots of its tasks while another thread frees some of them. Memory
// checkers see it where both do so without a lock.
#[test]
fn a_set_ends_while_others_give_up_handles_of_its_tasks() {
    const TASKS: usize = scaled(2_000);
    watchdog(PATIENCE, || {
        for drops_the_set in [true, false] {
            let set = LocalSet::new();
            let handles = set.block_on(async {
                let tasks: Vec<_> = (0..TASKS).map(|_| spawn_local(std::future::pending::<()>())).collect();
                yield_now().await;
                let handles: Vec<_> = tasks.iter().map(|task| task.abort_handle()).collect();
                let (early, late) = handles.split_at(TASKS / 2);
                early.iter().for_each(|handle| handle.abort());
                tasks.into_iter().for_each(|task| task.detach());
                yield_now().await;
                (early.to_vec(), late.to_vec())
            });
            let other = std::thread::spawn(move || drop(handles.0));
            if drops_the_set {
                drop(set);
            } else {
                set.block_on(async { yield_now().await });
                drop(set);
            }
            other.join().unwrap();
            drop(handles.1);
        }
    });
}
