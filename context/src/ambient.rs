//! Foreign ambient state that travels with tasks.
//!
//! What an ambient state captures lies in a [`Place`] of the task, without a type: up to
//! [`ROOM`] bytes in the place itself, more behind a pointer. Beside it stands the ambient state,
//! which knows the type. The guard of a poll lies in a second place, on the stack.

use std::fmt;
use std::marker::PhantomData;
use std::mem::{MaybeUninit, needs_drop};
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
/// use heirloom::context::{Ambient, AmbientSnapshot, Ambients, Crossing, CrossingKind};
///
#[doc = include_str!("ambient/locale.rs")]
///
/// let mut ambients = Ambients::new();
/// ambients.push(&Locale);
///
/// LOCALE.set("fr");
/// let mut captured = AmbientSnapshot::empty();
/// ambients.capture_into(&mut captured, &Crossing::new(CrossingKind::Task));
/// LOCALE.set("de");
/// {
///     let _entered = captured.enter();
///     assert_eq!(LOCALE.get(), "fr");
/// }
/// assert_eq!(LOCALE.get(), "de");
/// ```
#[doc(alias = "ThreadContextElement")]
#[doc(alias = "ThreadLocalAccessor")]
#[doc(alias = "ContextPropagator")]
pub trait Ambient: Sync + 'static {
    /// What is stored with a task.
    type State: Send + 'static;

    /// What keeps the state in force.
    type Guard<'a>;

    /// The state as it is on this thread, now; `None` if nothing is in force that would have to go
    /// along. Called once for each crossing of a kind that this state [goes
    /// with](Self::goes_with).
    fn capture(&self, crossing: &Crossing<'_>) -> Option<Self::State>;

    /// Puts the captured state in force on this thread, until the guard is dropped. The guard puts
    /// back what was in force before. The executor drops it on this thread, after each poll and
    /// after the drop of the task, also when they panic.
    ///
    /// Under Heirloom, `heirloom::task::current()` is the task that is polled or dropped, if it is
    /// one.
    ///
    /// # Panics
    /// A panic of this method or of the guard's destructor counts as one of the task.
    fn enter<'a>(&self, state: &'a mut Self::State) -> Self::Guard<'a>;

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
/// A task has no identity yet when its spawner captures; [`Ambient::enter`] can ask for it.
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
    first: Option<Added>,
    more: Vec<Added>,
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
        let added = Added { ambient, kinds };
        match &self.first {
            None => self.first = Some(added),
            Some(_) => self.more.push(added),
        }
    }

    /// Whether there is none, so that there is nothing to capture.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Whether one goes with crossings of this kind.
    #[inline]
    pub fn go_with(&self, kind: CrossingKind) -> bool {
        self.all().any(|added| added.kinds.has(kind))
    }

    /// Captures, on this thread, all that go with such a crossing, in place of what `snapshot`
    /// held. A panic in one reaches the caller.
    ///
    /// The states are written where they stay, with the task.
    #[inline]
    pub fn capture_into(&self, snapshot: &mut AmbientSnapshot, crossing: &Crossing<'_>) {
        snapshot.0 = None;
        match self.first {
            _ if !self.more.is_empty() => Several::capture_into(&mut snapshot.0, self, crossing),
            Some(one) if one.kinds.has(crossing.kind) => one.ambient.capture_into(&mut snapshot.0, crossing),
            _ => {}
        }
    }

    fn all(&self) -> impl Iterator<Item = &Added> {
        self.first.iter().chain(&self.more)
    }
}

impl fmt::Debug for Ambients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ambients").field("len", &self.all().count()).finish()
    }
}

/// What [`Ambients::capture_into`] has captured: one for each task.
pub struct AmbientSnapshot(Option<Captured>);

impl AmbientSnapshot {
    /// Nothing, as for a task whose runtime has no ambient states, and before the capture.
    #[inline]
    pub const fn empty() -> Self {
        AmbientSnapshot(None)
    }

    /// Whether nothing was captured, so that [`enter`](Self::enter) does nothing.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Puts all captured states in force on this thread, the first one first, until the guard is
    /// dropped.
    ///
    /// # Panics
    /// If an ambient state does.
    #[inline]
    pub fn enter(&mut self) -> AmbientGuard<'_> {
        let mut guard = Place::empty();
        let leave = self.0.as_mut().and_then(|captured| captured.enter(&mut guard));
        AmbientGuard { leave, guard, state: PhantomData }
    }
}

