//! Contexts in the headers of `http`, with OpenTelemetry's current span, and the time that is left.

use std::collections::BTreeMap;
use std::time::Duration;

use heirloom::wire::{GRPC_TIMEOUT, Inbound, Reason, TRACE, TraceContext, dropped, inject, inject_as};
use heirloom::{Context, Runtime, block_on, context_var, sleep, spawn, wait_for};
use heirloom_tests::{Child, PATIENCE, in_child, say_as_child, watchdog};
use http::{HeaderMap, HeaderValue};
use hyper::http;
use opentelemetry::Context as OtelContext;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};

context_var! {
    static TENANT: String, wire = "tenant";
    static USER: u64, wire = "user";
}

fn headers(lines: &[(&'static str, &[u8])]) -> HeaderMap {
    lines.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_bytes(value).unwrap())).fold(
        HeaderMap::new(),
        |mut headers, (name, value): (http::HeaderName, _)| {
            headers.append(name, value);
            headers
        },
    )
}

#[test]
fn headers_of_http_are_replaced_and_removed() {
    let stale: &[(&str, &[u8])] = &[
        ("baggage", b"a=1"),
        ("baggage", b"b=2"),
        ("tracestate", b"x=1"),
        ("x-other", b"kept"),
        ("x-request-timeout", b"1S"),
    ];
    let mut sent = headers(stale);
    Context::empty().with_var(&TENANT, "größe %".to_owned()).run(|| inject(&mut sent));
    assert_eq!(sent, headers(&[("baggage", b"tenant=gr%C3%B6%C3%9Fe%20%25"), ("x-other", b"kept")]));
    Context::empty().run(|| inject(&mut sent));
    assert_eq!(sent, headers(&[("x-other", b"kept")]));
}

#[test]
fn all_lines_of_http_are_read_also_those_that_are_no_text() {
    let lines = headers(&[("baggage", b"tenant=a"), ("baggage", b"x=\xff,user=7"), ("baggage", b"tenant=b")]);
    let received = Inbound::new().var(&TENANT).var(&USER).extract(&lines);
    let context = received.bind(&Context::empty());
    assert_eq!((context.get(&TENANT).as_deref(), context.get(&USER)), (Some("b"), Some(7)));
    assert_eq!(received.dropped().iter().map(|dropped| dropped.reason).collect::<Vec<_>>(), [Reason::Member]);
}

#[test]
fn the_time_that_is_left_is_measured_at_the_call() {
    watchdog(PATIENCE, || {
        let runtime = Runtime::builder().virtual_time().build().unwrap();
        runtime.block_on(async {
            let sent = wait_for(
                async {
                    sleep(Duration::from_secs(4)).await;
                    let mut headers = BTreeMap::new();
                    inject_as(&mut headers, GRPC_TIMEOUT);
                    let child = spawn(async {
                        let mut headers = BTreeMap::new();
                        inject(&mut headers);
                        headers
                    });
                    (headers, child.await.unwrap())
                },
                Duration::from_secs(10),
            );
            let (grpc, other) = sent.await.unwrap();
            assert_eq!(grpc, BTreeMap::from([("grpc-timeout".into(), "6000000u".into())]));
            assert_eq!(other, BTreeMap::from([("x-request-timeout".into(), "6000000u".into())]));
        });
    });
}

#[test]
fn nothing_is_sent_where_there_is_no_deadline_and_zero_where_it_has_passed() {
    let injected = || {
        let mut headers = BTreeMap::new();
        inject(&mut headers);
        headers
    };
    assert_eq!(block_on(async { injected() }), BTreeMap::new());
    let late = block_on(wait_for(async { injected() }, Duration::ZERO)).unwrap();
    assert_eq!(late["x-request-timeout"], "0n");
}

fn span(trace: u128, state: &str) -> OtelContext {
    OtelContext::new().with_remote_span_context(SpanContext::new(
        TraceId::from(trace),
        SpanId::from(0xB7AD_u64),
        TraceFlags::new(3),
        false,
        state.parse::<TraceState>().unwrap(),
    ))
}

#[test]
fn the_current_span_of_opentelemetry_is_sent_in_place_of_the_variable() {
    let context = Context::empty().with_var(&TRACE, TraceContext::new(1, 1, 0).unwrap());
    let sent = |otel: OtelContext| {
        let _attached = otel.attach();
        let mut headers = BTreeMap::new();
        context.run(|| inject(&mut headers));
        headers
    };
    let headers = sent(span(0xAF76, "a=1,b=2"));
    assert_eq!(headers["traceparent"], format!("00-{:032x}-{:016x}-03", 0xAF76, 0xB7AD));
    assert_eq!(headers["tracestate"], "a=1,b=2");
    // Without a span, or with one that is none: the variable.
    for none in [OtelContext::new(), span(0, "")] {
        let headers = sent(none);
        assert_eq!(headers.len(), 1);
        assert!(headers["traceparent"].ends_with("1-0000000000000001-00"));
    }
}

#[test]
fn a_trace_that_was_received_is_a_remote_parent_of_opentelemetry() {
    let line = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03";
    let received = Inbound::new().extract(&headers(&[("traceparent", line), ("tracestate", b"a=1")]));
    let parent = SpanContext::from(&received.trace().unwrap());
    assert!(parent.is_valid() && parent.is_remote() && parent.is_sampled());
    assert_eq!(parent.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(parent.span_id().to_string(), "b7ad6b7169203331");
    assert_eq!((parent.trace_flags().to_u8(), parent.trace_state().get("a")), (3, Some("1")));
    assert_eq!(TraceContext::try_from(&parent), Ok(received.trace().unwrap()));
    assert!(TraceContext::try_from(&SpanContext::NONE).is_err());
}

#[test]
fn what_is_dropped_is_said_once_for_each_reason_and_counted() {
    let scenario = || {
        let inbound = Inbound::new().var(&USER);
        for _ in 0..3 {
            let lines = headers(&[("baggage", b"user=seven,nothing"), ("traceparent", b"xyzzy")]);
            drop(inbound.extract(&lines));
        }
        let counts = [Reason::Value, Reason::Member, Reason::TraceParent, Reason::Deadline].map(dropped);
        assert_eq!(counts, [3, 3, 3, 0]);
        say_as_child();
    };
    match in_child("wire_headers::what_is_dropped_is_said_once_for_each_reason_and_counted", false) {
        Child::Here => watchdog(PATIENCE, scenario),
        Child::Ended(output) => {
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{stderr}");
            let lines: Vec<_> = stderr.lines().filter(|line| line.starts_with("heirloom:")).collect();
            assert_eq!(lines.len(), 3, "{stderr}");
            assert!(lines[0].contains(r#"(variable "user")"#), "{stderr}");
            // A peer's text is not in a log.
            assert!(!stderr.contains("seven") && !stderr.contains("xyzzy"), "{stderr}");
        }
    }
}
