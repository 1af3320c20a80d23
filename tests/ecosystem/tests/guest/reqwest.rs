//! reqwest, against a server on threads.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::OnceLock;
use std::thread;

use heirloom_ecosystem::{Library, SERVER, note_own, tests};
use reqwest::{Body, Client};

/// Answers a POST when its body has been read, and a GET never.
fn serve(stream: TcpStream) -> io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let mut stream = stream;
    while let Some(line) = lines.next().transpose()? {
        if line.starts_with("GET ") {
            lines.by_ref().for_each(drop); // until the client has gone
        }
        // The last chunk of a body, and the empty line after it.
        if line == "0" {
            lines.next();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nseven")?;
        }
    }
    Ok(())
}

fn address() -> SocketAddr {
    static ADDRESS: OnceLock<SocketAddr> = OnceLock::new();
    *ADDRESS.get_or_init(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let on_a_thread = || thread::Builder::new().name(SERVER.into());
        let accept = move || {
            for stream in listener.incoming() {
                on_a_thread().spawn(|| serve(stream.unwrap())).unwrap();
            }
        };
        on_a_thread().spawn(accept).unwrap();
        address
    })
}

pub struct Reqwest;

impl Library for Reqwest {
    const PACKAGE: &'static str = "reqwest";
    const SPAWNS: &'static str = "a task per connection, which polls the request's body";
    type Client = Client;

    async fn connect() -> Client {
        Client::builder().no_proxy().build().unwrap()
    }

    async fn call(client: Client) {
        let body = Body::wrap_stream(futures::stream::once(async {
            note_own::<Reqwest>();
            io::Result::Ok("how many?\r\n")
        }));
        let answer = client.post(format!("http://{}/", address())).body(body).send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "seven");
    }

    async fn endless(client: Client) -> String {
        let answer = client.get(format!("http://{}/", address())).send().await;
        format!("{answer:?}")
    }
}

tests!(Reqwest);
