//! What all streams of bytes have in common.
#![forbid(unsafe_code)]

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::task::{Context, Poll};

/// A stream of bytes in both directions. Sealed: implemented by [`TcpStream`](super::TcpStream) and
/// [`UnixStream`](super::UnixStream), and used by their halves.
pub trait Duplex: fmt::Debug {
    #[doc(hidden)]
    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Reads into memory that is not initialised, and initialises as many bytes as it returns.
    #[cfg(all(unix, any(feature = "hyper", feature = "tokio")))]
    #[doc(hidden)]
    fn poll_read_uninit(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [std::mem::MaybeUninit<u8>],
    ) -> Poll<io::Result<usize>>;

    #[doc(hidden)]
    fn poll_read_vectored(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>>;

    #[doc(hidden)]
    fn poll_write(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>>;

    #[doc(hidden)]
    fn poll_write_vectored(&self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>>;

    #[doc(hidden)]
    fn close_write(&self) -> io::Result<()>;
}

/// How many bytes one system call moves, if enough have arrived or enough room is left. A call that
/// moves fewer has reached the end.
pub(super) fn bytes_per_call<B: std::ops::Deref<Target = [u8]>>(bufs: &[B]) -> usize {
    // A call takes so many buffers at least: POSIX grants 16. The systems in use take 1,024, and so
    // does the standard library.
    const BUFFERS: usize = 16;
    bufs.iter().take(BUFFERS).map(|buf| buf.len()).sum()
}

/// Implements `AsyncRead` for a type by an expression that leads to a `Duplex`.
macro_rules! reads {
    ([$($generics:tt)*] $type:ty, $this:ident => $stream:expr) => {
        impl $($generics)* futures_io::AsyncRead for $type {
            #[inline]
            fn poll_read(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                buf: &mut [u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                let $this = self.get_mut();
                crate::net::duplex::Duplex::poll_read($stream, cx, buf)
            }

            #[inline]
            fn poll_read_vectored(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                bufs: &mut [std::io::IoSliceMut<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                let $this = self.get_mut();
                crate::net::duplex::Duplex::poll_read_vectored($stream, cx, bufs)
            }
        }
    };
}

/// The same for `AsyncWrite`. Written bytes are passed to the system at once, so flushing does
/// nothing.
macro_rules! writes {
    ([$($generics:tt)*] $type:ty, $this:ident => $stream:expr) => {
        impl $($generics)* futures_io::AsyncWrite for $type {
            #[inline]
            fn poll_write(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                buf: &[u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                let $this = self.get_mut();
                crate::net::duplex::Duplex::poll_write($stream, cx, buf)
            }

            #[inline]
            fn poll_write_vectored(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                bufs: &[std::io::IoSlice<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                let $this = self.get_mut();
                crate::net::duplex::Duplex::poll_write_vectored($stream, cx, bufs)
            }

            #[inline]
            fn poll_flush(
                self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                std::task::Poll::Ready(Ok(()))
            }

            #[inline]
            fn poll_close(
                self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                let $this = self.get_mut();
                std::task::Poll::Ready(crate::net::duplex::Duplex::close_write($stream))
            }
        }
    };
}

/// Implements the I/O traits for a type with a field `io`, the registration of a stream of mio's,
/// and a field `error`, its stored error.
macro_rules! duplex {
    ($type:ident) => {
        impl crate::net::duplex::Duplex for $type {
            #[inline]
            fn poll_read(
                &self,
                cx: &mut std::task::Context<'_>,
                buf: &mut [u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                let wanted = buf.len();
                let read = |mut source: &mio::$type| self.error.read(source.read(buf));
                self.io.poll_transfer(cx, Direction::Read, wanted, read)
            }

            #[cfg(all(unix, any(feature = "hyper", feature = "tokio")))]
            #[inline]
            fn poll_read_uninit(
                &self,
                cx: &mut std::task::Context<'_>,
                buf: &mut [std::mem::MaybeUninit<u8>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                self.io.poll_transfer(cx, Direction::Read, buf.len(), |source| {
                    // Through mio, which may have to ask the system for the next event.
                    self.error.read(source.try_io(|| crate::util::system::read(source, buf)))
                })
            }

            #[inline]
            fn poll_read_vectored(
                &self,
                cx: &mut std::task::Context<'_>,
                bufs: &mut [std::io::IoSliceMut<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                let wanted = crate::net::duplex::bytes_per_call(bufs);
                let read = |mut source: &mio::$type| self.error.read(source.read_vectored(bufs));
                self.io.poll_transfer(cx, Direction::Read, wanted, read)
            }

            #[inline]
            fn poll_write(
                &self,
                cx: &mut std::task::Context<'_>,
                buf: &[u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                let write = |mut source: &mio::$type| self.error.write(|| source.write(buf));
                self.io.poll_transfer(cx, Direction::Write, buf.len(), write)
            }

            #[inline]
            fn poll_write_vectored(
                &self,
                cx: &mut std::task::Context<'_>,
                bufs: &[std::io::IoSlice<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                let wanted = crate::net::duplex::bytes_per_call(bufs);
                let write = |mut source: &mio::$type| self.error.write(|| source.write_vectored(bufs));
                self.io.poll_transfer(cx, Direction::Write, wanted, write)
            }

            #[inline]
            fn close_write(&self) -> std::io::Result<()> {
                match self.shutdown(std::net::Shutdown::Write) {
                    // The connection has ended in both directions.
                    Err(error) if error.kind() == std::io::ErrorKind::NotConnected => Ok(()),
                    result => result,
                }
            }
        }

        crate::net::duplex::reads!([] $type, this => &*this);
        crate::net::duplex::writes!([] $type, this => &*this);
        crate::net::duplex::reads!([] &$type, this => *this);
        crate::net::duplex::writes!([] &$type, this => *this);
    };
}

pub(super) use {duplex, reads, writes};
