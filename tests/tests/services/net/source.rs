//! Descriptors of one's own: `Async`.

use std::fs::File;
use std::io::{self, ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt, future};
use heirloom::net::{Async, Direction, UnixStream};
use heirloom::{Runtime, block_on, run_eagerly, sleep, spawn, try_run_eagerly, wait_for};
use heirloom_tests::{
    CountingWaker, Fault, MARK, PATIENCE, in_a_worker, in_child_with_limit, poll_once, poll_with, run,
    runtime, say_as_child, scaled, wait_until, watchdog,
};
use rustix::fs::OFlags;

use super::descriptors::{EMFILE, use_up};
use super::{pattern, ready};

const SOON: Duration = Duration::from_millis(5);

fn pipe() -> (Async<PipeReader>, Async<PipeWriter>) {
    let (reader, writer) = half_pipe();
    (reader, Async::new(writer).unwrap())
}

/// A pipe whose writer blocks.
fn half_pipe() -> (Async<PipeReader>, PipeWriter) {
    let (reader, writer) = io::pipe().unwrap();
    (Async::new(reader).unwrap(), writer)
}

/// Takes one byte.
fn take(mut pipe: &PipeReader) -> io::Result<u8> {
    let mut byte = [0];
    pipe.read_exact(&mut byte).map(|()| byte[0])
}

async fn read(pipe: &Async<PipeReader>) -> io::Result<u8> {
    pipe.io(Direction::Read, take).await
}

fn would_block<T: std::fmt::Debug>(result: io::Result<T>) -> bool {
    result.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

fn is_nonblocking(source: impl AsFd) -> bool {
    rustix::fs::fcntl_getfl(source).unwrap().contains(OFlags::NONBLOCK)
}

#[track_caller]
fn refused<T>(result: io::Result<T>, kind: ErrorKind, part: &str) {
    let Err(error) = result else { panic!("it was not refused") };
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(part), "{error}");
}

#[test]
fn an_async_may_go_to_other_threads_as_its_descriptor_may() {
    fn everywhere<T: Send + Sync + Unpin + 'static>() {}
    fn sent<T: Send>(_: T) {}
    everywhere::<Async<OwnedFd>>();
    run(1, || async {
        let (reader, writer) = pipe();
        sent((reader.readable(), writer.writable(), reader.io(Direction::Read, take)));
    });
}

#[test]
fn bytes_go_through_a_pipe_that_is_smaller_than_they_are() {
    in_a_worker(2, async {
        let sent = pattern(scaled(1 << 20), 1);
        let (reader, mut writer) = pipe();
        let writing = spawn({
            let sent = sent.clone();
            async move {
                writer.write_all(&sent[..10]).await?;
                let mut rest = &writer;
                let slices = [io::IoSlice::new(&sent[10..20]), io::IoSlice::new(&sent[20..40])];
                assert_eq!(rest.write_vectored(&slices).await?, 30);
                rest.write_all(&sent[40..]).await?;
                rest.flush().await?;
                rest.close().await
            }
        });
        let mut received = Vec::new();
        // Into no room nothing is read, at once.
        assert_eq!((&reader).read(&mut []).await.unwrap(), 0);
        (&reader).read_to_end(&mut received).await.unwrap();
        assert_eq!(received, sent);
        writing.await.unwrap().unwrap();
    });
}

