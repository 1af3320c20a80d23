// OpenTelemetry for node as a peer. `read` turns headers into values, `write` values into headers:
// lists, as JSON.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const require = createRequire(process.argv[2] + '/');
const api = require('@opentelemetry/api');
const core = require('@opentelemetry/core');

const propagator = new core.CompositePropagator({
    propagators: [new core.W3CBaggagePropagator(), new core.W3CTraceContextPropagator()],
});

function read(headers) {
    const context = propagator.extract(api.ROOT_CONTEXT, headers, api.defaultTextMapGetter);
    const entries = (context && api.propagation.getBaggage(context)?.getAllEntries()) ?? [];
    const span = api.trace.getSpanContext(context);
    const flags = span && span.traceFlags.toString(16).padStart(2, '0');
    return {
        values: Object.fromEntries(entries.map(([name, entry]) => [name, entry.value])),
        trace: span ? [`${span.traceId}-${span.spanId}-${flags}`, span.traceState?.serialize() ?? ''] : null,
    };
}

function write({ values, trace }) {
    const entries = Object.entries(values).map(([name, value]) => [name, { value }]);
    let context = api.propagation.setBaggage(api.ROOT_CONTEXT, api.propagation.createBaggage(Object.fromEntries(entries)));
    if (trace) {
        const [traceId, spanId, flags] = trace[0].split('-');
        const traceState = trace[1] ? new core.TraceState(trace[1]) : undefined;
        context = api.trace.setSpanContext(context, { traceId, spanId, traceFlags: parseInt(flags, 16), traceState });
    }
    const headers = {};
    propagator.inject(context, headers, api.defaultTextMapSetter);
    return headers;
}

const cases = JSON.parse(readFileSync(0, 'utf8'));
console.log(JSON.stringify(cases.map(process.argv[3] === 'read' ? read : write)));
