//! The queue on the broker. It knows NATS, and nothing of contexts: what a job carries is in its
//! headers.
//!
//! Two streams, in files of the broker:
//!
//! * `FLEET_JOBS`: jobs that have not ended. The one consumer of it, `workers`, hands each job to
//!   one of the worker processes, and again to another if the *lease* passes without news of it. An
//!   acknowledged job is gone.
//! * `FLEET_ENDED`: how jobs have ended, on the subjects `fleet.ended.RUN.done`, `.expired`,
//!   `.dead` (the dead-letter subject) and `.again`. A run is what one submitter has submitted.
//!
//! # What is lost, and what is there twice
//!
//! A worker does three things, in this order: it runs the job, it stores how the job has ended, it
//! acknowledges the job. A worker that dies in between leaves a job that is not acknowledged, and
//! is delivered again. So no job is lost, and a job may run twice.
//!
//! Two endings are noticed: job and ending carry the job's id as `Nats-Msg-Id`, and for an hour the
//! broker keeps one message of each id. A worker whose ending is refused as a duplicate says so
//! with a message on `.again`, before it acknowledges. A run whose worker dies before it stores the
//! ending leaves no trace but the number of the next delivery: a job whose ending says a later
//! delivery than its own failures explain has perhaps run twice.
//!
//! A submitter that gets no answer submits the job again, with the same id. The broker of Debian 12
//! forgets the ids of acknowledged jobs when it restarts; then the ending is what is noticed.

use std::error::Error;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::consumer::pull::{Batch, Config as WorkersConfig, OrderedConfig};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer};
use async_nats::jetstream::message::Acker;
use async_nats::jetstream::stream::{Config as StreamConfig, RetentionPolicy, Stream};
use async_nats::jetstream::{self, AckKind, Context};
use async_nats::{Client, ConnectOptions, HeaderMap};
use bytes::Bytes;
use futures::StreamExt;
use tokio::time::{Instant, timeout_at};

use crate::job::{Job, milliseconds};
use crate::policy::{LEASE, PULL};

pub(crate) type Failure = Box<dyn Error + Send + Sync>;
pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// For so long the broker knows the id of a message.
const IDS: Duration = Duration::from_secs(3_600);
/// For so long the broker keeps how a job has ended.
const KEPT: Duration = Duration::from_secs(24 * 3_600);
/// The bytes of a job with its headers. What a job ends with comes on top, and must be below the
/// broker's own limit, which is a megabyte.
const LARGEST: i32 = 64 << 10;
/// The end of a request for jobs comes so late at most.
const LATE: Duration = Duration::from_secs(1);
/// When a job was sent, in milliseconds since 1970.
const SENT: &str = "fleet-sent";
const ATTEMPT: &str = "fleet-attempt";
const REASON: &str = "fleet-reason";
/// One line for each thing that was wrong.
const VIOLATION: &str = "fleet-violation";

/// The reason of an expired job that has run.
pub(crate) const CUT: &str = "the deadline has come in the middle of it";

/// How a job has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Done,
    /// Its deadline came first.
    Expired,
    /// Given up.
    Dead,
    /// Not the end, which is stored already: it ran to its end once more.
    Again,
}

impl Ending {
    const ALL: [(Ending, &str); 4] = [
        (Ending::Done, "done"),
        (Ending::Expired, "expired"),
        (Ending::Dead, "dead"),
        (Ending::Again, "again"),
    ];
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Ending::ALL.iter().find(|(ending, _)| ending == self);
        f.write_str(named.expect("all endings have a name").1)
    }
}

/// A delivered job.
pub(crate) struct Delivery {
    pub(crate) job: Job,
    /// From 1.
    pub(crate) attempt: i64,
    /// When the submitter has sent it, by the submitter's clock.
    sent: SystemTime,
    headers: HeaderMap,
    body: Bytes,
    acker: Acker,
}

/// How a job has ended, as it was stored.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) job: Job,
    pub(crate) ending: Ending,
    pub(crate) attempt: i64,
    pub(crate) reason: Option<String>,
    pub(crate) violations: Vec<String>,
}

/// A message of the stream of endings.
pub(crate) struct Stored {
    /// When the broker has stored it, and as the how many-th message of the stream.
    pub(crate) at: SystemTime,
    pub(crate) sequence: u64,
    /// An error if it is no ending.
    pub(crate) ended: Result<Ended>,
}

#[derive(Clone)]
pub(crate) struct Queue {
    jetstream: Context,
    jobs: Stream,
    workers: PullConsumer,
    ended: Stream,
}

