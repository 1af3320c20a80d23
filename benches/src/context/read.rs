//! Rows about reading: bound, unset, through layers, with more variables, after a switch.

use std::cell::RefCell;
use std::hint::black_box;
use std::sync::Arc;

use heirloom_context::{Context, ContextVar, raw};
use opentelemetry::Context as Otel;

use super::subjects::{self, Imbl, Payload, in_layers, keys, missing_keys, ordered};
use super::typed::{self, TASK_LOCAL_KEYS, TASK_LOCALS, TYPES, Typed as _, Visit, in_scopes, sweep};
use super::{ARC, IMBL, OTEL, OURS, OURS_TYPED, RPDS, STD, TOKIO, variables};
use crate::harness::{Case, Contender, Row, cycle, repeat};

/// `get` of a number: `Option<u64>`, cloned.
pub const GET: &str = "heirloom get";
/// A variable that is not bound in the current context, but is in another one.
pub const UNSET: &str = "heirloom unset";
/// The same, one function per variable.
pub const UNSET_TYPED: &str = "heirloom unset, typed";

/// The rows about reading.
pub fn rows() -> Vec<Row> {
    let per_size = |sizes: &[usize], build: fn(usize) -> Vec<Contender>| {
        sizes.iter().map(|&n| Case::new(variables(n), move || build(n))).collect()
    };
    vec![
        Row {
            name: "noise",
            question: "how quiet is the machine? One thing against itself",
            cases: vec![Case::new("Arc clone+drop", || vec![arc(), arc_named("the same again")])],
        },
        Row {
            name: "read",
            question: "one read of a bound number (`with`); the maps are bare locals, ours is the thread's context",
            cases: per_size(&[1, 8, 32, 100, 1000, 10_000], read),
        },
        Row {
            name: "read-typed",
            question: "the same against peers keyed by type, a function per variable",
            cases: per_size(&[1, 2, 4, 8, 32, 100], read_typed),
        },
        Row {
            name: "read-bound",
            question: "the same variable read again and again (`get`), while n are bound; the peers' ways beside it",
            cases: per_size(&[1, 8, 32], read_bound),
        },
        Row {
            name: "read-unset",
            question: "a variable that is bound elsewhere, not here; the hit is beside it",
            cases: per_size(&[1, 8, 32, 100, 1000, 10_000], read_unset),
        },
        Row {
            name: "read-growth",
            question: "a read among n variables over one among 1 (ours), and imbl's growth beside it",
            cases: per_size(&[8, 32, 100, 1000, 10_000], read_growth),
        },
        Row {
            name: "read-layers",
            question: "a variable bound outside, read through nested isolated layers that bind others",
            cases: per_size(&[1, 8, 32, 100, 1000], read_layers),
        },
        Row {
            name: "switch",
            question: "swap a task's context in, read one variable, swap it out; two tasks in turn",
            cases: per_size(&[1, 8, 32, 100, 1000], switch),
        },
    ]
}

/// One reference count, up and down, without contention: the yardstick for what should cost less.
pub fn arc() -> Contender {
    arc_named(ARC)
}

fn arc_named(name: &str) -> Contender {
    let arc = Arc::new(1u64);
    Contender::new(name, move |ops| repeat(ops, || arc.clone()))
}

/// Reads each of `vars`, in order, inside `context` and `layers` layers.
fn reader(name: &str, context: Context, vars: Vec<&'static ContextVar<u64>>, layers: usize) -> Contender {
    Contender::new(name, move |ops| {
        context.run(|| {
            let mut sample = None;
            in_layers(layers, &mut || {
                sample = Some(cycle(&vars, ops, |var, _| var.with(|value| value.copied())));
            });
            sample.expect("the innermost layer runs its body")
        })
    })
}

fn hit(name: &str, n: usize, layers: usize) -> Contender {
    reader(name, subjects::context::<u64>(n), ordered(&u64::pool().bound(n)), layers)
}

