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
#![forbid(unsafe_code)]

use std::time::Duration;

use proc_macro2::{Span, TokenStream};
use quote::quote_spanned;
use syn::Error;
use syn::parse::Parser;
use syn::spanned::Spanned;

use crate::function::Function;
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
    let function = match syn::parse2::<Function>(item.clone()) {
        Ok(function) => function,
        Err(error) => {
            // With the item, which says what is wrong with it better than this does.
            let mut tokens = error.into_compile_error();
            tokens.extend(item);
            return tokens;
        }
    };
    let parser = |input: syn::parse::ParseStream<'_>| Options::parse(kind, input);
    match (function.check(kind), parser.parse2(options)) {
        (Ok(()), Ok(options)) => plain(kind, &function, options),
        (Ok(()), Err(error)) => refused(&error, plain(kind, &function, Options::default())),
        (Err(error), Ok(_)) => refused(&error, placeholder(&function)),
        (Err(mut error), Err(other)) => {
            error.combine(other);
            refused(&error, placeholder(&function))
        }
    }
}

/// With something that takes the function's place, so that its absence is not reported as well.
fn refused(error: &syn::Error, item: TokenStream) -> TokenStream {
    let mut tokens = error.to_compile_error();
    tokens.extend(item);
    tokens
}

fn placeholder(Function { visibility, signature, .. }: &Function) -> TokenStream {
    let name = &signature.ident;
    quote_spanned! {Span::mixed_site()=>
        #[allow(dead_code)]
        #visibility fn #name() {}
    }
}

fn plain(kind: Kind, function: &Function, options: Options) -> TokenStream {
    let Function { attributes, visibility, signature, body } = function;
    let (name, output) = (&signature.ident, &signature.output);
    let test = (kind == Kind::Test).then(|| {
        quote_spanned! {Span::mixed_site()=> #[::core::prelude::v1::test] }
    });
    let run = run(kind, name, options);
    quote_spanned! {Span::mixed_site()=>
        #test
        #(#attributes)*
        #visibility fn #name() #output {
            #signature #body
            #run
        }
    }
}

fn run(kind: Kind, name: &syn::Ident, options: Options) -> TokenStream {
    let span = Span::mixed_site();
    let Options { workers, timeout, shutdown, builder, virtual_time, tokio, tracing, opentelemetry } =
        options;
    // The default runtime is the process's, so only the process's `main` ends it.
    let is_program = kind == Kind::Main && name == "main";
    let uses_default = kind == Kind::Main && (workers.is_none() || builder.is_some());
    if let Some((place, _)) = shutdown.as_ref().filter(|_| uses_default && !is_program) {
        let message = "`shutdown` ends the default runtime, which only a function `main` may do: call the function \
                       `main`, or give it a runtime of its own by `workers = N` without `builder`";
        return Error::new_spanned(place, message).into_compile_error();
    }
    let limit = match &shutdown {
        None => quote_spanned! {span=> ::core::option::Option::None },
        Some((_, limit)) => {
            let limit = duration(*limit);
            quote_spanned! {span=> ::core::option::Option::Some(#limit) }
        }
    };
    let block_on_default = if is_program {
        quote_spanned! {span=> ::heirloom::runtime::block_on_main(::core::option::Option::None, true, #limit, #name()) }
    } else {
        quote_spanned! {span=> ::heirloom::block_on(#name()) }
    };
    // An error of the compiler's about the feature stands where the option does. The span of
    // `tracing` comes first: a layer of its own may attach an OpenTelemetry context as it is
    // entered.
    let ambients: TokenStream = [tracing, opentelemetry]
        .into_iter()
        .flatten()
        .map(|name| quote_spanned! {name.span()=> .#name() })
        .collect();
    if uses_default && builder.is_none() && tokio.is_none() && ambients.is_empty() {
        return block_on_default;
    }
    let workers = match (kind, workers, &builder) {
        (_, Some(workers), _) => Some(quote_spanned! {span=> .workers(#workers) }),
        (Kind::Test, None, None) if virtual_time.is_none() => {
            Some(quote_spanned! {span=> .workers(#TEST_WORKERS) })
        }
        (_, None, _) => None,
    };
    let tokio = tokio.map(|name| {
        let guest = quote_spanned! {name.span()=> ::heirloom::tokio::TokioGuest::new() };
        quote_spanned! {span=> .tokio(#guest) }
    });
    let virtual_time = virtual_time.map(|_| quote_spanned! {span=> .virtual_time() });
    let start = match &builder {
        None => quote_spanned! {span=> ::heirloom::Runtime::builder() },
        Some(function) => {
            // A function of another type is told of where it is named.
            let call = quote_spanned! {function.span()=> #function() };
            quote_spanned! {span=> { let builder: ::heirloom::runtime::Builder = #call; builder } }
        }
    };
    let future = match timeout {
        None => quote_spanned! {span=> #name() },
        Some((text, limit)) => {
            let limit = duration(limit);
            let message = format!("the test `{name}` has not ended within {}", text.value());
            quote_spanned! {span=>
                async {
                    match ::heirloom::wait_for(#name(), #limit).await {
                        ::core::result::Result::Ok(output) => output,
                        ::core::result::Result::Err(_) => ::core::panic!(#message),
                    }
                }
            }
        }
    };
    if uses_default {
        return quote_spanned! {span=>
            match #start #workers #tokio #ambients.build_default() {
                ::core::result::Result::Ok(_) => #block_on_default,
                ::core::result::Result::Err(error) => ::core::panic!("the default runtime cannot be started: {error}"),
            }
        };
    }
    let block_on = match kind {
        Kind::Main => quote_spanned! {span=>
            ::heirloom::runtime::block_on_main(::core::option::Option::Some(runtime), #is_program, #limit, #future)
        },
        Kind::Test => quote_spanned! {span=> runtime.block_on(#future) },
    };
    quote_spanned! {span=>
        match #start #workers #virtual_time #tokio #ambients.build() {
            ::core::result::Result::Ok(runtime) => #block_on,
            ::core::result::Result::Err(error) => ::core::panic!("the runtime cannot be started: {error}"),
        }
    }
}

fn duration(of: Duration) -> TokenStream {
    let (seconds, nanoseconds) = (of.as_secs(), of.subsec_nanos());
    quote_spanned! {Span::mixed_site()=> ::core::time::Duration::new(#seconds, #nanoseconds) }
}
