//! From the attribute and its function to a plain function.
//!
//! The function stays as it is, inside one of the same name: its types, its `?` and its errors are
//! checked as if nothing were around it.
//!
//! ```text
//! fn name() -> R {
//!     async fn name() -> R { … }
//!     ::heirloom::block_on(name()) // `main` ends the runtime besides
//! }
//! ```
//!
//! What is written here is a template: Rust as text, with `$name` where tokens of the caller's go.
//! The caller's tokens keep their places, where the compiler's errors about them stand.
#![forbid(unsafe_code)]

use std::time::Duration;

use proc_macro::{Group, Span, TokenStream, TokenTree};

use crate::function::{Function, Trees};
use crate::options::Options;

/// Workers of a test that does not say: two run in parallel, and many tests at a time do not fill
/// the machine.
const TEST_WORKERS: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Main,
    Test,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Main => "`#[heirloom::main]`",
            Kind::Test => "`#[heirloom::test]`",
        }
    }

    pub(crate) fn options(self) -> &'static str {
        match self {
            Kind::Main => {
                "`workers = N`, `builder = function`, `shutdown = \"5s\"`, `tokio`, `tracing` and `opentelemetry`"
            }
            Kind::Test => {
                "`workers = N`, `builder = function`, `timeout = \"5s\"`, `virtual_time`, `tokio`, `tracing` and `opentelemetry`"
            }
        }
    }
}

pub(crate) fn expand(kind: Kind, options: TokenStream, item: TokenStream) -> TokenStream {
    let Function { name, mut parts, refusals } = match Function::parse(kind, item.clone()) {
        Ok(function) => function,
        // With the item, about which the compiler may have more to say.
        Err(refusal) => return TokenStream::from_iter([refusal, item]),
    };
    // The default runtime is the process's, so only the process's `main` ends it.
    let is_program = kind == Kind::Main && name == "main";
    let trees = Vec::from_iter(Trees::new(options));
    let texts = Vec::from_iter(trees.iter().map(TokenTree::to_string));
    let (options, refused) = match Options::parse(kind, is_program, &texts) {
        Ok(options) => (options, TokenStream::new()),
        Err((place, message)) => (Options::default(), refusal(&trees[place], &message)),
    };
    let text = if refusals.is_empty() {
        // An error of the compiler's about an option's feature stands where the option does.
        let method = |place: Option<usize>, text: &str| match place {
            Some(place) => template(trees[place].span(), text, &[]),
            None => TokenStream::new(),
        };
        // A function of another type is told of where it is named.
        let path = &trees[options.builder.clone().unwrap_or_default()];
        let call = path.last().map(|last| template(last.span(), "()", &[]));
        parts.extend([
            ("builder", path.iter().cloned().map(TokenStream::from).chain(call).collect()),
            ("virtual_time", method(options.virtual_time, ".virtual_time()")),
            ("tokio", method(options.tokio, ".tokio(::heirloom::tokio::TokioGuest::new())")),
            ("tracing", method(options.tracing, ".tracing()")),
            ("opentelemetry", method(options.opentelemetry, ".opentelemetry()")),
        ]);
        let test = if kind == Kind::Test { "#[::core::prelude::v1::test]" } else { "" };
        let run = run(kind, is_program, &name, &options);
        format!("{test} $attributes $visibility fn $name() $output {{ $signature $body {run} }}")
    } else {
        // It takes the function's place, so that its absence is not reported as well.
        "#[allow(dead_code)] $visibility fn $name() {}".to_owned()
    };
    TokenStream::from_iter([refusals, refused, template(Span::mixed_site(), &text, &parts)])
}

