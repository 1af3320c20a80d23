//! What needs a runtime of tokio and has none: what its panic says; and async-compat, which enters
//! one for a single future. With a guest: see `guest` and `servers`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use async_compat::CompatExt;
use heirloom::task::JoinError;
use heirloom::{context_var, spawn, wait_for};
use tower::ServiceExt;

context_var! { static TENANT: u32; }

const NO_REACTOR: &str =
    "there is no reactor running, must be called from the context of a Tokio 1.x runtime";

/// A server of two requests, on a thread.
fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nseven")
                .unwrap();
        }
    });
    address
}

async fn get(address: SocketAddr) -> Result<String, reqwest::Error> {
    reqwest::get(format!("http://{address}/")).await?.text().await
}

/// What a task of this executor panics with.
async fn panic_of<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> String {
    match spawn(future).await {
        Ok(_) => panic!("it ran"),
        Err(error) => error.panic_message().expect("a text").to_owned(),
    }
}

#[heirloom::test(timeout = "60s")]
async fn what_needs_tokios_reactor_panics_with_its_sentence() -> Result<(), JoinError> {
    let address = server();
    assert_eq!(panic_of(get(address)).await, NO_REACTOR);
    assert_eq!(panic_of(async { tokio::time::sleep(Duration::ZERO).await }).await, NO_REACTOR);
    assert_eq!(panic_of(async { tokio::spawn(async {}).await }).await, NO_REACTOR);
    let called = || tower::service_fn(async |()| Ok::<_, std::convert::Infallible>(()));
    let timed = tower::timeout::Timeout::new(called(), Duration::from_secs(1));
    assert_eq!(panic_of(timed.oneshot(())).await, NO_REACTOR);
    let rate = tower::limit::rate::Rate::new(1, Duration::from_secs(1));
    assert_eq!(panic_of(async move { tower::limit::RateLimit::new(called(), rate) }).await, NO_REACTOR);
    assert_eq!(panic_of(async move { tower::buffer::Buffer::new(called(), 1) }).await, NO_REACTOR);
    Ok(())
}

#[heirloom::test(timeout = "60s")]
async fn async_compat_enters_a_runtime_of_tokios_for_each_poll() -> Result<(), JoinError> {
    let address = server();
    TENANT.set(7);
    let asked = spawn(async move {
        let text = get(address).compat().await.unwrap();
        (text, TENANT.get())
    });
    assert_eq!(asked.await?, ("seven".to_owned(), Some(7)));

    // A limit of ours around it, and a timer of tokio's inside.
    let late = tokio_sleep(Duration::from_secs(3600)).compat();
    assert!(wait_for(late, Duration::from_millis(5)).await.is_err());
    Ok(())
}

async fn tokio_sleep(time: Duration) {
    tokio::time::sleep(time).await;
}
