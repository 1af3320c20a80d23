//! Where other crates' runtimes are asked for: each module stands for one of them, behind the feature of its name.

#[cfg(feature = "hyper")]
pub mod hyper;
