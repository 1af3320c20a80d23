//! TCP.
#![forbid(unsafe_code)]

use std::future::ready;
use std::io::{self, Read, Write};
use std::net::SocketAddr;

use mio::net as mio;

use super::addr::{ToSocketAddrs, first_success};
use super::duplex::duplex;
use super::failure::StoredError;
use super::incoming::{Accept, Accepting, Incoming};
use super::platform::{listener, own_calls, socket_traits, stream, time_to_live};
use super::registration::{Direction, Registration};
use super::shortage::AcceptBackoff;
use super::split::{self, OwnedReadHalf, OwnedWriteHalf, ReadHalf, WriteHalf};

/// A socket that accepts TCP connections.
///
/// Any number of tasks may accept from one listener at a time.
///
/// ```
/// use futures::{AsyncReadExt, AsyncWriteExt};
/// use heirloom::net::{TcpListener, TcpStream};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// heirloom::block_on(async {
///     let listener = TcpListener::bind("127.0.0.1:0").await?;
///     let address = listener.local_addr()?;
///     let server = heirloom::spawn(async move {
///         let (mut stream, _peer) = listener.accept().await?;
///         stream.write_all(b"hello").await
///     });
///     let mut text = String::new();
///     TcpStream::connect(address).await?.read_to_string(&mut text).await?;
///     assert_eq!(text, "hello");
///     server.await??;
///     Ok(())
/// })
/// # }
/// ```
pub struct TcpListener {
    io: Registration<mio::TcpListener>,
    backoff: AcceptBackoff<(TcpStream, SocketAddr)>,
}

impl TcpListener {
    /// Binds to the first of the addresses that can be bound to, and listens. Port 0 asks the
    /// system for a free port.
    ///
    /// On Unix the address may be one at which connections of a former listener still linger
    /// (`SO_REUSEADDR`), and the queue of connections is as long as the system allows;
    /// `set_backlog` makes it shorter. (On Windows it holds 128.) For other options make a
    /// [`std::net::TcpListener`] and convert it.
    ///
    /// # Errors
    /// Those of [`lookup`](super::lookup), else the error of the last attempt.
    ///
    /// # Cancel safety
    /// Dropping the future leaves no socket behind.
    pub async fn bind(addr: impl ToSocketAddrs) -> io::Result<TcpListener> {
        let bind = |address| ready(mio::TcpListener::bind(address).and_then(Self::with_longest_queue));
        first_success(addr, bind).await
    }
}

listener! {
    TcpListener, TcpStream, SocketAddr,
    /// Waits for a connection, and returns it and the peer's address.
    ///
    /// # Errors
    /// Those of the system. An error does not mean that the listener is broken: it may be about one
    /// connection, which the peer gave up before it was accepted, or about a shortage, of
    /// descriptors for example. In a shortage the connection stays in the queue, and the *next*
    /// call waits 100 ms before it tries again. So an accept loop that logs errors and goes on does
    /// not spin, and resumes when the shortage is over.
    ///
    /// # Cancel safety
    /// A connection that is not returned is not lost: the next call returns it.
    accept,
    ///
    /// ```no_run
    /// use futures::StreamExt;
    /// use heirloom::net::TcpListener;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// heirloom::block_on(async {
    ///     let listener = TcpListener::bind("127.0.0.1:8080").await?;
    ///     let mut incoming = listener.incoming();
    ///     while let Some(stream) = incoming.next().await {
    ///         match stream {
    ///             Ok(stream) => heirloom::spawn(async move { drop(stream) }).detach(),
    ///             Err(error) => eprintln!("accept: {error}"),
    ///         }
    ///     }
    ///     Ok(())
    /// })
    /// # }
    /// ```
    incoming,
}
time_to_live!(TcpListener);
socket_traits!(TcpListener, std::net::TcpListener);

