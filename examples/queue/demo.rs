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
use crate::store::{Counts, NewJob, now};
use crate::{Result, jobs, worker};

const REQUESTS: [(&str, &str); 4] = [("r-1", "acme"), ("r-2", "acme"), ("r-3", "globex"), ("r-4", "initech")];
const ITEMS: [&str; 12] = [
    "a lamp", "a chair", "a vase", "a rug", "a piano", "a book", "a bomb", "a clock", "a ghost", "a pen",
    "a cup", "a map",
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

/// Waits until the query says 1.
async fn until(database: &Database, query: &'static str) -> Result<()> {
    while database.number(query).await? == 0 {
        sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

/// Serves a request: puts its orders into the queue, each twice, as a client does that has heard no
/// answer.
async fn request(database: &Database, (id, tenant): (&str, &str)) -> Result<()> {
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

pub(crate) async fn run() -> Result<()> {
    let begun = Instant::now();
    let folder = Folder::new()?;
    let (file, log_file) = (folder.0.join("queue.sqlite"), folder.0.join("log"));
    let output = File::options().create(true).append(true).open(&log_file)?;
    OUTPUT.set(Arc::new(output.try_clone()?));
    let database = Database::open(file.clone(), jobs::SCHEMA, Policy::QUICK).await?;

    // Without `isolated` the second request would be the first one's context still.
    request(&database, REQUESTS[0]).isolated().await?;
    request(&database, REQUESTS[1]).isolated().await?;
    println!("two requests            {:?}", database.counts().await?);

    // A piano takes longer than it may, so that there is time to kill or stop its process.
    let process = Process::start(&file, &output)?;
    let midst = "SELECT (SELECT count(*) FROM jobs WHERE state = 'done') > 8
                 AND EXISTS (SELECT 1 FROM jobs WHERE state = 'running' AND payload = 'a piano')";
    until(&database, midst).await?;
    spawn_blocking(move || drop(process)).await?;
    let killed = database.counts().await?;
    println!("after the kill -9       {killed:?}");

    // Enqueuing needs no worker.
    request(&database, REQUESTS[2]).isolated().await?;
    let started = now();
    let mut process = Process::start(&file, &output)?;
    let midst = "SELECT EXISTS (SELECT 1 FROM jobs WHERE state = 'running' AND payload = 'a piano'
                                AND request = 'r-3' AND attempts = 1)";
    until(&database, midst).await?;
    kill_process(Pid::from_child(&process.0), Signal::TERM)?;
    let status = spawn_blocking(move || process.0.wait()).await??;
    let drained = database.counts().await?;
    // Leases of the process that was killed may be there still. Those of the second end later.
    let ends_later = started + Policy::QUICK.lease.as_millis() as i64;
    let left = database.call(move |store| {
        let left = "SELECT count(*) FROM jobs WHERE lease_until >= ?1";
        store.connection().query_row(left, [ends_later], |row| row.get::<_, i64>(0))
    });
    let left = left.await?;
    let given_back = fs::read_to_string(&log_file)?.matches("event=\"given back\"").count();
    println!("after the drain         {drained:?}, {given_back} given back");

    // The third is this process. The last request comes while it works.
    println!("next on standard error  the panic of \"a bomb\", which is planned");
    let stop = CancelToken::new();
    let working = spawn(worker::work(database.clone(), jobs::run, Policy::QUICK, stop.clone()));
    request(&database, REQUESTS[3]).isolated().await?;
    until(&database, "SELECT NOT EXISTS (SELECT 1 FROM jobs WHERE state IN ('ready', 'running'))").await?;
    stop.cancel("all is done");
    let tally = working.await??;
    let ended = database.counts().await?;
    println!("at the end              {ended:?}");

    let ledger = database.number("SELECT count(*) FROM ledger").await?;
    let twice = "SELECT count(*) FROM (SELECT 1 FROM ledger GROUP BY job HAVING count(*) > 1)";
    let twice = database.number(twice).await?;
    let mixed_up = "SELECT count(*) FROM jobs LEFT JOIN ledger ON job = id WHERE state = 'done'
                    AND (jobs.request, jobs.tenant) IS NOT (ledger.request, ledger.tenant)";
    let mixed_up = database.number(mixed_up).await?;
    let caught = "SELECT count(*) FROM jobs WHERE state = 'done' AND last_error LIKE 'the worker was gone%'";
    let caught = database.number(caught).await?;
    println!("effects in the ledger   {ledger}, {twice} twice, {mixed_up} of another request");
    println!("caught by the kill      {caught} jobs, all of them done");
    println!("the last process        {tally:?}");

    let piano = "SELECT id FROM jobs WHERE request = 'r-3' AND payload = 'a piano' AND kind = 'order'";
    let piano = format!(" job={} ", database.number(piano).await?);
    let log = fs::read_to_string(&log_file)?;
    println!("one job in the log:");
    for line in log.lines().filter(|line| line.contains(&piano)) {
        println!("    {line}");
    }
    println!("{:.1} s", begun.elapsed().as_secs_f64());

    assert!(killed.running > 0, "the kill came in the midst of the work");
    assert!(status.success(), "the second process ended in order: {status}");
    assert_eq!(left, 0, "a drain leaves no lease");
    assert!(given_back > 0, "the drain came in the midst of the work, and cut a job");
    assert_eq!(ended, Counts { ready: 0, running: 0, done: DONE, dead: GHOSTS });
    assert_eq!((ledger, twice, mixed_up), (DONE, 0, 0), "each effect is there once");
    assert!(caught > 0, "the killed process left jobs that were run again");
    assert_eq!(tally.leases_lost, 0);
    for line in log.lines().filter(|line| line.contains(" job=")) {
        assert!(
            line.contains(" request=\"r-") && line.contains(" tenant=\""),
            "a line without a request: {line}"
        );
    }
    Ok(())
}