#[test]
fn a_writer_learns_that_there_is_no_reader() {
    run(1, || async {
        let (reader, mut writer) = pipe();
        let block = [0; 4096];
        writer.writable().await.unwrap();
        while !would_block(writer.try_io(Direction::Write, |mut pipe| pipe.write(&block))) {}
        let mut waits = Box::pin(writer.writable());
        assert!(poll_once(&mut waits).is_pending());
        drop(reader);
        waits.await.unwrap();
        assert_eq!(writer.write(&block).await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

/// What counts, in the kernel, what has not been read: a part of the buffer is no end.
#[test]
#[cfg(target_os = "linux")]
fn a_read_that_leaves_room_is_no_sign_of_an_end() {
    use rustix::event::{EventfdFlags, eventfd};
    use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};

    run(1, || async {
        let three = eventfd(0, EventfdFlags::SEMAPHORE | EventfdFlags::CLOEXEC).unwrap();
        let mut semaphore = Async::new(File::from(three)).unwrap();
        semaphore.get_ref().write_all(&3_u64.to_ne_bytes()).unwrap();
        let mut buffer = [0; 64];
        for _ in 0..3 {
            assert_eq!(semaphore.read(&mut buffer).await.unwrap(), 8);
        }
        assert!(wait_for(semaphore.read(&mut buffer), SOON).await.is_err());

        let folder = std::env::temp_dir().join(format!("heirloom-inotify-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let changes = File::from(init(CreateFlags::CLOEXEC).unwrap());
        add_watch(&changes, &folder, WatchFlags::CREATE).unwrap();
        let two = [folder.join("a"), folder.join("b")];
        two.iter().for_each(|path| drop(File::create(path).unwrap()));
        // Registered after both, so that one event of the driver's tells of both.
        let mut changes = Async::new(changes).unwrap();
        // Room for one event and a half: 16 bytes, and the name in 16 more.
        for name in ["a", "b"] {
            assert_eq!(changes.read(&mut buffer[..48]).await.unwrap(), 32);
            assert_eq!(buffer[16..].split(|byte| *byte == 0).next().unwrap(), name.as_bytes());
        }
        assert!(wait_for(changes.read(&mut buffer), SOON).await.is_err());
        std::fs::remove_dir_all(&folder).unwrap();

        let (here, there) = UnixDatagram::pair().unwrap();
        let there = Async::new(there).unwrap();
        for datagram in ["one", "three", ""] {
            here.send(datagram.as_bytes()).unwrap();
        }
        for length in [3, 5, 0] {
            let received = there.io(Direction::Read, |socket| socket.recv(&mut buffer)).await;
            assert_eq!(received.unwrap(), length);
        }
    });
}

#[test]
#[cfg(target_os = "linux")]
fn timers_and_processes_are_waited_for() {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    use rustix::time::*;

    in_a_worker(2, async {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC).unwrap();
        let timer = Async::new(timer).unwrap();
        let millisecond = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        let every = Itimerspec { it_interval: millisecond, it_value: millisecond };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &every).unwrap();
        let mut ticks = 0;
        while ticks < 5 {
            let mut count = [0; 8];
            timer.io(Direction::Read, |timer| Ok(rustix::io::read(timer, &mut count)?)).await.unwrap();
            ticks += u64::from_ne_bytes(count);
        }

        let mut command = std::process::Command::new("sh");
        let mut child = command.args(["-c", "read line"]).stdin(Stdio::piped()).spawn().unwrap();
        // Readable when it has ended; there is nothing to read.
        let process =
            Async::new_nonblocking(pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap());
        let process = process.unwrap();
        assert!(wait_for(process.readable(), SOON).await.is_err());
        drop(child.stdin.take());
        process.readable().await.unwrap();
        assert!(child.try_wait().unwrap().is_some());
    });
}

/// A named pipe ends as often as its last writer goes, and goes on with the next.
#[test]
#[cfg(target_os = "linux")]
fn a_named_pipe_goes_on_after_its_end() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    run(1, || async {
        let path = std::env::temp_dir().join(format!("heirloom-fifo-{}", std::process::id()));
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let reader =
            rustix::fs::open(&path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
        let mut reader = Async::new(File::from(reader.unwrap())).unwrap();
        let mut buffer = [0; 8];
        for _ in 0..3 {
            let mut writer = File::options().write(true).open(&path).unwrap();
            assert!(wait_for(reader.read(&mut buffer), SOON).await.is_err());
            writer.write_all(b"ping").unwrap();
            assert_eq!(reader.read(&mut buffer).await.unwrap(), 4);
            drop(writer);
            assert_eq!(reader.read(&mut buffer).await.unwrap(), 0);
        }
        std::fs::remove_file(&path).unwrap();
    });
}

/// The change comes while the attempt is under way, after the system has said that there is
/// nothing.
#[test]
fn a_change_during_an_attempt_that_would_block_is_kept() {
    run(1, || async {
        let (reader, mut writer) = half_pipe();
        let (next, mut next_writer) = half_pipe();
        let (waker, counts) = CountingWaker::create(Fault::None);
        let mut waits = Box::pin(next.readable());
        assert!(poll_with(&mut waits, &waker).is_pending());
        writer.write_all(b"1").unwrap();
        reader.readable().await.unwrap();
        let attempt = reader.try_io(Direction::Read, |pipe| {
            take(pipe)?;
            let empty = take(pipe);
            assert!(would_block(take(pipe)));
            writer.write_all(b"2").unwrap();
            // The driver has the event of the first pipe when it has that of the second.
            next_writer.write_all(b"x").unwrap();
            assert!(wait_until(|| counts.wakes() > 0));
            empty
        });
        assert!(would_block(attempt));
        ready(poll_once(&mut Box::pin(reader.readable()))).unwrap();
        assert_eq!(reader.try_io(Direction::Read, take).unwrap(), b'2');
        // Without a change it is known from now on.
        assert!(would_block(reader.try_io(Direction::Read, take)));
        let mut calls = 0;
        let known = reader.try_io(Direction::Read, |_| {
            calls += 1;
            io::Result::Ok(())
        });
        assert!(would_block(known) && calls == 0);
        // Another error takes nothing back.
        writer.write_all(b"3").unwrap();
        reader.readable().await.unwrap();
        let other = reader.try_io::<()>(Direction::Read, |_| Err(ErrorKind::NotFound.into()));
        assert_eq!(other.unwrap_err().kind(), ErrorKind::NotFound);
        ready(poll_once(&mut Box::pin(reader.readable()))).unwrap();
    });
}

/// Threads that write, tasks of two runtimes and a thread that read by whatever there is: each byte
/// is read, and no reader sleeps while there is one.
#[test]
fn no_byte_is_left_in_a_storm_of_writers_and_readers() {
    watchdog(PATIENCE, || {
        let (writers, bytes) = (2, scaled(20_000));
        let (home, other) = (runtime(2), runtime(1));
        let (reader, writer) = home.block_on(async { half_pipe() });
        let (reader, read) = (Arc::new(reader), Arc::new(AtomicUsize::new(0)));
        let more = |read: &AtomicUsize| read.fetch_add(1, Ordering::Relaxed) + 1;
        // The writers' end is the readers' end.
        let by_attempt = |reader: Arc<Async<PipeReader>>, read: Arc<AtomicUsize>| async move {
            loop {
                reader.readable().await.unwrap();
                match reader.try_io(Direction::Read, take) {
                    Ok(_) => drop(more(&read)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return error.kind(),
                }
            }
        };
        let by_call = |reader: Arc<Async<PipeReader>>, read: Arc<AtomicUsize>| async move {
            loop {
                match reader.io(Direction::Read, take).await {
                    Ok(_) => drop(more(&read)),
                    Err(error) => return error.kind(),
                }
            }
        };
        let by_poll = |reader: Arc<Async<PipeReader>>, read: Arc<AtomicUsize>| async move {
            let mut byte = [0];
            loop {
                match (&*reader).read(&mut byte).await.unwrap() {
                    0 => return ErrorKind::UnexpectedEof,
                    _ => drop(more(&read)),
                }
            }
        };
        let tasks = [
            home.spawn(by_attempt(reader.clone(), read.clone())),
            home.spawn(by_call(reader.clone(), read.clone())),
            home.spawn(by_poll(reader.clone(), read.clone())),
            other.spawn(by_attempt(reader.clone(), read.clone())),
        ];
        let thread = std::thread::spawn({
            let foreign = by_call(reader, read.clone());
            move || futures::executor::block_on(foreign)
        });
        let writing: Vec<_> = (0..writers)
            .map(|_| {
                let mut writer = writer.try_clone().unwrap();
                std::thread::spawn(move || {
                    for number in 0..bytes {
                        writer.write_all(b"x").unwrap();
                        if number % 64 == 0 {
                            std::thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        writing.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(wait_until(|| read.load(Ordering::Relaxed) == writers * bytes));
        drop(writer);
        for task in tasks {
            assert_eq!(block_on(task).unwrap(), ErrorKind::UnexpectedEof);
        }
        assert_eq!(thread.join().unwrap(), ErrorKind::UnexpectedEof);
    });
}

#[test]
fn what_was_given_up_has_taken_nothing_and_wakes_no_task() {
    run(1, || async {
        let (reader, mut writer) = half_pipe();
        assert!(wait_for(reader.readable(), SOON).await.is_err());
        assert!(wait_for(read(&reader), SOON).await.is_err());
        let (waker, counts) = CountingWaker::create(Fault::None);
        let mut given_up = Box::pin(read(&reader));
        assert!(poll_with(&mut given_up, &waker).is_pending());
        drop(given_up);
        writer.write_all(b"x").unwrap();
        assert_eq!(read(&reader).await.unwrap(), b'x');
        assert_eq!(counts.wakes(), 0);
        drop(waker);
        assert!(counts.is_gone());
    });
}

#[test]
fn tasks_that_wait_in_each_way_are_woken_by_one_change() {
    run(1, || async {
        let (reader, mut writer) = half_pipe();
        let (waker, counts) = CountingWaker::create(Fault::None);
        let (mut first, mut second) = (Box::pin(reader.readable()), Box::pin(reader.readable()));
        let mut call = Box::pin(read(&reader));
        assert!(poll_with(&mut first, &waker).is_pending());
        assert!(poll_with(&mut second, &waker).is_pending());
        assert!(poll_with(&mut call, &waker).is_pending());
        // Of those that poll, the latest is woken.
        let (early, early_counts) = CountingWaker::create(Fault::None);
        assert!(reader.poll_readable(&mut Context::from_waker(&early)).is_pending());
        let mut cx = Context::from_waker(&waker);
        assert!(reader.poll_io(&mut cx, Direction::Read, take).is_pending());
        writer.write_all(b"xy").unwrap();
        assert!(wait_until(|| counts.wakes() >= 4), "{} of 4 were woken", counts.wakes());
        assert_eq!(early_counts.wakes(), 0);
        ready(poll_with(&mut first, &waker)).unwrap();
        assert_eq!(ready(poll_with(&mut call, &waker)).unwrap(), b'x');
        ready(poll_with(&mut second, &waker)).unwrap();
        assert_eq!(ready(reader.poll_io(&mut cx, Direction::Read, take)).unwrap(), b'y');
        // The other direction of a pipe never comes.
        assert!(reader.poll_writable(&mut cx).is_pending());
    });
}

#[test]
fn a_descriptor_whose_runtime_ends_says_so_and_goes_to_another() {
    watchdog(PATIENCE, || {
        let home = runtime(2);
        let (reader, mut writer) = home.block_on(async { half_pipe() });
        let (waker, counts) = CountingWaker::create(Fault::None);
        let mut waits = Box::pin(reader.readable());
        let mut call = Box::pin(read(&reader));
        assert!(poll_with(&mut waits, &waker).is_pending());
        assert!(poll_with(&mut call, &waker).is_pending());
        assert!(reader.poll_readable(&mut Context::from_waker(&waker)).is_pending());
        drop(home);
        assert!(wait_until(|| counts.wakes() >= 3), "{} of 3 were woken", counts.wakes());
        let part = "runtime that this socket or descriptor was registered with has ended";
        refused(block_on(waits), ErrorKind::Other, part);
        refused(block_on(call), ErrorKind::Other, part);
        refused(ready(reader.poll_readable(&mut Context::from_waker(&waker))), ErrorKind::Other, part);
        refused(reader.try_io(Direction::Read, take), ErrorKind::Other, part);
        refused(block_on((&reader).read(&mut [0])), ErrorKind::Other, part);
        // An eager call needs no driver.
        writer.write_all(b"x").unwrap();
        assert_eq!(run_eagerly(read(&reader)).unwrap(), b'x');

        let second = runtime(1);
        let (_guard, reader) = (second.enter(), reader.into_inner().unwrap());
        let reader = Async::new(reader).unwrap();
        writer.write_all(b"y").unwrap();
        assert_eq!(block_on(read(&reader)).unwrap(), b'y');
    });
}

#[test]
fn one_descriptor_is_registered_once_per_runtime() {
    run(1, || async {
        let (reader, mut writer) = half_pipe();
        let again = || Async::new(reader.as_fd());
        refused(again(), ErrorKind::AlreadyExists, "registered with the runtime already");
        // The first one has lost nothing by that.
        let (waker, counts) = CountingWaker::create(Fault::None);
        let mut waits = Box::pin(reader.readable());
        assert!(poll_with(&mut waits, &waker).is_pending());
        writer.write_all(b"x").unwrap();
        assert!(wait_until(|| counts.wakes() > 0));
        // In another runtime, and as a duplicate, it is another source.
        let other = Runtime::builder().workers(1).build().unwrap();
        let entered = other.enter();
        let there = again().unwrap();
        drop(entered);
        there.readable().await.unwrap();
        let duplicate = Async::new(reader.get_ref().try_clone().unwrap()).unwrap();
        assert_eq!(read(&duplicate).await.unwrap(), b'x');
        drop((waits, there));
        let reader = reader.into_inner().unwrap();
        Async::new(reader).unwrap();

        // So with a socket, which goes on.
        let (mut here, mut there) = UnixStream::pair().unwrap();
        refused(Async::new(here.as_fd()), ErrorKind::AlreadyExists, "registered with the runtime already");
        let mut byte = [0];
        let mut reading = here.read(&mut byte);
        assert!(poll_once(&mut reading).is_pending());
        there.write_all(b"x").await.unwrap();
        assert_eq!(wait_for(reading, Duration::from_secs(30)).await.unwrap().unwrap(), 1);
    });
}

#[test]
#[cfg(target_os = "linux")]
fn what_has_no_events_is_refused_and_left_as_it_was() {
    run(1, || async {
        for path in ["/proc/self/exe", "/", "/dev/null"] {
            let file = File::open(path).unwrap();
            refused(Async::new(&file), ErrorKind::Unsupported, "spawn_blocking");
            assert!(!is_nonblocking(&file));
        }
    });
    // An eager call outside of a runtime registers when a task waits, and is told then.
    let file = run_eagerly(async { Async::new(File::open("/proc/self/exe").unwrap()) }).unwrap();
    run_eagerly(file.readable()).unwrap();
    refused(block_on(file.readable()), ErrorKind::Unsupported, "spawn_blocking");

    let runtime = Runtime::builder().virtual_time().build().unwrap();
    runtime.block_on(async {
        refused(
            Async::new(io::pipe().unwrap().0),
            ErrorKind::Unsupported,
            "in virtual time there are no sockets",
        );
    });
}

#[test]
fn a_descriptor_becomes_nonblocking_unless_that_is_refused() {
    run(1, || async {
        let (reader, writer) = io::pipe().unwrap();
        let writer = Async::new_nonblocking(writer).unwrap();
        assert!(!is_nonblocking(&writer));
        // Its caller knows that there is room.
        assert_eq!(writer.io(Direction::Write, |mut pipe| pipe.write(b"x")).await.unwrap(), 1);
        let reader = Async::new(reader).unwrap();
        assert!(is_nonblocking(&reader));
        assert!(is_nonblocking(reader.into_inner().unwrap()));
    });
}

/// The system would report a closed descriptor's events for as long as a duplicate is open, and
/// would refuse its number.
#[test]
fn a_descriptor_leaves_the_driver_before_it_is_closed() {
    struct Leaves(OwnedFd, Arc<AtomicUsize>);
    impl AsFd for Leaves {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }
    impl Drop for Leaves {
        fn drop(&mut self) {
            // Still open, and no longer registered.
            Async::new(self.0.as_fd()).unwrap();
            self.1.fetch_add(1, Ordering::Relaxed);
        }
    }
    run(1, || async {
        let left = Arc::new(AtomicUsize::new(0));
        let (reader, mut writer) = io::pipe().unwrap();
        let open = reader.try_clone().unwrap();
        let reader = Async::new(Leaves(reader.into(), left.clone())).unwrap();
        assert!(wait_for(reader.readable(), SOON).await.is_err());
        drop(reader);
        assert_eq!(left.load(Ordering::Relaxed), 1);
        // The duplicate is its own.
        writer.write_all(b"x").unwrap();
        assert_eq!(read(&Async::new(open).unwrap()).await.unwrap(), b'x');
    });
}

#[test]
fn a_process_short_of_descriptors_is_told() {
    let test = "net::source::a_process_short_of_descriptors_is_told";
    if !in_child_with_limit(test, "-n 64", 2).is_here() {
        return;
    }
    watchdog(PATIENCE, || {
        let runtime = runtime(1);
        let (reader, mut writer) = io::pipe().unwrap();
        runtime.block_on(async {
            // The driver is what the first source starts.
            let files = use_up();
            let error = Async::new(&reader).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(EMFILE), "{error}");
            assert!(!is_nonblocking(&reader));
            drop(files);
            let reader = Async::new(reader).unwrap();
            // And another source needs none of its own.
            let files = use_up();
            Async::new(&writer).unwrap().writable().await.unwrap();
            writer.write_all(b"x").unwrap();
            assert_eq!(read(&reader).await.unwrap(), b'x');
            drop(files);
        });
    });
    say_as_child();
}

#[test]
fn an_eager_call_blocks_on_any_descriptor() {
    watchdog(PATIENCE, || {
        // Made outside of a runtime, which no call starts.
        let (reader, mut writer) = run_eagerly(async { half_pipe() });
        assert_eq!(try_run_eagerly(reader.readable()).unwrap_err().leaf(), "Async::readable");
        assert_eq!(try_run_eagerly(read(&reader)).unwrap_err().leaf(), "Async::io");
        assert_eq!(try_run_eagerly((&reader).read(&mut [0])).unwrap_err().leaf(), "Async::read");
        let polls = future::poll_fn(|cx| reader.poll_io(cx, Direction::Read, take));
        assert_eq!(try_run_eagerly(polls).unwrap_err().leaf(), "Async::poll_io");
        assert!(run_eagerly(wait_for(read(&reader), SOON)).is_err());
        let writing = std::thread::spawn(move || {
            writer.write_all(b"xyz").unwrap();
            writer
        });
        run_eagerly(reader.readable()).unwrap();
        run_eagerly(future::poll_fn(|cx| reader.poll_readable(cx))).unwrap();
        assert_eq!(run_eagerly(read(&reader)).unwrap(), b'x');
        assert_eq!(run_eagerly(async { reader.try_io(Direction::Read, take) }).unwrap(), b'y');
        let _writer = writing.join().unwrap();
        // Then awaited, by the default runtime.
        assert_eq!(block_on(read(&reader)).unwrap(), b'z');
        assert!(block_on(wait_for(read(&reader), SOON)).is_err());
    });
}

#[test]
fn a_descriptor_that_is_always_ready_lets_other_tasks_and_limits_in() {
    in_a_worker(1, async {
        let (_reader, writer) = pipe();
        writer.writable().await.unwrap();
        macro_rules! for_ever {
            ($leaf:expr) => {
                let busy = async {
                    loop {
                        $leaf.await.unwrap()
                    }
                };
                assert!(wait_for(busy, SOON).await.is_err());
            };
        }
        for_ever!(writer.writable());
        for_ever!(future::poll_fn(|cx| writer.poll_writable(cx)));
        for_ever!(writer.io(Direction::Write, |_| Ok(())));
        for_ever!(future::poll_fn(|cx| writer.poll_io(cx, Direction::Write, |_| Ok(()))));
    });
}

#[test]
fn a_task_that_waited_for_a_descriptor_is_in_its_own_context() {
    in_a_worker(2, async {
        let (reader, mut writer) = half_pipe();
        MARK.set(1);
        let reading = spawn(async move {
            MARK.set(2);
            let seen = reader.io(Direction::Read, |pipe| take(pipe).map(|_| MARK.get())).await;
            (seen.unwrap(), MARK.get())
        });
        sleep(SOON).await;
        writer.write_all(b"x").unwrap();
        assert_eq!(reading.await.unwrap(), (Some(2), Some(2)));
    });
}

#[test]
fn an_operation_that_panics_leaves_the_descriptor_usable() {
    run(1, || async {
        let (reader, mut writer) = half_pipe();
        writer.write_all(b"x").unwrap();
        reader.readable().await.unwrap();
        let attempt = || reader.try_io::<()>(Direction::Read, |_| heirloom_tests::quiet_panic("in a call"));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(attempt)).is_err());
        assert_eq!(read(&reader).await.unwrap(), b'x');
        let mut calls = 0;
        let interrupted = reader.try_io(Direction::Read, |_| {
            calls += 1;
            if calls == 1 { Err(ErrorKind::Interrupted.into()) } else { Ok(7) }
        });
        // It was ready, since no call has found otherwise.
        assert_eq!((interrupted.unwrap(), calls), (7, 2));
        let polled = reader.poll_readable(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Ready(Ok(()))));
    });
}
