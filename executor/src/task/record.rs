//! The record of a task: what is known of it while its runtime is inspected.
//!
//! A record is a part of the task's [information](super::info), so it lives as long as the task's
//! memory. Dumps, the watchdog and all else that looks at tasks read this one record.
//!
//! # Who writes what
//!
//! | part | written by | read by |
//! | --- | --- | --- |
//! | identity, parent, times of the spawn | the spawner, before the task exists | all |
//! | `since`, `busy`, `waited`, the leaves | the thread that has the stage; `since` also by the thread whose wake-up has made the task runnable | all |
//! | `turn` | the thread that has the stage | all |
//! | the context | the thread that has the stage, without waiting ([`lent`](super::lent)) | one looker at a time |
//!
//! # Reading leaves
//!
//! A leaf takes several words, so a reader must not see half of one. `turn` counts the begins and
//! the ends of polls: it is odd while the task is polled. The writer makes `turn` odd, then writes,
//! then makes it even; the reader reads `turn`, the words, and `turn` again, and has the words of
//! one poll if both were the same even number. Otherwise the task is running, and waits for
//! nothing.
//!
//! | step | who | order |
//! | --- | --- | --- |
//! | RC1 | the writer makes `turn` odd | fence(Release) behind it: a reader of a word below sees it |
//! | RC2 | the writer writes the words | relaxed |
//! | RC3 | the writer makes `turn` even | release: a reader that sees it sees the words |
//! | RC4 | the reader reads `turn` | acquire |
//! | RC5 | the reader reads the words | relaxed |
//! | RC6 | the reader reads `turn` again | fence(Acquire) before it: a reader of a word of RC2 sees RC1 |

use std::panic::Location;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::task::{Poll, Waker};
use std::time::Instant;

use heirloom_context::{Context, CrossingKind, raw};

use super::cell::{Header, Unpublished};
use super::current::{self, TaskMeta, has_yielded};
use super::id::Id;
use super::leaf::Leaf;
use super::lent::Lent;
use super::trace::Trace;
use crate::util::counters::{self, PollTimes};
use crate::util::panic::swallow;
use crate::util::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::util::sync::atomic::{AtomicPtr, AtomicU64, fence};
use crate::util::sync::weakened;
use crate::util::thread_state;

/// Leaves of one poll that are kept. A poll that ends with more has a `select` or a join of many.
pub(crate) const LEAVES: usize = 3;

pub(crate) struct Record {
    pub(crate) parent: Option<Id>,
    /// The group that it is a child of.
    pub(crate) group: Option<u64>,
    /// A blocking closure.
    pub(crate) blocking: bool,
    /// Spawned by `spawn_background`.
    pub(crate) background: bool,
    /// When the task was spawned, as all times here in nanoseconds since [`epoch`].
    pub(crate) spawned: u64,
    /// When the task became what it is: when its poll began, when it became idle, or runnable.
    since: AtomicU64,
    /// The time that polls have taken.
    busy: AtomicU64,
    /// The time that the task has waited for a worker, before each of its polls.
    waited: AtomicU64,
    wake_ups: AtomicU64,
    /// Twice the number of polls; one less while the task is polled.
    turn: AtomicU64,
    /// How many leaves the last poll has ended with, perhaps more than are kept.
    count: AtomicU64,
    leaves: [LeafWords; LEAVES],
    context: Lent<Box<Context>>,
    /// The [version](raw::version) of that context; zero if there is none. For the writer.
    version: AtomicU64,
    /// Whether the poll is to show its stacks. For the writer, and one thread that asks.
    pub(crate) trace: Trace,
}

/// A [`Leaf`] in words.
#[derive(Default)]
struct LeafWords {
    words: [AtomicU64; 3],
    place: AtomicPtr<Location<'static>>,
}

/// What a record says at one time.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) polls: u64,
    pub(crate) wake_ups: u64,
    pub(crate) busy: u64,
    pub(crate) waited: u64,
    pub(crate) since: u64,
    /// The leaves of the last poll that are kept, and how many there were. None while the task is
    /// polled.
    pub(crate) leaves: Vec<Leaf>,
    pub(crate) leaf_count: u64,
    pub(crate) context: Option<Context>,
}

/// The instant from which records count.
pub(crate) fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

/// A time in nanoseconds since the [`epoch`]; zero for one before.
pub(crate) fn since_epoch(instant: Instant) -> u64 {
    u64::try_from(instant.saturating_duration_since(epoch()).as_nanos()).unwrap_or(u64::MAX)
}