/// A TCP connection.
///
/// It reads and writes through the traits of [`futures_io`], with as many buffers at a time as the
/// system takes. It has no buffer of its own: flushing does nothing, and many small writes are
/// better gathered. Closing the stream shuts down the writing direction. Dropping it ends the
/// connection.
///
/// The traits are implemented for `&TcpStream` too. Through them *one* reader and *one* writer can
/// wait: an event wakes the task that polled last. Methods that take `&self` and are `async` may be
/// awaited by any number of tasks.
///
/// A read that leaves room in its buffer has found out that nothing is left. A read that fills the
/// buffer has not, so the next read asks the system before it waits: a message of just the buffer's
/// size costs a second system call, which a buffer of one byte more saves.
///
/// If the connection breaks, by a reset for example, the system tells the first call only. The
/// stream stores the error, and from then on reading returns it instead of an end.
///
/// Urgent data is not supported. A read stops before an urgent byte, which it does not return; what
/// follows the byte is not read until more arrives, or the peer closes. The option `SO_OOBINLINE`
/// makes the urgent byte an ordinary one.
///
/// # Cancel safety
/// Reading is cancel-safe: what was not returned was not taken from the stream. Writing a part
/// (`AsyncWriteExt::write`) is cancel-safe: nothing was written unless it returned. `write_all`,
/// `read_exact` and the like are not: a dropped one does not tell how many bytes it had moved.
///
/// ```
/// use futures::{AsyncReadExt, AsyncWriteExt};
/// use heirloom::net::{TcpListener, TcpStream};
///
/// # fn main() -> std::io::Result<()> {
/// heirloom::block_on(async {
///     let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
///     let mut client = TcpStream::connect(listener.local_addr()?).await?;
///     let (mut server, _) = listener.accept().await?;
///
///     client.write_all(b"ping").await?;
///     client.close().await?;
///     let mut text = String::new();
///     server.read_to_string(&mut text).await?;
///     assert_eq!(text, "ping");
///     Ok(())
/// })
/// # }
/// ```
pub struct TcpStream {
    io: Registration<mio::TcpStream>,
    error: StoredError,
}

impl TcpStream {
    /// Connects to the first of the addresses that answers, one after the other.
    ///
    /// The method has no time limit of its own, and the system's limit is minutes: use
    /// [`wait_for`](crate::wait_for()).
    ///
    /// A connection that the peer accepts and resets at once counts as established: what the peer
    /// sent can be read, and then reading returns the reset.
    ///
    /// A client that tries a port of its own machine again and again while nothing listens there
    /// may connect to itself: the system chooses the client's port, sooner or later that one, and
    /// TCP connects a socket that connects to its own address. Such a stream has its own address as
    /// its peer's.
    ///
    /// # Errors
    /// Those of [`lookup`](super::lookup), else the error of the last attempt, such as
    /// [`ConnectionRefused`](io::ErrorKind::ConnectionRefused).
    ///
    /// # Cancel safety
    /// Dropping the future ends the attempt and closes its socket.
    pub async fn connect(addr: impl ToSocketAddrs) -> io::Result<TcpStream> {
        first_success(addr, TcpStream::connect_to).await
    }

    async fn connect_to(address: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::new(mio::TcpStream::connect(address)?)?;
        // The attempt is over when the socket is writable: then it has an error or a peer. Earlier
        // events mean nothing.
        let connected = |socket: &mio::TcpStream| {
            if let Some(error) = stream.error.take_error(|| socket.take_error())? {
                return match error.kind() {
                    // It was connected, and the peer has reset it since. What arrived before the
                    // reset can be read.
                    io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Ok(()),
                    _ => Err(error),
                };
            }
            match socket.peer_addr() {
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                    Err(io::ErrorKind::WouldBlock.into())
                }
                result => result.map(drop),
            }
        };
        stream.io.io_named("TcpStream::connect", Direction::Write, connected).await?;
        Ok(stream)
    }

    /// Reads without taking: the next read returns the same bytes. Returns how many bytes have
    /// arrived, at most as many as `buf` has room for; 0 at the end of the stream, or if `buf` is
    /// empty.
    ///
    /// # Errors
    /// Those of the system, such as [`ConnectionReset`](io::ErrorKind::ConnectionReset).
    ///
    /// # Cancel safety
    /// Takes nothing.
    ///
    /// ```
    /// # use futures::{AsyncReadExt, AsyncWriteExt};
    /// # use heirloom::net::{TcpListener, TcpStream};
    /// # fn main() -> std::io::Result<()> {
    /// # heirloom::block_on(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// # let mut stream = TcpStream::connect(listener.local_addr()?).await?;
    /// # let (mut peer, _) = listener.accept().await?;
    /// peer.write_all(b"GET /").await?;
    ///
    /// let mut first = [0; 3];
    /// assert_eq!(stream.peek(&mut first).await?, 3);
    /// let mut all = [0; 5];
    /// stream.read_exact(&mut all).await?;
    /// assert_eq!((&first, &all), (b"GET", b"GET /"));
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    pub async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let peek = |stream: &mio::TcpStream| self.error.read(stream.peek(buf));
        self.io.io_named("TcpStream::peek", Direction::Read, peek).await
    }

    /// Whether small pieces are sent at once; see [`set_nodelay`](TcpStream::set_nodelay).
    ///
    /// # Errors
    /// Those of the system.
    #[inline]
    pub fn nodelay(&self) -> io::Result<bool> {
        self.io.get().nodelay()
    }

    /// Sets whether small pieces are sent at once (`TCP_NODELAY`), instead of being gathered until
    /// the peer has acknowledged what was sent before. Off by default.
    ///
    /// # Errors
    /// Those of the system.
    #[inline]
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.io.get().set_nodelay(nodelay)
    }
}

