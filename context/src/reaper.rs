//! Where values end.
//!
//! A value's destructor is a stranger's code: it may read, set, snapshot, spawn, panic, or drop a context whose values
//! have destructors of their own. Three rules keep it harmless:
//!
//! 1. **Not now.** While one of our own structures is open (a [`hold`] is alive) the value is only put on this thread's
//!    list; it is destroyed when the last hold ends and everything is closed again.
//! 2. **Not inside.** While a destructor runs, further values are put on the list too, and the loop at the bottom takes
//!    them from there. Contexts held by values held by contexts, however deep, need no stack.
//! 3. **Not here.** A destructor runs with an empty throw-away context current, so that it neither sees nor changes
//!    whatever this thread happens to be doing. Hooks are not told of it: one that replaces a value would never end.
//!
//! A panic in a destructor does not stop the loop. The first one goes on to the caller at the end, unless that thread
//! is unwinding already; then the panic hook's report is all there is.

use std::cell::Cell;
use std::ptr::{self, NonNull};

use crate::current::{self, Owned};
use crate::util::panic::FirstPanic;
use crate::value::{self, Header};

struct Reaper {
    /// Holds and destructors open on this thread.
    depth: Cell<usize>,
    /// Buried values, linked through their headers.
    list: Cell<*mut Header>,
}

thread_local! {
    // Without drop glue, so that it answers during thread teardown.
    static REAPER: Reaper = const { Reaper { depth: Cell::new(0), list: Cell::new(ptr::null_mut()) } };
}

/// Takes a value whose last count is gone.
///
/// # Safety
/// The count is zero, and nobody uses the pointer afterwards.
pub(crate) unsafe fn bury(pointer: NonNull<Header>) {
    // SAFETY: not freed yet.
    if !unsafe { value::needs_drop(pointer) } {
        // SAFETY: the caller gives it up; no code but the allocator's runs.
        return unsafe { value::destroy(pointer) };
    }
    REAPER.with(|reaper| {
        // SAFETY: not freed before `reap` takes it from the list.
        unsafe { pointer.as_ref() }.next.set(reaper.list.get());
        reaper.list.set(pointer.as_ptr());
        if reaper.depth.get() == 0 {
            reap(reaper);
        }
    });
}

/// Keeps destructors away until it is dropped.
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
                reap(reaper);
            }
        });
    }
}

#[cold]
fn reap(reaper: &Reaper) {
    let mut first = FirstPanic::new();
    reaper.depth.set(1);
    while let Some(pointer) = NonNull::new(reaper.list.get()) {
        // SAFETY: what is on the list is not freed, and this thread alone has the list.
        reaper.list.set(unsafe { pointer.as_ref() }.next.get());
        first.run(|| {
            let mut away = Owned::EMPTY;
            let _entered = current::enter_quietly(&mut away);
            // SAFETY: taken from the list, so destroyed once; `bury`'s caller gave it up.
            unsafe { value::destroy(pointer) }
        });
    }
    reaper.depth.set(0);
    first.resume();
}
