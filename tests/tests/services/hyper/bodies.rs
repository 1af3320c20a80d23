//! Bodies that are made as they are sent: which task polls them, and what they see.
//!
//! The kind: a stream that is handed over runs in the context and with the deadline of its poller,
//! and pollers differ by side and by version of HTTP. What has captured its maker's context sees
//! that everywhere; a deadline is not captured with it.

use futures::stream::BoxStream;
use heirloom::hyper::ServerExecutor;
use heirloom::wait_until;

use super::*;

type Streamed = StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;
/// The request, the connection's variable, the deadline.
type Seen = (Option<u64>, Option<u64>, Option<Instant>);

/// How a body is made.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Made {
    Plainly,
    InCurrentContext,
    /// In the current context, each part within the maker's deadline.
    WithDeadline,
}

/// A body of one part, which notes what it sees.
fn body(made: Made, log: Log<Seen>) -> Streamed {
    let part = async move {
        yield_now().await;
        log.push((REQUEST_ID.get(), MARK.get(), deadline()));
        Ok(Frame::data(Bytes::from("part")))
    };
    StreamBody::new(match made {
        Made::Plainly => stream::once(part).boxed(),
        Made::InCurrentContext => stream::once(part).in_current_context().boxed(),
        Made::WithDeadline => {
            let end = deadline().unwrap();
            let part = async move { wait_until(part, end).await.unwrap() };
            stream::once(part).in_current_context().boxed()
        }
    })
}

/// Serves a request in a context and within a limit of its own, on a connection with a longer one.
/// Returns the limits of the connection and of the request, and what the response's body has seen.
fn seen_by_a_response(http2: bool, made: Made) -> (Option<Instant>, Option<Instant>, Seen) {
    in_a_worker(2, async move {
        let (near, far) = duplex(64);
        let (limits, seen) = (Log::new(), Log::new());
        let (connections, requests, log) = (limits.clone(), limits.clone(), seen.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let (limits, log) = (requests.clone(), log.clone());
            let context = Context::current().with_var(&REQUEST_ID, id_of(&request));
            let handler = async move {
                limits.push(deadline());
                Response::new(body(made, log))
            };
            let limited = async move { Ok(wait_for(handler, Duration::from_secs(60)).await.unwrap()) };
            limited.in_context(context).boxed() as futures::future::BoxFuture<'static, Result<_, Infallible>>
        });
        spawn(async move {
            let _mark = MARK.bind(7);
            let serving = async move {
                connections.push(deadline());
                let far = HyperIo::new(far);
                if !http2 {
                    return server::conn::http1::Builder::new().serve_connection(far, service).await;
                }
                let serve =
                    |executor| server::conn::http2::Builder::new(executor).serve_connection(far, service);
                ServerExecutor::scope(serve).await
            };
            let _ = wait_for(serving, Duration::from_secs(3_600)).await;
        })
        .detach();
        let response = if http2 {
            let (mut sender, connection) =
                client::conn::http2::handshake(HyperExecutor, HyperIo::new(near)).await.unwrap();
            spawn_background(connection);
            sender.send_request(get(5)).await.unwrap()
        } else {
            connect(near).await.send_request(get(5)).await.unwrap()
        };
        assert_eq!(text(response).await, "part");
        let limits = limits.take();
        (limits[0], limits[1], seen.take()[0])
    })
}

#[test]
fn a_response_body_sees_its_connection_and_what_it_has_captured() {
    for http2 in [false, true] {
        for made in [Made::Plainly, Made::InCurrentContext, Made::WithDeadline] {
            let (connection, request, seen) = seen_by_a_response(http2, made);
            assert!(request < connection && request.is_some());
            let expected = match made {
                Made::Plainly => (None, Some(7), connection),
                Made::InCurrentContext => (Some(5), Some(7), connection),
                Made::WithDeadline => (Some(5), Some(7), request),
            };
            assert_eq!(seen, expected, "http2: {http2}, {made:?}");
        }
    }
}

