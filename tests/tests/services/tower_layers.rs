//! The layers for tower services that need a clock or a task: what they limit, in whose context and
//! deadline they call, and that nothing that they reserve is lost.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use futures::future::join_all;
use heirloom::time::{Elapsed, now};
use heirloom::tower::{RateLimitLayer, RetryBudget, RetryPolicy, TimeoutLayer};
use heirloom::{context_var, deadline, remaining, sleep, spawn, wait_for, yield_now};
use heirloom_tests::{Log, OnDrop, poll_once, runtime};
use tower::limit::ConcurrencyLimit;
use tower::load_shed::error::Overloaded;
use tower::retry::RetryLayer;
use tower::retry::budget::Budget;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

context_var! { static USER: u64; }

/// Answers with what the call, the future's first poll and its second poll see.
fn seer()
-> impl Service<(), Response = [(Option<u64>, Option<Instant>); 3], Error = Infallible, Future: Send> + Clone
{
    let see = || (USER.get(), deadline());
    service_fn(move |()| {
        let in_call = see();
        async move {
            let first = see();
            yield_now().await;
            Ok([in_call, first, see()])
        }
    })
}

#[heirloom::test(virtual_time)]
async fn a_timeout_ends_a_call_when_its_time_is_up_and_drops_it() {
    let dropped = Log::new();
    let log = dropped.clone();
    let slow = service_fn(move |time: Duration| {
        let log = log.clone();
        async move {
            let _note = OnDrop::new(move || log.push(now()));
            sleep(time).await;
            Err::<(), _>("failed")
        }
    });
    let service = TimeoutLayer::new(SECOND).layer(slow);
    let begun = now();
    let error = service.clone().oneshot(HOUR).await.unwrap_err();
    assert!(error.is::<Elapsed>());
    assert_eq!(dropped.take(), [begun + SECOND]);
    let error = service.oneshot(SECOND / 2).await.unwrap_err();
    assert_eq!(error.to_string(), "failed", "the inner error, as it is");
}

#[heirloom::test(virtual_time)]
async fn a_timeout_is_the_deadline_of_the_call_within_the_one_around_it() {
    let begun = now();
    USER.set(7);
    for (limit, around, end) in
        [(SECOND, HOUR, Some(SECOND)), (HOUR, SECOND, Some(SECOND)), (Duration::MAX, Duration::MAX, None)]
    {
        let call = async { TimeoutLayer::new(limit).layer(seer()).oneshot(()).await.unwrap() };
        let seen = wait_for(call, around).await.unwrap();
        assert_eq!(seen, [(Some(7), end.map(|end| begun + end)); 3]);
    }
    // Like `wait_for`, a call that is ready at once is in time.
    let ready = service_fn(|()| std::future::ready(Ok::<_, Infallible>(())));
    assert!(TimeoutLayer::new(Duration::ZERO).layer(ready).oneshot(()).await.is_ok());
}

/// Fails the first `failures` calls; notes when, for which user and with which deadline each is.
fn flaky(
    failures: usize,
    tries: &Log<(Instant, Option<u64>, Option<Instant>)>,
) -> impl Service<u8, Response = usize, Error = String, Future: Send> + Clone + use<> {
    let (tries, count) = (tries.clone(), Arc::new(AtomicUsize::new(0)));
    service_fn(move |_| {
        tries.push((now(), USER.get(), deadline()));
        let number = count.fetch_add(1, SeqCst);
        async move {
            yield_now().await;
            if number < failures { Err(format!("failure {number}")) } else { Ok(number) }
        }
    })
}

type Failed = fn(&u8, &Result<usize, String>) -> bool;

fn policy() -> RetryPolicy<Failed> {
    RetryPolicy::new((|_, result| result.is_err()) as Failed).backoff(100 * MILLISECOND, 300 * MILLISECOND)
}

#[heirloom::test(virtual_time)]
async fn retries_come_after_pauses_that_double_less_a_random_part_of_at_most_the_half() {
    let mut firsts = Vec::new();
    for _ in 0..20 {
        let tries = Log::new();
        let service = RetryLayer::new(policy().retries(4)).layer(flaky(4, &tries));
        USER.set(7);
        assert_eq!(service.oneshot(0).await, Ok(4));
        let tries = tries.take();
        let pauses: Vec<_> = tries.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
        for (pause, whole) in pauses.iter().zip([100, 200, 300, 300]) {
            // Timers are rounded up to a millisecond.
            assert!((whole / 2..=whole + 1).contains(&(pause.as_millis() as u32)), "{pauses:?}");
        }
        assert_eq!(pauses.len(), 4);
        assert!(tries.iter().all(|(_, user, end)| (*user, *end) == (Some(7), None)));
        firsts.push(pauses[0]);
    }
    assert!(firsts.iter().any(|pause| *pause != firsts[0]), "random");
}

