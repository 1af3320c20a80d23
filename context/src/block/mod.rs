//! A flat table of bindings: one allocation, copied on write.
//!
//! # The problem
//!
//! Setting one variable in a shared table of N copies the table. Copying N words is cheap (a few nanoseconds for 32);
//! counting N values up, and later down, is not: two atomic operations each, ten times the copy. Chaining the new table
//! to the old one would avoid the counting, but keep every value alive that the new table has replaced.
//!
//! # Counting exceptions
//!
//! A table is a *root* or *derived*. A root owns one count on each of its values. A derived table owns counts only on
//! what it has changed; everything else it *borrows* from one root (never from a derived table, so there are no
//! chains). The root counts its borrowers **once**, and per entry only the **exceptions**: the borrowers that do
//! not use that entry.
//!
//! ```text
//!   root R            A  B  C  D      handles: who uses R as it is
//!   derived from R    A  B' C  D      R.borrowers = 2
//!   derived from R    A  B  C  D'     R.skipped   = 0  1  0  1
//!
//!   entry i of R is in use   ⇔   handles > 0   or   borrowers > skipped[i]
//! ```
//!
//! So a copy costs the words, plus one short critical section on the root, whatever N is; and a value still goes at
//! the moment when the last table that *shows* it goes.
//!
//! # The protocol
//!
//! `handles` is atomic; `borrowers`, `skipped` and `retired` are guarded by the root's spin lock.
//!
//! ```text
//!  derive (by a handle of R, or of a table derived from R)
//!    D1  copy the words; count up only what the new table owns
//!    D2  lock R;  borrowers += 1;  skipped[i] += 1 for every entry not used;  unlock
//!  drop of the last handle of R
//!    H1  handles: 1 → 0 (release), then acquire
//!    H2  never lent: free R and all its values. No lock: nobody can come any more.
//!    H3  else lock R;  retired = true;  borrowers = 0: free R;  else drop entries with skipped[i] = borrowers;  unlock
//!  drop of the last handle of a derived table
//!    B1  lock R;  borrowers -= 1;  skipped[i] -= 1 for what it did not use
//!    B2  retired and borrowers = 0: free R;  retired: drop entries with skipped[i] = borrowers;  unlock
//! ```
//!
//! Why nothing is freed twice or too early: who derives holds a handle, or a derived table that itself counts as a
//! borrower using at least the entries copied; so while D1 and D2 run, every entry copied is in use. Entries are dropped
//! only under the lock, only after H3 (`handles` cannot rise from zero), and their place is emptied there.
//!
//! Why nothing is kept too long: `handles > 0` ends at H3, which looks at every entry; afterwards an entry's use
//! can end only in B1 or when a borrower stops using it in place ([`Block::write`]), and both look.
//!
//! Why R is freed once: by H2 alone, or by whoever finds `retired` and `borrowers = 0` under the lock; the unlock is
//! everybody else's last access.
//!
//! Destructors never run under the lock: a [hold](crate::reaper::hold) collects the values.
//!
//! # Lookup
//!
//! Open addressing by the variable's dense id, so that a context of the first N variables has no collisions at all. A
//! key is never further than `reach` places from home, so an absent one is answered by `reach + 1` looks (mostly one).

mod ledger;
#[cfg(all(test, loom))]
mod models;
mod table;

use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use crate::reaper;
use crate::storage::{Entry, Id, Lookup};
use crate::util::sync::atomic::AtomicUsize;
use crate::util::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::util::sync::weakened;
use crate::value::Value;
use ledger::Ledger;
use table::{HIDDEN, Places, REACH, Slot, Table};
pub(crate) use table::{Head, Home, Kind, PLACES_MAX};

/// How many counts a copy takes rather than become a borrower.
///
/// Two critical sections cost about as much as counting three values up and down (`benches`, row `set` at 4 variables).
///
/// Models have few variables, and are to lend.
const COUNT_DIRECTLY: usize = if cfg!(loom) { 1 } else { 3 };

