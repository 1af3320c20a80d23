//! rdkafka: the timers and the task of its consumers and producers.

use std::time::Duration;

use heirloom::time::Sleep;
use rdkafka::util::AsyncRuntime;

use crate::Heirloom;

/// The trait has no receiver: the runtime is the one of the thread that makes the consumer, see
/// [`Heirloom::current`]. Tasks are background tasks.
#[cfg_attr(docsrs, doc(cfg(feature = "rdkafka")))]
impl AsyncRuntime for Heirloom {
    type Delay = Sleep;

    fn spawn<T>(task: T)
    where
        T: Future<Output = ()> + Send + 'static,
    {
        heirloom::spawn_background(task);
    }

    fn delay_for(duration: Duration) -> Sleep {
        heirloom::sleep(duration)
    }
}
