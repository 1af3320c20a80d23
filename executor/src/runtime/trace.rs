//! Asking the tasks of a runtime for their stacks.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use crate::instrument::dump::{Dump, TaskDump};
use crate::instrument::stacks::{Symbols, Untraced};
use crate::runtime::inspect::{ContextTexts, task_dump};
use crate::runtime::local;
use crate::scheduler::current;
use crate::scheduler::shared::Shared;
use crate::task::TaskState;
use crate::task::cell::TaskRef;
use crate::task::record::now;
use crate::task::trace::{Pass, TicketAnswer};

/// Tasks that are asked and have not answered: so many may stand before others in the queues.
const ASKED: usize = 64;
/// Tasks that have not answered for so long hold up no others: their thread may be blocked.
const PATIENCE: Duration = Duration::from_millis(10);
/// A limit that is longer is this one.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// What [`Handle::dump_stacks`](crate::Handle::dump_stacks) does.
pub(crate) fn dump_stacks(shared: &Shared, limit: Duration) -> Dump {
    // A worker that waits here keeps the task that is woken last from being polled, and the thread
    // of a local set all tasks of the set.
    let runs_tasks = current::is_worker() || local::is_run_here();
    let limit = limit.min(if runs_tasks { PATIENCE } else { LONGEST });
    let mut tasks: Vec<TaskRef> = Vec::new();
    shared.each_listed_heap(|heap| tasks.append(&mut TaskRef::all(heap)));
    let (now, mut texts) = (now(), ContextTexts::default());
    let dump = |task: &TaskRef| task_dump(task.header(), now, &mut texts);
    // All of them before the first task is asked: to be asked makes a task runnable.
    let mut dumps: Vec<TaskDump> = tasks.iter().map(dump).collect();
    let Some(pass) = Pass::begin(tasks.len(), Instant::now() + limit) else {
        dumps.iter_mut().for_each(|dump| dump.traced = Some(Err(Untraced::NoAnswer)));
        return Dump::new(dumps);
    };
    // A look-up and a capture exclude each other. So the debug information is read before the first
    // task is asked, and the pass goes on until all is looked up: no worker waits for a look-up.
    let mut symbols = Symbols::new();
    let answers = ask(&pass, &tasks, Instant::now() + limit);
    drop(tasks);
    for (dump, answer) in dumps.iter_mut().zip(answers) {
        dump.traced = Some(answer.and_then(|answer| symbols.traced(answer)));
    }
    Dump::new(dumps)
}

/// Asks each idle task, and waits for the answers.
fn ask(pass: &Pass, tasks: &[TaskRef], until: Instant) -> Vec<Result<TicketAnswer, Untraced>> {
    // How many were asked, and how many of them were not waited for any longer.
    let (mut asked, mut given_up) = (0, 0);
    let mut ask = |index: usize, task: &TaskRef| -> Result<(), Untraced> {
        let record = task.header().about.record().ok_or(Untraced::NotInspected)?;
        let enough = (asked + 1_usize).saturating_sub(given_up + ASKED);
        let answered = pass.wait(enough, until.min(Instant::now() + PATIENCE));
        if answered < enough {
            given_up = asked - answered;
        }
        match task.header().state.phase() {
            TaskState::Idle => {}
            TaskState::Running => return Err(Untraced::Running),
            TaskState::Scheduled => return Err(Untraced::Runnable),
            TaskState::Done => return Err(Untraced::Ended),
        }
        let index = u32::try_from(index).map_err(|_| Untraced::NoAnswer)?;
        if Instant::now() >= until {
            return Err(Untraced::NoAnswer);
        }
        asked += 1;
        pass.ask(index, &record.trace);
        task.wake();
        Ok(())
    };
    let outcomes: Vec<_> = tasks.iter().enumerate().map(|(index, task)| ask(index, task)).collect();
    while pass.wait(asked, until.min(Instant::now() + PATIENCE)) < asked && Instant::now() < until {
        // A task that is about to end when it is asked does not answer.
        for (task, _) in tasks.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok()) {
            let record = task.header().about.record();
            if let Some(record) = record.filter(|_| task.header().state.phase() == TaskState::Done) {
                pass.has_ended(&record.trace);
            }
        }
    }
    let answers = pass.take_answers();
    let of = |((task, outcome), answer): ((&TaskRef, Result<(), Untraced>), Option<TicketAnswer>)| {
        outcome?;
        if answer.is_none() {
            task.header().about.record().iter().for_each(|record| pass.withdraw(&record.trace));
        }
        answer.ok_or(Untraced::NoAnswer)
    };
    tasks.iter().zip(outcomes).zip(answers).map(of).collect()
}
