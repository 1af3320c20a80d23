//! The driver of a build without the feature `net`: the interface of `driver`, with nothing behind
//! it.
//!
//! A [`Driver`] cannot exist, so the compiler removes what its callers do with one.
#![forbid(unsafe_code)]

use std::io;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

/// A poll, of which there is none.
#[derive(Debug)]
pub(crate) enum Driver {}

impl Driver {
    /// Waits for events.
    pub(crate) fn wait(&self, _limit: impl FnOnce() -> Option<Duration>, _wakers: &mut Vec<Waker>) {
        match *self {}
    }

    /// Takes the events that have come.
    pub(crate) fn try_poll(&self, _wakers: &mut Vec<Waker>) {
        match *self {}
    }

    /// Whether no event comes any more.
    pub(crate) fn has_ended(&self) -> bool {
        match *self {}
    }

    /// Ends the poll.
    pub(crate) fn end(&self) {
        match *self {}
    }
}

/// A runtime's driver, which never starts.
#[derive(Debug)]
pub(crate) struct LazyDriver;

impl LazyDriver {
    pub(crate) fn new() -> LazyDriver {
        LazyDriver
    }

    /// No driver.
    #[inline]
    pub(crate) fn get(&self) -> Option<&Arc<Driver>> {
        None
    }

    /// An error, without calling `started`.
    pub(crate) fn get_or_start(&self, _started: impl FnOnce()) -> io::Result<Arc<Driver>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Does nothing: no worker sleeps in a poll.
    pub(crate) fn wake(&self) {}
}

/// Wakes `wakers`, which are none, and returns how many they were.
pub(crate) fn wake_all(_wakers: &mut Vec<Waker>) -> usize {
    0
}
