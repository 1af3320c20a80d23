//! The memory of a flat table: a header, buckets, and for a root the counts of exceptions.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::{self, NonNull};

use super::borrow_count::BorrowCount;
use crate::bindings::entry::{Entry, Found, Id, Lookup};
use crate::util::sync::atomic::AtomicUsize;
use crate::value::{Value, ValueHeader};

/// How far from home a key may be before the table grows.
pub(super) const USUAL_PROBE: usize = 3;

/// Buckets a table may have, so that a set of buckets is four words.
///
/// Half of them are sure to have room for a binding, and lookups stay short up to there.
pub(crate) const BUCKETS_MAX: usize = 256;

/// Stands for "explicitly unset" in place of a value's address.
const HIDDEN: *mut ValueHeader = ptr::without_provenance_mut(1);

/// What every set of bindings begins with, flat or not. Aligned for the flags of the current word.
#[repr(C, align(8))]
pub(crate) struct Header {
    pub(crate) handles: AtomicUsize,
    pub(crate) kind: Kind,
    /// Union of the flags of every value that was ever in here: may say too much, never too little.
    pub(crate) flags: u8,
    /// The farthest that a key is from home.
    pub(super) max_probe: u16,
    /// How many variables are bound.
    pub(crate) bound: u32,
    /// How many variables are bound or hidden.
    pub(crate) shown: u32,
    /// Buckets minus one.
    pub(super) mask: u32,
}

impl Header {
    pub(crate) fn new(kind: Kind, flags: u8, bound: u32) -> Header {
        Header { handles: AtomicUsize::new(1), kind, flags, max_probe: 0, bound, shown: 0, mask: 0 }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A flat table that owns counts on all its values.
    Root,
    /// A flat table that owns counts on what it changed.
    Derived,
    /// A map of flat tables.
    Large,
}

/// A flat table's memory begins with this.
#[repr(C)]
pub(super) struct Table {
    pub(super) header: Header,
    /// The buckets on whose values this table has counts; the others are borrowed.
    pub(super) owned: BucketSet,
    /// The root of a derived table.
    pub(super) root: Option<NonNull<Table>>,
    pub(super) borrows: BorrowCount,
    // The buckets follow, then, if this is a root, as many counts of borrowers that do not use one.
}

/// What bindings of another kind begin with, so that a lookup need not ask for the kind: a table
/// whose one bucket stays free, and which says that there may be more.
#[repr(C)]
pub(crate) struct Unfilled {
    table: Table,
    home: Bucket,
}

impl Unfilled {
    pub(crate) fn new(kind: Kind, flags: u8, bound: u32) -> Unfilled {
        let header = Header { max_probe: 1, ..Header::new(kind, flags, bound) };
        Unfilled { table: Table::new(header, None), home: Bucket::FREE }
    }

    pub(crate) fn header(&self) -> &Header {
        &self.table.header
    }

    pub(crate) fn header_mut(&mut self) -> &mut Header {
        &mut self.table.header
    }
}

/// One variable's place in a table.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Bucket {
    /// Zero: free.
    pub(super) key: u64,
    /// Null: absent (so a derived table remembers what it does not show of its root). `HIDDEN`:
    /// hidden. Else a value.
    value: *mut ValueHeader,
}

/// A set of buckets of one table, by their indices.
#[derive(Clone, Copy)]
pub(super) struct BucketSet([u64; BUCKETS_MAX / 64]);

impl BucketSet {
    const NONE: BucketSet = BucketSet([0; BUCKETS_MAX / 64]);

    #[inline]
    pub(super) fn contains(&self, index: usize) -> bool {
        self.0[index / 64] >> (index % 64) & 1 != 0
    }

    #[inline]
    pub(super) fn insert(&mut self, index: usize) {
        self.0[index / 64] |= 1 << (index % 64);
    }

    #[inline]
    pub(super) fn remove(&mut self, index: usize) {
        self.0[index / 64] &= !(1 << (index % 64));
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Word by word: a set that was just written to is in the processor's store buffer, which
    /// answers loads of words but not of vectors.
    #[inline]
    pub(super) fn for_each(&self, mut f: impl FnMut(usize)) {
        for (word_index, word) in self.0.iter().enumerate() {
            let mut word = *word;
            while word != 0 {
                f(word_index * 64 + word.trailing_zeros() as usize);
                word &= word - 1;
            }
        }
    }
}

impl Table {
    fn new(header: Header, root: Option<NonNull<Table>>) -> Table {
        Table { header, owned: BucketSet::NONE, root, borrows: BorrowCount::new() }
    }

    pub(super) fn buckets(&self) -> usize {
        self.header.mask as usize + 1
    }

    fn layout(kind: Kind, buckets: usize) -> Layout {
        let counts = if kind == Kind::Root { size_of::<u32>() * buckets } else { 0 };
        let size = size_of::<Table>() + size_of::<Bucket>() * buckets + counts;
        Layout::from_size_align(size, align_of::<Table>())
            .expect("a table of bindings is far smaller than the memory")
    }

