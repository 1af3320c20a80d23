//! Context variables in the events and spans of `tracing`.
//!
//! ```
//! # use heirloom_context::internal::heirloom;
//! use heirloom::context::LogVars;
//! use heirloom::context_var;
//! use tracing_subscriber::layer::SubscriberExt;
//!
//! context_var! { static REQUEST: u64, debug = Debug; }
//!
//! # fn layer() -> tracing_subscriber::layer::Identity { Default::default() }
//! // `layer()` is any layer: that of `tracing_subscriber::fmt`, of `tracing-opentelemetry`.
//! let subscriber =
//!     tracing_subscriber::registry().with(LogVars::new().var(&REQUEST).layer(layer()));
//! # let _ = subscriber;
//! ```
//!
//! The variables are read where an event or a span is made. The fields go to the layer inside, and
//! to no other; a field that the event or span has by itself under that name stays. What comes
//! from the crate `log` by way of `tracing-log` passes unchanged: use [`LogVars::logger`] there.
//!
//! # Spans, and `on_change`
//!
//! Do not enter and leave spans in an [`on_change`](crate::VarOptions::on_change) hook. The hook is
//! called as a context is entered and left, which does not nest with `Span::in_scope` or with a
//! span that is entered around a poll: a span that is left out of order stays current, and its
//! children get a wrong parent. Put the variable into the fields by this layer, or let the executor
//! carry the span.
//!
//! # Cost
//!
//! An event without a variable that has a value passes as it is. Else its fields are copied,
//! strings included. For each place in the source that makes events or spans, some hundred bytes
//! are kept for the whole program: `tracing` wants its metadata to live so long.

use std::any::TypeId;
use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::sync::{OnceLock, PoisonError, RwLock};

use tracing_core::callsite::Identifier;
use tracing_core::field::{DisplayValue, Field, FieldSet, Value, Visit, display};
use tracing_core::span::{Attributes, Id, Record};
use tracing_core::subscriber::Interest;
use tracing_core::{Callsite, Dispatch, Event, Kind, LevelFilter, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::LogVars;

/// Adds variables to the fields of all events and spans for a layer; made by [`LogVars::layer`].
#[derive(Clone, Debug)]
pub struct VarsLayer<L> {
    inner: L,
    vars: LogVars,
}

impl LogVars {
    /// The layer `inner`, to which each event and each new span has the variables as fields.
    #[must_use]
    pub fn layer<L>(self, inner: L) -> VarsLayer<L> {
        VarsLayer { inner, vars: self }
    }
}

impl<S: Subscriber, L: Layer<S>> Layer<S> for VarsLayer<L> {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let Some(fields) = Fields::of(&self.vars, event.metadata(), |visit| event.record(visit)) else {
            return self.inner.on_event(event, context);
        };
        let values = fields.values();
        let metadata = fields.metadata;
        let values = metadata.fields().value_set_all(&values);
        let event = match event.parent() {
            None if event.is_contextual() => Event::new(metadata, &values),
            parent => Event::new_child_of(parent.cloned(), metadata, &values),
        };
        self.inner.on_event(&event, context);
    }

    fn on_new_span(&self, span: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(fields) = Fields::of(&self.vars, span.metadata(), |visit| span.record(visit)) else {
            return self.inner.on_new_span(span, id, context);
        };
        let values = fields.values();
        let metadata = fields.metadata;
        let values = metadata.fields().value_set_all(&values);
        let span = match span.parent() {
            Some(parent) => Attributes::child_of(parent.clone(), metadata, &values),
            None if span.is_root() => Attributes::new_root(metadata, &values),
            None => Attributes::new(metadata, &values),
        };
        self.inner.on_new_span(&span, id, context);
    }

    // All else is the inner layer's.

    fn on_register_dispatch(&self, dispatch: &Dispatch) {
        self.inner.on_register_dispatch(dispatch);
    }

    fn on_layer(&mut self, subscriber: &mut S) {
        self.inner.on_layer(subscriber);
    }

    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        self.inner.register_callsite(metadata)
    }

    fn enabled(&self, metadata: &Metadata<'_>, context: Context<'_, S>) -> bool {
        self.inner.enabled(metadata, context)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        self.inner.max_level_hint()
    }

    fn event_enabled(&self, event: &Event<'_>, context: Context<'_, S>) -> bool {
        self.inner.event_enabled(event, context)
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        self.inner.on_record(id, values, context);
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, context: Context<'_, S>) {
        self.inner.on_follows_from(id, follows, context);
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        self.inner.on_enter(id, context);
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        self.inner.on_exit(id, context);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        self.inner.on_close(id, context);
    }

    fn on_id_change(&self, old: &Id, new: &Id, context: Context<'_, S>) {
        self.inner.on_id_change(old, new, context);
    }

    unsafe fn downcast_raw(&self, id: TypeId) -> Option<*const ()> {
        if id == TypeId::of::<Self>() {
            return Some(std::ptr::from_ref(self).cast());
        }
        // SAFETY: the caller's promise is the one that the inner layer asks for. The inner layer is
        // a part of this one, and lives as long.
        unsafe { self.inner.downcast_raw(id) }
    }
}

