//! What stands for traced polls in a build without the feature `stacks`: nothing.
#![forbid(unsafe_code)]

use super::leaf::Leaf;

/// What a record has for traced polls.
pub(crate) struct Trace;

impl Trace {
    pub(crate) fn new() -> Trace {
        Trace
    }

    #[inline]
    pub(crate) fn poll_begins(&self, _base: usize) {}

    #[inline]
    pub(crate) fn note(&self, _index: u64, _leaf: Leaf) {}

    #[inline]
    pub(crate) fn poll_ends(&self, _leaves: u64, _yielded: bool) {}

    #[inline]
    pub(crate) fn task_ends(&self) {}
}