    /// Allocates a table whose buckets `fill` writes.
    ///
    /// In line, so that a header is written where it stays: one that is put together elsewhere, and
    /// then copied as a whole, makes the processor wait.
    #[inline(always)]
    fn allocate(
        header: Header,
        root: Option<NonNull<Table>>,
        fill: impl FnOnce(*mut Bucket),
    ) -> NonNull<Table> {
        debug_assert_eq!(root.is_some(), header.kind == Kind::Derived);
        let buckets = header.mask as usize + 1;
        let (is_root, layout) = (root.is_none(), Table::layout(header.kind, buckets));
        // SAFETY: the layout is not empty.
        let Some(table) = NonNull::new(unsafe { alloc(layout) }.cast::<Table>()) else {
            handle_alloc_error(layout)
        };
        // SAFETY: fresh memory with room for the table, its buckets and (for a root) its counts.
        unsafe {
            table.write(Table::new(header, root));
            fill(Table::bucket(table, 0));
            if is_root {
                ptr::write_bytes(Table::bucket(table, buckets).cast::<u32>(), 0, buckets);
            }
        }
        table
    }

    /// Makes an empty table.
    pub(super) fn empty(
        kind: Kind,
        flags: u8,
        buckets: usize,
        root: Option<NonNull<Table>>,
    ) -> NonNull<Table> {
        debug_assert!(buckets.is_power_of_two());
        let header = Header { mask: (buckets - 1) as u32, ..Header::new(kind, flags, 0) };
        // SAFETY: there is room for as many buckets; a free one is all zero bytes.
        Table::allocate(header, root, |first| unsafe { ptr::write_bytes(first, 0, buckets) })
    }

    /// Makes a table with the same buckets as `from`, owning nothing; derived from `root`, or a
    /// root.
    ///
    /// # Safety
    /// `from` is allocated, and its buckets do not change meanwhile.
    pub(super) unsafe fn copy(
        from: NonNull<Table>,
        flags: u8,
        root: Option<NonNull<Table>>,
    ) -> NonNull<Table> {
        // SAFETY: allocated; the header's count, alone, may change.
        let header = unsafe { &(*from.as_ptr()).header };
        let kind = if root.is_some() { Kind::Derived } else { Kind::Root };
        let buckets = header.mask as usize + 1;
        let header = Header { handles: AtomicUsize::new(1), kind, flags, ..*header };
        // SAFETY: both have that many buckets.
        Table::allocate(header, root, |first| unsafe {
            ptr::copy_nonoverlapping(Table::bucket(from, 0), first, buckets);
        })
    }

    /// # Safety
    /// The table is not used afterwards. Its values are not touched.
    pub(super) unsafe fn free(table: NonNull<Table>) {
        // SAFETY: allocated by `allocate` with the layout of this kind and size.
        unsafe {
            let layout = Table::layout(table.as_ref().header.kind, table.as_ref().buckets());
            // The atomics of a model checker have destructors.
            ptr::drop_in_place(table.as_ptr());
            dealloc(table.as_ptr().cast(), layout);
        }
    }

    /// Frees a table, and gives up its counts on the values still in it.
    ///
    /// # Safety
    /// This thread alone uses the table, and not afterwards; a hold is alive.
    pub(super) unsafe fn free_with_values(table: NonNull<Table>) {
        // SAFETY: this thread's alone; there is a count for each value in its owned buckets.
        unsafe {
            table.as_ref().owned.for_each(|index| drop(Bucket::take(Table::bucket(table, index))));
            Table::free(table);
        }
    }

    /// # Safety
    /// The table is allocated, and `index` is at most its number of buckets.
    #[inline]
    pub(super) unsafe fn bucket(table: NonNull<Table>, index: usize) -> *mut Bucket {
        // SAFETY: the buckets follow the table.
        unsafe { table.add(1).cast::<Bucket>().as_ptr().add(index) }
    }

    /// How many borrowers do not use a bucket of a root.
    ///
    /// # Safety
    /// The table is an allocated root, locked by this thread, and `index` is one of its buckets.
    pub(super) unsafe fn unused_by<'a>(root: NonNull<Table>, index: usize) -> &'a mut u32 {
        // SAFETY: the counts follow the buckets; the lock makes the reference unique while it is
        // used.
        unsafe { &mut *Table::bucket(root, root.as_ref().buckets()).cast::<u32>().add(index) }
    }

    /// The bucket of `id`. Reads only keys, which never change while a table is shared.
    ///
    /// # Safety
    /// The table is allocated, and its keys do not change meanwhile.
    #[inline]
    pub(super) unsafe fn find(table: NonNull<Table>, id: Id) -> Option<usize> {
        // SAFETY: allocated.
        let header = unsafe { &(*table.as_ptr()).header };
        let (mask, max_probe) = (header.mask as usize, header.max_probe as usize);
        let mut distance = 0;
        loop {
            let index = (id.home() + distance) & mask;
            // SAFETY: masked, so a bucket of this table.
            if unsafe { (*Table::bucket(table, index)).key } == id.key() {
                return Some(index);
            }
            if distance == max_probe {
                return None;
            }
            distance += 1;
        }
    }

