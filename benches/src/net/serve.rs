//! The servers: per executor an accept loop and a task per connection, on its own sockets, written alike.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener as StdListener;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ::heirloom::hyper::HyperIo;
use ::heirloom::{Context, ContextFutureExt, context_var};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};

use crate::peers::{Executor, Heirloom, Smol, Tokio, TokioCurrent};

context_var! {
    /// What each request is known by, where requests have contexts.
    static REQUEST_ID: u64;
}

/// An executor with sockets.
pub trait Sockets: Executor {
    /// Accepts and sends back what comes.
    fn echo(self, listener: StdListener) -> impl Future<Output = io::Result<()>> + Send + 'static;

    /// Accepts and serves `hello` by hyper.
    fn hello(self, listener: StdListener) -> impl Future<Output = io::Result<()>> + Send + 'static;
}

/// The longest message that is read at once.
const BUFFER: usize = 16 * 1024;

/// Reads and writes back until the peer closes; with whichever extension traits are in scope.
macro_rules! echo {
    ($stream:ident) => {
        echo!($stream, buffer, length => $stream.write_all(&buffer[..length]).await)
    };
    ($stream:ident, $buffer:ident, $length:ident => $answer:expr) => {{
        let mut $buffer = vec![0; BUFFER];
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

async fn hello(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new(Bytes::from_static(b"hello"))))
}

/// A context for the next request, on top of what the connection has.
fn next_request() -> Context {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    Context::current().with_var(&REQUEST_ID, NEXT.fetch_add(1, Relaxed))
}

/// Ours. With variables bound, each request over HTTP has a context of its own too, and reads it.
impl<const BOUND: usize> Sockets for Heirloom<BOUND> {
    async fn echo(self, listener: StdListener) -> io::Result<()> {
        use futures::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = ::heirloom::net::TcpListener::try_from(listener)?;
        loop {
            let (mut stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            self.detach(async move { echo!(stream) });
        }
    }

    async fn hello(self, listener: StdListener) -> io::Result<()> {
        let listener = ::heirloom::net::TcpListener::try_from(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            self.detach(async move {
                let http1 = http1::Builder::new();
                let _ = if BOUND == 0 {
                    http1.serve_connection(stream, service_fn(hello)).await
                } else {
                    let service = |request| {
                        let answer = async move {
                            std::hint::black_box(REQUEST_ID.get());
                            hello(request).await
                        };
                        answer.in_context(next_request())
                    };
                    http1.serve_connection(stream, service_fn(service)).await
                };
            });
        }
    }
}

/// Ours, where each message is a request: it is answered in a context of its own, and reads it.
pub async fn echo_in_contexts<const BOUND: usize>(
    peer: Heirloom<BOUND>,
    listener: StdListener,
) -> io::Result<()> {
    use futures::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = ::heirloom::net::TcpListener::try_from(listener)?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        peer.detach(async move {
            echo!(stream, buffer, length => {
                let answer = async {
                    std::hint::black_box(REQUEST_ID.get());
                    stream.write_all(&buffer[..length]).await
                };
                answer.in_context(next_request()).await
            })
        });
    }
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

            async fn hello(self, listener: StdListener) -> io::Result<()> {
                let listener = ::tokio::net::TcpListener::from_std(listener)?;
                loop {
                    let (stream, _) = listener.accept().await?;
                    stream.set_nodelay(true)?;
                    self.detach(async move {
                        let io = hyper_util::rt::TokioIo::new(stream);
                        let _ = http1::Builder::new().serve_connection(io, service_fn(hello)).await;
                    });
                }
            }
        }
    };
}
on_tokio!(Tokio<IO>, const IO: bool);
on_tokio!(TokioCurrent);

/// smol's, whose bytes come to hyper through our adaptor: it takes anything with the traits of `futures`.
impl Sockets for Smol {
    async fn echo(self, listener: StdListener) -> io::Result<()> {
        use futures::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = smol::net::TcpListener::try_from(listener)?;
        loop {
            let (mut stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            self.detach(async move { echo!(stream) });
        }
    }

    async fn hello(self, listener: StdListener) -> io::Result<()> {
        let listener = smol::net::TcpListener::try_from(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            self.detach(async move {
                let io = HyperIo::new(stream);
                let _ = http1::Builder::new().serve_connection(io, service_fn(hello)).await;
            });
        }
    }
}
