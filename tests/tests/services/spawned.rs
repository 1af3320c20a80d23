//! Every public operation that is awaited, awaited in a spawned task.
//!
//! The kind: a future that is not `Send`, or not `Send` enough, works in every example that stands
//! under `block_on`, and does not compile in a task. So the list below names every operation.
//! `.ci/spawned` compares the list with the public interface, and fails if an operation is missing
//! here, or if a name here is gone there.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt, stream};
use heirloom::context::opentelemetry::OtelFutureExt;
use heirloom::context::{ContextCell, channel, future as joined};
use heirloom::context::{ContextFutureExt, ContextStreamExt};
use heirloom::hyper::HyperIo;
use heirloom::net::{Async, Direction, TcpListener, TcpStream, UdpSocket, UnixListener, UnixStream, lookup};
use heirloom::task;
use heirloom::{
    CancelToken, Context, Handle, JoinHandle, TaskGroup, shield, signal, sleep, sleep_until, spawn,
    spawn_blocking, spawn_in, time, wait_for, wait_until, yield_now,
};
use heirloom_tests::{MARK, in_a_worker, runtime};

/// `[NAME, ...] => BODY;` spawns a task that runs the body, which awaits what has these names in
/// `heirloom`. `[NAME, ...] not REASON;` names what no task can await.
macro_rules! spawned {
    ($([$($name:path),+ $(,)?] $is:tt $body:expr;)+) => {
        fn all() -> Vec<(&'static str, JoinHandle<()>)> {
            let mut tasks = Vec::new();
            $(spawned!(tasks, stringify!($($name),+), $is, $body);)+
            tasks
        }
    };
    ($tasks:ident, $names:expr, =>, $body:expr) => {
        $tasks.push(($names, spawn(async move { let _ended = $body; })))
    };
    ($tasks:ident, $names:expr, not, $reason:literal) => {};
}

