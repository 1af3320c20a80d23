use std::cell::RefCell;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use heirloom::task::AbortHandle;
use heirloom_tests::{MARK, PATIENCE, Probe, Step, Watch, idle, occupy, runtime, watchdog};

#[test]
fn a_future_is_dropped_exactly_once_in_its_own_context() {
    watchdog(PATIENCE, || {
        let runtime = runtime(1);
        let watches = RefCell::new(Vec::<Watch>::new());
        let probe = |script: &[Step]| {
            let (probe, watch) = Probe::new(script.iter().copied());
            watches.borrow_mut().push(watch);
            let mark = watches.borrow().len() as u64;
            MARK.set(mark);
            probe.expecting(Some(mark))
        };
        // It ends by itself, by a panic, by being aborted where it waits, by its handle.
        runtime.block_on(runtime.spawn(probe(&[Step::Yield]))).unwrap();
        runtime.block_on(runtime.spawn(probe(&[Step::Yield, Step::Panic]))).unwrap_err();
        let task = runtime.spawn(probe(&[Step::Wait]));
        idle(&runtime);
        task.abort();
        assert!(runtime.block_on(task).unwrap_err().is_cancelled());
        let task = runtime.spawn(probe(&[Step::Wait]));
        idle(&runtime);
        drop(task);
        idle(&runtime);
        // While it is being polled.
        let own = Arc::new(Mutex::new(None::<AbortHandle>));
        let aborts_itself = {
            let (mut probe, own) = (probe(&[Step::Wait; 2]), own.clone());
            std::future::poll_fn(move |poller| {
                let polled = Pin::new(&mut probe).poll(poller);
                own.lock().unwrap().iter().for_each(AbortHandle::abort);
                polled
            })
        };
        let task = runtime.spawn(aborts_itself);
        idle(&runtime);
        *own.lock().unwrap() = Some(task.abort_handle());
        watches.borrow().last().unwrap().wake();
        assert!(runtime.block_on(task).unwrap_err().is_cancelled());
        // The same before its first poll.
        let occupied = occupy(&runtime, 1);
        let aborted = runtime.spawn(probe(&[]));
        aborted.abort();
        drop(runtime.spawn(probe(&[])));
        occupied.release();
        assert!(runtime.block_on(aborted).unwrap_err().is_cancelled());
        idle(&runtime);
        // By the end of the runtime, waiting, or finished with its output unclaimed.
        let waiting = runtime.spawn(probe(&[Step::Wait]));
        runtime.spawn(probe(&[Step::Wait])).detach();
        runtime.spawn(probe(&[])).detach();
        let handle = runtime.handle().clone();
        MARK.set(1_000);
        drop(runtime);
        assert!(heirloom::block_on(waiting).unwrap_err().is_cancelled());
        // And by a runtime that is gone.
        let late = handle.spawn(probe(&[]));
        assert!(heirloom::block_on(late).unwrap_err().is_cancelled());
        let watches = watches.into_inner();
        for (number, watch) in watches.iter().enumerate() {
            watch.assert_sound();
            assert_eq!(watch.drops(), 1, "case {number}");
        }
        assert_eq!(watches.len(), 11);
    });
}
