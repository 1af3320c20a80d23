//! The spans of `tracing` in tasks, and what checks them: a layer that keeps a book of each span.

use std::cell::RefCell;
use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use futures::future::join_all;
use heirloom::context::{Ambient, Crossing, LogVars};
use heirloom::runtime::Builder;
use heirloom::{
    Runtime, TaskGroup, context_var, sleep, spawn, spawn_background, spawn_blocking, task, yield_now,
};
use heirloom_tests::{OnDrop, PATIENCE, quiet_panic, scaled, watchdog};
use tracing::span::{Attributes, EnteredSpan, Id};
use tracing::{Instrument, Span, Subscriber, info_span};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// Checks that spans are entered and left in order, and closed once, when they are in force
/// nowhere. It keeps a book for each target, so that tests do not see each other's spans.
struct Checker;

#[derive(Clone, Debug, Default)]
struct Book {
    opened: usize,
    closed: usize,
    enters: usize,
    exits: usize,
    faults: Vec<String>,
}

static BOOKS: Mutex<Option<HashMap<String, Book>>> = Mutex::new(None);

thread_local! {
    /// The numbers of the spans that this thread is in.
    static INSIDE: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// What the checker knows of a span, which has the number of its opening.
struct Entry {
    number: usize,
    target: &'static str,
    /// How often it was entered and not left.
    inside: Mutex<usize>,
}

fn in_book<R>(target: &str, f: impl FnOnce(&mut Book) -> R) -> R {
    f(BOOKS.lock().unwrap().get_or_insert_default().entry(target.to_owned()).or_default())
}

fn taken(target: &str) -> Book {
    in_book(target, std::mem::take)
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Checker {
    fn on_new_span(&self, span: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let target = span.metadata().target();
        if target.starts_with("spans::") {
            let number = in_book(target, |book| {
                book.opened += 1;
                book.opened
            });
            let entry = Entry { number, target, inside: Mutex::new(0) };
            context.span(id).unwrap().extensions_mut().insert(entry);
        }
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        let span = context.span(id).unwrap();
        let extensions = span.extensions();
        let Some(entry) = extensions.get::<Entry>() else { return };
        *entry.inside.lock().unwrap() += 1;
        INSIDE.with_borrow_mut(|inside| inside.push(entry.number));
        in_book(entry.target, |book| book.enters += 1);
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        let span = context.span(id).unwrap();
        let extensions = span.extensions();
        let Some(entry) = extensions.get::<Entry>() else { return };
        let innermost = INSIDE.with_borrow_mut(Vec::pop);
        in_book(entry.target, |book| {
            book.exits += 1;
            let mut inside = entry.inside.lock().unwrap();
            match inside.checked_sub(1) {
                Some(left) => *inside = left,
                None => book.faults.push(format!("span {} is left and was not entered", entry.number)),
            }
            if innermost != Some(entry.number) {
                book.faults.push(format!("span {} is left inside of {innermost:?}", entry.number));
            }
        });
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let span = context.span(&id).unwrap();
        let mut extensions = span.extensions_mut();
        let Some(entry) = extensions.remove::<Entry>() else { return };
        in_book(entry.target, |book| {
            book.closed += 1;
            if *entry.inside.lock().unwrap() != 0 {
                book.faults.push(format!("span {} is closed while it is entered", entry.number));
            }
        });
    }
}

/// The events of the tests of variables, as text.
struct Lines;

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Text(String);

impl tracing::field::Visit for Text {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.0 += &format!(" {field}={value:?}");
    }

    fn record_error(&mut self, field: &tracing::field::Field, value: &(dyn std::error::Error + 'static)) {
        self.0 += &format!(" {field}={value} from {:?}", value.source().map(ToString::to_string));
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        if event.metadata().target() == "vars" {
            let mut text = Text(event.metadata().name().to_owned());
            text.0.clear();
            event.record(&mut text);
            let inside = context.event_span(event).map(|span| span.name());
            LINES.lock().unwrap().push(format!("{inside:?}:{}", text.0));
        }
    }

    fn on_new_span(&self, span: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if span.metadata().target() == "vars" {
            let mut text = Text(String::new());
            span.record(&mut text);
            let parent = context.span(id).unwrap().parent().map(|parent| parent.name());
            LINES.lock().unwrap().push(format!("new in {parent:?}:{}", text.0));
        }
    }
}

context_var! {
    static REQUEST: u64, debug = Debug;
    static TENANT: &'static str, debug = Debug;
    static SECRET: u64;
    static TOKEN: &'static str, debug = Debug, secret = true;
}

/// The subscriber of this process.
fn subscribe() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let lines = LogVars::new().var(&REQUEST).var(&TENANT).layer(Lines);
        let subscriber = tracing_subscriber::registry().with(Checker).with(lines);
        tracing::subscriber::set_global_default(subscriber).unwrap();
    });
}

