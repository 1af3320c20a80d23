//! The two halves of a stream, borrowed or owned.
#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use super::TcpStream;
use super::duplex::{Duplex, reads, writes};

/// The half of a stream that reads, borrowed; made by [`TcpStream::split`] and
/// [`UnixStream::split`](super::UnixStream::split).
///
/// [`as_ref`](AsRef::as_ref) leads to the whole stream, for methods such as `peek` and `readable`.
#[derive(Debug)]
pub struct ReadHalf<'a, S = TcpStream>(pub(super) &'a S);

/// The half of a stream that writes, borrowed; made like [`ReadHalf`].
///
/// Dropping it does nothing. Closing it, by
/// [`AsyncWrite::poll_close`](futures_io::AsyncWrite::poll_close), ends the writing direction: the
/// peer reads to an end.
#[derive(Debug)]
pub struct WriteHalf<'a, S = TcpStream>(pub(super) &'a S);

reads!([<S: Duplex>] ReadHalf<'_, S>, this => this.0);
writes!([<S: Duplex>] WriteHalf<'_, S>, this => this.0);

impl<S> AsRef<S> for ReadHalf<'_, S> {
    fn as_ref(&self) -> &S {
        self.0
    }
}

impl<S> AsRef<S> for WriteHalf<'_, S> {
    fn as_ref(&self) -> &S {
        self.0
    }
}

/// The half of a stream that reads, for a task of its own; made by [`TcpStream::into_split`] and
/// [`UnixStream::into_split`](super::UnixStream::into_split).
///
/// Dropping it does nothing by itself: the peer can go on writing until both halves are dropped.
/// [`as_ref`](AsRef::as_ref) leads to the whole stream.
#[derive(Debug)]
pub struct OwnedReadHalf<S = TcpStream> {
    stream: Arc<S>,
}

/// The half of a stream that writes, for a task of its own; made like [`OwnedReadHalf`].
///
/// **Dropping it shuts down the writing direction**: the peer reads to an end, while what the peer
/// sends still arrives at the other half. [`forget`](OwnedWriteHalf::forget) drops the half without
/// doing so.
pub struct OwnedWriteHalf<S: Duplex = TcpStream> {
    stream: Arc<S>,
    shutdown_on_drop: bool,
}

pub(super) fn into_halves<S: Duplex>(stream: S) -> (OwnedReadHalf<S>, OwnedWriteHalf<S>) {
    let stream = Arc::new(stream);
    (OwnedReadHalf { stream: Arc::clone(&stream) }, OwnedWriteHalf { stream, shutdown_on_drop: true })
}

reads!([<S: Duplex>] OwnedReadHalf<S>, this => &*this.stream);
writes!([<S: Duplex>] OwnedWriteHalf<S>, this => &*this.stream);

impl<S: Duplex> OwnedReadHalf<S> {
    /// Joins the halves into the stream again, and shuts nothing down.
    ///
    /// # Errors
    /// [`ReuniteError`] with both halves, if they belong to different streams.
    ///
    /// ```
    /// use heirloom::net::{TcpListener, TcpStream};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// heirloom::block_on(async {
    ///     let listener = TcpListener::bind("127.0.0.1:0").await?;
    ///     let stream = TcpStream::connect(listener.local_addr()?).await?;
    ///     let local = stream.local_addr()?;
    ///     let (read, write) = stream.into_split();
    ///     let stream = read.reunite(write).unwrap();
    ///     assert_eq!(stream.local_addr()?, local);
    ///     Ok(())
    /// })
    /// # }
    /// ```
    pub fn reunite(self, mut write: OwnedWriteHalf<S>) -> Result<S, ReuniteError<S>> {
        if !Arc::ptr_eq(&self.stream, &write.stream) {
            return Err(ReuniteError(self, write));
        }
        write.shutdown_on_drop = false;
        drop(write);
        Ok(Arc::into_inner(self.stream).expect("the two halves are all that hold the stream"))
    }
}

impl<S: Duplex> OwnedWriteHalf<S> {
    /// Joins the halves into the stream again; see [`OwnedReadHalf::reunite`].
    ///
    /// # Errors
    /// [`ReuniteError`] with both halves, if they belong to different streams.
    pub fn reunite(self, read: OwnedReadHalf<S>) -> Result<S, ReuniteError<S>> {
        read.reunite(self)
    }

    /// Drops the half and leaves the writing direction open, until the other half is dropped too.
    pub fn forget(mut self) {
        self.shutdown_on_drop = false;
    }
}

impl<S: Duplex> Drop for OwnedWriteHalf<S> {
    fn drop(&mut self) {
        if self.shutdown_on_drop {
            // A destructor cannot return the error.
            let _ = self.stream.close_write();
        }
    }
}

impl<S> AsRef<S> for OwnedReadHalf<S> {
    fn as_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: Duplex> AsRef<S> for OwnedWriteHalf<S> {
    fn as_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: Duplex> fmt::Debug for OwnedWriteHalf<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedWriteHalf").field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// Two halves of different streams, returned by [`OwnedReadHalf::reunite`].
#[derive(Debug)]
pub struct ReuniteError<S: Duplex = TcpStream>(
    /// The half that reads.
    pub OwnedReadHalf<S>,
    /// The half that writes.
    pub OwnedWriteHalf<S>,
);

impl<S: Duplex> fmt::Display for ReuniteError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the two halves are not of one stream")
    }
}

impl<S: Duplex> Error for ReuniteError<S> {}
