//! The servers: per executor an accept loop and a task per connection, on its own sockets, written
//! alike.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener as StdListener;

use ::heirloom::hyper::HyperIo;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};

use crate::peers::{AsyncExecutor, Executor, Smol, Tokio, TokioCurrent};

/// What answers requests over HTTP; each connection has a clone.
pub trait Answers:
    Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + 'static
{
}

impl<S> Answers for S where
    S: Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static
{
}

/// An executor with sockets.
pub trait Sockets: Executor {
    /// Accepts and sends back what comes.
    fn echo(self, listener: StdListener) -> impl Future<Output = io::Result<()>> + Send + 'static;

    /// The same with a buffer of [`SMALL`] bytes that is a part of the connection's task.
    fn echo_small(self, listener: StdListener) -> impl Future<Output = io::Result<()>> + Send + 'static;

    /// Accepts and serves by hyper.
    fn http<S: Answers>(
        self,
        listener: StdListener,
        service: S,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static;

    /// Accepts and serves `hello` by hyper.
    fn hello(self, listener: StdListener) -> impl Future<Output = io::Result<()>> + Send + 'static {
        self.http(listener, service_fn(hello))
    }
}

/// The longest message that is read at once.
pub const BUFFER: usize = 16 * 1024;

/// The buffer of a connection that is mostly idle.
pub const SMALL: usize = 64;

/// Reads and writes back until the peer closes, by the extension traits that are in scope. The
/// second form says which buffer to read into, the last one how to write what was read.
#[macro_export]
macro_rules! echo {
    ($stream:ident) => {
        $crate::echo!($stream, vec![0; $crate::net::serve::BUFFER])
    };
    ($stream:ident, $new:expr) => {
        $crate::echo!($stream, $new, buffer, length => $stream.write_all(&buffer[..length]).await)
    };
    ($stream:ident, $new:expr, $buffer:ident, $length:ident => $answer:expr) => {{
        let mut $buffer = $new;
        loop {
            match $stream.read(&mut $buffer).await {
                Ok(0) | Err(_) => break,
                Ok($length) => {
                    if $answer.is_err() {
                        break;
                    }
                }
            }
        }
    }};
}

/// Answers `hello`.
pub async fn hello(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new(Bytes::from_static(b"hello"))))
}

/// tokio's servers are the same for both of its runtimes.
macro_rules! on_tokio {
    ($peer:ty $(, const $name:ident: $kind:ty)?) => {
        impl$(<const $name: $kind>)? Sockets for $peer {
            async fn echo(self, listener: StdListener) -> io::Result<()> {
                use ::tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
                let listener = ::tokio::net::TcpListener::from_std(listener)?;
                loop {
                    let (mut stream, _) = listener.accept().await?;
                    stream.set_nodelay(true)?;
                    self.detach(async move { echo!(stream) });
                }
            }

            async fn echo_small(self, listener: StdListener) -> io::Result<()> {
                use ::tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
                let listener = ::tokio::net::TcpListener::from_std(listener)?;
                loop {
                    let (mut stream, _) = listener.accept().await?;
                    self.detach(async move { echo!(stream, [0; SMALL]) });
                }
            }

            async fn http<S: Answers>(self, listener: StdListener, service: S) -> io::Result<()> {
                let listener = ::tokio::net::TcpListener::from_std(listener)?;
                loop {
                    let (stream, _) = listener.accept().await?;
                    stream.set_nodelay(true)?;
                    let service = service.clone();
                    self.detach(async move {
                        let io = hyper_util::rt::TokioIo::new(stream);
                        let _ = http1::Builder::new().serve_connection(io, service).await;
                    });
                }
            }
        }
    };
}
on_tokio!(Tokio<IO>, const IO: bool);
on_tokio!(TokioCurrent);

/// smol's, whose bytes come to hyper through our adaptor: it takes anything with the traits of
/// `futures`. They suit each executor that has none of its own.
macro_rules! on_smols_sockets {
    ($peer:ty) => {
        impl Sockets for $peer {
            async fn echo(self, listener: StdListener) -> io::Result<()> {
                use futures::{AsyncReadExt as _, AsyncWriteExt as _};
                let listener = smol::net::TcpListener::try_from(listener)?;
                loop {
                    let (mut stream, _) = listener.accept().await?;
                    stream.set_nodelay(true)?;
                    self.detach(async move { echo!(stream) });
                }
            }

            async fn echo_small(self, listener: StdListener) -> io::Result<()> {
                use futures::{AsyncReadExt as _, AsyncWriteExt as _};
                let listener = smol::net::TcpListener::try_from(listener)?;
                loop {
                    let (mut stream, _) = listener.accept().await?;
                    self.detach(async move { echo!(stream, [0; SMALL]) });
                }
            }

            async fn http<S: Answers>(self, listener: StdListener, service: S) -> io::Result<()> {
                let listener = smol::net::TcpListener::try_from(listener)?;
                loop {
                    let (stream, _) = listener.accept().await?;
                    stream.set_nodelay(true)?;
                    let service = service.clone();
                    self.detach(async move {
                        let io = HyperIo::new(stream);
                        let _ = http1::Builder::new().serve_connection(io, service).await;
                    });
                }
            }
        }
    };
}
on_smols_sockets!(Smol);
on_smols_sockets!(AsyncExecutor);
