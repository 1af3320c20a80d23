//! What can be sent, shared, moved, printed, and what generic code may rely on.

use std::cell::Cell;
use std::error::Error;
use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::marker::PhantomData;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;

use futures::task::{LocalSpawn, LocalSpawnExt, Spawn, SpawnExt};
use heirloom::group::GroupError;
use heirloom::runtime::{Builder, EnterGuard, ShutdownReport, Stats, TaskDump};
use heirloom::task::{AbortHandle, CancelReason, JoinError, LocalSet, Shield};
use heirloom::time::Elapsed;
use heirloom::{CancelToken, Handle, JoinHandle, Runtime, TaskGroup, block_on, shield, spawn, task, time};
use heirloom_tests::{PATIENCE, in_a_worker, run, runtime, watchdog};

/// Whether a type has a trait, told by which of two methods is found: the inherent one, if the
/// bound holds.
macro_rules! has {
    ($type:ty: $($bound:tt)+) => {{
        struct Probe<T: ?Sized>(PhantomData<T>);
        #[allow(dead_code)]
        trait Otherwise {
            fn answer(&self) -> bool {
                false
            }
        }
        impl<T: ?Sized> Otherwise for Probe<T> {}
        impl<T: ?Sized + $($bound)+> Probe<T> {
            #[allow(dead_code)]
            fn answer(&self) -> bool {
                true
            }
        }
        Probe::<$type>(PhantomData).answer()
    }};
}

/// Something that may be sent but not shared.
type SendOnly = Cell<u32>;
/// Something that may be neither.
type Neither = Rc<u32>;

#[test]
fn handles_are_sent_and_shared_as_their_outputs_allow() {
    assert!(has!(JoinHandle<u32>: Send) && has!(JoinHandle<u32>: Sync));
    assert!(has!(JoinHandle<SendOnly>: Send));
    assert!(!has!(JoinHandle<Neither>: Send));
    assert!(has!(JoinHandle<Neither>: Unpin) && has!(JoinHandle<std::marker::PhantomPinned>: Unpin));
    assert!(has!(Shield<u32>: Send) && !has!(Shield<Neither>: Send));
    assert!(has!(AbortHandle: Send) && has!(AbortHandle: Sync) && has!(AbortHandle: Clone));
}

#[test]
fn handles_and_runtimes_pass_a_catch_of_panics() {
    assert!(has!(JoinHandle<SendOnly>: UnwindSafe) && has!(JoinHandle<SendOnly>: RefUnwindSafe));
    assert!(has!(AbortHandle: UnwindSafe) && has!(AbortHandle: RefUnwindSafe));
    assert!(has!(Handle: UnwindSafe) && has!(Handle: RefUnwindSafe));
    assert!(has!(Runtime: UnwindSafe) && has!(Runtime: RefUnwindSafe));
}

