//! What is written here, peers read; what peers write is read here. Where a peer deviates from the
//! standard, the test says what it makes of the case; when the peer is mended, the test tells.

use std::collections::BTreeMap;

use heirloom_context::Context;
use heirloom_context::wire::baggage::Writer;
use heirloom_context::wire::{
    BAGGAGE, Extractor, Inbound, Injector, REQUEST_TIMEOUT, TRACE, TraceContext, baggage, inject_with,
};
use http::HeaderMap;
use opentelemetry::baggage::BaggageExt;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use opentelemetry::{Context as Otel, KeyValue};
use opentelemetry_http::{HeaderExtractor, HeaderInjector};
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};
use serde_json::{Value, json};

type Headers = BTreeMap<String, String>;
type Values = BTreeMap<String, String>;

/// What goes over the wire: values, and the text of a trace with that of its state.
#[derive(Clone, Debug, Default, PartialEq)]
struct Content {
    values: Values,
    trace: Option<(String, String)>,
}

const TRACE_TEXT: &str = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn content(values: &[(&str, &str)]) -> Content {
    let values = values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Content { values, trace: None }
}

fn traced(trace: &str, state: &str) -> Content {
    Content { values: Values::new(), trace: Some((trace.to_owned(), state.to_owned())) }
}

/// The cases, by name.
fn cases() -> Vec<(&'static str, Content)> {
    let many: Vec<_> = (0..64).map(|number| (format!("m{number:02}"), number.to_string())).collect();
    let many: Vec<_> = many.iter().map(|(name, value)| (&**name, &**value)).collect();
    let printable: String = (' '..='~').collect();
    // A blank at an end has a case of its own.
    let printable = format!("<{printable}>");
    vec![
        ("plain", content(&[("tenant", "acme"), ("user", "7")])),
        ("percent", content(&[("text", "%41"), ("other", "100%25"), ("last", "100%")])),
        ("equals", content(&[("text", "YWJjZA=="), ("other", "a=b")])),
        ("plus", content(&[("text", "+49"), ("other", "a+b")])),
        ("blank", content(&[("text", "a b")])),
        ("blanks at the ends", content(&[("text", " x ")])),
        ("separators", content(&[("text", "a,b;c"), ("other", "\"\\")])),
        ("beyond ASCII", content(&[("text", "größe \u{1F600}")])),
        ("printable", content(&[("text", &printable)])),
        ("control characters", content(&[("text", "a\r\n\u{0}b")])),
        ("a long value", content(&[("text", &"x".repeat(3_000))])),
        ("64 members", content(&many)),
        ("trace", traced(TRACE_TEXT, "")),
        ("trace that is not sampled", traced(&TRACE_TEXT.replace("-01", "-00"), "")),
        ("state", traced(TRACE_TEXT, "a=1,b@c=x y")),
    ]
}

