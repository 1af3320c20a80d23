//! What a tool that speaks the protocol is told: over a connection, by the client that the
//! protocol's own crate has.

use std::future::pending;
use std::io;
use std::time::{Duration, SystemTime};

use console_api::field::{Name, Value};
use console_api::instrument::instrument_client::InstrumentClient;
use console_api::instrument::{
    InstrumentRequest, PauseRequest, ResumeRequest, StateRequest, TaskDetailsRequest, Temporality, Update,
};
use console_api::tasks::{Stats, Task, TaskUpdate};
use futures::channel::oneshot;
use heirloom::hyper::HyperExecutor;
use heirloom::net::TcpStream;
use heirloom::{Runtime, context_var, sleep, spawn, spawn_background, task, wait_for, yield_now};
use heirloom_console::{Console, start};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::{Request, Response, Uri};
use tonic::body::Body;

context_var! {
    static REQUEST: u32, debug = Debug;
    static OPAQUE: u32;
    static TEXT: String, debug = Debug;
    static PASSWORD: &'static str, debug = Debug, secret = true;
}

const LIMIT: Duration = Duration::from_secs(20);

fn observed() -> (Runtime, Console) {
    let runtime = Runtime::builder().workers(1).inspect(true).build().unwrap();
    let console = start(runtime.handle(), ([127, 0, 0, 1], 0).into()).unwrap();
    (runtime, console)
}

type Sent = Response<Incoming>;

/// A client on the runtime of the caller.
async fn client(
    console: &Console,
) -> InstrumentClient<
    impl tower::Service<Request<Body>, Response = Sent, Error = hyper::Error, Future: Send> + Clone,
> {
    let socket = TcpStream::connect(console.address()).await.unwrap();
    let (sender, connection) = http2::handshake(HyperExecutor, socket).await.unwrap();
    spawn_background(connection);
    let send = move |request: Request<Body>| {
        let mut sender = sender.clone();
        async move { sender.send_request(request).await }
    };
    let origin = Uri::try_from(format!("http://{}", console.address())).unwrap();
    InstrumentClient::with_origin(tower::service_fn(send), origin)
}

/// The first updates, each in the limit.
async fn updates<const N: usize>(console: &Console) -> [Update; N] {
    let mut stream = client(console).await.watch_updates(InstrumentRequest {}).await.unwrap().into_inner();
    let mut updates = Vec::new();
    while updates.len() < N {
        updates.push(wait_for(stream.message(), LIMIT).await.unwrap().unwrap().unwrap());
    }
    updates.try_into().unwrap()
}

/// Runs a client on a runtime of its own, so that it is not among the tasks.
fn outside<F: Future>(future: F) -> F::Output {
    Runtime::builder().workers(1).build().unwrap().block_on(future)
}

fn text(task: &Task, name: &str) -> Option<String> {
    let of_name = |field: &&console_api::Field| field.name == Some(Name::StrName(name.to_owned()));
    task.fields.iter().find(of_name).map(|field| match field.value.as_ref().unwrap() {
        Value::DebugVal(text) | Value::StrVal(text) => text.clone(),
        value => value.to_string(),
    })
}

fn of_name<'a>(update: &'a Update, name: &str) -> (&'a Task, &'a Stats) {
    let tasks = update.task_update.as_ref().unwrap();
    let task = tasks.new_tasks.iter().find(|task| text(task, "task.name").as_deref() == Some(name));
    let task = task.unwrap_or_else(|| panic!("no task {name} in {tasks:?}"));
    (task, &tasks.stats_update[&task.id.unwrap().id])
}

fn spawn_named(
    runtime: &Runtime,
    name: &'static str,
    future: impl Future<Output = ()> + Send + 'static,
) -> u64 {
    let handle = task::Builder::new().name(name).on(runtime.handle()).spawn(future);
    let id = handle.id().number();
    handle.detach();
    id
}

