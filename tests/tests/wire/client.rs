//! The client's layer without a network: in virtual time, what it writes, what ends when, and how
//! much of the caller's time reaches the called service.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use futures::channel::oneshot;
use futures::{Stream, stream};
use heirloom::time::{Elapsed, now};
use heirloom::tower::{BoxError, PropagateLayer, RequestContextLayer, ResponseBody};
use heirloom::wire::{Outbound, TRACE};
use heirloom::{Context, deadline, remaining, sleep, spawn_background, wait_for};
use heirloom_tests::{Log, OnDrop};
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::{HeaderMap, Request, Response, StatusCode};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::{TENANT, inbound, seen, seen_afar, set};

const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);
const GRPC: [&str; 4] =
    ["application/grpc+proto", "Application/gRPC", "application/grpc-web+proto", "application/grpc-web-text"];
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn friends() -> PropagateLayer {
    PropagateLayer::new(Outbound::new().host("stock.internal").host("*.svc.local"))
}

/// Answers with nothing, and tells the headers of the request.
fn headers_of(
    told: &Log<HeaderMap>,
) -> impl Service<Request<()>, Response = Response<Empty<Bytes>>, Error = Infallible> + Clone + use<> {
    let told = told.clone();
    service_fn(move |request: Request<()>| {
        told.push(request.headers().clone());
        async { Ok(Response::new(Empty::new())) }
    })
}

/// The headers with which a request arrives.
async fn sent(layer: &PropagateLayer, uri: &str, headers: &[(&str, &str)]) -> HeaderMap {
    let told = Log::new();
    let request =
        headers.iter().fold(Request::get(uri), |request, (name, value)| request.header(*name, *value));
    let service = layer.layer(headers_of(&told));
    service.oneshot(request.body(()).unwrap()).await.unwrap();
    told.take().pop().unwrap()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap())
}

#[heirloom::test(virtual_time)]
async fn the_time_in_the_header_is_what_is_left_at_the_call() {
    let layer = friends();
    let uri = "http://stock.internal/";
    assert_eq!(text(&sent(&layer, uri, &[]).await, "x-request-timeout"), None, "without a deadline");
    let tried = async {
        let mut times = Vec::new();
        for _ in 0..3 {
            let headers = sent(&layer, uri, &[]).await;
            times.push(text(&headers, "x-request-timeout").unwrap().to_owned());
            sleep(300 * MILLISECOND).await;
        }
        times
    };
    assert_eq!(wait_for(tried, 1_500 * MILLISECOND).await.unwrap(), ["1500000u", "1200000u", "900000u"]);
    let reserved = layer.reserve(200 * MILLISECOND);
    let left = |time| wait_for(sent(&reserved, uri, &[]), time);
    assert_eq!(text(&left(1_500 * MILLISECOND).await.unwrap(), "x-request-timeout"), Some("1300000u"));
    assert_eq!(text(&left(150 * MILLISECOND).await.unwrap(), "x-request-timeout"), Some("0n"));
    let other = friends().deadline_header("X-Time");
    let headers = wait_for(sent(&other, uri, &[("x-time", "9S")]), 20 * MILLISECOND).await.unwrap();
    assert_eq!((text(&headers, "x-time"), text(&headers, "x-request-timeout")), (Some("20000000n"), None));
}

#[heirloom::test(virtual_time)]
async fn no_header_of_a_deadline_is_left_but_that_of_the_call() {
    let stale = [("x-time", "9S"), ("x-request-timeout", "9S"), ("grpc-timeout", "9S")];
    let layer = friends().deadline_header("x-time");
    for (uri, kind, expected) in [
        ("http://stock.internal/", "text/plain", [Some("3600000m"), None, None]),
        ("http://stock.internal/", "application/grpc", [None, None, Some("9000000u")]),
        ("http://example.com/", "text/plain", [None; 3]),
        // The call's own limit.
        ("http://example.com/", "application/grpc", [None, None, Some("9S")]),
    ] {
        let headers = [&stale[..], &[("content-type", kind)]].concat();
        let headers = wait_for(sent(&layer, uri, &headers), HOUR).await.unwrap();
        assert_eq!(stale.map(|(name, _)| text(&headers, name)), expected, "{uri} {kind}");
    }
}

