//! Await stacks: what they say of each task, and that a task does not see that it was traced.

use std::future::{pending, poll_fn};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use heirloom::context::channel;
use heirloom::runtime::{AwaitStack, AwaitStacks, Dump, Hooks, TaskDump, Traced, Untraced};
use heirloom::task::{Builder, Leaf, LocalSet, TaskMeta, TaskState};
use heirloom::{
    CancelToken, Runtime, TaskGroup, context_var, deadline, sleep, spawn, spawn_blocking, wait_for, yield_now,
};
use heirloom_tests::{Gate, Ledger, PATIENCE, idle, occupy, quiet_panic, scaled, watchdog, with_runtime};

mod random;

context_var! {
    static REQUEST: u64 = 0, debug = Debug;
    static TOKEN: &'static str, debug = Debug, secret = true;
}

const HOUR: Duration = Duration::from_secs(3_600);
const LIMIT: Duration = Duration::from_secs(PATIENCE);

/// An inspected runtime with one worker.
fn inspected(test: impl FnOnce(&Runtime) + Send + 'static) {
    watchdog(PATIENCE, || {
        let runtime = Runtime::builder().workers(1).inspect(true).build().unwrap();
        test(&runtime);
    });
}

fn named<'a>(dump: &'a Dump, name: &str) -> &'a TaskDump {
    let found = dump.iter().find(|task| task.name.as_deref() == Some(name));
    found.unwrap_or_else(|| panic!("no task `{name}` in {dump}"))
}

fn traced<'a>(dump: &'a Dump, name: &str) -> &'a Traced {
    named(dump, name).traced.as_ref().expect("a dump of stacks")
}

fn stacks<'a>(dump: &'a Dump, name: &str) -> &'a AwaitStacks {
    traced(dump, name).as_ref().unwrap_or_else(|why| panic!("{why}: {dump}"))
}

/// The functions of a stack without their modules, the outermost first.
fn functions(stack: &AwaitStack) -> Vec<&str> {
    stack.frames.iter().map(|frame| frame.function.rsplit("::").next().unwrap()).collect()
}

/// What the one task of this future says when it is idle.
fn trace_of<F>(runtime: &Runtime, future: F) -> Traced
where
    F: Future<Output: Send> + Send + 'static,
{
    let task = Builder::new().name("waits").on(runtime.handle()).spawn(future);
    idle(runtime);
    let dump = runtime.dump_stacks(LIMIT);
    idle(runtime);
    drop(task);
    idle(runtime);
    traced(&dump, "waits").clone()
}

async fn outer() {
    middle(1).await;
}

async fn middle(number: u32) {
    let inner = async { inner().await };
    inner.await;
    let _ = number;
}

async fn inner() {
    sleep(HOUR).await;
}

#[test]
fn a_stack_has_the_functions_down_to_the_leaf_with_their_lines() {
    inspected(|runtime| {
        let task = Builder::new().name("waits").on(runtime.handle()).spawn(outer());
        idle(runtime);
        let dump = runtime.dump_stacks(LIMIT);
        let stacks = stacks(&dump, "waits");
        assert_eq!((stacks.stacks.len(), stacks.leaves), (1, 1));
        let stack = &stacks.stacks[0];
        assert!(matches!(stack.leaf, Leaf::Sleep { .. }) && !stack.cut);
        assert_eq!(functions(stack), ["outer", "middle", "middle", "inner"], "{dump}");
        assert!(stack.frames[0].function.contains("stacks::outer"), "{dump}");
        let sources = include_str!("stacks.rs").lines().collect::<Vec<_>>();
        for (frame, awaits) in
            stack.frames.iter().zip(["middle(1).await", "inner.await", "inner().await", "sleep(HOUR).await"])
        {
            assert!(frame.file.as_ref().unwrap().ends_with("stacks.rs"), "{frame}");
            let line = sources[frame.line.unwrap() as usize - 1];
            assert!(line.contains(awaits), "{frame}: {line}");
        }
        drop(task);
    });
}

