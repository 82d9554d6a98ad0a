//! HTTP/1.1 with one caller: the parser is there while there is something to parse.
//!
//! It holds two buffers of 8 KiB and the place of a request, from its beginning to its end. What lasts
//! as long as a connection is not in it, so a connection that rests goes without, and the next parser
//! goes on where the last one was. Nothing here knows why a connection ends.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::HttpService;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::sleep_until;

use crate::accept::Settings;
use crate::accept::activity::Activity;
use crate::accept::drain::Drain;
use crate::accept::drive::{Driven, drive};
use crate::accept::watched::Watched;
use crate::body::BoxError;
use crate::limits;

/// Speaks until the connection ends; with what broke it, if anything did.
pub(super) async fn speak<S, V>(
    mut watched: Watched<S>,
    mut service: V,
    activity: &Activity,
    settings: &Settings,
    drain: &Drain,
) -> Option<hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    V: HttpService<Incoming, Error = Infallible>,
    V::ResBody: 'static,
    <V::ResBody as http_body::Body>::Error: Into<BoxError>,
{
    loop {
        tokio::select! {
            biased;
            () = poll_fn(|cx| watched.poll_look_ahead(cx)) => {}
            // It is the parser that ends a connection.
            () = drain.closing() => {}
            () = sleep_until(activity.due(settings)) => {}
        }
        let connection = parser(settings).serve_connection(TokioIo::new(watched), service);
        let connection = Box::pin(connection.with_upgrades());
        let rests = match drive(connection, activity, None, settings, drain).await {
            Driven::Ended(broken) => return broken,
            Driven::Rests(connection) => *Pin::into_inner(connection),
        };
        // Nothing was upgraded, and no byte is in the parser: it would not rest.
        let parts = rests.into_parts().filter(|parts| parts.read_buf.is_empty())?;
        (watched, service) = (parts.io.into_inner(), parts.service);
    }
}

fn parser(settings: &Settings) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        // Both times are `activity.rs`'s: the parser's one time would also end idle connections.
        .header_read_timeout(None)
        .max_header_size(settings.max_header_bytes)
        // A head that is allowed must fit.
        .max_buf_size(settings.max_header_bytes.max(limits::CONNECTION_BUFFER_BYTES));
    // The number of fields is left at the parser's 100, which is `MAX_HEADER_FIELDS`: to set it
    // costs an allocation per request.
    builder
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll};
    use std::time::Duration;

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::Full;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadBuf};
    use tokio::task::JoinHandle;
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::accept::framing::{Reader, Verdict};
    use crate::accept::service::{Serving, service};
    use crate::accept::slots::Slots;
    use crate::accept::tests::settings;
    use crate::accept::watched::{LOOK_AHEAD_BYTES, Reading};
    use crate::observe::Metrics;
    use crate::peer::Peer;

    const S: Duration = Duration::from_secs(1);
    const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

    /// A stream that knows how much was last asked of it.
    struct Asked(DuplexStream, Arc<AtomicUsize>);

    impl AsyncRead for Asked {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.1.store(buffer.remaining(), Ordering::Relaxed);
            Pin::new(&mut self.0).poll_read(cx, buffer)
        }
    }

    impl AsyncWrite for Asked {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.0).poll_write(cx, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    struct Caller {
        stream: DuplexStream,
        asked: Arc<AtomicUsize>,
        drain: Drain,
        task: JoinHandle<Option<hyper::Error>>,
    }

    impl Caller {
        fn connects() -> Self {
            let (stream, ours) = tokio::io::duplex(64 * 1024);
            let asked = Arc::<AtomicUsize>::default();
            let ours = Asked(ours, Arc::clone(&asked));
            let (settings, drain) = (settings(), Drain::default());
            let activity = Arc::new(Activity::new(Instant::now()));
            let verdict = Arc::<Verdict>::default();
            let reader = Reader::new(settings.max_header_bytes);
            let reading = Reading::Http1(reader, Arc::clone(&verdict));
            let slot = Arc::<Slots>::default().take(&Metrics::default());
            let (watched_by, patience) = (Arc::clone(&activity), settings.body_idle_timeout);
            let watched = Watched::new(ours, Bytes::new(), watched_by, reading, patience, slot);
            let service = service(Serving {
                handler: |_: Request<Incoming>, _: Peer| async {
                    Response::new(Full::new(Bytes::from("ok")))
                },
                peer: Peer { address: ([127, 0, 0, 1], 1).into(), tls: false, certificate: None },
                activity: Arc::clone(&activity),
                verdict: Some(verdict),
                interim: None,
                drain: drain.clone(),
            });
            let ends = drain.clone();
            let task =
                tokio::spawn(
                    async move { speak(watched, service, &activity, &settings, &ends).await },
                );
            Self { stream, asked, drain, task }
        }

        async fn says(&mut self, bytes: &[u8]) {
            self.stream.write_all(bytes).await.unwrap();
        }

        async fn is_answered(&mut self) {
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\nok") {
                answer.push(self.stream.read_u8().await.unwrap());
            }
            assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{answer:?}");
        }

        /// Whether nothing is held for it but what lasts.
        fn rests(&self) -> bool {
            self.asked.load(Ordering::Relaxed) == LOOK_AHEAD_BYTES
        }

        async fn ends(mut self) {
            assert_eq!(self.stream.read(&mut [0]).await.unwrap(), 0);
            assert!(self.task.await.unwrap().is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_rests_between_requests_and_goes_on() {
        let mut caller = Caller::connects();
        sleep(S).await;
        assert!(caller.rests(), "nothing has come");
        for round in 1..4 {
            caller.says(GET).await;
            caller.is_answered().await;
            assert!(!caller.rests(), "the next request may come at once");
            caller.says(GET).await;
            caller.is_answered().await;
            sleep(round * 4 * S).await;
            assert!(caller.rests(), "round {round}");
        }
        // What comes in pieces is put together.
        for byte in GET {
            caller.says(&[*byte]).await;
            sleep(S / 10).await;
        }
        caller.is_answered().await;
        sleep(60 * S).await;
        assert!(caller.rests());
        let idle = Instant::now();
        caller.ends().await;
        assert_eq!((idle.elapsed() + S / 2).as_secs(), 15, "`idle_timeout` is 75 s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_within_a_request_does_not_rest() {
        let mut caller = Caller::connects();
        caller.says(GET).await;
        caller.says(b"GET /").await;
        caller.is_answered().await;
        sleep(9 * S).await;
        assert!(!caller.rests());
        caller.says(b" HTTP/1.1\r\nhost: a\r\n\r\n\r\n").await;
        caller.is_answered().await;
        sleep(9 * S).await;
        assert!(!caller.rests(), "an empty line belongs to the next request");
    }

    #[tokio::test(start_paused = true)]
    async fn who_rests_is_told_to_leave_and_may_leave() {
        for leaves in [false, true] {
            let mut caller = Caller::connects();
            caller.says(GET).await;
            caller.is_answered().await;
            sleep(9 * S).await;
            assert!(caller.rests());
            let before = Instant::now();
            if leaves {
                caller.stream.shutdown().await.unwrap();
            } else {
                caller.drain.begin();
            }
            caller.ends().await;
            // Who is told has a moment for a request that is on its way.
            assert!(before.elapsed() <= limits::DRAIN_MOMENT + S / 2);
        }
    }
}
