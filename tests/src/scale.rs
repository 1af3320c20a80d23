//! Counts that shrink where an interpreter runs the tests.

/// So many rounds, tasks or steps in an ordinary run. An interpreter, which is some thousand times
/// slower, does a hundredth of them, at least four: it looks for what a single round does wrong,
/// under one schedule after the other.
pub const fn scaled(ordinary: usize) -> usize {
    let shrunk = ordinary / 100;
    match (cfg!(miri), ordinary) {
        (false, _) | (true, 0..4) => ordinary,
        (true, _) if shrunk < 4 => 4,
        (true, _) => shrunk,
    }
}
