//! What stands in an attribute's parentheses.
#![forbid(unsafe_code)]

use std::ops::Range;
use std::time::Duration;

use crate::expand::Kind;
use crate::function::open_angles;

/// What was asked for. A place is that of a token among those in the parentheses.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) workers: Option<usize>,
    /// As written, and as parsed.
    pub(crate) timeout: Option<(String, Duration)>,
    /// Its place, and how long tasks may run on when `main` has returned.
    pub(crate) shutdown: Option<(usize, Duration)>,
    /// The path of a function that returns a `Builder`.
    pub(crate) builder: Option<Range<usize>>,
    pub(crate) virtual_time: Option<usize>,
    pub(crate) tokio: Option<usize>,
    pub(crate) tracing: Option<usize>,
    pub(crate) opentelemetry: Option<usize>,
}

/// The tokens that an error stands under, and what it says.
type Error = (Range<usize>, String);

impl Options {
    /// From the text of each token: the compiler's own tokens are there for macros only, and not
    /// for tests of them.
    pub(crate) fn parse(kind: Kind, is_program: bool, tokens: &[String]) -> Result<Self, Error> {
        let text = |place: usize| tokens.get(place).map_or("", String::as_str);
        let mut options = Options::default();
        let mut names = Vec::new();
        let mut place = 0;
        while place < tokens.len() {
            let name = place;
            if names.contains(&text(name)) {
                return Err((name..name + 1, format!("`{}` is given twice", text(name))));
            }
            names.push(text(name));
            place += 1;
            let value = (text(place) == "=").then(|| place + 1..value_end(tokens, place + 1));
            place = value.as_ref().map_or(place, |value| value.end);
            options.take(kind, tokens, name, value)?;
            if place < tokens.len() && text(place) != "," {
                return Err((place..place + 1, "expected `,`".to_owned()));
            }
            place += 1;
        }
        match options.shutdown {
            Some((place, _)) if options.uses_default(kind) && !is_program => {
                let message = "`shutdown` ends the default runtime, which only a function `main` may do: call the function \
                               `main`, or give it a runtime of its own by `workers = N` without `builder`";
                Err((place..place + 1, message.to_owned()))
            }
            _ => Ok(options),
        }
    }

    /// Whether the function runs on the default runtime.
    pub(crate) fn uses_default(&self, kind: Kind) -> bool {
        kind == Kind::Main && (self.workers.is_none() || self.builder.is_some())
    }

    fn take(
        &mut self,
        kind: Kind,
        tokens: &[String],
        name: usize,
        value: Option<Range<usize>>,
    ) -> Result<(), Error> {
        let option = &*tokens[name];
        let text = value.as_ref().and_then(|value| tokens.get(value.start)).map_or("", String::as_str);
        let alone = value.is_none();
        let value = value.filter(|value| !value.is_empty()).unwrap_or(name..name + 1);
        let refused = |message: &str| Err((name..name + 1, message.to_owned()));
        let unexpected = |message: &str| Err((value.clone(), message.to_owned()));
        match (option, kind) {
            ("workers", _) => match integer(text) {
                Some(0) => return unexpected("a runtime needs a worker: the smallest number is 1"),
                None => return unexpected("expected a number of workers, as in `workers = 4`"),
                number => self.workers = number,
            },
            ("builder", _) if !is_path(text) => {
                return unexpected(
                    "expected a function that returns a `heirloom::runtime::Builder`, as in `builder = configured`",
                );
            }
            ("builder", _) => self.builder = Some(value),
            ("timeout", Kind::Main) => {
                return refused(
                    "`timeout` is for tests; in `main`, limit with `heirloom::wait_for` what it is for",
                );
            }
            ("shutdown", Kind::Test) => {
                return refused(
                    "`shutdown` is for `main`; the runtime of a test cancels all tasks at the end of the test",
                );
            }
            ("timeout" | "shutdown", _) => {
                let Some(text) = string(text) else {
                    return unexpected(&format!(
                        "expected a text with a number and a unit, as in `{option} = \"5s\"`"
                    ));
                };
                match duration(text) {
                    Err(message) => return unexpected(&message),
                    Ok(limit) if kind == Kind::Main => self.shutdown = Some((name, limit)),
                    Ok(Duration::ZERO) => return unexpected("a limit of no time at all fails every test"),
                    Ok(limit) => self.timeout = Some((text.to_owned(), limit)),
                }
            }
            ("virtual_time", Kind::Main) => {
                return refused("`virtual_time` is for tests; a program lives in real time");
            }
            ("virtual_time", _) if alone => self.virtual_time = Some(name),
            ("virtual_time", _) => return refused("`virtual_time` stands alone: leave it out for real time"),
            ("tokio", _) if alone => self.tokio = Some(name),
            ("tokio", _) => {
                return refused("`tokio` stands alone; for a guest with options, give it to the `builder`");
            }
            ("tracing", _) if alone => self.tracing = Some(name),
            ("opentelemetry", _) if alone => self.opentelemetry = Some(name),
            ("tracing" | "opentelemetry", _) => {
                return refused(&format!("`{option}` stands alone: leave it out for none"));
            }
            ("seed", _) => return refused("`seed` needs the simulator, which this version lacks"),
            _ => return refused(&format!("unknown option `{option}`; there is {}", kind.options())),
        }
        Ok(())
    }
}

