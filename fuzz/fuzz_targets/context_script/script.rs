//! Plays a script, and compares.

use std::mem;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use heirloom_context::{
    Binding, Context, ContextCell, ContextIteratorExt, ResetErrorKind, Token, WithContext, raw,
};

use crate::Op;
use crate::model::{Entries, Entry, GuardModel, Map, Model, TokenModel, Verdict};
use crate::value::{
    DEFAULT, DERIVED, HOOKED, LIVING, MIRROR, NEVER, NEXT, VARIABLES, Value, read, with_variable,
};

const DEPTH_MAX: usize = 16;
const PLACES_MAX: usize = 16;
/// Threads take more time than all the rest of a script.
const THREADS_MAX: usize = 2;

/// An iterator each of whose steps is a block of the script.
struct Steps(Arc<Script>);

impl Iterator for Steps {
    type Item = ();

    fn next(&mut self) -> Option<()> {
        self.0.block();
        Some(())
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.0.check();
    }
}

/// A context that is kept, to be entered again.
enum Place {
    Cell {
        cell: ContextCell,
        frame: u64,
        entered: bool,
    },
    Live {
        live: raw::Live,
        frame: u64,
    },
    Steps {
        steps: WithContext<Steps>,
        frame: u64,
    },
    /// `with_var`: not a frame, but a variable's entries.
    Scoped {
        steps: WithContext<Steps>,
        number: usize,
        entries: Entries,
    },
}

#[derive(Default)]
struct Script {
    ops: Mutex<std::vec::IntoIter<Op>>,
    depth: Mutex<usize>,
    threads: Mutex<usize>,
    model: Mutex<Model>,
    guards: Mutex<Vec<(Binding, GuardModel)>>,
    tokens: Mutex<Vec<(Token<Value>, TokenModel)>>,
    snapshots: Mutex<Vec<(Context, Map)>>,
    /// `None` while entered, and when dropped.
    places: Mutex<Vec<Option<Place>>>,
}

/// Plays it all, in a context of its own, and then drops what is left.
pub fn play(ops: Vec<Op>) {
    // Identities are given at first use: always in this order.
    (0..VARIABLES)
        .for_each(|number| with_variable!(number, var => drop(Context::empty().with_var(var, Value::new(0, Context::empty())))));
    NEXT.store(1, Relaxed);

    let script = Arc::new(Script { ops: Mutex::new(ops.into_iter()), ..Default::default() });
    let frame = lock(&script.model).make(false, &Map::new());
    script.block_in(frame, || {
        Context::empty().run(|| {
            while lock(&script.ops).len() > 0 {
                script.block();
            }
            let places = lock(&script.places).len();
            (0..places).for_each(|index| script.discard(index));
            script.check_living();
        });
    });
    lock(&script.model).remove(frame);
    script.check_living();
    let (guards, tokens) = (mem::take(&mut *lock(&script.guards)), mem::take(&mut *lock(&script.tokens)));
    drop((guards, tokens));
    script.check_living();
    let snapshots = mem::take(&mut *lock(&script.snapshots));
    drop(snapshots);
    assert_eq!(LIVING.load(Relaxed), 0, "nothing can reach a value any more");
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.try_lock().expect("no user code runs while a lock is held")
}

/// Half of the numbers mean one of a few variables, the others any plain one.
fn number(choice: u8) -> usize {
    if choice < 128 { choice as usize % 12 } else { (choice as usize - 120) % VARIABLES }
}

/// Runs on a thread of its own, to its very end.
fn elsewhere(f: impl FnOnce() + Send) {
    thread::scope(|scope| scope.spawn(f).join()).expect("the other thread went well");
}

fn take<T>(list: &Mutex<Vec<T>>, choice: u8) -> Option<T> {
    let mut list = lock(list);
    (!list.is_empty()).then(|| choice as usize % list.len()).map(|index| list.swap_remove(index))
}

impl Script {
    fn snapshot(&self, choice: u8) -> (Context, Map) {
        let snapshots = lock(&self.snapshots);
        if snapshots.is_empty() {
            Default::default()
        } else {
            snapshots[choice as usize % snapshots.len()].clone()
        }
    }

    /// Plays operations until the block ends.
    fn block(self: &Arc<Self>) {
        *lock(&self.depth) += 1;
        self.glance();
        loop {
            let next = lock(&self.ops).next();
            match next {
                None | Some(Op::Leave) => break,
                Some(op) => self.play(op),
            }
            self.glance();
        }
        // The full comparison takes as long as many operations.
        if lock(&self.ops).len().is_multiple_of(4) {
            self.check();
            self.check_living();
        }
        *lock(&self.depth) -= 1;
    }

