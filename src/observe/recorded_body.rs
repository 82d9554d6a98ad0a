//! The body of an answer with its access record: counts what the caller takes, and ends the
//! record when the body ends, breaks off or is dropped.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};

use crate::body::BoxError;
use crate::chain::with_sources;
use crate::observe::access_log::AccessRecord;

pin_project_lite::pin_project! {
    /// A body that is recorded.
    pub struct RecordedBody<B: Body> {
        #[pin]
        body: B,
        promised: Option<u64>,
        record: Option<Box<AccessRecord>>,
    }

    impl<B: Body> PinnedDrop for RecordedBody<B> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            // A server drops a body without asking for its end once it has what was promised.
            if let Some(record) = this.record.take() {
                let all_taken = this.promised.is_some_and(|bytes| record.bytes_out >= bytes);
                if all_taken || this.body.is_end_stream() {
                    record.taken_whole();
                }
            }
        }
    }
}

impl<B: Body> RecordedBody<B> {
    pub(crate) fn new(body: B, record: Box<AccessRecord>) -> Self {
        Self { promised: body.size_hint().exact(), body, record: Some(record) }
    }

    /// A body whose record is elsewhere.
    pub(crate) fn elsewhere(body: B) -> Self {
        Self { promised: None, body, record: None }
    }
}

impl<B> Body for RecordedBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let this = self.project();
        let frame = ready!(this.body.poll_frame(cx)).map(|frame| frame.map_err(Into::into));
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(data), Some(record)) = (frame.data_ref(), this.record.as_mut()) {
                    record.bytes_out += data.remaining() as u64;
                }
            }
            Some(Err(error)) => {
                if let Some(record) = this.record.take() {
                    record.broke_off(explain(error));
                }
            }
            None => {
                if let Some(record) = this.record.take() {
                    record.taken_whole();
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B: Body> fmt::Debug for RecordedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecordedBody(..)")
    }
}

