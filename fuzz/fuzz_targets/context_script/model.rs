//! What the contexts should be: a stack of frames, each a map from a variable to its entries.

use std::collections::{BTreeMap, BTreeSet};

/// A variable's number, and the serial of the value it shows.
pub type Map = BTreeMap<usize, u64>;

#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub enum Entry {
    #[default]
    Absent,
    /// Unset in a layer: the outside does not show.
    Hidden,
    Bound(u64),
}

/// A variable's entries in one place: the base, and one for each guard, the newest last.
#[derive(Default, Debug)]
pub struct Entries {
    base: Entry,
    guards: Vec<(u64, Entry)>,
    /// Guards that were dropped elsewhere.
    abandoned: Vec<u64>,
}

impl Entries {
    pub fn bound(serial: u64) -> Entries {
        Entries { base: Entry::Bound(serial), ..Entries::default() }
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

    fn has(&self, guard: u64) -> bool {
        self.guards.iter().any(|(serial, _)| *serial == guard)
    }

    fn top(&self) -> Entry {
        self.guards.last().map_or(self.base, |(_, entry)| *entry)
    }

    pub fn values(&self) -> impl Iterator<Item = u64> {
        let entries = self.guards.iter().map(|(_, entry)| *entry).chain([self.base]);
        entries.filter_map(|entry| if let Entry::Bound(serial) = entry { Some(serial) } else { None })
    }
}

/// One context that can be written to.
#[derive(Default)]
struct Frame {
    is_layer: bool,
    /// The last entries of a variable are in force; scopes cover those before.
    variables: BTreeMap<usize, Vec<Entries>>,
}

impl Frame {
    fn entry(&self, variable: usize) -> Entry {
        self.variables.get(&variable).and_then(|covers| covers.last()).map_or(Entry::Absent, Entries::top)
    }

