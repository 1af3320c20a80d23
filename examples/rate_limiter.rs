//! Shows a rate limiter that lets so many requests per tenant through, and never asks whose a
//! request is: its queues carry the context. One tenant's flood does not hold up another.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use futures::channel::oneshot;
use heirloom::context::channel::{self, Receiver, Sender};
use heirloom::time::{MissedTicks, interval};
use heirloom::{Context, JoinHandle, context_var, spawn, spawn_background};

context_var! {
    static TENANT: &'static str;
    static REQUEST_ID: usize;
}

/// So many at once, and then one per period.
const BURST: usize = 3;
const PERIOD: Duration = Duration::from_millis(20);
const LOAD: [(&str, usize); 3] = [("acme", 12), ("globex", 3), ("initech", 6)];

/// A place in the queue. It names no caller.
struct Ticket {
    granted: oneshot::Sender<Grant>,
}

/// What the limiter knew when it let a request through.
struct Grant {
    tenant: &'static str,
    request: usize,
    waited: bool,
    at: Instant,
}

#[derive(Clone)]
struct Limiter {
    tickets: Sender<Ticket>,
}

impl Limiter {
    fn new() -> Limiter {
        let (tickets, queue) = channel::bounded(64);
        spawn_background(sort(queue));
        Limiter { tickets }
    }

    /// Waits until the caller's tenant may go on.
    async fn pass(&self) -> Grant {
        let (granted, grant) = oneshot::channel();
        self.tickets.send(Ticket { granted }).await.expect("the limiter lives as long as its handles");
        grant.await.expect("every ticket is granted")
    }
}

/// Hands every ticket on to the queue of its tenant, who is known from the context it came with. It
/// is sent on in that context, so the next queue carries the same one.
async fn sort(queue: Receiver<Ticket>) {
    let mut lanes: HashMap<&str, Sender<Ticket>> = HashMap::new();
    while let Ok((ticket, context)) = queue.recv().await {
        let tenant = context.get(&TENANT).expect("every request has one");
        let lane = lanes.entry(tenant).or_insert_with(|| {
            let (sender, lane) = channel::unbounded();
            spawn_background(let_through(lane));
            sender
        });
        assert!(context.run(|| lane.try_send(ticket)).is_ok(), "a lane is open as long as it is listed");
    }
}

/// One tenant's lane.
async fn let_through(lane: Receiver<Ticket>) {
    let mut ticks = interval(PERIOD).missed_tick_policy(MissedTicks::Delay);
    let mut passed = 0;
    while let Ok((ticket, context)) = lane.recv().await {
        // The first tick comes at once, and is one of the burst.
        let waited = passed >= BURST;
        if passed >= BURST - 1 {
            ticks.tick().await;
        }
        passed += 1;
        assert!(Context::current().is_empty(), "the limiter itself belongs to no caller");
        // A caller that has given up meanwhile does not want it.
        let _ = ticket.granted.send(context.run(|| grant(waited)));
    }
}

/// Runs as the request it is for: a log line from here would name it.
fn grant(waited: bool) -> Grant {
    let tenant = TENANT.require();
    let request = REQUEST_ID.require();
    Grant { tenant, request, waited, at: Instant::now() }
}

async fn request(limiter: Limiter) -> Grant {
    let grant = limiter.pass().await;
    assert_eq!(Some(grant.tenant), TENANT.get());
    assert_eq!(Some(grant.request), REQUEST_ID.get());
    grant
}

#[heirloom::main]
pub(crate) async fn main() {
    let begun = Instant::now();
    let limiter = Limiter::new();
    let mut requests: Vec<JoinHandle<Grant>> = Vec::new();
    for (tenant, count) in LOAD {
        let _tenant = TENANT.bind(tenant);
        for _ in 0..count {
            let _request = REQUEST_ID.bind(requests.len());
            requests.push(spawn(request(limiter.clone())));
        }
    }
    assert!(!TENANT.is_set());

    let mut grants: BTreeMap<&str, Vec<Grant>> = BTreeMap::new();
    for request in requests {
        let grant = request.await.expect("no request panics");
        grants.entry(grant.tenant).or_default().push(grant);
    }

    println!("{BURST} requests at once, then one per {} ms and tenant\n", PERIOD.as_millis());
    println!("{:<10}{:>10}{:>10}{:>10}{:>16}", "tenant", "requests", "at once", "waited", "the last after");
    for (tenant, grants) in &mut grants {
        grants.sort_by_key(|grant| grant.at);
        let waited = grants.iter().filter(|grant| grant.waited).count();
        let last = grants[grants.len() - 1].at.duration_since(begun);
        let (count, at_once) = (grants.len(), grants.len() - waited);
        println!("{tenant:<10}{count:>10}{at_once:>10}{waited:>10}{:>13} ms", last.as_millis());

        assert_eq!(at_once, count.min(BURST));
        // Timers are never early, so neither is a request.
        for (number, grant) in grants.iter().enumerate().skip(BURST) {
            let periods = (number + 1 - BURST) as u32;
            assert!(grant.at.duration_since(begun) >= PERIOD * periods, "{tenant} got more than its share");
        }
    }
    let counts: Vec<_> = grants.iter().map(|(tenant, grants)| (*tenant, grants.len())).collect();
    assert_eq!(counts, LOAD);
    println!("\nevery grant was made in the context of the request it was for");
}
