//! lapin.

use std::mem;

use heirloom::wire::{Extractor, Injector};
use lapin::types::{AMQPValue, FieldTable, ShortString};

/// The headers of a message of lapin, as a carrier: of `&mut FieldTable` to write a context, of
/// `&FieldTable` to read one. The table goes into `BasicProperties::with_headers`, and comes out of
/// `BasicProperties::headers`.
///
/// A header is written as a long string, which is what other clients write. Texts, bytes and arrays
/// of them are read; numbers and tables are passed over. AMQP tells names in capitals from those in
/// lower case. What is written has lower case; what is read may have both.
///
/// ```
/// use heirloom::wire::{self, Inbound};
/// use heirloom::{Context, context_var};
/// use heirloom_adaptors::AmqpHeaders;
/// use lapin::types::FieldTable;
///
/// context_var! { static TENANT: String, wire = "tenant"; }
///
/// let mut headers = FieldTable::default();
/// Context::current()
///     .with_var(&TENANT, "acme".to_owned())
///     .run(|| wire::inject(&mut AmqpHeaders(&mut headers)));
///
/// let received = Inbound::new().var(&TENANT).extract(&AmqpHeaders(&headers));
/// received.bind(&Context::empty()).run(|| assert_eq!(TENANT.get().as_deref(), Some("acme")));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct AmqpHeaders<H>(pub H);

impl Injector for AmqpHeaders<&mut FieldTable> {
    fn set(&mut self, name: &str, value: String) {
        self.remove(name);
        self.0.insert(ShortString::from(name), AMQPValue::LongString(value.into()));
    }

    /// The table has no operation for it, so it is made anew where the name is there.
    fn remove(&mut self, name: &str) {
        if self.0.inner().keys().any(|other| is(other, name)) {
            for (other, value) in mem::take(self.0).inner().iter().filter(|(other, _)| !is(other, name)) {
                self.0.insert(other.clone(), value.clone());
            }
        }
    }
}

impl Extractor for AmqpHeaders<&FieldTable> {
    fn for_each<'a>(&'a self, name: &str, each: &mut dyn FnMut(&'a [u8])) {
        let named = self.0.inner().iter().filter(|(other, _)| is(other, name));
        named.for_each(|(_, value)| lines(value, each));
    }
}

fn is(other: &ShortString, name: &str) -> bool {
    other.as_str().eq_ignore_ascii_case(name)
}

/// Calls `each` with the texts of a value: an array stands for several lines.
fn lines<'a>(value: &'a AMQPValue, each: &mut dyn FnMut(&'a [u8])) {
    match value {
        AMQPValue::LongString(text) => each(text.as_bytes()),
        AMQPValue::ShortString(text) => each(text.as_str().as_bytes()),
        AMQPValue::ByteArray(bytes) => each(bytes.as_slice()),
        AMQPValue::FieldArray(values) => {
            // Arrays in an array are not followed: a peer could nest them without end.
            let flat = values.as_slice().iter().filter(|value| !matches!(value, AMQPValue::FieldArray(_)));
            flat.for_each(|value| lines(value, each));
        }
        _ => {}
    }
}