#[test]
fn errors_may_go_anywhere() {
    assert!(has!(JoinError: Send) && has!(JoinError: Sync) && has!(JoinError: Error));
    assert!(has!(JoinError: Debug) && has!(JoinError: Display) && has!(JoinError: Unpin));
    assert!(has!(Elapsed: Send) && has!(Elapsed: Sync) && has!(Elapsed: Error) && has!(Elapsed: Copy));
    assert!(has!(CancelReason: Send) && has!(CancelReason: Sync) && has!(CancelReason: Clone));
    assert!(has!(CancelReason: PartialEq) && has!(CancelReason: Display));
    assert!(has!(CancelReason: From<&'static str>) && has!(CancelReason: From<String>));
    assert!(has!(GroupError<JoinError>: Send) && has!(GroupError<JoinError>: Sync));
    assert!(!has!(GroupError<Neither>: Send));
    assert!(has!(GroupError<std::io::Error>: Error) && has!(GroupError<std::io::Error>: Debug));
}

#[test]
fn runtimes_and_their_parts_may_go_anywhere() {
    assert!(has!(Runtime: Send) && has!(Runtime: Sync) && has!(Runtime: Debug) && !has!(Runtime: Clone));
    assert!(has!(Handle: Send) && has!(Handle: Sync) && has!(Handle: Clone) && has!(Handle: Debug));
    assert!(has!(Builder: Send) && has!(Builder: Debug));
    assert!(has!(ShutdownReport: Send) && has!(ShutdownReport: Sync) && has!(ShutdownReport: Debug));
    assert!(has!(ShutdownReport: Display) && has!(task::TaskMeta: Display) && has!(task::TaskState: Copy));
    assert!(
        !has!(EnterGuard<'static>: Send)
            && !has!(EnterGuard<'static>: Sync)
            && has!(EnterGuard<'static>: Debug)
    );
    assert!(has!(Stats: Send) && has!(Stats: Sync) && has!(Stats: Debug) && has!(TaskDump: Debug));
    assert!(has!(task::Id: Copy) && has!(task::Id: Eq) && has!(task::Id: Hash) && has!(task::Id: Display));
    assert!(has!(task::Id: Send) && has!(task::Id: Sync));
}

#[test]
fn a_local_set_stays_where_it_is() {
    assert!(!has!(LocalSet: Send) && !has!(LocalSet: Sync) && has!(LocalSet: Debug));
}

#[test]
fn groups_and_tokens_may_go_where_their_contents_may() {
    assert!(has!(TaskGroup<u32>: Send) && has!(TaskGroup<u32, String>: Sync));
    assert!(!has!(TaskGroup<Neither>: Send) && !has!(TaskGroup<u32, Neither>: Send));
    assert!(!has!(TaskGroup<Neither>: Sync) && !has!(TaskGroup<u32, Neither>: Sync));
    assert!(has!(CancelToken: Send) && has!(CancelToken: Sync) && has!(CancelToken: Clone));
    assert!(has!(CancelToken: Debug) && has!(CancelToken: Default));
}

#[test]
fn waits_are_send_and_share_the_limits_of_their_operand() {
    assert!(has!(time::Sleep: Send) && has!(time::Sleep: Sync) && has!(time::Sleep: Debug));
    assert!(has!(time::Interval: Send) && has!(time::Interval: Debug));
    assert!(has!(time::WaitFor<std::future::Ready<u32>>: Send));
    assert!(!has!(time::WaitFor<std::future::Ready<Neither>>: Send));
    assert!(has!(time::WaitFor<std::future::Ready<u32>>: Unpin));
    assert!(has!(time::WaitFor<std::marker::PhantomPinned>: Debug));
    assert!(!has!(time::WaitFor<std::marker::PhantomPinned>: Unpin));
    assert!(has!(time::MissedTicks: Copy) && has!(time::MissedTicks: Default));
}

#[test]
fn generic_code_may_spawn_through_a_handle() {
    // What a library does that knows no executor.
    fn library<S: Spawn>(spawner: &S) -> impl Future<Output = u32> + use<S> {
        spawner.spawn_with_handle(async { 7 }).expect("a spawner that lives")
    }
    watchdog(PATIENCE, || {
        let runtime = runtime(2);
        let handle = runtime.handle().clone();
        assert!(handle.status().is_ok());
        assert_eq!(runtime.block_on(library(&handle)), 7);
        let boxed: Box<dyn Spawn + Send + Sync> = Box::new(handle.clone());
        let (sender, receiver) = futures::channel::oneshot::channel();
        boxed.spawn(async move { sender.send(8).unwrap() }).unwrap();
        assert_eq!(runtime.block_on(receiver).unwrap(), 8);
        drop(runtime);
        assert!(handle.status().is_err_and(|error| error.is_shutdown()));
        assert!(handle.spawn_obj(Box::pin(async {}).into()).is_err());
    });
}

#[test]
fn generic_code_may_spawn_through_a_local_set() {
    fn library<S: LocalSpawn>(spawner: &S) -> impl Future<Output = Rc<u32>> + use<S> {
        spawner.spawn_local_with_handle(async { Rc::new(7) }).expect("a set that lives")
    }
    watchdog(PATIENCE, || {
        let set = LocalSet::new();
        assert!(set.status_local().is_ok());
        assert_eq!(*set.block_on(library(&set)), 7);
    });
}

#[test]
fn what_is_made_of_these_is_send() {
    fn send<T: Send>(value: T) -> T {
        value
    }
    in_a_worker(
        1,
        send(async {
            let task = spawn(async { 1 });
            let limited = time::wait_for(shield(task), std::time::Duration::from_secs(3_600));
            assert_eq!(limited.await.unwrap().unwrap(), 1);
            let token = CancelToken::new();
            send(token.run_until_cancelled(task::yield_now())).await;
            let mut ticks = time::interval(std::time::Duration::from_millis(1));
            send(ticks.tick()).await;
            let group = TaskGroup::<(), u32>::new();
            group.spawn(async { Ok(2) });
            assert_eq!(send(group.next()).await.unwrap().unwrap(), 2);
            send(group.join()).await.unwrap();
        }),
    );
}

#[test]
fn a_root_future_needs_to_be_neither_send_nor_static() {
    run(1, || async {
        let local = Rc::new(5);
        let borrowed = &local;
        let inner = async {
            task::yield_now().await;
            **borrowed + 1
        };
        assert_eq!(inner.await, 6);
    });
    watchdog(PATIENCE, || {
        let text = String::from("borrowed");
        assert_eq!(block_on(async { text.len() }), 8);
    });
}

#[test]
fn everything_can_be_printed() {
    in_a_worker(1, async {
        let task = spawn(std::future::pending::<()>());
        for text in [
            format!("{task:?}"),
            format!("{:?}", task.abort_handle()),
            format!("{:?}", task::current()),
            format!("{:?}", Handle::current()),
            format!("{:?}", Handle::current().unwrap().stats()),
            format!("{:?}", Handle::current().unwrap().dump()),
            format!("{:?}", TaskGroup::<Rc<u32>, Rc<u32>>::new()),
            format!("{:?}", time::sleep(std::time::Duration::MAX)),
            format!("{}", task.id()),
        ] {
            assert!(!text.is_empty());
        }
        let dump = Handle::current().unwrap().dump();
        assert!(
            dump.iter()
                .any(|dumped| dumped.id == task.id() && dumped.spawned_at.file().ends_with("traits.rs"))
        );
    });
}
