//! Await stacks: the functions through which a task waits, as data and as text.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::env;
use std::ffi::c_void;
use std::fmt::{self, Display, Write};
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::Arc;

use crate::task::Leaf;
use crate::task::trace::{Addresses, Captured, TicketAnswer};

/// The stacks of one task, or why they are not known; in a [`TaskDump`](super::dump::TaskDump).
pub type Traced = Result<AwaitStacks, Untraced>;

/// Through which functions a task waits; in a [`TaskDump`](crate::runtime::TaskDump).
///
/// As text it is a tree that begins at the task's outermost function. It has branches where the
/// task waits for several leaves: in a `join!` or a `select!`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AwaitStacks {
    /// A stack for each leaf of this crate at which the traced poll has ended, the first eight of
    /// them.
    pub stacks: Vec<AwaitStack>,
    /// How many leaves the traced poll has ended at.
    pub leaves: u64,
}

/// One leaf that a task waits for, and the functions that await it; in [`AwaitStacks`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AwaitStack {
    /// What is waited for.
    pub leaf: Leaf,
    /// The functions, the outermost one first, without those of the standard library, of `futures`
    /// and of this crate. Empty if there are no others: the task is a leaf itself.
    pub frames: Arc<[StackFrame]>,
    /// The stack was too long: the outermost functions are missing.
    pub cut: bool,
}

/// A function that waits; in an [`AwaitStack`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StackFrame {
    /// The name with its path: of an async function its own, of an async block or a closure that of
    /// the function around it. `async function`, `async block` or `closure` in programs that have
    /// line tables and no more. An address if the program has no symbols.
    pub function: String,
    /// The source file, if the program has line numbers; relative to the current directory, if it
    /// is in there.
    pub file: Option<PathBuf>,
    /// The line in that file at which the function waits.
    pub line: Option<u32>,
}

/// Why the stacks of a task are not known; in a [`TaskDump`](crate::runtime::TaskDump).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Untraced {
    /// The runtime is not [inspected](crate::runtime::Builder::inspect).
    NotInspected,
    /// The task was being polled; or it is a blocking closure that runs.
    Running,
    /// The task was runnable: it waited for a worker and for nothing else.
    Runnable,
    /// The traced poll has met no leaf of this crate. The task waits for leaves of other crates; or
    /// for futures that are polled only when they are woken, as `FuturesUnordered` and long
    /// `join_all`s do with theirs.
    Foreign,
    /// The task has ended meanwhile.
    Ended,
    /// The task was not polled before the limit was reached.
    NoAnswer,
}

impl Display for Untraced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Untraced::NotInspected => "the runtime is not inspected",
            Untraced::Running => "the task is running",
            Untraced::Runnable => "the task is runnable",
            Untraced::Foreign => "no leaf of this crate was polled",
            Untraced::Ended => "the task has ended",
            Untraced::NoAnswer => "the task was not polled in time",
        })
    }
}

/// `name at file:line`.
impl Display for StackFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.function)?;
        if let Some(file) = &self.file {
            write!(f, " at {}", file.display())?;
        }
        self.line.filter(|_| self.file.is_some()).map_or(Ok(()), |line| write!(f, ":{line}"))
    }
}

/// A tree, the outermost function first.
impl Display for AwaitStacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, "")
    }
}

impl AwaitStacks {
    /// Each line begins with `indent`.
    pub(super) fn write(&self, f: &mut dyn Write, indent: &str) -> fmt::Result {
        if self.stacks.iter().any(|stack| stack.cut) {
            writeln!(f, "{indent}…")?;
        }
        write_branches(f, &self.stacks.iter().collect::<Vec<_>>(), 0, indent)?;
        match self.leaves.saturating_sub(self.stacks.len() as u64) {
            0 => Ok(()),
            more => writeln!(f, "{indent}and {more} more"),
        }
    }
}

