//! Rows about setting: into a snapshot that others hold, into a context without other holders, for
//! a scope, around a future, eight in a request.
//!
//! Every contender boxes the value within the timed region, since a context must: `Arc::new` for
//! the maps, and what opentelemetry and ours do inside.

use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as Polling, Poll, Waker};

use heirloom_context::{Context, ContextFutureExt as _, ContextVar};
use opentelemetry::Context as Otel;
use opentelemetry::context::FutureExt as _;

use super::subjects::{self, Payload, keys, ordered};
use super::typed::{self, TASK_LOCAL_KEYS, TASK_LOCALS, TYPES, Typed, Visit, in_scopes, pass, sweep};
use super::{IMBL, OTEL, OURS, OURS_TYPED, RPDS, STD, TOKIO, variables};
use crate::harness::{Case, Contender, Row, Sample, cycle, repeat};

/// The sizes at which setting is held against its goals.
pub const SIZES: [usize; 8] = [1, 2, 4, 8, 16, 32, 64, 100];
/// Ours, into a context that came about by one `Context::with_var` per variable, not by `set` in a
/// context of its own: how a context came about must not show in what it costs.
pub const OURS_DERIVED: &str = "heirloom, built by `with`";
/// Beyond this a whole copy per set would only stretch the run.
const MOST_COPIED: usize = 1000;

/// The rows about setting.
pub fn rows() -> Vec<Row> {
    let row = |name, question, sizes: &[usize], build: fn(usize) -> Vec<Contender>| {
        let cases = sizes.iter().map(|&n| Case::new(variables(n), move || build(n))).collect();
        Row { name, question, cases }
    };
    let few = [1, 8, 32, 100, 1000];
    let growth = [1000, 10_000].map(|n| Case::new(format!("{n} over 100"), move || set_growth(n)));
    vec![
        row(
            "set",
            "a new context with one number replaced, the old one kept (`Context::with_var`)",
            &[&SIZES[..], &[1000, 10_000]].concat(),
            set::<u64>,
        ),
        row("set-typed", "the same against opentelemetry, a function per variable", &SIZES, set_typed::<u64>),
        row("set-text", "the same as `set` with an `Arc<str>`", &few, set::<Arc<str>>),
        row("set-text-typed", "the same as `set-typed` with an `Arc<str>`", &few[..4], set_typed::<Arc<str>>),
        row("set-add", "a new context with one variable more, the old one kept", &few, set_add),
        Row {
            name: "set-growth",
            question: "a set among n variables over one among 100, and imbl's growth beside it",
            cases: growth.into(),
        },
        row("set-held", "take a snapshot, set in the current context, drop the snapshot", &few, set_held),
        row(
            "set-unique",
            "set in the current context, which has no other holder; the maps insert in place",
            &[&few[..], &[10_000]].concat(),
            set_unique::<u64>,
        ),
        row("set-unique-text", "the same with an `Arc<str>`", &few, set_unique::<Arc<str>>),
        row("scope", "bind one variable while a closure reads it, over n bound ones", &few, scope),
        row(
            "with-var-ready",
            "`with_var` around a future that is ready at once, made, polled and dropped; n variables are bound",
            &few[..3],
            with_var_ready,
        ),
        row(
            "with-var-first",
            "the same where it is the first write in its context, whose bindings others share, as in a new task",
            &few[..3],
            with_var_first,
        ),
        row(
            "set-eight",
            "a request sets 8 variables of its own in a new context that has inherited n; per request",
            &[0, 8, 32],
            set_eight,
        ),
    ]
}

/// Sets each of `vars` in `context`, in order, each time into a new context.
pub fn setter<T: Payload>(name: &str, context: Context, vars: Vec<&'static ContextVar<T>>) -> Contender {
    let value = T::sample();
    Contender::new(name, move |ops| cycle(&vars, ops, |var, pass| context.with_var(var, value.fresh(pass))))
}