fn explain(error: &BoxError) -> String {
    format!("the answer broke off: {}", with_sources(error.as_ref()))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;
    use futures_util::stream;
    use http::{Method, Request, Response, StatusCode};
    use http_body_util::{BodyExt, Full, StreamBody};
    use serde_json::Value;

    use super::*;
    use crate::clock::UnixTime;
    use crate::identity::{CallerKind, Claims, Identity};
    use crate::observe::access_log::{AccessLog, Observer};
    use crate::observe::field::FieldSet;
    use crate::observe::metrics::{CacheResult, Metrics};
    use crate::observe::request_id::RequestId;
    use crate::observe::sink::LogFormat;
    use crate::observe::sink::tests::{Captured, captured};
    use crate::peer::Peer;
    use crate::rejection::{Code, Rejection};

    fn observer(access_log: AccessLog) -> (Arc<Observer>, Captured) {
        let (sink, out) = captured(LogFormat::Json);
        (Arc::new(Observer::new(Metrics::default(), sink, access_log)), out)
    }

    fn begin(observer: &Arc<Observer>, method: Method) -> Box<AccessRecord> {
        let request = Request::builder()
            .method(method)
            .uri("/a/b?secret=1")
            .header("host", "user:pw@api.example.com")
            .body(())
            .unwrap();
        let address: SocketAddr = "[::ffff:192.0.2.1]:5000".parse().unwrap();
        let peer = Peer { address, tls: false, certificate: None };
        AccessRecord::begin(observer, &request, &peer, RequestId::new())
    }

    fn frames(
        frames: Vec<Result<&'static str, &'static str>>,
    ) -> StreamBody<impl futures_util::Stream<Item = Result<Frame<Bytes>, BoxError>>> {
        let frame = |frame: Result<&'static str, &'static str>| {
            frame.map(|text| Frame::data(Bytes::from(text))).map_err(BoxError::from)
        };
        StreamBody::new(stream::iter(frames.into_iter().map(frame).collect::<Vec<_>>()))
    }

    fn event(observer: &Observer, out: &Captured) -> Value {
        observer.sink().flush();
        let text = out.text();
        assert_eq!(text.lines().count(), 1, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    fn counts(observer: &Observer, line: &str) {
        let text = observer.metrics().encode();
        assert!(text.lines().any(|found| found == line), "`{line}` is not in\n{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_whole_answer_is_one_event_with_all_that_was_gathered() {
        let (observer, out) = observer(AccessLog::On(FieldSet::ALL));
        let mut record = begin(&observer, Method::GET);
        let bytes_in = record.bytes_in();
        bytes_in.add(3);
        bytes_in.add(4);
        record.route = Some(observer.metrics().route("r"));
        record.upstream = Some(observer.metrics().upstream("u"));
        record.endpoint = Some(Arc::from("10.0.0.1:443"));
        record.token_cache = Some(CacheResult::Hit);
        record.identity = Some(Arc::new(Identity {
            provider: Arc::from("entra"),
            issuer: Arc::from("https://issuer"),
            tenant: Some("t".into()),
            user: Some("alice".into()),
            client_id: Some("c".into()),
            kind: CallerKind::User,
            scopes: vec![],
            roles: vec![],
            claims: Claims::default(),
            expires_at: UnixTime(0),
        }));
        tokio::time::advance(Duration::from_millis(30)).await;
        record.upstream_took = Some(Duration::from_millis(20));
        record.exchange_took = Some(Duration::from_micros(9_900));
        let response = record.complete(Response::new(frames(vec![Ok("hello "), Ok("world")])));
        assert_eq!(out.text(), "");
        tokio::time::advance(Duration::from_millis(10)).await;
        response.into_body().collect().await.unwrap();

        let event = event(&observer, &out);
        for (key, value) in [
            ("client_ip", Value::from("192.0.2.1")),
            ("method", "GET".into()),
            ("host", "api.example.com".into()),
            ("path", "/a/b".into()),
            ("status", 200.into()),
            ("code", Value::Null),
            ("route", "r".into()),
            ("upstream", "u".into()),
            ("endpoint", "10.0.0.1:443".into()),
            ("user", "alice".into()),
            ("client_id", "c".into()),
            ("tenant", "t".into()),
            ("token_cache", "hit".into()),
            ("duration_ms", 40.0.into()),
            ("upstream_ms", 20.0.into()),
            ("exchange_ms", 9.9.into()),
            ("bytes_in", 7.into()),
            ("bytes_out", 11.into()),
        ] {
            assert_eq!(event[key], value, "{key}");
        }
        counts(&observer, r#"obo_gateway_requests_total{route="r",method="GET",status="200"} 1"#);
        counts(&observer, r#"obo_gateway_overhead_seconds_bucket{le="0.0001",route="r"} 1"#);
        counts(&observer, r#"obo_gateway_upstream_duration_seconds_sum{upstream="u"} 0.02"#);
        counts(&observer, "obo_gateway_requests_in_flight 0");
    }

    #[tokio::test]
    async fn a_caller_who_goes_away_is_499_in_the_log_only() {
        let (observer, out) = observer(AccessLog::On(FieldSet::ALL));
        let record = begin(&observer, Method::GET);
        let mut body =
            record.complete(Response::new(frames(vec![Ok("one"), Ok("two")]))).into_body();
        body.frame().await.unwrap().unwrap();
        drop(body);
        let event = event(&observer, &out);
        assert_eq!((&event["status"], &event["bytes_out"]), (&499.into(), &3.into()));
        counts(&observer, r#"obo_gateway_requests_total{route="",method="GET",status="200"} 1"#);
    }

    #[test]
    fn a_caller_who_goes_away_early_is_499_too() {
        let (observer, out) = observer(AccessLog::On(FieldSet::ALL));
        let record = begin(&observer, Method::GET);
        counts(&observer, "obo_gateway_requests_in_flight 1");
        drop(record);
        assert_eq!(event(&observer, &out)["status"], 499);
        counts(&observer, r#"obo_gateway_requests_total{route="",method="GET",status=""} 1"#);
        counts(&observer, "obo_gateway_requests_in_flight 0");
    }

    #[test]
    fn what_panics_at_its_end_is_not_in_flight_any_more() {
        let (observer, _out) = observer(AccessLog::On(FieldSet::ALL));
        let mut record = begin(&observer, Method::GET);
        // Nobody waits so long: their sum can't be had.
        record.upstream_took = Some(Duration::MAX);
        record.exchange_took = Some(Duration::MAX);
        record.answered(StatusCode::OK);
        let ends = std::panic::AssertUnwindSafe(|| drop(record));
        assert!(std::panic::catch_unwind(ends).is_err());
        counts(&observer, "obo_gateway_requests_in_flight 0");
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_keeps_its_status() {
        let (observer, out) = observer(AccessLog::On(FieldSet::ALL));
        let body = frames(vec![Ok("one"), Err("connection reset")]);
        let response = begin(&observer, Method::GET).complete(Response::new(body));
        response.into_body().collect().await.unwrap_err();
        let event = event(&observer, &out);
        assert_eq!(event["status"], 200);
        assert_eq!(event["reason"], "the answer broke off: connection reset");
    }

    #[tokio::test]
    async fn what_a_server_drops_by_right_is_whole() {
        for (method, status, polled) in
            [(Method::HEAD, 200, false), (Method::GET, 204, false), (Method::GET, 200, true)]
        {
            let (observer, out) = observer(AccessLog::On(FieldSet::ALL));
            let response =
                Response::builder().status(status).body(Full::<Bytes>::from("four")).unwrap();
            let mut body = begin(&observer, method).complete(response).into_body();
            if polled {
                body.frame().await.unwrap().unwrap();
            }
            drop(body);
            assert_eq!(event(&observer, &out)["status"], status);
        }
    }

    #[tokio::test]
    async fn a_refusal_is_logged_with_its_reason_and_counted() {
        let (observer, out) = observer(AccessLog::On(FieldSet::ALL));
        let mut record = begin(&observer, Method::POST);
        record.route = Some(observer.metrics().route("r"));
        record.refused(&Rejection::new(Code::TokenExpired, "expired", "exp 1, now 2"));
        let response = Response::builder().status(StatusCode::UNAUTHORIZED);
        drop(record.complete(response.body(Full::<Bytes>::default()).unwrap()));
        let event = event(&observer, &out);
        assert_eq!(event["status"], 401);
        assert_eq!(event["code"], "token_expired");
        assert_eq!(event["reason"], "exp 1, now 2");
        counts(&observer, r#"obo_gateway_auth_failures_total{route="r",code="token_expired"} 1"#);
    }

    #[test]
    fn a_panic_is_a_500() {
        let (observer, out) = observer(AccessLog::On(FieldSet::ALL));
        let record = begin(&observer, Method::GET);
        std::thread::spawn(move || {
            let _record = record;
            std::panic::resume_unwind(Box::new("no message on stderr"));
        })
        .join()
        .unwrap_err();
        let event = event(&observer, &out);
        assert_eq!((&event["status"], &event["code"]), (&500.into(), &"internal".into()));
    }

    #[test]
    fn without_events_requests_are_still_counted() {
        let (observer, out) = observer(AccessLog::Off);
        drop(begin(&observer, Method::GET));
        observer.set_access_log(AccessLog::On(FieldSet::ALL));
        drop(begin(&observer, Method::GET));
        event(&observer, &out);
        counts(&observer, r#"obo_gateway_requests_total{route="",method="GET",status=""} 2"#);
    }
}
