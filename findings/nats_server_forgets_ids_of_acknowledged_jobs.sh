#!/usr/bin/env bash
# nats-server 2.9.10 (Debian 12): after a restart, a stream with work-queue retention takes a
# message twice whose id is well within its duplicate window, if the first one was acknowledged
# meanwhile.
#
# A stream in files, work-queue retention, a duplicate window of an hour. A message with the header
# `Nats-Msg-Id: one` is published, pulled and acknowledged. The server is restarted, within seconds.
# The same message is published again, as a client does that has got no answer.
# Seen: before the restart the second publish is answered with "duplicate": true. After it, the
# message is stored once more: the server makes the table of ids of the messages that the stream
# still has, and an acknowledged job is gone from it.
# What one would guess: the window holds across a restart, as it does for a stream that keeps its
# messages (limits retention), which is shown beside.
#
# Output seen:
#   workqueue: again before the restart: duplicate; after it: stored
#   limits: again before the restart: duplicate; after it: duplicate
set -euo pipefail
export PATH=$PATH:/usr/sbin
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$folder"' EXIT
cat >"$folder/finding.py" <<'PY'
import json, socket, subprocess, sys, time

folder = sys.argv[1]
free = socket.socket()
free.bind(("127.0.0.1", 0))
port = free.getsockname()[1]
free.close()


class Server:
    """A server, and a client of a few lines on one connection."""

    def __init__(self):
        command = ["nats-server", "-js", "-a", "127.0.0.1", "-p", str(port), "--store_dir", folder]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        for _ in range(300):
            try:
                self.lines = socket.create_connection(("127.0.0.1", port)).makefile("rwb")
                break
            except OSError:
                time.sleep(0.1)
        self.lines.readline()
        self.send(b'CONNECT {"verbose":false,"headers":true}\r\nSUB answers.* 1\r\n')

    def send(self, data):
        self.lines.write(data)
        self.lines.flush()

    def ask(self, subject, payload=b"", message_id=None):
        """Publishes, and returns subject to reply to, and payload, of the next message."""
        if message_id is None:
            self.send(b"PUB %s answers.a %d\r\n%s\r\n" % (subject.encode(), len(payload), payload))
        else:
            head = b"NATS/1.0\r\nNats-Msg-Id: %s\r\n\r\n" % message_id.encode()
            size = (subject.encode(), len(head), len(head) + len(payload))
            self.send(b"HPUB %s answers.a %d %d\r\n" % size + head + payload + b"\r\n")
        while True:
            words = self.lines.readline().split()
            if words[0] == b"PING":
                self.send(b"PONG\r\n")
            elif words[0] in (b"MSG", b"HMSG"):
                text = self.lines.read(int(words[-1]) + 2)[:-2]
                # Of a message that has headers, nothing but the place to reply to is needed.
                return words[3], text if words[0] == b"MSG" else b""

    def api(self, subject, request):
        answer = json.loads(self.ask("$JS.API." + subject, json.dumps(request).encode())[1])
        assert "error" not in answer, answer

    def publish(self, subject):
        answer = json.loads(self.ask(subject, b"a job", "one")[1])
        return "duplicate" if answer.get("duplicate") else "stored"

    def end(self):
        self.process.terminate()
        self.process.wait()


seen = {}
for retention in ("workqueue", "limits"):
    server = Server()
    stream = {"name": retention, "subjects": [retention], "retention": retention, "storage": "file"}
    server.api("STREAM.CREATE." + retention, stream | {"duplicate_window": 3_600 * 10**9, "num_replicas": 1})
    consumer = {"durable_name": "worker", "ack_policy": "explicit"}
    create = {"stream_name": retention, "config": consumer}
    server.api(f"CONSUMER.DURABLE.CREATE.{retention}.worker", create)
    assert server.publish(retention) == "stored"
    reply_to, _ = server.ask(f"$JS.API.CONSUMER.MSG.NEXT.{retention}.worker", b"1")
    # With a place to reply to, the server says when it has the acknowledgement.
    server.ask(reply_to.decode(), b"+ACK")
    before = server.publish(retention)
    server.end()
    server = Server()
    after = server.publish(retention)
    server.end()
    seen[retention] = (before, after)
    print(f"{retention}: again before the restart: {before}; after it: {after}")
assert seen["limits"] == ("duplicate", "duplicate")
assert seen["workqueue"] == ("duplicate", "stored"), "ids are kept"
PY
python3 "$folder/finding.py" "$folder/store"
