//! Shows a crawl of a small made-up web: a group of tasks per site that grows as links are found, a
//! time limit per site and per page, and a context per page that says how it was reached. One site
//! is slow, one is broken, one has a page that never answers; the others do not notice. In the end
//! there is a report.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use heirloom::group::{GroupError, GroupHandle};
use heirloom::time::Elapsed;
use heirloom::{TaskGroup, context_var, remaining, sleep, spawn, wait_for};

const SITES: [&str; 5] = ["library", "museum", "archive", "bakery", "observatory"];
/// Every page of it takes a while.
const SLOW: &str = "archive";
/// A page of it cannot be read.
const BROKEN: (&str, u32) = ("bakery", 77);
/// A page of it never answers.
const SILENT: (&str, u32) = ("museum", 33);
const PAGES: u32 = 120;
const PAGE_LIMIT: Duration = Duration::from_millis(600);
const SITE_LIMIT: Duration = Duration::from_millis(1200);

context_var! {
    /// The site of this branch of the crawl.
    static SITE: &'static str;
    /// How many spawns, and so how many links, lie between the front page and this one.
    static DEPTH: u32, inherit = Derive(|depth| Some(depth + 1));
    /// The pages that lead here, this one last. A task extends its own; its siblings never see
    /// that.
    static TRAIL: Arc<Vec<u32>>;
    /// What is found out about the branch, on purpose shared by its tasks.
    static FINDINGS: Arc<Mutex<Findings>>;
}

/// The web: every page is computed from its number.
fn links(site: &str, page: u32) -> Vec<u32> {
    let seed = site.bytes().fold(page, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(byte)));
    let jump = seed % 17;
    [page * 2 + 1, page * 2 + 2, page + jump].into_iter().filter(|link| *link < PAGES).collect()
}

/// What a crawl with enough time would read.
fn readable(site: &str) -> BTreeSet<u32> {
    let (mut known, mut todo) = (BTreeSet::from([0]), vec![0]);
    while let Some(page) = todo.pop() {
        if (site, page) != SILENT {
            todo.extend(links(site, page).into_iter().filter(|link| known.insert(*link)));
        }
    }
    known.retain(|page| (site, *page) != SILENT);
    known
}

#[derive(Debug, PartialEq)]
struct Unreadable(u32);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "page {} cannot be read", self.0)
    }
}

/// Asks the site for a page, which takes a moment. No argument says which site: the context does.
async fn fetch(page: u32) -> Result<Vec<u32>, Unreadable> {
    let site = SITE.require();
    // A server that is told how long we wait need not begin what we will not wait for.
    let patience = remaining().expect("limits stand around every fetch");
    assert!(
        patience <= PAGE_LIMIT,
        "the nearer limit counts, here that of the page or what is left of the site's"
    );
    sleep(match (site, page) {
        (SLOW, _) => Duration::from_millis(500),
        page if page == SILENT => Duration::MAX,
        _ => Duration::from_millis(1 + u64::from(page % 5)),
    })
    .await;
    if (site, page) == BROKEN { Err(Unreadable(page)) } else { Ok(links(site, page)) }
}

/// What the tasks of a site have found out together.
#[derive(Default)]
struct Findings {
    known: BTreeSet<u32>,
    read: BTreeMap<u32, Visit>,
    skipped: u32,
}

struct Visit {
    depth: u32,
    trail: Arc<Vec<u32>>,
    site: &'static str,
}

/// Reads a page, and spawns a sibling for each link that no task has followed yet.
async fn visit(page: u32, siblings: GroupHandle<Unreadable>) -> Result<(), Unreadable> {
    let mut trail = TRAIL.require();
    Arc::make_mut(&mut trail).push(page);
    TRAIL.set(Arc::clone(&trail));

    let findings = FINDINGS.require();
    let found = match wait_for(fetch(page), PAGE_LIMIT).await {
        Ok(found) => found?,
        // No failure of the site's: the others go on.
        Err(_) => {
            findings.lock().unwrap().skipped += 1;
            return Ok(());
        }
    };
    let visit = Visit { depth: DEPTH.require(), trail: TRAIL.require(), site: SITE.require() };
    let fresh: Vec<u32> = {
        let mut findings = findings.lock().unwrap();
        findings.read.insert(page, visit);
        found.into_iter().filter(|link| findings.known.insert(*link)).collect()
    };
    for link in fresh {
        siblings.spawn(visit_boxed(link, siblings.clone()));
    }
    Ok(())
}

