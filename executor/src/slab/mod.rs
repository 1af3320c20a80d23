//! Where tasks live: pages of slots, each page owned by whoever spawns into it.
//!
//! A spawn takes a slot and a completion gives it back, a few loads and stores each; the general allocator is asked for
//! whole pages only. And since tasks stand in pages, all tasks of a runtime can be found ([`Heap::each`]) without a
//! list that every spawn and every completion would have to lock.
//!
//! The scheme is mimalloc's (Leijen, Zorn, de Moura: *Mimalloc: Free List Sharding in Action*, 2019), for one kind of
//! object.
//!
//! # Who may touch what
//!
//! | what | who |
//! | --- | --- |
//! | free slots of a page, the list of pages with room | the heap's [`Owner`]: one worker, or whoever holds its lock |
//! | a slot in use | as the task's [protocol](super) says |
//! | the state word of any slot that was ever used | anybody, at any time: it stays a state word while the page lives |
//! | the stack of slots that others have freed | anybody pushes; the owner takes all of it |
//! | the list of all pages | under its lock: the owner to change it, walkers to read it |
//!
//! ```text
//!   owner                                         any other thread
//!   ─────                                         ────────────────
//!   A1  slot from the page at the head            R1  push the slot on the heap's stack
//!   A2  none: take the stack, slots home          R2  the stack is marked: lock the ownership;
//!   A3  still none: a further page                      it is free: do A2, free surplus pages
//!   F1  own slot: back to its page                      it is taken: nothing
//!   F2  page empty: keep a few, free the rest
//!
//!   owner that rests, or ends                     owner that is back
//!   ─────────────────────────                     ──────────────────
//!   O1  lock the ownership: it is free            B1  lock the ownership: it is taken
//!   O2  mark the stack    O3  do A2               B2  remove the mark
//! ```
//!
//! **No slot is forgotten.** The mark is a bit of the stack's head, so R1 and O2 are changes of one
//! word: R1 first, and O3 takes the slot; O2 first, and R1 sees the mark. A thread that has seen
//! the mark and comes to its R2 after B1 leaves the slot on the stack, where the owner finds it.
//!
//! **A page outlives its tasks, and what they need.** Each page holds the scheduler's shared part,
//! so a task that is not freed keeps it, whoever else is gone. A thread that pushes on a marked
//! stack holds it for itself meanwhile.
//!
//! # How the memory of a burst goes back
//!
//! F2 keeps [`KEPT`] empty pages, and slots on the stack keep theirs. The rest is the work of an
//! owner that has time. It *tidies* a heap of more than [`STOCK`] pages: all slots come home, and
//! of the empty pages those go back to the allocator that were empty since the last time; a load
//! that comes in bursts finds its pages again. When none is empty, the owner *rests* (O1 to O3).
//! From then on each thread that frees a slot also frees the pages: a handle
//! that is dropped hours later, while all workers sleep, leaves nothing behind.
//!
//! | heap | its owner tidies | and rests |
//! | --- | --- | --- |
//! | a worker's | before it parks, [`TIDY_AFTER`] since it first parked so | while it is parked then |
//! | for threads outside | the worker that keeps the time does, likewise | until the next spawn |
//! | a `LocalSet`'s | at the end of each poll of the set | until it polls or spawns again |
//! | for eager calls outside of runtimes | at the end of a thread's outermost call | until the next spawn |
//!
//! A worker that never parks does not tidy: it takes slots from the stack as it spawns. A page goes
//! back when all its slots are free; one task that lives on keeps its page, see
//! [`Runtime`](crate::Runtime#memory).
//!
//! [`TIDY_AFTER`]: crate::scheduler::limits::TIDY_AFTER

mod class;
mod heap;
mod page;
mod stack;
#[cfg(all(test, not(loom)))]
mod tests;

pub(crate) use class::{Class, SPARE, STOCK};
pub(crate) use heap::{Heap, Owner, Tidied, free};
pub(crate) use page::{Slot, shared_of};
