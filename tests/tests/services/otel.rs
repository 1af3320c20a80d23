//! OpenTelemetry's context in tasks, and variables in its baggage.

use std::future::pending;
use std::sync::mpsc::channel;

use heirloom::context::opentelemetry::{BaggageVars, OtelFutureExt};
use heirloom::{Context, Runtime, context_var, spawn, spawn_background, spawn_blocking, task, yield_now};
use heirloom_tests::{OnDrop, PATIENCE, quiet_panic, watchdog};
use opentelemetry::baggage::BaggageExt;
use opentelemetry::context::FutureExt;
use opentelemetry::{Context as OtelContext, KeyValue};

#[derive(Debug, PartialEq)]
struct Tenant(u32);

fn tenant() -> Option<u32> {
    OtelContext::map_current(|context| context.get().map(|Tenant(tenant)| *tenant))
}

fn attached<R>(tenant: u32, f: impl FnOnce() -> R) -> R {
    let _attached = OtelContext::current_with_value(Tenant(tenant)).attach();
    f()
}

#[test]
fn the_spawners_context_is_current_in_polls_and_drops() {
    watchdog(PATIENCE, || {
        let runtime = Runtime::builder().workers(2).opentelemetry().build().unwrap();
        let (send, receive) = channel();
        let witness = || {
            let send = send.clone();
            OnDrop::new(move || send.send(tenant()).unwrap())
        };
        let dropped = witness();
        let task = attached(7, || {
            runtime.spawn(async move {
                let _dropped = dropped;
                let before = tenant();
                yield_now().await;
                let child = spawn(async { tenant() }).await.unwrap();
                let closure = spawn_blocking(tenant).await.unwrap();
                let eager =
                    heirloom::run_eagerly(async { (tenant(), spawn(async { tenant() }).await.unwrap()) });
                let (told, tell) = futures::channel::oneshot::channel();
                spawn_background(async { told.send(tenant()) });
                assert_eq!(tell.await, Ok(None));
                let part = async {
                    yield_now().await;
                    spawn(async { tenant() }).await.unwrap()
                };
                let part = part.with_otel_context(OtelContext::new().with_value(Tenant(8))).await;
                (before, child, closure, eager, part, tenant())
            })
        });
        let seven = Some(7);
        assert_eq!(runtime.block_on(task).unwrap(), (seven, seven, seven, (seven, seven), Some(8), seven));
        assert_eq!(receive.recv().unwrap(), seven);
        // Ends of other sorts.
        let dropped = witness();
        let aborted = attached(8, || {
            runtime.spawn(async move {
                let _dropped = dropped;
                pending::<()>().await;
            })
        });
        runtime.wait_until_idle();
        aborted.abort();
        assert!(runtime.block_on(aborted).unwrap_err().is_cancelled());
        assert_eq!(receive.recv().unwrap(), Some(8));
        let dropped = witness();
        let panicked = attached(9, || {
            runtime.spawn(async move {
                let _dropped = dropped;
                quiet_panic("in a context of OpenTelemetry's")
            })
        });
        assert!(runtime.block_on(panicked).unwrap_err().is_panic());
        assert_eq!(receive.recv().unwrap(), Some(9));
        // A task of a set that runs in another context has its own, also none.
        let entered = runtime.enter();
        let set = task::LocalSet::new();
        let none = set.spawn_local(async { tenant() });
        let one = attached(1, || set.spawn_local(async { tenant() }));
        let both =
            attached(2, || set.block_on(async { (none.await.unwrap(), one.await.unwrap(), tenant()) }));
        assert_eq!(both, (None, Some(1), Some(2)));
        drop(entered);
        assert_eq!(tenant(), None);
        // Nothing is left on the workers.
        assert_eq!(runtime.block_on(runtime.spawn(async { tenant() })).unwrap(), None);
    });
}

#[heirloom::test(opentelemetry)]
async fn the_attribute_has_an_option() {
    let seen = attached(7, || spawn(async { tenant() }));
    assert_eq!(seen.await.unwrap(), Some(7));
}

#[test]
fn a_future_in_a_context_is_also_dropped_in_it() {
    let (send, receive) = channel();
    let future = || {
        let send = send.clone();
        let witness = OnDrop::new(move || send.send(tenant()).unwrap());
        async move {
            let _witness = witness;
            pending::<()>().await;
        }
    };
    attached(1, || {
        drop(future().with_otel_context(OtelContext::new().with_value(Tenant(7))));
        assert_eq!(receive.recv().unwrap(), Some(7));
        let current = future().in_current_otel_context();
        attached(2, || drop(current));
        assert_eq!(receive.recv().unwrap(), Some(1));
        // What OpenTelemetry's own does: the context of the code that drops.
        drop(future().with_context(OtelContext::new().with_value(Tenant(7))));
        assert_eq!(receive.recv().unwrap(), Some(1));
        assert_eq!(tenant(), Some(1));
    });
}

context_var! {
    static USER: String;
    static LEVEL: u32 = 3;
    static SECRET: u32;
    static TOKEN: String, secret = true;
}

#[test]
fn variables_go_into_baggage_and_back() {
    let baggage = BaggageVars::new().var("user", &USER).var("level", &LEVEL).var("token", &TOKEN);
    let names = |context: &OtelContext| {
        let entries = context.baggage().iter().map(|(key, (value, _))| format!("{key}={value}"));
        let mut entries: Vec<_> = entries.collect();
        entries.sort();
        entries
    };
    let before = OtelContext::new().with_baggage([KeyValue::new("user", "old"), KeyValue::new("other", "x")]);
    Context::empty().run(|| {
        // A variable without a value takes its entry away; a default is no value.
        assert_eq!(names(&baggage.store_in(&before)), ["other=x"]);
        USER.set("ada".to_owned());
        LEVEL.set(5);
        SECRET.set(1);
        TOKEN.set("xyzzy".to_owned()); // a secret stays here, although it was named
        let sent = baggage.store_in(&before);
        assert_eq!(names(&sent), ["level=5", "other=x", "user=ada"]);
        Context::empty().run(|| {
            baggage.set_from(&sent);
            assert_eq!((USER.get().as_deref(), LEVEL.get(), SECRET.get()), (Some("ada"), 5, None));
            // What is no value, and what is not there, leaves a variable as it is.
            baggage.set_from(&OtelContext::new().with_baggage([KeyValue::new("level", "high")]));
            assert_eq!((USER.get().as_deref(), LEVEL.get()), (Some("ada"), 5));
        });
        assert_eq!(names(&before), ["other=x", "user=old"]);
    });
}