/// Notes a fault if `span` is not the current one.
fn look(span: &Span, at: &str) {
    let current = Span::current();
    if current != *span {
        let target = span.metadata().unwrap().target();
        in_book(target, |book| book.faults.push(format!("{at}: {current:?} instead of {span:?}")));
    }
}

fn looks_in_drop(span: &Span) -> OnDrop {
    let span = span.clone();
    OnDrop::new(move || look(&span, "in a drop"))
}

/// All that a task does, in the span in which it was spawned.
async fn request(number: usize, make: fn() -> Span, span: Span) {
    let _witness = looks_in_drop(&span);
    look(&span, "first poll");
    yield_now().await;
    look(&span, "second poll");
    let inner = make();
    let child = {
        let (span, _entered) = (inner.clone(), inner.enter());
        let witness = looks_in_drop(&span);
        spawn(async move {
            let _witness = witness;
            look(&span, "child");
            if number.is_multiple_of(5) {
                sleep(Duration::from_millis(1)).await;
            }
            yield_now().await;
            look(&span, "child, later");
            if number.is_multiple_of(3) {
                quiet_panic("in a span");
            }
        })
    };
    look(&span, "beside the child");
    match number % 7 {
        0 => drop(child),
        1 => {
            child.abort();
            let _ = child.await;
        }
        _ => drop(child.await),
    }
    look(&span, "after the child");
    let closure = span.clone();
    match number % 6 {
        0 => spawn_blocking(move || {
            look(&closure, "blocking closure");
            // A set on this thread, in another span than its tasks. (Theirs is not the closure's: a
            // registry takes a span that is entered twice for current once, where it is outermost.)
            let (set, own) = (task::LocalSet::new(), make());
            let locals = own.in_scope(|| {
                [0, 1].map(|_| {
                    let span = own.clone();
                    set.spawn_local(async move {
                        let _witness = looks_in_drop(&span);
                        look(&span, "local task");
                        yield_now().await;
                        look(&span, "local task, later");
                    })
                })
            });
            let inner = make();
            inner.in_scope(|| {
                let [first, second] = locals;
                set.block_on(first).unwrap();
                look(&inner, "around the set");
                // The second is dropped with the set.
                drop(second);
            });
            drop(set);
        })
        .await
        .unwrap(),
        1 => {
            let eager = closure.clone();
            heirloom::run_eagerly(async move {
                look(&eager, "eager call");
                let (span, inner) = (eager.clone(), make());
                let other = inner.clone();
                let task = inner.in_scope(|| {
                    spawn(async move {
                        let _witness = looks_in_drop(&other);
                        look(&other, "eager task");
                        sleep(Duration::from_micros(10)).await;
                        quiet_panic("in an eager task");
                    })
                });
                assert!(task.await.unwrap_err().is_panic());
                look(&span, "after the eager task");
            });
        }
        2 => {
            let ended = TaskGroup::<anyhow::Error>::scope(async |group| {
                for _ in 0..3 {
                    let span = closure.clone();
                    group.spawn(async move {
                        let _witness = looks_in_drop(&span);
                        look(&span, "task of a group");
                        yield_now().await;
                        anyhow::bail!("the others are cancelled")
                    });
                }
                Ok(())
            });
            assert!(ended.await.is_err());
        }
        3 => {
            let inline = task::Builder::new().start_inline(true).spawn(async move {
                look(&closure, "inline");
                yield_now().await;
                look(&closure, "inline, later");
            });
            inline.await.unwrap();
        }
        4 => {
            let (told, tell) = futures::channel::oneshot::channel();
            spawn_background(async move {
                yield_now().await;
                told.send(Span::current().is_none())
            });
            if tell.await != Ok(true) {
                in_book(closure.metadata().unwrap().target(), |book| {
                    book.faults.push("a background task is in a span".to_owned());
                });
            }
        }
        _ => std::future::pending().await,
    }
    look(&span, "at the end");
}

