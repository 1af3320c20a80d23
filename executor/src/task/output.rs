//! Dropping outputs that no joiner took.
//!
//! An output may be the handle of a task whose output is a handle, and so on. A chain of any length
//! is dropped with the stack of a short one.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;

use super::cell::{self, Header, Outcome, TaskRef};
use crate::util::panic::discard;

/// How many outputs are dropped inside each other's destructors. Outputs further in wait until the
/// innermost of these is dropped.
const MAX_NESTING: usize = 16;

/// A task whose output is to be dropped, and the function for that.
struct DeferredDrop(TaskRef, unsafe fn(NonNull<Header>));

impl DeferredDrop {
    fn drop_now(&self) {
        // SAFETY: `drop_output` made the pair, with the output type of this task.
        unsafe { (self.1)(self.0.as_raw()) }
    }
}

thread_local! {
    // Without drop glue, so that it answers during thread teardown.
    static NESTING: Cell<usize> = const { Cell::new(0) };
    static DEFERRED: RefCell<Vec<DeferredDrop>> = const { RefCell::new(Vec::new()) };
}

/// Drops an output in place. A destructor's panic propagates, except that of a panic payload: code
/// that drops a handle has not asked for the payload, and could not tell its panic from the task's
/// own.
///
/// # Safety
/// The output is there, is a `T`, and is the caller's.
unsafe fn drop_in_place<T>(task: NonNull<Header>) {
    // SAFETY: the output is this thread's and of this type; the payload is read once, and not
    // dropped besides.
    unsafe {
        let output = cell::output_of::<T>(task);
        match &*output {
            Outcome::Panicked(payload) => discard(std::ptr::read(payload)),
            _ => output.drop_in_place(),
        }
    }
}

/// Drops the output of a finished task whose handle is released, and gives the reference up.
///
/// # Safety
/// The output is there, is a `T`, and is the caller's.
pub(crate) unsafe fn drop_output<T>(task: TaskRef) {
    struct NestingGuard;
    impl Drop for NestingGuard {
        fn drop(&mut self) {
            NESTING.set(NESTING.get() - 1);
        }
    }
    // SAFETY: the output is a `T` and this thread's, and is dropped once.
    let mut this = DeferredDrop(task, |task| unsafe { drop_in_place::<T>(task) });
    let nesting = NESTING.get();
    if nesting > MAX_NESTING {
        // During thread teardown there may be no list: then the destructors are nested all the
        // same.
        let mut waiting = Some(this);
        if DEFERRED.try_with(|deferred| deferred.borrow_mut().extend(waiting.take())).is_ok() {
            return;
        }
        let Some(back) = waiting else { return };
        this = back;
    }
    NESTING.set(nesting + 1);
    let _guard = NestingGuard;
    if nesting < MAX_NESTING {
        return this.drop_now();
    }
    let drop_one = |one: DeferredDrop| catch_unwind(AssertUnwindSafe(|| one.drop_now()));
    let mut outcome = drop_one(this);
    while let Some(next) = DEFERRED.try_with(|deferred| deferred.borrow_mut().pop()).ok().flatten() {
        // The first panic propagates, when all outputs are dropped.
        match drop_one(next) {
            Err(panic) if outcome.is_err() => discard(panic),
            Err(panic) => outcome = Err(panic),
            Ok(()) => {}
        }
    }
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
}
