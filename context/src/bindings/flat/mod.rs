//! A flat table of bindings: one allocation, copied on write.
//!
//! # The problem
//!
//! Setting one variable in a shared table of N copies the table. Copying N words is cheap (a few
//! nanoseconds for 32). Counting N values up, and later down, is not: two atomic operations each,
//! ten times the copy. Chaining the new table to the old one would avoid the counting, but keep
//! every value alive that the new table has replaced.
//!
//! # Terms
//!
//! * A **handle** is a [`FlatTable`]: one counted reference to a table.
//! * A **root** owns one count on each of its values.
//! * A **derived table** owns counts on what it has changed, and borrows all other entries from one
//!   root. It never borrows from a derived table, so there are no chains.
//! * The **borrowers** of a root are the tables derived from it.
//! * A table **uses** an entry of its root if it shows that entry, and has not replaced it.
//! * An **exception** is a borrower that does not use an entry. Each root counts its borrowers
//!   once, and per bucket the exceptions: [`unused_by`](Table::unused_by).
//!
//! ```text
//!   root R            A  B  C  D      handles: R used as it is
//!   derived from R    A  B' C  D      R.borrowers = 2
//!   derived from R    A  B  C  D'     R.unused_by = 0  1  0  1
//!
//!   entry i of R is in use   ⇔   handles > 0   or   borrowers > unused_by[i]
//! ```
//!
//! So a copy costs the words, and one short critical section on the root, whatever N is. A value
//! still goes at the moment when the last table that *shows* it goes.
//!
//! # States of a root
//!
//! * **Live**: there are handles. All its entries are in use.
//! * **Retired**: the last handle is gone, and there are borrowers. An entry goes when every
//!   borrower is an exception of it.
//! * **Freed**: no handle and no borrower.
//!
//! `handles` is atomic. `borrowers`, `unused_by` and `retired` are guarded by the root's spin lock.
//!
//! # Transitions
//!
//! * **D1**, R, or a table derived from R, is copied with a change: [`FlatTable::derive`]. Copy the
//!   words; count up what the new table owns.
//! * **D2**, the copy is made: [`FlatTable::derive`]. Lock R; `borrowers += 1`; `unused_by[i] += 1`
//!   for each entry not used; unlock.
//! * **WR1**, a borrower replaces a borrowed entry in place: [`FlatTable::write`]. Lock R;
//!   `unused_by[i] += 1`; then E.
//! * **D3**, the only handle finds under the lock that `borrowers = 0`: [`FlatTable::is_unique`].
//!   The root counts as one that was never borrowed from, and is changed in place.
//! * **H1**, a handle of a root goes: [`release`]. `handles -= 1` (release); the last one acquires.
//! * **H2**, the last handle of a root goes, which has no borrower as far as its owners have
//!   noticed (none ever, or D3): [`end`]. Free R and all its values, without the lock: no further
//!   access can begin.
//! * **H3**, the last handle of any other root goes: [`end`]. Lock R; `retired = true`; then E.
//! * **B1**, the last handle of a derived table goes: [`end`]. Lock R; `borrowers -= 1`;
//!   `unused_by[i] -= 1` for each entry not used; then E; free the table.
//! * **E**, the critical section of WR1, H3 or B1 ends: [`close`]. If R is retired: free it if
//!   `borrowers = 0`, else give up each entry with `unused_by[i] = borrowers`; unlock.
//!
//! # Why nothing is lost
//!
//! **Nothing is freed too early.** The thread in D1 and D2 has a handle, or a derived table that is
//! itself counted as a borrower and uses at least the entries that are copied. So every entry
//! copied is in use from D1 to D2. Entries go only in E, under the lock, and only after H3, since
//! `handles` cannot rise from zero; their buckets are emptied there.
//!
//! **Nothing is kept too long.** `handles > 0` ends in H3, which looks at every entry. After that,
//! the use of an entry can end only in B1 and WR1, and both look.
//!
//! **R is freed once**: by H2 alone, or by the thread that finds `retired` and `borrowers = 0`
//! under the lock. For all other threads the unlock was the last access.
//!
//! Destructors never run under the lock: a [hold](reaper::hold) collects the values.
//!
//! # Lookup
//!
//! Open addressing by the variable's dense id, so that a context of the first N variables has no
//! collisions at all. A key is never further than `max_probe` buckets from its home, so an absent
//! one is answered by `max_probe + 1` looks (mostly one). The home bucket mostly decides, and a
//! look at it need not ask what kind of bindings it is: those of another kind begin with an
//! [`Unfilled`] table, whose bucket never decides.

