//! The four functions of a task's waker.

use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::task::{RawWaker, RawWakerVTable, Waker};

use super::cell::{Header, TaskRef};

static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, drop_waker);

/// A waker that borrows the runner's reference.
///
/// # Safety
/// `header` is alive as long as the waker is used; clones are counted and need nothing.
pub(crate) unsafe fn borrowed(header: NonNull<Header>) -> ManuallyDrop<Waker> {
    // SAFETY: says the caller.
    ManuallyDrop::new(unsafe { from_data(header.as_ptr().cast()) })
}

/// A waker of one of our tasks, by its [data](Waker::data).
///
/// # Safety
/// `data` is that of a waker of ours, and this call takes over the count it stands for.
pub(super) unsafe fn from_data(data: *const ()) -> Waker {
    // SAFETY: the functions below keep the contract of a waker: they are thread-safe, and count their references.
    unsafe { Waker::from_raw(RawWaker::new(data, &VTABLE)) }
}

/// Whether it is a waker of one of our tasks.
#[inline]
pub(super) fn is_ours(waker: &Waker) -> bool {
    std::ptr::eq(waker.vtable(), &VTABLE)
}

/// Whether it is a waker of this task.
#[inline]
pub(super) fn is_of(waker: &Waker, task: *const Header) -> bool {
    std::ptr::eq(waker.data(), task.cast()) && is_ours(waker)
}

/// # Safety
/// `data` is a waker's: a header that the waker keeps alive.
unsafe fn reference(data: *const ()) -> ManuallyDrop<TaskRef> {
    // SAFETY: says the caller; the count stays the waker's.
    ManuallyDrop::new(unsafe { TaskRef::from_raw(NonNull::new_unchecked(data.cast_mut().cast())) })
}

unsafe fn clone(data: *const ()) -> RawWaker {
    // SAFETY: contract of a waker.
    let task = unsafe { reference(data) };
    std::mem::forget(TaskRef::clone(&task));
    RawWaker::new(data, &VTABLE)
}

unsafe fn wake(data: *const ()) {
    // SAFETY: contract of a waker: `data` is given up here.
    ManuallyDrop::into_inner(unsafe { reference(data) }).wake_owned();
}

unsafe fn wake_by_ref(data: *const ()) {
    // SAFETY: contract of a waker.
    unsafe { reference(data) }.wake();
}

unsafe fn drop_waker(data: *const ()) {
    // SAFETY: contract of a waker: `data` is given up here.
    drop(ManuallyDrop::into_inner(unsafe { reference(data) }));
}
