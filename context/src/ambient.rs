//! Foreign ambient state that travels with tasks.
//!
//! What an ambient state captures lies in a [`Place`] of the task, without a type: up to
//! [`ROOM`] bytes in the place itself, more behind a pointer. Beside it stands the ambient state,
//! which knows the type.

use std::fmt;
use std::mem::MaybeUninit;
use std::panic::Location;

/// A foreign ambient state that is to follow tasks: tracing's current span, an OpenTelemetry
/// context, the locale of a C library.
///
/// An executor captures it at the spawn call, on the thread that spawns, and puts it around each
/// poll of the task and around its drop. So what a task gets is its *spawner's*, also where the
/// task is given another [context](crate::Context): a context holds no ambient states. If that
/// other context is to bring its ambient state along, put it in force around the spawn call, or
/// keep it in a variable with an [`on_change`](crate::VarOptions::on_change) hook.
///
/// What is captured has a type, [`State`](Self::State), and is stored with the task: up to five
/// words cost no allocation. An ambient state speaks for a thread-local, which is there for the
/// whole program; so it is itself a `static`, or a constant such as `&Locale`, and tasks count no
/// references to it.
///
/// # Crossings
///
/// | [`CrossingKind`] | what is polled | where | goes along by default |
/// | --- | --- | --- | --- |
/// | `Task` | a spawned task; in eager code, on the spawner's thread | any worker | yes |
/// | `Background` | a task without an owner | any worker | no |
/// | `Local` | a task of a local set | the thread that runs the set, inside what is in force there | yes |
/// | `Blocking` | a blocking closure | the blocking pool | yes |
/// | `BlockOn` | the future of a `block_on` | the caller's thread, where the state is in force already | no |
/// | `Eager` | the future of an eager call | likewise | no |
///
/// # Examples
///
/// ```
/// # use heirloom_context::internal::heirloom;
/// use std::cell::Cell;
/// use heirloom::context::{Ambient, Ambients, Crossing, CrossingKind};
///
#[doc = include_str!("ambient/locale.rs")]
///
/// let mut ambients = Ambients::new();
/// ambients.push(&Locale);
///
/// LOCALE.set("fr");
/// let mut captured = ambients.capture(&Crossing::new(CrossingKind::Task));
/// LOCALE.set("de");
/// assert_eq!(captured.around(|| LOCALE.get()), "fr");
/// assert_eq!(LOCALE.get(), "de");
/// ```
#[doc(alias = "ThreadContextElement")]
#[doc(alias = "ThreadLocalAccessor")]
#[doc(alias = "ContextPropagator")]
pub trait Ambient: Sync + 'static {
    /// What is stored with a task.
    type State: Send + 'static;

    /// The state as it is on this thread, now; `None` if nothing is in force that would have to go
    /// along. Called once for each crossing of a kind that this state [goes
    /// with](Self::goes_with).
    fn capture(&self, crossing: &Crossing<'_>) -> Option<Self::State>;

    /// Calls `f` once with the captured state in force, and puts back what was in force before,
    /// also when `f` panics.
    ///
    /// The executor's own question for the running task has its answer here already: under
    /// Heirloom, `heirloom::task::current()` is the task that is polled or dropped.
    fn around(&self, state: &mut Self::State, f: &mut dyn FnMut());

    /// Whether the state goes along with crossings of this kind. The executor asks once for each
    /// kind, when the ambient state is [added](Ambients::push).
    ///
    /// The default is right for a span or a locale, which belong to the request: it goes with tasks
    /// and blocking closures. It stays behind where a background task starts, which has nothing of
    /// the request that happened to start it; and a call that polls a future on the caller's own
    /// thread is inside the state as it is.
    fn goes_with(&self, kind: CrossingKind) -> bool {
        matches!(kind, CrossingKind::Task | CrossingKind::Local | CrossingKind::Blocking)
    }
}

/// What an ambient state is captured for. The [table](Ambient#crossings) says more of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CrossingKind {
    /// A spawned task.
    Task,
    /// A task without an owner.
    Background,
    /// A task that stays on its thread.
    Local,
    /// A blocking closure.
    Blocking,
    /// The future of a `block_on`, which is no task.
    BlockOn,
    /// The future of an eager call, which is no task.
    Eager,
}

/// Why a state is captured, and for which task.
///
/// A task has no identity yet when its spawner captures; [`Ambient::around`] can ask for it.
#[derive(Clone, Copy, Debug)]
pub struct Crossing<'a> {
    kind: CrossingKind,
    name: Option<&'a str>,
    spawned_at: &'static Location<'static>,
}

