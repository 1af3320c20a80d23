//! The macro that declares variables. Its parts are macros of their own, so that its page shows
//! one line.

/// Declares context variables.
///
/// ```text
/// context_var! {
///     static NAME: Type;
///     pub static NAME: Type = default;
///     static NAME: Type, option = value, option = value;
///     static NAME: Type = default, option = value;
/// }
/// ```
///
/// Attributes and documentation stand before a declaration, as with any `static`. The last
/// semicolon may be left out.
///
/// | declared | type | [`get`](crate::ContextVar::get) | where nothing is bound |
/// | --- | --- | --- | --- |
/// | `static TENANT: u32;` | [`ContextVar<u32>`](crate::ContextVar) | `Option<u32>` | `None`; [`require`](crate::ContextVar::require) panics with a text that helps |
/// | `static PRECISION: u32 = 28;` | [`ContextVar<u32, WithDefault<u32>>`](crate::WithDefault) | `u32` | the default: any expression, evaluated once, at the first need |
///
/// Options may be given in any order, each once:
///
/// | option | values | meaning | without it |
/// | --- | --- | --- | --- |
/// | `inherit` | `Always`, `Never`, `Derive(function)`, with `fn(&T) -> Option<T>` | what a spawned task gets; see [`Inherit`](crate::Inherit) | `Always` |
/// | `on_change` | a `fn(Option<&T>, Option<&T>)` | a hook: called with the previous and the current value; see [`VarOptions::on_change`](crate::VarOptions::on_change) | no hook |
/// | `debug` | `Debug`, for the type's own implementation, or a `fn(&T, &mut Formatter) -> fmt::Result` | how the value is written where contexts are listed | the value stays opaque |
/// | `required` | `true`, `false` | whether a read where nothing is bound is a mistake; see [`detect_losses`](crate::detect_losses) | `false` |
/// | `secret` | `true` | the text of a value is `[secret]` wherever contexts are listed, whatever `debug` says; see [`VarOptions::secret`](crate::VarOptions::secret) | `false` |
/// | `wire` | a name, or a [`Wire`](crate::wire::Wire), as in `Wire::bytes("key")` | values travel to other processes, under this name; see [`wire`](crate::wire) | they do not |
///
/// By hand: [`ContextVar::new`](crate::ContextVar::new),
/// [`with_options`](crate::ContextVar::with_options) and
/// [`with_default`](crate::ContextVar::with_default).
///
/// # Examples
///
/// ```
/// # use heirloom_context::internal::heirloom;
/// use heirloom::context_var;
///
/// #[derive(Clone, Debug)]
/// struct Span(u32);
///
/// impl Span {
///     fn child(&self) -> Option<Span> {
///         Some(Span(self.0 + 1))
///     }
/// }
///
/// fn mirror(_previous: Option<&Span>, _current: Option<&Span>) {}
///
/// context_var! {
///     /// Unset until set.
///     pub static REQUEST_ID: u64;
///     /// With a default.
///     pub static PRECISION: u32 = 28;
///     /// No spawned task gets it.
///     static TRANSACTION: u64, inherit = Never;
///     /// With several options.
///     static SPAN: Span, inherit = Derive(Span::child), on_change = mirror, debug = Debug;
///     /// A read where nothing is bound is a mistake.
///     static TENANT: u32, required = true;
///     /// Sent to other services.
///     static USER: u64, wire = "user";
/// }
///
/// assert_eq!(REQUEST_ID.get(), None);
/// assert_eq!(PRECISION.get(), 28);
/// SPAN.set(Span(1));
/// assert_eq!(format!("{REQUEST_ID:?}"), r#"ContextVar("REQUEST_ID")"#);
/// ```
#[macro_export]
macro_rules! context_var {
    ($($declarations:tt)*) => {
        $crate::__context_vars! { $($declarations)* }
    };
}

