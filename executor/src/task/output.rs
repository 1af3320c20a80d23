//! Dropping outputs that nobody took.
//!
//! An output may be the handle of a task whose output is a handle, and so on. A chain of any length is dropped with the
//! stack of a short one.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;

use super::cell::{self, Header, Outcome, TaskRef};
use crate::util::panic::discard;

/// How many outputs are dropped inside one another's destructors. What is further in waits until the innermost of these
/// is through.
const NESTED: usize = 16;

/// A task whose output is to be dropped, and how.
struct Later(TaskRef, unsafe fn(NonNull<Header>));

impl Later {
    fn drop_now(&self) {
        // SAFETY: made by `drop_output`, of a task that it is right for.
        unsafe { (self.1)(self.0.as_raw()) }
    }
}

thread_local! {
    // Without drop glue, so that it answers during thread teardown.
    static NESTING: Cell<usize> = const { Cell::new(0) };
    static LATER: RefCell<Vec<Later>> = const { RefCell::new(Vec::new()) };
}

/// Drops an output where it is. A destructor's panic goes on, but that of a panic's payload: whoever lets go of a task
/// has not asked for it, and could not tell it from the task's own.
///
/// # Safety
/// The output is there, is a `T`, and is the caller's.
unsafe fn drop_in_place<T>(task: NonNull<Header>) {
    // SAFETY: says the caller; the payload is read once, and not dropped besides.
    unsafe {
        let output = cell::output_of::<T>(task);
        match &*output {
            Outcome::Panicked(payload) => discard(std::ptr::read(payload)),
            _ => output.drop_in_place(),
        }
    }
}

/// Drops the output of a finished task, whose handle goes, and gives the reference up.
///
/// # Safety
/// The output is there, is a `T`, and is the caller's.
pub(crate) unsafe fn drop_output<T>(task: TaskRef) {
    struct Leaving;
    impl Drop for Leaving {
        fn drop(&mut self) {
            NESTING.set(NESTING.get() - 1);
        }
    }
    // SAFETY: says the caller.
    let mut this = Later(task, |task| unsafe { drop_in_place::<T>(task) });
    let nesting = NESTING.get();
    if nesting > NESTED {
        // During thread teardown there may be no list: then they are nested all the same.
        let mut waiting = Some(this);
        if LATER.try_with(|later| later.borrow_mut().extend(waiting.take())).is_ok() {
            return;
        }
        let Some(back) = waiting else { return };
        this = back;
    }
    NESTING.set(nesting + 1);
    let _leaving = Leaving;
    if nesting < NESTED {
        return this.drop_now();
    }
    let drop_one = |one: Later| catch_unwind(AssertUnwindSafe(|| one.drop_now()));
    let mut outcome = drop_one(this);
    while let Some(next) = LATER.try_with(|later| later.borrow_mut().pop()).ok().flatten() {
        // The first panic is passed on, when all are gone.
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
