//! tokio's own timers, sockets, files, processes and tasks.

use std::process::Stdio;
use std::time::Duration;

use heirloom_ecosystem::{LONG, Library, note_own, tests};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

pub struct Tokio;

impl Library for Tokio {
    const PACKAGE: &'static str = "tokio";
    const SPAWNS: &'static str = "`tokio::spawn`";
    type Client = ();

    async fn connect() {}

    async fn call((): ()) {
        tokio::time::sleep(Duration::from_millis(1)).await;

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            note_own::<Tokio>();
            let mut stream = listener.accept().await.unwrap().0;
            let mut ping = [0; 4];
            stream.read_exact(&mut ping).await.unwrap();
            stream.write_all(&ping).await.unwrap();
        });
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"ping").await.unwrap();
        let mut pong = String::new();
        stream.read_to_string(&mut pong).await.unwrap();
        assert_eq!(pong, "ping");
        serving.await.unwrap();

        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        assert!(tokio::fs::read_to_string(manifest).await.unwrap().contains("[package]"));
        assert_eq!(Command::new("echo").arg("seven").output().await.unwrap().stdout, b"seven\n");
    }

    async fn endless((): ()) -> String {
        let mut child = Command::new("sleep")
            .arg(LONG.as_secs().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        format!("{:?}", child.wait().await)
    }
}

tests!(Tokio);
