#![forbid(unsafe_code)]

use std::cell::Cell;
use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::task::Poll;
use std::time::Duration;

use futures::channel::oneshot;
use futures::future::poll_immediate;
use futures::{FutureExt, StreamExt};

use super::{GroupError, GroupHandle, Results, TaskGroup};
use crate::context::ContextFutureExt;
use crate::task::CancelReason;
use crate::{Runtime, context_var, deadline, spawn, wait_for};

/// Far more children than a budget has units; fewer under Miri.
const MANY: usize = if cfg!(miri) { 300 } else { 10_000 };

/// The crate's `block_on`. Under Miri, which reports the threads of the default runtime as a leak
/// at the end of the process, it runs the future on a runtime of its own.
fn block_on<F: Future>(future: F) -> F::Output {
    if cfg!(miri) { Runtime::builder().build().unwrap().block_on(future) } else { crate::block_on(future) }
}

thread_local! {
    static HANDLE_POLLS: Cell<usize> = const { Cell::new(0) };
}

/// Called by `poll_ready_children` for each handle that it polls.
pub(super) fn count_handle_poll() {
    HANDLE_POLLS.set(HANDLE_POLLS.get() + 1);
}

/// Counts the futures that hold one.
#[derive(Clone, Default)]
struct Living(Arc<()>);

impl Living {
    fn count(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }

    fn forever<T, E>(&self) -> impl Future<Output = Result<T, E>> + Send + 'static + use<T, E> {
        let held = self.clone();
        async move {
            let _held = held;
            pending().await
        }
    }
}

/// A child that runs until it is told to go on, and a way to know that it runs.
fn gated<T: Send + 'static>(output: T) -> (oneshot::Sender<()>, impl Future<Output = T> + Send + 'static) {
    let (go, gate) = oneshot::channel();
    (go, async move {
        gate.await.unwrap();
        output
    })
}

/// A child that never ends, and a receiver that fails when the child is dropped.
fn endless<T, E>() -> (oneshot::Receiver<Infallible>, impl Future<Output = Result<T, E>> + Send + 'static) {
    let (held, dropped) = oneshot::channel();
    (dropped, async move {
        let _held = held;
        pending().await
    })
}

/// The output of a result that is no failure.
fn output<T, E: std::fmt::Debug>(result: Option<Result<T, GroupError<E>>>) -> Option<T> {
    result.map(Result::unwrap)
}

#[test]
fn types() {
    fn check<T: Send + Sync>(_: &T) {}
    fn send<T: Send>(value: T) -> T {
        value
    }
    fn error<T: Error + Send + Sync + 'static>() {}

    let group = TaskGroup::<String, Cell<u8>>::new();
    check(&group);
    check(&group.handle());
    check(&group.results());
    drop(send(group.next()));
    drop(send(group.join()));
    drop(send(TaskGroup::<(), ()>::scope(async |_| Ok(()))));
    error::<GroupError<std::io::Error>>();
    fn unpin<T: Unpin>() {}
    unpin::<Results<'_, (), ()>>();
    unpin::<GroupHandle<(), ()>>();
}

#[test]
fn a_scope_is_send_if_its_parts_are() {
    // Spawned, nested, and with what a body borrows from its surroundings.
    let spawned = async {
        let base = 40;
        TaskGroup::<Infallible, u32>::scope(async |outer| {
            let inner = TaskGroup::<Infallible, u32>::scope(async |inner| {
                inner.spawn(async { Ok(1) });
                Ok(base + inner.next().await.unwrap())
            });
            outer.spawn(async { Ok(1) });
            let inner = inner.await.unwrap();
            Ok(inner + outer.next().await.unwrap())
        })
        .await
        .unwrap()
    };
    assert_eq!(block_on(async { spawn(spawned).await.unwrap() }), 42);
}

#[test]
fn an_empty_group_is_done() {
    block_on(async {
        assert!(TaskGroup::<(), u8>::new().join().await.unwrap().is_empty());
        assert_eq!(output(TaskGroup::<(), u8>::new().next().await), None);
        assert_eq!(TaskGroup::<(), u8>::scope(async |_| Ok(7)).await.unwrap(), 7);
    });
}

