//! TCP.
#![forbid(unsafe_code)]

use std::fmt;
use std::future::ready;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;

use mio::net as mio;

use super::addr::{ToSocketAddrs, first};
use super::duplex::duplex;
use super::failure::Failure;
use super::incoming::{Accept, Incoming};
use super::platform::{convert_std, descriptors, own_calls, queue};
use super::registration::{Direction, Registration};
use super::shortage::Shortage;
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
    shortage: Shortage<(TcpStream, SocketAddr)>,
}

impl TcpListener {
    /// Binds to the first of the addresses that will have it, and listens. Port 0 asks the system for a free one.
    ///
    /// On Unix the address may be one that connections of a former listener still linger at
    /// (`SO_REUSEADDR`), and the queue of connections is as long as the system allows;
    /// `set_backlog` makes it shorter. (On Windows it holds 128.) For other options make a
    /// [`std::net::TcpListener`] and convert that.
    ///
    /// # Errors
    /// Those of [`lookup`](super::lookup), else the last attempt's.
    ///
    /// # Cancel safety
    /// Nothing is left of it when it is dropped.
    pub async fn bind(addr: impl ToSocketAddrs) -> io::Result<TcpListener> {
        first(addr, |address| ready(mio::TcpListener::bind(address).and_then(Self::with_longest_queue))).await
    }

    fn new(listener: mio::TcpListener) -> io::Result<TcpListener> {
        Ok(TcpListener { io: Registration::new(listener)?, shortage: Shortage::new() })
    }

    /// Waits for a connection, and returns it and the peer's address.
    ///
    /// # Errors
    /// Those of the system. An error does not mean that the listener is broken: it may be about one connection, which
    /// was given up before it was taken, or about a shortage, of descriptors for example. In that case the connection
    /// stays in the queue, and the *next* call waits a tenth of a second before it tries again; so an accept loop that
    /// notes errors and goes on neither spins nor needs to be told when the shortage is over.
    ///
    /// # Cancel safety
    /// A connection that is not returned is not lost: the next call returns it.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let accept = async {
            let (stream, peer) = self.io.io(Direction::Read, |listener| listener.accept()).await?;
            Ok((TcpStream::unplaced(stream), peer))
        };
        self.shortage.next(accept, |(stream, _)| stream.io.place()).await
    }

    /// The connections, as a stream: [`accept`](TcpListener::accept) again and again, without the addresses.
    ///
    /// # Cancel safety
    /// Dropped between two items, the stream takes no connection with it.
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
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming::new(self)
    }

    /// The address the listener is bound to.
    ///
    /// # Errors
    /// Those of the system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get().local_addr()
    }

    /// The time to live of the packets it sends, in hops; see [`set_ttl`](TcpListener::set_ttl).
    ///
    /// # Errors
    /// Those of the system.
    pub fn ttl(&self) -> io::Result<u32> {
        self.io.get().ttl()
    }

    /// Sets the time to live of the packets it sends: how many routers may pass them on.
    ///
    /// # Errors
    /// Those of the system.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.io.get().set_ttl(ttl)
    }
}

impl Accept<TcpStream> for TcpListener {
    fn next(&self) -> Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send + Sync + '_>> {
        Box::pin(async { self.accept().await.map(|(stream, _)| stream) })
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.io.get().fmt(f)
    }
}

convert_std!(TcpListener, std::net::TcpListener, mio::TcpListener);
descriptors!(TcpListener);
queue!(TcpListener, mio::TcpListener);

/// A TCP connection.
///
/// It reads and writes through the traits of [`futures_io`], with as many buffers at a time as the system takes; it has no
/// buffer of its own, so that flushing does nothing, and many small writes are better gathered. Closing it shuts down the
/// writing direction. Dropping it ends the connection.
///
/// The traits are implemented for `&TcpStream` too. They keep *one* reader and *one* writer waiting: whoever polls last is
/// the one that is woken. Methods that take `&self` and are `async` may be awaited by any number of tasks.
///
/// A read that leaves room in its buffer has found out that there is nothing left. One that fills
/// the buffer has not, so that the next one asks the system before it waits: for a message that has
/// just the buffer's size that is a second system call, and a buffer of one byte more saves it.
///
/// If the connection breaks, by a reset for example, the system tells the first call only; the
/// stream remembers it, and reading returns the error instead of an end from then on.
///
/// Urgent data is not supported. A read stops before an urgent byte, which it does not return; what
/// follows the byte is not read until more arrives, or the peer closes. The option `SO_OOBINLINE`
/// makes it a byte like any other.
///
/// # Cancel safety
/// Reading is cancel-safe: what was not returned was not taken from the stream. So is writing a part
/// (`AsyncWriteExt::write`): nothing was written unless it says so. `write_all`, `read_exact` and the like are not:
/// nobody knows how far a dropped one had got.
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
    failure: Failure,
}

