//! A set of bindings in one word: nothing, a flat table, or a persistent map of flat tables.
//!
//! | bindings | what the word points to | a copy with one change costs |
//! | --- | --- | --- |
//! | none | nothing | – |
//! | up to [`FLAT_MAX`] | a [flat table](flat) | its words |
//! | more | a map of [**pages**](pages) | one page, and the map's path to it |
//!
//! The map is one from the upper bits of the id to pages; a page is a flat table.
//!
//! Equal words are equal bindings. Whether a change happens in place or in a copy is decided here
//! and in [`flat`], by who else can see it; no module above can tell.

mod entry;
pub(crate) mod flat;
mod pages;

use std::iter::Peekable;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

pub(crate) use entry::{Entry, Found, Id, Lookup};
use flat::{FLAT_MAX, FlatTable, Header, Kind, Unfilled};
use pages::Pages;

use crate::util::switches;
use crate::util::sync::atomic::Ordering::Acquire;
use crate::value::{SPECIAL, Value, WATCHED, reaper};

/// The bits of an id that are looked up inside a page of a large context.
const PAGE_BITS: u32 = 6;

const _: () = assert!(FLAT_MAX <= flat::BUCKETS_MAX / 2 && 1 << PAGE_BITS <= flat::BUCKETS_MAX / 2);

/// The number of the page of a large context in which a variable stands.
fn page_of(id: Id) -> usize {
    (id.key() >> PAGE_BITS) as usize
}

#[repr(C)]
struct Large {
    table: Unfilled,
    pages: Pages,
}

/// A handle of a set of bindings.
#[repr(transparent)]
pub(crate) struct Bindings(Option<NonNull<Header>>);

// SAFETY: it points to a `FlatTable`, or to a map of `FlatTable`s behind an atomic count, both
// `Send + Sync`.
unsafe impl Send for Bindings {}
// SAFETY: as above.
unsafe impl Sync for Bindings {}

impl Bindings {
    pub(crate) const EMPTY: Bindings = Bindings(None);

    /// Gives the handle away as a pointer; [`from_raw`](Self::from_raw) takes it back.
    #[inline]
    pub(crate) fn into_raw(self) -> *mut Header {
        ManuallyDrop::new(self).as_raw()
    }

    /// # Safety
    /// `raw` is a handle that [`into_raw`](Self::into_raw) has given away, or one of those that
    /// [`clone_at`](Self::clone_at) has counted; it moves into the answer.
    #[inline]
    pub(crate) unsafe fn from_raw(raw: *mut Header) -> Bindings {
        Bindings(NonNull::new(raw))
    }

    #[inline]
    pub(crate) fn as_raw(&self) -> *mut Header {
        self.0.map_or(std::ptr::null_mut(), NonNull::as_ptr)
    }

    #[inline]
    fn header(&self) -> Option<&Header> {
        // SAFETY: a handle keeps it alive, and headers change only through unique handles.
        self.0.map(|header| unsafe { header.as_ref() })
    }

    /// The flags of all values that are bound, and maybe of some that were.
    #[inline]
    pub(crate) fn flags(&self) -> u8 {
        self.header().map_or(0, |header| header.flags)
    }

    /// There may be variables with an `on_change` hook.
    #[inline]
    pub(crate) fn is_watched(&self) -> bool {
        self.flags() & WATCHED != 0
    }

    /// How many variables are bound.
    pub(crate) fn len(&self) -> usize {
        self.header().map_or(0, |header| header.bound as usize)
    }

