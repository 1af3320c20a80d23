//! Standard atomics, or loom's under `--cfg loom`. Nothing else decides which.
#![forbid(unsafe_code)]

#[cfg(loom)]
pub(crate) use loom::{
    cell::UnsafeCell,
    sync::Mutex,
    sync::atomic::{AtomicBool, AtomicUsize},
};
#[cfg(not(loom))]
pub(crate) use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicUsize},
};

pub(crate) use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// One turn of a spin loop: `turn` counts from zero.
///
/// The loops that use it wait for a few instructions of another thread. If that thread was preempted, the processor
/// is worth more to it than to us.
#[inline]
pub(crate) fn spin(turn: u32) {
    #[cfg(loom)]
    {
        let _ = turn;
        loom::thread::yield_now();
    }
    #[cfg(not(loom))]
    if turn < 32 {
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}

/// `std`'s cell with loom's way of access.
#[cfg(not(loom))]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    pub(crate) fn new(value: T) -> Self {
        UnsafeCell(std::cell::UnsafeCell::new(value))
    }

    #[inline]
    pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}

/// Whether the model that runs has asked for this step to be left out or weakened, to see that it notices.
#[cfg(not(loom))]
#[inline(always)]
pub(crate) fn weakened(_step: &str) -> bool {
    false
}

#[cfg(loom)]
pub(crate) use model::weakened;

/// Models and their weakened twins.
#[cfg(loom)]
pub(crate) mod model {
    use std::cell::Cell;

    std::thread_local! {
        static WEAKENED: Cell<&'static str> = const { Cell::new("") };
    }

    pub(crate) fn weakened(step: &str) -> bool {
        WEAKENED.get() == step
    }

    /// Checks every interleaving of `model`.
    #[cfg(test)]
    pub(crate) fn check(model: impl Fn() + Send + Sync + 'static) {
        loom::model(model);
    }

    /// The same with one step weakened; the test is to panic.
    #[cfg(test)]
    pub(crate) fn check_without(step: &'static str, model: impl Fn() + Send + Sync + 'static) {
        struct Restore;
        impl Drop for Restore {
            fn drop(&mut self) {
                WEAKENED.set("");
            }
        }
        let _restore = Restore;
        WEAKENED.set(step);
        loom::model(model);
    }
}
