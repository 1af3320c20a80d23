//! A server's HTTP/2 streams, which hyper spawns one by one.
//!
//! The kind: a library is given an executor, and the tasks that it spawns are parts of something
//! that has a context, a deadline and an end. Such a task must have all three as a task that the
//! something's own code spawns would.

use std::error::Error;
use std::pin::pin;
use std::sync::atomic::AtomicBool;

use heirloom::hyper::ServerExecutor;
use heirloom::{CancelToken, Handle, JoinHandle};
use heirloom_tests::{OnDrop, quiet_panic, runtime, with_runtime};
use hyper::Method;
use hyper::service::Service;

use super::*;

type Sender = client::conn::http2::SendRequest<Empty<Bytes>>;

async fn client(end: End) -> Sender {
    let (sender, connection) =
        client::conn::http2::handshake(HyperExecutor, HyperIo::new(end)).await.unwrap();
    spawn_background(connection);
    sender
}

/// Serves a connection with an executor of its own.
async fn serve<S, B>(end: End, service: S) -> hyper::Result<()>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S::Future: Send + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    ServerExecutor::scope(|executor| {
        let mut http2 = server::conn::http2::Builder::new(executor);
        http2.timer(HyperTimer).enable_connect_protocol().serve_connection(HyperIo::new(end), service)
    })
    .await
}

