//! Where contexts meet other libraries: rows of the guide's page `crossings`. Those of tonic
//! are in `guest/tonic.rs`, those of libraries that the workspace is built with anyway in
//! `tests/tests/services/crossings`.

mod moka;
mod spans;
mod tower;