/// How many changed entries a derived table of `bound` bindings may have if a copy of it is to be derived too.
///
/// A copy of a derived table counts what that table has changed; beyond the limit it counts everything, and is a root
/// again. A quarter keeps both the average and the worst of a chain of copies low (`benches`, row `set`, column "built
/// by `with`"). A context built by `set` is a root from the start.
fn changed_max(bound: usize) -> usize {
    (bound / 4).max(2)
}

/// A handle of a flat table.
#[repr(transparent)]
pub(crate) struct Block(NonNull<Table>);

// SAFETY: a table is shared immutably; what changes in a shared one (the count, the book, retired places) is atomic or
// under its lock; values are `Send + Sync`.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

impl Block {
    /// A table of one binding.
    pub(crate) fn single(id: Id, entry: Entry) -> Block {
        let flags = entry.flags();
        Block(Table::single(flags, Slot::new(id, entry)))
    }

    pub(crate) fn into_head(self) -> NonNull<Head> {
        let head = self.0.cast();
        std::mem::forget(self);
        head
    }

    /// # Safety
    /// `head` came from [`into_head`](Self::into_head); this call takes over its handle.
    pub(crate) unsafe fn from_head(head: NonNull<Head>) -> Block {
        Block(head.cast())
    }

    #[inline]
    pub(crate) fn head(&self) -> &Head {
        // SAFETY: a handle keeps the table alive; heads change only through unique handles.
        unsafe { &(*self.0.as_ptr()).head }
    }

    /// # Safety
    /// `head` begins a flat table that stays alive, with its bindings, as long as the answer is used.
    #[inline]
    pub(crate) unsafe fn lookup_at<'a>(head: NonNull<Head>, id: Id) -> Lookup<'a> {
        let table = head.cast::<Table>();
        // SAFETY: alive, and a shared table's keys and values stay as they are.
        unsafe {
            let home = &*Table::slot(table, id.home() & head.as_ref().mask as usize);
            if home.key == id.key() {
                return home.lookup();
            }
            if head.as_ref().reach == 0 {
                return Lookup::Absent;
            }
            match Table::find(table, id) {
                None => Lookup::Absent,
                Some(place) => (*Table::slot(table, place)).lookup(),
            }
        }
    }

    /// What one look at home says.
    ///
    /// # Safety
    /// As above.
    #[inline(always)]
    pub(crate) unsafe fn home_at<'a>(head: NonNull<Head>, id: Id) -> Home<'a> {
        // SAFETY: as above; masked, so a place of this table.
        unsafe {
            let place = id.home() & head.as_ref().mask as usize;
            (*Table::slot(head.cast(), place)).home(id, head.as_ref().reach)
        }
    }