/// What is seen at a place: the connection's variable and its deadline.
type Seen = (&'static str, Option<u64>, Option<Instant>);

fn look(place: &'static str) -> Seen {
    (place, MARK.get(), deadline())
}

/// Serves a request in a connection with a variable and a limit. Returns the limit, and what was
/// seen.
fn seen_over_http2(server_executor: bool) -> (Option<Instant>, Vec<Seen>) {
    in_a_worker(2, async move {
        let (near, far) = duplex(4_096);
        let (seen, limit) = (Log::new(), Log::new());
        let (log, at) = (seen.clone(), limit.clone());
        let service = service_fn(move |_: Request<Incoming>| {
            log.push(look("call"));
            let log = log.clone();
            async move {
                yield_now().await;
                log.push(look("handler"));
                log.push(spawn(async { look("task of the handler") }).await.unwrap());
                log.push(spawn_blocking(|| look("blocking pool")).await.unwrap());
                let part = stream::once(async move {
                    yield_now().await;
                    log.push(look("body"));
                    Ok::<_, Infallible>(Frame::data(Bytes::from("sent")))
                });
                Ok::<_, Infallible>(Response::new(StreamBody::new(part)))
            }
        });
        let connection = async move {
            let _mark = MARK.bind(7);
            let serving = async move {
                at.push(deadline());
                if server_executor {
                    return serve(far, service).await;
                }
                let http2 = server::conn::http2::Builder::new(HyperExecutor);
                http2.serve_connection(HyperIo::new(far), service).await
            };
            wait_for(serving, Duration::from_secs(3_600)).await
        };
        let serving = spawn(connection);
        let mut sender = client(near).await;
        assert_eq!(text(sender.send_request(get(1)).await.unwrap()).await, "sent");
        drop(sender);
        serving.await.unwrap().unwrap().unwrap();
        (limit.take()[0], seen.take())
    })
}

#[test]
fn a_stream_sees_what_is_bound_around_its_connection_and_the_deadline() {
    let (limit, seen) = seen_over_http2(true);
    assert!(limit.is_some());
    let places = ["call", "handler", "task of the handler", "blocking pool", "body"];
    assert_eq!(seen, places.map(|place| (place, Some(7), limit)));
}

#[test]
fn a_stream_of_the_executor_for_clients_sees_neither() {
    let (limit, seen) = seen_over_http2(false);
    assert_eq!(seen[0], ("call", Some(7), limit), "the connection calls");
    assert!(seen[1..].iter().all(|seen| (seen.1, seen.2) == (None, None)), "{seen:?}");
}

#[test]
fn what_a_stream_sets_is_its_own_and_what_the_call_sets_is_the_connections() {
    context_var! { static CALLS: u64; }
    in_a_worker(2, async {
        let (near, far) = duplex(4_096);
        let service = service_fn(|request: Request<Incoming>| {
            CALLS.set(CALLS.get().unwrap_or(0) + 1);
            async move {
                let before = MARK.get();
                MARK.set(id_of(&request));
                yield_now().await;
                // The body is polled by the same task.
                let part = stream::once(async { Ok(Frame::data(Bytes::from(format!(" {:?}", MARK.get())))) });
                let head =
                    stream::iter([Ok(Frame::data(Bytes::from(format!("{before:?} {:?}", CALLS.get()))))]);
                Ok::<_, Infallible>(Response::new(StreamBody::new(head.chain(part))))
            }
        });
        let serving = spawn(async move {
            let served = serve(far, service).await;
            (served.is_ok(), MARK.get(), CALLS.get())
        });
        let mut sender = client(near).await;
        for (id, expected) in [(5, "None Some(1) Some(5)"), (6, "None Some(2) Some(6)")] {
            assert_eq!(text(sender.send_request(get(id)).await.unwrap()).await, expected);
        }
        drop(sender);
        assert_eq!(serving.await.unwrap(), (true, None, Some(2)));
    });
}

#[test]
fn a_wrapper_keeps_the_requests_of_a_connection_apart_over_both_versions() {
    async fn handle(request: Request<Incoming>) -> Answer {
        let before = LEFTOVER.get();
        LEFTOVER.set(id_of(&request));
        yield_now().await;
        assert_eq!(LEFTOVER.get(), Some(id_of(&request)));
        Ok(Response::new(Full::from(format!("{:?} {before:?}", MARK.get()))))
    }
    for (http2, isolated) in [(false, false), (false, true), (true, false), (true, true)] {
        in_a_worker(2, async move {
            let (near, far) = duplex(4_096);
            let service = service_fn(move |request| {
                let handler = handle(request);
                if isolated {
                    return handler.isolated().left_future();
                }
                handler.in_context(Context::current()).right_future()
            });
            let serving = async move {
                let _mark = MARK.bind(7);
                if http2 {
                    return serve(far, service).await;
                }
                server::conn::http1::Builder::new().serve_connection(HyperIo::new(far), service).await
            };
            spawn(serving).detach();
            let mut answers = Vec::new();
            if http2 {
                let mut sender = client(near).await;
                for id in [1, 2] {
                    answers.push(text(sender.send_request(get(id)).await.unwrap()).await);
                }
            } else {
                let mut sender = connect(near).await;
                for id in [1, 2] {
                    sender.ready().await.unwrap();
                    answers.push(text(sender.send_request(get(id)).await.unwrap()).await);
                }
            }
            assert_eq!(answers, ["Some(7) None"; 2], "http2: {http2}, isolated: {isolated}");
        });
    }
}

#[test]
fn each_stream_derives_for_itself() {
    context_var! { static STOP: CancelToken, inherit = Derive(|token: &CancelToken| Some(token.child())); }
    in_a_worker(2, async {
        let (near, far) = duplex(4_096);
        let service = service_fn(|request: Request<Incoming>| async move {
            let stop = STOP.get().unwrap();
            let answer = Answer::Ok(Response::new(Full::from(format!("{:?}", stop.reason().is_some()))));
            if id_of(&request) == 0 {
                stop.cancel("this request alone");
            }
            answer
        });
        spawn_background(async move {
            STOP.set(CancelToken::new());
            serve(far, service).await
        });
        let mut sender = client(near).await;
        for id in 0..3 {
            assert_eq!(text(sender.send_request(get(id)).await.unwrap()).await, "false");
        }
    });
}

/// How a connection ends while its streams are at work.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Abort,
    HandleDropped,
    Limit,
    Token,
    PanicInCall,
    ClientLeaves,
}

const STREAMS: usize = 5;

/// Handlers that wait for ever.
#[derive(Clone)]
struct Waiting {
    begun: Countdown,
    handlers: Ledger,
    gone: Arc<AtomicBool>,
    /// Polls of handlers after their connection was gone.
    late: Arc<AtomicUsize>,
}

impl Waiting {
    fn new() -> Waiting {
        let begun = Countdown::new(STREAMS);
        Waiting { begun, handlers: Ledger::new(), gone: Arc::default(), late: Arc::default() }
    }

