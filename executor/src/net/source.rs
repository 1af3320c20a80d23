//! Descriptors of the user's own.
//!
//! # Why no `&mut T` is given out
//!
//! The driver knows a descriptor by its number. `Async` keeps no number: it asks `T` each time, and
//! lets the answer go before the call returns. So nothing here is `unsafe`, whatever `T` answers,
//! and no trait has to promise anything. But a `T` whose descriptor changes has no events: the new
//! descriptor is not registered. `get_mut` would make that easy, `mem::replace` by accident, so
//! there is none; and the I/O traits ask for `&T: Read` where `T: Read` would hand out a `&mut T`.
#![forbid(unsafe_code)]

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};
use mio::event::Source;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use super::eager::Blocks;
use super::registration::{Direction, REPORTS_EVERY_CHANGE, Registration};
use crate::task::SocketKind;

/// What has a descriptor, as a source of events: by the descriptor's number.
pub(super) struct Fd<T>(pub(super) T);

impl<T: AsFd> Fd<T> {
    fn with<R>(&self, f: impl FnOnce(&mut SourceFd<'_>) -> R) -> R {
        f(&mut SourceFd(&self.0.as_fd().as_raw_fd()))
    }
}

impl<T: AsFd> Source for Fd<T> {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.with(|source| source.register(registry, token, interests))
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.with(|source| source.reregister(registry, token, interests))
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.with(|source| source.deregister(registry))
    }
}

impl<T: AsFd> AsFd for Fd<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl<T: AsFd> Blocks for Fd<T> {
    fn leaf(direction: Direction) -> &'static str {
        match direction {
            Direction::Read => "Async::readable",
            Direction::Write => "Async::writable",
        }
    }

    const KIND: SocketKind = SocketKind::Descriptor;

    fn address(&self) -> Option<SocketAddr> {
        None
    }
}

/// Any descriptor that can be waited for, as a source of the runtime's events. Unix only.
///
/// For what has no socket type in [this module](super): pipes, terminals, datagram sockets of the
/// Unix domain, `eventfd`, `timerfd`, `signalfd`, `inotify`, `pidfd`, devices; the sockets of a C
/// library; and adaptors that make a library of another executor run on this one. `T` is what owns
/// or borrows the descriptor: an `OwnedFd`, a `std::io::PipeReader`, a
/// `std::os::unix::net::UnixDatagram`, a type of a C library's binding with an [`AsFd`] of its own.
///
/// | for | use |
/// | --- | --- |
/// | reading and writing bytes, where `&T` is [`Read`] and [`Write`] | `AsyncRead`, `AsyncWrite` |
/// | another call of the system's, or of a C library's | [`io`](Async::io) |
/// | the same, in a `poll` method | [`poll_io`](Async::poll_io) |
/// | waiting first and calling later | [`readable`](Async::readable), then [`try_io`](Async::try_io) |
///
/// # Readiness
///
/// The system reports each *change* to ready, once. So a direction counts as ready until a call
/// finds out that it is not: one that was made inside [`io`](Async::io),
/// [`poll_io`](Async::poll_io), [`try_io`](Async::try_io) or the I/O traits, and that returned
/// [`WouldBlock`](io::ErrorKind::WouldBlock). **A call that is made elsewhere takes back nothing**:
/// after it `readable` may be ready at once again and again, though there is nothing to read. No
/// event is lost in any case: a change that comes while a call is under way counts for the next
/// call, also if this one returns `WouldBlock`.
///
/// A part of a buffer that was read is no sign of an end here, as it is for [`TcpStream`]: an
/// `inotify` returns whole events, a terminal a line, a datagram socket a datagram. So the next
/// read asks the system before it waits.
///
/// # What can be registered
///
/// Descriptors of regular files and directories cannot, where the system has no events for them
/// (Linux): [`new`](Async::new) says so, and [`spawn_blocking`](crate::spawn_blocking()) is their
/// place. Neither can one descriptor twice with one runtime: share the `Async` by reference or in
/// an `Arc`, since all methods take `&self`; or duplicate the descriptor. A duplicate has events of
/// its own, and so has the same descriptor in another runtime.
///
/// The descriptor of `T` must stay the same. There is no `get_mut`; a `T` that replaces its
/// descriptor through a shared reference waits for events that do not come, and may take those of
/// another source when it is dropped.
///
/// # Runtime, eager flag, limits
///
/// As for every socket, see [the module](super): the descriptor belongs to the runtime of the
/// thread that makes the `Async`, else to the default one; it may be used anywhere; when its
/// runtime ends, what waits returns an error of kind [`Other`](io::ErrorKind::Other); under the
/// [eager flag](crate::is_eager) the thread blocks. Dropping the `Async` takes the descriptor out
/// of the runtime's driver before `T` is dropped.
///
/// Windows has no events for handles in general, and `mio`, below this crate, takes no sockets
/// there but those of its own types. These have the same methods: [`UdpSocket`] and its like are
/// made from the standard library's, with `readable`, `writable` and `try_io`.
///
/// ```
/// use futures::{AsyncReadExt, AsyncWriteExt};
/// use heirloom::net::Async;
/// use heirloom::spawn;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// heirloom::block_on(async {
///     let (reader, writer) = std::io::pipe()?;
///     let (mut reader, mut writer) = (Async::new(reader)?, Async::new(writer)?);
///     let writing = spawn(async move { writer.write_all(b"through a pipe").await });
///     let mut text = String::new();
///     reader.read_to_string(&mut text).await?;
///     assert_eq!(text, "through a pipe");
///     writing.await??;
///     Ok(())
/// })
/// # }
/// ```
///
/// [`TcpStream`]: super::TcpStream
/// [`UdpSocket`]: super::UdpSocket
#[doc(alias = "AsyncFd")]
#[doc(alias = "PollEvented")]
pub struct Async<T: AsFd> {
    io: Registration<Fd<T>>,
}

