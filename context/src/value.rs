//! One bound value: type-erased, reference-counted, in one allocation with what its variable declared about it.
//!
//! A context never needs the variable itself: the name, the policy and the hook of a binding are copied into the
//! value when it is bound. So a variable made at run time may be dropped while contexts still hold its values.
//!
//! The count is an ordinary atomic one. Its end is not: a value whose count reaches zero goes to the [reaper], which
//! runs the destructor with an empty context current, never inside another destructor of ours, never while a slot or
//! a table is being changed.
//!
//! [reaper]: crate::reaper

#[cfg(all(test, loom))]
mod models;

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;

use crate::inherit::{DebugText, Inherit, OnChange, VarOptions};
use crate::reaper;
use crate::util::sync::atomic::AtomicUsize;
use crate::util::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::util::sync::weakened;

/// The variable wants to be told when what a thread sees of it changes.
pub(crate) const WATCHED: u8 = 1;
/// The variable is not inherited as it is.
pub(crate) const SPECIAL: u8 = 2;

/// What all values begin with.
#[repr(C)]
pub(crate) struct Header {
    count: AtomicUsize,
    vtable: &'static VTable,
    /// The next buried value. Used by the reaper alone, once `count` is zero.
    pub(crate) next: Cell<*mut Header>,
    flags: u8,
}

#[repr(C)]
struct Boxed<T> {
    header: Header,
    name: &'static str,
    inherit: Inherit<T>,
    on_change: Option<OnChange<T>>,
    debug: Option<DebugText<T>>,
    value: T,
}

/// What is known of a value's type.
///
/// Every function takes pointers to headers that begin a `Boxed<T>` of the `T` the table was made for.
struct VTable {
    needs_drop: bool,
    type_name: fn() -> &'static str,
    /// Drops the value and frees its memory, also when the destructor panics.
    destroy: unsafe fn(NonNull<Header>),
    name: unsafe fn(NonNull<Header>) -> &'static str,
    debug: unsafe fn(NonNull<Header>, &mut fmt::Formatter<'_>) -> Option<fmt::Result>,
    inherit: unsafe fn(NonNull<Header>) -> Inherited,
    /// Calls the hook of the first with (second, third); either may be missing.
    notify: unsafe fn(NonNull<Header>, Shown, Shown),
}

/// A value of the variable, if one is bound.
type Shown = Option<NonNull<Header>>;

/// What a child gets in place of a value.
pub(crate) enum Inherited {
    Same,
    Nothing,
    Other(Value),
}

/// A counted reference to a value.
#[repr(transparent)]
pub(crate) struct Value(NonNull<Header>);

// SAFETY: a value is only ever made from a `T: Send + Sync` (`Value::new`), shared by `&`, and dropped once by
// whichever thread brings the atomic count to zero.
unsafe impl Send for Value {}
// SAFETY: as above.
unsafe impl Sync for Value {}

impl Value {
    pub(crate) fn new<T: Send + Sync + 'static>(
        value: T,
        name: &'static str,
        options: &VarOptions<T>,
    ) -> Value {
        let mut flags = 0;
        if options.on_change.is_some() {
            flags |= WATCHED;
        }
        if !matches!(options.inherit, Inherit::Always) {
            flags |= SPECIAL;
        }
        let boxed = Box::new(Boxed {
            header: Header {
                count: AtomicUsize::new(1),
                vtable: &Table::<T>::TABLE,
                next: Cell::new(std::ptr::null_mut()),
                flags,
            },
            name,
            inherit: options.inherit,
            on_change: options.on_change,
            debug: options.debug,
            value,
        });
        // `Boxed` is `repr(C)` and begins with its header.
        Value(NonNull::from(Box::leak(boxed)).cast())
    }

    #[inline]
    fn header(&self) -> &Header {
        // SAFETY: `self` is a counted reference, so the allocation is alive; only the reaper writes a header, after
        // the last count is gone, and what it writes is a `Cell`.
        unsafe { self.0.as_ref() }
    }

    /// Gives the count away as a pointer; [`from_raw`](Self::from_raw) takes it back.
    #[inline]
    pub(crate) fn into_raw(self) -> NonNull<Header> {
        let pointer = self.0;
        std::mem::forget(self);
        pointer
    }

    /// # Safety
    /// `pointer` came from [`into_raw`](Self::into_raw), and this call takes over the count it stands for.
    #[inline]
    pub(crate) unsafe fn from_raw(pointer: NonNull<Header>) -> Value {
        Value(pointer)
    }

    /// A further count on a value somebody else keeps alive.
    ///
    /// # Safety
    /// The value behind `pointer` is alive during the call.
    #[inline]
    pub(crate) unsafe fn retain(pointer: NonNull<Header>) -> Value {
        // SAFETY: alive, says the caller.
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

    pub(crate) fn is_watched(&self) -> bool {
        self.flags() & WATCHED != 0
    }

    #[inline]
    pub(crate) fn is(&self, other: &Value) -> bool {
        self.0 == other.0
    }

    pub(crate) fn name(&self) -> &'static str {
        // SAFETY: the table was made for this value's type.
        unsafe { (self.header().vtable.name)(self.0) }
    }