    fn entries(&mut self, variable: usize) -> &mut Entries {
        let covers = self.variables.entry(variable).or_default();
        if covers.is_empty() {
            covers.push(Entries::default());
        }
        covers.last_mut().unwrap()
    }
}

/// What should come of a reset.
#[derive(PartialEq, Debug)]
pub enum Verdict {
    Fine,
    WrongContext,
    Stale,
    /// The guard lives, but a scope covers its entry: both answers are defensible.
    Covered,
}

/// What a token should know.
#[derive(Clone)]
pub struct TokenModel {
    pub variable: usize,
    pub previous: Entry,
    frame: u64,
    guard: Option<u64>,
}

impl TokenModel {
    pub fn previous_value(&self) -> Option<u64> {
        if let Entry::Bound(serial) = self.previous { Some(serial) } else { None }
    }
}

/// What a guard should know.
#[derive(Clone, Copy)]
pub struct GuardModel {
    pub variable: usize,
    frame: u64,
    serial: u64,
}

#[derive(Default)]
pub struct Model {
    frames: BTreeMap<u64, Frame>,
    entered: Vec<u64>,
    serial: u64,
    /// Snapshots that values hold.
    pub holds: BTreeMap<u64, Map>,
    /// Snapshots that calls in progress hold.
    pub held: Vec<Map>,
}

impl Model {
    fn next(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    pub fn make(&mut self, is_layer: bool, bindings: &Map) -> u64 {
        let frame = self.next();
        let bound = |(variable, serial): (&usize, &u64)| (*variable, vec![Entries::bound(*serial)]);
        self.frames.insert(frame, Frame { is_layer, variables: bindings.iter().map(bound).collect() });
        frame
    }

    pub fn remove(&mut self, frame: u64) {
        self.frames.remove(&frame);
    }

    pub fn enter(&mut self, frame: u64) {
        self.entered.push(frame);
    }

    pub fn leave(&mut self) {
        self.entered.pop();
    }

    fn current(&mut self) -> &mut Frame {
        self.frames.get_mut(self.entered.last().unwrap()).unwrap()
    }

    /// What is seen, from the inside out.
    pub fn get(&self, variable: usize) -> Option<u64> {
        for frame in self.entered.iter().rev().map(|frame| &self.frames[frame]) {
            match frame.entry(variable) {
                Entry::Bound(serial) => return Some(serial),
                Entry::Absent if frame.is_layer => {}
                Entry::Absent | Entry::Hidden => return None,
            }
        }
        None
    }

    pub fn snapshot(&self) -> Map {
        let variables: BTreeSet<usize> =
            self.entered.iter().flat_map(|frame| self.frames[frame].variables.keys()).copied().collect();
        variables.into_iter().filter_map(|variable| Some((variable, self.get(variable)?))).collect()
    }

    /// What a frame binds itself.
    pub fn own(&self, frame: u64) -> Map {
        let frame = &self.frames[&frame];
        let bound = |variable: &usize| match frame.entry(*variable) {
            Entry::Bound(serial) => Some((*variable, serial)),
            Entry::Absent | Entry::Hidden => None,
        };
        frame.variables.keys().filter_map(bound).collect()
    }

    pub fn set(&mut self, variable: usize, entry: Entry) -> TokenModel {
        let frame = *self.entered.last().unwrap();
        let hides = self.current().is_layer;
        let entries = self.current().entries(variable);
        let guard = entries.guards.last().map(|(serial, _)| *serial);
        let previous = entries.top();
        self.put(variable, if entry == Entry::Hidden && !hides { Entry::Absent } else { entry });
        TokenModel { variable, previous, frame, guard }
    }

    /// Changes the newest entry, to exactly this.
    pub fn put(&mut self, variable: usize, entry: Entry) {
        let entries = self.current().entries(variable);
        *entries.guards.last_mut().map_or(&mut entries.base, |(_, top)| top) = entry;
    }

    pub fn judge(&mut self, token: &TokenModel) -> Verdict {
        if self.entered.last() != Some(&token.frame) {
            return Verdict::WrongContext;
        }
        let Some(guard) = token.guard else { return Verdict::Fine };
        let covers = self.current().variables.entry(token.variable).or_default();
        if let Some(home) = covers.iter_mut().find(|entries| entries.has(guard)) {
            home.settle();
        }
        if self.current().entries(token.variable).has(guard) {
            Verdict::Fine
        } else if self.current().variables[&token.variable].iter().any(|entries| entries.has(guard)) {
            Verdict::Covered
        } else {
            Verdict::Stale
        }
    }

    pub fn bind(&mut self, variable: usize, value: u64) -> GuardModel {
        let frame = *self.entered.last().unwrap();
        let serial = self.next();
        let entries = self.current().entries(variable);
        entries.settle();
        entries.guards.push((serial, Entry::Bound(value)));
        GuardModel { variable, frame, serial }
    }

    pub fn unbind(&mut self, guard: GuardModel) {
        if self.entered.last() != Some(&guard.frame) {
            return;
        }
        for entries in self.current().variables.entry(guard.variable).or_default() {
            entries.guards.retain(|(serial, _)| *serial != guard.serial);
        }
    }

    pub fn cover(&mut self, variable: usize, entries: Entries) {
        self.current().entries(variable);
        self.current().variables.get_mut(&variable).unwrap().push(entries);
    }

    pub fn uncover(&mut self, variable: usize) -> Entries {
        self.current().variables.get_mut(&variable).unwrap().pop().unwrap()
    }

    /// The values that should be alive, given where else they are held.
    pub fn living(&self, mut reached: Vec<u64>) -> usize {
        let entries = self.frames.values().flat_map(|frame| frame.variables.values().flatten());
        reached.extend(entries.flat_map(Entries::values));
        reached.extend(self.held.iter().flat_map(|map| map.values()));
        let mut living = BTreeSet::new();
        while let Some(serial) = reached.pop() {
            if living.insert(serial) {
                reached.extend(self.holds.get(&serial).into_iter().flat_map(|map| map.values()));
            }
        }
        living.len()
    }
}