/// Stacks that are the same up to `depth`: one branch for each function that comes next. Goes into
/// itself once for each fork, and there are less forks than stacks.
fn write_branches(f: &mut dyn Write, stacks: &[&AwaitStack], mut depth: usize, indent: &str) -> fmt::Result {
    loop {
        let mut branches: Vec<(Option<&StackFrame>, Vec<&AwaitStack>)> = Vec::new();
        for stack in stacks {
            let next = stack.frames.get(depth);
            // Two leaves are two branches.
            match branches.iter_mut().find(|(frame, _)| next.is_some() && *frame == next) {
                Some((_, branch)) => branch.push(stack),
                None => branches.push((next, vec![stack])),
            }
        }
        if let [(Some(frame), _)] = &branches[..] {
            writeln!(f, "{indent}{frame}")?;
            depth += 1;
            continue;
        }
        let (alone, last) = (branches.len() == 1, branches.len().saturating_sub(1));
        for (at, (frame, branch)) in branches.iter().enumerate() {
            let (head, tail) = match at == last {
                _ if alone => ("", ""),
                true => ("└─ ", "   "),
                false => ("├─ ", "│  "),
            };
            match frame {
                None => branch.iter().try_for_each(|stack| writeln!(f, "{indent}{head}{}", stack.leaf))?,
                Some(frame) => {
                    writeln!(f, "{indent}{head}{frame}")?;
                    write_branches(f, branch, depth + 1, &format!("{indent}{tail}"))?;
                }
            }
        }
        return Ok(());
    }
}

/// Looks up the functions of stacks: those of each address once.
#[derive(Default)]
pub(crate) struct Symbols {
    by_address: HashMap<usize, Arc<[Symbol]>>,
    by_stack: HashMap<Addresses, Arc<[StackFrame]>>,
    directory: Option<PathBuf>,
    /// Where the sources of this crate are, if the program has line numbers.
    own: Option<PathBuf>,
}

enum Symbol {
    Shown(StackFrame),
    Plumbing,
    /// The harness, which polls the task.
    End,
}

impl Symbols {
    pub(crate) fn new() -> Symbols {
        let mut own = None;
        let here: fn() -> Symbols = Symbols::new;
        // The instruction behind the first one: a look-up takes return addresses.
        backtrace::resolve(ptr::without_provenance_mut::<c_void>(here as usize + 1), |symbol| {
            let file = symbol.filename();
            own = own.take().or(file.and_then(|file| file.ancestors().nth(2)).map(Path::to_owned));
        });
        Symbols { directory: env::current_dir().ok(), own, ..Symbols::default() }
    }

    pub(crate) fn traced(&mut self, answer: TicketAnswer) -> Traced {
        match answer {
            TicketAnswer::Ended => Err(Untraced::Ended),
            TicketAnswer::Pending { leaves: 0, yielded: true, .. } => Err(Untraced::Runnable),
            TicketAnswer::Pending { leaves: 0, .. } => Err(Untraced::Foreign),
            TicketAnswer::Pending { captured, leaves, .. } => {
                let stack = |Captured { leaf, stack }| AwaitStack {
                    leaf,
                    cut: stack.cut,
                    frames: self.frames(stack),
                };
                Ok(AwaitStacks { stacks: captured.into_iter().map(stack).collect(), leaves })
            }
        }
    }

