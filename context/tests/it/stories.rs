//! The examples of the discussions that this design comes from, told with the smallest harness that
//! can tell them.
//!
//! Where a story has a clock, the clock is a counter that the story turns itself.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures::{Stream, StreamExt};
use heirloom_context::future::join;
use heirloom_context::{Context, ContextFutureExt, ContextStreamExt, Inherit, context_var, raw};

use crate::support::{
    Emitter, Executor, Gate, Log, block_on, count, generator, next_of, on_a_fresh_thread, poll_once,
    yield_once,
};

context_var! {
    static VAR: u32;
    static WORD: &'static str;
    static PLACE: &'static str;
    static PRECISION: u32 = 28;
    static DEADLINE: u64 = u64::MAX;
}

/// What a timeout does, less the clock: it polls the future inside the task that waits.
async fn wait_for<T>(future: impl Future<Output = T>) -> Result<T, ()> {
    let mut future = std::pin::pin!(future);
    let mut polls = 0;
    std::future::poll_fn(move |poller| {
        polls += 1;
        match future.as_mut().poll(poller) {
            std::task::Poll::Ready(output) => std::task::Poll::Ready(Ok(output)),
            std::task::Poll::Pending if polls > 100 => std::task::Poll::Ready(Err(())),
            std::task::Poll::Pending => std::task::Poll::Pending,
        }
    })
    .await
}

async fn bar() {
    VAR.set(42);
}

#[test]
fn await_shares_42_stays() {
    Executor::each(|executor| {
        executor.run(async {
            bar().await;
            assert_eq!(VAR.get(), Some(42));
        });
    });
}

#[test]
fn spawn_isolates_42_does_not_stay() {
    Executor::each(|executor| {
        let own = executor.clone();
        executor.run(async move {
            own.spawn(bar()).await;
            assert_eq!(VAR.get(), None);
            bar().isolated().await;
            assert_eq!(VAR.get(), None, "awaited, but asked to keep to itself");
        });
    });
}

#[test]
fn the_same_through_wait_for() {
    Executor::each(|executor| {
        let own = executor.clone();
        executor.run(async move {
            wait_for(own.spawn(bar())).await.unwrap();
            assert_eq!(VAR.get(), None, "spawned: isolated");
            wait_for(bar()).await.unwrap();
            assert_eq!(VAR.get(), Some(42), "the same task: shared");
        });
    });
}

#[test]
fn sub_and_main_with_a_second_of_sleep() {
    async fn sub(second: Gate) {
        second.opened().await;
        assert_eq!(WORD.get(), Some("main"));
    }
    Executor::each(|executor| {
        let own = executor.clone();
        executor.run(async move {
            let over = Gate::new();
            over.open();
            WORD.set("main");
            sub(over.clone()).await;
            wait_for(sub(over)).await.unwrap();
            let second = Gate::new();
            let concurrent = own.spawn(sub(second.clone()));
            WORD.set("main changed");
            second.open();
            concurrent.await;
            assert_eq!(WORD.get(), Some("main changed"));
        });
    });
}

#[test]
fn sub_sets_and_main_sees_it_unless_isolated() {
    async fn sub() {
        assert_eq!(WORD.get(), Some("main"));
        WORD.set("sub");
        yield_once().await;
        assert_eq!(WORD.get(), Some("sub"));
    }
    Executor::each(|executor| {
        executor.run(async {
            WORD.set("main");
            sub().isolated().await;
            assert_eq!(WORD.get(), Some("main"));
            sub().await;
            assert_eq!(WORD.get(), Some("sub"));
        });
    });
}

#[test]
fn inlining_an_awaited_function_or_extracting_a_block_changes_nothing() {
    async fn extracted(trace: &Log<Option<u32>>) {
        trace.push(VAR.get());
        VAR.set(2);
        let _guard = VAR.bind(3);
        yield_once().await;
        trace.push(VAR.get());
    }
    Executor::each(|executor| {
        let (outlined, inlined) = (Log::new(), Log::new());
        let traces = (outlined.clone(), inlined.clone());
        executor.run(async move {
            VAR.set(1);
            extracted(&outlined).await;
            outlined.push(VAR.get());

            VAR.set(1);
            {
                inlined.push(VAR.get());
                VAR.set(2);
                let _guard = VAR.bind(3);
                yield_once().await;
                inlined.push(VAR.get());
            }
            inlined.push(VAR.get());
        });
        let expected = [Some(1), Some(3), Some(2)];
        assert_eq!((traces.0.take(), traces.1.take()), (expected.to_vec(), expected.to_vec()));
    });
}