#[test]
fn results_come_in_completion_order() {
    block_on(async {
        let group = TaskGroup::<Infallible, u32>::new();
        let gates: Vec<_> = (0..3)
            .map(|number| {
                let (go, child) = gated(Ok(number));
                group.spawn(child);
                go
            })
            .collect();
        let [first, second, third] = gates.try_into().unwrap();
        assert!(group.next().now_or_never().is_none());
        third.send(()).unwrap();
        assert_eq!(output(group.next().await), Some(2));
        first.send(()).unwrap();
        assert_eq!(output(group.next().await), Some(0));
        assert_eq!(group.len(), 1);
        second.send(()).unwrap();
        assert_eq!(group.join().await.unwrap(), [1]);
    });
}

#[test]
fn the_first_error_cancels_the_rest_and_all_are_joined() {
    block_on(async {
        let living = Living::default();
        let group = TaskGroup::<&str>::new();
        let siblings: Vec<_> = (0..100).map(|_| group.spawn(living.forever())).collect();
        let (go, child) = gated(Err("as planned"));
        group.spawn(child);
        let mut join = pin!(group.join());
        assert!(poll_immediate(join.as_mut()).await.is_none());
        assert_eq!(living.count(), 100);
        go.send(()).unwrap();
        assert!(matches!(join.await, Err(GroupError::Failed("as planned"))));
        // Joined: their futures are gone, not just asked to go.
        assert_eq!(living.count(), 0);
        assert!(siblings.iter().all(|sibling| sibling.is_finished()));
    });
}

#[test]
fn siblings_are_cancelled_though_the_group_is_not_awaited() {
    block_on(async {
        let group = TaskGroup::<&str>::new();
        let (dropped, child) = endless();
        group.spawn(child);
        group.spawn(async { Err("as planned") });
        assert!(dropped.await.is_err());
        assert!(group.join().await.is_err());
    });
}

#[test]
fn the_first_panic_cancels_the_rest() {
    block_on(async {
        let living = Living::default();
        let group = TaskGroup::<&str>::new();
        group.spawn(living.forever());
        group.spawn(async { panic!("as planned") });
        match group.join().await {
            Err(GroupError::Panicked(error)) => assert_eq!(error.panic_message(), Some("as planned")),
            other => panic!("{other:?}"),
        }
        assert_eq!(living.count(), 0);
    });
}

