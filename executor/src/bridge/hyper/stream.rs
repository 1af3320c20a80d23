//! The connections of clients and servers: over TCP or a Unix socket, in the clear or by TLS.
#![forbid(unsafe_code)]

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
#[cfg(feature = "rustls")]
use hyper_util::rt::TokioIo;

use crate::net::TcpStream;
#[cfg(unix)]
use crate::net::UnixStream;

/// A connection over TCP or a Unix socket, in the clear or by TLS.
///
/// `HyperConnector` returns it, for hyper to read and write. The sockets of this crate convert into
/// it.
pub struct HyperStream(pub(super) Transport);

pub(super) enum Transport {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
    /// Boxed: the state of a TLS connection is many times as large as a socket.
    #[cfg(feature = "rustls")]
    Tls(Box<TlsStream>),
}

/// rustls is written for tokio's traits: hyper's are translated to them inside, and back outside.
#[cfg(feature = "rustls")]
type TlsStream = TokioIo<tokio_rustls::TlsStream<TokioIo<HyperStream>>>;

impl HyperStream {
    /// Wraps a connection whose TLS handshake is over.
    #[cfg(feature = "rustls")]
    pub(super) fn tls(stream: impl Into<tokio_rustls::TlsStream<TokioIo<HyperStream>>>) -> HyperStream {
        HyperStream(Transport::Tls(Box::new(TokioIo::new(stream.into()))))
    }

    /// Whether the peers have agreed on HTTP/2 in the TLS handshake.
    #[cfg(any(feature = "client", feature = "rustls"))]
    pub(super) fn negotiated_http2(&self) -> bool {
        match &self.0 {
            #[cfg(feature = "rustls")]
            Transport::Tls(stream) => stream.inner().get_ref().1.alpn_protocol() == Some(b"h2"),
            _ => false,
        }
    }
}

impl From<TcpStream> for HyperStream {
    fn from(socket: TcpStream) -> HyperStream {
        HyperStream(Transport::Tcp(socket))
    }
}

#[cfg(unix)]
impl From<UnixStream> for HyperStream {
    fn from(socket: UnixStream) -> HyperStream {
        HyperStream(Transport::Unix(socket))
    }
}

/// Calls a method of the stream inside, whichever it is.
macro_rules! inside {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Transport::Tcp($inner) => $call,
            #[cfg(unix)]
            Transport::Unix($inner) => $call,
            #[cfg(feature = "rustls")]
            Transport::Tls($inner) => $call,
        }
    };
}

impl Read for HyperStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        inside!(&mut self.0, stream => Read::poll_read(Pin::new(stream), cx, buf))
    }
}

impl Write for HyperStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        inside!(&mut self.0, stream => Write::poll_write(Pin::new(stream), cx, buf))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        inside!(&mut self.0, stream => Write::poll_flush(Pin::new(stream), cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        inside!(&mut self.0, stream => Write::poll_shutdown(Pin::new(stream), cx))
    }

    fn is_write_vectored(&self) -> bool {
        inside!(&self.0, stream => stream.is_write_vectored())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        inside!(&mut self.0, stream => Write::poll_write_vectored(Pin::new(stream), cx, bufs))
    }
}

#[cfg(feature = "client")]
impl hyper_util::client::legacy::connect::Connection for HyperStream {
    fn connected(&self) -> hyper_util::client::legacy::connect::Connected {
        let connected = hyper_util::client::legacy::connect::Connected::new();
        if self.negotiated_http2() { connected.negotiated_h2() } else { connected }
    }
}

impl fmt::Debug for HyperStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Transport::Tcp(socket) => f.debug_tuple("HyperStream").field(socket).finish(),
            #[cfg(unix)]
            Transport::Unix(socket) => f.debug_tuple("HyperStream").field(socket).finish(),
            #[cfg(feature = "rustls")]
            Transport::Tls(stream) => {
                let socket = stream.inner().get_ref().0.inner();
                f.debug_struct("HyperStream").field("tls", socket).finish()
            }
        }
    }
}
