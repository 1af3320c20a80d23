//! Channels whose messages carry their sender's context.
//!
//! Inheritance stops at a queue: the task that receives work was not spawned by the task that sent
//! it. Here [`send`](Sender::send) takes a snapshot of the sender's context at the call, and
//! [`recv`](Receiver::recv) returns it beside the message. The receiver decides what to do with it:
//!
//! | the work is | write |
//! | --- | --- |
//! | a closure, run in the sender's context | `context.run(\|\| handle(message))` |
//! | a future, awaited in the sender's context | `handle(message).in_context(context).await` |
//! | a task, as if the sender had spawned it: each variable's [policy](crate::context::Inherit) applies | `context.run(\|\| spawn(handle(message)))` |
//! | a task with exactly the sender's context | `spawn_in(context, handle(message))` |
//! | the receiver's own, only *linked* to its cause | `context.get(&REQUEST_ID)` where needed, then drop the context |
//!
//! The receiver stays in its own context in any case. A context keeps its values alive, so a
//! receiver that batches, caches or outlives requests should link, and drop the context. The
//! sender's deadline is not part of the context and does not travel with the message.
//!
//! # Guarantees
//!
//! * There may be many senders and many receivers; each message goes to one receiver. Messages
//!   leave in the order in which they were sent.
//! * A channel is closed by [`close`](Sender::close), and when the last sender or the last receiver
//!   is dropped. A closed channel accepts no message; messages that it holds can still be received.
//! * **A message that is not received is dropped in its own context**: when the last receiver is
//!   dropped, or when the future of its `send` is. A message that an error returns, or that was
//!   received, belongs to the caller.
//! * Waiting is cancel-safe on both sides, and consumes the [cooperative
//!   budget](crate::task::budget): a receiver that always finds a message lets other tasks run. (A
//!   receiver of another crate does not, unless it is wrapped in
//!   [`cooperative`](crate::task::budget::cooperative).)
//! * A message wakes one of the receivers that wait, in the order in which they began to wait: one
//!   of those in [`recv`](Receiver::recv), and one of those that are used as streams. A receiver
//!   that is polled while a message is there takes it at once, and may so overtake a receiver that
//!   was woken for it.
//! * A `recv` that is dropped passes its wake-up on. A receiver that is used as a *stream* keeps
//!   its wake-up until it is polled again, or dropped: while it is woken and not polled, its
//!   message waits in the queue for it, or for another receiver that is polled. So in a `select!`
//!   use `recv`.
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
#![doc(alias = "mpsc")]
#![doc(alias = "mpmc")]
#![doc(alias = "queue")]

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
use crate::task::{Leaf, record};

/// A channel with room for `capacity` messages. Sending into a full channel waits.
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

/// A channel without a bound: sending never waits, so only memory limits a sender that is faster
/// than the receivers.
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
    let last_receiver = LastReceiver { receiver: receiver.clone() };
    let sender = Sender { inner: sender, last: Arc::new(last_sender) };
    let receiver = Receiver {
        inner: receiver,
        last: Arc::new(last_receiver),
        streams,
        listener: None,
        claim: Claim::default(),
    };
    (sender, receiver)
}

