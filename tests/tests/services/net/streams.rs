//! What both kinds of streams do: halves, and several buffers at a time.

use std::io::{IoSlice, IoSliceMut};
use std::pin::Pin;
use std::task::Context as Poller;

use futures::io::{AsyncRead, AsyncWrite};
use futures::{AsyncReadExt, AsyncWriteExt, future};
use heirloom::net::{
    OwnedReadHalf, OwnedWriteHalf, ReuniteError, TcpListener, TcpStream, UdpSocket, UnixListener, UnixStream,
    lookup,
};
use heirloom::signal::Signal;
use heirloom::spawn;
use heirloom_tests::{CountingWaker, Fault, run, scaled};

use super::{pair, pattern, ready};

/// Sends `sent` and receives what the other side sends, at the same time.
async fn exchange(
    mut read: impl AsyncRead + Unpin + Send + 'static,
    mut write: impl AsyncWrite + Unpin + Send + 'static,
    sent: Vec<u8>,
) -> Vec<u8> {
    let writer = spawn(async move {
        write.write_all(&sent).await.unwrap();
        // Dropped, it ends its direction.
    });
    let reader = spawn(async move {
        let mut got = Vec::new();
        read.read_to_end(&mut got).await.unwrap();
        got
    });
    writer.await.unwrap();
    reader.await.unwrap()
}

/// More than any socket buffers.
const MUCH: usize = scaled(8 << 20);

#[test]
fn owned_halves_work_in_tasks_of_their_own() {
    run(2, || async {
        let (here, there) = pair().await;
        let (one, other) = (pattern(MUCH, 1), pattern(MUCH, 2));
        let ((read, write), (far_read, far_write)) = (here.into_split(), there.into_split());
        let (got, far_got) =
            future::join(exchange(read, write, one.clone()), exchange(far_read, far_write, other.clone()))
                .await;
        assert!(got == other && far_got == one);

        let (here, there) = UnixStream::pair().unwrap();
        let ((read, write), (far_read, far_write)) = (here.into_split(), there.into_split());
        let (got, far_got) =
            future::join(exchange(read, write, one.clone()), exchange(far_read, far_write, other.clone()))
                .await;
        assert!(got == other && far_got == one);
    });
}

#[test]
fn borrowed_halves_work_at_the_same_time_and_give_the_stream_back() {
    run(2, || async {
        let (mut here, there) = pair().await;
        let far = spawn(super::echo(there));
        for round in 0..3 {
            let sent = pattern(MUCH / 4, round);
            let mut got = vec![0; sent.len()];
            let (mut read, mut write) = TcpStream::split(&mut here);
            let (written, read) = future::join(write.write_all(&sent), read.read_exact(&mut got)).await;
            written.unwrap();
            read.unwrap();
            assert!(got == sent);
        }
        drop(here);
        assert_eq!(far.await.unwrap().unwrap(), 3 * (MUCH / 4) as u64);
    });
}

#[test]
fn the_half_that_writes_ends_its_direction_unless_it_is_forgotten() {
    run(1, || async {
        let (here, mut there) = pair().await;
        let (mut read, write) = here.into_split();
        drop(write);
        assert_eq!(there.read(&mut [0; 8]).await.unwrap(), 0);
        there.write_all(b"still here").await.unwrap();
        let mut text = [0; 10];
        read.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"still here");

        let (here, mut there) = pair().await;
        let (read, write) = here.into_split();
        write.forget();
        // The other half keeps the connection, in both directions.
        (&mut read.as_ref()).write_all(b"x").await.unwrap();
        assert_eq!(there.read(&mut [0; 8]).await.unwrap(), 1);
        drop(read);
        assert_eq!(there.read(&mut [0; 8]).await.unwrap(), 0);
    });
}

#[test]
fn halves_of_one_stream_can_be_put_together_and_no_others() {
    run(1, || async {
        let (here, there) = pair().await;
        let (local, far_local) = (here.local_addr().unwrap(), there.local_addr().unwrap());
        let ((read, write), (far_read, far_write)) = (here.into_split(), there.into_split());
        let error = read.reunite(far_write).unwrap_err();
        assert_eq!(error.to_string(), "the two halves are not of one stream");
        let ReuniteError(read, far_write) = error;
        let error = write.reunite(far_read).unwrap_err();
        let ReuniteError(far_read, write) = error;

        let mut here: TcpStream = read.reunite(write).unwrap();
        let mut there: TcpStream = far_write.reunite(far_read).unwrap();
        assert_eq!((here.local_addr().unwrap(), there.local_addr().unwrap()), (local, far_local));
        // Nothing was shut down on the way.
        let mut text = [0; 5];
        here.write_all(b"whole").await.unwrap();
        there.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"whole");
        there.write_all(b"again").await.unwrap();
        here.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"again");
    });
}