/// The end of the value at `start`. A literal is one token; a path goes on through `::`, and to the
/// last of its angle brackets.
fn value_end(tokens: &[String], start: usize) -> usize {
    let mut depth = 0;
    for place in start..tokens.len() {
        depth = open_angles(depth, &tokens[place - 1], &tokens[place]);
        let joins = |place: usize| tokens.get(place).is_some_and(|token| token == ":");
        if depth == 0 && !joins(place) && !joins(place + 1) {
            return place + 1;
        }
    }
    tokens.len()
}

fn is_path(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || "_:<".contains(c)) && !text.contains(['"', '\''])
}

/// The value of an integer literal, if it is one that has a place in a `usize`.
fn integer(literal: &str) -> Option<usize> {
    let literal = literal.replace('_', "");
    let (radix, digits) = match literal.get(..2) {
        Some("0b") => (2, &literal[2..]),
        Some("0o") => (8, &literal[2..]),
        Some("0x") => (16, &literal[2..]),
        _ => (10, &*literal),
    };
    usize::from_str_radix(digits.strip_suffix("usize").unwrap_or(digits), radix).ok()
}

/// What a string literal stands for, raw or not. Escapes are left as they are: no duration has one.
fn string(literal: &str) -> Option<&str> {
    let raw = literal.strip_prefix('r').map(|raw| raw.trim_matches('#'));
    raw.unwrap_or(literal).strip_prefix('"')?.strip_suffix('"')
}

