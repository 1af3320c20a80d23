//! Tells the load test what it was built with and against, for its reports.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=../Cargo.lock");
    // The program `scaling` builds another one, for the same target.
    println!("cargo:rustc-env=BENCHES_TARGET={}", env::var("TARGET").expect("cargo sets it"));
    println!("cargo:rustc-env=LOAD_PROFILE={}", profile().as_deref().unwrap_or("unknown"));
    println!("cargo:rustc-env=LOAD_RUSTC={}", rustc().as_deref().unwrap_or("unknown"));
    let lock = fs::read_to_string("../Cargo.lock").unwrap_or_default();
    for name in ["heirloom", "tokio", "smol", "async-executor"] {
        let version = version(&lock, name).unwrap_or("unknown");
        println!("cargo:rustc-env=LOAD_VERSION_{}={version}", name.to_uppercase().replace('-', "_"));
    }
}

/// The folder of the profile, which cargo names after it: PROFILE itself tells `release` from
/// `debug` alone.
fn profile() -> Option<String> {
    let out = PathBuf::from(env::var_os("OUT_DIR")?);
    let build = out.ancestors().find(|folder| folder.ends_with("build"))?;
    Some(build.parent()?.file_name()?.to_str()?.to_owned())
}

fn rustc() -> Option<String> {
    let output = Command::new(env::var_os("RUSTC")?).arg("--version").output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

/// The version that the lock file names right after the package's name.
fn version<'a>(lock: &'a str, name: &str) -> Option<&'a str> {
    let (_, after) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
    Some(after.split_once('"')?.0)
}
