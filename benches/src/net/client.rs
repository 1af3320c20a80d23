//! The client, the same for all servers: a process of its own, so that its processor time is not
//! the server's.
//!
//! ```text
//! the program ──starts──► itself, as `as-client ADDRESS CONNECTIONS REQUEST-BYTES echo|http`
//!             ◄── a line: ready ───────── all connected, each answered once
//!             ─── a line: requests each ─►
//!             ◄── a line: nanoseconds ─── until all have their answers; as often as wanted
//!             ─── end of input ─────────► it ends
//! ```
//!
//! Each connection has one request under way at a time. It is written on tokio's current-thread
//! runtime: one thread, so that on two processors the server has at least the other.

use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use ::tokio::io::{AsyncReadExt, AsyncWriteExt};
use ::tokio::net::TcpStream;

const AS_CLIENT: &str = "as-client";

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// So many bytes, to come back.
    Echo {
        /// How many.
        bytes: usize,
    },
    /// `GET /`, on a connection that is kept alive.
    Http,
}

/// A client process, connected and warm.
#[derive(Debug)]
pub struct Client {
    child: Child,
    ask: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    connections: u32,
}

impl Client {
    /// Starts one, and waits until all its connections have had an answer.
    ///
    /// # Panics
    /// If it cannot be started or cannot connect: there is nothing to measure then.
    pub fn start(server: SocketAddr, connections: u32, protocol: Protocol) -> Client {
        let (bytes, kind) = match protocol {
            Protocol::Echo { bytes } => (bytes, "echo"),
            Protocol::Http => (0, "http"),
        };
        let mut child = Command::new(std::env::current_exe().expect("the program knows where it is"))
            .args([AS_CLIENT, &server.to_string(), &connections.to_string(), &bytes.to_string(), kind])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("no process for the client");
        let ask = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        let mut client = Client { child, ask, answers, connections };
        assert_eq!(client.line(), "ready", "the client has not come up");
        client
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the client's output can be read");
        line.trim().to_owned()
    }

    /// Makes at least so many requests, spread over all connections: how many it made, and how long
    /// they took, by the client's clock.
    ///
    /// # Panics
    /// If the client has failed.
    pub fn requests(&mut self, total: u32) -> (u64, Duration) {
        let each = total.div_ceil(self.connections);
        writeln!(self.ask.as_ref().expect("open until the end"), "{each}").expect("the client listens");
        let nanoseconds = self.line().parse().expect("the client has failed");
        (u64::from(each) * u64::from(self.connections), Duration::from_nanos(nanoseconds))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It ends at the end of its input.
        self.ask = None;
        let _ = self.child.wait();
    }
}

/// In a client process: does its work, and says with which code to end.
pub fn run_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    (arguments.next()? == AS_CLIENT).then(|| {
        let arguments: Vec<String> = arguments.collect();
        match client(&arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("client: {error}");
                ExitCode::from(1)
            }
        }
    })
}

fn client(arguments: &[String]) -> io::Result<()> {
    let bad = || io::Error::other("not started by the program itself");
    let [server, connections, bytes, kind] = arguments else { return Err(bad()) };
    let server: SocketAddr = server.parse().map_err(|_| bad())?;
    let connections: usize = connections.parse().map_err(|_| bad())?;
    let request = match kind.as_str() {
        "http" => b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec(),
        _ => vec![b'x'; bytes.parse().map_err(|_| bad())?],
    };
    let runtime = ::tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let mut all = Vec::with_capacity(connections);
        for _ in 0..connections {
            let stream = TcpStream::connect(server).await?;
            stream.set_nodelay(true)?;
            let mut connection = Connection { stream, request: request.clone(), answer: Vec::new() };
            connection.first().await?;
            all.push(connection);
        }
        say("ready")?;
        // Nothing else is to be done while it waits for the next order.
        for line in io::stdin().lock().lines() {
            let each: usize = line?.trim().parse().map_err(|_| bad())?;
            let begun = Instant::now();
            let tasks: Vec<_> =
                all.drain(..).map(|connection| ::tokio::spawn(connection.converse(each))).collect();
            for task in tasks {
                all.push(task.await.map_err(io::Error::other)??);
            }
            say(&begun.elapsed().as_nanos().to_string())?;
        }
        Ok(())
    })
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    /// As long as each answer is.
    answer: Vec<u8>,
}

impl Connection {
    /// The first request tells how long an answer is: an echo is as long as what was sent, a
    /// response is read byte by byte until its head has told.
    async fn first(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.request).await?;
        if !self.request.starts_with(b"GET ") {
            self.answer.resize(self.request.len(), 0);
            return self.stream.read_exact(&mut self.answer).await.map(drop);
        }
        let mut byte = [0];
        while !is_whole(&self.answer) {
            self.stream.read_exact(&mut byte).await?;
            self.answer.push(byte[0]);
        }
        Ok(())
    }

    async fn converse(mut self, times: usize) -> io::Result<Connection> {
        for _ in 0..times {
            self.stream.write_all(&self.request).await?;
            self.stream.read_exact(&mut self.answer).await?;
        }
        Ok(self)
    }
}

/// Whether this is all of a response.
pub(crate) fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    body.len() == length.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::is_whole;

    #[test]
    fn a_response_is_whole_when_its_head_says_so() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
        assert!(is_whole(answer) && (0..answer.len()).all(|length| !is_whole(&answer[..length])));
    }
}
