//! A set of bindings in one word: nothing, a flat table, or a persistent map of flat tables.
//!
//! | bindings | what the word points to | a copy with one change costs |
//! | --- | --- | --- |
//! | none | nothing | – |
//! | up to [`FLAT_MAX`] | a [`block`] | its words |
//! | more | an `imbl` map from the upper bits of the id to blocks | one block, and the map's path to it |
//!
//! Equal words are equal bindings. Whether a change happens in place or in a copy is decided here and below, by
//! who else can see it; nobody above can tell.

use std::hash::{BuildHasher, Hasher};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::block::{self, Block, Head, Home, Kind};
use crate::value::{self, SPECIAL, Value, WATCHED};

/// How many bindings one flat table holds at most.
///
/// `cargo run --release -p heirloom-benches --bin threshold`, a set into a shared snapshot in ratio to imbl's: flat 0.40 at 16
/// bindings, 0.31 at 32, 0.30 at 64; as a map of blocks 0.52 at 128, 0.50 at 256, 0.60 at 1,024. A flat table of 128 would
/// do with 0.38, but each further snapshot would hold four kilobytes, and a table would have no room to remember, in the
/// worst case, 128 removals besides.
pub(crate) const FLAT_MAX: usize = 64;

/// The bits of an id that are looked up inside a block of a large context.
const BLOCK_BITS: u32 = 6;

const _: () = assert!(FLAT_MAX <= block::PLACES_MAX / 2 && 1 << BLOCK_BITS <= block::PLACES_MAX / 2);

/// A variable's identity: dense, from one, never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Id(u64);

impl Id {
    /// The next free identity.
    pub(crate) fn next() -> Id {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Id(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    #[inline]
    pub(crate) fn from_key(key: u64) -> Id {
        Id(key)
    }

    /// Never zero.
    #[inline]
    pub(crate) fn key(self) -> u64 {
        self.0
    }

    /// Where a table looks first.
    #[inline]
    pub(crate) fn home(self) -> usize {
        self.0 as usize
    }

    fn block(self) -> u64 {
        self.0 >> BLOCK_BITS
    }
}

/// What is to stand for a variable.
#[derive(Clone)]
pub(crate) enum Entry {
    /// Nothing: in a layer, the outside shows.
    Absent,
    /// Unset, also where the outside has it bound.
    Hidden,
    /// Bound to this.
    Bound(Value),
}

impl Entry {
    pub(crate) fn flags(&self) -> u8 {
        match self {
            Entry::Bound(value) => value.flags(),
            _ => 0,
        }
    }
}

/// What stands for a variable, borrowed.
#[derive(Clone, Copy)]
pub(crate) enum Lookup<'a> {
    Absent,
    Hidden,
    Bound(Found<'a>),
}

/// A value somebody else keeps alive for `'a`.
#[derive(Clone, Copy)]
pub(crate) struct Found<'a>(NonNull<value::Header>, std::marker::PhantomData<&'a Value>);

impl<'a> Lookup<'a> {
    /// # Safety
    /// The value is alive for `'a`.
    #[inline]
    pub(crate) unsafe fn bound(pointer: NonNull<value::Header>) -> Lookup<'a> {
        Lookup::Bound(Found(pointer, std::marker::PhantomData))
    }

    pub(crate) fn entry(self) -> Entry {
        match self {
            Lookup::Absent => Entry::Absent,
            Lookup::Hidden => Entry::Hidden,
            Lookup::Bound(found) => Entry::Bound(found.retain()),
        }
    }
}

impl Found<'_> {
    #[inline]
    pub(crate) fn as_ptr(self) -> NonNull<value::Header> {
        self.0
    }

    pub(crate) fn retain(self) -> Value {
        // SAFETY: alive for the lifetime in the type.
        unsafe { Value::retain(self.0) }
    }
}

type Map = imbl::GenericHashMap<u64, Block, Dense, imbl::shared_ptr::DefaultSharedPtr>;

/// Dense ids spread over a trie by themselves.
#[derive(Clone, Copy, Default)]
struct Dense(u64);

impl BuildHasher for Dense {
    type Hasher = Dense;

    fn build_hasher(&self) -> Dense {
        Dense(0)
    }
}