    /// Plays a block in a frame, entered by `enter`.
    fn block_in(self: &Arc<Self>, frame: u64, enter: impl FnOnce()) {
        lock(&self.model).enter(frame);
        enter();
        lock(&self.model).leave();
    }

    fn set(&self, number: usize, holds: (Context, Map)) {
        let value = Value::new(0, holds.0);
        let serial = value.serial;
        let token = with_variable!(number, var => var.set(value));
        let mut model = lock(&self.model);
        model.holds.insert(serial, holds.1);
        let expected = model.set(number, Entry::Bound(serial));
        drop(model);
        lock(&self.tokens).push((token, expected));
    }

    fn unset(&self, number: usize) {
        let token = with_variable!(number, var => var.unset());
        let expected = lock(&self.model).set(number, Entry::Hidden);
        lock(&self.tokens).push((token, expected));
    }

    fn keep(&self, context: Context, map: Map) {
        lock(&self.snapshots).push((context, map));
    }

    fn reset(&self, (token, expected): (Token<Value>, TokenModel)) {
        let verdict = lock(&self.model).judge(&expected);
        let outcome = with_variable!(expected.variable, var => var.reset(token));
        match outcome {
            Ok(()) => {
                assert!(matches!(verdict, Verdict::Fine | Verdict::Covered), "{verdict:?} but reset");
                lock(&self.model).put(expected.variable, expected.previous);
            }
            Err(error) => {
                match error.kind() {
                    ResetErrorKind::WrongContext => assert_eq!(verdict, Verdict::WrongContext),
                    ResetErrorKind::Stale => assert!(matches!(verdict, Verdict::Stale | Verdict::Covered)),
                    other => panic!("{verdict:?} but {other:?}"),
                }
                lock(&self.tokens).push((error.into_token(), expected));
            }
        }
    }

    fn inherited(&self) {
        let context = Context::inherited();
        let mut map = lock(&self.model).snapshot();
        map.retain(|number, _| !NEVER.contains(number));
        for number in DERIVED {
            let Some(parent) = map.remove(&number) else { continue };
            if !Value::has_child(parent) {
                continue;
            }
            let child = with_variable!(number, var => context.get(var)).expect("derived").serial;
            let child_of = context.run(|| read(number, |child| child.unwrap().parent));
            assert_eq!(child_of, parent);
            map.insert(number, child);
            let mut model = lock(&self.model);
            let holds = model.holds.get(&parent).cloned().unwrap_or_default();
            model.holds.insert(child, holds);
        }
        self.keep(context, map);
    }

