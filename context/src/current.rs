//! The current context of a thread: one word in a thread-local cell, and everything that may be done to it.
//!
//! # What the word says
//!
//! | word | meaning |
//! | --- | --- |
//! | nothing | the empty context, never written to |
//! | a snapshot | a handle of [bindings](crate::storage), never written to: what a task starts with |
//! | a [frame] | bindings that were written to, with an identity and living guards; a *layer* also has an outside |
//! | closed | no context: a thread that is being torn down, or a frame that is being changed. Reads find nothing, writes do nothing |
//!
//! A task's first write turns a snapshot into a frame. So a task that only reads costs one word, one count, no allocation.
//!
//! # Who may change what
//!
//! The cell's word is owned by the thread. Two functions change it: [`install`] swaps it for another, [`write()`] changes the
//! frame it points to. Both first deal with what may stand on the present word:
//!
//! * **Pins.** [`read`] lends a value without counting it. It leaves a note on its stack (a pin), linked from the
//!   slot. Before anything is taken from the slot, every noted value gets a count of its own, given back when its
//!   `read` ends. A reader that is not disturbed, that is nearly every one, pays two stores.
//! * **Credits.** A spawner forks the same bindings again and again. The slot takes handles in batches that
//!   grow with the number of forks up to [`BATCH_MAX`], and hands them out one by one, so that many forks share one
//!   atomic operation; what is dropped while the bindings are still current comes back the same way. Credits never keep anything alive
//!   longer: the slot has a handle of its own on the same bindings, and gives credits back first. An executor whose next
//!   task has the same bindings [relays], and they stay.
//!
//! No user code runs while a frame is open: destructors are [held](crate::reaper::hold), hooks are called afterwards, and an
//! allocator that asks for a context meanwhile finds the slot closed.
//!
//! [frame]: crate::frame
//! [relays]: crate::raw::relay

use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::block::{Head, Home};
use crate::frame::Frame;
use crate::reaper;
use crate::storage::{self, Bindings, Entry, Found, Id, LastHandle, Lookup};
use crate::util::panic;
use crate::value::{Header, Value};

/// Most handles a slot takes in advance.
///
/// 64 makes an atomic operation of 5 ns a fraction of a nanosecond per fork (`benches`, row "fork, many from one
/// parent"); more gains nothing.
const BATCH_MAX: usize = 64;

/// Tag: a frame, not bindings.
const FRAME: usize = 1;
/// Tag: there may be variables with hooks among what is visible.
const WATCHED: usize = 2;
/// Tag of a frame: a layer.
const LAYER: usize = 4;
const TAGS: usize = FRAME | WATCHED | LAYER;

const _: () =
    assert!(align_of::<Head>() > TAGS && align_of::<Frame>() > TAGS, "there must be room for the tags");

/// One word, as above; a plain copy, which owns nothing.
#[derive(Clone, Copy)]
pub(crate) struct Word(*mut ());

enum Target {
    Nothing,
    Closed,
    Snapshot(NonNull<Head>),
    Frame(NonNull<Frame>),
}

impl Word {
    pub(crate) const EMPTY: Word = Word(ptr::null_mut());
    const CLOSED: Word = Word(ptr::without_provenance_mut(8));

    fn frame(frame: NonNull<Frame>, layer: bool, watched: bool) -> Word {
        let tags = FRAME | if layer { LAYER } else { 0 } | if watched { WATCHED } else { 0 };
        Word(frame.as_ptr().cast::<()>().map_addr(|address| address | tags))
    }

    #[inline]
    fn is_watched(self) -> bool {
        self.0.addr() & WATCHED != 0
    }

    #[inline]
    fn is_layer(self) -> bool {
        self.0.addr() & LAYER != 0
    }

    #[inline]
    fn target(self) -> Target {
        let pointer = self.0.map_addr(|address| address & !TAGS);
        if self.0.addr() & FRAME != 0 {
            // SAFETY: frames have addresses.
            return Target::Frame(unsafe { NonNull::new_unchecked(pointer.cast()) });
        }
        match NonNull::new(pointer) {
            None => Target::Nothing,
            Some(_) if pointer == Word::CLOSED.0 => Target::Closed,
            Some(head) => Target::Snapshot(head.cast()),
        }
    }
}

