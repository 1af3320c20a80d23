//! Foreign ambient state that travels with tasks.
#![forbid(unsafe_code)]

use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// What an [`Ambient`] has captured.
pub type Captured = Box<dyn Any + Send + Sync>;

/// A foreign ambient state that is to follow tasks: tracing's current span, an OpenTelemetry context, a tokio runtime
/// handle.
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
/// use std::cell::Cell;
/// use std::sync::Arc;
/// use heirloom_context::{Ambient, Ambients, Captured};
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
pub trait Ambient: Send + Sync + 'static {
    /// The state as it is on this thread, now.
    fn capture(&self) -> Captured;

    /// Calls `f` once with the captured state in force, and puts back what was in force before, also when `f` panics.
    fn around(&self, captured: &Captured, f: &mut dyn FnMut());
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
        let captured = self.list.iter().map(|ambient| ambient.capture()).collect();
        AmbientSnapshot { list: Arc::clone(&self.list), captured }
    }
}

impl fmt::Debug for Ambients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ambients").field("len", &self.list.len()).finish()
    }
}

/// What [`Ambients::capture`] has captured.
pub struct AmbientSnapshot {
    list: Arc<Vec<Arc<dyn Ambient>>>,
    captured: Vec<Captured>,
}

impl AmbientSnapshot {
    /// Calls `f` with all captured states in force, the first one outermost.
    ///
    /// # Panics
    /// If `f` does; or if an ambient breaks its contract by not calling what it was given exactly once.
    pub fn around<R>(&self, f: impl FnOnce() -> R) -> R {
        let mut f = Some(f);
        let mut result = None;
        self.nest(0, &mut || {
            let f = f.take().expect("an ambient must call its closure once, not twice");
            result = Some(f());
        });
        result.expect("an ambient must call its closure")
    }

    fn nest(&self, level: usize, f: &mut dyn FnMut()) {
        match (self.list.get(level), self.captured.get(level)) {
            (Some(ambient), Some(captured)) => ambient.around(captured, &mut || self.nest(level + 1, f)),
            _ => f(),
        }
    }
}

impl fmt::Debug for AmbientSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AmbientSnapshot").field("len", &self.captured.len()).finish()
    }
}
