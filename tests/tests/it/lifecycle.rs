//! The cross-product of lives: how a task is spawned × what it does × what becomes of its handle ×
//! when.
//!
//! Each case is a few microseconds. What must come out follows from the case alone; see
//! [`Case::check`].

use std::collections::VecDeque;

use heirloom::task::{CancelReason, JoinError};
use heirloom::{Context, JoinHandle, Runtime, spawn_background, task};
use heirloom_tests::{
    Gate, MARK, PATIENCE, Probe, SCRIPTED, Step, Watch, idle, occupy, runtime, scaled, watchdog, with_runtime,
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Plain,
    InContext,
    Built,
    FromATask,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Awaited,
    Detached,
    Dropped,
    AbortedAndAwaited,
    AbortedAndDropped,
    DroppedAndAborted,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Moment {
    /// Queued; no worker has had time for it.
    BeforeItsFirstPoll,
    /// Where its script waits for the first time, or at its end.
    Suspended,
    /// After its end.
    Ended,
}

const KINDS: [Kind; 4] = [Kind::Plain, Kind::InContext, Kind::Built, Kind::FromATask];
const FATES: [Fate; 6] = [
    Fate::Awaited,
    Fate::Detached,
    Fate::Dropped,
    Fate::AbortedAndAwaited,
    Fate::AbortedAndDropped,
    Fate::DroppedAndAborted,
];
const MOMENTS: [Moment; 3] = [Moment::BeforeItsFirstPoll, Moment::Suspended, Moment::Ended];
const SCRIPTS: [&[Step]; 9] = [
    &[],
    &[Step::Yield],
    &[Step::Wait],
    &[Step::WokenElsewhere, Step::Wait],
    &[Step::Yield, Step::Wait, Step::Yield, Step::Wait],
    &[Step::Panic],
    &[Step::Yield, Step::Panic],
    &[Step::Wait, Step::Panic],
    &[Step::WokenElsewhere, Step::Wait, Step::Panic],
];

#[derive(Clone, Copy, Debug)]
struct Case {
    kind: Kind,
    script: &'static [Step],
    fate: Fate,
    moment: Moment,
    panics_on_drop: bool,
}

impl Case {
    /// How many polls it takes to the first `Wait` that is not the last step to be made, or to the
    /// end.
    fn polls_until_suspended(&self) -> usize {
        match self.script.iter().position(|step| *step == Step::Wait) {
            Some(first) => first + 1,
            None => self.polls_until_end(),
        }
    }

    fn polls_until_end(&self) -> usize {
        if self.script.last() == Some(&Step::Panic) { self.script.len() } else { self.script.len() + 1 }
    }

    fn has_ended_by(&self, moment: Moment) -> bool {
        match moment {
            Moment::BeforeItsFirstPoll => false,
            Moment::Suspended => !self.script.contains(&Step::Wait),
            Moment::Ended => true,
        }
    }

    fn spawn(&self, runtime: &Runtime) -> (JoinHandle<u32>, Watch) {
        let (probe, watch) = Probe::returning(7, self.script.iter().copied());
        let mut probe = probe.expecting(Some(5));
        if self.panics_on_drop {
            probe = probe.panicking_on_drop();
        }
        MARK.set(5);
        let handle = match self.kind {
            Kind::Plain => runtime.spawn(probe),
            Kind::InContext => {
                MARK.set(6);
                runtime.handle().spawn_in(Context::empty().with_var(&MARK, 5), probe)
            }
            Kind::Built => {
                MARK.set(6);
                let overlay = Context::empty().with_var(&MARK, 5);
                runtime.block_on(async { task::Builder::new().name("built").overlay(overlay).spawn(probe) })
            }
            Kind::FromATask => runtime.block_on(async { heirloom::spawn(probe) }),
        };
        MARK.set(9);
        (handle, watch)
    }

    fn run(&self, runtime: &Runtime, workers: usize) {
        let occupied = (self.moment == Moment::BeforeItsFirstPoll).then(|| occupy(runtime, workers));
        let (handle, watch) = self.spawn(runtime);
        match self.moment {
            Moment::BeforeItsFirstPoll => assert_eq!(watch.polls(), 0),
            Moment::Suspended => {
                idle(runtime);
                assert_eq!(watch.polls(), self.polls_until_suspended());
            }
            Moment::Ended => wake_until_it_ends(runtime, &watch, || handle.is_finished()),
        }
        let abort = handle.abort_handle();
        let mut handle = Some(handle);
        match self.fate {
            Fate::Awaited => {}
            Fate::Detached => handle.take().unwrap().detach(),
            Fate::Dropped => drop_quietly(handle.take()),
            Fate::AbortedAndAwaited => abort.abort_with("the case"),
            Fate::AbortedAndDropped => {
                abort.abort();
                drop_quietly(handle.take());
            }
            Fate::DroppedAndAborted => {
                drop_quietly(handle.take());
                abort.abort();
            }
        }
        drop(occupied);
        idle(runtime);
        if matches!(self.fate, Fate::Awaited | Fate::Detached) {
            wake_until_it_ends(runtime, &watch, || abort.is_finished());
        }
        let result = handle.map(|handle| runtime.block_on(handle));
        idle(runtime);
        assert!(abort.is_finished());
        self.check(&watch, result);
        // It stays as it is.
        watch.wake();
        abort.abort();
        idle(runtime);
        self.check(&watch, None);
    }

    fn check(&self, watch: &Watch, result: Option<Result<u32, JoinError>>) {
        let cancels = !matches!(self.fate, Fate::Awaited | Fate::Detached);
        let cancelled = cancels && !self.has_ended_by(self.moment);
        let polls = match self.moment {
            Moment::BeforeItsFirstPoll if cancelled => 0,
            Moment::Suspended if cancelled => self.polls_until_suspended(),
            _ => self.polls_until_end(),
        };
        watch.assert_counts(polls, 1);
        let Some(result) = result else { return };
        let panics = self.script.last() == Some(&Step::Panic);
        match result {
            // A destructor that panics is no result; what else there is to tell is up to the crate.
            _ if self.panics_on_drop => {}
            Ok(output) => assert!(!cancelled && !panics && output == 7),
            Err(error) if error.is_cancelled() => {
                assert!(cancelled);
                assert_eq!(error.reason(), Some(&CancelReason::from("the case")));
            }
            Err(error) => {
                assert!(!cancelled && panics);
                assert_eq!(error.panic_message(), Some(SCRIPTED));
                assert_eq!(error.task_name(), (self.kind == Kind::Built).then_some("built"));
            }
        }
    }
}

/// The panic of an output's or a future's destructor may reach the code that drops the handle; that
/// is not the point here.
fn drop_quietly<T>(handle: Option<JoinHandle<T>>) {
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(handle)));
}

