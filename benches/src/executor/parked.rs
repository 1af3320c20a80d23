//! How many bytes does a parked task take, and how many an idle connection?
//!
//! A task is a future of 64 bytes that waits. A connection is a TCP socket of the peer's and the
//! task that serves it: the task has sent the first byte back, and reads the next one, which does
//! not come, into a buffer of 64 bytes that is a part of the task. So what counts is the task, the
//! socket and its place among the runtime's sources. The client's ends are another process's, and
//! what the kernel keeps is not counted.
//!
//! Each peer is asked in a process of its own, since what one has left behind in the allocator
//! would be in the next one's figures. Two of them per task or connection: the bytes *requested*
//! from the allocator and not given back, counted by it; and by how much the process has grown, as
//! the system sees it, with the allocator's own headers and roundings. The tasks are spawned a
//! thousand at a time, so that no queue grows beyond that.

use std::env;
use std::fs;
use std::future::Future;
use std::io::{self, Write};
use std::net::TcpListener;
use std::pin::Pin;
use std::process::{self, Command, ExitCode};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use clap::{Arg, value_parser};
use serde_json::{Value, json};

use super::plan::WORKERS;
use super::tools::Countdown;
use crate::cli::flag;
use crate::net::client::{self, Client, Protocol};
use crate::net::serve::Sockets;
use crate::net::want_descriptors;
use crate::peers::{
    AsyncExecutor, Executor, Executors, FuturesPool, Heirloom, Smol, Smolscale, StaticAsyncExecutor, Tokio,
    TokioCurrent, smol,
};
use crate::report::table;
use crate::results;
use crate::stats::Spread;

/// What we want to reach, context included: what the process grows by, per task.
const REACH: f64 = 118.0;

/// What we want to reach of the reference's bytes, in what the process grows by, per connection.
const SHARE: f64 = 0.5;

/// Whose share it is.
const REFERENCE: &str = Tokio::<true>::NAME;

/// Connections, unless another number is asked for or the descriptors do not suffice.
const CONNECTIONS: u32 = 10_000;

/// Descriptors that are for something else than connections: the poll, pipes, threads.
const SPARE_DESCRIPTORS: u64 = 100;

/// How long it takes, at most, until the tasks of the last connections wait, and what was needed
/// for making them is given back.
const SETTLED_AFTER: Duration = Duration::from_millis(500);

/// Tasks that are spawned before it is waited until all of them are parked.
const AT_ONCE: u32 = 1_000;

/// A future of 64 bytes that waits for ever. It keeps its waker, as every pending future does: a
/// task of which no waker is left may be dropped.
struct Parked {
    waker: Option<Waker>,
    parked: &'static Countdown,
    _rest: [u64; 5],
}

const _: () = assert!(size_of::<Parked>() == 64);

impl Future for Parked {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.waker = Some(cx.waker().clone());
        self.parked.done();
        Poll::Pending
    }
}

/// Bytes that are allocated now, by the counting allocator of the program.
pub type Live = fn() -> usize;

/// Bytes requested per piece, bytes grown per piece.
type Figures = [f64; 2];

/// What a process finds out about its peer, with so many pieces.
type Measure = fn(u32, Live) -> io::Result<Figures>;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Task,
    Connection,
}

/// A peer of this program.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    name: &'static str,
    tasks: Measure,
    /// `None` for one without sockets.
    connections: Option<Measure>,
}

impl Peer {
    /// One that is an executor.
    pub fn of<E: Executor>() -> Peer {
        Peer { name: E::NAME, tasks: tasks::<E>, connections: None }
    }

    /// One that has sockets too.
    pub fn with_sockets<E: Sockets>() -> Peer {
        Peer { connections: Some(connections::<E>), ..Peer::of::<E>() }
    }

    fn measure(&self, piece: Piece) -> Option<Measure> {
        match piece {
            Piece::Task => Some(self.tasks),
            Piece::Connection => self.connections,
        }
    }
}

/// All executors that build with the workspace.
pub fn peers() -> Vec<Peer> {
    vec![
        Peer::with_sockets::<Heirloom<8>>(),
        Peer::with_sockets::<Heirloom<0>>(),
        Peer::with_sockets::<Tokio<true>>(),
        Peer::with_sockets::<TokioCurrent>(),
        Peer::with_sockets::<AsyncExecutor>(),
        Peer::of::<StaticAsyncExecutor>(),
        Peer::with_sockets::<Smol>(),
        Peer::of::<FuturesPool>(),
        Peer::of::<Executors>(),
        Peer::of::<Smolscale>(),
    ]
}

/// The resident memory of this process, in bytes.
fn resident() -> io::Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kilobytes
        .map(|kilobytes| kilobytes * 1024.0)
        .ok_or_else(|| io::Error::other("no VmRSS in /proc/self/status"))
}