/// The present, never zero.
pub(crate) fn now() -> u64 {
    let epoch = epoch();
    since_epoch(Instant::now()).max(since_epoch(epoch) + 1)
}

/// Whether a task of this process ever had a record. Until then a look for a record is one load of
/// this. Relaxed: a thread that has a task with a record got it from the thread that set this, or
/// sees a task without one.
static ANY: AtomicBool = AtomicBool::new(false);

#[inline]
pub(crate) fn is_any() -> bool {
    ANY.load(std::sync::atomic::Ordering::Relaxed)
}

/// Forgets when the last poll on this thread ended, since other things take time before the next.
#[inline]
pub(crate) fn pause() {
    thread_state::with(|here| here.poll_ended.set(0));
}

/// What this thread spawns until this is dropped is a child of a group.
pub(crate) struct InGroup {
    former: u64,
}

impl InGroup {
    /// `group`: an address of the group.
    pub(crate) fn new<T>(group: *const T) -> InGroup {
        InGroup { former: thread_state::with(|here| here.group.replace(group.addr() as u64)) }
    }
}

impl Drop for InGroup {
    fn drop(&mut self) {
        thread_state::with(|here| here.group.set(self.former));
    }
}

/// Records the times of this worker, if it is inspected and this thread is one.
fn record_time(record: impl FnOnce(&PollTimes)) -> bool {
    counters::here(|here| here.times.as_deref().map(record)).flatten().is_some()
}

impl Record {
    /// The record of a task that is about to be spawned by this thread, in `context`.
    pub(crate) fn new(context: Context, parent: Option<Id>, blocking: bool, background: bool) -> Record {
        ANY.store(true, std::sync::atomic::Ordering::Relaxed);
        let version = raw::version_of(&context) as u64;
        let spawned = now();
        Record {
            parent,
            // Taken: what the task spawns, perhaps in this very call, is no child of the group.
            group: thread_state::with(|here| Some(here.group.replace(0)).filter(|group| *group != 0)),
            blocking,
            background,
            spawned,
            since: AtomicU64::new(spawned),
            busy: AtomicU64::new(0),
            waited: AtomicU64::new(0),
            wake_ups: AtomicU64::new(0),
            turn: AtomicU64::new(0),
            count: AtomicU64::new(0),
            leaves: Default::default(),
            context: Lent::new((!context.is_empty()).then(|| Box::new(context))),
            version: AtomicU64::new(version),
            trace: Trace::new(),
        }
    }

    /// A wake-up has made the task runnable.
    #[cold]
    pub(crate) fn woken(&self) {
        self.since.store(now(), Relaxed);
        self.wake_ups.store(self.wake_ups.load(Relaxed) + 1, Relaxed);
    }

    /// A poll begins. The caller has the stage. `base` is the address of a variable of the frame
    /// that polls the future. `attended`: the thread that polls has waited itself since the last
    /// poll.
    fn poll_begins(&self, base: usize, attended: bool) {
        self.trace.poll_begins(base);
        thread_state::with(|here| here.recorded_polls.set(here.recorded_polls.get() + 1));
        // The end of the last poll of this thread is the begin of this one, if nothing came in
        // between: each poll has one look at the clock.
        let ended = thread_state::with(|here| here.poll_ended.replace(0));
        let now = if ended == 0 { now() } else { ended };
        if !attended {
            let latency = now.saturating_sub(self.since.load(Relaxed));
            self.waited.store(self.waited.load(Relaxed) + latency, Relaxed);
            record_time(|times| times.latency.record(latency));
        }
        self.begin(now);
    }

    fn begin(&self, now: u64) {
        // RC1.
        self.turn.store(self.turn.load(Relaxed) + 1, Relaxed);
        fence(if weakened("turn before leaves") { Acquire } else { Release });
        // RC2.
        self.since.store(now, Relaxed);
        self.count.store(0, Relaxed);
    }

    /// A poll was pending. The caller has the stage, and the task's context is current.
    fn poll_ends(&self) {
        let (leaves, yielded) = (self.count.load(Relaxed), has_yielded());
        self.trace.poll_ends(leaves, yielded);
        if leaves == 0 {
            if yielded { self.note(Leaf::Turn) } else { self.show_context() }
        }
        self.end();
    }

    /// The last poll has ended, or the task was cancelled: its future is gone. The caller has the
    /// stage.
    fn task_ends(&self) {
        self.trace.task_ends();
        if !self.turn.load(Relaxed).is_multiple_of(2) {
            self.count.store(0, Relaxed);
            self.end();
        }
        let context = self.context.replace(None);
        swallow(|| drop(context));
    }

