//! The build script of every variant: switches off what the package's name says.

use std::env;

/// Which mechanisms there are.
const MECHANISMS: &str = include_str!("mechanisms");

fn main() {
    println!("cargo::rerun-if-changed=../../mechanisms");
    println!("cargo::rustc-check-cfg=cfg(without, values(any()))");
    let package = env::var("CARGO_PKG_NAME").expect("cargo names the package");
    let off: Vec<&str> = match package.split_once("-without-") {
        Some((_, names)) => names.split('-').collect(),
        // Nothing is off: what this variant differs by is the noise of the comparison.
        None if package.ends_with("-same") => Vec::new(),
        None => MECHANISMS.lines().filter(|line| !line.starts_with('#')).flat_map(names).collect(),
    };
    for mechanism in off {
        println!("cargo::rustc-cfg=without=\"{mechanism}\"");
    }
}

/// The mechanisms of a line, which begins with the name of a crate.
fn names(line: &str) -> impl Iterator<Item = &str> {
    line.split_whitespace().skip(1).flat_map(|names| names.split('-'))
}
