//! The server's layer without a network: what it takes of the headers, and what each deadline
//! header leads to.

use std::convert::Infallible;
use std::time::Duration;

use futures::stream;
use heirloom::time::{Elapsed, now};
use heirloom::tower::{RequestContextLayer, ResponseBody};
use heirloom::wire::{Inbound, Reason, TRACE, dropped};
use heirloom::{Context, remaining, sleep, wire};
use heirloom_tests::Log;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::{HeaderMap, Request, Response, StatusCode};
use opentelemetry::trace::{SpanContext, TraceContextExt};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::{REQUEST, TENANT, inbound, seen};

const MILLISECOND: Duration = Duration::from_millis(1);
const GRPC: (&str, &str) = ("content-type", "application/grpc");
/// Of gRPC-Web, and in any case.
const OTHER_GRPC: [(&str, &str); 5] = [
    ("content-type", "Application/gRPC"),
    ("content-type", "application/grpc; charset=utf-8"),
    ("content-type", "application/grpc-web+proto"),
    ("content-type", "application/grpc-web-text"),
    ("content-type", "APPLICATION/grpc-web-text+proto"),
];
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// A request to the layer itself.
async fn ask<S, B>(
    layer: &RequestContextLayer,
    service: S,
    headers: &[(&str, &str)],
) -> Response<ResponseBody<B>>
where
    S: Service<Request<()>, Response = Response<B>, Error = Infallible>,
{
    let request =
        headers.iter().fold(Request::get("/"), |request, (name, value)| request.header(*name, *value));
    layer.layer(service).oneshot(request.body(()).unwrap()).await.unwrap()
}

/// What a handler sees of a request with these headers: the variables, and the milliseconds left.
/// `None` if it is not called.
async fn look(
    layer: &RequestContextLayer,
    headers: &[(&str, &str)],
) -> (HeaderMap, StatusCode, Option<(String, Option<u128>)>) {
    let looks = Log::new();
    let noted = looks.clone();
    let service = service_fn(move |_: Request<()>| {
        noted.push((seen(), remaining().map(|left| left.as_millis())));
        async { Ok::<_, Infallible>(Response::new(http_body_util::Empty::<Bytes>::new())) }
    });
    let answer = ask(layer, service, headers).await;
    (answer.headers().clone(), answer.status(), looks.take().pop())
}

#[heirloom::test(virtual_time)]
async fn variables_come_from_all_lines_and_what_is_bound_around_the_connection_stays() {
    let layer = RequestContextLayer::new().inbound(inbound());
    let lines = [("baggage", "tenant=a%20b,unknown=1"), ("baggage", "request-id=7;p=1 , note=x=y")];
    let (_, status, look_at) = look(&layer, &lines).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(look_at.unwrap(), ("a b|7|x=y|-|-".to_owned(), None));

    let context = Context::current().with_var(&TENANT, "bound".to_owned());
    let request = || look(&layer, &lines);
    let in_it = heirloom::context::ContextFutureExt::in_context(request(), context);
    assert_eq!(in_it.await.2.unwrap().0, "bound|7|x=y|-|-");

    // A variable that the program names a header for has its value from there.
    let both = layer.clone().header("x-tenant", &TENANT, |text| Ok::<_, Infallible>(text.to_owned()));
    let with_header = [lines[0], lines[1], ("x-tenant", "named")];
    assert_eq!(look(&both, &with_header).await.2.unwrap().0, "named|7|x=y|-|-");
    assert_eq!(look(&both, &lines).await.2.unwrap().0, "a b|7|x=y|-|-");

    // Without a list nothing is taken.
    assert_eq!(look(&RequestContextLayer::new(), &lines).await.2.unwrap().0, "-|-|-|-|-");
    assert_eq!((TENANT.get(), REQUEST.get()), (None, None), "what a request brings is its own");
}

