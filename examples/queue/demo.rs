//! The demonstration: three processes after each other work on one file. The first is killed in the
//! midst of its jobs, the second is asked to stop, the third ends the work. Then every job, every
//! effect and every line of the log is checked.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use heirloom::context::ContextFutureExt;
use heirloom::{CancelToken, sleep, spawn, spawn_blocking};
use rustix::process::{Pid, Signal, kill_process};

use crate::database::Database;
use crate::log::{OUTPUT, REQUEST, TENANT, log};
use crate::policy::Policy;
use crate::store::{Counts, NewJob};
use crate::{Result, jobs, worker};

const REQUESTS: [(&str, &str); 4] = [("r-1", "acme"), ("r-2", "acme"), ("r-3", "globex"), ("r-4", "initech")];
const ITEMS: [&str; 12] = [
    "a lamp", "a chair", "a vase", "a rug", "a piano", "a book", "a bomb", "a clock", "a ghost", "a pen", "a cup", "a map",
];
const ORDERS: i64 = (REQUESTS.len() * ITEMS.len()) as i64;
/// One of each request, which fails as often as it may.
const GHOSTS: i64 = REQUESTS.len() as i64;
/// Each order that is done has one mail.
const DONE: i64 = 2 * (ORDERS - GHOSTS);

/// A folder that is removed with the value.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Folder> {
        let path = std::env::temp_dir().join(format!("heirloom-queue-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A worker in a process of its own, killed with the value.
struct Process(Child);

impl Process {
    fn start(file: &Path, log: &File) -> Result<Process> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("work").arg(file).arg("quick").stdout(log.try_clone()?);
        // The messages of the panics that are planned.
        command.stdin(Stdio::null()).stderr(Stdio::null());
        Ok(Process(command.spawn()?))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill(); // SIGKILL; an error if it has ended
        let _ = self.0.wait();
    }
}

async fn counts(database: &Database) -> Result<Counts> {
    database.call(|store| store.counts()).await
}

/// Waits until the queue is in such a state.
async fn until(database: &Database, state: impl Fn(Counts) -> bool) -> Result<Counts> {
    loop {
        let now = counts(database).await?;
        if state(now) {
            return Ok(now);
        }
        sleep(Duration::from_millis(2)).await;
    }
}

/// Serves a request: puts its orders into the queue, each twice, as a client does that has heard no
/// answer.
async fn request(database: Database, id: &str, tenant: &str) -> Result<()> {
    REQUEST.set(id.to_string());
    TENANT.set(tenant.to_string());
    for item in ITEMS {
        let key = Some(format!("{id} {item}"));
        let order = NewJob { kind: "order".to_string(), payload: item.to_string(), key, ..NewJob::default() };
        let first = database.enqueue(order.clone()).await?;
        assert_eq!(database.enqueue(order).await?, first, "the key makes it the same job");
        log("enqueued", &[("id", &first), ("item", &item)]);
    }
    Ok(())
}

/// The number that a query comes to.
async fn number(database: &Database, query: &'static str) -> Result<i64> {
    database.call(move |store| store.connection().query_row(query, [], |row| row.get(0))).await
}

pub(crate) async fn run() -> Result<()> {
    let begun = Instant::now();
    let folder = Folder::new()?;
    let (file, log_file) = (folder.0.join("queue.sqlite"), folder.0.join("log"));
    let output = File::options().create(true).append(true).open(&log_file)?;
    OUTPUT.set(Arc::new(output.try_clone()?));
    let database = Database::open(file.clone(), jobs::SCHEMA, Policy::QUICK).await?;

    for (id, tenant) in REQUESTS {
        request(database.clone(), id, tenant).isolated().await?;
    }
    println!("enqueued                {:?}, each twice by the same key", counts(&database).await?);

    let process = Process::start(&file, &output)?;
    until(&database, |now| now.done >= DONE / 3 && now.running > 0).await?;
    spawn_blocking(move || drop(process)).await?;
    let killed = counts(&database).await?;
    println!("after the kill -9       {killed:?}");

    let mut process = Process::start(&file, &output)?;
    until(&database, |now| now.done >= DONE * 2 / 3 && now.running > 0).await?;
    kill_process(Pid::from_child(&process.0), Signal::TERM)?;
    let status = spawn_blocking(move || process.0.wait()).await??;
    let drained = counts(&database).await?;
    println!("after the drain         {drained:?}");

    // The third is this process. An order that comes while it works is noticed without a poll.
    let stop = CancelToken::new();
    let work = worker::work(database.clone(), jobs::run, Policy::QUICK, stop.clone());
    let working = spawn(work);
    let ended = until(&database, |now| now.ready + now.running == 0).await?;
    stop.cancel("all is done");
    let tally = working.await??;
    println!("at the end              {ended:?}");

    let ledger = number(&database, "SELECT count(*) FROM ledger").await?;
    let twice = "SELECT count(*) FROM (SELECT 1 FROM ledger GROUP BY job HAVING count(*) > 1)";
    let twice = number(&database, twice).await?;
    let mixed_up = "SELECT count(*) FROM jobs LEFT JOIN ledger ON job = id WHERE state = 'done'
                    AND (jobs.request, jobs.tenant) IS NOT (ledger.request, ledger.tenant)";
    let mixed_up = number(&database, mixed_up).await?;
    let repeated = number(&database, "SELECT count(*) FROM jobs WHERE claims > 1 AND state = 'done'").await?;
    println!("effects in the ledger   {ledger}, {twice} twice, {mixed_up} of another request");
    println!("jobs run more than once {repeated}");
    println!("the last process        {tally:?}");

    let log = fs::read_to_string(&log_file)?;
    println!("one job in the log:");
    for line in log.lines().filter(|line| line.contains("request=\"r-1\"") && line.contains("job=5 ")) {
        println!("    {line}");
    }
    println!("{:.1} s", begun.elapsed().as_secs_f64());

    assert!(killed.running > 0 && killed.ready > 0, "the kill came in the midst of the work");
    assert!(status.success(), "the second process ended in order: {status}");
    assert_eq!(drained.running, 0, "a drain leaves no lease");
    assert!(drained.ready > 0, "the drain came in the midst of the work");
    assert_eq!(ended, Counts { ready: 0, running: 0, done: DONE, dead: GHOSTS });
    assert_eq!((ledger, twice, mixed_up), (DONE, 0, 0), "each effect is there once");
    assert!(repeated > 0, "the killed process left jobs that were run again");
    assert_eq!(tally.leases_lost, 0);
    // What the first process wrote last may be half a line.
    for line in log.lines().filter(|line| line.contains(" job=")) {
        assert!(line.contains(" request=\"r-") && line.contains(" tenant=\""), "a line without a request: {line}");
    }
    Ok(())
}
