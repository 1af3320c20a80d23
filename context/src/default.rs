//! Defaults that are being made.
//!
//! A variable's default is made once, at the first need, by an expression that is user code. A
//! thread that needs a default which another thread is making waits for it, in a [`OnceLock`]. The
//! expression may need other defaults. If in the end it needs its own, a thread would wait for
//! itself, or threads for each other in a circle, for ever. So it is recorded which thread makes
//! what and which thread waits for what, and a wait that would close a circle is a panic.
//!
//! # Terms
//!
//! * A **record** says that a thread needs one default: it **waits** for it, or **makes** it.
//! * A **circle** is a list of threads of which each waits for what the next one makes, and the
//!   last one for what the first one makes.
//!
//! # Transitions
//!
//! * **M1**, a thread needs a default that is not there: [`Makers::wait`]. Unless that closes a
//!   circle, it is recorded as waiting.
//! * **M2**, `OnceLock` chooses the thread to make it: [`Needed::begin`]. Its record becomes one of
//!   making.
//! * **M3**, the default is there, or the expression has panicked: drop of [`Needed`]. The record
//!   goes.
//!
//! # Why each circle is found, and nothing else
//!
//! In a circle, each thread makes one default and waits for the next: M2, then M1. So in whatever
//! order the threads go, the last step of a circle is an M1. Under the one lock this M1 sees all
//! other records. A thread that waits for a default whose maker makes progress closes no circle:
//! the search ends at a thread that does not wait.
//!
//! The lock guards the records only: expressions run, and threads wait, outside of it.
#![forbid(unsafe_code)]

#[cfg(all(test, loom))]
mod models;

use std::fmt;
use std::sync::OnceLock;

use crate::util::sync::{Mutex, lock, weakened};

/// The second parameter of a [`ContextVar`](crate::ContextVar) without a default, which reads as
/// `Option<T>`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct NoDefault;

/// The second parameter of a [`ContextVar`](crate::ContextVar) with a default, which reads as `T`;
/// made by [`ContextVar::with_default`](crate::ContextVar::with_default).
pub struct WithDefault<T> {
    make: fn() -> T,
    made: OnceLock<T>,
}

impl<T> WithDefault<T> {
    pub(crate) const fn new(make: fn() -> T) -> Self {
        WithDefault { make, made: OnceLock::new() }
    }

    /// The value, made at the first need. `name` is the variable's, for the text of a panic.
    ///
    /// # Panics
    /// As [`get_or_make`].
    #[inline(never)]
    pub(crate) fn value(&self, name: &'static str) -> &T {
        self.made.get().unwrap_or_else(|| get_or_make(&self.made, name, self.make))
    }
}

impl<T> fmt::Debug for WithDefault<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithDefault").field("is_made", &self.made.get().is_some()).finish_non_exhaustive()
    }
}

struct Record {
    /// The thread, by an address that no other living thread has.
    thread: usize,
    /// The default, by its address.
    key: usize,
    name: &'static str,
    makes: bool,
}

/// The records of all threads; of one thread in the order of its steps.
struct Makers(Mutex<Vec<Record>>);

impl Makers {
    /// Step M1. An error has the names along the circle.
    fn wait(&self, thread: usize, key: usize, name: &'static str) -> Result<Needed<'_>, Vec<&'static str>> {
        let mut records = lock(&self.0);
        if !weakened("look for a circle")
            && let Some(names) = circle(&records, thread, key)
        {
            return Err(names);
        }
        records.push(Record { thread, key, name, makes: false });
        Ok(Needed { makers: self, thread, key })
    }
}

/// The names along the circle that there would be if the thread waited for the default.
fn circle(records: &[Record], thread: usize, mut key: usize) -> Option<Vec<&'static str>> {
    let mut names = Vec::new();
    loop {
        let maker = records.iter().find(|record| record.makes && record.key == key)?.thread;
        let made = records.iter().filter(|record| record.makes && record.thread == maker);
        names.extend(made.skip_while(|record| record.key != key).map(|record| record.name));
        if maker == thread {
            names.push(names[0]);
            return Some(names);
        }
        key = records.iter().find(|record| !record.makes && record.thread == maker)?.key;
    }
}

/// A thread needs a default until this is dropped: step M3.
struct Needed<'a> {
    makers: &'a Makers,
    thread: usize,
    key: usize,
}

impl Needed<'_> {
    fn is(&self, record: &Record) -> bool {
        (record.thread, record.key) == (self.thread, self.key)
    }

    /// Step M2.
    fn begin(&self) {
        let mut records = lock(&self.makers.0);
        records.iter_mut().filter(|record| self.is(record)).for_each(|record| record.makes = true);
    }
}

impl Drop for Needed<'_> {
    fn drop(&mut self) {
        // In a model that has failed, perhaps while it had the lock, everything stays as it is.
        if !cfg!(loom) || !std::thread::panicking() {
            lock(&self.makers.0).retain(|record| !self.is(record));
        }
    }
}

#[cfg(not(loom))]
static MAKERS: Makers = Makers(Mutex::new(Vec::new()));

#[cfg(loom)]
loom::lazy_static! {
    static ref MAKERS: Makers = Makers(Mutex::new(Vec::new()));
}

thread_local! {
    // Its address is what counts. Without drop glue, so that it answers during thread teardown.
    static HERE: u8 = const { 0 };
}

/// The value in `once`, made by `make` if there is none.
///
/// # Panics
/// If making it needs it; or if `make` does, and then the next call tries again.
fn get_or_make<'a, T>(once: &'a OnceLock<T>, name: &'static str, make: fn() -> T) -> &'a T {
    let needed = need(std::ptr::from_ref(once).addr(), name);
    once.get_or_init(|| {
        needed.begin();
        make()
    })
}

/// The calling thread needs the default at this address. Apart from [`get_or_make`], which is
/// compiled for each type.
fn need(key: usize, name: &'static str) -> Needed<'static> {
    let thread = HERE.with(|here| std::ptr::from_ref(here).addr());
    MAKERS.wait(thread, key, name).unwrap_or_else(|circle| {
        panic!(
            "the default of the context variable `{name}` needs itself: {}. A default may read other variables, but \
             none whose default reads it",
            circle.join(" -> ")
        )
    })
}
