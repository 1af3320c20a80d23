//! Our own sockets, as hyper's I/O without anything in between.
//!
//! hyper hands out room that is not initialised. The traits of `futures` have no use for that, so [`HyperIo`](super::HyperIo)
//! has to fill it before each read: 8 KiB and more, a twentieth of the time that a small request takes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_io::AsyncWrite;
use hyper::rt::{Read, ReadBufCursor, Write};

use crate::io::net::TcpStream;
#[cfg(unix)]
use crate::io::net::UnixStream;
use crate::io::net::duplex::Duplex;

fn read(stream: &impl Duplex, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
    #[cfg(unix)]
    let read = {
        // SAFETY: nothing there is made uninitialised: the system only writes.
        let room = unsafe { buf.as_mut() };
        ready!(stream.poll_read_uninit(cx, room))?
    };
    #[cfg(not(unix))]
    let read = ready!(stream.poll_read(cx, buf.initialize_unfilled()))?;
    // SAFETY: the system has written so many bytes.
    unsafe { buf.advance(read) };
    Poll::Ready(Ok(()))
}

macro_rules! socket {
    ($type:ident) => {
        /// As [`HyperIo`](crate::hyper::HyperIo) around it, without the filling of what is going to be read.
        impl Read for $type {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: ReadBufCursor<'_>,
            ) -> Poll<io::Result<()>> {
                read(self.get_mut(), cx, buf)
            }
        }

        /// As [`HyperIo`](crate::hyper::HyperIo) around it.
        impl Write for $type {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                AsyncWrite::poll_write(self, cx, buf)
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                AsyncWrite::poll_flush(self, cx)
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                AsyncWrite::poll_close(self, cx)
            }

            fn is_write_vectored(&self) -> bool {
                true
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                AsyncWrite::poll_write_vectored(self, cx, bufs)
            }
        }
    };
}
socket!(TcpStream);
#[cfg(unix)]
socket!(UnixStream);
