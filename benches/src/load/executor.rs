//! What the scenarios ask of an executor beyond what the other benches do, and which executors can
//! do it.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::time::Duration;

use super::check::Carrier;
use super::drive::{self, Live, Plan};
use super::interrupt::Interrupt;
use super::options::Carry;
use super::outcome::Round;
use super::scenario::{self, Fanout, Http, Kind, PingPong, Service, Soak, Spawn};
use crate::net::serve::Sockets;
use crate::peers::{AsyncExecutor, Heirloom, Smol, Timers, Tokio};

/// Ours. The scenarios bind variables themselves, one set a request.
pub type Ours = Heirloom<0>;

/// tokio as `#[tokio::main]` starts it.
pub type TokioMain = Tokio<true>;

/// An executor with timers, sockets and a pool for what blocks.
pub trait Loadable: Sockets + Timers {
    /// Its name on the command line and in reports.
    const LABEL: &'static str = Self::NAME;

    /// Makes a variable that spawned tasks inherit; `None` where tasks inherit nothing.
    const VARIABLE: Option<MakeVariable> = None;

    /// Starts it, to be inspected as far as it can be.
    fn start_inspected(workers: usize, _inspection: Inspection) -> Self {
        Self::start(workers)
    }

    /// Runs a closure that blocks.
    fn blocking<F: FnOnce() + Send + 'static>(f: F) -> impl Future<Output = ()> + Send;

    /// What `f` binds is seen by `f` and its tasks alone, where tasks inherit; elsewhere `f`
    /// itself.
    fn in_own_context<F: Future + Send>(f: F) -> impl Future<Output = F::Output> + Send {
        f
    }

    /// What it tells of itself.
    fn observe(&self) -> Observed {
        Observed::default()
    }

    /// What its watchdog has reported since the start; `None` without a watchdog.
    fn alarms(&self) -> Option<Alarms> {
        None
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
        Kind::Http => drive::round::<Http, E>(plan, interrupt, look),
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
    /// From spawn or wake-up to poll, so far: the upper ends of buckets, ascending, and how many
    /// times are in each.
    pub schedule_latency: Option<Vec<(Duration, u64)>>,
}

impl Observed {
    /// The buckets of schedule latency with what came on top of `earlier`.
    pub fn schedule_latency_since(&self, earlier: &Observed) -> Vec<(Duration, u64)> {
        let buckets = |observed: &Observed| observed.schedule_latency.clone().unwrap_or_default();
        let before: HashMap<Duration, u64> = buckets(earlier).into_iter().collect();
        let more = |(time, count): (Duration, u64)| {
            let more = count.saturating_sub(before.get(&time).copied().unwrap_or(0));
            (more > 0).then_some((time, more))
        };
        buckets(self).into_iter().filter_map(more).collect()
    }
}

/// How an executor is inspected while it runs. By default it is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// The executor measures its schedule latency.
    pub times: bool,
    /// The limit of its watchdog, which reports each poll that takes longer.
    pub limit: Option<Duration>,
}

/// What a watchdog has reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alarms {
    /// Polls that took longer than the limit.
    pub count: u64,
    /// The longest of them.
    pub longest: Duration,
    /// The first reports, in words. A poll has two: one while it goes on, one when it has ended.
    pub first: Vec<String>,
}

impl Alarms {
    /// Most reports that are kept in words.
    const KEPT: usize = 20;

    /// Adds a report.
    pub fn report(&mut self, took: Duration, ended: bool, text: String) {
        let count = u64::from(!ended);
        self.add(&Alarms { count, longest: took, first: vec![text] });
    }

    /// Adds those of another round.
    pub fn add(&mut self, other: &Alarms) {
        self.count += other.count;
        self.longest = self.longest.max(other.longest);
        let room = Self::KEPT.saturating_sub(self.first.len());
        self.first.extend(other.first.iter().take(room).cloned());
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn schedule_latency_is_what_came_on_top_of_the_earlier_look() {
        let of = |buckets: &[(Duration, u64)]| Observed {
            schedule_latency: Some(buckets.to_vec()),
            ..Observed::default()
        };
        let earlier = of(&[(MS, 5), (4 * MS, 1)]);
        let later = of(&[(MS, 7), (2 * MS, 3), (4 * MS, 1)]);
        assert_eq!(later.schedule_latency_since(&earlier), [(MS, 2), (2 * MS, 3)]);
        assert_eq!(earlier.schedule_latency_since(&Observed::default()), [(MS, 5), (4 * MS, 1)]);
        assert_eq!(Observed::default().schedule_latency_since(&earlier), []);
    }

    #[test]
    fn a_poll_with_two_reports_is_one_alarm_and_words_are_bounded() {
        let mut alarms = Alarms::default();
        for number in 1..=50 {
            alarms.report(number * MS, false, format!("poll {number} goes on"));
            alarms.report(2 * number * MS, true, format!("poll {number} has ended"));
        }
        assert_eq!((alarms.count, alarms.longest, alarms.first.len()), (50, 100 * MS, Alarms::KEPT));
        assert_eq!(alarms.first[..2], ["poll 1 goes on", "poll 1 has ended"]);
        let mut sum = Alarms { count: 1, longest: 200 * MS, first: vec!["an earlier one".to_owned()] };
        sum.add(&alarms);
        assert_eq!((sum.count, sum.longest, sum.first.len()), (51, 200 * MS, Alarms::KEPT));
        assert_eq!(sum.first[..2], ["an earlier one", "poll 1 goes on"]);
    }
}
