//! Operations of an executor that take part in the program `scaling`: each is done by as many
//! workers as there are, at the same time.
//!
//! The binary of this package, `counted`, does them with all accesses to memory counted; the
//! program `scaling` starts it, and times the same operations.
#![forbid(unsafe_code)]

pub mod operation;
