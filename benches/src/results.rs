//! Full runs that are kept, and what is drawn from them.
//!
//! ```text
//! a program, with --keep ──► results/<date>-<processor>-<commit>.json  a key per program
//!                                    └── newest of each program ──► RESULTS.md, ../docs/*.svg
//! ```

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::chart;
use crate::load::machine::Machine;

const SCHEMA: u64 = 1;

/// The keys of a kept file that are no program's.
const FACTS: [&str; 6] = ["schema", "date", "time", "commit", "machine", "note"];

/// The programs that come first in RESULTS.md.
const FIRST: [&str; 5] = ["executors", "net", "load", "parked", "executors-apart"];

/// What is kept of one program, and of the machine it ran on.
#[derive(Clone, Debug)]
pub struct Kept {
    file: String,
    whole: Value,
    program: String,
}

impl Kept {
    /// What the program has reported.
    pub fn report(&self) -> &Value {
        &self.whole[&self.program]["report"]
    }

    /// Which program it is of.
    pub fn program(&self) -> &str {
        &self.program
    }

    /// What a program might have reported.
    #[cfg(test)]
    pub fn of(program: &str, report: Value) -> Kept {
        let whole = json!({ program: { "report": report } });
        Kept { file: String::new(), whole, program: program.to_owned() }
    }

    /// Where and when it was measured, in one line.
    pub fn origin(&self) -> String {
        let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
        let machine = &self.whole["machine"];
        format!(
            "{}, commit {}, {} processors of: {}",
            text(&self.whole["date"]),
            text(&self.whole["commit"]),
            machine["processors"],
            text(&machine["processor"])
        )
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("results")
}

/// All kept files by name, the newest first: by the date, and of one day by the time that the last
/// program took.
fn files() -> io::Result<Vec<(String, Value)>> {
    let mut files: Vec<(String, Value)> = Vec::new();
    for entry in fs::read_dir(folder())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.push((name, serde_json::from_str(&fs::read_to_string(&path)?)?));
        }
    }
    files.sort_by_cached_key(|(_, whole)| Reverse(["date", "time"].map(|key| whole[key].to_string())));
    Ok(files)
}

/// The newest run of each program.
///
/// # Errors
/// If a file cannot be read.
pub fn newest() -> io::Result<Vec<Kept>> {
    let files = files()?;
    let keys = |whole: &Value| whole.as_object().map(|object| object.keys().cloned().collect::<Vec<_>>());
    let programs: BTreeSet<String> = files.iter().filter_map(|(_, whole)| keys(whole)).flatten().collect();
    let of = |program: String| {
        let (file, whole) = files.iter().find(|(_, whole)| whole.get(&program).is_some())?;
        Some(Kept { file: file.clone(), whole: whole.clone(), program })
    };
    let mut newest: Vec<Kept> =
        programs.into_iter().filter(|key| !FACTS.contains(&key.as_str())).filter_map(of).collect();
    newest.sort_by_key(|kept| FIRST.iter().position(|first| *first == kept.program).unwrap_or(FIRST.len()));
    Ok(newest)
}

/// Keeps a full run of a program, with the table that RESULTS.md shows of it, and writes anew what
/// is drawn from kept runs.
///
/// # Errors
/// If the profile was another than `measured`, or a file cannot be read or written.
pub fn keep(program: &str, summary: &str, report: Value) -> io::Result<()> {
    let machine = Machine::this();
    if env!("LOAD_PROFILE") != "measured" {
        return Err(io::Error::other("a run of another build is not kept: use --profile measured"));
    }
    let (date, time) = (said("date", &["-u", "+%F"])?, said("date", &["-u", "+%T"])?);
    let mut commit = said("git", &["describe", "--always", "--exclude", "*"])?;
    // What programs before this one have kept and drawn is no change.
    let but = [":/", ":!/benches/RESULTS.md", ":!/benches/results", ":!/docs/*.svg"];
    if !said("git", &[&["status", "--porcelain", "-uno", "--"][..], &but].concat())?.is_empty() {
        commit.push_str("-dirty");
    }
    fs::create_dir_all(folder())?;
    let path = folder().join(format!("{date}-{}-{commit}.json", short(&machine.processor)));
    let mut whole = match fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text)?,
        Err(_) => json!({ "schema": SCHEMA, "date": date, "commit": commit, "machine": machine.json() }),
    };
    whole["time"] = json!(time);
    whole[program] = json!({ "summary": summary.lines().collect::<Vec<_>>(), "report": report });
    fs::write(path, format!("{whole}\n"))?;
    for (path, text) in drawn()? {
        fs::write(path, text)?;
    }
    Ok(())
}

/// What a command says.
fn said(command: &str, arguments: &[&str]) -> io::Result<String> {
    let output = Command::new(command).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A processor's name as part of a file's name.
fn short(processor: &str) -> String {
    let plain = processor.to_lowercase().replace("(r)", "").replace("(tm)", "");
    let words = plain.split(|c: char| !c.is_ascii_alphanumeric());
    words.filter(|word| !word.is_empty() && *word != "processor").take(4).collect::<Vec<_>>().join("-")
}

/// The files that are drawn from kept runs, with their text.
///
/// # Errors
/// If a kept file cannot be read.
pub fn drawn() -> io::Result<Vec<(PathBuf, String)>> {
    let newest = newest()?;
    let tails = chart::tails(&newest);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = "# Results\n\n\
        Written by the programs from the newest kept run of each ([results](results)); \
        [README.md](README.md) says\nhow to run and how to read them, [NOTES.md](NOTES.md) why goals \
        were missed and what was tried.\n\n\
        ![Ratios to tokio](../docs/ratios.svg)\n"
        .to_owned();
    for kept in &newest {
        let section = &kept.whole[&kept.program];
        let lines = section["summary"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let note = kept.whole["note"].as_str().map_or(String::new(), |note| format!(" {note}"));
        let (program, origin, file) = (&kept.program, kept.origin(), &kept.file);
        text.push_str(&format!("\n## {program}\n\n[{origin}](results/{file}).{note}\n\n"));
        if program == "load" && tails.is_some() {
            text.push_str("![Latencies under load, as ratios to tokio's](../docs/tails.svg)\n\n");
        }
        lines.for_each(|line| text.push_str(&format!("{line}\n")));
    }
    let mut drawn =
        vec![(root.join("RESULTS.md"), text), (root.join("../docs/ratios.svg"), chart::ratios(&newest))];
    drawn.extend(tails.map(|tails| (root.join("../docs/tails.svg"), tails)));
    Ok(drawn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_is_up_to_date() {
        for (path, text) in drawn().unwrap() {
            let there = fs::read_to_string(&path).unwrap_or_default();
            assert!(there == text, "{}: cargo run -p heirloom-benches --bin results", path.display());
        }
    }

    #[test]
    fn a_processor_has_a_short_name() {
        assert_eq!(short("Intel(R) Xeon(R) Processor @ 2.10GHz"), "intel-xeon-2-10ghz");
        assert_eq!(short("AMD EPYC"), "amd-epyc");
    }
}