impl<T: AsFd> Async<T> {
    /// Registers the descriptor with the runtime of this thread, else with the default one, and
    /// makes it non-blocking.
    ///
    /// A blocking descriptor would block the worker at the first call that finds nothing, and the
    /// tasks behind it: a forgotten flag that no test shows while data is there. So this
    /// constructor sets the flag. The flag belongs to what the system has open, not to the
    /// descriptor: duplicates share it, also those in other processes. A terminal that is standard
    /// input, output and error becomes non-blocking as all three; where that is not wanted, use
    /// [`spawn_blocking`](crate::spawn_blocking()) or
    /// [`new_nonblocking`](Async::new_nonblocking).
    ///
    /// # Errors
    /// An error leaves the mode as it was. Of kind
    /// [`Unsupported`](io::ErrorKind::Unsupported) for a regular file and whatever else the system
    /// has no events for, and in virtual time. Of kind
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists) if the descriptor is registered with this
    /// runtime already. Otherwise those of the system, such as a shortage of descriptors for the
    /// runtime's driver.
    pub fn new(source: T) -> io::Result<Async<T>> {
        let new = Async::new_nonblocking(source)?;
        crate::util::system::set_nonblocking(new.get_ref())?;
        Ok(new)
    }

    /// Registers the descriptor and leaves its mode alone: for one that is non-blocking already,
    /// for calls that do not wait by themselves (`recv` with `MSG_DONTWAIT`), and for the
    /// descriptor of a C library which depends on the mode. A call that waits in the system blocks
    /// its worker.
    ///
    /// # Errors
    /// Those of [`new`](Async::new).
    pub fn new_nonblocking(source: T) -> io::Result<Async<T>> {
        if !REPORTS_EVERY_CHANGE {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "on this system only sockets can be waited for",
            ));
        }
        Ok(Async { io: Registration::new(Fd(source))? })
    }

    /// What has the descriptor. A call that reads or writes belongs in [`io`](Async::io) or
    /// [`try_io`](Async::try_io), see [above](Async#readiness).
    pub fn get_ref(&self) -> &T {
        &self.io.get().0
    }

    /// Takes the descriptor out of the runtime's driver and returns `T`. The descriptor is still
    /// non-blocking, and can be registered with another runtime.
    ///
    /// # Errors
    /// Those of the system.
    pub fn into_inner(self) -> io::Result<T> {
        Ok(self.io.into_inner()?.0)
    }

    /// Waits until reading is not known to block: there is something to read, an end or an error.
    /// Any number of tasks may wait.
    ///
    /// The answer may be wrong: what seemed ready can be gone, or taken by another task. Make the
    /// call inside [`try_io`](Async::try_io), which takes the readiness back.
    ///
    /// # Errors
    /// If the runtime has ended that the descriptor is registered with.
    ///
    /// # Cancel safety
    /// Takes nothing.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use std::io::{self, ErrorKind, PipeReader, Read};
    /// use heirloom::net::{Async, Direction};
    ///
    /// /// Allocates the buffer when there is something to read.
    /// async fn read(pipe: &Async<PipeReader>) -> io::Result<Vec<u8>> {
    ///     loop {
    ///         pipe.readable().await?;
    ///         let mut buffer = vec![0; 4096];
    ///         match pipe.try_io(Direction::Read, |mut pipe| pipe.read(&mut buffer)) {
    ///             Ok(count) => {
    ///                 buffer.truncate(count);
    ///                 return Ok(buffer);
    ///             }
    ///             Err(error) if error.kind() == ErrorKind::WouldBlock => {}
    ///             Err(error) => return Err(error),
    ///         }
    ///     }
    /// }
    /// # use std::io::Write;
    /// # heirloom::block_on(async {
    /// # let (reader, mut writer) = std::io::pipe()?;
    /// # writer.write_all(b"x")?;
    /// # assert_eq!(read(&Async::new(reader)?).await?, b"x");
    /// # Ok(()) }) }
    /// ```
    pub async fn readable(&self) -> io::Result<()> {
        self.io.ready(Direction::Read).await
    }

    /// Waits until writing is not known to block, as [`readable`](Async::readable) does for
    /// reading.
    ///
    /// # Errors
    /// If the runtime has ended that the descriptor is registered with.
    ///
    /// # Cancel safety
    /// Writes nothing.
    pub async fn writable(&self) -> io::Result<()> {
        self.io.ready(Direction::Write).await
    }

    /// Polls until reading is not known to block, as [`readable`](Async::readable) waits.
    ///
    /// Of the tasks that poll reading, by this method, [`poll_io`](Async::poll_io) or `AsyncRead`,
    /// an event wakes the latest one. Where several wait, each keeps a future of
    /// [`readable`](Async::readable), boxed with an `Arc` of the `Async` if it must own it.
    ///
    /// # Errors
    /// If the runtime has ended that the descriptor is registered with.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_ready(cx, Direction::Read)
    }

    /// Polls until writing is not known to block, as [`poll_readable`](Async::poll_readable) does
    /// for reading.
    ///
    /// # Errors
    /// If the runtime has ended that the descriptor is registered with.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_ready(cx, Direction::Write)
    }

    /// Calls `operation` until it does not return [`WouldBlock`](io::ErrorKind::WouldBlock), each
    /// time after `direction` has become ready. Any number of tasks may wait.
    ///
    /// `operation` is one attempt that does not wait. It must return `WouldBlock` if the system
    /// does, or if the C library that it calls wants to wait for this direction of the descriptor,
    /// and only then. It is called again at once after
    /// [`Interrupted`](io::ErrorKind::Interrupted).
    ///
    /// # Errors
    /// Those that `operation` returns. Of kind [`Other`](io::ErrorKind::Other) if the runtime has
    /// ended that the descriptor is registered with; `operation` is not called then.
    ///
    /// # Cancel safety
    /// Cancel-safe: what `operation` returned other than `WouldBlock` is returned in the same poll,
    /// so nothing was read or written by a future that is dropped.
    ///
    /// ```
    /// # #[cfg(target_os = "linux")]
    /// # fn main() -> std::io::Result<()> {
    /// use heirloom::net::{Async, Direction};
    /// use rustix::event::{EventfdFlags, eventfd};
    ///
    /// heirloom::block_on(async {
    ///     let counter = Async::new(eventfd(0, EventfdFlags::CLOEXEC)?)?;
    ///     // From anywhere: a signal handler, a C library, another process.
    ///     rustix::io::write(&counter, &7_u64.to_ne_bytes())?;
    ///
    ///     let mut count = [0; 8];
    ///     counter.io(Direction::Read, |fd| Ok(rustix::io::read(fd, &mut count)?)).await?;
    ///     assert_eq!(u64::from_ne_bytes(count), 7);
    ///     Ok(())
    /// })
    /// # }
    /// # #[cfg(not(target_os = "linux"))]
    /// # fn main() {}
    /// ```
    #[doc(alias = "read_with")]
    #[doc(alias = "write_with")]
    #[doc(alias = "async_io")]
    pub async fn io<R>(
        &self,
        direction: Direction,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        self.io.io_named("Async::io", direction, |fd| operation(&fd.0)).await
    }

    /// [`io`](Async::io) for a `poll` method. Of the tasks that poll the same direction, an event
    /// wakes the latest one, as for [`poll_readable`](Async::poll_readable).
    ///
    /// # Errors
    /// Those of [`io`](Async::io).
    ///
    /// ```
    /// use std::io::{self, Read};
    /// use std::os::unix::net::UnixDatagram;
    /// use std::task::{Context, Poll};
    /// use heirloom::net::{Async, Direction};
    ///
    /// /// What a trait of another library asks for.
    /// struct Datagrams(Async<UnixDatagram>);
    ///
    /// impl Datagrams {
    ///     fn poll_recv(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
    ///         self.0.poll_io(cx, Direction::Read, |socket| socket.recv(buf))
    ///     }
    /// }
    ///
    /// # fn main() -> io::Result<()> {
    /// heirloom::block_on(async {
    ///     let (here, there) = UnixDatagram::pair()?;
    ///     let there = Datagrams(Async::new(there)?);
    ///     here.send(b"ping")?;
    ///     let mut buffer = [0; 8];
    ///     let count = std::future::poll_fn(|cx| there.poll_recv(cx, &mut buffer)).await?;
    ///     assert_eq!(&buffer[..count], b"ping");
    ///     Ok(())
    /// })
    /// # }
    /// ```
    pub fn poll_io<R>(
        &self,
        cx: &mut Context<'_>,
        direction: Direction,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        self.io.poll_io(cx, "Async::poll_io", direction, |fd| operation(&fd.0))
    }

    /// Calls `operation` once, if `direction` is not known to block.
    ///
    /// If `operation` returns [`WouldBlock`](io::ErrorKind::WouldBlock), the direction counts as
    /// not ready until the next event, unless one has come since the call began. What `operation`
    /// must keep to stands at [`io`](Async::io).
    ///
    /// # Errors
    /// `WouldBlock` if the direction is known to block: `operation` is not called then. The event
    /// of what has come just now may still be on its way, so wait by [`readable`](Async::readable)
    /// first. Otherwise those of [`io`](Async::io).
    pub fn try_io<R>(
        &self,
        direction: Direction,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        self.io.try_io(direction, |fd| operation(&fd.0))
    }
}