impl TcpStream {
    /// Connects to the first of the addresses that answers, one after the other.
    ///
    /// There is no limit of ours to how long an attempt may take, and the system's is minutes: use
    /// [`wait_for`](crate::wait_for()).
    ///
    /// A peer that answers and resets the connection at once has been connected to: what it sent
    /// can be read, and reading returns the reset then.
    ///
    /// A client that tries a port of its own machine again and again while nothing listens there
    /// may meet itself: the system chooses the client's port, sooner or later that one, and TCP
    /// connects a socket that connects to its own address. Such a stream has its own address as its
    /// peer's.
    ///
    /// # Errors
    /// Those of [`lookup`](super::lookup), else the last attempt's, such as
    /// [`ConnectionRefused`](io::ErrorKind::ConnectionRefused).
    ///
    /// # Cancel safety
    /// Dropping the future gives the attempt up and closes its socket.
    pub async fn connect(addr: impl ToSocketAddrs) -> io::Result<TcpStream> {
        first(addr, TcpStream::connect_to).await
    }

    async fn connect_to(address: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::new(mio::TcpStream::connect(address)?)?;
        // The attempt is over when the socket is writable; then it has an error or a peer. Events that come earlier
        // mean nothing.
        let connected = |socket: &mio::TcpStream| {
            if let Some(error) = stream.failure.take_error(|| socket.take_error())? {
                return match error.kind() {
                    // It was connected, and the peer has reset it since. What had come before can
                    // be read.
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

    fn new(stream: mio::TcpStream) -> io::Result<TcpStream> {
        let mut new = TcpStream::unplaced(stream);
        new.io.place()?;
        Ok(new)
    }

    fn unplaced(stream: mio::TcpStream) -> TcpStream {
        TcpStream { io: Registration::unplaced(stream), failure: Failure::new() }
    }

    /// The peer's address.
    ///
    /// # Errors
    /// Those of the system, such as [`NotConnected`](io::ErrorKind::NotConnected).
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.get().peer_addr()
    }

    /// The address of this end.
    ///
    /// # Errors
    /// Those of the system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get().local_addr()
    }

    /// Reads without taking: the next read returns the same bytes. Returns how many there are, at most as many as `buf`
    /// has room for; 0 at the end of the stream, or if it has none.
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
        let peek = |stream: &mio::TcpStream| self.failure.read(stream.peek(buf));
        self.io.io_named("TcpStream::peek", Direction::Read, peek).await
    }

    /// Waits until there is something to read, the end of the stream or an error included.
    ///
    /// It may be wrong: what seemed ready can be gone, or taken by others.
    /// [`try_read`](TcpStream::try_read) says so. A system call of one's own does so only inside
    /// [`try_io`](TcpStream::try_io).
    ///
    /// # Errors
    /// If the stream's runtime has ended.
    ///
    /// # Cancel safety
    /// Takes nothing.
    ///
    /// ```
    /// use std::io::ErrorKind::WouldBlock;
    /// use heirloom::net::TcpStream;
    ///
    /// /// Without keeping a buffer while there is nothing to read.
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
    pub async fn readable(&self) -> io::Result<()> {
        self.io.ready(Direction::Read).await
    }

    /// Waits until something may be written, or an error be met; may be wrong, as [`readable`](TcpStream::readable).
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
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is nothing, as far as is known: something that has just
    /// arrived may not be known yet, so wait by [`readable`](TcpStream::readable) first. Else those of the system.
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
    /// [`writable`](TcpStream::writable) first. Else those of the system.
    pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        self.io.try_io(Direction::Write, |mut stream| self.failure.write(|| stream.write(buf)))
    }

    /// Ends one direction or both, for every handle of the connection. After `Write` the peer reads to an end; after
    /// `Read` reading returns what has arrived and then 0.
    ///
    /// # Errors
    /// Those of the system, such as [`NotConnected`](io::ErrorKind::NotConnected).
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.io.get().shutdown(how)
    }

    /// Whether small pieces are sent at once; see [`set_nodelay`](TcpStream::set_nodelay).
    ///
    /// # Errors
    /// Those of the system.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.io.get().nodelay()
    }

    /// Whether small pieces are to be sent at once (`TCP_NODELAY`), instead of being gathered until the peer has
    /// acknowledged what was sent before. Off at first.
    ///
    /// # Errors
    /// Those of the system.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.io.get().set_nodelay(nodelay)
    }

    /// The time to live of the packets it sends, in hops; see [`set_ttl`](TcpStream::set_ttl).
    ///
    /// # Errors
    /// Those of the system.
    pub fn ttl(&self) -> io::Result<u32> {
        self.io.get().ttl()
    }

    /// Sets the time to live of the packets it sends: how many routers may pass them on.
    ///
    /// # Errors
    /// Those of the system.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.io.get().set_ttl(ttl)
    }

    /// The error that the system keeps for this socket (`SO_ERROR`), which is cleared by it.
    ///
    /// # Errors
    /// Those of asking.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.failure.take_error(|| self.io.get().take_error())
    }

    /// Both directions, to be used in one task at the same time. Costs nothing.
    ///
    /// With `futures::AsyncReadExt` in scope, `stream.split()` is that trait's, which takes the stream and puts a lock around
    /// it: write `TcpStream::split(&mut stream)`.
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
    pub fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        (ReadHalf(self), WriteHalf(self))
    }

    /// Both directions, each to be used by a task of its own. Dropping the half that writes shuts down writing.
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
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        split::owned(self)
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.io.get().fmt(f)
    }
}

duplex!(TcpStream);
convert_std!(TcpStream, std::net::TcpStream, mio::TcpStream);
descriptors!(TcpStream);
own_calls!(TcpStream);