    async fn wait(self) -> Answer {
        let _handler = self.handlers.counted(0);
        self.begun.arrive();
        std::future::poll_fn(|_| {
            self.late.fetch_add(self.gone.load(Ordering::SeqCst).into(), Ordering::SeqCst);
            Poll::<Answer>::Pending
        })
        .await
    }

    /// Serves; `gone` is set when the connection's future has been dropped.
    async fn serve(self, end: End, server_executor: bool) -> hyper::Result<()> {
        let gone = self.gone.clone();
        let _note = OnDrop::new(move || gone.store(true, Ordering::SeqCst));
        let service = service_fn(move |request: Request<Incoming>| {
            if request.method() == Method::DELETE {
                quiet_panic("a panic in `call`");
            }
            self.clone().wait()
        });
        if server_executor {
            return serve(end, service).await;
        }
        server::conn::http2::Builder::new(HyperExecutor).serve_connection(HyperIo::new(end), service).await
    }

    /// Begins all streams; waits until the handlers are at work.
    async fn begin(&self, near: End) -> (Sender, Vec<JoinHandle<hyper::Result<()>>>) {
        let sender = client(near).await;
        let ask = |id| {
            let mut sender = sender.clone();
            spawn(async move { sender.send_request(get(id)).await.map(drop) })
        };
        let requests = (0..STREAMS as u64).map(ask).collect();
        self.begun.done().await;
        (sender, requests)
    }
}

/// Ends a connection. Returns how often a handler was polled after that.
fn polled_late(way: Way, server_executor: bool) -> usize {
    in_a_worker(1, async move {
        let (near, far) = duplex(4_096);
        let waiting = Waiting::new();
        let tasks = || Handle::current().unwrap().stats().tasks;
        let before = tasks();
        let (stop, time_is_up) = (CancelToken::new(), Gate::new());
        let (connection, token, limit) = (waiting.clone(), stop.clone(), time_is_up.clone());
        let serving = spawn(async move {
            let connection = connection.serve(far, server_executor);
            match way {
                Way::Token => drop(token.run_until_cancelled(connection).await),
                // As a limit: what waits drops the connection, and its task goes on.
                Way::Limit => {
                    futures::future::select(pin!(limit.opened()), Box::pin(connection)).await;
                }
                _ => drop(connection.await),
            }
        });
        let (mut sender, requests) = waiting.begin(near).await;
        assert_eq!(waiting.handlers.alive(), STREAMS);
        match way {
            Way::Abort => {
                serving.abort();
                assert!(serving.await.unwrap_err().is_cancelled());
            }
            Way::HandleDropped => drop(serving),
            Way::Limit => {
                time_is_up.open();
                serving.await.unwrap();
            }
            Way::Token => {
                stop.cancel("enough");
                serving.await.unwrap();
            }
            Way::PanicInCall => {
                let request = Request::delete("http://server/").body(Empty::new()).unwrap();
                assert!(sender.send_request(request).await.is_err());
                assert!(serving.await.unwrap_err().is_panic());
            }
            Way::ClientLeaves => {
                requests.iter().for_each(JoinHandle::abort);
                drop(sender.clone());
                serving.detach();
            }
        }
        drop(sender);
        for request in requests {
            assert!(request.await.is_ok_and(|answer| answer.is_err()) || way == Way::ClientLeaves, "{way:?}");
        }
        while waiting.handlers.alive() > 0 || tasks() > before {
            yield_now().await;
        }
        waiting.late.load(Ordering::SeqCst)
    })
}

#[test]
fn what_ends_a_connection_ends_its_streams() {
    for way in [Way::Abort, Way::HandleDropped, Way::Limit, Way::Token, Way::PanicInCall, Way::ClientLeaves] {
        assert_eq!(polled_late(way, true), 0, "{way:?}");
    }
}

#[test]
fn a_stream_of_the_executor_for_clients_is_polled_when_its_connection_is_gone() {
    assert_eq!(polled_late(Way::Abort, false), STREAMS, "else the test above proves little");
}