/// A word that owns what it points to.
pub(crate) struct Owned(Word);

// SAFETY: bindings and frames are `Send`, and a word owns them.
unsafe impl Send for Owned {}
// SAFETY: through `&Owned` bindings are only read and counted, both of which any thread may do.
unsafe impl Sync for Owned {}

impl Owned {
    pub(crate) const EMPTY: Owned = Owned(Word::EMPTY);

    pub(crate) fn snapshot_of(bindings: Bindings) -> Owned {
        let tag = if bindings.is_watched() { WATCHED } else { 0 };
        Owned(Word(bindings.into_raw().cast::<()>().map_addr(|address| address | tag)))
    }

    /// A new, empty layer.
    pub(crate) fn layer() -> Owned {
        Owned::from_frame(Box::new(Frame::layer()))
    }

    fn from_frame(frame: Box<Frame>) -> Owned {
        let (layer, watched) = (frame.is_layer, frame.bindings.is_watched());
        Owned(Word::frame(NonNull::from(Box::leak(frame)), layer, watched))
    }

    /// A copy of the bindings; of a layer, of its own only. A credit, if they are the current ones: a
    /// spawner looks at what its child has.
    pub(crate) fn bindings(&self) -> Bindings {
        // SAFETY: the word owns what it points to.
        unsafe {
            let Some(head) = own_head(self.0) else { return Bindings::EMPTY };
            SLOT.with(|slot| match slot.credits.get() {
                credits if credits != 0 && slot.lent.get() == head.as_ptr() => slot.credits.set(credits - 1),
                _ => Bindings::retain(head, 1),
            });
            Bindings::from_raw(head.as_ptr())
        }
    }

    #[inline]
    pub(crate) fn clear(&mut self) {
        drop(Owned(std::mem::replace(&mut self.0, Word::EMPTY)));
    }

    /// The same, but for destructors: what is left is dropped with the answer. Not current, says the caller.
    #[inline]
    pub(crate) fn give_up(&mut self) -> Option<Left> {
        let word = std::mem::replace(&mut self.0, Word::EMPTY);
        match word.target() {
            // SAFETY: the word's handle.
            Target::Snapshot(head) => unsafe { Bindings::from_raw(head.as_ptr()) }
                .give_up()
                .map(|last| Left::Last { _handle: last }),
            Target::Frame(_) => Some(Left::Frames { _word: Owned(word) }),
            Target::Nothing | Target::Closed => None,
        }
    }

    #[inline]
    pub(crate) fn is_nothing(&self) -> bool {
        self.0.0.is_null()
    }

    /// The identity of the frame, if it is one.
    pub(crate) fn identity(&self) -> Option<u64> {
        match self.0.target() {
            // SAFETY: the word owns the frame.
            Target::Frame(frame) => unsafe { frame.as_ref() }.identity(),
            _ => None,
        }
    }

    /// Whether it is a layer that was never written to, so that a new one is as good.
    pub(crate) fn is_blank_layer(&self) -> bool {
        self.0.is_layer() && self.identity().is_none()
    }
}

/// What [`Owned::give_up`] has left.
pub(crate) enum Left {
    Last { _handle: LastHandle },
    Frames { _word: Owned },
}

impl Drop for Owned {
    #[inline]
    fn drop(&mut self) {
        let word = self.0;
        if word.0.is_null() {
            return;
        }
        if let Target::Snapshot(head) = word.target() {
            // SAFETY: the word owns a handle.
            return give_back(unsafe { Bindings::from_raw(head.as_ptr()) });
        }
        // SAFETY: the word owns a frame.
        unsafe { drop_frames(word) }
    }
}

/// Drops a frame, and what it keeps.
///
/// # Safety
/// The word owns what it points to, and gives it up.
#[cold]
unsafe fn drop_frames(mut word: Word) {
    let _hold = reaper::hold();
    // A layer that was taken away while it was entered still has its outside, and that perhaps another: a loop.
    loop {
        word = match word.target() {
            Target::Nothing | Target::Closed => return,
            // SAFETY: the word owns a handle.
            Target::Snapshot(head) => return give_back(unsafe { Bindings::from_raw(head.as_ptr()) }),
            Target::Frame(frame) => {
                // SAFETY: the word owns the frame, which `from_frame` or `write` leaked.
                let frame = unsafe { Box::from_raw(frame.as_ptr()) };
                frame.outside
            }
        };
    }
}

