//! Random programs run twice in virtual time, with dumps of stacks and without: each task sees the
//! same events at the same times, in the same contexts.

use std::collections::BTreeMap;

use futures::channel::oneshot;
use futures::future::BoxFuture;
use heirloom::context::ContextFutureExt as _;
use heirloom::time::now;

use super::*;

/// Random numbers: xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    /// Times are long and odd, so that no two events come at the same time by chance.
    fn time(&mut self) -> Duration {
        Duration::from_micros(1_000 + self.below(1_000_000_007))
    }

    fn steps(&mut self, depth: u64) -> Vec<Step> {
        (0..1 + self.below(4)).map(|_| self.step(depth)).collect()
    }

    fn step(&mut self, depth: u64) -> Step {
        let kinds = if depth == 0 { 7 } else { 15 };
        match self.below(kinds) {
            0 | 1 => Step::Sleep(self.time()),
            2 => Step::Yield(self.below(3)),
            3 => Step::Set(self.below(1_000)),
            4 => Step::Look,
            5 => Step::Foreign(self.time()),
            6 => Step::Busy(self.below(300)),
            7 => Step::Child(self.steps(depth - 1)),
            8 => Step::Both(self.steps(depth - 1), self.steps(depth - 1)),
            9 => Step::Limit(self.time(), self.steps(depth - 1)),
            10 => Step::Abort(self.time(), self.steps(depth - 1)),
            11 => Step::Group((0..self.below(4)).map(|_| self.steps(depth - 1)).collect()),
            12 => Step::Messages(self.below(5), self.steps(depth - 1)),
            13 => Step::Token(self.time(), self.steps(depth - 1)),
            _ => Step::Panic(self.steps(depth - 1)),
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Sleep(Duration),
    Yield(u64),
    Set(u64),
    /// The place of a dump.
    Look,
    /// A leaf of another crate, ended by a child.
    Foreign(Duration),
    /// Leaves that are ready at once.
    Busy(u64),
    Child(Vec<Step>),
    Both(Vec<Step>, Vec<Step>),
    Limit(Duration, Vec<Step>),
    Abort(Duration, Vec<Step>),
    Group(Vec<Vec<Step>>),
    Messages(u64, Vec<Step>),
    Token(Duration, Vec<Step>),
    Panic(Vec<Step>),
}

/// What one strand of a program has seen, by the path of the strand.
type Events = BTreeMap<String, Vec<String>>;

struct World {
    begun: Instant,
    events: Mutex<Events>,
    look: Option<heirloom::Handle>,
    traced: AtomicUsize,
}

impl World {
    fn log(&self, path: &str, event: &str) {
        let line = format!(
            "{event} at {:?} for {} until {:?}, {}",
            now() - self.begun,
            REQUEST.get(),
            deadline().map(|deadline| deadline - self.begun),
            if heirloom::task::budget::remaining().is_some_and(|left| left <= 128) { "in" } else { "out" },
        );
        self.events.lock().unwrap().entry(path.to_owned()).or_default().push(line);
    }
}

fn run(world: Arc<World>, path: String, steps: Vec<Step>) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        for (at, step) in steps.into_iter().enumerate() {
            world.log(&path, "step");
            let part = |name: &str| format!("{path}.{at}{name}");
            let strand = |name: &str, steps| run(world.clone(), part(name), steps);
            match step {
                Step::Sleep(time) => sleep(time).await,
                Step::Yield(times) => {
                    for _ in 0..times {
                        yield_now().await;
                    }
                }
                Step::Set(value) => drop(REQUEST.set(value)),
                Step::Look => {
                    let world = world.clone();
                    let look = move || {
                        let Some(handle) = &world.look else { return };
                        let dump = handle.dump_stacks(LIMIT);
                        let known = dump.iter().filter(|task| matches!(task.traced, Some(Ok(_))));
                        world.traced.fetch_add(known.count(), SeqCst);
                    };
                    spawn_blocking(look).await.unwrap();
                }
                Step::Foreign(time) => {
                    let (send, receive) = oneshot::channel();
                    let ends = async move {
                        sleep(time).await;
                        let _ = send.send(());
                    };
                    spawn(ends).detach();
                    receive.await.unwrap();
                }
                Step::Busy(times) => {
                    for _ in 0..times {
                        heirloom::task::budget::cooperative(std::future::ready(())).await;
                    }
                }
                Step::Child(steps) => spawn(strand("c", steps)).await.unwrap(),
                Step::Both(one, other) => {
                    // In contexts of their own: otherwise one branch sees what the other one sets.
                    futures::join!(strand("l", one).isolated(), strand("r", other).isolated());
                }
                Step::Limit(time, steps) => {
                    let result = wait_for(strand("w", steps), time).await;
                    world.log(&path, if result.is_ok() { "in time" } else { "late" });
                }
                Step::Abort(time, steps) => {
                    let child = spawn(strand("a", steps));
                    let abort = child.abort_handle();
                    let timer = spawn(async move {
                        sleep(time).await;
                        abort.abort();
                    });
                    let result = child.await;
                    drop(timer);
                    world.log(&path, if result.is_ok() { "ended" } else { "aborted" });
                }
                Step::Group(children) => {
                    let group = TaskGroup::<()>::new();
                    for (number, steps) in children.into_iter().enumerate() {
                        group.spawn(strand(&format!("g{number}"), steps).map(Ok));
                    }
                    let result = group.join().await;
                    world.log(&path, if result.is_ok() { "all" } else { "failed" });
                }
                Step::Messages(count, steps) => {
                    let (sender, receiver) = channel::bounded::<u64>(1);
                    let sends = strand("m", steps).then(move |()| async move {
                        for number in 0..count {
                            sender.send(number).await.unwrap();
                        }
                    });
                    let sends = spawn(sends);
                    while let Ok((number, _)) = receiver.recv().await {
                        world.log(&path, &format!("message {number}"));
                    }
                    sends.await.unwrap();
                }
                Step::Token(time, steps) => {
                    let token = CancelToken::new();
                    let waits = token.clone();
                    let steps = strand("t", steps);
                    let child = spawn(async move {
                        futures::select! {
                            () = steps.fuse() => "by itself",
                            _ = waits.cancelled().fuse() => "by the token",
                        }
                    });
                    sleep(time).await;
                    token.cancel("the time has come");
                    let how = child.await.unwrap();
                    world.log(&path, how);
                }
                Step::Panic(steps) => {
                    let steps = strand("p", steps);
                    let result = spawn(steps.map(|()| quiet_panic("wanted"))).await;
                    let result: Result<(), _> = result;
                    world.log(&path, if result.unwrap_err().is_panic() { "panicked" } else { "?" });
                }
            }
        }
        world.log(&path, "end");
    })
}

