//! Our own sockets, as hyper's I/O without anything in between.
//!
//! hyper hands out room that is not initialised. The traits of `futures` have no use for that, so [`HyperIo`](super::HyperIo)
//! has to fill it before each read: 8 KiB and more, a twentieth of the time that a small request takes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor};

use super::write_through;
use crate::net::TcpStream;
#[cfg(unix)]
use crate::net::UnixStream;
use crate::net::duplex::Duplex;

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

        write_through!([] $type, this => this);
    };
}
socket!(TcpStream);
#[cfg(unix)]
socket!(UnixStream);