    fn play(self: &Arc<Self>, op: Op) {
        let may_nest = *lock(&self.depth) < DEPTH_MAX;
        match op {
            Op::Set(choice) => self.set(number(choice), Default::default()),
            Op::SetHolding(choice, held) => self.set(number(choice), self.snapshot(held)),
            Op::SetMany(from, many) => {
                (0..many % 64)
                    .for_each(|step| self.set(number(from.wrapping_add(step) | 128), Default::default()));
            }
            Op::Unset(choice) => self.unset(number(choice)),
            Op::UnsetMany(from, many) => {
                (0..many % 64).for_each(|step| self.unset(number(from.wrapping_add(step) | 128)));
            }
            Op::Bind(choice) => {
                let value = Value::new(0, Context::empty());
                let serial = value.serial;
                let binding = with_variable!(number(choice), var => var.bind(value));
                let expected = lock(&self.model).bind(number(choice), serial);
                lock(&self.guards).push((binding, expected));
            }
            Op::DropGuard(choice) => {
                if let Some((binding, expected)) = take(&self.guards, choice) {
                    drop(binding);
                    lock(&self.model).unbind(expected);
                }
            }
            Op::Reset(choice) => take(&self.tokens, choice).into_iter().for_each(|token| self.reset(token)),
            Op::ResetOther(choice) => {
                let Some((token, expected)) = take(&self.tokens, choice) else { return };
                let other = (expected.variable + 1) % VARIABLES;
                let error = with_variable!(other, var => var.reset(token)).unwrap_err();
                assert_eq!(error.kind(), ResetErrorKind::WrongVariable);
                lock(&self.tokens).push((error.into_token(), expected));
            }
            Op::DropToken(choice) => drop(take(&self.tokens, choice)),
            Op::Snapshot => {
                let map = lock(&self.model).snapshot();
                self.keep(Context::current(), map);
            }
            Op::Inherited => self.inherited(),
            Op::With(from, choice) => {
                let (context, mut map) = self.snapshot(from);
                let value = Value::new(0, Context::empty());
                map.insert(number(choice), value.serial);
                self.keep(with_variable!(number(choice), var => context.with_var(var, value)), map);
            }
            Op::Without(from, choice) => {
                let (context, mut map) = self.snapshot(from);
                map.remove(&number(choice));
                self.keep(with_variable!(number(choice), var => context.without_var(var)), map);
            }
            Op::DropSnapshot(choice) => drop(take(&self.snapshots, choice)),
            Op::DropElsewhere(choice) if self.may_spawn() => {
                let (token, snapshot) = (take(&self.tokens, choice), take(&self.snapshots, choice));
                let guard = take(&self.guards, choice);
                elsewhere(|| drop((token, snapshot, guard)));
            }
            Op::Compare(one, two) => {
                let ((one, expected), (two, other)) = (self.snapshot(one), self.snapshot(two));
                assert_eq!(one == two, expected == other);
                let changed = |number: &usize| expected.get(number) != other.get(number);
                assert_eq!(one.diff(&two).len(), (0..VARIABLES).filter(changed).count());
            }
            Op::MakeCell(_) | Op::MakeLive(_) | Op::MakeIsolated | Op::MakePinned(_) | Op::MakeScoped(_) => {
                self.make(op);
            }
            Op::DropPlace(choice) => {
                if let Some(index) = self.pick(choice) {
                    self.discard(index);
                }
            }
            Op::Borrow(choice) if may_nest => read(number(choice), |value| {
                let seen = lock(&self.model).get(number(choice));
                lock(&self.model)
                    .held
                    .push(seen.map(|serial| (number(choice), serial)).into_iter().collect());
                self.block();
                if let Some(serial) = seen {
                    assert_eq!(value.unwrap().serial, serial, "a borrowed value stays");
                }
                lock(&self.model).held.pop();
            }),
            Op::Scope(choice) if may_nest => {
                let value = Value::new(0, Context::empty());
                let entries = Entries::bound(value.serial);
                let body = || {
                    lock(&self.model).cover(number(choice), entries);
                    self.block();
                    lock(&self.model).uncover(number(choice));
                };
                with_variable!(number(choice), var => var.scope(value, body));
            }
            Op::Run(choice) if may_nest => {
                let (context, map) = self.snapshot(choice);
                let frame = lock(&self.model).make(false, &map);
                lock(&self.model).held.push(map);
                self.block_in(frame, || context.run(|| self.block()));
                lock(&self.model).held.pop();
                lock(&self.model).remove(frame);
            }
            Op::Enter(choice) if may_nest => {
                self.pick(choice).into_iter().for_each(|index| self.enter(index))
            }
            Op::EnterElsewhere(choice) if may_nest && self.may_spawn() => {
                let Some(index) = self.pick(choice) else { return };
                let root = lock(&self.model).make(false, &Map::new());
                self.block_in(root, || elsewhere(|| self.enter(index)));
                lock(&self.model).remove(root);
            }
            _ => {}
        }
    }

    fn may_spawn(&self) -> bool {
        let mut threads = lock(&self.threads);
        *threads += 1;
        *threads <= THREADS_MAX
    }

    fn pick(&self, choice: u8) -> Option<usize> {
        let places = lock(&self.places);
        (!places.is_empty()).then(|| choice as usize % places.len())
    }

    fn make(self: &Arc<Self>, op: Op) {
        if lock(&self.places).len() == PLACES_MAX {
            return;
        }
        let steps = || Steps(self.clone());
        let place = match op {
            Op::MakeIsolated => {
                Place::Steps { steps: steps().isolated(), frame: lock(&self.model).make(true, &Map::new()) }
            }
            Op::MakeScoped(choice) => {
                let value = Value::new(0, Context::empty());
                let entries = Entries::bound(value.serial);
                let number = number(choice);
                Place::Scoped {
                    steps: with_variable!(number, var => steps().with_var(var, value)),
                    number,
                    entries,
                }
            }
            Op::MakeCell(choice) | Op::MakeLive(choice) | Op::MakePinned(choice) => {
                let (context, map) = self.snapshot(choice);
                let frame = lock(&self.model).make(false, &map);
                match op {
                    Op::MakeCell(_) => Place::Cell { cell: ContextCell::new(context), frame, entered: false },
                    Op::MakeLive(_) => Place::Live { live: raw::Live::new(context), frame },
                    _ => Place::Steps { steps: steps().in_context(context), frame },
                }
            }
            _ => unreachable!("not a place"),
        };
        lock(&self.places).push(Some(place));
    }

