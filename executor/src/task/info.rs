//! What is known of a task besides its future: where it was spawned, its name, its identity, why it
//! was cancelled.
//!
//! A [`TaskInfo`] is one word. It points to the `Location` of the spawn, which is static; or,
//! tagged by [`EXTRA`], to a boxed [`Extra`] with everything. The word of a `Location` may be
//! tagged by [`ABORTED`]. The box is made when something is to be stored that the word has no room
//! for: a name, an identity that is asked for, a reason. Most tasks have none of them, and allocate
//! nothing. A task of a runtime that is inspected has a box with a [`Record`] from the start; its
//! word is tagged by [`RECORDED`] besides.

use std::any::Any;
use std::borrow::Cow;
use std::panic::Location;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use super::id::Id;
use super::record::{self, Record};
use crate::task::join_handle::CancelReason;
use crate::util::panic::swallow;
use crate::util::tagged::Tagged;

type SpawnedAt = &'static Location<'static>;

pub(crate) struct TaskInfo(AtomicPtr<Extra>);

struct Extra {
    spawned_at: SpawnedAt,
    name: Option<Cow<'static, str>>,
    id: Id,
    reason: OnceLock<CancelReason>,
    /// What a hook keeps for the task.
    slot: OnceLock<Box<dyn Any + Send + Sync>>,
}

/// An [`Extra`] with a record behind it.
#[repr(C)]
struct WithRecord {
    extra: Extra,
    record: Record,
}

/// Tag: the word points to an `Extra`.
const EXTRA: usize = 1;
/// Tag of a word that points to a `Location`: the task was aborted before any other reason was
/// stored.
const ABORTED: usize = 2;
/// Tag of a word that has the tag `EXTRA`: it points to a `WithRecord`.
const RECORDED: usize = 2;
/// The word: an `Extra`, or the location where the task was spawned.
type Word = Tagged<Extra, 2>;

impl TaskInfo {
    #[inline]
    pub(crate) fn new(spawned_at: SpawnedAt, name: Option<Cow<'static, str>>) -> TaskInfo {
        TaskInfo(AtomicPtr::new(match name {
            None => Extra::word_of(spawned_at).into_raw(),
            Some(_) => {
                Extra { spawned_at, name, id: Id::next(), reason: OnceLock::new(), slot: OnceLock::new() }
                    .into_word()
            }
        }))
    }

    /// Adds the record, before another thread knows of the task.
    pub(crate) fn add_record(&mut self, record: Record) {
        self.extra_or_alloc();
        let word = Word::from_raw(*self.0.get_mut());
        // SAFETY: made by `into_word`, since there was no record; the word is replaced below.
        let extra = *unsafe { Box::from_raw(word.ptr()) };
        let recorded = Box::into_raw(Box::new(WithRecord { extra, record }));
        *self.0.get_mut() = Word::new(recorded.cast(), EXTRA | RECORDED).into_raw();
    }

    /// The record, if the task's runtime is inspected.
    #[inline]
    pub(crate) fn record(&self) -> Option<&Record> {
        if !record::is_any() {
            return None;
        }
        // Relaxed: the tag is there from the start, or never.
        let word = Word::from_raw(self.0.load(Relaxed));
        if word.flags() != EXTRA | RECORDED {
            return None;
        }
        // SAFETY: with both tags it is a box of `add_record`, which `drop` frees.
        Some(unsafe { &(*word.ptr().cast::<WithRecord>()).record })
    }

    fn extra(&self) -> Result<&Extra, SpawnedAt> {
        // Pairs with the release in `extra_or_alloc`. SAFETY: a word with the tag `EXTRA` never
        // changes again, and its box lives as long as `self`.
        unsafe { Extra::of_word(self.0.load(Acquire)) }
    }

    /// The box, which is made if there is none.
    #[cold]
    fn extra_or_alloc(&self) -> &Extra {
        let mut word = self.0.load(Acquire);
        // SAFETY: as in `extra`.
        while let Err(spawned_at) = unsafe { Extra::of_word(word) } {
            let reason = if Word::from_raw(word).has(ABORTED) {
                OnceLock::from(CancelReason::Aborted)
            } else {
                OnceLock::new()
            };
            let extra =
                Extra { spawned_at, name: None, id: Id::next(), reason, slot: OnceLock::new() }.into_word();
            // Releases the contents of the box to the acquire loads of the word.
            match self.0.compare_exchange(word, extra, AcqRel, Acquire) {
                Ok(_) => word = extra,
                Err(changed) => {
                    // Another thread was first, with a box of its own or with the tag `ABORTED`.
                    // SAFETY: made by `into_word` above, and never stored.
                    unsafe { Extra::free(extra) }
                    word = changed;
                }
            }
        }
        // SAFETY: as in `extra`; the loop has ended with a word that has the tag.
        unsafe { Extra::of_word(word) }.unwrap_or_else(|_| unreachable!("not a location"))
    }

    /// The task's identity, made by the first call.
    pub(crate) fn id(&self) -> Id {
        self.extra().unwrap_or_else(|_| self.extra_or_alloc()).id
    }

    /// What a hook keeps for the task, made by the first call. `None` if that is of another type.
    pub(crate) fn slot<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Option<&T> {
        let extra = self.extra().unwrap_or_else(|_| self.extra_or_alloc());
        extra.slot.get_or_init(|| Box::new(make())).downcast_ref()
    }

    pub(crate) fn spawned_at(&self) -> SpawnedAt {
        self.extra().map_or_else(|spawned_at| spawned_at, |extra| extra.spawned_at)
    }