/// Polls one of the waits of this module: consumes the budget, and reports a pending wait to the
/// thread's eager driver.
fn poll_leaf<T>(
    (name, leaf): (&'static str, Leaf),
    claim: &mut Claim,
    cx: &mut task::Context<'_>,
    ready: impl FnOnce(&mut task::Context<'_>) -> Poll<T>,
) -> Poll<T> {
    claim.spend(cx, |cx| {
        let result = ready(cx);
        if result.is_pending() {
            eager::suspends(name);
            record::waits_for(|| leaf);
        }
        result
    })
}

/// A message on its way.
struct Envelope<T> {
    // `None` once it was taken.
    message: Option<T>,
    context: Context,
}

impl<T> Envelope<T> {
    /// A message with a snapshot of the caller's context.
    fn new(message: T) -> Self {
        Envelope { message: Some(message), context: Context::current() }
    }

    fn message(mut self) -> T {
        self.message.take().expect("a message is taken once")
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

/// Shared by all receivers. The last one drops the messages that cannot be received any more, even
/// if there are senders: a task may wait for an answer to one of the messages.
struct LastReceiver<T> {
    receiver: async_channel::Receiver<Envelope<T>>,
}

impl<T> Drop for LastReceiver<T> {
    fn drop(&mut self) {
        // Closed first: then no further message is accepted, and `try_recv` waits for a push that
        // is in progress.
        self.receiver.close();
        while let Ok(envelope) = self.receiver.try_recv() {
            drop(envelope);
        }
    }
}

/// Shared by all senders: the last of them closes the channel.
struct LastSender<T> {
    sender: async_channel::Sender<Envelope<T>>,
    /// Notified for the receivers that wait as streams; the queue's own event would wake all of
    /// them for one message.
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
    /// Sends a message with a snapshot of the caller's context, which is taken by this call and not
    /// by the first poll. Waits while the channel is full.
    ///
    /// The snapshot is a [copy](Context::current) with everything that is set. Each variable's
    /// policy of inheritance is applied by the receiver that spawns a task in it, as shown
    /// [above](self).
    ///
    /// # Errors
    /// If the channel is closed; the message is in the error.
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, the message was not sent: it is dropped too, in
    /// its context. To keep the message, use [`try_send`](Self::try_send).
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

    /// Closes the channel: it accepts no further message; those that it holds can still be
    /// received. Returns whether it was open.
    pub fn close(&self) -> bool {
        self.last.close()
    }

    /// Whether there is no room for another message.
    pub fn is_full(&self) -> bool {
        self.inner.is_full()
    }

    /// How many senders there are.
    pub fn sender_count(&self) -> usize {
        Arc::strong_count(&self.last)
    }

    /// How many receivers there are.
    pub fn receiver_count(&self) -> usize {
        // One more is in `LastReceiver`.
        self.inner.receiver_count().saturating_sub(1)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Sender { inner: self.inner.clone(), last: Arc::clone(&self.last) }
    }
}

/// The receiving end of a channel; made by [`bounded`] and [`unbounded`], and by cloning.
///
/// Clones share the messages: each goes to one of them. A receiver is also a [`Stream`] of messages
/// and contexts, which ends when the channel is closed and empty.
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
    last: Arc<LastReceiver<T>>,
    /// See [`LastSender::streams`].
    streams: Arc<Event>,
    /// Set while this receiver waits as a stream.
    listener: Option<EventListener>,
    claim: Claim,
}

// The receiver is never pinned: the listener has an allocation of its own.
impl<T> Unpin for Receiver<T> {}

impl<T> Receiver<T> {
    /// Receives a message and the context that its sender had at the call of
    /// [`send`](Sender::send). Waits while the channel is empty.
    ///
    /// # Errors
    /// If the channel is empty and closed.
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, no message was taken.
    ///
    /// # Examples
    ///
    /// ```
    /// use heirloom::context::channel;
    /// use heirloom::context::ContextFutureExt;
    /// use heirloom::context_var;
    ///
    /// context_var! { static TENANT: &'static str; }
    ///
    /// async fn handle(job: u32) -> String {
    ///     format!("job {job} of {}", TENANT.require())
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

    /// Receives a message and its sender's context, if the channel holds one now.
    ///
    /// # Errors
    /// If the channel is empty; the error says whether it is closed as well.
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

    /// Closes the channel: it accepts no further message; those that it holds can still be
    /// received. Returns whether it was open.
    pub fn close(&self) -> bool {
        let closed = self.inner.close();
        self.streams.notify(usize::MAX);
        closed
    }

    /// How many senders there are.
    pub fn sender_count(&self) -> usize {
        // One more is in `LastSender`.
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

/// What both ends of a channel tell about it.
macro_rules! queries {
    ($End:ident) => {
        impl<T> $End<T> {
            /// Whether the channel is closed.
            pub fn is_closed(&self) -> bool {
                self.inner.is_closed()
            }

            /// How many messages the channel holds.
            pub fn len(&self) -> usize {
                self.inner.len()
            }

            /// Whether the channel holds no message.
            pub fn is_empty(&self) -> bool {
                self.inner.is_empty()
            }

            /// The most messages that the channel can hold; `None` if it has no bound.
            pub fn capacity(&self) -> Option<usize> {
                self.inner.capacity()
            }
        }

        impl<T> fmt::Debug for $End<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut end = f.debug_struct(stringify!($End));
                end.field("len", &self.len()).field("closed", &self.is_closed()).finish()
            }
        }
    };
}

queries!(Sender);
queries!(Receiver);

impl<T> Receiver<T> {
    /// The next message; `None` if the channel is closed and empty. A sender pushes and then
    /// notifies. This registers its listener and then reads the queue. So it sees the message, or
    /// is notified.
    fn poll_message(&mut self, cx: &mut task::Context<'_>) -> Poll<Option<Envelope<T>>> {
        loop {
            match self.inner.try_recv() {
                Ok(envelope) => {
                    // One notification is for one message, and this message was taken: do not pass
                    // it on.
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
        let received =
            poll_leaf(("channel::Receiver", Leaf::Receive), &mut claim, cx, |cx| self.poll_message(cx));
        self.claim = claim;
        received.map(|received| received.map(Envelope::open))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // Other receivers may take the messages that are there.
        (0, (self.is_closed() && self.is_empty()).then_some(0))
    }
}

impl<T> FusedStream for Receiver<T> {
    fn is_terminated(&self) -> bool {
        self.is_closed() && self.is_empty()
    }
}

pin_project_lite::pin_project! {
    /// Waits until the channel has room for a message; made by [`Sender::send`].
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
        poll_leaf(("channel::Sender::send", Leaf::Send), this.claim, cx, |cx| this.inner.poll(cx))
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
        poll_leaf(("channel::Receiver::recv", Leaf::Receive), this.claim, cx, |cx| this.inner.poll(cx))
            .map(|received| received.map(Envelope::open))
    }
}

impl<T> fmt::Debug for Recv<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recv").finish_non_exhaustive()
    }
}