impl fmt::Debug for AmbientSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AmbientSnapshot").field("is_empty", &self.is_empty()).finish()
    }
}

/// The captured states are in force on this thread until this is dropped; made by
/// [`AmbientSnapshot::enter`]. Guards are dropped in the reverse order of their making.
#[must_use = "dropping it puts back at once what was in force before"]
pub struct AmbientGuard<'a> {
    leave: Option<Leave>,
    guard: Place,
    /// The guard may borrow the state, and belongs to this thread.
    state: PhantomData<(&'a mut AmbientSnapshot, *const ())>,
}

impl Drop for AmbientGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(leave) = self.leave {
            // SAFETY: `enter` has filled the place, and has returned the function for it; it is
            // called once.
            unsafe { leave(&mut self.guard) }
        }
    }
}

impl fmt::Debug for AmbientGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AmbientGuard").finish_non_exhaustive()
    }
}

/// Several states as one, whose state is a list of theirs. One is the rule, and needs no list,
/// which is an allocation for each task.
struct Several;

/// One of several states. The guard is there while the state is in force.
struct Member {
    captured: Captured,
    guard: Place,
    leave: Option<Leave>,
}

impl Several {
    #[inline(never)]
    fn capture_into(place: &mut Option<Captured>, ambients: &Ambients, crossing: &Crossing<'_>) {
        let go = ambients.all().filter(|added| added.kinds.has(crossing.kind));
        let captured = go.filter_map(|added| {
            let mut captured = None;
            added.ambient.capture_into(&mut captured, crossing);
            captured
        });
        let members: Box<[Member]> =
            captured.map(|captured| Member { captured, guard: Place::empty(), leave: None }).collect();
        let any = !members.is_empty();
        *place = any.then(|| Captured { ambient: &Several, state: Place::of(members) });
    }
}

/// The first so many members of a list are in force until this is dropped.
///
/// The guard of a member borrows the state of the member. So no reference to a whole member is made
/// meanwhile, only references to its other fields.
struct GuardOfMembers<'a>(*mut Member, usize, PhantomData<&'a mut [Member]>);

impl Drop for GuardOfMembers<'_> {
    fn drop(&mut self) {
        let Some(last) = self.1.checked_sub(1) else { return };
        // The others are left also if the last one's guard panics.
        let _others = GuardOfMembers(self.0, last, PhantomData);
        // SAFETY: the list is borrowed for as long as this guard, and `last` is below its length.
        // `enter` of this member has filled the place, and has returned the function, which is
        // called once.
        unsafe {
            let member = self.0.add(last);
            if let Some(leave) = (*member).leave.take() {
                leave(&mut (*member).guard);
            }
        }
    }
}

impl Ambient for Several {
    type State = Box<[Member]>;
    type Guard<'a> = GuardOfMembers<'a>;

    /// It is not added anywhere: [`Several::capture_into`] makes the list.
    fn capture(&self, _: &Crossing<'_>) -> Option<Box<[Member]>> {
        None
    }

    fn enter<'a>(&self, members: &'a mut Box<[Member]>) -> GuardOfMembers<'a> {
        let (first, count) = (members.as_mut_ptr(), members.len());
        let mut entered = GuardOfMembers(first, 0, PhantomData);
        for index in 0..count {
            // SAFETY: below the length of the list, which is borrowed for as long as the guard; no
            // guard of this member is there yet.
            unsafe {
                let member = first.add(index);
                (*member).leave = (*member).captured.enter(&mut (*member).guard);
            }
            entered.1 += 1;
        }
        entered
    }
}

/// A state, and the ambient state that has captured it.
struct Captured {
    ambient: &'static dyn Erased,
    state: Place,
}

impl Captured {
    #[inline]
    fn enter(&mut self, guard: &mut Place) -> Option<Leave> {
        // SAFETY: `capture` of this ambient state has filled the place, and `drop` alone empties
        // it.
        unsafe { self.ambient.enter(&mut self.state, guard) }
    }
}

