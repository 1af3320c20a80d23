//! Atomics, locks and cells: the standard library's, or loom's under `--cfg loom`. All protocols
//! take theirs from here.
#![forbid(unsafe_code)]

#[cfg(loom)]
pub(crate) use loom::{
    cell::UnsafeCell,
    sync::{Mutex, MutexGuard, atomic},
};
#[cfg(not(loom))]
pub(crate) use std::sync::{Mutex, MutexGuard, atomic};

/// Locks. No user code runs under the locks of this crate, so the data of a poisoned lock is whole.
#[inline]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Locks, unless another thread has the lock.
pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(std::sync::TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(std::sync::TryLockError::WouldBlock) => None,
    }
}

/// A `SeqCst` fence for a thread that has done a read-modify-write operation since the stores that
/// the fence orders.
///
/// On x86 that operation is a locked instruction, which is a full fence already, so only the
/// compiler is told. On other processors, in models and under Miri it is a fence.
#[inline]
pub(crate) fn fence_after_locked() {
    if cfg!(all(any(target_arch = "x86_64", target_arch = "x86"), not(miri), not(loom))) {
        std::sync::atomic::compiler_fence(atomic::Ordering::SeqCst);
    } else {
        atomic::fence(atomic::Ordering::SeqCst);
    }
}

/// `std`'s cell with the interface of loom's.
#[cfg(not(loom))]
#[derive(Debug)]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        UnsafeCell(std::cell::UnsafeCell::new(value))
    }

    #[inline]
    pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        f(self.0.get())
    }

    #[inline]
    pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}

/// Whether the running model has asked to leave out or weaken this step, in a twin that must fail.
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

    /// The same with one step weakened: the model must panic.
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
