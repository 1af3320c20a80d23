//! The comparison sees what it is for. Headers stand in for the broker.

use heirloom::{Context, wait_for};

use super::*;
use crate::context::{self, TOKEN};

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
    let run = async move { wait_for(run(job, 1), left).await };
    received.bind(&Context::empty()).run(|| spawn(run)).await.unwrap().unwrap().unwrap()
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
    let wrong = run(job(), 1).await.unwrap();
    assert_eq!(wrong.len(), 15, "four variables and the deadline at three places: {wrong:?}");

    let context = Context::empty().with_var(&TOKEN, "open sesame".to_owned());
    assert!(context.run(|| look("here", &job())).iter().any(|text| text.contains("token")));
    assert!(!TRACE.is_set());
}

#[heirloom::test]
async fn some_jobs_fail_at_the_first_attempt_and_some_always() {
    let attempt = |kind, attempt| run(Job::new("run", 0, kind), attempt);
    assert!(attempt(Kind::Flaky, 1).await.is_err());
    assert!(attempt(Kind::Flaky, 2).await.is_ok());
    assert!(attempt(Kind::Hopeless, 2).await.is_err());
}
