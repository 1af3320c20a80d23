//! What a task waits for, as its leaves say it.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::panic::Location;
use std::time::{Duration, Instant};

use super::id::Id;
use super::record::{epoch, since_epoch};

/// A leaf of this crate that a task waits for; in a [`TaskDump`](crate::runtime::TaskDump).
///
/// Its text is for a reader: `sleep until …`, `read on tcp 127.0.0.1:4000`, `join of task 12`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Leaf {
    /// [`sleep`](crate::sleep()) and all that stands on it: limits, intervals.
    Sleep {
        /// When it ends.
        until: Instant,
    },
    /// A [`JoinHandle`](crate::JoinHandle).
    Join {
        /// The task that is waited for, if it has an identity.
        task: Option<Id>,
        /// Where that task was spawned.
        spawned_at: &'static Location<'static>,
        /// It is a blocking closure.
        blocking: bool,
    },
    /// A socket.
    Socket {
        /// What is to be done.
        operation: SocketOperation,
        /// What kind of socket it is.
        kind: SocketKind,
        /// The address of the peer; where there is none, its own; if it has one.
        address: Option<SocketAddr>,
    },
    /// A signal of the operating system.
    Signal,
    /// A [channel](crate::context::channel) that is empty.
    Receive,
    /// A [channel](crate::context::channel) that is full.
    Send,
    /// The next result of a [`TaskGroup`](crate::TaskGroup), or its end.
    Group,
    /// A [`CancelToken`](crate::CancelToken).
    Cancellation,
    /// The task's next turn: it has [yielded](crate::yield_now), or its
    /// [budget](crate::task::budget) is spent.
    Turn,
}

/// What a task waits for on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SocketOperation {
    /// Something to read, or a connection to accept.
    Read,
    /// Room to write, or the end of a connect.
    Write,
}

/// Kinds of sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SocketKind {
    /// A stream.
    Tcp,
    /// A listener.
    Listener,
    /// Datagrams.
    Udp,
    /// A stream or listener in the file system.
    Unix,
    /// Another [descriptor](crate::net::Async).
    Descriptor,
}

const SLEEP: u64 = 1;
const JOIN: u64 = 2;
const SOCKET: u64 = 3;
const SIGNAL: u64 = 4;
const RECEIVE: u64 = 5;
const SEND: u64 = 6;
const GROUP: u64 = 7;
const CANCELLATION: u64 = 8;
const TURN: u64 = 9;

/// In the first word, above the kind of a leaf: the fields that have room there.
const FIELDS: u32 = 8;
const BLOCKING: u64 = 1;
const WRITE: u64 = 1;
const V4: u64 = 1 << 1;
const V6: u64 = 1 << 2;
const SOCKET_KIND: u32 = 3;
const PORT: u32 = 8;

impl Leaf {
    pub(super) fn encode(self) -> ([u64; 3], Option<&'static Location<'static>>) {
        match self {
            Leaf::Sleep { until } => ([SLEEP, since_epoch(until), 0], None),
            Leaf::Join { task, spawned_at, blocking } => {
                let fields = if blocking { BLOCKING } else { 0 };
                ([JOIN | fields << FIELDS, task.map_or(0, Id::number), 0], Some(spawned_at))
            }
            Leaf::Socket { operation, kind, address } => {
                let mut fields = (kind as u64) << SOCKET_KIND;
                if operation == SocketOperation::Write {
                    fields |= WRITE;
                }
                let (family, ip) = match address.map(|address| address.ip()) {
                    None => (0, 0),
                    Some(IpAddr::V4(ip)) => (V4, u128::from(u32::from(ip))),
                    Some(IpAddr::V6(ip)) => (V6, u128::from(ip)),
                };
                fields |= family | u64::from(address.map_or(0, |address| address.port())) << PORT;
                ([SOCKET | fields << FIELDS, (ip >> 64) as u64, ip as u64], None)
            }
            Leaf::Signal => ([SIGNAL, 0, 0], None),
            Leaf::Receive => ([RECEIVE, 0, 0], None),
            Leaf::Send => ([SEND, 0, 0], None),
            Leaf::Group => ([GROUP, 0, 0], None),
            Leaf::Cancellation => ([CANCELLATION, 0, 0], None),
            Leaf::Turn => ([TURN, 0, 0], None),
        }
    }

