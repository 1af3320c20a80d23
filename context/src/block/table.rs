//! The memory of a flat table: a head, slots, and for a root the counts of exceptions.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::{self, NonNull};

use super::Block;
use super::ledger::{Book, Ledger};
use crate::storage::{Entry, Found, Id, Lookup};
use crate::util::sync::atomic::AtomicUsize;
use crate::value::{self, Value};

/// How far from home a key may be before the table grows.
pub(super) const REACH: usize = 3;

/// Places a table may have, so that a set of places is four words.
///
/// Half of them are sure to have room for a binding, and lookups stay short up to there.
pub(crate) const PLACES_MAX: usize = 256;

/// Stands for "explicitly unset" in place of a value's address.
pub(super) const HIDDEN: *mut value::Header = ptr::without_provenance_mut(1);

/// What every table of bindings begins with, flat or not. Aligned for the tags of the slot's word.
#[repr(C, align(8))]
pub(crate) struct Head {
    pub(crate) handles: AtomicUsize,
    pub(crate) kind: Kind,
    /// Union of the flags of every value that was ever in here: may say too much, never too little.
    pub(crate) flags: u8,
    pub(super) reach: u16,
    /// How many variables are bound.
    pub(crate) bound: u32,
    /// How many variables are bound or hidden.
    pub(crate) shown: u32,
    /// Places minus one.
    pub(super) mask: u32,
}

