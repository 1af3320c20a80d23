//! Contexts through `tokio::spawn` inside of libraries that know nothing of contexts.
#![cfg(tokio_unstable)]

mod grpc;
mod guest;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use heirloom_context::raw::{self, Execution};
use heirloom_context::tokio::{Carry, carry};
use heirloom_context::{Context, context_var};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tower::ServiceExt;

context_var! {
    static REQUEST: u64;
    static SERVER: &'static str;
}

fn workers() -> (Runtime, Carry) {
    let mut builder = Builder::new_multi_thread();
    let carry = carry(builder.worker_threads(2).enable_all());
    (builder.build().unwrap(), carry)
}

/// A server that answers with the context it sees, after a child has looked too: the number that
/// the path names, and what was bound around the connection.
async fn serve(listener: TcpListener) {
    async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let before = REQUEST.get();
        REQUEST.set(request.uri().path()[1..].parse().unwrap());
        tokio::task::yield_now().await;
        let (request, server) = tokio::spawn(async { (REQUEST.get(), SERVER.get()) }).await.unwrap();
        REQUEST.unset();
        Ok(Response::new(Full::from(format!("{before:?} {request:?} {server:?}"))))
    }

    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(async {
            let server = auto::Builder::new(TokioExecutor::new());
            let connection = server.serve_connection(TokioIo::new(stream), service_fn(answer));
            // The client may have gone.
            let _ = connection.await;
        });
    }
}

fn deadline() -> Option<Instant> {
    raw::execution().deadline()
}

/// A limit that is there to be seen and not to be met.
fn in_an_hour() -> Instant {
    Instant::now() + Duration::from_secs(3_600)
}

/// Runs the function with a deadline, and gives the one there was back.
fn until<R>(deadline: Instant, f: impl FnOnce() -> R) -> R {
    let outer = raw::set_execution(Execution::NONE.with_deadline(Some(deadline)));
    let returned = f();
    raw::set_execution(outer);
    returned
}

async fn two_hundred_requests(address: SocketAddr, client: reqwest::Client) -> Vec<String> {
    let mut clients = JoinSet::new();
    for number in 0..200_u64 {
        REQUEST.set(1_000 + number);
        let client = client.clone();
        let end = in_an_hour();
        let request = async move {
            let response = client.get(format!("http://{address}/{number}")).send().await.unwrap();
            let text = response.text().await.unwrap();
            assert_eq!((REQUEST.get(), deadline()), (Some(1_000 + number), Some(end)));
            (number, text)
        };
        until(end, || clients.spawn(request));
    }
    let mut answers = clients.join_all().await;
    answers.sort();
    answers.into_iter().map(|(_, text)| text).collect()
}

#[test]
fn two_hundred_requests_through_reqwest_and_a_hyper_server_and_none_is_wrong() {
    let (runtime, carry) = workers();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        SERVER.scope("one", || tokio::spawn(serve(listener)));
        let answers = two_hundred_requests(address, reqwest::Client::new()).await;
        for (number, answer) in answers.iter().enumerate() {
            // In HTTP/1 a request is answered in its connection's task, which the server has
            // spawned.
            assert_eq!(*answer, format!("None Some({number}) Some(\"one\")"));
        }
    });
    drop(runtime);
    assert_eq!(carry.tasks(), 0);
}

#[test]
fn streams_of_http_2_are_spawned_by_hyper_util_and_start_from_the_root_unless_the_list_says_otherwise() {
    for (inherits, seen) in [(false, "None"), (true, "Some(\"two\")")] {
        let (runtime, carry) = workers();
        if inherits {
            carry.detached(["reqwest"]);
        }
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            SERVER.scope("two", || tokio::spawn(serve(listener)));
            let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
            REQUEST.unset();
            // The client's pool is of the same crate: it must not inherit a request then.
            let answers =
                Context::empty().run(|| tokio::spawn(two_hundred_requests(address, client))).await.unwrap();
            for (number, answer) in answers.iter().enumerate() {
                assert_eq!(*answer, format!("None Some({number}) {seen}"));
            }
        });
        drop(runtime);
        assert_eq!(carry.tasks(), 0);
    }
}

/// What holds a value says whose context has not ended.
#[test]
fn a_connection_in_reqwests_pool_holds_nothing_of_the_request_that_opened_it() {
    context_var! { static HELD: Arc<()>; }

    for (list, holders) in [(None, 1), (Some([""; 0]), 2)] {
        let (runtime, carry) = workers();
        if let Some(list) = list {
            carry.detached(list);
        }
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            tokio::spawn(serve(listener));
            let (client, held) = (reqwest::Client::new(), Arc::new(()));
            let (caller, value) = (client.clone(), Arc::clone(&held));
            let request = tokio::spawn(async move {
                HELD.set(value);
                let response = caller.get(format!("http://{address}/1")).send().await.unwrap();
                response.text().await.unwrap();
            });
            request.await.unwrap();
            let limit = Instant::now() + Duration::from_secs(20);
            while Arc::strong_count(&held) > 1 && Instant::now() < limit && holders == 1 {
                tokio::task::yield_now().await;
            }
            assert_eq!(Arc::strong_count(&held).min(2), holders);
            drop(client);
        });
    }
}

#[test]
fn the_worker_of_towers_buffer_starts_from_the_root() {
    let (runtime, _carry) = workers();
    runtime.block_on(async {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let inner = {
            let seen = Arc::clone(&seen);
            tower::service_fn(move |()| {
                seen.lock().unwrap().push((REQUEST.get(), deadline()));
                async { Ok::<_, Infallible>(REQUEST.get()) }
            })
        };
        REQUEST.set(1);
        let buffer = until(in_an_hour(), || tower::buffer::Buffer::new(inner, 4));
        // `call` runs in the worker; the future that it returns, in the caller.
        assert_eq!(buffer.oneshot(()).await.unwrap(), Some(1));
        assert_eq!(*seen.lock().unwrap(), [(None, None)]);
    });
}
