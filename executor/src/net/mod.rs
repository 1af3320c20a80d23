//! Sockets, and name resolution.
//!
//! | for | see |
//! | --- | --- |
//! | TCP | [`TcpListener`], [`TcpStream`] |
//! | datagrams | [`UdpSocket`] |
//! | connections within the machine (Unix) | [`UnixListener`], [`UnixStream`] |
//! | names and addresses | [`lookup`], [`ToSocketAddrs`] |
//! | reading in one task and writing in another | [`TcpStream::into_split`] |
//! | other descriptors (Unix): pipes, terminals, inotify, sockets of C libraries | [`Async`] |
//! | system calls of the caller's own | [`Direction`], and `try_io` of each socket |
//! | another library's traits, by `poll` | [`Async::poll_io`], `poll_recv_from` and the like of [`UdpSocket`] |
//! | TLS, HTTP, files, processes | other crates, see [what goes with it](crate::guide::goes_with) |
//!
//! ```
//! use futures::{AsyncReadExt, AsyncWriteExt};
//! use heirloom::net::{TcpListener, TcpStream};
//!
//! # fn main() -> std::io::Result<()> {
//! heirloom::block_on(async {
//!     let listener = TcpListener::bind("127.0.0.1:0").await?;
//!     let mut client = TcpStream::connect(listener.local_addr()?).await?;
//!     let (mut server, _) = listener.accept().await?;
//!     client.write_all(b"ping").await?;
//!     let mut ping = [0; 4];
//!     server.read_exact(&mut ping).await?;
//!     assert_eq!(&ping, b"ping");
//!     Ok(())
//! })
//! # }
//! ```
//!
//! Streams implement `AsyncRead` and `AsyncWrite` of [`futures_io`]. The extension traits
//! `futures::{AsyncReadExt, AsyncWriteExt}` have the convenient methods.
//!
//! # Which runtime
//!
//! A socket belongs to the runtime of the thread that makes it. Inside tasks, blocking closures and
//! a runtime's `block_on` that is the runtime they run on; elsewhere it is the default runtime,
//! which starts then. (A call of [`run_eagerly`](crate::run_eagerly) outside of any runtime starts
//! none: a socket made there belongs to the runtime of the task that first awaits it without the
//! flag, on Windows to the default one.) The runtime's workers learn when the socket is ready.
//!
//! A socket may be *used* anywhere: in tasks of other runtimes, on plain threads under
//! [`block_on`](crate::block_on), under foreign executors. When its runtime ends, tasks that wait
//! for the socket are woken, and everything that would wait returns an error of kind
//! [`Other`](std::io::ErrorKind::Other) that says so. The socket itself is still open, and can be
//! moved to another runtime through the standard library:
//!
//! ```
//! use heirloom::Runtime;
//! use heirloom::net::TcpListener;
//!
//! # fn main() -> std::io::Result<()> {
//! let first = Runtime::new()?;
//! let listener = first.block_on(TcpListener::bind("127.0.0.1:0"))?;
//! drop(first);
//!
//! let second = Runtime::new()?;
//! second.block_on(async {
//!     let listener = TcpListener::try_from(std::net::TcpListener::try_from(listener)?)?;
//!     println!("still listening at {}", listener.local_addr()?);
//!     Ok(())
//! })
//! # }
//! ```
//!
//! Under the [eager flag](crate::is_eager) a socket blocks the thread where it would wait, until
//! the ambient deadline at most, also if its runtime has ended.
//!
//! # Time limits
//!
//! No method has a time limit of its own: [`wait_for`](crate::wait_for()) bounds any of them. Each
//! method's "cancel safety" says what happens if its future is dropped before it is ready.

// Functions of the sockets that are not generic are `#[inline]`, so that the compiler generates
// them, with one `Registration` for each kind of socket behind them, in crates that use them only:
// in the debug build of a program without sockets they were a tenth of the crate.
mod addr;
pub(crate) mod duplex;
mod eager;
pub(crate) mod failure;
mod incoming;
mod platform;
pub(crate) mod registration;
mod shortage;
#[cfg(unix)]
mod source;
mod split;
mod tcp;
mod udp;
#[cfg(unix)]
mod unix;

pub use crate::io::readiness::Direction;
pub use addr::{ToSocketAddrs, lookup};
pub use incoming::Incoming;
#[cfg(unix)]
pub use source::Async;
pub use split::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, ReuniteError, WriteHalf};
pub use tcp::{TcpListener, TcpStream};
pub use udp::UdpSocket;
#[cfg(unix)]
pub use unix::{UnixListener, UnixStream};

#[cfg(all(test, unix, not(loom), not(miri)))]
mod tests;
