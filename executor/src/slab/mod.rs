//! The memory of tasks: pages of slots of equal size, each page owned by the thread that fills it.
//!
//! A spawn takes a slot and a completion frees it with a few loads and stores each. Only whole
//! pages come from the general allocator. And since tasks stand in pages, a thread can find all
//! tasks of a runtime ([`Heap::each`]) without a list that each spawn and each completion would
//! have to lock.
//!
//! The scheme is mimalloc's (Leijen, Zorn, de Moura: *Mimalloc: Free List Sharding in Action*,
//! 2019), reduced to one kind of object.
//!
//! # Terms
//!
//! A *slot* is memory for one task. Its first word, the [task's state word](crate::task), stays a
//! state word from the first use of the slot until the page is freed. A *class* is a size of slots.
//! A *page* is a block of slots of one class; the page of a slot is found by rounding the address
//! of the slot down. A *heap* is the set of pages that one owner fills. The *owner* of a heap is
//! the worker or the thread that may take slots from the heap. A *walker* is a thread that looks at
//! all slots of a heap. A *local free* is done by the owner, a *remote free* by another thread.
//! *Pending frees* are slots that were freed remotely and are not yet back in their pages; the
//! owner *reclaims* them. The *stack* of a heap holds the pending frees that the owner has not seen
//! yet. The *mark* is a bit in the head of the stack: it is set while the heap has no active owner.
//!
//! # States
//!
//! | state | ownership | mark | pending frees |
//! | --- | --- | --- | --- |
//! | **active** | the owner's; or, of a heap for many threads, under the lock | clear | wait for the owner |
//! | **resting** | free, until the owner resumes or the next spawn | set | the freeing thread reclaims them |
//! | **ended** | free, for good | set | the freeing thread reclaims them |
//!
//! # Who may touch what
//!
//! | what | thread |
//! | --- | --- |
//! | free slots of a page, the lists of pages with room | the owner; without an owner, a thread that holds the lock on the ownership |
//! | a slot in use | as the task's [protocol](crate::task) says |
//! | the state word of a slot that was ever used | every thread, while the page lives |
//! | the stack | every thread pushes; the owner takes all of it |
//! | the list of all pages | under its lock: the owner changes it, walkers read it |
//!
//! # Transitions
//!
//! | step | event | function |
//! | --- | --- | --- |
//! | A1 | a spawn takes a slot from the first page with room | `Heap::take` |
//! | A2 | no page has room: the owner reclaims all pending frees | `Heap::take_slow`, `reclaim_pending` |
//! | A3 | still no page has room: the owner allocates a page | `Heap::add_page` |
//! | L1 | a local free puts the slot back into its page | `Heap::free_local` |
//! | L2 | the page is empty: the owner keeps it, or frees it if enough empty pages are kept | `Heap::free_local_slow` |
//! | X1 | a remote free pushes the slot on the stack | `Stack::push` |
//! | X2 | the mark was set at X1: the thread locks the ownership; if that is free, it does A2 and frees surplus pages | `Heap::free_remote`, `reclaim_all` |
//! | O1 | the owner rests or ends: it locks the ownership, and makes it free | `Heap::rest`, `end` |
//! | O2 | under the lock, it sets the mark | `Heap::deactivate` |
//! | O3 | under the lock, it does A2 and frees surplus pages | `Heap::reclaim_all` |
//! | O4 | the owner resumes: it locks the ownership, and takes it | `Heap::resume` |
//! | O5 | under the lock, it clears the mark | `Heap::activate` |
//!
//! # Why nothing is lost
//!
//! **No slot is forgotten.** The mark and the stack are one word, so X1 and O2 have an order. If X1
//! comes first, O3 reclaims the slot. If O2 comes first, X1 sees the mark. A thread that has seen
//! the mark and reaches X2 after O4 leaves the slot on the stack, where the owner finds it.
//!
//! **A page outlives its tasks, and what they need.** Each page holds a reference of the
//! scheduler's shared part, so a task that is not freed keeps that part. A thread that pushes on a
//! marked stack holds a reference of its own until X2 is over.
//!
//! # How the memory of a burst goes back
//!
//! L2 keeps `KEPT` empty pages, and pending frees keep their pages. The rest is the work of an
//! owner that has time. The owner *tidies* a heap of more than [`STOCK`] pages: it reclaims all
//! pending frees, and frees the pages that were empty since it last tidied. A load that comes in
//! bursts finds its pages again. When no page is empty, the owner *rests* (O1 to O3). From then on
//! each remote free also frees the pages: a join handle that is dropped hours later, while all
//! workers sleep, leaves nothing behind.
//!
//! | heap | its owner tidies | and rests |
//! | --- | --- | --- |
//! | a worker's | before it parks, [`TIDY_AFTER`] since it first parked so | while it is parked then |
//! | for threads that are not workers | the time keeper tidies, likewise | until the next spawn |
//! | a `LocalSet`'s | at the end of each poll of the set | until it polls or spawns again |
//! | for eager calls outside of runtimes | at the end of a thread's outermost call | until the next spawn |
//!
//! A worker that never parks does not tidy: it takes the stack as it spawns. A page is freed when
//! all its slots are free; one task that lives on keeps its page, see
//! [`Runtime`](crate::Runtime#memory).
//!
//! [`TIDY_AFTER`]: crate::scheduler::limits::TIDY_AFTER

mod class;
mod heap;
mod owner;
mod page;
mod stack;
#[cfg(all(test, not(loom)))]
mod tests;

pub(crate) use class::{Class, SPARE, STOCK};
pub(crate) use heap::{Heap, Owner, Tidied, free};
pub(crate) use page::{SlotHead, shared_of};