impl Hasher for Dense {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[repr(C)]
struct Large {
    head: Head,
    map: Map,
}

/// A handle of a set of bindings.
#[repr(transparent)]
pub(crate) struct Bindings(Option<NonNull<Head>>);

// SAFETY: what it points to is a `Block` or a map of `Block`s behind an atomic count, both `Send + Sync`.
unsafe impl Send for Bindings {}
// SAFETY: as above.
unsafe impl Sync for Bindings {}

impl Bindings {
    pub(crate) const EMPTY: Bindings = Bindings(None);

    /// Gives the handle away as a pointer; [`from_raw`](Self::from_raw) takes it back.
    #[inline]
    pub(crate) fn into_raw(self) -> *mut Head {
        let raw = self.as_raw();
        std::mem::forget(self);
        raw
    }

    /// # Safety
    /// `raw` came from [`into_raw`](Self::into_raw), and this call takes over the handle it stands for.
    #[inline]
    pub(crate) unsafe fn from_raw(raw: *mut Head) -> Bindings {
        Bindings(NonNull::new(raw))
    }

    #[inline]
    pub(crate) fn as_raw(&self) -> *mut Head {
        self.0.map_or(std::ptr::null_mut(), NonNull::as_ptr)
    }

    #[inline]
    fn head(&self) -> Option<&Head> {
        // SAFETY: a handle keeps it alive, and heads change only through unique handles.
        self.0.map(|head| unsafe { head.as_ref() })
    }

    #[inline]
    fn flags(&self) -> u8 {
        self.head().map_or(0, |head| head.flags)
    }

    /// There may be variables with an `on_change` hook.
    #[inline]
    pub(crate) fn is_watched(&self) -> bool {
        self.flags() & WATCHED != 0
    }

    /// There may be variables that are not inherited as they are.
    #[inline]
    pub(crate) fn has_special(&self) -> bool {
        self.flags() & SPECIAL != 0
    }

    /// How many variables are bound.
    pub(crate) fn len(&self) -> usize {
        self.head().map_or(0, |head| head.bound as usize)
    }

    #[inline]
    pub(crate) fn lookup(&self, id: Id) -> Lookup<'_> {
        match self.0 {
            None => Lookup::Absent,
            // SAFETY: the handle keeps everything it shows alive.
            Some(head) => unsafe { lookup_at(head, id) },
        }
    }

    fn large(&self) -> Option<&Large> {
        let head = self.0.filter(|_| self.head().is_some_and(|head| head.kind == Kind::Large))?;
        // SAFETY: only a `Large` has this kind; the handle keeps it alive.
        Some(unsafe { head.cast().as_ref() })
    }

    /// The flat table, if it is one.
    fn flat(&self) -> Option<std::mem::ManuallyDrop<Block>> {
        // SAFETY: any other kind is a block's; the handle stays here.
        self.0
            .filter(|_| self.large().is_none())
            .map(|head| std::mem::ManuallyDrop::new(unsafe { Block::from_head(head) }))
    }

    /// A copy with one entry changed; this one stays as it is.
    pub(crate) fn with(&self, id: Id, entry: Entry) -> Bindings {
        if let Some(block) = self.flat().filter(|block| fits(block, id, &entry)) {
            return Bindings(Some(block.with(id, entry).into_head()));
        }
        let mut copy = self.clone();
        copy.change(id, entry);
        copy
    }

    /// Changes one entry, and returns what was there, with a count of its own.
    ///
    /// No user code runs if the caller has a [hold](crate::reaper::hold) until it has dropped what it gets.
    pub(crate) fn write(&mut self, id: Id, entry: Entry) -> Entry {
        self.exchange(id, entry, true)
    }

    /// The same for callers who do not care what was there.
    pub(crate) fn change(&mut self, id: Id, entry: Entry) {
        drop(self.exchange(id, entry, false));
    }

