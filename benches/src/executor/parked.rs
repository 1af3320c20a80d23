//! How many bytes does a parked task take?
//!
//! A task is a future of 64 bytes that waits. Each peer is asked in a process of its own, since
//! what one has left behind in the allocator would be in the next one's figures. Two of them per
//! task: the bytes *requested* from the allocator and not given back, counted by it; and by how
//! much the process has grown, as the system sees it, with the allocator's own headers and
//! roundings. The tasks are spawned a thousand at a time, so that no queue grows beyond that.

use std::env;
use std::fs;
use std::future::Future;
use std::io::{self, Write};
use std::pin::Pin;
use std::process::{self, Command, ExitCode};
use std::task::{Context, Poll, Waker};

use clap::{Arg, value_parser};
use serde_json::json;

use super::plan::WORKERS;
use super::tools::Countdown;
use crate::cli::flag;
use crate::peers::{
    AsyncExecutor, Executor, Executors, FuturesPool, Heirloom, Smol, Smolscale, StaticAsyncExecutor, Tokio,
    TokioCurrent, smol,
};
use crate::report::table;
use crate::results;
use crate::stats::Spread;

/// What we want to reach, context included: what the process grows by, per task.
const REACH: f64 = 118.0;

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

/// What a process finds out about its peer: bytes requested per task, bytes grown per task.
type Measure = fn(u32, Live) -> io::Result<[f64; 2]>;

/// A peer of this program.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    name: &'static str,
    measure: Measure,
}

impl Peer {
    /// One that is an executor.
    pub fn of<E: Executor>() -> Peer {
        Peer { name: E::NAME, measure: measure::<E> }
    }
}

/// All executors that build with the workspace.
pub fn peers() -> Vec<Peer> {
    vec![
        Peer::of::<Heirloom<8>>(),
        Peer::of::<Heirloom<0>>(),
        Peer::of::<Tokio<true>>(),
        Peer::of::<TokioCurrent>(),
        Peer::of::<AsyncExecutor>(),
        Peer::of::<StaticAsyncExecutor>(),
        Peer::of::<Smol>(),
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

fn measure<E: Executor>(tasks: u32, live: Live) -> io::Result<[f64; 2]> {
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
        // What is allocated once, such as queues and the threads' caches, is there before it
        // counts.
        spawn(AT_ONCE);
        let before = (live() as f64, resident()?);
        spawn(tasks);
        Ok([live() as f64 - before.0, resident()? - before.1].map(|bytes| bytes / f64::from(tasks)))
    })
}

/// The whole program.
pub fn main(peers: &[Peer], live: Live) -> ExitCode {
    let number = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).help(help).value_name("N").value_parser(value_parser!(u32).range(1..))
    };
    let arguments = clap::Command::new("parked")
        .about("Measures the bytes per parked task, each peer in a process of its own.")
        .arg(number("thousands", "Thousands of tasks [default: 1000]"))
        .arg(number("rounds", "Processes per peer [default: 3]"))
        .arg(flag("smoke", "Few tasks, once: does it run?"))
        .arg(flag("keep", "Also keep the run in benches/results").conflicts_with("smoke"))
        .arg(Arg::new("child").long("child").value_name("PEER").hide(true))
        .get_matches();
    let smoke = arguments.get_flag("smoke");
    let asked = |name: &str, default| arguments.get_one::<u32>(name).copied().unwrap_or(default);
    let tasks = asked("thousands", if smoke { 10 } else { 1_000 }).saturating_mul(AT_ONCE);
    let rounds = asked("rounds", if smoke { 1 } else { 3 });
    let result = match arguments.get_one::<String>("child") {
        Some(name) => child(peers, name, tasks, live),
        None => print(peers, tasks, rounds, arguments.get_flag("keep")),
    };
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("cannot measure or print: {error}");
            ExitCode::from(1)
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Measures one peer and says what came of it.
fn child(peers: &[Peer], name: &str, tasks: u32, live: Live) -> io::Result<()> {
    smol::want_threads(WORKERS)?;
    let peer = peers.iter().find(|peer| peer.name == name).ok_or(io::ErrorKind::InvalidInput)?;
    let [requested, grown] = (peer.measure)(tasks, live)?;
    println!("{requested} {grown}");
    // The tasks still wait: they are not torn down one by one.
    process::exit(0);
}

/// What a child says.
fn ask(peer: Peer, tasks: u32) -> io::Result<[f64; 2]> {
    let thousands = (tasks / AT_ONCE).to_string();
    let output = Command::new(env::current_exe()?)
        .args(["--child", peer.name, "--thousands", &thousands])
        .stderr(process::Stdio::inherit())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let figures: Vec<f64> = text.split_whitespace().filter_map(|figure| figure.parse().ok()).collect();
    figures.try_into().map_err(|_| io::Error::other(format!("{} has not answered", peer.name)))
}

fn print(peers: &[Peer], tasks: u32, rounds: u32, keep: bool) -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(
        out,
        "{tasks} tasks of 64 bytes that wait; bytes per task, median of {rounds} processes (min..max)\n"
    )?;
    let mut figures: Vec<Vec<[f64; 2]>> = vec![Vec::new(); peers.len()];
    for _ in 0..rounds {
        for (peer, figures) in peers.iter().zip(&mut figures) {
            figures.push(ask(*peer, tasks)?);
        }
    }
    let cell = |figures: &[[f64; 2]], at: usize| {
        let spread = Spread::of(figures.iter().map(|figures| figures[at]));
        let show = |spread: Spread| format!("{:.0} ({:.0}..{:.0})", spread.median, spread.min, spread.max);
        (spread.map_or(f64::NAN, |spread| spread.median), spread.map_or("-".to_owned(), show))
    };
    let header = ["", "requested", "the process grows by", "goal", ""].map(str::to_owned);
    let line = |(peer, figures): (&Peer, &Vec<[f64; 2]>)| {
        let (grown, text) = cell(figures, 1);
        let mut cells = vec![peer.name.to_owned(), cell(figures, 0).1, text];
        if peer.name == Heirloom::<8>::NAME {
            let verdict = if grown.round() <= REACH { "reached" } else { "MISSED" };
            cells.extend([format!("<= {REACH}"), verdict.to_owned()]);
        }
        cells
    };
    let lines: Vec<Vec<String>> = peers.iter().zip(&figures).map(line).collect();
    let table = table(&header, &lines);
    write!(out, "{table}")?;
    if keep {
        let named = peers.iter().zip(&figures);
        let peers: Vec<_> =
            named.map(|(peer, rounds)| json!({ "name": peer.name, "rounds": rounds })).collect();
        results::keep("parked", &table, json!({ "tasks": tasks, "figures": header[1..3], "peers": peers }))?;
    }
    Ok(())
}
