//! The tests of this crate are all there is of it.
