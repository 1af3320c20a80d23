//! The crawler on Heirloom.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use heirloom::net::{TcpListener, TcpStream};
use heirloom::{Runtime, TaskGroup, interval, sleep, spawn, spawn_blocking, wait_for};
use tokio::sync::{Mutex, Notify, Semaphore, broadcast, mpsc, oneshot, watch};

use crate::site::{self, Report};

heirloom::context_var! {
    /// The request that the code works for.
    static REQUEST: u32;
}

const LIMIT: Duration = Duration::from_millis(400);
const ATTEMPTS: u32 = 3;
const AT_ONCE: usize = 4;

/// What happens during a crawl, for the log and the meter.
#[derive(Clone)]
enum Event {
    Read,
    Failed(String),
}

/// What the tasks of a crawl share.
struct Crawl {
    address: SocketAddr,
    permits: Semaphore,
    links: mpsc::UnboundedSender<u32>,
    events: broadcast::Sender<Event>,
    begun: Arc<Notify>,
    report: Mutex<Report>,
}

/// Makes one request.
async fn fetch(address: SocketAddr, number: u32) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let head = format!("GET /{number} HTTP/1.0\r\nx-request-id: {}\r\n\r\n", REQUEST.require());
    stream.write_all(head.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    site::body(&answer)
}

/// Reads a page, in so many attempts.
async fn visit(crawl: Arc<Crawl>, number: u32) {
    REQUEST.set(number);
    let _permit = crawl.permits.acquire().await.expect("the semaphore is never closed");
    crawl.begun.notify_one();
    for attempt in 1..=ATTEMPTS {
        let failure = match wait_for(fetch(crawl.address, number), LIMIT).await {
            Ok(Ok(text)) => return keep(&crawl, number, text).await,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        let line = format!("request {}, attempt {attempt}: {failure}", REQUEST.require());
        crawl.events.send(Event::Failed(line)).ok();
        sleep(Duration::from_millis(5) * attempt).await;
    }
    crawl.report.lock().await.failed.insert(number);
}

/// Takes a page apart, and passes its links on.
async fn keep(crawl: &Crawl, number: u32, text: String) {
    let parse = move || site::parse(&text, REQUEST.require());
    let page = spawn_blocking(parse).await.expect("the parser does not panic");
    for link in &page.links {
        crawl.links.send(*link).expect("the crawl waits for its visits");
    }
    crawl.report.lock().await.pages.insert(number, page);
    crawl.events.send(Event::Read).ok();
}

/// Visits each page once, until there are no more or the crawl is stopped.
async fn visit_all(
    crawl: &Arc<Crawl>,
    mut links: mpsc::UnboundedReceiver<u32>,
    mut stop: watch::Receiver<bool>,
) {
    let mut known = BTreeSet::from([0]);
    let visits = TaskGroup::<Infallible, _>::new();
    visits.spawn_caught(visit(Arc::clone(crawl), 0));
    loop {
        tokio::select! {
            biased; // a visit ends after its links are sent: take the links first
            _ = stop.changed() => break,
            Some(link) = links.recv() => {
                if known.insert(link) {
                    visits.spawn_caught(visit(Arc::clone(crawl), link));
                }
            }
            ended = visits.next() => match ended {
                Some(ended) => ended.expect("no visit fails the others").expect("no visit panics"),
                None => break,
            },
        }
    }
    visits.abort_all();
    while visits.next().await.is_some() {}
}

/// Says how far the crawl is, stops it when it has read enough, and counts.
async fn meter(
    mut events: broadcast::Receiver<Event>,
    begun: Arc<Notify>,
    enough: usize,
    stop: watch::Sender<bool>,
) -> usize {
    begun.notified().await;
    let mut ticks = interval(Duration::from_millis(200));
    let mut read = 0;
    loop {
        tokio::select! {
            _ = ticks.tick() => println!("heirloom: {read} pages"),
            event = events.recv() => match event {
                Ok(Event::Read) => read += 1,
                Ok(Event::Failed(_)) => {}
                Err(_) => return read,
            },
        }
        if read == enough {
            stop.send_replace(true);
        }
    }
}

async fn log(mut events: broadcast::Receiver<Event>) -> Vec<String> {
    let mut lines = Vec::new();
    while let Ok(event) = events.recv().await {
        if let Event::Failed(line) = event {
            lines.push(line);
        }
    }
    lines
}

/// The server's part of one connection.
async fn answer(stream: TcpStream, asked: Arc<Mutex<BTreeMap<u32, u32>>>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let (mut read, mut head) = (BufReader::new(read), String::new());
    while !head.ends_with("\r\n\r\n") {
        if read.read_line(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let answer = site::answer(&head, &mut *asked.lock().await);
    match answer {
        Some(answer) => write.write_all(answer.as_bytes()).await?,
        None => sleep(Duration::from_secs(3600)).await,
    }
    write.close().await
}

/// The server, until it is stopped.
async fn serve(ready: oneshot::Sender<SocketAddr>, mut stop: watch::Receiver<bool>) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    ready.send(listener.local_addr()?).expect("the crawl waits for the address");
    let asked = Arc::new(Mutex::new(BTreeMap::new()));
    loop {
        tokio::select! {
            _ = stop.changed() => return Ok(()),
            accepted = listener.accept() => {
                spawn(answer(accepted?.0, Arc::clone(&asked))).detach();
            }
        }
    }
}

async fn crawl(enough: usize) -> io::Result<Report> {
    let (ready, address) = oneshot::channel();
    let (stop_server, server_stopped) = watch::channel(false);
    let server = spawn(serve(ready, server_stopped));

    let (stop, stopped) = watch::channel(false);
    let (links, new_links) = mpsc::unbounded_channel();
    let (events, seen) = broadcast::channel(1024);
    let begun = Arc::new(Notify::new());
    let metering = spawn(meter(events.subscribe(), Arc::clone(&begun), enough, stop));
    let logging = spawn(log(seen));
    let crawl = Arc::new(Crawl {
        address: address.await.map_err(io::Error::other)?,
        permits: Semaphore::new(AT_ONCE),
        links,
        events,
        begun,
        report: Mutex::default(),
    });
    visit_all(&crawl, new_links, stopped).await;

    let crawl = Arc::into_inner(crawl).expect("all visits have ended");
    let mut report = crawl.report.into_inner();
    drop(crawl.events); // the meter and the log end
    report.counted = metering.await?;
    report.log = logging.await?;
    stop_server.send_replace(true);
    server.await??;
    Ok(report)
}

/// Crawls the site, up to about so many pages.
pub(crate) fn run(enough: usize) -> io::Result<Report> {
    Runtime::new()?.block_on(crawl(enough))
}
