//! Shows a database driver with two front ends and one implementation: its async functions over one
//! connection type are awaited by asynchronous programs, and run eagerly by synchronous ones. A
//! small server, in threads of its own, speaks the line protocol; in the end the two front ends are
//! compared.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use futures::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use heirloom::net::TcpStream;
use heirloom::{TaskGroup, context_var, is_eager, run_eagerly, wait_for};

context_var! {
    /// The client that a statement is for. The driver sends it along; no function passes it down.
    static CLIENT: &'static str = "unknown";
}

// ---- the driver: written once ----

#[derive(Debug)]
enum Error {
    Io(io::Error),
    /// What the server has against the statement.
    Refused(String),
    /// An answer was not waited for, so the connection is out of step.
    OutOfStep,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io(error) => error.fmt(f),
            Error::Refused(why) => write!(f, "refused: {why}"),
            Error::OutOfStep => f.write_str("the connection is out of step"),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Error::Io(error)
    }
}

type Rows = Vec<String>;

struct Connection {
    stream: BufReader<TcpStream>,
    line: String,
    /// A statement was sent, and its answer not read to the end.
    waiting: bool,
}

impl Connection {
    async fn open(address: SocketAddr) -> Result<Connection, Error> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream: BufReader::new(stream), line: String::new(), waiting: false })
    }

    /// Sends a statement and returns its rows. Dropped half-way, it leaves the connection out of
    /// step, and says so next time.
    async fn query(&mut self, statement: &str) -> Result<Rows, Error> {
        if std::mem::replace(&mut self.waiting, true) {
            return Err(Error::OutOfStep);
        }
        let client = CLIENT.get();
        self.stream.get_mut().write_all(format!("{client} {statement}\n").as_bytes()).await?;
        // The answer is a count and so many rows, or a reason.
        let rows = match self.read_line().await?.split_once(' ') {
            Some(("rows", count)) => {
                count.parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?
            }
            Some(("error", why)) => {
                let why = why.to_owned();
                self.waiting = false;
                return Err(Error::Refused(why));
            }
            _ => return Err(io::Error::from(io::ErrorKind::InvalidData).into()),
        };
        let mut answer = Rows::new();
        for _ in 0..rows {
            answer.push(self.read_line().await?.to_owned());
        }
        self.waiting = false;
        Ok(answer)
    }

    async fn read_line(&mut self) -> Result<&str, Error> {
        self.line.clear();
        if self.stream.read_line(&mut self.line).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(self.line.trim_end())
    }

    /// All or nothing.
    async fn transfer(&mut self, from: &str, to: &str, amount: i64) -> Result<(), Error> {
        self.query("begin").await?;
        let moved = async {
            self.query(&format!("add {from} -{amount}")).await?;
            self.query(&format!("add {to} {amount}")).await
        };
        match moved.await {
            Ok(_) => self.query("commit").await.map(drop),
            Err(error) => {
                self.query("rollback").await?;
                Err(error)
            }
        }
    }

    /// The same with a limit, which needs no timer of the server's.
    async fn query_within(&mut self, statement: &str, limit: Duration) -> Option<Result<Rows, Error>> {
        wait_for(self.query(statement), limit).await.ok()
    }
}

// ---- the synchronous front end: that is all of it ----

struct BlockingConnection(Connection);

impl BlockingConnection {
    fn open(address: SocketAddr) -> Result<BlockingConnection, Error> {
        run_eagerly(Connection::open(address)).map(BlockingConnection)
    }

    fn query(&mut self, statement: &str) -> Result<Rows, Error> {
        run_eagerly(self.0.query(statement))
    }

    fn transfer(&mut self, from: &str, to: &str, amount: i64) -> Result<(), Error> {
        run_eagerly(self.0.transfer(from, to, amount))
    }

    fn query_within(&mut self, statement: &str, limit: Duration) -> Option<Result<Rows, Error>> {
        run_eagerly(self.0.query_within(statement, limit))
    }
}

// ---- two programs that use it ----

