//! The same question to a peer keyed by type, and to ours.
//!
//! opentelemetry keys its values by their type, so a hundred variables are a hundred types: `V<_,
//! 0>` to `V<_, 99>`. No loop runs over types, and a table of function pointers would measure how
//! badly a processor guesses the next pointer. So there is one function per variable and operation,
//! never inlined, and [`sweep`] calls them one after the other in a fixed pseudo-random order. Ours
//! takes the same road here: a static per number.

use std::sync::Arc;
use std::time::Instant;

use heirloom_context::{Context, ContextVar, Token};
use opentelemetry::{Context as Otel, ContextGuard};

use super::subjects::Payload;
use crate::harness::Sample;

/// How many types there are.
pub const TYPES: usize = 100;

/// The value of type number `N`.
#[derive(Clone, Copy, Debug)]
pub struct V<T, const N: usize>(pub T);

/// An operation on the variable of any number.
pub trait Visit {
    /// Does it once.
    fn visit<const N: usize>(&mut self);
}

/// Times `visit` on the variables `0..count`, in a fixed pseudo-random order, until it was done at
/// least `ops` times.
///
/// # Panics
///
/// If `count` is none of 1, 2, 4, 8, 16, 32, 64 and 100: each is code of its own.
pub fn sweep(count: usize, ops: u64, visit: &mut impl Visit) -> Sample {
    match count {
        1 => sweep_of::<1>(ops, visit),
        2 => sweep_of::<2>(ops, visit),
        4 => sweep_of::<4>(ops, visit),
        8 => sweep_of::<8>(ops, visit),
        16 => sweep_of::<16>(ops, visit),
        32 => sweep_of::<32>(ops, visit),
        64 => sweep_of::<64>(ops, visit),
        100 => sweep_of::<100>(ops, visit),
        _ => panic!("there is no sweep over {count} variables"),
    }
}

macro_rules! in_order {
    ($visit:ident $count:ident: $($n:literal)*) => {
        $(if $n < $count {
            $visit.visit::<$n>();
        })*
    };
}

/// Visits the first `COUNT` numbers once each, in a fixed mixed order.
#[inline(always)]
pub fn pass<const COUNT: usize>(visit: &mut impl Visit) {
    in_order! { visit COUNT:
        16 9 18 20 52 11 30 15 32 1 95 94 41 3 51 42 84 76 60 75 92 97 69 72 37
        99 23 31 71 33 50 63 45 79 49 68 89 98 12 62 67 82 14 78 81 57 86 55 77 21
        96 7 44 19 39 73 40 35 46 90 80 0 22 25 10 36 17 47 48 5 58 34 38 85 13
        29 93 61 87 27 59 88 6 56 26 83 70 65 53 24 28 66 8 91 74 54 4 2 64 43
    }
}

fn sweep_of<const COUNT: usize>(ops: u64, visit: &mut impl Visit) -> Sample {
    let passes = ops.div_ceil(COUNT as u64).max(1);
    let start = Instant::now();
    for _ in 0..passes {
        pass::<COUNT>(visit);
    }
    Sample { elapsed: start.elapsed(), ops: passes * COUNT as u64 }
}

/// A type of value that has [`TYPES`] variables of static storage.
pub trait Typed: Payload {
    /// The static variables.
    fn statics() -> &'static [ContextVar<Self>; TYPES];
}

macro_rules! typed {
    ($($payload:ty),*) => {$(
        impl Typed for $payload {
            #[inline(always)]
            fn statics() -> &'static [ContextVar<Self>; TYPES] {
                static VARS: [ContextVar<$payload>; TYPES] = [const { ContextVar::new("typed") }; TYPES];
                &VARS
            }
        }
    )*};
}

typed!(u64, Arc<str>);

/// Reads our current context.
#[inline(never)]
pub fn get<T: Typed, const N: usize>() -> Option<T> {
    T::statics()[N].with(|value| value.cloned())
}

