//! Foreign ambient state that travels with tasks.
#![forbid(unsafe_code)]

use std::any::Any;
use std::fmt;
use std::slice;
use std::sync::Arc;

/// What an [`Ambient`] has captured.
pub type Captured = Box<dyn Any + Send + Sync>;

/// A foreign ambient state that is to follow tasks: tracing's current span, an OpenTelemetry
/// context, a tokio runtime handle.
///
/// An executor captures it at the spawn call, on the thread that spawns, and puts it around each
/// poll of the task and around its drop. So what a task gets is its *spawner's*, also where the
/// task is given another [context](crate::Context): a context holds no ambient states. If that
/// other context is to bring its ambient state along, put it in force around the spawn call, or
/// keep it in a variable with an [`on_change`](crate::VarOptions::on_change) hook.
///
/// # Examples
///
/// ```
/// # use heirloom_context::internal::heirloom;
/// use std::cell::Cell;
/// use std::sync::Arc;
/// use heirloom::context::{Ambient, Ambients, Captured};
///
#[doc = include_str!("ambient/locale.rs")]
///
/// let mut ambients = Ambients::new();
/// ambients.push(Arc::new(Locale));
///
/// LOCALE.set("fr");
/// let captured = ambients.capture();
/// LOCALE.set("de");
/// assert_eq!(captured.around(|| LOCALE.get()), "fr");
/// assert_eq!(LOCALE.get(), "de");
/// ```
#[doc(alias = "ThreadContextElement")]
#[doc(alias = "ThreadLocalAccessor")]
pub trait Ambient: Send + Sync + 'static {
    /// The state as it is on this thread, now.
    fn capture(&self) -> Captured;

    /// Calls `f` once with the captured state in force, and puts back what was in force before,
    /// also when `f` panics.
    fn around(&self, captured: &Captured, f: &mut dyn FnMut());

    /// Whether the state also goes with background tasks, which have nothing of the request that
    /// happened to start them.
    ///
    /// No, unless this says otherwise: right for a span or a locale, which belong to the request.
    /// Say yes for what belongs to the program, such as a handle of another runtime. The executor
    /// asks when the ambient state is added.
    fn in_background(&self) -> bool {
        false
    }
}

/// The ambient states of a runtime, in the order in which they were added.
#[derive(Clone, Default)]
pub struct Ambients {
    list: Arc<Vec<Arc<dyn Ambient>>>,
}

impl Ambients {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one, inside the others. What was captured before does not change.
    pub fn push(&mut self, ambient: Arc<dyn Ambient>) {
        Arc::make_mut(&mut self.list).push(ambient);
    }

    /// Whether there is none, so that there is nothing to capture.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Captures all of them on this thread. A panic in one reaches the caller.
    pub fn capture(&self) -> AmbientSnapshot {
        AmbientSnapshot(match &self.list[..] {
            [] => Taken::Nothing,
            [one] => Taken::One(Arc::clone(one), one.capture()),
            all => Taken::All(Arc::clone(&self.list), all.iter().map(|ambient| ambient.capture()).collect()),
        })
    }
}

impl fmt::Debug for Ambients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ambients").field("len", &self.list.len()).finish()
    }
}

/// What [`Ambients::capture`] has captured.
pub struct AmbientSnapshot(Taken);

/// One state is the rule: it needs no list of its own, which would be one allocation more for each
/// task.
enum Taken {
    Nothing,
    One(Arc<dyn Ambient>, Captured),
    All(Arc<Vec<Arc<dyn Ambient>>>, Box<[Captured]>),
}

impl AmbientSnapshot {
    /// The ambient states, and what was captured of each.
    fn parts(&self) -> (&[Arc<dyn Ambient>], &[Captured]) {
        match &self.0 {
            Taken::Nothing => (&[], &[]),
            Taken::One(ambient, captured) => (slice::from_ref(ambient), slice::from_ref(captured)),
            Taken::All(list, captured) => (list, captured),
        }
    }

    /// Calls `f` with all captured states in force, the first one outermost.
    ///
    /// # Panics
    /// If `f` does; or if an ambient breaks its contract by not calling what it was given exactly
    /// once.
    #[inline]
    pub fn around<R>(&self, f: impl FnOnce() -> R) -> R {
        if let Taken::Nothing = self.0 {
            return f();
        }
        let mut f = Some(f);
        let mut result = None;
        nest(self.parts(), &mut || {
            let f = f.take().expect("an ambient must call its closure once, not twice");
            result = Some(f());
        });
        result.expect("an ambient must call its closure")
    }
}

fn nest(parts: (&[Arc<dyn Ambient>], &[Captured]), f: &mut dyn FnMut()) {
    match parts {
        ([ambient, list @ ..], [captured, rest @ ..]) => {
            ambient.around(captured, &mut || nest((list, rest), f));
        }
        _ => f(),
    }
}

impl fmt::Debug for AmbientSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AmbientSnapshot").field("len", &self.parts().1.len()).finish()
    }
}