mod borrow_count;
#[cfg(all(test, loom))]
mod models;
mod table;

use std::mem::{self, ManuallyDrop};
use std::ptr::NonNull;

use super::entry::{Entry, Found, Id, Lookup};
use crate::util::switches;
use crate::util::sync::atomic::AtomicUsize;
use crate::util::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::util::sync::weakened;
use crate::value::reaper;
pub(crate) use table::{BUCKETS_MAX, Header, Kind, Unfilled};
use table::{Bucket, BucketSet, Table, USUAL_PROBE};

/// How many bindings one flat table holds at most.
///
/// `cargo run --profile measured -p heirloom-benches --bin threshold`, a set into a shared snapshot
/// in ratio to imbl's: flat 0.40 at 16 bindings, 0.31 at 32, 0.30 at 64; as a map of flat tables
/// 0.52 at 128, 0.50 at 256, 0.60 at 1,024. A flat table of 128 would do with 0.38, but each
/// further snapshot would hold four kilobytes, and a table would have no room to remember, in the
/// worst case, 128 removals besides.
pub(crate) const FLAT_MAX: usize = 64;

/// How many counts a copy takes rather than become a borrower.
///
/// Two critical sections cost about as much as counting three values up and down (`benches`, row
/// `set` at 4 variables). Models have few variables, and are to borrow.
const COUNT_DIRECTLY: usize = if cfg!(loom) { 1 } else { 3 };

/// How many changed entries a derived table of `bound` bindings may have if a copy of it is to be
/// derived too.
///
/// A copy of a derived table counts what that table has changed; beyond the limit it counts
/// everything, and is a root again. A quarter keeps both the average and the worst of a chain of
/// copies low (`benches`, row `set`, column "built by `with`"). A context built by `set` is a root
/// from the start.
fn changed_max(bound: usize) -> usize {
    (bound / 4).max(2)
}

/// A handle of a flat table.
#[repr(transparent)]
pub(crate) struct FlatTable(NonNull<Table>);

// SAFETY: a table is shared immutably; what changes in a shared one (the count of handles, the
// borrow counts, the buckets of a retired root) is atomic or under its lock; values are
// `Send + Sync`.
unsafe impl Send for FlatTable {}
// SAFETY: as above.
unsafe impl Sync for FlatTable {}

impl FlatTable {
    /// A table of one entry, which is not absent. It has room for more: a context of one variable
    /// mostly becomes one of several.
    pub(crate) fn single(id: Id, entry: Entry) -> FlatTable {
        let mut table = FlatTable(Table::empty(Kind::Root, entry.flags(), 4, None));
        table.insert(Bucket::new(id, entry));
        table
    }

    pub(crate) fn into_header(self) -> NonNull<Header> {
        ManuallyDrop::new(self).0.cast()
    }

    /// # Safety
    /// `header` came from [`into_header`](Self::into_header), and its handle moves into the answer.
    pub(crate) unsafe fn from_header(header: NonNull<Header>) -> FlatTable {
        FlatTable(header.cast())
    }

    #[inline]
    pub(crate) fn header(&self) -> &Header {
        // SAFETY: a handle keeps the table alive; headers change only through unique handles.
        unsafe { &(*self.0.as_ptr()).header }
    }

    /// What the home bucket of a variable says, if that decides: the variable is bound there, or
    /// has no bucket at all.
    ///
    /// # Safety
    /// `header` begins a flat table, or an [`Unfilled`] one, that stays alive, with its bindings,
    /// as long as the answer is used.
    #[inline(always)]
    pub(crate) unsafe fn lookup_at_home<'a>(header: NonNull<Header>, id: Id) -> Option<Option<Found<'a>>> {
        // SAFETY: alive; a shared table's keys and values stay as they are; masked, so a bucket of
        // it.
        unsafe {
            let Header { mask, max_probe, .. } = header.as_ref();
            let bucket = *Table::bucket(header.cast(), id.home() & *mask as usize);
            if bucket.key == id.key() {
                return bucket.found().map(Some);
            }
            (*max_probe == 0).then_some(None)
        }
    }