    pub(super) fn decode(words: [u64; 3], place: Option<&'static Location<'static>>) -> Option<Leaf> {
        let [first, one, two] = words;
        let fields = first >> FIELDS;
        Some(match first & ((1 << FIELDS) - 1) {
            SLEEP => Leaf::Sleep { until: epoch() + Duration::from_nanos(one) },
            JOIN => {
                Leaf::Join { task: Id::of_number(one), spawned_at: place?, blocking: fields & BLOCKING != 0 }
            }
            SOCKET => {
                let ip = u128::from(one) << 64 | u128::from(two);
                let ip = match fields & (V4 | V6) {
                    V4 => Some(IpAddr::V4(Ipv4Addr::from(two as u32))),
                    V6 => Some(IpAddr::V6(Ipv6Addr::from(ip))),
                    _ => None,
                };
                let port = (fields >> PORT) as u16;
                let operation =
                    if fields & WRITE != 0 { SocketOperation::Write } else { SocketOperation::Read };
                let kind = match fields >> SOCKET_KIND & 7 {
                    0 => SocketKind::Tcp,
                    1 => SocketKind::Listener,
                    2 => SocketKind::Udp,
                    3 => SocketKind::Unix,
                    _ => SocketKind::Descriptor,
                };
                Leaf::Socket { operation, kind, address: ip.map(|ip| SocketAddr::new(ip, port)) }
            }
            SIGNAL => Leaf::Signal,
            RECEIVE => Leaf::Receive,
            SEND => Leaf::Send,
            GROUP => Leaf::Group,
            CANCELLATION => Leaf::Cancellation,
            TURN => Leaf::Turn,
            _ => return None,
        })
    }
}

impl fmt::Display for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Leaf::Sleep { until } => {
                let now = Instant::now();
                match until.checked_duration_since(now) {
                    Some(left) => write!(f, "sleep until {left:.3?} from now"),
                    None => write!(f, "sleep until {:.3?} ago", now - *until),
                }
            }
            Leaf::Join { task, spawned_at, blocking } => {
                f.write_str(if *blocking { "blocking closure" } else { "join of task" })?;
                match task {
                    Some(task) => write!(f, " {task}"),
                    None => write!(f, " spawned at {spawned_at}"),
                }
            }
            Leaf::Socket { operation, kind, address } => {
                f.write_str(match (operation, kind) {
                    (SocketOperation::Read, SocketKind::Listener) => "accept on ",
                    (SocketOperation::Read, _) => "read on ",
                    (SocketOperation::Write, _) => "write on ",
                })?;
                f.write_str(match kind {
                    SocketKind::Tcp | SocketKind::Listener => "tcp",
                    SocketKind::Udp => "udp",
                    SocketKind::Unix => "unix",
                    SocketKind::Descriptor => "a descriptor",
                })?;
                address.map_or(Ok(()), |address| write!(f, " {address}"))
            }
            Leaf::Signal => f.write_str("a signal"),
            Leaf::Receive => f.write_str("a message of a channel"),
            Leaf::Send => f.write_str("room in a channel"),
            Leaf::Group => f.write_str("a task of a group"),
            Leaf::Cancellation => f.write_str("a cancel token"),
            Leaf::Turn => f.write_str("its next turn"),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_is_read_as_it_was_written() {
        let place = Location::caller();
        let socket = |operation, kind, address: &str| {
            let address = (!address.is_empty()).then(|| address.parse().unwrap());
            Leaf::Socket { operation, kind, address }
        };
        let leaves = [
            Leaf::Sleep { until: epoch() + Duration::from_nanos(7) },
            Leaf::Join { task: Some(Id::next()), spawned_at: place, blocking: false },
            Leaf::Join { task: None, spawned_at: place, blocking: true },
            socket(SocketOperation::Read, SocketKind::Tcp, "127.0.0.1:65535"),
            socket(SocketOperation::Write, SocketKind::Udp, "[fe80::1]:1"),
            socket(SocketOperation::Read, SocketKind::Listener, "[::]:80"),
            socket(SocketOperation::Write, SocketKind::Unix, ""),
            socket(SocketOperation::Read, SocketKind::Descriptor, ""),
            Leaf::Signal,
            Leaf::Receive,
            Leaf::Send,
            Leaf::Group,
            Leaf::Cancellation,
            Leaf::Turn,
        ];
        for leaf in leaves {
            let (words, place) = leaf.encode();
            assert_eq!(Leaf::decode(words, place), Some(leaf));
        }
        assert_eq!(leaves[3].to_string(), "read on tcp 127.0.0.1:65535");
        assert_eq!(leaves[5].to_string(), "accept on tcp [::]:80");
    }
}
