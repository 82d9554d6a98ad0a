//! A TCP connection to an upstream that goes along with who uses it: it is watched by the runtime of
//! whichever worker polls it, so that nothing that comes over it wakes another. Workers are changed
//! between requests only (`pool.rs`).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::workers;

/// The connection.
#[derive(Debug)]
pub(super) struct Moving {
    /// None, once it got lost on the way to another worker.
    stream: Option<TcpStream>,
    /// The worker whose runtime watches it.
    at: usize,
}

impl Moving {
    /// One that the runtime of this thread watches.
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream: Some(stream), at: workers::here() }
    }

    /// The connection, watched by the runtime of this thread.
    fn here(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        let here = workers::here();
        if self.at != here {
            self.at = here;
            self.stream = self.stream.take().map(moved).transpose()?;
        }
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

/// Has the runtime of this thread watch it, in place of the one that does.
fn moved(stream: TcpStream) -> io::Result<TcpStream> {
    let stream = stream.into_std()?;
    // What is known of it stays behind, so it is asked itself: nothing is due between requests, and
    // what is there all the same is its end, or no answer.
    match stream.peek(&mut [0]) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => TcpStream::from_std(stream),
        Ok(_) => Err(io::ErrorKind::ConnectionReset.into()),
        Err(error) => Err(error),
    }
}

impl AsyncRead for Moving {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.here()?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for Moving {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.here()?.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.here()?.poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.here()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.here()?.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::workers::Workers;

    /// One that this thread watches, and its other side.
    async fn pair() -> (Moving, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (ours, theirs) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (Moving::new(ours.unwrap()), theirs.unwrap().0)
    }

    #[tokio::test]
    async fn it_goes_on_at_another_worker_and_comes_back() {
        let (workers, (mut ours, mut theirs)) =
            (Workers::start(2, "worker", || {}).unwrap(), pair().await);
        let seat = workers.seats().take();
        for _ in 0..2 {
            let there = seat.runtime().spawn(async move {
                ours.write_all(b"there").await.unwrap();
                assert_eq!(ours.at, workers::here());
                let mut answer = [0; 4];
                ours.read_exact(&mut answer).await.unwrap();
                (ours, answer)
            });
            let mut asked = [0; 5];
            theirs.read_exact(&mut asked).await.unwrap();
            theirs.write_all(&asked[1..]).await.unwrap();
            let answer;
            (ours, answer) = there.await.unwrap();
            assert_eq!(&answer, b"here");
            ours.write_all(b"h").await.unwrap();
            assert_eq!((ours.at, theirs.read_u8().await.unwrap()), (0, b'h'));
        }
    }

    #[tokio::test]
    async fn what_was_closed_or_has_something_to_say_is_lost_on_the_way() {
        let workers = Workers::start(2, "worker", || {}).unwrap();
        for said in [&b""[..], b"unasked"] {
            let (mut ours, mut theirs) = pair().await;
            theirs.write_all(said).await.unwrap();
            drop(theirs);
            let there = workers.seats().take().runtime().spawn(async move {
                let first = ours.write_all(b"there").await.unwrap_err().kind();
                (first, ours.read_u8().await.unwrap_err().kind())
            });
            let lost = (io::ErrorKind::ConnectionReset, io::ErrorKind::NotConnected);
            assert_eq!(there.await.unwrap(), lost);
        }
    }
}
