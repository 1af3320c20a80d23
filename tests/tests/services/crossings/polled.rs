//! Futures that one task polls for several, or several tasks for one.
//!
//! The kind: a future sees the context and the deadline of the code that polls it, not those of the
//! code that has made it; and what it sets stays with its poller.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::executor::LocalPool;
use futures::future::{BoxFuture, Either, join_all, select};
use futures::stream::{self, FuturesOrdered, FuturesUnordered};
use futures::task::LocalSpawnExt;
use futures::{FutureExt, StreamExt, join, pin_mut, select_biased};
use heirloom::context::ContextFutureExt;
use heirloom::{Context, context_var, deadline, spawn, wait_for, yield_now};
use heirloom_tests::{Gate, Log, in_a_worker, poll_once, run};

const LONG: Duration = Duration::from_secs(3_600);

context_var! { static TENANT: u32; }

type Seen = (Option<u32>, Option<Instant>);

fn seen() -> Seen {
    (TENANT.get(), deadline())
}

type Branch = BoxFuture<'static, Seen>;

/// Two branches. Each sets its tenant, and looks after the other one has done so too.
fn branches(isolated: bool) -> [Branch; 2] {
    [1, 2].map(|tenant| {
        let branch = async move {
            TENANT.set(tenant);
            yield_now().await;
            seen()
        };
        if isolated { branch.isolated().boxed() } else { branch.boxed() }
    })
}

/// Has two branches run by `combine`: they share the context of the task that awaits, unless they
/// are isolated; and have its deadline.
fn share<C>(combine: C)
where
    C: AsyncFn([Branch; 2]) -> Vec<Seen> + Send + 'static,
{
    run(1, move || async move {
        for (isolated, branch, after) in [(false, [2, 2], 2), (true, [1, 2], 7)] {
            TENANT.set(7);
            let combined = async { (deadline(), combine(branches(isolated)).await) };
            let (until, seen) = wait_for(combined, LONG).await.unwrap();
            assert!(until.is_some());
            let expected = branch.map(|tenant| (Some(tenant), until));
            assert!(!seen.is_empty() && expected.starts_with(&seen), "isolated: {isolated}, {seen:?}");
            assert_eq!(TENANT.get(), Some(after), "isolated: {isolated}");
        }
    });
}

#[test]
fn join_all_shares() {
    share(async |branches| join_all(branches).await);
    share(async |[one, two]: [Branch; 2]| <[Seen; 2]>::from(join!(one, two)).into());
}

#[test]
fn select_shares() {
    share(async |[one, two]: [Branch; 2]| {
        let (one, two) = (one.fuse(), two.fuse());
        pin_mut!(one, two);
        select_biased! {
            seen = one => vec![seen],
            _ = two => unreachable!("the first one is polled first"),
        }
    });
    share(async |[one, two]: [Branch; 2]| match select(one, two).await {
        Either::Left((seen, _)) | Either::Right((seen, _)) => vec![seen],
    });
}

#[test]
fn futures_unordered_shares() {
    share(async |branches: [Branch; 2]| {
        let mut seen: Vec<_> = branches.into_iter().collect::<FuturesUnordered<_>>().collect().await;
        seen.sort();
        seen
    });
    share(async |branches: [Branch; 2]| branches.into_iter().collect::<FuturesOrdered<_>>().collect().await);
}

#[test]
fn buffered_shares() {
    share(async |branches| stream::iter(branches).buffered(2).collect().await);
    share(async |branches| stream::iter(branches).buffer_unordered(2).collect().await);
}

#[test]
fn a_local_set_of_tokio_shares() {
    share(async |branches: [Branch; 2]| {
        let set = tokio::task::LocalSet::new();
        let tasks = async { join_all(branches.map(tokio::task::spawn_local)).await };
        set.run_until(tasks).await.into_iter().map(Result::unwrap).collect()
    });
}

#[test]
fn a_local_pool_shares() {
    share(async |branches: [Branch; 2]| {
        let mut pool = LocalPool::new();
        let spawner = pool.spawner();
        let tasks = branches.map(|branch| spawner.spawn_local_with_handle(branch).unwrap());
        pool.run_until(join_all(tasks))
    });
}

/// A future that looks, waits for the gate, and looks again.
async fn look_twice(log: Log<Seen>, begun: Gate, goes_on: Gate) {
    log.push(seen());
    begun.open();
    goes_on.opened().await;
    log.push(seen());
}

/// Makes a future by tenant 1 and hands it to two tasks: one of tenant 2 begins it and is aborted,
/// one of tenant 3 with a deadline ends it. Returns what the future has seen in turn, and the
/// deadline.
fn polled_by_two<S>(
    share: impl FnOnce(BoxFuture<'static, ()>) -> S + Send + 'static,
) -> (Vec<Seen>, Option<Instant>)
where
    S: Future<Output = ()> + Clone + Send + 'static,
{
    in_a_worker(1, async move {
        let (log, begun, goes_on) = (Log::new(), Gate::new(), Gate::new());
        let looks = look_twice(log.clone(), begun.clone(), goes_on.clone()).boxed();
        let shared = TENANT.scope(1, || share(looks));
        let first = spawn(shared.clone().with_var(&TENANT, 2));
        begun.opened().await;
        first.abort();
        assert!(first.await.is_err());
        goes_on.open();
        let second = async {
            spawn(shared.with_var(&TENANT, 3)).await.unwrap();
            deadline()
        };
        let until = wait_for(second, LONG).await.unwrap();
        (log.take(), until)
    })
}

#[test]
fn a_shared_future_sees_its_poller() {
    let (seen, until) = polled_by_two(|looks| looks.shared());
    assert!(until.is_some());
    assert_eq!(seen, [(Some(2), None), (Some(3), until)]);
    // The context of the task that has made it; the deadline is that of the poll all the same.
    let (seen, until) = polled_by_two(|looks| looks.in_context(Context::inherited()).boxed().shared());
    assert_eq!(seen, [(Some(1), None), (Some(1), until)]);
    // A task of its own has both.
    let (seen, _) = polled_by_two(|looks| spawn(looks).map(Result::unwrap).boxed().shared());
    assert_eq!(seen, [(Some(1), None), (Some(1), None)]);
}

#[test]
fn a_once_cell_sees_its_caller() {
    in_a_worker(1, async {
        let (log, begun, goes_on) = (Log::new(), Gate::new(), Gate::new());
        let cell = Arc::new(async_lock::OnceCell::new());
        let fill = || {
            let (cell, log, begun, goes_on) = (cell.clone(), log.clone(), begun.clone(), goes_on.clone());
            async move {
                cell.get_or_init(|| look_twice(log, begun, goes_on)).await;
                deadline()
            }
        };
        let first = spawn(fill().with_var(&TENANT, 2));
        begun.opened().await;
        let mut second = Box::pin(wait_for(fill().with_var(&TENANT, 3), LONG));
        assert!(poll_once(&mut second).is_pending(), "the first one is filling it");
        first.abort();
        assert!(first.await.is_err());
        goes_on.open();
        let until = second.await.unwrap();
        assert!(until.is_some());
        assert_eq!(log.take(), [(Some(2), None), (Some(3), until), (Some(3), until)]);
    });
}
