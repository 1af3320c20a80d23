//! Dropping outputs that no joiner took.
//!
//! An output may be the handle of a task whose output is a handle, and so on. A chain of any length
//! is dropped with the stack of a short one: drops that are nested too deep are put on a list,
//! which an outer drop empties.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;

use super::cell::{self, Header, Outcome, TaskRef};
use crate::util::panic::discard;

/// The most outputs that are dropped inside one another's destructors. The innermost of them
/// empties the list.
const MAX_DEPTH: usize = 16;

/// A task whose output is to be dropped, and the function for the output's type.
struct UndroppedOutput(TaskRef, unsafe fn(NonNull<Header>));

impl UndroppedOutput {
    fn drop_now(&self) {
        // SAFETY: `drop_output` made this pair: the output is there, has the function's type, and
        // is dropped once.
        unsafe { (self.1)(self.0.as_raw()) }
    }
}

thread_local! {
    // Without drop glue, so that it answers during thread teardown.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    static UNDROPPED: RefCell<Vec<UndroppedOutput>> = const { RefCell::new(Vec::new()) };
}

/// Drops an output where it is. A panic of its destructor continues. A panic of the destructor of a
/// panic's payload is dropped: code that drops a join handle could not tell it from the task's own.
///
/// # Safety
/// The output is there, is a `T`, and no other thread takes or drops it.
unsafe fn drop_in_place<T>(task: NonNull<Header>) {
    // SAFETY: the output is there and has this type, by this function's contract. The panic is
    // moved out once, and the rest of a `Panicked` needs no drop.
    unsafe {
        let output = cell::output_of::<T>(task);
        match &*output {
            Outcome::Panicked(panic) => {
                let panic = std::ptr::read(panic);
                panic.report(&task.as_ref().about);
                discard(panic.into_payload());
            }
            _ => output.drop_in_place(),
        }
    }
}

/// Drops the output of a finished task, whose join handle was dropped, and releases the reference.
///
/// # Safety
/// The output is there, is a `T`, and no other thread takes or drops it.
pub(crate) unsafe fn drop_output<T>(task: TaskRef) {
    struct DepthOnDrop;
    impl Drop for DepthOnDrop {
        fn drop(&mut self) {
            DEPTH.set(DEPTH.get() - 1);
        }
    }
    // SAFETY: the contract of `drop_in_place` is the one of this function.
    let mut this = UndroppedOutput(task, |task| unsafe { drop_in_place::<T>(task) });
    let depth = DEPTH.get();
    if depth > MAX_DEPTH {
        // During thread teardown there may be no list: then the drops are nested.
        let mut undropped = Some(this);
        let _ = UNDROPPED.try_with(|list| list.borrow_mut().extend(undropped.take()));
        let Some(back) = undropped else { return };
        this = back;
    }
    DEPTH.set(depth + 1);
    let _depth = DepthOnDrop;
    if depth < MAX_DEPTH {
        return this.drop_now();
    }
    let drop_one = |output: UndroppedOutput| catch_unwind(AssertUnwindSafe(|| output.drop_now()));
    let mut outcome = drop_one(this);
    while let Some(next) = UNDROPPED.try_with(|list| list.borrow_mut().pop()).ok().flatten() {
        // The first panic continues when all outputs are gone.
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