/// What a program has seen, to be compared.
type Transcript = Vec<String>;

fn told<T: fmt::Debug>(what: &str, result: Result<T, Error>) -> String {
    match result {
        Ok(value) => format!("{what}: {value:?}"),
        Err(error) => format!("{what}: {error}"),
    }
}

fn told_in_time(what: &str, result: Option<Result<Rows, Error>>) -> String {
    result.map_or_else(|| format!("{what}: time is up"), |result| told(what, result))
}

const SOON: Duration = Duration::from_millis(20);

fn blocking_program(address: SocketAddr) -> Result<Transcript, Error> {
    let mut db = BlockingConnection::open(address)?;
    let mut seen = vec![told("set", db.query("set ada 100")), told("set", db.query("set bob 0"))];
    seen.push(told("transfer 30", db.transfer("ada", "bob", 30)));
    seen.push(told("transfer 90", db.transfer("ada", "bob", 90)));
    seen.push(told("all", db.query("all")));
    seen.push(told("nonsense", db.query("nonsense")));
    seen.push(told_in_time("in time", db.query_within("all", Duration::from_secs(60))));
    seen.push(told_in_time("too slow", db.query_within("wait 3600000", SOON)));
    seen.push(told("after that", db.query("all")));
    assert!(!is_eager());
    Ok(seen)
}

async fn async_program(address: SocketAddr) -> Result<Transcript, Error> {
    let mut db = Connection::open(address).await?;
    let mut seen = vec![told("set", db.query("set ada 100").await), told("set", db.query("set bob 0").await)];
    seen.push(told("transfer 30", db.transfer("ada", "bob", 30).await));
    seen.push(told("transfer 90", db.transfer("ada", "bob", 90).await));
    seen.push(told("all", db.query("all").await));
    seen.push(told("nonsense", db.query("nonsense").await));
    seen.push(told_in_time("in time", db.query_within("all", Duration::from_secs(60)).await));
    seen.push(told_in_time("too slow", db.query_within("wait 3600000", SOON).await));
    seen.push(told("after that", db.query("all").await));
    Ok(seen)
}

const SLOW_STATEMENTS: usize = 16;
const SLOW: &str = "wait 20";

fn slow_one_by_one(address: SocketAddr) -> Result<(), Error> {
    let mut db = BlockingConnection::open(address)?;
    (0..SLOW_STATEMENTS).try_for_each(|_| db.query(SLOW).map(drop))
}

async fn slow_all_at_once(address: SocketAddr) -> Result<(), Error> {
    let all = TaskGroup::scope(async |group| {
        for _ in 0..SLOW_STATEMENTS {
            group.spawn(async move { Connection::open(address).await?.query(SLOW).await.map(drop) });
        }
        Ok(())
    });
    all.await.map_err(|error| Error::Io(io::Error::other(error)))
}

// ---- the server: plain threads, and none of the above ----

struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: thread::JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    stopped: AtomicBool,
    accounts: Mutex<BTreeMap<String, i64>>,
    /// Statements per client.
    statements: Mutex<BTreeMap<String, usize>>,
    connections: AtomicUsize,
}

impl Server {
    fn start() -> io::Result<Server> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::<Shared>::default();
        let theirs = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if theirs.stopped.load(SeqCst) {
                    return;
                }
                theirs.connections.fetch_add(1, SeqCst);
                let shared = Arc::clone(&theirs);
                // Ends with the connection; an error of that is the client's to notice.
                thread::spawn(move || drop(shared.serve(stream)));
            }
        });
        Ok(Server { address, shared, thread })
    }

    fn stop(self) -> io::Result<BTreeMap<String, usize>> {
        self.shared.stopped.store(true, SeqCst);
        drop(std::net::TcpStream::connect(self.address)?);
        self.thread.join().expect("it does not panic");
        Ok(std::mem::take(&mut *self.shared.statements.lock().unwrap()))
    }
}

