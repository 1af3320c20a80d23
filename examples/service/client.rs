//! A client that drives the service and believes nothing: every answer must name the request it is
//! for, and no other.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::http::{Request, StatusCode, Version, header};
use heirloom::hyper::{HyperExecutor, HyperTimer};
use heirloom::net::TcpStream;
use heirloom::{JoinHandle, spawn, spawn_background};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::{http1, http2};

use super::request::{DEADLINE_HEADER, ID_HEADER, TENANT_HEADER};
use super::upstream::has_reviews;

const TENANTS: [&str; 3] = ["acme", "globex", "initech"];
/// Every so many requests one has less time than it needs.
const HURRY_EVERY: u64 = 20;
/// So many clients share a connection over HTTP/2. Over HTTP/1 each has one.
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

/// A connection that is kept alive.
pub(crate) enum Sender {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

/// Opens a connection. Over HTTP/2 it begins with the preface, in the knowledge that the server
/// understands it.
pub(crate) async fn connect(server: SocketAddr, version: Version) -> std::io::Result<Sender> {
    let socket = TcpStream::connect(server).await?;
    socket.set_nodelay(true)?;
    if version == Version::HTTP_2 {
        let mut http2 = http2::Builder::new(HyperExecutor);
        let (sender, connection) =
            http2.timer(HyperTimer).handshake(socket).await.map_err(std::io::Error::other)?;
        spawn_background(connection);
        return Ok(Sender::Http2(sender));
    }
    let (sender, connection) = http1::handshake(socket).await.map_err(std::io::Error::other)?;
    spawn_background(connection);
    Ok(Sender::Http1(sender))
}

pub(crate) type Answer = hyper::Result<(StatusCode, String)>;

/// Asks for a path and waits for the whole answer.
pub(crate) async fn ask(sender: &mut Sender, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = match sender {
        Sender::Http1(_) => Request::get(path).header(header::HOST, "service"),
        Sender::Http2(_) => Request::get(format!("http://service{path}")),
    };
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Empty::new()).expect("a valid request");
    let response = match sender {
        Sender::Http1(sender) => {
            sender.ready().await?;
            sender.send_request(request).await?
        }
        Sender::Http2(sender) => {
            sender.ready().await?;
            sender.send_request(request).await?
        }
    };
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// Sends one request after the other until the server closes the connection.
async fn drive(mut sender: Sender, client: u64) -> Seen {
    let mut seen = Seen::default();
    for number in 0.. {
        let id = format!("c{client}-{number}");
        let tenant = TENANTS[((client + number) % 3) as usize];
        let hurry = number % HURRY_EVERY == HURRY_EVERY - 1;
        // No two clients ask for the same at the same time, so that failures come one by one.
        let order = 31 * client + number;
        let path = if hurry { "/slow/60000".to_string() } else { format!("/orders/{order}") };
        let limit = if hurry { 5 } else { 20_000 };
        let begun = Instant::now();
        let text = limit.to_string();
        let headers = [(ID_HEADER, id.as_str()), (TENANT_HEADER, tenant), (DEADLINE_HEADER, text.as_str())];
        match ask(&mut sender, &path, &headers).await {
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

/// How many connections so many clients open.
pub(crate) fn connections(clients: u64, version: Version) -> u64 {
    if version == Version::HTTP_2 { clients.div_ceil(SHARED_BY) } else { clients }
}

/// So many clients, each in a task.
pub(crate) async fn start(
    server: SocketAddr,
    clients: u64,
    version: Version,
) -> std::io::Result<Vec<JoinHandle<Seen>>> {
    let mut tasks = Vec::new();
    for _ in 0..connections(clients, version) {
        let first = tasks.len() as u64;
        match connect(server, version).await? {
            Sender::Http2(sender) => {
                let sharing = first..clients.min(first + SHARED_BY);
                tasks.extend(sharing.map(|client| spawn(drive(Sender::Http2(sender.clone()), client))));
            }
            sender => tasks.push(spawn(drive(sender, first))),
        }
    }
    Ok(tasks)
}
