//! The function under an attribute.
#![forbid(unsafe_code)]

use proc_macro2::TokenStream;
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, Error, Result, Signature, Visibility};

use crate::expand::Kind;

/// A function whose body was not looked at: what is wrong in there is for the compiler to say, at
/// its place.
pub(crate) struct Function {
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) visibility: Visibility,
    pub(crate) signature: Signature,
    /// With its braces.
    pub(crate) body: TokenStream,
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        Ok(Function {
            attributes: input.call(Attribute::parse_outer)?,
            visibility: input.parse()?,
            signature: input.parse()?,
            body: input.parse()?,
        })
    }
}

impl Function {
    /// Says all that is wrong with the signature at once.
    pub(crate) fn check(&self, kind: Kind) -> Result<()> {
        let name = kind.name();
        let signature = &self.signature;
        let mut errors = Vec::new();
        if signature.asyncness.is_none() {
            let message = format!("{name} needs an `async fn`; write `async` before `fn`");
            errors.push(Error::new(signature.fn_token.span, message));
        }
        if let Some(token) = &signature.constness {
            errors.push(Error::new_spanned(token, format!("{name} cannot be used on a `const fn`")));
        }
        if let Some(token) = &signature.unsafety {
            errors.push(Error::new_spanned(token, format!("{name} cannot be used on an `unsafe fn`")));
        }
        if let Some(abi) = &signature.abi {
            errors.push(Error::new_spanned(abi, format!("{name} cannot be used on an `extern fn`")));
        }
        if !signature.generics.params.is_empty() {
            let message = format!("{name} cannot be used on a generic function: no caller chooses the types");
            errors.push(Error::new_spanned(&signature.generics, message));
        } else if let Some(clause) = &signature.generics.where_clause {
            errors.push(Error::new_spanned(clause, format!("{name} cannot be used with a `where` clause")));
        }
        if !signature.inputs.is_empty() || signature.variadic.is_some() {
            let message = format!("{name} cannot be used on a function with arguments: none are passed");
            errors.push(Error::new_spanned(&signature.inputs, message));
        }
        let is_test =
            |other: &&Attribute| other.path().segments.last().is_some_and(|last| last.ident == "test");
        if let (Kind::Test, Some(other)) = (kind, self.attributes.iter().find(is_test)) {
            errors.push(Error::new_spanned(other, "a second test attribute: the test would run twice"));
        }
        let all = errors.into_iter().reduce(|mut all, error| {
            all.combine(error);
            all
        });
        all.map_or(Ok(()), Err)
    }
}
