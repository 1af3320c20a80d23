//! The client of the scenario `http`: one thread, the same for all executors, with connections that
//! are kept alive and carry one request at a time each.
//!
//! It has no runtime, since the timers of most wake a millisecond late: it sleeps in the system's
//! `poll` until an answer comes or the next request is due. A request that is due while every
//! connection is taken waits for one, and its time runs.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::drive::Load;
use super::machine;
use super::record::{Metric, Tally, count, record};
use super::schedule::Schedule;
use crate::net::client::is_whole;

/// How long the first answer on a connection may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often the client looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(10);

/// Connections, each of which has had its first answer.
#[derive(Debug)]
pub struct Client {
    streams: Vec<TcpStream>,
    /// How long each answer is.
    length: usize,
}

/// A request that is under way.
#[derive(Clone, Copy, Debug)]
struct UnderWay {
    /// When its time began.
    since: Instant,
    /// How many bytes of the answer have come.
    come: usize,
}

/// A request, of the same length for each number.
fn get(number: u64) -> String {
    format!("GET /{number:020} HTTP/1.1\r\nhost: localhost\r\n\r\n")
}

impl Client {
    /// Connects, and waits for an answer on each connection.
    ///
    /// # Errors
    /// If the server cannot be reached or answers wrong.
    pub fn connect(server: SocketAddr, connections: usize) -> io::Result<Client> {
        let mut client = Client { streams: Vec::with_capacity(connections), length: 0 };
        for number in 0..connections as u64 {
            let mut stream = TcpStream::connect(server)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(get(number).as_bytes())?;
            let mut answer = Vec::new();
            while !is_whole(&answer) {
                let mut byte = [0];
                stream.read_exact(&mut byte)?;
                answer.push(byte[0]);
            }
            let known = [0, answer.len()].contains(&client.length);
            if !known || !answer.starts_with(b"HTTP/1.1 200 ") {
                return Err(io::Error::other("the server answers other than expected"));
            }
            client.length = answer.len();
            stream.set_nonblocking(true)?;
            client.streams.push(stream);
        }
        Ok(client)
    }