/// By how much both figures grow while `make` makes so many pieces, per piece.
fn growth(pieces: u32, live: Live, make: impl FnOnce()) -> io::Result<Figures> {
    let before = (live() as f64, resident()?);
    make();
    Ok([live() as f64 - before.0, resident()? - before.1].map(|bytes| bytes / f64::from(pieces)))
}

// What is allocated once, such as queues and the threads' caches, is there before it counts: both
// begin with a thousand pieces.

fn tasks<E: Executor>(tasks: u32, live: Live) -> io::Result<Figures> {
    E::within(|| {
        let peer = E::start(WORKERS);
        let parked = Countdown::leaked();
        let spawn = |count: u32| {
            for _ in 0..count / AT_ONCE {
                peer.run(async move {
                    parked.expect(AT_ONCE);
                    for _ in 0..AT_ONCE {
                        peer.detach(Parked { waker: None, parked, _rest: [0; 5] });
                    }
                    parked.finished().await;
                });
            }
        };
        spawn(AT_ONCE);
        growth(tasks, live, || spawn(tasks))
    })
}

fn connections<E: Sockets>(connections: u32, live: Live) -> io::Result<Figures> {
    E::within(|| {
        let peer = E::start(WORKERS);
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        // An error would leave the client without an answer.
        peer.detach(async move { peer.echo_small(listener).await.expect("the server accepts") });
        let connect = |count| {
            let client = Client::start(address, count, Protocol::Echo { bytes: 1 });
            thread::sleep(SETTLED_AFTER);
            client
        };
        let first = connect(AT_ONCE);
        let mut second = None;
        // The buffer for the client's answers is counted too: less than a byte per connection.
        let figures = growth(connections, live, || second = Some(connect(connections)));
        drop((first, second));
        figures
    })
}

/// The whole program.
pub fn main(peers: &[Peer], live: Live) -> ExitCode {
    if let Some(code) = client::run_if_asked() {
        return code;
    }
    let number = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).help(help).value_name("N").value_parser(value_parser!(u32).range(1..))
    };
    let hidden =
        |name: &'static str, value: &'static str| Arg::new(name).long(name).value_name(value).hide(true);
    let arguments = clap::Command::new("parked")
        .about(
            "Measures the bytes per parked task and per idle connection, each peer in a process of its own.",
        )
        .arg(number("thousands", "Thousands of tasks [default: 1000]"))
        .arg(number("connections", "Connections [default: 10000, or what the limit of descriptors admits]"))
        .arg(number("rounds", "Processes per peer [default: 3]"))
        .arg(flag("smoke", "Few tasks and connections, once: does it run?"))
        .arg(flag("keep", "Also keep the run in benches/results").conflicts_with("smoke"))
        .arg(flag("check", "End with code 1 if a goal is missed"))
        .arg(hidden("child", "PEER"))
        .arg(hidden("of", "task|connection"))
        .get_matches();
    let smoke = arguments.get_flag("smoke");
    let asked = |name: &str| arguments.get_one::<u32>(name).copied();
    let descriptors = want_descriptors().saturating_sub(SPARE_DESCRIPTORS + u64::from(AT_ONCE));
    let admitted = u32::try_from(descriptors).unwrap_or(u32::MAX);
    let plan = Plan {
        tasks: asked("thousands").unwrap_or(if smoke { 10 } else { 1_000 }).saturating_mul(AT_ONCE),
        connections: asked("connections").unwrap_or(if smoke { 100 } else { CONNECTIONS }).min(admitted),
        rounds: asked("rounds").unwrap_or(if smoke { 1 } else { 3 }),
    };
    let result = match arguments.get_one::<String>("child") {
        Some(name) => {
            let of_task = arguments.get_one::<String>("of").is_none_or(|of| of == Piece::Task.name());
            let piece = if of_task { Piece::Task } else { Piece::Connection };
            child(peers, name, piece, &plan, live).map(|()| 0)
        }
        None => print(peers, &plan, arguments.get_flag("keep")),
    };
    match result {
        Ok(missed) if missed > 0 && arguments.get_flag("check") => ExitCode::from(1),
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("cannot measure or print: {error}");
            ExitCode::from(1)
        }
        _ => ExitCode::SUCCESS,
    }
}

/// How many of everything.
struct Plan {
    tasks: u32,
    connections: u32,
    rounds: u32,
}

impl Plan {
    fn pieces(&self, piece: Piece) -> u32 {
        match piece {
            Piece::Task => self.tasks,
            Piece::Connection => self.connections,
        }
    }
}

impl Piece {
    const ALL: [Piece; 2] = [Piece::Task, Piece::Connection];

