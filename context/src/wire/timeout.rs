//! Time limits as texts: the format of gRPC's header `grpc-timeout`.
//!
//! Up to eight digits and a unit, `H`, `M`, `S`, `m`, `u` or `n`: hours to nanoseconds. `250m` is
//! 250 milliseconds. The text says how much time is left, not when it ends, since the clocks of two
//! machines differ.

use std::error::Error;
use std::fmt;
use std::time::Duration;

/// Units from the finest to the coarsest, in nanoseconds.
const UNITS: [(char, u64); 6] = [
    ('n', 1),
    ('u', 1_000),
    ('m', 1_000_000),
    ('S', 1_000_000_000),
    ('M', 60_000_000_000),
    ('H', 3_600_000_000_000),
];

/// The format has eight digits at most.
const MOST: u64 = 99_999_999;

/// Reads a time limit.
///
/// # Errors
/// If the text is of another form: without digits, with a sign, a point or more than eight digits,
/// or with another unit. Such a text must not be taken for "no limit".
///
/// ```
/// # use heirloom_context::internal::heirloom;
/// use heirloom::context::wire::timeout;
/// use std::time::Duration;
///
/// assert_eq!(timeout::parse("250m").unwrap(), Duration::from_millis(250));
/// assert!(timeout::parse("a second").is_err());
/// ```
#[doc(alias = "grpc-timeout")]
pub fn parse(text: &str) -> Result<Duration, InvalidTimeout> {
    read(text.as_bytes())
}

/// The same for bytes that may be no text.
pub(super) fn read(text: &[u8]) -> Result<Duration, InvalidTimeout> {
    let invalid = InvalidTimeout(());
    let (unit, digits) = text.split_last().ok_or(invalid)?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return Err(invalid);
    }
    let number = digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    let known = UNITS.into_iter().find(|(letter, _)| *letter == char::from(*unit));
    let (_, nanoseconds) = known.ok_or(invalid)?;
    // In two parts: 99,999,999 hours are more nanoseconds than the word has.
    Ok(if nanoseconds >= 1_000_000_000 {
        Duration::from_secs(number * (nanoseconds / 1_000_000_000))
    } else {
        Duration::from_nanos(number * nanoseconds)
    })
}

/// Writes a time limit, in the finest unit in which eight digits hold it, rounded down, so that the
/// receiver never waits longer than the sender. The longest is `99999999H`.
///
/// ```
/// # use heirloom_context::internal::heirloom;
/// use heirloom::context::wire::timeout;
/// use std::time::Duration;
///
/// assert_eq!(timeout::format(Duration::from_millis(1)), "1000000n");
/// assert_eq!(timeout::format(Duration::from_millis(1_500)), "1500000u");
/// assert_eq!(timeout::format(Duration::MAX), "99999999H");
/// ```
#[must_use]
pub fn format(time: Duration) -> String {
    let seconds = time.as_secs();
    let (mut number, unit) = match seconds {
        0 if u64::from(time.subsec_nanos()) <= MOST => (u64::from(time.subsec_nanos()), b'n'),
        0..100 => (time.as_micros() as u64, b'u'),
        100..100_000 => (time.as_millis() as u64, b'm'),
        100_000..=MOST => (seconds, b'S'),
        _ if seconds / 60 <= MOST => (seconds / 60, b'M'),
        _ => ((seconds / 3_600).min(MOST), b'H'),
    };
    // From behind. By hand, since `format!` takes five times as long.
    let mut text = [unit; 9];
    let mut start = 8;
    loop {
        start -= 1;
        text[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return std::str::from_utf8(&text[start..]).expect("digits and a letter").to_owned();
        }
    }
}

/// A text that is no time limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidTimeout(());

impl fmt::Display for InvalidTimeout {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time limit is one to eight digits and one of the units H, M, S, m, u, n")
    }
}

impl Error for InvalidTimeout {}