    fn frames(&mut self, stack: Addresses) -> Arc<[StackFrame]> {
        if let Some(frames) = self.by_stack.get(&stack) {
            return Arc::clone(frames);
        }
        let mut frames: Vec<StackFrame> = Vec::new();
        'stack: for address in &*stack.list {
            for symbol in &*self.symbols(*address) {
                match symbol {
                    Symbol::Shown(frame) => frames.push(frame.clone()),
                    Symbol::Plumbing => {}
                    Symbol::End => break 'stack,
                }
            }
        }
        frames.reverse();
        // A closure and the block around it may be one place. One in another file is a part of a
        // macro, such as `join!`.
        frames.dedup_by(|inner, outer| {
            if inner.file == outer.file {
                inner.function == outer.function && inner.line == outer.line
            } else {
                inner.function == outer.function && inner.function.contains("::")
            }
        });
        let frames: Arc<[_]> = frames.into();
        self.by_stack.insert(stack, Arc::clone(&frames));
        frames
    }

    /// The functions at an address: more than one if some are inlined, the innermost first.
    fn symbols(&mut self, address: usize) -> Arc<[Symbol]> {
        if let Some(symbols) = self.by_address.get(&address) {
            return Arc::clone(symbols);
        }
        let mut symbols = Vec::new();
        backtrace::resolve(ptr::without_provenance_mut::<c_void>(address), |symbol| {
            let name = symbol.name().map(|name| format!("{name:#}"));
            symbols.push(match name {
                Some(name) => self.symbol(&name, symbol.filename(), symbol.lineno()),
                None => unnamed(address),
            });
        });
        if symbols.is_empty() {
            symbols.push(unnamed(address));
        }
        let symbols: Arc<[_]> = symbols.into();
        self.by_address.insert(address, Arc::clone(&symbols));
        symbols
    }

    fn symbol(&self, name: &str, file: Option<&Path>, line: Option<u32>) -> Symbol {
        let inside = |path: &str| {
            let own = self.own.as_ref();
            own.zip(file).is_some_and(|(own, file)| file.starts_with(own.join(path)))
        };
        if name.starts_with("heirloom::task::harness::") || inside("task/harness.rs") {
            return Symbol::End;
        }
        if inside("") || file.is_some_and(is_of_a_library) || is_plumbing(name, file.is_some()) {
            return Symbol::Plumbing;
        }
        let file = file.map(|file| self.shortened(file));
        Symbol::Shown(StackFrame { function: shown_name(name), file, line })
    }

    fn shortened(&self, file: &Path) -> PathBuf {
        let directory = self.directory.as_deref();
        let short = directory.and_then(|directory| file.strip_prefix(directory).ok());
        short.unwrap_or(file).to_owned()
    }
}

fn unnamed(address: usize) -> Symbol {
    Symbol::Shown(StackFrame { function: format!("{address:#x}"), file: None, line: None })
}

/// Whether a function says nothing to a reader: one of the standard library, of the crates that
/// combine futures, of this crate. Programs with line tables alone have names without a path; one
/// of these without a file is of C.
fn is_plumbing(name: &str, has_file: bool) -> bool {
    match crate_of(name) {
        Some("core" | "std" | "alloc" | "backtrace" | "heirloom" | "heirloom_context") => true,
        Some(name) => name == "futures" || name.starts_with("futures_"),
        None => !has_file,
    }
}

/// Whether a file is of the standard library, of the crates that combine futures, or of the one
/// that captures stacks.
fn is_of_a_library(file: &Path) -> bool {
    let of_a_crate = |part: &str| part.starts_with("futures-") || part.starts_with("backtrace-");
    let mut parts = file.iter().filter_map(|part| part.to_str());
    file.starts_with("/rustc") || parts.any(|part| part == "rustlib" || of_a_crate(part))
}

/// The crate that a function is of: of `<A as B>::c` that of the type, if the type has a path, else
/// that of the trait.
fn crate_of(name: &str) -> Option<&str> {
    let inner = name.trim_start_matches(['<', '&', '*', '(', '[']);
    let inner = ["mut ", "const ", "dyn "].iter().fold(inner, |rest, word| rest.trim_start_matches(word));
    let end = inner.find(|letter: char| !(letter.is_alphanumeric() || letter == '_')).unwrap_or(inner.len());
    let (first, rest) = inner.split_at(end);
    if rest.starts_with("::") && !first.is_empty() {
        return Some(first);
    }
    if !name.starts_with('<') {
        return None;
    }
    let (_, of_trait) = inner.split_once(" as ")?;
    crate_of(of_trait)
}