/// The declarations, one after the other. A declaration that cannot be read is an error, and the
/// last one.
#[doc(hidden)]
#[macro_export]
macro_rules! __context_vars {
    () => {};
    ($(#[$meta:meta])* $vis:vis static $name:ident : $type:ty $(; $($rest:tt)*)?) => {
        $(#[$meta])*
        $vis static $name: $crate::ContextVar<$type> = $crate::ContextVar::new(::core::stringify!($name));
        $crate::__context_vars! { $($($rest)*)? }
    };
    ($(#[$meta:meta])* $vis:vis static $name:ident : $type:ty = $default:expr $(; $($rest:tt)*)?) => {
        $(#[$meta])*
        $vis static $name: $crate::ContextVar<$type, $crate::WithDefault<$type>> =
            $crate::ContextVar::new(::core::stringify!($name)).with_default(|| -> $type { $default });
        $crate::__context_vars! { $($($rest)*)? }
    };
    ($(#[$meta:meta])* $vis:vis static $name:ident : $type:ty, $($options:tt)*) => {
        $(#[$meta])*
        $vis static $name: $crate::ContextVar<$type> = $crate::ContextVar::with_options(
            ::core::stringify!($name),
            $crate::__var_options!([$name $type] [] [] [] [] [] [], $($options)*),
        );
        $crate::__after_options! { $($options)* }
    };
    ($(#[$meta:meta])* $vis:vis static $name:ident : $type:ty = $default:expr, $($options:tt)*) => {
        $(#[$meta])*
        $vis static $name: $crate::ContextVar<$type, $crate::WithDefault<$type>> =
            $crate::ContextVar::with_options(
                ::core::stringify!($name),
                $crate::__var_options!([$name $type] [] [] [] [] [] [], $($options)*),
            )
            .with_default(|| -> $type { $default });
        $crate::__after_options! { $($options)* }
    };
    ($(#[$meta:meta])* $vis:vis static $name:ident : $($wrong:tt)*) => {
        $crate::__var_error! { "cannot read the declaration of `", $name, "`" }
    };
    ($(#[$meta:meta])* $vis:vis static $name:ident $($wrong:tt)*) => {
        $crate::__var_error! { "the type of `", $name, "` is missing" }
    };
    ($(#[$meta:meta])* $vis:vis $name:ident : $($wrong:tt)*) => {
        $crate::__var_error! { "`static` is missing before `", $name, "`" }
    };
    ($wrong:tt $($more:tt)*) => {
        $crate::__var_error! { "found `", $wrong, "` where a declaration begins" }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __var_error {
    ($before:literal, $wrong:tt, $after:literal) => {
        ::core::compile_error!(::core::concat!(
            $before,
            ::core::stringify!($wrong),
            $after,
            "; a declaration is `static NAME: Type;` or `static NAME: Type = default;`, \
             with options `static NAME: Type, option = value;`",
        ));
    };
}

/// The declarations that follow one with options.
#[doc(hidden)]
#[macro_export]
macro_rules! __after_options {
    ($($option:ident = $value:expr),* $(,)? ; $($rest:tt)*) => {
        $crate::__context_vars! { $($rest)* }
    };
    // The last declaration, or one whose error is reported where its options are read.
    ($($end:tt)*) => {};
}

/// The options of a variable, up to the end of its declaration, as a [`VarOptions`]. After the
/// variable's name and type, each list has the value of an option that was read already: of
/// `inherit`, `on_change`, `debug`, `required`, `secret` and `wire`.
///
/// [`VarOptions`]: crate::VarOptions
#[doc(hidden)]
#[macro_export]
macro_rules! __var_options {
    // The end of the declaration.
    ([$name:ident $type:ty] [$($inherit:expr)?] [$($on_change:expr)?] [$($debug:expr)?] [$($required:expr)?] [$($secret:expr)?] [$($wire:expr)?] $(,)? $(; $($rest:tt)*)?) => {{
        // Asks for the type's implementation only where it is named.
        #[allow(non_snake_case, dead_code)]
        fn Debug<T: ::core::fmt::Debug>(
            value: &T,
            f: &mut ::core::fmt::Formatter<'_>,
        ) -> ::core::fmt::Result {
            ::core::fmt::Debug::fmt(value, f)
        }
        // The codecs by their short name.
        #[allow(unused_imports)]
        use $crate::wire::Wire;
        #[allow(unused_mut)]
        let mut options = $crate::VarOptions::<$type>::new();
        $(options.inherit = $inherit;)?
        $(options.on_change = ::core::option::Option::Some($on_change);)?
        $(options.debug = ::core::option::Option::Some($debug);)?
        $(options.required = $required;)?
        $(options.secret = $secret;)?
        $(options.wire = ::core::option::Option::Some(const { &$wire });)?
        options
    }};
    // An option of each kind.
    ($variable:tt [] $on_change:tt $debug:tt $required:tt $secret:tt $wire:tt, inherit = Always $($rest:tt)*) => {
        $crate::__var_options!($variable [$crate::Inherit::Always] $on_change $debug $required $secret $wire $($rest)*)
    };
    ($variable:tt [] $on_change:tt $debug:tt $required:tt $secret:tt $wire:tt, inherit = Never $($rest:tt)*) => {
        $crate::__var_options!($variable [$crate::Inherit::Never] $on_change $debug $required $secret $wire $($rest)*)
    };
    ($variable:tt [] $on_change:tt $debug:tt $required:tt $secret:tt $wire:tt, inherit = Derive($derive:expr $(,)?) $($rest:tt)*) => {
        $crate::__var_options!($variable [$crate::Inherit::Derive($derive)] $on_change $debug $required $secret $wire $($rest)*)
    };
    ($variable:tt $inherit:tt [] $debug:tt $required:tt $secret:tt $wire:tt, on_change = $value:expr $(, $($rest:tt)*)?) => {
        $crate::__var_options!($variable $inherit [$value] $debug $required $secret $wire $(, $($rest)*)?)
    };
    ($variable:tt $inherit:tt [] $debug:tt $required:tt $secret:tt $wire:tt, on_change = $value:expr; $($rest:tt)*) => {
        $crate::__var_options!($variable $inherit [$value] $debug $required $secret $wire)
    };
    ($variable:tt $inherit:tt $on_change:tt [] $required:tt $secret:tt $wire:tt, debug = $value:expr $(, $($rest:tt)*)?) => {
        $crate::__var_options!($variable $inherit $on_change [$value] $required $secret $wire $(, $($rest)*)?)
    };
    ($variable:tt $inherit:tt $on_change:tt [] $required:tt $secret:tt $wire:tt, debug = $value:expr; $($rest:tt)*) => {
        $crate::__var_options!($variable $inherit $on_change [$value] $required $secret $wire)
    };
    ($variable:tt $inherit:tt $on_change:tt $debug:tt [] $secret:tt $wire:tt, required = $value:expr $(, $($rest:tt)*)?) => {
        $crate::__var_options!($variable $inherit $on_change $debug [$value] $secret $wire $(, $($rest)*)?)
    };
    ($variable:tt $inherit:tt $on_change:tt $debug:tt [] $secret:tt $wire:tt, required = $value:expr; $($rest:tt)*) => {
        $crate::__var_options!($variable $inherit $on_change $debug [$value] $secret $wire)
    };
    ($variable:tt $inherit:tt $on_change:tt $debug:tt $required:tt [] $wire:tt, secret = $value:expr $(, $($rest:tt)*)?) => {
        $crate::__var_options!($variable $inherit $on_change $debug $required [$value] $wire $(, $($rest)*)?)
    };
    ($variable:tt $inherit:tt $on_change:tt $debug:tt $required:tt [] $wire:tt, secret = $value:expr; $($rest:tt)*) => {
        $crate::__var_options!($variable $inherit $on_change $debug $required [$value] $wire)
    };
    ($variable:tt $inherit:tt $on_change:tt $debug:tt $required:tt $secret:tt [], wire = $name:literal $($rest:tt)*) => {
        $crate::__var_options!($variable $inherit $on_change $debug $required $secret [Wire::text($name)] $($rest)*)
    };
    ($variable:tt $inherit:tt $on_change:tt $debug:tt $required:tt $secret:tt [], wire = $value:expr $(, $($rest:tt)*)?) => {
        $crate::__var_options!($variable $inherit $on_change $debug $required $secret [$value] $(, $($rest)*)?)
    };
    ($variable:tt $inherit:tt $on_change:tt $debug:tt $required:tt $secret:tt [], wire = $value:expr; $($rest:tt)*) => {
        $crate::__var_options!($variable $inherit $on_change $debug $required $secret [$value])
    };
    // What is no option, or no value of one.
    ($variable:tt [] $on_change:tt $debug:tt $required:tt $secret:tt $wire:tt, inherit = $wrong:tt $($rest:tt)*) => {
        $crate::__option_error!(
            $variable "unknown policy `", $wrong, "`; the values of `inherit` are `Always`, `Never`, `Derive(function)`"
        )
    };
    ($variable:tt $inherit:tt $on_change:tt $debug:tt $required:tt $secret:tt $wire:tt, inherit = $($rest:tt)*) => {
        $crate::__option_error!($variable "the option `", inherit, "` is given twice")
    };
    ($variable:tt $inherit:tt $on_change:tt $debug:tt $required:tt $secret:tt $wire:tt, on_change = $($rest:tt)*) => {
        $crate::__option_error!($variable "the option `", on_change, "` is given twice")
    };
    ($variable:tt $inherit:tt $on_change:tt $debug:tt $required:tt $secret:tt $wire:tt, debug = $($rest:tt)*) => {
        $crate::__option_error!($variable "the option `", debug, "` is given twice")
    };
    ($variable:tt $inherit:tt $on_change:tt $debug:tt $required:tt $secret:tt $wire:tt, required = $($rest:tt)*) => {
        $crate::__option_error!($variable "the option `", required, "` is given twice")
    };
    ($variable:tt $inherit:tt $on_change:tt $debug:tt $required:tt $secret:tt $wire:tt, secret = $($rest:tt)*) => {
        $crate::__option_error!($variable "the option `", secret, "` is given twice")
    };
    ($variable:tt $inherit:tt $on_change:tt $debug:tt $required:tt $secret:tt $wire:tt, wire = $($rest:tt)*) => {
        $crate::__option_error!($variable "the option `", wire, "` is given twice")
    };
    ($variable:tt $inherit:tt $on_change:tt $debug:tt $required:tt $secret:tt $wire:tt, $option:ident = $($rest:tt)*) => {
        $crate::__option_error!(
            $variable "unknown option `", $option, "`; the options are `inherit`, `on_change`, `debug`, `required`, `secret`, `wire`"
        )
    };
    ($variable:tt $inherit:tt $on_change:tt $debug:tt $required:tt $secret:tt $wire:tt, $wrong:tt $($rest:tt)*) => {
        $crate::__var_options!($variable $inherit $on_change $debug $required $secret $wire $wrong)
    };
    ($variable:tt $inherit:tt $on_change:tt $debug:tt $required:tt $secret:tt $wire:tt $wrong:tt $($rest:tt)*) => {
        $crate::__option_error!(
            $variable "found `", $wrong, "` where `, option = value` or `;` is expected; the options are `inherit`, \
            `on_change`, `debug`, `required`, `secret`, `wire`"
        )
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __option_error {
    ([$name:ident $type:ty] $before:literal, $wrong:tt, $after:literal) => {
        ::core::compile_error!(::core::concat!(
            "the context variable `",
            ::core::stringify!($name),
            "`: ",
            $before,
            ::core::stringify!($wrong),
            $after,
        ))
    };
}
