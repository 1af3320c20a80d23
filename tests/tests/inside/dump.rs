//! Dumps: what they say of each task, on whose behalf it waits, and what they never say.

use std::future::pending;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use heirloom::context::{ContextFutureExt as _, ContextVar};
use heirloom::runtime::{Dump, Recorded, TaskDump};
use heirloom::task::{Builder, Leaf, SocketKind, SocketOperation, TaskState};
use heirloom::{
    CancelToken, Context, Runtime, TaskGroup, context_var, sleep, spawn, spawn_background, spawn_blocking,
    wait_for, yield_now,
};
use heirloom_tests::{
    Child, Gate, Ledger, PATIENCE, idle, in_child, say_as_child, scaled, watchdog, with_runtime,
};

context_var! {
    static REQUEST: u64, debug = Debug;
    static TENANT: &'static str, debug = Debug;
    static OPAQUE: &'static str;
    static TOKEN: &'static str, debug = Debug, secret = true;
    static PASSWORD: &'static str, secret = true;
    static BROKEN: Broken, debug = Debug;
}

struct Broken;

impl std::fmt::Debug for Broken {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("no text")
    }
}

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

fn recorded(task: &TaskDump) -> &Recorded {
    task.recorded.as_ref().expect("the runtime is inspected")
}

/// The context of a task as `NAME=text` words.
fn context(task: &TaskDump) -> Vec<String> {
    let word = |text: &heirloom::runtime::VariableText| {
        format!("{}{}", text.name, text.text.as_ref().map_or(String::new(), |text| format!("={text}")))
    };
    recorded(task).context.iter().map(word).collect()
}

/// What the one task of this name waits for, once the runtime is idle.
fn waits_for<F>(runtime: &Runtime, future: F) -> Vec<Leaf>
where
    F: Future<Output: Send> + Send + 'static,
{
    let task = Builder::new().name("waits").on(runtime.handle()).spawn(future);
    idle(runtime);
    let leaves = recorded(named(&runtime.dump(), "waits")).waits_for.clone();
    drop(task);
    idle(runtime);
    leaves
}

#[test]
fn without_inspection_a_dump_names_tasks_and_states() {
    with_runtime(1, |runtime| {
        let waiting = Builder::new().name("audit").on(runtime.handle()).spawn(pending::<()>());
        idle(runtime);
        let dump = runtime.dump();
        let task = named(&dump, "audit");
        assert_eq!((task.id, task.state, task.spawned_at.file()), (waiting.id(), TaskState::Idle, file!()));
        assert!(task.recorded.is_none());
        let text = dump.to_string();
        assert!(
            text.starts_with(&format!("1 task\ntask {} `audit` idle; spawned at ", waiting.id())),
            "{text}"
        );
    });
}

#[test]
fn a_task_is_shown_with_its_numbers_and_its_parent() {
    inspected(|runtime| {
        let parent = Builder::new().name("parent").on(runtime.handle()).spawn(async {
            let child = Builder::new().name("child").spawn(async {
                std::thread::sleep(Duration::from_millis(5));
                yield_now().await;
                pending::<()>().await;
            });
            spawn_background(pending::<()>());
            child.await
        });
        idle(runtime);
        std::thread::sleep(Duration::from_millis(5));
        let dump = runtime.dump();
        let (task, child) = (named(&dump, "parent"), named(&dump, "child"));
        assert_eq!(recorded(task).parent, None);
        assert_eq!(recorded(child).parent, Some(parent.id()));
        let Recorded { polls, busy, age, in_state, wake_ups, .. } = *recorded(child);
        assert_eq!((polls, wake_ups), (2, 0));
        let five = Duration::from_millis(5);
        assert!(busy >= five && in_state >= five && age >= busy + in_state, "{child:?}");
        let background = dump.iter().find(|task| recorded(task).background).unwrap();
        assert_eq!(recorded(background).parent, Some(parent.id()));

        let text = dump.to_string();
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines[0] == "3 tasks" && lines[1].starts_with(&format!("task {} `parent` idle", task.id)),
            "{text}"
        );
        assert!(lines[2].starts_with("├─ task ") && lines[2].contains("`child` idle"), "{text}");
        assert!(lines[3].starts_with("└─ task ") && lines[3].contains("(background)"), "{text}");
    });
}

