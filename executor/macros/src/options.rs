//! What stands in an attribute's parentheses.
#![forbid(unsafe_code)]

use std::time::Duration;

use proc_macro2::{Ident, TokenStream};
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::{Error, Lit, LitInt, LitStr, Path, Result, Token};

use crate::expand::Kind;

/// What was asked for.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) workers: Option<LitInt>,
    /// As written, and as parsed.
    pub(crate) timeout: Option<(LitStr, Duration)>,
    /// Its place, and how long tasks may run on when `main` has returned.
    pub(crate) shutdown: Option<(Ident, Duration)>,
    /// A function that returns a `Builder`.
    pub(crate) builder: Option<Path>,
    pub(crate) virtual_time: Option<Ident>,
    pub(crate) tokio: Option<Ident>,
    pub(crate) tracing: Option<Ident>,
    pub(crate) opentelemetry: Option<Ident>,
}

/// `name`, or `name = value`.
struct Given {
    name: Ident,
    value: Option<Value>,
}

enum Value {
    Lit(Lit),
    Path(Path),
}

impl Parse for Value {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        // `true` is a literal, and an identifier besides.
        if input.peek(Lit) { input.parse().map(Value::Lit) } else { input.parse().map(Value::Path) }
    }
}

impl ToTokens for Value {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        match self {
            Value::Lit(value) => value.to_tokens(tokens),
            Value::Path(value) => value.to_tokens(tokens),
        }
    }
}

impl Parse for Given {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let name = input.call(Ident::parse_any)?;
        let value = match input.parse::<Option<Token![=]>>()? {
            Some(_) => Some(input.parse()?),
            None => None,
        };
        Ok(Given { name, value })
    }
}

impl Options {
    pub(crate) fn parse(kind: Kind, input: ParseStream<'_>) -> Result<Self> {
        let mut options = Options::default();
        for given in input.parse_terminated(Given::parse, Token![,])? {
            options.take(kind, given)?;
        }
        Ok(options)
    }

    fn take(&mut self, kind: Kind, Given { name, value }: Given) -> Result<()> {
        let option = name.to_string();
        let error = |message: String| Err(Error::new_spanned(&name, message));
        match option.as_str() {
            "workers" if self.workers.is_some() => error("`workers` is given twice".into()),
            "timeout" if self.timeout.is_some() => error("`timeout` is given twice".into()),
            "builder" if self.builder.is_some() => error("`builder` is given twice".into()),
            "shutdown" if self.shutdown.is_some() => error("`shutdown` is given twice".into()),
            "builder" => {
                self.builder = Some(builder(&name, value)?);
                Ok(())
            }
            "workers" => {
                self.workers = Some(workers(&name, value)?);
                Ok(())
            }
            "timeout" if kind == Kind::Main => error(
                "`timeout` is for tests; in `main`, limit with `heirloom::wait_for` what it is for".into(),
            ),
            "timeout" => {
                self.timeout = Some(timeout(&name, value)?);
                Ok(())
            }
            "shutdown" if kind == Kind::Test => error(
                "`shutdown` is for `main`; the runtime of a test cancels all tasks at the end of the test"
                    .into(),
            ),
            "shutdown" => {
                self.shutdown = Some((name.clone(), time(&name, value)?.1));
                Ok(())
            }
            "virtual_time" if self.virtual_time.is_some() => error("`virtual_time` is given twice".into()),
            "virtual_time" if kind == Kind::Main => {
                error("`virtual_time` is for tests; a program lives in real time".into())
            }
            "virtual_time" if value.is_some() => {
                error("`virtual_time` stands alone: leave it out for real time".into())
            }
            "virtual_time" => {
                self.virtual_time = Some(name);
                Ok(())
            }
            "tokio" if self.tokio.is_some() => error("`tokio` is given twice".into()),
            "tokio" if value.is_some() => {
                error("`tokio` stands alone; for a guest with options, give it to the `builder`".into())
            }
            "tokio" => {
                self.tokio = Some(name);
                Ok(())
            }
            "tracing" => flag(&mut self.tracing, name, value),
            "opentelemetry" => flag(&mut self.opentelemetry, name, value),
            "seed" => error("`seed` needs the simulator, which this version lacks".into()),
            _ => error(format!("unknown option `{option}`; there is {}", kind.options())),
        }
    }
}

