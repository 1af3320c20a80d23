//! Which task next, on which thread.
//!
//! # Terms
//!
//! A *runnable* is the permission to poll one task once. A *worker* is a thread that polls
//! runnables. Its *queue* holds runnables in order, of which *thieves*, that is other workers, may
//! steal half. Its *next slot* holds the runnable that was woken or spawned last. The *injector* is
//! one queue for runnables from all other threads. A *pusher* is a thread that makes a runnable
//! visible to workers. A *sibling* of a worker is another worker of its runtime. The *time keeper*,
//! or *keeper*, is the sleeping worker that gets up for timers and, where there are sockets, sleeps
//! in the poll. *The poll*, with the article, is the I/O driver's wait for events; *a poll* is one
//! call of a task's future. A *sleeper* is a worker in the list of sleepers; a *searcher* is a
//! worker that is searching (see below).
//!
//! # Where runnables are
//!
//! | place | pushed by | taken by |
//! | --- | --- | --- |
//! | next slot | its worker: what it spawns or wakes | its worker alone, a few times in a row at most |
//! | queue | its worker: what the next slot has lost, what has yielded | its worker in order; thieves take half |
//! | injector | every other thread | all workers: each its share, now and then before its own queue |
//!
//! # States of a worker
//!
//! * **Polling**: it has runnables.
//! * **Searching**: it has none, and looks in the queues of its siblings. A worker starts that by
//!   itself if fewer than half of the workers search; a woken worker always does.
//! * **Sleeping**: it is in the list of sleepers, parked or about to be. One sleeper may be the
//!   keeper.
//! * **Throttled**: for a quarter of a second it naps and is in no list; see [`throttle`].
//!
//! # Parking and waking
//!
//! ```text
//!   worker that finds nothing                  pusher
//!   ─────────────────────────                  ──────
//!   W1  into the list of sleepers              P1  push
//!   W2  searching -= 1, if it was              P2  fence(SeqCst)
//!   W3  fence(SeqCst)                          P3  a worker searches, or none sleeps: done
//!   W4  look at every queue                    P4  take one sleeper from the list; searching += 1
//!         work: out of the list, search        P5  unpark it; it gets up searching
//!         none: park
//!
//!   searcher that has found work
//!   F1  searching -= 1      F2  if it was the last searcher: fence(SeqCst), look; more work: P3
//! ```
//!
//! | step | event | function |
//! | --- | --- | --- |
//! | P0 | a worker pushes to its own queue, or begins a poll: it looks for a sleeper | `Sleepers::is_wake_up_due`, `is_wake_up_due_fenced` |
//! | P1 to P5 | a runnable is pushed | `Shared::inject`, `Worker::push_back`; `Sleepers::notify`, `wake_one`; `Shared::unpark` |
//! | W1 to W4 | a worker finds nothing | `Worker::park`; `Sleepers::announce`, `retract` |
//! | F1, F2 | a searcher finds work | `Worker::stop_searching`; `Sleepers::end_search` |
//!
//! **No wake-up is lost.** Of P2 and the fence of a worker's W3 or F2, one comes first. If P2 comes
//! first, the worker's look (W4, F2) sees the push. If the worker's fence comes first, P3 sees the
//! worker in the list, or that it no longer searches. So P3 relies on searchers
//! only while the last of them has its fence and its look before it.
//!
//! **One push wakes one worker at most**, and none while a worker searches. The woken worker wakes
//! the next only if there is more work (F2). A burst of n tasks wakes as many workers as find work.
//!
//! **The pusher keeps the list** (P4). So no worker is in it twice, or while it is up. A worker
//! that gets up by itself, for a timer, takes itself out.
//!
//! # What a worker pushes for itself
//!
//! P2 costs as much as a push, and is needed only if a worker sleeps. So a worker that pushes to
//! its own queue first looks without a fence (P0) whether there is a sleeper and no searcher, and
//! only then does P2 to P5. That look may be too early. The worker looks again before each poll.
//! Then a fence, or a locked operation, lies between the look and what was pushed before: either
//! the look sees the sleeper, or the sleeper's W4 sees the push. **So a long poll keeps no runnable
//! from a sleeper** that slept, or was about to, when the poll began. For what the poll itself
//! pushes, the worker looks for sleepers at each push; where that look was too early, the next
//! worker that searches finds the runnable.
//!
//! No sibling is woken for a runnable that its worker takes next. Runnables that are woken
//! together, by one look at the poll or the timers, wake siblings when all of them are queued.
//!
//! # Who keeps the time
//!
//! Workers that are up look at the timers and at the poll when they [look around](pace), and when
//! they have nothing to do. Of the sleepers, the keeper alone sleeps until the next deadline, in
//! the poll if there is one. It stands at the bottom of the list, so that it is woken for work
//! after all others. An earlier deadline unparks it; that handshake is `time::driver`'s.
//!
//! ```text
//!   worker that goes to sleep                  keeper that is up
//!   ─────────────────────────                  ─────────────────
//!   K1  become the keeper, if there is none    K3  be the keeper no longer
//!   W1..W3  into the list                      K4  before its first poll, if there is no keeper:
//!   K2  not the keeper, and there is none:           take a sleeper from the list, unpark it
//!         do not park
//! ```
//!
//! | step | event | function |
//! | --- | --- | --- |
//! | K1, K2 | a worker goes to sleep | `Worker::park`; `Sleepers::become_keeper`, `has_no_keeper` |
//! | K3 | the keeper gets up | `Worker::park`; `Sleepers::stop_keeping` |
//! | K4 | the former keeper polls, or a worker that was woken, perhaps to become the keeper | `Worker::poll`; `Sleepers::hand_over_time` |
//!
//! **While a worker sleeps, a long poll delays no timer and no event.** The list's lock puts W1 and
//! K4 in an order. If W1 comes first, K4 finds the sleeper, which becomes the keeper. If K4 comes
//! first, K2 sees what K3 has stored. A worker that K2 keeps from parking starts again with K1. (A
//! throttled worker is in no list. Where no other worker sleeps, the end of its next nap takes the
//! place of K4.)
//!
//! # Memory at rest
//!
//! A *heap* is the memory of the tasks that one worker, or the threads outside, have spawned; it is
//! *untidy* while it has memory to give back, and then *at rest* ([`slab`](crate::slab)). A worker
//! that parks while its heap is untidy gets up after [`limits::TIDY_AFTER`] at the latest, and
//! tidies while there is nothing else to do. It gets up for that once or twice after tasks were
//! spawned, and not again: the heap is left at rest then. A spawn by another thread that finds a
//! heap at rest, or makes it larger than what is tidied, unparks the keeper, which may sleep
//! without a limit. For that, and for an I/O driver that starts, the fence of W3 has a second
//! partner: the other thread changes what the keeper looks at, then fence(SeqCst), then looks for a
//! keeper (`Sleepers::keeper_after_change`).
//!
//! # Fairness
//!
//! With finitely many tasks, each of which is polled for a bounded time, every runnable is polled
//! within a bounded time:
//!
//! * Queues are served in order.
//! * The next slot goes first [`limits::NEXT_SLOT_STREAK`] times in a row at most. What is passed
//!   over goes to the end of the queue, where thieves see it.
//! * A worker *looks around*, at the injector and the timers, after a tenth of a millisecond
//!   ([`limits::LOOK_WITHIN`]) or [`limits::LOOK_AROUND`] polls, whichever comes first; [`pace`]
//!   says how without reading the clock for each poll. Where polls suddenly
//!   become longer, one look comes late: by as many polls as a tenth of a millisecond had room for
//!   before.
//! * From the injector a worker takes its share, up to [`limits::SHARE`] runnables
//!   ([`limits::BATCH`] if it has queued nothing itself), which go behind what is queued: tasks
//!   from outside and tasks that yield are served as in one queue.
//!
//! A task that a poll wakes last waits in the next slot for the poll's end: no thief takes it,
//! unless the poll is about to block and says so (`Worker::flush_and_notify`).
//!
//! # Shutdown
//!
//! | step | event | effect |
//! | --- | --- | --- |
//! | S1 | `closing` is set | a task spawned from now on is cancelled at once |
//! | S2 | the thread that ends the runtime walks over all heaps | it claims and cancels every task that is not being polled; the others are cancelled after their poll |
//! | S3 | `closed` is set, the injector is emptied | a pusher sees that after its push, and empties the injector itself |
//! | S4 | workers are unparked and joined | each cancels what is in its queue and its heap |
//!
//! Threads that end one runtime do so one after another (`ShutdownLock`), so that the second
//! returns when all is over. A worker waits for no other thread.
//!
//! **Nothing is lost.** A thread outside publishes its task and then looks for S1, with a fence in
//! between, as S2 has one after S1: one of the two sees the other. A worker does without that
//! fence: what it spawns while it does not yet see S1 it finds itself in S4.

pub(crate) mod blocking;
pub(crate) mod current;
pub(crate) mod limits;
#[cfg(all(test, loom))]
mod models;
pub(crate) mod pace;
pub(crate) mod parker;
pub(crate) mod patience;
pub(crate) mod shared;
pub(crate) mod sleepers;
pub(crate) mod throttle;
pub(crate) mod watch;
pub(crate) mod worker;