#[test]
fn each_leaf_is_found_below_the_function_that_awaits_it() {
    async fn joins() {
        let _ = spawn(pending::<()>()).await;
    }
    async fn receives() {
        let (_sender, receiver) = channel::bounded::<u8>(1);
        let _ = receiver.recv().await;
    }
    async fn sends() {
        let (sender, _receiver) = channel::bounded::<u8>(1);
        sender.send(1).await.unwrap();
        let _ = sender.send(2).await;
    }
    async fn waits_for_a_group() {
        let group = TaskGroup::<()>::new();
        group.spawn(pending());
        let _ = group.join().await;
    }
    async fn waits_for_a_token() {
        CancelToken::new().cancelled().await;
    }
    async fn accepts() {
        let listener = heirloom::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _ = listener.accept().await;
    }
    async fn reads() {
        let socket = heirloom::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let _ = socket.recv_from(&mut [0]).await;
    }
    async fn is_limited() {
        let _ = wait_for(pending::<()>(), HOUR).await;
    }
    inspected(|runtime| {
        let one = |traced: Traced, function: &str| {
            let AwaitStacks { stacks, leaves, .. } = traced.unwrap();
            assert_eq!((stacks.len(), leaves), (1, 1), "{function}");
            assert_eq!(functions(&stacks[0]), [function]);
            stacks[0].leaf
        };
        assert!(matches!(one(trace_of(runtime, joins()), "joins"), Leaf::Join { blocking: false, .. }));
        assert_eq!(one(trace_of(runtime, receives()), "receives"), Leaf::Receive);
        assert_eq!(one(trace_of(runtime, sends()), "sends"), Leaf::Send);
        assert_eq!(one(trace_of(runtime, waits_for_a_group()), "waits_for_a_group"), Leaf::Group);
        assert_eq!(one(trace_of(runtime, waits_for_a_token()), "waits_for_a_token"), Leaf::Cancellation);
        let accept = one(trace_of(runtime, accepts()), "accepts").to_string();
        assert!(accept.starts_with("accept on tcp 127.0.0.1:"), "{accept}");
        let read = one(trace_of(runtime, reads()), "reads").to_string();
        assert!(read.starts_with("read on udp 127.0.0.1:"), "{read}");
        assert!(matches!(one(trace_of(runtime, is_limited()), "is_limited"), Leaf::Sleep { .. }));
        // A leaf that is the whole task has no function above it.
        let AwaitStacks { stacks, .. } = trace_of(runtime, sleep(HOUR)).unwrap();
        assert!(stacks[0].frames.is_empty(), "{stacks:?}");
    });
}

#[test]
fn who_joins_a_blocking_closure_is_traced_and_the_closure_runs() {
    async fn waits_for_a_closure(closure: impl FnOnce() + Send + 'static) {
        spawn_blocking(closure).await.unwrap();
    }
    inspected(|runtime| {
        let (go, held) = mpsc::channel::<()>();
        let started = Gate::new();
        let opener = started.clone();
        let closure = move || {
            opener.open();
            let _ = held.recv();
        };
        let task = Builder::new().name("waits").on(runtime.handle()).spawn(waits_for_a_closure(closure));
        started.wait();
        while named(&runtime.dump(), "waits").state != TaskState::Idle {
            std::thread::yield_now();
        }
        let dump = runtime.dump_stacks(LIMIT);
        let stack = &stacks(&dump, "waits").stacks[0];
        assert!(matches!(stack.leaf, Leaf::Join { blocking: true, .. }), "{dump}");
        assert_eq!(functions(stack), ["waits_for_a_closure"]);
        let closure = dump.iter().find(|task| task.recorded.as_ref().unwrap().blocking).unwrap();
        assert_eq!(closure.traced.as_ref().unwrap().as_ref().unwrap_err(), &Untraced::Running);
        drop(go);
        runtime.block_on(task).unwrap();
    });
}

