//! UDP.
#![forbid(unsafe_code)]

use std::future::ready;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll};

use mio::net as mio;

use super::addr::{ToSocketAddrs, first_success, lookup};
use super::platform::{own_calls, socket_traits, time_to_live};
use super::registration::{Direction, Registration};

/// A socket for datagrams.
///
/// All methods take `&self`, and any number of tasks may send and receive at a time. Each datagram
/// is received by one task. A datagram that is longer than the buffer is cut off. A datagram may be
/// empty.
///
/// # Cancel safety
/// Every method is cancel-safe: a datagram that was not returned was not received, and a datagram
/// whose sending has not returned was not sent.
///
/// ```
/// use heirloom::net::UdpSocket;
///
/// # fn main() -> std::io::Result<()> {
/// heirloom::block_on(async {
///     let here = UdpSocket::bind("127.0.0.1:0").await?;
///     let there = UdpSocket::bind("127.0.0.1:0").await?;
///     here.send_to(b"ping", there.local_addr()?).await?;
///
///     let mut buffer = [0; 16];
///     let (count, from) = there.recv_from(&mut buffer).await?;
///     assert_eq!(&buffer[..count], b"ping");
///     assert_eq!(from, here.local_addr()?);
///     Ok(())
/// })
/// # }
/// ```
pub struct UdpSocket {
    io: Registration<mio::UdpSocket>,
}

impl UdpSocket {
    /// Binds to the first of the addresses that can be bound to. Port 0 asks the system for a free
    /// port.
    ///
    /// # Errors
    /// Those of [`lookup`], else the error of the last attempt.
    pub async fn bind(addr: impl ToSocketAddrs) -> io::Result<UdpSocket> {
        first_success(addr, |address| ready(mio::UdpSocket::bind(address).and_then(UdpSocket::new))).await
    }

    #[inline]
    fn new(socket: mio::UdpSocket) -> io::Result<UdpSocket> {
        Ok(UdpSocket { io: Registration::new(socket)? })
    }

    /// Sets the peer: from now on [`send`](UdpSocket::send) sends to the first of these addresses
    /// that the system accepts, and datagrams from other addresses are not received. Nothing is
    /// sent.
    ///
    /// # Errors
    /// Those of [`lookup`], else the error of the last attempt.
    ///
    /// ```
    /// # use heirloom::net::UdpSocket;
    /// # fn main() -> std::io::Result<()> {
    /// # heirloom::block_on(async {
    /// let here = UdpSocket::bind("127.0.0.1:0").await?;
    /// let there = UdpSocket::bind("127.0.0.1:0").await?;
    /// here.connect(there.local_addr()?).await?;
    /// there.connect(here.local_addr()?).await?;
    ///
    /// here.send(b"ping").await?;
    /// let mut buffer = [0; 16];
    /// assert_eq!(there.recv(&mut buffer).await?, 4);
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    pub async fn connect(&self, addr: impl ToSocketAddrs) -> io::Result<()> {
        first_success(addr, |address| ready(self.io.get().connect(address))).await
    }