    fn exchange(&mut self, id: Id, entry: Entry, wanted: bool) -> Entry {
        let Some(head) = self.0.take() else {
            if !matches!(entry, Entry::Absent) {
                self.0 = Some(Block::single(id, entry).into_head());
            }
            return Entry::Absent;
        };
        // SAFETY: just taken from here.
        if unsafe { head.as_ref() }.kind != Kind::Large {
            // SAFETY: a block's head; the handle is put back below, whole, whatever it points to then.
            let mut block = unsafe { Block::from_head(head) };
            if fits(&block, id, &entry) {
                let previous = block.write(id, entry, wanted);
                self.0 = Some(block.into_head());
                return previous;
            }
            self.0 = Some(block.into_head());
            self.enlarge();
        } else {
            self.0 = Some(head);
        }
        self.exchange_large(id, entry, wanted)
    }

    /// Turns a flat table into a map of blocks.
    fn enlarge(&mut self) {
        let flat = self.flat().expect("a flat table");
        let mut map = Map::default();
        for (id, found) in flat.iter() {
            match map.get_mut(&id.block()) {
                Some(block) => drop(block.write(id, found.entry(), false)),
                None => drop(map.insert(id.block(), Block::single(id, found.entry()))),
            }
        }
        let large = Large { head: Head::new(Kind::Large, flat.head().flags, flat.head().bound), map };
        *self = Bindings(Some(NonNull::from(Box::leak(Box::new(large))).cast()));
    }

    fn exchange_large(&mut self, id: Id, entry: Entry, wanted: bool) -> Entry {
        self.make_unique();
        let large = self.0.expect("a large table").cast::<Large>();
        // SAFETY: a `Large`, and the only handle.
        let large = unsafe { &mut *large.as_ptr() };
        large.head.flags |= entry.flags();
        let is_bound = matches!(entry, Entry::Bound(_));
        let (was_bound, previous) = match large.map.get_mut(&id.block()) {
            Some(block) => (matches!(block.lookup(id), Lookup::Bound(_)), block.write(id, entry, wanted)),
            None => {
                if !matches!(entry, Entry::Absent) {
                    large.map.insert(id.block(), Block::single(id, entry));
                }
                (false, Entry::Absent)
            }
        };
        large.head.bound = large.head.bound + u32::from(is_bound) - u32::from(was_bound);
        if large.map.get(&id.block()).is_some_and(|block| block.iter().next().is_none()) {
            large.map.remove(&id.block());
        }
        previous
    }

    fn make_unique(&mut self) {
        let large = self.large().expect("a large table");
        // Pairs with the release decrement in `block::release`: what other handles read happens before what we write.
        if large.head.handles.load(std::sync::atomic::Ordering::Acquire) == 1 {
            return;
        }
        let copy = Large {
            head: Head::new(Kind::Large, large.head.flags, large.head.bound),
            map: large.map.clone(),
        };
        *self = Bindings(Some(NonNull::from(Box::leak(Box::new(copy))).cast()));
    }

    /// Calls `f` with everything that is bound or hidden.
    pub(crate) fn for_each<'a>(&'a self, mut f: impl FnMut(Id, Lookup<'a>)) {
        if let Some(large) = self.large() {
            large.map.values().flat_map(Block::iter).for_each(|(id, found)| f(id, found));
        } else if let Some(block) = self.flat() {
            for (id, _) in block.iter() {
                f(id, self.lookup(id));
            }
        }
    }