fn duration(text: &str) -> Result<Duration, String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let milliseconds = match unit.trim() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ if number.is_empty() => {
            return Err(format!("`{text}` is no duration; expected something like \"5s\""));
        }
        "" => {
            return Err(format!("`{text}` has no unit; write `{text}ms`, `{text}s`, `{text}m` or `{text}h`"));
        }
        unit => return Err(format!("`{unit}` is no unit of time; there are `ms`, `s`, `m` and `h`")),
    };
    if number.is_empty() {
        return Err(format!("`{text}` has no number"));
    }
    let number = number.parse::<u64>().ok().and_then(|number| number.checked_mul(milliseconds));
    match number {
        None => Err(format!("`{text}` is too long")),
        Some(milliseconds) => Ok(Duration::from_millis(milliseconds)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Options, duration, integer, string};
    use crate::expand::Kind;

    fn parse(kind: Kind, text: &str) -> Result<Options, String> {
        let text = text.replace(',', " , ").replace("::", " : : ");
        let tokens = Vec::from_iter(text.split_whitespace().map(str::to_owned));
        Options::parse(kind, true, &tokens).map_err(|(_, message)| message)
    }

    #[test]
    fn literals() {
        for (text, number) in [("16", 16), ("0x1F", 31), ("0b11", 3), ("0o17", 15), ("1_000usize", 1000)] {
            assert_eq!(integer(text), Some(number), "{text}");
        }
        for wrong in ["", "4u8", "4.0", "4e3", "0x", "'4'", "\"4\"", "four", "-4", "99999999999999999999999"]
        {
            assert_eq!(integer(wrong), None, "{wrong}");
        }
        for text in ["\"5s\"", "r\"5s\"", "r##\"5s\"##"] {
            assert_eq!(string(text), Some("5s"), "{text}");
        }
        for wrong in ["", "5", "b\"5s\"", "c\"5s\"", "\"5s\"suffix", "'5'", "r", "five"] {
            assert_eq!(string(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2 m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        for wrong in ["", "s", "5", "5 sec", "-5s", "1.5s", "99999999999999999999s", "99999999999999999h"] {
            assert!(duration(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn options() {
        let options = parse(Kind::Test, "workers = 0x10, timeout = \"1s\",").unwrap();
        assert_eq!(options.workers, Some(16));
        assert_eq!(options.timeout.unwrap().1, Duration::from_secs(1));
        assert_eq!(parse(Kind::Main, "shutdown = \"0s\"").unwrap().shutdown.unwrap().1, Duration::ZERO);
        let none = parse(Kind::Main, "").unwrap();
        assert!(none.workers.is_none() && none.timeout.is_none() && none.builder.is_none());
        for kind in [Kind::Main, Kind::Test] {
            let options = parse(kind, "builder = crate::setup::configured, workers = 3").unwrap();
            assert_eq!(options.builder, Some(2..9));
            assert_eq!(options.workers, Some(3));
            let options = parse(kind, "builder = ::configured::< A, fn(A) - > B >, workers = 3").unwrap();
            assert_eq!(options.builder, Some(2..15));
            assert_eq!(options.workers, Some(3));
        }
    }

    #[test]
    fn what_is_refused() {
        let refused = |kind, text, part: &str| {
            let error = parse(kind, text).err().expect("refused");
            assert!(error.contains(part), "{text}: {error}");
        };
        for kind in [Kind::Main, Kind::Test] {
            refused(kind, "workers", "expected a number");
            refused(kind, "workers = \"4\"", "expected a number");
            refused(kind, "workers = 0", "the smallest number is 1");
            refused(kind, "workers = 99999999999999999999999", "expected a number");
            refused(kind, "workers = 1, workers = 2", "given twice");
            refused(kind, "workers = four", "expected a number");
            refused(kind, "builder", "expected a function");
            refused(kind, "builder = \"configured\"", "expected a function");
            refused(kind, "builder = one, builder = other", "given twice");
            refused(kind, "tokio = true", "stands alone");
            refused(kind, "tokio, tokio", "given twice");
            refused(kind, "tracing = true", "stands alone");
            refused(kind, "opentelemetry, opentelemetry", "given twice");
            refused(kind, "seed = 7", "`seed` needs the simulator");
            refused(kind, "wrokers = 2", "unknown option `wrokers`");
            refused(kind, "type = 2", "unknown option `type`");
            refused(kind, "workers = 1 timeout", "expected `,`");
        }
        refused(Kind::Main, "timeout = \"1s\"", "is for tests");
        refused(
            Kind::Main,
            "shutdown = 5",
            "expected a text with a number and a unit, as in `shutdown = \"5s\"`",
        );
        refused(Kind::Main, "shutdown = \"1s\", shutdown = \"1s\"", "given twice");
        refused(Kind::Test, "shutdown = \"1s\"", "is for `main`");
        refused(Kind::Test, "timeout = \"0h\"", "fails every test");
        refused(Kind::Main, "virtual_time", "is for tests");
        refused(Kind::Test, "virtual_time = true", "stands alone");
        refused(Kind::Test, "virtual_time, virtual_time", "given twice");
        refused(Kind::Test, "timeout = 5", "expected a text");
        refused(Kind::Test, "timeout", "expected a text");
        refused(Kind::Test, "timeout = long", "expected a text");
        refused(Kind::Test, "timeout = \"5\"", "has no unit");
    }
}