#[test]
fn a_panic_in_the_drop_of_a_finished_future_is_seen() {
    struct Bomb(Arc<AtomicUsize>);
    impl Drop for Bomb {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
            panic!("in the drop");
        }
    }
    block_on(async {
        let drops = Arc::new(AtomicUsize::new(0));
        let group = TaskGroup::<()>::new();
        let bomb = Bomb(Arc::clone(&drops));
        group.spawn(async move {
            let _bomb = bomb;
            Ok(())
        });
        assert!(matches!(group.join().await, Err(GroupError::Panicked(_))));
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn of_several_failures_one_is_returned() {
    for round in 0..if cfg!(miri) { 8 } else { 100 } {
        block_on(async {
            let group = TaskGroup::<u32>::new();
            for number in 0..4 {
                group.spawn(async move {
                    match number {
                        3 => panic!("as planned"),
                        _ => Err(number),
                    }
                });
            }
            match group.join().await {
                Err(GroupError::Failed(number)) => assert!(number < 3, "round {round}"),
                Err(GroupError::Panicked(error)) => assert!(error.is_panic()),
                other => panic!("{other:?}"),
            }
        });
    }
}

#[test]
fn a_child_aborted_by_hand_is_no_error() {
    block_on(async {
        let group = TaskGroup::<(), u32>::new();
        let child = group.spawn(pending());
        group.spawn(pending()).abort_with("I said so");
        group.spawn(async { Ok(1) });
        assert_eq!(output(group.next().await), Some(1));
        child.abort();
        assert_eq!(output(group.next().await), None);
        group.spawn(async { Ok(2) });
        assert_eq!(group.join().await.unwrap(), [2]);
    });
}

#[test]
fn abort_all_is_no_error() {
    block_on(async {
        let living = Living::default();
        let group = TaskGroup::<(), u32>::new();
        (0..10).for_each(|_| _ = group.spawn(living.forever()));
        group.abort_all();
        group.spawn(async { Ok(1) });
        assert_eq!(output(group.next().await), Some(1));
        assert!(group.join().await.unwrap().is_empty());
        assert_eq!(living.count(), 0);
    });
}

#[test]
fn a_child_may_abort_its_own_group() {
    block_on(async {
        let group = Arc::new(TaskGroup::<(), u32>::new());
        let (go, child) = gated(());
        group.spawn({
            let own = Arc::downgrade(&group);
            async move {
                child.await;
                if let Some(group) = own.upgrade() {
                    group.abort_all();
                }
                pending().await
            }
        });
        go.send(()).unwrap();
        assert_eq!(output(group.next().await), None);
    });
}

#[test]
fn what_is_spawned_after_a_failure_is_never_polled() {
    block_on(async {
        let living = Living::default();
        let group = TaskGroup::<&str>::new();
        let failing = group.spawn(async { Err("as planned") });
        while !failing.is_finished() {
            crate::yield_now().await;
        }
        for _ in 0..MANY / 100 {
            let held = living.clone();
            group.spawn(async move {
                let _held = held;
                panic!("polled")
            });
        }
        assert!(matches!(group.join().await, Err(GroupError::Failed("as planned"))));
        assert_eq!(living.count(), 0);
    });
}

#[test]
fn what_is_spawned_after_the_end_is_never_polled() {
    block_on(async {
        let group = TaskGroup::<Infallible, u32>::new();
        let handle = group.handle();
        group.spawn(async { Ok(1) });
        assert_eq!(group.join().await.unwrap(), [1]);
        let (held, dropped) = oneshot::channel::<Infallible>();
        handle.spawn(async move {
            let _held = held;
            panic!("polled")
        });
        assert!(dropped.await.is_err());
    });
}

#[test]
fn siblings_spawned_by_children_are_joined() {
    fn tree(group: &GroupHandle<Infallible, u32>, depth: u32) {
        let siblings = group.clone();
        group.spawn(async move {
            if depth > 0 {
                tree(&siblings, depth - 1);
                tree(&siblings, depth - 1);
            }
            Ok(1)
        });
    }
    block_on(async {
        let group = TaskGroup::new();
        let depth = if cfg!(miri) { 4 } else { 9 };
        tree(&group.handle(), depth);
        assert_eq!(group.join().await.unwrap().len(), (1 << (depth + 1)) - 1);
    });
}

#[test]
fn spawning_from_many_threads_while_it_is_joined() {
    let group = TaskGroup::<Infallible, u32>::new();
    let (go, child) = gated(Ok(1));
    group.spawn(child);
    let barrier = Barrier::new(3);
    let results = std::thread::scope(|threads| {
        let spawners: Vec<_> = (0..2)
            .map(|_| {
                let (handle, barrier) = (group.handle(), &barrier);
                threads.spawn(move || {
                    barrier.wait();
                    (0..MANY / 10).for_each(|_| _ = handle.spawn(async { Ok(1) }));
                })
            })
            .collect();
        barrier.wait();
        let join = threads.spawn(|| block_on(group.join()));
        spawners.into_iter().for_each(|spawner| spawner.join().unwrap());
        go.send(()).unwrap();
        join.join().unwrap()
    });
    assert_eq!(results.unwrap().len(), 2 * (MANY / 10) + 1);
}

#[test]
fn a_spawn_that_panics_leaves_no_slot_behind() {
    context_var! { static FRAGILE: u32, inherit = Derive(|_| panic!("as planned")); }
    block_on(async {
        let group = TaskGroup::<(), u32>::new();
        let scope = async {
            FRAGILE.set(1);
            catch_unwind(AssertUnwindSafe(|| group.spawn(async { Ok(1) }))).map(|_| ()).unwrap_err();
        };
        scope.isolated().await;
        assert!(group.is_empty());
        group.spawn(async { Ok(2) });
        assert_eq!(group.join().await.unwrap(), [2]);
    });
}

#[test]
fn the_bodys_error_cancels_the_children() {
    block_on(async {
        let living = Living::default();
        let outcome = TaskGroup::<_>::scope(async |group| {
            group.spawn(living.forever());
            Err::<(), _>("changed my mind")
        })
        .await;
        assert!(matches!(outcome, Err(GroupError::Failed("changed my mind"))));
        assert_eq!(living.count(), 0);
    });
}

#[test]
fn a_childs_error_drops_the_body_at_its_await() {
    block_on(async {
        let living = Living::default();
        let outcome = TaskGroup::<_>::scope(async |group| {
            let (go, child) = gated(Err("as planned"));
            group.spawn(child);
            group.spawn(living.forever());
            go.send(()).unwrap();
            living.forever::<(), _>().await
        })
        .await;
        assert!(matches!(outcome, Err(GroupError::Failed("as planned"))));
        assert_eq!(living.count(), 0);
    });
}

#[test]
fn a_failure_after_the_body_has_returned_counts() {
    block_on(async {
        let (go, child) = gated(Err("as planned"));
        let mut scope = pin!(TaskGroup::<_>::scope(async |group| {
            group.spawn(child);
            Ok(7)
        }));
        assert!(poll_immediate(scope.as_mut()).await.is_none());
        go.send(()).unwrap();
        assert!(matches!(scope.await, Err(GroupError::Failed("as planned"))));
    });
}

#[test]
fn the_children_are_joined_before_a_bodys_panic_goes_on() {
    block_on(async {
        let living = Living::default();
        let scope = TaskGroup::<()>::scope(async |group| {
            (0..10).for_each(|_| _ = group.spawn(living.forever()));
            if !group.is_empty() {
                panic!("as planned");
            }
            Ok(())
        });
        let panic = AssertUnwindSafe(scope).catch_unwind().await.map(|_| ()).unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&"as planned"));
        assert_eq!(living.count(), 0);
    });
}

