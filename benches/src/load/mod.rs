//! The load test, part by part.

pub mod check;
pub mod drive;
pub mod executor;
pub mod interrupt;
pub mod machine;
pub mod options;
pub mod outcome;
pub mod price;
pub mod probe;
pub mod record;
pub mod scenario;
pub mod schedule;

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Mutex, MutexGuard, PoisonError};

    /// What is recorded belongs to the process: one test at a time that counts, or takes what others recorded.
    pub(crate) fn alone() -> MutexGuard<'static, ()> {
        static ALONE: Mutex<()> = Mutex::new(());
        ALONE.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