#[test]
fn a_future_created_in_first_and_awaited_in_second_sees_second() {
    async fn inner() -> Option<&'static str> {
        yield_once().await;
        PLACE.get()
    }
    Executor::each(|executor| {
        executor.run(async {
            let future = PLACE.scope("first", inner);
            assert_eq!(future.with_var(&PLACE, "second").await, Some("second"));
            let pinned = PLACE.scope("first", || inner().in_current_context());
            assert_eq!(pinned.with_var(&PLACE, "second").await, Some("first"));
        });
    });
}

/// A third, with as many digits as the precision says; the precision is read deep inside, by
/// "library code".
fn third() -> String {
    format!("{:.*}", PRECISION.get() as usize, 1.0 / 3.0)
}

#[test]
fn decimal_precision_in_two_zipped_generators() {
    fn thirds(precision: u32) -> impl Stream<Item = String> + Send {
        generator(move |items| async move {
            PRECISION.set(precision);
            items.emit(third()).await;
            items.emit(third()).await;
        })
        .isolated()
    }
    Executor::each(|executor| {
        let pairs: Vec<_> = executor.run(async { thirds(5).zip(thirds(2)).collect().await });
        let pair = ("0.33333".to_string(), "0.33".to_string());
        assert_eq!(pairs, [pair.clone(), pair]);
    });
}

#[test]
fn decimal_precision_in_two_interleaved_tasks() {
    async fn request(precision: u32) {
        PRECISION.set(precision);
        for _ in 0..20 {
            assert_eq!(third().len(), precision as usize + 2);
            yield_once().await;
        }
    }
    Executor::each(|executor| {
        let own = executor.clone();
        executor.run(async move {
            let (one, two) = (own.spawn(request(3)), own.spawn(request(9)));
            one.await;
            two.await;
            join(request(4), request(8)).await;
            assert_eq!(PRECISION.get(), 28);
        });
    });
}

struct Request {
    id: usize,
}

context_var! {
    static REQUEST: Arc<Request>;
    static SECURITY_TOKEN: u64;
    static TRANSACTION: u64, inherit = Never;
}

type Lines = Log<(usize, String)>;

/// Four calls down from the handler, and no function passes the request on.
fn log_line(lines: &Lines, text: &str) {
    let id = REQUEST.with(|request| request.map(|request| request.id)).expect("inside a request");
    let token = SECURITY_TOKEN.get().expect("every request has one");
    assert_eq!(token, id as u64 * 31, "the token of another request");
    lines.push((id, text.to_string()));
}

fn query(lines: &Lines, text: &str) {
    log_line(lines, text);
}

async fn load_user(lines: &Lines) {
    yield_once().await;
    query(lines, "user");
}

async fn handler(executor: Executor, request: Arc<Request>, lines: Lines) {
    let id = request.id;
    SECURITY_TOKEN.set(id as u64 * 31);
    REQUEST.set(request);
    TRANSACTION.set(id as u64);
    load_user(&lines).await;
    let background = lines.clone();
    let child = executor.spawn(async move {
        assert_eq!(TRANSACTION.get(), None, "a live transaction is not inherited");
        yield_once().await;
        query(&background, "background");
    });
    // What a timer or another callback would do: it keeps its context from when it was registered.
    let callback = Context::current().wrap_once({
        let lines = lines.clone();
        move || query(&lines, "callback")
    });
    if id.is_multiple_of(50) {
        let blocking = lines.clone();
        executor.spawn_blocking(move || query(&blocking, "blocking")).await;
    }
    child.await;
    Context::empty().run(callback);
    assert_eq!(TRANSACTION.get(), Some(id as u64));
}

