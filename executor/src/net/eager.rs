//! Sockets under the eager flag: the thread itself waits for the descriptor.
//!
//! It does not ask the runtime's poll, since the worker that would be in there may be the one that is blocked here. So it
//! tries first, whatever is known of the source, and then sleeps in `poll(2)`. An event that the runtime hears of
//! meanwhile stays noted; at worst an operation is tried once in vain later.
#![forbid(unsafe_code)]

use std::io;
use std::task::{Context, Poll};
use std::time::Instant;

use mio::event::Source;

use super::registration::Registration;
use crate::eager::{self, NotReady};
use crate::io::readiness::Direction;

/// What a thread can wait for.
pub(crate) trait Blocks: Source + Descriptor {
    /// What the user has called, as [`WouldSuspend`](crate::WouldSuspend) tells.
    const READS: &'static str;
    const WRITES: &'static str;

    /// The leaf's name, unless the operation has one of its own.
    fn leaf(direction: Direction) -> &'static str {
        match direction {
            Direction::Read => Self::READS,
            Direction::Write => Self::WRITES,
        }
    }
}

macro_rules! blocks {
    ($($source:ident: $reads:literal, $writes:literal;)*) => {$(
        impl Blocks for mio::net::$source {
            const READS: &'static str = concat!(stringify!($source), "::", $reads);
            const WRITES: &'static str = concat!(stringify!($source), "::", $writes);
        }
    )*};
}

blocks! {
    TcpListener: "accept", "accept";
    TcpStream: "read", "write";
    UdpSocket: "recv", "send";
}

#[cfg(unix)]
blocks! {
    UnixListener: "accept", "accept";
    UnixStream: "read", "write";
}

impl<S: Blocks> Registration<S> {
    /// Does `operation`, and blocks the thread until it need not wait. `None`: it is to wait as it would without the flag.
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
                NotReady::Block(until) => match block(self.get(), direction, until) {
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

/// Sleeps until the source is ready, and perhaps not as long, but no longer than until that instant. False: one cannot here.
#[cfg(unix)]
fn block(source: &impl Descriptor, direction: Direction, until: Option<Instant>) -> io::Result<bool> {
    let left = until.map(|until| until.saturating_duration_since(crate::clock::now()));
    wait(source, direction, left).map(|_| true)
}

/// An error unless the source is ready now.
#[cfg(unix)]
pub(super) fn look(source: &impl Descriptor, direction: Direction) -> io::Result<()> {
    let ready = wait(source, direction, Some(std::time::Duration::ZERO))?;
    if ready { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
}

#[cfg(unix)]
fn wait(
    source: &impl Descriptor,
    direction: Direction,
    limit: Option<std::time::Duration>,
) -> io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    let flags = match direction {
        Direction::Read => PollFlags::IN,
        Direction::Write => PollFlags::OUT,
    };
    // What is too long for the system is as good as for ever: it is asked again.
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    match poll(&mut [PollFd::new(source, flags)], limit.as_ref()) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Elsewhere sockets suspend, and whoever drives the call waits until the runtime tells.
#[cfg(not(unix))]
mod elsewhere {
    use super::*;

    pub(crate) trait Descriptor {}

    impl<T> Descriptor for T {}

    pub(super) fn block(_: &impl Descriptor, _: Direction, _: Option<Instant>) -> io::Result<bool> {
        Ok(false)
    }

    /// As far as is known it is.
    pub(super) fn look(_: &impl Descriptor, _: Direction) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(not(unix))]
use elsewhere::block;
#[cfg(not(unix))]
pub(crate) use elsewhere::{Descriptor, look};