/// The bindings of a word itself, of a layer its own.
///
/// # Safety
/// What the word points to is alive, and so is the answer only that long.
#[inline(always)]
unsafe fn own_head(word: Word) -> Option<NonNull<Head>> {
    match word.target() {
        Target::Nothing | Target::Closed => None,
        Target::Snapshot(head) => Some(head),
        // SAFETY: alive, says the caller.
        Target::Frame(frame) => NonNull::new(unsafe { frame.as_ref() }.bindings.as_raw()),
    }
}

/// Looks a variable up, through layers, from the inside out.
///
/// A glance at its home in the current table mostly says it all: that it is bound there, or nowhere.
///
/// # Safety
/// What the word points to is alive, and so is the answer only that long.
#[inline(always)]
unsafe fn lookup<'a>(word: Word, id: Id) -> Option<Found<'a>> {
    // SAFETY: alive, says the caller.
    unsafe {
        let Some(head) = own_head(word) else {
            return if word.is_layer() { lookup_outside(word, id) } else { None };
        };
        match storage::home(head, id) {
            Home::Bound(found) => Some(found),
            Home::Nowhere if !word.is_layer() => None,
            _ => lookup_further(word, head, id),
        }
    }
}

/// The same, of which `head` begins the table, if the glance has not said it all.
///
/// # Safety
/// As above.
#[inline(never)]
unsafe fn lookup_further<'a>(word: Word, head: NonNull<Head>, id: Id) -> Option<Found<'a>> {
    // SAFETY: says the caller.
    unsafe {
        match storage::lookup_at(head, id) {
            Lookup::Bound(found) => Some(found),
            Lookup::Absent if word.is_layer() => lookup_outside(word, id),
            Lookup::Absent | Lookup::Hidden => None,
        }
    }
}

/// The same for a layer that does not have it.
///
/// # Safety
/// As above.
#[inline(never)]
unsafe fn lookup_outside<'a>(mut word: Word, id: Id) -> Option<Found<'a>> {
    while let Target::Frame(frame) = word.target()
        && word.is_layer()
    {
        // SAFETY: the outside of a layer is alive as long as the layer.
        unsafe {
            word = frame.as_ref().outside;
            match own_head(word).map_or(Lookup::Absent, |head| storage::lookup_at(head, id)) {
                Lookup::Bound(found) => return Some(found),
                Lookup::Hidden => return None,
                Lookup::Absent => {}
            }
        }
    }
    None
}

/// Everything visible, as bindings of its own: layers are merged.
///
/// # Safety
/// What the word points to is alive.
unsafe fn flatten(mut word: Word) -> Bindings {
    let mut layers = Vec::new();
    // SAFETY: alive, says the caller; the outside of a layer is alive as long as the layer.
    unsafe {
        while let Target::Frame(frame) = word.target()
            && word.is_layer()
        {
            layers.push(frame);
            word = frame.as_ref().outside;
        }
        let _hold = reaper::hold();
        let mut merged = Bindings::clone_at(own_head(word));
        for layer in layers.into_iter().rev() {
            layer.as_ref().bindings.for_each(|id, found| {
                let entry = match found {
                    Lookup::Bound(found) => Entry::Bound(found.retain()),
                    // Hidden is a layer's word; in a copy that has no outside, what is hidden is not there.
                    Lookup::Hidden | Lookup::Absent => Entry::Absent,
                };
                merged.change(id, entry);
            });
        }
        merged
    }
}

struct Slot {
    word: Cell<Word>,
    /// See [`raw::Execution`](crate::raw::Execution).
    execution: Cell<u64>,
    /// The word's own bindings, if handles were taken in advance; else null.
    lent: Cell<*mut Head>,
    /// How many of these are left.
    credits: Cell<usize>,
    /// How many to take the next time.
    batch: Cell<usize>,
    /// Forks since the word is what it is.
    forks: Cell<usize>,
    /// The newest pin.
    pins: Cell<*const Pin>,
    /// A hook is running.
    hooked: Cell<bool>,
    /// The next serial of this thread's range.
    serial: Cell<u64>,
}

