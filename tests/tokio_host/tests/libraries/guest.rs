//! A tokio runtime that carries contexts, as a guest of the executor: spawns inherit both ways.

use std::sync::OnceLock;

use heirloom::tokio::TokioGuest;
use heirloom::{spawn, wait_for};
use tokio_util::task::TaskTracker;

use super::*;

/// Runs `test` in a task of the default runtime, whose guest carries contexts.
fn with_a_carrying_guest<F>(test: F)
where
    F: Future<Output = ()> + Send + 'static,
{
    static STARTED: OnceLock<()> = OnceLock::new();
    STARTED.get_or_init(|| {
        let guest = TokioGuest::configured(|builder| _ = carry(builder));
        heirloom::Runtime::builder().workers(2).tokio(guest).build_default().unwrap();
    });
    heirloom::block_on(spawn(wait_for(test, Duration::from_secs(3_600)))).unwrap().unwrap();
}

/// The request and the deadline, as this executor tells them.
fn seen() -> (Option<u64>, Option<Instant>) {
    assert_eq!(heirloom::deadline(), deadline());
    (REQUEST.get(), deadline())
}

#[test]
fn a_spawn_on_tokio_inherits_from_a_task_and_a_spawn_there_inherits_back() {
    with_a_carrying_guest(async {
        REQUEST.set(7);
        let end = heirloom::deadline();
        assert!(end.is_some());
        let there = tokio::spawn(async {
            tokio::task::yield_now().await;
            let there = seen();
            REQUEST.set(8);
            let back = spawn(async {
                heirloom::yield_now().await;
                let back = seen();
                REQUEST.set(9);
                let there_again = tokio::spawn(async { seen() }).await.unwrap();
                tokio::time::sleep(Duration::from_millis(1)).await;
                [back, there_again, seen()]
            });
            (there, back.await.unwrap(), seen())
        });
        let (there, back, afterwards) = there.await.unwrap();
        assert_eq!(there, (Some(7), end));
        assert_eq!(back, [8, 9, 9].map(|request| (Some(request), end)));
        assert_eq!(afterwards, (Some(8), end));
        assert_eq!(seen(), (Some(7), end));
    });
}

#[test]
fn a_spawn_inside_a_library_inherits_from_the_task_that_calls_it() {
    with_a_carrying_guest(async {
        let end = heirloom::deadline();
        let mut tasks = Vec::new();
        for request in 0..100 {
            tasks.push(spawn(async move {
                REQUEST.set(request);
                let tracker = TaskTracker::new();
                let child = tracker.spawn(async {
                    tokio::task::yield_now().await;
                    seen()
                });
                assert_eq!(child.await.unwrap(), (Some(request), end));
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
fn reqwest_in_tasks_of_this_executor_and_a_hyper_server_on_the_guest() {
    with_a_carrying_guest(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = SERVER.scope("guest", || tokio::spawn(serve(listener)));
        let (client, end) = (reqwest::Client::new(), heirloom::deadline());
        let mut requests = Vec::new();
        for number in 0..100 {
            REQUEST.set(1_000 + number);
            let client = client.clone();
            requests.push(spawn(async move {
                let response = client.get(format!("http://{address}/{number}")).send().await.unwrap();
                let text = response.text().await.unwrap();
                assert_eq!(seen(), (Some(1_000 + number), end));
                assert_eq!(text, format!("None Some({number}) Some(\"guest\")"));
            }));
        }
        for request in requests {
            request.await.unwrap();
        }
        server.abort();
    });
}
