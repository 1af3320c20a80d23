//! What stands for one variable in a set of bindings.

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::value::{Value, ValueHeader};

/// A variable's identity: dense, from one, never reused. Zero stands for a variable of which no
/// value was ever bound, and is found nowhere.
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

    #[inline]
    pub(crate) fn key(self) -> u64 {
        self.0
    }

    /// The bucket where a table looks first, before it is cut to the size of the table.
    #[inline]
    pub(super) fn home(self) -> usize {
        self.0 as usize
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
    pub(super) fn flags(&self) -> u8 {
        match self {
            Entry::Bound(value) => value.flags(),
            Entry::Absent | Entry::Hidden => 0,
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

/// A value that is alive for `'a`, without a count of its own.
#[derive(Clone, Copy)]
pub(crate) struct Found<'a>(NonNull<ValueHeader>, PhantomData<&'a Value>);

impl Lookup<'_> {
    pub(crate) fn entry(self) -> Entry {
        match self {
            Lookup::Absent => Entry::Absent,
            Lookup::Hidden => Entry::Hidden,
            Lookup::Bound(found) => Entry::Bound(found.retain()),
        }
    }
}

impl Found<'_> {
    /// # Safety
    /// The value is alive for the lifetime in the type.
    #[inline]
    pub(super) unsafe fn new(pointer: NonNull<ValueHeader>) -> Self {
        Found(pointer, PhantomData)
    }

    #[inline]
    pub(crate) fn as_ptr(self) -> NonNull<ValueHeader> {
        self.0
    }

    /// The value, for a look at it.
    pub(crate) fn value(&self) -> &Value {
        // SAFETY: `Value` is `repr(transparent)` over this pointer, and alive for the lifetime in
        // the type, which is longer than the borrow; a borrow is not dropped.
        unsafe { &*(&raw const self.0).cast::<Value>() }
    }

    pub(crate) fn retain(self) -> Value {
        // SAFETY: alive for the lifetime in the type.
        unsafe { Value::retain(self.0) }
    }
}