/// The same with an imbl map.
pub fn imbl_setter<T: Payload>(name: &str, n: usize) -> Contender {
    let (map, keys, value) = (subjects::imbl::<T>(n), keys(n), T::sample());
    Contender::new(name, move |ops| {
        cycle(&keys, ops, |key, pass| map.update(key, Arc::new(value.fresh(pass))))
    })
}

/// Ours, at `n` variables made at run time.
pub fn ours<T: Payload>(name: &str, n: usize) -> Contender {
    setter(name, subjects::context::<T>(n), ordered(&T::pool().bound(n)))
}

fn set<T: Payload>(n: usize) -> Vec<Contender> {
    let mut contenders = vec![ours::<T>(OURS, n), imbl_setter::<T>(IMBL, n)];
    if n <= TYPES {
        let vars = T::pool().bound(n);
        let built = vars.iter().fold(Context::empty(), |context, var| context.with_var(var, T::sample()));
        contenders.push(setter(OURS_DERIVED, built, ordered(&vars)));
    }
    let (map, order, value) = (subjects::rpds::<T>(n), keys(n), T::sample());
    contenders.push(Contender::new(RPDS, move |ops| {
        cycle(&order, ops, |key, pass| map.insert(key, Arc::new(value.fresh(pass))))
    }));
    if n <= MOST_COPIED {
        contenders.push(std_setter::<T>(n, keys(n)));
    }
    contenders
}

/// The same with a whole copy of a standard map.
pub fn std_setter<T: Payload>(n: usize, keys: Vec<u64>) -> Contender {
    let (map, value) = (subjects::std_map::<T>(n), T::sample());
    Contender::new(STD, move |ops| {
        cycle(&keys, ops, |key, pass| {
            let mut copy = map.clone();
            copy.insert(key, Arc::new(value.fresh(pass)));
            copy
        })
    })
}

struct With<T> {
    context: Context,
    value: T,
}

impl<T: Typed> Visit for With<T> {
    fn visit<const N: usize>(&mut self) {
        black_box(typed::with::<T, N>(&self.context, self.value.clone()));
    }
}

struct OtelWith<T> {
    context: Otel,
    value: T,
}

impl<T: Typed> Visit for OtelWith<T> {
    fn visit<const N: usize>(&mut self) {
        black_box(typed::otel_with::<T, N>(&self.context, self.value.clone()));
    }
}

fn set_typed<T: Typed>(n: usize) -> Vec<Contender> {
    let mut ours = With { context: typed::context::<T>(n), value: T::sample() };
    let mut otel = OtelWith { context: typed::otel::<T>(n), value: T::sample() };
    vec![
        Contender::new(OURS_TYPED, move |ops| sweep(n, ops, &mut ours)),
        Contender::new(OTEL, move |ops| sweep(n, ops, &mut otel)),
    ]
}

fn set_add(n: usize) -> Vec<Contender> {
    // Keys and variables beyond the first n, a few of them, so that the place of the new one
    // differs.
    let vars = ordered(&u64::pool().unset(n.min(64)));
    let new_keys: Vec<u64> = keys(n.min(64)).iter().map(|key| n as u64 + key).collect();
    let (imbl, imbl_keys) = (subjects::imbl::<u64>(n), new_keys.clone());
    vec![
        setter(OURS, subjects::context::<u64>(n), vars),
        Contender::new(IMBL, move |ops| cycle(&imbl_keys, ops, |key, pass| imbl.update(key, Arc::new(pass)))),
        std_setter::<u64>(n, new_keys),
    ]
}

fn set_growth(n: usize) -> Vec<Contender> {
    vec![
        ours::<u64>("heirloom at n", n),
        ours::<u64>("heirloom at 100", 100),
        imbl_setter::<u64>("imbl at n", n),
        imbl_setter::<u64>("imbl at 100", 100),
    ]
}

