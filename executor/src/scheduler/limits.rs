//! All numbers of fairness.
#![forbid(unsafe_code)]

use std::time::Duration;

/// Polls after which a worker looks around at the latest: at the injector, the timers and the poll,
/// before its own queue.
///
/// 61 is tokio's, a prime near 64: rare enough to cost nothing, and out of step with patterns of
/// powers of two.
pub(crate) const LOOK_AROUND: u32 = 61;

/// Time after which a worker looks around, if its polls are as long as the last ones were.
///
/// A tenth of a millisecond, in which timers count: what comes from outside is late by as much as a
/// timer, and a look costs a thousandth of the time between two.
pub(crate) const LOOK_WITHIN: Duration = Duration::from_micros(100);

/// Tasks that a worker takes from the injector at a time, at most; it takes its share of them.
///
/// As many as crossbeam takes, and half of what a worker's queue has room for at first: it does not
/// grow and shrink with each batch, which cost a fifth of row `spawn-outside`.
pub(crate) const BATCH: usize = 32;

/// The same of a worker that has tasks of its own, which will be queued behind the batch.
///
/// In one queue that is served in order, a task that yields would wait behind all that came in
/// before. With 32, row `spawn-outside-working` takes twelve times as long.
pub(crate) const SHARE: usize = 256;

/// Polls of the next slot in a row before the queue gets a turn.
///
/// Two tasks that only wake each other would otherwise keep a worker for themselves.
pub(crate) const NEXT_SLOT_STREAK: u32 = 3;

/// Rounds through all queues before a searching worker gives up.
pub(crate) const SEARCH_ROUNDS: u32 = 2;

/// How long a worker that parks leaves the memory of its tasks as it is, before it
/// [tidies](crate::slab).
///
/// A load that pauses for less finds its pages again. What a burst leaves takes two such times: in
/// the second, its pages are seen not to have been used in the first. A worker gets up for that
/// once or twice after it has run tasks, and not again.
pub(crate) const TIDY_AFTER: Duration = Duration::from_millis(100);

/// Pauses between two looks of a worker that searches on. Looking is not free for those whose queues are looked at.
pub(crate) const SEARCH_SPINS: u32 = 16;
