//! opentelemetry_sdk: processors that batch in a task, in place of a thread.

use std::fmt;
use std::time::Duration;

use async_channel::TrySendError;
use opentelemetry_sdk::runtime::{self, Runtime, RuntimeChannel, TrySend};

use crate::Heirloom;

/// Processors and readers are background tasks, which call the exporter.
///
/// `force_flush` and `shutdown` of such a processor block their thread until the task has answered,
/// and so does the drop of the last clone of its provider. Where all workers wait so, the task has
/// none to run on. Keep a provider for as long as the program runs, and call these on a thread
/// outside or in [`spawn_blocking`](heirloom::spawn_blocking()), before the runtime ends.
#[cfg_attr(docsrs, doc(cfg(feature = "opentelemetry_sdk")))]
impl Runtime for Heirloom {
    fn spawn<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.0.spawn_background(future);
    }

    fn delay(&self, duration: Duration) -> impl Future<Output = ()> + Send + 'static {
        heirloom::sleep(duration)
    }
}

#[cfg_attr(docsrs, doc(cfg(feature = "opentelemetry_sdk")))]
impl RuntimeChannel for Heirloom {
    type Receiver<T: fmt::Debug + Send> = async_channel::Receiver<T>;
    type Sender<T: fmt::Debug + Send> = Sender<T>;

    fn batch_message_channel<T: fmt::Debug + Send>(
        &self,
        capacity: usize,
    ) -> (Sender<T>, async_channel::Receiver<T>) {
        let (sender, receiver) = async_channel::bounded(capacity);
        (Sender(sender), receiver)
    }
}

/// The end at which spans and logs are handed in, without waiting.
#[derive(Debug)]
#[cfg_attr(docsrs, doc(cfg(feature = "opentelemetry_sdk")))]
pub struct Sender<T>(async_channel::Sender<T>);

impl<T: Send> TrySend for Sender<T> {
    type Message = T;

    fn try_send(&self, message: T) -> Result<(), runtime::TrySendError> {
        self.0.try_send(message).map_err(|error| match error {
            TrySendError::Full(_) => runtime::TrySendError::ChannelFull,
            TrySendError::Closed(_) => runtime::TrySendError::ChannelClosed,
        })
    }
}