#[heirloom::test(virtual_time)]
async fn a_call_by_grpc_has_its_own_header_and_may_have_a_shorter_limit_of_its_own() {
    let uri = "http://stock.internal/";
    for (own, around, expected) in [
        (None, None, None),
        (None, Some(2_000), Some("2000000u")),
        (Some("1S"), None, Some("1000000u")),
        (Some("1S"), Some(2_000), Some("1000000u")),
        (Some("3S"), Some(2_000), Some("2000000u")),
        // What is none does not stay.
        (Some("soon"), None, None),
        (Some("soon"), Some(2_000), Some("2000000u")),
    ] {
        for kind in GRPC {
            let mut headers = vec![("content-type", kind), ("x-request-timeout", "7S")];
            headers.extend(own.map(|own| ("grpc-timeout", own)));
            let time = around.map_or(Duration::MAX, Duration::from_millis);
            let headers = wait_for(sent(&friends(), uri, &headers), time).await.unwrap();
            assert_eq!(text(&headers, "grpc-timeout"), expected, "{kind}: {own:?} {around:?}");
            assert_eq!(text(&headers, "x-request-timeout"), None);
        }
    }
    // In another call it is what a program has copied.
    let headers = sent(&friends(), uri, &[("grpc-timeout", "1S")]).await;
    assert!(!headers.contains_key("grpc-timeout"));
}

const STALE: [(&str, &str); 6] = [
    ("baggage", "tenant=another"),
    ("baggage", "token=stale"),
    ("traceparent", "00-00000000000000000000000000000001-0000000000000001-00"),
    ("tracestate", "stale=1"),
    ("x-request-timeout", "9S"),
    ("x-kept", "kept"),
];

#[heirloom::test(virtual_time)]
async fn hosts_of_the_list_get_what_is_bound_and_foreign_ones_nothing() {
    set(7);
    TRACE.set(PARENT.parse().unwrap());
    let send = |uri: &'static str, headers: Vec<(&'static str, &'static str)>| async move {
        wait_for(sent(&friends(), uri, &headers), HOUR).await.unwrap()
    };
    for uri in ["http://stock.internal/", "https://STOCK.internal.:8443/x", "http://a.b.svc.local/"] {
        let headers = send(uri, STALE.into()).await;
        let [baggage] = headers.get_all("baggage").iter().collect::<Vec<_>>()[..] else {
            panic!("{headers:?}")
        };
        let mut members: Vec<_> = baggage.to_str().unwrap().split(',').collect();
        members.sort_unstable();
        let note = "note=100%25%20%3D%20a%2Bb%3B%20%22c%22";
        assert_eq!(members, [note, "request-id=7", "tenant=acme%20&%20s%C3%B6hne"], "{uri}");
        assert_eq!(text(&headers, "traceparent"), Some(PARENT));
        assert_eq!(text(&headers, "tracestate"), None);
        assert_eq!(text(&headers, "x-request-timeout"), Some("3600000m"));
        assert_eq!(headers.len(), 4, "{headers:?}");
    }
    for uri in ["http://example.com/", "http://svc.local/", "http://stock.internal.example.com/", "/"] {
        let headers = send(uri, STALE.into()).await;
        assert_eq!(headers.len(), 1, "{uri}: {headers:?}");
        assert_eq!(text(&headers, "x-kept"), Some("kept"));
    }
    // A limit that the call has by itself is none of the caller's.
    let grpc = vec![("content-type", "application/grpc"), ("grpc-timeout", "5S")];
    let headers = send("http://example.com/", grpc).await;
    assert_eq!((headers.len(), text(&headers, "grpc-timeout")), (2, Some("5S")));
    // Where the URI has no host, the header says it.
    for (host, expected) in [("stock.internal:80", true), ("example.com", false), ("", false)] {
        assert_eq!(send("/", vec![("host", host)]).await.contains_key("baggage"), expected, "{host}");
    }
    let anywhere = PropagateLayer::new(Outbound::new().any());
    for uri in ["/", "http://example.com/"] {
        let headers = sent(&anywhere, uri, &[]).await;
        assert!(headers.contains_key("baggage"), "{uri}");
        assert!(!text(&headers, "baggage").unwrap().contains("xyzzy"));
    }
    // What is not bound leaves nothing stale.
    let headers = Context::empty().run(|| futures::executor::block_on(sent(&anywhere, "/", &STALE)));
    assert_eq!((headers.len(), text(&headers, "x-kept")), (1, Some("kept")));
}

#[heirloom::test(virtual_time)]
async fn a_call_is_not_made_when_its_time_is_up() {
    let told = Log::new();
    let call = |kind: &'static str| {
        let request = Request::get("http://stock.internal/").header("content-type", kind);
        friends().layer(headers_of(&told)).oneshot(request.body(()).unwrap())
    };
    let outcome = wait_for(
        async {
            // Time passes, without a chance for the limit to notice.
            let (plain, grpc) = (call("text/plain"), call("application/grpc"));
            let until = deadline().unwrap();
            (heirloom::time::sleep_until(until), plain, grpc)
        },
        MILLISECOND,
    );
    let (sleep, plain, grpc) = outcome.await.unwrap();
    sleep.await;
    // The calls are made where the deadline is current, so it is bound once more around them.
    let plain = within_the_past(plain).await;
    assert!(plain.unwrap_err().is::<Elapsed>());
    let grpc = within_the_past(grpc).await.unwrap();
    assert_eq!(text(grpc.headers(), "grpc-status"), Some("4"));
    assert!(told.is_empty());
}

