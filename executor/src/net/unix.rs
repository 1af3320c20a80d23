//! Unix domain sockets.
#![forbid(unsafe_code)]

use std::fmt;
use std::io::{self, Read, Write};
use std::net::Shutdown;
#[cfg(target_os = "android")]
use std::os::android::net::SocketAddrExt;
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt;
#[cfg(any(target_os = "linux", target_os = "android"))]
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;

use mio::net as mio;

use super::duplex::duplex;
use super::failure::Failure;
use super::incoming::{Accept, Incoming};
use super::platform::{convert_std, descriptors, own_calls, queue};
use super::registration::{Direction, Registration};
use super::shortage::Shortage;
use super::split::{self, OwnedReadHalf, OwnedWriteHalf, ReadHalf, WriteHalf};

/// A socket that accepts connections at a path. Unix only.
///
/// Any number of tasks may accept from one listener at a time. The path stays when the listener is
/// dropped, and cannot be bound to again until the file is removed.
///
/// ```
/// use futures::{AsyncReadExt, AsyncWriteExt};
/// use heirloom::net::{UnixListener, UnixStream};
///
/// # fn main() -> std::io::Result<()> {
/// # let path = std::env::temp_dir().join(format!("heirloom-doc-{}", std::process::id()));
/// heirloom::block_on(async {
///     let listener = UnixListener::bind(&path)?;
///     let mut client = UnixStream::connect(&path).await?;
///     let (mut server, _) = listener.accept().await?;
///     std::fs::remove_file(&path)?;
///
///     server.write_all(b"hello").await?;
///     drop(server);
///     let mut text = String::new();
///     client.read_to_string(&mut text).await?;
///     assert_eq!(text, "hello");
///     Ok(())
/// })
/// # }
/// ```
pub struct UnixListener {
    io: Registration<mio::UnixListener>,
    shortage: Shortage<(UnixStream, SocketAddr)>,
}

impl UnixListener {
    /// Binds to a path that must not exist, and listens. The queue of connections is as long as the
    /// system allows; [`set_backlog`](UnixListener::set_backlog) makes it shorter.
    ///
    /// On Linux and Android a path that begins with a NUL is a name in the system's abstract
    /// namespace, which no file belongs to, and which is free again when the listener is dropped.
    ///
    /// # Errors
    /// Those of the system, such as [`AddrInUse`](io::ErrorKind::AddrInUse) if the path exists. Of
    /// kind [`InvalidInput`](io::ErrorKind::InvalidInput) if it is too long or has a NUL in it; an
    /// abstract name is longer than none, and does not begin with another NUL.
    ///
    /// ```
    /// # #[cfg(target_os = "linux")]
    /// # fn main() -> std::io::Result<()> {
    /// use heirloom::net::{UnixListener, UnixStream};
    ///
    /// # heirloom::block_on(async {
    /// let name = format!("\0example-{}", std::process::id());
    /// let listener = UnixListener::bind(&name)?;
    /// let _client = UnixStream::connect(&name).await?;
    /// listener.accept().await?;
    /// # Ok(())
    /// # })
    /// # }
    /// # #[cfg(not(target_os = "linux"))]
    /// # fn main() {}
    /// ```
    pub fn bind(path: impl AsRef<Path>) -> io::Result<UnixListener> {
        UnixListener::with_longest_queue(mio::UnixListener::bind_addr(&address(path.as_ref())?)?)
    }

    fn new(listener: mio::UnixListener) -> io::Result<UnixListener> {
        Ok(UnixListener { io: Registration::new(listener)?, shortage: Shortage::new() })
    }

    /// Waits for a connection, and returns it and the peer's address, which is usually unnamed.
    ///
    /// # Errors
    /// As [`TcpListener::accept`](super::TcpListener::accept).
    ///
    /// # Cancel safety
    /// A connection that is not returned is not lost: the next call returns it.
    pub async fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        let accept = async {
            let (stream, peer) = self.io.io(Direction::Read, |listener| listener.accept()).await?;
            Ok((UnixStream::unplaced(stream), peer))
        };
        self.shortage.next(accept, |(stream, _)| stream.io.place()).await
    }

    /// The connections, as a stream: [`accept`](UnixListener::accept) again and again, without the addresses.
    ///
    /// # Cancel safety
    /// Dropped between two items, the stream takes no connection with it.
    pub fn incoming(&self) -> Incoming<'_, UnixStream> {
        Incoming::new(self)
    }

    /// The address the listener is bound to.
    ///
    /// # Errors
    /// Those of the system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get().local_addr()
    }
}

impl Accept<UnixStream> for UnixListener {
    fn next(&self) -> Pin<Box<dyn Future<Output = io::Result<UnixStream>> + Send + Sync + '_>> {
        Box::pin(async { self.accept().await.map(|(stream, _)| stream) })
    }
}

impl fmt::Debug for UnixListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.io.get().fmt(f)
    }
}

convert_std!(UnixListener, std::os::unix::net::UnixListener, mio::UnixListener);
descriptors!(UnixListener);
queue!(UnixListener, mio::UnixListener);

/// A connection between processes of one machine, or within one. Unix only.
///
/// It reads, writes, closes and splits as a [`TcpStream`](super::TcpStream) does, and is cancel-safe in the same places.
///
/// Descriptors that the peer passes over the stream are not received. A read stops behind a message
/// that carries some, and drops them; what follows is not read until more arrives, or the peer
/// closes. To take them, call `recvmsg` inside [`try_io`](UnixStream::try_io).
///
/// ```
/// use futures::{AsyncReadExt, AsyncWriteExt};
/// use heirloom::net::UnixStream;
///
/// # fn main() -> std::io::Result<()> {
/// heirloom::block_on(async {
///     let (mut here, mut there) = UnixStream::pair()?;
///     here.write_all(b"ping").await?;
///     let mut buffer = [0; 4];
///     there.read_exact(&mut buffer).await?;
///     assert_eq!(&buffer, b"ping");
///     Ok(())
/// })
/// # }
/// ```
pub struct UnixStream {
    io: Registration<mio::UnixStream>,
    failure: Failure,
}