impl Queue {
    /// Connects, and makes the two streams and the consumer unless they are there.
    ///
    /// # Errors
    /// No broker answers, or it has no JetStream.
    pub(crate) async fn open(url: &str) -> Result<Queue> {
        let client: Client = ConnectOptions::new().name("fleet").connect(url).await?;
        let jetstream = jetstream::new(client);
        let jobs = jetstream.get_or_create_stream(StreamConfig {
            name: "FLEET_JOBS".into(),
            subjects: vec!["fleet.jobs.*".into()],
            retention: RetentionPolicy::WorkQueue,
            duplicate_window: IDS,
            max_message_size: LARGEST,
            ..StreamConfig::default()
        });
        let workers = WorkersConfig {
            durable_name: Some("workers".into()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: LEASE,
            // A bound on all workers together, far above what they run.
            max_ack_pending: 100_000,
            ..WorkersConfig::default()
        };
        let jobs = jobs.await?;
        let workers = jobs.get_or_create_consumer("workers", workers).await?;
        let ended = jetstream.get_or_create_stream(StreamConfig {
            name: "FLEET_ENDED".into(),
            subjects: vec!["fleet.ended.*.*".into()],
            max_age: KEPT,
            duplicate_window: IDS,
            ..StreamConfig::default()
        });
        let ended = ended.await?;
        Ok(Queue { jetstream, jobs, workers, ended })
    }

    /// Stores a job with its headers. When this returns `Ok`, the broker has written the job to a
    /// file, and a broker that is killed has it. A broker's machine that loses power may have lost
    /// it: JetStream flushes its files to the disk every two minutes. Replicas of the stream help,
    /// or `sync_interval: always` in the configuration of a broker that knows it.
    pub(crate) async fn submit(&self, job: &Job, mut headers: HeaderMap) -> Result<()> {
        headers.insert(NATS_MESSAGE_ID, job.id());
        headers.insert(SENT, milliseconds().to_string());
        let payload = serde_json::to_vec(job)?.into();
        let subject = format!("fleet.jobs.{}", job.run);
        self.jetstream.publish_with_headers(subject, headers, payload).await?.await?;
        Ok(())
    }

    /// How many jobs have not ended.
    pub(crate) async fn len(&self) -> Result<u64> {
        Ok(self.jobs.get_info().await?.state.messages)
    }

    /// Asks for at most so many jobs. The request ends when they are there, or after [`PULL`].
    pub(crate) async fn pull(&self, most: usize) -> Result<Deliveries> {
        let messages = self.workers.batch().max_messages(most).expires(PULL).messages().await?;
        Ok(Deliveries { messages, end: Instant::now() + PULL + LATE })
    }

    /// Waits until all acknowledgements are on their way.
    pub(crate) async fn flush(&self) -> Result<()> {
        Ok(self.jetstream.client().flush().await?)
    }

    /// Reads how the jobs of a run have ended, behind the ending of this number in the stream, and
    /// goes on with those to come.
    ///
    /// # Errors
    /// Also in the middle, when the broker restarts: it has forgotten the reader then.
    pub(crate) async fn ended(
        &self,
        run: &str,
        behind: u64,
    ) -> Result<impl futures::Stream<Item = Result<Stored>> + use<>> {
        let config = OrderedConfig {
            filter_subject: format!("fleet.ended.{run}.*"),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: behind + 1 },
            ..OrderedConfig::default()
        };
        let messages = self.ended.create_consumer(config).await?.messages().await?;
        Ok(messages.map(|message| {
            let message = message?;
            let info = message.info()?;
            let (at, sequence) = (info.published.into(), info.stream_sequence);
            Ok(Stored { at, sequence, ended: Ended::read(&message) })
        }))
    }
}

pub(crate) struct Deliveries {
    messages: Batch,
    /// A broker that restarts forgets the request, and does not say that it has ended.
    end: Instant,
}

impl Deliveries {
    /// `None` when no more come by this request.
    pub(crate) async fn next(&mut self) -> Option<Result<Delivery>> {
        match timeout_at(self.end, self.messages.next()).await.ok()?? {
            Ok(message) => Some(Delivery::read(message).await),
            Err(error) => Some(Err(error)),
        }
    }
}

impl Delivery {
    async fn read(message: jetstream::Message) -> Result<Delivery> {
        let job = match Job::read(&message.payload) {
            Ok(job) => job,
            Err(error) => {
                // It would be delivered for ever.
                message.ack_with(AckKind::Term).await?;
                return Err(format!("a message that is no job is removed: {error}").into());
            }
        };
        let info = message.info()?;
        let (published, attempt) = (info.published.into(), info.delivered);
        let (message, acker) = message.split();
        let headers = message.headers.unwrap_or_default();
        let sent = sent(&headers).unwrap_or(published);
        Ok(Delivery { job, attempt, sent, headers, body: message.payload, acker })
    }

