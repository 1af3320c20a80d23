//! What the machine is, and what of it this process uses. Linux tells all of it, other systems
//! little: what is not told is `None` and missing in the report.

use std::fs;
use std::io;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// Facts that belong to every report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Processors this process may use.
    pub processors: usize,
    /// What the processor calls itself.
    pub processor: String,
    /// The operating system and its version.
    pub system: String,
    /// Memory of the machine, in bytes.
    pub memory: Option<u64>,
    /// The compiler this program was built with.
    pub rustc: &'static str,
    /// Whether it was built with optimisation: numbers of a build without mean nothing.
    pub optimised: bool,
}

impl Machine {
    /// This one.
    pub fn this() -> Machine {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let kernel = format!(
            "{} {}",
            read("/proc/sys/kernel/ostype").trim(),
            read("/proc/sys/kernel/osrelease").trim()
        );
        let release = read("/etc/os-release");
        let distribution = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
        let system = match (kernel.trim(), distribution) {
            ("", _) => std::env::consts::OS.to_owned(),
            (kernel, None) => kernel.to_owned(),
            (kernel, Some(name)) => format!("{} ({kernel})", name.trim_matches('"')),
        };
        let processor =
            read("/proc/cpuinfo").lines().find_map(|line| field(line, "model name")).map(str::to_owned);
        Machine {
            processors: thread::available_parallelism().map_or(1, usize::from),
            processor: processor.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            system,
            memory: read("/proc/meminfo").lines().find_map(|line| kilobytes(line, "MemTotal")),
            rustc: env!("LOAD_RUSTC"),
            optimised: !cfg!(debug_assertions),
        }
    }
}

impl Machine {
    /// For reports.
    pub fn json(&self) -> Value {
        json!({
            "processors": self.processors,
            "processor": self.processor,
            "system": self.system,
            "memory_bytes": self.memory,
            "rustc": self.rustc,
            "optimised": self.optimised,
        })
    }
}

/// Has the system wake the calling thread when its time is up. By default Linux takes up to 50 µs
/// more, to wake several threads at once.
pub fn wake_this_thread_in_time() {
    // Where it refuses, requests start later, which the report tells.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
}

/// The version of an executor, as this program was built.
pub fn version_of(executor: &str) -> &'static str {
    match executor {
        "heirloom" => env!("LOAD_VERSION_HEIRLOOM"),
        "tokio" => env!("LOAD_VERSION_TOKIO"),
        "smol" => env!("LOAD_VERSION_SMOL"),
        "async-executor" => env!("LOAD_VERSION_ASYNC_EXECUTOR"),
        _ => "unknown",
    }
}

/// The text after `name` and a colon.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (have, value) = line.split_once(':')?;
    (have.trim() == name).then_some(value.trim())
}

/// The bytes in a line such as `VmRSS:     1234 kB`.
fn kilobytes(line: &str, name: &str) -> Option<u64> {
    let kilobytes: u64 = field(line, name)?.strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Resident memory of this process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Now.
    pub now: u64,
    /// At most, since it was last forgotten.
    pub peak: u64,
}

/// How much memory is resident.
pub fn memory() -> Option<Memory> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let find = |name| status.lines().find_map(|line| kilobytes(line, name));
    Some(Memory { now: find("VmRSS")?, peak: find("VmHWM")? })
}

/// Forgets the peak so far.
pub fn forget_peak() -> io::Result<()> {
    fs::write("/proc/self/clear_refs", "5")
}

/// Processor time this process has used, of all its threads.
pub fn processor_time() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    ticks_of(&stat).map(|ticks| Duration::from_millis(ticks * 10))
}

/// Processor time that all programs on this machine have used, and what a host gave to its other
/// guests.
pub fn everybodys_time() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    busy_of(stat.lines().next()?).map(|ticks| Duration::from_millis(ticks * 10))
}

/// All but idle time and waiting, in the first line of `/proc/stat`, in hundredths of a second.
fn busy_of(line: &str) -> Option<u64> {
    let mut fields = line.strip_prefix("cpu ")?.split_whitespace().map(|field| field.parse::<u64>().ok());
    let mut busy = 0;
    // user nice system idle iowait irq softirq steal; guests are within user.
    for counts in [true, true, true, false, false, true, true, true] {
        let ticks = fields.next()??;
        busy += if counts { ticks } else { 0 };
    }
    Some(busy)
}

/// User and system time in a line of `/proc/self/stat`, in hundredths of a second.
fn ticks_of(stat: &str) -> Option<u64> {
    // The name, in parentheses, may contain anything.
    let (_, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// Processor time one thread has used.
pub fn thread_time(thread: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
    Some(Duration::from_nanos(stat.split_whitespace().next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_whose_name_has_spaces_and_parentheses_has_its_times_read() {
        let stat = "12 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 1 0";
        assert_eq!(ticks_of(stat), Some(200));
        assert_eq!(ticks_of("12 (a"), None);
    }

    #[test]
    fn idle_time_is_nobodys() {
        assert_eq!(busy_of("cpu  1 20 300 9999 9999 4000 50000 600000 7 8"), Some(654_321));
        assert_eq!(busy_of("cpu0 1 2"), None);
    }

    #[test]
    fn sizes_are_read_in_bytes_and_only_of_the_field_that_was_asked_for() {
        assert_eq!(kilobytes("VmRSS:\t    1234 kB", "VmRSS"), Some(1234 * 1024));
        assert_eq!(kilobytes("VmRSS:\t    1234 kB", "VmHWM"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn linux_tells_all_of_it() {
        let memory = memory().unwrap();
        assert!(memory.now > 0 && memory.peak >= memory.now / 2);
        assert!(processor_time().is_some());
        let thread: u32 = std::process::id();
        assert!(thread_time(thread).is_some());
    }
}
