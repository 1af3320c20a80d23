//! The mechanisms of this crate that exist for speed, each of which can be switched off.
//!
//! `RUSTFLAGS='--cfg without="pins"' cargo test -p heirloom-context` builds the crate without one;
//! several are several flags. Behaviour is the same without any of them. What each one buys is
//! measured by `cargo run --release -p heirloom-benches --bin context` with it and without it.
//!
//! | name | mechanism | what it saves |
//! | --- | --- | --- |
//! | `pins` | a value is read without being counted | two locked operations per `with` and `get` |
//! | `handle-stock` | handles for forks are taken, and given back, in batches | two locked operations per fork |
//! | `borrowed-bindings` | a copy of a table borrows values instead of counting them | two locked operations per binding and copy |
//! | `short-lookup` | the home bucket is looked at without a call | a call per `get`, where the home bucket decides |
//! | `relay` | two tasks with one context in a row need no swaps | two swaps, and the stock of handles, per such pair |
//! | `single-owner-drop` | the last count of a value is given up without a subtraction | a locked operation per value |

pub(crate) const PINS: bool = !cfg!(without = "pins");
pub(crate) const HANDLE_STOCK: bool = !cfg!(without = "handle-stock");
pub(crate) const BORROWED_BINDINGS: bool = !cfg!(without = "borrowed-bindings");
pub(crate) const SHORT_LOOKUP: bool = !cfg!(without = "short-lookup");
pub(crate) const RELAY: bool = !cfg!(without = "relay");
pub(crate) const SINGLE_OWNER_DROP: bool = !cfg!(without = "single-owner-drop");