    /// How long ago the job was sent. The broker's own stamp would not do: while the broker is
    /// away, a message waits in the submitter's process. Two clocks are compared: the machines of a
    /// fleet keep theirs together.
    pub(crate) fn age(&self) -> Duration {
        self.sent.elapsed().unwrap_or_default()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Tells the broker that the job is still being worked on: its lease begins anew.
    pub(crate) async fn extend(&self) -> Result<()> {
        self.acker.ack_with(AckKind::Progress).await
    }

    /// Gives the job back, to be delivered again after a pause.
    pub(crate) async fn retry(&self, pause: Duration) -> Result<()> {
        self.acker.ack_with(AckKind::Nak(Some(pause))).await
    }

    /// Stores how the job has ended, and acknowledges it. Returns whether this is the one ending of
    /// the job; else an earlier one was stored, which is kept.
    ///
    /// # Errors
    /// The broker does not answer. The job is not acknowledged, and is delivered again.
    pub(crate) async fn end(
        self,
        queue: &Queue,
        ending: Ending,
        reason: &str,
        violations: &[String],
    ) -> Result<bool> {
        let headers = || {
            // A dead letter has the headers of the job too: it is known whose it was.
            let mut headers =
                if ending == Ending::Dead { not_for_the_broker(&self.headers) } else { HeaderMap::new() };
            headers.insert(ATTEMPT, self.attempt.to_string());
            if !reason.is_empty() {
                headers.insert(REASON, one_line(reason));
            }
            for violation in violations {
                headers.append(VIOLATION, one_line(violation));
            }
            headers
        };
        let publish = async |ending, headers| -> Result<bool> {
            let subject = format!("fleet.ended.{}.{ending}", self.job.run);
            let stored =
                queue.jetstream.publish_with_headers(subject, headers, self.body.clone()).await?.await?;
            Ok(stored.duplicate)
        };
        let mut with_id = headers();
        with_id.insert(NATS_MESSAGE_ID, self.job.id());
        let is_duplicate = publish(ending, with_id).await?;
        if is_duplicate && ending == Ending::Done {
            publish(Ending::Again, headers()).await?;
        }
        self.acker.ack().await?;
        Ok(!is_duplicate)
    }
}

impl Ended {
    fn read(message: &jetstream::Message) -> Result<Ended> {
        let ending = message.subject.rsplit('.').next();
        let ending = Ending::ALL.iter().find(|(_, name)| Some(*name) == ending).ok_or("an unknown ending")?.0;
        let headers = message.headers.as_ref().ok_or("an ending without headers")?;
        let text = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
        Ok(Ended {
            job: Job::read(&message.payload)?,
            ending,
            attempt: text(ATTEMPT).ok_or("an ending without a number")?.parse()?,
            reason: text(REASON),
            violations: headers.get_all(VIOLATION).map(|line| line.as_str().to_owned()).collect(),
        })
    }
}

/// When a message was sent, if it says so.
fn sent(headers: &HeaderMap) -> Option<SystemTime> {
    let sent = headers.get(SENT)?.as_str().parse().ok()?;
    UNIX_EPOCH.checked_add(Duration::from_millis(sent))
}

/// The headers without those that the broker obeys: they may forbid to store the message elsewhere.
fn not_for_the_broker(headers: &HeaderMap) -> HeaderMap {
    let mut others = HeaderMap::new();
    for (name, values) in headers.iter().filter(|(name, _)| !name.to_string().starts_with("Nats-")) {
        values.iter().for_each(|value| others.append(name.clone(), value.clone()));
    }
    others
}

/// A header has no room for the end of a line, and not for a text of any length.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().take(1_000).map(|char| if char.is_control() { ' ' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_a_job_counts_from_what_its_submitter_says() {
        let sent_with = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(SENT, text);
            sent(&headers)
        };
        assert_eq!(sent_with("1500"), Some(UNIX_EPOCH + Duration::from_millis(1_500)));
        for text in ["", "-1", "1.5", "18446744073709551616"] {
            assert_eq!(sent_with(text), None, "{text}");
        }
        // Any number is served.
        let _ = sent_with("18446744073709551615");
        assert_eq!(sent(&HeaderMap::new()), None);
    }

    #[test]
    fn a_dead_letter_has_no_orders_for_the_broker_and_a_reason_of_one_line() {
        let lines = "Nats-Expected-Stream: FLEET_JOBS, Nats-Msg-Id: 1-1.7, baggage: a=1, baggage: b=2";
        let mut headers = HeaderMap::new();
        for (name, value) in lines.split(", ").filter_map(|line| line.split_once(": ")) {
            headers.append(name, value);
        }
        let others = not_for_the_broker(&headers);
        assert_eq!(others.len(), 1);
        assert_eq!(others.get_all("baggage").count(), 2);

        assert_eq!(one_line("a\r\nb\0"), "a  b ");
        assert_eq!(one_line(&"é".repeat(2_000)).chars().count(), 1_000);
    }
}
