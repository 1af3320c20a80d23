//! Which thread has which line of memory, as caches of unlimited size would have it.
//!
//! A build with `-Cpasses=memprof -Cllvm-args=-memprof-use-callbacks` calls `__memprof_load` and
//! `__memprof_store` with the address before each access to memory other than the stack: plain
//! ones and atomic ones, after all optimisation. That is an instrumentation of LLVM's; its own
//! library is not used, and the functions stand here.
//!
//! Each thread is taken for a processor with a cache of its own. A line's *holders* are the threads
//! that have a copy. A thread that reads a line without holding it *fetches* it from another one. A
//! thread that writes a line must be its only holder: it *takes* the line, and the copies of all
//! other holders are gone. Fetches and takes together are the *transfers*.
//!
//! The instrumentation leaves functions alone whose names begin with `__memprof_`. So all that runs
//! while an access is recorded stands in such functions, or is compiled into them.

use std::arch::{asm, naked_asm};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Bytes of a line, as a power of two.
const LINE: u32 = 6;

/// A line that was accessed.
struct Line {
    /// The line's number; zero for a slot that is free.
    number: AtomicUsize,
    /// A bit for each thread that holds it.
    holders: AtomicU64,
}

/// What the accesses from one place in the program came to.
struct Place {
    /// Made of the two addresses; zero for a slot that is free.
    key: AtomicUsize,
    /// To where the call returns that recorded the access, and the function that it stands in.
    addresses: [AtomicUsize; 2],
    counts: [AtomicU64; 3],
}

/// Counts of a place.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Writes to a line of which another thread had a copy, or the only one.
    pub(crate) takes: u64,
    /// Copies of other threads that these writes made invalid.
    pub(crate) copies: u64,
    /// Reads of a line that another thread had written.
    pub(crate) fetches: u64,
}

static LINES: [Line; 1 << 20] =
    [const { Line { number: AtomicUsize::new(0), holders: AtomicU64::new(0) } }; 1 << 20];
static PLACES: [Place; 1 << 14] = [const {
    Place {
        key: AtomicUsize::new(0),
        addresses: [const { AtomicUsize::new(0) }; 2],
        counts: [const { AtomicU64::new(0) }; 3],
    }
}; 1 << 14];
static COUNTING: AtomicBool = AtomicBool::new(false);
/// The threads, by an address that each has for itself; a thread's bit is the number of its slot.
static THREADS: [AtomicUsize; 64] = [const { AtomicUsize::new(0) }; 64];

/// The address of this thread's own variables. (A variable of the thread's would be read by a
/// function that is recorded.)
#[inline(always)]
fn thread() -> usize {
    let thread: usize;
    // SAFETY: reads a word that no program changes.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!("mov {}, fs:0", out(reg) thread, options(nostack, preserves_flags, readonly));
        #[cfg(target_arch = "aarch64")]
        asm!("mrs {}, tpidr_el0", out(reg) thread, options(nomem, nostack, preserves_flags));
    }
    thread
}

/// The index of `key` in a table without removals. One that is full would be searched for ever.
#[inline(always)]
fn slot<T>(table: &[T], key: usize, word: impl Fn(&T) -> &AtomicUsize) -> usize {
    let mut at =
        key.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as usize) >> (usize::BITS - table.len().trailing_zeros());
    loop {
        at %= table.len();
        let word = word(&table[at]);
        let mut found = word.load(Relaxed);
        if found == 0 {
            found = word.compare_exchange(0, key, Relaxed, Relaxed).unwrap_or_else(|now| now);
        }
        // Zero: it was free, and is the key's now.
        if found == key || found == 0 {
            return at;
        }
        at += 1;
    }
}

#[inline(always)]
fn record(address: usize, place: [usize; 2], write: bool) {
    let line = &LINES[slot(&LINES, address >> LINE, |line| &line.number)];
    let me = 1 << slot(&THREADS, thread(), |thread| thread);
    let before = match line.holders.load(Relaxed) {
        holders if holders == me || !write && holders & me != 0 => return,
        _ if write => line.holders.swap(me, Relaxed),
        _ => line.holders.fetch_or(me, Relaxed),
    };
    let others = before & !me;
    if others == 0 || !COUNTING.load(Relaxed) {
        return;
    }
    let [here, caller] = place;
    let place = &PLACES[slot(&PLACES, here ^ caller.rotate_left(32), |place| &place.key)];
    place.addresses[0].store(here, Relaxed);
    place.addresses[1].store(caller, Relaxed);
    let [takes, copies, fetches] = &place.counts;
    if write {
        takes.fetch_add(1, Relaxed);
        copies.fetch_add(u64::from(others.count_ones()), Relaxed);
    } else {
        fetches.fetch_add(1, Relaxed);
    }
    // A thread that waits for a line lets the others run, so that they take turns as finely as on
    // as many processors.
    std::thread::yield_now();
}

