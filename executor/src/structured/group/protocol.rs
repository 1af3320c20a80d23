//! The protocol of a group: how children report, fail and end.
//!
//! # Terms
//!
//! * A *child* is a task, or a blocking closure, that was spawned into the group. It reports its
//!   failure itself.
//! * A *slot* is the group's record of one child: the child's join handle, abort handle and child
//!   waker.
//! * A *waiter* is a future that awaits the group: `scope`, `join`, `next`, or a stream of
//!   `results`.
//! * A *child waker* is the waker with which waiters poll one child's join handle.
//! * The *ready list* holds the keys of the slots whose handles are to be polled; `ready_list` has
//!   its protocol.
//! * The *phase* is the group's state; the *first failure* is the one that moved it out of
//!   **open**.
//!
//! # States
//!
//! | the group is | which means |
//! | --- | --- |
//! | **open** | no child has failed |
//! | **panicking** | the first failure is a panic; the join handle of that child will say which |
//! | **failed** | the first failure is known, and kept for `join` or `scope` |
//! | **closed** | the group was joined or dropped: what is spawned now is cancelled |
//!
//! A slot is **reserved** while its child is being spawned, then **filled**; it is **polled** while
//! a waiter has its join handle. While there is a slot in any state, the group has not ended.
//!
//! # Transitions
//!
//! | step | event | function | effect |
//! | --- | --- | --- | --- |
//! | GR1 | a spawn begins | `reserve_slot` | no slot -> reserved; with `abort_on_spawn` if the group failed |
//! | GR2 | the spawn has returned | `ReservedSlot::fill` | reserved -> filled; aborts the child if it is marked; wakes it |
//! | GR3 | a child or body fails | `GroupShared::fail` | open -> panicking or failed; aborts the siblings |
//! | GR4 | a waiter is polled | `poll_ready_children` | takes the ready list; filled -> polled -> filled, or GR5 |
//! | GR5 | a join handle is ready | `remove_ended` | polled -> no slot; the output is kept, also that of a panic that is caught; panicking -> failed |
//! | GR6 | there is no slot | `end`, by `poll_ended` and `poll_result` | any phase -> closed; returns the first failure |
//! | GR7 | the group is dropped | `GroupShared::close` | any phase -> closed; drops slots: the children are cancelled |
//!
//! GR3 happens in the child's own poll, so siblings are cancelled when a child fails, also if no
//! waiter is polled.
//!
//! # Why nothing is lost
//!
//! * A failure: GR3 compares and changes the phase under one lock, so exactly one failure is the
//!   first.
//! * The abort of a child that is being spawned: GR3 and `abort_all` mark reserved slots, and GR2
//!   looks at the mark under the lock that it fills the slot under. A child may run, end and fail
//!   between GR1 and GR2.
//! * The end of a child: its join handle wakes the child waker, which puts the key on the ready
//!   list and wakes every waiter. If the handle is out of the slot when a waiter finds the key, the
//!   slot is marked `repoll`, and the thread that brings the handle (GR2, or the end of a poll in
//!   GR4) wakes the child waker again.
#![forbid(unsafe_code)]