impl<'a> Crossing<'a> {
    /// A crossing at the place of the caller, of a task without a name.
    #[track_caller]
    pub fn new(kind: CrossingKind) -> Self {
        Crossing::at(kind, Location::caller())
    }

    /// A crossing at another place.
    pub fn at(kind: CrossingKind, spawned_at: &'static Location<'static>) -> Self {
        Crossing { kind, name: None, spawned_at }
    }

    /// The same of a task that has a name, if it is one.
    #[must_use]
    pub fn named(self, name: Option<&'a str>) -> Self {
        Crossing { name, ..self }
    }

    /// What crosses.
    pub fn kind(&self) -> CrossingKind {
        self.kind
    }

    /// The task's name.
    pub fn name(&self) -> Option<&'a str> {
        self.name
    }

    /// The place of the spawn, or of the call.
    pub fn spawned_at(&self) -> &'static Location<'static> {
        self.spawned_at
    }
}

/// The ambient states of a runtime, in the order in which they were added.
#[derive(Clone, Default)]
pub struct Ambients {
    list: Vec<Added>,
}

#[derive(Clone, Copy)]
struct Added {
    ambient: &'static dyn Erased,
    kinds: Kinds,
}

/// A set of kinds.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Kinds(u8);

impl Kinds {
    const ALL: [CrossingKind; 6] = [
        CrossingKind::Task,
        CrossingKind::Background,
        CrossingKind::Local,
        CrossingKind::Blocking,
        CrossingKind::BlockOn,
        CrossingKind::Eager,
    ];

    const fn of(kind: CrossingKind) -> Kinds {
        Kinds(1 << kind as u8)
    }

    const fn has(self, kind: CrossingKind) -> bool {
        self.0 & Kinds::of(kind).0 != 0
    }
}

impl Ambients {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one, inside the others.
    pub fn push<A: Ambient>(&mut self, ambient: &'static A) {
        let with = Kinds::ALL.into_iter().filter(|kind| ambient.goes_with(*kind));
        let kinds = Kinds(with.fold(0, |kinds, kind| kinds | Kinds::of(kind).0));
        self.list.push(Added { ambient, kinds });
    }

    /// Whether there is none, so that there is nothing to capture.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether one goes with crossings of this kind.
    #[inline]
    pub fn go_with(&self, kind: CrossingKind) -> bool {
        self.list.iter().any(|added| added.kinds.has(kind))
    }

    /// Captures, on this thread, all that go with such a crossing. A panic in one reaches the
    /// caller.
    #[inline]
    pub fn capture(&self, crossing: &Crossing<'_>) -> AmbientSnapshot {
        match &self.list[..] {
            [] => AmbientSnapshot::empty(),
            [one] if one.kinds.has(crossing.kind) => AmbientSnapshot(one.ambient.capture(crossing)),
            [_] => AmbientSnapshot::empty(),
            all => Several::capture_all(all, crossing),
        }
    }
}

impl fmt::Debug for Ambients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ambients").field("len", &self.list.len()).finish()
    }
}

/// What [`Ambients::capture`] has captured: one for each task.
pub struct AmbientSnapshot(Option<Captured>);

impl AmbientSnapshot {
    /// Nothing, as for a task whose runtime has no ambient states.
    #[inline]
    pub const fn empty() -> Self {
        AmbientSnapshot(None)
    }

    /// Whether nothing was captured, so that [`around`](Self::around) does nothing of its own.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Calls `f` with all captured states in force, the first one outermost.
    ///
    /// # Panics
    /// If `f` does; or if an ambient breaks its contract by not calling what it was given exactly
    /// once.
    #[inline]
    pub fn around<R>(&mut self, f: impl FnOnce() -> R) -> R {
        let Some(captured) = &mut self.0 else { return f() };
        let mut f = Some(f);
        let mut result = None;
        captured.around(&mut || {
            let f = f.take().expect("an ambient must call its closure once, not twice");
            result = Some(f());
        });
        result.expect("an ambient must call its closure")
    }
}

impl fmt::Debug for AmbientSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AmbientSnapshot").field("is_empty", &self.is_empty()).finish()
    }
}

/// Several states as one, whose state is a list of theirs. One is the rule, and needs no list, which
/// is an allocation for each task.
struct Several;

