//! The current context of a thread: one word in a thread-local slot, and everything that may be
//! done to it.
//!
//! # Terms
//!
//! * The **slot** is a thread's place for what is current: the word, the execution state, and what
//!   stands on the word (pins).
//! * The **word** says what is current; see the states below. The slot owns what the word points
//!   to.
//! * A **snapshot** is a handle of [bindings](crate::bindings) that is never written to.
//! * A [**frame**](frame) is bindings that may be written to, with an identity, which is never
//!   reused, and with the guards that live in it.
//! * A **layer** is a frame on top of another word, its **outside**. What the layer has not bound
//!   itself is looked up outside.
//! * A [**pin**](pins) notes a value that is being read without a count.
//!
//! # States of the word
//!
//! | state | meaning |
//! | --- | --- |
//! | **empty** | the empty context, never written to |
//! | **snapshot** | bindings, never written to: what a task starts with |
//! | **frame** | bindings that were written to |
//! | **layer** | a frame with an outside |
//! | **closed** | no context: the thread is being torn down, or the frame is being changed |
//!
//! While the slot is closed, reads find nothing and writes do nothing.
//! So a task that only reads costs one word, one count, and no allocation.
//!
//! # Transitions
//!
//! * **C1**, a task's poll begins or ends; `run`; a layer: [`swap`], [`enter`], [`enter_layer`].
//!   The word is exchanged; hooks are told.
//! * **C2**, a write begins: [`write()`]. The word is taken, and the slot is closed; a snapshot
//!   becomes a frame.
//! * **C3**, the write ends, also by unwinding: [`write()`]. The frame's word is put back.
//!   A change that is over in a few loads and stores needs neither of the two: [`write_in_place`].
//! * **C4**, the thread's destructors run: drop of [`Janitor`]. The word is taken, and the slot
//!   stays closed.
//!
//! C1 to C4 go through [`replace`]. Before the word changes, `replace` counts the pins.
//!
//! # Why nothing is lost
//!
//! A word is owned by the slot or by the caller, and moves as a whole; functions that hold a word
//! do not unwind. No user code runs between C2 and C3: destructors are
//! [held](crate::value::reaper::hold), hooks are called afterwards, and an allocator that asks for
//! a context meanwhile finds the slot closed.

mod abandoned;
mod frame;
mod hooks;
mod layer;
mod lookup;
mod pins;
mod spare;
mod word;

use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use frame::{GuardKey, GuardPlace, Scope};
pub(crate) use hooks::observe;
pub(crate) use layer::Surroundings;
pub(crate) use pins::{is_bound, read};
pub(crate) use word::{Owned, Unique};

use crate::bindings::{Bindings, Entry, Id, LastHandle};
use crate::util::{panic, switches};
use crate::value::reaper;
use frame::Frame;
use pins::Pin;
use spare::Spares;
use word::{Target, Word};

struct Slot {
    word: Cell<Word>,
    /// See [`raw::Execution`](crate::raw::Execution).
    execution: Cell<u64>,
    /// The newest pin.
    pins: Cell<*const Pin>,
    /// Handles that a worker has counted in advance.
    spares: Spares,
    /// A hook is running.
    hooked: Cell<bool>,
    /// The next serial of this thread's range.
    serial: Cell<u64>,
}

thread_local! {
    // Without drop glue, so that every function here answers during thread teardown. `JANITOR`
    // cleans up.
    static SLOT: Slot = const {
        Slot {
            word: Cell::new(Word::EMPTY),
            execution: Cell::new(0),
            pins: Cell::new(ptr::null()),
            spares: Spares::new(),
            hooked: Cell::new(false),
            serial: Cell::new(0),
        }
    };

    // Made when a thread's context is first written to.
    static JANITOR: Janitor = const { Janitor };
}

/// Closes the slot when its thread ends, and drops what was in it: step C4.
struct Janitor;

