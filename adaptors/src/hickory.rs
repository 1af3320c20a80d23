//! hickory-resolver: the runtime's sockets, timers and tasks.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use futures_io::{AsyncRead, AsyncWrite};
use heirloom::net;
use heirloom::{sleep, spawn_blocking, wait_for};
use hickory_resolver::net::runtime::{DnsTcpStream, DnsUdpSocket, RuntimeProvider, Spawn, Time};
use socket2::{Domain, Protocol, Socket, Type};

use crate::Heirloom;

/// As long as hickory's own provider gives a connection that has no limit.
const CONNECT: Duration = Duration::from_secs(5);

/// Connections to name servers are driven by background tasks.
///
/// ```no_run
/// use std::time::Duration;
/// use heirloom::wait_for;
/// use heirloom_adaptors::Heirloom;
/// use hickory_resolver::Resolver;
/// use hickory_resolver::config::{NameServerConfig, ResolverConfig};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// heirloom::block_on(async {
///     let server = NameServerConfig::udp_and_tcp([192, 0, 2, 1].into());
///     let config = ResolverConfig::from_parts(None, vec![], vec![server]);
///     let resolver = Resolver::builder_with_config(config, Heirloom::current()).build()?;
///     let found = wait_for(resolver.lookup_ip("example.org."), Duration::from_secs(1)).await??;
///     println!("{found:?}");
///     Ok(())
/// })
/// # }
/// ```
#[cfg_attr(docsrs, doc(cfg(feature = "hickory-resolver")))]
impl RuntimeProvider for Heirloom {
    type Handle = Heirloom;
    type Timer = Heirloom;
    type Udp = UdpSocket;
    type Tcp = TcpStream;

    fn create_handle(&self) -> Heirloom {
        self.clone()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        from: Option<SocketAddr>,
        limit: Option<Duration>,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<TcpStream>>>> {
        Box::pin(self.clone().inside(async move {
            let limit = limit.unwrap_or(CONNECT);
            let stream = match from {
                None => wait_for(net::TcpStream::connect(server), limit).await??,
                Some(from) => spawn_blocking(move || connect_from(from, server, limit)).await??,
            };
            stream.set_nodelay(true)?;
            Ok(TcpStream(stream))
        }))
    }

    fn bind_udp(
        &self,
        local: SocketAddr,
        _server: SocketAddr,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<UdpSocket>>>> {
        Box::pin(self.clone().inside(async move { Ok(UdpSocket(net::UdpSocket::bind(local).await?)) }))
    }
}

#[cfg_attr(docsrs, doc(cfg(feature = "hickory-resolver")))]
impl Spawn for Heirloom {
    fn spawn_bg(&mut self, future: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn_background(future);
    }
}

#[cfg_attr(docsrs, doc(cfg(feature = "hickory-resolver")))]
#[async_trait]
impl Time for Heirloom {
    async fn delay_for(duration: Duration) {
        sleep(duration).await;
    }

    async fn timeout<F: Future + Send + 'static>(duration: Duration, future: F) -> io::Result<F::Output> {
        Ok(wait_for(future, duration).await?)
    }
}

/// Blocks, since the executor's streams are not bound before they are connected.
fn connect_from(from: SocketAddr, server: SocketAddr, limit: Duration) -> io::Result<net::TcpStream> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&from.into())?;
    socket.connect_timeout(&server.into(), limit)?;
    net::TcpStream::try_from(std::net::TcpStream::from(socket))
}

/// A UDP socket of heirloom's, with hickory's trait.
#[derive(Debug)]
#[cfg_attr(docsrs, doc(cfg(feature = "hickory-resolver")))]
pub struct UdpSocket(net::UdpSocket);

#[async_trait]
impl DnsUdpSocket for UdpSocket {
    type Time = Heirloom;

    fn poll_recv_from(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        self.0.poll_recv_from(cx, buf)
    }

    fn poll_send_to(&self, cx: &mut Context<'_>, buf: &[u8], to: SocketAddr) -> Poll<io::Result<usize>> {
        self.0.poll_send_to(cx, buf, to)
    }
}

/// A TCP stream of heirloom's, with hickory's trait.
#[derive(Debug)]
#[cfg_attr(docsrs, doc(cfg(feature = "hickory-resolver")))]
pub struct TcpStream(net::TcpStream);

impl DnsTcpStream for TcpStream {
    type Time = Heirloom;
}

impl AsyncRead for TcpStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}
