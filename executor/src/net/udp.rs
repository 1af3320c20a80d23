//! UDP.
#![forbid(unsafe_code)]

use std::fmt;
use std::future::ready;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use mio::net as mio;

use super::addr::{ToSocketAddrs, first, lookup};
use super::platform::{convert_std, descriptors, own_calls};
use super::registration::{Direction, Registration};

/// A socket for datagrams.
///
/// Everything takes `&self`, and any number of tasks may send and receive at a time. A datagram is received by one of them.
/// One that is longer than the buffer it is received into is cut off; a datagram of no bytes is one too.
///
/// # Cancel safety
/// Every method is cancel-safe: a datagram that was not returned was not received, and one whose sending has not
/// returned was not sent.
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
    /// Binds to the first of the addresses that will have it. Port 0 asks the system for a free one.
    ///
    /// # Errors
    /// Those of [`lookup`], else the last attempt's.
    pub async fn bind(addr: impl ToSocketAddrs) -> io::Result<UdpSocket> {
        first(addr, |address| ready(mio::UdpSocket::bind(address).and_then(UdpSocket::new))).await
    }

    fn new(socket: mio::UdpSocket) -> io::Result<UdpSocket> {
        Ok(UdpSocket { io: Registration::new(socket)? })
    }

    /// From now on [`send`](UdpSocket::send) sends to the first of these addresses that will do, and datagrams from
    /// elsewhere are not received. Nothing is sent by it.
    ///
    /// # Errors
    /// Those of [`lookup`], else the last attempt's.
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
        first(addr, |address| ready(self.io.get().connect(address))).await
    }

    /// The address the socket is bound to.
    ///
    /// # Errors
    /// Those of the system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get().local_addr()
    }

    /// The address the socket is connected to.
    ///
    /// # Errors
    /// [`NotConnected`](io::ErrorKind::NotConnected), and those of the system.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.get().peer_addr()
    }

    /// Sends a datagram to the first of the addresses, once there is room for it. Returns how many bytes that were: all.
    ///
    /// # Errors
    /// Those of [`lookup`], and of the system: it may say here that an earlier datagram was refused.
    pub async fn send_to(&self, buf: &[u8], target: impl ToSocketAddrs) -> io::Result<usize> {
        let Some(target) = lookup(target).await?.next() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no address to send to"));
        };
        self.io.io_named("UdpSocket::send_to", Direction::Write, |socket| socket.send_to(buf, target)).await
    }

    /// Receives a datagram. Returns how many bytes of it are in `buf`, and where it came from.
    ///
    /// # Errors
    /// Those of the system.
    pub async fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.io.io_named("UdpSocket::recv_from", Direction::Read, |socket| socket.recv_from(buf)).await
    }

    /// The next datagram without taking it: the next receive returns the same.
    ///
    /// # Errors
    /// Those of the system.
    pub async fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.io.io_named("UdpSocket::peek_from", Direction::Read, |socket| socket.peek_from(buf)).await
    }

    /// Sends a datagram to the address the socket is [connected](UdpSocket::connect) to.
    ///
    /// # Errors
    /// Those of the system, such as [`ConnectionRefused`](io::ErrorKind::ConnectionRefused) for an earlier datagram that
    /// nobody was there to receive.
    pub async fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.io.io(Direction::Write, |socket| socket.send(buf)).await
    }

    /// Receives a datagram from the address the socket is [connected](UdpSocket::connect) to, else from anywhere.
    ///
    /// # Errors
    /// Those of the system, as for [`send`](UdpSocket::send).
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.io.io(Direction::Read, |socket| socket.recv(buf)).await
    }

    /// The next datagram without taking it, as [`peek_from`](UdpSocket::peek_from).
    ///
    /// # Errors
    /// Those of the system.
    pub async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.io.io_named("UdpSocket::peek", Direction::Read, |socket| socket.peek(buf)).await
    }

    /// Waits until there is something to receive, an error included. It may be wrong; the attempt
    /// that follows says so. A system call of one's own says so only inside
    /// [`try_io`](UdpSocket::try_io).
    ///
    /// # Errors
    /// If the socket's runtime has ended.
    pub async fn readable(&self) -> io::Result<()> {
        self.io.ready(Direction::Read).await
    }

    /// Waits until there is room to send. It may be wrong, as [`readable`](UdpSocket::readable).
    ///
    /// # Errors
    /// If the socket's runtime has ended.
    pub async fn writable(&self) -> io::Result<()> {
        self.io.ready(Direction::Write).await
    }

    /// Receives what is there now.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is nothing, as far as is known. Else those of the system.
    pub fn try_recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.io.try_io(Direction::Read, |socket| socket.recv_from(buf))
    }

    /// Receives what is there now, as [`recv`](UdpSocket::recv).
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is nothing, as far as is known. Else those of the system.
    pub fn try_recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.io.try_io(Direction::Read, |socket| socket.recv(buf))
    }

    /// Sends if there is room now.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is none, as far as is known. Else those of the system.
    pub fn try_send_to(&self, buf: &[u8], target: SocketAddr) -> io::Result<usize> {
        self.io.try_io(Direction::Write, |socket| socket.send_to(buf, target))
    }

    /// Sends if there is room now, as [`send`](UdpSocket::send).
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is none, as far as is known. Else those of the system.
    pub fn try_send(&self, buf: &[u8]) -> io::Result<usize> {
        self.io.try_io(Direction::Write, |socket| socket.send(buf))
    }

    /// Whether it may send to broadcast addresses.
    ///
    /// # Errors
    /// Those of the system.
    pub fn broadcast(&self) -> io::Result<bool> {
        self.io.get().broadcast()
    }

    /// Whether it may send to broadcast addresses (`SO_BROADCAST`). Off at first.
    ///
    /// # Errors
    /// Those of the system.
    pub fn set_broadcast(&self, on: bool) -> io::Result<()> {
        self.io.get().set_broadcast(on)
    }

    /// The time to live of the packets it sends, in hops; see [`set_ttl`](UdpSocket::set_ttl).
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

    /// Joins a multicast group on the interface with this address; [`UNSPECIFIED`](Ipv4Addr::UNSPECIFIED) leaves the choice
    /// to the system.
    ///
    /// # Errors
    /// Those of the system.
    pub fn join_multicast_v4(&self, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        self.io.get().join_multicast_v4(&group, &interface)
    }

    /// Leaves a multicast group.
    ///
    /// # Errors
    /// Those of the system.
    pub fn leave_multicast_v4(&self, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        self.io.get().leave_multicast_v4(&group, &interface)
    }

    /// Joins a multicast group on the interface with this index; 0 leaves the choice to the system.
    ///
    /// # Errors
    /// Those of the system.
    pub fn join_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.io.get().join_multicast_v6(group, interface)
    }

    /// Leaves a multicast group.
    ///
    /// # Errors
    /// Those of the system.
    pub fn leave_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.io.get().leave_multicast_v6(group, interface)
    }

    /// The error that the system keeps for this socket (`SO_ERROR`), which is cleared by it.
    ///
    /// # Errors
    /// Those of asking.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.io.get().take_error()
    }
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.io.get().fmt(f)
    }
}

convert_std!(UdpSocket, std::net::UdpSocket, mio::UdpSocket);
descriptors!(UdpSocket);
own_calls!(UdpSocket);
