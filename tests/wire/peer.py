"""OpenTelemetry for Python as a peer. `read` turns headers into values, `write` values into headers: lists, as JSON."""

import json
import sys

from opentelemetry import baggage, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

PROPAGATORS = [W3CBaggagePropagator(), TraceContextTextMapPropagator()]


def read(headers):
    context = Context()
    for propagator in PROPAGATORS:
        context = propagator.extract(headers, context)
    span = trace.get_current_span(context).get_span_context()
    traced = None
    if span.is_valid:
        ids = f"{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"
        traced = [ids, span.trace_state.to_header()]
    return {"values": dict(baggage.get_all(context)), "trace": traced}


def write(case):
    context = Context()
    for name, value in case["values"].items():
        context = baggage.set_baggage(name, value, context)
    if case["trace"]:
        ids, state = case["trace"]
        trace_id, span_id, flags = (int(part, 16) for part in ids.split("-"))
        state = trace.TraceState.from_header([state])
        span = trace.SpanContext(trace_id, span_id, True, trace.TraceFlags(flags), state)
        context = trace.set_span_in_context(trace.NonRecordingSpan(span), context)
    headers = {}
    for propagator in PROPAGATORS:
        propagator.inject(headers, context)
    return headers


json.dump([{"read": read, "write": write}[sys.argv[1]](case) for case in json.load(sys.stdin)], sys.stdout)
