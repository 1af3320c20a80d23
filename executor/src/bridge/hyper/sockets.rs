//! hyper's I/O traits for the sockets of this crate.
//!
//! hyper passes buffers that are not initialised. The traits of `futures` cannot read into them, so
//! [`HyperIo`](super::HyperIo) has to initialise them before each read: 8 KiB and more, a twentieth
//! of the time that a small request takes.

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
        // SAFETY: `room` goes to the system's `read` alone, which only writes initialised bytes.
        let room = unsafe { buf.as_mut() };
        ready!(stream.poll_read_uninit(cx, room))?
    };
    #[cfg(not(unix))]
    let read = ready!(stream.poll_read(cx, buf.initialize_unfilled()))?;
    // SAFETY: the system has written `read` bytes to the start of the buffer.
    unsafe { buf.advance(read) };
    Poll::Ready(Ok(()))
}

macro_rules! socket {
    ($type:ident) => {
        /// As [`HyperIo`](crate::hyper::HyperIo) around it, without initialising the buffer.
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
