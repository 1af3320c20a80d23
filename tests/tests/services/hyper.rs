//! hyper on the executor: whose context a request, a connection and a pool see, and what they keep.

mod bodies;
mod http2;
mod pool;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as Poller, Poll};
use std::time::{Duration, Instant};

use futures::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use futures::{FutureExt, StreamExt, stream};
use heirloom::context::{ContextFutureExt, ContextStreamExt};
use heirloom::hyper::{HyperExecutor, HyperIo, HyperTimer};
use heirloom::{
    Context, context_var, deadline, sleep, spawn, spawn_background, spawn_blocking, wait_for, yield_now,
};
use heirloom_tests::{
    Countdown, Counted, CountingWaker, End, Fault, Gate, Ledger, Log, MARK, duplex, in_a_worker, poll_with,
    run, scaled,
};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::rt::{Executor, Read, ReadBuf, Sleep, Timer, Write};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, client, header, server};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{Connected, Connection};

context_var! {
    static REQUEST_ID: u64;
    static SESSION: Arc<Counted>;
    /// Set by a handler and never taken back.
    static LEFTOVER: u64;
}

const ID: &str = "x-request-id";

type Answer = Result<Response<Full<Bytes>>, Infallible>;

fn id_of(request: &Request<Incoming>) -> u64 {
    request.headers()[ID].to_str().unwrap().parse().unwrap()
}

fn get(id: u64) -> Request<Empty<Bytes>> {
    Request::get("http://server/").header(header::HOST, "server").header(ID, id).body(Empty::new()).unwrap()
}

async fn text<B: Body<Data = Bytes, Error: std::fmt::Debug>>(response: Response<B>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Reads the request's id in every way of going on.
async fn deep() -> String {
    async fn deeper() -> Option<u64> {
        yield_now().await;
        REQUEST_ID.get()
    }
    let seen = [
        deeper().await,
        spawn(deeper()).await.unwrap(),
        spawn_blocking(|| REQUEST_ID.get()).await.unwrap(),
        wait_for(deeper(), Duration::from_secs(3_600)).await.unwrap(),
    ];
    assert!(seen.iter().all(|id| *id == seen[0]), "{seen:?}");
    assert_eq!(LEFTOVER.get(), None, "of another request");
    LEFTOVER.set(seen[0].unwrap());
    format!("{}", seen[0].unwrap())
}

async fn answer(_: Request<Incoming>) -> Answer {
    Ok(Response::new(Full::from(deep().await)))
}

/// What a layer of a server does: a context for each request, made of its headers.
fn of_its_own(request: Request<Incoming>, sessions: &Ledger) -> impl Future<Output = Answer> + Send + use<> {
    let id = id_of(&request);
    let context =
        Context::empty().with_var(&REQUEST_ID, id).with_var(&SESSION, Arc::new(sessions.counted(id)));
    answer(request).in_context(context)
}

/// Serves one connection with [`of_its_own`], as a background task.
fn serve(end: End, sessions: Ledger) {
    let service = service_fn(move |request| of_its_own(request, &sessions));
    spawn_background(async move {
        server::conn::http1::Builder::new().serve_connection(HyperIo::new(end), service).await
    });
}

async fn connect(end: End) -> client::conn::http1::SendRequest<Empty<Bytes>> {
    let (sender, connection) = client::conn::http1::handshake(HyperIo::new(end)).await.unwrap();
    spawn_background(connection);
    sender
}

#[test]
fn requests_of_one_connection_each_see_only_their_own_context_and_nothing_is_held_after() {
    let ledger = Ledger::new();
    let sessions = ledger.clone();
    const REQUESTS: u64 = scaled(200) as u64;
    in_a_worker(2, async move {
        let (near, far) = duplex(1_024);
        serve(far, sessions.clone());
        let mut sender = connect(near).await;
        for id in 0..REQUESTS {
            sender.ready().await.unwrap();
            assert_eq!(text(sender.send_request(get(id)).await.unwrap()).await, id.to_string());
            // The connection is kept alive, and nothing of the request with it.
            assert_eq!(sessions.alive(), 0);
        }
        assert!(!sender.is_closed());
    });
    assert_eq!(ledger.made(), REQUESTS as usize);
}

/// Our sockets are hyper's I/O as they are: requests and answers longer than any buffer, both ways
/// over one connection.
#[cfg(not(miri))]
#[test]
fn sockets_need_nothing_in_between() {
    use heirloom::net::{TcpListener, TcpStream};
    in_a_worker(2, async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = spawn(async move {
            let (socket, _) = listener.accept().await.unwrap();
            let echo = service_fn(|request: Request<Incoming>| async {
                let body = request.into_body().collect().await?.to_bytes();
                hyper::Result::Ok(Response::new(Full::new(body)))
            });
            server::conn::http1::Builder::new().serve_connection(socket, echo).await.unwrap();
        });
        let socket = TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) = client::conn::http1::handshake(socket).await.unwrap();
        let client = spawn(connection);
        for length in [0, 1, 8_192, 1_000_000] {
            let sent: Bytes = (0..length).map(|index| (index % 251) as u8).collect();
            let request = Request::post("/").body(Full::new(sent.clone())).unwrap();
            let answer = sender.send_request(request).await.unwrap();
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), sent, "{length} bytes");
        }
        drop(sender);
        client.await.unwrap().unwrap();
        server.await.unwrap();
    });
}

