//! A socket and its source: operations that wait.
#![forbid(unsafe_code)]

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};

use mio::event::Source;

use super::eager::{Blocks, check_ready};
#[cfg(unix)]
use super::source::Fd;
use crate::eager;
pub(crate) use crate::io::readiness::Direction;
use crate::io::readiness::{Observation, Readiness, WaiterKey};
use crate::io::sources::{Place, SourcePage};
use crate::runtime::default_runtime;
use crate::runtime::handle::Handle;
use crate::task::budget::{Claim, SharedClaim};
use crate::task::{Leaf, SocketOperation, record};

/// A socket, or another descriptor, that is a source of a runtime's driver until it is dropped.
pub(crate) struct Registration<S: Blocks> {
    /// `None` when it was taken out.
    source: Option<S>,
    /// Empty if an eager call outside of any runtime has made the socket: then the first task that
    /// waits without the eager flag registers it.
    page: OnceLock<Arc<SourcePage>>,
    /// The place in the page, written before the page.
    index: AtomicU8,
    /// It was registered by its descriptor, by [`Registration::register_late`].
    late: AtomicBool,
    /// Of reading and of writing.
    claims: [SharedClaim; 2],
}

impl<S: Blocks> Registration<S> {
    /// Registers with the runtime that this thread belongs to, else with the default one. An eager
    /// call outside of any runtime registers later, and starts none.
    pub(crate) fn new(source: S) -> io::Result<Registration<S>> {
        let mut new = Registration::unregistered(source);
        new.register()?;
        Ok(new)
    }

    /// The first half of [`new`](Self::new). [`register`](Self::register) must follow before any
    /// other call.
    pub(crate) fn unregistered(source: S) -> Registration<S> {
        Registration {
            source: Some(source),
            page: OnceLock::new(),
            index: AtomicU8::new(0),
            late: AtomicBool::new(false),
            claims: Default::default(),
        }
    }

    /// The second half of [`new`](Self::new), which may be tried again after an error.
    pub(crate) fn register(&mut self) -> io::Result<()> {
        let handle = Handle::current_or_default();
        let shared = if !handle.shared().is_threadless() {
            handle.shared()
        } else if REPORTS_EVERY_CHANGE {
            return Ok(());
        } else {
            default_runtime().shared()
        };
        let driver = shared.driver()?;
        let source = self.source.as_mut().expect("present until the registration is dropped");
        let place = driver.register(source).map_err(explain)?;
        self.set_place(place);
        Ok(())
    }

    pub(crate) fn get(&self) -> &S {
        self.source.as_ref().expect("present until the registration is dropped")
    }

    /// Takes the source out of the driver and returns it.
    pub(crate) fn into_inner(mut self) -> io::Result<S> {
        let mut source = self.source.take().expect("present until the registration is dropped");
        self.deregister(&mut source)?;
        Ok(source)
    }

    fn deregister(&mut self, source: &mut S) -> io::Result<()> {
        let (Some(page), index) = (self.page.take(), *self.index.get_mut()) else { return Ok(()) };
        if *self.late.get_mut() {
            with_descriptor(source, |source| page.deregister(index, source))
        } else {
            page.deregister(index, source)
        }
    }

    fn set_place(&self, Place { page, index }: Place) {
        // Relaxed: a reader has seen the page, which is set after it.
        self.index.store(index, Relaxed);
        let _ = self.page.set(page);
    }

    #[inline]
    fn readiness(&self) -> io::Result<&Readiness> {
        match self.registered() {
            Some(readiness) => Ok(readiness),
            None => self.register_late(),
        }
    }

    #[inline]
    fn registered(&self) -> Option<&Readiness> {
        Some(self.page.get()?.readiness(self.index.load(Relaxed)))
    }

    /// Registers with the runtime of the first task that waits, or with the default one.
    #[cold]
    fn register_late(&self) -> io::Result<&Readiness> {
        static REGISTERING: Mutex<()> = Mutex::new(());
        let registering = REGISTERING.lock().unwrap_or_else(PoisonError::into_inner);
        if self.page.get().is_none() {
            let driver = Handle::current_or_default().shared().driver()?;
            let place = with_descriptor(self.get(), |source| driver.register(source)).map_err(explain)?;
            // Relaxed: read when no other thread has the socket.
            self.late.store(true, Relaxed);
            self.set_place(place);
        }
        drop(registering);
        Ok(self.registered().expect("set above"))
    }
}

/// Operations. Under the eager [flag](crate::is_eager) they block the thread instead of waiting.
impl<S: Blocks> Registration<S> {
    /// Polls `operation` until it does not block. Of the tasks that call this, an event wakes the
    /// latest one of its direction. `leaf` names the method that the user has called.
    pub(crate) fn poll_io<R>(
        &self,
        cx: &mut Context<'_>,
        leaf: &'static str,
        direction: Direction,
        mut operation: impl FnMut(&S) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        self.claims[direction as usize].spend(cx, |cx| {
            let wait = |readiness: &Readiness, cx: &Context<'_>| readiness.poll(direction, cx.waker());
            self.poll_operation(cx, leaf, direction, &mut operation, wait, |_, _, _| ())
        })
    }

