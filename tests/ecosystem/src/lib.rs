//! What each library is asked in tasks, and where the answers go.
//!
//! [`Library`] says how a library is called; [`tests!`] makes its tests: by the attribute, with a
//! tokio guest also on the default runtime, and on a runtime that is shut down while a call waits.
//! The last one writes a line for the tables of the guide's page `libraries`, which `.ci/ecosystem`
//! puts together.

use std::any::{TypeId, type_name};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::path::Path;
use std::pin::pin;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use heirloom::tokio::TokioGuest;
use heirloom::{Runtime, context_var, deadline, spawn, spawn_background, wait_for};

context_var! {
    /// Stands for what a request carries: its number, its tenant, its span.
    pub static TENANT: u32;
}

/// A limit that is there to be seen and not to be met.
pub const LONG: Duration = Duration::from_secs(3_600);
/// A limit that cuts a call.
pub const SOON: Duration = Duration::from_millis(50);
/// What takes longer hangs.
pub const PATIENCE: Duration = Duration::from_secs(30);
const CALLS: u32 = 16;
/// The runtime of the last test. A thread's name has 15 bytes in Linux.
const NAME: &str = "eco";
/// The threads of a server that a test has of its own.
pub const SERVER: &str = "server";

/// A library, and how it is called.
pub trait Library: 'static {
    /// The name of its package.
    const PACKAGE: &'static str;
    /// Which of several ways to use it; markdown.
    const WAY: &'static str = "";
    /// Whether it needs a tokio guest.
    const GUEST: bool = true;
    /// The feature of `heirloom-adaptors` that it needs, if any.
    const ADAPTOR: &'static str = "";
    /// Lines of the program that are there for this executor, the one with the guest left out.
    const GLUE: usize = 0;
    /// What the library spawns by itself, each kind of which the tests have to [note](note_own);
    /// empty for nothing, or where none of it shows.
    const SPAWNS: &'static str;
    type Client: Clone + Send + Sync + 'static;

    fn connect() -> impl Future<Output = Self::Client> + Send;
    /// A call, whose answer is looked at.
    fn call(client: Self::Client) -> impl Future<Output = ()> + Send;
    /// A call that would take an hour: returns how it has ended nevertheless. It need not leave the
    /// client usable.
    fn endless(client: Self::Client) -> impl Future<Output = String> + Send;
}

/// Tenant and deadline, as code sees them at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub tenant: Option<u32>,
    pub deadline: bool,
}

pub fn seen() -> Seen {
    Seen { tenant: TENANT.get(), deadline: deadline().is_some() }
}

static OWN: Mutex<BTreeMap<TypeId, Vec<Seen>>> = Mutex::new(BTreeMap::new());

/// Called where a task runs that the library has spawned.
pub fn note_own<L: Library>() {
    OWN.lock().unwrap().entry(TypeId::of::<L>()).or_default().push(seen());
}

/// What a task has, and whether all looks have found it.
#[derive(Clone, Copy)]
struct Kept {
    tenant: u32,
    until: Option<Instant>,
    context: bool,
    deadline: bool,
}

impl Kept {
    /// Makes the current task one of the tenant, within the deadline that it has.
    fn by(tenant: u32) -> Kept {
        TENANT.set(tenant);
        Kept { tenant, until: deadline(), context: true, deadline: deadline().is_some() }
    }

    fn look(&mut self) {
        self.context &= TENANT.get() == Some(self.tenant);
        self.deadline &= deadline() == self.until;
    }

    /// Looks in each poll, and after it.
    async fn during(&mut self, call: impl Future<Output = ()>) {
        let mut call = pin!(call);
        poll_fn(|cx| {
            self.look();
            let polled = call.as_mut().poll(cx);
            self.look();
            polled
        })
        .await;
        self.look();
    }

    fn and(&mut self, other: Kept) {
        self.context &= other.context;
        self.deadline &= other.deadline && other.until == self.until;
    }
}

/// Everything that is asked inside of one runtime.
async fn ask<L: Library>() -> Kept {
    let asked = async {
        let mut kept = Kept::by(7);
        let client = L::connect().await;
        kept.during(L::call(client.clone())).await;

        let tasks: Vec<_> = (0..CALLS)
            .map(|tenant| {
                let client = client.clone();
                spawn(async move {
                    let mut kept = Kept::by(tenant);
                    kept.during(L::call(client)).await;
                    kept
                })
            })
            .collect();
        for task in tasks {
            kept.and(task.await.unwrap());
        }

        let (begun, waiting) = (Instant::now(), L::connect().await);
        let cut = wait_for(L::endless(waiting), SOON).await;
        assert!(cut.is_err(), "the call has ended: {cut:?}");
        assert!(begun.elapsed() < PATIENCE, "the limit was noticed after {:?}", begun.elapsed());
        kept.during(L::call(client)).await;
        kept
    };
    let kept = wait_for(asked, LONG).await.unwrap();

    let (send, receive) = tokio::sync::oneshot::channel();
    spawn_background(async {
        L::call(L::connect().await).await;
        let _ = send.send(seen());
    });
    assert_eq!(receive.await.unwrap(), Seen { tenant: None, deadline: false }, "in the background");
    kept
}

fn check<L: Library>(kept: Kept) {
    assert!(kept.context, "{}: the context was lost", L::PACKAGE);
    assert!(kept.deadline, "{}: the deadline was lost", L::PACKAGE);
}

/// The program's default runtime, which has a guest.
pub fn on_the_default_runtime<L: Library>() {
    static STARTED: OnceLock<()> = OnceLock::new();
    STARTED.get_or_init(|| {
        Runtime::builder().tokio(TokioGuest::new()).build_default().unwrap();
    });
    check::<L>(heirloom::block_on(ask::<L>()));
}