impl Head {
    pub(crate) fn new(kind: Kind, flags: u8, bound: u32) -> Head {
        Head { handles: AtomicUsize::new(1), kind, flags, reach: 0, bound, shown: 0, mask: 0 }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Owns counts on all its values.
    Root,
    /// Owns counts on what it changed.
    Derived,
    /// Not of this module: see `storage`.
    Large,
}

#[repr(C)]
pub(super) struct Table {
    pub(super) head: Head,
    /// The places whose entries this table has counts on; the others are borrowed.
    pub(super) own: Places,
    /// The root of a derived table.
    pub(super) root: Option<NonNull<Table>>,
    pub(super) ledger: Ledger,
    // `places()` slots follow, then as many `skipped` counts if this is a root.
}

/// What a variable's home says.
pub(crate) enum Home<'a> {
    /// The value.
    Bound(Found<'a>),
    /// It is not in this table.
    Nowhere,
    /// It may stand elsewhere, or is not bound but mentioned.
    Elsewhere,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Slot {
    /// Zero: free.
    pub(super) key: u64,
    /// Null: absent (a derived table remembers so what it does not show of its root). `HIDDEN`. Else a value.
    pub(super) value: *mut value::Header,
}

/// A set of places.
#[derive(Clone, Copy)]
pub(super) struct Places([u64; PLACES_MAX / 64]);

impl Places {
    pub(super) const NONE: Places = Places([0; PLACES_MAX / 64]);

    #[inline]
    pub(super) fn contains(&self, place: usize) -> bool {
        self.0[place / 64] >> (place % 64) & 1 != 0
    }

    #[inline]
    pub(super) fn insert(&mut self, place: usize) {
        self.0[place / 64] |= 1 << (place % 64);
    }

    #[inline]
    pub(super) fn remove(&mut self, place: usize) {
        self.0[place / 64] &= !(1 << (place % 64));
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Word by word: a set that was just written to is in the store buffer, which answers words but not vectors.
    #[inline]
    pub(super) fn for_each(&self, mut f: impl FnMut(usize)) {
        for (index, word) in self.0.iter().enumerate() {
            let mut word = *word;
            while word != 0 {
                f(index * 64 + word.trailing_zeros() as usize);
                word &= word - 1;
            }
        }
    }
}

impl Table {
    pub(super) fn places(&self) -> usize {
        self.head.mask as usize + 1
    }

    pub(super) fn layout(kind: Kind, places: usize) -> Layout {
        let skipped = if kind == Kind::Root { size_of::<u32>() * places } else { 0 };
        let size = size_of::<Table>() + size_of::<Slot>() * places + skipped;
        Layout::from_size_align(size, align_of::<Table>())
            .expect("a table of bindings is far smaller than the memory")
    }

    /// Makes an empty table.
    pub(super) fn allocate(
        kind: Kind,
        flags: u8,
        places: usize,
        root: Option<NonNull<Table>>,
    ) -> NonNull<Table> {
        debug_assert!(places.is_power_of_two());
        debug_assert_eq!(root.is_some(), kind == Kind::Derived);
        let table = Table::allocate_raw(kind, places);
        let rest = Table::layout(kind, places).size() - size_of::<Table>();
        // SAFETY: freshly allocated with room for the table, its slots and (for a root) its counts; a free slot and a
        // zero count are all zero bytes.
        unsafe {
            table.write(Table {
                head: Head { mask: (places - 1) as u32, ..Head::new(kind, flags, 0) },
                own: Places::NONE,
                root,
                ledger: Ledger::new(),
            });
            ptr::write_bytes(table.add(1).cast::<u8>().as_ptr(), 0, rest);
        }
        table
    }

    /// Makes a root of one entry, which is something, with its count.
    pub(super) fn single(flags: u8, slot: Slot) -> NonNull<Table> {
        debug_assert!(!slot.value.is_null());
        let mut head = Head::new(Kind::Root, flags, u32::from(slot.is_bound()));
        head.shown = 1;
        let mut own = Places::NONE;
        own.insert(0);
        let table = Table::allocate_raw(Kind::Root, 1);
        // SAFETY: freshly allocated with room for the table, one slot and one count.
        unsafe {
            table.write(Table { head, own, root: None, ledger: Ledger::new() });
            *Table::slot(table, 0) = slot;
            Table::slot(table, 1).cast::<u32>().write(0);
        }
        table
    }

    pub(super) fn allocate_raw(kind: Kind, places: usize) -> NonNull<Table> {
        let layout = Table::layout(kind, places);
        // SAFETY: the layout is not empty.
        NonNull::new(unsafe { alloc(layout) }.cast()).unwrap_or_else(|| handle_alloc_error(layout))
    }

    /// # Safety
    /// Nobody uses the table any more. Its values are not touched.
    pub(super) unsafe fn free(table: NonNull<Table>) {
        // SAFETY: allocated by `allocate` with the layout of this kind and size.
        unsafe {
            let layout = Table::layout(table.as_ref().head.kind, table.as_ref().places());
            // The atomics of a model checker have destructors.
            ptr::drop_in_place(table.as_ptr());
            dealloc(table.as_ptr().cast(), layout);
        }
    }

    /// # Safety
    /// The table is allocated, and `place` is one of its places.
    #[inline]
    pub(super) unsafe fn slot(table: NonNull<Table>, place: usize) -> *mut Slot {
        // SAFETY: the slots follow the table.
        unsafe { table.add(1).cast::<Slot>().as_ptr().add(place) }
    }

    /// # Safety
    /// The table is an allocated root, locked by this thread, and `place` is one of its places.
    pub(super) unsafe fn skipped<'a>(root: NonNull<Table>, place: usize) -> &'a mut u32 {
        // SAFETY: the counts follow the slots; the lock makes the reference unique while it is used.
        unsafe {
            let places = root.as_ref().places();
            &mut *Table::slot(root, places).cast::<u32>().add(place)
        }
    }

    /// # Safety
    /// The table is an allocated root, locked by this thread.
    pub(super) unsafe fn book<'a>(root: NonNull<Table>) -> &'a mut Book {
        // SAFETY: the lock makes the reference unique while it is used.
        unsafe { root.as_ref() }.ledger.book.with_mut(|book| unsafe { &mut *book })
    }

    /// The place of `id`. Reads only keys, which never change while a table is shared.
    ///
    /// # Safety
    /// The table is allocated, and nobody changes its keys meanwhile.
    #[inline]
    pub(super) unsafe fn find(table: NonNull<Table>, id: Id) -> Option<usize> {
        // SAFETY: allocated.
        let head = unsafe { &(*table.as_ptr()).head };
        let (mask, reach) = (head.mask as usize, head.reach as usize);
        let mut place = id.home() & mask;
        for _ in 0..=reach {
            // SAFETY: masked, so a place of this table.
            if unsafe { (*Table::slot(table, place)).key } == id.key() {
                return Some(place);
            }
            place = (place + 1) & mask;
        }
        None
    }

    /// Puts a key that is not there yet into a free place within `reach` of its home.
    ///
    /// # Safety
    /// The table is allocated and this thread's alone.
    pub(super) unsafe fn insert(table: NonNull<Table>, slot: Slot, owned: bool, reach: usize) -> bool {
        // SAFETY: ours alone, and places are masked.
        unsafe {
            let table_mut = table.as_ptr();
            let mask = (*table_mut).head.mask as usize;
            let home = slot.id().home();
            for distance in 0..=reach.min(mask) {
                let place = (home + distance) & mask;
                if (*Table::slot(table, place)).key == 0 {
                    *Table::slot(table, place) = slot;
                    if owned {
                        (*table_mut).own.insert(place);
                    }
                    (*table_mut).head.reach = (*table_mut).head.reach.max(distance as u16);
                    return true;
                }
            }
            false
        }
    }

    /// Drops what nobody uses of a retired root.
    ///
    /// # Safety
    /// `root` is an allocated root, locked by this thread; a hold is alive.
    pub(super) unsafe fn sweep(root: NonNull<Table>) {
        // SAFETY: locked.
        unsafe {
            let borrowers = Table::book(root).borrowers;
            for place in 0..root.as_ref().places() {
                if *Table::skipped(root, place) == borrowers {
                    let slot = Table::slot(root, place);
                    drop(Slot::take(&raw mut (*slot).value));
                }
            }
        }
    }

    /// Frees a table that has counts on all values still in it.
    ///
    /// # Safety
    /// Nobody else uses the table; a hold is alive.
    pub(super) unsafe fn free_with_values(table: NonNull<Table>) {
        // SAFETY: ours alone; there is a count for each value at its own places.
        unsafe {
            table.as_ref().own.for_each(|place| {
                drop(Slot::take(&raw mut (*Table::slot(table, place)).value));
            });
            Table::free(table);
        }
    }
}

impl Slot {
    pub(super) const FREE: Slot = Slot { key: 0, value: ptr::null_mut() };

    /// Empties the place of a value and returns the count that was in it.
    ///
    /// # Safety
    /// `value` is the place of a value on which there is a count, and nobody else reads it meanwhile.
    pub(super) unsafe fn take(value: *mut *mut value::Header) -> Option<Value> {
        // SAFETY: says the caller; addresses 0 and 1 are not values.
        unsafe {
            let pointer = value.replace(ptr::null_mut());
            (pointer.addr() > HIDDEN.addr()).then(|| Value::from_raw(NonNull::new_unchecked(pointer)))
        }
    }

    pub(super) fn new(id: Id, entry: Entry) -> Slot {
        let value = match entry {
            Entry::Absent => ptr::null_mut(),
            Entry::Hidden => HIDDEN,
            Entry::Bound(value) => value.into_raw().as_ptr(),
        };
        Slot { key: id.key(), value }
    }

    #[inline]
    pub(super) fn id(&self) -> Id {
        Id::from_key(self.key)
    }

    /// What it says of a variable whose home it is, in a table of this reach.
    ///
    /// # Safety
    /// The value, if there is one, is alive as long as the answer is used.
    #[inline(always)]
    pub(super) unsafe fn home<'a>(&self, id: Id, reach: u16) -> Home<'a> {
        if self.key != id.key() {
            return if reach == 0 { Home::Nowhere } else { Home::Elsewhere };
        }
        // SAFETY: says the caller.
        match unsafe { self.lookup() } {
            Lookup::Bound(found) => Home::Bound(found),
            Lookup::Hidden | Lookup::Absent => Home::Elsewhere,
        }
    }

    /// # Safety
    /// The value, if there is one, is alive as long as the answer is used.
    #[inline]
    pub(super) unsafe fn lookup<'a>(&self) -> Lookup<'a> {
        if self.is_bound() {
            // SAFETY: alive, says the caller; bound, so not null.
            unsafe { Lookup::bound(NonNull::new_unchecked(self.value)) }
        } else if self.value == HIDDEN {
            Lookup::Hidden
        } else {
            Lookup::Absent
        }
    }

    #[inline]
    pub(super) fn is_bound(&self) -> bool {
        self.value.addr() > HIDDEN.addr()
    }

    /// The entry, with a count of its own.
    ///
    /// # Safety
    /// The value, if there is one, is alive.
    #[inline]
    pub(super) unsafe fn entry(&self) -> Entry {
        // SAFETY: alive, says the caller.
        unsafe { self.lookup() }.entry()
    }
}

impl Table {
    /// A table with the same slots as `block`, owning nothing; derived from `root`, or a root.
    pub(super) fn copy(block: &Block, flags: u8, root: Option<NonNull<Table>>) -> NonNull<Table> {
        let places = block.places();
        let kind = if root.is_some() { Kind::Derived } else { Kind::Root };
        let head = Head { handles: AtomicUsize::new(1), kind, flags, ..*block.head() };
        let table = Table { head, own: Places::NONE, root, ledger: Ledger::new() };
        // SAFETY: fresh memory with room for as many slots, and for a root's counts; the source's slots do not change
        // while there is a handle.
        unsafe {
            let fresh = Table::allocate_raw(kind, places);
            fresh.write(table);
            ptr::copy_nonoverlapping(Table::slot(block.0, 0), Table::slot(fresh, 0), places);
            if root.is_none() {
                ptr::write_bytes(Table::slot(fresh, places).cast::<u32>(), 0, places);
            }
            fresh
        }
    }
}
