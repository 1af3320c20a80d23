//! The service of the protocol: streams of updates, and a switch that pauses them.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::time::{Duration, SystemTime};

use console_api::instrument::instrument_server::Instrument;
use console_api::instrument::{
    InstrumentRequest, PauseRequest, PauseResponse, ResumeRequest, ResumeResponse, State, StateRequest,
    TaskDetailsRequest, Temporality, Update,
};
use console_api::tasks::TaskDetails;
use event_listener::Event;
use futures_util::{Stream, StreamExt, stream};
use heirloom::time::MissedTicks;
use heirloom::{Handle, interval, spawn_blocking};
use tonic::{Request, Response, Status};

use crate::watch::Watch;

/// The time between two updates.
const PERIOD: Duration = Duration::from_secs(1);

type Updates<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

pub(crate) struct Service {
    observed: Handle,
    pause: Arc<Pause>,
}

/// Whether updates are held back, for all tools that are connected.
#[derive(Default)]
struct Pause {
    paused: AtomicBool,
    changed: Event,
}

impl Pause {
    fn set(&self, paused: bool) {
        if self.paused.swap(paused, AcqRel) != paused {
            self.changed.notify(usize::MAX);
        }
    }

    fn is_paused(&self) -> bool {
        self.paused.load(Acquire)
    }

    /// The state, when it is another one than `last`.
    async fn after(&self, last: Option<bool>) -> bool {
        loop {
            let changed = self.changed.listen();
            let paused = self.is_paused();
            if last != Some(paused) {
                return paused;
            }
            changed.await;
        }
    }
}

impl Service {
    pub(crate) fn new(observed: Handle) -> Service {
        Service { observed, pause: Arc::default() }
    }
}

#[tonic::async_trait]
impl Instrument for Service {
    type WatchUpdatesStream = Updates<Update>;
    type WatchTaskDetailsStream = Updates<TaskDetails>;
    type WatchStateStream = Updates<State>;

    async fn watch_updates(
        &self,
        _: Request<InstrumentRequest>,
    ) -> Result<Response<Self::WatchUpdatesStream>, Status> {
        let interval = interval(PERIOD).missed_tick_policy(MissedTicks::Delay);
        let begin = (Watch::new(self.observed.clone()), interval, Arc::clone(&self.pause));
        let looks = stream::unfold(begin, async |(mut watch, mut interval, pause)| {
            loop {
                interval.tick().await;
                if !pause.is_paused() {
                    break;
                }
            }
            // A dump of many tasks takes longer than a poll should.
            let looking = spawn_blocking(move || (watch.look(), watch)).await;
            let (updates, watch) = looking.ok()?;
            Some((stream::iter(updates.into_iter().map(Ok)), (watch, interval, pause)))
        });
        Ok(Response::new(Box::pin(looks.flatten())))
    }

    /// What the tool shows beside the list: histograms of one task, which are not known. The answer
    /// says so, and the stream stays open.
    async fn watch_task_details(
        &self,
        request: Request<TaskDetailsRequest>,
    ) -> Result<Response<Self::WatchTaskDetailsStream>, Status> {
        let task_id = request.into_inner().id;
        let details = TaskDetails { task_id, now: Some(SystemTime::now().into()), ..TaskDetails::default() };
        let once = stream::iter([Ok(details)]);
        Ok(Response::new(Box::pin(once.chain(stream::pending()))))
    }

    async fn watch_state(
        &self,
        _: Request<StateRequest>,
    ) -> Result<Response<Self::WatchStateStream>, Status> {
        let states = stream::unfold((Arc::clone(&self.pause), None), async |(pause, last)| {
            let paused = pause.after(last).await;
            let temporality = if paused { Temporality::Paused } else { Temporality::Live };
            Some((Ok(State { temporality: temporality.into() }), (pause, Some(paused))))
        });
        Ok(Response::new(Box::pin(states)))
    }

    async fn pause(&self, _: Request<PauseRequest>) -> Result<Response<PauseResponse>, Status> {
        self.pause.set(true);
        Ok(Response::new(PauseResponse {}))
    }

    async fn resume(&self, _: Request<ResumeRequest>) -> Result<Response<ResumeResponse>, Status> {
        self.pause.set(false);
        Ok(Response::new(ResumeResponse {}))
    }
}
