//! flume's channels, between tasks and a thread that blocks.

use heirloom::{spawn_blocking, yield_now};
use heirloom_ecosystem::{Library, tests};

pub struct Flume;

impl Library for Flume {
    const PACKAGE: &'static str = "flume";
    const GUEST: bool = false;
    const SPAWNS: &'static str = "";
    type Client = ();

    async fn connect() {}

    async fn call((): ()) {
        let (sender, receiver) = flume::bounded(1);
        let blocking = sender.clone();
        let there = spawn_blocking(move || blocking.send(3).unwrap());
        let here = async {
            for number in [1, 3] {
                sender.send_async(number).await.unwrap();
                yield_now().await;
            }
        };
        let sum = async {
            let mut sum = 0;
            for _ in 0..3 {
                sum += receiver.recv_async().await.unwrap();
            }
            sum
        };
        assert_eq!(futures::join!(here, sum), ((), 7));
        there.await.unwrap();
    }

    async fn endless((): ()) -> String {
        let (_sender, receiver) = flume::bounded::<()>(1);
        format!("{:?}", receiver.recv_async().await)
    }
}

tests!(Flume, without a guest);
