#!/usr/bin/env bash
# opentelemetry-api 1.45.2 for Python: the properties of a baggage entry become a part of its value,
# and are sent on as such.
#
# A service of Python stands between two others. The one before it sends `tenant=acme;ttl=30`, which
# is the value `acme` and a property of it; the one behind it runs on node, and reads what Python
# sends on. Seen: the value is `acme;ttl=30` for Python, which encodes the `;` and the `=` of it,
# and so it is the value for node too. Without Python in between node reads `acme`.
# What one would guess: the value ends at the `;`, and a property is kept or dropped.
# What the documentation says: `W3CBaggagePropagator` extracts baggage from the header in the format
# of W3C's standard, by which the value and the properties are apart. OpenTelemetry's specification
# has metadata beside the value of an entry.
# Why it matters: each service behind the one of Python looks for a tenant that does not exist.
#
# Output seen:
#   Python reads: {"tenant": "acme;ttl=30"}
#   Python sends: tenant=acme%3Bttl%3D30
#   node reads:   acme;ttl=30, and acme from tenant=acme;ttl=30
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check opentelemetry-api==1.45.2
npm install --silent --no-audit --no-fund @opentelemetry/core@2.12.1 @opentelemetry/api@1.9.1
cat >finding.py <<'PYTHON'
import json
import sys

from opentelemetry import baggage
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context

context = W3CBaggagePropagator().extract({"baggage": sys.argv[1]}, Context())
sent = {}
W3CBaggagePropagator().inject(sent, context)
print(json.dumps(dict(baggage.get_all(context))))
print(sent["baggage"])
PYTHON
cat >finding.cjs <<'NODE'
const api = require('@opentelemetry/api');
const { W3CBaggagePropagator } = require('@opentelemetry/core');
const headers = { baggage: process.argv[2] };
const context = new W3CBaggagePropagator().extract(api.ROOT_CONTEXT, headers, api.defaultTextMapGetter);
console.log(api.propagation.getBaggage(context).getEntry('tenant').value);
NODE
header='tenant=acme;ttl=30'
{ read -r at_python && read -r sent; } < <(venv/bin/python finding.py "$header")
behind=$(node finding.cjs "$sent")
direct=$(node finding.cjs "$header")
printf 'Python reads: %s\nPython sends: %s\nnode reads:   %s, and %s from %s\n' \
    "$at_python" "$sent" "$behind" "$direct" "$header"
[ "$direct" = acme ]
[ "$behind" = 'acme;ttl=30' ] || { echo "the properties are apart now" && exit 1; }