impl Several {
    #[inline(never)]
    fn capture_all(all: &[Added], crossing: &Crossing<'_>) -> AmbientSnapshot {
        let go = all.iter().filter(|added| added.kinds.has(crossing.kind));
        let list: Box<[Captured]> = go.filter_map(|added| added.ambient.capture(crossing)).collect();
        let taken = (!list.is_empty()).then(|| Captured { ambient: &Several, state: Place::of(list) });
        AmbientSnapshot(taken)
    }
}

impl Ambient for Several {
    type State = Box<[Captured]>;

    /// It is not added anywhere: [`Several::capture_all`] has the list.
    fn capture(&self, _: &Crossing<'_>) -> Option<Box<[Captured]>> {
        None
    }

    fn around(&self, list: &mut Box<[Captured]>, f: &mut dyn FnMut()) {
        fn nest(list: &mut [Captured], f: &mut dyn FnMut()) {
            match list {
                [] => f(),
                [first, rest @ ..] => first.around(&mut || nest(rest, f)),
            }
        }
        nest(list, f);
    }
}

/// A state, and the ambient state that has captured it.
struct Captured {
    ambient: &'static dyn Erased,
    state: Place,
}

impl Captured {
    #[inline]
    fn around(&mut self, f: &mut dyn FnMut()) {
        // SAFETY: `capture` of this ambient state has filled the place, and `drop` alone empties
        // it.
        unsafe { self.ambient.around(&mut self.state, f) }
    }
}

impl Drop for Captured {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: as in `around`; the place is not used after this.
        unsafe { self.ambient.clear(&mut self.state) }
    }
}

/// An [`Ambient`] without the type of its state.
trait Erased: Sync {
    fn capture(&'static self, crossing: &Crossing<'_>) -> Option<Captured>;

    /// # Safety
    /// This ambient state has filled the place.
    unsafe fn around(&self, state: &mut Place, f: &mut dyn FnMut());

    /// Drops the state.
    ///
    /// # Safety
    /// This ambient state has filled the place, which is not used after the call.
    unsafe fn clear(&self, state: &mut Place);
}

impl<A: Ambient> Erased for A {
    #[inline]
    fn capture(&'static self, crossing: &Crossing<'_>) -> Option<Captured> {
        let state = Place::of(Ambient::capture(self, crossing)?);
        Some(Captured { ambient: self, state })
    }

    #[inline]
    unsafe fn around(&self, state: &mut Place, f: &mut dyn FnMut()) {
        // SAFETY: `capture` has made the place of this type.
        Ambient::around(self, unsafe { &mut *state.pointer::<A::State>() }, f);
    }

    #[inline]
    unsafe fn clear(&self, state: &mut Place) {
        // SAFETY: `capture` has made the place of this type; the caller does not use it again, so
        // the state is dropped once.
        unsafe {
            let pointer = state.pointer::<A::State>();
            if Place::fits::<A::State>() { pointer.drop_in_place() } else { drop(Box::from_raw(pointer)) }
        }
    }
}

/// The words of a place: as many as a span of `tracing` has.
const WORDS: usize = 5;
/// The bytes of a place.
const ROOM: usize = WORDS * size_of::<usize>();

/// A state of a type that the place does not know, or a pointer to a box with one.
///
/// What is stored is `Send`, and is reached through `&mut` alone: so a place may change threads, and
/// a shared reference to it reaches nothing.
struct Place(MaybeUninit<[usize; WORDS]>);

impl Place {
    const fn fits<S>() -> bool {
        size_of::<S>() <= ROOM && align_of::<S>() <= align_of::<usize>()
    }

    #[inline]
    fn of<S: Send + 'static>(state: S) -> Place {
        let mut place = Place(MaybeUninit::uninit());
        // SAFETY: the place is large enough and aligned for what is written, which is a state that
        // fits or a pointer.
        unsafe {
            if Self::fits::<S>() {
                place.0.as_mut_ptr().cast::<S>().write(state);
            } else {
                place.0.as_mut_ptr().cast::<*mut S>().write(Box::into_raw(Box::new(state)));
            }
        }
        place
    }

    /// The state.
    ///
    /// # Safety
    /// The place was made of this type.
    #[inline]
    unsafe fn pointer<S>(&mut self) -> *mut S {
        let place = self.0.as_mut_ptr();
        // SAFETY: `of` has written a pointer if the state does not fit.
        if Self::fits::<S>() { place.cast() } else { unsafe { place.cast::<*mut S>().read() } }
    }
}

// Each task of a runtime with ambient states has one.
const _: () = assert!(size_of::<AmbientSnapshot>() == ROOM + size_of::<&dyn Erased>());
