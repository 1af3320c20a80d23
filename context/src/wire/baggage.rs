//! The header `baggage` of the W3C: names and values of variables.
//!
//! ```text
//! baggage: tenant=acme,user=ada%20l.;note=from%20the%20gate;internal
//!          └─member──┘ └─name=value─┘ └──────properties────────────┘
//! ```
//!
//! Names are tokens and are compared as they are. Values are texts in UTF-8 of which everything
//! that may not stand in a header is percent-encoded, and `%`, `=` and `+`, of which readers make
//! different things. A blank is `%20`; a `+` that is read is a `+`.

use std::borrow::Cow;
use std::fmt::{self, Write};

use crate::value::is_token;

/// The most members of a header, as the standard asks of those that pass it on.
pub const MAX_MEMBERS: usize = 64;
/// The most bytes of a header, encoded, all its lines together.
pub const MAX_BYTES: usize = 8_192;
/// The most bytes of one member, encoded, with its properties: what OpenTelemetry's libraries take.
pub const MAX_MEMBER_BYTES: usize = 4_096;

/// One member of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListMember<'a> {
    /// The name, as it is.
    pub name: &'a str,
    /// The value, decoded. Where the encoded bytes are no UTF-8, it has U+FFFD.
    pub value: Cow<'a, str>,
    /// What follows the value's semicolon, as it is; empty without any.
    pub properties: &'a [u8],
}

/// A member of a header that is none by the standard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(());

impl fmt::Display for Malformed {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member of a baggage is a token, `=` and a value without control characters")
    }
}

impl std::error::Error for Malformed {}

/// The members of one line of a header, in their order. Blanks around them are no part of them;
/// empty ones are skipped.
///
/// ```
/// # use heirloom_context::internal::heirloom;
/// use heirloom::context::wire::baggage;
///
/// let line = b"tenant=acme , token=YWJjZA==;internal, user=ada%20l.";
/// let members: Vec<_> = baggage::members(line).map(Result::unwrap).collect();
/// assert_eq!((members[1].name, &*members[1].value), ("token", "YWJjZA=="));
/// assert_eq!(members[1].properties, b"internal");
/// assert_eq!(members[2].value, "ada l.");
/// ```
pub fn members(line: &[u8]) -> impl Iterator<Item = Result<ListMember<'_>, Malformed>> {
    raw_members(line).map(member)
}

/// The same, still encoded.
pub(super) fn raw_members(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b',').map(trim).filter(|member| !member.is_empty())
}

/// Reads one member.
pub(super) fn member(text: &[u8]) -> Result<ListMember<'_>, Malformed> {
    let end = text.iter().position(|byte| *byte == b';').unwrap_or(text.len());
    let (pair, properties) = text.split_at(end);
    let pair = std::str::from_utf8(pair).map_err(|_| Malformed(()))?;
    let (name, value) = pair.split_once('=').ok_or(Malformed(()))?;
    let (name, value) = (name.trim_matches(BLANKS), value.trim_matches(BLANKS));
    // Without a branch per byte, so that several are looked at at once.
    let (is_text, is_encoded) = value.bytes().fold((true, false), |(is_text, is_encoded), byte| {
        // More than the standard's letters: those harm nothing, and are sent.
        (is_text & matches!(byte, b' '..=b'~'), is_encoded | (byte == b'%'))
    });
    if !is_token(name.as_bytes()) || !is_text {
        return Err(Malformed(()));
    }
    let value = if is_encoded { Cow::Owned(decode(value.as_bytes())) } else { Cow::Borrowed(value) };
    Ok(ListMember { name, value, properties: trim(properties.get(1..).unwrap_or(b"")) })
}

const BLANKS: [char; 2] = [' ', '\t'];