/// Records an access to each line of a block.
#[inline(always)]
fn record_block(address: usize, bytes: usize, place: [usize; 2], write: bool) {
    let mut at = address;
    while at < address.saturating_add(bytes) {
        record(at, place, write);
        at = ((at >> LINE) + 1) << LINE;
    }
}

/// Defines a function that the compiler inserts calls of, and what it jumps to with two arguments
/// more: the address to which the call returns, and the one to which the function returns that the
/// call stands in. The second needs frame pointers.
macro_rules! callback {
    ($name:ident, $x86_64:literal, $aarch64:literal, $recorded:ident($($argument:ident: $type:ty),*) $body:block) => {
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name() {
            #[cfg(target_arch = "x86_64")]
            naked_asm!($x86_64, "jmp {}", sym $recorded);
            #[cfg(target_arch = "aarch64")]
            naked_asm!($aarch64, "b {}", sym $recorded);
        }

        #[unsafe(no_mangle)]
        unsafe extern "C" fn $recorded($($argument: $type),*) $body
    };
}

callback!(
    __memprof_load,
    "mov rsi, [rsp]; mov rdx, [rbp + 8]",
    "mov x1, x30; ldr x2, [x29, #8]",
    __memprof_record_load(address: usize, here: usize, caller: usize) {
        record(address, [here, caller], false);
    }
);
callback!(
    __memprof_store,
    "mov rsi, [rsp]; mov rdx, [rbp + 8]",
    "mov x1, x30; ldr x2, [x29, #8]",
    __memprof_record_store(address: usize, here: usize, caller: usize) {
        record(address, [here, caller], true);
    }
);
callback!(
    __memprof_memcpy,
    "mov rcx, [rsp]; mov r8, [rbp + 8]",
    "mov x3, x30; ldr x4, [x29, #8]",
    __memprof_record_copy(to: *mut u8, from: *const u8, bytes: usize, here: usize, caller: usize) {
        record_block(from.addr(), bytes, [here, caller], false);
        record_block(to.addr(), bytes, [here, caller], true);
        // SAFETY: the call stands for `memcpy` or `memmove`, whose callers promise that.
        unsafe { ptr::copy(from, to, bytes) }
    }
);
callback!(
    __memprof_memset,
    "mov rcx, [rsp]; mov r8, [rbp + 8]",
    "mov x3, x30; ldr x4, [x29, #8]",
    __memprof_record_set(to: *mut u8, value: i32, bytes: usize, here: usize, caller: usize) {
        record_block(to.addr(), bytes, [here, caller], true);
        // SAFETY: the call stands for `memset`, whose callers promise that.
        unsafe { ptr::write_bytes(to, value as u8, bytes) }
    }
);

/// `memmove` is recorded as `memcpy`.
///
/// # Safety
/// As `memmove`.
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn __memprof_memmove() {
    #[cfg(target_arch = "x86_64")]
    naked_asm!("jmp {}", sym __memprof_memcpy);
    #[cfg(target_arch = "aarch64")]
    naked_asm!("b {}", sym __memprof_memcpy);
}

/// Whether this program was built so that accesses are recorded.
pub(crate) fn is_recording() -> bool {
    LINES.iter().any(|line| line.number.load(Relaxed) != 0)
}

/// Counts while `f` runs.
pub(crate) fn count<R>(f: impl FnOnce() -> R) -> R {
    COUNTING.store(true, Relaxed);
    let result = f();
    COUNTING.store(false, Relaxed);
    result
}

/// What was counted, by place: to where the call returns that recorded the access, and the function
/// that the call stands in.
pub(crate) fn counted() -> impl Iterator<Item = ([usize; 2], Counts)> {
    PLACES.iter().filter(|place| place.key.load(Relaxed) != 0).map(|place| {
        let [takes, copies, fetches] = place.counts.each_ref().map(|count| count.load(Relaxed));
        (place.addresses.each_ref().map(|address| address.load(Relaxed)), Counts { takes, copies, fetches })
    })
}
