//! The stack of slots that were freed remotely.

use std::ptr::{self, NonNull};

use super::page::{SlotHead, link};
use crate::util::sync::atomic::AtomicPtr;
use crate::util::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::util::sync::weakened;
use crate::util::tagged::Tagged;

/// The mark, in the head of the stack: the heap has no active owner.
const MARK: usize = 1;

/// The head of the stack: the slot that was pushed last, and the mark.
type Top = Tagged<SlotHead, 1>;

/// The head of a stack of freed slots.
///
/// It has cache lines of its own (the processor fetches two at once). Next to the lock on the
/// ownership, that lock's line would move to the freeing thread and back for each spawn from
/// outside.
#[repr(align(128))]
pub(super) struct Stack(AtomicPtr<SlotHead>);

impl Stack {
    pub(super) fn new() -> Stack {
        Stack(AtomicPtr::new(ptr::null_mut()))
    }

    pub(super) fn is_marked(&self) -> bool {
        Top::from_raw(self.0.load(Relaxed)).has(MARK)
    }

    /// O2 and O5. Looks at no slot of the stack; the take that follows sees each slot that was
    /// pushed before.
    pub(super) fn mark(&self, mark: bool) {
        let change = |head| {
            let top = Top::from_raw(head);
            if mark { top.with(MARK) } else { top.without(MARK) }.into_raw()
        };
        let mut head = self.0.load(Relaxed);
        while let Err(changed) = self.0.compare_exchange_weak(head, change(head), Relaxed, Relaxed) {
            head = changed;
        }
    }

    /// X1. Calls `marked` before the slot is pushed on a marked stack. Returns whether the stack
    /// was marked.
    ///
    /// # Safety
    /// The slot is free, and the caller's; `this` is alive until the slot is pushed.
    pub(super) unsafe fn push(this: *const Stack, slot: NonNull<SlotHead>, mut marked: impl FnMut()) -> bool {
        // SAFETY: the stack is alive and the slot the caller's until the exchange succeeds.
        unsafe {
            let stack = &raw const (*this).0;
            let mut head = (*stack).load(Relaxed);
            loop {
                let top = Top::from_raw(head);
                if top.has(MARK) {
                    marked();
                }
                link(slot, top.ptr());
                let new = Top::new(slot.as_ptr(), top.flags()).into_raw();
                // Pairs with the acquire in `take`: the taker sees the last use of the slot, and
                // the link. Pushes and changes of the mark in between are read-modify-write
                // operations, which continue the release sequence.
                let order = if weakened("push") { Relaxed } else { Release };
                match (*stack).compare_exchange_weak(head, new, order, Relaxed) {
                    Ok(_) => return top.has(MARK),
                    Err(changed) => head = changed,
                }
            }
        }
    }

    /// Takes all slots. The mark does not change meanwhile: the caller is the owner, or has the
    /// lock on the ownership.
    pub(super) fn take(&self) -> *mut SlotHead {
        let top = Top::from_raw(self.0.load(Relaxed));
        if top.ptr().is_null() {
            return ptr::null_mut();
        }
        let empty = Top::NULL.with(top.flags()).into_raw();
        // Pairs with the release in `push`.
        let order = if weakened("take") { Relaxed } else { Acquire };
        Top::from_raw(self.0.swap(empty, order)).ptr()
    }
}
