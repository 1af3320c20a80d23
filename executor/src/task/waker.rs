//! The four functions of a task's waker.

use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::task::{RawWaker, RawWakerVTable, Waker};

use super::cell::{Header, TaskRef};

static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, drop_waker);

/// A waker that borrows the reference of the thread that polls the task.
///
/// # Safety
/// `header` is alive while the waker is used; clones of the waker are counted.
pub(crate) unsafe fn borrowed(header: NonNull<Header>) -> ManuallyDrop<Waker> {
    // SAFETY: the waker is not dropped, so it gives up no count.
    ManuallyDrop::new(unsafe { from_data(header.as_ptr().cast()) })
}

/// A waker of a task of this crate, from the waker's [data](Waker::data).
///
/// # Safety
/// `data` is that of a waker of a task of this crate, and this call takes over the count it stands
/// for.
pub(super) unsafe fn from_data(data: *const ()) -> Waker {
    // SAFETY: the functions below keep the contract of a waker: they are thread-safe, and count
    // their references.
    unsafe { Waker::from_raw(RawWaker::new(data, &VTABLE)) }
}

/// Whether `waker` wakes a task of this crate.
#[inline]
pub(super) fn is_ours(waker: &Waker) -> bool {
    std::ptr::eq(waker.vtable(), &VTABLE)
}

/// Whether `waker` wakes this task.
#[inline]
pub(super) fn is_of(waker: &Waker, task: *const Header) -> bool {
    std::ptr::eq(waker.data(), task.cast()) && is_ours(waker)
}

/// # Safety
/// `data` is a waker's: a header that the waker keeps alive.
unsafe fn reference(data: *const ()) -> ManuallyDrop<TaskRef> {
    // SAFETY: the waker keeps the header alive, and its count, since the result is not dropped.
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
