//! Ping-pong: two tasks hand a message to and fro over channels. Nearly all of it is waking and
//! being polled.

use futures::channel::mpsc;
use futures::{SinkExt, StreamExt};

use super::{About, Scenario};
use crate::load::check::Own;
use crate::load::executor::Loadable;
use crate::load::probe::probed;

/// Times a message goes there and back.
pub(super) const RALLY: u64 = 100;

/// See the module.
#[derive(Debug)]
pub struct PingPong;

impl Scenario for PingPong {
    const ABOUT: About = About {
        name: "pingpong",
        text: "pairs of tasks hand a message to and fro 100 times over channels",
        unit: "messages",
        clients_per_worker: 16,
        over_connections: false,
    };

    async fn request<E: Loadable>(executor: E, own: Own) -> u64 {
        rally(executor, own, RALLY).await
    }
}

/// Plays against a task of its own; returns the number of messages.
pub(super) async fn rally<E: Loadable>(executor: E, mut own: Own, times: u64) -> u64 {
    let (mut serve, mut served) = mpsc::channel::<u64>(1);
    let (mut reply, mut replied) = mpsc::channel::<u64>(1);
    let mut child = own.child(1);
    let timed = child.is_timed();
    let opponent = executor.spawn(probed(timed, async move {
        while let Some(ball) = served.next().await {
            child.check("with the ball");
            if reply.send(ball + 1).await.is_err() {
                break;
            }
        }
    }));
    let mut ball = 0;
    for _ in 0..times {
        if serve.send(ball).await.is_err() {
            break;
        }
        match replied.next().await {
            Some(back) => ball = back + 1,
            None => break,
        }
        own.check("when the ball is back");
    }
    drop(serve);
    opponent.await;
    ball
}
