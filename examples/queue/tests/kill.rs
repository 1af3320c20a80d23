//! Kills workers and enqueuers at random moments, and looks into the file itself: no job is lost,
//! no effect is there twice, and each names the request that it is of. `SEED=N` repeats a run, as
//! far as the machine does. What a loss of power does is not tried: the system keeps what a process
//! has written that is dead.
#![cfg(unix)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use fastrand::Rng;
use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};

/// The kill of each round may catch the same job, which has 20 attempts.
const ROUNDS: u32 = 10;
const ORDERS_A_ROUND: u32 = 8;
const WORKERS: usize = 2;
/// The one that is never packed is the last.
const ITEMS: [&str; 6] = ["a lamp", "a vase", "a bomb", "a piano", "a book", "a ghost"];

struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        let folder = std::env::temp_dir().join(format!("heirloom-queue-kill-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        Folder(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A process of the queue, killed with the value: `Child::kill` is SIGKILL.
struct Process(Child);

impl Process {
    fn start(file: &Path, command: &str, more: &[&str]) -> Process {
        let mut queue = Command::new(env!("CARGO_BIN_EXE_queue"));
        queue.arg(command).arg(file).args(more);
        Process(queue.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill(); // an error if it has ended
        let _ = self.0.wait();
    }
}

fn moment(luck: &mut Rng, most: u64) -> Duration {
    Duration::from_micros(luck.u64(0..most * 1_000))
}

fn number(queue: &Connection, query: &str) -> u32 {
    queue.query_row(query, [], |row| row.get(0)).unwrap()
}

/// Enqueues an order, as a client does: again and again with the same key, until an answer has
/// come. Half of the enqueuers are killed, and a part of the answers is lost. Returns how many
/// enqueuers were killed before they had answered.
fn enqueue(file: &Path, luck: &mut Rng, order: u32) -> u32 {
    let item = ITEMS[luck.usize(0..ITEMS.len())];
    let request = format!("request=r-{order}");
    let (tenant, key) = (format!("tenant=t-{}", order % 3), format!("key=k-{order}"));
    let mut killed = 0;
    loop {
        let mut process = Process::start(file, "enqueue", &["order", item, &request, &tenant, &key]);
        if luck.bool() {
            sleep(moment(luck, 6));
            process.0.kill().unwrap();
        }
        let status = process.0.wait().unwrap();
        if !status.success() {
            assert_eq!(status.code(), None, "only the kill may end it without an answer");
            killed += 1;
        } else if luck.u8(0..4) > 0 {
            return killed;
        }
    }
}

#[test]
fn a_kill_loses_no_job_and_repeats_no_effect() {
    let seed = std::env::var("SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("SEED={seed}");
    let (mut luck, begun) = (Rng::with_seed(seed), Instant::now());
    let folder = Folder::new();
    let file = folder.0.join("queue.sqlite");

    let (mut orders, mut enqueuers_killed) = (0, 0);
    for _ in 0..ROUNDS {
        let mut workers = Vec::new();
        for half in 0..2 {
            for _ in 0..ORDERS_A_ROUND / 2 {
                enqueuers_killed += enqueue(&file, &mut luck, orders);
                orders += 1;
            }
            if half == 0 {
                workers.extend((0..WORKERS).map(|_| Process::start(&file, "work", &["quick"])));
            }
        }
        for worker in workers {
            sleep(moment(&mut luck, 60));
            drop(worker);
        }
    }

    let mut last = Process::start(&file, "work", &["quick"]);
    let queue = Connection::open(&file).unwrap();
    queue.busy_timeout(Duration::from_secs(10)).unwrap();
    let limit = Instant::now() + Duration::from_secs(60);
    while number(&queue, "SELECT count(*) FROM jobs WHERE state IN ('ready', 'running')") > 0 {
        assert!(last.0.try_wait().unwrap().is_none(), "a worker runs until it is told to stop");
        assert!(Instant::now() < limit, "the queue does not run empty");
        sleep(Duration::from_millis(5));
    }
    kill_process(Pid::from_child(&last.0), Signal::TERM).unwrap();
    assert!(last.0.wait().unwrap().success());

    // Those of which a later attempt has failed too are not counted.
    let caught = number(&queue, "SELECT count(*) FROM jobs WHERE last_error LIKE 'the worker was gone%'");
    println!(
        "{orders} orders, {enqueuers_killed} enqueuers and {} workers killed, {caught} jobs caught by it, {:.1} s",
        ROUNDS * WORKERS as u32,
        begun.elapsed().as_secs_f64()
    );
    assert!(caught > 0 && enqueuers_killed > 0, "a test that kills nothing shows nothing");
    check(&queue, orders);
}

/// What must hold when all is done.
fn check(queue: &Connection, orders: u32) {
    let sound: String = queue.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");

    let kept =
        "SELECT count(DISTINCT key) FROM jobs WHERE kind = 'order' AND key = 'k-' || substr(request, 3)";
    assert_eq!(number(queue, kept), orders, "no order is lost");
    assert_eq!(
        number(queue, "SELECT count(*) FROM jobs WHERE kind = 'order'"),
        orders,
        "no order is there twice"
    );
    let tenants = "SELECT count(*) FROM jobs WHERE tenant <> 't-' || (substr(request, 3) % 3)";
    assert_eq!(number(queue, tenants), 0, "each job is of the tenant of its request");

    let ended = "SELECT count(*) FROM jobs
                 WHERE state <> CASE payload WHEN 'a ghost' THEN 'dead' ELSE 'done' END";
    assert_eq!(number(queue, ended), 0, "what can be done is done, what cannot is dead");
    let mails = "SELECT count(*) FROM jobs AS placed WHERE kind = 'order' AND (state = 'done') <>
                 (SELECT count(*) FROM jobs WHERE kind = 'mail' AND request = placed.request)";
    assert_eq!(number(queue, mails), 0, "an order that is done has one mail, of its request");

    let effects =
        "SELECT count(*) FROM jobs WHERE (state = 'done') <> (SELECT count(*) FROM ledger WHERE job = id)";
    assert_eq!(number(queue, effects), 0, "each effect is there exactly once");
    let contexts = "SELECT count(*) FROM ledger JOIN jobs ON job = id
                    WHERE (ledger.request, ledger.tenant) IS NOT (jobs.request, jobs.tenant)";
    assert_eq!(number(queue, contexts), 0, "each effect was written for the request of its job");
    assert!(number(queue, "SELECT max(attempts) FROM jobs") <= 20);
}
