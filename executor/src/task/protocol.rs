//! The protocol of one task: its states, who may do what to it, and why no wake-up is lost.
//!
//! A task is a future, its context, and a word that says what may be done with them. The module
//! `task` knows no queue, clock or thread: a task reaches its scheduler through `Schedule`.
//!
//! # Terms
//!
//! The *cell* of a task is its memory: a header and a *stage*, which holds the future, then its
//! output, then nothing. The *state word* is the first word of the header: flags below, a count of
//! references above. A *runnable* is the permission to poll the task once. The *join handle* waits
//! for the output. The *joiner* is the code that awaits the join handle; its waker lies in the
//! header. A *waker* is what wakes the task: one more reference of it. The *closer* is the thread
//! that ends the task: it has polled the future to its end, or cancels it. A *walker* is a thread
//! that looks at all tasks of a heap (`slab`), whose slots tasks lie in. A runnable is
//! *stale* if a shutdown has claimed its task in the meantime: `start` finds RUNNING or DONE set,
//! and the runnable is dropped.
//!
//! # Flags
//!
//! | flag | set | cleared | excludes |
//! | --- | --- | --- | --- |
//! | **SCHEDULED** | by a spawn and by each wake-up: a runnable exists, or the poll in progress will be followed by another | when a poll begins | |
//! | **RUNNING** | when a poll begins, or a shutdown claims the task: one thread has the stage | when the poll ends pending; when the task is done | a second thread at the stage |
//! | **SEALED** | by the closer, when the future is gone and a join handle exists | never | wake-ups; changes of JOIN and DETACHED |
//! | **DONE** | by the closer: the context is gone, the output is there for the join handle | never | RUNNING; wake-ups; changes of all other flags |
//! | **CANCELLED** | by an abort, a dropped join handle, a shutdown | never | |
//! | **JOIN** | by the spawn: the join handle exists | when the handle is released before 4 | DETACHED |
//! | **DETACHED** | when the handle lets the task run on alone | never | JOIN |
//! | **FRESH** | by the spawn | when the first poll begins | |
//! | **BACKGROUND** | by the spawn of a task that inherits nothing | never | |
//! | **WAKER** | when the joiner's waker lies in the header for the closer | when the handle takes it back | |
//!
//! # States
//!
//! | state | SCHEDULED | RUNNING | SEALED | DONE | a runnable exists | stage |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | **idle** | 0 | 0 | 0 | 0 | no | future |
//! | **scheduled** | 1 | 0 | 0 | 0 | in a queue | future |
//! | **running** | 0 | 1 | 0 | 0 | being polled; stale after 8 | future |
//! | **running, woken** | 1 | 1 | 0 | 0 | being polled, to be queued again | future |
//! | **sealed** | any | 1 | 1, if a handle exists | 0 | in the closer's hands | output; nothing without a handle |
//! | **done** | any | 0 | any | 1 | perhaps a stale one, to be dropped | output until it is taken |
//!
//! # Transitions
//!
//! ```text
//!            1 spawn                    2 start              4 seal              5 complete
//!   (nothing) ───────► scheduled ────────────────► running ──────────► sealed ──────────► done
//!                        ▲   ▲                     │  │
//!                        │   └──── 3b requeue ─────┘  │
//!                        │                            │
//!                        └── 6 wake ── idle ◄─────────┘ 3a pending
//!
//!   8 claim: idle or scheduled ──► running, in the hands of the shutdown; then 4 and 5
//! ```
//!
//! Each transition is one method of `StateWord`, which changes the word once and says what its
//! caller owes. Where a transition gives a reference up, or turns it into a runnable's, it does so
//! in the same change.
//!
//! | | event | method |
//! | --- | --- | --- |
//! | 1 | a task is spawned | `publish` |
//! | 2 | a worker takes the runnable from a queue: it polls the task, drops the future if CANCELLED is set (then 4), or drops a stale runnable | `start` |
//! | 3 | a poll is pending: the task becomes idle (3a), or it was woken or has yielded, and is queued again (3b); if CANCELLED is set, the word stays and the future is dropped (then 4) | `pend` |
//! | 4 | the future is gone | `seal` |
//! | 5 | the context is gone | `complete` |
//! | 6 | a waker is called | `wake`, `wake_owned` |
//! | 7 | an abort: CANCELLED is set; an idle task is woken (6), and the thread that runs it next drops the future | `cancel` |
//! | 8 | a shutdown takes an idle or scheduled task away from its queue, and closes it; the runnable in the queue is stale | `claim` |
//! | 9 | the join handle is dropped (as 7) or detaches the task | `release_handle` |
//! | 10 | the joiner leaves its waker in the header | `offer_waker` |
//! | 11 | the join handle takes that waker back | `withdraw_waker` |
//!
//! Steps 2 to 5 are mostly a worker's. Those of a task that begins where it is spawned are its
//! spawner's (`eager::inline`). An *attendant* may wait with such a task between 2 and 4 and have
//! it polled again: the future then wakes the attendant, not the task.
//!
//! # References
//!
//! | kind | how many | may |
//! | --- | --- | --- |
//! | the task's own | one, until it is done | nothing: it keeps the task for a shutdown |
//! | `Runnable` | one at most, and perhaps a stale one | poll, cancel |
//! | [`JoinHandle`](super::JoinHandle) | one at most | cancel; take the output when the task is done |
//! | [`AbortHandle`](super::AbortHandle), wakers | any | cancel, wake |
//! | a walker's | any, made from the slot while the task is not done | cancel at shutdown, look |
//!
//! The thread that polls a task has the runnable's reference. The slot is free again when the last
//! reference is given up.
//!
//! # Who may touch what
//!
//! 1. The **stage** and the **live context** belong to the thread that has set RUNNING (2 or 8),
//!    until it sets SEALED (4).
//! 2. After 4 the output belongs to the join handle, if JOIN was set at 4. Otherwise the closer
//!    drops the output.
//! 3. The context goes between 4 and 5. A thread that sees DONE sees the context gone.
//! 4. The **joiner's waker** belongs to the join handle while WAKER is clear, and to the closer
//!    while WAKER is set and the task is sealed. While WAKER is set and the task is not sealed, the
//!    handle may take the waker back (11).
//! 5. The handle offers a waker (10) and learns by the same change of the word whether DONE came
//!    first: then the waker stays the handle's. The closer sets SEALED, then DONE, and learns by
//!    the same changes whether a waker is there. So one of the two sees the other. A closer
//!    that finds a waker wakes the joiner. A handle that goes first takes its waker back (11).
//! 6. The **reason** of a cancellation is written once, before CANCELLED is set, and read after
//!    CANCELLED was seen.
//! 7. **Everything** belongs to the thread that gives the last reference up. References of a task
//!    that is done come from other references alone.
//!
//! # Why every wake-up leads to a poll
//!
//! A wake-up (6) finds the task idle, and makes a runnable; or scheduled, where a runnable exists;
//! or running, and leaves SCHEDULED for 3 to find. 2 clears SCHEDULED before the poll, so that a
//! wake-up during the poll is not taken for one before it. Waker and worker change one word by
//! read-modify-write operations with acquire and release: what the waker wrote is seen by the poll.
//! A task that wakes itself to be polled again ([`yield_now`](super::yield_now)) leaves a note on
//! its thread instead, which 3 is told of.
#![forbid(unsafe_code)]
