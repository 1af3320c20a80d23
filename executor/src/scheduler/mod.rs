//! Which task next, on which thread.
//!
//! # Where runnable tasks are
//!
//! | place | pushed by | taken by |
//! | --- | --- | --- |
//! | a worker's *next slot* | the worker, what it spawns or wakes | the worker alone, a few times in a row at most |
//! | a worker's *queue* | the worker: what the next slot has lost, what has yielded | the worker, in order; others steal half |
//! | the *injector* | every other thread | all workers, each its share, and each now and then before its own |
//!
//! # Searching and parking
//!
//! A worker without work *searches* (at most half of them at a time do), then *announces* that it sleeps, looks once
//! more, and parks. Whoever pushes where others may take wakes one sleeper, unless somebody searches, who will find it.
//!
//! ```text
//!   worker                                     whoever pushes
//!   ──────                                     ──────────────
//!   W1  sleepers += 1, into the list           P1  push
//!   W2  searching -= 1, if it was              P2  fence(SeqCst)
//!   W3  fence(SeqCst)                          P3  searching > 0 or sleepers = 0: done
//!   W4  look at every queue                    P4  take one from the list:
//!         work: out of the list, search again        sleepers -= 1, searching += 1
//!         none: park                           P5  unpark it; it wakes up searching
//!
//!   worker that has found work while searching
//!   F1  searching -= 1      F2  if it was the last: fence(SeqCst), look; more work: as P3
//! ```
//!
//! **No wake-up is lost.** Of P2 and a worker's last W3 or F2, one is first. P2 first: the worker's look (W4, F2) sees
//! the push. The worker's fence first: P3 sees the worker among the sleepers, or that it no longer searches; so P3 relies
//! on a searcher only if that searcher's own fence, and look, is yet to come.
//!
//! **Not everybody wakes.** One push wakes one worker at most, and none while anybody searches. The woken one wakes the
//! next only if there is more (F2): a burst of n tasks wakes as many workers as find work.
//!
//! **The waker does the book-keeping** (P4), so a worker is never listed twice, nor counted when it is awake. A worker
//! that wakes up by itself (its timer) takes itself out first.
//!
//! # What a worker queues for itself
//!
//! P2 costs as much as a push, and is needed only if somebody sleeps. A worker that pushes to its own queue therefore only
//! glances (P0): is anybody asleep, nobody searching, nobody watching? Only then P1 to P5. The glance may be too early.
//! So the worker glances again before each poll, when a fence (or a locked operation) lies between it and what was pushed
//! before (and when it has woken many at once, for events or timers, which it glances at together): either it sees the sleeper,
//! or that one's W4 sees the push. **A poll that takes long therefore keeps nothing
//! from a sleeper** that was there, or was about to be, when it began; what it pushes itself is glanced at once, and if
//! that was too early, found by whoever is next to search.
//!
//! # Not worth it
//!
//! A worker whose last batches of stolen tasks were over in no time steals no more: it *watches*. It parks for a nap, 50 µs
//! at first and 1 ms at most, tries one batch, and so on; meanwhile P0 wakes nobody else. There is one watcher at most, and
//! none when there is nothing to steal. Work from outside (the injector) and timers wake the watcher like anybody. So a
//! burst of empty tasks is not shared, and what is queued behind a long poll waits for a nap's end at most.
//!
//! ```text
//!   worker in doubt that rests                 watcher whose nap is over
//!   ──────────────────────────                 ─────────────────────────
//!   W1..W3  into the list                      N2  watch no more; fence(SeqCst)
//!   N1  watch, if nobody does                  look at every queue; work: F1, F2
//!   W4  look at the injector alone; park
//! ```
//!
//! A worker in doubt parks although there is something to steal, which it leaves to the watcher. So it must not find one (N1)
//! whose look is over: if N1 finds a watcher, W3 comes before N2's fence, and the watcher's F2 counts on that worker no
//! more. A glance that is spared because somebody watches is before N2's fence as well.
//!
//! # No processor
//!
//! Where processors are short, a worker [stands back](crowd): in doubt about siblings that cope whatever their batches were
//! worth, it rests and naps as above. It watches only if all other sleepers stand back, too; else it passes what it sees on to
//! one that does not (P3, P4), and is itself listed below those. It leaves the poll to its siblings, too: if it can be the deputy (D1,
//! below) and another is up, it parks as such though there be no keeper. It tries to be that (K1) after a nap during which no sibling
//! has coped; after one during which none has come to its end, it looks at the poll.
//!
//! # Who keeps the time
//!
//! Running workers look at the timers, and at the [poll](crate::io) if there is one, when they
//! [look around](pace) and whenever they have nothing to do. Of the parked ones, one is the
//! *keeper*: it sleeps only until the next deadline, and in the poll. It stands at the bottom of
//! the list, so that it is woken for work only after the others. An earlier deadline unparks it;
//! that handshake is `time::driver`'s.
//!
//! A keeper that gets up leaves nobody behind. Where that happens again and again, another worker is the *deputy*: it naps,
//! a millisecond at first, and is the next keeper if there is none when it gets up. So the keeper need not wake anybody.
//!
//! ```text
//!   worker that goes to sleep                     keeper, or deputy, that is up
//!   ─────────────────────────                     ─────────────────────────────
//!   K1  be the keeper, if there is none           D2  be the deputy no longer
//!   D1  be the deputy, if there is none           K3  be the keeper no longer
//!         and keepers have come and gone          K4  before the first poll, if there is no keeper
//!   W1..W3  into the list                               and no deputy:
//!   K2  not the keeper, and there is none:              take one from the list and unpark it
//!         do not park
//! ```
//!
//! **While anybody sleeps, a long poll delays no timer and no event** by more than the deputy's nap. The list's lock puts W1
//! and K4 in an order. W1 first: K4 finds the sleeper, which becomes the keeper. K4 first: K2 sees what K3 has stored. If K4
//! finds a deputy instead, that one's D2, and with it its K1, K2 or K4, or its look at the poll, is yet to come.
//!
//! # Memory at rest
//!
//! A worker that parks although [its heap, or as the keeper one for threads outside, is
//! untidy](crate::slab) gets up after [`budget::TIDY_AFTER`] at the latest, and tidies while
//! there is nothing else to do. It gets up for that once or twice after tasks were spawned, and not
//! again: the heap is left at rest then. A spawn from outside that finds a heap at rest, or makes
//! it larger than what is tidied, tells the keeper, which may sleep without a limit. For that, and
//! for a poll that begins, the fence of W3 has a partner of its own: the thread changes what the
//! keeper looks at, fence(SeqCst), is there a keeper?
//!
//! # Fairness
//!
//! With finitely many tasks, each of which is polled for a bounded time, every runnable task is polled within a bounded time:
//! queues are served in order; the next slot goes first only [`budget::NEXT_SLOT_STREAK`] times in a row, and what is passed
//! over goes to the end of the queue. A worker *looks around*, at the injector and the timers,
//! after a tenth of a millisecond ([`budget::LOOK_WITHIN`]) or [`budget::LOOK_AROUND`] polls,
//! whichever comes first; [`pace`] says how without reading the clock for each poll. It takes its
//! share of the injector, up to [`budget::SHARE`] tasks, which go behind what is queued: tasks from
//! outside and tasks that yield are served as in one queue. (Up to [`budget::BATCH`] if it has
//! queued nothing itself.) If polls become longer all at once, one look comes late, by as many
//! polls as fitted before. So a poll begins with an empty next slot, also if the end of the task
//! before has woken somebody. A task that it wakes last waits there for its end: nobody steals it,
//! unless the poll is [about to block](current::about_to_block) and says so. A task whose joiner is
//! idle hands the worker on to it, as if it had woken it into the next slot
//! ([turn](crate::task::turn)): that counts as one of those times.
//!
//! # Shutdown
//!
//! S1 `closing`: a task spawned from now on is cancelled at once. S2 every task is claimed and cancelled by the thread that
//! shuts down, except those being polled, which are cancelled after their poll; those that have yielded it takes from the
//! queues (one that a worker has in its hands just then, to be polled or stolen, that worker cancels). S3 `closed`: the
//! injector is emptied; whoever pushes sees that after the push, and empties it. S4 workers are told and joined; each cancels
//! what is in its queue and its heap.
//!
//! Of several threads that end it, each has its [turn](shared::Turns), so that who comes second returns when all is over. A worker
//! waits for nobody.
//!
//! **Nothing is lost.** A thread outside publishes its task and then looks for S1, with a fence in between, as S2 has one
//! after S1: one of the two sees the other. A worker does not pay for that: what it spawns while it does not see S1 yet
//! it finds itself in S4.

pub(crate) mod blocking;
pub(crate) mod budget;
pub(crate) mod current;
#[cfg(all(test, loom))]
mod models;
pub(crate) mod pace;
pub(crate) mod parker;
pub(crate) mod patience;
pub(crate) mod shared;
pub(crate) mod sleepers;
pub(crate) mod throttle;
pub(crate) mod worker;