impl Drop for Janitor {
    fn drop(&mut self) {
        let word = SLOT.with(|slot| install(slot, Word::CLOSED));
        // What the thread leaves behind: its root context. A panic here would end the process.
        panic::swallow(|| drop(Owned(word)));
    }
}

/// A number that no other frame or guard has, ever.
pub(crate) fn next_serial() -> u64 {
    /// Taken from the shared counter at a time, so that threads do not compete for it.
    const RANGE: u64 = 1024;
    static NEXT: AtomicU64 = AtomicU64::new(RANGE);
    SLOT.with(|slot| {
        if slot.serial.get() % RANGE == 0 {
            slot.serial.set(NEXT.fetch_add(RANGE, Ordering::Relaxed));
        }
        slot.serial.replace(slot.serial.get() + 1)
    })
}

/// A copy of everything visible. One count at most; none from the empty context.
#[inline]
pub(crate) fn snapshot() -> Bindings {
    SLOT.with(|slot| {
        let word = slot.word.get();
        if word.is_layer() {
            let _closed = Closed::new(slot);
            // SAFETY: the slot owns its word, and is closed, so that nothing changes it meanwhile.
            return unsafe { lookup::flatten(word) };
        }
        // SAFETY: the slot owns its word, which keeps its bindings alive.
        unsafe { slot.spares.fork(word) }
    })
}

/// This thread is one of so many workers from now on.
pub(crate) fn begin_spare_handles(workers: usize) {
    SLOT.with(|slot| slot.spares.begin(workers));
}

/// Keeps spare handles of this context from now on, if `now` agrees, and does not yet. If the
/// bindings of which spare handles were kept end, destructors are left to the drop of the answer.
#[inline]
pub(crate) fn keep_spare_handles(live: &Owned, now: impl FnOnce() -> bool) -> Option<LastHandle> {
    SLOT.with(|slot| {
        if slot.spares.are_of(live.0) || !now() {
            return None;
        }
        slot.spares.keep_for(live.0)
    })
}

/// Gives spare handles back, unless very many others are left; the answer is as above.
#[inline]
pub(crate) fn settle_spare_handles() -> Option<LastHandle> {
    SLOT.with(|slot| slot.spares.settle())
}

/// Gives all spare handles back; the answer is as above.
#[inline]
pub(crate) fn give_back_spare_handles() -> Option<LastHandle> {
    SLOT.with(|slot| slot.spares.give_back())
}

/// The address of the bindings; `None` in a layer, which shows those of several.
#[inline]
pub(crate) fn version() -> Option<usize> {
    SLOT.with(|slot| {
        let word = slot.word.get();
        // SAFETY: the slot owns its word, which keeps its bindings alive.
        let header = || unsafe { word.own_header() };
        (!word.is_layer()).then(|| header().map_or(0, |header| header.addr().get()))
    })
}

// ---- exchanging the word ----

/// Puts a word into the slot and returns the one that was there. The ownership of both moves, so
/// this must not unwind.
#[inline]
fn replace(slot: &Slot, word: Word) -> Word {
    if !slot.pins.get().is_null() {
        pins::count_all(slot);
    }
    slot.word.replace(word)
}

/// The same, and tells the hooks of what looks different now.
#[inline]
fn install(slot: &Slot, word: Word) -> Word {
    let previous = replace(slot, word);
    if previous.is_watched() || word.is_watched() {
        // SAFETY: both are alive: the caller gets the one, the slot has the other.
        unsafe { hooks::switched(slot, previous, word) };
    }
    previous
}

/// Exchanges the current word and execution state with these.
#[inline]
pub(crate) fn swap(live: &mut Owned, execution: &mut u64) {
    SLOT.with(|slot| {
        live.0 = install(slot, live.0);
        *execution = slot.execution.replace(*execution);
    });
}

/// The execution state.
#[inline]
pub(crate) fn execution() -> u64 {
    SLOT.with(|slot| slot.execution.get())
}

