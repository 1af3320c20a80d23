//! Channels whose messages carry their sender's context.
//!
//! Inheritance stops at a queue: whoever takes the work out was started by somebody else. Here [`send`](Sender::send)
//! takes a snapshot of the sender's context at the call, and [`recv`](Receiver::recv) hands it out beside the message. What
//! to do with it is the receiver's business:
//!
//! | the work is | write |
//! | --- | --- |
//! | a closure, run in the sender's context | `context.run(\|\| handle(message))` |
//! | a future, awaited in the sender's context | `handle(message).in_context(context).await` |
//! | a task, as if the sender had spawned it: each variable's [policy](super::Inherit) applies | `context.run(\|\| spawn(handle(message)))` |
//! | a task with exactly the sender's context | `spawn_in(context, handle(message))` |
//! | the receiver's own, only *linked* to who caused it | `context.get(&REQUEST_ID)` here and there, then drop the context |
//!
//! The receiver itself stays in its own context in any case. A context keeps its values alive: a receiver that batches,
//! caches or outlives requests links, and drops the context. The sender's deadline does not travel: it is not part of
//! the context.
//!
//! # What is sure
//!
//! * Many senders, many receivers; each message goes to one of them. Messages leave in the order in which they came in.
//! * A channel is closed by [`close`](Sender::close), and when the last sender or the last receiver goes. Then nothing
//!   more is sent; what is there can still be received.
//! * **A message that nobody receives is dropped in its own context**: when the last receiver goes, or when a `send`
//!   is given up. One that is given back in an error, or was received, is its owner's.
//! * Waiting is cancel-safe on both sides, and consumes the [cooperative budget](crate::task::budget): a receiver that
//!   always finds a message lets other tasks have their turn. (A receiver of another crate does not,
//!   unless it is wrapped in [`cooperative`](crate::task::budget::cooperative).)
//! * A message wakes one of the receivers that wait, in the order in which they began to wait: one
//!   of those in [`recv`](Receiver::recv), and one of those that are used as streams. A receiver
//!   that asks while a message is there takes it at once, and may so overtake one that was woken
//!   for it.
//! * A `recv` that is dropped hands its wake-up on. A receiver that is used as a *stream* keeps its
//!   place until it is polled again, or dropped: while it is woken and not polled, its message
//!   waits in the queue for it, or for a receiver that asks. So in a `select!` use `recv`.
//!
//! The queue is [`async-channel`](async_channel)'s. The order of waiting is that of
//! [`event-listener`](event_listener).
//!
//! # Examples
//!
//! ```
//! use heirloom::context::channel;
//! use heirloom::{context_var, spawn_background};
//!
//! context_var! { static TENANT: &'static str; }
//!
//! # heirloom::block_on(async {
//! let (jobs, queue) = channel::bounded(16);
//! spawn_background(async move {
//!     // Started in an empty context, as a pool should be.
//!     while let Ok((job, context)) = queue.recv().await {
//!         context.run(|| assert_eq!(TENANT.get(), Some(job)));
//!         assert_eq!(TENANT.get(), None);
//!     }
//! });
//!
//! TENANT.set("acme");
//! jobs.send("acme").await.unwrap();
//! TENANT.set("globex");
//! jobs.send("globex").await.unwrap();
//! # });
//! ```
#![forbid(unsafe_code)]

use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll, ready};

pub use async_channel::{RecvError, SendError, TryRecvError, TrySendError};
use event_listener::{Event, EventListener, IntoNotification, Listener};
use futures_core::Stream;
use futures_core::stream::FusedStream;
use heirloom_context::Context;

use crate::eager;
use crate::task::budget::Claim;

/// A channel with room for `capacity` messages; who sends into a full one waits.
///
/// # Panics
/// If `capacity` is zero: a channel without room cannot hand anything over.
///
/// # Examples
///
/// ```
/// use heirloom::context::channel;
///
/// let (sender, receiver) = channel::bounded(1);
/// sender.try_send("in time").unwrap();
/// assert!(sender.try_send("too many").unwrap_err().is_full());
/// assert_eq!(receiver.try_recv().unwrap().0, "in time");
/// ```
#[track_caller]
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a channel needs room for a message at least: use a capacity of 1 or more");
    ends(async_channel::bounded(capacity))
}

/// A channel with room for everything: sending never waits, so nothing but memory stops who sends too fast.
///
/// # Examples
///
/// ```
/// use heirloom::context::channel;
///
/// let (sender, receiver) = channel::unbounded();
/// for number in 0..1_000 {
///     sender.try_send(number).unwrap();
/// }
/// assert_eq!(receiver.len(), 1_000);
/// ```
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    ends(async_channel::unbounded())
}