/// A future that spawns its like must be named somewhere.
fn visit_boxed(
    page: u32,
    siblings: GroupHandle<Unreadable>,
) -> futures::future::BoxFuture<'static, Result<(), Unreadable>> {
    Box::pin(visit(page, siblings))
}

/// How a site's crawl has ended, and what it has found until then.
struct Branch {
    site: &'static str,
    end: Result<Result<(), GroupError<Unreadable>>, Elapsed>,
    findings: Arc<Mutex<Findings>>,
}

/// A branch is a task, so everything it sets stays in it.
async fn crawl(site: &'static str) -> Branch {
    let findings = Arc::new(Mutex::new(Findings { known: BTreeSet::from([0]), ..Findings::default() }));
    SITE.set(site);
    DEPTH.set(0);
    TRAIL.set(Arc::default());
    FINDINGS.set(Arc::clone(&findings));
    // The first failure cancels the tasks of this site; so does the limit, when the group is
    // dropped.
    let pages = TaskGroup::scope(async |group| {
        group.spawn(visit_boxed(0, group.handle()));
        Ok(())
    });
    let end = wait_for(pages, SITE_LIMIT).await;
    Branch { site, end, findings }
}

/// Prints a line of the report, and checks it.
fn report(branch: &Branch) -> usize {
    let findings = branch.findings.lock().unwrap();
    let (read, all) = (findings.read.len(), readable(branch.site).len());
    let deepest = findings.read.values().max_by_key(|visit| visit.depth).expect("at least the front page");
    let how = match &branch.end {
        Ok(Ok(())) if findings.skipped == 0 => "complete".to_owned(),
        Ok(Ok(())) => format!("complete, except for {} page without an answer", findings.skipped),
        Ok(Err(error)) => format!("failed: {error}"),
        Err(elapsed) => format!("cut off: {elapsed}"),
    };
    println!(
        "{:<12} {read:>4} of {all:<4} {:>6} {:>36}   {how}",
        branch.site,
        deepest.depth,
        path(&deepest.trail)
    );

    for (page, visit) in &findings.read {
        assert_eq!(visit.site, branch.site, "page {page} was read for its own site");
        assert_eq!(visit.trail.last(), Some(page));
        assert_eq!(visit.trail.len() as u32, visit.depth, "a page per spawn");
        for step in visit.trail.windows(2) {
            assert!(links(branch.site, step[0]).contains(&step[1]), "the trail follows links");
        }
    }
    match branch.site {
        SLOW => assert!(branch.end.is_err() && read < all),
        site if site == BROKEN.0 => {
            assert!(
                matches!(&branch.end, Ok(Err(GroupError::Failed(Unreadable(page)))) if *page == BROKEN.1)
            );
        }
        site => {
            assert!(matches!(branch.end, Ok(Ok(()))));
            assert_eq!(findings.skipped, u32::from(site == SILENT.0));
            assert_eq!(findings.read.keys().copied().collect::<BTreeSet<_>>(), readable(branch.site));
        }
    }
    read
}

fn path(trail: &[u32]) -> String {
    trail.iter().map(u32::to_string).collect::<Vec<_>>().join(" > ")
}

#[heirloom::main]
pub(crate) async fn main() {
    // All sites at once, each in a task, and so in a context, of its own.
    let crawls = SITES.map(|site| spawn(crawl(site)));
    println!("{:<12} {:>12} {:>6} {:>36}   end", "site", "pages", "depth", "a longest way");
    let mut read = 0;
    for branch in crawls {
        read += report(&branch.await.expect("no branch panics"));
    }
    assert!(!SITE.is_set() && !TRAIL.is_set(), "what the branches have set is theirs");
    println!("\n{read} pages, each with the trail of links that led to it and none with a stranger's");
}