#[heirloom::test(virtual_time)]
async fn malformed_context_refuses_no_request_and_is_counted() {
    let layer = RequestContextLayer::new().inbound(inbound());
    for (header, value, reason, rest) in [
        ("baggage", "tenant=a,request-id=seven", Reason::Value, "a|-|-|-|-"),
        ("baggage", "tenant=a,request-id", Reason::Member, "a|-|-|-|-"),
        ("baggage", "===", Reason::Member, "-|-|-|-|-"),
        ("traceparent", "00-1-1-1", Reason::TraceParent, "-|-|-|-|-"),
        ("traceparent", "", Reason::TraceParent, "-|-|-|-|-"),
    ] {
        let before = dropped(reason);
        let (_, status, look_at) = look(&layer, &[(header, value)]).await;
        assert_eq!((status, look_at.unwrap().0.as_str()), (StatusCode::OK, rest), "{header}: {value}");
        assert!(dropped(reason) > before, "{header}: {value}");
    }
    // The same header, of a variable that is named by the program, is refused.
    let strict = RequestContextLayer::new().header("x-request", &REQUEST, str::parse);
    let (headers, status, look_at) = look(&strict, &[("x-request", "seven")]).await;
    assert_eq!((status, look_at), (StatusCode::BAD_REQUEST, None));
    assert_eq!(headers["x-refused"], "the value of the header x-request was refused");
}

/// What a time limit leads to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Limit {
    Milliseconds(u128),
    None,
    /// More than a century.
    Ages,
    /// It is no time limit.
    Refused,
    /// It is over, and the handler is not called.
    AtOnce,
}

#[heirloom::test(virtual_time)]
async fn each_time_limit_is_one_or_an_error_and_never_none() {
    use Limit::{Ages, AtOnce, Milliseconds, None, Refused};
    const CENTURY: u128 = 100 * 365 * 24 * 3_600_000;
    let rows: [(&[&str], Limit); 22] = [
        (&[], None),
        (&["100m"], Milliseconds(100)),
        (&["1H"], Milliseconds(3_600_000)),
        (&["1S"], Milliseconds(1_000)),
        (&["00000100m"], Milliseconds(100)),
        (&["0S"], AtOnce),
        (&["0n"], AtOnce),
        (&["00000000H"], AtOnce),
        (&["5"], Refused),
        (&["S"], Refused),
        (&["5s"], Refused),
        (&[""], Refused),
        (&["1.5S"], Refused),
        (&["-1S"], Refused),
        (&["+5m"], Refused),
        (&["123456789S"], Refused),
        (&["100000000000000000000H"], Refused),
        (&["1 S"], Refused),
        (&["99999999H"], Ages),
        (&["1S", "2S"], Refused),
        (&["soon"], Refused),
        (&["Sun, 06 Nov 1994 08:49:37 GMT"], Refused),
    ];
    let layer = RequestContextLayer::new().inbound(inbound());
    let most = 400 * MILLISECOND;
    for (values, expected) in rows {
        let rows = [
            (GRPC, "grpc-timeout", Option::None),
            (("content-type", "text/plain"), "x-request-timeout", Option::None),
            (("content-type", "application/grpc-website"), "x-request-timeout", Option::None),
            (GRPC, "grpc-timeout", Some(most)),
        ];
        for (kind, header, limit) in
            rows.into_iter().chain(OTHER_GRPC.map(|kind| (kind, "grpc-timeout", Option::None)))
        {
            let mut headers = vec![kind, ("baggage", "tenant=a")];
            headers.extend(values.iter().map(|value| (header, *value)));
            let layer = limit.map_or(layer.clone(), |limit| layer.clone().limit(limit));
            let (answered, status, look_at) = look(&layer, &headers).await;
            let most = limit.map(|limit| limit.as_millis());
            let expected = match expected {
                Milliseconds(time) => Milliseconds(most.map_or(time, |most| most.min(time))),
                None | Ages if most.is_some() => Milliseconds(most.unwrap()),
                other => other,
            };
            let is_grpc = header == "grpc-timeout";
            let grpc_status = answered.get("grpc-status").map(|status| status.to_str().unwrap());
            let reason = answered.get("x-refused").map(|reason| reason.to_str().unwrap());
            let found = match (look_at, status.as_u16(), grpc_status) {
                (Some((seen, left)), 200, Option::None) => {
                    assert_eq!(seen, "a|-|-|-|-");
                    match left {
                        Some(left) if left > CENTURY => Ages,
                        left => left.map_or(None, Milliseconds),
                    }
                }
                (Option::None, 200, Some("3")) if is_grpc => Refused,
                (Option::None, 200, Some("4")) if is_grpc => AtOnce,
                (Option::None, 400, Option::None) if !is_grpc => {
                    assert_eq!(reason, Some("the request's time limit is malformed"));
                    Refused
                }
                (Option::None, 504, Option::None) if !is_grpc => {
                    assert_eq!(reason, Some("the request's time is up"));
                    AtOnce
                }
                other => panic!("{values:?}: {other:?}"),
            };
            assert_eq!(found, expected, "{kind:?}, {header}: {values:?}, {limit:?}");
            if matches!(found, Refused | AtOnce) {
                let answered = answered.get("content-type").map(|kind| kind.to_str().unwrap());
                let is_web = kind.1.to_lowercase().starts_with("application/grpc-web");
                let grpc = if is_web { "application/grpc-web+proto" } else { "application/grpc" };
                assert_eq!(answered, is_grpc.then_some(grpc), "{kind:?}");
            }
        }
    }
}

