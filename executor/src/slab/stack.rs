//! The stack of slots that other threads have freed.

use std::ptr::{self, NonNull};

use super::page::{Slot, link};
use crate::util::sync::atomic::AtomicPtr;
use crate::util::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::util::sync::weakened;

/// The mark of a heap whose ownership is free, in the head of its stack.
const MARK: usize = 1;

/// The head of a stack of freed slots.
///
/// In lines of its own (two are fetched at once): beside the owner's lock, that would go over to whoever frees, and back, for
/// each spawn from outside.
#[repr(align(128))]
pub(super) struct Stack(AtomicPtr<Slot>);

impl Stack {
    pub(super) fn new() -> Stack {
        Stack(AtomicPtr::new(ptr::null_mut()))
    }

    pub(super) fn is_marked(&self) -> bool {
        self.0.load(Relaxed).addr() & MARK != 0
    }

    /// O2 and B2. Of what is on the stack, nothing is looked at; a slot pushed before is seen by
    /// the take that follows.
    pub(super) fn mark(&self, mark: bool) {
        let mark = if mark { MARK } else { 0 };
        let change = |head: *mut Slot| head.map_addr(|address| (address & !MARK) | mark);
        let mut head = self.0.load(Relaxed);
        while let Err(changed) = self.0.compare_exchange_weak(head, change(head), Relaxed, Relaxed) {
            head = changed;
        }
    }

    /// R1. `marked` is called before the slot is pushed on a marked stack. Whether it was.
    ///
    /// # Safety
    /// The slot is free, and the caller's; `this` is alive as long as that.
    pub(super) unsafe fn push(this: *const Stack, slot: NonNull<Slot>, mut marked: impl FnMut()) -> bool {
        // SAFETY: says the caller.
        unsafe {
            let stack = &raw const (*this).0;
            let mut head = (*stack).load(Relaxed);
            loop {
                let mark = head.addr() & MARK;
                if mark != 0 {
                    marked();
                }
                link(slot, head.map_addr(|address| address & !MARK));
                let new = slot.as_ptr().map_addr(|address| address | mark);
                // Pairs with the acquire in `take`: what the slot was last used for, and the link,
                // are seen there. Pushes and changes of the mark in between are read-modify-write
                // operations, which pass it on.
                let order = if weakened("push") { Relaxed } else { Release };
                match (*stack).compare_exchange_weak(head, new, order, Relaxed) {
                    Ok(_) => return mark != 0,
                    Err(changed) => head = changed,
                }
            }
        }
    }

    /// Takes all slots. The mark does not change meanwhile: the caller is the owner, or has the
    /// lock on the ownership.
    pub(super) fn take(&self) -> *mut Slot {
        let head = self.0.load(Relaxed);
        if head.addr() & !MARK == 0 {
            return ptr::null_mut();
        }
        let mark = ptr::without_provenance_mut(head.addr() & MARK);
        // Pairs with the release in `push`.
        let order = if weakened("take") { Relaxed } else { Acquire };
        self.0.swap(mark, order).map_addr(|address| address & !MARK)
    }
}