#[heirloom::test(virtual_time)]
async fn no_retry_begins_after_the_callers_deadline_and_the_last_failure_is_the_answer() {
    let tries = Log::new();
    let service = RetryLayer::new(policy().retries(100)).layer(flaky(100, &tries));
    let (begun, limit) = (now(), 700 * MILLISECOND);
    let answer = wait_for(service.clone().oneshot(0), limit).await;
    let error = answer.expect("in time").unwrap_err();
    let tries = tries.take();
    assert_eq!(error, format!("failure {}", tries.len() - 1));
    assert!(tries.len() >= 3, "there was time for some: {tries:?}");
    assert!(tries.iter().all(|(at, _, end)| *at < begun + limit && *end == Some(begun + limit)));
    assert!(now() < begun + limit, "what is too late is not waited for");
}

#[heirloom::test(virtual_time)]
async fn a_call_is_tried_again_so_often_and_no_more() {
    let tries = Log::new();
    let service = RetryLayer::new(policy()).layer(flaky(100, &tries));
    assert_eq!(service.clone().oneshot(0).await, Err("failure 3".to_string()), "3 by default");
    // The count is of the call, not of the policy.
    assert_eq!(service.oneshot(0).await, Err("failure 7".to_string()));
    let none = RetryLayer::new(policy().retries(0)).layer(flaky(1, &tries));
    assert_eq!(none.oneshot(0).await, Err("failure 0".to_string()));
}

#[heirloom::test(virtual_time)]
async fn a_budget_allows_a_share_of_the_calls_and_some_per_second_and_forgets() {
    let budget = RetryBudget::new(0.5, 1);
    let allowed = || std::iter::repeat_with(|| budget.withdraw()).take_while(|allowed| *allowed).count();
    assert_eq!(allowed(), 10, "one a second, for ten seconds");
    (0..8).for_each(|_| budget.deposit());
    assert_eq!(allowed(), 4);
    sleep(9 * SECOND).await;
    assert_eq!(allowed(), 0);
    sleep(SECOND).await;
    assert_eq!(allowed(), 10, "what was withdrawn is forgotten, and so are the deposits");

    let none = RetryBudget::new(0.0, 0);
    none.deposit();
    assert!(!none.withdraw());
}

#[heirloom::test(virtual_time)]
async fn calls_of_one_policy_share_its_budget() {
    let tries = Log::new();
    let policy = policy().retries(1).budget(RetryBudget::new(0.25, 0));
    let working = RetryLayer::new(policy.clone()).layer(flaky(0, &tries));
    let failing = RetryLayer::new(policy).layer(flaky(100, &tries));
    for _ in 0..8 {
        working.clone().oneshot(0).await.unwrap();
    }
    assert_eq!(tries.take().len(), 8);
    for expected in [2, 2, 1, 1] {
        failing.clone().oneshot(0).await.unwrap_err();
        assert_eq!(tries.take().len(), expected);
    }
}

/// Notes when it is called, and by which user.
fn noting(
    calls: &Log<(Duration, u64)>,
) -> impl Service<(), Response = (), Error = Infallible, Future: Send> + Clone + use<> {
    let (calls, begun) = (calls.clone(), now());
    service_fn(move |()| {
        calls.push((now() - begun, USER.require()));
        std::future::ready(Ok(()))
    })
}