#[heirloom::test(virtual_time)]
async fn a_request_reads_the_header_of_its_own_protocol_and_lists_may_name_another_or_none() {
    let both = [("grpc-timeout", "1S"), ("x-request-timeout", "2S")];
    let left = async |inbound: Inbound, headers: &[(&str, &str)]| {
        look(&RequestContextLayer::new().inbound(inbound), headers).await.2.unwrap().1
    };
    assert_eq!(left(Inbound::new(), &both).await, Some(2_000));
    assert_eq!(left(Inbound::new(), &[GRPC, both[0], both[1]]).await, Some(1_000));
    // That of another protocol is neither read nor refused.
    assert_eq!(left(Inbound::new(), &[("grpc-timeout", "soon")]).await, None);
    let named = Inbound::new().deadline_header("x-time");
    assert_eq!(left(named.clone(), &[("x-time", "3S"), both[1]]).await, Some(3_000));
    assert_eq!(left(named, &[GRPC, ("x-time", "3S"), both[0]]).await, Some(1_000));
    let none = Inbound::new().deadline(false);
    assert_eq!(left(none.clone(), &both).await, None);
    assert_eq!(left(none, &[GRPC, ("grpc-timeout", "soon")]).await, None);
}

#[heirloom::test(virtual_time)]
async fn a_stream_that_has_started_is_cut_by_the_time_limit() {
    let layer = RequestContextLayer::new().inbound(inbound());
    let service = service_fn(async |_| {
        let ticks = stream::unfold((), async |()| {
            sleep(30 * MILLISECOND).await;
            Some((Ok::<_, Infallible>(Frame::data(Bytes::from("tick"))), ()))
        });
        Ok(Response::new(StreamBody::new(Box::pin(ticks))))
    });
    for kind in [GRPC].into_iter().chain(OTHER_GRPC) {
        let begun = now();
        let answer = ask(&layer, service, &[kind, ("grpc-timeout", "100m")]).await;
        assert!(!answer.headers().contains_key("grpc-status"));
        let mut body = answer.into_body();
        for _ in 0..3 {
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "tick");
        }
        let end = body.frame().await.unwrap();
        assert_eq!(now() - begun, 100 * MILLISECOND);
        if kind.1.to_lowercase().contains("web") {
            // Its trailers would be in the body, in a message of a format that is the service's.
            assert!(end.unwrap_err().is::<Elapsed>(), "{kind:?}");
        } else {
            assert_eq!(end.unwrap().trailers_ref().unwrap()["grpc-status"], "4", "{kind:?}");
        }
        assert!(body.frame().await.is_none());
    }
}