/// Runs that many requests on a runtime, and returns the book.
fn book_of(builder: Builder, requests: usize, make: fn() -> Span) -> Book {
    subscribe();
    let target = make().metadata().unwrap().target();
    taken(target);
    let runtime = builder.workers(4).report_mistakes(false).build().unwrap();
    let (ends, pend): (Vec<_>, Vec<_>) = (0..requests).partition(|number| number % 6 != 5);
    let begin = |number| {
        let span = make();
        span.in_scope(|| runtime.spawn(request(number, make, span.clone())))
    };
    let pending: Vec<_> = pend.into_iter().map(begin).collect();
    // Half of those that never end are aborted, the others end with the runtime.
    let mut ends: Vec<_> = ends.into_iter().map(begin).collect();
    for (number, task) in pending.into_iter().enumerate() {
        match number % 2 {
            0 => ends.push({
                task.abort();
                task
            }),
            _ => task.detach(),
        }
    }
    for task in runtime.block_on(join_all(ends)) {
        // A twin that does harm may make tasks panic.
        drop(task);
    }
    runtime.shutdown(Duration::ZERO);
    in_book(target, |book| book.clone())
}

#[test]
fn spans_are_entered_left_and_closed_as_they_should() {
    fn make() -> Span {
        info_span!(target: "spans::sound", "request")
    }
    watchdog(PATIENCE, || {
        let requests = scaled(3_000);
        let book = book_of(Runtime::builder().tracing(), requests, make);
        assert_eq!(book.faults, [""; 0]);
        assert_eq!(book.enters, book.exits);
        assert_eq!(book.opened, book.closed);
        assert!(book.opened > 2 * requests && book.enters > 4 * requests, "{book:?}");
        INSIDE.with_borrow(|inside| assert!(inside.is_empty()));
    });
}

/// The checker is checked: by no ambient state, and by ambient states that forget to leave, that
/// leave in another order, and that never close.
#[test]
fn the_checker_notices_each_mistake() {
    struct NeverLeaves;
    impl Ambient for NeverLeaves {
        type State = Span;
        type Guard<'a> = ();
        fn capture(&self, _: &Crossing<'_>) -> Option<Span> {
            Some(Span::current())
        }
        fn enter(&self, span: &mut Span) {
            std::mem::forget(span.enter());
        }
    }

    struct NeverCloses;
    impl Ambient for NeverCloses {
        type State = ManuallyDrop<Span>;
        type Guard<'a> = tracing::span::Entered<'a>;
        fn capture(&self, _: &Crossing<'_>) -> Option<ManuallyDrop<Span>> {
            Some(ManuallyDrop::new(Span::current()))
        }
        fn enter<'a>(&self, span: &'a mut ManuallyDrop<Span>) -> tracing::span::Entered<'a> {
            span.enter()
        }
    }

    /// The outer one is left first.
    struct Crossed;
    impl Ambient for Crossed {
        type State = Span;
        type Guard<'a> = (EnteredSpan, EnteredSpan);
        fn capture(&self, _: &Crossing<'_>) -> Option<Span> {
            Some(Span::current())
        }
        fn enter(&self, span: &mut Span) -> (EnteredSpan, EnteredSpan) {
            (info_span!(target: "spans::crossed", "outer").entered(), span.clone().entered())
        }
    }

    fn nothing() -> Span {
        info_span!(target: "spans::nothing", "request")
    }
    fn never_leaves() -> Span {
        info_span!(target: "spans::never_leaves", "request")
    }
    fn never_closes() -> Span {
        info_span!(target: "spans::never_closes", "request")
    }
    fn crossed() -> Span {
        info_span!(target: "spans::crossed", "request")
    }

    watchdog(PATIENCE, || {
        let builder = Runtime::builder;
        let book = book_of(builder(), 12, nothing);
        assert!(book.faults.iter().any(|fault| fault.starts_with("first poll")), "{book:?}");
        assert!(book.faults.iter().any(|fault| fault.starts_with("in a drop")), "{book:?}");
        let book = book_of(builder().ambient(&NeverLeaves), 12, never_leaves);
        assert_ne!(book.enters, book.exits);
        let book = book_of(builder().ambient(&NeverCloses), 12, never_closes);
        assert_ne!(book.opened, book.closed);
        let book = book_of(builder().ambient(&Crossed), 12, crossed);
        assert!(book.faults.iter().any(|fault| fault.contains("is left inside of")), "{book:?}");
    });
}