    /// # Safety
    /// As above.
    #[inline]
    pub(crate) unsafe fn lookup_at<'a>(header: NonNull<Header>, id: Id) -> Lookup<'a> {
        // SAFETY: as above.
        unsafe {
            if let Some(found) = FlatTable::lookup_at_home(header, id) {
                return found.map_or(Lookup::Absent, Lookup::Bound);
            }
            match Table::find(header.cast(), id) {
                None => Lookup::Absent,
                Some(index) => (*Table::bucket(header.cast(), index)).lookup(),
            }
        }
    }

    pub(crate) fn lookup(&self, id: Id) -> Lookup<'_> {
        // SAFETY: the handle keeps the table and what it shows alive.
        unsafe { FlatTable::lookup_at(self.0.cast(), id) }
    }

    /// Everything in here that is bound or hidden.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Id, Lookup<'_>)> {
        let shown = self.buckets().filter(|(_, bucket)| !bucket.is_absent());
        // SAFETY: the handle keeps what the table shows alive.
        shown.map(|(_, bucket)| (bucket.id(), unsafe { bucket.lookup() }))
    }

    /// Whether nothing is bound or hidden.
    pub(crate) fn is_blank(&self) -> bool {
        self.header().shown == 0
    }

    #[inline]
    fn bucket(&self, index: usize) -> Bucket {
        debug_assert!(index <= self.header().mask as usize);
        // SAFETY: a bucket of this table, which changes only through a unique handle.
        unsafe { *Table::bucket(self.0, index) }
    }

    /// The occupied buckets and their indices, those included that only remember an absence.
    fn buckets(&self) -> impl Iterator<Item = (usize, Bucket)> + '_ {
        let all = 0..self.header().mask as usize + 1;
        all.map(|index| (index, self.bucket(index))).filter(|(_, bucket)| bucket.key != 0)
    }

    fn root(&self) -> Option<NonNull<Table>> {
        // SAFETY: a handle keeps the table alive; the field never changes.
        unsafe { (*self.0.as_ptr()).root }
    }

    fn owned(&self) -> &BucketSet {
        // SAFETY: a handle keeps the table alive; the set changes only through a unique handle.
        unsafe { &(*self.0.as_ptr()).owned }
    }

    /// Whether this handle is the only access to the table, lookups of borrowers included.
    fn is_unique(&self) -> bool {
        // Pairs with the release subtraction in `release`: what other handles have read happens
        // before what this one writes.
        let look = if weakened("look of the only handle") { Relaxed } else { Acquire };
        if self.header().handles.load(look) != 1 {
            return false;
        }
        // SAFETY: a handle keeps the table alive.
        let borrows = unsafe { &(*self.0.as_ptr()).borrows };
        !borrows.has_borrowers.load(Relaxed) || borrows.have_ended()
    }

    /// Copies the table with one entry changed.
    pub(crate) fn with(&self, id: Id, entry: Entry) -> FlatTable {
        if matches!((&entry, self.lookup(id)), (Entry::Absent, Lookup::Absent)) {
            return self.clone();
        }
        let bound = self.header().bound as usize;
        let root = match self.root() {
            None => (bound > COUNT_DIRECTLY + 1).then_some(self.0),
            root => root.filter(|_| self.owned().len() <= changed_max(bound)),
        };
        let flags = self.header().flags | entry.flags();
        let changed = Bucket::new(id, entry);
        match root {
            Some(root) if switches::BORROWED_BINDINGS => self.derive(root, flags, changed),
            _ => self.count_all(flags, changed),
        }
    }

    /// A root with the same entries but one.
    fn count_all(&self, flags: u8, changed: Bucket) -> FlatTable {
        // SAFETY: the handle keeps the table, whose buckets do not change meanwhile.
        let mut copy = FlatTable(unsafe { Table::copy(self.0, flags, None) });
        for (index, bucket) in self.buckets() {
            // SAFETY: `copy` is this thread's alone; what it shows is kept alive by `self`.
            unsafe {
                if bucket.is_absent() || bucket.key == changed.key {
                    copy.recount(bucket, Bucket::FREE);
                    *Table::bucket(copy.0, index) = Bucket::FREE;
                } else {
                    mem::forget(bucket.lookup().entry());
                    (*copy.0.as_ptr()).owned.insert(index);
                }
            }
        }
        if !changed.is_absent() {
            copy.insert(changed);
        }
        copy
    }

    /// Steps D1 and D2 of the protocol.
    fn derive(&self, root: NonNull<Table>, flags: u8, changed: Bucket) -> FlatTable {
        // In the old table: what was just written is slower to read.
        // SAFETY: the handle keeps the table, whose keys do not change meanwhile.
        let index = unsafe { Table::find(self.0, changed.id()) };
        // Until D2 the copy is not counted by its root, and must not be dropped as if it were.
        // SAFETY: the handle keeps the table, whose buckets do not change meanwhile.
        let copy = FlatTable(unsafe { Table::copy(self.0, flags, Some(root)) });
        let mut copy = ManuallyDrop::new(copy);
        // SAFETY: `copy` is this thread's alone; what it shows is kept alive by `self`; the root is
        // alive, since `self` is or borrows from it.
        unsafe {
            // D1.
            if self.0 != root {
                self.owned().for_each(|index| {
                    let bucket = copy.bucket(index);
                    if bucket.is_bound() && bucket.key != changed.key {
                        mem::forget(bucket.lookup().entry());
                    }
                    (*copy.0.as_ptr()).owned.insert(index);
                });
            }
            match index {
                Some(index) => copy.replace(index, changed),
                None => copy.insert(changed),
            }
            // D2.
            root.as_ref().borrows.lock();
            root.as_ref().borrows.has_borrowers.store(true, Relaxed);
            copy.count_as_borrower(root, 1);
            root.as_ref().borrows.unlock();
        }
        ManuallyDrop::into_inner(copy)
    }

    /// Overwrites a bucket of a table that is this thread's alone; the count that was in it is the
    /// caller's.
    fn replace(&mut self, index: usize, bucket: Bucket) {
        self.recount(self.bucket(index), bucket);
        // SAFETY: `&mut self` is the only handle in all callers, so the table is this thread's
        // alone.
        unsafe {
            *Table::bucket(self.0, index) = bucket;
            (*self.0.as_ptr()).owned.insert(index);
        }
    }

    /// Counts this derived table as a borrower of its root (`by` = 1), or no more (`by` = -1).
    ///
    /// # Safety
    /// `root` is this table's root, locked by this thread.
    unsafe fn count_as_borrower(&self, root: NonNull<Table>, by: i32) {
        let change = |count: &mut u32| match count.checked_add_signed(by) {
            Some(changed) => *count = changed,
            // Four billion tables do not fit in memory: a count gone wrong must not go on.
            None => std::process::abort(),
        };
        // SAFETY: locked.
        unsafe {
            change(&mut root.as_ref().borrows.guarded().borrowers);
            self.owned().for_each(|index| {
                if let Some(index) = Table::find(root, self.bucket(index).id()) {
                    change(Table::unused_by(root, index));
                }
            });
        }
    }

    /// Keeps the header's sums when one bucket changes.
    fn recount(&mut self, before: Bucket, after: Bucket) {
        // SAFETY: `&mut self` is the only handle in all callers, so the table is this thread's
        // alone.
        let header = unsafe { &mut (*self.0.as_ptr()).header };
        header.bound = header.bound + u32::from(after.is_bound()) - u32::from(before.is_bound());
        header.shown = header.shown + u32::from(!after.is_absent()) - u32::from(!before.is_absent());
    }

    /// Puts a new key, owned, into a table that is this thread's alone; grows by moving to a larger
    /// one.
    fn insert(&mut self, bucket: Bucket) {
        self.recount(Bucket::FREE, bucket);
        // SAFETY: `&mut self` is the only handle in all callers, so the table is this thread's
        // alone.
        if unsafe { Table::insert(self.0, bucket, true, 0) } {
            return;
        }
        let used = self.buckets().count() + 1;
        let now = self.header().mask as usize + 1;
        let mut buckets = used.next_power_of_two().max(now).min(BUCKETS_MAX);
        loop {
            // Every key at home, if twice the room is enough for that: then an absent one costs one
            // look. Ids that all have one home must be far from home sooner or later.
            let max_probe = match buckets {
                BUCKETS_MAX => buckets,
                _ if buckets > 4 * used => buckets,
                _ if buckets > 2 * used => USUAL_PROBE,
                _ => 0,
            };
            // SAFETY: as above.
            if buckets == now && unsafe { Table::insert(self.0, bucket, true, max_probe) } {
                return;
            }
            if let Some(table) = self.moved(buckets, bucket, max_probe) {
                // SAFETY: this thread's alone; the counts that it had have moved.
                unsafe { Table::free(self.0) };
                self.0 = table;
                return;
            }
            buckets = (buckets * 2).min(BUCKETS_MAX);
        }
    }

    /// A table of that many buckets with this one's and `further`, if they fit.
    fn moved(&self, buckets: usize, further: Bucket, max_probe: usize) -> Option<NonNull<Table>> {
        let from = self.header();
        let table = Table::empty(from.kind, from.flags, buckets, self.root());
        // SAFETY: fresh, so this thread's alone. On failure the counts still belong to `self`.
        unsafe {
            let mut fits = Table::insert(table, further, true, max_probe);
            for (index, bucket) in self.buckets() {
                fits = fits && Table::insert(table, bucket, self.owned().contains(index), max_probe);
            }
            if !fits {
                Table::free(table);
                return None;
            }
            (*table.as_ptr()).header.bound = from.bound;
            (*table.as_ptr()).header.shown = from.shown;
        }
        Some(table)
    }

    /// Exchanges an entry for what the home bucket of its variable has, if nothing else changes: no
    /// other handle and no borrower can tell, and there is a value for a value, or a free bucket is
    /// filled, or a bucket is emptied. Else nothing happens, and the answer is false. Neither an
    /// allocator nor a destructor runs.
    ///
    /// # Safety
    /// `header` is that of a handle of the caller's, which begins a flat table or an [`Unfilled`]
    /// one.
    #[inline]
    pub(crate) unsafe fn exchange_at_home(header: NonNull<Header>, id: Id, entry: &mut Entry) -> bool {
        // SAFETY: a handle of the caller's keeps the table alive, and stays with the caller.
        let mut table = ManuallyDrop::new(unsafe { FlatTable::from_header(header) });
        let index = id.home() & table.header().mask as usize;
        let bucket = table.bucket(index);
        if let Entry::Bound(value) = entry
            && bucket.key == id.key()
            && bucket.is_bound()
            && table.owned().contains(index)
            && table.has_flags(value.flags())
            && table.is_unique()
        {
            // SAFETY: unique, so the bucket is this thread's to change; the two counts change
            // places.
            unsafe { (*Table::bucket(table.0, index)).exchange(value) };
            return true;
        }
        table.fill_or_empty(index, id, entry)
    }

    /// The same for a bucket that has no value before or after.
    #[inline(never)]
    fn fill_or_empty(&mut self, index: usize, id: Id, entry: &mut Entry) -> bool {
        let &Header { max_probe, shown, .. } = self.header();
        let key = self.bucket(index).key;
        let may_change = match entry {
            Entry::Bound(value) => {
                // If keys may be away from home, that of the variable may be, too.
                let has_room = key == 0 && max_probe == 0 && (shown as usize) < FLAT_MAX;
                has_room && self.has_flags(value.flags())
            }
            Entry::Absent => key == id.key() && self.owned().contains(index),
            Entry::Hidden => false,
        };
        let may_change = may_change && self.is_unique();
        if may_change {
            let bucket = Bucket::new(id, mem::replace(entry, Entry::Absent));
            *entry = self.put(index, bucket);
        }
        may_change
    }

    #[inline]
    fn has_flags(&self, flags: u8) -> bool {
        flags & !self.header().flags == 0
    }

    /// Changes one entry: in place if no other handle and no borrower can tell, else in a copy that
    /// takes this handle's place. Returns what was there, with a count of its own, if `wanted`.
    ///
    /// No user code runs while the caller has a [hold](reaper::hold).
    #[inline(always)]
    pub(crate) fn write(&mut self, id: Id, entry: Entry, wanted: bool) -> Entry {
        if !self.is_unique() {
            let previous = if wanted { self.lookup(id).entry() } else { Entry::Absent };
            *self = self.with(id, entry);
            return previous;
        }
        // SAFETY: unique.
        unsafe { (*self.0.as_ptr()).header.flags |= entry.flags() };
        let bucket = Bucket::new(id, entry);
        // SAFETY: alive, and unique.
        let Some(index) = (unsafe { Table::find(self.0, id) }) else {
            if !bucket.is_absent() {
                self.insert(bucket);
            }
            return Entry::Absent;
        };
        if !self.owned().contains(index) {
            return self.replace_borrowed(index, bucket, wanted);
        }
        self.put(index, bucket)
    }

    /// Overwrites a bucket, free or owned, of a table that this thread alone sees. Returns what was
    /// there.
    #[inline]
    fn put(&mut self, index: usize, bucket: Bucket) -> Entry {
        let before = self.bucket(index);
        self.replace(index, bucket);
        if bucket.is_absent() && self.in_root(bucket.id()).is_none() {
            // An absence is remembered only where the root has the entry.
            // SAFETY: unique, so the bucket is this thread's to change.
            unsafe {
                *Table::bucket(self.0, index) = Bucket::FREE;
                (*self.0.as_ptr()).owned.remove(index);
            }
        }
        // SAFETY: the bucket had a count, which has left it.
        unsafe { before.into_entry() }
    }

    /// Step WR1: replaces what a table, which this thread alone sees, has borrowed.
    #[cold]
    fn replace_borrowed(&mut self, index: usize, bucket: Bucket, wanted: bool) -> Entry {
        // SAFETY: a borrowed entry was shown until now, so it is alive, and is counted before it
        // may go.
        let shown = if wanted { unsafe { self.bucket(index).lookup() }.entry() } else { Entry::Absent };
        self.replace(index, bucket);
        let (root, index) = self.in_root(bucket.id()).expect("a borrowed entry is its root's");
        let _hold = reaper::hold();
        // SAFETY: alive, and locked until `close`.
        unsafe {
            root.as_ref().borrows.lock();
            *Table::unused_by(root, index) += 1;
            close(root);
        }
        shown
    }

    /// The root, and the bucket of the variable there.
    fn in_root(&self, id: Id) -> Option<(NonNull<Table>, usize)> {
        // SAFETY: the root outlives its borrowers, and its keys stay while it has any.
        self.root().and_then(|root| unsafe { Some((root, Table::find(root, id)?)) })
    }
}