#[test]
fn branches_of_join_and_select_are_a_tree() {
    async fn two_things() {
        futures::join!(receives(), selects());
    }
    async fn receives() {
        let (_sender, receiver) = channel::bounded::<u8>(1);
        let _ = receiver.recv().await;
    }
    async fn selects() {
        futures::select! {
            () = sleeps().fuse() => {}
            () = is_cancelled().fuse() => {}
        }
    }
    async fn sleeps() {
        sleep(HOUR).await;
    }
    async fn is_cancelled() {
        CancelToken::new().cancelled().await;
    }
    inspected(|runtime| {
        let task = Builder::new().name("waits").on(runtime.handle()).spawn(two_things());
        idle(runtime);
        let dump = runtime.dump_stacks(LIMIT);
        let stacks = stacks(&dump, "waits");
        let mut paths: Vec<_> = stacks.stacks.iter().map(functions).collect();
        // `select!` begins with a branch by chance.
        paths.sort();
        let expected: [&[_]; 3] = [
            &["two_things", "receives"],
            &["two_things", "selects", "is_cancelled"],
            &["two_things", "selects", "sleeps"],
        ];
        assert_eq!(paths, expected, "{dump}");

        let text = stacks.to_string();
        let shape: Vec<_> = text
            .lines()
            .map(|line| line.split(" at ").next().unwrap().split(" until ").next().unwrap())
            .map(|line| {
                line.replace(concat!(module_path!(), "::branches_of_join_and_select_are_a_tree::"), "")
            })
            .collect();
        let chance = shape[4].contains("is_cancelled");
        let (token, clock) = (["is_cancelled", "a cancel token"], ["sleeps", "sleep"]);
        let [first, second] = if chance { [token, clock] } else { [clock, token] };
        assert_eq!(
            shape,
            [
                "two_things",
                "├─ receives",
                "│  a message of a channel",
                "└─ selects",
                &format!("   ├─ {}", first[0]),
                &format!("   │  {}", first[1]),
                &format!("   └─ {}", second[0]),
                &format!("      {}", second[1]),
            ],
            "{text}"
        );
        drop(task);
    });
}

#[test]
fn of_many_leaves_the_first_are_traced_and_the_others_counted() {
    inspected(|runtime| {
        let many = async {
            let sleeps = (0..30).map(|_| Box::pin(async { sleep(HOUR).await }));
            futures::future::select_all(sleeps).await;
        };
        let AwaitStacks { stacks, leaves, .. } = trace_of(runtime, many).unwrap();
        assert_eq!((stacks.len(), leaves), (8, 30));
    });
}

#[test]
fn a_stack_that_is_too_long_is_cut_at_its_outer_end() {
    fn nested(depth: usize) -> futures::future::BoxFuture<'static, ()> {
        Box::pin(async move { if depth == 0 { inner().await } else { nested(depth - 1).await } })
    }
    inspected(|runtime| {
        let AwaitStacks { stacks, .. } = trace_of(runtime, nested(400)).unwrap();
        let functions = functions(&stacks[0]);
        assert!(stacks[0].cut && functions.len() <= 256, "{functions:?}");
        assert_eq!(functions.last(), Some(&"inner"));
    });
}

#[test]
fn what_is_not_known_says_why() {
    inspected(|runtime| {
        assert_eq!(trace_of(runtime, pending::<()>()).unwrap_err(), Untraced::Foreign);
        let (_keep, foreign) = futures::channel::oneshot::channel::<()>();
        assert_eq!(trace_of(runtime, foreign).unwrap_err(), Untraced::Foreign);

        let occupied = occupy(runtime, 1);
        let runnable = Builder::new().name("runnable").on(runtime.handle()).spawn(async {});
        let begun = Instant::now();
        let dump = runtime.dump_stacks(LIMIT);
        assert!(begun.elapsed() < LIMIT, "it waits for no task that is not idle");
        assert_eq!(traced(&dump, "runnable").as_ref().unwrap_err(), &Untraced::Runnable);
        let states = dump.iter().map(|task| task.traced.clone().unwrap().unwrap_err());
        assert!(states.clone().any(|why| why == Untraced::Running), "{dump}");
        assert!(dump.to_string().contains("stack unknown: the task is running\n"), "{dump}");
        occupied.release();
        runtime.block_on(runnable).unwrap();
    });
    with_runtime(1, |runtime| {
        let task = Builder::new().name("waits").on(runtime.handle()).spawn(sleep(HOUR));
        idle(runtime);
        let dump = runtime.dump_stacks(LIMIT);
        assert_eq!(traced(&dump, "waits").as_ref().unwrap_err(), &Untraced::NotInspected);
        assert!(runtime.dump()[0].traced.is_none());
        drop(task);
    });
}