#[test]
fn a_shutdown_drops_connection_and_streams() {
    with_runtime(2, |runtime| {
        let waiting = Waiting::new();
        let served = waiting.clone();
        let requests = runtime.block_on(runtime.spawn(async move {
            let (near, far) = duplex(4_096);
            spawn_background(served.clone().serve(far, true));
            served.begin(near).await
        }));
        assert_eq!(waiting.handlers.alive(), STREAMS);
        runtime.handle().shutdown(Duration::ZERO);
        assert_eq!((waiting.handlers.alive(), waiting.late.load(Ordering::SeqCst)), (0, 0));
        drop(requests);
    });
}

/// A handler that is given up at one of two stages: before its response, and within the body.
fn given_up(within_body: bool) {
    in_a_worker(2, async move {
        let (near, far) = duplex(4_096);
        let (handlers, begun, dropped) = (Ledger::new(), Gate::new(), Log::new());
        let (counted, started, log) = (handlers.clone(), begun.clone(), dropped.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let (counted, started, log) = (counted.clone(), started.clone(), log.clone());
            async move {
                let id = id_of(&request);
                MARK.set(id);
                // Logged first: the count tells that the log is complete.
                let handler = (OnDrop::new(move || log.push(MARK.get())), counted.counted(id));
                if id == 0 {
                    return Ok(Response::new(StreamBody::new(stream::empty().right_stream())));
                }
                if !within_body {
                    started.open();
                    std::future::pending::<()>().await;
                }
                let parts = stream::once(async move {
                    started.open();
                    std::future::pending::<()>().await;
                    drop(handler);
                    Ok::<_, Infallible>(Frame::data(Bytes::new()))
                });
                Ok::<_, Infallible>(Response::new(StreamBody::new(parts.left_stream())))
            }
        });
        let serving = spawn(serve(far, service));
        let mut sender = client(near).await;
        let mut asking = sender.clone();
        let request = spawn(async move {
            let response = asking.send_request(get(5)).await.unwrap();
            text(response).await
        });
        begun.opened().await;
        assert_eq!(handlers.alive(), 1);
        drop(request); // resets the stream
        while handlers.alive() > 0 {
            yield_now().await;
        }
        assert_eq!(dropped.take(), [Some(5)], "dropped in its own context");
        assert_eq!(text(sender.send_request(get(0)).await.unwrap()).await, "", "the connection goes on");
        drop(sender);
        serving.await.unwrap().unwrap();
    });
}

#[test]
fn a_stream_that_is_reset_takes_its_handler_with_it() {
    given_up(false);
}

#[test]
fn a_stream_that_is_reset_takes_its_body_with_it() {
    given_up(true);
}

#[test]
fn a_handler_that_panics_ends_its_stream_and_no_other() {
    in_a_worker(2, async {
        let (near, far) = duplex(4_096);
        let (handlers, gate) = (Ledger::new(), Gate::new());
        let (counted, opened) = (handlers.clone(), gate.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let (counted, gate) = (counted.clone(), opened.clone());
            async move {
                let id = id_of(&request);
                let _handler = counted.counted(id);
                yield_now().await;
                if id >= 100 {
                    quiet_panic("a panic in a handler");
                }
                gate.opened().await;
                answer_of(id)
            }
        });
        let serving = spawn(serve(far, service));
        let sender = client(near).await;
        let ask = |id: u64| {
            let mut sender = sender.clone();
            spawn(async move { Ok::<_, hyper::Error>(text(sender.send_request(get(id)).await?).await) })
        };
        let others: Vec<_> = (0..10).map(|id| (id, ask(id))).collect();
        for id in 100..110 {
            let error = ask(id).await.unwrap().unwrap_err();
            let cause = error.source().map(ToString::to_string);
            assert_eq!(cause.as_deref(), Some("stream error received: stream no longer needed"));
        }
        gate.open();
        for (id, other) in others {
            assert_eq!(other.await.unwrap().unwrap(), id.to_string());
        }
        assert_eq!((handlers.made(), handlers.alive()), (20, 0));
        drop(sender);
        serving.await.unwrap().unwrap();
    });
}

fn answer_of(id: u64) -> Answer {
    Ok(Response::new(Full::from(id.to_string())))
}