/// Runs `body` inside a context of which no part is shared: it binds `vars` itself.
fn in_own_context<T: Payload>(vars: &[&'static ContextVar<T>], body: impl FnOnce() -> Sample) -> Sample {
    Context::empty().run(|| {
        for var in vars {
            drop(var.set(T::sample()));
        }
        body()
    })
}

struct SetHeld;

impl Visit for SetHeld {
    fn visit<const N: usize>(&mut self) {
        let held = black_box(Context::current());
        black_box(typed::set::<u64, N>(black_box(7)));
        drop(held);
    }
}

/// Attached and detached each time: its contexts cannot be written in place, so every one counts as
/// held.
struct OtelSet;

impl Visit for OtelSet {
    fn visit<const N: usize>(&mut self) {
        black_box(typed::otel_set::<u64, N>(black_box(7)));
    }
}

fn set_held(n: usize) -> Vec<Contender> {
    let vars = u64::pool().bound(n);
    let order = ordered(&vars);
    let ours = Contender::new(OURS, move |ops| {
        in_own_context(&vars, || {
            cycle(&order, ops, |var, pass| {
                let held = black_box(Context::current());
                let token = var.set(pass);
                drop(held);
                token
            })
        })
    });
    let (mut imbl, imbl_keys) = (subjects::imbl::<u64>(n), keys(n));
    let imbl = Contender::new(IMBL, move |ops| {
        cycle(&imbl_keys, ops, |key, pass| {
            let held = black_box(imbl.clone());
            let before = imbl.insert(key, Arc::new(pass));
            drop(held);
            before
        })
    });
    let mut contenders = vec![ours, imbl];
    if n <= TYPES {
        let vars: Vec<_> = u64::statics()[..n].iter().collect();
        contenders.push(Contender::new(OURS_TYPED, move |ops| {
            in_own_context(&vars, || sweep(n, ops, &mut SetHeld))
        }));
        let otel = typed::otel::<u64>(n);
        contenders.push(Contender::new(OTEL, move |ops| {
            let _attached = otel.clone().attach();
            sweep(n, ops, &mut OtelSet)
        }));
    }
    contenders
}

fn set_unique<T: Payload>(n: usize) -> Vec<Contender> {
    let vars = T::pool().bound(n);
    let order = ordered(&vars);
    let value = T::sample();
    let ours = Contender::new(OURS, move |ops| {
        in_own_context(&vars, || cycle(&order, ops, |var, pass| var.set(value.fresh(pass))))
    });
    let (mut imbl, imbl_keys, value) = (subjects::imbl::<T>(n), keys(n), T::sample());
    let imbl = Contender::new(IMBL, move |ops| {
        cycle(&imbl_keys, ops, |key, pass| imbl.insert(key, Arc::new(value.fresh(pass))))
    });
    let (mut map, std_keys, value) = (subjects::std_map::<T>(n), keys(n), T::sample());
    let std = Contender::new(STD, move |ops| {
        cycle(&std_keys, ops, |key, pass| map.insert(key, Arc::new(value.fresh(pass))))
    });
    vec![ours, imbl, std]
}

struct OtelScope;

impl Visit for OtelScope {
    fn visit<const N: usize>(&mut self) {
        let _scope = typed::otel_set::<u64, N>(black_box(7));
        black_box(typed::otel_get::<u64, N>());
    }
}

fn scope(n: usize) -> Vec<Contender> {
    let vars = u64::pool().bound(n);
    let order = ordered(&vars);
    let ours = Contender::new(OURS, move |ops| {
        in_own_context(&vars, || {
            cycle(&order, ops, |var, pass| var.scope(pass, || var.with(|value| value.copied())))
        })
    });
    let key = TASK_LOCAL_KEYS[0];
    let tokio = Contender::new(TOKIO, move |ops| {
        cycle(&[key; 256], ops, |key, pass| {
            key.sync_scope(black_box(pass), || key.try_with(|value| *value).ok())
        })
    });
    let mut contenders = vec![ours, tokio];
    if n <= TYPES {
        let otel = typed::otel::<u64>(n);
        contenders.push(Contender::new(OTEL, move |ops| {
            let _attached = otel.clone().attach();
            sweep(n, ops, &mut OtelScope)
        }));
    }
    contenders
}

/// Polls a future that is ready.
#[inline(always)]
fn polled<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Polling::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("it is ready"),
    }
}