    pub(crate) fn lookup(&self, id: Id) -> Lookup<'_> {
        // SAFETY: the handle keeps everything it shows alive.
        self.0.map_or(Lookup::Absent, |header| unsafe { lookup_at(header, id) })
    }

    fn large(&self) -> Option<&Large> {
        let header = self.0.filter(|_| self.header().is_some_and(|header| header.kind == Kind::Large))?;
        // SAFETY: only a `Large` has this kind; the handle keeps it alive.
        Some(unsafe { header.cast().as_ref() })
    }

    /// The flat table, if it is one.
    fn flat(&self) -> Option<ManuallyDrop<FlatTable>> {
        let header = self.0.filter(|_| self.large().is_none())?;
        // SAFETY: any other kind is a flat table's; the handle stays here.
        Some(ManuallyDrop::new(unsafe { FlatTable::from_header(header) }))
    }

    /// A copy with one entry changed; this one stays as it is.
    pub(crate) fn with(&self, id: Id, entry: Entry) -> Bindings {
        if let Some(table) = self.flat().filter(|table| fits(table, id, &entry)) {
            return Bindings(Some(table.with(id, entry).into_header()));
        }
        let mut copy = self.clone();
        copy.change(id, entry);
        copy
    }

    /// Exchanges an entry for the one that is there, if that takes nothing else; see
    /// [`FlatTable::exchange_at_home`].
    #[inline]
    pub(crate) fn exchange(&mut self, id: Id, entry: &mut Entry) -> bool {
        // SAFETY: this handle's, and it stays here; what is no flat table begins with a bucket,
        // too.
        self.0.is_some_and(|header| unsafe { FlatTable::exchange_at_home(header, id, entry) })
    }

    /// Changes one entry, and returns what was there, with a count of its own.
    ///
    /// No user code runs while the caller has a [hold](reaper::hold) until it has dropped the
    /// answer.
    pub(crate) fn write(&mut self, id: Id, entry: Entry) -> Entry {
        self.put(id, entry, true)
    }

    /// Changes one entry.
    pub(crate) fn change(&mut self, id: Id, entry: Entry) {
        drop(self.put(id, entry, false));
    }

    fn put(&mut self, id: Id, entry: Entry, wanted: bool) -> Entry {
        let Some(header) = self.0 else {
            if !matches!(entry, Entry::Absent) {
                self.0 = Some(FlatTable::single(id, entry).into_header());
            }
            return Entry::Absent;
        };
        // SAFETY: the handle keeps it alive.
        if unsafe { header.as_ref() }.kind == Kind::Large {
            return self.put_large(id, entry, wanted);
        }
        self.0 = None;
        // SAFETY: a flat table's header; the handle is put back below, whatever it points to then.
        let mut table = unsafe { FlatTable::from_header(header) };
        if fits(&table, id, &entry) {
            let previous = table.write(id, entry, wanted);
            self.0 = Some(table.into_header());
            return previous;
        }
        self.0 = Some(table.into_header());
        self.enlarge();
        self.put_large(id, entry, wanted)
    }

    /// Turns a flat table into a map of pages.
    #[cold]
    fn enlarge(&mut self) {
        let flat = self.flat().expect("a flat table");
        let mut pages = Pages::default();
        for (id, found) in flat.iter() {
            match pages.place(page_of(id)) {
                Some(page) => drop(page.write(id, found.entry(), false)),
                place => *place = Some(FlatTable::single(id, found.entry())),
            }
        }
        let Header { flags, bound, .. } = *flat.header();
        *self = Bindings::from_large(Large { table: Unfilled::new(Kind::Large, flags, bound), pages });
    }

    fn from_large(large: Large) -> Bindings {
        Bindings(Some(NonNull::from(Box::leak(Box::new(large))).cast()))
    }

    #[cold]
    fn put_large(&mut self, id: Id, entry: Entry, wanted: bool) -> Entry {
        let shared = self.large().expect("a large context");
        // Pairs with the release subtraction in `flat::release`: what other handles have read
        // happens before what this one writes.
        if shared.table.header().handles.load(Acquire) != 1 {
            let Header { flags, bound, .. } = *shared.table.header();
            let table = Unfilled::new(Kind::Large, flags, bound);
            *self = Bindings::from_large(Large { table, pages: shared.pages.clone() });
        }
        let large = self.0.expect("a large context").cast::<Large>();
        // SAFETY: a `Large`, and the only handle.
        let Large { table, pages } = unsafe { &mut *large.as_ptr() };
        let header = table.header_mut();
        header.flags |= entry.flags();
        header.bound += u32::from(matches!(entry, Entry::Bound(_)));
        let place = pages.place(page_of(id));
        let Some(page) = place else {
            if !matches!(entry, Entry::Absent) {
                *place = Some(FlatTable::single(id, entry));
            }
            return Entry::Absent;
        };
        header.bound -= u32::from(matches!(page.lookup(id), Lookup::Bound(_)));
        let previous = page.write(id, entry, wanted);
        if page.is_blank() {
            *place = None;
        }
        previous
    }

    /// Calls `f` with everything that is bound or hidden.
    pub(crate) fn for_each<'a>(&'a self, mut f: impl FnMut(Id, Lookup<'a>)) {
        if let Some(large) = self.large() {
            large.pages.iter().flat_map(FlatTable::iter).for_each(|(id, found)| f(id, found));
        } else if let Some(table) = self.flat() {
            for (id, _) in table.iter() {
                // Again, since what comes from `table` itself may not live as long as `self`.
                f(id, self.lookup(id));
            }
        }
    }

    /// The same without what is hidden, which has a meaning only in a layer.
    pub(crate) fn without_hidden(&self) -> Bindings {
        let mut bare = self.clone();
        self.for_each(|id, found| {
            if let Lookup::Hidden = found {
                bare.change(id, Entry::Absent);
            }
        });
        bare
    }

    /// What a child inherits: each variable's policy applied. Runs users' functions, so no
    /// structure of this crate may be open.
    #[inline]
    pub(crate) fn inherited(self) -> Bindings {
        if self.flags() & SPECIAL == 0 { self } else { self.inherited_each() }
    }

    fn inherited_each(self) -> Bindings {
        let mut child = self.clone();
        for (id, value) in self.entries().into_iter().filter(|(_, value)| value.is_special()) {
            child.change(id, value.inherited().map_or(Entry::Absent, Entry::Bound));
        }
        child
    }

    /// What is bound, in the order in which the variables were first used, counted for the caller.
    pub(crate) fn entries(&self) -> Vec<(Id, Value)> {
        let mut entries = Vec::with_capacity(self.len());
        self.for_each(|id, found| {
            if let Lookup::Bound(found) = found {
                entries.push((id, found.retain()));
            }
        });
        entries.sort_unstable_by_key(|(id, _)| *id);
        entries
    }

    /// What is bound in one of the two only, or to another value; in the same order.
    pub(crate) fn differences(&self, other: &Bindings) -> Vec<(Option<Value>, Option<Value>)> {
        let mut old = self.entries().into_iter().peekable();
        let mut new = other.entries().into_iter().peekable();
        let of = |id: Id, entries: &mut Peekable<std::vec::IntoIter<(Id, Value)>>| {
            entries.next_if(|(next, _)| *next == id).map(|(_, value)| value)
        };
        let mut pairs = Vec::new();
        while let Some(id) = old.peek().into_iter().chain(new.peek()).map(|(id, _)| *id).min() {
            let pair = (of(id, &mut old), of(id, &mut new));
            if !matches!(&pair, (Some(old), Some(new)) if old.is(new)) {
                pairs.push(pair);
            }
        }
        pairs
    }

    /// A further handle of the bindings that begin at `header`; empty without any.
    ///
    /// # Safety
    /// The bindings are alive.
    #[inline]
    pub(crate) unsafe fn clone_at(header: Option<NonNull<Header>>) -> Bindings {
        let Some(header) = header else { return Bindings::EMPTY };
        // SAFETY: alive by this function's contract; the handle is counted here.
        unsafe {
            flat::retain(&header.as_ref().handles, 1);
            Bindings::from_raw(header.as_ptr())
        }
    }

    /// Gives the handle up. If it was the last, destructors are left to the drop of the answer.
    #[inline]
    pub(crate) fn take_unique(self) -> Option<LastHandle> {
        let header = NonNull::new(self.into_raw())?;
        // SAFETY: alive until the count says otherwise.
        (flat::release(unsafe { &header.as_ref().handles }, 1) == 0).then(|| LastHandle(header))
    }
}

