//! The process from outside: threads, descriptors, memory, CPU time, children.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// How many threads the process has. `None` where `/proc` does not tell.
pub fn threads() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/task").ok()?.count())
}

/// How many threads have a name that begins with `prefix` (the system keeps fifteen bytes of a
/// name).
pub fn threads_named(prefix: &str) -> Option<usize> {
    let prefix = &prefix[..prefix.len().min(15)];
    let names = std::fs::read_dir("/proc/self/task").ok()?.filter_map(|task| {
        // A thread may end between the two reads.
        std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
    });
    Some(names.filter(|name| name.starts_with(prefix)).count())
}

/// How many descriptors are open.
pub fn open_descriptors() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count())
}

/// How much memory is resident.
pub fn resident_bytes() -> Option<usize> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: usize = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

/// The CPU time of the threads whose name begins with `prefix`, user and system, in ticks of a
/// hundredth of a second.
pub fn cpu_time(prefix: &str) -> Option<Duration> {
    let prefix = &prefix[..prefix.len().min(15)];
    let mut ticks = 0;
    for task in std::fs::read_dir("/proc/self/task").ok()? {
        let Ok(stat) = std::fs::read_to_string(task.ok()?.path().join("stat")) else { continue };
        // The name stands in parentheses and may contain anything; the fields after it are numbers.
        let (head, tail) = stat.rsplit_once(')')?;
        if !head.split_once('(')?.1.starts_with(prefix) {
            continue;
        }
        let mut fields = tail.split_whitespace().skip(11);
        let user: u64 = fields.next()?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        ticks += user + system;
    }
    Some(Duration::from_millis(ticks * 10))
}

/// How often the threads whose name begins with `prefix` have gone to sleep, by the system's count.
pub fn naps(prefix: &str) -> Option<u64> {
    let prefix = &prefix[..prefix.len().min(15)];
    let mut naps = 0;
    for task in std::fs::read_dir("/proc/self/task").ok()? {
        // A thread may end between the two reads.
        let Ok(status) = std::fs::read_to_string(task.ok()?.path().join("status")) else { continue };
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if field("Name:")?.starts_with(prefix) {
            naps += field("voluntary_ctxt_switches:")?.parse::<u64>().ok()?;
        }
    }
    Some(naps)
}

/// Asks again and again, yielding, until `condition` holds or ten seconds (interpreted: ten
/// minutes) are over. For what the operating system does in its own time: a joined thread leaves
/// `/proc` a little later. Not for ordering threads.
pub fn wait_until(condition: impl Fn() -> bool) -> bool {
    let begin = Instant::now();
    while !condition() {
        if begin.elapsed() > Duration::from_secs(if cfg!(miri) { 600 } else { 10 }) {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

const CHILD: &str = "HEIRLOOM_TESTS_CHILD";
const GOT_HERE: &str = "the child got here";

/// Which of the two processes a test is.
#[derive(Debug)]
pub enum Child {
    /// The child: do the deed, then call [`say_as_child`].
    Here,
    /// The parent: this is how the child ended.
    Ended(Output),
}

/// Starts the test called `test` again, alone, in a process of its own; in that process, says so.
/// With `main_thread` it runs on the child's main thread, whose thread-locals are destroyed by
/// `exit`.
pub fn in_child(test: &str, main_thread: bool) -> Child {
    if std::env::var(CHILD).is_ok_and(|child| child == test) {
        return Child::Here;
    }
    let output = Command::new(std::env::current_exe().expect("the test binary"))
        .args(["--exact", test, "--nocapture", "--test-threads", if main_thread { "1" } else { "2" }])
        .env(CHILD, test)
        .env("RUST_BACKTRACE", "0")
        .output()
        .expect("a child process");
    Child::Ended(output)
}

/// As [`in_child`], on a thread that is not the main one, with a limit of the shell's `ulimit`, as
/// in `-v 500000`, and stacks of so many MiB for threads that do not say how much they need. The
/// allocator keeps one arena: glibc reserves 64 MiB of address space for each arena, and how many
/// there are hangs on which threads happen to allocate at the same time.
pub fn in_child_with_limit(test: &str, limit: &str, stack: usize) -> Child {
    let stack = stack << 20;
    in_child_by(test, &format!("ulimit {limit} && MALLOC_ARENA_MAX=1 RUST_MIN_STACK={stack} exec \"$@\""))
}

/// As [`in_child`], on a thread that is not the main one, started by a shell, to which the program
/// and its arguments are `"$@"`.
pub fn in_child_by(test: &str, script: &str) -> Child {
    if std::env::var(CHILD).is_ok_and(|child| child == test) {
        return Child::Here;
    }
    let output = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(std::env::current_exe().expect("the test binary"))
        .args(["--exact", test, "--nocapture", "--test-threads", "2"])
        .env(CHILD, test)
        .env("RUST_BACKTRACE", "0")
        .output()
        .expect("a child process");
    Child::Ended(output)
}

/// Tells the parent that the child got to its end.
pub fn say_as_child() {
    println!("{GOT_HERE}");
}

impl Child {
    /// In the parent: fails unless the child got to its end and the process ended well. Whether
    /// this is the child.
    #[track_caller]
    pub fn is_here(self) -> bool {
        let Child::Ended(output) = self else { return true };
        let said = String::from_utf8_lossy(&output.stdout);
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(GOT_HERE), "{:?}\n{said}\n{complained}", output.status);
        assert!(output.status.success(), "{:?}\n{said}\n{complained}", output.status);
        false
    }
}
