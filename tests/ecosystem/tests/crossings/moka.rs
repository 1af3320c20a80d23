//! moka's cache: who fills it, who gets a failure, who runs its listeners.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use heirloom::context::ContextFutureExt;
use heirloom::{Context, context_var, sleep, spawn, wait_for, yield_now};
use heirloom_ecosystem::{LONG, SOON, Seen, TENANT, seen};
use moka::future::Cache;

/// Polls once, and expects that it is not ready: a caller that waits for the value of another one.
async fn waits<F: Future + Unpin>(caller: &mut F) {
    assert!(caller.now_or_never().is_none());
}

// A limit of the test's own would be a deadline.
#[heirloom::test]
async fn the_next_caller_makes_the_value() {
    let (cache, log) = (Cache::<u32, u32>::new(10), Arc::new(Mutex::new(Vec::new())));
    let make = |log: Arc<Mutex<Vec<Seen>>>| async move {
        log.lock().unwrap().push(seen());
        sleep(SOON).await;
        log.lock().unwrap().push(seen());
        7
    };
    let mut first = Box::pin(cache.get_with(1, make(log.clone())).with_var(&TENANT, 2));
    waits(&mut first).await;
    let mut second = Box::pin(wait_for(cache.get_with(1, make(log.clone())).with_var(&TENANT, 3), LONG));
    waits(&mut second).await;
    drop(first);
    assert_eq!(second.await.unwrap(), 7);
    let [given_up, made] =
        [(2, false), (3, true)].map(|(tenant, deadline)| Seen { tenant: Some(tenant), deadline });
    assert_eq!(*log.lock().unwrap(), [given_up, made, made]);
}

#[heirloom::test(timeout = "60s")]
async fn a_limit_fails_all_that_wait() {
    let cache = Cache::<u32, u32>::new(10);
    let ask = |limit: Duration| {
        let cache = cache.clone();
        async move {
            let make = wait_for(
                async {
                    sleep(Duration::from_millis(200)).await;
                    7
                },
                limit,
            );
            cache.try_get_with(1, make).await.map_err(|error| error.to_string())
        }
    };
    let mut first = Box::pin(ask(SOON));
    waits(&mut first).await;
    let mut second = Box::pin(ask(LONG));
    waits(&mut second).await;
    let error = first.await.unwrap_err();
    assert_eq!(second.await, Err(error), "the second one has an hour");
    // The value is made by the next caller.
    assert_eq!(ask(LONG).await, Ok(7));

    // The limit around the caller, not inside of the future that makes the value: who gives up
    // leaves it to the next one.
    let ask = |limit: Duration| {
        let cache = cache.clone();
        async move {
            let make = async {
                sleep(Duration::from_millis(200)).await;
                Ok::<_, &str>(8)
            };
            wait_for(cache.try_get_with(2, make), limit).await.map(|made| made.unwrap())
        }
    };
    let (first, second) = (spawn(ask(SOON)), spawn(ask(LONG)));
    assert!(first.await.unwrap().is_err());
    assert_eq!(second.await.unwrap().unwrap(), 8);
}

context_var! { static LAST_EVICTED: u32; }

#[heirloom::test(timeout = "60s")]
async fn a_listener_runs_in_any_later_caller() {
    let seen_by_listener = Arc::new(Mutex::new(Vec::new()));
    let isolated = Arc::new(AtomicBool::new(false));
    let cache = {
        let (log, isolated) = (seen_by_listener.clone(), isolated.clone());
        let listener = move |key: Arc<u32>, _value: u32, _cause| {
            let log = log.clone();
            let listen = async move {
                log.lock().unwrap().push((*key, TENANT.get()));
                LAST_EVICTED.set(*key);
                yield_now().await;
            };
            if isolated.load(Relaxed) { listen.in_context(Context::empty()).boxed() } else { listen.boxed() }
        };
        Cache::<u32, u32>::builder().max_capacity(1_000).async_eviction_listener(listener).build()
    };
    for (key, stays, sees) in [(1, Some(1), Some(2)), (2, None, None)] {
        isolated.store(key == 2, Relaxed);
        cache.insert(key, 0).with_var(&TENANT, 1).await;
        let cache = cache.clone();
        let later = async move {
            cache.invalidate(&key).await;
            LAST_EVICTED.get()
        };
        assert_eq!(spawn(later.with_var(&TENANT, 2)).await.unwrap(), stays);
        assert_eq!(*seen_by_listener.lock().unwrap().last().unwrap(), (key, sees));
    }
}
