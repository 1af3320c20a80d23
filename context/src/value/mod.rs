//! One bound value: type-erased, reference-counted, in one allocation with its variable's options.
//!
//! # Terms
//!
//! * A **count** is one reference to a value; a [`Value`] owns one.
//! * A **dead value** is one whose last count is gone.
//! * The **header** is the part of a value that is the same for all types.
//!
//! A context never needs the variable itself: name, policy and hook are copied into the value when
//! it is bound. So a variable made at run time may be dropped while contexts still hold its values.
//!
//! # Counting
//!
//! The count is an ordinary atomic one. A dead value goes to the [reaper], which runs the
//! destructor with an empty context current, never inside another value's destructor, and never
//! while a slot or a table is being changed.
//!
//! Why a destructor sees what other threads did with the value: each of them released its count,
//! and the last one acquires before the destructor runs. A thread that finds a count of one has the
//! only reference, so no other thread can make a further one, and it needs no atomic subtraction.

#[cfg(all(test, loom))]
pub(crate) mod models;
mod options;
pub(crate) mod reaper;
mod wire;

use std::cell::Cell;
use std::fmt::{self, Write};
use std::panic::Location;
use std::ptr::NonNull;

pub use options::{DebugText, Inherit, OnChange, VarOptions};
pub(crate) use wire::is_token;
pub use wire::{Wire, WireBytes};

use crate::util::switches;
use crate::util::sync::atomic::AtomicUsize;
use crate::util::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::util::sync::weakened;

/// Flag: the variable has an `on_change` hook.
pub(crate) const WATCHED: u8 = 1;
/// Flag: the variable is not inherited as it is.
pub(crate) const SPECIAL: u8 = 2;
/// Flag: the value has no text but that it is a secret.
const SECRET: u8 = 4;
/// Flag: the value is sent to other processes.
pub(crate) const WIRED: u8 = 8;

/// What all values begin with.
#[repr(C)]
pub(crate) struct ValueHeader {
    count: AtomicUsize,
    vtable: &'static VTable,
    name: &'static str,
    /// Where it was bound.
    place: &'static Location<'static>,
    /// The next dead value. Used by the reaper alone, once `count` is zero.
    next: Cell<*mut ValueHeader>,
    flags: u8,
}

#[repr(C)]
struct Boxed<T: 'static> {
    header: ValueHeader,
    inherit: Inherit<T>,
    on_change: Option<OnChange<T>>,
    debug: Option<DebugText<T>>,
    wire: Option<&'static Wire<T>>,
    value: T,
}

/// What is known of a value's type `T`. Every function takes pointers to headers of live
/// `Boxed<T>`s.
struct VTable {
    needs_drop: bool,
    type_name: fn() -> &'static str,
    /// Drops the value and frees its memory, also when the destructor panics.
    destroy: unsafe fn(NonNull<ValueHeader>),
    debug: unsafe fn(NonNull<ValueHeader>) -> Option<String>,
    /// What an inheriting child gets, where the policy is not `Always`.
    inherit: unsafe fn(NonNull<ValueHeader>) -> Option<Value>,
    /// The name on the wire, where the flag is set.
    wire_name: unsafe fn(NonNull<ValueHeader>) -> Option<&'static str>,
    /// Writes the text that is sent, where the flag is set.
    write_wire: unsafe fn(NonNull<ValueHeader>, &mut dyn Write) -> fmt::Result,
    /// Calls the hook of the first value with the second and third.
    notify: unsafe fn(NonNull<ValueHeader>, Shown, Shown),
}

/// A value of the variable, if one is bound.
type Shown = Option<NonNull<ValueHeader>>;