#[test]
fn a_task_that_is_not_polled_in_time_is_named_and_runs_on() {
    inspected(|runtime| {
        let task = Builder::new().name("waits").on(runtime.handle()).spawn(inner());
        idle(runtime);
        let occupied = occupy(runtime, 1);
        let begun = Instant::now();
        let dump = runtime.dump_stacks(Duration::from_millis(30));
        assert!(begun.elapsed() >= Duration::from_millis(30) && begun.elapsed() < LIMIT);
        assert_eq!(traced(&dump, "waits").as_ref().unwrap_err(), &Untraced::NoAnswer);
        occupied.release();
        idle(runtime);
        let dump = runtime.dump_stacks(LIMIT);
        assert_eq!(functions(&stacks(&dump, "waits").stacks[0]), ["inner"]);
        drop(task);
    });
}

/// A leaf of another crate: it keeps the waker that it was polled with last.
#[derive(Clone, Default)]
struct Foreign {
    waker: Arc<Mutex<Option<Waker>>>,
    ready: Arc<AtomicBool>,
    polls: Arc<AtomicUsize>,
}

impl Foreign {
    async fn wait(self) {
        poll_fn(|cx| {
            self.polls.fetch_add(1, SeqCst);
            *self.waker.lock().unwrap() = Some(cx.waker().clone());
            if self.ready.load(SeqCst) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    fn wake(&self) {
        self.ready.store(true, SeqCst);
        self.waker.lock().unwrap().take().expect("it is registered").wake();
    }
}

#[test]
fn a_foreign_leaf_stays_registered() {
    inspected(|runtime| {
        let foreign = Foreign::default();
        let task = runtime.spawn(foreign.clone().wait());
        idle(runtime);
        for traces in 1..4 {
            let dump = runtime.dump_stacks(LIMIT);
            assert_eq!(dump[0].traced.as_ref().unwrap().as_ref().unwrap_err(), &Untraced::Foreign);
            assert_eq!(foreign.polls.load(SeqCst), 1 + traces, "a traced poll is a poll");
            idle(runtime);
        }
        foreign.wake();
        runtime.block_on(task).unwrap();
    });
}

#[test]
fn a_task_that_ends_in_the_traced_poll_is_done() {
    inspected(|runtime| {
        // Each is ready without a wake-up, so that the traced poll is what finds out.
        let (foreign, fails) = (Foreign::default(), Foreign::default());
        let ends = {
            let foreign = foreign.clone();
            Builder::new().name("ends").on(runtime.handle()).spawn(async move {
                foreign.wait().await;
                7
            })
        };
        let panics = {
            let fails = fails.clone();
            Builder::new().name("panics").on(runtime.handle()).spawn(async move {
                fails.wait().await;
                quiet_panic("wanted")
            })
        };
        idle(runtime);
        foreign.ready.store(true, SeqCst);
        fails.ready.store(true, SeqCst);
        let dump = runtime.dump_stacks(LIMIT);
        for name in ["ends", "panics"] {
            assert_eq!(traced(&dump, name).as_ref().unwrap_err(), &Untraced::Ended);
        }
        assert_eq!(runtime.block_on(ends).unwrap(), 7);
        assert!(runtime.block_on(panics).unwrap_err().is_panic());
    });
}

#[test]
fn a_task_that_goes_on_in_the_traced_poll_is_traced_where_it_waits_then() {
    inspected(|runtime| {
        let foreign = Foreign::default();
        let later = {
            let foreign = foreign.clone();
            async move {
                foreign.wait().await;
                inner().await;
            }
        };
        let task = Builder::new().name("waits").on(runtime.handle()).spawn(later);
        idle(runtime);
        foreign.ready.store(true, SeqCst);
        let dump = runtime.dump_stacks(LIMIT);
        assert_eq!(functions(&stacks(&dump, "waits").stacks[0]).last(), Some(&"inner"), "{dump}");
        drop(task);
    });
}

#[derive(Default)]
struct Counts {
    before: AtomicUsize,
    after: AtomicUsize,
    contexts: Mutex<Vec<u64>>,
}

impl Hooks for Counts {
    fn before_poll(&self, _: &TaskMeta) {
        self.before.fetch_add(1, SeqCst);
        self.contexts.lock().unwrap().push(REQUEST.get());
    }

    fn after_poll(&self, _: &TaskMeta) {
        self.after.fetch_add(1, SeqCst);
    }
}

#[test]
fn a_traced_poll_counts_as_the_poll_of_a_spurious_wake_up() {
    watchdog(PATIENCE, || {
        let hooks = Arc::new(Counts::default());
        let runtime = Runtime::builder().workers(1).inspect(true).hooks(hooks.clone()).build().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let task = Builder::new().name("waits").on(runtime.handle()).spawn(async move {
            REQUEST.set(7);
            let look = poll_fn(move |_| {
                let left = heirloom::task::budget::remaining();
                log.lock().unwrap().push((REQUEST.get(), left, deadline().is_some()));
                Poll::<()>::Pending
            });
            let waits = async { futures::join!(look, sleep(HOUR)) };
            let _ = wait_for(waits, 2 * HOUR).await;
        });
        idle(&runtime);
        let before = named(&runtime.dump(), "waits").recorded.clone().unwrap();
        let traced = runtime.dump_stacks(LIMIT);
        // The dump is that of before; the poll was a further one.
        let during = named(&traced, "waits").recorded.clone().unwrap();
        assert_eq!((during.polls, during.wake_ups), (before.polls, before.wake_ups));
        assert!(during.in_state >= before.in_state);
        idle(&runtime);
        let after = named(&runtime.dump(), "waits").recorded.clone().unwrap();
        assert_eq!((after.polls, after.wake_ups), (before.polls + 1, before.wake_ups + 1));
        assert_eq!(after.waits_for, before.waits_for, "the same timers");
        assert_eq!((after.leaves, before.leaves), (2, 2));
        let seen = seen.lock().unwrap().clone();
        assert_eq!(seen, [(7, Some(128), true); 2]);
        assert_eq!((hooks.before.load(SeqCst), hooks.after.load(SeqCst)), (2, 2));
        assert_eq!(*hooks.contexts.lock().unwrap(), [0, 7]);
        drop(task);
    });
}

#[test]
fn a_timer_fires_when_it_would_have() {
    let runtime = Runtime::builder().virtual_time().inspect(true).build().unwrap();
    watchdog(PATIENCE, move || {
        let handle = runtime.handle().clone();
        let (begun, ended) = runtime.block_on(async move {
            let begun = heirloom::time::now();
            let timer = spawn(async {
                sleep(Duration::from_secs(10)).await;
                heirloom::time::now()
            });
            for _ in 0..9 {
                sleep(Duration::from_secs(1)).await;
                let handle = handle.clone();
                let dump = spawn_blocking(move || handle.dump_stacks(LIMIT)).await.unwrap();
                let timers = dump.iter().filter(|task| matches!(task.traced, Some(Ok(_)))).count();
                assert_eq!(timers, 1, "{dump}");
            }
            (begun, timer.await.unwrap())
        });
        assert_eq!(ended - begun, Duration::from_secs(10));
    });
}

/// A child that is polled inside its parent's poll has stacks of its own.
#[test]
fn a_child_that_starts_inside_the_traced_poll_is_not_the_parents_leaf() {
    inspected(|runtime| {
        let foreign = Foreign::default();
        let gate = foreign.clone();
        let task = Builder::new().name("waits").on(runtime.handle()).spawn(async move {
            gate.wait().await;
            let child = Builder::new().start_inline(true).spawn(async { inner().await });
            let eager = heirloom::run_eagerly(async { spawn(async { 1 }).await.unwrap() });
            assert_eq!(eager, 1);
            child.await.unwrap();
        });
        idle(runtime);
        foreign.ready.store(true, SeqCst);
        let dump = runtime.dump_stacks(LIMIT);
        let stacks = stacks(&dump, "waits");
        assert_eq!(stacks.leaves, 1, "{dump}");
        assert!(matches!(stacks.stacks[0].leaf, Leaf::Join { .. }), "{dump}");
        idle(runtime);
        let dump = runtime.dump_stacks(LIMIT);
        let of_child = dump.iter().find(|task| task.name.is_none()).unwrap();
        let stack = &of_child.traced.as_ref().unwrap().as_ref().unwrap().stacks[0];
        assert_eq!(functions(stack).last(), Some(&"inner"));
        drop(task);
    });
}

#[test]
fn a_task_that_yields_or_has_spent_its_budget_is_runnable() {
    inspected(|runtime| {
        let foreign = Foreign::default();
        let gate = foreign.clone();
        let busy = async move {
            gate.wait().await;
            loop {
                heirloom::task::budget::cooperative(std::future::ready(())).await;
                if REQUEST.get() == 1 {
                    break;
                }
                if heirloom::task::budget::remaining() == Some(0) {
                    REQUEST.set(1);
                }
            }
            pending::<()>().await;
        };
        let task = Builder::new().name("waits").on(runtime.handle()).spawn(busy);
        idle(runtime);
        foreign.ready.store(true, SeqCst);
        let dump = runtime.dump_stacks(LIMIT);
        assert_eq!(traced(&dump, "waits").as_ref().unwrap_err(), &Untraced::Runnable, "{dump}");
        drop(task);

        let foreign = Foreign::default();
        let gate = foreign.clone();
        let task = Builder::new().name("yields").on(runtime.handle()).spawn(async move {
            gate.wait().await;
            yield_now().await;
            pending::<()>().await;
        });
        idle(runtime);
        foreign.ready.store(true, SeqCst);
        let dump = runtime.dump_stacks(LIMIT);
        assert_eq!(traced(&dump, "yields").as_ref().unwrap_err(), &Untraced::Runnable, "{dump}");
        drop(task);
    });
}

#[test]
fn the_text_and_the_json_have_stacks_below_their_tasks_and_no_secrets() {
    inspected(|runtime| {
        let task = Builder::new().name("serve").on(runtime.handle()).spawn(async {
            REQUEST.set(7);
            TOKEN.set("xyzzy");
            let child = Builder::new().name("child").spawn(inner());
            child.await
        });
        idle(runtime);
        let dump = runtime.dump_stacks(LIMIT);
        let text = dump.to_string();
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[1].contains("`serve` idle"), "{text}");
        assert!(lines[2].starts_with("│   ") && lines[2].contains("TOKEN = [secret]"), "{text}");
        let here = concat!("│   ", module_path!(), "::");
        assert!(lines[3].starts_with(here) && lines[3].contains("/stacks.rs:"), "{text}");
        assert!(lines[4].starts_with("│   join of task "), "{text}");
        assert!(lines[5].starts_with("└─ task "), "{text}");
        assert!(lines[7].starts_with(concat!("       ", module_path!(), "::inner at ")), "{text}");
        assert!(lines[8].starts_with("       sleep until "), "{text}");
        assert_eq!(lines.len(), 9, "{text}");

        let one = dump[1].to_string();
        assert!(
            one.contains(concat!("\n    ", module_path!(), "::inner at ")) && !one.ends_with('\n'),
            "{one}"
        );

        let json = dump.json().to_string();
        let part = r#""traced_leaves":1,"stacks":[{"leaf":"sleep until "#;
        assert!(json.contains(part), "{json}");
        let frame = concat!(r#""cut":false,"frames":[{"function":""#, module_path!(), r#"::inner","file":"#);
        assert!(json.contains(frame), "{json}");
        assert!(![text, json, format!("{dump:?}")].iter().any(|text| text.contains("xyzzy")));
        drop(task);

        runtime.spawn(pending::<()>()).detach();
        idle(runtime);
        let json = runtime.dump_stacks(LIMIT).json().to_string();
        assert!(json.contains(r#""untraced":"no leaf of this crate was polled""#), "{json}");
    });
}

#[test]
fn dumps_of_several_threads_take_turns() {
    inspected(|runtime| {
        let tasks: Vec<_> = (0..50).map(|_| runtime.spawn(inner())).collect();
        idle(runtime);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..scaled(5) {
                        let dump = runtime.dump_stacks(LIMIT);
                        // A task that another dump has just asked may be runnable.
                        let known = |task: &&TaskDump| match task.traced.as_ref().unwrap() {
                            Ok(stacks) => functions(&stacks.stacks[0]) == ["inner"],
                            Err(why) => matches!(why, Untraced::Runnable | Untraced::Running),
                        };
                        assert_eq!(dump.iter().filter(known).count(), 50, "{dump}");
                    }
                });
            }
        });
        drop(tasks);
    });
}

