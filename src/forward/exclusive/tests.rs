use std::sync::atomic::AtomicUsize;

use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufStream, DuplexStream};

use super::super::limit::Limit;
use super::super::socket::Socket;
use super::*;

const ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
const BODY: &[u8] = &[b'x'; 1000];

async fn connection() -> (Exclusive, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    (over(ours).await, theirs)
}

async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Exclusive {
    let socket = Socket::new(stream, Limit::new(1, 0).slot().unwrap());
    let (socket, held_up) = socket.watched();
    Exclusive::new(socket, held_up).await.unwrap()
}

/// A stream, and how often it was read.
struct Counted {
    stream: DuplexStream,
    reads: Arc<AtomicUsize>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

async fn head(theirs: &mut DuplexStream) -> Vec<u8> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(theirs.read_u8().await.unwrap());
    }
    head
}

#[tokio::test]
async fn its_user_runs_it_and_it_is_lent_until_the_other_side_closes_it() {
    let (mut exclusive, mut theirs) = connection().await;
    for _ in 0..2 {
        let mut answer = pin!(exclusive.send(Request::new(Body::empty())));
        let mut answer =
            pin!(poll_fn(|cx| { exclusive.poll_for(cx, |cx| answer.as_mut().poll(cx)) }));
        assert!(answer.as_mut().now_or_never().is_none());
        assert!(head(&mut theirs).await.starts_with(b"GET / HTTP/1.1\r\n"));
        theirs.write_all(ANSWER).await.unwrap();
        answer.await.unwrap();
        exclusive = exclusive.freed().unwrap();
        assert!(exclusive.takes_request());
    }
    drop(theirs);
    assert!(!exclusive.takes_request());
}

#[tokio::test]
async fn one_that_nothing_happened_to_is_lent_unseen() {
    let (ours, mut theirs) = tokio::io::duplex(1 << 16);
    let reads = Arc::new(AtomicUsize::new(0));
    let mut exclusive = over(Counted { stream: ours, reads: Arc::clone(&reads) }).await;
    let mut answer = pin!(exclusive.send(Request::new(Body::empty())));
    let mut answer = pin!(poll_fn(|cx| { exclusive.poll_for(cx, |cx| answer.as_mut().poll(cx)) }));
    assert!(answer.as_mut().now_or_never().is_none());
    theirs.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx").await.unwrap();
    let mut answer = answer.await.unwrap();
    let body = answer.body_mut();
    let mut body = pin!(body.frame());
    poll_fn(|cx| exclusive.poll_for(cx, |cx| body.as_mut().poll(cx))).await.unwrap().unwrap();
    let mut exclusive = exclusive.freed().unwrap();
    let until_then = reads.load(Ordering::Relaxed);
    assert!(exclusive.takes_request());
    assert_eq!(reads.load(Ordering::Relaxed), until_then);
    drop(theirs);
    assert!(!exclusive.takes_request());
    assert!(reads.load(Ordering::Relaxed) > until_then);
}

#[tokio::test]
async fn one_that_rests_is_lent_unless_it_was_closed_or_said_something() {
    for said in [None, Some(""), Some("HTTP/1.1 408 Request Timeout\r\n\r\n")] {
        let (mut exclusive, mut theirs) = connection().await;
        assert!(exclusive.rest() && exclusive.rest());
        match said {
            Some("") => drop(theirs),
            Some(unasked) => theirs.write_all(unasked.as_bytes()).await.unwrap(),
            None => {
                assert!(exclusive.takes_request());
                let mut answer = pin!(exclusive.send(Request::new(Body::empty())));
                let mut answer =
                    pin!(poll_fn(|cx| exclusive.poll_for(cx, |cx| answer.as_mut().poll(cx))));
                assert!(answer.as_mut().now_or_never().is_none());
                assert!(head(&mut theirs).await.starts_with(b"GET / HTTP/1.1\r\n"));
                theirs.write_all(ANSWER).await.unwrap();
                answer.await.unwrap();
                assert!(exclusive.freed().unwrap().rest());
                continue;
            }
        }
        assert!(!exclusive.rest() && !exclusive.takes_request(), "{said:?}");
    }
}