thread_local! {
    // Without drop glue, so that every function here answers during thread teardown. `JANITOR` cleans up.
    static SLOT: Slot = const {
        Slot {
            word: Cell::new(Word::EMPTY),
            execution: Cell::new(0),
            lent: Cell::new(ptr::null_mut()),
            credits: Cell::new(0),
            batch: Cell::new(1),
            forks: Cell::new(0),
            pins: Cell::new(ptr::null()),
            hooked: Cell::new(false),
            serial: Cell::new(0),
        }
    };

    // Made when a thread's context is first written to.
    static JANITOR: Janitor = const { Janitor };
}

/// Closes the slot when its thread ends, and drops what was in it.
struct Janitor;

impl Drop for Janitor {
    fn drop(&mut self) {
        let word = SLOT.with(|slot| install(slot, Word::CLOSED));
        // What the thread has left behind: its root context. A panic here would end the process.
        panic::swallow(|| drop(Owned(word)));
    }
}

/// A number that no other frame or guard has, ever.
pub(crate) fn next_serial() -> u64 {
    /// Taken from the shared counter at a time, so that threads do not fight for it.
    const RANGE: u64 = 1024;
    static NEXT: AtomicU64 = AtomicU64::new(RANGE);
    SLOT.with(|slot| {
        if slot.serial.get() % RANGE == 0 {
            slot.serial.set(NEXT.fetch_add(RANGE, Ordering::Relaxed));
        }
        slot.serial.replace(slot.serial.get() + 1)
    })
}

// ---- pins ----

/// A value that is being read without a count.
struct Pin {
    value: NonNull<Header>,
    /// It has got a count of its own after all.
    counted: Cell<bool>,
    older: *const Pin,
}

/// Takes the pin out of the list, also by unwinding.
struct Unpin<'a> {
    slot: &'a Slot,
    pin: &'a Pin,
}

impl Drop for Unpin<'_> {
    #[inline]
    fn drop(&mut self) {
        self.slot.pins.set(self.pin.older);
        if self.pin.counted.get() {
            self.pin.give_back();
        }
    }
}

impl Pin {
    #[cold]
    fn give_back(&self) {
        // SAFETY: `settle_now` took this count.
        drop(unsafe { Value::from_raw(self.value) });
    }
}

/// Reads a variable where it is. The value stays valid until `f` returns, whatever `f` does.
#[inline]
pub(crate) fn read<R>(id: Option<Id>, f: impl FnOnce(Option<NonNull<Header>>) -> R) -> R {
    SLOT.with(|slot| {
        // SAFETY: the slot owns its word; the answer is pinned before anything else can happen.
        let found = id.and_then(|id| unsafe { lookup(slot.word.get(), id) });
        let Some(value) = found.map(Found::as_ptr) else { return f(None) };
        let pin = Pin { value, counted: Cell::new(false), older: slot.pins.get() };
        slot.pins.set(&raw const pin);
        let _unpin = Unpin { slot, pin: &pin };
        f(Some(value))
    })
}

/// Whether a variable is bound, as seen from here.
pub(crate) fn is_bound(id: Id) -> bool {
    // SAFETY: the slot owns its word.
    SLOT.with(|slot| unsafe { lookup(slot.word.get(), id) }.is_some())
}

/// The bound value as seen from here, counted.
pub(crate) fn seen(id: Id) -> Option<Value> {
    // SAFETY: the slot owns its word.
    SLOT.with(|slot| unsafe { lookup(slot.word.get(), id) }.map(Found::retain))
}

/// Settles what stands on the slot's word, before the word or what it points to changes.
#[inline]
fn settle(slot: &Slot) {
    if !slot.pins.get().is_null() || !slot.lent.get().is_null() {
        settle_now(slot);
    }
}