/// A name, the case, and what comes of it in place of its content.
type Deviations = [(&'static str, Content)];

/// Compares what came of each case with its content, or with what the peer is known to make of it.
fn check(results: &[Content], deviations: &Deviations) {
    let cases = cases();
    assert_eq!(results.len(), cases.len());
    let mut wrong = Vec::new();
    for ((name, content), result) in cases.iter().zip(results) {
        let known = deviations.iter().find(|(deviates, _)| deviates == name).map(|(_, known)| known);
        if result != known.unwrap_or(content) {
            wrong.push((name, result));
        }
        assert_ne!(known, Some(content), "{name} is no deviation");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

// ---- our side ----

/// The headers that are written for a content. Values have no variables here: their names are many.
fn written(content: &Content) -> Headers {
    let mut headers = Headers::new();
    let mut context = Context::empty();
    if let Some((ids, state)) = &content.trace {
        let trace: TraceContext = format!("00-{ids}").parse().unwrap();
        context = context.with_var(&TRACE, trace.with_state(state).unwrap());
    }
    context.run(|| inject_with(&mut headers, REQUEST_TIMEOUT, None));
    let mut writer = Writer::new();
    for (name, value) in &content.values {
        writer.member(name, |out| out.write_str(value), &[]).unwrap();
    }
    let line = writer.finish();
    if !line.is_empty() {
        headers.set(BAGGAGE, line);
    }
    headers
}

/// The content that is read of headers.
fn read(headers: &Headers) -> Content {
    let mut values = Values::new();
    headers.for_each(BAGGAGE, &mut |line| {
        values.extend(baggage::members(line).map(|member| {
            let member = member.unwrap();
            (member.name.to_owned(), member.value.into_owned())
        }));
    });
    let received = Inbound::new().extract(headers);
    assert_eq!(received.dropped(), []);
    let trace = received.trace().map(|trace| (trace.to_string()[3..].to_owned(), trace.state().to_owned()));
    Content { values, trace }
}

fn all_written() -> Vec<Headers> {
    cases().iter().map(|(_, content)| written(content)).collect()
}

#[test]
fn what_is_written_is_read() {
    let results: Vec<_> = all_written().iter().map(read).collect();
    check(&results, &[]);
}

// ---- Rust ----

fn rust_reads(headers: &Headers) -> Content {
    let mut map = HeaderMap::new();
    headers.iter().for_each(|(name, value)| map.set(name, value.clone()));
    let context = BaggagePropagator::new().extract_with_context(&Otel::new(), &HeaderExtractor(&map));
    let context = TraceContextPropagator::new().extract_with_context(&context, &HeaderExtractor(&map));
    let values = context.baggage().iter();
    let values = values.map(|(name, (value, _))| (name.to_string(), value.to_string())).collect();
    let trace = context.has_active_span().then(|| {
        let span = context.span().span_context().clone();
        let ids = format!("{}-{}-{:02x}", span.trace_id(), span.span_id(), span.trace_flags().to_u8());
        (ids, span.trace_state().header())
    });
    Content { values, trace }
}

fn rust_writes(content: &Content) -> Headers {
    let mut context = Otel::new();
    if !content.values.is_empty() {
        context = context.with_baggage(
            content.values.iter().map(|(name, value)| KeyValue::new(name.clone(), value.clone())),
        );
    }
    if let Some((ids, state)) = &content.trace {
        let parts: Vec<_> = ids.split('-').collect();
        context = context.with_remote_span_context(SpanContext::new(
            TraceId::from_hex(parts[0]).unwrap(),
            SpanId::from_hex(parts[1]).unwrap(),
            TraceFlags::new(u8::from_str_radix(parts[2], 16).unwrap()),
            false,
            state.parse::<TraceState>().unwrap(),
        ));
    }
    let mut map = HeaderMap::new();
    BaggagePropagator::new().inject_context(&context, &mut HeaderInjector(&mut map));
    TraceContextPropagator::new().inject_context(&context, &mut HeaderInjector(&mut map));
    let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
    map.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

#[test]
fn opentelemetry_for_rust_reads_what_is_written() {
    let results: Vec<_> = all_written().iter().map(rust_reads).collect();
    check(
        &results,
        &[
            // Encoded blanks are trimmed, too.
            ("blanks at the ends", content(&[("text", "x")])),
        ],
    );
}

#[test]
fn what_opentelemetry_for_rust_writes_is_read() {
    let results: Vec<_> = cases().iter().map(|(_, content)| read(&rust_writes(content))).collect();
    check(
        &results,
        &[
            // `%` is not escaped.
            ("percent", content(&[("text", "A"), ("other", "100%"), ("last", "100%")])),
            ("blanks at the ends", content(&[("text", "x")])),
        ],
    );
}

// ---- programs ----

#[cfg(any(feature = "python", feature = "node"))]
mod programs {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    /// What a peer answers to a list.
    fn ask(mut command: Command, verb: &str, list: Value) -> Vec<Value> {
        let mut child = command.arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(list.to_string().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let Value::Array(answers) = serde_json::from_slice(&output.stdout).unwrap() else {
            panic!("no list")
        };
        answers
    }

    fn texts(map: &Value) -> BTreeMap<String, String> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        map.as_object().unwrap().iter().map(|(name, value)| (name.clone(), text(value))).collect()
    }

    /// What the peer reads of what is written here.
    pub(super) fn reads(command: Command) -> Vec<Content> {
        let content = |answer: &Value| {
            let trace = answer["trace"]
                .as_array()
                .map(|trace| (trace[0].as_str().unwrap().to_owned(), trace[1].as_str().unwrap().to_owned()));
            Content { values: texts(&answer["values"]), trace }
        };
        ask(command, "read", json!(all_written())).iter().map(content).collect()
    }

    /// What is read here of what the peer writes.
    pub(super) fn writes(command: Command) -> Vec<Content> {
        let list =
            cases().into_iter().map(|(_, content)| json!({"values": content.values, "trace": content.trace}));
        ask(command, "write", list.collect()).iter().map(|headers| read(&texts(headers))).collect()
    }
}

#[cfg(feature = "python")]
mod python {
    use super::*;

    fn python() -> std::process::Command {
        let mut command = std::process::Command::new(std::env::var_os("HEIRLOOM_PYTHON").unwrap());
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/peer.py"));
        command
    }

    #[test]
    fn opentelemetry_for_python_reads_what_is_written() {
        // Encoded blanks are trimmed, too.
        check(&programs::reads(python()), &[("blanks at the ends", content(&[("text", "x")]))]);
    }

    #[test]
    fn what_opentelemetry_for_python_writes_is_read() {
        // A blank is written as `+`, which by the standard is a `+`.
        let printable: String = (' '..='~').collect();
        check(
            &programs::writes(python()),
            &[
                ("blank", content(&[("text", "a+b")])),
                ("blanks at the ends", content(&[("text", "+x+")])),
                ("beyond ASCII", content(&[("text", "größe+\u{1F600}")])),
                ("printable", content(&[("text", &format!("<{}>", printable.replace(' ', "+")))])),
            ],
        );
    }
}

#[cfg(feature = "node")]
mod node {
    use super::*;

    fn node() -> std::process::Command {
        let mut command = std::process::Command::new("node");
        command
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/peer.mjs"))
            .arg(std::env::var_os("HEIRLOOM_NODE").unwrap());
        command
    }

    #[test]
    fn opentelemetry_for_node_reads_what_is_written() {
        check(&programs::reads(node()), &[]);
    }

    #[test]
    fn what_opentelemetry_for_node_writes_is_read() {
        check(&programs::writes(node()), &[]);
    }
}