    fn name(self) -> &'static str {
        match self {
            Piece::Task => "task",
            Piece::Connection => "connection",
        }
    }

    fn heading(self) -> &'static str {
        match self {
            Piece::Task => "tasks of 64 bytes that wait",
            Piece::Connection => "idle TCP connections, each with a task that reads into its 64 bytes",
        }
    }

    /// How many bytes the process may grow by, per piece.
    fn goal(self, reference: Option<f64>) -> Option<f64> {
        match self {
            Piece::Task => Some(REACH),
            Piece::Connection => Some(SHARE * reference?),
        }
    }
}

/// Measures one peer and says what came of it.
fn child(peers: &[Peer], name: &str, piece: Piece, plan: &Plan, live: Live) -> io::Result<()> {
    smol::want_threads(WORKERS)?;
    let peer = peers.iter().find(|peer| peer.name == name).ok_or(io::ErrorKind::InvalidInput)?;
    let measure = peer.measure(piece).ok_or(io::ErrorKind::InvalidInput)?;
    let [requested, grown] = measure(plan.pieces(piece), live)?;
    println!("{requested} {grown}");
    // The tasks still wait: they are not torn down one by one.
    process::exit(0);
}

/// What a child says.
fn ask(peer: &Peer, piece: Piece, plan: &Plan) -> io::Result<Figures> {
    let (thousands, connections) = ((plan.tasks / AT_ONCE).to_string(), plan.connections.to_string());
    let output = Command::new(env::current_exe()?)
        .args(["--child", peer.name, "--of", piece.name()])
        .args(["--thousands", &thousands, "--connections", &connections])
        .stderr(process::Stdio::inherit())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let figures: Vec<f64> = text.split_whitespace().filter_map(|figure| figure.parse().ok()).collect();
    figures.try_into().map_err(|_| io::Error::other(format!("{} has not answered", peer.name)))
}

/// Returns how many goals were missed.
fn print(peers: &[Peer], plan: &Plan, keep: bool) -> io::Result<usize> {
    let (mut summary, mut reports, mut missed) = (Vec::new(), json!({}), 0);
    for piece in Piece::ALL {
        let (text, report, misses) = compare(peers, piece, plan)?;
        // A reader of the first table need not wait for the second.
        writeln!(io::stdout(), "{text}")?;
        summary.push(text);
        reports[piece.name()] = report;
        missed += misses;
    }
    if keep {
        results::keep("parked", &summary.join("\n"), reports)?;
    }
    Ok(missed)
}

/// One table, with its heading; what is kept of it; and how many goals were missed.
fn compare(peers: &[Peer], piece: Piece, plan: &Plan) -> io::Result<(String, Value, usize)> {
    let peers: Vec<&Peer> = peers.iter().filter(|peer| peer.measure(piece).is_some()).collect();
    let mut rounds: Vec<Vec<Figures>> = vec![Vec::new(); peers.len()];
    for _ in 0..plan.rounds {
        for (peer, figures) in peers.iter().zip(&mut rounds) {
            figures.push(ask(peer, piece, plan)?);
        }
    }
    let spread = |figures: &[Figures], at: usize| {
        Spread::of(figures.iter().map(|figures| figures[at])).expect("one round at least")
    };
    let show = |Spread { median, min, max, .. }| format!("{median:.0} ({min:.0}..{max:.0})");
    let reference = peers.iter().zip(&rounds).find(|(peer, _)| peer.name == REFERENCE);
    let goal = piece.goal(reference.map(|(_, figures)| spread(figures, 1).median));
    let mut missed = 0;
    let mut line = |peer: &Peer, figures: &[Figures]| {
        let grown = spread(figures, 1);
        let mut cells = vec![peer.name.to_owned(), show(spread(figures, 0)), show(grown)];
        if let Some(goal) = goal.filter(|_| peer.name == Heirloom::<8>::NAME) {
            let reached = grown.median.round() <= goal.round();
            missed += usize::from(!reached);
            cells.extend([format!("<= {goal:.0}"), if reached { "reached" } else { "MISSED" }.to_owned()]);
        }
        cells
    };
    let lines: Vec<Vec<String>> =
        peers.iter().zip(&rounds).map(|(peer, figures)| line(peer, figures)).collect();
    let header = ["", "requested", "the process grows by", "goal", ""].map(str::to_owned);
    let pieces = plan.pieces(piece);
    let heading = format!(
        "{pieces} {}; bytes per {}, median of {} processes (min..max)",
        piece.heading(),
        piece.name(),
        plan.rounds
    );
    let named = peers.iter().zip(&rounds);
    let named: Vec<_> = named.map(|(peer, rounds)| json!({ "name": peer.name, "rounds": rounds })).collect();
    let report = json!({ "pieces": pieces, "figures": header[1..3], "peers": named });
    Ok((format!("{heading}\n\n{}", table(&header, &lines)), report, missed))
}
