//! Sockets under the eager flag: the thread itself waits for the descriptor.
//!
//! The runtime's driver is not asked, because the worker that would poll may be the one that is
//! blocked here. So the operation is tried first, whatever the source's readiness says, and then
//! the thread sleeps in `poll(2)`. An event that the driver receives meanwhile stays in the
//! readiness; at worst a later operation is tried once in vain.
#![forbid(unsafe_code)]

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Instant;

use mio::event::Source;

use super::registration::Registration;
use crate::eager::{self, NotReady};
use crate::io::readiness::Direction;
use crate::task::SocketKind;

/// A socket, or another descriptor, that a thread can wait for.
pub(crate) trait Blocks: Source + Descriptor {
    /// The method that the user has called, as [`WouldSuspend`](crate::eager::WouldSuspend) names
    /// it, for operations that have no name of their own.
    fn leaf(direction: Direction) -> &'static str;

    /// What it is in dumps.
    const KIND: SocketKind;

    /// The address of the peer; where there is none, its own; if it has one.
    fn address(&self) -> Option<SocketAddr>;
}

macro_rules! blocks {
    ($($source:ident: $reads:literal, $writes:literal, $kind:ident, $address:expr;)*) => {$(
        impl Blocks for mio::net::$source {
            fn leaf(direction: Direction) -> &'static str {
                match direction {
                    Direction::Read => concat!(stringify!($source), "::", $reads),
                    Direction::Write => concat!(stringify!($source), "::", $writes),
                }
            }

            const KIND: SocketKind = SocketKind::$kind;

            fn address(&self) -> Option<SocketAddr> {
                let address: fn(&Self) -> Option<SocketAddr> = $address;
                address(self)
            }
        }
    )*};
}

blocks! {
    TcpListener: "accept", "accept", Listener, |it| it.local_addr().ok();
    TcpStream: "read", "write", Tcp, |it| it.peer_addr().ok();
    UdpSocket: "recv", "send", Udp, |it| it.peer_addr().or_else(|_| it.local_addr()).ok();
}

#[cfg(unix)]
blocks! {
    UnixListener: "accept", "accept", Unix, |_| None;
    UnixStream: "read", "write", Unix, |_| None;
}

impl<S: Blocks> Registration<S> {
    /// Runs `operation`, and blocks the thread until it need not wait. `None` if the operation is
    /// to wait as it would without the flag.
    #[cold]
    pub(super) fn poll_eagerly<R>(
        &self,
        cx: &Context<'_>,
        leaf: &'static str,
        direction: Direction,
        operation: &mut impl FnMut(&S) -> io::Result<R>,
    ) -> Option<Poll<io::Result<R>>> {
        loop {
            match operation(self.get()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => return Some(Poll::Ready(result)),
            }
            match eager::not_ready(cx, leaf) {
                NotReady::Suspend => return None,
                NotReady::Pending => return Some(Poll::Pending),
                NotReady::Block(until) => match block_until_ready(self.get(), direction, until) {
                    Ok(true) => {}
                    Ok(false) => return None,
                    Err(error) => return Some(Poll::Ready(Err(error))),
                },
            }
        }
    }
}

#[cfg(unix)]
pub(crate) use std::os::fd::AsFd as Descriptor;

/// Sleeps until the source is ready, at most until the instant; it may return early. `false` if
/// this system has no way to sleep so.
#[cfg(unix)]
fn block_until_ready(
    source: &impl Descriptor,
    direction: Direction,
    until: Option<Instant>,
) -> io::Result<bool> {
    let left = until.map(|until| until.saturating_duration_since(crate::clock::now()));
    poll_descriptor(source, direction, left).map(|_| true)
}

/// [`WouldBlock`](io::ErrorKind::WouldBlock) unless the source is ready now.
#[cfg(unix)]
pub(super) fn check_ready(source: &impl Descriptor, direction: Direction) -> io::Result<()> {
    let ready = poll_descriptor(source, direction, Some(std::time::Duration::ZERO))?;
    if ready { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
}

/// Whether the source is ready before `limit` has passed.
#[cfg(unix)]
fn poll_descriptor(
    source: &impl Descriptor,
    direction: Direction,
    limit: Option<std::time::Duration>,
) -> io::Result<bool> {
    let events = match direction {
        Direction::Read => libc::POLLIN,
        Direction::Write => libc::POLLOUT,
    };
    match crate::util::system::poll(source, events, limit) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
        ready => ready,
    }
}

/// On other systems sockets suspend, and the thread that drives the eager call waits until their
/// runtime wakes it.
#[cfg(not(unix))]
mod suspending {
    use super::*;

    pub(crate) trait Descriptor {}

    impl<T> Descriptor for T {}

    pub(super) fn block_until_ready(
        _: &impl Descriptor,
        _: Direction,
        _: Option<Instant>,
    ) -> io::Result<bool> {
        Ok(false)
    }

    /// Always ready: no system call tells.
    pub(super) fn check_ready(_: &impl Descriptor, _: Direction) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(not(unix))]
use suspending::block_until_ready;
#[cfg(not(unix))]
pub(crate) use suspending::{Descriptor, check_ready};
