//! The AWS SDK's timers.