/// An option that has no value.
fn flag(option: &mut Option<Ident>, name: Ident, value: Option<Value>) -> Result<()> {
    if option.is_some() {
        return Err(Error::new_spanned(&name, format!("`{name}` is given twice")));
    }
    if value.is_some() {
        return Err(Error::new_spanned(&name, format!("`{name}` stands alone: leave it out for none")));
    }
    *option = Some(name);
    Ok(())
}

fn workers(name: &Ident, value: Option<Value>) -> Result<LitInt> {
    const EXPECTED: &str = "expected a number of workers, as in `workers = 4`";
    match value {
        Some(Value::Lit(Lit::Int(number))) => match number.base10_parse::<usize>() {
            Ok(0) => Err(Error::new_spanned(number, "a runtime needs a worker: the smallest number is 1")),
            Ok(_) => Ok(number),
            Err(error) => Err(Error::new_spanned(number, format!("{EXPECTED}: {error}"))),
        },
        Some(other) => Err(Error::new_spanned(other, EXPECTED)),
        None => Err(Error::new_spanned(name, EXPECTED)),
    }
}

fn timeout(name: &Ident, value: Option<Value>) -> Result<(LitStr, Duration)> {
    let (text, limit) = time(name, value)?;
    if limit.is_zero() {
        return Err(Error::new_spanned(text, "a limit of no time at all fails every test"));
    }
    Ok((text, limit))
}

/// The value of an option that is a time, as written and as parsed.
fn time(name: &Ident, value: Option<Value>) -> Result<(LitStr, Duration)> {
    let expected = || format!("expected a text with a number and a unit, as in `{name} = \"5s\"`");
    match value {
        Some(Value::Lit(Lit::Str(text))) => match duration(&text.value()) {
            Ok(limit) => Ok((text, limit)),
            Err(message) => Err(Error::new_spanned(text, message)),
        },
        Some(other) => Err(Error::new_spanned(other, expected())),
        None => Err(Error::new_spanned(name, expected())),
    }
}

fn builder(name: &Ident, value: Option<Value>) -> Result<Path> {
    const EXPECTED: &str =
        "expected a function that returns a `heirloom::runtime::Builder`, as in `builder = configured`";
    match value {
        Some(Value::Path(path)) => Ok(path),
        Some(other) => Err(Error::new_spanned(other, EXPECTED)),
        None => Err(Error::new_spanned(name, EXPECTED)),
    }
}

fn duration(text: &str) -> std::result::Result<Duration, String> {
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

    use syn::parse::Parser;

    use super::{Options, duration};
    use crate::expand::Kind;

    fn parse(kind: Kind, text: &str) -> Result<Options, String> {
        let parser = |input: syn::parse::ParseStream<'_>| Options::parse(kind, input);
        parser.parse_str(text).map_err(|error| error.to_string())
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
        assert_eq!(options.workers.unwrap().base10_parse::<usize>().unwrap(), 16);
        assert_eq!(options.timeout.unwrap().1, Duration::from_secs(1));
        assert_eq!(parse(Kind::Main, "shutdown = \"0s\"").unwrap().shutdown.unwrap().1, Duration::ZERO);
        let none = parse(Kind::Main, "").unwrap();
        assert!(none.workers.is_none() && none.timeout.is_none() && none.builder.is_none());
        for kind in [Kind::Main, Kind::Test] {
            let options = parse(kind, "builder = crate::setup::configured, workers = 3").unwrap();
            assert_eq!(options.builder.unwrap().segments.len(), 3);
            assert!(options.workers.is_some());
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