#[test]
fn the_children_of_a_group_stand_together() {
    inspected(|runtime| {
        runtime
            .spawn(async {
                let group = TaskGroup::<()>::new();
                spawn(pending::<()>()).detach();
                group.spawn(async {
                    spawn(pending::<()>()).detach();
                    pending().await
                });
                group.spawn(pending());
                let _ = group.join().await;
            })
            .detach();
        idle(runtime);
        let dump = runtime.dump();
        let grouped: Vec<_> = dump.iter().filter(|task| recorded(task).group.is_some()).collect();
        assert_eq!(grouped.len(), 2, "a child's child is no child of the group: {dump}");
        assert_eq!(recorded(grouped[0]).group, recorded(grouped[1]).group);
        let text = dump.to_string();
        let shapes: Vec<_> = text.lines().map(|line| line.split("task ").next().unwrap()).collect();
        assert_eq!(shapes[0], "5 tasks");
        assert_eq!(shapes[1..], ["", "├─ ", "└─ group of 2", "   ├─ ", "   │  └─ ", "   └─ "], "{text}");
        assert!(text.contains("waits for a task of a group"), "{text}");
    });
}

#[test]
fn our_leaves_say_what_they_wait_for() {
    inspected(|runtime| {
        let until = |leaf: &Leaf| match leaf {
            Leaf::Sleep { until } => until.saturating_duration_since(std::time::Instant::now()),
            other => panic!("{other}"),
        };
        let hour = Duration::from_secs(3_600);
        let leaves = waits_for(runtime, sleep(hour));
        assert!(leaves.len() == 1 && until(&leaves[0]) > hour / 2 && until(&leaves[0]) <= hour, "{leaves:?}");

        let leaves = waits_for(runtime, async {
            let child = spawn(pending::<()>());
            let _ = wait_for(child, Duration::from_secs(3_600)).await;
        });
        let [Leaf::Join { task: Some(_), blocking: false, spawned_at }, Leaf::Sleep { .. }] = leaves[..]
        else {
            panic!("{leaves:?}")
        };
        assert_eq!(spawned_at.file(), file!());

        assert_eq!(waits_for(runtime, async { CancelToken::new().cancelled().await }), [Leaf::Cancellation]);
        let group = async { TaskGroup::<()>::new().tap(|group| drop(group.spawn(pending()))).join().await };
        assert_eq!(waits_for(runtime, group), [Leaf::Group]);
        assert_eq!(waits_for(runtime, pending::<()>()), [], "a leaf of another crate");
        let many = async {
            let sleeps = (0..5).map(|_| Box::pin(sleep(Duration::from_secs(60))));
            futures::future::select_all(sleeps).await;
        };
        assert_eq!(waits_for(runtime, many).len(), 3, "of many leaves, the first");
    });
}

trait Tap: Sized {
    fn tap(self, f: impl FnOnce(&Self)) -> Self {
        f(&self);
        self
    }
}

impl<T> Tap for T {}

#[test]
fn channels_say_that_they_are_empty_or_full() {
    inspected(|runtime| {
        let empty = async {
            let (_sender, receiver) = heirloom::context::channel::bounded::<u8>(1);
            let _ = receiver.recv().await;
        };
        assert_eq!(waits_for(runtime, empty), [Leaf::Receive]);
        let full = async {
            let (sender, _receiver) = heirloom::context::channel::bounded::<u8>(1);
            sender.send(1).await.unwrap();
            let _ = sender.send(2).await;
        };
        assert_eq!(waits_for(runtime, full), [Leaf::Send]);
    });
}

#[test]
fn a_blocking_closure_is_a_task_that_runs() {
    inspected(|runtime| {
        let (go, held) = mpsc::channel::<()>();
        let started = Gate::new();
        let closure = {
            let started = started.clone();
            move || {
                started.open();
                let _ = held.recv();
            }
        };
        let waits =
            Builder::new().name("waits").on(runtime.handle()).spawn(async { spawn_blocking(closure).await });
        started.wait();
        let dump = loop {
            let dump = runtime.dump();
            if named(&dump, "waits").state == TaskState::Idle {
                break dump;
            }
        };
        let leaves = &recorded(named(&dump, "waits")).waits_for;
        assert!(matches!(leaves[..], [Leaf::Join { blocking: true, .. }]), "{dump}");
        let closure = dump.iter().find(|task| recorded(task).blocking).unwrap();
        assert_eq!((closure.state, recorded(closure).polls), (TaskState::Running, 1));
        assert!(dump.to_string().contains("blocking closure "), "{dump}");
        drop(go);
        runtime.block_on(waits).unwrap().unwrap();
    });
}

#[cfg(not(miri))]
#[test]
fn sockets_say_their_address_and_direction() {
    use futures::AsyncReadExt as _;
    use heirloom::net::{TcpListener, TcpStream, UdpSocket};

    inspected(|runtime| {
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let reads = async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.read_exact(&mut [0]).await.unwrap();
        };
        let read =
            Leaf::Socket { operation: SocketOperation::Read, kind: SocketKind::Tcp, address: Some(address) };
        assert_eq!(read.to_string(), format!("read on tcp {address}"));
        let task = Builder::new().name("reads").on(runtime.handle()).spawn(reads);
        while recorded(named(&runtime.dump(), "reads")).waits_for != [read] {
            std::thread::yield_now();
        }
        drop(task);

        // The connection above is in the queue.
        let accepts = async move {
            drop(listener.accept().await.unwrap());
            let _ = listener.accept().await;
        };
        let leaves = waits_for(runtime, accepts);
        assert_eq!(leaves[0].to_string(), format!("accept on tcp {address}"));
        let leaves = waits_for(runtime, async {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let _ = socket.recv_from(&mut [0]).await;
        });
        assert!(leaves[0].to_string().starts_with("read on udp 127.0.0.1:"), "{leaves:?}");
    });
}