/// The span of OpenTelemetry's that is current, and whether it is another process's.
fn span() -> SpanContext {
    opentelemetry::Context::map_current(|context| context.span().span_context().clone())
}

#[heirloom::test(virtual_time)]
async fn the_received_span_is_opentelemetrys_parent_in_each_step_of_the_request() {
    let spans = Log::new();
    let noted = spans.clone();
    let note = move || {
        let trace = TRACE.get().map(|trace| trace.to_string());
        noted.push((span(), trace));
    };
    let service = service_fn(move |_| {
        note();
        let note = note.clone();
        async move {
            sleep(MILLISECOND).await;
            note();
            let dropped = heirloom_tests::OnDrop::new(note.clone());
            let part = stream::once(async move {
                let _dropped = dropped;
                sleep(MILLISECOND).await;
                note();
                Ok::<_, Infallible>(Frame::data(Bytes::from("part")))
            });
            Ok(Response::new(StreamBody::new(Box::pin(part))))
        }
    });
    let layer = RequestContextLayer::new().inbound(Inbound::new());
    let headers = [("traceparent", PARENT), ("tracestate", "vendor=1,other=2")];
    let answer = ask(&layer, service.clone(), &headers).await;
    answer.into_body().collect().await.unwrap();
    let seen = spans.take();
    assert_eq!(seen.len(), 4, "call, handler, body, drop");
    for (span, trace) in seen {
        assert!(span.is_valid() && span.is_remote() && span.is_sampled());
        assert_eq!(span.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(span.span_id().to_string(), "b7ad6b7169203331");
        assert_eq!(span.trace_state().header(), "vendor=1,other=2");
        assert_eq!(trace.as_deref(), Some(PARENT));
    }
    assert!(!span().is_valid(), "it is the request's alone");

    // Without one, and where the list takes none, there is none.
    let refusing = RequestContextLayer::new().inbound(Inbound::new().trace(false));
    for (layer, headers) in [(&layer, &headers[1..]), (&refusing, &headers[..])] {
        ask(layer, service.clone(), headers).await.into_body().collect().await.unwrap();
        assert!(spans.take().iter().all(|(span, trace)| !span.is_valid() && trace.is_none()));
    }
}

#[heirloom::test(virtual_time)]
async fn a_trace_that_is_bound_around_the_connection_is_not_replaced_by_the_peers() {
    const OWN: &str = "00-00000000000000000000000000000001-0000000000000002-01";
    let sent = Log::new();
    let noted = sent.clone();
    let service = service_fn(move |_| {
        let mut headers = HeaderMap::new();
        wire::inject(&mut headers);
        noted.push((span().is_valid(), headers.remove("traceparent").unwrap()));
        async { Ok::<_, Infallible>(Response::new(http_body_util::Empty::<Bytes>::new())) }
    });
    let layer = RequestContextLayer::new().inbound(Inbound::new());
    let context = Context::current().with_var(&TRACE, OWN.parse().unwrap());
    let asked = ask(&layer, service.clone(), &[("traceparent", PARENT)]);
    heirloom::context::ContextFutureExt::in_context(asked, context).await;
    let (has_parent, traceparent) = sent.take().pop().unwrap();
    assert_eq!((has_parent, traceparent.to_str().unwrap()), (false, OWN));

    ask(&layer, service, &[("traceparent", PARENT)]).await;
    let (has_parent, traceparent) = sent.take().pop().unwrap();
    assert_eq!((has_parent, traceparent.to_str().unwrap()), (true, PARENT));
}