/// Inside of `#[heirloom::test(tokio)]`.
pub async fn by_the_attribute<L: Library>() {
    check::<L>(ask::<L>().await);
}

/// A runtime that is shut down while a call waits; and the line for the table.
pub fn until_the_end_of_a_runtime<L: Library>() {
    let builder = Runtime::builder().workers(2).thread_name(NAME);
    let builder = if L::GUEST { builder.tokio(TokioGuest::new()) } else { builder };
    let runtime = builder.build().unwrap();
    let before = threads();
    let kept = runtime.block_on(runtime.spawn(ask::<L>())).unwrap();
    let mut started = threads();

    let (say, said) = mpsc::channel();
    runtime
        .spawn(async move {
            let client = L::connect().await;
            say.send("called".to_owned()).unwrap();
            let ended = L::endless(client).await;
            let _ = say.send(ended);
        })
        .detach();
    assert_eq!(said.recv_timeout(PATIENCE).unwrap(), "called");
    assert_eq!(said.recv_timeout(SOON), Err(RecvTimeoutError::Timeout), "the call has ended");
    started.extend(threads());
    started.retain(|number, _| !before.contains_key(number));
    let begun = Instant::now();
    let report = runtime.shutdown(SOON);
    assert!(begun.elapsed() < PATIENCE, "the shutdown took {:?}", begun.elapsed());
    assert!(!report.cancelled().is_empty(), "nothing was in flight");
    // The caller is gone: cancelled, or told that a server in the same runtime was.
    assert_ne!(said.recv_timeout(PATIENCE), Err(RecvTimeoutError::Timeout), "the caller is still there");
    while threads().values().any(|name| name == "eco-tokio") {
        assert!(begun.elapsed() < PATIENCE, "the guest's thread has not ended");
        thread::yield_now();
    }

    let own = OWN.lock().unwrap().remove(&TypeId::of::<L>()).unwrap_or_default();
    assert_eq!(own.is_empty(), L::SPAWNS.is_empty(), "{}: tasks of its own: {own:?}", L::PACKAGE);
    write::<L>(kept, &own, started.into_values());
    check::<L>(kept);
    let nothing = Seen { tenant: None, deadline: false };
    assert!(own.iter().all(|seen| *seen == nothing), "{}: its own tasks: {own:?}", L::PACKAGE);
}

/// The line of the table, if the script runs the test: whether there is a guest or an adaptor,
/// package, way, lines of glue, context kept, deadline kept, what the library spawns, threads.
fn write<L: Library>(kept: Kept, own: &[Seen], started: impl Iterator<Item = String>) {
    let Ok(folder) = env::var("HEIRLOOM_RESULTS") else { return };
    let said = |yes| if yes { "yes" } else { "**no**" };
    let nothing = own.iter().all(|seen| seen.tenant.is_none() && !seen.deadline);
    let spawns = match L::SPAWNS {
        "" => "-".to_owned(),
        spawns => format!("{spawns}: {}", if nothing { "no context" } else { "**a context**" }),
    };
    let mut names: Vec<_> = started
        .filter_map(|name| match name.as_str() {
            "eco-tokio-block" => Some("the guest's pool".to_owned()),
            name if name.starts_with("rdk:") => Some("librdkafka's".to_owned()),
            SERVER => None,
            name if name.starts_with(NAME) => None,
            name => Some(format!("`{name}`")),
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    let threads = if names.is_empty() { "-".to_owned() } else { names.join(", ") };
    let kind = match (L::GUEST, L::ADAPTOR) {
        (true, _) => "guest",
        (false, "") => "alone",
        (false, _) => "adaptor",
    };
    let glue = (L::GLUE + usize::from(L::GUEST)).to_string();
    let way = match (L::ADAPTOR, L::WAY) {
        ("", "") => "-".to_owned(),
        ("", way) => way.to_owned(),
        (feature, "") => format!("feature `{feature}`"),
        (feature, way) => format!("feature `{feature}`; {way}"),
    };
    let line = [kind, L::PACKAGE, &way, &glue, said(kept.context), said(kept.deadline), &spawns, &threads];
    fs::write(Path::new(&folder).join(type_name::<L>()), line.join("\t") + "\n").unwrap();
}

/// Number and name of each thread of this process, where the system tells.
pub fn threads() -> BTreeMap<String, String> {
    let Ok(entries) = fs::read_dir("/proc/self/task") else { return BTreeMap::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let name = fs::read_to_string(entry.path().join("comm")).ok()?;
            Some((entry.file_name().into_string().ok()?, name.trim_end().to_owned()))
        })
        .collect()
}

/// The address of a server that the script has started.
pub fn server(variable: &str) -> String {
    env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: run `.ci/ecosystem`, which starts the servers and says where they are")
    })
}

/// The tests of a [`Library`], with a tokio guest or `without a guest`.
#[macro_export]
macro_rules! tests {
    ($library:ty) => {
        #[test]
        fn runs_on_the_default_runtime() {
            $crate::on_the_default_runtime::<$library>();
        }

        $crate::tests!($library, ::heirloom::test(tokio, timeout = "120s"));
    };
    ($library:ty, without a guest) => {
        $crate::tests!($library, ::heirloom::test(timeout = "120s"));
    };
    ($library:ty, $($attribute:tt)*) => {
        #[$($attribute)*]
        async fn runs_by_the_attribute() {
            $crate::by_the_attribute::<$library>().await;
        }

        #[test]
        fn ends_with_its_runtime() {
            $crate::until_the_end_of_a_runtime::<$library>();
        }
    };
}