impl<T: AsFd> AsFd for Async<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.get_ref().as_fd()
    }
}

impl<T: AsFd> AsRawFd for Async<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl<T: AsFd + fmt::Debug> fmt::Debug for Async<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Async").field(self.get_ref()).finish()
    }
}

/// One task at a time: an event wakes the latest one that polled. Reading is cancel-safe. No bytes
/// are read at once into no room.
impl<T: AsFd> AsyncRead for &Async<T>
where
    for<'a> &'a T: Read,
{
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.io.poll_io(cx, "Async::read", Direction::Read, |fd| (&fd.0).read(buf))
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        if bufs.iter().all(|buf| buf.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        self.io.poll_io(cx, "Async::read", Direction::Read, |fd| (&fd.0).read_vectored(bufs))
    }
}

/// One task at a time, as for reading. Flushing and closing flush `T`, and end nothing: the
/// descriptor closes when `T` is dropped.
impl<T: AsFd> AsyncWrite for &Async<T>
where
    for<'a> &'a T: Write,
{
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.io.poll_io(cx, "Async::write", Direction::Write, |fd| (&fd.0).write(buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io.poll_io(cx, "Async::write", Direction::Write, |fd| (&fd.0).write_vectored(bufs))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_io(cx, "Async::flush", Direction::Write, |fd| (&fd.0).flush())
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

/// As for `&Async`.
impl<T: AsFd> AsyncRead for Async<T>
where
    for<'a> &'a T: Read,
{
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.into_ref().get_ref()).poll_read(cx, buf)
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.into_ref().get_ref()).poll_read_vectored(cx, bufs)
    }
}

/// As for `&Async`.
impl<T: AsFd> AsyncWrite for Async<T>
where
    for<'a> &'a T: Write,
{
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.into_ref().get_ref()).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.into_ref().get_ref()).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.into_ref().get_ref()).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.into_ref().get_ref()).poll_close(cx)
    }
}