    pub(crate) fn lookup(&self, id: Id) -> Lookup<'_> {
        // SAFETY: the handle keeps the table and what it shows alive.
        unsafe { Block::lookup_at(self.0.cast(), id) }
    }

    /// Everything in here that is bound or hidden.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Id, Lookup<'_>)> {
        (0..self.places()).filter_map(|place| {
            let slot = self.slot(place);
            // SAFETY: the handle keeps what the table shows alive.
            match unsafe { slot.lookup() } {
                Lookup::Absent => None,
                shown => Some((slot.id(), shown)),
            }
        })
    }

    fn places(&self) -> usize {
        self.head().mask as usize + 1
    }

    #[inline]
    fn slot(&self, place: usize) -> Slot {
        debug_assert!(place < self.places());
        // SAFETY: a place of this table, which nobody changes while there is a handle but the unique owner.
        unsafe { *Table::slot(self.0, place) }
    }

    fn ledger(&self) -> &Ledger {
        // SAFETY: a handle keeps the table alive.
        unsafe { &(*self.0.as_ptr()).ledger }
    }

    /// Whether this handle is the only access to the table, lookups of borrowers included.
    fn is_unique(&self) -> bool {
        // Pairs with the release decrement in `drop`: what other handles read happens before what we write.
        if self.head().handles.load(if weakened("look of the only handle") { Relaxed } else { Acquire }) != 1
        {
            return false;
        }
        if !self.ledger().lent.load(Relaxed) {
            return true;
        }
        self.ledger().lock();
        // SAFETY: a root (only roots lend), locked.
        let free = unsafe { Table::book(self.0) }.borrowers == 0;
        self.ledger().unlock();
        if free {
            // No handle but ours, no borrower: nobody can set it meanwhile.
            self.ledger().lent.store(false, Relaxed);
        }
        free
    }

    /// Copies the table with one entry changed.
    pub(crate) fn with(&self, id: Id, entry: Entry) -> Block {
        if matches!(entry, Entry::Absent) && matches!(self.lookup(id), Lookup::Absent) {
            return self.clone();
        }
        // Nothing of what is here is to be in the copy.
        if self.head().shown <= 1
            && !matches!(entry, Entry::Absent)
            && self.slots().all(|slot| slot.key == id.key() || slot.value.is_null())
        {
            return Block::single(id, entry);
        }
        let root = match self.root() {
            None => (self.head().bound as usize > COUNT_DIRECTLY + 1).then_some(self.0),
            root => root.filter(|_| self.own().len() <= changed_max(self.head().bound as usize)),
        };
        let flags = self.head().flags | entry.flags();
        match root {
            Some(root) => self.derive(root, flags, Slot::new(id, entry)),
            None => self.count_all(flags, Slot::new(id, entry)),
        }
    }

    /// A root with the same entries but one.
    fn count_all(&self, flags: u8, changed: Slot) -> Block {
        let mut copy = Block(Table::copy(self, flags, None));
        for place in 0..copy.places() {
            let slot = copy.slot(place);
            // SAFETY: `copy` is this thread's alone; what it shows is kept alive by `self`.
            unsafe {
                if slot.value.is_null() || slot.key == changed.key {
                    copy.count(slot, Slot::FREE);
                    *Table::slot(copy.0, place) = Slot::FREE;
                } else {
                    std::mem::forget(slot.entry());
                    (*copy.0.as_ptr()).own.insert(place);
                }
            }
        }
        if !changed.value.is_null() {
            copy.insert(changed);
        }
        copy
    }

    /// Steps D1 and D2 of the protocol.
    fn derive(&self, root: NonNull<Table>, flags: u8, changed: Slot) -> Block {
        let place = self.find(changed.id());
        // Until D2 the copy is not in its root's book, and must not be dropped as if it were.
        let mut copy = ManuallyDrop::new(Block(Table::copy(self, flags, Some(root))));
        // D1.
        // SAFETY: `copy` is this thread's alone; what it shows is kept alive by `self`.
        unsafe {
            if self.0 != root {
                self.own().for_each(|place| {
                    let slot = copy.slot(place);
                    if slot.is_bound() && slot.key != changed.key {
                        std::mem::forget(slot.entry());
                    }
                    (*copy.0.as_ptr()).own.insert(place);
                });
            }
            match place {
                Some(place) => copy.replace(place, changed),
                None => copy.insert(changed),
            }
            // D2.
            root.as_ref().ledger.lock();
            root.as_ref().ledger.lent.store(true, Relaxed);
            copy.enter_in_book(root, 1);
            root.as_ref().ledger.unlock();
        }
        ManuallyDrop::into_inner(copy)
    }

    /// Overwrites a place of a table that is this thread's alone; what was there is the caller's to have dealt with.
    fn replace(&mut self, place: usize, slot: Slot) {
        let before = self.slot(place);
        self.count(before, slot);
        // SAFETY: this thread's alone (contract of the callers, all in this file).
        unsafe {
            *Table::slot(self.0, place) = slot;
            (*self.0.as_ptr()).own.insert(place);
        }
    }

    /// Adds this derived table to its root's book (`by` = 1), or takes it out (`by` = -1).
    ///
    /// # Safety
    /// `root` is this table's root, locked by this thread.
    unsafe fn enter_in_book(&self, root: NonNull<Table>, by: i32) {
        // SAFETY: locked.
        unsafe {
            let change = |count: &mut u32| match count.checked_add_signed(by) {
                Some(changed) => *count = changed,
                // Four billion tables do not fit in memory: a book gone wrong must not go on.
                None => std::process::abort(),
            };
            change(&mut Table::book(root).borrowers);
            self.own().for_each(|place| {
                if let Some(place) = Table::find(root, self.slot(place).id()) {
                    change(Table::skipped(root, place));
                }
            });
        }
    }

    fn root(&self) -> Option<NonNull<Table>> {
        // SAFETY: a handle keeps the table alive; the field never changes.
        unsafe { (*self.0.as_ptr()).root }
    }

    fn own(&self) -> &Places {
        // SAFETY: a handle keeps the table alive; the set changes only through a unique handle.
        unsafe { &(*self.0.as_ptr()).own }
    }

    fn find(&self, id: Id) -> Option<usize> {
        // SAFETY: alive; keys change only through a unique handle.
        unsafe { Table::find(self.0, id) }
    }

    /// The occupied slots, tombstones included.
    fn slots(&self) -> impl Iterator<Item = Slot> + Clone + '_ {
        (0..self.places()).map(|place| self.slot(place)).filter(|slot| slot.key != 0)
    }

    fn count(&mut self, before: Slot, after: Slot) {
        // SAFETY: called for tables that are this thread's alone.
        let head = unsafe { &mut (*self.0.as_ptr()).head };
        head.bound = head.bound + u32::from(after.is_bound()) - u32::from(before.is_bound());
        head.shown = head.shown + u32::from(!after.value.is_null()) - u32::from(!before.value.is_null());
    }

    /// Puts a new key, owned, into a table that is this thread's alone; grows by moving to a larger table.
    fn insert(&mut self, slot: Slot) {
        self.count(Slot::FREE, slot);
        // SAFETY: this thread's alone (contract of the callers, all in this file).
        if unsafe { Table::insert(self.0, slot, true, 0) } {
            return;
        }
        let used = self.slots().count() + 1;
        let mut places = used.next_power_of_two().max(self.places()).min(PLACES_MAX);
        loop {
            // Every key at home, if twice the room is enough for that: then an absent one costs one look. Ids that all
            // have one home must be far from home sooner or later.
            let reach = match places {
                PLACES_MAX => places,
                _ if places > 4 * used => places,
                _ if places > 2 * used => REACH,
                _ => 0,
            };
            // SAFETY: as above.
            if places == self.places() && unsafe { Table::insert(self.0, slot, true, reach) } {
                return;
            }
            if let Some(table) = self.moved(places, slot, reach) {
                // SAFETY: this thread's alone; what it had counts on has moved.
                unsafe { Table::free(self.0) };
                self.0 = table;
                return;
            }
            places = (places * 2).min(PLACES_MAX);
        }
    }

    /// A table of that many places with the slots of this one and `further`, if they fit.
    fn moved(&self, places: usize, further: Slot, reach: usize) -> Option<NonNull<Table>> {
        let from = self.head();
        let table = Table::allocate(from.kind, from.flags, places, self.root());
        let slots = (0..self.places()).map(|place| (self.slot(place), self.own().contains(place)));
        // SAFETY: fresh, so this thread's alone. On failure the slots' counts are still the smaller table's.
        unsafe {
            for (slot, owned) in slots.filter(|(slot, _)| slot.key != 0).chain([(further, true)]) {
                if !Table::insert(table, slot, owned, reach) {
                    Table::free(table);
                    return None;
                }
            }
            (*table.as_ptr()).head.bound = from.bound;
            (*table.as_ptr()).head.shown = from.shown;
        }
        Some(table)
    }

    /// Changes one entry, in place if no other handle and no borrower can tell, else in a copy that takes this handle's
    /// place. Returns what was there, with a count of its own, if `wanted`.
    ///
    /// No user code runs if the caller holds a [hold](reaper::hold).
    pub(crate) fn write(&mut self, id: Id, entry: Entry, wanted: bool) -> Entry {
        if !self.is_unique() {
            let previous = if wanted { self.lookup(id).entry() } else { Entry::Absent };
            let copy = self.with(id, entry);
            drop(std::mem::replace(self, copy));
            return previous;
        }
        // SAFETY: unique.
        unsafe { (*self.0.as_ptr()).head.flags |= entry.flags() };
        let slot = Slot::new(id, entry);
        let Some(place) = self.find(id) else {
            if !slot.value.is_null() {
                self.insert(slot);
            }
            return Entry::Absent;
        };
        let before = self.slot(place);
        if !self.own().contains(place) {
            // Borrowed so far. What was shown is counted before it may go.
            // SAFETY: shown until now, so alive.
            let previous = if wanted { unsafe { before.entry() } } else { Entry::Absent };
            self.replace(place, slot);
            let root = self.root().expect("only derived tables borrow");
            let _hold = reaper::hold();
            // SAFETY: the root outlives its borrowers, and is locked.
            unsafe {
                root.as_ref().ledger.lock();
                if let Some(place) = Table::find(root, id) {
                    *Table::skipped(root, place) += 1;
                }
                close(root);
            }
            return previous;
        }
        self.replace(place, slot);
        // SAFETY: unique, so the slot is ours to change; the root outlives its borrowers.
        unsafe {
            // Only what the root has must be remembered when it is lost.
            if slot.value.is_null() && self.root().is_none_or(|root| Table::find(root, id).is_none()) {
                *Table::slot(self.0, place) = Slot::FREE;
                (*self.0.as_ptr()).own.remove(place);
            }
        }
        match NonNull::new(before.value) {
            None => Entry::Absent,
            Some(value) if value.as_ptr() == HIDDEN => Entry::Hidden,
            // SAFETY: the place had a count, which has left the table.
            Some(value) => Entry::Bound(unsafe { Value::from_raw(value) }),
        }
    }
}