#[heirloom::test(virtual_time)]
async fn a_rate_limit_lets_so_many_calls_through_in_a_period_in_their_order() {
    let calls = Log::new();
    let layer = RateLimitLayer::new(3, SECOND);
    // Two services of one layer share its limit.
    let services = [layer.layer(noting(&calls)), layer.layer(noting(&calls))];
    let calling = (0..10).map(|user| {
        let service = services[user as usize % 2].clone();
        async move {
            USER.set(user);
            service.oneshot(()).await.unwrap();
        }
    });
    heirloom::context::future::join_all(calling).await;
    let seen = calls.take();
    assert_eq!(seen.iter().map(|(_, user)| *user).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    assert_eq!(seen.iter().map(|(at, _)| at.as_secs()).collect::<Vec<_>>(), [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]);

    // The period is no fixed one: it begins with each call.
    USER.set(0);
    sleep(2 * SECOND).await;
    let begun = now();
    for (pause, waits) in [(0, 0), (400, 0), (400, 0), (0, 200), (0, 400)] {
        sleep(pause * MILLISECOND).await;
        let before = now();
        services[0].clone().oneshot(()).await.unwrap();
        assert_eq!(now() - before, waits * MILLISECOND, "{:?}", now() - begun);
    }
}

#[heirloom::test(virtual_time)]
async fn a_permit_that_was_reserved_in_vain_goes_to_the_service_that_waits() {
    let calls = Log::new();
    USER.set(0);
    let mut ready = RateLimitLayer::new(1, HOUR).layer(noting(&calls));
    ready.ready().await.unwrap();
    let waiting: Vec<_> = (0..3).map(|_| spawn(ready.clone().oneshot(()))).collect();
    sleep(SECOND).await;
    assert!(calls.is_empty());
    drop(ready);
    join_all(waiting).await.into_iter().for_each(|call| call.unwrap().unwrap());
    let at: Vec<_> = calls.take().into_iter().map(|(at, _)| at).collect();
    assert_eq!(at, [SECOND, SECOND + HOUR, SECOND + 2 * HOUR], "at once, not an hour later");
}

#[heirloom::test(virtual_time)]
async fn services_that_give_up_waiting_for_a_permit_leave_their_place_to_the_others() {
    let calls = Log::new();
    USER.set(0);
    let begun = now();
    let service = RateLimitLayer::new(1, SECOND).layer(noting(&calls));
    service.clone().oneshot(()).await.unwrap();
    let mut waiting: Vec<_> = (0..100).map(|_| spawn(service.clone().oneshot(()))).collect();
    let last = waiting.pop().unwrap();
    sleep(SECOND / 2).await;
    drop(waiting);
    last.await.unwrap().unwrap();
    assert_eq!(calls.take().len(), 2);
    assert_eq!(now() - begun, SECOND, "in the first permit that comes back");
}

#[test]
fn a_runtime_that_ends_leaves_the_permits_that_it_counts_to_services_on_others() {
    let service = RateLimitLayer::new(1, HOUR).layer(service_fn(async |()| Ok::<_, Infallible>(())));
    let counting = runtime(1);
    counting.block_on(service.clone().oneshot(())).unwrap();
    let other = runtime(1);
    let mut ready = service.clone();
    let mut waiting = Box::pin(async move { ready.ready().await.map(|_| ()) });
    assert!(poll_once(&mut waiting).is_pending());
    drop(counting);
    other.block_on(waiting).unwrap();
}

#[test]
#[should_panic(expected = "`poll_ready` must have been ready before `call`")]
fn a_rate_limit_that_was_not_ready_refuses_a_call() {
    let mut ready = RateLimitLayer::new(1, HOUR).layer(service_fn(async |()| Ok::<_, Infallible>(())));
    heirloom::block_on(async { ready.ready().await.unwrap() });
    drop(ready.clone().call(())); // a clone has no permit
}

#[test]
#[should_panic(expected = "`RateLimitLayer::new` takes 1 or more")]
fn a_rate_of_no_calls_is_refused() {
    drop(RateLimitLayer::new(0, SECOND));
}

/// tower's own: no timer, no task of tokio's.
#[heirloom::test(virtual_time)]
async fn the_concurrency_limit_of_tower_runs_as_it_is() {
    let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counted = {
        let (inside, most) = (Arc::clone(&inside), Arc::clone(&most));
        service_fn(move |user: u64| {
            assert_eq!(USER.get(), Some(user));
            let (inside, most) = (Arc::clone(&inside), Arc::clone(&most));
            async move {
                most.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
                let _note = OnDrop::new(move || {
                    inside.fetch_sub(1, SeqCst);
                });
                sleep(SECOND).await;
                Ok::<_, Infallible>((USER.get(), remaining()))
            }
        })
    };
    let service = ConcurrencyLimit::new(counted, 2);
    let calling = |user: u64| {
        let service = service.clone();
        spawn(async move {
            USER.set(user);
            wait_for(service.oneshot(user), HOUR).await
        })
    };
    let begun = now();
    let mut calls: Vec<_> = (0..10).map(calling).collect();
    sleep(SECOND / 2).await;
    drop(calls.split_off(8)); // two that wait
    drop(calls.remove(0)); // one that runs
    for (user, call) in (1..).zip(calls) {
        let (seen, left) = call.await.unwrap().unwrap().unwrap();
        assert_eq!((seen, left), (Some(user), Some(begun + HOUR - now())));
    }
    assert_eq!((inside.load(SeqCst), most.load(SeqCst)), (0, 2));
    assert_eq!(now() - begun, 4 * SECOND, "seven calls, two at a time");

    let shed = ServiceBuilder::new().load_shed().layer_fn(|inner| ConcurrencyLimit::new(inner, 1));
    let service = shed.service(service_fn(|()| pending::<Result<(), Infallible>>()));
    let mut first = Box::pin(service.clone().oneshot(()));
    assert!(poll_once(&mut first).is_pending());
    assert!(service.oneshot(()).await.unwrap_err().is::<Overloaded>());
}