impl<T: Send + Sync + 'static> Boxed<T> {
    const VTABLE: VTable = VTable {
        needs_drop: std::mem::needs_drop::<T>(),
        type_name: std::any::type_name::<T>,
        // SAFETY: `Value::new` leaked this very box, and a dead value is given up once.
        destroy: |pointer| drop(unsafe { Box::from_raw(pointer.cast::<Boxed<T>>().as_ptr()) }),
        debug: |pointer| {
            struct Text<'a, T>(&'a T, DebugText<T>);
            impl<T> fmt::Display for Text<'_, T> {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    (self.1)(self.0, f)
                }
            }
            // SAFETY: a live `Boxed<T>` (contract of the table).
            let boxed = unsafe { pointer.cast::<Boxed<T>>().as_ref() };
            let text = Text(&boxed.value, boxed.debug?);
            let mut written = String::new();
            // An error of the user's function leaves what was written so far.
            let _ = write!(written, "{text}");
            Some(written)
        },
        inherit: |pointer| {
            // SAFETY: a live `Boxed<T>` (contract of the table).
            let &Boxed { ref header, inherit, on_change, debug, wire, ref value } =
                unsafe { pointer.cast::<Boxed<T>>().as_ref() };
            let Inherit::Derive(derive) = inherit else { return None };
            let options = VarOptions { inherit, on_change, debug, wire, ..VarOptions::new() };
            Some(Value::new(derive(value)?, header.name, header.place, &options, header.flags))
        },
        // SAFETY: a live `Boxed<T>` (contract of the table).
        wire_name: |pointer| Some(unsafe { pointer.cast::<Boxed<T>>().as_ref() }.wire?.name()),
        write_wire: |pointer, out| {
            // SAFETY: a live `Boxed<T>` (contract of the table).
            let boxed = unsafe { pointer.cast::<Boxed<T>>().as_ref() };
            boxed.wire.ok_or(fmt::Error)?.write(&boxed.value, out)
        },
        notify: |any, previous, current| {
            // SAFETY: a live `Boxed<T>` (contract of the table).
            if let Some(hook) = unsafe { any.cast::<Boxed<T>>().as_ref() }.on_change {
                // SAFETY: as above, alive for the call.
                let shown = |value: Shown| value.map(|value| unsafe { get::<T>(value) });
                hook(shown(previous), shown(current));
            }
        },
    };
}

impl ValueHeader {
    /// Whether a destructor of the user's has to run.
    fn needs_drop(&self) -> bool {
        self.vtable.needs_drop
    }

    /// Drops the value and frees it.
    ///
    /// # Safety
    /// The value is dead, and the pointer is not used afterwards.
    unsafe fn destroy(pointer: NonNull<ValueHeader>) {
        // SAFETY: a dead value is allocated until the call below.
        let destroy = unsafe { pointer.as_ref() }.vtable.destroy;
        // SAFETY: the table was made for this value's type, and the value is given up here.
        unsafe { destroy(pointer) }
    }
}

/// A counted reference to a value.
#[repr(transparent)]
pub(crate) struct Value(NonNull<ValueHeader>);

// SAFETY: a value is only ever made from a `T: Send + Sync` (`Value::new`), shared by `&`, and
// destroyed once, by the thread that brings the atomic count to zero.
unsafe impl Send for Value {}
// SAFETY: as above.
unsafe impl Sync for Value {}