#[test]
fn what_a_plain_handler_sets_is_seen_by_the_next_request_of_its_connection() {
    in_a_worker(1, async {
        let (near, far) = duplex(1_024);
        let service = service_fn(|request| async move {
            let before = MARK.get();
            MARK.set(id_of(&request));
            Answer::Ok(Response::new(Full::from(format!("{before:?}"))))
        });
        spawn_background(server::conn::http1::Builder::new().serve_connection(HyperIo::new(far), service));
        let mut sender = connect(near).await;
        for (id, before) in [(1, "None"), (2, "Some(1)")] {
            sender.ready().await.unwrap();
            assert_eq!(text(sender.send_request(get(id)).await.unwrap()).await, before);
        }
    });
}

#[test]
fn a_body_that_is_made_as_it_is_sent_sees_the_request_only_if_it_captured_it() {
    async fn streaming(
        request: Request<Incoming>,
    ) -> Result<Response<impl Body<Data = Bytes, Error = Infallible>>, Infallible> {
        let parts = stream::iter(0..3).then(|_| async {
            yield_now().await;
            Ok(Frame::data(Bytes::from(format!("{:?} ", REQUEST_ID.get()))))
        });
        let captured = id_of(&request) == 7;
        let parts = if captured { parts.in_current_context().left_stream() } else { parts.right_stream() };
        Ok(Response::new(StreamBody::new(parts)))
    }
    in_a_worker(1, async {
        let (near, far) = duplex(16);
        let service = service_fn(|request| {
            let context = Context::empty().with_var(&REQUEST_ID, id_of(&request));
            streaming(request).in_context(context)
        });
        spawn_background(async move {
            server::conn::http1::Builder::new().serve_connection(HyperIo::new(far), service).await
        });
        let mut sender = connect(near).await;
        for (id, expected) in [(7, "Some(7) Some(7) Some(7) "), (8, "None None None ")] {
            sender.ready().await.unwrap();
            assert_eq!(text(sender.send_request(get(id)).await.unwrap()).await, expected);
        }
    });
}

#[test]
fn requests_at_once_over_one_http2_connection_keep_their_contexts_apart() {
    let ledger = Ledger::new();
    let sessions = ledger.clone();
    const REQUESTS: u64 = scaled(100) as u64;
    in_a_worker(3, async move {
        let (near, far) = duplex(4_096);
        let all_there = Countdown::new(REQUESTS as usize);
        let counted = sessions.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let all_there = all_there.clone();
            let id = id_of(&request);
            let context =
                Context::empty().with_var(&REQUEST_ID, id).with_var(&SESSION, Arc::new(counted.counted(id)));
            async move {
                // All of them are under way before the first goes on.
                all_there.arrive();
                all_there.done().await;
                answer(request).await
            }
            .in_context(context)
        });
        spawn_background(async move {
            let mut http2 = server::conn::http2::Builder::new(HyperExecutor);
            http2.timer(HyperTimer).max_concurrent_streams(REQUESTS as u32);
            http2.serve_connection(HyperIo::new(far), service).await
        });
        let (sender, connection) =
            client::conn::http2::handshake(HyperExecutor, HyperIo::new(near)).await.unwrap();
        spawn_background(connection);
        let requests: Vec<_> = (0..REQUESTS)
            .map(|id| {
                let mut sender: client::conn::http2::SendRequest<Empty<Bytes>> = sender.clone();
                spawn(async move {
                    sender.ready().await.unwrap();
                    text(sender.send_request(get(id)).await.unwrap()).await
                })
            })
            .collect();
        for (id, request) in requests.into_iter().enumerate() {
            assert_eq!(request.await.unwrap(), id.to_string());
        }
        assert_eq!(sessions.alive(), 0);
    });
    assert_eq!(ledger.made(), REQUESTS as usize);
}