fn wake_until_it_ends(runtime: &Runtime, watch: &Watch, ended: impl Fn() -> bool) {
    idle(runtime);
    for _ in 0..10 {
        if ended() {
            return;
        }
        watch.wake();
        idle(runtime);
    }
    panic!("it did not end although it was woken ten times");
}

fn all(panics_on_drop: bool) -> VecDeque<Case> {
    let mut cases = VecDeque::new();
    for kind in KINDS {
        for script in SCRIPTS {
            for fate in FATES {
                for moment in MOMENTS {
                    cases.push_back(Case { kind, script, fate, moment, panics_on_drop });
                }
            }
        }
    }
    cases
}

fn run_all(workers: usize, panics_on_drop: bool) {
    watchdog(2 * PATIENCE, move || {
        let runtime = runtime(workers);
        // An interpreter takes 29 of the 648, in which every kind, script, fate and moment occurs.
        for case in all(panics_on_drop).into_iter().step_by(if cfg!(miri) { 23 } else { 1 }) {
            let run = std::panic::AssertUnwindSafe(|| case.run(&runtime, workers));
            if let Err(panic) = std::panic::catch_unwind(run) {
                eprintln!("{workers} workers, {case:?}");
                std::panic::resume_unwind(panic);
            }
        }
    });
}

#[test]
fn every_life_on_one_worker_ends_as_it_should() {
    run_all(1, false);
}

#[test]
fn every_life_on_three_workers_ends_as_it_should() {
    run_all(3, false);
}

#[test]
fn every_life_whose_future_panics_when_dropped_ends_as_it_should() {
    run_all(1, true);
}

#[test]
fn a_background_task_is_ended_by_its_abort_handle_only() {
    watchdog(PATIENCE, || {
        let runtime = runtime(1);
        for aborted in [false, true] {
            let (probe, watch) = Probe::new([Step::Wait]);
            let abort = runtime.block_on(async { spawn_background(probe.expecting(None)) });
            idle(&runtime);
            watch.assert_counts(1, 0);
            if aborted {
                abort.abort();
            } else {
                drop(abort);
                idle(&runtime);
                watch.assert_counts(1, 0);
                watch.wake();
            }
            idle(&runtime);
            watch.assert_counts(if aborted { 1 } else { 2 }, 1);
        }
    });
}

#[test]
fn tasks_that_are_aborted_while_they_run_end_once() {
    watchdog(PATIENCE, || {
        let runtime = runtime(2);
        for round in 0..scaled(200) {
            let (entered, gate) = (Gate::new(), Gate::new());
            let (probe, watch) = Probe::new([Step::Wait]);
            let handle = runtime.spawn({
                let (entered, gate) = (entered.clone(), gate.clone());
                async move {
                    entered.open();
                    gate.wait();
                    probe.await;
                }
            });
            entered.wait();
            // It is inside its poll now.
            let deed = std::thread::spawn({
                let gate = gate.clone();
                move || match round % 3 {
                    0 => {
                        handle.abort();
                        gate.open();
                        Some(handle)
                    }
                    1 => {
                        drop(handle);
                        gate.open();
                        None
                    }
                    _ => {
                        gate.open();
                        handle.abort();
                        Some(handle)
                    }
                }
            });
            if let Some(handle) = deed.join().unwrap() {
                assert!(runtime.block_on(handle).unwrap_err().is_cancelled());
            }
            idle(&runtime);
            assert_eq!(watch.drops(), 1);
            watch.assert_sound();
        }
    });
}

#[test]
fn a_future_stands_where_its_alignment_wants_it() {
    #[repr(align(64))]
    struct Line(u8);
    #[repr(align(4096))]
    struct Frame(u8);
    with_runtime(2, |runtime| {
        let tasks: Vec<_> = (0..20_u8)
            .map(|number| {
                runtime.spawn(async move {
                    let (line, frame) = (Line(number), Frame(number));
                    heirloom::yield_now().await;
                    let aligned = (&raw const line).addr() % 64 == 0 && (&raw const frame).addr() % 4096 == 0;
                    aligned && line.0 == number && frame.0 == number
                })
            })
            .collect();
        for task in tasks {
            assert!(runtime.block_on(task).unwrap());
        }
    });
}