/// Polls the future once, within a deadline that is over: what is ready at the first poll is never
/// late.
async fn within_the_past<F: Future>(future: F) -> F::Output {
    wait_for(future, Duration::ZERO).await.expect("ready at its first poll")
}

/// A service at the end of a way that takes so long there and so long back: in a task that has
/// neither the caller's context nor its deadline.
fn afar<S, B>(
    way: Duration,
    service: S,
) -> impl Service<Request<()>, Response = Response<ResponseBody<B>>, Error = BoxError, Future: Send> + Clone
where
    S: Service<Request<()>, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
    B: Send + 'static,
{
    let service = RequestContextLayer::new().inbound(inbound()).layer(service);
    service_fn(move |request| {
        let service = service.clone();
        async move {
            let (tell, told) = oneshot::channel();
            spawn_background(async move {
                sleep(way).await;
                let answer = service.oneshot(request).await.unwrap();
                sleep(way).await;
                let _ = tell.send(answer);
            });
            Ok(told.await?)
        }
    })
}

#[heirloom::test(virtual_time)]
async fn the_called_service_has_what_is_left_less_the_reserve_and_with_one_it_ends_first() {
    const WAY: Duration = Duration::from_millis(50);
    for (reserve, far_end, near_end, status) in [
        // Without a reserve the called service learns of the time later than it is measured.
        (0, 1_050, 1_000, None),
        (150, 900, 950, Some(StatusCode::GATEWAY_TIMEOUT)),
        // The whole of it.
        (800, 250, 300, Some(StatusCode::GATEWAY_TIMEOUT)),
    ] {
        let begun = now();
        let since = move || (now() - begun).as_millis();
        let ends = Log::new();
        let noted = ends.clone();
        let endless = service_fn(move |_| {
            assert_eq!(seen(), seen_afar(7));
            assert_eq!(remaining(), Some(Duration::from_millis(800 - reserve)));
            let noted = noted.clone();
            let note = OnDrop::new(move || noted.push(since()));
            async move {
                let _note = note;
                pending::<Result<Response<Empty<Bytes>>, _>>().await
            }
        });
        let client = friends().reserve(Duration::from_millis(reserve)).layer(afar(WAY, endless));
        let asked = async {
            set(7);
            sleep(200 * MILLISECOND).await;
            let request = Request::get("http://stock.internal/").body(()).unwrap();
            client.oneshot(request).await
        };
        let answer = wait_for(asked, 1_000 * MILLISECOND).await;
        assert_eq!(since(), near_end);
        match status {
            Some(status) => {
                let answer = answer.unwrap().unwrap();
                assert_eq!(answer.status(), status);
                assert_eq!(text(answer.headers(), "x-refused"), Some("the request's time is up"));
            }
            // Both limits end at this moment, the inner one first.
            None => assert!(answer.unwrap().unwrap_err().is::<Elapsed>()),
        }
        sleep(HOUR).await;
        let expected = if reserve == 800 { vec![] } else { vec![far_end] };
        assert_eq!(ends.take(), expected, "with {reserve} ms no call was begun");
    }
}

/// A part at once, and a part each 100 milliseconds.
fn ticks() -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + Unpin {
    Box::pin(stream::unfold(0, async |number| {
        if number > 0 {
            sleep(100 * MILLISECOND).await;
        }
        Some((Ok(Frame::data(Bytes::from("tick"))), number + 1))
    }))
}

#[heirloom::test(virtual_time)]
async fn the_body_ends_at_the_deadline_of_the_call_wherever_it_is_read() {
    let endless =
        service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(StreamBody::new(ticks()))));
    for (kind, has_trailers) in
        [("text/plain", false), ("application/grpc", true), ("application/grpc-web", false)]
    {
        for listed in [true, false] {
            let uri = if listed { "http://stock.internal/" } else { "http://example.com/" };
            let request = Request::get(uri).header("content-type", kind).body(()).unwrap();
            let begun = now();
            let answer = wait_for(friends().layer(endless).oneshot(request), 250 * MILLISECOND);
            let mut body = answer.await.unwrap().unwrap().into_body();
            assert_eq!(deadline(), None, "that of the call is not current any more");
            for _ in 0..3 {
                assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "tick");
            }
            let end = body.frame().await.unwrap();
            assert_eq!(now() - begun, 250 * MILLISECOND);
            match has_trailers {
                true => assert_eq!(text(end.unwrap().trailers_ref().unwrap(), "grpc-status"), Some("4")),
                false => assert!(end.unwrap_err().is::<Elapsed>()),
            }
            assert!(body.frame().await.is_none());
        }
    }
}

