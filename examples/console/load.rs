//! Something to look at: requests that ask backends in a group, sessions that are mostly idle, a
//! report that computes, and an auditor behind a channel.

use std::convert::Infallible;
use std::hint::black_box;
use std::time::Duration;

use heirloom::context::channel::{self, Receiver, Sender};
use heirloom::{TaskGroup, context_var, sleep, spawn, spawn_background, spawn_blocking, task, yield_now};

context_var! {
    pub(crate) static REQUEST: u64, debug = Debug;
    pub(crate) static TENANT: &'static str, debug = Debug;
    /// Its value is in no dump and on no page.
    pub(crate) static TOKEN: &'static str, debug = Debug, secret = true;
}

/// The value of [`TOKEN`] in all requests.
pub(crate) const SECRET: &str = "open-sesame";

const TENANTS: [&str; 3] = ["acme", "globex", "initech"];

/// Runs until it is dropped, with so many sessions.
pub(crate) async fn run(sessions: u64) {
    let (audit, audited) = channel::unbounded();
    let auditor = task::Builder::new().name("audit").spawn(auditor(audited));
    let report = task::Builder::new().name("report").spawn(report());
    let requests = task::Builder::new().name("requests").spawn(requests(audit));
    let sessions = task::Builder::new().name("sessions").spawn(all_sessions(sessions));
    // None of them returns.
    let _ = futures::join!(auditor, report, requests, sessions);
}

fn random(from: u64, to: u64) -> Duration {
    Duration::from_micros(fastrand::u64(from..to))
}

fn compute(rounds: u64) {
    black_box((0..rounds).fold(0_u64, |sum, round| sum.rotate_left(7) ^ black_box(round)));
}

async fn requests(audit: Sender<&'static str>) {
    for number in 0.. {
        REQUEST.set(number);
        TENANT.set(TENANTS[number as usize % TENANTS.len()]);
        TOKEN.set(SECRET);
        let audit = audit.clone();
        spawn(async move {
            let backends = TaskGroup::<Infallible>::new();
            backends.spawn(backend(20_000));
            backends.spawn(backend(60_000));
            backends.spawn(backend(400_000));
            // All of this is cancelled at the end, which is no failure.
            let _ = backends.join().await;
            let _ = spawn_blocking(|| std::thread::sleep(random(500, 3_000))).await;
            let _ = audit.send("answered").await;
        })
        .detach();
        sleep(random(5_000, 30_000)).await;
    }
}

async fn backend(longest: u64) -> Result<(), Infallible> {
    compute(fastrand::u64(500..40_000));
    sleep(random(longest / 4, longest)).await;
    compute(fastrand::u64(500..40_000));
    Ok(())
}

async fn all_sessions(sessions: u64) {
    for session in 0..sessions {
        spawn_background(session_of(TENANTS[session as usize % TENANTS.len()]));
        if session % 100 == 99 {
            yield_now().await;
        }
    }
    loop {
        sleep(Duration::from_secs(60)).await;
    }
}

/// A background task inherits nothing: it sets what it stands for.
async fn session_of(tenant: &'static str) {
    TENANT.set(tenant);
    TOKEN.set(SECRET);
    loop {
        sleep(random(2_000_000, 60_000_000)).await;
        compute(1_000);
    }
}

async fn report() {
    loop {
        for _ in 0..20 {
            compute(fastrand::u64(10_000..300_000));
            yield_now().await;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

async fn auditor(audited: Receiver<&'static str>) {
    while let Ok((line, context)) = audited.recv().await {
        context.run(|| black_box((line, REQUEST.get())));
    }
}
