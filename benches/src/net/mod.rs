//! Sockets compared: the rows of the program `net`, its contenders, and one sample.
//!
//! ```text
//! this process                                    the client's process
//!   start a peer, two workers
//!   a listener, an accept loop  ◄── connect ────  all connections, one request each
//!   ── so many requests, please ──────────────►
//!   a task per connection       ◄── requests ──►
//!   ◄───────────────── nanoseconds, by its clock
//!   processor time of this process, before and after
//!   stop the peer                                 ends
//! ```
//!
//! Rounds, tables and the command line are those of the program [`executors`](crate::executor).

use std::io;
use std::net::TcpListener;
use std::pin::pin;
use std::time::Duration;

use futures::channel::oneshot;
use futures::future::select;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::executor::BARE;
use crate::executor::plan::{Plan, repeated, started};
use crate::executor::row::{Compared, Contender, Part, REFERENCE, Row, Sampler};
use crate::executor::tools::process_time;
use crate::harness::Sample;
use crate::peers::{Executor, Heirloom, Inheriting, Smol, Tokio, TokioCurrent};

pub mod client;
pub mod serve;

use client::{Client, Protocol};
use serve::Sockets;

/// Requests between two looks at the clock.
const BATCH: u32 = 4_000;
/// Connections of the rows that have many, but not very many.
const SOME: usize = 64;

const fn part(name: &'static str, to: &'static str) -> Part {
    Part { name, unit: "ns", compared: Compared::To(to), reach: None }
}

const BESIDE_TOKIO: &[Part] = &[part("time", REFERENCE), part("cpu", REFERENCE)];
const BESIDE_BARE: &[Part] = &[part("time", BARE), part("cpu", BARE)];

const fn row(name: &'static str, question: &'static str, parts: &'static [Part]) -> Row {
    // Longer samples than those of `executors`: two processes have to find their pace.
    Row { name, question, parts, samples: 4 }
}

/// Every row about sockets. Each is per request: wall time, and processor time of the server's
/// process.
pub const ROWS: &[Row] = &[
    row("echo-64-1", "64 bytes there and back, 1 connection", BESIDE_TOKIO),
    row("echo-64-64", "64 bytes there and back, 64 connections", BESIDE_TOKIO),
    row("echo-64-1000", "64 bytes there and back, 1,000 connections", BESIDE_TOKIO),
    row("echo-16k-1", "16 KiB there and back, 1 connection", BESIDE_TOKIO),
    row("echo-16k-64", "16 KiB there and back, 64 connections", BESIDE_TOKIO),
    row("echo-16k-1000", "16 KiB there and back, 1,000 connections", BESIDE_TOKIO),
    row("http-hello", "hyper, 64 connections kept alive; ours with a context per request", BESIDE_TOKIO),
    row("request-context", "echo-64-64 with a context per message that is read; over none", BESIDE_BARE),
];

/// One sample: wall time by the client's clock, and processor time of this process, per request.
fn sample<E: Executor, F>(
    plan: &Plan,
    connections: usize,
    protocol: Protocol,
    serve: impl FnOnce(E, TcpListener) -> F,
) -> Vec<f64>
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let connections = if plan.smoke { connections.div_ceil(10) } else { connections } as u32;
    started::<E, _>(|peer| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a listener that can do so");
        let address = listener.local_addr().expect("bound");
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = serve(peer, listener);
        peer.detach(async move {
            // An error would leave the client without an answer, and the sample without an end. Not
            // so the one that the end of the runtime is, hence the order.
            let serving = pin!(async { serving.await.expect("the server accepts") });
            select(stopped, serving).await;
        });
        let mut client = Client::start(address, connections, protocol);
        let mut used = Duration::ZERO;
        let mut ops = 0;
        let sum = repeated(plan, || {
            let before = process_time();
            let (made, elapsed) = client.requests(plan.many(BATCH));
            used += process_time() - before;
            ops += made;
            Sample { ops: made, elapsed }
        });
        drop(client);
        drop(stop);
        vec![sum.ns(), Sample { elapsed: used, ops }.ns()]
    })
}

fn echo<E: Sockets, const BYTES: usize, const CONNECTIONS: usize>(plan: &Plan) -> Vec<f64> {
    sample::<E, _>(plan, CONNECTIONS, Protocol::Echo { bytes: BYTES }, E::echo)
}

fn hello<E: Sockets>(plan: &Plan) -> Vec<f64> {
    sample::<E, _>(plan, SOME, Protocol::Http, E::hello)
}

fn contexts<E: Inheriting>(plan: &Plan) -> Vec<f64> {
    sample::<E, _>(plan, SOME, Protocol::Echo { bytes: 64 }, E::echo_in_contexts)
}

/// An executor in the rows that all executors with sockets take part in.
pub fn contender<E: Sockets>() -> Contender {
    const K16: usize = 16 * 1024;
    let rows: Vec<(&'static str, Sampler)> = vec![
        ("echo-64-1", echo::<E, 64, 1>),
        ("echo-64-64", echo::<E, 64, SOME>),
        ("echo-64-1000", echo::<E, 64, 1_000>),
        ("echo-16k-1", echo::<E, K16, 1>),
        ("echo-16k-64", echo::<E, K16, SOME>),
        ("echo-16k-1000", echo::<E, K16, 1_000>),
        ("http-hello", hello::<E>),
    ];
    Contender { name: E::NAME, rows }
}

/// A build of Heirloom in all rows.
pub fn inheriting<E: Inheriting>() -> Contender {
    let mut contender = contender::<E>();
    contender.rows.push(("request-context", contexts::<E>));
    contender
}

/// All executors with sockets.
pub fn contenders() -> Vec<Contender> {
    let ours = inheriting::<Heirloom<8>>();
    let mut bare = contender::<Heirloom<0>>();
    bare.rows.push(("request-context", echo::<Heirloom<0>, 64, SOME>));
    let hooked = contender::<Heirloom<0, true>>();
    vec![ours, bare, hooked, contender::<Tokio<true>>(), contender::<TokioCurrent>(), contender::<Smol>()]
}

/// Lets this process and its clients have as many descriptors as the system grants, and returns how
/// many: a thousand connections are more than the usual limit.
pub fn want_descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // A process that may not have more does without the rows that need them.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
