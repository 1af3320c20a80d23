//! Random programs against a plain model: maps in a stack.
//!
//! A program is a tree: scopes, runs and layers have bodies. Each step is done twice, on the crate
//! and on the model; after each, every variable must show what the model says, and exactly those
//! values must be alive that something in the model still holds.
//!
//! The model in one breath: a *node* is a place with a base entry and a list of guards' entries per
//! variable; the current context is a stack of nodes. A lookup takes the newest entry of the
//! topmost node that has one; a write goes to the newest entry of the topmost node that is for the
//! variable. `run`, pinned iterators and cells start a stack of their own; layers and scopes add to
//! the present one. A guard that is dropped elsewhere stays, and what lies below it goes when its
//! node next has to do with guards.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::{Rc, Weak};
use std::sync::{Arc, LazyLock};

use heirloom_context::{
    Binding, Context, ContextCell, ContextIteratorExt, ContextVar, ResetErrorKind, Token, WithDefault,
    context_var,
};
use proptest::prelude::*;

use crate::support::{Ledger, Probe, caught, on_a_fresh_thread, quiet_panic};

type Value = Arc<Probe>;

const VARIABLES: usize = 4;
/// What the third variable shows where nothing is bound.
const DEFAULT: u32 = u32::MAX;

fn derive(value: &Value) -> Option<Value> {
    (!value.id.is_multiple_of(3)).then(|| value.clone())
}

context_var! {
    static PLAIN: Value;
    static NEVER: Value, inherit = Never;
    static DEFAULTED: Value = Arc::new(Ledger::new().probe(DEFAULT));
    static DERIVED: Value, inherit = Derive(derive);
}

/// Variables that are bound everywhere, so that contexts are large.
static PADDING: LazyLock<Vec<ContextVar<usize>>> =
    LazyLock::new(|| (0..100).map(|_| ContextVar::new("padding")).collect());

