//! The comparison sees what it is for. Headers stand in for the broker.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use heirloom::{Context, wait_for};

use super::*;
use crate::context::{self, TOKEN};
use crate::policy::LIMIT;

/// With a tenant that a careless format would change.
const NUMBER: u64 = 2;

fn job() -> Job {
    Job::new("run", NUMBER, Kind::Plain)
}

/// What a worker sees that has got the job of one request with the headers of another.
async fn seen(job: Job, headers_of: Job) -> Vec<String> {
    let (tell, told) = std::sync::mpsc::channel();
    let limit = headers_of.kind.limit();
    context::as_request(&headers_of, || {
        spawn(async move { tell.send(wait_for(async { context::headers() }, limit).await.unwrap()) })
            .detach();
    });
    let received = context::read(&told.recv().unwrap());
    let left = received.remaining().unwrap().unwrap();
    received.bind(&Context::empty()).run(|| spawn(found(job, left))).await.unwrap()
}

/// What is found when a job runs for this time, or to its end.
async fn found(job: Job, limit: Duration) -> Vec<String> {
    let mut wrong = Vec::new();
    let run = AssertUnwindSafe(wait_for(run(job, 1, &mut wrong), limit)).catch_unwind();
    drop(run.await);
    wrong
}

#[heirloom::test]
async fn nothing_is_wrong_with_a_job_in_its_own_context() {
    for number in 0..4 {
        let job = Job::new("run", number, Kind::Plain);
        assert_eq!(seen(job.clone(), job).await, [""; 0]);
    }
}

#[heirloom::test]
async fn the_context_of_another_request_is_seen_at_each_place() {
    let wrong = seen(job(), Job::new("run", NUMBER + 1, Kind::Plain)).await;
    for place in ["at the beginning", "later", "in a task of its own"] {
        for name in ["tenant", "request", "user", "trace"] {
            let found = wrong.iter().filter(|text| text.starts_with(&format!("{place}: {name} is")));
            assert_eq!(found.count(), 1, "{place}, {name}: {wrong:?}");
        }
    }
    assert_eq!(wrong.len(), 12);
}

#[heirloom::test]
async fn a_later_deadline_none_no_context_and_a_secret_are_seen() {
    let early = Job { until: milliseconds() + 1_000, ..job() };
    assert_eq!(seen(early, job()).await.len(), 3, "a later deadline");
    let wrong = found(job(), Duration::MAX).await;
    assert_eq!(wrong.len(), 15, "four variables and the deadline at three places: {wrong:?}");

    let context = Context::empty().with_var(&TOKEN, "open sesame".to_owned());
    assert!(context.run(|| look("here", &job())).iter().any(|text| text.contains("token")));
    assert!(!TRACE.is_set());
}

#[heirloom::test]
async fn some_jobs_fail_at_the_first_attempt_and_some_always() {
    let attempt = async |kind, attempt| run(Job::new("run", 0, kind), attempt, &mut Vec::new()).await.is_ok();
    assert!(!attempt(Kind::Flaky, 1).await);
    assert!(attempt(Kind::Flaky, 2).await);
    assert!(!attempt(Kind::Hopeless, 2).await);
}

#[heirloom::test]
async fn what_is_wrong_is_seen_also_when_a_job_fails_panics_or_is_cut() {
    for kind in [Kind::Flaky, Kind::Panicking, Kind::Hopeless] {
        let wrong = found(Job::new("run", NUMBER, kind), Duration::MAX).await;
        assert_eq!(wrong.len(), 10, "{kind:?}: {wrong:?}");
    }
    let wrong = found(Job::new("run", NUMBER, Kind::Hurried), Duration::from_millis(10)).await;
    assert_eq!(wrong.len(), 4, "cut: {wrong:?}");
}

#[heirloom::test]
async fn a_job_that_begins_after_its_deadline_is_seen() {
    let late = Job { until: milliseconds() - 2_000, ..Job::new("run", NUMBER, Kind::Hurried) };
    let wrong = seen(late.clone(), late).await;
    assert!(wrong.iter().any(|text| text.starts_with("at the beginning: the deadline is")), "{wrong:?}");
}

#[test]
fn a_deadline_beyond_the_limit_of_an_attempt_is_compared() {
    let (job, limit) = (job(), Kind::Plain.limit());
    assert!(limit > LIMIT * 2);
    assert_eq!(check(Some(limit), &job), [""; 0]);
    for wrong in [None, Some(LIMIT), Some(limit / 10), Some(limit * 10), Some(limit + Duration::from_secs(2))]
    {
        assert_eq!(check(wrong, &job).len(), 1, "{wrong:?}");
    }
}