fn unset(name: &str, n: usize, layers: usize) -> Contender {
    reader(name, subjects::context::<u64>(n), ordered(&u64::pool().unset(n)), layers)
}

fn imbl_reader(name: &str, n: usize, keys: Vec<u64>) -> Contender {
    let map = subjects::imbl::<u64>(n);
    Contender::new(name, move |ops| cycle(&keys, ops, |key, _| map.get(&key).map(|value| **value)))
}

fn rpds_reader(n: usize, keys: Vec<u64>) -> Contender {
    let map = subjects::rpds::<u64>(n);
    Contender::new(RPDS, move |ops| cycle(&keys, ops, |key, _| map.get(&key).map(|value| **value)))
}

fn std_reader(n: usize, keys: Vec<u64>) -> Contender {
    let map = subjects::std_map::<u64>(n);
    Contender::new(STD, move |ops| cycle(&keys, ops, |key, _| map.get(&key).map(|value| **value)))
}

fn read(n: usize) -> Vec<Contender> {
    let (context, vars) = (subjects::context::<u64>(n), ordered(&u64::pool().bound(n)));
    let get = Contender::new(GET, move |ops| context.run(|| cycle(&vars, ops, |var, _| var.get())));
    vec![
        hit(OURS, n, 0),
        get,
        imbl_reader(IMBL, n, keys(n)),
        rpds_reader(n, keys(n)),
        std_reader(n, keys(n)),
        arc(),
    ]
}

struct Get;

impl Visit for Get {
    fn visit<const N: usize>(&mut self) {
        black_box(typed::get::<u64, N>());
    }
}

struct OtelGet;

impl Visit for OtelGet {
    fn visit<const N: usize>(&mut self) {
        black_box(typed::otel_get::<u64, N>());
    }
}

struct TaskLocalGet;

impl Visit for TaskLocalGet {
    fn visit<const N: usize>(&mut self) {
        black_box(typed::task_local_get::<N>());
    }
}

fn read_typed(n: usize) -> Vec<Contender> {
    let ours = |name: &str, context: Context| {
        Contender::new(name, move |ops| context.run(|| sweep(n, ops, &mut Get)))
    };
    let otel = |name: &str, context: Otel| {
        Contender::new(name, move |ops| {
            let _attached = context.clone().attach();
            sweep(n, ops, &mut OtelGet)
        })
    };
    let mut contenders = vec![ours(OURS_TYPED, typed::context::<u64>(n)), otel(OTEL, typed::otel::<u64>(n))];
    if 2 * n <= TYPES {
        contenders.push(ours(UNSET_TYPED, typed::context_without::<u64>(n)));
        contenders.push(otel("opentelemetry unset", typed::otel_without::<u64>(n)));
    }
    if n <= TASK_LOCALS {
        contenders.push(Contender::new(TOKIO, move |ops| {
            let mut sample = None;
            in_scopes(&TASK_LOCAL_KEYS[..n], &mut || sample = Some(sweep(n, ops, &mut TaskLocalGet)));
            sample.expect("the innermost scope runs its body")
        }));
    }
    contenders
}

fn read_bound(n: usize) -> Vec<Contender> {
    let context = typed::context::<u64>(n);
    let ours = Contender::new(OURS, move |ops| {
        let var = black_box(&u64::statics()[0]);
        context.run(|| repeat(ops, || var.get()))
    });
    let otel = typed::otel::<u64>(n);
    let otel = Contender::new(OTEL, move |ops| {
        let _attached = otel.clone().attach();
        repeat(ops, typed::otel_get::<u64, 0>)
    });
    let tokio = Contender::new(TOKIO, move |ops| {
        let key = black_box(TASK_LOCAL_KEYS[0]);
        let mut sample = None;
        in_scopes(&TASK_LOCAL_KEYS[..n], &mut || sample = Some(repeat(ops, || key.with(|value| *value))));
        sample.expect("the innermost scope runs its body")
    });
    vec![ours, otel, tokio]
}

