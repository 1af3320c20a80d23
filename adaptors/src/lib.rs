//! Libraries that bring a trait for the runtime below them, on [heirloom]'s runtime.
//!
//! Each library has a feature of its name, and a trait or two that [`Heirloom`] implements. A
//! program hands a `Heirloom` to the library:
//!
//! | library | feature | trait | handed to |
//! | --- | --- | --- | --- |
//! | quinn | `quinn` | `quinn::Runtime` | `Endpoint::new(.., Arc::new(Heirloom::current()))` |
//! | hickory-resolver | `hickory-resolver` | `RuntimeProvider` | `Resolver::builder(Heirloom::current())` |
//! | lapin, and what else uses async-rs | `async-rs` | `RuntimeKit` | `Connection::connect_with_runtime(.., Heirloom::current().into())` |
//! | opentelemetry_sdk | `opentelemetry_sdk` | `Runtime`, `RuntimeChannel` | `BatchSpanProcessor::builder(exporter, Heirloom::current())` |
//! | the AWS SDK | `aws-smithy-async` | `AsyncSleep`, `TimeSource` | `.sleep_impl(Heirloom::current())`, `.time_source(..)` |
//! | rdkafka | `rdkafka` | `AsyncRuntime` | the type: `StreamConsumer<_, Heirloom>` |
//!
//! One library has no trait for a runtime, and runs by a tokio guest. What it lacks is a place
//! where layers see its requests, for the caller's context and deadline for example:
//! `ReqwestService`, of the feature `reqwest`.
//!
//! backon needs no adaptor: `.sleep(heirloom::sleep)`. Neither does opentelemetry_sdk's
//! `BatchSpanProcessor` that has a thread of its own; the one above has none.
//!
//! # Headers of messages
//!
//! Contexts go into messages and come out of them by [`heirloom::wire`]:
//!
//! | library | feature | carrier |
//! | --- | --- | --- |
//! | async-nats | `async-nats` | [`NatsHeaders`], of a `HeaderMap` |
//! | lapin | `lapin` | [`AmqpHeaders`], of a `FieldTable` |
//!
//! # What is spawned, and in which context
//!
//! The caller's future is polled in the caller's task, with its context and its deadline, and
//! [`wait_for`](heirloom::wait_for()) cuts it. What a library *spawns* belongs to no request: it
//! drives a connection, a pool, a batch, which outlive the request that was the first to need them.
//! So each spawn of each library is a [background task](heirloom::spawn_background): it starts in
//! the runtime's root context, has no deadline, and ends by itself or with the runtime.
//!
//! | library | spawns |
//! | --- | --- |
//! | quinn | a task per endpoint, one per connection |
//! | hickory-resolver | a task per connection to a name server |
//! | lapin | tasks per connection: one for its calls, one for heartbeats; one for each message to a delegate. Besides, a thread per connection |
//! | opentelemetry_sdk | a task per processor, which calls the exporter |
//! | AWS SDK | nothing |
//! | reqwest | a task per connection, on the tokio guest's runtime |
//! | rdkafka | a task per `StreamConsumer`. Besides, threads: librdkafka's and one per producer |
//!
//! Code of the program's that is called in such a task (a delegate of lapin, an exporter) sees none
//! of the caller's variables. What it needs of them goes with the message, in its headers.
//!
//! Sockets and tasks belong to the runtime that the `Heirloom` was made of, wherever the library is
//! called; with that runtime they end. A connection of lapin's that is left then does not notice,
//! since the task that would say so has ended: calls on it wait for ever.
//!
//! What a library *does* on behalf of one caller and not by a spawn inherits from the caller: the
//! look-up of a name by async-rs runs on the blocking pool in the caller's context.
//!
//! Unix only.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg(unix)]

use std::sync::mpsc;

use heirloom::Handle;

#[cfg(feature = "async-rs")]
mod async_rs;
#[cfg(feature = "aws-smithy-async")]
mod aws;
#[cfg(any(feature = "async-nats", feature = "lapin"))]
mod carriers;
#[cfg(feature = "hickory-resolver")]
mod hickory;
#[cfg(feature = "opentelemetry_sdk")]
mod opentelemetry;
#[cfg(feature = "quinn")]
mod quinn;
#[cfg(feature = "rdkafka")]
mod rdkafka;
#[cfg(feature = "reqwest")]
mod reqwest;

#[cfg(feature = "reqwest")]
pub use self::reqwest::{ReqwestService, SendThrough};
#[cfg(feature = "async-rs")]
pub use async_rs::Task;
#[cfg(feature = "lapin")]
pub use carriers::AmqpHeaders;
#[cfg(feature = "async-nats")]
pub use carriers::NatsHeaders;
#[cfg(feature = "hickory-resolver")]
pub use hickory::{TcpStream, UdpSocket};
#[cfg(feature = "opentelemetry_sdk")]
pub use opentelemetry::Sender;

/// A runtime of heirloom's, as the libraries want one. Cheap to clone.
///
/// ```
/// use heirloom::Runtime;
/// use heirloom_adaptors::Heirloom;
///
/// # fn main() -> std::io::Result<()> {
/// let of_the_default_runtime = Heirloom::current();
/// let runtime = Runtime::new()?;
/// let of_this_one = Heirloom::from(runtime.handle().clone());
/// # let _ = (of_the_default_runtime, of_this_one);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Heirloom(
    #[allow(dead_code, reason = "the trait of rdkafka has no receiver")] //
    Handle,
);

impl Heirloom {
    /// The runtime of this thread, see [`Handle::current`]; where there is none, as in `main`, the
    /// default one, which starts then.
    ///
    /// # Panics
    /// If that is the default runtime, and has ended.
    pub fn current() -> Heirloom {
        Heirloom(Handle::current().unwrap_or_else(|| {
            let (tell, told) = mpsc::channel();
            heirloom::spawn_background(async move { tell.send(Handle::current()) });
            told.recv().ok().flatten().expect("a runtime that runs tasks: the default one has ended")
        }))
    }
}

#[cfg(any(feature = "async-rs", feature = "hickory-resolver"))]
impl Heirloom {
    /// Polls a future where this runtime is the current one, whichever polls it: the sockets that
    /// the future makes belong to this one, and live as long.
    async fn inside<F: Future>(self, future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|cx| {
            let _entered = self.0.enter();
            future.as_mut().poll(cx)
        })
        .await
    }
}

impl From<Handle> for Heirloom {
    fn from(handle: Handle) -> Heirloom {
        Heirloom(handle)
    }
}