    pub(crate) fn name(&self) -> Option<&Cow<'static, str>> {
        self.extra().ok()?.name.as_ref()
    }

    /// The task in a report: its name, else its identity, and where it was spawned.
    #[cold]
    pub(crate) fn describe(&self) -> String {
        let place = self.spawned_at();
        match self.name() {
            Some(name) => format!("task `{name}`, spawned at {place}"),
            None => format!("task {}, spawned at {place}", self.id()),
        }
    }

    /// Why the task was cancelled: the first reason that was stored, or an abort.
    pub(crate) fn reason(&self) -> CancelReason {
        let reason = self.extra().ok().and_then(|extra| extra.reason.get());
        reason.cloned().unwrap_or(CancelReason::Aborted)
    }

    /// Stores an abort as the reason, if there is none.
    pub(crate) fn set_aborted(&self) {
        let abort = |extra: &Extra| drop(extra.reason.set(CancelReason::Aborted));
        match self.extra() {
            Ok(extra) => abort(extra),
            Err(spawned_at) => {
                let untagged = Extra::word_of(spawned_at);
                let aborted = untagged.with(ABORTED).into_raw();
                // The tag publishes nothing; a failure pairs with the release in `extra_or_alloc`.
                // It fails if the word has the tag already, or points to a box by now.
                if let Err(changed) = self.0.compare_exchange(untagged.into_raw(), aborted, AcqRel, Acquire) {
                    // SAFETY: as in `extra`.
                    let _ = unsafe { Extra::of_word(changed) }.map(abort);
                }
            }
        }
    }

    /// Stores the reason, if there is none.
    pub(crate) fn set_reason(&self, reason: CancelReason) {
        drop(self.extra_or_alloc().reason.set(reason));
    }
}

/// A destructor in the slot is the user's, and a task's memory is freed by any thread.
impl Drop for Extra {
    fn drop(&mut self) {
        let slot = self.slot.take();
        swallow(|| drop(slot));
    }
}

impl Extra {
    /// What a word points to.
    ///
    /// # Safety
    /// The word is that of a `TaskInfo` that lives for `'a`.
    unsafe fn of_word<'a>(word: *mut Extra) -> Result<&'a Extra, SpawnedAt> {
        let word = Word::from_raw(word);
        let pointer = word.ptr();
        // SAFETY: with the tag `EXTRA` it is a box of `into_word`, or one of `add_record` that
        // begins with an `Extra`, which `TaskInfo::drop` frees; without, it is a static.
        unsafe { if word.has(EXTRA) { Ok(&*pointer) } else { Err(&*pointer.cast()) } }
    }

    fn into_word(self) -> *mut Extra {
        Word::new(Box::into_raw(Box::new(self)), EXTRA).into_raw()
    }

    fn word_of(spawned_at: SpawnedAt) -> Word {
        Tagged::<Location<'static>, 2>::new(ptr::from_ref(spawned_at).cast_mut(), 0).cast()
    }

    /// # Safety
    /// The word was made by `into_word` or `add_record`, is freed once, and no reference to its box
    /// is left.
    unsafe fn free(word: *mut Extra) {
        let word = Word::from_raw(word);
        // SAFETY: the address without the tags is the one that `Box::into_raw` returned in
        // `add_record`, where the word has got both tags, or in `into_word`.
        unsafe {
            if word.has(RECORDED) {
                drop(Box::from_raw(word.ptr().cast::<WithRecord>()));
            } else {
                drop(Box::from_raw(word.ptr()));
            }
        }
    }
}

impl Drop for TaskInfo {
    fn drop(&mut self) {
        let word = *self.0.get_mut();
        if Word::from_raw(word).has(EXTRA) {
            // SAFETY: references to the box borrow `self`, which is borrowed mutably here and has
            // no second drop.
            unsafe { Extra::free(word) }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::thread;

    use super::*;

    fn info() -> TaskInfo {
        TaskInfo::new(Location::caller(), None)
    }

    #[test]
    fn an_identity_stays_when_more_is_stored() {
        let (one, other) = (info(), info());
        let id = one.id();
        assert_ne!(id, other.id());
        one.set_reason(CancelReason::Shutdown);
        one.set_aborted();
        assert_eq!((one.id(), one.reason()), (id, CancelReason::Shutdown));
        assert_eq!(one.spawned_at().file(), file!());
    }

    #[test]
    fn an_abort_stays_the_first_reason_when_the_identity_is_asked_for() {
        let (before, after) = (info(), info());
        let id = before.id();
        before.set_aborted();
        after.set_aborted();
        assert_ne!(after.id(), id);
        for info in [before, after] {
            info.set_reason(CancelReason::Shutdown);
            assert_eq!(info.reason(), CancelReason::Aborted);
        }
    }

    #[test]
    fn threads_that_ask_at_once_get_the_same_identity_and_the_same_reason() {
        for _ in 0..if cfg!(miri) { 8 } else { 500 } {
            let info = info();
            let answers = thread::scope(|scope| {
                let aborts = scope.spawn(|| {
                    info.set_aborted();
                    info.set_reason(CancelReason::Shutdown);
                    (info.id(), info.reason())
                });
                let asks = scope.spawn(|| (info.id(), CancelReason::Aborted));
                [aborts.join().unwrap(), asks.join().unwrap()]
            });
            assert_eq!(answers[0], answers[1]);
            assert_eq!(answers[0], (info.id(), info.reason()));
        }
    }
}