/// Whether a change leaves a flat table one.
#[inline]
fn fits(table: &FlatTable, id: Id, entry: &Entry) -> bool {
    (table.header().shown as usize) < FLAT_MAX
        || matches!(entry, Entry::Absent)
        || !matches!(table.lookup(id), Lookup::Absent)
}

/// What the home bucket of a variable says, if that decides; see [`FlatTable::lookup_at_home`].
///
/// # Safety
/// The bindings that begin at `header` are alive as long as the answer is used.
#[inline(always)]
pub(crate) unsafe fn lookup_at_home<'a>(header: NonNull<Header>, id: Id) -> Option<Option<Found<'a>>> {
    if !switches::SHORT_LOOKUP {
        return None;
    }
    // SAFETY: alive by this function's contract; what is no flat table begins with a bucket, too.
    unsafe { FlatTable::lookup_at_home(header, id) }
}

/// Looks in the bindings that begin at `header`.
///
/// # Safety
/// As above.
#[inline]
pub(crate) unsafe fn lookup_at<'a>(header: NonNull<Header>, id: Id) -> Lookup<'a> {
    // SAFETY: alive by this function's contract; only a `Large` has that kind.
    unsafe {
        if header.as_ref().kind == Kind::Large {
            let large = header.cast::<Large>().as_ref();
            return large.pages.get(page_of(id)).map_or(Lookup::Absent, |page| page.lookup(id));
        }
        FlatTable::lookup_at(header, id)
    }
}

impl Clone for Bindings {
    #[inline]
    fn clone(&self) -> Bindings {
        if let Some(header) = self.header() {
            flat::retain(&header.handles, 1);
        }
        Bindings(self.0)
    }
}

impl Drop for Bindings {
    #[inline]
    fn drop(&mut self) {
        drop(Bindings(self.0.take()).take_unique());
    }
}

/// Bindings without any handle, which end when this is dropped.
pub(crate) struct LastHandle(NonNull<Header>);

impl LastHandle {
    /// # Safety
    /// The bindings that begin at `header` are alive and have no handle any more.
    #[inline]
    pub(crate) unsafe fn of(header: NonNull<Header>) -> LastHandle {
        LastHandle(header)
    }
}

// SAFETY: as `Bindings`.
unsafe impl Send for LastHandle {}
// SAFETY: as `Bindings`.
unsafe impl Sync for LastHandle {}

impl Drop for LastHandle {
    #[cold]
    fn drop(&mut self) {
        let header = self.0;
        // SAFETY: the last handle was given up for this; only a `Large`, leaked as a box by
        // `from_large`, has that kind.
        unsafe {
            if header.as_ref().kind != Kind::Large {
                return flat::end(header);
            }
            // The pages' values go when the map is closed.
            let _hold = reaper::hold();
            drop(Box::from_raw(header.cast::<Large>().as_ptr()));
        }
    }
}