#[test]
fn a_task_is_told_with_its_numbers_and_its_context() {
    let (runtime, console) = observed();
    let id = spawn_named(&runtime, "audit", async {
        REQUEST.set(7);
        OPAQUE.set(8);
        PASSWORD.set("xyzzy");
        yield_now().await;
        sleep(Duration::from_millis(1)).await;
        std::thread::sleep(Duration::from_millis(5));
        let _ = spawn(sleep(LIMIT * 10)).await;
    });
    std::thread::sleep(Duration::from_millis(50));
    runtime.wait_until_idle();
    let [update] = outside(updates::<1>(&console));
    let metadata = &update.new_metadata.as_ref().unwrap().metadata[0];
    assert_eq!(metadata.metadata.as_ref().unwrap().target, "heirloom");

    let (task, stats) = of_name(&update, "audit");
    assert_eq!((task.id.unwrap().id, task.metadata), (id, metadata.id));
    let location = task.location.as_ref().unwrap();
    assert!(location.file.as_ref().unwrap().ends_with("protocol.rs") && location.line.is_some());
    let texts = ["task.id", "kind", "parent", "REQUEST", "OPAQUE", "PASSWORD"].map(|name| text(task, name));
    let texts = texts.each_ref().map(|text| text.as_deref().unwrap_or("-"));
    assert_eq!(texts, [id.to_string().as_str(), "task", "-", "7", "(no text)", "[secret]"]);
    let polls = stats.poll_stats.as_ref().unwrap();
    assert_eq!((polls.polls, stats.wakes), (3, 1));
    assert!(polls.busy_time.as_ref().unwrap().nanos >= 5_000_000, "{stats:?}");
    assert!(stats.scheduled_time.as_ref().unwrap().nanos > 0, "{stats:?}");
    let [created, now] =
        [stats.created_at, update.now].map(|time| SystemTime::try_from(time.unwrap()).unwrap());
    assert!(created < now && stats.dropped_at.is_none());

    let child = update.task_update.as_ref().unwrap().new_tasks.iter().find(|it| it.id.unwrap().id != id);
    assert_eq!(text(child.unwrap(), "parent"), Some(id.to_string()));
}

#[test]
fn a_secret_is_in_no_message() {
    let (runtime, console) = observed();
    spawn_named(&runtime, "audit", async {
        PASSWORD.set("xyzzy");
        for request in 0.. {
            REQUEST.set(request);
            sleep(Duration::from_millis(100)).await;
        }
    });
    let text = format!("{:?}", outside(updates::<3>(&console)));
    assert!(text.contains("[secret]") && !text.contains("xyzzy"), "{text}");
}

/// The three times that the tool concludes a state from.
fn times(stats: &Stats) -> [Option<SystemTime>; 3] {
    let polls = stats.poll_stats.as_ref().unwrap();
    let times = [stats.last_wake, polls.last_poll_started, polls.last_poll_ended];
    times.map(|time| time.map(|time| time.try_into().unwrap()))
}

/// The tool is answered although the only worker is blocked.
#[test]
fn the_times_say_what_a_task_does() {
    let (runtime, console) = observed();
    spawn_named(&runtime, "idle", pending());
    runtime.wait_until_idle();
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    spawn_named(&runtime, "running", async move { wait.recv().unwrap_or_default() });
    while runtime.stats().states.running == 0 {
        std::thread::yield_now();
    }
    spawn_named(&runtime, "runnable", async {});
    let [update] = outside(updates::<1>(&console));
    let [wake, begun, ended] = times(of_name(&update, "idle").1);
    assert!(wake <= begun && begun <= ended && ended.is_some());
    let [wake, begun, ended] = times(of_name(&update, "running").1);
    assert!(begun > ended && wake <= begun);
    let [wake, begun, ended] = times(of_name(&update, "runnable").1);
    assert!(wake > begun && begun <= ended);
    drop(go_on);
}

/// The tool warns of an idle task without a waker.
#[test]
fn an_idle_task_that_nothing_can_wake_has_no_waker() {
    let (runtime, console) = observed();
    spawn_named(&runtime, "lost", pending());
    spawn_named(&runtime, "sleeping", sleep(LIMIT * 10));
    let joined = runtime.spawn(pending::<()>());
    spawn_named(&runtime, "joining", async { drop(joined.await) });
    runtime.wait_until_idle();
    let [update] = outside(updates::<1>(&console));
    let wakers = ["lost", "sleeping", "joining"].map(|name| of_name(&update, name).1.waker_clones);
    assert_eq!(wakers, [0, 1, 1]);
}

#[test]
fn what_has_changed_is_told_and_nothing_else() {
    let (runtime, console) = observed();
    spawn_named(&runtime, "still", pending());
    let (change, changed) = oneshot::channel::<()>();
    let (end, ended) = oneshot::channel::<()>();
    let changing = spawn_named(&runtime, "changing", async {
        REQUEST.set(1);
        let _ = changed.await;
        REQUEST.set(2);
        let _ = ended.await;
    });
    runtime.wait_until_idle();
    outside(async {
        let mut stream =
            client(&console).await.watch_updates(InstrumentRequest {}).await.unwrap().into_inner();
        let mut next = async || wait_for(stream.message(), LIMIT).await.unwrap().unwrap().unwrap();
        let first = next().await;
        assert_eq!(first.task_update.unwrap().new_tasks.len(), 2);
        let second = next().await;
        assert_eq!((second.task_update, second.new_metadata), (Some(TaskUpdate::default()), None));

        drop(change);
        // The next update may have been made before the change.
        let mut told = TaskUpdate::default();
        while told.new_tasks.is_empty() {
            told = next().await.task_update.unwrap();
        }
        assert_eq!((told.new_tasks.len(), text(&told.new_tasks[0], "REQUEST").as_deref()), (1, Some("2")));
        assert_eq!(told.stats_update[&changing].poll_stats.as_ref().unwrap().polls, 2);

        drop(end);
        while told.stats_update.get(&changing).is_none_or(|stats| stats.dropped_at.is_none()) {
            told = next().await.task_update.unwrap();
        }
        assert!(told.new_tasks.is_empty() && told.stats_update.len() == 1, "{told:?}");
    });
}