impl Clone for FlatTable {
    fn clone(&self) -> FlatTable {
        retain(&self.header().handles, 1);
        FlatTable(self.0)
    }
}

/// Counts so many handles up. Returns how many there were.
#[inline]
pub(crate) fn retain(handles: &AtomicUsize, many: usize) -> usize {
    let before = handles.fetch_add(many, Relaxed);
    if before > isize::MAX as usize {
        std::process::abort();
    }
    before
}

/// Counts so many handles down. Returns how many are left.
#[inline]
pub(crate) fn release(handles: &AtomicUsize, many: usize) -> usize {
    // Pairs with the acquire load below, and with the one in `is_unique`: all use of the table
    // happens before its end. (No look first whether it is the only one: where several workers
    // count, that is one more time that the cache line comes over.)
    let order = if weakened("release of a handle") { Relaxed } else { Release };
    let left = handles.fetch_sub(many, order) - many;
    if left == 0 {
        handles.load(Acquire);
    }
    left
}

impl Drop for FlatTable {
    #[inline]
    fn drop(&mut self) {
        // H1.
        if release(&self.header().handles, 1) == 0 {
            // SAFETY: the last handle.
            unsafe { end(self.0.cast()) }
        }
    }
}

/// Steps H2, H3 and B1: what the last handle leaves behind.
///
/// # Safety
/// `header` begins a flat table that has no handle any more.
pub(crate) unsafe fn end(header: NonNull<Header>) {
    let table = header.cast::<Table>();
    #[cfg(loom)]
    if std::thread::panicking() {
        // A model that has failed, perhaps while it had the lock: everything stays as it is.
        return;
    }
    let _hold = reaper::hold();
    // SAFETY: no handle; borrowers are looked at under the lock, see the protocol.
    unsafe {
        match table.as_ref().root {
            // H2.
            None if !table.as_ref().borrows.has_borrowers.load(Relaxed) => Table::free_with_values(table),
            // H3.
            None => {
                table.as_ref().borrows.lock();
                table.as_ref().borrows.guarded().retired = true;
                close(table);
            }
            // B1.
            Some(root) => {
                root.as_ref().borrows.lock();
                ManuallyDrop::new(FlatTable(table)).count_as_borrower(root, -1);
                close(root);
                Table::free_with_values(table);
            }
        }
    }
}

/// Step E: ends a critical section in which uses of a root have ended.
///
/// # Safety
/// `root` is a root locked by this thread, which does not use it afterwards; a hold is alive.
unsafe fn close(root: NonNull<Table>) {
    // SAFETY: locked.
    unsafe {
        let guarded = root.as_ref().borrows.guarded();
        if guarded.retired && guarded.borrowers == 0 {
            return Table::free_with_values(root);
        }
        if guarded.retired && !weakened("sweep") {
            Table::sweep(root);
        }
        root.as_ref().borrows.unlock();
    }
}
