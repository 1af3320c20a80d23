//! Where contexts meet other libraries: rows of the guide's page `crossings`, which names the
//! tests. Those of hyper are in `hyper`, and those of libraries that are too much for every build
//! of the workspace in `tests/ecosystem/tests/crossings`.

mod channels;
mod polled;