#[test]
fn sockets_their_halves_and_what_they_do_may_go_to_other_threads() {
    fn everywhere<T: Send + Sync + Unpin + 'static>() {}
    fn sent<T: Send>(_: T) {}
    everywhere::<(TcpListener, TcpStream, UdpSocket, UnixListener, UnixStream, Signal)>();
    everywhere::<(OwnedReadHalf, OwnedWriteHalf, ReuniteError)>();
    everywhere::<(OwnedReadHalf<UnixStream>, OwnedWriteHalf<UnixStream>)>();
    run(1, || async {
        let (mut here, _there) = pair().await;
        sent(TcpStream::connect("localhost:1"));
        sent(TcpListener::bind(("localhost".to_string(), 1)));
        sent(here.peek(&mut [0]));
        sent(here.readable());
        sent(TcpStream::split(&mut here));
        let listener = super::listener().await;
        sent(listener.accept());
        sent(listener.incoming());
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        sent(socket.send_to(b"x", "localhost:1"));
        sent(socket.recv_from(&mut [0]));
        sent(UnixStream::connect("/missing"));
        sent(lookup("localhost:1"));
    });
}

/// Writes several buffers in one call and reads them into others in one call. So few bytes travel
/// together.
async fn several_buffers(mut write: impl AsyncWrite + Unpin, mut read: impl AsyncRead + Unpin) {
    let sent: [&[u8]; 4] = [b"one", b"", b"three", b"twelve"];
    let count = write.write_vectored(&sent.map(IoSlice::new)).await.unwrap();
    assert_eq!(count, 14);
    let (mut first, mut second, mut third) = ([0; 5], [0; 0], [0; 20]);
    let mut buffers = [&mut first[..], &mut second[..], &mut third[..]].map(IoSliceMut::new);
    assert_eq!(read.read_vectored(&mut buffers).await.unwrap(), 14);
    assert_eq!((&first, &third[..9]), (b"oneth", &b"reetwelve"[..]));
}

/// More buffers than the system takes at once: that it has not taken them all does not mean that
/// there is no room, or nothing left. Meanwhile there is no other event.
#[test]
fn more_buffers_than_the_system_takes_need_no_event_in_between() {
    run(1, || async {
        const BYTES: usize = 5_000;
        let (here, there) = pair().await;
        let sent: Vec<u8> = (0..BYTES).map(|index| index as u8).collect();
        let mut written = 0;
        while written < BYTES {
            let buffers: Vec<_> = sent[written..].chunks(1).map(IoSlice::new).collect();
            written += (&here).write_vectored(&buffers).await.unwrap();
        }
        let mut received = vec![0; BYTES];
        let mut read = 0;
        while read < BYTES {
            let mut buffers: Vec<_> = received[read..].chunks_mut(1).map(IoSliceMut::new).collect();
            read += (&there).read_vectored(&mut buffers).await.unwrap();
        }
        assert_eq!(received, sent);
    });
}

#[test]
fn several_buffers_are_read_and_written_in_one_call() {
    run(1, || async {
        let (mut here, mut there) = pair().await;
        several_buffers(&here, &there).await;
        several_buffers(&mut there, &mut here).await;
        several_buffers(TcpStream::split(&mut here).1, TcpStream::split(&mut there).0).await;
        several_buffers(there.into_split().1, here.into_split().0).await;

        let (mut here, mut there) = UnixStream::pair().unwrap();
        several_buffers(&here, &there).await;
        several_buffers(&mut there, &mut here).await;
        several_buffers(UnixStream::split(&mut here).1, UnixStream::split(&mut there).0).await;
        several_buffers(there.into_split().1, here.into_split().0).await;
    });
}

#[test]
fn a_buffer_of_no_bytes_reads_and_writes_nothing_at_once() {
    run(1, || async {
        let (mut here, mut there) = UnixStream::pair().unwrap();
        assert_eq!(here.write(&[]).await.unwrap(), 0);
        there.write_all(b"x").await.unwrap();
        assert_eq!(here.read(&mut []).await.unwrap(), 0);
        assert_eq!(here.read(&mut [0; 4]).await.unwrap(), 1);
    });
}

#[test]
fn a_full_stream_waits_for_its_reader() {
    run(1, || async {
        let (mut here, mut there) = UnixStream::pair().unwrap();
        let (waker, counts) = CountingWaker::create(Fault::None);
        let block = pattern(1 << 16, 5);
        let mut written = 0;
        here.writable().await.unwrap();
        // Fill it by polling, so that the budget has no say.
        while let std::task::Poll::Ready(count) =
            Pin::new(&mut here).poll_write(&mut Poller::from_waker(&waker), &block)
        {
            written += count.unwrap();
            assert!(written < 1 << 30, "it is never full");
        }
        assert!(written > 0);
        assert!(Pin::new(&mut here).poll_flush(&mut Poller::from_waker(&waker)).is_ready());
        let mut drained = vec![0; written];
        there.read_exact(&mut drained).await.unwrap();
        assert!(heirloom_tests::wait_until(|| counts.wakes() > 0));
        let count = ready(Pin::new(&mut here).poll_write(&mut Poller::from_waker(&waker), &block));
        assert!(count.unwrap() > 0);
    });
}

#[test]
fn nothing_is_read_at_once_into_no_room() {
    run(1, || async {
        let (mut here, mut there) = pair().await;
        assert_eq!(here.read(&mut []).await.unwrap(), 0);
        assert_eq!(
            here.read_vectored(&mut [IoSliceMut::new(&mut []), IoSliceMut::new(&mut [])]).await.unwrap(),
            0
        );
        assert_eq!(here.peek(&mut []).await.unwrap(), 0);
        assert_eq!(here.write(&[]).await.unwrap(), 0);
        there.write_all(b"x").await.unwrap();
        assert_eq!(here.read(&mut [0; 4]).await.unwrap(), 1);
    });
}
