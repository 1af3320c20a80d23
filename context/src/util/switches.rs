//! The mechanisms of this crate that exist for speed alone. Each can be switched off.
//!
//! `RUSTFLAGS='--cfg without="pins"' cargo test -p heirloom-context` builds the crate without one;
//! for several, repeat the flag. What each one buys is measured with it and without it by
//! `cargo run --profile measured -p heirloom-benches --bin context`.
//!
//! Behaviour is the same without any of them, and all tests pass.

/// A value is read without being counted: two locked operations less per `get` and `with`.
pub(crate) const PINS: bool = !cfg!(without = "pins");

/// A copy of a table borrows values instead of counting them: two locked operations less for each
/// binding in each copy.
pub(crate) const BORROWED_BINDINGS: bool = !cfg!(without = "borrowed-bindings");

/// The home bucket is looked at in line: a call less per `get`, where that bucket decides.
pub(crate) const SHORT_LOOKUP: bool = !cfg!(without = "short-lookup");

/// An entry is exchanged where it stands, if nothing but its bucket changes: the slot is not closed
/// for it, nor are destructors held back.
pub(crate) const IN_PLACE: bool = !cfg!(without = "in-place");

/// The last count of a value is given up without a subtraction: a locked operation less per value.
pub(crate) const SINGLE_OWNER_DROP: bool = !cfg!(without = "single-owner-drop");

/// A worker counts in batches the handles of bindings that more than a thousand tasks share.
pub(crate) const SPARE_HANDLES: bool = !cfg!(without = "spare-handles");
