//! Calls of the system that neither the standard library nor mio makes, on Unix. Each function
//! makes one.

use std::io;
#[cfg(feature = "net")]
use std::{
    os::fd::{AsFd, AsRawFd},
    time::Duration,
};

/// The number that a call answers with. A negative one stands for the error in the thread's
/// `errno`.
fn checked(answer: impl TryInto<usize>) -> io::Result<usize> {
    answer.try_into().map_err(|_| io::Error::last_os_error())
}

/// Gives the memory of whole pages to the system: their content is zeros from now on.
///
/// # Safety
/// The pages are the caller's, and their content is not needed.
#[cfg(all(target_os = "linux", not(miri), not(loom)))]
pub(crate) unsafe fn discard(pages: *mut u8, size: usize) -> io::Result<()> {
    // SAFETY: the pages are the caller's by this function's contract; the call changes nothing but
    // their content.
    checked(unsafe { libc::madvise(pages.cast(), size, libc::MADV_DONTNEED) }).map(drop)
}

/// Listens with another length of the queue. The system reduces one that is too large.
#[cfg(feature = "net")]
pub(crate) fn listen(socket: &impl AsFd, backlog: u32) -> io::Result<()> {
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    // SAFETY: the descriptor is open while it is borrowed; the call takes numbers alone.
    checked(unsafe { libc::listen(socket.as_fd().as_raw_fd(), backlog) }).map(drop)
}

/// The *timer slack* of this thread: how many nanoseconds later than asked for the system may end
/// its sleep, so that several threads get up for one interrupt.
#[cfg(all(any(target_os = "linux", target_os = "android"), not(miri)))]
pub(crate) fn timer_slack() -> io::Result<usize> {
    // SAFETY: this call takes numbers alone.
    checked(unsafe { libc::prctl(libc::PR_GET_TIMERSLACK) })
}

#[cfg(feature = "net")]
pub(crate) fn set_nonblocking(source: &impl AsFd) -> io::Result<()> {
    let mut on = 1;
    // SAFETY: the descriptor is open while it is borrowed; this request reads one `int`.
    checked(unsafe { libc::ioctl(source.as_fd().as_raw_fd(), libc::FIONBIO, &raw mut on) }).map(drop)
}

/// Whether the limit of [`poll`] has nanoseconds. Elsewhere it is rounded up to milliseconds.
#[cfg(feature = "net")]
pub(crate) const POLL_HAS_NANOSECONDS: bool =
    cfg!(all(any(target_os = "linux", target_os = "android"), target_pointer_width = "64"));

/// Whether one of `events` is there before `limit` has passed. A limit that is too long for the
/// system becomes none.
#[cfg(feature = "net")]
pub(crate) fn poll(source: &impl AsFd, events: i16, limit: Option<Duration>) -> io::Result<bool> {
    let mut entry = libc::pollfd { fd: source.as_fd().as_raw_fd(), events, revents: 0 };
    #[cfg(all(any(target_os = "linux", target_os = "android"), target_pointer_width = "64"))]
    let ready = {
        let limit = limit.and_then(|limit| {
            Some(libc::timespec {
                tv_sec: limit.as_secs().try_into().ok()?,
                tv_nsec: limit.subsec_nanos().into(),
            })
        });
        let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: one entry, and the limit if there is one, outlive the call; the descriptor is
        // open while it is borrowed. No mask of signals is given.
        unsafe { libc::ppoll(&raw mut entry, 1, limit, std::ptr::null()) }
    };
    // Milliseconds, rounded up.
    #[cfg(not(all(any(target_os = "linux", target_os = "android"), target_pointer_width = "64")))]
    let ready = {
        let limit = limit.and_then(|limit| limit.as_nanos().div_ceil(1_000_000).try_into().ok());
        // SAFETY: one entry, which outlives the call; the descriptor is open while it is borrowed.
        unsafe { libc::poll(&raw mut entry, 1, limit.unwrap_or(-1)) }
    };
    Ok(checked(ready)? > 0)
}

/// Reads into memory that need not be initialized. As many bytes as this returns are, then.
#[cfg(all(feature = "net", any(feature = "hyper", feature = "tokio")))]
pub(crate) fn read(source: &impl AsFd, buf: &mut [std::mem::MaybeUninit<u8>]) -> io::Result<usize> {
    // SAFETY: the descriptor is open while it is borrowed; the call writes into the buffer alone,
    // and bytes that are initialized.
    checked(unsafe { libc::read(source.as_fd().as_raw_fd(), buf.as_mut_ptr().cast(), buf.len()) })
}

/// Receives, and leaves what was received for the next call.
#[cfg(feature = "serve")]
pub(crate) fn peek(socket: &impl AsFd, buf: &mut [u8]) -> io::Result<usize> {
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open while it is borrowed; the call writes into the buffer alone.
    checked(unsafe { libc::recv(fd, buf.as_mut_ptr().cast(), buf.len(), libc::MSG_PEEK) })
}
