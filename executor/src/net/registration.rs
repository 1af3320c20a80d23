//! A socket and its source: operations that wait.
#![forbid(unsafe_code)]

use std::fmt;
use std::future::poll_fn;
use std::io;
#[cfg(unix)]
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};

#[cfg(unix)]
use mio::unix::SourceFd;

#[cfg(unix)]
use super::eager::Descriptor;
use super::eager::{Blocks, look};
use crate::eager;
use crate::io::driver::Driver;
pub(crate) use crate::io::readiness::Direction;
use crate::io::readiness::{Place, Readiness, Seen};
use crate::runtime::default_runtime;
use crate::runtime::handle::Handle;
use crate::task::budget::{Claim, SharedClaim};

/// A source of events in the poll of a runtime, until it is dropped.
pub(crate) struct Registration<S: Blocks> {
    /// `None`: taken out.
    source: Option<S>,
    /// Not set yet where an eager call has made it outside of any runtime: then it is when somebody waits without the flag.
    home: OnceLock<Home>,
    /// Of reading and of writing.
    claims: [SharedClaim; 2],
}

/// The place of a source in a poll.
struct Home {
    place: usize,
    readiness: Arc<Readiness>,
    driver: Arc<Driver>,
    /// It was registered by its descriptor.
    late: bool,
}

impl<S: Blocks> Registration<S> {
    /// With the runtime this thread belongs to, else with the default one. An eager call outside of any needs none, and starts none.
    pub(crate) fn new(source: S) -> io::Result<Registration<S>> {
        let mut new = Registration::unplaced(source);
        new.place()?;
        Ok(new)
    }

    /// Without a runtime yet: [`place`](Self::place) comes before anything else.
    pub(crate) fn unplaced(source: S) -> Registration<S> {
        Registration { source: Some(source), home: OnceLock::new(), claims: Default::default() }
    }

    /// The second half of [`new`](Self::new), which may be tried again.
    pub(crate) fn place(&mut self) -> io::Result<()> {
        let handle = Handle::current_or_default();
        let shared = if !handle.shared().is_threadless() {
            handle.shared()
        } else if TELLS_OF_EVERY_CHANGE {
            return Ok(());
        } else {
            default_runtime().shared()
        };
        let driver = shared.driver()?;
        let source = self.source.as_mut().expect("it is there until it is dropped");
        let (place, readiness) = driver.add(source)?;
        let _ = self.home.set(Home { place, readiness, driver, late: false });
        Ok(())
    }

    pub(crate) fn get(&self) -> &S {
        self.source.as_ref().expect("it is there until it is dropped")
    }

    /// The source, out of the poll.
    pub(crate) fn into_inner(mut self) -> io::Result<S> {
        let mut source = self.source.take().expect("it is there until it is dropped");
        self.deregister(&mut source)?;
        Ok(source)
    }

    fn deregister(&mut self, source: &mut S) -> io::Result<()> {
        let Some(Home { place, driver, late, .. }) = self.home.take() else { return Ok(()) };
        if late {
            by_descriptor(source, |source| driver.deregister(place, source))
        } else {
            driver.deregister(place, source)
        }
    }

    /// Its readiness, in the poll of a runtime.
    #[inline]
    fn readiness(&self) -> io::Result<&Readiness> {
        match self.home.get() {
            Some(home) => Ok(&home.readiness),
            None => self.settle(),
        }
    }

    /// Whoever waits first is in a runtime, or is driven by nobody but needs somebody who polls.
    #[cold]
    fn settle(&self) -> io::Result<&Readiness> {
        static SETTLING: Mutex<()> = Mutex::new(());
        let settling = SETTLING.lock().unwrap_or_else(PoisonError::into_inner);
        if self.home.get().is_none() {
            let driver = Handle::current_or_default().shared().driver()?;
            let (place, readiness) = by_descriptor(self.get(), |source| driver.add(source))?;
            let _ = self.home.set(Home { place, readiness, driver, late: true });
        }
        drop(settling);
        Ok(&self.home.get().expect("set above").readiness)
    }
}

/// Operations, which block the thread instead of waiting if the [flag](crate::is_eager) says so.
impl<S: Blocks> Registration<S> {
    /// Does `operation` as soon as it does not block. Of those who call this, the last one per direction is woken. `leaf` is
    /// what the user has called.
    pub(crate) fn poll_io<R>(
        &self,
        cx: &mut Context<'_>,
        leaf: &'static str,
        direction: Direction,
        mut operation: impl FnMut(&S) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        self.claims[direction as usize].spend(cx, |cx| {
            if eager::is_eager()
                && let Some(result) = self.poll_eagerly(cx, leaf, direction, &mut operation)
            {
                return result;
            }
            let readiness = self.readiness()?;
            self.attempt(readiness, direction, operation, || readiness.poll(direction, cx.waker()))
        })
    }

    /// The same for reading and writing, which move so many of `wanted` bytes: if it were fewer, there is nothing left, or
    /// no room, and trying again would only find that out. (An edge comes for whatever comes later.) Not so where reading stops for
    /// another reason: before TCP's urgent byte, and behind a message that carries descriptors. What follows is read when
    /// the other side sends more, or closes; nothing here sends either.
    pub(crate) fn poll_transfer(
        &self,
        cx: &mut Context<'_>,
        direction: Direction,
        wanted: usize,
        mut operation: impl FnMut(&S) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if wanted == 0 {
            // There is nothing to wait for.
            return Poll::Ready(Ok(0));
        }
        self.claims[direction as usize].spend(cx, |cx| {
            if eager::is_eager()
                && let Some(result) = self.poll_eagerly(cx, S::leaf(direction), direction, &mut operation)
            {
                return result;
            }
            let readiness = self.readiness()?;
            loop {
                let seen = ready!(readiness.poll(direction, cx.waker()));
                let result = match self.attempt_once(readiness, direction, seen, &mut operation) {
                    Some(result) => result,
                    None => continue,
                };
                if TELLS_OF_EVERY_CHANGE && matches!(result, Ok(moved) if 0 < moved && moved < wanted) {
                    readiness.exhausted(direction, seen);
                }
                return Poll::Ready(result);
            }
        })
    }

