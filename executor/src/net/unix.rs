//! Unix domain sockets.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
#[cfg(target_os = "android")]
use std::os::android::net::SocketAddrExt;
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt;
#[cfg(any(target_os = "linux", target_os = "android"))]
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;
use std::path::Path;

use mio::net as mio;

use super::duplex::duplex;
use super::failure::StoredError;
use super::incoming::{Accept, Accepting, Incoming};
use super::platform::{listener, own_calls, socket_traits, stream};
use super::registration::{Direction, Registration};
use super::shortage::AcceptBackoff;
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
    backoff: AcceptBackoff<(UnixStream, SocketAddr)>,
}

impl UnixListener {
    /// Binds to a path that must not exist, and listens. The queue of connections is as long as the
    /// system allows; [`set_backlog`](UnixListener::set_backlog) makes it shorter.
    ///
    /// On Linux and Android a path that begins with a NUL is a name in the system's abstract
    /// namespace: it belongs to no file, and is free again when the listener is dropped.
    ///
    /// # Errors
    /// Those of the system, such as [`AddrInUse`](io::ErrorKind::AddrInUse) if the path exists. Of
    /// kind [`InvalidInput`](io::ErrorKind::InvalidInput) if the path is too long or has a NUL in
    /// it, or if an abstract name is empty or begins with another NUL.
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
    #[inline]
    pub fn bind(path: impl AsRef<Path>) -> io::Result<UnixListener> {
        UnixListener::with_longest_queue(mio::UnixListener::bind_addr(&address(path.as_ref())?)?)
    }
}

listener! {
    UnixListener, UnixStream, SocketAddr,
    /// Waits for a connection, and returns it and the peer's address, which is usually unnamed.
    ///
    /// # Errors
    /// As [`TcpListener::accept`](super::TcpListener::accept).
    ///
    /// # Cancel safety
    /// A connection that is not returned is not lost: the next call returns it.
    accept,
    incoming,
}
socket_traits!(UnixListener, std::os::unix::net::UnixListener);

/// A connection between processes of one machine, or within one. Unix only.
///
/// It reads, writes, closes and splits as a [`TcpStream`](super::TcpStream) does, and is
/// cancel-safe in the same places.
///
/// Descriptors that the peer passes over the stream are not received. A read stops after a message
/// that carries descriptors, and drops them; what follows is not read until more arrives, or the
/// peer closes. To take descriptors, call `recvmsg` inside [`try_io`](UnixStream::try_io).
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
    error: StoredError,
}

impl UnixStream {
    /// Connects to a path, or on Linux and Android to an abstract name, in the form that
    /// [`UnixListener::bind`] takes.
    ///
    /// # Errors
    /// Those of [`UnixListener::bind`] about the path, and of the system:
    /// [`NotFound`](io::ErrorKind::NotFound),
    /// [`ConnectionRefused`](io::ErrorKind::ConnectionRefused) if the listener is gone, and
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if its queue is full: Linux does not report when
    /// that changes, so the caller can only try again later.
    ///
    /// # Cancel safety
    /// Dropping the future ends the attempt and closes its socket.
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
    #[inline]
    pub fn pair() -> io::Result<(UnixStream, UnixStream)> {
        let (one, other) = mio::UnixStream::pair()?;
        Ok((UnixStream::new(one)?, UnixStream::new(other)?))
    }
}

/// The address that a path, or a name in the abstract namespace, stands for.
fn address(path: &Path) -> io::Result<SocketAddr> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let [0, name @ ..] = path.as_os_str().as_bytes() {
        // Mio would bind to another name: it drops a second NUL, and takes an empty name for an
        // unnamed address.
        if let [] | [0, ..] = name {
            let text = "an abstract name must not be empty, nor begin with a second NUL";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        return SocketAddr::from_abstract_name(name);
    }
    SocketAddr::from_pathname(path)
}

stream! {
    UnixStream, SocketAddr,
    readable,
    /// With `futures::AsyncReadExt` in scope write `UnixStream::split(&mut stream)`, as for
    /// [`TcpStream::split`](super::TcpStream::split).
    split,
    into_split,
}
duplex!(UnixStream);
own_calls!(UnixStream);
socket_traits!(UnixStream, std::os::unix::net::UnixStream);