#[test]
fn the_context_is_that_at_the_leaf() {
    inspected(|runtime| {
        let parent = Context::empty().with_var(&TENANT, "acme").with_var(&OPAQUE, "hidden");
        let spawn_named = |name: &'static str, future: futures::future::BoxFuture<'static, ()>| {
            Builder::new().name(name).context(parent.clone()).on(runtime.handle()).spawn(future)
        };
        let tasks = [
            spawn_named("inherits", Box::pin(sleep(PATIENCE_PLUS))),
            spawn_named(
                "sets",
                Box::pin(async {
                    REQUEST.set(1);
                    sleep(PATIENCE_PLUS).await;
                }),
            ),
            spawn_named(
                "inside",
                Box::pin(async {
                    let context = Context::current().with_var(&REQUEST, 2);
                    sleep(PATIENCE_PLUS).in_context(context).await;
                }),
            ),
            spawn_named(
                "isolated",
                Box::pin(
                    async {
                        REQUEST.set(3);
                        sleep(PATIENCE_PLUS).await;
                    }
                    .isolated(),
                ),
            ),
            spawn_named(
                "foreign",
                Box::pin(async {
                    REQUEST.set(4);
                    pending::<()>().await;
                }),
            ),
            spawn_named("broken", {
                Box::pin(async {
                    BROKEN.set(Broken);
                    sleep(PATIENCE_PLUS).await;
                })
            }),
        ];
        idle(runtime);
        let dump = runtime.dump();
        let of = |name| {
            let mut words = context(named(&dump, name));
            words.sort();
            words
        };
        assert_eq!(of("inherits"), ["OPAQUE", "TENANT=\"acme\""]);
        assert_eq!(of("sets"), ["OPAQUE", "REQUEST=1", "TENANT=\"acme\""]);
        assert_eq!(of("inside"), ["OPAQUE", "REQUEST=2", "TENANT=\"acme\""]);
        assert_eq!(of("isolated"), ["OPAQUE", "REQUEST=3", "TENANT=\"acme\""]);
        assert_eq!(of("foreign"), ["OPAQUE", "REQUEST=4", "TENANT=\"acme\""]);
        assert_eq!(of("broken"), ["BROKEN=(its text panics)", "OPAQUE", "TENANT=\"acme\""]);
        drop(tasks);
    });
}

const PATIENCE_PLUS: Duration = Duration::from_secs(3_600);

#[test]
fn a_secret_is_in_no_output() {
    inspected(|runtime| {
        let task = runtime.spawn(async {
            TOKEN.set("xyzzy-token");
            PASSWORD.set("xyzzy-password");
            OPAQUE.set("xyzzy-opaque");
            REQUEST.set(7);
            sleep(PATIENCE_PLUS).await;
        });
        idle(runtime);
        let dump = runtime.dump();
        let outputs = [
            dump.to_string(),
            dump[0].to_string(),
            dump.json().to_string(),
            format!("{dump:?}"),
            format!("{dump:#?}"),
            format!("{:?}", runtime.stats()),
            runtime.stats().prometheus().to_string(),
        ];
        for output in &outputs {
            assert!(!output.contains("xyzzy"), "{output}");
        }
        for output in &outputs[..5] {
            assert!(
                output.contains("[secret]") && output.contains("PASSWORD") && output.contains("REQUEST"),
                "{output}"
            );
        }
        drop(task);
    });
}

/// A report of a panic that no joiner sees lists the context, too.
#[test]
fn a_secret_is_in_no_report_of_a_panic() {
    match in_child("dump::a_secret_is_in_no_report_of_a_panic", false) {
        Child::Here => {
            inspected(|runtime| {
                let fails = async {
                    TOKEN.set("xyzzy-token");
                    REQUEST.set(7);
                    yield_now().await;
                    panic!("wanted");
                };
                runtime.spawn(fails).detach();
                idle(runtime);
            });
            say_as_child();
        }
        Child::Ended(output) => {
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(stderr.contains("REQUEST = 7") && stderr.contains("TOKEN = [secret]"), "{stderr}");
            assert!(!stderr.contains("xyzzy"), "{stderr}");
        }
    }
}

