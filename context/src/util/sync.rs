//! Standard primitives, or loom's under `--cfg loom`. No other module of the two crates decides
//! which.
//!
//! | item | what it is |
//! | --- | --- |
//! | [`atomic`], [`Mutex`], [`MutexGuard`], [`UnsafeCell`] | `std`'s, or loom's, used alike |
//! | [`lock`], [`try_lock`] | a mutex of which poisoning means nothing |
//! | [`fence_after_locked`], [`spin`] | a fence that is free on x86; one round of a spin loop |
//! | [`weakened`] | a step of a protocol that a model may leave out |
//! | `model::{check, check_without}` | a model, and its weakened twin (under `--cfg loom` only) |
#![forbid(unsafe_code)]

#[cfg(loom)]
pub use loom::{
    cell::UnsafeCell,
    sync::{Mutex, MutexGuard, atomic},
};
#[cfg(not(loom))]
pub use std::sync::{Mutex, MutexGuard, atomic};

/// Locks. No user code runs under a lock of these crates, so nothing is half done when one is
/// poisoned.
#[inline]
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Locks, unless another thread has the lock.
pub fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(std::sync::TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(std::sync::TryLockError::WouldBlock) => None,
    }
}

/// A `SeqCst` fence, where a locked read-modify-write operation stands between it and the stores it
/// orders.
///
/// On x86 that operation is the fence already. Elsewhere, and in models, it is one of its own.
#[inline]
pub fn fence_after_locked() {
    if cfg!(all(any(target_arch = "x86_64", target_arch = "x86"), not(miri), not(loom))) {
        std::sync::atomic::compiler_fence(atomic::Ordering::SeqCst);
    } else {
        atomic::fence(atomic::Ordering::SeqCst);
    }
}

/// One round of a spin loop; `round` counts from zero.
///
/// The loops that use it wait for a few instructions of another thread. If that thread was
/// preempted, it needs the processor more than this loop does.
#[inline]
pub fn spin(round: u32) {
    #[cfg(loom)]
    {
        let _ = round;
        loom::thread::yield_now();
    }
    #[cfg(not(loom))]
    if round < 32 {
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}

/// `std`'s cell with loom's way of access.
#[cfg(not(loom))]
#[derive(Debug)]
pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    /// A cell with this value.
    pub const fn new(value: T) -> Self {
        UnsafeCell(std::cell::UnsafeCell::new(value))
    }

    /// Shared access, for the time of `f`.
    #[inline]
    pub fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        f(self.0.get())
    }

    /// Exclusive access, for the time of `f`.
    #[inline]
    pub fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}

/// Whether the model that runs has asked for this step to be left out or weakened, to show that the
/// model notices. Each step's name is used once in the two crates.
#[cfg(not(loom))]
#[inline(always)]
pub fn weakened(_step: &str) -> bool {
    false
}

#[cfg(loom)]
pub use model::weakened;

/// Models and their weakened twins.
#[cfg(loom)]
pub mod model {
    use std::cell::Cell;

    std::thread_local! {
        static WEAKENED: Cell<&'static str> = const { Cell::new("") };
    }

    /// Whether the model that runs is a twin without this step.
    pub fn weakened(step: &str) -> bool {
        WEAKENED.get() == step
    }

    /// Checks every interleaving of `model`.
    pub fn check(model: impl Fn() + Send + Sync + 'static) {
        loom::model(model);
    }

    /// The same with one step weakened; the test is to panic.
    pub fn check_without(step: &'static str, model: impl Fn() + Send + Sync + 'static) {
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