#[heirloom::test(virtual_time)]
async fn a_call_that_another_task_goes_on_with_ends_in_the_callers_time() {
    let never =
        service_fn(async |_: Request<()>| pending::<Result<Response<Empty<Bytes>>, BoxError>>().await);
    let begun = now();
    let mut client = friends().layer(never);
    let call = |client: &mut heirloom::tower::Propagate<_>, kind: &str| {
        let request = Request::get("http://stock.internal/").header("content-type", kind);
        client.call(request.body(()).unwrap())
    };
    // The future is made within the limit, and polled outside of it.
    let made =
        wait_for(async { (call(&mut client, "text/plain"), call(&mut client, "application/grpc")) }, HOUR);
    let (plain, grpc) = made.await.unwrap();
    assert!(plain.await.unwrap_err().is::<Elapsed>());
    assert_eq!(now() - begun, HOUR);
    let answer = grpc.await.unwrap();
    assert_eq!(text(answer.headers(), "grpc-status"), Some("4"));
    assert!(answer.into_body().frame().await.is_none());
}

#[heirloom::test(virtual_time)]
async fn an_error_that_comes_when_time_is_up_is_told_as_that() {
    // As of a client that reads the header, and has a timer of its own.
    let failing = service_fn(async |_: Request<()>| {
        sleep(remaining().unwrap()).await;
        Err::<Response<Empty<Bytes>>, BoxError>("cancelled".into())
    });
    let call = |kind: &'static str| {
        let request = Request::get("http://stock.internal/").header("content-type", kind);
        friends().layer(failing).oneshot(request.body(()).unwrap())
    };
    for kind in ["text/plain", "application/grpc"] {
        let mut made = Box::pin(call(kind));
        // Made within the limit, and polled outside of it.
        let outcome = wait_for(async { futures::poll!(&mut made).is_pending() }, MILLISECOND).await;
        assert_eq!(outcome, Ok(true));
        match made.await {
            Err(error) => assert!(kind == "text/plain" && error.is::<Elapsed>(), "{kind}: {error}"),
            Ok(answer) => {
                assert_eq!((kind, text(answer.headers(), "grpc-status")), ("application/grpc", Some("4")))
            }
        }
    }
    // One that comes in time stays what it is.
    let refused =
        service_fn(async |_: Request<()>| Err::<Response<Empty<Bytes>>, BoxError>("refused".into()));
    let request = Request::get("http://stock.internal/").body(()).unwrap();
    let error = wait_for(friends().layer(refused).oneshot(request), HOUR).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "refused");
}

#[heirloom::test]
async fn a_call_sends_the_context_of_the_code_that_makes_it() {
    let told = Log::new();
    let mut client = PropagateLayer::new(Outbound::new().any()).layer(headers_of(&told));
    let request = || Request::get("http://stock.internal/").body(()).unwrap();
    TENANT.set("one".to_owned());
    // `call`, and not the first poll.
    let made = client.call(request());
    TENANT.set("two".to_owned());
    made.await.unwrap();
    assert_eq!(text(&told.take()[0], "baggage"), Some("tenant=one"));
    client.oneshot(request()).await.unwrap();
    assert_eq!(text(&told.take()[0], "baggage"), Some("tenant=two"));
}

/// A client's own timer that reads the header, as tonic's channel has one.
#[heirloom::test(virtual_time)]
async fn an_error_that_comes_when_the_called_service_has_no_time_left_is_that_of_the_limit() {
    for (uri, after, is_elapsed) in [
        ("http://stock.internal/", 199, false),
        ("http://stock.internal/", 200, true),
        ("http://elsewhere.example/", 200, false),
    ] {
        let fails = service_fn(move |_: Request<()>| async move {
            sleep(after * MILLISECOND).await;
            Err::<Response<Empty<Bytes>>, _>(std::io::Error::other("the client's own"))
        });
        let client = friends().reserve(100 * MILLISECOND).layer(fails);
        let call = client.oneshot(Request::get(uri).body(()).unwrap());
        let error = wait_for(call, 300 * MILLISECOND).await.unwrap().unwrap_err();
        assert_eq!(error.is::<Elapsed>(), is_elapsed, "{uri} after {after} ms: {error}");
    }
}
