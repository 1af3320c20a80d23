#!/usr/bin/env bash
# opentelemetry-api 1.45.2 for Python and @opentelemetry/core 2.12.1 for node: a `+` in baggage is a
# blank to the one and a `+` to the other, both ways.
#
# Each injects two values, a telephone number and a text with a blank, and the other one extracts
# them. Seen: node writes `+49` as `%2B49` and reads `a+b` as it is; Python writes `a b` as `a+b`,
# which node reads as `a+b`. Python reads the `+` of a header in which it stands unencoded, as the
# standard allows and Rust's library writes, as a blank: `+49` becomes `49`, and `a+b` of a token in
# base64 `a b`.
# What one would guess: percent-encoding by W3C's standard, in which `+` stands for itself, in both.
# Why it matters: a name with a blank is another one in the next service, and a number in the
# international form loses its sign.
#
# Output seen:
#   Python writes: number=%2B49,name=a+b     node reads:   {"number":"+49","name":"a+b"}
#   node writes:   number=%2B49,name=a%20b   Python reads: {"number": "+49", "name": "a b"}
#   Rust writes:   number=+49,token=a+b     Python reads: {"number": "49", "token": "a b"}
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check opentelemetry-api==1.45.2
npm install --silent --no-audit --no-fund --prefix node @opentelemetry/core@2.12.1 @opentelemetry/api@1.9.1

cat >python.py <<'PYTHON'
import json
import sys

from opentelemetry import baggage
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context

propagator = W3CBaggagePropagator()
if sys.argv[1] == "write":
    headers, context = {}, Context()
    for name, value in json.loads(sys.argv[2]).items():
        context = baggage.set_baggage(name, value, context)
    propagator.inject(headers, context)
    print(headers["baggage"])
else:
    print(json.dumps(dict(baggage.get_all(propagator.extract({"baggage": sys.argv[2]}, Context())))))
PYTHON
cat >node/node.cjs <<'NODE'
const api = require('@opentelemetry/api');
const { W3CBaggagePropagator } = require('@opentelemetry/core');
const propagator = new W3CBaggagePropagator();
const [verb, text] = process.argv.slice(2);
if (verb === 'write') {
    const entries = Object.entries(JSON.parse(text)).map(([name, value]) => [name, { value }]);
    const baggage = api.propagation.createBaggage(Object.fromEntries(entries));
    const headers = {};
    propagator.inject(api.propagation.setBaggage(api.ROOT_CONTEXT, baggage), headers, api.defaultTextMapSetter);
    console.log(headers.baggage);
} else {
    const context = propagator.extract(api.ROOT_CONTEXT, { baggage: text }, api.defaultTextMapGetter);
    const entries = api.propagation.getBaggage(context).getAllEntries();
    console.log(JSON.stringify(Object.fromEntries(entries.map(([name, entry]) => [name, entry.value]))));
}
NODE
python() { venv/bin/python python.py "$@"; }
values='{"number": "+49", "name": "a b"}'

of_python=$(python write "$values")
at_node=$(node node/node.cjs read "$of_python")
printf 'Python writes: %-25s node reads:   %s\n' "$of_python" "$at_node"
of_node=$(node node/node.cjs write "$values")
at_python=$(python read "$of_node")
printf 'node writes:   %-25s Python reads: %s\n' "$of_node" "$at_python"
raw=$(python read number=+49,token=a+b)
printf 'Rust writes:   %-25s Python reads: %s\n' number=+49,token=a+b "$raw"
[ "$at_node" = '{"number":"+49","name":"a+b"}' ] || { echo "Python writes a blank as node reads it now" && exit 1; }
[ "$raw" = '{"number": "49", "token": "a b"}' ] || { echo "Python reads a + as a + now" && exit 1; }