type Ends<T> = (async_channel::Sender<Envelope<T>>, async_channel::Receiver<Envelope<T>>);

fn ends<T>((sender, receiver): Ends<T>) -> (Sender<T>, Receiver<T>) {
    let streams = Arc::new(Event::new());
    let last_sender = LastSender { sender: sender.clone(), streams: Arc::clone(&streams) };
    let last = Last { receiver: receiver.clone() };
    let sender = Sender { inner: sender, last: Arc::new(last_sender) };
    let receiver =
        Receiver { inner: receiver, last: Arc::new(last), streams, listener: None, claim: Claim::default() };
    (sender, receiver)
}

/// What all waits here do: consume the budget, and tell who drives the thread if somebody else has to wake them.
fn leaf<T>(
    name: &'static str,
    claim: &mut Claim,
    cx: &mut task::Context<'_>,
    ready: impl FnOnce(&mut task::Context<'_>) -> Poll<T>,
) -> Poll<T> {
    claim.spend(cx, |cx| {
        let result = ready(cx);
        if result.is_pending() {
            eager::suspends(name);
        }
        result
    })
}

/// A message on its way.
struct Envelope<T> {
    // `None` once it was taken out.
    message: Option<T>,
    context: Context,
}

impl<T> Envelope<T> {
    /// With the context of the caller.
    fn new(message: T) -> Self {
        Envelope { message: Some(message), context: Context::current() }
    }

    fn message(mut self) -> T {
        self.message.take().expect("it is taken out once")
    }

    fn open(mut self) -> (T, Context) {
        let context = mem::replace(&mut self.context, Context::empty());
        (self.message(), context)
    }
}

impl<T> Drop for Envelope<T> {
    fn drop(&mut self) {
        if mem::needs_drop::<T>()
            && let Some(message) = self.message.take()
        {
            self.context.run(|| drop(message));
        }
    }
}

/// Shared by all receivers: with the last of them go the messages that nobody will receive, though there may be senders
/// yet. Whoever waits for an answer to one of them would wait for ever otherwise.
struct Last<T> {
    receiver: async_channel::Receiver<Envelope<T>>,
}

impl<T> Drop for Last<T> {
    fn drop(&mut self) {
        // Closed first: after that nothing comes in, and what is coming in just now is waited for by `try_recv`.
        self.receiver.close();
        while let Ok(envelope) = self.receiver.try_recv() {
            drop(envelope);
        }
    }
}

/// Shared by all senders: the last of them closes the channel.
struct LastSender<T> {
    sender: async_channel::Sender<Envelope<T>>,
    /// The receivers that wait as streams. The queue itself would wake all of them for a message.
    streams: Arc<Event>,
}

impl<T> LastSender<T> {
    fn close(&self) -> bool {
        let closed = self.sender.close();
        self.streams.notify(usize::MAX);
        closed
    }
}

impl<T> Drop for LastSender<T> {
    fn drop(&mut self) {
        self.close();
    }
}

/// The sending end of a channel; made by [`bounded`] and [`unbounded`], and by cloning.
pub struct Sender<T> {
    inner: async_channel::Sender<Envelope<T>>,
    last: Arc<LastSender<T>>,
}

impl<T> Sender<T> {
    /// Sends a message with a snapshot of the caller's context, taken now and not when the answer is first polled. Waits
    /// while the channel is full.
    ///
    /// The snapshot is a [copy](Context::current), with everything that is set. What is only to be inherited by new work
    /// is sorted out by who starts that work, as shown [above](self).
    ///
    /// # Errors
    /// If the channel is closed; the message is in the error.
    ///
    /// # Cancel safety
    /// A message whose `send` is dropped before it is ready was not sent: it is dropped too, in its context. To keep it,
    /// use [`try_send`](Self::try_send).
    ///
    /// # Examples
    ///
    /// ```
    /// use heirloom::context::channel;
    /// use heirloom::context_var;
    ///
    /// context_var! { static REQUEST_ID: u64; }
    ///
    /// # heirloom::block_on(async {
    /// let (sender, receiver) = channel::bounded(1);
    /// REQUEST_ID.set(7);
    /// sender.send("a job").await.unwrap();
    ///
    /// let (job, context) = receiver.recv().await.unwrap();
    /// assert_eq!((job, context.get(&REQUEST_ID)), ("a job", Some(7)));
    /// # });
    /// ```
    pub fn send(&self, message: T) -> Send<'_, T> {
        Send {
            inner: self.inner.send(Envelope::new(message)),
            streams: &self.last.streams,
            claim: Claim::default(),
        }
    }

    /// Sends a message, with a snapshot of the caller's context, if there is room for it now.
    ///
    /// # Errors
    /// If the channel is full or closed; the message is in the error.
    ///
    /// # Examples
    ///
    /// ```
    /// use heirloom::context::channel::{self, TrySendError};
    ///
    /// let (sender, receiver) = channel::bounded(1);
    /// drop(receiver);
    /// assert_eq!(sender.try_send("a job"), Err(TrySendError::Closed("a job")));
    /// ```
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        let sent = self.inner.try_send(Envelope::new(message));
        sent.map(|()| _ = self.last.streams.notify(1.additional())).map_err(|error| match error {
            TrySendError::Full(envelope) => TrySendError::Full(envelope.message()),
            TrySendError::Closed(envelope) => TrySendError::Closed(envelope.message()),
        })
    }

    /// Closes the channel: nothing more is sent, what is there can still be received. Whether this call did it.
    pub fn close(&self) -> bool {
        self.last.close()
    }

    /// Whether nothing more can be sent.
    pub fn is_closed(&self) -> bool {
        self.inner.is_closed()
    }

    /// How many messages wait to be received.
    pub fn len(&self) -> usize {
        self.inner.len()
    }

    /// Whether no message waits.
    pub fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    /// Whether there is no room for another message.
    pub fn is_full(&self) -> bool {
        self.inner.is_full()
    }

    /// How many messages there is room for; `None` if it has no bound.
    pub fn capacity(&self) -> Option<usize> {
        self.inner.capacity()
    }

    /// How many senders there are.
    pub fn sender_count(&self) -> usize {
        Arc::strong_count(&self.last)
    }

    /// How many receivers there are.
    pub fn receiver_count(&self) -> usize {
        // Beside theirs there is that of `Last`, which goes with the last of them.
        self.inner.receiver_count().saturating_sub(1)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Sender { inner: self.inner.clone(), last: Arc::clone(&self.last) }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("len", &self.len()).field("closed", &self.is_closed()).finish()
    }
}