    /// The same for reading and writing up to `wanted` bytes.
    ///
    /// An operation that moves fewer bytes has found out that nothing is left, or no room. Trying
    /// again would only find that out once more, so the direction counts as blocked: an event comes
    /// with the next change.
    ///
    /// Reading can also stop for another reason: before TCP's urgent byte, and after a message that
    /// carries descriptors. What follows is read when the peer sends more or closes. This crate
    /// sends neither.
    pub(crate) fn poll_transfer(
        &self,
        cx: &mut Context<'_>,
        direction: Direction,
        wanted: usize,
        mut operation: impl FnMut(&S) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if wanted == 0 {
            return Poll::Ready(Ok(0));
        }
        self.claims[direction as usize].spend(cx, |cx| {
            let wait = |readiness: &Readiness, cx: &Context<'_>| readiness.poll(direction, cx.waker());
            let done = |readiness: &Readiness, observed, moved: &usize| {
                if REPORTS_EVERY_CHANGE && 0 < *moved && *moved < wanted {
                    readiness.exhausted(direction, observed);
                }
            };
            self.poll_operation(cx, S::leaf(direction), direction, &mut operation, wait, done)
        })
    }

    /// Runs `operation` as soon as it does not block. Any number of tasks may wait at once.
    /// Dropping the future removes its waker.
    pub(crate) async fn io<R>(
        &self,
        direction: Direction,
        operation: impl FnMut(&S) -> io::Result<R>,
    ) -> io::Result<R> {
        self.io_named(S::leaf(direction), direction, operation).await
    }

    /// The same under the name of the method that the user has called.
    pub(crate) async fn io_named<R>(
        &self,
        leaf: &'static str,
        direction: Direction,
        mut operation: impl FnMut(&S) -> io::Result<R>,
    ) -> io::Result<R> {
        let mut waiter = SharedWaiter::new(self);
        let mut claim = Claim::default();
        poll_fn(|cx| {
            claim.spend(cx, |cx| {
                let wait = |readiness: &Readiness, cx: &Context<'_>| waiter.poll(readiness, direction, cx);
                self.poll_operation(cx, leaf, direction, &mut operation, wait, |_, _, _| ())
            })
        })
        .await
    }

    /// Runs `operation` unless its direction is known to block.
    pub(crate) fn try_io<R>(
        &self,
        direction: Direction,
        mut operation: impl FnMut(&S) -> io::Result<R>,
    ) -> io::Result<R> {
        if eager::is_eager() {
            // No driver may have received events for this socket.
            return operation(self.get());
        }
        let readiness = self.readiness()?;
        let observed = readiness.observe(direction).ok_or(io::ErrorKind::WouldBlock)?;
        self.attempt(readiness, direction, observed, &mut operation)
            .unwrap_or(Err(io::ErrorKind::WouldBlock.into()))
    }

    /// Waits until `direction` is not known to block.
    pub(crate) async fn ready(&self, direction: Direction) -> io::Result<()> {
        let mut waiter = SharedWaiter::new(self);
        let mut claim = Claim::default();
        poll_fn(|cx| {
            claim.spend(cx, |cx| {
                let wait = |readiness: &Readiness, cx: &Context<'_>| waiter.poll(readiness, direction, cx);
                self.poll_readiness(cx, direction, wait)
            })
        })
        .await
    }