    pub(crate) fn type_name(&self) -> &'static str {
        (self.header().vtable.type_name)()
    }

    /// The value's text, if its variable opted in. Runs a user's function.
    pub(crate) fn debug_text(&self) -> Option<String> {
        struct Text<'a>(&'a Value, Cell<bool>);
        impl fmt::Display for Text<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // SAFETY: the table was made for this value's type.
                let outcome = unsafe { (self.0.header().vtable.debug)(self.0.0, f) };
                self.1.set(outcome.is_some());
                outcome.unwrap_or(Ok(()))
            }
        }
        let text = Text(self, Cell::new(false));
        let mut written = String::new();
        // An error of the user's function leaves what was written so far.
        let _ = fmt::write(&mut written, format_args!("{text}"));
        text.1.get().then_some(written)
    }

    /// What an inheriting child gets. Runs a user's function for `Derive`.
    pub(crate) fn inherited(&self) -> Inherited {
        if self.flags() & SPECIAL == 0 {
            return Inherited::Same;
        }
        // SAFETY: the table was made for this value's type.
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
        // The only count there is is the caller's: nobody else can make one.
        let look = if weakened("look of the only one") { Relaxed } else { Acquire };
        if self.header().count.load(look) == 1 {
            // SAFETY: the last reference, which is given up here.
            return unsafe { reaper::bury(self.0) };
        }
        // Pairs with the acquire loads: what others did with the value happens before its destructor. (A load
        // rather than a fence, which ThreadSanitizer does not follow.)
        let release = if weakened("release of a value") { Relaxed } else { Release };
        if self.header().count.fetch_sub(1, release) == 1 {
            self.header().count.load(if weakened("acquire of a value") { Relaxed } else { Acquire });
            // SAFETY: the count went from one to zero, so this was the last reference, and it is given up here.
            unsafe { reaper::bury(self.0) }
        }
    }
}

/// The `T` behind a value.
///
/// # Safety
/// `pointer` is the header of a live value made with this `T`, alive for `'a`.
#[inline]
pub(crate) unsafe fn get<'a, T>(pointer: NonNull<Header>) -> &'a T {
    // SAFETY: a `Boxed<T>` begins at its header, says the caller.
    unsafe { &(*pointer.cast::<Boxed<T>>().as_ptr()).value }
}

/// Whether a destructor of the user's has to run.
///
/// # Safety
/// `pointer` is the header of a value that is still allocated.
pub(crate) unsafe fn needs_drop(pointer: NonNull<Header>) -> bool {
    // SAFETY: still allocated.
    unsafe { pointer.as_ref() }.vtable.needs_drop
}

/// Drops the value and frees it.
///
/// # Safety
/// The last count is gone, and nobody uses the pointer afterwards.
pub(crate) unsafe fn destroy(pointer: NonNull<Header>) {
    // SAFETY: still allocated until the call below.
    let destroy = unsafe { pointer.as_ref() }.vtable.destroy;
    // SAFETY: the table was made for this value's type; the caller gives the value up.
    unsafe { destroy(pointer) }
}

struct Table<T>(PhantomData<T>);

impl<T: Send + Sync + 'static> Table<T> {
    const TABLE: VTable = VTable {
        needs_drop: std::mem::needs_drop::<T>(),
        type_name: std::any::type_name::<T>,
        destroy: |pointer| {
            // SAFETY: `Value::new` leaked this very box; the caller gives it up.
            drop(unsafe { Box::from_raw(pointer.cast::<Boxed<T>>().as_ptr()) });
        },
        name: |pointer| {
            // SAFETY: a live `Boxed<T>` (contract of the table).
            unsafe { pointer.cast::<Boxed<T>>().as_ref() }.name
        },
        debug: |pointer, f| {
            // SAFETY: a live `Boxed<T>` (contract of the table).
            let boxed = unsafe { pointer.cast::<Boxed<T>>().as_ref() };
            boxed.debug.map(|debug| debug(&boxed.value, f))
        },
        inherit: |pointer| {
            // SAFETY: a live `Boxed<T>` (contract of the table).
            let boxed = unsafe { pointer.cast::<Boxed<T>>().as_ref() };
            match boxed.inherit {
                Inherit::Always => Inherited::Same,
                Inherit::Never => Inherited::Nothing,
                Inherit::Derive(derive) => match derive(&boxed.value) {
                    None => Inherited::Nothing,
                    Some(value) => {
                        let options = VarOptions {
                            default: None,
                            inherit: boxed.inherit,
                            on_change: boxed.on_change,
                            debug: boxed.debug,
                        };
                        Inherited::Other(Value::new(value, boxed.name, &options))
                    }
                },
            }
        },
        notify: |any, previous, current| {
            // SAFETY: live `Boxed<T>`s (contract of the table).
            let hook = unsafe { any.cast::<Boxed<T>>().as_ref() }.on_change;
            if let Some(hook) = hook {
                // SAFETY: as above, alive for the call.
                let (previous, current) =
                    unsafe { (previous.map(|p| get::<T>(p)), current.map(|p| get::<T>(p))) };
                hook(previous, current);
            }
        },
    };
}