/// The receiving end of a channel; made by [`bounded`] and [`unbounded`], and by cloning.
///
/// Clones share the messages: each goes to one of them. A receiver is also a [`Stream`] of messages and contexts, which
/// ends when the channel is closed and empty.
///
/// ```
/// use futures::StreamExt;
/// use heirloom::context::channel;
///
/// # heirloom::block_on(async {
/// let (sender, mut receiver) = channel::unbounded();
/// for number in 0..3 {
///     sender.send(number).await.unwrap();
/// }
/// drop(sender);
///
/// let mut sum = 0;
/// while let Some((number, context)) = receiver.next().await {
///     sum += number;
/// }
/// assert_eq!(sum, 3);
/// # });
/// ```
pub struct Receiver<T> {
    inner: async_channel::Receiver<Envelope<T>>,
    last: Arc<Last<T>>,
    /// Those that wait as streams.
    streams: Arc<Event>,
    /// It waits as a stream.
    listener: Option<EventListener>,
    claim: Claim,
}

// It is never pinned: the listener has an allocation of its own.
impl<T> Unpin for Receiver<T> {}

impl<T> Receiver<T> {
    /// Receives a message and its sender's context, as it was at the call of [`send`](Sender::send). Waits while the
    /// channel is empty.
    ///
    /// # Errors
    /// If the channel is empty and closed.
    ///
    /// # Cancel safety
    /// A `recv` that is dropped before it is ready has taken nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use heirloom::context::channel;
    /// use heirloom::{ContextFutureExt, context_var};
    ///
    /// context_var! { static TENANT: &'static str; }
    ///
    /// async fn handle(job: u32) -> String {
    ///     format!("job {job} of {}", TENANT.get().unwrap())
    /// }
    ///
    /// # heirloom::block_on(async {
    /// let (sender, receiver) = channel::bounded(1);
    /// let sending = async { sender.send(7).await }.with_var(&TENANT, "acme");
    /// sending.await.unwrap();
    ///
    /// let (job, context) = receiver.recv().await.unwrap();
    /// assert_eq!(handle(job).in_context(context).await, "job 7 of acme");
    /// assert_eq!(TENANT.get(), None);
    /// # });
    /// ```
    pub fn recv(&self) -> Recv<'_, T> {
        Recv { inner: self.inner.recv(), claim: Claim::default() }
    }

    /// Receives a message and its sender's context if there is one now.
    ///
    /// # Errors
    /// If the channel is empty; the error says whether it is closed too.
    ///
    /// # Examples
    ///
    /// ```
    /// use heirloom::context::channel::{self, TryRecvError};
    ///
    /// let (sender, receiver) = channel::bounded::<u32>(1);
    /// assert_eq!(receiver.try_recv().unwrap_err(), TryRecvError::Empty);
    /// drop(sender);
    /// assert_eq!(receiver.try_recv().unwrap_err(), TryRecvError::Closed);
    /// ```
    pub fn try_recv(&self) -> Result<(T, Context), TryRecvError> {
        self.inner.try_recv().map(Envelope::open)
    }

    /// Closes the channel: nothing more is sent, what is there can still be received. Whether this call did it.
    pub fn close(&self) -> bool {
        let closed = self.inner.close();
        self.streams.notify(usize::MAX);
        closed
    }

    /// Whether nothing more can be sent.
    pub fn is_closed(&self) -> bool {
        self.inner.is_closed()
    }

    /// How many messages wait to be received.
    pub fn len(&self) -> usize {
        self.inner.len()
    }

    /// Whether no message waits.
    pub fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    /// How many messages there is room for; `None` if it has no bound.
    pub fn capacity(&self) -> Option<usize> {
        self.inner.capacity()
    }

    /// How many senders there are.
    pub fn sender_count(&self) -> usize {
        // Beside theirs there is that of `LastSender`, which goes with the last of them.
        self.inner.sender_count().saturating_sub(1)
    }

    /// How many receivers there are.
    pub fn receiver_count(&self) -> usize {
        Arc::strong_count(&self.last)
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Receiver {
            inner: self.inner.clone(),
            last: Arc::clone(&self.last),
            streams: Arc::clone(&self.streams),
            listener: None,
            claim: Claim::default(),
        }
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("len", &self.len()).field("closed", &self.is_closed()).finish()
    }
}