/// A variable without a default, or one with a default.
#[derive(Clone, Copy)]
enum Variable {
    Plain(&'static ContextVar<Value>),
    Defaulted(&'static ContextVar<Value, WithDefault<Value>>),
}

/// Does the same with the variable of that number, of either kind.
macro_rules! of_either {
    ($number:expr, $variable:ident => $done:expr) => {
        match variable($number) {
            Variable::Plain($variable) => $done,
            Variable::Defaulted($variable) => $done,
        }
    };
}

impl Variable {
    fn with<R>(self, f: impl FnOnce(Option<&Value>) -> R) -> R {
        match self {
            Variable::Plain(variable) => variable.with(f),
            Variable::Defaulted(variable) => variable.with(|value| f(Some(value))),
        }
    }
}

fn variable(number: usize) -> Variable {
    match number {
        0 => Variable::Plain(&PLAIN),
        1 => Variable::Plain(&NEVER),
        2 => Variable::Defaulted(&DEFAULTED),
        _ => Variable::Plain(&DERIVED),
    }
}

#[derive(Clone, Debug)]
enum Op {
    Set(usize),
    Unset(usize),
    Reset(usize, usize),
    DropToken(usize),
    Bind(usize),
    DropGuard(usize),
    Borrow(usize, Vec<Op>),
    Scope(usize, Vec<Op>),
    Panicking(usize, Vec<Op>),
    RunCurrent(Vec<Op>),
    RunSnapshot(usize, Vec<Op>),
    Isolated(Vec<Op>),
    NewLayer,
    NewPinned,
    NewCell,
    Enter(usize, Vec<Op>),
    DropPlace(usize),
    Snapshot,
    Inherit,
    With(usize, usize),
    Without(usize, usize),
    DropSnapshot(usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let var = 0..VARIABLES;
    let pick = 0..16_usize;
    let leaf = prop_oneof![
        6 => var.clone().prop_map(Op::Set),
        2 => var.clone().prop_map(Op::Unset),
        5 => (var.clone(), pick.clone()).prop_map(|(var, token)| Op::Reset(var, token)),
        1 => pick.clone().prop_map(Op::DropToken),
        5 => var.clone().prop_map(Op::Bind),
        5 => pick.clone().prop_map(Op::DropGuard),
        1 => Just(Op::NewLayer),
        1 => Just(Op::NewPinned),
        1 => Just(Op::NewCell),
        1 => pick.clone().prop_map(Op::DropPlace),
        2 => Just(Op::Snapshot),
        1 => Just(Op::Inherit),
        1 => (pick.clone(), var.clone()).prop_map(|(snapshot, var)| Op::With(snapshot, var)),
        1 => (pick.clone(), var.clone()).prop_map(|(snapshot, var)| Op::Without(snapshot, var)),
        2 => pick.clone().prop_map(Op::DropSnapshot),
    ];
    let tree = leaf.prop_recursive(4, 24, 6, move |inner| {
        let body = prop::collection::vec(inner, 0..6);
        prop_oneof![
            1 => (0..VARIABLES, body.clone()).prop_map(|(var, body)| Op::Borrow(var, body)),
            4 => (0..VARIABLES, body.clone()).prop_map(|(var, body)| Op::Scope(var, body)),
            1 => (0..VARIABLES, body.clone()).prop_map(|(var, body)| Op::Panicking(var, body)),
            2 => body.clone().prop_map(Op::RunCurrent),
            2 => (0..16_usize, body.clone()).prop_map(|(snapshot, body)| Op::RunSnapshot(snapshot, body)),
            2 => body.clone().prop_map(Op::Isolated),
            4 => (0..16_usize, body).prop_map(|(place, body)| Op::Enter(place, body)),
        ]
    });
    prop::collection::vec(tree, 1..24)
}

// ---- the model ----

/// Of a value, only its number.
type Id = u32;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Entry {
    /// Nothing here: of a layer, the outside shows.
    Absent,
    Hidden,
    Bound(Id),
}

#[derive(Clone, Debug)]
struct Entries {
    base: Entry,
    guards: Vec<(u64, Entry)>,
    /// Guards that were dropped elsewhere.
    abandoned: Vec<u64>,
}

impl Entries {
    fn newest(&mut self) -> &mut Entry {
        match self.guards.last_mut() {
            Some((_, entry)) => entry,
            None => &mut self.base,
        }
    }

    /// Of the guards that were dropped elsewhere the newest stays bound, and nothing below it is
    /// ever seen again.
    fn settle(&mut self) {
        let abandoned = &mut self.abandoned;
        let Some(newest) = self.guards.iter().rposition(|(guard, _)| abandoned.contains(guard)) else {
            return;
        };
        self.base = Entry::Absent;
        self.guards[..newest].iter_mut().for_each(|(_, entry)| *entry = Entry::Absent);
        let stays = self.guards[newest].0;
        self.guards.retain(|(guard, _)| *guard == stays || !abandoned.contains(guard));
        abandoned.retain(|guard| *guard == stays);
    }
}

#[derive(Clone, Debug)]
struct Node {
    /// Tokens and guards belong to this; a scope has that of its surroundings.
    identity: u64,
    /// The variable, of a scope.
    only: Option<usize>,
    is_layer: bool,
    entries: [Entries; VARIABLES],
}

type Seen = [Option<Id>; VARIABLES];

#[derive(Clone, Copy, Debug)]
struct ModelToken {
    variable: usize,
    identity: u64,
    node: u64,
    node_is_layer: bool,
    guard: Option<u64>,
    previous: Entry,
}

#[derive(Clone, Copy, Debug)]
struct ModelGuard {
    variable: usize,
    identity: u64,
    node: u64,
    guard: u64,
}

#[derive(Default)]
struct Model {
    numbers: u64,
    /// All nodes that exist, by number.
    nodes: Vec<(u64, Node)>,
    /// Of the current context, the outermost first.
    stack: Vec<u64>,
    /// What snapshots that are being run, cells that are entered, and borrows hold.
    held: Vec<Seen>,
}

impl Model {
    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn add(&mut self, identity: u64, only: Option<usize>, is_layer: bool, seen: Seen) -> u64 {
        let entries = seen.map(|id| Entries {
            base: id.map_or(Entry::Absent, Entry::Bound),
            guards: Vec::new(),
            abandoned: Vec::new(),
        });
        let number = self.number();
        self.nodes.push((number, Node { identity, only, is_layer, entries }));
        number
    }

    fn remove(&mut self, number: u64) {
        self.nodes.retain(|(other, _)| *other != number);
    }

    fn node(&mut self, number: u64) -> Option<&mut Node> {
        self.nodes.iter_mut().find(|(other, _)| *other == number).map(|(_, node)| node)
    }

    fn identity(&mut self) -> u64 {
        let top = *self.stack.last().expect("the root");
        self.node(top).expect("an entered node exists").identity
    }

    fn seen_one(&mut self, variable: usize) -> Option<Id> {
        for number in self.stack.clone().into_iter().rev() {
            let node = self.node(number).expect("an entered node exists");
            if node.only.is_some_and(|only| only != variable) {
                continue;
            }
            match *node.entries[variable].newest() {
                Entry::Bound(id) => return Some(id),
                Entry::Hidden => return None,
                Entry::Absent => {}
            }
        }
        None
    }

    fn seen(&mut self) -> Seen {
        std::array::from_fn(|variable| self.seen_one(variable))
    }

    /// The node that takes the writes to a variable.
    fn target(&mut self, variable: usize) -> u64 {
        let stack = self.stack.clone();
        let takes = |model: &mut Model, number: u64| {
            model.node(number).expect("an entered node exists").only.is_none_or(|only| only == variable)
        };
        stack.into_iter().rev().find(|number| takes(self, *number)).expect("the root takes all")
    }

    fn write(&mut self, variable: usize, entry: Entry) -> ModelToken {
        let (identity, target) = (self.identity(), self.target(variable));
        let node = self.node(target).expect("the target exists");
        let node_is_layer = node.is_layer;
        let guard = node.entries[variable].guards.last().map(|(guard, _)| *guard);
        let previous = std::mem::replace(node.entries[variable].newest(), entry);
        ModelToken { variable, identity, node: target, node_is_layer, guard, previous }
    }

    /// What `reset` must answer; `None` where what it does is left open.
    fn reset(&mut self, variable: usize, token: ModelToken) -> Option<Result<(), ResetErrorKind>> {
        let (identity, target) = (self.identity(), self.target(variable));
        if token.variable != variable {
            // Which of two reasons is told first is left open.
            return (token.identity == identity).then_some(Err(ResetErrorKind::WrongVariable));
        }
        if token.identity != identity {
            return Some(Err(ResetErrorKind::WrongContext));
        }
        if let Some(guard) = token.guard {
            // A guard whose scope has ended may count as gone or not.
            let entries = &mut self.node(token.node)?.entries[variable];
            let lives = |entries: &Entries| entries.guards.iter().any(|(other, _)| *other == guard);
            if lives(entries) {
                entries.settle();
            }
            if !lives(entries) {
                return Some(Err(ResetErrorKind::Stale));
            }
        }
        let at_home = token.node == target
            && self.node(target)?.entries[variable].guards.last().map(|(guard, _)| *guard) == token.guard;
        let entry = match token.previous {
            // "Nothing here" of a layer, put anywhere else: transparent there too, or unset? Left
            // open.
            Entry::Absent if !at_home && token.node_is_layer => return None,
            Entry::Absent if !at_home => Entry::Hidden,
            entry => entry,
        };
        *self.node(target)?.entries[variable].newest() = entry;
        Some(Ok(()))
    }

    fn bind(&mut self, variable: usize, id: Id) -> ModelGuard {
        let (identity, node, guard) = (self.identity(), self.target(variable), self.number());
        let entries = &mut self.node(node).expect("the target exists").entries[variable];
        entries.settle();
        entries.guards.push((guard, Entry::Bound(id)));
        ModelGuard { variable, identity, node, guard }
    }

    fn unbind(&mut self, guard: ModelGuard) {
        let at_home = self.identity() == guard.identity;
        let Some(node) = self.node(guard.node) else { return };
        let entries = &mut node.entries[guard.variable];
        if at_home {
            entries.settle();
            entries.guards.retain(|(other, _)| *other != guard.guard);
        } else {
            entries.abandoned.push(guard.guard);
        }
    }

    /// A stack of its own for `body`, on one node.
    fn alone(&mut self, number: u64) -> Vec<u64> {
        std::mem::replace(&mut self.stack, vec![number])
    }

    fn alive(&self) -> BTreeSet<Id> {
        let entries = self.nodes.iter().flat_map(|(_, node)| &node.entries);
        let bound =
            entries.flat_map(|entries| entries.guards.iter().map(|(_, entry)| *entry).chain([entries.base]));
        let bound = bound.filter_map(|entry| if let Entry::Bound(id) = entry { Some(id) } else { None });
        bound.chain(self.held.iter().flatten().flatten().copied()).collect()
    }
}

// ---- the world: the crate and the model, side by side ----

/// Something that is entered again and again.
enum Place {
    Iterator(Box<dyn Iterator<Item = ()>>),
    Cell(ContextCell),
}

struct PlaceModel {
    node: u64,
    is_layer: bool,
    /// Cells keep a copy of how they were entered.
    is_cell: bool,
}

#[derive(Default)]
struct World {
    me: Weak<World>,
    model: RefCell<Model>,
    tokens: RefCell<Vec<(Token<Value>, ModelToken)>>,
    guards: RefCell<Vec<(Binding, ModelGuard)>>,
    snapshots: RefCell<Vec<(Context, Seen)>>,
    /// An empty place is entered right now.
    places: RefCell<Vec<Option<(Place, PlaceModel)>>>,
    /// What the iterator that is stepped next is to do.
    inbox: RefCell<Vec<Op>>,
    ledger: Ledger,
    next: Cell<Id>,
    /// How many variables are bound that no program touches.
    padding: usize,
}

/// Index into a list that may be empty.
fn pick<T>(list: &[T], number: usize) -> Option<usize> {
    (!list.is_empty()).then(|| number % list.len())
}

impl World {
    fn new(padding: usize) -> Rc<World> {
        for (number, variable) in PADDING[..padding].iter().enumerate() {
            variable.set(number);
        }
        let world = Rc::new_cyclic(|me| World { me: me.clone(), padding, ..World::default() });
        let root = {
            let mut model = world.model.borrow_mut();
            let identity = model.number();
            model.add(identity, None, false, [None; VARIABLES])
        };
        world.model.borrow_mut().stack.push(root);
        world
    }

    fn value(&self) -> (Value, Id) {
        let id = self.next.get();
        self.next.set(id + 1);
        (Arc::new(self.ledger.probe(id)), id)
    }

    fn check(&self) {
        let mut model = self.model.borrow_mut();
        let expected = model.seen();
        for (number, id) in expected.into_iter().enumerate() {
            let shown = variable(number).with(|value| value.map(|value| value.id));
            let default = (number == 2).then_some(DEFAULT);
            assert_eq!(shown, id.or(default), "variable {number}");
            let is_set = of_either!(number, variable => variable.is_set());
            assert_eq!(is_set, id.is_some(), "variable {number}");
        }
        let mut alive = model.alive();
        alive.extend(self.tokens.borrow().iter().filter_map(|(_, token)| match token.previous {
            Entry::Bound(id) => Some(id),
            _ => None,
        }));
        alive.extend(self.snapshots.borrow().iter().flat_map(|(_, seen)| seen.iter().flatten().copied()));
        assert_eq!(self.ledger.alive(), alive.len(), "these and no others should be alive: {alive:?}");
        let snapshots = self.snapshots.borrow();
        // What is derived is another binding, though the function here hands out the same object.
        if let [.., (one, one_seen), (other, other_seen)] = snapshots.as_slice()
            && one_seen[3].is_none()
        {
            assert_eq!(one == other, one_seen == other_seen, "{one_seen:?} and {other_seen:?}");
            assert_eq!(one.diff(other).is_empty(), one_seen == other_seen);
        }
        for (snapshot, seen) in snapshots.iter() {
            assert_eq!(snapshot.len(), self.padding + seen.iter().flatten().count());
            assert_eq!(snapshot.iter().count(), snapshot.len());
            for (number, id) in seen.iter().enumerate() {
                let bound = of_either!(number, variable => snapshot.get(variable));
                assert_eq!(bound.map(|value| value.id), *id);
            }
        }
    }

    fn run(&self, ops: &[Op]) {
        for op in ops {
            self.step(op);
            self.check();
        }
    }

    fn step(&self, op: &Op) {
        match op {
            Op::Set(number) => {
                let (value, id) = self.value();
                let token = of_either!(*number, variable => variable.set(value));
                let model = self.model.borrow_mut().write(*number, Entry::Bound(id));
                self.tokens.borrow_mut().push((token, model));
            }
            Op::Unset(number) => {
                let token = of_either!(*number, variable => variable.unset());
                let model = self.model.borrow_mut().write(*number, Entry::Hidden);
                self.tokens.borrow_mut().push((token, model));
            }
            Op::Reset(number, token) => self.reset(*number, *token),
            Op::DropToken(token) => {
                let index = pick(&self.tokens.borrow(), *token);
                if let Some(index) = index {
                    drop(self.tokens.borrow_mut().swap_remove(index));
                }
            }
            Op::Bind(number) => {
                let (value, id) = self.value();
                let guard = of_either!(*number, variable => variable.bind(value));
                let model = self.model.borrow_mut().bind(*number, id);
                self.guards.borrow_mut().push((guard, model));
            }
            Op::DropGuard(guard) => {
                let index = pick(&self.guards.borrow(), *guard);
                if let Some(index) = index {
                    let (guard, model) = self.guards.borrow_mut().swap_remove(index);
                    drop(guard);
                    self.model.borrow_mut().unbind(model);
                }
            }
            Op::Borrow(number, body) => variable(*number).with(|value| {
                let id = value.map(|value| value.id).filter(|id| *id != DEFAULT);
                self.model.borrow_mut().held.push([id, None, None, None]);
                self.run(body);
                assert_eq!(value.map(|value| value.id).filter(|id| *id != DEFAULT), id);
                self.model.borrow_mut().held.pop();
            }),
            Op::Scope(number, body) => self.scope(*number, || self.run(body)),
            Op::Panicking(number, body) => {
                let said = caught(|| {
                    self.scope(*number, || {
                        self.run_in(Context::current(), || self.run(body), true);
                        quiet_panic("never reached")
                    })
                });
                assert_eq!(said, "out of a run");
                // The scope's part of the model was left by the panic.
                let mut model = self.model.borrow_mut();
                let scope = model.stack.pop().expect("the scope");
                model.remove(scope);
            }
            Op::RunCurrent(body) => self.run_in(Context::current(), || self.run(body), false),
            Op::RunSnapshot(snapshot, body) => {
                let context = {
                    let snapshots = self.snapshots.borrow();
                    pick(&snapshots, *snapshot).map(|index| snapshots[index].0.clone())
                };
                if let Some(context) = context {
                    self.run_in(context, || self.run(body), false);
                }
            }
            Op::Isolated(body) => {
                let mut place = self.new_iterator(true);
                self.enter(&mut place, body);
                self.drop_place(place);
            }
            Op::NewLayer => {
                let place = self.new_iterator(true);
                self.places.borrow_mut().push(Some(place));
            }
            Op::NewPinned => {
                let place = self.new_iterator(false);
                self.places.borrow_mut().push(Some(place));
            }
            Op::NewCell => {
                let cell = Place::Cell(ContextCell::new(Context::current()));
                let node = self.new_node(false);
                self.places
                    .borrow_mut()
                    .push(Some((cell, PlaceModel { node, is_layer: false, is_cell: true })));
            }
            Op::Enter(place, body) => {
                let index = pick(&self.places.borrow(), *place);
                let taken = index.and_then(|index| self.places.borrow_mut()[index].take());
                if let (Some(index), Some(mut taken)) = (index, taken) {
                    self.enter(&mut taken, body);
                    self.places.borrow_mut()[index] = Some(taken);
                }
            }
            Op::DropPlace(place) => {
                let taken = {
                    let mut places = self.places.borrow_mut();
                    pick(&places, *place).and_then(|index| places[index].take())
                };
                if let Some(taken) = taken {
                    self.drop_place(taken);
                }
            }
            Op::Snapshot => {
                let seen = self.model.borrow_mut().seen();
                self.snapshots.borrow_mut().push((Context::current(), seen));
            }
            Op::Inherit => {
                let mut seen = self.model.borrow_mut().seen();
                seen[1] = None;
                seen[3] = seen[3].filter(|id| !id.is_multiple_of(3));
                self.snapshots.borrow_mut().push((Context::inherited(), seen));
            }
            Op::With(snapshot, number) => {
                let index = pick(&self.snapshots.borrow(), *snapshot);
                if let Some(index) = index {
                    let (value, id) = self.value();
                    let mut snapshots = self.snapshots.borrow_mut();
                    let (context, mut seen) = snapshots[index].clone();
                    let context = of_either!(*number, variable => context.with_var(variable, value));
                    seen[*number] = Some(id);
                    snapshots.push((context, seen));
                }
            }
            Op::Without(snapshot, number) => {
                let mut snapshots = self.snapshots.borrow_mut();
                if let Some(index) = pick(&snapshots, *snapshot) {
                    let (context, mut seen) = snapshots[index].clone();
                    let context = of_either!(*number, variable => context.without_var(variable));
                    seen[*number] = None;
                    snapshots.push((context, seen));
                }
            }
            Op::DropSnapshot(snapshot) => {
                let mut snapshots = self.snapshots.borrow_mut();
                if let Some(index) = pick(&snapshots, *snapshot) {
                    drop(snapshots.swap_remove(index));
                }
            }
        }
    }

    fn reset(&self, number: usize, token: usize) {
        let Some(index) = pick(&self.tokens.borrow(), token) else { return };
        let model = self.tokens.borrow()[index].1;
        let Some(expected) = self.model.borrow_mut().reset(number, model) else { return };
        let (token, model) = self.tokens.borrow_mut().swap_remove(index);
        match of_either!(number, variable => variable.reset(token)) {
            Ok(()) => assert_eq!(expected, Ok(()), "{model:?}"),
            Err(error) => {
                assert_eq!(expected, Err(error.kind()), "{model:?}");
                self.tokens.borrow_mut().push((error.into_token(), model));
            }
        }
    }

    fn new_node(&self, is_layer: bool) -> u64 {
        let mut model = self.model.borrow_mut();
        let seen = if is_layer { [None; VARIABLES] } else { model.seen() };
        let identity = model.number();
        model.add(identity, None, is_layer, seen)
    }

    fn new_iterator(&self, is_layer: bool) -> (Place, PlaceModel) {
        let me = self.me.clone();
        let steps = std::iter::repeat_with(move || {
            let me = me.upgrade().expect("the world is stepping this");
            let body = me.inbox.take();
            me.run(&body);
        });
        let iterator: Box<dyn Iterator<Item = ()>> =
            if is_layer { Box::new(steps.isolated()) } else { Box::new(steps.in_current_context()) };
        (Place::Iterator(iterator), PlaceModel { node: self.new_node(is_layer), is_layer, is_cell: false })
    }

    fn enter(&self, (place, model): &mut (Place, PlaceModel), body: &[Op]) {
        let outside = {
            let mut world = self.model.borrow_mut();
            let outside = world.stack.clone();
            if model.is_layer {
                world.stack.push(model.node);
            } else {
                world.alone(model.node);
            }
            if model.is_cell {
                let seen = world.seen();
                world.held.push(seen);
            }
            outside
        };
        match place {
            Place::Iterator(iterator) => {
                self.inbox.replace(body.to_vec());
                iterator.next();
            }
            Place::Cell(cell) => {
                cell.run(|| self.run(body)).expect("the cell is entered by this thread alone")
            }
        }
        let mut world = self.model.borrow_mut();
        world.stack = outside;
        if model.is_cell {
            world.held.pop();
        }
    }

    fn drop_place(&self, (place, model): (Place, PlaceModel)) {
        drop(place);
        self.model.borrow_mut().remove(model.node);
    }

    fn scope(&self, number: usize, body: impl FnOnce()) {
        let (value, id) = self.value();
        let enter = || {
            let node = {
                let mut model = self.model.borrow_mut();
                let identity = model.identity();
                let top = *model.stack.last().expect("the root");
                let is_layer = model.node(top).expect("entered").is_layer;
                let mut seen = [None; VARIABLES];
                seen[number] = Some(id);
                let node = model.add(identity, Some(number), is_layer, seen);
                model.stack.push(node);
                node
            };
            body();
            let mut model = self.model.borrow_mut();
            model.stack.pop();
            model.remove(node);
        };
        of_either!(number, variable => variable.scope(value, enter));
    }

    fn run_in(&self, context: Context, body: impl FnOnce(), panics: bool) {
        let seen: Seen = std::array::from_fn(|number| {
            of_either!(number, variable => context.get(variable)).map(|value| value.id)
        });
        let outside = {
            let mut model = self.model.borrow_mut();
            let identity = model.number();
            let node = model.add(identity, None, false, seen);
            model.held.push(seen);
            model.alone(node)
        };
        let leave = || {
            let mut model = self.model.borrow_mut();
            let node = model.stack.pop().expect("the run");
            model.remove(node);
            model.stack = outside;
            model.held.pop();
        };
        if panics {
            context.run(|| {
                body();
                leave();
                quiet_panic("out of a run")
            });
        }
        context.run(body);
        leave();
    }
}

/// A program on a thread of its own, so that the thread's root context is the bottom of the stack.
fn check_program(padding: usize, program: Vec<Op>) {
    let ledger = on_a_fresh_thread(move || {
        let world = World::new(padding);
        world.check();
        world.run(&program);
        // Everything that is left goes in an order of its own; the root context goes with the
        // thread.
        let ledger = world.ledger.clone();
        world.guards.borrow_mut().truncate(3);
        world.tokens.borrow_mut().clear();
        world.places.borrow_mut().clear();
        ledger
    });
    assert_eq!(ledger.alive(), 0, "all is freed when the thread has ended");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: crate::support::cases(200),
        max_shrink_iters: 20_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn random_programs_do_what_a_stack_of_maps_does(program in ops()) {
        check_program(0, program);
    }

    #[test]
    fn random_programs_in_large_contexts_do_the_same(program in ops()) {
        check_program(PADDING.len(), program);
    }
}