/// The server's side of a connection which reads bodies to their end. A background task.
fn serve_readers(end: End, http2: bool) {
    let service = service_fn(|request: Request<Incoming>| async {
        let length = request.into_body().collect().await.unwrap().to_bytes().len();
        Answer::Ok(Response::new(Full::from(length.to_string())))
    });
    spawn_background(async move {
        if http2 {
            let http2 = server::conn::http2::Builder::new(HyperExecutor);
            return http2.serve_connection(HyperIo::new(end), service).await;
        }
        server::conn::http1::Builder::new().serve_connection(HyperIo::new(end), service).await
    });
}

fn post(body: Streamed) -> Request<Streamed> {
    Request::post("http://server/").header(header::HOST, "server").body(body).unwrap()
}

/// What the body of a client's request sees. The client's task has both variables, and a deadline.
fn seen_by_a_request(http2: bool, made: Made) -> (Option<Instant>, Seen) {
    in_a_worker(2, async move {
        let (near, far) = duplex(64);
        serve_readers(far, http2);
        let seen = Log::new();
        let log = seen.clone();
        let asking = async move {
            REQUEST_ID.set(5);
            MARK.set(6);
            let near = HyperIo::new(near);
            let response = if http2 {
                let (mut sender, connection) =
                    client::conn::http2::handshake(HyperExecutor, near).await.unwrap();
                spawn_background(connection);
                sender.send_request(post(body(made, log))).await.unwrap()
            } else {
                let (mut sender, connection) = client::conn::http1::handshake(near).await.unwrap();
                spawn_background(connection);
                sender.send_request(post(body(made, log))).await.unwrap()
            };
            assert_eq!(text(response).await, "4");
            deadline()
        };
        let end = wait_for(asking, Duration::from_secs(3_600)).await.unwrap();
        (end, seen.take()[0])
    })
}

#[test]
fn a_request_body_sees_nothing_of_its_caller_but_what_it_has_captured() {
    for http2 in [false, true] {
        for made in [Made::Plainly, Made::InCurrentContext, Made::WithDeadline] {
            let (end, seen) = seen_by_a_request(http2, made);
            let expected = match made {
                Made::Plainly => (None, None, None),
                Made::InCurrentContext => (Some(5), Some(6), None),
                Made::WithDeadline => (Some(5), Some(6), end),
            };
            assert_eq!(seen, expected, "http2: {http2}, {made:?}");
        }
    }
}

/// Two callers, one after the other, through a pool with one HTTP/2 connection. What their bodies
/// see of `REQUEST_ID`.
fn seen_through_a_pool<E>(executor: E, made: Made) -> Vec<Option<u64>>
where
    E: Executor<Pin<Box<dyn Future<Output = ()> + Send>>> + Clone + Send + Sync + 'static,
{
    in_a_worker(2, async move {
        let connect: fn(hyper::Uri) -> std::future::Ready<io::Result<Pooled>> = |_| {
            let (near, far) = duplex(64);
            serve_readers(far, true);
            std::future::ready(Ok(pooled(near)))
        };
        let client: legacy::Client<Connector, Streamed> =
            legacy::Client::builder(executor).http2_only(true).build(tower::service_fn(connect));
        let seen = Log::new();
        for id in [1, 2] {
            let (client, log) = (client.clone(), seen.clone());
            let caller = spawn(async move {
                REQUEST_ID.set(id);
                text(client.request(post(body(made, log))).await.unwrap()).await
            });
            assert_eq!(caller.await.unwrap(), "4");
        }
        seen.take().into_iter().map(|seen| seen.0).collect()
    })
}

type Connector = tower::util::ServiceFn<fn(hyper::Uri) -> std::future::Ready<io::Result<Pooled>>>;

#[test]
fn a_request_body_through_a_pool_sees_its_own_caller_or_none() {
    assert_eq!(seen_through_a_pool(HyperExecutor, Made::Plainly), [None, None]);
    assert_eq!(seen_through_a_pool(HyperExecutor, Made::InCurrentContext), [Some(1), Some(2)]);
    // What it would see of an earlier caller, by an executor that spawns like a user.
    assert_eq!(seen_through_a_pool(Inheriting, Made::Plainly), [Some(1), Some(1)]);
    assert_eq!(seen_through_a_pool(Inheriting, Made::InCurrentContext), [Some(1), Some(2)]);
}
