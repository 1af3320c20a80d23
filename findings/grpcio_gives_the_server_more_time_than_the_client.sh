#!/usr/bin/env bash
# grpcio 1.85.3 for Python: the time limit of a call goes to the server rounded up to three digits
# or so. The server has up to one percent more time than its client waits.
#
# A client calls with several limits, and the handler asks `context.time_remaining()`. Seen: of
# 10.001 seconds the server has 10.1, of 100.1 it has 101, of an hour and a second ten seconds more.
# On the wire `grpc-timeout` has eight digits, and units down to nanoseconds, so that each of these
# limits would fit as it is.
# What one would guess: what remains at the server is what the client gave, less the way there.
# What the documentation says: `timeout` is a duration "to allow for the RPC", and
# `time_remaining` the length of allowed time that remains. Neither speaks of a rounding.
# Why it matters: a server that begins what it can just about finish in time works for a client that
# has gone, and hands the longer limit on to the servers that it calls.
#
# Output seen:
#   the client waits 10.001 s: the server has 10.1 s
#   the client waits 100.1 s: the server has 101.0 s
#   the client waits 3601 s: the server has 3610.0 s
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check grpcio==1.85.3
cat >finding.py <<'PYTHON'
from concurrent import futures

import grpc

remaining = []


def handle(request, context):
    remaining.append(context.time_remaining())
    return b""


class Handlers(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(handle)


server = grpc.server(futures.ThreadPoolExecutor(1))
server.add_generic_rpc_handlers([Handlers()])
port = server.add_insecure_port("127.0.0.1:0")
server.start()
with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
    call = channel.unary_unary("/finding.Limits/Ask")
    call(b"", timeout=60)  # connects
    for limit in (10.001, 100.1, 3601):
        call(b"", timeout=limit)
        print(f"the client waits {limit} s: the server has {remaining[-1]:.1f} s", flush=True)
        assert limit + 0.05 < remaining[-1] < 1.02 * limit, "the limit arrives as it is now"
server.stop(None)
PYTHON
GRPC_VERBOSITY=NONE venv/bin/python finding.py
