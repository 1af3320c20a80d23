use std::cell::RefCell;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use heirloom::task::LocalSet;
use heirloom::{Context, Runtime, TaskGroup, sleep, spawn, spawn_local, wait_for};
use heirloom_tests::{PATIENCE, runtime, watchdog};

use super::NUMBER;

#[test]
fn every_api_answers_during_thread_teardown() {
    struct Late(Arc<Mutex<Vec<Result<(), String>>>>, Runtime);
    impl Drop for Late {
        fn drop(&mut self) {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                assert_eq!(self.1.block_on(self.1.spawn(async { 1 })).unwrap(), 1);
                assert_eq!(self.1.block_on(self.1.spawn_blocking(|| 2)).unwrap(), 2);
                assert_eq!(heirloom::block_on(async { spawn(async { 3 }).await.unwrap() }), 3);
                let entered = self.1.enter();
                assert_eq!(heirloom::block_on(spawn(async { 4 })).unwrap(), 4);
                drop(entered);
                self.1.block_on(sleep(Duration::from_millis(1)));
                heirloom::block_on(wait_for(std::future::pending::<()>(), Duration::from_millis(1)))
                    .unwrap_err();
                LocalSet::new()
                    .block_on(async { spawn_local(sleep(Duration::from_millis(1))).await.unwrap() });
                NUMBER.set(3);
                let _ = (NUMBER.get(), NUMBER.bind(4), Context::inherited());
                let group = TaskGroup::<()>::new();
                heirloom::block_on(async {
                    group.spawn(async { Ok(()) });
                    group.join().await.unwrap()
                });
                drop(self.1.handle().spawn_background(std::future::pending::<()>()));
                let _ = (self.1.stats(), self.1.dump(), self.1.wait_until_idle());
                assert!(heirloom::task::current().is_none());
                assert!(heirloom::deadline().is_none());
                let _ = (heirloom::Handle::current(), heirloom::task::budget::remaining());
                let _ = heirloom::Context::current();
            }));
            let outcome = outcome.map_err(|panic| match panic.downcast::<String>() {
                Ok(text) => *text,
                Err(_) => "another panic".to_string(),
            });
            self.0.lock().unwrap().push(outcome);
        }
    }
    thread_local! { static LATE: RefCell<Option<Late>> = const { RefCell::new(None) }; }
    watchdog(PATIENCE, || {
        for before in [true, false] {
            let report = Arc::new(Mutex::new(Vec::new()));
            let late = report.clone();
            std::thread::spawn(move || {
                // All that keeps something in the thread, so that there is something to be gone.
                let use_it = || {
                    let everything = async {
                        spawn(async {}).await.unwrap();
                        sleep(Duration::from_millis(1)).await;
                        NUMBER.set(1);
                    };
                    heirloom_tests::runtime(1).block_on(everything);
                    heirloom::block_on(sleep(Duration::from_millis(1)));
                    NUMBER.set(2);
                    LocalSet::new().block_on(async { spawn_local(async {}).await.unwrap() });
                };
                if before {
                    LATE.set(Some(Late(late, runtime(1))));
                    use_it();
                } else {
                    use_it();
                    LATE.set(Some(Late(late, runtime(1))));
                }
            })
            .join()
            .unwrap();
            assert_eq!(*report.lock().unwrap(), [Ok(())], "made before the first use: {before}");
        }
    });
}
