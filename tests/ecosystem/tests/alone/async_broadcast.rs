//! async-broadcast: each receiver gets each message.

use heirloom_ecosystem::{Library, tests};

pub struct Broadcast;

impl Library for Broadcast {
    const PACKAGE: &'static str = "async-broadcast";
    const GUEST: bool = false;
    const SPAWNS: &'static str = "";
    type Client = ();

    async fn connect() {}

    async fn call((): ()) {
        let (sender, mut one) = async_broadcast::broadcast(1);
        let mut two = one.clone();
        let send = async {
            sender.broadcast(3).await.unwrap();
            sender.broadcast(4).await.unwrap();
        };
        let one = async { one.recv().await.unwrap() + one.recv().await.unwrap() };
        let two = async { two.recv().await.unwrap() + two.recv().await.unwrap() };
        assert_eq!(futures::join!(send, one, two), ((), 7, 7));
    }

    async fn endless((): ()) -> String {
        let (_sender, mut receiver) = async_broadcast::broadcast::<()>(1);
        format!("{:?}", receiver.recv().await)
    }
}

tests!(Broadcast, without a guest);