    /// Puts a key that is not there yet into a free bucket within `max_probe` of its home.
    ///
    /// # Safety
    /// The table is allocated and this thread's alone.
    pub(super) unsafe fn insert(
        table: NonNull<Table>,
        bucket: Bucket,
        owned: bool,
        max_probe: usize,
    ) -> bool {
        // SAFETY: this thread's alone, and indices are masked.
        unsafe {
            let table_mut = table.as_ptr();
            let mask = (*table_mut).header.mask as usize;
            let home = bucket.id().home();
            for distance in 0..=max_probe.min(mask) {
                let index = (home + distance) & mask;
                if (*Table::bucket(table, index)).key == 0 {
                    *Table::bucket(table, index) = bucket;
                    if owned {
                        (*table_mut).owned.insert(index);
                    }
                    let header = &mut (*table_mut).header;
                    header.max_probe = header.max_probe.max(distance as u16);
                    return true;
                }
            }
            false
        }
    }

    /// Gives up a retired root's counts on the values that no borrower uses.
    ///
    /// # Safety
    /// `root` is an allocated root, locked by this thread; a hold is alive.
    pub(super) unsafe fn sweep(root: NonNull<Table>) {
        // SAFETY: locked, and a bucket that no borrower uses is read by none.
        unsafe {
            let borrowers = root.as_ref().borrows.guarded().borrowers;
            for index in 0..root.as_ref().buckets() {
                if *Table::unused_by(root, index) == borrowers {
                    drop(Bucket::take(Table::bucket(root, index)));
                }
            }
        }
    }
}

impl Bucket {
    pub(super) const FREE: Bucket = Bucket { key: 0, value: ptr::null_mut() };

    /// Takes over the entry's count.
    pub(super) fn new(id: Id, entry: Entry) -> Bucket {
        let value = match entry {
            Entry::Absent => ptr::null_mut(),
            Entry::Hidden => HIDDEN,
            Entry::Bound(value) => value.into_raw().as_ptr(),
        };
        Bucket { key: id.key(), value }
    }

    #[inline]
    pub(super) fn id(&self) -> Id {
        Id::from_key(self.key)
    }

    #[inline]
    pub(super) fn is_absent(&self) -> bool {
        self.value.is_null()
    }

    #[inline]
    pub(super) fn is_bound(&self) -> bool {
        self.value.addr() > HIDDEN.addr()
    }

    /// The value, if the variable is bound.
    ///
    /// # Safety
    /// The value is alive as long as the answer is used.
    #[inline]
    pub(super) unsafe fn found<'a>(&self) -> Option<Found<'a>> {
        // SAFETY: alive by this function's contract; bound, so not null.
        self.is_bound().then(|| unsafe { Found::new(NonNull::new_unchecked(self.value)) })
    }

    /// # Safety
    /// As above.
    #[inline]
    pub(super) unsafe fn lookup<'a>(&self) -> Lookup<'a> {
        // SAFETY: as above.
        match unsafe { self.found() } {
            Some(found) => Lookup::Bound(found),
            None if self.value == HIDDEN => Lookup::Hidden,
            None => Lookup::Absent,
        }
    }

    /// The entry, with the count that was in the bucket.
    ///
    /// # Safety
    /// The bucket had a count on its value, if it has one, and nothing else uses that count.
    pub(super) unsafe fn into_entry(self) -> Entry {
        match NonNull::new(self.value) {
            None => Entry::Absent,
            Some(value) if value.as_ptr() == HIDDEN => Entry::Hidden,
            // SAFETY: the count moves from the bucket into the answer.
            Some(value) => Entry::Bound(unsafe { Value::from_raw(value) }),
        }
    }

    /// Exchanges the value of a bound variable, with its count.
    #[inline]
    pub(super) fn exchange(&mut self, value: &mut Value) {
        debug_assert!(self.is_bound());
        // SAFETY: bound, so a value, whose count moves to the caller; the caller's moves here.
        let found = unsafe { Value::from_raw(NonNull::new_unchecked(self.value)) };
        self.value = std::mem::replace(value, found).into_raw().as_ptr();
    }

    /// Empties a bucket but for its key.
    ///
    /// # Safety
    /// The bucket has a count on its value, if it has one, and no other thread reads it meanwhile.
    unsafe fn take(bucket: *mut Bucket) -> Entry {
        // SAFETY: the count leaves the bucket with its value.
        unsafe {
            let full = *bucket;
            (*bucket).value = ptr::null_mut();
            full.into_entry()
        }
    }
}