    fn end(&self) {
        let now = now();
        let took = now.saturating_sub(self.since.load(Relaxed));
        self.since.store(now, Relaxed);
        self.busy.store(self.busy.load(Relaxed) + took, Relaxed);
        self.make_even();
        let outer = thread_state::with(|here| {
            here.recorded_polls.set(here.recorded_polls.get() - 1);
            here.recorded_polls.get()
        });
        // An inner poll is a part of another one, which goes on.
        if record_time(|times| times.poll.record(took)) && outer == 0 {
            thread_state::with(|here| here.poll_ended.set(now));
        }
    }

    /// RC3.
    fn make_even(&self) {
        let order = if weakened("turn after leaves") { Relaxed } else { Release };
        self.turn.store(self.turn.load(Relaxed) + 1, order);
    }

    /// Notes a leaf that the poll in progress waits for. The caller polls the task.
    #[cold]
    fn note(&self, leaf: Leaf) {
        if self.turn.load(Relaxed).is_multiple_of(2) {
            // A destructor polls a leaf after the task's last poll.
            return;
        }
        let count = self.count.load(Relaxed);
        if count == 0 {
            // On whose behalf the leaf waits is said by the context at the leaf: the task's, or one
            // inside of it.
            self.show_context();
        }
        self.count.store(count + 1, Relaxed);
        self.write(count, leaf);
        self.trace.note(count, leaf);
    }

    /// RC2.
    fn write(&self, index: u64, leaf: Leaf) {
        let kept = usize::try_from(index).ok().and_then(|index| self.leaves.get(index));
        if let Some(LeafWords { words, place }) = kept {
            let (values, location) = leaf.encode();
            words.iter().zip(values).for_each(|(word, value)| word.store(value, Relaxed));
            place.store(location.map_or(ptr::null_mut(), |it| ptr::from_ref(it).cast_mut()), Relaxed);
        }
    }

    /// Publishes the context that is current on this thread, unless it is the one that was
    /// published last.
    fn show_context(&self) {
        let version = raw::version().map(|version| version as u64);
        if version == Some(self.version.load(Relaxed)) {
            return;
        }
        // The copy is kept, so the version of another context is another one.
        let context = Context::current();
        let shown = (!context.is_empty()).then(|| Box::new(context));
        self.version.store(if shown.is_none() { 0 } else { version.unwrap_or(1) }, Relaxed);
        let former = self.context.replace(shown);
        swallow(|| drop(former));
    }

    /// When the task became what it is.
    pub(crate) fn since(&self) -> u64 {
        self.since.load(Relaxed)
    }

    /// What the record says. The context is that at the leaf that the last poll has ended with.
    pub(crate) fn look(&self) -> Seen {
        let (turn, leaf_count, leaves) = self.look_at_leaves();
        Seen {
            polls: turn.div_ceil(2),
            wake_ups: self.wake_ups.load(Relaxed),
            busy: self.busy.load(Relaxed),
            waited: self.waited.load(Relaxed),
            since: self.since.load(Relaxed),
            leaves,
            leaf_count,
            context: self.context.look().map(|context| *context),
        }
    }

    /// The turn, and the leaves of the last poll, unless the task is being polled.
    fn look_at_leaves(&self) -> (u64, u64, Vec<Leaf>) {
        // RC4.
        let turn = self.turn.load(Acquire);
        if !turn.is_multiple_of(2) {
            return (turn, 0, Vec::new());
        }
        // RC5.
        let count = self.count.load(Relaxed);
        let read = |LeafWords { words, place }: &LeafWords| {
            (words.each_ref().map(|word| word.load(Relaxed)), place.load(Relaxed))
        };
        let kept: Vec<_> = self.leaves.iter().take(count as usize).map(read).collect();
        // RC6.
        if !weakened("second look") {
            fence(Acquire);
        }
        let again = self.turn.load(Relaxed);
        if again != turn && !weakened("second look") {
            return (again, 0, Vec::new());
        }
        let decode = |(words, place): ([u64; 3], *mut Location<'static>)| {
            // SAFETY: null, or from a `&'static Location`: `write` stores nothing else.
            Leaf::decode(words, unsafe { place.as_ref() })
        };
        (turn, count, kept.into_iter().filter_map(decode).collect())
    }
}

