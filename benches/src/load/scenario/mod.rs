//! What is done under load. A scenario is one kind of request; each request is a task of its own,
//! in a context of its own.

mod fanout;
mod http;
mod pingpong;
mod service;
mod soak;
mod spawn;
mod timers;

use std::future::Future;
use std::hint::black_box;
use std::io;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use fanout::Fanout;
pub use http::Http;
pub use pingpong::PingPong;
pub use service::Service;
pub use soak::Soak;
pub use spawn::Spawn;
pub use timers::Timers;

use super::check::Own;
use super::drive::{self, Plan, Shared};
use super::executor::Loadable;

/// A kind of request.
pub trait Scenario: Sized + Send + Sync + 'static {
    /// What reports say of it.
    const ABOUT: About;

    /// Does one, in a task of its own whose context holds the request's variables. Returns what it
    /// was worth.
    fn request<E: Loadable>(executor: E, own: Own) -> impl Future<Output = u64> + Send;

    /// Starts what makes the requests: tasks that are clients, or the generator. Returns the thread
    /// that does so, if it is one.
    ///
    /// # Errors
    /// If it cannot be started.
    fn start<E: Loadable>(shared: &Arc<Shared<E>>, plan: &Plan) -> io::Result<Option<JoinHandle<()>>> {
        drive::start::<Self, E>(shared, plan.load)
    }
}

/// What reports say of a scenario.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// Its name on the command line and in reports.
    pub name: &'static str,
    /// What a request does.
    pub text: &'static str,
    /// What throughput is counted in.
    pub unit: &'static str,
    /// How many clients a closed loop has by default, per worker.
    pub clients_per_worker: usize,
    /// Whether each request under way has a connection of its own: an open loop has as many in
    /// flight then, by default, as a closed one has clients.
    pub over_connections: bool,
}

/// Which scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`Spawn`].
    Spawn,
    /// [`Fanout`].
    Fanout,
    /// [`PingPong`].
    PingPong,
    /// [`Timers`].
    Timers,
    /// [`Service`].
    Service,
    /// [`Http`].
    Http,
    /// [`Soak`].
    Soak,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 7] =
        [Kind::Spawn, Kind::Fanout, Kind::PingPong, Kind::Timers, Kind::Service, Kind::Http, Kind::Soak];
    /// Those that run when none is named.
    pub const USUAL: [Kind; 5] = [Kind::Spawn, Kind::Fanout, Kind::PingPong, Kind::Timers, Kind::Service];
    /// Those that run when none is named and the rate is a share of an executor's: what users wait
    /// for.
    pub const SERVED: [Kind; 2] = [Kind::Service, Kind::Http];

    /// What reports say of it.
    pub fn about(self) -> About {
        match self {
            Kind::Spawn => Spawn::ABOUT,
            Kind::Fanout => Fanout::ABOUT,
            Kind::PingPong => PingPong::ABOUT,
            Kind::Timers => Timers::ABOUT,
            Kind::Service => Service::ABOUT,
            Kind::Http => Http::ABOUT,
            Kind::Soak => Soak::ABOUT,
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.about().name == name)
    }
}

/// Keeps a processor busy for about so many microseconds; the same amount of work on every
/// executor.
fn work(micros: u64) {
    static PER_MICROSECOND: OnceLock<u64> = OnceLock::new();
    let rounds = micros * *PER_MICROSECOND.get_or_init(|| calibrate(Duration::from_millis(2)));
    black_box(spin(rounds));
}

fn spin(rounds: u64) -> u64 {
    (0..rounds).fold(1u64, |sum, round| black_box(sum.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ round))
}

/// The best of a few tries: an interruption makes a try slower.
fn calibrate(each: Duration) -> u64 {
    let rounds = 100_000;
    let begun = Instant::now();
    let mut best = u128::MAX;
    while begun.elapsed() < each * 5 {
        let from = Instant::now();
        black_box(spin(rounds));
        best = best.min(from.elapsed().as_nanos());
    }
    (u128::from(rounds) * 1000 / best.max(1)).max(1) as u64
}

/// Suspends once. The same for all executors: the task wakes itself.
async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(move |cx| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_is_found_by_its_name_and_only_by_that() {
        for kind in Kind::ALL {
            assert_eq!(Kind::named(kind.about().name), Some(kind));
        }
        assert_eq!(Kind::named("everything"), None);
    }
}