/// Tasks come, wait, end and are cancelled on two workers while they are traced.
#[test]
fn tasks_that_come_and_go_are_traced_or_not_and_none_is_lost() {
    watchdog(PATIENCE, || {
        let runtime = Runtime::builder().workers(2).inspect(true).build().unwrap();
        let (ledger, stop) = (Ledger::new(), Arc::new(AtomicBool::new(false)));
        let spawners: Vec<_> = (0..4)
            .map(|number| {
                let (ledger, stop) = (ledger.clone(), stop.clone());
                runtime.spawn(async move {
                    let mut round = 0;
                    while !stop.load(SeqCst) {
                        round += 1;
                        let kept = ledger.counted(number);
                        let child = spawn(async move {
                            let _kept = kept;
                            sleep(Duration::from_micros(50 * (round % 7))).await;
                            yield_now().await;
                        });
                        match round % 3 {
                            0 => drop(child),
                            1 => {
                                child.detach();
                                yield_now().await;
                            }
                            _ => child.await.unwrap(),
                        }
                    }
                })
            })
            .collect();
        for _ in 0..scaled(200) {
            for task in runtime.dump_stacks(LIMIT) {
                assert!(!matches!(task.traced, Some(Err(Untraced::NoAnswer))), "{task}");
            }
        }
        stop.store(true, SeqCst);
        spawners.into_iter().for_each(|spawner| runtime.block_on(spawner).unwrap());
        idle(&runtime);
        assert_eq!(ledger.alive(), 0);
    });
}

