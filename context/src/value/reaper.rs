//! Where values are destroyed.
//!
//! A value's destructor is user code: it may read, set, take snapshots, spawn, panic, or drop a
//! context whose values have destructors of their own.
//!
//! # Terms
//!
//! * A **dead value** has no count any more, and has not been destroyed yet.
//! * A [**hold**](hold) keeps destructors from running on this thread while a structure of this
//!   crate is open.
//! * The **list** has this thread's dead values, linked through their headers.
//!
//! # Rules
//!
//! 1. **Later.** While a hold is alive, a dead value is only put on the list. The list is worked
//!    off when the last hold ends and every structure is closed again.
//! 2. **Flat.** While a destructor runs, further dead values are put on the list, and the loop in
//!    `work_off` takes them from there. So contexts held by values held by contexts, however deep,
//!    need no stack.
//! 3. **Elsewhere.** A destructor runs with an empty throw-away context current. It neither sees
//!    nor changes the context that the thread was using. Hooks are not told of that context: a hook
//!    that replaces a value would otherwise never end.
//!
//! A panic in a destructor does not stop the loop. The first one goes on to the caller at the end,
//! unless the thread is unwinding already; then the report of the panic hook is all there is.

use std::cell::Cell;
use std::ptr::{self, NonNull};

use super::ValueHeader;
use crate::util::panic::FirstPanic;

struct Reaper {
    /// Holds and destructors open on this thread.
    depth: Cell<usize>,
    /// The newest dead value.
    list: Cell<*mut ValueHeader>,
    /// Destructors are running on this thread.
    destroying: Cell<bool>,
}

thread_local! {
    // Without drop glue, so that it answers during thread teardown.
    static REAPER: Reaper = const {
        Reaper { depth: Cell::new(0), list: Cell::new(ptr::null_mut()), destroying: Cell::new(false) }
    };
}

/// Destroys a dead value, now or later.
///
/// # Safety
/// The value's count is zero, and the pointer is not used afterwards.
pub(super) unsafe fn reclaim(pointer: NonNull<ValueHeader>) {
    // SAFETY: a dead value stays allocated until it is destroyed, which happens below.
    if !unsafe { pointer.as_ref() }.needs_drop() {
        // SAFETY: dead, and given up by this function's contract; no code but the allocator's runs.
        return unsafe { ValueHeader::destroy(pointer) };
    }
    REAPER.with(|reaper| {
        // SAFETY: not destroyed before `work_off` takes it from the list.
        unsafe { pointer.as_ref() }.next.set(reaper.list.get());
        reaper.list.set(pointer.as_ptr());
        if reaper.depth.get() == 0 {
            work_off(reaper);
        }
    });
}

/// Keeps destructors from running on this thread until it is dropped.
#[must_use]
pub(crate) struct Hold(());

pub(crate) fn hold() -> Hold {
    REAPER.with(|reaper| reaper.depth.set(reaper.depth.get() + 1));
    Hold(())
}

impl Drop for Hold {
    #[inline]
    fn drop(&mut self) {
        REAPER.with(|reaper| {
            reaper.depth.set(reaper.depth.get() - 1);
            if reaper.depth.get() == 0 && !reaper.list.get().is_null() {
                work_off(reaper);
            }
        });
    }
}

/// Whether a destructor of a value is running on this thread.
pub(crate) fn is_destroying() -> bool {
    REAPER.with(|reaper| reaper.destroying.get())
}

#[cold]
fn work_off(reaper: &Reaper) {
    let mut first = FirstPanic::new();
    reaper.depth.set(1);
    reaper.destroying.set(true);
    while let Some(pointer) = NonNull::new(reaper.list.get()) {
        // SAFETY: a value on the list is allocated, and this thread alone has the list.
        reaper.list.set(unsafe { pointer.as_ref() }.next.get());
        // SAFETY: taken from the list, so destroyed once; `reclaim` was given the value.
        let destroy = || unsafe { ValueHeader::destroy(pointer) };
        // The one call upwards: what an empty context is, the current context knows.
        crate::current::in_empty_context(|| first.run(destroy));
    }
    reaper.destroying.set(false);
    reaper.depth.set(0);
    first.resume();
}