/// The template of what runs the function.
fn run(kind: Kind, is_program: bool, name: &str, options: &Options) -> String {
    let limit = match &options.shutdown {
        Some((_, limit)) => format!("::core::option::Option::Some({})", duration(*limit)),
        None => "::core::option::Option::None".to_owned(),
    };
    let block_on_default = if is_program {
        format!("::heirloom::runtime::block_on_main(::core::option::Option::None, true, {limit}, $name())")
    } else {
        "::heirloom::block_on($name())".to_owned()
    };
    let uses_default = options.uses_default(kind);
    let ambients = [options.tokio, options.tracing, options.opentelemetry];
    if uses_default && options.builder.is_none() && ambients == [None; 3] {
        return block_on_default;
    }
    let workers = match (kind, options.workers) {
        (_, Some(workers)) => format!(".workers({workers})"),
        (Kind::Test, None) if options.builder.is_none() && options.virtual_time.is_none() => {
            format!(".workers({TEST_WORKERS})")
        }
        (_, None) => String::new(),
    };
    let start = match &options.builder {
        Some(_) => "{ let builder: ::heirloom::runtime::Builder = $builder; builder }",
        None => "::heirloom::Runtime::builder()",
    };
    // The span of `tracing` comes first: a layer of its own may attach an OpenTelemetry context as
    // it is entered.
    let builder = format!("{start} {workers} $virtual_time $tokio $tracing $opentelemetry");
    let (build, runtime, block_on) = if uses_default {
        ("build_default", "_", block_on_default)
    } else if kind == Kind::Main {
        let some = "::core::option::Option::Some(runtime)";
        let block_on = format!("::heirloom::runtime::block_on_main({some}, {is_program}, {limit}, $name())");
        ("build", "runtime", block_on)
    } else {
        ("build", "runtime", format!("runtime.block_on({})", limited(name, options)))
    };
    let which = if uses_default { "default runtime" } else { "runtime" };
    format!(
        "match {builder}.{build}() {{
            ::core::result::Result::Ok({runtime}) => {block_on},
            ::core::result::Result::Err(error) => ::core::panic!(\"the {which} cannot be started: {{error}}\"),
        }}"
    )
}

/// The template of a test's future.
fn limited(name: &str, options: &Options) -> String {
    let Some((text, limit)) = &options.timeout else { return "$name()".to_owned() };
    let (limit, message) = (duration(*limit), format!("the test `{name}` has not ended within {text}"));
    format!(
        "async {{
            match ::heirloom::wait_for($name(), {limit}).await {{
                ::core::result::Result::Ok(output) => output,
                ::core::result::Result::Err(_) => ::core::panic!({message:?}),
            }}
        }}"
    )
}

fn duration(of: Duration) -> String {
    format!("::core::time::Duration::new({}, {})", of.as_secs(), of.subsec_nanos())
}

/// An error of the compiler's that stands under these trees.
pub(crate) fn refusal(under: &[TokenTree], message: &str) -> TokenStream {
    let span = |tree: Option<&TokenTree>| tree.map_or_else(Span::call_site, TokenTree::span);
    let name = template(span(under.first()), "::core::compile_error!", &[]);
    TokenStream::from_iter([name, template(span(under.last()), &format!("{{ {message:?} }}"), &[])])
}

/// The tokens of `text`, all at `span`, with a part in place of each `$name`.
fn template(span: Span, text: &str, parts: &[(&str, TokenStream)]) -> TokenStream {
    fill(span, text.parse().expect("a template consists of tokens"), parts)
}

fn fill(span: Span, template: TokenStream, parts: &[(&str, TokenStream)]) -> TokenStream {
    let mut trees = template.into_iter();
    let mut filled = TokenStream::new();
    while let Some(mut tree) = trees.next() {
        if tree.to_string() == "$" {
            let name = trees.next().map(|name| name.to_string());
            let part = parts.iter().find(|(part, _)| name.as_deref() == Some(part));
            filled.extend(part.expect("a template names its parts").1.clone());
            continue;
        }
        if let TokenTree::Group(group) = &tree {
            tree = Group::new(group.delimiter(), fill(span, group.stream(), parts)).into();
        }
        tree.set_span(span);
        filled.extend([tree]);
    }
    filled
}
