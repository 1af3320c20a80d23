//! A thousand requests at once, each with an identity and a security token that must never show up
//! elsewhere.

use std::sync::Arc;
use std::time::Duration;

use heirloom::context::ContextFutureExt;
use heirloom::{Context, TaskGroup, context_var, sleep, spawn, spawn_blocking, wait_for, yield_now};
use heirloom_tests::{Countdown, Ledger, Log, in_a_worker, run, scaled};

context_var! {
    static REQUEST: Arc<Request>;
    static TOKEN: heirloom_tests::Counted;
    static STEPS: u32 = 0;
}

#[derive(Debug)]
struct Request {
    id: u64,
    user: String,
}

/// What a function four calls deep finds out about who is being served.
async fn audit(log: &Log<(u64, u64, String)>) {
    async fn layer(log: &Log<(u64, u64, String)>) {
        yield_now().await;
        entry(log);
    }
    fn entry(log: &Log<(u64, u64, String)>) {
        let (id, user) = REQUEST.with(|request| {
            let request = request.expect("a request is being served");
            (request.id, request.user.clone())
        });
        let token = TOKEN.with(|token| token.expect("with its token").id());
        log.push((id, token, user));
    }
    layer(log).await;
}

/// Every way of going on that the crate offers, each with an entry in the log.
async fn serve(log: Log<(u64, u64, String)>) {
    audit(&log).await;
    let child = log.clone();
    spawn(async move { audit(&child).await }).await.unwrap();
    let child = log.clone();
    spawn_blocking(move || {
        let (id, user) =
            REQUEST.with(|request| request.map(|request| (request.id, request.user.clone()))).unwrap();
        child.push((id, TOKEN.with(|token| token.unwrap().id()), user));
    })
    .await
    .unwrap();
    let id = REQUEST.with(|request| request.unwrap().id);
    sleep(Duration::from_micros(id % 5_000)).await;
    wait_for(audit(&log), Duration::from_secs(3_600)).await.unwrap();
    let group = TaskGroup::<()>::new();
    for _ in 0..2 {
        let child = log.clone();
        group.spawn(async move {
            audit(&child).await;
            Ok(())
        });
    }
    group.join().await.unwrap();
    async { audit(&log).await }.isolated().await;
    STEPS.set(STEPS.get() + 1);
}

const ENTRIES: usize = 7;

fn check(log: &Log<(u64, u64, String)>, requests: u64) {
    let mut entries = log.take();
    entries.sort();
    assert_eq!(entries.len(), requests as usize * ENTRIES);
    for (number, (id, token, user)) in entries.into_iter().enumerate() {
        assert_eq!(id, (number / ENTRIES) as u64);
        assert_eq!((token, user), (id + 1_000_000, format!("user {id}")));
    }
}

#[test]
fn a_thousand_interleaved_requests_keep_their_identities_and_tokens_apart() {
    const REQUESTS: u64 = scaled(1_000) as u64;
    let ledger = Ledger::new();
    let tokens = ledger.clone();
    in_a_worker(4, async move {
        let log = Log::new();
        let all_there = Countdown::new(REQUESTS as usize);
        let tasks: Vec<_> = (0..REQUESTS)
            .map(|id| {
                let (log, all_there, token) =
                    (log.clone(), all_there.clone(), tokens.counted(id + 1_000_000));
                spawn(async move {
                    REQUEST.set(Arc::new(Request { id, user: format!("user {id}") }));
                    TOKEN.set(token);
                    // All of them are under way before the first goes on.
                    all_there.arrive();
                    all_there.done().await;
                    serve(log).await;
                    assert_eq!(STEPS.get(), 1);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert!(Context::current().is_empty(), "nothing came back to the acceptor");
        check(&log, REQUESTS);
    });
    assert_eq!((ledger.alive(), ledger.made()), (0, REQUESTS as usize), "no token was copied, none is left");
}

#[test]
fn a_request_that_is_cancelled_leaves_nothing_behind() {
    let ledger = Ledger::new();
    let tokens = ledger.clone();
    in_a_worker(3, async move {
        let log = Log::new();
        let tasks: Vec<_> = (0..scaled(300) as u64)
            .map(|id| {
                let context = Context::empty()
                    .with_var(&REQUEST, Arc::new(Request { id, user: format!("user {id}") }))
                    .with_var(&TOKEN, tokens.counted(id));
                heirloom::spawn_in(context, serve(log.clone()))
            })
            .collect();
        for (number, task) in tasks.into_iter().enumerate() {
            match number % 3 {
                0 => drop(task),
                1 => {
                    task.abort();
                    let _ = task.await;
                }
                _ => task.await.unwrap(),
            }
        }
        for (id, token, user) in log.take() {
            assert_eq!((token, user), (id, format!("user {id}")));
        }
    });
    assert_eq!(ledger.alive(), 0);
}

#[test]
fn requests_that_share_one_task_keep_apart_when_isolated() {
    const REQUESTS: u64 = scaled(50) as u64;
    run(1, || async {
        let log = Log::new();
        let served = (0..REQUESTS).map(|id| {
            let log = log.clone();
            async move {
                REQUEST.set(Arc::new(Request { id, user: format!("user {id}") }));
                TOKEN.set(Ledger::new().counted(id + 1_000_000));
                serve(log).await;
            }
            .isolated()
        });
        futures::future::join_all(served).await;
        assert!(!REQUEST.is_set() && !TOKEN.is_set());
        check(&log, REQUESTS);
    });
}