#[heirloom::test(tracing)]
async fn the_attribute_has_an_option() {
    subscribe();
    let span = info_span!("attribute");
    let seen = span.in_scope(|| spawn(async { Span::current() }));
    assert_eq!(seen.await.unwrap(), span);
    // A part of a task in a span of its own, which goes to what the part spawns.
    let inner = info_span!("inner");
    let part = async { spawn(async { Span::current() }).await.unwrap() };
    let part = part.instrument(inner.clone());
    let task = span.in_scope(|| spawn(async { (part.await, Span::current()) }));
    assert_eq!(task.await.unwrap(), (inner, span));
}

#[derive(Debug)]
struct Outer(std::fmt::Error);

impl std::fmt::Display for Outer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("outer")
    }
}

impl std::error::Error for Outer {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

#[test]
fn variables_are_fields_of_events_and_spans() {
    watchdog(PATIENCE, || {
        subscribe();
        let runtime = Runtime::builder().workers(2).tracing().build().unwrap();
        let error: &(dyn std::error::Error + 'static) = &Outer(std::fmt::Error);
        tracing::info!(target: "vars", error, "no variable has a value");
        SECRET.set(1);
        REQUEST.set(7);
        runtime.block_on(async {
            let span = info_span!(target: "vars", "outer", own = 1u64);
            let task = span.in_scope(|| {
                spawn(async {
                    TENANT.set("acme");
                    yield_now().await;
                    tracing::info!(target: "vars", text = "a", flag = true, big = 1u128, "in {}", "a task");
                    let error: &(dyn std::error::Error + 'static) = &Outer(std::fmt::Error);
                    tracing::info!(target: "vars", REQUEST = 8, error);
                    tracing::info!(target: "vars", parent: None, "root");
                    info_span!(target: "vars", parent: None, "root").in_scope(|| ());
                    info_span!(target: "vars", "child");
                })
            });
            task.await.unwrap();
        });
        for _ in 0..2 {
            tracing::info!(target: "vars", "the caller");
        }
        let expected = [
            "None: message=no variable has a value error=outer from Some(\"an error occurred when formatting an argument\")",
            "new in None: own=1 REQUEST=7",
            "Some(\"outer\"): message=in a task text=\"a\" flag=true big=1 REQUEST=7 TENANT=\"acme\"",
            "Some(\"outer\"): REQUEST=8 error=outer from Some(\"an error occurred when formatting an argument\") TENANT=\"acme\"",
            "None: message=root REQUEST=7 TENANT=\"acme\"",
            "new in None: REQUEST=7 TENANT=\"acme\"",
            "new in Some(\"outer\"): REQUEST=7 TENANT=\"acme\"",
            "None: message=the caller REQUEST=7",
            "None: message=the caller REQUEST=7",
        ];
        assert_eq!(*LINES.lock().unwrap(), expected);
    });
}

#[test]
fn a_variable_without_a_text_goes_into_no_log() {
    let refused = catch_unwind(AssertUnwindSafe(|| drop(LogVars::new().var(&SECRET)))).unwrap_err();
    assert_eq!(
        refused.downcast_ref::<String>().unwrap(),
        "the values of the variable `SECRET` have no text for a log: declare it with `debug = Debug`"
    );
}

/// `log` lends what it reads, so the logger copies the texts.
#[test]
fn variables_are_key_values_of_records() {
    use log::kv::Key;
    use log::{Log, Metadata, Record};

    struct Kept(Arc<Mutex<Vec<String>>>);
    impl Log for Kept {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() != "off"
        }
        fn log(&self, record: &Record<'_>) {
            let values = record.key_values();
            let texts =
                ["own", "REQUEST", "TENANT", "SECRET", "TOKEN"].map(|name| values.get(Key::from_str(name)));
            self.0.lock().unwrap().push(format!("{} {texts:?} {}", record.args(), values.count()));
        }
        fn flush(&self) {}
    }

    let lines = Arc::default();
    let logger = LogVars::new().var(&REQUEST).var(&TENANT).var(&TOKEN).logger(Kept(Arc::clone(&lines)));
    let own = [("own", 1), ("TENANT", 2)];
    let log = |target: &str| {
        let record = Record::builder().target(target).args(format_args!("text")).key_values(&own).build();
        logger.log(&record);
    };
    heirloom::Context::empty().run(|| {
        log("on");
        REQUEST.set(7);
        TENANT.set("acme");
        SECRET.set(1);
        TOKEN.set("xyzzy");
        log("on");
        log("off");
    });
    let expected = [
        "text [Some(1), None, Some(2), None, None] 2",
        "text [Some(1), Some(\"7\"), Some(2), None, Some(\"[secret]\")] 4",
    ];
    assert_eq!(*lines.lock().unwrap(), expected);
}