impl Shared {
    fn serve(&self, stream: std::net::TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut replies = stream.try_clone()?;
        let mut before = None;
        for line in io::BufReader::new(stream).lines() {
            let line = line?;
            let (client, statement) = line.split_once(' ').unwrap_or((&line, ""));
            *self.statements.lock().unwrap().entry(client.to_owned()).or_default() += 1;
            let reply = match self.execute(statement, &mut before) {
                Ok(rows) => rows.iter().fold(format!("rows {}\n", rows.len()), |text, row| text + row + "\n"),
                Err(why) => format!("error {why}\n"),
            };
            replies.write_all(reply.as_bytes())?;
        }
        Ok(())
    }

    /// `before` is what a rollback goes back to.
    fn execute(&self, statement: &str, before: &mut Option<BTreeMap<String, i64>>) -> Result<Rows, String> {
        let words: Vec<&str> = statement.split(' ').collect();
        let number = |text: &str| text.parse::<i64>().map_err(|error| error.to_string());
        if let ["wait", milliseconds] = words[..] {
            let mut left = Duration::from_millis(number(milliseconds)?.unsigned_abs());
            while !left.is_zero() && !self.stopped.load(SeqCst) {
                let nap = left.min(SOON);
                thread::sleep(nap);
                left -= nap;
            }
            return Ok(Rows::new());
        }
        let mut accounts = self.accounts.lock().unwrap();
        match words[..] {
            ["begin"] => *before = Some(accounts.clone()),
            ["commit"] => *before = None,
            ["rollback"] => *accounts = before.take().ok_or("there is no transaction")?,
            ["set", name, amount] => drop(accounts.insert(name.to_owned(), number(amount)?)),
            ["add", name, amount] => {
                let balance = accounts.get_mut(name).ok_or("there is no such account")?;
                let new = *balance + number(amount)?;
                if new < 0 {
                    return Err(format!("{name} has {balance}"));
                }
                *balance = new;
            }
            ["all"] => return Ok(accounts.iter().map(|(name, amount)| format!("{name} {amount}")).collect()),
            _ => return Err("there is no such statement".to_owned()),
        }
        Ok(Rows::new())
    }
}

fn timed(f: impl FnOnce() -> Result<(), Error>) -> Result<Duration, Error> {
    let begun = Instant::now();
    f().map(|()| begun.elapsed())
}

pub(crate) fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::start()?;
    let address = server.address;

    // The context is sent along by both.
    CLIENT.set("sync");
    let blocking = blocking_program(address)?;
    CLIENT.set("async");
    let asynchronous = heirloom::block_on(async_program(address))?;

    println!("{:<50} synchronous, asynchronous", "what the programs have seen");
    for (one, other) in blocking.iter().zip(&asynchronous) {
        println!("{one:<50} {}", if one == other { "the same" } else { other });
    }
    assert_eq!(blocking, asynchronous);
    assert!(blocking.contains(&"transfer 90: refused: ada has 70".to_owned()));
    assert!(blocking.contains(&"too slow: time is up".to_owned()));

    CLIENT.set("sync-slow");
    let took = timed(|| slow_one_by_one(address))?;
    CLIENT.set("async-slow");
    let took_at_once = timed(|| heirloom::block_on(slow_all_at_once(address)))?;
    let ratio = took.as_secs_f64() / took_at_once.as_secs_f64();
    println!(
        "\n{SLOW_STATEMENTS} slow statements: synchronously, one after the other, {ratio:.1} times as long"
    );
    println!("as asynchronously, over {SLOW_STATEMENTS} connections at once");

    let connections = server.shared.connections.load(SeqCst);
    let statements = server.stop()?;
    println!("\nthe server has had {connections} connections; statements by client: {statements:?}");
    assert_eq!(connections, 3 + SLOW_STATEMENTS);
    assert_eq!(statements["sync"], statements["async"], "the same functions say the same");
    assert_eq!((statements["sync-slow"], statements["async-slow"]), (SLOW_STATEMENTS, SLOW_STATEMENTS));
    assert!(!statements.contains_key("unknown"), "every statement says which client it is for");
    CLIENT.unset();
    Ok(())
}
