//! A listener's connections, as a stream.
#![forbid(unsafe_code)]

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use super::TcpStream;

pub(super) type Accepting<'a, S> = Pin<Box<dyn Future<Output = io::Result<S>> + Send + Sync + 'a>>;

/// A listener of streams of type `S`.
pub(super) trait Accept<S>: Send + Sync {
    /// Accepts one connection.
    fn accept_stream(&self) -> Accepting<'_, S>;
}

/// The connections of a listener, as a stream that never ends; made by
/// [`TcpListener::incoming`](super::TcpListener::incoming) and
/// [`UnixListener::incoming`](super::UnixListener::incoming).
///
/// An item is an error where `accept` returns one; the stream goes on after it.
#[must_use = "streams do nothing unless they are polled"]
pub struct Incoming<'a, S = TcpStream> {
    listener: &'a dyn Accept<S>,
    /// The pending `accept`. It is a waiter of its own, so that several streams may share a
    /// listener.
    accepting: Option<Accepting<'a, S>>,
}

impl<'a, S> Incoming<'a, S> {
    pub(super) fn new(listener: &'a dyn Accept<S>) -> Self {
        Incoming { listener, accepting: None }
    }
}

impl<S> Stream for Incoming<'_, S> {
    type Item = io::Result<S>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<S>>> {
        let this = self.get_mut();
        let accepting = this.accepting.get_or_insert_with(|| this.listener.accept_stream());
        let result = ready!(accepting.as_mut().poll(cx));
        this.accepting = None;
        Poll::Ready(Some(result))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::MAX, None)
    }
}

impl<S> fmt::Debug for Incoming<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").finish_non_exhaustive()
    }
}