/// Replaces the execution state.
#[inline]
pub(crate) fn set_execution(execution: u64) -> u64 {
    SLOT.with(|slot| slot.execution.replace(execution))
}

/// A context is current until this is dropped; then its owner has it back, with what was written
/// meanwhile.
#[must_use]
pub(crate) struct Entered<'a> {
    owner: &'a mut Owned,
}

/// Makes the context of `owner` current. The execution state stays as it is.
#[inline]
pub(crate) fn enter(owner: &mut Owned) -> Entered<'_> {
    owner.0 = SLOT.with(|slot| install(slot, owner.0));
    Entered { owner }
}

impl Drop for Entered<'_> {
    #[inline]
    fn drop(&mut self) {
        self.owner.0 = SLOT.with(|slot| install(slot, self.owner.0));
    }
}

/// Runs `f`, which does not unwind, in an empty context of which no hook is told, and drops that
/// context. For the [reaper], inside of which no destructor runs now.
pub(crate) fn in_empty_context(f: impl FnOnce()) {
    let before = SLOT.with(|slot| replace(slot, Word::EMPTY));
    f();
    drop(Owned(SLOT.with(|slot| replace(slot, before))));
}

/// A layer is on top of the current context until this is dropped.
#[must_use]
pub(crate) struct EnteredLayer<'a> {
    owner: &'a mut Owned,
    layer: NonNull<Frame>,
}

/// Puts the layer of `owner` on top of what is current.
pub(crate) fn enter_layer(owner: &mut Owned) -> EnteredLayer<'_> {
    let Target::Frame(layer) = owner.0.target() else { unreachable!("a layer is a frame") };
    SLOT.with(|slot| {
        // SAFETY: `owner` owned the layer, which no other code sees before it is installed.
        let word = unsafe {
            (*layer.as_ptr()).outside = slot.word.get();
            Word::of_frame(layer, true)
        };
        owner.0 = Word::EMPTY;
        // The word returned is the outside, which the layer has now.
        install(slot, word);
    });
    EnteredLayer { owner, layer }
}

impl Drop for EnteredLayer<'_> {
    fn drop(&mut self) {
        SLOT.with(|slot| match slot.word.get().target() {
            Target::Frame(top) if top == self.layer => {
                // SAFETY: it is in the slot, so alive. It keeps its outside while hooks compare the
                // two views.
                let outside = unsafe { top.as_ref() }.outside;
                install(slot, outside);
                // SAFETY: taken from the slot, so no other code sees it.
                self.owner.0 = unsafe {
                    (*top.as_ptr()).outside = Word::EMPTY;
                    Word::of_frame(top, true)
                };
            }
            // `raw::swap` was used inside without its counterpart. The layer went with what it
            // took.
            _ => *self.owner = Owned::layer(),
        });
    }
}

// ---- writing ----

/// The identity of the current frame, if it was ever written to.
pub(crate) fn identity() -> Option<u64> {
    // SAFETY: the slot owns its word.
    SLOT.with(|slot| unsafe { slot.word.get().identity() })
}

/// Whether what is current was ever written to: the frame, or one that shows through its layers.
pub(crate) fn was_written() -> bool {
    SLOT.with(|slot| {
        let mut word = slot.word.get();
        loop {
            // SAFETY: the slot owns its word, which keeps its outside alive.
            unsafe {
                if word.identity().is_some() {
                    return true;
                }
                if !word.is_layer() {
                    return false;
                }
                word = word.outside();
            }
        }
    })
}

/// Whether there is no context: this thread is being torn down, or its frame is being changed.
pub(crate) fn is_closed() -> bool {
    SLOT.with(|slot| slot.word.get() == Word::CLOSED)
}