impl Drop for Captured {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: as in `enter`; the place is not used after this.
        unsafe { self.ambient.clear(&mut self.state) }
    }
}

/// An [`Ambient`] without the type of its state.
trait Erased: Sync {
    /// Captures the state, if there is one, into a place that is empty.
    fn capture_into(&'static self, place: &mut Option<Captured>, crossing: &Crossing<'_>);

    /// Fills the place of the guard, and returns how to drop the guard; `None` if it need not be.
    ///
    /// # Safety
    /// This ambient state has filled the place of the state, which is neither used nor moved before
    /// the guard is dropped.
    unsafe fn enter(&self, state: &mut Place, guard: &mut Place) -> Option<Leave>;

    /// Drops the state.
    ///
    /// # Safety
    /// This ambient state has filled the place, which is not used after the call.
    unsafe fn clear(&self, state: &mut Place);
}

impl<A: Ambient> Erased for A {
    #[inline]
    fn capture_into(&'static self, place: &mut Option<Captured>, crossing: &Crossing<'_>) {
        if let Some(state) = Ambient::capture(self, crossing) {
            let empty = place.replace(Captured { ambient: self, state: Place::of(state) });
            // Without a look whether it is.
            std::mem::forget(empty);
        }
    }

    #[inline]
    unsafe fn enter(&self, state: &mut Place, guard: &mut Place) -> Option<Leave> {
        // SAFETY: `capture` has made the place of this type. The caller keeps the state where it is
        // until the guard is dropped.
        let entered = Ambient::enter(self, unsafe { &mut *state.pointer::<A::State>() });
        if !needs_drop::<A::Guard<'_>>() {
            return None;
        }
        *guard = Place::of(entered);
        Some(clear::<A::Guard<'_>>)
    }

    #[inline]
    unsafe fn clear(&self, state: &mut Place) {
        // SAFETY: `capture` has made the place of this type.
        unsafe { clear::<A::State>(state) }
    }
}

/// Drops the guard in a place.
type Leave = unsafe fn(&mut Place);

/// Drops what is in a place.
///
/// # Safety
/// The place was made of this type, and is not used after the call.
unsafe fn clear<T>(place: &mut Place) {
    // SAFETY: the place was made of this type; the caller does not use it again, so the value is
    // dropped once.
    unsafe {
        let pointer = place.pointer::<T>();
        if Place::fits::<T>() { pointer.drop_in_place() } else { drop(Box::from_raw(pointer)) }
    }
}

/// The words of a place: as many as a span of `tracing` has.
const WORDS: usize = 5;
/// The bytes of a place.
const ROOM: usize = WORDS * size_of::<usize>();

/// A value of a type that the place does not know, or a pointer to a box with one; or nothing.
///
/// A state is `Send`, a guard stays on its thread, and both are reached through `&mut` alone. So a
/// snapshot may change threads, and a shared reference to one reaches nothing.
struct Place(MaybeUninit<[usize; WORDS]>);

impl Place {
    const fn fits<T>() -> bool {
        size_of::<T>() <= ROOM && align_of::<T>() <= align_of::<usize>()
    }

    #[inline]
    fn empty() -> Place {
        Place(MaybeUninit::uninit())
    }

    #[inline]
    fn of<T>(value: T) -> Place {
        let mut place = Place::empty();
        // SAFETY: the place is large enough and aligned for what is written, which is a value that
        // fits or a pointer.
        unsafe {
            if Self::fits::<T>() {
                place.0.as_mut_ptr().cast::<T>().write(value);
            } else {
                place.0.as_mut_ptr().cast::<*mut T>().write(Box::into_raw(Box::new(value)));
            }
        }
        place
    }

    /// The value.
    ///
    /// # Safety
    /// The place was made of this type.
    #[inline]
    unsafe fn pointer<T>(&mut self) -> *mut T {
        let place = self.0.as_mut_ptr();
        // SAFETY: `of` has written a pointer if the value does not fit.
        if Self::fits::<T>() { place.cast() } else { unsafe { place.cast::<*mut T>().read() } }
    }
}

// Each task of a runtime with ambient states has one.
const _: () = assert!(size_of::<AmbientSnapshot>() == ROOM + size_of::<&dyn Erased>());