    /// Plays a block in a place that is not entered.
    fn enter(self: &Arc<Self>, index: usize) {
        let cell = match &mut lock(&self.places)[index] {
            Some(Place::Cell { cell, frame, entered }) => {
                Some((cell.clone(), *frame, mem::replace(entered, true)))
            }
            _ => None,
        };
        if let Some((cell, frame, again)) = cell {
            return self.enter_cell(index, cell, frame, again);
        }
        let Some(mut place) = lock(&self.places)[index].take() else { return };
        match &mut place {
            Place::Cell { .. } => unreachable!("handled above"),
            Place::Live { live, frame } => self.block_in(*frame, || {
                raw::swap(live);
                self.block();
                raw::swap(live);
            }),
            Place::Steps { steps, frame } => {
                self.block_in(*frame, || assert!(steps.next().is_some()));
                assert_eq!(steps.context().len(), lock(&self.model).own(*frame).len());
            }
            Place::Scoped { steps, number, entries } => {
                lock(&self.model).cover(*number, mem::take(entries));
                assert!(steps.next().is_some());
                *entries = lock(&self.model).uncover(*number);
            }
        }
        lock(&self.places)[index] = Some(place);
    }

    fn enter_cell(self: &Arc<Self>, index: usize, cell: ContextCell, frame: u64, again: bool) {
        if again {
            assert!(cell.run(|| ()).is_err());
            return;
        }
        let before = lock(&self.model).own(frame);
        // The cell remembers what it was entered with.
        lock(&self.model).held.push(before.clone());
        self.block_in(frame, || cell.run(|| self.block()).expect("it is not entered"));
        lock(&self.model).held.pop();
        assert_eq!(cell.snapshot().len(), lock(&self.model).own(frame).len());
        if let Some(Place::Cell { entered, .. }) = &mut lock(&self.places)[index] {
            *entered = false;
        }
    }

    /// Drops a place that is not entered. What iterates is dropped inside, and checks that.
    fn discard(&self, index: usize) {
        if let Some(Place::Cell { entered: true, .. }) = lock(&self.places)[index] {
            return;
        }
        let Some(place) = lock(&self.places)[index].take() else { return };
        let frame = match place {
            Place::Cell { frame, .. } | Place::Live { frame, .. } => {
                drop(place);
                frame
            }
            Place::Steps { steps, frame } => {
                lock(&self.model).enter(frame);
                drop(steps);
                lock(&self.model).leave();
                frame
            }
            Place::Scoped { steps, number, entries } => {
                lock(&self.model).cover(number, entries);
                drop(steps);
                lock(&self.model).uncover(number);
                return;
            }
        };
        lock(&self.model).remove(frame);
    }

    /// Compares what is seen of one variable.
    fn look(&self, number: usize) {
        let bound = lock(&self.model).get(number);
        assert_eq!(with_variable!(number, var => var.is_set()), bound.is_some());
        let expected = bound.or(DEFAULT.contains(&number).then_some(0));
        assert_eq!(read(number, |value| value.map(|value| value.serial)), expected);
        if HOOKED.contains(&number) {
            assert_eq!(MIRROR.with(|mirror| mirror[number].get()), bound.unwrap_or(0), "what the hook said");
        }
    }

    /// Compares what is seen of some variables, other ones each time.
    fn glance(&self) {
        let left = lock(&self.ops).len();
        (0..12).chain((0..4).map(|step| (left * 4 + step) % VARIABLES)).for_each(|number| self.look(number));
    }

    /// Compares everything that is seen.
    fn check(&self) {
        (0..VARIABLES).for_each(|number| self.look(number));
        let expected = lock(&self.model).snapshot();
        let context = Context::current();
        assert_eq!(context.len(), expected.len());
        for (number, serial) in expected {
            assert_eq!(with_variable!(number, var => context.get(var)).expect("bound").serial, serial);
        }
    }

    /// Compares what is alive, between operations.
    fn check_living(&self) {
        let mut reached: Vec<u64> =
            lock(&self.snapshots).iter().flat_map(|(_, map)| map.values().copied()).collect();
        reached.extend(lock(&self.tokens).iter().filter_map(|(_, token)| token.previous_value()));
        for place in lock(&self.places).iter().flatten() {
            if let Place::Scoped { entries, .. } = place {
                reached.extend(entries.values());
            }
        }
        assert_eq!(LIVING.load(Relaxed), lock(&self.model).living(reached) as i64, "values that live");
    }
}