#[test]
fn a_scope_waits_for_children_whose_results_are_not_taken() {
    block_on(async {
        let ended = AtomicUsize::new(0);
        let ended = Arc::new(ended);
        let counter = Arc::clone(&ended);
        TaskGroup::<(), u32>::scope(async move |group| {
            for _ in 0..100 {
                let ended = Arc::clone(&counter);
                group.spawn(async move {
                    ended.fetch_add(1, Ordering::Relaxed);
                    Ok(1)
                });
            }
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(ended.load(Ordering::Relaxed), 100);
    });
}

#[test]
fn a_dropped_group_cancels_its_children() {
    block_on(async {
        let leave = |group: TaskGroup<(), u32>| drop(group);
        let leave_join = |group: TaskGroup<(), u32>| drop(group.join().now_or_never());
        for leave in [&leave as &dyn Fn(_), &leave_join] {
            let group = TaskGroup::new();
            let (dropped, child) = endless();
            group.spawn(child);
            leave(group);
            assert!(dropped.await.is_err());
        }
        let (dropped, child) = endless();
        let scope = TaskGroup::<(), ()>::scope(async |group| {
            group.spawn(child);
            Ok(())
        });
        assert!(scope.now_or_never().is_none());
        assert!(dropped.await.is_err());
    });
}

#[test]
fn children_inherit_at_the_spawn_call_and_the_body_shares() {
    context_var! { static TENANT: u32; }
    block_on(async {
        let outcome = TaskGroup::<Infallible, _>::scope(async |group| {
            TENANT.set(1);
            group.spawn(async {
                let inherited = TENANT.get();
                TENANT.set(99);
                Ok(inherited)
            });
            TENANT.set(2);
            Ok(group.next().await.unwrap())
        });
        assert_eq!(outcome.await.unwrap(), Some(1));
        assert_eq!(TENANT.get(), Some(2));
    });
}

#[test]
fn children_and_body_have_the_scopes_deadline() {
    block_on(async {
        let scope = TaskGroup::<Infallible, _>::scope(async |group| {
            group.spawn(async { Ok(deadline()) });
            Ok((group.next().await.unwrap(), deadline()))
        });
        let (child, body) = wait_for(scope, Duration::from_secs(3600)).await.unwrap().unwrap();
        assert!(child.is_some());
        assert_eq!(child, body);
    });
}

#[test]
fn a_child_cancelled_by_its_runtime_is_a_failure() {
    let living = Living::default();
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let group = TaskGroup::<()>::new();
    runtime.block_on(async { _ = group.spawn(living.forever()) });
    runtime.shutdown(Duration::ZERO);
    let outcome = block_on(group.join());
    assert!(matches!(outcome, Err(GroupError::Cancelled(CancelReason::Shutdown))), "{outcome:?}");
    assert_eq!(living.count(), 0);
}

#[test]
fn several_may_wait_for_results() {
    block_on(async {
        let group = TaskGroup::<Infallible, u32>::new();
        let (one_go, one) = gated(Ok(1));
        let (other_go, other) = gated(Ok(2));
        group.spawn(one);
        group.spawn(other);
        // Each branch has a waker of its own here, so that a wake-up for the other would be lost.
        let waits = [0, 1, 2].map(|_| group.next().map(output));
        let open = async {
            one_go.send(()).unwrap();
            other_go.send(()).unwrap();
            None
        };
        let branches = waits.map(FutureExt::left_future).into_iter().chain([open.right_future()]);
        let mut results = heirloom_context::future::join_all(branches).await;
        results.sort();
        assert_eq!(results, [None, None, Some(1), Some(2)]);
    });
}

#[test]
fn a_dropped_wait_takes_no_result() {
    block_on(async {
        let group = TaskGroup::<Infallible, u32>::new();
        let (go, child) = gated(Ok(1));
        group.spawn(child);
        let mut wait = Box::pin(group.next());
        assert!(poll_immediate(wait.as_mut()).await.is_none());
        go.send(()).unwrap();
        drop(wait);
        assert_eq!(output(group.next().await), Some(1));
    });
}

#[test]
fn a_stream_goes_on_when_there_are_children_again() {
    block_on(async {
        let group = TaskGroup::<Infallible, u32>::new();
        let mut results = group.results();
        assert_eq!(output(results.next().await), None);
        group.spawn(async { Ok(1) });
        assert_eq!(output(results.next().await), Some(1));
        assert_eq!(output(results.next().await), None);
    });
}

#[test]
fn a_scope_in_a_branch_is_woken_for_its_body_and_its_children() {
    block_on(async {
        let (go, gate) = oneshot::channel::<u32>();
        let scope = TaskGroup::<(), u32>::scope(async |group| {
            let (sender, receiver) = oneshot::channel();
            group.spawn(async move {
                sender.send(1).unwrap();
                Ok(2)
            });
            Ok(gate.await.unwrap() + receiver.await.unwrap() + group.next().await.unwrap())
        });
        let (sum, ()) = heirloom_context::future::join(scope, async { go.send(39).unwrap() }).await;
        assert_eq!(sum.unwrap(), 42);
    });
}

#[test]
fn ten_thousand_children_cost_a_few_polls_each() {
    const CHILDREN: usize = MANY;
    HANDLE_POLLS.set(0);
    block_on(async {
        let group = TaskGroup::<Infallible, usize>::new();
        // All of them wait at once, then all of them end.
        let gates: Vec<_> = (0..CHILDREN)
            .map(|number| {
                let (go, child) = gated(Ok(number));
                group.spawn(child);
                go
            })
            .collect();
        let mut results = group.results();
        assert!(poll_fn(|cx| Poll::Ready(results.poll_next_unpin(cx).is_pending())).await);
        gates.into_iter().for_each(|go| go.send(()).unwrap());
        assert_eq!(results.count().await, CHILDREN);
    });
    // One to register, one for the output, and one more for each time that the budget ran out.
    let polls = HANDLE_POLLS.get();
    assert!(polls < 3 * CHILDREN, "{polls} polls");
}

#[test]
fn ten_thousand_children_are_cancelled_by_one() {
    HANDLE_POLLS.set(0);
    block_on(async {
        let living = Living::default();
        let outcome = TaskGroup::<_>::scope(async |group| {
            (0..MANY).for_each(|_| _ = group.spawn(living.forever()));
            group.spawn(async { Err("as planned") });
            pending::<Result<(), _>>().await
        });
        assert!(matches!(outcome.await, Err(GroupError::Failed("as planned"))));
        assert_eq!(living.count(), 0);
    });
    let polls = HANDLE_POLLS.get();
    assert!(polls < 3 * MANY, "{polls} polls");
}

#[test]
fn a_group_error_shows_as_what_it_holds() {
    let text = |error: GroupError<&str>| error.to_string();
    assert_eq!(text(GroupError::Failed("no such host")), "no such host");
    let cancelled = text(GroupError::Cancelled(CancelReason::from("by the runtime")));
    assert_eq!(cancelled, "a task of the group was cancelled: by the runtime");
    let io = std::io::Error::other(std::fmt::Error);
    assert!(GroupError::Failed(io).source().is_none());
}