impl<T> Receiver<T> {
    /// The next message; `None` if there will be none. The look at the queue comes after the
    /// listener is there, as a sender notifies after it has pushed: one of the two sees the other.
    fn poll_message(&mut self, cx: &mut task::Context<'_>) -> Poll<Option<Envelope<T>>> {
        loop {
            match self.inner.try_recv() {
                Ok(envelope) => {
                    // A notification stands for one message, and this one was taken.
                    self.listener.take().map(EventListener::discard);
                    return Poll::Ready(Some(envelope));
                }
                Err(TryRecvError::Closed) => return Poll::Ready(None),
                Err(TryRecvError::Empty) => {}
            }
            match &mut self.listener {
                Some(listener) => {
                    ready!(Pin::new(listener).poll(cx));
                    self.listener = None;
                }
                none => *none = Some(self.streams.listen()),
            }
        }
    }
}

impl<T> Stream for Receiver<T> {
    type Item = (T, Context);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Self::Item>> {
        let mut claim = self.claim;
        let received = leaf("channel::Receiver", &mut claim, cx, |cx| self.poll_message(cx));
        self.claim = claim;
        received.map(|received| received.map(Envelope::open))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // Other receivers may take what is there.
        (0, (self.is_closed() && self.is_empty()).then_some(0))
    }
}

impl<T> FusedStream for Receiver<T> {
    fn is_terminated(&self) -> bool {
        self.is_closed() && self.is_empty()
    }
}

pin_project_lite::pin_project! {
    /// Waits until a message has found room; made by [`Sender::send`].
    #[must_use = "nothing is sent unless this is awaited"]
    pub struct Send<'a, T> {
        #[pin]
        inner: async_channel::Send<'a, Envelope<T>>,
        streams: &'a Event,
        claim: Claim,
    }
}

impl<T> Future for Send<'_, T> {
    type Output = Result<(), SendError<T>>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        leaf("channel::Sender::send", this.claim, cx, |cx| this.inner.poll(cx))
            .map_ok(|()| _ = this.streams.notify(1.additional()))
            .map(|sent| sent.map_err(|SendError(envelope)| SendError(envelope.message())))
    }
}

impl<T> fmt::Debug for Send<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Send").finish_non_exhaustive()
    }
}

pin_project_lite::pin_project! {
    /// Waits for a message; made by [`Receiver::recv`].
    #[must_use = "nothing is received unless this is awaited"]
    pub struct Recv<'a, T> {
        #[pin]
        inner: async_channel::Recv<'a, Envelope<T>>,
        claim: Claim,
    }
}

impl<T> Future for Recv<'_, T> {
    type Output = Result<(T, Context), RecvError>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        leaf("channel::Receiver::recv", this.claim, cx, |cx| this.inner.poll(cx))
            .map(|received| received.map(Envelope::open))
    }
}

impl<T> fmt::Debug for Recv<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recv").finish_non_exhaustive()
    }
}