#[cold]
fn settle_now(slot: &Slot) {
    let mut pin = slot.pins.get();
    // SAFETY: pins are on the stacks of calls below this one, and unlinked before they go. All older than a counted one
    // are counted, since this loop leaves none out.
    while let Some(uncounted) = unsafe { pin.as_ref() }.filter(|pin| !pin.counted.get()) {
        // SAFETY: nothing was taken from the slot since the value was found there, or this would have run.
        std::mem::forget(unsafe { Value::retain(uncounted.value) });
        uncounted.counted.set(true);
        pin = uncounted.older;
    }
    let credits = slot.credits.replace(0);
    // Whoever is current next forks about as often, more often than not: a task that spawns two children takes two
    // handles at once, and gives none back.
    let forks = slot.forks.replace(0);
    if forks != 0 {
        slot.batch.set(forks.min(BATCH_MAX));
    }
    if let Some(head) = NonNull::new(slot.lent.replace(ptr::null_mut()))
        && credits != 0
    {
        // SAFETY: these handles are the slot's; its word, which has not changed since, has one more.
        unsafe { Bindings::release_some(head, credits) };
    }
}

// ---- swapping ----

/// Puts a word into the slot and returns the one that was there. The ownership of both moves, so this must not unwind.
#[inline]
fn replace(slot: &Slot, word: Word) -> Word {
    settle(slot);
    slot.word.replace(word)
}

/// The same, and tells the hooks of what looks different now.
#[inline]
fn install(slot: &Slot, word: Word) -> Word {
    let previous = replace(slot, word);
    if previous.is_watched() || word.is_watched() {
        switched(slot, previous, word);
    }
    previous
}

/// Swaps the current word and execution state with these.
#[inline]
pub(crate) fn swap(live: &mut Owned, execution: &mut u64) {
    SLOT.with(|slot| {
        live.0 = install(slot, live.0);
        *execution = slot.execution.replace(*execution);
    });
}

/// Swaps `last` out and `next` in, states and execution states, if both are the same snapshot, or nothing: then the slot's word
/// stays what it is, and so does what stands on it.
#[inline]
pub(crate) fn relay(last: (&mut Owned, &mut u64), next: (&mut Owned, &mut u64)) -> bool {
    SLOT.with(|slot| {
        let word = slot.word.get();
        let relays = !word.is_watched() && matches!(word.target(), Target::Nothing | Target::Snapshot(_));
        if word.0 != next.0.0.0 || !relays {
            return false;
        }
        // The word is the next one's handle now, and the last one gets one back.
        std::mem::swap(last.0, next.0);
        let inside = std::mem::replace(next.1, *last.1);
        *last.1 = slot.execution.replace(inside);
        true
    })
}

/// Whether somebody else may have the slot's word.
#[inline]
pub(crate) fn is_shared() -> bool {
    SLOT.with(|slot| match slot.word.get().target() {
        Target::Snapshot(head) if !slot.word.get().is_watched() => {
            // SAFETY: the slot owns its word.
            let handles = unsafe { Bindings::handles(head) };
            handles > slot.credits.get() + 1
        }
        _ => false,
    })
}

/// Whether there are credits, or were.
#[inline]
pub(crate) fn has_stock() -> bool {
    SLOT.with(|slot| !slot.lent.get().is_null())
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

/// Another word is current until this is dropped; then it is back home, with what was written meanwhile.
#[must_use]
pub(crate) struct Entered<'a> {
    home: &'a mut Owned,
}

/// Makes `home` current. The execution state stays as it is.
#[inline]
pub(crate) fn enter(home: &mut Owned) -> Entered<'_> {
    home.0 = SLOT.with(|slot| install(slot, home.0));
    Entered { home }
}

impl Drop for Entered<'_> {
    #[inline]
    fn drop(&mut self) {
        self.home.0 = SLOT.with(|slot| install(slot, self.home.0));
    }
}

/// The same, of which no hook is told.
#[must_use]
pub(crate) struct EnteredQuietly<'a> {
    home: &'a mut Owned,
}

/// Makes `home` current, and tells no hook.
pub(crate) fn enter_quietly(home: &mut Owned) -> EnteredQuietly<'_> {
    home.0 = SLOT.with(|slot| replace(slot, home.0));
    EnteredQuietly { home }
}

