//! How the values of a variable are written for other processes, and read again.
#![forbid(unsafe_code)]

use std::fmt::{self, Display};
use std::str::FromStr;

/// The name and the codec with which the values of a variable travel to other processes: the option
/// `wire` of a declaration; see [`wire`](crate::wire).
///
/// The name is a *token*: one or more of the letters and digits of ASCII and of
/// ``!#$%&'*+-.^_`|~``. Names are compared as they are, also their case. Two programs that exchange
/// a value use the same name for it. A name of the form `service-key` keeps clear of the names of
/// other makers.
///
/// | codec | for | sent as |
/// | --- | --- | --- |
/// | [`Wire::text`], or the name alone in `context_var!` | types with [`Display`] and [`FromStr`] | that text |
/// | [`Wire::bytes`] | types with [`WireBytes`] | base64, of the alphabet for URLs, without padding |
/// | [`Wire::with`] | any | the text that a function writes |
///
/// ```
/// # use heirloom_context::internal::heirloom;
/// use heirloom::context::{VarOptions, wire::Wire};
/// use heirloom::{ContextVar, context_var};
///
/// context_var! {
///     static TENANT: String, wire = "tenant";
///     static KEY: [u8; 16], wire = Wire::bytes("key");
/// }
///
/// // The same by hand:
/// const OPTIONS: VarOptions<u64> =
///     VarOptions { wire: Some(const { &Wire::text("user") }), ..VarOptions::new() };
/// static USER: ContextVar<u64> = ContextVar::with_options("USER", OPTIONS);
/// ```
pub struct Wire<T> {
    name: &'static str,
    write: fn(&T, &mut dyn fmt::Write) -> fmt::Result,
    read: fn(&str) -> Option<T>,
}

impl<T> Wire<T> {
    /// Values as their text: written by [`Display`], read by [`FromStr`].
    ///
    /// # Panics
    /// If the name is no token. In a declaration, that is an error of the compiler.
    #[track_caller]
    pub const fn text(name: &'static str) -> Self
    where
        T: Display + FromStr,
    {
        Self::with(name, |value, out| write!(out, "{value}"), |text| text.parse().ok())
    }

    /// Values as bytes, which are sent in base64.
    ///
    /// # Panics
    /// As [`text`](Self::text).
    #[track_caller]
    pub const fn bytes(name: &'static str) -> Self
    where
        T: WireBytes,
    {
        Self::with(
            name,
            |value, out| base64::write(&value.to_wire(), out),
            |text| T::from_wire(&base64::read(text)?),
        )
    }

    /// Values as a text that `write` writes and `read` reads. A value for which `write` returns an
    /// error is not sent. A text for which `read` returns `None` is not bound.
    ///
    /// ```
    /// # use heirloom_context::internal::heirloom;
    /// use heirloom::context::wire::Wire;
    /// use heirloom::context_var;
    ///
    /// struct Groups(Vec<u32>);
    ///
    /// context_var! {
    ///     static GROUPS: Groups, wire = Wire::with(
    ///         "groups",
    ///         |groups, out| groups.0.iter().try_for_each(|group| write!(out, "{group} ")),
    ///         |text| {
    ///             let groups = text.split_whitespace().map(|group| group.parse().ok());
    ///             Some(Groups(groups.collect::<Option<_>>()?))
    ///         },
    ///     );
    /// }
    /// ```
    ///
    /// # Panics
    /// As [`text`](Self::text).
    #[track_caller]
    pub const fn with(
        name: &'static str,
        write: fn(&T, &mut dyn fmt::Write) -> fmt::Result,
        read: fn(&str) -> Option<T>,
    ) -> Self {
        assert!(is_token(name.as_bytes()), "a name on the wire is letters, digits and !#$%&'*+-.^_`|~");
        Wire { name, write, read }
    }

    /// The name on the wire.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Writes the text of a value, as it is before percent-encoding.
    ///
    /// # Errors
    /// If the codec or `out` has one.
    pub fn write(&self, value: &T, out: &mut dyn fmt::Write) -> fmt::Result {
        (self.write)(value, out)
    }

    /// The value of a text, if it is one.
    pub fn read(&self, text: &str) -> Option<T> {
        (self.read)(text)
    }
}

impl<T> fmt::Debug for Wire<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Types whose values travel as bytes, by [`Wire::bytes`].
///
/// ```
/// # use heirloom_context::internal::heirloom;
/// use heirloom::context::wire::WireBytes;
///
/// struct Key([u8; 32]);
///
/// impl WireBytes for Key {
///     fn to_wire(&self) -> Vec<u8> {
///         self.0.to_vec()
///     }
///
///     fn from_wire(bytes: &[u8]) -> Option<Self> {
///         Some(Key(bytes.try_into().ok()?))
///     }
/// }
/// ```
pub trait WireBytes: Sized {
    /// The bytes of the value.
    fn to_wire(&self) -> Vec<u8>;

    /// The value of these bytes, if they are those of one. They come from another process.
    fn from_wire(bytes: &[u8]) -> Option<Self>;
}

impl WireBytes for Vec<u8> {
    fn to_wire(&self) -> Vec<u8> {
        self.clone()
    }

    fn from_wire(bytes: &[u8]) -> Option<Self> {
        Some(bytes.to_vec())
    }
}

impl<const N: usize> WireBytes for [u8; N] {
    fn to_wire(&self) -> Vec<u8> {
        self.to_vec()
    }

    fn from_wire(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok()
    }
}

/// Whether this is a token of RFC 9110, section 5.6.2.
pub(crate) const fn is_token(name: &[u8]) -> bool {
    let mut place = 0;
    while place < name.len() {
        if !IN_TOKEN[name[place] as usize] {
            return false;
        }
        place += 1;
    }
    place > 0
}

/// Whether a byte may stand in a token. A table, since names are looked at letter by letter.
const IN_TOKEN: &[bool; 256] = &{
    let mut table = [false; 256];
    let mut letter = 0;
    while letter < 128_u8 {
        table[letter as usize] = letter.is_ascii_alphanumeric();
        letter += 1;
    }
    let marks = b"!#$%&'*+-.^_`|~";
    let mut place = 0;
    while place < marks.len() {
        table[marks[place] as usize] = true;
        place += 1;
    }
    table
};

/// Base64 of RFC 4648, section 5: letters that a header takes as they are, and no padding.
mod base64 {
    use std::fmt::{self, Write};

    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    pub(super) fn write(bytes: &[u8], out: &mut dyn Write) -> fmt::Result {
        for chunk in bytes.chunks(3) {
            let at = |place: usize| u32::from(chunk.get(place).copied().unwrap_or(0));
            let bits = at(0) << 16 | at(1) << 8 | at(2);
            for place in 0..=chunk.len() {
                out.write_char(char::from(LETTERS[(bits >> (18 - 6 * place) & 63) as usize]))?;
            }
        }
        Ok(())
    }

    /// The bytes of a text, if `write` writes that text for them.
    pub(super) fn read(text: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
        let (mut bits, mut count) = (0_u32, 0);
        for letter in text.bytes() {
            bits = bits << 6 | value(letter)?;
            count += 6;
            if count >= 8 {
                count -= 8;
                bytes.push((bits >> count) as u8);
                bits &= (1 << count) - 1;
            }
        }
        // A letter too many, or bits that no byte has.
        (count < 6 && bits == 0).then_some(bytes)
    }

    fn value(letter: u8) -> Option<u32> {
        Some(u32::from(match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        }))
    }
}