stream! {
    TcpStream, SocketAddr,
    ///
    /// ```
    /// use std::io::ErrorKind::WouldBlock;
    /// use heirloom::net::TcpStream;
    ///
    /// /// Allocates the buffer when there is something to read.
    /// async fn read(stream: &TcpStream) -> std::io::Result<Vec<u8>> {
    ///     loop {
    ///         stream.readable().await?;
    ///         let mut buffer = vec![0; 4096];
    ///         match stream.try_read(&mut buffer) {
    ///             Ok(count) => {
    ///                 buffer.truncate(count);
    ///                 return Ok(buffer);
    ///             }
    ///             Err(error) if error.kind() == WouldBlock => {}
    ///             Err(error) => return Err(error),
    ///         }
    ///     }
    /// }
    /// # use futures::AsyncWriteExt;
    /// # fn main() -> std::io::Result<()> {
    /// # heirloom::block_on(async {
    /// # let listener = heirloom::net::TcpListener::bind("127.0.0.1:0").await?;
    /// # let mut client = TcpStream::connect(listener.local_addr()?).await?;
    /// # client.write_all(b"x").await?;
    /// # assert_eq!(read(&listener.accept().await?.0).await?, b"x");
    /// # Ok(()) }) }
    /// ```
    readable,
    /// With `futures::AsyncReadExt` in scope, `stream.split()` is the method of that trait, which
    /// takes the stream and puts a lock around it: write `TcpStream::split(&mut stream)`.
    ///
    /// ```
    /// use futures::{AsyncReadExt, AsyncWriteExt, future};
    /// use heirloom::net::{TcpListener, TcpStream};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// heirloom::block_on(async {
    ///     let listener = TcpListener::bind("127.0.0.1:0").await?;
    ///     let mut stream = TcpStream::connect(listener.local_addr()?).await?;
    ///     let (mut peer, _) = listener.accept().await?;
    ///
    ///     let (mut read, mut write) = TcpStream::split(&mut stream);
    ///     let echo = async {
    ///         let (from, mut to) = TcpStream::split(&mut peer);
    ///         futures::io::copy(from, &mut to).await?;
    ///         to.close().await
    ///     };
    ///     let send = async {
    ///         write.write_all(b"there and back").await?;
    ///         write.close().await
    ///     };
    ///     let mut text = String::new();
    ///     future::try_join3(echo, send, read.read_to_string(&mut text)).await?;
    ///     assert_eq!(text, "there and back");
    ///     Ok(())
    /// })
    /// # }
    /// ```
    split,
    ///
    /// ```
    /// use futures::{AsyncReadExt, AsyncWriteExt};
    /// use heirloom::net::{TcpListener, TcpStream};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// heirloom::block_on(async {
    ///     let listener = TcpListener::bind("127.0.0.1:0").await?;
    ///     let stream = TcpStream::connect(listener.local_addr()?).await?;
    ///     let (read, mut write) = listener.accept().await?.0.into_split();
    ///     let echo = heirloom::spawn(async move { futures::io::copy(read, &mut write).await });
    ///
    ///     let (mut read, mut write) = stream.into_split();
    ///     let send = heirloom::spawn(async move { write.write_all(b"there and back").await });
    ///     let mut text = String::new();
    ///     read.read_to_string(&mut text).await?;
    ///     assert_eq!(text, "there and back");
    ///     assert_eq!(echo.await??, 14);
    ///     send.await??;
    ///     Ok(())
    /// })
    /// # }
    /// ```
    into_split,
}
duplex!(TcpStream);
time_to_live!(TcpStream);
own_calls!(TcpStream);
socket_traits!(TcpStream, std::net::TcpStream);
