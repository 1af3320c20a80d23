//! Two ends of a connection, in memory: what one writes, the other reads.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as Poller, Poll, Waker};

use futures::io::{AsyncRead, AsyncWrite};

/// One direction.
#[derive(Debug)]
struct Pipe {
    state: Mutex<State>,
    capacity: usize,
    vectored: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    bytes: VecDeque<u8>,
    /// Nothing more is written; or, to a writer, nothing more is read.
    closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    fn new(capacity: usize) -> Arc<Pipe> {
        Arc::new(Pipe { state: Mutex::default(), capacity, vectored: AtomicUsize::new(0) })
    }

    // A panic of a test elsewhere must not turn into a second one here.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        let wakers = {
            let mut state = self.lock();
            state.closed = true;
            [state.reader.take(), state.writer.take()]
        };
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

/// An end of a [`duplex`]. Dropping it ends both directions.
#[derive(Debug)]
pub struct End {
    incoming: Arc<Pipe>,
    outgoing: Arc<Pipe>,
}

/// Two ends of a connection that holds so many bytes in each direction. A small capacity makes many
/// short reads and writes.
pub fn duplex(capacity: usize) -> (End, End) {
    let (one, other) = (Pipe::new(capacity), Pipe::new(capacity));
    (End { incoming: one.clone(), outgoing: other.clone() }, End { incoming: other, outgoing: one })
}

impl End {
    /// How many vectored writes of more than one part the other end has made.
    pub fn vectored_writes_received(&self) -> usize {
        self.incoming.vectored.load(Ordering::SeqCst)
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.incoming.close();
        self.outgoing.close();
    }
}

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, poller: &mut Poller<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut state = self.incoming.lock();
        if state.bytes.is_empty() && !state.closed {
            state.reader = Some(poller.waker().clone());
            return Poll::Pending;
        }
        let count = buf.len().min(state.bytes.len());
        for (place, byte) in buf.iter_mut().zip(state.bytes.drain(..count)) {
            *place = byte;
        }
        let writer = state.writer.take();
        drop(state);
        writer.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, poller: &mut Poller<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(poller, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        poller: &mut Poller<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.outgoing.lock();
        if state.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = self.outgoing.capacity - state.bytes.len();
        if room == 0 {
            state.writer = Some(poller.waker().clone());
            return Poll::Pending;
        }
        if bufs.iter().filter(|buf| !buf.is_empty()).count() > 1 {
            self.outgoing.vectored.fetch_add(1, Ordering::SeqCst);
        }
        let before = state.bytes.len();
        state.bytes.extend(bufs.iter().flat_map(|buf| buf.iter()).take(room));
        let written = state.bytes.len() - before;
        let reader = state.reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Poller<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Poller<'_>) -> Poll<io::Result<()>> {
        self.outgoing.close();
        Poll::Ready(Ok(()))
    }
}
