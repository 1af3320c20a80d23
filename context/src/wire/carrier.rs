//! What headers are written into and read from.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;

/// What headers are written into: the headers of a request, of a message, a map of texts.
///
/// [`inject`](super::inject_with) hands over names in lower case and values of visible ASCII
/// letters and blanks. Names that differ in case alone are names of one header: `remove` removes
/// all of them, and `set` replaces all of them.
///
/// ```
/// # use heirloom_context::internal::heirloom;
/// use heirloom::context::wire::Injector;
///
/// /// Headers of a protocol of one's own.
/// struct Lines(Vec<(String, String)>);
///
/// impl Injector for Lines {
///     fn set(&mut self, name: &str, value: String) {
///         self.remove(name);
///         self.0.push((name.to_owned(), value));
///     }
///
///     fn remove(&mut self, name: &str) {
///         self.0.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
///     }
/// }
/// ```
pub trait Injector {
    /// Writes the header, in place of all lines that it has.
    fn set(&mut self, name: &str, value: String);

    /// Removes all lines of the header.
    fn remove(&mut self, name: &str);
}

/// What headers are read from.
///
/// ```
/// # use heirloom_context::internal::heirloom;
/// use heirloom::context::wire::Extractor;
///
/// struct Lines(Vec<(String, String)>);
///
/// impl Extractor for Lines {
///     fn for_each<'a>(&'a self, name: &str, each: &mut dyn FnMut(&'a [u8])) {
///         let lines = self.0.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
///         lines.for_each(|(_, value)| each(value.as_bytes()));
///     }
/// }
/// ```
pub trait Extractor {
    /// Calls `each` with the value of each line of the header, in their order. The name is in lower
    /// case; the case of the names in the headers does not matter. The values are as they came;
    /// they need not be texts.
    fn for_each<'a>(&'a self, name: &str, each: &mut dyn FnMut(&'a [u8]));
}

/// Looks at all keys, since the case of those that are there does not matter.
impl<S: BuildHasher> Injector for HashMap<String, String, S> {
    #[inline]
    fn set(&mut self, name: &str, value: String) {
        Injector::remove(self, name);
        self.insert(name.to_owned(), value);
    }

    #[inline]
    fn remove(&mut self, name: &str) {
        self.retain(|other, _| !other.eq_ignore_ascii_case(name));
    }
}

/// Keys that differ in case alone are lines of one header, in the order of the map.
impl<S: BuildHasher> Extractor for HashMap<String, String, S> {
    fn for_each<'a>(&'a self, name: &str, each: &mut dyn FnMut(&'a [u8])) {
        let lines = self.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        lines.for_each(|(_, value)| each(value.as_bytes()));
    }
}

/// Looks at all keys, since the case of those that are there does not matter.
impl Injector for BTreeMap<String, String> {
    #[inline]
    fn set(&mut self, name: &str, value: String) {
        Injector::remove(self, name);
        self.insert(name.to_owned(), value);
    }

    #[inline]
    fn remove(&mut self, name: &str) {
        self.retain(|other, _| !other.eq_ignore_ascii_case(name));
    }
}

/// Keys that differ in case alone are lines of one header, in the order of the map.
impl Extractor for BTreeMap<String, String> {
    fn for_each<'a>(&'a self, name: &str, each: &mut dyn FnMut(&'a [u8])) {
        let lines = self.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        lines.for_each(|(_, value)| each(value.as_bytes()));
    }
}

#[cfg(feature = "http")]
mod headers {
    use http::header::{HeaderMap, HeaderName, HeaderValue};

    use super::super::{BAGGAGE, GRPC_TIMEOUT, REQUEST_TIMEOUT, TRACEPARENT, TRACESTATE};
    use super::{Extractor, Injector};

    /// The names that are always the same: they need not be looked at letter by letter.
    #[inline]
    fn known(name: &str) -> Option<&'static HeaderName> {
        static KNOWN: [HeaderName; 5] = [
            HeaderName::from_static(BAGGAGE),
            HeaderName::from_static(TRACEPARENT),
            HeaderName::from_static(TRACESTATE),
            HeaderName::from_static(REQUEST_TIMEOUT),
            HeaderName::from_static(GRPC_TIMEOUT),
        ];
        // The compiler looks at the length first.
        let place = match name {
            BAGGAGE => 0,
            TRACEPARENT => 1,
            TRACESTATE => 2,
            REQUEST_TIMEOUT => 3,
            GRPC_TIMEOUT => 4,
            _ => return None,
        };
        Some(&KNOWN[place])
    }

    /// tonic's `MetadataMap` has such a map inside: `metadata.as_mut()` to write a context,
    /// `metadata.as_ref()` to read one.
    ///
    /// # Panics
    /// If the name or the value may not stand in a header, which those of this module may.
    impl Injector for HeaderMap {
        #[inline]
        fn set(&mut self, name: &str, value: String) {
            let value = HeaderValue::try_from(value).expect("visible ASCII letters and blanks");
            let name = match known(name) {
                Some(name) => name.clone(),
                None => name.parse().unwrap_or_else(|_| panic!("{name:?} is no name of a header")),
            };
            self.insert(name, value);
        }

        #[inline]
        fn remove(&mut self, name: &str) {
            match known(name) {
                Some(name) => HeaderMap::remove(self, name),
                None => HeaderMap::remove(self, name),
            };
        }
    }

    impl Extractor for HeaderMap {
        fn for_each<'a>(&'a self, name: &str, each: &mut dyn FnMut(&'a [u8])) {
            let lines = match known(name) {
                Some(name) => self.get_all(name),
                None => self.get_all(name),
            };
            lines.iter().for_each(|value| each(value.as_bytes()));
        }
    }
}
