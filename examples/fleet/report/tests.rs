//! The report sees what it is for: a run in which all is right, and the same with one thing wrong.

use super::*;
use crate::job::Job;

/// Job 60 is hopeless, 80 hurried.
const JOBS: u64 = 100;

fn ended(number: u64) -> Ended {
    let kind = Kind::of(number);
    let attempt = if kind == Kind::Hopeless { crate::policy::ATTEMPTS } else { 1 };
    let job = Job::new("run", number, kind);
    Ended { job, ending: kind.ends(), attempt, reason: None, violations: Vec::new() }
}

/// The report after a change of what is right.
fn after(change: impl FnOnce(&mut Vec<Ended>)) -> Report {
    let mut all = (0..JOBS).map(ended).collect();
    change(&mut all);
    let mut report = Report::new(JOBS);
    (0..).zip(all).for_each(|(number, ended)| report.add(stored(number, Ok(ended))));
    report
}

fn stored(number: u64, ended: crate::queue::Result<Ended>) -> Stored {
    Stored { at: SystemTime::UNIX_EPOCH + Duration::from_millis(number), sequence: number + 1, ended }
}

#[test]
fn nothing_is_wrong_with_what_is_right() {
    let report = after(|_| ());
    assert_eq!(report.violations(), [""; 0]);
    assert!(report.is_complete());
    let text = "submitted: 100\ndone: 98, expired: 1 (cut: 0), dead: 1\n\
                redelivered: 0, perhaps ran twice: 0, duplicates: 0\n\
                in 0.10 s, 1010 jobs a second\ncontext violations: 0";
    assert_eq!(report.to_string(), text);
}

#[test]
fn a_lost_job_is_seen() {
    let report = after(|all| drop(all.remove(7)));
    assert_eq!(report.violations(), ["job 7 has not ended"]);
    assert!(!report.is_complete());
}

#[test]
fn an_ending_of_the_wrong_kind_a_second_one_and_a_foreign_one_are_seen() {
    assert_eq!(after(|all| all[80].ending = Ending::Done).violations().len(), 1, "an expired job has run");
    assert_eq!(after(|all| all[7].ending = Ending::Dead).violations().len(), 1);
    assert_eq!(after(|all| all.push(ended(7))).violations().len(), 1);
    assert_eq!(after(|all| all.push(ended(JOBS))).violations().len(), 1);
}

#[test]
fn a_wrong_context_is_seen_also_in_a_second_run() {
    for ending in [Ending::Done, Ending::Again] {
        let wrong = Ended { ending, violations: vec!["another tenant".to_owned()], ..ended(7) };
        let report = after(|all| {
            all.retain(|other| other.job.number != 7 || ending == Ending::Again);
            all.push(wrong);
        });
        assert_eq!(report.violations(), ["job 7: another tenant"]);
    }
}

#[test]
fn duplicates_and_redeliveries_are_counted_and_are_no_violation() {
    let report = after(|all| {
        all[7].attempt = 3;
        all.push(Ended { ending: Ending::Again, ..ended(7) });
        // Its own failure explains the second delivery, but not the third.
        all[20].attempt = 3;
        all[40].attempt = 2;
        all[80].attempt = 2;
    });
    let text = report.to_string();
    assert!(text.contains("redelivered: 4, perhaps ran twice: 3, duplicates: 1\n"), "{text}");
    assert_eq!(report.violations(), [""; 0]);
}

#[test]
fn jobs_that_expired_in_the_queue_and_in_the_middle_are_counted_apart() {
    let report = after(|all| {
        all[80].reason = Some(CUT.to_owned());
        all[79] = Ended { job: Job::new("run", 79, Kind::Hurried), ..ended(80) };
    });
    assert!(report.to_string().contains("expired: 2 (cut: 1), "), "{report}");
}

#[test]
fn a_message_that_is_no_ending_is_told_and_stepped_over() {
    let mut report = after(|_| ());
    report.add(stored(JOBS, Err("no JSON".into())));
    assert_eq!((report.len(), report.last()), (JOBS, JOBS + 1));
    assert_eq!(report.violations(), ["message 101 is no ending: no JSON"]);
}