/// A name for a reader: [`without_closures`], and a word for what then has no name.
fn shown_name(name: &str) -> String {
    let kinds = [
        ("{async_fn", "async function"),
        ("{async_block", "async block"),
        ("{async_closure", "async closure"),
        ("{closure", "closure"),
    ];
    match kinds.iter().find(|(kind, _)| name.starts_with(kind)) {
        Some((_, word)) => (*word).to_owned(),
        None => without_closures(name),
    }
}

/// The path without `{{closure}}` and `{closure#0}`, which async functions and blocks have, too.
fn without_closures(name: &str) -> String {
    let mut shown = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(start) = rest.find("::{") {
        let mut depth = 0;
        let closes = |letter: &(usize, char)| {
            depth += i32::from(letter.1 == '{') - i32::from(letter.1 == '}');
            letter.1 == '}' && depth == 0
        };
        let Some((end, _)) = rest[start..].char_indices().find(closes) else { break };
        shown.push_str(&rest[..start]);
        rest = &rest[start + end + 1..];
    }
    shown.push_str(rest);
    shown
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_crate_of_a_function_is_found_in_both_manglings() {
        for (name, crate_name) in [
            ("svc::serve::{{closure}}", Some("svc")),
            ("svc::serve::<u8>::{closure#0}", Some("svc")),
            ("<svc::Wait as core::future::future::Future>::poll", Some("svc")),
            ("<&mut F as core::future::future::Future>::poll", Some("core")),
            ("<F as futures_core::future::TryFuture>::try_poll", Some("futures_core")),
            ("<alloc::boxed::Box<F,A> as core::future::future::Future>::poll", Some("alloc")),
            ("__rust_try", None),
            ("main", None),
        ] {
            assert_eq!(crate_of(name), crate_name, "{name}");
        }
        assert!(is_plumbing("futures_util::future::join_all::f", true) && is_plumbing("_start", false));
        assert!(!is_plumbing("heirloom_tests::f", true) && !is_plumbing("{async_fn#0}", true));
    }

    #[test]
    fn an_async_function_has_its_own_name() {
        assert_eq!(without_closures("svc::serve::{{closure}}::{{closure}}"), "svc::serve");
        assert_eq!(without_closures("svc::serve::<u8>::{closure#0}"), "svc::serve::<u8>");
        assert_eq!(without_closures("svc::{impl#1}::serve::{async_fn#0}"), "svc::serve");
        assert_eq!(without_closures("main"), "main");
        assert_eq!(shown_name("{async_fn#0}"), "async function");
        assert_eq!(shown_name("{closure#1}<u8>"), "closure");
    }

    fn stack(names: &[&str]) -> AwaitStack {
        let frame = |name: &&str| StackFrame { function: (*name).to_owned(), file: None, line: None };
        AwaitStack { leaf: Leaf::Receive, frames: names.iter().map(frame).collect(), cut: false }
    }

    #[test]
    fn stacks_are_one_tree() {
        let of = |stacks: &[&[&str]]| {
            let stacks: Vec<_> = stacks.iter().map(|names| stack(names)).collect();
            AwaitStacks { leaves: stacks.len() as u64, stacks }.to_string()
        };
        assert_eq!(of(&[&["a", "b"]]), "a\nb\na message of a channel\n");
        assert_eq!(of(&[&[]]), "a message of a channel\n");
        let leaf = "a message of a channel";
        assert_eq!(
            of(&[&["a", "b", "c"], &["a", "d"], &["a", "b"], &["a"]]),
            format!("a\n├─ b\n│  ├─ c\n│  │  {leaf}\n│  └─ {leaf}\n├─ d\n│  {leaf}\n└─ {leaf}\n")
        );
    }

    #[test]
    fn leaves_that_are_not_kept_are_counted() {
        let mut stacks = AwaitStacks { stacks: vec![stack(&["a"])], leaves: 11 };
        assert_eq!(stacks.to_string(), "a\na message of a channel\nand 10 more\n");
        stacks.stacks[0].cut = true;
        assert!(stacks.to_string().starts_with("…\na\n"));
    }
}