impl Drop for EnteredQuietly<'_> {
    fn drop(&mut self) {
        self.home.0 = SLOT.with(|slot| replace(slot, self.home.0));
    }
}

/// A layer is on top of the current context until this is dropped.
#[must_use]
pub(crate) struct EnteredLayer<'a> {
    home: &'a mut Owned,
    layer: NonNull<Frame>,
}

/// Puts the layer `home` on top of what is current.
pub(crate) fn enter_layer(home: &mut Owned) -> EnteredLayer<'_> {
    let Target::Frame(layer) = home.0.target() else { unreachable!("a layer is a frame") };
    SLOT.with(|slot| {
        let outside = slot.word.get();
        // SAFETY: `home` owns the layer, which nobody else sees before it is installed.
        let watched = unsafe {
            (*layer.as_ptr()).outside = outside;
            (*layer.as_ptr()).bindings.is_watched() || outside.is_watched()
        };
        home.0 = Word::EMPTY;
        // The word returned is the outside, which the layer has now.
        install(slot, Word::frame(layer, true, watched));
    });
    EnteredLayer { home, layer }
}

impl Drop for EnteredLayer<'_> {
    fn drop(&mut self) {
        SLOT.with(|slot| match slot.word.get().target() {
            Target::Frame(top) if top == self.layer => {
                // SAFETY: it is in the slot, so alive. It keeps its outside while hooks compare the two views.
                let outside = unsafe { top.as_ref() }.outside;
                install(slot, outside);
                // SAFETY: taken from the slot, so nobody else sees it.
                let watched = unsafe {
                    (*top.as_ptr()).outside = Word::EMPTY;
                    top.as_ref().bindings.is_watched()
                };
                self.home.0 = Word::frame(top, true, watched);
            }
            // Somebody used `raw::swap` inside and did not swap back. The layer went with what they took.
            _ => *self.home = Owned::layer(),
        });
    }
}

// ---- snapshots ----

/// A copy of everything visible. One count at most; none from the empty context.
#[inline]
pub(crate) fn snapshot() -> Bindings {
    SLOT.with(|slot| {
        let word = slot.word.get();
        if word.is_layer() {
            let _closed = Closed::new(slot);
            // SAFETY: the slot owns its word, and is closed: nobody changes it meanwhile.
            return unsafe { flatten(word) };
        }
        // SAFETY: as above.
        let Some(head) = (unsafe { own_head(word) }) else { return Bindings::EMPTY };
        let forks = slot.forks.get() + 1;
        slot.forks.set(forks);
        match slot.credits.get() {
            // (The second half is a matter of course, but for an allocator that has swapped in the middle of a write.)
            credits if credits != 0 && slot.lent.get() == head.as_ptr() => slot.credits.set(credits - 1),
            _ => {
                // What is forked on and on is forked from ever larger batches.
                let batch = if forks == 1 { slot.batch.get() } else { forks.min(BATCH_MAX) };
                settle(slot);
                slot.forks.set(forks);
                // SAFETY: as above.
                unsafe { Bindings::retain(head, batch) };
                slot.lent.set(head.as_ptr());
                slot.credits.set(batch - 1);
            }
        }
        // SAFETY: one of the handles counted above.
        unsafe { Bindings::from_raw(head.as_ptr()) }
    })
}

/// Drops a handle. One of the very bindings that are current becomes a credit.
#[inline]
pub(crate) fn give_back(bindings: Bindings) {
    SLOT.with(|slot| {
        let Some(head) = NonNull::new(bindings.as_raw()) else { return };
        // SAFETY: the slot owns its word.
        if slot.lent.get() != head.as_ptr() && unsafe { own_head(slot.word.get()) } != Some(head) {
            return drop(bindings);
        }
        bindings.into_raw();
        // Whatever stands on the word is the word's own bindings.
        slot.lent.set(head.as_ptr());
        let credits = slot.credits.get() + 1;
        let kept = if credits > BATCH_MAX {
            // SAFETY: these handles are the slot's; its word has one more.
            unsafe { Bindings::release_some(head, BATCH_MAX) };
            credits - BATCH_MAX
        } else {
            credits
        };
        slot.credits.set(kept);
    });
}

