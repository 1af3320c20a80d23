//! tokio's I/O traits for the sockets of this crate.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::TcpStream;
#[cfg(unix)]
use crate::net::UnixStream;
use crate::net::duplex::Duplex;

fn read(stream: &impl Duplex, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
    #[cfg(unix)]
    {
        // SAFETY: `room` goes to the system's `read` alone, which only writes initialised bytes.
        let room = unsafe { buf.unfilled_mut() };
        let read = ready!(stream.poll_read_uninit(cx, room))?;
        // SAFETY: the system has written `read` bytes to the start of the room.
        unsafe { buf.assume_init(read) };
        buf.advance(read);
    }
    #[cfg(not(unix))]
    {
        let read = ready!(stream.poll_read(cx, buf.initialize_unfilled()))?;
        buf.advance(read);
    }
    Poll::Ready(Ok(()))
}

macro_rules! socket {
    ($type:ident) => {
        /// For libraries that take a stream of tokio's traits. It needs no tokio runtime.
        impl AsyncRead for $type {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                read(self.get_mut(), cx, buf)
            }
        }

        /// For libraries that take a stream of tokio's traits. It needs no tokio runtime. Written
        /// bytes are passed to the system at once, so flushing does nothing.
        impl AsyncWrite for $type {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                Duplex::poll_write(self.get_mut(), cx, buf)
            }

            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }

            fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(self.close_write())
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                Duplex::poll_write_vectored(self.get_mut(), cx, bufs)
            }

            fn is_write_vectored(&self) -> bool {
                true
            }
        }
    };
}
socket!(TcpStream);
#[cfg(unix)]
socket!(UnixStream);