    /// The address that the socket is bound to.
    ///
    /// # Errors
    /// Those of the system.
    #[inline]
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get().local_addr()
    }

    /// The address that the socket is connected to.
    ///
    /// # Errors
    /// [`NotConnected`](io::ErrorKind::NotConnected), and those of the system.
    #[inline]
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.get().peer_addr()
    }

    /// Sends a datagram to the first of the addresses, once there is room for it. Returns how many
    /// bytes were sent, which are all.
    ///
    /// # Errors
    /// Those of [`lookup`], and of the system, which may report here that an earlier datagram was
    /// refused.
    pub async fn send_to(&self, buf: &[u8], target: impl ToSocketAddrs) -> io::Result<usize> {
        let Some(target) = lookup(target).await?.next() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no address to send to"));
        };
        self.io.io_named("UdpSocket::send_to", Direction::Write, |socket| socket.send_to(buf, target)).await
    }

    /// Receives a datagram. Returns how many bytes of it are in `buf`, and the sender's address.
    ///
    /// # Errors
    /// Those of the system.
    pub async fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.io.io_named("UdpSocket::recv_from", Direction::Read, |socket| socket.recv_from(buf)).await
    }

    /// Copies the next datagram and leaves it in the socket: the next receive returns the same.
    ///
    /// # Errors
    /// Those of the system.
    pub async fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.io.io_named("UdpSocket::peek_from", Direction::Read, |socket| socket.peek_from(buf)).await
    }

    /// Sends a datagram to the address that the socket is [connected](UdpSocket::connect) to.
    ///
    /// # Errors
    /// Those of the system, such as [`ConnectionRefused`](io::ErrorKind::ConnectionRefused) for an
    /// earlier datagram that found no socket.
    pub async fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.io.io(Direction::Write, |socket| socket.send(buf)).await
    }

    /// Receives a datagram from the address that the socket is [connected](UdpSocket::connect) to,
    /// or from any address if it is not connected.
    ///
    /// # Errors
    /// Those of the system, as for [`send`](UdpSocket::send).
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.io.io(Direction::Read, |socket| socket.recv(buf)).await
    }

    /// Copies the next datagram and leaves it in the socket, as
    /// [`peek_from`](UdpSocket::peek_from) does.
    ///
    /// # Errors
    /// Those of the system.
    pub async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.io.io_named("UdpSocket::peek", Direction::Read, |socket| socket.peek(buf)).await
    }

    /// Waits until there is something to receive, an error included. The answer may be wrong: the
    /// attempt that follows then returns [`WouldBlock`](io::ErrorKind::WouldBlock). A system call
    /// of the caller's own does so only inside [`try_io`](UdpSocket::try_io).
    ///
    /// # Errors
    /// If the socket's runtime has ended.
    pub async fn readable(&self) -> io::Result<()> {
        self.io.ready(Direction::Read).await
    }

    /// Waits until there is room to send. The answer may be wrong, as that of
    /// [`readable`](UdpSocket::readable).
    ///
    /// # Errors
    /// If the socket's runtime has ended.
    pub async fn writable(&self) -> io::Result<()> {
        self.io.ready(Direction::Write).await
    }

    /// [`recv_from`](UdpSocket::recv_from) for a `poll` method.
    ///
    /// Of the tasks that poll receiving, by this method, [`poll_recv`](UdpSocket::poll_recv) or
    /// [`poll_readable`](UdpSocket::poll_readable), an event wakes the latest one. The methods that
    /// are awaited count apart: any number of tasks may wait in them, beside one that polls.
    ///
    /// # Errors
    /// Those of the system.
    ///
    /// ```
    /// use std::io;
    /// use std::net::SocketAddr;
    /// use std::task::{Context, Poll, ready};
    /// use heirloom::net::UdpSocket;
    ///
    /// /// Sends each datagram back. A datagram that there was no room to send is kept.
    /// struct Echo {
    ///     socket: UdpSocket,
    ///     buffer: [u8; 1500],
    ///     received: Option<(usize, SocketAddr)>,
    /// }
    ///
    /// impl Echo {
    ///     fn poll_one(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    ///         let Echo { socket, buffer, received } = self;
    ///         let (count, from) = match *received {
    ///             Some(received) => received,
    ///             None => *received.insert(ready!(socket.poll_recv_from(cx, buffer))?),
    ///         };
    ///         ready!(socket.poll_send_to(cx, &buffer[..count], from))?;
    ///         *received = None;
    ///         Poll::Ready(Ok(()))
    ///     }
    /// }
    ///
    /// # fn main() -> io::Result<()> {
    /// heirloom::block_on(async {
    ///     let socket = UdpSocket::bind("127.0.0.1:0").await?;
    ///     let address = socket.local_addr()?;
    ///     let mut echo = Echo { socket, buffer: [0; 1500], received: None };
    ///     let echoing = async move { std::future::poll_fn(|cx| echo.poll_one(cx)).await };
    ///     heirloom::spawn(echoing).detach();
    ///
    ///     let client = UdpSocket::bind("127.0.0.1:0").await?;
    ///     client.send_to(b"there and back", address).await?;
    ///     let mut buffer = [0; 1500];
    ///     assert_eq!(client.recv_from(&mut buffer).await?, (14, address));
    ///     Ok(())
    /// })
    /// # }
    /// ```
    #[inline]
    pub fn poll_recv_from(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        let recv_from = |socket: &mio::UdpSocket| socket.recv_from(buf);
        self.io.poll_io(cx, "UdpSocket::poll_recv_from", Direction::Read, recv_from)
    }

    /// [`recv`](UdpSocket::recv) for a `poll` method; an event wakes the latest task, as for
    /// [`poll_recv_from`](UdpSocket::poll_recv_from).
    ///
    /// # Errors
    /// Those of the system.
    #[inline]
    pub fn poll_recv(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.io.poll_io(cx, "UdpSocket::poll_recv", Direction::Read, |socket| socket.recv(buf))
    }

    /// [`send_to`](UdpSocket::send_to) for a `poll` method. Of the tasks that poll sending, an
    /// event wakes the latest one. A datagram was sent if the result is ready, and not otherwise.
    ///
    /// # Errors
    /// Those of the system.
    #[inline]
    pub fn poll_send_to(
        &self,
        cx: &mut Context<'_>,
        buf: &[u8],
        target: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        let send_to = |socket: &mio::UdpSocket| socket.send_to(buf, target);
        self.io.poll_io(cx, "UdpSocket::poll_send_to", Direction::Write, send_to)
    }

    /// [`send`](UdpSocket::send) for a `poll` method, as
    /// [`poll_send_to`](UdpSocket::poll_send_to).
    ///
    /// # Errors
    /// Those of the system.
    #[inline]
    pub fn poll_send(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.io.poll_io(cx, "UdpSocket::poll_send", Direction::Write, |socket| socket.send(buf))
    }

    /// [`readable`](UdpSocket::readable) for a `poll` method; an event wakes the latest task, as
    /// for [`poll_recv_from`](UdpSocket::poll_recv_from).
    ///
    /// # Errors
    /// If the socket's runtime has ended.
    #[doc(alias = "poll_recv_ready")]
    #[inline]
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_ready(cx, Direction::Read)
    }

    /// [`writable`](UdpSocket::writable) for a `poll` method, as
    /// [`poll_readable`](UdpSocket::poll_readable).
    ///
    /// # Errors
    /// If the socket's runtime has ended.
    #[doc(alias = "poll_send_ready")]
    #[inline]
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_ready(cx, Direction::Write)
    }

    /// Receives a datagram that has arrived, without waiting.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if no datagram is known to have arrived. Otherwise
    /// those of the system.
    #[inline]
    pub fn try_recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.io.try_io(Direction::Read, |socket| socket.recv_from(buf))
    }

    /// The same as [`recv`](UdpSocket::recv), without waiting.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if no datagram is known to have arrived. Otherwise
    /// those of the system.
    #[inline]
    pub fn try_recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.io.try_io(Direction::Read, |socket| socket.recv(buf))
    }

    /// Sends if there is room, without waiting.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if no room is known. Otherwise those of the
    /// system.
    #[inline]
    pub fn try_send_to(&self, buf: &[u8], target: SocketAddr) -> io::Result<usize> {
        self.io.try_io(Direction::Write, |socket| socket.send_to(buf, target))
    }

    /// The same as [`send`](UdpSocket::send), without waiting.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if no room is known. Otherwise those of the
    /// system.
    #[inline]
    pub fn try_send(&self, buf: &[u8]) -> io::Result<usize> {
        self.io.try_io(Direction::Write, |socket| socket.send(buf))
    }

    /// Whether the socket may send to broadcast addresses.
    ///
    /// # Errors
    /// Those of the system.
    #[inline]
    pub fn broadcast(&self) -> io::Result<bool> {
        self.io.get().broadcast()
    }

    /// Sets whether the socket may send to broadcast addresses (`SO_BROADCAST`). Off by default.
    ///
    /// # Errors
    /// Those of the system.
    #[inline]
    pub fn set_broadcast(&self, on: bool) -> io::Result<()> {
        self.io.get().set_broadcast(on)
    }

    /// Joins a multicast group on the interface with this address;
    /// [`UNSPECIFIED`](Ipv4Addr::UNSPECIFIED) leaves the choice to the system.
    ///
    /// # Errors
    /// Those of the system.
    #[inline]
    pub fn join_multicast_v4(&self, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        self.io.get().join_multicast_v4(&group, &interface)
    }

    /// Leaves a multicast group.
    ///
    /// # Errors
    /// Those of the system.
    #[inline]
    pub fn leave_multicast_v4(&self, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        self.io.get().leave_multicast_v4(&group, &interface)
    }

    /// Joins a multicast group on the interface with this index; 0 leaves the choice to the system.
    ///
    /// # Errors
    /// Those of the system.
    #[inline]
    pub fn join_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.io.get().join_multicast_v6(group, interface)
    }

    /// Leaves a multicast group.
    ///
    /// # Errors
    /// Those of the system.
    #[inline]
    pub fn leave_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.io.get().leave_multicast_v6(group, interface)
    }

    /// Takes the error that the system keeps for this socket (`SO_ERROR`).
    ///
    /// # Errors
    /// If the system cannot be asked.
    #[inline]
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.io.get().take_error()
    }
}

time_to_live!(UdpSocket);
own_calls!(UdpSocket);
socket_traits!(UdpSocket, std::net::UdpSocket);