/// What a connector returns has to say what it is.
struct Pooled(HyperIo<End>, fn() -> Connected);

fn pooled(end: End) -> Pooled {
    Pooled(HyperIo::new(end), Connected::new)
}

impl Connection for Pooled {
    fn connected(&self) -> Connected {
        (self.1)()
    }
}

impl Read for Pooled {
    fn poll_read(
        mut self: Pin<&mut Self>,
        poller: &mut Poller<'_>,
        buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Read::poll_read(Pin::new(&mut self.0), poller, buf)
    }
}

impl Write for Pooled {
    fn poll_write(mut self: Pin<&mut Self>, poller: &mut Poller<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Write::poll_write(Pin::new(&mut self.0), poller, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, poller: &mut Poller<'_>) -> Poll<io::Result<()>> {
        Write::poll_flush(Pin::new(&mut self.0), poller)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, poller: &mut Poller<'_>) -> Poll<io::Result<()>> {
        Write::poll_shutdown(Pin::new(&mut self.0), poller)
    }
}

/// Makes twenty requests, one after the other, each in a task with a session, through a pool whose
/// connections are spawned by `executor`. How many connections there were, and how many sessions
/// are alive when all requests are over.
fn through_a_pool<E>(executor: E) -> (usize, usize)
where
    E: Executor<Pin<Box<dyn Future<Output = ()> + Send>>> + Clone + Send + Sync + 'static,
{
    in_a_worker(2, async move {
        let (ledger, connections, served) = (Ledger::new(), Ledger::new(), Ledger::new());
        let opened = connections.clone();
        let connector = tower::service_fn(move |_| {
            let (near, far) = duplex(1_024);
            opened.counted(0);
            serve(far, served.clone());
            std::future::ready(io::Result::Ok(pooled(near)))
        });
        let client: legacy::Client<_, Empty<Bytes>> =
            legacy::Client::builder(executor).pool_timer(HyperTimer).build(connector);
        for id in 0..20 {
            let client = client.clone();
            let session = Arc::new(ledger.counted(id));
            let request = spawn(async move {
                REQUEST_ID.set(id);
                SESSION.set(session);
                text(client.request(get(id)).await.unwrap()).await
            });
            assert_eq!(request.await.unwrap(), id.to_string());
        }
        (connections.made(), ledger.alive())
    })
}

#[test]
fn a_pooled_connection_does_not_hold_the_context_of_the_request_that_opened_it() {
    let (connections, sessions) = through_a_pool(HyperExecutor);
    assert!((1..20).contains(&connections), "{connections} connections for 20 requests are no pool");
    assert_eq!(sessions, 0);
}

/// Spawns like a user.
#[derive(Clone)]
struct Inheriting;

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Inheriting {
    fn execute(&self, future: F) {
        spawn(future).detach();
    }
}

#[test]
fn a_pool_that_spawned_like_a_user_would_hold_it() {
    assert!(through_a_pool(Inheriting).1 > 0, "else the test above proves nothing");
}

#[test]
fn what_hyper_spawns_is_in_the_root_context_and_has_no_deadline() {
    in_a_worker(1, async {
        let (log, done) = (Log::new(), Gate::new());
        let (told, opened) = (log.clone(), done.clone());
        MARK.set(1);
        let limited = async move {
            HyperExecutor.execute(async move {
                told.push((MARK.get(), Context::current().is_empty(), deadline()));
                opened.open();
            });
        };
        wait_for(limited, Duration::from_secs(3_600)).await.unwrap();
        done.opened().await;
        assert_eq!(log.take(), [(None, true, None)]);
    });
}

#[test]
fn a_client_that_never_ends_its_headers_is_cut_off() {
    in_a_worker(1, async {
        let (mut near, far) = duplex(1_024);
        let ledger = Ledger::new();
        let service = service_fn(move |request| of_its_own(request, &ledger));
        let mut http1 = server::conn::http1::Builder::new();
        http1.timer(HyperTimer).header_read_timeout(Duration::from_millis(20));
        let serving = spawn(async move { http1.serve_connection(HyperIo::new(far), service).await });
        near.write_all(b"GET / HTTP/1.1\r\nx-slow: ").await.unwrap();
        let error = serving.await.unwrap().unwrap_err();
        assert!(error.is_timeout(), "{error:?}");
    });
}

#[test]
fn an_idle_connection_leaves_the_pool_after_its_time() {
    in_a_worker(2, async {
        let gone = Gate::new();
        let left = gone.clone();
        let connector = tower::service_fn(move |_| {
            let (near, far) = duplex(1_024);
            let (service, left) = (service_fn(|_| async { Answer::Ok(Response::default()) }), left.clone());
            spawn_background(async move {
                let served =
                    server::conn::http1::Builder::new().serve_connection(HyperIo::new(far), service).await;
                left.open();
                served
            });
            std::future::ready(io::Result::Ok(pooled(near)))
        });
        let client: legacy::Client<_, Empty<Bytes>> = legacy::Client::builder(HyperExecutor)
            .pool_timer(HyperTimer)
            .pool_idle_timeout(Duration::from_millis(5))
            .build(connector);
        assert_eq!(client.request(get(1)).await.unwrap().status(), StatusCode::OK);
        gone.opened().await; // the client is still there: only its timer can have closed it
        drop(client);
    });
}

#[test]
fn timers_for_hyper_can_be_moved() {
    run(1, || async {
        let mut sleep = HyperTimer.sleep(Duration::from_secs(3_600));
        let (waker, counts) = CountingWaker::create(Fault::None);
        assert!(poll_with(&mut sleep, &waker).is_pending());
        HyperTimer.reset(&mut sleep, Instant::now());
        sleep.as_mut().await;
        let at = Instant::now() + Duration::from_millis(5);
        HyperTimer.sleep_until(at).await;
        assert!(Instant::now() >= at);
        assert!(counts.wakes() <= 1);

        // A stranger's sleep is replaced.
        struct Foreign;
        impl Future for Foreign {
            type Output = ();
            fn poll(self: Pin<&mut Self>, _: &mut Poller<'_>) -> Poll<()> {
                Poll::Pending
            }
        }
        impl Sleep for Foreign {}
        let mut sleep: Pin<Box<dyn Sleep>> = Box::pin(Foreign);
        HyperTimer.reset(&mut sleep, Instant::now());
        sleep.await;
        assert!(HyperTimer.sleep(Duration::MAX).now_or_never().is_none());
    });
}

#[test]
fn a_large_body_passes_a_small_pipe_whole_both_ways() {
    const LENGTH: usize = scaled(200_000);
    in_a_worker(2, async {
        let (near, far) = duplex(97);
        let echo = service_fn(|request: Request<Incoming>| async {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            Answer::Ok(Response::new(Full::new(body)))
        });
        spawn_background(server::conn::http1::Builder::new().serve_connection(HyperIo::new(far), echo));
        let (mut sender, connection) = client::conn::http1::handshake(HyperIo::new(near)).await.unwrap();
        spawn_background(connection);
        let body: Vec<u8> = (0..LENGTH).map(|place| (place % 251) as u8).collect();
        let request = Request::post("/").header(header::HOST, "server");
        let request = request.body(Full::new(Bytes::from(body.clone()))).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert!(response.into_body().collect().await.unwrap().to_bytes() == body);
    });
}

#[test]
fn head_and_body_are_written_together() {
    in_a_worker(1, async {
        let (mut near, far) = duplex(4_096);
        let service = service_fn(|_| async { Answer::Ok(Response::new(Full::from("hello"))) });
        spawn_background(server::conn::http1::Builder::new().serve_connection(HyperIo::new(far), service));
        near.write_all(b"GET / HTTP/1.1\r\nhost: server\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        near.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nhello"), "{answer}");
        assert_eq!(near.vectored_writes_received(), 1);
    });
}

