#!/usr/bin/env bash
# asyncio of CPython 3.11.7: after `transport.resume_reading()` all callbacks of the connection's
# protocol run in the context of the task that called it. With uvloop 0.23.0 they stay in their own.
#
# A server is started where a context variable has the value `server`. A task sets the variable to
# `request` for itself, pauses the connection for a moment, as is done while a body is read, and
# resumes it. Seen: what arrives before is told to `data_received` in the context `server`, all that
# comes later, and the end of the connection, in `request`. `resume_reading` registers the socket
# anew, and a registration takes a copy of the context that is current.
# What one would guess: what a task sets is seen by itself and by what it starts. To resume what
# another one has started starts nothing.
# What the documentation says: the page on tasks, that a task copies the context and runs in the
# copy. That of transports has `resume_reading` "resume receiving data", without a word of contexts.
# (CPython's issue 140947 has a case of it.)
# Why it matters: each task that a protocol starts for what arrives, such as the next request of the
# connection, inherits the variables of the request that resumed it.
#
# Output seen:
#   asyncio: 1 in server, 2 in request, the end in request
#   uvloop:  1 in server, 2 in server, the end in server
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check uvloop==0.23.0
cat >finding.py <<'PYTHON'
import asyncio
import contextvars

import uvloop

variable = contextvars.ContextVar("variable")


class Connection(asyncio.Protocol):
    def __init__(self):
        self.seen = asyncio.Queue()

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.seen.put_nowait((data.decode(), variable.get()))

    def connection_lost(self, error):
        self.seen.put_nowait(("the end", variable.get()))


async def request(transport):
    variable.set("request")
    transport.pause_reading()
    await asyncio.sleep(0)
    transport.resume_reading()


async def main():
    variable.set("server")
    connection = Connection()
    server = await asyncio.get_running_loop().create_server(lambda: connection, "127.0.0.1", 0)
    variable.set("client")
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"1")
    seen = [await connection.seen.get()]
    await asyncio.create_task(request(connection.transport))
    writer.write(b"2")
    seen.append(await connection.seen.get())
    writer.close()
    seen.append(await connection.seen.get())
    server.close()
    return seen


for name, run, later in (("asyncio:", asyncio.run, "request"), ("uvloop: ", uvloop.run, "server")):
    seen = run(main())
    print(name, ", ".join(f"{what} in {context}" for what, context in seen))
    expected = [("1", "server"), ("2", later), ("the end", later)]
    assert seen == expected, "the context stays as it is now"
PYTHON
venv/bin/python finding.py