#[tokio::test]
async fn a_connection_whose_answer_is_due_is_not_lent() {
    let (mut exclusive, _theirs) = connection().await;
    let _answer = exclusive.send(Request::new(Body::empty()));
    assert!(!exclusive.takes_request() && !exclusive.rest() && exclusive.freed().is_none());
}

/// A request with a body, all of which the connection has taken, and its answer, while the other
/// side has read nothing.
async fn answered_early(mut exclusive: Exclusive, theirs: &mut DuplexStream) -> Exclusive {
    let request = Request::post("/").body(Body::full(BODY)).unwrap();
    let mut answer = pin!(exclusive.send(request));
    let mut answer = pin!(poll_fn(|cx| { exclusive.poll_for(cx, |cx| answer.as_mut().poll(cx)) }));
    assert!(answer.as_mut().now_or_never().is_none());
    theirs.write_all(ANSWER).await.unwrap();
    answer.await.unwrap();
    exclusive
}

#[tokio::test]
async fn one_whose_request_is_held_up_is_not_lent_and_the_request_goes_out_whole() {
    let little = ANSWER.len();
    let (ours, mut theirs) = tokio::io::duplex(little);
    // TLS holds bytes that were written until they are flushed, as this does.
    let (behind, mut theirs_behind) = tokio::io::duplex(little);
    for (exclusive, theirs) in [
        (over(ours).await, &mut theirs),
        (over(BufStream::with_capacity(64, 4 * BODY.len(), behind)).await, &mut theirs_behind),
    ] {
        let exclusive = answered_early(exclusive, theirs).await;
        assert!(exclusive.freed().is_none());
        let mut heard = Vec::new();
        // It is closed behind the last byte.
        theirs.read_to_end(&mut heard).await.unwrap();
        assert!(heard.starts_with(b"POST / HTTP/1.1\r\n"));
        assert!(heard.ends_with(BODY), "{} bytes", heard.len());
    }
}

#[tokio::test]
async fn one_whose_request_is_held_up_no_more_is_lent() {
    let (ours, mut theirs) = tokio::io::duplex(ANSWER.len());
    let exclusive = answered_early(over(ours).await, &mut theirs).await;
    let mut exclusive = Some(exclusive);
    let head = b"POST / HTTP/1.1\r\ncontent-length: 1000\r\n\r\n".len();
    for _ in 0..head + BODY.len() {
        theirs.read_u8().await.unwrap();
        exclusive.as_mut().unwrap().takes_request();
    }
    exclusive = exclusive.and_then(Exclusive::freed);
    assert!(exclusive.is_some());
}

#[tokio::test(start_paused = true)]
async fn who_never_takes_the_rest_of_a_request_holds_it_for_a_while() {
    let (ours, mut theirs) = tokio::io::duplex(ANSWER.len());
    let exclusive = answered_early(over(ours).await, &mut theirs).await;
    assert!(exclusive.freed().is_none());
    let begun = tokio::time::Instant::now();
    tokio::time::sleep(limits::REQUEST_TAIL_TIMEOUT * 2).await;
    let mut heard = Vec::new();
    theirs.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard.len(), ANSWER.len());
    assert_eq!(begun.elapsed(), limits::REQUEST_TAIL_TIMEOUT * 2);
}

#[tokio::test]
async fn a_task_runs_it_where_nobody_polls_and_ends_when_it_is_dropped() {
    let (mut exclusive, mut theirs) = connection().await;
    let _answer = exclusive.send(Request::new(Body::empty()));
    assert!(head(&mut theirs).now_or_never().is_none(), "nobody runs it");
    exclusive.run_by_itself();
    head(&mut theirs).await;
    drop(exclusive);
    assert_eq!(theirs.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn one_that_was_left_ends_behind_its_answer() {
    let (mut exclusive, mut theirs) = connection().await;
    let answer = exclusive.send(Request::new(Body::empty()));
    exclusive.leave();
    head(&mut theirs).await;
    theirs.write_all(ANSWER).await.unwrap();
    answer.await.unwrap();
    assert_eq!(theirs.read(&mut [0]).await.unwrap(), 0);
}