impl Clone for Block {
    fn clone(&self) -> Block {
        retain(&self.head().handles, 1);
        Block(self.0)
    }
}

/// Counts handles up.
#[inline]
pub(crate) fn retain(handles: &AtomicUsize, by: usize) {
    if handles.fetch_add(by, Relaxed) > isize::MAX as usize {
        std::process::abort();
    }
}

/// Counts one handle down; true for the last.
#[inline]
pub(crate) fn release(handles: &AtomicUsize) -> bool {
    // Pairs with the acquire load, and with the one in `is_unique`: all use of the table happens before its end. (No look first
    // whether it is the only one: where several workers count, that is one more time that the line comes over.)
    if handles.fetch_sub(1, if weakened("release of a handle") { Relaxed } else { Release }) != 1 {
        return false;
    }
    handles.load(Acquire);
    true
}

impl Drop for Block {
    #[inline]
    fn drop(&mut self) {
        // H1.
        if release(&self.head().handles) {
            // SAFETY: the last handle.
            unsafe { end(self.0.cast()) }
        }
    }
}

/// What the last handle leaves behind.
///
/// # Safety
/// There is no handle any more.
pub(crate) unsafe fn end(head: NonNull<Head>) {
    let table = head.cast::<Table>();
    #[cfg(loom)]
    if std::thread::panicking() {
        // A model that has failed, perhaps while it had the lock: leave everything as it is.
        return;
    }
    let _hold = reaper::hold();
    // SAFETY: no handle; borrowers are looked at under the lock, see the protocol.
    unsafe {
        match table.as_ref().root {
            // H2.
            None if !table.as_ref().ledger.lent.load(Relaxed) => Table::free_with_values(table),
            // H3.
            None => {
                table.as_ref().ledger.lock();
                Table::book(table).retired = true;
                close(table);
            }
            Some(root) => {
                // B1.
                root.as_ref().ledger.lock();
                ManuallyDrop::new(Block(table)).enter_in_book(root, -1);
                // B2.
                close(root);
                Table::free_with_values(table);
            }
        }
    }
}

/// Ends a critical section in which uses of a root have ended.
///
/// # Safety
/// `root` is a root locked by this thread, which does not use it afterwards; a hold is alive.
unsafe fn close(root: NonNull<Table>) {
    // SAFETY: locked.
    unsafe {
        let book = Table::book(root);
        if book.retired && book.borrowers == 0 {
            return Table::free_with_values(root);
        }
        if book.retired && !weakened("sweep") {
            Table::sweep(root);
        }
        root.as_ref().ledger.unlock();
    }
}