/// The events of a program, and how many stacks were seen.
fn events(program: Vec<Step>, look: bool) -> (Events, usize) {
    let runtime = Runtime::builder().workers(1).virtual_time().inspect(true).build().unwrap();
    let look = look.then(|| runtime.handle().clone());
    let world = runtime.block_on(async move {
        let (events, traced) = (Mutex::default(), AtomicUsize::new(0));
        let world = Arc::new(World { begun: now(), events, look, traced });
        spawn(run(world.clone(), "main".to_owned(), program)).await.unwrap();
        world
    });
    idle(&runtime);
    let events = std::mem::take(&mut *world.events.lock().unwrap());
    (events, world.traced.load(SeqCst))
}

#[test]
fn a_program_does_not_see_that_it_is_traced() {
    watchdog(PATIENCE, || {
        let (mut stacks, mut lines) = (0, 0);
        for seed in 1..=scaled(150) as u64 {
            let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let program: Vec<_> = (0..4).map(|_| random.step(3)).collect();
            let program = vec![Step::Both(program.clone(), vec![Step::Look, Step::Look]), Step::Look];
            let (without, none) = events(program.clone(), false);
            let (with, traced) = events(program.clone(), true);
            assert_eq!(none, 0);
            for (path, events) in &without {
                assert_eq!(with.get(path), Some(events), "{path} with seed {seed}: {program:?}");
            }
            assert_eq!(with.len(), without.len());
            stacks += traced;
            lines += without.values().map(Vec::len).sum::<usize>();
        }
        assert!(stacks > 0 && lines > 0, "{stacks} stacks, {lines} events");
    });
}
