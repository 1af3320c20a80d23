//! A client that drives the service and believes nothing: every answer must name the request it is
//! for, and no other.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use axum::http::{Request, StatusCode, Version};
use heirloom::{JoinHandle, spawn};

use super::backend::{self, Client, ask};
use super::request::{DEADLINE_HEADER, ID_HEADER, TENANT_HEADER};
use super::upstream::has_reviews;

const TENANTS: [&str; 3] = ["acme", "globex", "initech"];
/// Every so many requests one has less time than it needs.
const HURRY_EVERY: u64 = 20;
/// So many clients share a connection over HTTP/2.
const SHARED_BY: u64 = 8;
/// The places that an order's answer names: the three backends, and the blocking pool.
const PLACES: [&str; 4] = ["catalog", "prices", "reviews", "sum"];

/// What one or several clients have seen.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) orders: usize,
    /// Of these, without reviews.
    pub(crate) partial: usize,
    pub(crate) out_of_time: usize,
    pub(crate) looks: usize,
    pub(crate) violations: usize,
    /// Requests without an answer: sent while the server closed the connection.
    pub(crate) turned_away: usize,
    pub(crate) latencies: Vec<Duration>,
}

impl Seen {
    pub(crate) fn add(&mut self, other: Seen) {
        self.orders += other.orders;
        self.partial += other.partial;
        self.out_of_time += other.out_of_time;
        self.looks += other.looks;
        self.violations += other.violations;
        self.turned_away += other.turned_away;
        self.latencies.extend(other.latencies);
    }

    /// The latency that so many of a thousand requests did not exceed.
    pub(crate) fn percentile(&mut self, per_mille: usize) -> Duration {
        self.latencies.sort_unstable();
        let place = (self.latencies.len() * per_mille / 1_000).min(self.latencies.len().saturating_sub(1));
        self.latencies.get(place).copied().unwrap_or_default()
    }

    /// Each line names the place, the request, the tenant, and no more time than was given. The
    /// reviews may be left out, and are where there are none.
    fn check_order(&mut self, answer: &str, order: u64, id: &str, tenant: &str, limit: u64) {
        let lines: Vec<&str> = answer.lines().collect();
        let partial = lines.contains(&"reviews left out");
        let right = lines.iter().zip(PLACES).filter(|(line, place)| {
            let left = line.strip_prefix(&format!("{place} {id} {tenant} "));
            left.and_then(|left| left.parse().ok()).is_some_and(|left: u64| left <= limit)
        });
        let looks = PLACES.len() - usize::from(partial);
        let is_whole = lines.len() == PLACES.len() && (partial || has_reviews(order));
        self.violations += looks.abs_diff(right.count()) + usize::from(!is_whole);
        self.looks += looks;
        self.orders += 1;
        self.partial += usize::from(partial);
    }
}

/// Sends one request after the other until the server closes the connection.
async fn drive(server: SocketAddr, connections: Client, client: u64) -> Seen {
    let mut seen = Seen::default();
    for number in 0.. {
        let id = format!("c{client}-{number}");
        let tenant = TENANTS[((client + number) % 3) as usize];
        let hurry = number % HURRY_EVERY == HURRY_EVERY / 2;
        // No two clients ask for the same at the same time, so that failures come one by one.
        let order = 31 * client + number;
        let path = if hurry { "/slow/60000".to_string() } else { format!("/orders/{order}") };
        let limit = if hurry { 5 } else { 20_000 };
        let begun = Instant::now();
        let request = Request::get(format!("http://{server}{path}"))
            .header(ID_HEADER, &id)
            .header(TENANT_HEADER, tenant)
            .header(DEADLINE_HEADER, limit);
        match ask(&connections, request).await {
            Ok((StatusCode::OK, answer)) if !hurry => seen.check_order(&answer, order, &id, tenant, limit),
            Ok((StatusCode::GATEWAY_TIMEOUT, _)) if hurry => seen.out_of_time += 1,
            Ok((status, answer)) => panic!("{id} {path}: {status}: {answer}"),
            Err(_) => {
                seen.turned_away += 1;
                break;
            }
        }
        if !hurry {
            seen.latencies.push(begun.elapsed());
        }
    }
    seen
}

/// So many clients, each in a task. Over HTTP/2 several share a connection, over HTTP/1 each has
/// its own.
pub(crate) fn start(server: SocketAddr, clients: u64, version: Version) -> Vec<JoinHandle<Seen>> {
    let http2 = version == Version::HTTP_2;
    let pools: Vec<Client> = (0..clients).map(|_| backend::client(http2)).collect();
    let share = |client| if http2 { client / SHARED_BY } else { client };
    let drive = |client| spawn(drive(server, pools[share(client) as usize].clone(), client));
    (0..clients).map(drive).collect()
}

/// How many connections so many clients open. There may be more: over HTTP/1 a connection is back
/// in its pool a moment after its answer, and a client that is told of the drain tries to connect
/// anew.
pub(crate) fn connections(clients: u64, version: Version) -> RangeInclusive<usize> {
    let shared = clients.div_ceil(SHARED_BY) as usize;
    if version == Version::HTTP_2 { shared..=2 * shared } else { clients as usize..=usize::MAX }
}