#[test]
fn ten_thousand_streams_of_a_connection_leave_no_task() {
    const ROUNDS: u64 = scaled(200) as u64;
    const AT_ONCE: u64 = 50;
    in_a_worker(3, async {
        let (near, far) = duplex(4_096);
        let handlers = Ledger::new();
        let counted = handlers.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let handler = counted.counted(0);
            async move {
                let answer = answer_of(id_of(&request));
                if handler.id() == 0 {
                    yield_now().await;
                }
                answer
            }
        });
        let executors = Log::new();
        let log = executors.clone();
        let serving = spawn(ServerExecutor::scope(move |executor| {
            log.push(executor.clone());
            server::conn::http2::Builder::new(executor).serve_connection(HyperIo::new(far), service)
        }));
        let sender = client(near).await;
        for _ in 0..ROUNDS {
            let requests: Vec<_> = (0..AT_ONCE)
                .map(|id| {
                    let mut sender = sender.clone();
                    spawn(async move { text(sender.send_request(get(id)).await.unwrap()).await })
                })
                .collect();
            for (id, request) in requests.into_iter().enumerate() {
                assert_eq!(request.await.unwrap(), id.to_string());
            }
        }
        assert_eq!(handlers.made() as u64, ROUNDS * AT_ONCE);
        let executor = executors.take().pop().unwrap();
        while format!("{executor:?}") != "ServerExecutor { tasks: Some(0), .. }" {
            yield_now().await;
        }
        drop(sender);
        serving.await.unwrap().unwrap();
        assert_eq!(format!("{executor:?}"), "ServerExecutor { tasks: None, .. }");
    });
}

/// hyper spawns the writer of an upgraded stream from within the stream's task, which ends then.
#[test]
fn an_upgraded_stream_goes_on_and_ends_with_its_connection() {
    in_a_worker(2, async {
        let (near, far) = duplex(4_096);
        let echoes = Ledger::new();
        let counted = echoes.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            let echo = counted.counted(0);
            spawn_background(async move {
                let upgraded = HyperIo::new(hyper::upgrade::on(&mut request).await.unwrap());
                let (reader, mut writer) = upgraded.split();
                let _ = futures::io::copy(reader, &mut writer).await;
                drop(echo);
            });
            async { Answer::Ok(Response::default()) }
        });
        let serving = spawn(serve(far, service));
        let mut sender = client(near).await;
        let request = Request::connect("server:1").body(Empty::new()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let (mut reader, mut writer) = HyperIo::new(hyper::upgrade::on(response).await.unwrap()).split();
        for part in [&b"first"[..], b"then"] {
            writer.write_all(part).await.unwrap();
            writer.flush().await.unwrap();
            let mut back = vec![0; part.len()];
            reader.read_exact(&mut back).await.unwrap();
            assert_eq!(back, part);
        }
        serving.abort();
        assert!(serving.await.unwrap_err().is_cancelled());
        while echoes.alive() > 0 {
            yield_now().await;
        }
        assert!(reader.read_exact(&mut [0]).await.is_err());
    });
}

#[test]
fn an_executor_that_is_kept_longer_than_its_scope_drops_what_it_is_given() {
    in_a_worker(1, async {
        let ledger = Ledger::new();
        let (first, held) = (ledger.counted(0), Gate::new());
        let (begun, going) = (Gate::new(), held.clone());
        let started = begun.clone();
        let executor = ServerExecutor::scope(|executor| async move {
            executor.execute(async move {
                started.open();
                going.opened().await;
                first.id()
            });
            begun.opened().await;
            executor
        })
        .await;
        while ledger.alive() > 0 {
            yield_now().await;
        }
        let second = ledger.counted(1);
        executor.execute(async move { second.id() });
        assert_eq!(ledger.alive(), 0);
        assert!(!held.is_open());
    });
}

#[test]
fn in_a_runtime_that_ends_streams_are_dropped_where_they_are_spawned() {
    let ended = runtime(1);
    let handle = ended.handle().clone();
    let ledger = Ledger::new();
    let made = ledger.clone();
    let executors = Log::new();
    let log = executors.clone();
    let task = handle.spawn(ServerExecutor::scope(|executor| async move {
        log.push((executor, made.counted(0)));
        std::future::pending::<()>().await;
    }));
    ended.wait_until_idle();
    let (executor, value) = executors.take().pop().unwrap();
    ended.shutdown(Duration::ZERO);
    executor.execute(async move { value.id() });
    assert_eq!(ledger.alive(), 0);
    drop(task);
}