#[test]
fn a_request_read_four_calls_deep_with_a_thousand_requests_interleaved() {
    Executor::each(|executor| {
        let requests = count(1000);
        let (own, lines) = (executor.clone(), Lines::new());
        let all_lines = lines.clone();
        executor.run(async move {
            let handlers: Vec<_> = (1..=requests)
                .map(|id| own.spawn(handler(own.clone(), Arc::new(Request { id }), lines.clone())))
                .collect();
            assert!(REQUEST.with(|request| request.is_none()), "the server itself is in no request");
            for handler in handlers {
                handler.await;
            }
            assert_eq!(SECURITY_TOKEN.get(), None, "a token must never show up elsewhere");
        });
        let mut lines = all_lines.take();
        lines.sort_unstable();
        let expected: Vec<(usize, String)> = (1..=requests)
            .flat_map(|id| {
                let mut kinds = vec!["background", "callback", "user"];
                if id.is_multiple_of(50) {
                    kinds.insert(1, "blocking");
                }
                kinds.into_iter().map(move |kind| (id, kind.to_string()))
            })
            .collect();
        assert_eq!(lines, expected);
    });
}

context_var! {
    static LANGUAGE: &'static str = "en";
}

fn translate(text: &'static str) -> String {
    let translated = match (LANGUAGE.get(), text) {
        ("fr", "hello") => "bonjour",
        ("de", "hello") => "hallo",
        ("fr", "bye") => "au revoir",
        ("de", "bye") => "auf Wiedersehen",
        (_, text) => text,
    };
    translated.to_string()
}

#[test]
fn a_translation_stack_with_three_recipients_and_one_deferred_string() {
    Executor::each(|executor| {
        let own = executor.clone();
        executor.run(async move {
            // One request, in French, that also writes to a German and an English recipient.
            let _request = LANGUAGE.bind("fr");
            let mut sent = vec![translate("hello")];
            let deferred = {
                let _recipient = LANGUAGE.bind("de");
                yield_once().await;
                sent.push(translate("hello"));
                {
                    let _carbon_copy = LANGUAGE.bind("en");
                    sent.push(translate("hello"));
                }
                sent.push(translate("bye"));
                Context::current().wrap(|| translate("bye"))
            };
            sent.push(translate("bye"));
            assert_eq!(sent, ["bonjour", "hallo", "hello", "auf Wiedersehen", "au revoir"]);
            assert_eq!(
                own.spawn(async move { deferred() }).await,
                "auf Wiedersehen",
                "as when it was deferred"
            );

            let tasks = ["fr", "de", "en"].map(|language| {
                own.spawn(async move {
                    LANGUAGE.set(language);
                    yield_once().await;
                    translate("hello")
                })
            });
            let mut greetings = Vec::new();
            for task in tasks {
                greetings.push(task.await);
            }
            assert_eq!(greetings, ["bonjour", "hallo", "hello"]);
            assert_eq!(translate("bye"), "au revoir");
        });
    });
}

/// What one visitor of the telnet server sees.
type Screen = Arc<Mutex<String>>;

context_var! {
    static SCREEN: Screen;
}

/// Library code: it prints to whatever application is running.
fn print(text: &str) {
    SCREEN.with(|screen| screen.expect("an application is running").lock().unwrap().push_str(text));
}

#[test]
fn telnet_like_applications_in_one_process_each_print_to_their_own_screen() {
    async fn application(executor: Executor, name: &'static str) {
        print(name);
        for _ in 0..3 {
            yield_once().await;
            print(".");
        }
        // A computation on another thread, and a callback when it is done, print to the same
        // screen.
        let done = Context::current().wrap_once(|| print("done"));
        executor.spawn_blocking(|| print("*")).await;
        done();
    }
    Executor::each(|executor| {
        let own = executor.clone();
        let screens: Vec<Screen> = (0..4).map(|_| Screen::default()).collect();
        let visitors = screens.clone();
        executor.run(async move {
            let mut sessions = Vec::new();
            for (screen, name) in visitors.into_iter().zip(["ann", "bob", "cleo", "dan"]) {
                let context = Context::empty().with_var(&SCREEN, screen);
                sessions.push(own.spawn_in(context, application(own.clone(), name)));
            }
            for session in sessions {
                session.await;
            }
        });
        for (screen, name) in screens.iter().zip(["ann", "bob", "cleo", "dan"]) {
            assert_eq!(*screen.lock().unwrap(), format!("{name}...*done"));
        }
        // Nothing is left of a session that has ended but the screen itself.
        while screens.iter().any(|screen| Arc::strong_count(screen) > 1) {
            std::thread::yield_now();
        }
    });
}