    /// Does `operation` as soon as it does not block. Any number of tasks may wait at once; dropped, it leaves nothing behind.
    pub(crate) async fn io<R>(
        &self,
        direction: Direction,
        operation: impl FnMut(&S) -> io::Result<R>,
    ) -> io::Result<R> {
        self.io_named(S::leaf(direction), direction, operation).await
    }

    /// The same by the name of what the user has called.
    pub(crate) async fn io_named<R>(
        &self,
        leaf: &'static str,
        direction: Direction,
        mut operation: impl FnMut(&S) -> io::Result<R>,
    ) -> io::Result<R> {
        let mut waiter = Waiter { home: &self.home, place: Place::default() };
        let mut claim = Claim::default();
        poll_fn(|cx| {
            claim.spend(cx, |cx| {
                if eager::is_eager()
                    && let Some(result) = self.poll_eagerly(cx, leaf, direction, &mut operation)
                {
                    return result;
                }
                let readiness = self.readiness()?;
                self.attempt(readiness, direction, &mut operation, || waiter.poll(readiness, direction, cx))
            })
        })
        .await
    }

    /// Does `operation` if it is not known to block.
    pub(crate) fn try_io<R>(
        &self,
        direction: Direction,
        mut operation: impl FnMut(&S) -> io::Result<R>,
    ) -> io::Result<R> {
        if eager::is_eager() {
            // Nobody may have been there to hear of anything.
            return operation(self.get());
        }
        let readiness = self.readiness()?;
        let seen = readiness.look(direction).ok_or(io::ErrorKind::WouldBlock)?;
        self.attempt_once(readiness, direction, seen, &mut operation)
            .unwrap_or(Err(io::ErrorKind::WouldBlock.into()))
    }

    /// Waits until `direction` is not known to block.
    pub(crate) async fn ready(&self, direction: Direction) -> io::Result<()> {
        let mut waiter = Waiter { home: &self.home, place: Place::default() };
        let mut claim = Claim::default();
        poll_fn(|cx| {
            claim.spend(cx, |cx| {
                if eager::is_eager()
                    && let Some(result) =
                        self.poll_eagerly(cx, S::leaf(direction), direction, &mut |source| {
                            look(source, direction)
                        })
                {
                    return result;
                }
                let readiness = self.readiness()?;
                let seen = ready!(waiter.poll(readiness, direction, cx));
                Poll::Ready(if seen.has_ended() { Err(ended()) } else { Ok(()) })
            })
        })
        .await
    }

    fn attempt<R>(
        &self,
        readiness: &Readiness,
        direction: Direction,
        mut operation: impl FnMut(&S) -> io::Result<R>,
        mut wait: impl FnMut() -> Poll<Seen>,
    ) -> Poll<io::Result<R>> {
        loop {
            let seen = ready!(wait());
            if let Some(result) = self.attempt_once(readiness, direction, seen, &mut operation) {
                return Poll::Ready(result);
            }
        }
    }

    /// `None`: it would block, and that is known now.
    fn attempt_once<R>(
        &self,
        readiness: &Readiness,
        direction: Direction,
        seen: Seen,
        operation: &mut impl FnMut(&S) -> io::Result<R>,
    ) -> Option<io::Result<R>> {
        if seen.has_ended() {
            return Some(Err(ended()));
        }
        loop {
            match operation(self.get()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    readiness.would_block(direction, seen);
                    return None;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return Some(result),
            }
        }
    }
}

/// Whether the system tells of every change since the last event, also if there was something left. Not so where the poll is
/// made of something else (wepoll, `poll(2)`).
const TELLS_OF_EVERY_CHANGE: bool = cfg!(any(
    target_os = "linux",
    target_os = "android",
    target_os = "macos",
    target_os = "ios",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly",
));

fn ended() -> io::Error {
    io::Error::other("the runtime that this socket was made on has ended")
}

/// Calls `f` with a source that is nothing but the descriptor: it is registered without being touched.
#[cfg(unix)]
fn by_descriptor<R>(source: &impl Descriptor, f: impl FnOnce(&mut SourceFd<'_>) -> R) -> R {
    f(&mut SourceFd(&source.as_fd().as_raw_fd()))
}

/// Nothing is registered late here: see [`TELLS_OF_EVERY_CHANGE`].
#[cfg(not(unix))]
fn by_descriptor<S: Blocks, R>(_: &S, _: impl FnOnce(&mut S) -> R) -> R {
    unreachable!("sources are registered when they are made")
}

impl<S: Blocks> Drop for Registration<S> {
    fn drop(&mut self) {
        if let Some(mut source) = self.source.take() {
            // A descriptor that is closed leaves the poll in any case.
            let _ = self.deregister(&mut source);
        }
    }
}

impl<S: Blocks + fmt::Debug> fmt::Debug for Registration<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

/// One of many who wait.
struct Waiter<'a> {
    home: &'a OnceLock<Home>,
    place: Place,
}

impl Waiter<'_> {
    fn poll(&mut self, readiness: &Readiness, direction: Direction, cx: &Context<'_>) -> Poll<Seen> {
        readiness.poll_shared(direction, cx.waker(), &mut self.place)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if let Some(home) = self.home.get() {
            home.readiness.forget(&mut self.place);
        }
    }
}