fn read_unset(n: usize) -> Vec<Contender> {
    vec![
        unset(UNSET, n, 0),
        hit(OURS, n, 0),
        imbl_reader(IMBL, n, missing_keys(n)),
        rpds_reader(n, missing_keys(n)),
        std_reader(n, missing_keys(n)),
    ]
}

fn read_growth(n: usize) -> Vec<Contender> {
    vec![
        hit("heirloom at n", n, 0),
        hit("heirloom at 1", 1, 0),
        imbl_reader("imbl at n", n, keys(n)),
        imbl_reader("imbl at 1", 1, keys(1)),
    ]
}

fn read_layers(n: usize) -> Vec<Contender> {
    vec![
        hit("no layer", n, 0),
        hit("1 layer", n, 1),
        hit("4 layers", n, 4),
        unset("unset, no layer", n, 0),
        unset("unset, 1 layer", n, 1),
        unset("unset, 4 layers", n, 4),
    ]
}

thread_local! {
    static MAP: RefCell<Imbl<u64>> = RefCell::new(subjects::imbl(0));
}

/// Swaps the thread's map with `map`, as an executor would that carries an imbl map per task.
#[inline(always)]
fn swap_map(map: &mut Imbl<u64>) {
    MAP.with(|current| std::mem::swap(&mut *current.borrow_mut(), map));
}

/// Two tasks of ours, in turn.
struct Tasks {
    tasks: [raw::Live; 2],
    turn: usize,
}

impl Tasks {
    fn new(context: &Context) -> Self {
        Tasks { tasks: [(); 2].map(|()| raw::Live::new(context.clone())), turn: 0 }
    }

    #[inline(always)]
    fn poll<R>(&mut self, read: impl FnOnce() -> R) -> R {
        self.turn ^= 1;
        let task = &mut self.tasks[self.turn];
        raw::swap(task);
        let seen = black_box(read());
        raw::swap(task);
        seen
    }
}

impl Visit for Tasks {
    fn visit<const N: usize>(&mut self) {
        black_box(self.poll(typed::get::<u64, N>));
    }
}

/// Two tasks of opentelemetry's, in turn.
struct OtelTasks {
    tasks: [Otel; 2],
    turn: usize,
}

impl Visit for OtelTasks {
    fn visit<const N: usize>(&mut self) {
        self.turn ^= 1;
        let _attached = self.tasks[self.turn].clone().attach();
        black_box(typed::otel_get::<u64, N>());
    }
}

fn switch(n: usize) -> Vec<Contender> {
    let vars = ordered(&u64::pool().bound(n));
    let mut tasks = Tasks::new(&subjects::context::<u64>(n));
    let ours = Contender::new(OURS, move |ops| {
        cycle(&vars, ops, |var, _| tasks.poll(|| var.with(|value| value.copied())))
    });
    let map = subjects::imbl::<u64>(n);
    let mut tasks = [map.clone(), map];
    let keys = keys(n);
    let imbl = Contender::new("imbl in a RefCell", move |ops| {
        let mut turn = 0;
        cycle(&keys, ops, |key, _| {
            turn ^= 1;
            let task = &mut tasks[turn];
            swap_map(task);
            let seen = black_box(MAP.with(|map| map.borrow().get(&key).map(|value| **value)));
            swap_map(task);
            seen
        })
    });
    let mut contenders = vec![ours, imbl];
    if n <= TYPES {
        let mut tasks = Tasks::new(&typed::context::<u64>(n));
        contenders.push(Contender::new(OURS_TYPED, move |ops| sweep(n, ops, &mut tasks)));
        let mut tasks = OtelTasks { tasks: [(); 2].map(|()| typed::otel::<u64>(n)), turn: 0 };
        contenders.push(Contender::new(OTEL, move |ops| sweep(n, ops, &mut tasks)));
    }
    contenders
}