/// The client refuses a message of more than four megabytes.
#[test]
fn many_tasks_come_in_several_messages() {
    const TASKS: usize = 20_000;
    let (runtime, console) = observed();
    for task in 0..TASKS {
        let future = async move {
            TEXT.set("x".repeat(200) + &task.to_string());
            pending::<()>().await;
        };
        runtime.spawn(future).detach();
    }
    runtime.wait_until_idle();
    outside(async {
        let mut stream =
            client(&console).await.watch_updates(InstrumentRequest {}).await.unwrap().into_inner();
        let mut told = (0, 0);
        while told.0 < TASKS {
            let update = wait_for(stream.message(), LIMIT).await.unwrap().unwrap().unwrap();
            let tasks = update.task_update.unwrap();
            let has_stats = |task: &&Task| tasks.stats_update.contains_key(&task.id.unwrap().id);
            assert_eq!(tasks.new_tasks.iter().filter(has_stats).count(), tasks.new_tasks.len());
            assert_eq!(update.new_metadata.is_some(), told == (0, 0));
            told = (told.0 + tasks.new_tasks.len(), told.1 + 1);
        }
        assert!(told.0 == TASKS && told.1 > 4, "{told:?}");
    });
}

#[test]
fn a_blocking_closure_is_one_of_its_kind() {
    let (runtime, console) = observed();
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let closure =
        task::Builder::new().name("resize").on(runtime.handle()).spawn_blocking(move || wait.recv());
    let [update] = outside(updates::<1>(&console));
    let (task, _) = of_name(&update, "resize");
    assert_eq!((task.kind, text(task, "kind").as_deref()), (1, Some("blocking")));
    drop(go_on);
    runtime.block_on(closure).unwrap().unwrap_err();
}

#[test]
fn a_tool_pauses_the_updates_and_resumes_them() {
    let (_runtime, console) = observed();
    outside(async {
        let mut client = client(&console).await;
        let mut states = client.watch_state(StateRequest {}).await.unwrap().into_inner();
        let mut state =
            async || wait_for(states.message(), LIMIT).await.unwrap().unwrap().unwrap().temporality;
        let [live, paused] = [Temporality::Live, Temporality::Paused].map(i32::from);
        assert_eq!(state().await, live);
        let mut updates = client.watch_updates(InstrumentRequest {}).await.unwrap().into_inner();
        assert!(updates.message().await.unwrap().is_some());
        client.pause(PauseRequest {}).await.unwrap();
        assert_eq!(state().await, paused);
        // One may have been on its way.
        let _ = wait_for(updates.message(), Duration::from_millis(1_200)).await;
        assert!(wait_for(updates.message(), Duration::from_millis(1_500)).await.is_err(), "paused");
        client.resume(ResumeRequest {}).await.unwrap();
        assert_eq!(state().await, live);
        assert!(wait_for(updates.message(), LIMIT).await.unwrap().unwrap().is_some());
    });
}

#[test]
fn details_have_no_histograms_and_stay_open() {
    let (_runtime, console) = observed();
    outside(async {
        let id = Some(console_api::Id { id: 7 });
        let mut client = client(&console).await;
        let mut details = client.watch_task_details(TaskDetailsRequest { id }).await.unwrap().into_inner();
        let first = details.message().await.unwrap().unwrap();
        assert_eq!((first.task_id, first.poll_times_histogram), (id, None));
        assert!(wait_for(details.message(), Duration::from_millis(50)).await.is_err());
    });
}

#[test]
fn errors_are_told_by_the_start() {
    let plain = Runtime::builder().workers(1).build().unwrap();
    let error = start(plain.handle(), ([127, 0, 0, 1], 0).into()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    let (runtime, console) = observed();
    assert_eq!(start(runtime.handle(), console.address()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn a_task_may_start_and_drop_it() {
    let runtime = Runtime::builder().workers(1).inspect(true).build().unwrap();
    let handle = runtime.handle().clone();
    let started = runtime.spawn(async move {
        let console = start(&handle, ([127, 0, 0, 1], 0).into()).unwrap();
        let address = console.address();
        TcpStream::connect(address).await.unwrap();
        drop(console);
        address
    });
    let address = runtime.block_on(started).unwrap();
    // The listener is closed soon after.
    let closed = async {
        while TcpStream::connect(address).await.is_ok() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    outside(wait_for(closed, LIMIT)).unwrap();
}