/// Gives a task that is being spawned on this thread a record.
pub(crate) fn add(task: &mut Unpublished<'_>, kind: CrossingKind) {
    let parent = current::with_current(|task| task.map(TaskMeta::id));
    let (blocking, background) = (kind == CrossingKind::Blocking, kind == CrossingKind::Background);
    task.about.add_record(Record::new(task.live.snapshot(), parent, blocking, background));
}

/// A poll of the current task, which has a record, begins: with this waker, in a frame that has a
/// variable with the address `base`.
#[inline(never)]
pub(crate) fn poll_begins(base: usize, waker: &Waker) {
    with_current(|record| {
        let attended = record.turn.load(Relaxed) != 0 && !current::is_own(waker);
        record.poll_begins(base, attended);
    });
}

/// The poll that has [begun](poll_begins) was pending. The task's context is current.
#[inline(never)]
pub(crate) fn poll_ends() {
    with_current(Record::poll_ends);
}

/// The future of the current task, which has a record, is gone.
#[inline(never)]
pub(crate) fn task_ends() {
    with_current(Record::task_ends);
}

/// The record of the task that is being polled on this thread.
#[inline]
fn with_current(f: impl FnOnce(&Record)) {
    if !is_any() {
        return;
    }
    let task = thread_state::with(|here| here.task.get()).cast::<Header>();
    // SAFETY: the task is current while it is run on this thread, by a caller that has a reference,
    // and the call lies within that time.
    if let Some(record) = unsafe { task.as_ref() }.and_then(|task| task.about.record()) {
        f(record);
    }
}

/// Notes what the task that is being polled on this thread waits for. For leaves that are about to
/// report pending. Nothing happens if the task's runtime is not inspected.
#[inline]
pub(crate) fn waits_for(leaf: impl FnOnce() -> Leaf) {
    with_current(|record| record.note(leaf()));
}

/// The same around a poll of something that stands on other leaves, which are not noted.
#[inline]
pub(crate) fn waits_for_one<R>(leaf: Leaf, poll: impl FnOnce() -> Poll<R>) -> Poll<R> {
    let mut before = 0;
    with_current(|record| before = record.count.load(Relaxed));
    let polled = poll();
    with_current(|record| {
        record.count.store(before, Relaxed);
        if polled.is_pending() {
            record.note(leaf);
        }
    });
    polled
}

#[cfg(all(test, loom))]
mod models {
    use std::net::{Ipv6Addr, SocketAddr};
    use std::sync::Arc;

    use loom::thread;

    use super::super::leaf::{SocketKind, SocketOperation};
    use super::*;
    use crate::util::sync::model::{check, check_without};

    /// A leaf whose words all have the same number in them.
    fn leaf(number: u16) -> Leaf {
        let half = u128::from(number);
        let address = SocketAddr::new(Ipv6Addr::from(half << 64 | half).into(), number);
        Leaf::Socket { operation: SocketOperation::Read, kind: SocketKind::Tcp, address: Some(address) }
    }

    fn poll(record: &Record, number: u16) {
        record.begin(0);
        record.count.store(1, Relaxed);
        record.write(0, leaf(number));
        record.make_even();
    }

    fn look_while_it_is_polled() {
        let record = Arc::new(Record::new(Context::empty(), None, false, false));
        poll(&record, 1);
        // The looker is the thread that is spawned: loom shows a thread no old value that the
        // thread itself has written.
        let looker = {
            let record = Arc::clone(&record);
            thread::spawn(move || record.look_at_leaves().2)
        };
        poll(&record, 2);
        let leaves = looker.join().unwrap();
        assert!(leaves.iter().all(|seen| [leaf(1), leaf(2)].contains(seen)), "half of a leaf: {leaves:?}");
        assert_eq!(record.look_at_leaves().2, [leaf(2)]);
    }

    #[test]
    fn a_reader_sees_a_whole_leaf_or_none() {
        check(look_while_it_is_polled);
    }

    #[test]
    #[should_panic = "half of a leaf"]
    fn the_turn_must_be_odd_before_a_leaf_is_written() {
        check_without("turn before leaves", look_while_it_is_polled);
    }

    #[test]
    #[should_panic = "half of a leaf"]
    fn a_leaf_must_be_written_before_the_turn_is_even() {
        check_without("turn after leaves", look_while_it_is_polled);
    }

    #[test]
    #[should_panic = "half of a leaf"]
    fn a_reader_must_look_at_the_turn_again() {
        check_without("second look", look_while_it_is_polled);
    }
}