#[test]
fn an_upgraded_connection_is_read_and_written_like_any_other() {
    in_a_worker(2, async {
        let (near, far) = duplex(16);
        let echoed = Gate::new();
        let ended = echoed.clone();
        let upgrade = service_fn(move |mut request: Request<Incoming>| {
            let ended = ended.clone();
            async move {
                spawn_background(async move {
                    let upgraded = HyperIo::new(hyper::upgrade::on(&mut request).await.unwrap());
                    let (reader, mut writer) = upgraded.split();
                    futures::io::copy(reader, &mut writer).await.unwrap();
                    writer.close().await.unwrap();
                    ended.open();
                });
                let switching = Response::builder()
                    .status(StatusCode::SWITCHING_PROTOCOLS)
                    .header(header::CONNECTION, "upgrade")
                    .header(header::UPGRADE, "echo");
                Answer::Ok(switching.body(Full::default()).unwrap())
            }
        });
        spawn_background(
            server::conn::http1::Builder::new().serve_connection(HyperIo::new(far), upgrade).with_upgrades(),
        );
        let (mut sender, connection) = client::conn::http1::handshake(HyperIo::new(near)).await.unwrap();
        spawn_background(connection.with_upgrades());
        let request = Request::get("/").header(header::CONNECTION, "upgrade").header(header::UPGRADE, "echo");
        let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        let upgraded = HyperIo::new(hyper::upgrade::on(response).await.unwrap());
        let (mut reader, mut writer) = upgraded.split();
        let message = "a text that is longer than the pipe is wide".repeat(3);
        let sent = message.clone();
        let writing = spawn(async move {
            writer.write_all(sent.as_bytes()).await.unwrap();
            writer.close().await.unwrap();
        });
        let mut back = String::new();
        reader.read_to_string(&mut back).await.unwrap();
        writing.await.unwrap();
        assert_eq!(back, message);
        echoed.opened().await;
    });
}