/// Without the blanks around it.
pub(super) fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// Decodes `%41`. A `%` without two hexadecimal digits stays.
fn decode(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        let digits = match after {
            [high, low, ..] if *first == b'%' => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match digits {
            Some((high, low)) => {
                bytes.push(high << 4 | low);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|digit| digit as u8)
}

/// Whether a byte stands in a value as it is. Of those that the standard allows, three do not: `%`,
/// so that what is read is what was written; `=`, at which some readers cut a value, and `+`, which
/// some take for a blank. A table, since values are looked at letter by letter.
const IS_PLAIN: &[bool; 256] = &{
    let mut table = [false; 256];
    let mut byte = 0x21;
    while byte < 0x7F {
        table[byte] = !matches!(byte as u8, b'"' | b'%' | b'+' | b',' | b';' | b'=' | b'\\');
        byte += 1;
    }
    table
};

/// Writes a header within the [caps](MAX_BYTES). A member that has no room is left out as a whole.
///
/// ```
/// # use heirloom_context::internal::heirloom;
/// use heirloom::context::wire::baggage::Writer;
///
/// let mut writer = Writer::new();
/// writer.member("user", |out| out.write_str("ada l."), &[("note", Some("100 %"))]).unwrap();
/// writer.member("tenant", |out| write!(out, "{}", 7), &[]).unwrap();
/// assert_eq!(writer.finish(), "user=ada%20l.;note=100%20%25,tenant=7");
/// ```
#[derive(Debug, Default)]
pub struct Writer {
    text: String,
    members: usize,
}

/// Why a member was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftOut {
    /// There are [`MAX_MEMBERS`] already.
    Members,
    /// The header would have more than [`MAX_BYTES`].
    Bytes,
    /// The member has more than [`MAX_MEMBER_BYTES`].
    MemberBytes,
    /// The function that writes the value returned an error, or a name is no token.
    Unwritable,
}

impl Writer {
    /// An empty header.
    #[must_use]
    #[inline]
    pub const fn new() -> Self {
        Writer { text: String::new(), members: 0 }
    }

    /// Adds a member: its name, its value as a function writes it, and its properties.
    ///
    /// # Errors
    /// If the member was left out: nothing of it is in the header then.
    #[inline]
    pub fn member(
        &mut self,
        name: &str,
        value: impl FnOnce(&mut dyn fmt::Write) -> fmt::Result,
        properties: &[(&str, Option<&str>)],
    ) -> Result<(), LeftOut> {
        let before = self.text.len();
        let result = self.try_member(name, value, properties);
        match result {
            Ok(()) => self.members += 1,
            Err(_) => self.text.truncate(before),
        }
        result
    }

    #[inline]
    fn try_member(
        &mut self,
        name: &str,
        value: impl FnOnce(&mut dyn fmt::Write) -> fmt::Result,
        properties: &[(&str, Option<&str>)],
    ) -> Result<(), LeftOut> {
        if !is_token(name.as_bytes()) || !properties.iter().all(|(name, _)| is_token(name.as_bytes())) {
            return Err(LeftOut::Unwritable);
        }
        if self.members == MAX_MEMBERS {
            return Err(LeftOut::Members);
        }
        if self.text.capacity() == 0 {
            self.text.reserve(128);
        }
        if !self.text.is_empty() {
            self.text.push(',');
        }
        let start = self.text.len();
        self.text.push_str(name);
        self.text.push('=');
        let end = start + MAX_MEMBER_BYTES;
        let mut encoder = Encoder { text: &mut self.text, end, is_full: false };
        let written = value(&mut encoder).and_then(|()| encoder.properties(properties));
        match written {
            _ if encoder.is_full => Err(LeftOut::MemberBytes),
            Err(_) => Err(LeftOut::Unwritable),
            Ok(()) if self.text.len() > MAX_BYTES => Err(LeftOut::Bytes),
            Ok(()) => Ok(()),
        }
    }

    /// The text of the header; empty if there is no member.
    #[must_use]
    #[inline]
    pub fn finish(self) -> String {
        self.text
    }
}

/// Percent-encodes what is written, up to a length. Then it stops, so that a value without an end
/// is not written for ever.
struct Encoder<'a> {
    text: &'a mut String,
    end: usize,
    is_full: bool,
}

impl Encoder<'_> {
    #[inline]
    fn properties(&mut self, properties: &[(&str, Option<&str>)]) -> fmt::Result {
        for (name, value) in properties {
            self.has_room(name.len() + 2)?;
            self.text.push(';');
            self.text.push_str(name);
            if let Some(value) = value {
                self.text.push('=');
                self.write_str(value)?;
            }
        }
        Ok(())
    }

    #[inline]
    fn has_room(&mut self, bytes: usize) -> Result<(), fmt::Error> {
        self.is_full |= self.text.len() + bytes > self.end;
        if self.is_full { Err(fmt::Error) } else { Ok(()) }
    }
}

impl fmt::Write for Encoder<'_> {
    #[inline]
    fn write_str(&mut self, mut rest: &str) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
        while !rest.is_empty() {
            let plain = rest.bytes().position(|byte| !IS_PLAIN[usize::from(byte)]).unwrap_or(rest.len());
            self.has_room(plain)?;
            self.text.push_str(&rest[..plain]);
            let Some(letter) = rest[plain..].chars().next() else { break };
            let end = plain + letter.len_utf8();
            self.has_room(3 * letter.len_utf8())?;
            for byte in rest[plain..end].bytes() {
                let digit = |value: u8| char::from(DIGITS[usize::from(value)]);
                self.text.extend(['%', digit(byte >> 4), digit(byte & 15)]);
            }
            rest = &rest[end..];
        }
        Ok(())
    }
}