    /// Makes requests until it is to stop, and then waits for the answers, at most so long. Returns
    /// how many requests were due and not started.
    ///
    /// It gives up when a connection breaks: requests that are under way then never end.
    pub fn run(&self, load: Load, stop: &AtomicBool, drain: Duration) -> u64 {
        machine::wake_this_thread_in_time();
        let schedule = match load {
            Load::Closed { .. } => None,
            Load::Open { per_second, .. } => Some(Schedule::new(Instant::now(), per_second)),
        };
        let streams = &self.streams;
        let mut polled: Vec<PollFd<'_>> =
            streams.iter().map(|stream| PollFd::new(stream, PollFlags::IN)).collect();
        let mut under_way: Vec<Option<UnderWay>> = vec![None; streams.len()];
        // The one that has been free longest comes first.
        let mut free: VecDeque<usize> = (0..streams.len()).collect();
        let mut number = 0;
        let mut stopped: Option<Instant> = None;
        let behind = |stopped: Option<Instant>, number: u64| {
            let due = schedule.map_or(0, |schedule| schedule.due_by(stopped.unwrap_or_else(Instant::now)));
            due.saturating_sub(number)
        };
        loop {
            if stop.load(Relaxed) {
                let since = *stopped.get_or_insert_with(Instant::now);
                if free.len() == streams.len() || since.elapsed() > drain {
                    return behind(stopped, number);
                }
            }
            let mut left = LOOK;
            while let (Some(&at), None) = (free.front(), stopped) {
                let now = Instant::now();
                let due = schedule.map_or(now, |schedule| schedule.intended(number));
                if due > now {
                    left = left.min(due - now);
                    break;
                }
                if schedule.is_some() {
                    record(Metric::Generator, now - due);
                }
                count(Tally::Started, 1);
                // So short a request fits into the buffer of a socket on which none is under way.
                if (&streams[at]).write_all(get(number).as_bytes()).is_err() {
                    return behind(stopped, number);
                }
                under_way[at] = Some(UnderWay { since: due, come: 0 });
                free.pop_front();
                number += 1;
            }
            let limit = Timespec { tv_sec: 0, tv_nsec: left.subsec_nanos().into() };
            match poll(&mut polled, Some(&limit)) {
                Ok(_) => {}
                // A signal for the whole process.
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => return behind(stopped, number),
            }
            let come = polled.iter().enumerate().filter(|(_, polled)| !polled.revents().is_empty());
            for (at, _) in come {
                let Some(request) = &mut under_way[at] else { return behind(stopped, number) };
                match (&streams[at]).read(&mut [0; 4096]) {
                    Ok(more) if more > 0 && request.come + more <= self.length => request.come += more,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    // It was closed, it broke, or it sends more than was asked for.
                    _ => return behind(stopped, number),
                }
                if request.come == self.length {
                    record(Metric::EndToEnd, request.since.elapsed());
                    count(Tally::Units, 1);
                    count(Tally::Finished, 1);
                    under_way[at] = None;
                    free.push_back(at);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::record::{take_histograms, totals};
    use crate::load::tests::alone;
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::thread;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

    /// A server of one connection, which answers each request after `pause`, and closes instead of
    /// giving the answer after `answers`.
    fn server(pause: Duration, answers: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = vec![0; get(0).len()];
            for _ in 0..answers {
                if stream.read_exact(&mut request).is_err() {
                    return;
                }
                thread::sleep(pause);
                // In two parts, as a network may bring it.
                stream.write_all(&ANSWER[..20]).unwrap();
                thread::sleep(Duration::from_millis(1));
                stream.write_all(&ANSWER[20..]).unwrap();
            }
            let _ = stream.read_exact(&mut request);
        });
        address
    }

    /// Requests started, requests ended, the longest time in milliseconds, and those not started,
    /// of a client that runs for 200 ms on one connection.
    fn made(load: Load, pause: Duration, answers: usize) -> (u64, u64, u64, u64) {
        let _alone = alone();
        drop(take_histograms());
        let before = totals();
        let client = Client::connect(server(pause, answers), 1).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let running = {
            let stop = stop.clone();
            thread::spawn(move || client.run(load, &stop, Duration::from_secs(10)))
        };
        thread::sleep(Duration::from_millis(200));
        stop.store(true, Relaxed);
        let behind = running.join().unwrap();
        let more = totals().since(&before);
        let longest = take_histograms().get(Metric::EndToEnd).map_or(0, |times| times.max() / 1_000_000);
        (more.get(Tally::Started), more.get(Tally::Finished), longest, behind)
    }

    const OPEN: Load = Load::Open { per_second: 1000.0, most_in_flight: 1 };

    #[test]
    fn the_time_of_a_request_that_waits_for_a_connection_counts_from_when_it_was_due() {
        let (started, finished, longest, behind) = made(OPEN, Duration::from_millis(20), usize::MAX);
        // Of 200 that are due, one in 20 can be sent; request 9 was due at 9 ms, and ends at 210.
        assert!(started == finished && (1..=11).contains(&started), "{started}, {finished}");
        assert!(behind > 150 && longest > 15 * started, "{behind}, {longest}");
    }

    #[test]
    fn a_closed_loop_waits_for_each_answer() {
        let pause = Duration::from_millis(20);
        let (started, finished, longest, behind) = made(Load::Closed { clients: 1 }, pause, usize::MAX);
        assert!(started == finished && (1..=11).contains(&started), "{started}, {finished}");
        assert!(longest >= 20 && behind == 0, "{longest}, {behind}");
    }

    #[test]
    fn a_request_whose_connection_breaks_never_ends() {
        let (started, finished, ..) = made(OPEN, Duration::ZERO, 3);
        // The first answer is that to the request that connects.
        assert_eq!((started, finished), (3, 2));
    }
}
