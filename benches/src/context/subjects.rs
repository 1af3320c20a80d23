//! What is measured on: variables made at run time, the maps that stand for a hand-made context,
//! and the order of reading.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, OnceLock};

use heirloom_context::{Context, ContextVar};
use imbl::shared_ptr::DefaultSharedPtr;

use crate::stats::Random;

/// A hasher that hands a `u64` through: dense ids need no mixing, in the maps as in ours.
#[derive(Clone, Copy, Debug, Default)]
pub struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, &byte| (hash << 8) | u64::from(byte));
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

/// Builds [`Identity`].
pub type BuildIdentity = BuildHasherDefault<Identity>;
/// imbl's map, as a context made by hand would hold its values.
pub type Imbl<T> = imbl::GenericHashMap<u64, Arc<T>, BuildIdentity, DefaultSharedPtr>;
/// rpds' map, likewise.
pub type Rpds<T> = rpds::HashTrieMapSync<u64, Arc<T>, BuildIdentity>;
/// The map of the standard library, likewise.
pub type Std<T> = HashMap<u64, Arc<T>, BuildIdentity>;

/// A type of value that is set.
pub trait Payload: Clone + Send + Sync + 'static {
    /// Something to start from.
    fn sample() -> Self;
    /// A value to set: costs next to nothing for a number, a reference count for a text.
    fn fresh(&self, seed: u64) -> Self;
    /// All variables of this type.
    fn pool() -> &'static Pool<Self>;
}

impl Payload for u64 {
    fn sample() -> Self {
        7
    }

    #[inline(always)]
    fn fresh(&self, seed: u64) -> Self {
        *self ^ seed
    }

    fn pool() -> &'static Pool<Self> {
        static POOL: OnceLock<Pool<u64>> = OnceLock::new();
        POOL.get_or_init(Pool::new)
    }
}

impl Payload for Arc<str> {
    fn sample() -> Self {
        "a text that owns its memory".into()
    }

    #[inline(always)]
    fn fresh(&self, _seed: u64) -> Self {
        self.clone()
    }

    fn pool() -> &'static Pool<Self> {
        static POOL: OnceLock<Pool<Arc<str>>> = OnceLock::new();
        POOL.get_or_init(Pool::new)
    }
}

/// The most variables a case may bind.
pub const MOST: usize = 10_000;

/// Variables made at run time, for every case the same ones.
#[derive(Debug)]
pub struct Pool<T: Payload> {
    vars: Vec<&'static ContextVar<T>>,
    /// Binds every variable, so that those unset in a case are variables that are bound elsewhere.
    _elsewhere: Context,
}

impl<T: Payload> Pool<T> {
    fn new() -> Self {
        let made: Vec<ContextVar<T>> = (0..2 * MOST).map(|_| ContextVar::new("bench")).collect();
        let vars: Vec<_> = made.leak().iter().collect();
        let _elsewhere = bind_all(&vars);
        Pool { vars, _elsewhere }
    }

    /// The variables that a case of `n` binds: every other one.
    pub fn bound(&self, n: usize) -> Vec<&'static ContextVar<T>> {
        assert!(n <= MOST, "a case binds at most {MOST} variables");
        self.vars.iter().step_by(2).take(n).copied().collect()
    }

    /// As many that it does not bind, from in between.
    pub fn unset(&self, n: usize) -> Vec<&'static ContextVar<T>> {
        self.vars.iter().skip(1).step_by(2).take(n).copied().collect()
    }
}

/// A context that binds `vars`.
fn bind_all<T: Payload>(vars: &[&'static ContextVar<T>]) -> Context {
    Context::empty().run(|| {
        for (seed, var) in vars.iter().enumerate() {
            drop(var.set(T::sample().fresh(seed as u64)));
        }
        Context::current()
    })
}

/// A context that binds the first `n` variables of type `T`.
pub fn context<T: Payload>(n: usize) -> Context {
    bind_all(&T::pool().bound(n))
}

/// An imbl map of `n` values.
pub fn imbl<T: Payload>(n: usize) -> Imbl<T> {
    let mut map = Imbl::with_hasher(BuildIdentity::default());
    for key in 0..n as u64 {
        map.insert(key, Arc::new(T::sample().fresh(key)));
    }
    map
}

/// An rpds map of `n` values.
pub fn rpds<T: Payload>(n: usize) -> Rpds<T> {
    let mut map = Rpds::new_with_hasher_and_ptr_kind(BuildIdentity::default());
    for key in 0..n as u64 {
        map.insert_mut(key, Arc::new(T::sample().fresh(key)));
    }
    map
}

/// A standard map of `n` values.
pub fn std_map<T: Payload>(n: usize) -> Std<T> {
    (0..n as u64).map(|key| (key, Arc::new(T::sample().fresh(key)))).collect()
}

/// A fixed pseudo-random order in which each of `n` indices comes equally often, long enough that
/// the loop around it does not count.
pub fn order(n: usize) -> Vec<usize> {
    let mut random = Random::new(n as u64);
    let mut order = Vec::new();
    while order.len() < 256 {
        let mut pass: Vec<usize> = (0..n).collect();
        random.shuffle(&mut pass);
        order.extend(pass);
    }
    order
}

/// `items` in the order of [`order`].
pub fn ordered<T: Copy>(items: &[T]) -> Vec<T> {
    order(items.len()).into_iter().map(|at| items[at]).collect()
}

/// The keys `0..n` in the order of [`order`].
pub fn keys(n: usize) -> Vec<u64> {
    order(n).into_iter().map(|at| at as u64).collect()
}

/// The keys that a map of `n` values lacks, as many, in the order of [`order`].
pub fn missing_keys(n: usize) -> Vec<u64> {
    order(n).into_iter().map(|at| (n + at) as u64).collect()
}

/// Runs `body` inside `layers` nested isolated layers, each of which binds a variable of its own.
pub fn in_layers(layers: usize, body: &mut dyn FnMut()) {
    use heirloom_context::ContextIteratorExt as _;
    static PADS: [ContextVar<u64>; 8] = [const { ContextVar::new("layer") }; 8];
    match layers.checked_sub(1) {
        None => body(),
        Some(rest) => {
            let layer = std::iter::once_with(|| {
                drop(PADS[rest].set(1));
                in_layers(rest, body);
            });
            assert_eq!(layer.isolated().count(), 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_has_every_index_equally_often() {
        for n in [1, 3, 100, 1000] {
            let order = order(n);
            let mut counts = vec![0; n];
            order.iter().for_each(|&at| counts[at] += 1);
            assert!(counts.iter().all(|&count| count == order.len() / n));
        }
    }

    #[test]
    fn layers_show_what_is_bound_outside() {
        let vars = u64::pool().bound(3);
        context::<u64>(3).run(|| {
            let mut seen = 0;
            in_layers(4, &mut || seen = vars.iter().filter(|var| var.is_set()).count());
            assert_eq!(seen, 3);
        });
    }
}
