//! The variables, and values that are counted while a context holds them.

use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use heirloom_context::{Context, ContextVar, WithDefault, context_var};

/// How many values contexts hold.
pub static LIVING: AtomicI64 = AtomicI64::new(0);
/// The serial of the next value.
pub static NEXT: AtomicU64 = AtomicU64::new(1);

pub struct Value {
    pub serial: u64,
    /// Of a derived value, what it was derived from.
    pub parent: u64,
    holds: Context,
    counted: bool,
}

impl Value {
    pub fn new(parent: u64, holds: Context) -> Value {
        LIVING.fetch_add(1, Relaxed);
        Value { serial: NEXT.fetch_add(1, Relaxed), parent, holds, counted: true }
    }

    fn uncounted(serial: u64) -> Value {
        Value { serial, parent: 0, holds: Context::empty(), counted: false }
    }

    pub fn child(&self) -> Option<Value> {
        Value::has_child(self.serial).then(|| Value::new(self.serial, self.holds.clone()))
    }

    pub fn has_child(serial: u64) -> bool {
        !serial.is_multiple_of(3)
    }
}

impl Clone for Value {
    fn clone(&self) -> Value {
        Value::uncounted(self.serial)
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        if self.counted {
            LIVING.fetch_sub(1, Relaxed);
            assert!(Context::current().is_empty(), "a destructor runs in an empty context");
            PLAIN[0].set(Value::uncounted(1));
            let _binding = PLAIN[1].bind(Value::uncounted(2));
            drop(Context::current());
        }
    }
}

context_var! {
    static HOOKED_0: Value, on_change = mirror::<0>;
    static HOOKED_1: Value, on_change = mirror::<1>;
    static NEVER_0: Value, inherit = Never;
    static NEVER_1: Value, inherit = Never, on_change = mirror::<3>;
    static DERIVED_0: Value, inherit = Derive(Value::child);
    static DERIVED_1: Value, inherit = Derive(Value::child);
    static DEFAULT_0: Value = Value::uncounted(0);
    static DEFAULT_1: Value = Value::uncounted(0), inherit = Never;
}

/// Enough to make contexts large.
static PLAIN: [ContextVar<Value>; 128] = [const { ContextVar::new("PLAIN") }; 128];

pub const VARIABLES: usize = 8 + PLAIN.len();
pub const HOOKED: [usize; 3] = [0, 1, 3];
pub const NEVER: [usize; 3] = [2, 3, 7];
pub const DERIVED: [usize; 2] = [4, 5];
pub const DEFAULT: [usize; 2] = [6, 7];

/// A variable, of one of the two types that there are.
pub enum Variable {
    Plain(&'static ContextVar<Value>),
    WithDefault(&'static ContextVar<Value, WithDefault<Value>>),
}

pub fn variable(number: usize) -> Variable {
    Variable::Plain(match number {
        0 => &HOOKED_0,
        1 => &HOOKED_1,
        2 => &NEVER_0,
        3 => &NEVER_1,
        4 => &DERIVED_0,
        5 => &DERIVED_1,
        6 => return Variable::WithDefault(&DEFAULT_0),
        7 => return Variable::WithDefault(&DEFAULT_1),
        plain => &PLAIN[plain - 8],
    })
}

/// The expression with `$variable` as the variable of this number, of either type.
macro_rules! with_variable {
    ($number:expr, $variable:ident => $body:expr) => {
        match $crate::value::variable($number) {
            $crate::value::Variable::Plain($variable) => $body,
            $crate::value::Variable::WithDefault($variable) => $body,
        }
    };
}
pub(crate) use with_variable;

/// Calls `f` with what the variable reads as.
pub fn read<R>(number: usize, f: impl FnOnce(Option<&Value>) -> R) -> R {
    match variable(number) {
        Variable::Plain(variable) => variable.with(f),
        Variable::WithDefault(variable) => variable.with(|value| f(Some(value))),
    }
}

thread_local! {
    /// What the hooks have said that this thread sees; zero: nothing.
    pub static MIRROR: [Cell<u64>; 4] = const { [const { Cell::new(0) }; 4] };
}

fn mirror<const NUMBER: usize>(previous: Option<&Value>, current: Option<&Value>) {
    let serial = |value: Option<&Value>| value.map_or(0, |value| value.serial);
    MIRROR.with(|mirror| {
        let before = mirror[NUMBER].replace(serial(current));
        assert_eq!(before, serial(previous), "a hook is told every change");
    });
}