/// Reads opentelemetry's current context, without cloning it.
#[inline(never)]
pub fn otel_get<T: Typed, const N: usize>() -> Option<T> {
    Otel::map_current(|context| context.get::<V<T, N>>().map(|value| value.0.clone()))
}

/// A new context with the value.
#[inline(never)]
pub fn with<T: Typed, const N: usize>(context: &Context, value: T) -> Context {
    context.with_var(&T::statics()[N], value)
}

/// A new one of opentelemetry's contexts with the value.
#[inline(never)]
pub fn otel_with<T: Typed, const N: usize>(context: &Otel, value: T) -> Otel {
    context.with_value(V::<T, N>(value))
}

/// Sets in our current context.
#[inline(never)]
pub fn set<T: Typed, const N: usize>(value: T) -> Token<T> {
    T::statics()[N].set(value)
}

/// The nearest thing in opentelemetry: a new context made of the current one, attached.
#[inline(never)]
pub fn otel_set<T: Typed, const N: usize>(value: T) -> ContextGuard {
    Otel::current_with_value(V::<T, N>(value)).attach()
}

/// One of our contexts that binds the first `n` statics of type `T`.
pub fn context<T: Typed>(n: usize) -> Context {
    let bind = |context: Context, var| context.with_var(var, T::sample());
    T::statics()[..n].iter().fold(Context::empty(), bind)
}

/// One of our contexts that binds `n` others.
pub fn context_without<T: Typed>(n: usize) -> Context {
    let bind = |context: Context, var| context.with_var(var, T::sample());
    T::statics()[n..2 * n].iter().fold(Context::empty(), bind)
}

/// Builds one of opentelemetry's contexts.
struct OtelBuilder<T> {
    context: Otel,
    numbers: std::ops::Range<usize>,
    value: T,
}

impl<T: Typed> Visit for OtelBuilder<T> {
    fn visit<const N: usize>(&mut self) {
        if self.numbers.contains(&N) {
            self.context = otel_with::<T, N>(&self.context, self.value.clone());
        }
    }
}

fn build_otel<T: Typed>(numbers: std::ops::Range<usize>) -> Otel {
    let mut builder = OtelBuilder { context: Otel::new(), numbers, value: T::sample() };
    pass::<TYPES>(&mut builder);
    builder.context
}

/// One of opentelemetry's contexts that holds a value of each of the first `n` types.
pub fn otel<T: Typed>(n: usize) -> Otel {
    build_otel::<T>(0..n)
}

/// One of opentelemetry's contexts that holds values of `n` other types.
pub fn otel_without<T: Typed>(n: usize) -> Otel {
    build_otel::<T>(n..2 * n)
}

/// How many task locals there are.
pub const TASK_LOCALS: usize = 32;

/// A tokio task local of a number.
pub type TaskLocal = &'static tokio::task::LocalKey<u64>;

macro_rules! task_locals {
    ($($name:ident)*) => {
        tokio::task_local! { $(static $name: u64;)* }

        /// The task locals.
        pub static TASK_LOCAL_KEYS: [TaskLocal; TASK_LOCALS] = [$(&$name),*];
    };
}

task_locals! {
    T0 T1 T2 T3 T4 T5 T6 T7 T8 T9 T10 T11 T12 T13 T14 T15
    T16 T17 T18 T19 T20 T21 T22 T23 T24 T25 T26 T27 T28 T29 T30 T31
}

/// Reads a task local.
#[inline(never)]
pub fn task_local_get<const N: usize>() -> Option<u64> {
    TASK_LOCAL_KEYS.get(N)?.try_with(|value| *value).ok()
}

/// Runs `body` with a value in each of `keys`.
pub fn in_scopes(keys: &[TaskLocal], body: &mut dyn FnMut()) {
    match keys.split_first() {
        None => body(),
        Some((first, rest)) => first.sync_scope(1, || in_scopes(rest, body)),
    }
}