// ---- writing ----

/// The identity of the current frame, if it was ever written to.
pub(crate) fn identity() -> Option<u64> {
    SLOT.with(|slot| match slot.word.get().target() {
        // SAFETY: the slot owns its word.
        Target::Frame(frame) => unsafe { frame.as_ref() }.identity(),
        _ => None,
    })
}

/// Changes the current frame; makes one of a snapshot first. `None` if the slot is closed.
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
        fn drop(&mut self) {
            // SAFETY: taken from the slot in `write`, so alive and nobody else's.
            let frame = unsafe { self.frame.as_ref() };
            let watched = frame.bindings.is_watched() || frame.outside.is_watched();
            // The slot is closed, unless an allocator has swapped meanwhile and did not swap back.
            drop(Owned(replace(self.slot, Word::frame(self.frame, frame.is_layer, watched))));
        }
    }

    let _hold = reaper::hold();
    SLOT.with(|slot| {
        // From here on the slot is closed: whatever an allocator does, it does not get at the frame.
        let word = replace(slot, Word::CLOSED);
        let mut frame = match word.target() {
            Target::Closed => return None,
            Target::Frame(mut frame) => {
                // SAFETY: the slot owned the frame, and is closed: nobody else can reach it.
                let frame_now = unsafe { frame.as_mut() };
                if frame_now.identity == 0 {
                    frame_now.identity = next_serial();
                }
                frame
            }
            Target::Nothing | Target::Snapshot(_) => {
                // If the thread's destructors have run already, this frame is not its root: that one is closed.
                let _ = JANITOR.try_with(|_| ());
                // SAFETY: the slot's own handle, if there is one, moves into the frame.
                let bindings = unsafe { own_head(word) }
                    .map_or(Bindings::EMPTY, |head| unsafe { Bindings::from_raw(head.as_ptr()) });
                NonNull::from(Box::leak(Box::new(Frame::new(next_serial(), bindings))))
            }
        };
        let _close = Close { slot, frame };
        // SAFETY: the slot owned the frame, and is closed: nobody else can reach it.
        Some(f(unsafe { frame.as_mut() }))
    })
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

// ---- hooks ----

/// Runs a change of one variable, and tells its hook if what is seen has changed.
#[inline]
pub(crate) fn observe<R>(id: Id, watched: bool, change: impl FnOnce() -> R) -> R {
    if !watched {
        return change();
    }
    let before = seen(id);
    let result = change();
    // The change is made, and its guard exists: a destructor that panics here would undo neither.
    panic::swallow(|| {
        let after = seen(id);
        SLOT.with(|slot| tell(slot, before.as_ref(), after.as_ref()));
        drop((before, after));
    });
    result
}

/// Tells the hooks what looks different. Does not unwind: its callers have two words in their hands.
#[cold]
fn switched(slot: &Slot, previous: Word, current: Word) {
    panic::swallow(|| {
        let (before, after) = {
            let _closed = Closed::new(slot);
            // SAFETY: both are alive: the caller of `install` gets the one, the slot has the other, and is closed.
            unsafe { (flatten(previous), flatten(current)) }
        };
        let (before, after) = (watched(&before), watched(&after));
        for (id, value) in &before {
            let now = after.iter().find(|(other, _)| other == id).map(|(_, value)| value);
            tell(slot, Some(value), now);
        }
        for (id, value) in &after {
            if !before.iter().any(|(other, _)| other == id) {
                tell(slot, None, Some(value));
            }
        }
    });
}

fn watched(bindings: &Bindings) -> Vec<(Id, Value)> {
    let mut entries = bindings.entries();
    entries.retain(|(_, value)| value.is_watched());
    entries
}

/// Calls a hook, unless one is running: hooks are for mirroring, and what they change is their own business.
fn tell(slot: &Slot, before: Option<&Value>, after: Option<&Value>) {
    let same = match (before, after) {
        (Some(before), Some(after)) => before.is(after),
        (None, None) => true,
        _ => false,
    };
    if same || slot.hooked.replace(true) {
        return;
    }
    panic::swallow(|| Value::notify(before, after));
    slot.hooked.set(false);
}