/// Sums up the time in which its part of the program is running, and nothing of the time in which
/// it waits.
#[derive(Default)]
struct Stopwatch {
    total: AtomicU64,
    since: AtomicU64,
}

thread_local! {
    static CLOCK: Cell<u64> = const { Cell::new(0) };
}

fn work(ticks: u64) {
    CLOCK.set(CLOCK.get() + ticks);
}

fn switch(previous: Option<&Arc<Stopwatch>>, current: Option<&Arc<Stopwatch>>) {
    let now = CLOCK.get();
    if let Some(watch) = previous {
        watch.total.fetch_add(now - watch.since.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    if let Some(watch) = current {
        watch.since.store(now, Ordering::Relaxed);
    }
}

context_var! {
    static STOPWATCH: Arc<Stopwatch>, on_change = switch;
}

#[test]
fn the_timing_context_counts_busy_time_only() {
    async fn busy(ticks: u64) {
        for _ in 0..3 {
            work(ticks);
            yield_once().await;
        }
    }
    on_a_fresh_thread(|| {
        let (one, two, inner) =
            (Arc::<Stopwatch>::default(), Arc::<Stopwatch>::default(), Arc::<Stopwatch>::default());
        let first = busy(5).with_var(&STOPWATCH, one.clone());
        let second = async {
            busy(7).await;
            // Timed on its own: the outer stopwatch rests meanwhile.
            busy(100).with_var(&STOPWATCH, inner.clone()).await;
        };
        let second = second.with_var(&STOPWATCH, two.clone());
        block_on(async {
            let (mut first, mut second) = (Box::pin(first), Box::pin(second));
            let mut ready = [false; 2];
            while ready != [true; 2] {
                // Another task is working while both of them wait.
                work(1000);
                ready[0] = ready[0] || poll_once(first.as_mut()).is_ready();
                ready[1] = ready[1] || poll_once(second.as_mut()).is_ready();
            }
        });
        let totals = [&one, &two, &inner].map(|watch| watch.total.load(Ordering::Relaxed));
        assert_eq!(totals, [15, 21, 300]);
        assert!(!STOPWATCH.is_set());
    });
}

#[test]
fn the_cached_lookup_trap_of_the_consumer() {
    on_a_fresh_thread(|| {
        let mut stream = Box::pin(
            generator(|items| async move {
                WORD.set("generator");
                WORD.get();
                items.emit(()).await;
            })
            .isolated(),
        );
        WORD.set("main");
        assert_eq!(WORD.get(), Some("main"));
        next_of(&mut stream);
        assert_eq!(WORD.get(), Some("main"), "not what the generator has just looked up");
    });
}

#[test]
fn the_cached_lookup_trap_of_the_generator() {
    on_a_fresh_thread(|| {
        let log = Log::new();
        let seen = log.clone();
        let mut stream = Box::pin(
            generator(|items| async move {
                WORD.set("generator");
                WORD.get();
                items.emit(()).await;
                seen.push(WORD.get());
            })
            .isolated(),
        );
        next_of(&mut stream);
        WORD.set("no really main");
        assert_eq!(WORD.get(), Some("no really main"));
        next_of(&mut stream);
        assert_eq!(log.take(), [Some("generator")], "not what the consumer has just looked up");
    });
}

/// An operation that obeys the deadline that is in force where it is called.
fn operation(now: u64) -> Result<(), &'static str> {
    if now < DEADLINE.get() { Ok(()) } else { Err("too late") }
}

#[test]
fn a_timeout_around_a_generator_step_applies_to_that_step() {
    Executor::each(|executor| {
        executor.run(async {
            let mut stream = Box::pin(
                generator(|items| async move {
                    for now in 0.. {
                        items.emit(operation(now)).await;
                    }
                })
                .isolated(),
            );
            assert_eq!(stream.next().await, Some(Ok(())));
            assert_eq!(stream.next().with_var(&DEADLINE, 1).await, Some(Err("too late")));
            assert_eq!(stream.next().with_var(&DEADLINE, 10).await, Some(Ok(())));
            assert_eq!(stream.next().await, Some(Ok(())), "and to no other");
        });
    });
}

#[test]
fn a_timeout_opened_inside_a_generator_does_not_leak_to_its_consumer() {
    async fn body(items: Emitter<u64>) {
        async {
            items.emit(DEADLINE.get()).await;
            items.emit(DEADLINE.get()).await;
        }
        .with_var(&DEADLINE, 10)
        .await;
        items.emit(DEADLINE.get()).await;
    }
    Executor::each(|executor| {
        executor.run(async {
            let _caller = DEADLINE.bind(20);
            let mut stream = Box::pin(generator(body).isolated());
            assert_eq!(stream.next().await, Some(10));
            assert_eq!(DEADLINE.get(), 20, "only the caller's own is in force here");
            assert_eq!(stream.next().await, Some(10));
            assert_eq!(stream.next().await, Some(20), "the generator's has ended, the caller's shows");
        });
    });
}

#[test]
fn a_timeout_scope_that_ended_is_not_kept_by_a_generator_made_in_it() {
    on_a_fresh_thread(|| {
        let mut stream = DEADLINE.scope(10, || {
            Box::pin(generator(|items| async move { items.emit(DEADLINE.get()).await }).isolated())
        });
        assert_eq!(next_of(&mut stream), Some(u64::MAX));
    });
}

#[test]
fn the_execution_deadline_follows_the_call_into_a_generator_step() {
    on_a_fresh_thread(|| {
        let soon = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let mut stream = Box::pin(
            generator(|items| async move {
                loop {
                    items.emit(raw::execution().deadline()).await;
                }
            })
            .in_current_context(),
        );
        assert_eq!(next_of(&mut stream), Some(None));
        let before = raw::set_execution(raw::Execution::NONE.with_deadline(Some(soon)));
        assert_eq!(
            next_of(&mut stream),
            Some(Some(soon)),
            "not even a pinned stream escapes its caller's deadline"
        );
        raw::set_execution(before);
        assert_eq!(next_of(&mut stream), Some(None));
    });
}

#[test]
fn a_thread_that_is_joined_is_not_a_call() {
    fn sync_sub() {
        VAR.set(42);
    }
    on_a_fresh_thread(|| {
        std::thread::spawn(sync_sub).join().unwrap();
        assert_eq!(VAR.get(), None);
        sync_sub();
        assert_eq!(VAR.get(), Some(42));
    });
}

#[test]
fn print_order_of_the_first_proposal() {
    on_a_fresh_thread(|| {
        let log = Log::new();
        async fn inner(log: &Log<(&'static str, Option<u32>)>) {
            log.push(("inner", VAR.get()));
            VAR.set(2);
        }
        async fn foo(log: Log<(&'static str, Option<u32>)>) {
            log.push(("foo", VAR.get()));
            VAR.set(1);
            inner(&log).await;
            log.push(("foo", VAR.get()));
        }
        VAR.set(0);
        log.push(("main", VAR.get()));
        block_on(foo(log.clone()).in_context(Context::inherited()));
        log.push(("main", VAR.get()));
        let expected = [("main", 0), ("foo", 0), ("inner", 1), ("foo", 2), ("main", 0)];
        assert_eq!(log.take(), expected.map(|(who, value)| (who, Some(value))));
    });
}

#[test]
fn the_policy_of_a_variable_is_part_of_its_declaration() {
    // A random generator is split for each child rather than shared, which would make results
    // depend on the schedule.
    fn split(seed: &u64) -> Option<u64> {
        Some(seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1))
    }
    context_var! {
        static SEED: u64 = 1, inherit = Derive(split);
    }
    assert!(format!("{:?}", Inherit::Derive(split)).contains("Derive"));
    Executor::each(|executor| {
        let own = executor.clone();
        executor.run(async move {
            SEED.set(7);
            let child = own.spawn(async { SEED.get() }).await;
            assert_eq!(Some(child), split(&7));
            assert_eq!(SEED.get(), 7);
        });
    });
}
