//! Where contexts meet other libraries: rows of the guide's page `crossings`. Those of libraries
//! that the workspace is built with anyway are in `tests/tests/it/crossings`.

mod moka;
mod spans;
mod tonic;
mod tower;
