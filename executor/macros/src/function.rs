//! The function under an attribute, and the trees that it is read from.
#![forbid(unsafe_code)]

use std::collections::VecDeque;

use proc_macro::{Delimiter, TokenStream, TokenTree};

use crate::expand::{Kind, refusal};

/// Token trees, with what stands for a variable of `macro_rules` opened as it is met: `$visibility`
/// is a tree with invisible delimiters, and is read as its content, which may be nothing.
pub(crate) struct Trees(VecDeque<TokenTree>);

impl Trees {
    pub(crate) fn new(stream: TokenStream) -> Self {
        Trees(stream.into_iter().collect())
    }

    fn next_if(&mut self, accept: impl Fn(&TokenTree) -> bool) -> Option<TokenTree> {
        let next = self.next()?;
        if accept(&next) {
            return Some(next);
        }
        self.0.push_front(next);
        None
    }
}

impl Iterator for Trees {
    type Item = TokenTree;

    fn next(&mut self) -> Option<TokenTree> {
        loop {
            match self.0.pop_front()? {
                TokenTree::Group(group) if group.delimiter() == Delimiter::None => {
                    let mut opened = Trees::new(group.stream());
                    opened.0.append(&mut self.0);
                    *self = opened;
                }
                tree => return Some(tree),
            }
        }
    }
}

/// A function whose body was not looked at: what is wrong in there is for the compiler to say, at
/// its place.
pub(crate) struct Function {
    pub(crate) name: String,
    /// For templates: `attributes`, `visibility`, `signature` (from `async` to the output type),
    /// `name`, `output` (with its arrow) and `body` (with its braces).
    pub(crate) parts: Vec<(&'static str, TokenStream)>,
    /// Errors that say all that is wrong with the signature.
    pub(crate) refusals: TokenStream,
}

impl Function {
    /// Walks from each part of the function to the next; the compiler has checked that they are
    /// there. Fails, with the tokens of an error, if the item is no function.
    pub(crate) fn parse(kind: Kind, item: TokenStream) -> Result<Self, TokenStream> {
        let mut rest = Trees::new(item);
        let mut refusals = TokenStream::new();
        let mut attributes = Vec::new();
        while let Some(hash) = rest.next_if(|next| is(next, "#")) {
            let attribute = Vec::from_iter([hash].into_iter().chain(rest.next()));
            if kind == Kind::Test && attribute.last().is_some_and(is_test) {
                refusals.extend(refusal(&attribute, "a second test attribute: the test would run twice"));
            }
            attributes.extend(attribute);
        }
        let mut visibility = Vec::from_iter(rest.next_if(|next| is(next, "pub")));
        if !visibility.is_empty() {
            visibility.extend(rest.next_if(is_parenthesized));
        }

        let mut refuse = |under: &[TokenTree], message: &str| {
            refusals.extend(refusal(under, &format!("{} {message}", kind.name())));
        };
        let mut signature = Vec::new();
        let token = loop {
            let mut under = Vec::from_iter(rest.next());
            match &*under.first().map_or_else(String::new, TokenTree::to_string) {
                "async" => {}
                "fn" => break under,
                "const" => refuse(&under, "cannot be used on a `const fn`"),
                "unsafe" => refuse(&under, "cannot be used on an `unsafe fn`"),
                "extern" => {
                    under.extend(rest.next_if(|next| matches!(next, TokenTree::Literal(_))));
                    refuse(&under, "cannot be used on an `extern fn`");
                }
                _ => return Err(refusal(&under, "expected `fn`")),
            }
            signature.extend(under);
        };
        if !signature.iter().any(|word| is(word, "async")) {
            refuse(&token, "needs an `async fn`; write `async` before `fn`");
        }
        let name = Vec::from_iter(rest.next());
        let (mut generics, mut depth, mut before) = (Vec::new(), 0, String::new());
        while let Some(tree) = rest.next_if(|next| depth > 0 || !is_parenthesized(next)) {
            let text = tree.to_string();
            depth = open_angles(depth, &before, &text);
            before = text;
            generics.push(tree);
        }
        let is_generic = generics.len() > "<>".len();
        if is_generic {
            refuse(&generics, "cannot be used on a generic function: no caller chooses the types");
        }
        let arguments = Vec::from_iter(rest.next());
        if let [TokenTree::Group(group)] = &*arguments
            && !group.stream().is_empty()
        {
            let inside = Vec::from_iter(group.stream());
            refuse(&inside, "cannot be used on a function with arguments: none are passed");
        }
        // As it came: invisible delimiters hold a type together.
        let mut output = Vec::from(rest.0);
        let body = Vec::from_iter(output.pop());
        let end = output.iter().position(|tree| is(tree, "where")).unwrap_or(output.len());
        let clause = output.split_off(end);
        if !clause.is_empty() && !is_generic {
            refuse(&clause, "cannot be used with a `where` clause");
        }

        signature.extend([&*token, &name, &arguments, &output].concat());
        let text = name.first().map_or_else(String::new, TokenTree::to_string);
        let parts = [
            ("attributes", attributes),
            ("visibility", visibility),
            ("signature", signature),
            ("name", name),
            ("output", output),
            ("body", body),
        ];
        let parts = Vec::from(parts.map(|(part, trees)| (part, TokenStream::from_iter(trees))));
        Ok(Function { name: text, parts, refusals })
    }
}

/// How many `<` are open after the token `text`. The `>` of `->` closes none.
pub(crate) fn open_angles(depth: usize, before: &str, text: &str) -> usize {
    match (before, text) {
        (_, "<") => depth + 1,
        ("-", ">") => depth,
        (_, ">") => depth.saturating_sub(1),
        _ => depth,
    }
}

fn is(tree: &TokenTree, text: &str) -> bool {
    tree.to_string() == text
}

fn is_parenthesized(tree: &TokenTree) -> bool {
    matches!(tree, TokenTree::Group(group) if group.delimiter() == Delimiter::Parenthesis)
}

/// Whether the path in the brackets ends in `test`.
fn is_test(attribute: &TokenTree) -> bool {
    let TokenTree::Group(group) = attribute else { return false };
    let is_of_path = |tree: &TokenTree| matches!(tree, TokenTree::Ident(_)) || is(tree, ":");
    Trees::new(group.stream()).take_while(is_of_path).last().is_some_and(|last| is(&last, "test"))
}
