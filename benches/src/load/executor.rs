//! What the scenarios ask of an executor beyond what the other benches do, and which executors can
//! do it.

use std::fmt;
use std::future::Future;
use std::io;

use super::check::Carrier;
use super::drive::{self, Live, Plan};
use super::interrupt::Interrupt;
use super::options::Carry;
use super::outcome::Round;
use super::scenario::{self, Fanout, Kind, PingPong, Service, Soak, Spawn};
use crate::peers::{AsyncExecutor, Heirloom, Smol, Timers, Tokio};

/// Ours. The scenarios bind variables themselves, one set a request.
pub type Ours = Heirloom<0>;

/// tokio as `#[tokio::main]` starts it.
pub type TokioMain = Tokio<true>;

/// An executor with timers and a pool for what blocks.
pub trait Loadable: Timers {
    /// Its name on the command line and in reports.
    const LABEL: &'static str = Self::NAME;

    /// Makes a variable that spawned tasks inherit; `None` where tasks inherit nothing.
    const VARIABLE: Option<MakeVariable> = None;

    /// Runs a closure that blocks.
    fn blocking<F: FnOnce() + Send + 'static>(f: F) -> impl Future<Output = ()> + Send;

    /// What it tells of itself.
    fn observe(&self) -> Observed {
        Observed::default()
    }
}

/// A variable of a context.
pub trait Variable: fmt::Debug + Send + Sync {
    /// Its value in the current context.
    fn get(&self) -> Option<u64>;
    /// Binds it in the current context.
    fn set(&self, value: u64);
}

/// Makes a variable of that name.
pub type MakeVariable = fn(&'static str) -> Box<dyn Variable>;

/// Runs one round of a scenario.
type RunRound = fn(Kind, &Plan, &Interrupt, &mut dyn FnMut(Live)) -> io::Result<Round>;

/// An executor that can be named on the command line.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// [`Loadable::LABEL`].
    pub label: &'static str,
    /// [`Loadable::VARIABLE`].
    pub variable: Option<MakeVariable>,
    /// Runs one round of a scenario.
    pub round: RunRound,
}

impl Entry {
    /// That of an executor.
    pub const fn of<E: Loadable>() -> Entry {
        Entry { label: E::LABEL, variable: E::VARIABLE, round: round_on::<E> }
    }

    /// How variables come to the tasks of this executor.
    pub fn carrier(&self, carry: Carry) -> Carrier {
        match (carry, self.variable) {
            (Carry::None, _) => Carrier::Nothing,
            (Carry::Ours, Some(variable)) => Carrier::Inheritance(variable),
            (Carry::Hand, _) | (Carry::Ours, None) => Carrier::Hand,
        }
    }
}

/// The executors that the program `load` knows, ours first.
pub const EXECUTORS: &[Entry] =
    &[Entry::of::<Ours>(), Entry::of::<TokioMain>(), Entry::of::<Smol>(), Entry::of::<AsyncExecutor>()];

fn round_on<E: Loadable>(
    kind: Kind,
    plan: &Plan,
    interrupt: &Interrupt,
    look: &mut dyn FnMut(Live),
) -> io::Result<Round> {
    match kind {
        Kind::Spawn => drive::round::<Spawn, E>(plan, interrupt, look),
        Kind::Fanout => drive::round::<Fanout, E>(plan, interrupt, look),
        Kind::PingPong => drive::round::<PingPong, E>(plan, interrupt, look),
        Kind::Timers => drive::round::<scenario::Timers, E>(plan, interrupt, look),
        Kind::Service => drive::round::<Service, E>(plan, interrupt, look),
        Kind::Soak => drive::round::<Soak, E>(plan, interrupt, look),
    }
}

/// What an executor tells of itself; `None` where it does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Polls of all workers so far.
    pub polls: Option<u64>,
    /// Steals of all workers so far.
    pub steals: Option<u64>,
    /// Parks of all workers so far.
    pub parks: Option<u64>,
    /// Tasks that wait for a worker now.
    pub queued: Option<u64>,
}

impl Loadable for TokioMain {
    async fn blocking<F: FnOnce() + Send + 'static>(f: F) {
        let _ = tokio::task::spawn_blocking(f).await;
    }

    fn observe(&self) -> Observed {
        let metrics = self.handle().metrics();
        let parks = (0..metrics.num_workers()).map(|worker| metrics.worker_park_count(worker)).sum();
        // Steals, polls and the workers' own queues are behind an unstable flag.
        Observed { parks: Some(parks), ..Observed::default() }
    }
}

impl Loadable for Smol {
    fn blocking<F: FnOnce() + Send + 'static>(f: F) -> impl Future<Output = ()> + Send {
        smol::unblock(f)
    }
}

impl Loadable for AsyncExecutor {
    // The pool that smol's users and async-executor's share.
    fn blocking<F: FnOnce() + Send + 'static>(f: F) -> impl Future<Output = ()> + Send {
        smol::unblock(f)
    }
}
