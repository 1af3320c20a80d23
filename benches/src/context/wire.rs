//! The row about the wire: a context written into headers, and read from them.

use std::time::{Duration, Instant};

use heirloom::wire::{self, Inbound};
use heirloom_context::raw::{self, Execution};
use heirloom_context::wire::{TRACE, TraceContext};
use heirloom_context::{Context, context_var};
use http::HeaderMap;
use opentelemetry::baggage::BaggageExt;
use opentelemetry::propagation::{TextMapCompositePropagator, TextMapPropagator};
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use opentelemetry::{Context as Otel, KeyValue};
use opentelemetry_http::{HeaderExtractor, HeaderInjector};
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};

use super::{OTEL, OURS};
use crate::harness::{Case, Contender, Row, repeat};

context_var! {
    static TENANT: String, wire = "tenant";
    static USER: u64, wire = "user";
    static REQUEST: u64, wire = "request";
    static REGION: String, wire = "region";
}

/// The case of the goal.
pub const CASE: &str = "4 variables, deadline";
/// The same with a trace.
pub const WITH_TRACE: &str = "4 variables, deadline, trace";

/// The row about the wire.
pub fn rows() -> Vec<Row> {
    let question = "a context injected into the headers of a request and extracted from them: heirloom with four \
                    typed variables and a deadline, opentelemetry's propagators with four texts and no deadline";
    let cases = vec![
        Case::new(CASE, || contenders(None)),
        Case::new(WITH_TRACE, || {
            contenders(TraceContext::new(0x0AF7_6519_16CD_43DD << 64 | 7, 0xB7AD_6B71_6920_3331, 1))
        }),
    ];
    vec![Row { name: "wire", question, cases }]
}

fn contenders(trace: Option<TraceContext>) -> Vec<Contender> {
    let mut context = Context::empty()
        .with_var(&TENANT, "acme corporation".to_owned())
        .with_var(&USER, 1_234_567)
        .with_var(&REQUEST, 9_876_543_210)
        .with_var(&REGION, "eu-central".to_owned());
    let mut otel = Otel::new().with_baggage([
        KeyValue::new("tenant", "acme corporation"),
        KeyValue::new("user", "1234567"),
        KeyValue::new("request", "9876543210"),
        KeyValue::new("region", "eu-central"),
    ]);
    if let Some(trace) = trace {
        otel = otel.with_remote_span_context(SpanContext::new(
            TraceId::from(trace.trace_id()),
            SpanId::from(trace.parent_id()),
            TraceFlags::new(trace.flags()),
            true,
            TraceState::NONE,
        ));
        context = context.with_var(&TRACE, trace);
    }
    let inbound = Inbound::new().var(&TENANT).var(&USER).var(&REQUEST).var(&REGION);
    let ours = Contender::new(OURS, move |ops| {
        let deadline = Execution::NONE.with_deadline(Some(Instant::now() + Duration::from_secs(3_600)));
        let before = raw::set_execution(deadline);
        let sample = context.run(|| {
            repeat(ops, || {
                let mut headers = HeaderMap::new();
                wire::inject(&mut headers);
                let received = inbound.extract(&headers);
                (received.bind(&Context::empty()), received.remaining())
            })
        });
        raw::set_execution(before);
        sample
    });
    let propagators: Vec<Box<dyn TextMapPropagator + Send + Sync>> =
        vec![Box::new(TraceContextPropagator::new()), Box::new(BaggagePropagator::new())];
    let propagator = TextMapCompositePropagator::new(propagators);
    let theirs = Contender::new(OTEL, move |ops| {
        let empty = Otel::new();
        repeat(ops, || {
            let mut headers = HeaderMap::new();
            propagator.inject_context(&otel, &mut HeaderInjector(&mut headers));
            propagator.extract_with_context(&empty, &HeaderExtractor(&headers))
        })
    });
    vec![ours, theirs]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_carry_the_same() {
        let mut ours = HeaderMap::new();
        let context = Context::empty().with_var(&TENANT, "acme corporation".to_owned());
        context.run(|| wire::inject(&mut ours));
        let mut theirs = HeaderMap::new();
        let otel = Otel::new().with_baggage([KeyValue::new("tenant", "acme corporation")]);
        BaggagePropagator::new().inject_context(&otel, &mut HeaderInjector(&mut theirs));
        assert_eq!(ours, theirs);
    }
}
