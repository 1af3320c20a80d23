//! The sizes between which a flat context turns into a persistent map, asked through the public API
//! only.

use super::set;
use super::subjects::{self, Payload, keys, ordered};
use super::{IMBL, OURS, STD, variables};
use crate::harness::{Case, Contender, Row, cycle};

/// The sizes at which the change may be seen.
pub const SIZES: [usize; 8] = [16, 32, 64, 128, 256, 512, 1024, 2048];

/// The rows of the program `threshold`.
pub fn rows() -> Vec<Row> {
    let row = |name, question, build: fn(usize) -> Vec<Contender>| {
        let cases = SIZES.map(|n| Case::new(variables(n), move || build(n))).into();
        Row { name, question, cases }
    };
    vec![
        row(
            "set",
            "a new context with one number replaced, the old one kept (`Context::with_var`)",
            shared_set,
        ),
        row("set-text", "the same with an `Arc<str>`", |n| {
            vec![set::ours::<std::sync::Arc<str>>(OURS, n), set::imbl_setter::<std::sync::Arc<str>>(IMBL, n)]
        }),
        row("read", "one read of a bound number; imbl is a bare local", read),
    ]
}

fn shared_set(n: usize) -> Vec<Contender> {
    let mut contenders = vec![set::ours::<u64>(OURS, n), set::imbl_setter::<u64>(IMBL, n)];
    if n <= 512 {
        contenders.push(set::std_setter::<u64>(n, keys(n)));
    }
    contenders
}

fn read(n: usize) -> Vec<Contender> {
    let (context, vars) = (subjects::context::<u64>(n), ordered(&u64::pool().bound(n)));
    let (imbl, order) = (subjects::imbl::<u64>(n), keys(n));
    let (std, std_keys) = (subjects::std_map::<u64>(n), keys(n));
    vec![
        Contender::new(OURS, move |ops| {
            context.run(|| cycle(&vars, ops, |var, _| var.with(|value| value.copied())))
        }),
        Contender::new(IMBL, move |ops| cycle(&order, ops, |key, _| imbl.get(&key).map(|value| **value))),
        Contender::new(STD, move |ops| cycle(&std_keys, ops, |key, _| std.get(&key).map(|value| **value))),
    ]
}