/// Says that it has read more than there was room for.
struct Liar;

impl AsyncRead for Liar {
    fn poll_read(self: Pin<&mut Self>, _: &mut Poller<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len() + 1))
    }
}

impl AsyncWrite for Liar {
    fn poll_write(self: Pin<&mut Self>, _: &mut Poller<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Poller<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_close(self: Pin<&mut Self>, _: &mut Poller<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
#[should_panic(expected = "must not claim to have read more")]
fn a_reader_that_lies_is_caught() {
    let mut room = [std::mem::MaybeUninit::uninit(); 8];
    let mut buf = ReadBuf::uninit(&mut room);
    let mut poller = Poller::from_waker(std::task::Waker::noop());
    let _ = Read::poll_read(Pin::new(&mut HyperIo::new(Liar)), &mut poller, buf.unfilled());
}

#[test]
fn a_read_fills_what_there_is_room_for_and_an_end_is_an_end() {
    let (mut near, far) = duplex(64);
    near.write_all(b"abcdef").now_or_never().unwrap().unwrap();
    let mut io = HyperIo::new(far);
    let mut poller = Poller::from_waker(std::task::Waker::noop());
    let mut room = [std::mem::MaybeUninit::uninit(); 4];
    for expected in [&b"abcd"[..], b"ef"] {
        let mut buf = ReadBuf::uninit(&mut room);
        assert!(Read::poll_read(Pin::new(&mut io), &mut poller, buf.unfilled()).is_ready());
        assert_eq!(buf.filled(), expected);
    }
    let mut buf = ReadBuf::uninit(&mut room);
    assert!(Read::poll_read(Pin::new(&mut io), &mut poller, buf.unfilled()).is_pending());
    drop(near);
    assert!(Read::poll_read(Pin::new(&mut io), &mut poller, buf.unfilled()).is_ready());
    assert!(buf.filled().is_empty());
    assert!(io.get_ref().vectored_writes_received() == 0 && io.is_write_vectored());
    drop(io.into_inner());
}

#[test]
fn a_request_that_its_client_gives_up_is_dropped_in_its_own_context() {
    in_a_worker(2, async {
        let (log, begun, dropped) = (Log::new(), Gate::new(), Gate::new());
        let (told, started, ended) = (log.clone(), begun.clone(), dropped.clone());
        let (near, far) = duplex(1_024);
        let service = service_fn(move |request: Request<Incoming>| {
            let (told, started, ended) = (told.clone(), started.clone(), ended.clone());
            let context = Context::empty().with_var(&REQUEST_ID, id_of(&request));
            async move {
                let _guard = heirloom_tests::OnDrop::new(move || {
                    told.push(REQUEST_ID.get());
                    ended.open();
                });
                started.open();
                sleep(Duration::MAX).await;
                answer(request).await
            }
            .in_context(context)
        });
        spawn_background(async move {
            server::conn::http1::Builder::new().serve_connection(HyperIo::new(far), service).await
        });
        let mut sender = connect(near).await;
        let request = spawn(async move { sender.send_request(get(5)).await.map(drop) });
        begun.opened().await;
        drop(request);
        dropped.opened().await;
        assert_eq!(log.take(), [Some(5)]);
    });
}