/// Changes the current frame by an `f` that reaches neither an allocator nor a destructor, so that
/// the slot may stay open. `None` if `f` has answered so, and done nothing, or was not called: then
/// the change takes a [`write()`].
#[inline]
pub(crate) fn write_in_place<R>(f: impl FnOnce(&mut Frame) -> Option<R>) -> Option<R> {
    SLOT.with(|slot| {
        // What is pinned would have to be counted first.
        if !switches::IN_PLACE || !slot.pins.get().is_null() {
            return None;
        }
        let Target::Frame(mut frame) = slot.word.get().target() else { return None };
        // SAFETY: the slot owns the frame, and is open, so that no other code has it in use.
        f(unsafe { frame.as_mut() })
    })
}

/// Changes the current frame, steps C2 and C3; makes one of a snapshot first. `None` if the slot is
/// closed.
///
/// What `f` returns is dropped by the caller, after the frame is closed.
#[inline]
pub(crate) fn write<R>(f: impl FnOnce(&mut Frame) -> R) -> Option<R> {
    /// Puts the frame into the slot, also if `f` should unwind.
    struct Close<'a> {
        slot: &'a Slot,
        frame: NonNull<Frame>,
    }

    impl Drop for Close<'_> {
        #[inline]
        fn drop(&mut self) {
            // SAFETY: taken from the slot in `write`, so alive, and so is its outside.
            let word = unsafe { Word::of_frame(self.frame, self.frame.as_ref().is_layer) };
            let previous = replace(self.slot, word);
            // The slot is closed, unless an allocator has swapped meanwhile and did not swap back.
            if previous != Word::CLOSED {
                drop(Owned(previous));
            }
        }
    }

    let _hold = reaper::hold();
    SLOT.with(|slot| {
        // From here on the slot is closed: an allocator that uses contexts does not get at the
        // frame.
        let word = replace(slot, Word::CLOSED);
        let mut frame = match word.target() {
            Target::Closed => return None,
            Target::Frame(frame) => frame,
            Target::Nothing | Target::Snapshot(_) => {
                // If the thread's destructors have run already, this frame is not its root: that
                // one is closed.
                let _ = JANITOR.try_with(|_| ());
                // SAFETY: the slot has a handle of the snapshot that its word points to, if to any.
                let header = unsafe { word.own_header() };
                // SAFETY: the slot is closed, so its handle moves into the answer.
                let own = |header: NonNull<_>| unsafe { Bindings::from_raw(header.as_ptr()) };
                let bindings = header.map_or(Bindings::EMPTY, own);
                // SH5. Not the last ones: the frame has a handle, too, and may have the only one.
                drop(slot.spares.give_back());
                NonNull::from(Box::leak(Box::new(Frame::new(0, bindings))))
            }
        };
        let _close = Close { slot, frame };
        // SAFETY: the slot owned the frame, and is closed: no other code can reach it.
        let frame = unsafe { frame.as_mut() };
        if frame.identity == 0 {
            frame.identity = next_serial();
        }
        Some(f(frame))
    })
}

/// Sets or unsets a variable in the current frame. Returns the frame's identity, and what was there
/// with the guard in whose entry it was. In a thread that is being torn down nothing is bound, and
/// the identity is zero.
pub(crate) fn set(id: Id, watched: bool, mut entry: Entry) -> (u64, Option<GuardKey>, Entry) {
    if !watched
        && matches!(entry, Entry::Bound(_))
        && let Some(identity) =
            write_in_place(|frame| frame.exchange(id, &mut entry).then_some(frame.identity))
    {
        return (identity, None, entry);
    }
    let written = observe(id, watched, || {
        write(|frame| {
            let (previous, guard) = frame.set(id, entry);
            (frame.identity, guard, previous)
        })
    });
    written.unwrap_or((0, None, Entry::Absent))
}

/// The slot is closed until this is dropped; its word stays what it is.
struct Closed<'a> {
    slot: &'a Slot,
    word: Word,
}

impl<'a> Closed<'a> {
    fn new(slot: &'a Slot) -> Closed<'a> {
        Closed { slot, word: replace(slot, Word::CLOSED) }
    }
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        // As in `write`: closed, unless an allocator has swapped meanwhile.
        drop(Owned(replace(self.slot, self.word)));
    }
}