impl Value {
    /// A value with the first count. The flags are those of the options.
    pub(crate) fn new<T: Send + Sync + 'static>(
        value: T,
        name: &'static str,
        place: &'static Location<'static>,
        options: &VarOptions<T>,
        flags: u8,
    ) -> Value {
        let VarOptions { inherit, on_change, debug, wire, required: _, secret: _ } = *options;
        let header = ValueHeader {
            count: AtomicUsize::new(1),
            vtable: &Boxed::<T>::VTABLE,
            name,
            place,
            next: Cell::new(std::ptr::null_mut()),
            flags,
        };
        let boxed = Box::new(Boxed { header, inherit, on_change, debug, wire, value });
        // `Boxed` is `repr(C)` and begins with its header.
        Value(NonNull::from(Box::leak(boxed)).cast())
    }

    #[inline]
    fn header(&self) -> &ValueHeader {
        // SAFETY: `self` is a counted reference, so the allocation is alive; only the reaper writes
        // a header, after the last count is gone, and it writes a `Cell`.
        unsafe { self.0.as_ref() }
    }

    pub(crate) fn as_ptr(&self) -> NonNull<ValueHeader> {
        self.0
    }

    /// Gives the count away as a pointer; [`from_raw`](Self::from_raw) takes it back.
    #[inline]
    pub(crate) fn into_raw(self) -> NonNull<ValueHeader> {
        std::mem::ManuallyDrop::new(self).0
    }

    /// # Safety
    /// `pointer` came from [`into_raw`](Self::into_raw), and its count moves into the answer.
    #[inline]
    pub(crate) unsafe fn from_raw(pointer: NonNull<ValueHeader>) -> Value {
        Value(pointer)
    }

    /// A further count.
    ///
    /// # Safety
    /// The value behind `pointer` is alive during the call.
    #[inline]
    pub(crate) unsafe fn retain(pointer: NonNull<ValueHeader>) -> Value {
        // SAFETY: alive by this function's contract.
        let before = unsafe { pointer.as_ref() }.count.fetch_add(1, Relaxed);
        // Long before the count could wrap: references can be leaked, memory is not that large.
        if before > isize::MAX as usize {
            std::process::abort();
        }
        Value(pointer)
    }

    #[inline]
    pub(crate) fn flags(&self) -> u8 {
        self.header().flags
    }

    /// Whether the two are the very same value.
    #[inline]
    pub(crate) fn is(&self, other: &Value) -> bool {
        self.0 == other.0
    }

    pub(crate) fn name(&self) -> &'static str {
        self.header().name
    }

    pub(crate) fn place(&self) -> &'static Location<'static> {
        self.header().place
    }

    pub(crate) fn type_name(&self) -> &'static str {
        (self.header().vtable.type_name)()
    }

    /// The value's text, if its variable opted in; of a secret, that it is one. Runs a user's
    /// function.
    pub(crate) fn debug_text(&self) -> Option<String> {
        if self.flags() & SECRET != 0 {
            return Some("[secret]".to_owned());
        }
        // SAFETY: the table was made for this value's type, and `self` keeps the value alive.
        unsafe { (self.header().vtable.debug)(self.0) }
    }

    /// The name on the wire, of a value that is sent.
    pub(crate) fn wire_name(&self) -> Option<&'static str> {
        // SAFETY: the table was made for this value's type, and `self` keeps the value alive.
        unsafe { (self.header().vtable.wire_name)(self.0) }
    }

    /// Writes the text that is sent. Runs a user's function.
    pub(crate) fn write_wire(&self, out: &mut dyn Write) -> fmt::Result {
        // SAFETY: as above.
        unsafe { (self.header().vtable.write_wire)(self.0, out) }
    }

    pub(crate) fn is_special(&self) -> bool {
        self.flags() & SPECIAL != 0
    }

    /// What an inheriting child gets in place of a special value. Runs a user's function for
    /// `Derive`.
    pub(crate) fn inherited(&self) -> Option<Value> {
        // SAFETY: as above.
        unsafe { (self.header().vtable.inherit)(self.0) }
    }

    /// Tells the variable's hook, if it has one. Runs a user's function.
    pub(crate) fn notify(previous: Option<&Value>, current: Option<&Value>) {
        let Some(any) = current.or(previous) else { return };
        // SAFETY: all three belong to one variable, hence to one type, and are alive for the call.
        unsafe { (any.header().vtable.notify)(any.0, previous.map(|v| v.0), current.map(|v| v.0)) }
    }
}

impl Clone for Value {
    #[inline]
    fn clone(&self) -> Value {
        // SAFETY: `self` keeps the value alive.
        unsafe { Value::retain(self.0) }
    }
}

impl Drop for Value {
    #[inline]
    fn drop(&mut self) {
        let header = self.header();
        let look = if weakened("look of the only one") { Relaxed } else { Acquire };
        // Pairs with the release subtraction below.
        if !switches::SINGLE_OWNER_DROP || header.count.load(look) != 1 {
            // Pairs with the acquire loads: what this thread did with the value happens before its
            // destructor. (A load rather than a fence, which ThreadSanitizer does not follow.)
            let release = if weakened("release of a value") { Relaxed } else { Release };
            if header.count.fetch_sub(1, release) != 1 {
                return;
            }
            header.count.load(if weakened("acquire of a value") { Relaxed } else { Acquire });
        }
        // SAFETY: this was the last count, and it ends here.
        unsafe { reaper::reclaim(self.0) }
    }
}

/// The `T` behind a value.
///
/// # Safety
/// `pointer` is the header of a value made with this `T`, alive for `'a`.
#[inline]
pub(crate) unsafe fn get<'a, T: 'static>(pointer: NonNull<ValueHeader>) -> &'a T {
    // SAFETY: a `Boxed<T>` begins at its header.
    unsafe { &(*pointer.cast::<Boxed<T>>().as_ptr()).value }
}
