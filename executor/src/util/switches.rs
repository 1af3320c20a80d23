//! A switch for each mechanism that exists for speed alone.
//!
//! All are on. The workspace `benches/variants` compiles this crate again with one switch off, or
//! all, and runs both in one process: a mechanism stays only if it pays there. A switch changes
//! nothing but speed.
#![forbid(unsafe_code)]

/// A worker that waits for a processor leaves its work to siblings for a while.
pub(crate) const THROTTLE: bool = !cfg!(without = "throttle");
/// A worker whose waits were short searches for a while before it parks.
pub(crate) const SEARCH_PATIENCE: bool = !cfg!(without = "search_patience");
/// The task that was woken last is polled next.
pub(crate) const NEXT_SLOT: bool = !cfg!(without = "next_slot");
/// Slots that other threads have freed are taken back one by one.
pub(crate) const SLOT_RECLAIM: bool = !cfg!(without = "slot_reclaim");
/// Siblings are notified of tasks that are woken together when all are queued.
pub(crate) const BATCH_NOTIFY: bool = !cfg!(without = "batch_notify");
/// A worker looks around by time instead of by polls alone.
pub(crate) const PACE: bool = !cfg!(without = "pace");
/// No sibling is woken for a task that its worker takes next.
pub(crate) const LONE_TASK: bool = !cfg!(without = "lone_task");
/// A worker takes its share of the injector, instead of a batch of constant size.
pub(crate) const INJECTOR_SHARE: bool = !cfg!(without = "injector_share");
/// Timers are rounded up by a part of their time, and an idle runtime waits for those that are less
/// than a millisecond ahead to a 64th of it; without, all are rounded up to a whole millisecond.
pub(crate) const FINE_TIMERS: bool = !cfg!(without = "fine_timers");
