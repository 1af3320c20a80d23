//! Defaults that are being made.
//!
//! A variable's default is made once, at the first need, by an expression that is a stranger's
//! code. A thread that needs a value that another one is making waits for it, in a [`OnceLock`].
//! The expression may need other defaults. If in the end it needs its own, a thread would wait for
//! itself, or threads for each other in a circle, for ever. So who is making what, and who waits
//! for what, is written down, and a wait that would close a circle is a panic.
//!
//! | step | written down |
//! | --- | --- |
//! | a thread needs a value that is not there: [`Makers::wait`] | it waits for the value, if that closes no circle |
//! | it begins to make the value, since nobody else does: [`Waiting::begin`] | it waits no more; it makes the value |
//! | it has made it, or its expression has panicked | it makes it no more |
//! | the value is there, by whomever | it waits no more |
//!
//! Why each circle is found: in a circle, each thread makes one value and waits for the next. A
//! thread does so in this order: it begins, and what it runs then waits. So whatever the order
//! among threads, the last thing to be written down is a wait, and under the one lock this wait
//! sees all others. Why nothing else is taken for a circle: a thread that waits for another one's
//! value, while that one goes on, closes none.
//!
//! The lock guards the writing down only: expressions run, and threads wait, outside of it.
#![forbid(unsafe_code)]

#[cfg(all(test, loom))]
mod models;

use std::sync::{OnceLock, PoisonError};

use crate::util::sync::{Mutex, weakened};

/// A value that is being made, by its address.
type Key = usize;

/// A thread, by an address that no other living thread has.
type Thread = usize;

#[derive(Default)]
struct Ledger {
    /// What each thread makes; of one thread in the order in which it has begun.
    making: Vec<(Thread, Key, &'static str)>,
    waiting: Vec<(Thread, Key)>,
}

impl Ledger {
    /// The names along the circle that there would be if the thread waited for the value.
    fn circle(&self, thread: Thread, mut key: Key) -> Option<Vec<&'static str>> {
        let mut names = Vec::new();
        loop {
            let (maker, ..) = *self.making.iter().find(|(_, made, _)| *made == key)?;
            let of_maker = self.making.iter().filter(|(other, ..)| *other == maker);
            names.extend(of_maker.skip_while(|(_, made, _)| *made != key).map(|(.., name)| *name));
            if maker == thread {
                names.push(names[0]);
                return Some(names);
            }
            key = self.waiting.iter().find(|(waiter, _)| *waiter == maker)?.1;
        }
    }
}

/// Who makes what.
struct Makers {
    ledger: Mutex<Ledger>,
}

impl Makers {
    fn with_ledger<R>(&self, f: impl FnOnce(&mut Ledger) -> R) -> R {
        f(&mut self.ledger.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The same for drops. In a model that has failed, perhaps while it had the lock, everything is
    /// left as it is.
    fn with_ledger_in_drop(&self, f: impl FnOnce(&mut Ledger)) {
        if !cfg!(loom) || !std::thread::panicking() {
            self.with_ledger(f);
        }
    }

    /// The thread needs a value. An error is the circle of names that its wait would close.
    fn wait(&self, thread: Thread, key: Key) -> Result<Waiting<'_>, Vec<&'static str>> {
        self.with_ledger(|ledger| {
            if !weakened("look for a circle")
                && let Some(names) = ledger.circle(thread, key)
            {
                return Err(names);
            }
            ledger.waiting.push((thread, key));
            Ok(Waiting { makers: self, thread, key })
        })
    }
}

/// A thread waits for a value until this is dropped.
struct Waiting<'a> {
    makers: &'a Makers,
    thread: Thread,
    key: Key,
}

impl Waiting<'_> {
    fn end(&self, ledger: &mut Ledger) {
        ledger.waiting.retain(|(thread, _)| *thread != self.thread);
    }

    /// It makes the value instead, until the answer is dropped.
    fn begin(&self, name: &'static str) -> Making<'_> {
        self.makers.with_ledger(|ledger| {
            self.end(ledger);
            ledger.making.push((self.thread, self.key, name));
        });
        Making(self)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.makers.with_ledger_in_drop(|ledger| self.end(ledger));
    }
}

/// A thread makes a value until this is dropped.
struct Making<'a>(&'a Waiting<'a>);

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.0.makers.with_ledger_in_drop(|ledger| ledger.making.retain(|(_, key, _)| *key != self.0.key));
    }
}

#[cfg(not(loom))]
static MAKERS: Makers = Makers { ledger: Mutex::new(Ledger { making: Vec::new(), waiting: Vec::new() }) };

#[cfg(loom)]
loom::lazy_static! {
    static ref MAKERS: Makers = Makers { ledger: Mutex::new(Ledger::default()) };
}

thread_local! {
    // Its address is what counts. Without drop glue, so that it answers during thread teardown.
    static HERE: u8 = const { 0 };
}

/// The value in `lock`, made by `make` if there is none.
///
/// # Panics
/// If making it needs it; or if `make` does, and then the next call tries again.
pub(crate) fn get_or_make<'a, T>(lock: &'a OnceLock<T>, name: &'static str, make: fn() -> T) -> &'a T {
    let thread = HERE.with(|here| std::ptr::from_ref(here).addr());
    let waiting = match MAKERS.wait(thread, std::ptr::from_ref(lock).addr()) {
        Ok(waiting) => waiting,
        Err(circle) => panic!(
            "the default of the context variable `{name}` needs itself: {}. A default may read other variables, but \
             none whose default reads it",
            circle.join(" -> ")
        ),
    };
    lock.get_or_init(|| {
        let _making = waiting.begin(name);
        make()
    })
}
