//! All numbers that bound how long a task waits for others.
#![forbid(unsafe_code)]

use std::time::Duration;

/// Polls after which a worker looks around at the latest: at the injector, the timers and the poll,
/// before its own queue.
///
/// 61 is tokio's number, a prime near 64: seldom enough to cost nothing, and out of step with
/// patterns of powers of two.
pub(crate) const LOOK_AROUND: u32 = 61;

/// Time after which a worker looks around, if its polls are as long as the last ones were.
///
/// A tenth of a millisecond, the scale of timers: a task from outside is late by as much as a
/// timer, and a look costs a thousandth of the time between two looks.
pub(crate) const LOOK_WITHIN: Duration = Duration::from_micros(100);

/// How many tasks a worker takes from the injector at a time, at most; it takes its share of them.
///
/// As many as crossbeam takes, and half of what a worker's queue has room for at first: it does not
/// grow and shrink with each batch, which cost a fifth of row `spawn-outside`.
pub(crate) const BATCH: usize = 32;

/// Like [`BATCH`], for a worker that has queued tasks of its own, which then run before the batch.
///
/// In one queue that is served in order, a task that yields would wait behind all tasks that came
/// before. With 32, row `spawn-outside-working` takes twelve times as long.
pub(crate) const SHARE: usize = 256;

/// How often in a row the next slot goes before the queue.
///
/// Two tasks that only wake each other would otherwise keep a worker busy for ever.
pub(crate) const NEXT_SLOT_STREAK: u32 = 3;

/// Rounds through all queues before a searching worker gives up.
pub(crate) const SEARCH_ROUNDS: u32 = 2;

/// How long a worker that parks leaves the memory of its tasks as it is, before it
/// [tidies](crate::slab).
///
/// A load that pauses for less finds its pages again. The memory of a burst is freed after two such
/// times: in the second, its pages are seen to be unused since the first. A worker gets up for that
/// once or twice after it has run tasks, and not again.
pub(crate) const TIDY_AFTER: Duration = Duration::from_millis(100);

/// Spins between two looks of a worker that searches. Each look costs the workers whose queues are
/// read.
pub(crate) const SEARCH_SPINS: u32 = 16;