/// Without names of functions, which would take a while: an answer of each.
#[test]
fn ten_thousand_tasks_answer() {
    watchdog(PATIENCE, || {
        let runtime = Runtime::builder().workers(2).inspect(true).build().unwrap();
        let count = scaled(10_000);
        let tasks: Vec<_> = (0..count).map(|_| runtime.spawn(outer())).collect();
        idle(&runtime);
        let dump = runtime.dump_stacks(LIMIT);
        let first = dump[0].traced.as_ref().unwrap().as_ref().unwrap().stacks[0].frames.clone();
        for task in &dump {
            let AwaitStacks { stacks, .. } = task.traced.as_ref().unwrap().as_ref().unwrap();
            assert!(Arc::ptr_eq(&stacks[0].frames, &first), "one stack for all: {task}");
        }
        assert_eq!(dump.len(), count as usize);
        drop(tasks);
    });
}

#[test]
fn tasks_of_a_local_set_are_listed_and_traced() {
    inspected(|runtime| {
        let set = LocalSet::new();
        let (dump, here) = runtime.block_on(set.run_until(async {
            REQUEST.set(7);
            let task = Builder::new().name("local").spawn_local(outer());
            // The set's tasks have their turn.
            yield_now().await;
            let here = runtime.dump_stacks(LIMIT);
            let handle = runtime.handle().clone();
            let dump = spawn_blocking(move || handle.dump_stacks(LIMIT)).await.unwrap();
            drop(task);
            (dump, here)
        }));
        assert_eq!(functions(&stacks(&dump, "local").stacks[0])[1..], ["middle", "middle", "inner"]);
        for dump in [&dump, &here] {
            let recorded = named(dump, "local").recorded.as_ref().unwrap();
            assert_eq!(recorded.context[0].text.as_deref(), Some("7"));
            assert!(matches!(recorded.waits_for[..], [Leaf::Sleep { .. }]), "{dump}");
        }
        // The thread that waits for the answer is the one that runs the set.
        assert!(matches!(traced(&here, "local"), Err(Untraced::NoAnswer)), "{here}");
        // The task is cancelled when the set is run the next time, or dropped.
        drop(set);
        idle(runtime);
        assert!(runtime.dump().is_empty(), "{}", runtime.dump());
    });
}