    /// Polls until `direction` is not known to block. Of the tasks that call this or
    /// [`poll_io`](Self::poll_io), an event wakes the latest one of its direction.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>, direction: Direction) -> Poll<io::Result<()>> {
        self.claims[direction as usize].spend(cx, |cx| {
            let wait = |readiness: &Readiness, cx: &Context<'_>| readiness.poll(direction, cx.waker());
            self.poll_readiness(cx, direction, wait)
        })
    }

    fn poll_readiness(
        &self,
        cx: &mut Context<'_>,
        direction: Direction,
        wait: impl FnOnce(&Readiness, &Context<'_>) -> Poll<Observation>,
    ) -> Poll<io::Result<()>> {
        if eager::is_eager() {
            let mut check = |source: &S| check_ready(source, direction);
            if let Some(result) = self.poll_eagerly(cx, S::leaf(direction), direction, &mut check) {
                return result;
            }
        }
        let observed = ready!(self.noted(direction, wait(self.readiness()?, cx)));
        Poll::Ready(if observed.has_ended() { Err(runtime_ended()) } else { Ok(()) })
    }

    /// Tries `operation` each time that `wait` is ready, until it does not block. `done` is called
    /// with what a successful operation returns.
    #[inline]
    fn poll_operation<R>(
        &self,
        cx: &mut Context<'_>,
        leaf: &'static str,
        direction: Direction,
        operation: &mut impl FnMut(&S) -> io::Result<R>,
        mut wait: impl FnMut(&Readiness, &Context<'_>) -> Poll<Observation>,
        done: impl Fn(&Readiness, Observation, &R),
    ) -> Poll<io::Result<R>> {
        if eager::is_eager()
            && let Some(result) = self.poll_eagerly(cx, leaf, direction, operation)
        {
            return result;
        }
        let readiness = self.readiness()?;
        loop {
            let observed = ready!(self.noted(direction, wait(readiness, cx)));
            if let Some(result) = self.attempt(readiness, direction, observed, operation) {
                if let Ok(output) = &result {
                    done(readiness, observed, output);
                }
                return Poll::Ready(result);
            }
        }
    }

    /// Notes what the task waits for, if it does.
    #[inline]
    fn noted<R>(&self, direction: Direction, polled: Poll<R>) -> Poll<R> {
        if polled.is_pending() {
            record::waits_for(|| self.as_leaf(direction));
        }
        polled
    }

    #[cold]
    fn as_leaf(&self, direction: Direction) -> Leaf {
        let operation = match direction {
            Direction::Read => SocketOperation::Read,
            Direction::Write => SocketOperation::Write,
        };
        let find = || self.get().address();
        let address = self.registered().map_or_else(find, |readiness| readiness.address(find));
        Leaf::Socket { operation, kind: S::KIND, address }
    }

    /// IO2. `None` if the operation would block, which the word says from now on.
    fn attempt<R>(
        &self,
        readiness: &Readiness,
        direction: Direction,
        observed: Observation,
        operation: &mut impl FnMut(&S) -> io::Result<R>,
    ) -> Option<io::Result<R>> {
        if observed.has_ended() {
            return Some(Err(runtime_ended()));
        }
        loop {
            match operation(self.get()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    readiness.would_block(direction, observed);
                    return None;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return Some(result),
            }
        }
    }
}

/// Whether the system reports every change since the last event, also if something was left unread
/// then. It does not where the poll is built on something else (wepoll, `poll(2)`).
pub(super) const REPORTS_EVERY_CHANGE: bool = cfg!(any(
    target_os = "linux",
    target_os = "android",
    target_os = "macos",
    target_os = "ios",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly",
));

fn runtime_ended() -> io::Error {
    io::Error::other("the runtime that this socket or descriptor was registered with has ended")
}

/// Says what to do about the two refusals that only a descriptor of the user's own meets.
fn explain(error: io::Error) -> io::Error {
    use io::ErrorKind::{AlreadyExists, PermissionDenied, Unsupported};
    match error.kind() {
        AlreadyExists => io::Error::new(
            AlreadyExists,
            "this descriptor is registered with the runtime already: share the one `Async` or socket, by reference or \
             in an `Arc`, or register a duplicate of the descriptor (`try_clone`)",
        ),
        // `EPERM` of epoll: nothing about rights.
        PermissionDenied => io::Error::new(
            Unsupported,
            "the system has no events for this descriptor: it is a regular file, a directory, or a device that never \
             makes a reader wait. Read and write it in `spawn_blocking`",
        ),
        _ => error,
    }
}

/// Calls `f` with the source's descriptor as a source of its own, which needs no `&mut` of the
/// socket.
#[cfg(unix)]
fn with_descriptor<S: Blocks, R>(source: &S, f: impl FnOnce(&mut dyn Source) -> R) -> R {
    f(&mut Fd(source))
}

/// No source is registered late here: see [`REPORTS_EVERY_CHANGE`].
#[cfg(not(unix))]
fn with_descriptor<S: Blocks, R>(_: &S, _: impl FnOnce(&mut dyn Source) -> R) -> R {
    unreachable!("sources are registered when they are made")
}

impl<S: Blocks> Drop for Registration<S> {
    fn drop(&mut self) {
        if let Some(mut source) = self.source.take() {
            // The system itself takes a closed descriptor out of the poll.
            let _ = self.deregister(&mut source);
        }
    }
}

impl<S: Blocks + fmt::Debug> fmt::Debug for Registration<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

/// A task that shares the source with others. Dropping it removes its waker.
struct SharedWaiter<'a, S: Blocks> {
    of: &'a Registration<S>,
    key: WaiterKey,
}

impl<'a, S: Blocks> SharedWaiter<'a, S> {
    fn new(of: &'a Registration<S>) -> Self {
        SharedWaiter { of, key: WaiterKey::default() }
    }

    fn poll(&mut self, readiness: &Readiness, direction: Direction, cx: &Context<'_>) -> Poll<Observation> {
        readiness.poll_shared(direction, cx.waker(), &mut self.key)
    }
}

impl<S: Blocks> Drop for SharedWaiter<'_, S> {
    fn drop(&mut self) {
        if let Some(readiness) = self.of.registered() {
            readiness.remove_waiter(&mut self.key);
        }
    }
}