struct WithVar;

impl Visit for WithVar {
    fn visit<const N: usize>(&mut self) {
        let ready = async { black_box(1) };
        black_box(polled(ready.with_var(&u64::statics()[N], black_box(7))));
    }
}

struct OtelWithVar;

impl Visit for OtelWithVar {
    fn visit<const N: usize>(&mut self) {
        let context = Otel::map_current(|current| typed::otel_with::<u64, N>(current, black_box(7)));
        black_box(polled(async { black_box(1) }.with_context(context)));
    }
}

/// opentelemetry's and tokio's ways to bind a value around a future.
fn with_var_peers(n: usize) -> Vec<Contender> {
    let otel = typed::otel::<u64>(n);
    let otel = Contender::new(OTEL, move |ops| {
        let _attached = otel.clone().attach();
        sweep(n, ops, &mut OtelWithVar)
    });
    let key = TASK_LOCAL_KEYS[0];
    let tokio = Contender::new(TOKIO, move |ops| {
        let mut sample = None;
        in_scopes(&TASK_LOCAL_KEYS[..n.min(TASK_LOCALS)], &mut || {
            let scope =
                |key: typed::TaskLocal, pass| polled(key.scope(black_box(pass), async { black_box(1) }));
            sample = Some(cycle(&[key; 256], ops, scope));
        });
        sample.expect("the innermost scope runs its body")
    });
    vec![otel, tokio]
}

fn with_var_ready(n: usize) -> Vec<Contender> {
    let vars: Vec<_> = u64::statics()[..n].iter().collect();
    let ours = Contender::new(OURS_TYPED, move |ops| in_own_context(&vars, || sweep(n, ops, &mut WithVar)));
    std::iter::once(ours).chain(with_var_peers(n)).collect()
}

fn with_var_first(n: usize) -> Vec<Contender> {
    struct First(Context);

    impl Visit for First {
        fn visit<const N: usize>(&mut self) {
            self.0.run(|| WithVar.visit::<N>());
        }
    }

    let mut first = First(typed::context::<u64>(n));
    let ours = Contender::new(OURS_TYPED, move |ops| sweep(n, ops, &mut first));
    std::iter::once(ours).chain(with_var_peers(n)).collect()
}

/// Variables that a request sets.
const OF_A_REQUEST: usize = 8;

struct SetOne;

impl Visit for SetOne {
    fn visit<const N: usize>(&mut self) {
        black_box(typed::set::<u64, N>(black_box(7)));
    }
}

/// Attaches one context on top of the other, and detaches all at the end.
#[derive(Default)]
struct OtelSetAll(Vec<opentelemetry::ContextGuard>);

impl Visit for OtelSetAll {
    fn visit<const N: usize>(&mut self) {
        self.0.push(typed::otel_set::<u64, N>(black_box(7)));
    }
}

impl OtelSetAll {
    /// In the reverse order of their making.
    fn detach(&mut self) {
        while self.0.pop().is_some() {}
    }
}

fn set_eight(n: usize) -> Vec<Contender> {
    let context = typed::context::<u64>(n);
    let ours = Contender::new(OURS_TYPED, move |ops| {
        repeat(ops, || context.run(|| pass::<OF_A_REQUEST>(&mut SetOne)))
    });
    let otel = typed::otel::<u64>(n);
    let otel = Contender::new(OTEL, move |ops| {
        let _attached = otel.clone().attach();
        let mut all = OtelSetAll::default();
        repeat(ops, || {
            pass::<OF_A_REQUEST>(&mut all);
            all.detach();
        })
    });
    vec![ours, otel]
}