#[test]
fn json_has_what_the_tree_has() {
    inspected(|runtime| {
        let task = Builder::new().name("a \"name\"\n").on(runtime.handle()).spawn(async {
            TENANT.set("acme\\");
            sleep(PATIENCE_PLUS).await;
        });
        idle(runtime);
        let json = runtime.dump().json().to_string();
        let part = format!(r#"{{"tasks":[{{"id":{},"name":"a \"name\"\n","spawned_at":"tests"#, task.id());
        assert!(json.starts_with(&part), "{json}");
        assert!(json.contains(r#""state":"idle","blocking":false,"background":false,"age_ns":"#), "{json}");
        assert!(
            json.contains(r#""polls":1,"wake_ups":0,"wakers":1,"leaves":1,"waits_for":["sleep until "#),
            "{json}"
        );
        let context = r#""context":[{"name":"TENANT","text":"\"acme\\\\\""}]}]}"#;
        assert!(json.ends_with(context), "{json}");
        drop(task);
    });
}

/// Inspection keeps a copy of a task's context, and must not keep values after the task.
#[test]
fn values_of_a_context_go_with_the_task() {
    inspected(|runtime| {
        let ledger = Ledger::new();
        let variable = Arc::new(ContextVar::new("COUNTED"));
        for round in 0..scaled(50) as u64 {
            let (counted, variable) = (Arc::new(ledger.counted(round)), Arc::clone(&variable));
            let task = runtime.spawn(async move {
                variable.set(counted);
                yield_now().await;
                variable.unset();
                yield_now().await;
                yield_now().await;
            });
            let id = task.abort_handle();
            runtime.block_on(task).unwrap();
            assert_eq!(ledger.alive(), 0, "in round {round}");
            drop(id);
        }
    });
}

/// Dumps while tasks come, wait, change their contexts and go: each dumped task is whole.
#[test]
fn dumps_of_a_busy_runtime_are_whole() {
    watchdog(PATIENCE, || {
        let runtime = Runtime::builder().workers(2).inspect(true).build().unwrap();
        let ledger = Ledger::new();
        let done = Gate::new();
        let dumper = {
            let (handle, done) = (runtime.handle().clone(), done.clone());
            std::thread::spawn(move || {
                let mut seen = 0;
                while !done.is_open() {
                    for task in &handle.dump() {
                        let Recorded { waits_for, context, .. } = recorded(task);
                        assert!(waits_for.iter().all(|leaf| matches!(leaf, Leaf::Turn | Leaf::Sleep { .. })));
                        let numbers: Vec<_> = context.iter().filter(|it| it.name == "REQUEST").collect();
                        assert!(numbers.len() <= 1);
                        seen += 1;
                    }
                }
                seen
            })
        };
        let tasks: Vec<_> = (0..scaled(2_000) as u64)
            .map(|number| {
                let counted = ledger.counted(number);
                runtime.spawn(async move {
                    for step in 0..5 {
                        REQUEST.set(10 * number + step);
                        if step % 2 == 0 { yield_now().await } else { sleep(Duration::from_micros(10)).await }
                    }
                    drop(counted);
                })
            })
            .collect();
        for task in tasks {
            runtime.block_on(task).unwrap();
        }
        done.open();
        assert!(dumper.join().unwrap() > 0 || cfg!(miri));
        assert_eq!(ledger.alive(), 0);
    });
}

#[cfg(all(unix, not(miri)))]
#[test]
fn a_signal_has_the_runtime_write_a_dump_though_its_workers_are_blocked() {
    use rustix::process::{Signal, getpid, kill_process};

    match in_child("dump::a_signal_has_the_runtime_write_a_dump_though_its_workers_are_blocked", false) {
        Child::Here => {
            watchdog(PATIENCE, || {
                let runtime = Runtime::builder().workers(1).inspect(true).dump_on_usr1(true).build().unwrap();
                let waits = Builder::new().name("waits").on(runtime.handle()).spawn(sleep(PATIENCE_PLUS));
                idle(&runtime);
                let (go, held) = mpsc::channel::<()>();
                let begun = Gate::new();
                let opens = begun.clone();
                let blocks = Builder::new().name("blocks").on(runtime.handle()).spawn(async move {
                    opens.open();
                    let _ = held.recv();
                });
                begun.wait();
                kill_process(getpid(), Signal::USR1).unwrap();
                std::thread::sleep(Duration::from_millis(500));
                drop(go);
                runtime.block_on(blocks).unwrap();
                drop(waits);
            });
            say_as_child();
        }
        Child::Ended(output) => {
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(stderr.contains("heirloom: dump of 2 tasks\n"), "{stderr}");
            assert!(
                stderr.contains("`waits` idle for ") && stderr.contains("waits for sleep until "),
                "{stderr}"
            );
            assert!(stderr.contains("`blocks` running for "), "{stderr}");
        }
    }
}