spawned! {
    [spawn, task::JoinHandle] => spawn(async {}).await;
    [spawn_in] => spawn_in(Context::current(), async {}).await;
    [spawn_blocking] => spawn_blocking(|| ()).await;
    [runtime::Handle::spawn] => Handle::current().unwrap().spawn(async {}).await;
    [runtime::Handle::spawn_in] => Handle::current().unwrap().spawn_in(Context::current(), async {}).await;
    [runtime::Handle::spawn_blocking] => Handle::current().unwrap().spawn_blocking(|| ()).await;
    [runtime::Runtime::spawn] => runtime(1).spawn(async {}).await;
    [runtime::Runtime::spawn_in] => runtime(1).spawn_in(Context::current(), async {}).await;
    [runtime::Runtime::spawn_blocking] => runtime(1).spawn_blocking(|| ()).await;
    [task::Builder::spawn] => task::Builder::new().spawn(async {}).await;
    [task::Builder::spawn_blocking] => task::Builder::new().spawn_blocking(|| ()).await;
    [spawn_local, task::LocalSet::spawn_local] not "the task stays on its thread; its handle is a `JoinHandle`";
    [task::Builder::spawn_local] not "as `spawn_local`";
    [task::LocalSet::run_until] not "it borrows a set, which stays on its thread";
    [shield, task::Shield] => shield(spawn(async {})).await;
    [task::budget::yield_now, task::budget::YieldNow] => yield_now().await;
    [task::budget::unconstrained, task::budget::Unconstrained] => task::budget::unconstrained(yield_now()).await;
    [task::budget::cooperative, task::budget::Cooperative] => {
        task::budget::cooperative(yield_now()).await;
        task::budget::cooperative(ticks()).next().await
    };
    [hyper::serve::Serve::run] => {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let app = axum::Router::<()>::new();
        heirloom::hyper::serve(listener, app).with_graceful_shutdown(cancelled()).run().await
    };
    [tower::RequestFuture] => {
        use tower::{Layer, ServiceExt};
        let app = axum::Router::<()>::new();
        let request = axum::extract::Request::new(axum::body::Body::empty());
        heirloom::tower::RequestContextLayer::new().layer(app).oneshot(request).await
    };
    [tower::PropagateFuture] => {
        use tower::{Layer, ServiceExt};
        let app = axum::Router::<()>::new();
        let request = axum::extract::Request::new(axum::body::Body::empty());
        let layer = heirloom::tower::PropagateLayer::new(heirloom::wire::Outbound::new());
        layer.layer(app).oneshot(request).await
    };
    [tower::TimeoutFuture] => {
        use tower::{Layer, ServiceExt};
        let service = tower::service_fn(async |()| io::Result::Ok(()));
        heirloom::tower::TimeoutLayer::new(LONG).layer(service).oneshot(()).await
    };
    [hyper::ServerExecutor::scope, hyper::ServerScope] => {
        heirloom::hyper::ServerExecutor::scope(|_executor| yield_now()).await
    };

    [cancel::CancelToken::cancelled, cancel::Cancelled] => cancelled().cancelled().await;
    [cancel::CancelToken::run_until_cancelled] => cancelled().run_until_cancelled(sleep(LONG)).await;
    [group::TaskGroup::scope] => TaskGroup::scope(async |group| {
        group.spawn(async { Ok::<_, io::Error>(()) });
        Ok(group.next().await)
    }).await.unwrap();
    [group::GroupScope::next] => TaskGroup::<()>::scope(async |group| Ok(group.next().await)).await;
    [group::GroupScope::results, group::ScopeResults] => {
        TaskGroup::<()>::scope(async |group| Ok(group.results().next().await)).await
    };
    [group::TaskGroup::next] => group().next().await.unwrap();
    [group::TaskGroup::results, group::Results] => group().results().next().await.unwrap();
    [group::TaskGroup::join] => group().join().await.unwrap();

    [time::sleep, time::Sleep] => sleep(SHORT).await;
    [time::sleep_until] => sleep_until(soon()).await;
    [time::interval, time::Interval::tick] => time::interval(SHORT).tick().await;
    [time::interval_at, time::Interval] => time::interval_at(soon(), SHORT).next().await;
    [time::wait_for, time::WaitFor] => wait_for(sleep(LONG), SHORT).await.unwrap_err();
    [time::wait_until] => wait_until(sleep(LONG), soon()).await.unwrap_err();

    [context::ContextFutureExt::isolated, context::WithContext] => yield_now().isolated().await;
    [context::ContextFutureExt::in_context] => yield_now().in_context(Context::current()).await;
    [context::ContextFutureExt::in_current_context] => yield_now().in_current_context().await;
    [context::ContextFutureExt::with_var] => yield_now().with_var(&MARK, 1).await;
    [context::opentelemetry::OtelFutureExt::with_otel_context, context::opentelemetry::InOtelContext] => {
        yield_now().with_otel_context(opentelemetry::Context::new()).await
    };
    [context::opentelemetry::OtelFutureExt::in_current_otel_context] => {
        yield_now().in_current_otel_context().await
    };
    [context::ContextFutureExt::in_cell, context::InCell] => {
        yield_now().in_cell(ContextCell::new(Context::current())).await
    };
    [context::ContextStreamExt::isolated] => ContextStreamExt::isolated(ticks()).next().await;
    [context::ContextStreamExt::in_context] => {
        ContextStreamExt::in_context(ticks(), Context::current()).next().await
    };
    [context::ContextStreamExt::in_current_context] => {
        ContextStreamExt::in_current_context(ticks()).next().await
    };
    [context::ContextStreamExt::with_var] => ContextStreamExt::with_var(ticks(), &MARK, 1).next().await;
    [context::ContextIteratorExt::isolated, context::ContextIteratorExt::in_context] not "an iterator is not awaited";
    [context::ContextIteratorExt::in_current_context, context::ContextIteratorExt::with_var] not "an iterator is not awaited";
    [context::future::join] => joined::join(yield_now(), sleep(SHORT)).await;
    [context::join] => heirloom::context::join!(yield_now(), sleep(SHORT), yield_now());
    [context::future::join_all, context::future::JoinAll] => {
        joined::join_all([sleep(SHORT), sleep(SHORT)]).await
    };
    [context::future::select] => joined::select(yield_now(), sleep(LONG)).await;

    [context::channel::Sender::send, context::channel::Send] => channel::bounded(1).0.send(()).await;
    [context::channel::bounded, context::channel::Receiver::recv, context::channel::Recv] => {
        let (sender, receiver) = channel::bounded(1);
        joined::join(async { sender.send(7).await.unwrap() }, receiver.recv()).await.1.unwrap()
    };
    [context::channel::unbounded, context::channel::Receiver] => {
        let (sender, mut receiver) = channel::unbounded();
        sender.send(7).await.unwrap();
        receiver.next().await.unwrap()
    };

    [net::lookup] => lookup("localhost:1").await.unwrap();
    [net::TcpListener::bind] => TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    [net::TcpListener::accept, net::TcpStream::connect] => tcp().await;
    [net::TcpListener::incoming, net::Incoming] => {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        listener.incoming().next().await.unwrap().unwrap()
    };
    [net::TcpStream, hyper::HyperIo] => {
        let (mut here, there) = tcp().await;
        let mut there = HyperIo::from(there);
        here.write_all(b"x").await.unwrap();
        there.read_exact(&mut [0]).await.unwrap();
        there.write_all(b"x").await.unwrap();
        here.read_exact(&mut [0]).await.unwrap()
    };
    [net::TcpStream::peek, net::TcpStream::readable, net::TcpStream::writable] => {
        let (here, there) = tcp().await;
        here.writable().await.unwrap();
        here.try_write(b"x").unwrap();
        there.readable().await.unwrap();
        there.peek(&mut [0]).await.unwrap()
    };
    [net::TcpStream::split, net::ReadHalf, net::WriteHalf] => {
        let (mut here, mut there) = tcp().await;
        TcpStream::split(&mut here).1.write_all(b"x").await.unwrap();
        TcpStream::split(&mut there).0.read_exact(&mut [0]).await.unwrap()
    };
    [net::TcpStream::into_split, net::OwnedReadHalf, net::OwnedWriteHalf] => {
        let (here, there) = tcp().await;
        here.into_split().1.write_all(b"x").await.unwrap();
        there.into_split().0.read_exact(&mut [0]).await.unwrap()
    };
    [net::UdpSocket::bind, net::UdpSocket::connect, net::UdpSocket::send, net::UdpSocket::recv] => {
        let (here, there) = udp().await;
        here.send(b"x").await.unwrap();
        there.recv(&mut [0]).await.unwrap()
    };
    [net::UdpSocket::send_to, net::UdpSocket::recv_from, net::UdpSocket::peek_from] => {
        let (here, there) = udp().await;
        here.send_to(b"x", there.local_addr().unwrap().to_string()).await.unwrap();
        there.peek_from(&mut [0]).await.unwrap();
        there.recv_from(&mut [0]).await.unwrap()
    };
    [net::UdpSocket::peek, net::UdpSocket::readable, net::UdpSocket::writable] => {
        let (here, there) = udp().await;
        here.writable().await.unwrap();
        here.send(b"x").await.unwrap();
        there.readable().await.unwrap();
        there.peek(&mut [0]).await.unwrap()
    };
    [net::Async, net::Async::new, net::Async::new_nonblocking, net::Async::readable, net::Async::writable, net::Async::io] => {
        let (reader, writer) = std::io::pipe().unwrap();
        let (mut reader, mut writer) = (Async::new(reader).unwrap(), Async::new_nonblocking(writer).unwrap());
        writer.writable().await.unwrap();
        writer.write_all(b"x").await.unwrap();
        reader.readable().await.unwrap();
        reader.read_exact(&mut [0]).await.unwrap();
        writer.io(Direction::Write, |_| Ok(())).await.unwrap()
    };
    [net::UnixListener::accept, net::UnixListener::incoming, net::UnixStream::connect] => {
        let path = path();
        let listener = UnixListener::bind(&path).unwrap();
        for _ in 0..2 {
            drop(UnixStream::connect(&path).await.unwrap());
        }
        std::fs::remove_file(&path).unwrap();
        listener.accept().await.unwrap();
        listener.incoming().next().await.unwrap().unwrap()
    };
    [net::UnixStream, net::UnixStream::pair, net::UnixStream::readable, net::UnixStream::writable] => {
        let (mut here, mut there) = UnixStream::pair().unwrap();
        here.writable().await.unwrap();
        here.write_all(b"x").await.unwrap();
        there.readable().await.unwrap();
        there.read_exact(&mut [0]).await.unwrap()
    };
    [net::UnixStream::split, net::UnixStream::into_split] => {
        let (mut here, there) = UnixStream::pair().unwrap();
        UnixStream::split(&mut here).1.write_all(b"x").await.unwrap();
        there.into_split().0.read_exact(&mut [0]).await.unwrap()
    };
    // No signal comes: one would be for the whole process.
    [signal::ctrl_c, signal::Signal] => wait_for(signal::ctrl_c(), SHORT).await.unwrap_err();
    [signal::terminate] => wait_for(signal::terminate(), SHORT).await.unwrap_err();
}

const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(3_600);

fn soon() -> Instant {
    Instant::now() + SHORT
}

fn ticks() -> impl StreamExt<Item = i32> + Send + Unpin {
    stream::iter([1, 2])
}

fn cancelled() -> CancelToken {
    let token = CancelToken::new();
    token.cancel("over");
    token
}

fn group() -> TaskGroup<io::Error, u32> {
    let group = TaskGroup::new();
    group.spawn(async { Ok(7) });
    group
}

async fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (here, listener.accept().await.unwrap().0)
}

async fn udp() -> (UdpSocket, UdpSocket) {
    let here = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let there = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    here.connect(there.local_addr().unwrap()).await.unwrap();
    there.connect(here.local_addr().unwrap()).await.unwrap();
    (here, there)
}

fn path() -> PathBuf {
    std::env::temp_dir().join(format!("heirloom-spawned-{}", std::process::id()))
}

#[test]
fn every_operation_can_be_awaited_in_a_spawned_task() {
    in_a_worker(2, async {
        for (names, task) in all() {
            task.await.unwrap_or_else(|error| panic!("{names}: {error}"));
        }
    });
}
