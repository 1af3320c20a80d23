//! Shows work that is spread over the tasks of a group and joined again: all of them done, or one
//! of them failed and the others cancelled, and in either case none of them left running.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use heirloom::group::GroupError;
use heirloom::{TaskGroup, context_var, sleep};

context_var! {
    static REQUEST_ID: u32;
}

/// The tasks that exist now.
static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// What happened, in the words of the tasks.
type Journal = Arc<Mutex<Vec<String>>>;

/// Lives as long as a task's future, and notes how that ended.
struct Presence {
    shard: usize,
    finished: bool,
    journal: Journal,
}

impl Presence {
    fn new(shard: usize, journal: &Journal) -> Self {
        RUNNING.fetch_add(1, SeqCst);
        Presence { shard, finished: false, journal: Arc::clone(journal) }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, SeqCst);
        let how = if self.finished { "is done" } else { "is cancelled" };
        // Also here, in a destructor, the context is that of the task.
        let request = REQUEST_ID.require();
        self.journal.lock().unwrap().push(format!("request {request}: shard {} {how}", self.shard));
    }
}

#[derive(Debug, PartialEq)]
struct ShardIsDown(usize);

/// Counts what one shard holds. They answer one after the other; those behind one that is down take
/// very long.
async fn count(mut presence: Presence, down: Option<usize>) -> Result<usize, ShardIsDown> {
    let shard = presence.shard;
    if down.is_some_and(|down| shard > down) {
        sleep(Duration::from_secs(3600)).await;
    }
    sleep(Duration::from_millis(10 * shard as u64)).await;
    presence.finished = true;
    if down == Some(shard) { Err(ShardIsDown(shard)) } else { Ok(100 + shard) }
}

async fn count_all(down: Option<usize>, journal: &Journal) -> Result<usize, GroupError<ShardIsDown>> {
    TaskGroup::scope(async |group| {
        for shard in 0..5 {
            let presence = Presence::new(shard, journal);
            group.spawn(count(presence, down));
        }
        let mut total = 0;
        while let Some(counted) = group.next().await {
            total += counted;
        }
        Ok(total)
    })
    .await
    // When this returns, every task of the group has ended.
}

fn print(title: &str, journal: &Journal) -> String {
    println!("{title}");
    let lines = std::mem::take(&mut *journal.lock().unwrap());
    for line in &lines {
        println!("  {line}");
    }
    assert_eq!(lines.len(), 5, "every task has said how it ended");
    lines.join("\n")
}

#[heirloom::main]
pub(crate) async fn main() {
    let journal = Journal::default();

    REQUEST_ID.set(1);
    let total = count_all(None, &journal).await.expect("all shards answer");
    let said = print(&format!("all shards answer: {total}"), &journal);
    assert_eq!(total, 510);
    assert_eq!(said.matches("is done").count(), 5);
    assert_eq!(RUNNING.load(SeqCst), 0);

    REQUEST_ID.set(2);
    let failed = count_all(Some(1), &journal).await.expect_err("shard 1 is down");
    let said = print(&format!("one does not: {failed:?}"), &journal);
    assert!(matches!(failed, GroupError::Failed(ShardIsDown(1))));
    assert!(said.matches("is cancelled").count() >= 3, "at least those that would have taken an hour");
    assert_eq!(RUNNING.load(SeqCst), 0, "all of them are gone before the group returns");

    println!("tasks left running: {}", RUNNING.load(SeqCst));
}
