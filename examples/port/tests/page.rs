//! The guide's page on the port shows the whole difference of the two programs, and no other.

use std::fmt::Write;

const PAGE: &str = include_str!("../../../executor/src/guide/port.md");
const TOKIO: &str = include_str!("../tokio.rs");
const HEIRLOOM: &str = include_str!("../heirloom.rs");

/// The blocks of the page that are marked as `diff`, as lines.
fn hunks() -> impl Iterator<Item = Vec<&'static str>> {
    let blocks = PAGE.split("```diff\n").skip(1);
    blocks.map(|block| block.lines().take_while(|line| *line != "```").collect())
}

/// The lines of a hunk that begin with a space or with `sign`, without that column.
fn side<'a>(hunk: &[&'a str], sign: char) -> Vec<&'a str> {
    hunk.iter().filter_map(|line| line.strip_prefix([' ', sign])).collect()
}

/// Where `lines` stand in `text`, from `start` on.
fn position(text: &[&str], start: usize, lines: &[&str]) -> Option<usize> {
    (start..=text.len().checked_sub(lines.len())?).find(|at| text[*at..].starts_with(lines))
}

/// What the page says, applied to one program, is the other: no line that differs is left out, and
/// none on the page is made up.
#[test]
fn the_page_turns_one_program_into_the_other() {
    let (tokio, mut at) = (TOKIO.lines().collect::<Vec<_>>(), 0);
    let mut ported = Vec::new();
    for hunk in hunks() {
        let (old, new) = (side(&hunk, '-'), side(&hunk, '+'));
        assert!(
            hunk.iter().all(|line| line.starts_with([' ', '-', '+'])),
            "a line of a hunk begins with ' ', '-' or '+', an empty one too: {hunk:#?}"
        );
        let found = position(&tokio, at, &old)
            .unwrap_or_else(|| panic!("tokio.rs has no such lines after line {at}: {old:#?}"));
        ported.extend(&tokio[at..found]);
        ported.extend(new);
        at = found + old.len();
    }
    ported.extend(&tokio[at..]);

    let heirloom: Vec<_> = HEIRLOOM.lines().collect();
    let mut differing = String::new();
    for (number, (page, file)) in ported.iter().zip(&heirloom).enumerate().filter(|(_, (a, b))| a != b) {
        writeln!(differing, "line {}\n  by the page: {page}\n  in heirloom.rs: {file}", number + 1).unwrap();
    }
    assert!(differing.is_empty(), "the page leaves out a difference, or has one too many:\n{differing}");
    assert_eq!(ported.len(), heirloom.len());
}