    /// The same without what is explicitly unset, which means nothing outside a layer.
    pub(crate) fn without_hidden(&self) -> Bindings {
        let mut bare = self.clone();
        self.for_each(|id, found| {
            if let Lookup::Hidden = found {
                bare.change(id, Entry::Absent);
            }
        });
        bare
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

    /// A further handle of the bindings at `head`.
    ///
    /// # Safety
    /// They are alive.
    pub(crate) unsafe fn clone_at(head: Option<NonNull<Head>>) -> Bindings {
        if let Some(head) = head {
            // SAFETY: alive, says the caller.
            unsafe { Bindings::retain(head, 1) };
        }
        Bindings(head)
    }

    /// Counts `by` further handles, which the caller owns.
    ///
    /// # Safety
    /// The bindings are alive.
    #[inline]
    pub(crate) unsafe fn retain(head: NonNull<Head>, by: usize) {
        // SAFETY: alive, says the caller.
        block::retain(unsafe { &head.as_ref().handles }, by);
    }

    /// Gives a handle up, and leaves what comes with the last one to the caller.
    #[inline]
    pub(crate) fn give_up(self) -> Option<LastHandle> {
        let head = NonNull::new(self.into_raw())?;
        // SAFETY: alive until the count says otherwise.
        block::release(unsafe { &head.as_ref().handles }).then(|| LastHandle(head))
    }

    /// How many handles there are, or were a moment ago.
    ///
    /// # Safety
    /// The bindings are alive.
    #[inline]
    pub(crate) unsafe fn handles(head: NonNull<Head>) -> usize {
        // SAFETY: alive, says the caller.
        unsafe { head.as_ref() }.handles.load(crate::util::sync::atomic::Ordering::Relaxed)
    }

    /// Gives up `some` handles, which are not the last.
    ///
    /// # Safety
    /// The caller owns that many, and one more keeps the bindings alive.
    #[inline]
    pub(crate) unsafe fn release_some(head: NonNull<Head>, some: usize) {
        // SAFETY: alive, says the caller.
        let before =
            unsafe { head.as_ref() }.handles.fetch_sub(some, crate::util::sync::atomic::Ordering::Release);
        debug_assert!(before > some, "the owner of the handles has one more");
    }
}

/// Whether a change leaves a flat table one.
fn fits(block: &Block, id: Id, entry: &Entry) -> bool {
    (block.head().shown as usize) < FLAT_MAX
        || matches!(entry, Entry::Absent)
        || !matches!(block.lookup(id), Lookup::Absent)
}

/// A glance at the place where a variable stands, if it stands at home in a flat table.
///
/// # Safety
/// The bindings that begin at `head` are alive as long as the answer is used.
#[inline(always)]
pub(crate) unsafe fn home<'a>(head: NonNull<Head>, id: Id) -> Home<'a> {
    // SAFETY: alive, says the caller.
    unsafe {
        if head.as_ref().kind == Kind::Large {
            return Home::Elsewhere;
        }
        Block::home_at(head, id)
    }
}

/// Looks in the bindings that begin at `head`.
///
/// # Safety
/// They are alive as long as the answer is used.
#[inline]
pub(crate) unsafe fn lookup_at<'a>(head: NonNull<Head>, id: Id) -> Lookup<'a> {
    // SAFETY: alive; only a `Large` has that kind.
    unsafe {
        if head.as_ref().kind == Kind::Large {
            return lookup_large(head.cast(), id);
        }
        Block::lookup_at(head, id)
    }
}

/// # Safety
/// The table is alive as long as the answer is used.
unsafe fn lookup_large<'a>(large: NonNull<Large>, id: Id) -> Lookup<'a> {
    // SAFETY: alive, says the caller.
    match unsafe { large.as_ref() }.map.get(&id.block()) {
        None => Lookup::Absent,
        Some(block) => block.lookup(id),
    }
}

impl Clone for Bindings {
    #[inline]
    fn clone(&self) -> Bindings {
        if let Some(head) = self.head() {
            block::retain(&head.handles, 1);
        }
        Bindings(self.0)
    }
}

impl Drop for Bindings {
    #[inline]
    fn drop(&mut self) {
        let Some(head) = self.0 else { return };
        // SAFETY: alive until the count says otherwise.
        if block::release(unsafe { &head.as_ref().handles }) {
            // SAFETY: the last handle.
            unsafe { end(head) }
        }
    }
}

/// Bindings without any handle, which end with this.
pub(crate) struct LastHandle(NonNull<Head>);

// SAFETY: as `Bindings`.
unsafe impl Send for LastHandle {}
// SAFETY: as `Bindings`.
unsafe impl Sync for LastHandle {}

impl Drop for LastHandle {
    fn drop(&mut self) {
        // SAFETY: the last handle was given up for this.
        unsafe { end(self.0) }
    }
}

/// What the last handle leaves behind.
///
/// # Safety
/// There is no handle any more.
#[cold]
unsafe fn end(head: NonNull<Head>) {
    // SAFETY: not freed yet; only a `Large`, leaked as a box by `enlarge` or `make_unique`, has that kind.
    unsafe {
        if head.as_ref().kind != Kind::Large {
            return block::end(head);
        }
        // The blocks' values go when the map is closed.
        let _hold = crate::reaper::hold();
        drop(Box::from_raw(head.cast::<Large>().as_ptr()));
    }
}
