//! What async-rs promises of a runtime, and lapin has no use for.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::Duration;

use async_rs::traits::{Executor, Reactor};
use futures::future::pending;
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use heirloom::{Runtime, wait_for};
use heirloom_adaptors::Heirloom;
use heirloom_ecosystem::{LONG, Seen, TENANT, seen};

const NOTHING: Seen = Seen { tenant: None, deadline: false };

#[heirloom::test(timeout = "60s")]
async fn a_task_has_the_root_context_and_a_closure_that_blocks_the_callers() {
    let runtime = Heirloom::current();
    TENANT.set(7);
    let both = async { (runtime.spawn(async { seen() }).await, runtime.spawn_blocking(seen).await) };
    let (task, closure) = wait_for(both, LONG).await.unwrap();
    assert_eq!((task, closure), (NOTHING, Seen { tenant: Some(7), deadline: true }));
}

#[heirloom::test(timeout = "60s")]
async fn a_task_is_detached_by_its_drop_and_ended_by_cancel() {
    let runtime = Heirloom::current();
    let (send, receive) = futures::channel::oneshot::channel();
    drop(runtime.spawn(async { send.send(7).unwrap() }));
    assert_eq!(receive.await, Ok(7));

    // The task is gone when `cancel` returns: what it had is dropped.
    let (send, receive) = mpsc::channel::<()>();
    let mut task = runtime.spawn(async move {
        let _send = send;
        pending::<()>().await;
    });
    assert_eq!(task.cancel().await, None);
    assert_eq!(receive.try_recv(), Err(mpsc::TryRecvError::Disconnected));
}

#[heirloom::test(timeout = "60s")]
#[should_panic(expected = "has panicked, or was cancelled")]
async fn the_await_of_a_task_that_has_panicked_panics() {
    Heirloom::current().spawn(async { panic!("as is expected") }).await
}

#[heirloom::test(timeout = "60s")]
async fn a_handle_that_is_registered_is_read_and_written_without_blocking() {
    const LENGTH: usize = 1 << 20; // more than the system keeps
    let runtime = Heirloom::current();
    let (one, two) = UnixStream::pair().unwrap();
    let (mut one, mut two) = (runtime.register(one).unwrap(), runtime.register(two).unwrap());
    let mut received = Vec::new();
    let send = async {
        one.write_all(&[7; LENGTH]).await.unwrap();
        one.close().await.unwrap();
        drop(one);
    };
    let (sent, received) = futures::join!(send, two.read_to_end(&mut received));
    assert_eq!((sent, received.unwrap()), ((), LENGTH));
}

#[heirloom::test(timeout = "60s")]
async fn an_interval_begins_at_once() {
    let runtime = Heirloom::current();
    assert!(runtime.interval(LONG).next().await.is_some());
    let ticks = runtime.interval(Duration::from_millis(2)).take(3).collect::<Vec<_>>().await;
    assert!(ticks.is_sorted());
    runtime.sleep(Duration::from_millis(1)).await;
}

/// A library calls from threads of its own, which have no runtime.
#[test]
fn a_thread_of_its_own_uses_the_runtime_that_the_adaptor_was_made_of() {
    let runtime = Runtime::builder().workers(1).thread_name("given").build().unwrap();
    let given = Heirloom::from(runtime.handle().clone());
    let name = || std::thread::current().name().unwrap().to_owned();
    let named = std::thread::spawn(move || {
        let (stream, peer) = UnixStream::pair().unwrap();
        let mut stream = given.register(stream).unwrap();
        let named = given.block_on(given.spawn(async move { name() }));
        given.block_on(stream.write_all(b"x")).unwrap();
        drop(peer);
        named
    });
    let named = named.join().unwrap();
    assert!(named.starts_with("given"), "{named}");
}

#[test]
fn a_socket_outlives_the_runtime_on_which_it_was_asked_for() {
    let start = || Runtime::builder().workers(1).build().unwrap();
    let (given, asking) = (start(), start());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connect = Heirloom::from(given.handle().clone()).tcp_connect_addr(listener.local_addr().unwrap());
    let mut stream = asking.block_on(asking.spawn(connect)).unwrap().unwrap();
    asking.shutdown(Duration::ZERO);
    let (mut peer, _) = listener.accept().unwrap();
    let mut byte = [0];
    given.block_on(async {
        let send = async { peer.write_all(b"x").unwrap() };
        futures::join!(async { stream.read_exact(&mut byte).await.unwrap() }, send);
    });
    assert_eq!(&byte, b"x");
}
