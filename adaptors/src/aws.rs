//! The AWS SDK, and what else is made of its runtime crates: sleep and time of day.

use std::time::{Duration, Instant, SystemTime};

use aws_smithy_async::rt::sleep::{AsyncSleep, Sleep};
use aws_smithy_async::time::TimeSource;

use crate::Heirloom;

#[cfg_attr(docsrs, doc(cfg(feature = "aws-smithy-async")))]
impl AsyncSleep for Heirloom {
    fn sleep(&self, duration: Duration) -> Sleep {
        Sleep::new(heirloom::sleep(duration))
    }
}

/// The time of day, which in [virtual time](heirloom::runtime::Builder::virtual_time) goes on as
/// far as the virtual clock does: credentials and tokens expire then, as the sleeps that wait for
/// them end.
#[cfg_attr(docsrs, doc(cfg(feature = "aws-smithy-async")))]
impl TimeSource for Heirloom {
    fn now(&self) -> SystemTime {
        let _entered = self.0.enter();
        let (day, real, runtime) = (SystemTime::now(), Instant::now(), heirloom::time::now());
        // One of the two is zero.
        day + runtime.saturating_duration_since(real) - real.saturating_duration_since(runtime)
    }
}
