//! What this crate and its executor share, and what knows nothing of contexts.

pub mod panic;
pub(crate) mod switches;
pub mod sync;
pub mod tagged;
