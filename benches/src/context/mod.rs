//! What contexts cost, beside opentelemetry's, tokio's task locals, persistent maps and a bare
//! reference count.
//!
//! Rows with run-time variables build the context by `set` in a context of its own; rows with typed
//! ones, and the column "built by `with`" in `set`, by one call per variable. The two should cost
//! the same.

pub mod carry;
pub mod cli;
pub mod goals;
pub mod read;
pub mod set;
pub mod subjects;
pub mod threads;
pub mod threshold;
pub mod typed;
pub mod wire;

use crate::harness::Row;

/// The contender that is ours, measured with variables made at run time.
pub const OURS: &str = "heirloom";
/// Ours with one static and one function per variable, as a peer keyed by type needs it.
pub const OURS_TYPED: &str = "heirloom, typed";
/// `opentelemetry::Context`.
pub const OTEL: &str = "opentelemetry";
/// `imbl::HashMap` with an identity hasher.
pub const IMBL: &str = "imbl";
/// `rpds::HashTrieMapSync` with an identity hasher.
pub const RPDS: &str = "rpds";
/// `std::collections::HashMap` with an identity hasher.
pub const STD: &str = "std HashMap";
/// `tokio::task_local!`.
pub const TOKIO: &str = "tokio task_local";
/// One `Arc`, cloned and dropped.
pub const ARC: &str = "Arc clone+drop";

/// How a case of `n` variables is called.
pub fn variables(n: usize) -> String {
    if n == 1 { "1 variable".to_owned() } else { format!("{n} variables") }
}

/// Every row of the program `context`, in the order in which it runs.
pub fn rows() -> Vec<Row> {
    [read::rows(), set::rows(), carry::rows(), threads::rows(), wire::rows()].into_iter().flatten().collect()
}