impl UnixStream {
    /// Connects to a path, or on Linux and Android to an abstract name, as [`UnixListener::bind`]
    /// takes it.
    ///
    /// # Errors
    /// Those of [`UnixListener::bind`] about the path, and of the system:
    /// [`NotFound`](io::ErrorKind::NotFound),
    /// [`ConnectionRefused`](io::ErrorKind::ConnectionRefused) if no listener is there any more,
    /// and [`WouldBlock`](io::ErrorKind::WouldBlock) if the listener's queue is full: Linux does
    /// not tell when that changes, so there is nothing to wait for but time.
    ///
    /// # Cancel safety
    /// Dropping the future gives the attempt up and closes its socket.
    pub async fn connect(path: impl AsRef<Path>) -> io::Result<UnixStream> {
        let stream = UnixStream::new(mio::UnixStream::connect_addr(&address(path.as_ref())?)?)?;
        let connected = |stream: &mio::UnixStream| match stream.take_error()? {
            Some(error) => Err(error),
            None => Ok(()),
        };
        stream.io.io(Direction::Write, connected).await?;
        Ok(stream)
    }

    /// Two streams that are connected to each other.
    ///
    /// # Errors
    /// Those of the system.
    pub fn pair() -> io::Result<(UnixStream, UnixStream)> {
        let (one, other) = mio::UnixStream::pair()?;
        Ok((UnixStream::new(one)?, UnixStream::new(other)?))
    }

    fn new(stream: mio::UnixStream) -> io::Result<UnixStream> {
        let mut new = UnixStream::unplaced(stream);
        new.io.place()?;
        Ok(new)
    }

    fn unplaced(stream: mio::UnixStream) -> UnixStream {
        UnixStream { io: Registration::unplaced(stream), failure: Failure::new() }
    }

    /// The peer's address, which is unnamed for one that was not bound.
    ///
    /// # Errors
    /// Those of the system.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.get().peer_addr()
    }

    /// The address of this end, which is unnamed if it was not bound.
    ///
    /// # Errors
    /// Those of the system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get().local_addr()
    }

    /// Waits until there is something to read; may be wrong, as
    /// [`TcpStream::readable`](super::TcpStream::readable). System calls of one's own belong in
    /// [`try_io`](UnixStream::try_io).
    ///
    /// # Errors
    /// If the stream's runtime has ended.
    ///
    /// # Cancel safety
    /// Takes nothing.
    pub async fn readable(&self) -> io::Result<()> {
        self.io.ready(Direction::Read).await
    }

    /// Waits until something may be written; may be wrong, as [`readable`](UnixStream::readable).
    ///
    /// # Errors
    /// If the stream's runtime has ended.
    ///
    /// # Cancel safety
    /// Writes nothing.
    pub async fn writable(&self) -> io::Result<()> {
        self.io.ready(Direction::Write).await
    }

    /// Reads what is there now. Returns how much, 0 at the end of the stream.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is nothing, as far as is known: wait by
    /// [`readable`](UnixStream::readable) first. Else those of the system.
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.io.try_io(Direction::Read, |mut stream| self.failure.read(stream.read(buf)))
    }

    /// Writes as much as there is room for now. Returns how much that was.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is no room, as far as is known: wait by
    /// [`writable`](UnixStream::writable) first. Else those of the system.
    pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        self.io.try_io(Direction::Write, |mut stream| self.failure.write(|| stream.write(buf)))
    }

    /// Ends one direction or both, for every handle of the connection.
    ///
    /// # Errors
    /// Those of the system.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.io.get().shutdown(how)
    }

    /// The error that the system keeps for this socket (`SO_ERROR`), which is cleared by it.
    ///
    /// # Errors
    /// Those of asking.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.failure.take_error(|| self.io.get().take_error())
    }

    /// Both directions, to be used in one task at the same time. Costs nothing. With `futures::AsyncReadExt` in scope write
    /// `UnixStream::split(&mut stream)`, as for [`TcpStream::split`](super::TcpStream::split).
    pub fn split(&mut self) -> (ReadHalf<'_, UnixStream>, WriteHalf<'_, UnixStream>) {
        (ReadHalf(self), WriteHalf(self))
    }

    /// Both directions, each to be used by a task of its own. Dropping the half that writes shuts down writing.
    pub fn into_split(self) -> (OwnedReadHalf<UnixStream>, OwnedWriteHalf<UnixStream>) {
        split::owned(self)
    }
}

impl fmt::Debug for UnixStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.io.get().fmt(f)
    }
}

/// The address that a path, or a name in the abstract namespace, stands for.
fn address(path: &Path) -> io::Result<SocketAddr> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let [0, name @ ..] = path.as_os_str().as_bytes() {
        // Mio would hand another name over: it takes a NUL in front for none, and no name at all
        // for an unnamed address.
        if let [] | [0, ..] = name {
            let text = "an abstract name must not be empty, nor begin with a second NUL";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        return SocketAddr::from_abstract_name(name);
    }
    SocketAddr::from_pathname(path)
}

duplex!(UnixStream);
convert_std!(UnixStream, std::os::unix::net::UnixStream, mio::UnixStream);
descriptors!(UnixStream);
own_calls!(UnixStream);
