//! Context variables in the records of `log`.
//!
//! ```
//! # use heirloom_context::internal::heirloom;
//! use heirloom::context::LogVars;
//! use heirloom::context_var;
//! use log::{Log, Metadata, Record};
//!
//! context_var! { static REQUEST: u64, debug = Debug; }
//!
//! /// Any logger that writes the key-values of a record.
//! struct Printer;
//!
//! impl Log for Printer {
//!     fn enabled(&self, _: &Metadata<'_>) -> bool {
//!         true
//!     }
//!     fn log(&self, record: &Record<'_>) {
//!         let request = record.key_values().get("REQUEST".into()).expect("set below");
//!         assert_eq!(request.to_string(), "7");
//!     }
//!     fn flush(&self) {}
//! }
//!
//! log::set_boxed_logger(Box::new(LogVars::new().var(&REQUEST).logger(Printer))).unwrap();
//! log::set_max_level(log::LevelFilter::Info);
//! REQUEST.set(7);
//! log::info!("stored");
//! ```
#![forbid(unsafe_code)]

use log::kv::{Error, Key, Source, Value, VisitSource};
use log::{Log, Metadata, Record};

use crate::LogVars;

/// Adds variables to the key-values of each record; made by [`LogVars::logger`].
#[derive(Clone, Debug)]
pub struct VarsLogger<L> {
    inner: L,
    vars: LogVars,
}

impl LogVars {
    /// A logger that passes records on to `inner`, with the variables among their key-values. A
    /// value that the record has under the same name stays.
    #[must_use]
    pub fn logger<L: Log>(self, inner: L) -> VarsLogger<L> {
        VarsLogger { inner, vars: self }
    }

    /// The texts that the variables have now, for a logger that builds its records itself. `log`
    /// lends what it reads from a source, so the texts are copied before.
    #[must_use]
    pub fn key_values(&self) -> VarsSource {
        VarsSource { texts: self.texts().collect() }
    }
}

impl<L: Log> Log for VarsLogger<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.inner.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let own = record.key_values();
            let mut vars = self.vars.key_values();
            vars.texts.retain(|(name, _)| own.get(Key::from_str(name)).is_none());
            self.inner.log(&record.to_builder().key_values(&Both { own, vars }).build());
        }
    }

    fn flush(&self) {
        self.inner.flush();
    }
}

/// Variables and their texts, as key-values of `log`; made by [`LogVars::key_values`].
#[derive(Clone, Debug)]
pub struct VarsSource {
    texts: Vec<(&'static str, String)>,
}

impl Source for VarsSource {
    fn visit<'kvs>(&'kvs self, visitor: &mut dyn VisitSource<'kvs>) -> Result<(), Error> {
        let mut texts = self.texts.iter();
        texts.try_for_each(|(name, text)| visitor.visit_pair(Key::from_str(name), Value::from(&**text)))
    }

    fn count(&self) -> usize {
        self.texts.len()
    }
}

/// A record's own key-values, and variables.
struct Both<'a> {
    own: &'a dyn Source,
    vars: VarsSource,
}

impl Source for Both<'_> {
    fn visit<'kvs>(&'kvs self, visitor: &mut dyn VisitSource<'kvs>) -> Result<(), Error> {
        self.own.visit(visitor)?;
        self.vars.visit(visitor)
    }
}