/// The fields of an event or a span, and the variables, in the order of the metadata's fields.
struct Fields {
    metadata: &'static Metadata<'static>,
    values: Vec<Option<OwnedValue>>,
}

impl Fields {
    /// `None` if nothing is to be added.
    fn of(
        vars: &LogVars,
        metadata: &'static Metadata<'static>,
        record: impl FnOnce(&mut dyn Visit),
    ) -> Option<Fields> {
        let mut texts = vars.texts().filter(|(name, _)| metadata.fields().field(name).is_none()).peekable();
        texts.peek()?;
        // A record of `log`: `tracing-log` knows it by its metadata.
        if metadata.fields().field("log.target").is_some() {
            return None;
        }
        let metadata = extended(metadata, vars);
        let mut fields = Fields { metadata, values: Vec::new() };
        fields.values.resize_with(metadata.fields().len(), || None);
        record(&mut fields);
        for (name, text) in texts {
            if let Some(field) = metadata.fields().field(name) {
                fields.values[field.index()] = Some(OwnedValue::Text(display(text)));
            }
        }
        Some(fields)
    }

    fn values(&self) -> Vec<Option<&dyn Value>> {
        self.values.iter().map(|value| value.as_ref().map(OwnedValue::as_value)).collect()
    }

    /// The fields of the metadata that was extended come first, so they have the same indices.
    fn put(&mut self, field: &Field, value: OwnedValue) {
        self.values[field.index()] = Some(value);
    }
}

/// A value that a visitor was shown.
enum OwnedValue {
    F64(f64),
    I64(i64),
    U64(u64),
    I128(i128),
    U128(u128),
    Bool(bool),
    Str(String),
    Error(Box<dyn Error>),
    Text(DisplayValue<String>),
}

impl OwnedValue {
    fn as_value(&self) -> &dyn Value {
        match self {
            OwnedValue::F64(value) => value,
            OwnedValue::I64(value) => value,
            OwnedValue::U64(value) => value,
            OwnedValue::I128(value) => value,
            OwnedValue::U128(value) => value,
            OwnedValue::Bool(value) => value,
            OwnedValue::Str(value) => value,
            OwnedValue::Error(value) => value,
            OwnedValue::Text(value) => value,
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, OwnedValue::F64(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, OwnedValue::I64(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, OwnedValue::U64(value));
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.put(field, OwnedValue::I128(value));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.put(field, OwnedValue::U128(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, OwnedValue::Bool(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, OwnedValue::Str(value.to_owned()));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.put(field, OwnedValue::Error(Box::new(OwnedError::of(value))));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, OwnedValue::Text(display(format!("{value:?}"))));
    }
}

/// What can be seen of an error.
struct OwnedError {
    text: String,
    debug: String,
    source: Option<Box<OwnedError>>,
}

impl OwnedError {
    fn of(error: &(dyn Error + 'static)) -> OwnedError {
        let source = error.source().map(|source| Box::new(OwnedError::of(source)));
        OwnedError { text: error.to_string(), debug: format!("{error:?}"), source }
    }
}

impl fmt::Display for OwnedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for OwnedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.debug)
    }
}

impl Error for OwnedError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Metadata with further fields, and the call site that identifies them.
struct ExtendedSite(OnceLock<Metadata<'static>>);

impl Callsite for ExtendedSite {
    /// It was not registered, so no interest is asked for: that of the original call site counts.
    fn set_interest(&self, _: Interest) {}

    fn metadata(&self) -> &Metadata<'_> {
        self.0.get().expect("set where the site is made")
    }
}

/// The metadata of a call site, with fields for the variables that it has no field for. Made once
/// for each call site and list of variables.
fn extended(metadata: &'static Metadata<'static>, vars: &LogVars) -> &'static Metadata<'static> {
    type Extended = (Vec<&'static str>, &'static Metadata<'static>);
    static MADE: RwLock<Option<HashMap<Identifier, Vec<Extended>>>> = RwLock::new(None);

    let own = metadata.fields();
    let added = || vars.names().filter(|name| own.field(name).is_none());
    let find = |made: &[Extended]| {
        made.iter().find(|(names, _)| added().eq(names.iter().copied())).map(|(_, metadata)| *metadata)
    };
    let site = metadata.callsite();
    let made = MADE.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = made.as_ref().and_then(|made| find(made.get(&site)?)) {
        return found;
    }
    drop(made);
    let mut made = MADE.write().unwrap_or_else(PoisonError::into_inner);
    let made = made.get_or_insert_default().entry(site).or_default();
    // Another thread may have been first.
    if let Some(found) = find(made) {
        return found;
    }
    let names: Vec<&'static str> = own.iter().map(|field| field.name()).chain(added()).collect();
    let site: &'static ExtendedSite = Box::leak(Box::new(ExtendedSite(OnceLock::new())));
    let fields = FieldSet::new(names.leak(), Identifier(site));
    let extended = site.0.get_or_init(|| {
        Metadata::new(
            metadata.name(),
            metadata.target(),
            *metadata.level(),
            metadata.file(),
            metadata.line(),
            metadata.module_path(),
            fields,
            if metadata.is_span() { Kind::SPAN } else { Kind::EVENT },
        )
    });
    made.push((added().collect(), extended));
    extended
}
