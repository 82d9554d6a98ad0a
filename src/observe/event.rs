//! One access event as a line, in text and in JSON, with all fields of section 5 of the interface.
//!
//! A field without a value is `null` in JSON and `-` in text, so that every line has the same
//! fields in the same order: all, or those that the file asks for.

use std::marker::PhantomData;
use std::net::IpAddr;
use std::time::Duration;

use crate::observe::digits::{push_address, push_number};
use crate::observe::escape::{push_bare_or_quoted, push_quoted};
use crate::observe::field::{Field, FieldSet};
use crate::observe::sink::LogFormat;
use crate::observe::timestamp::Timestamp;

/// What is known of a request when it is over.
pub(crate) struct Event<'a> {
    pub(crate) time: Timestamp,
    pub(crate) request_id: &'a [u8],
    pub(crate) trace_id: Option<&'a str>,
    pub(crate) client_ip: IpAddr,
    pub(crate) method: Option<&'a str>,
    pub(crate) host: Option<&'a str>,
    pub(crate) path: Option<&'a str>,
    pub(crate) status: u16,
    pub(crate) code: Option<&'a str>,
    pub(crate) reason: Option<&'a str>,
    pub(crate) route: Option<&'a str>,
    pub(crate) upstream: Option<&'a str>,
    pub(crate) endpoint: Option<&'a str>,
    pub(crate) user: Option<&'a str>,
    pub(crate) client_id: Option<&'a str>,
    pub(crate) tenant: Option<&'a str>,
    pub(crate) token_cache: Option<&'a str>,
    pub(crate) duration: Duration,
    pub(crate) upstream_took: Option<Duration>,
    pub(crate) exchange_took: Option<Duration>,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

impl Event<'_> {
    /// Appends the line, its line feed included.
    pub(crate) fn write(&self, format: LogFormat, wanted: FieldSet, out: &mut Vec<u8>) {
        match format {
            LogFormat::Text => {
                out.extend_from_slice(&self.time.text());
                out.extend_from_slice(b"  INFO access:");
                self.fields::<Text>(wanted.without(Field::Time), out);
                out.push(b'\n');
            }
            LogFormat::Json => {
                let start = out.len();
                self.fields::<Json>(wanted, out);
                // Every key has a comma before it.
                if let Some(first) = out.get_mut(start) {
                    *first = b'{';
                }
                out.extend_from_slice(b"}\n");
            }
        }
    }

    fn fields<N: Notation>(&self, wanted: FieldSet, out: &mut Vec<u8>) {
        let mut to = Line::<N> { out, wanted, notation: PhantomData };
        to.word(Field::Time, Some(&self.time.text()));
        to.word(Field::RequestId, Some(self.request_id));
        to.word(Field::TraceId, self.trace_id.map(str::as_bytes));
        to.ip(Field::ClientIp, self.client_ip);
        to.text(Field::Method, self.method);
        to.text(Field::Host, self.host);
        to.text(Field::Path, self.path);
        to.number(Field::Status, u64::from(self.status));
        to.word(Field::Code, self.code.map(str::as_bytes));
        to.text(Field::Reason, self.reason);
        to.text(Field::Route, self.route);
        to.text(Field::Upstream, self.upstream);
        to.text(Field::Endpoint, self.endpoint);
        to.text(Field::User, self.user);
        to.text(Field::ClientId, self.client_id);
        to.text(Field::Tenant, self.tenant);
        to.word(Field::TokenCache, self.token_cache.map(str::as_bytes));
        to.millis(Field::DurationMs, Some(self.duration));
        to.millis(Field::UpstreamMs, self.upstream_took);
        to.millis(Field::ExchangeMs, self.exchange_took);
        to.number(Field::BytesIn, self.bytes_in);
        to.number(Field::BytesOut, self.bytes_out);
    }
}

/// How the fields of an event are written.
trait Notation {
    /// What is before and behind a value that has none but digits, letters, dots and colons.
    const QUOTE: &'static [u8];

    fn key(field: Field, out: &mut Vec<u8>);

    /// The key and what stands for a value that there is not.
    fn nothing(field: Field, out: &mut Vec<u8>);

    /// Anything at all.
    fn text(value: &str, out: &mut Vec<u8>);

    /// What has no character that JSON escapes.
    fn word(value: &[u8], out: &mut Vec<u8>);
}

struct Text;

impl Notation for Text {
    const QUOTE: &'static [u8] = b"";

    fn key(field: Field, out: &mut Vec<u8>) {
        out.push(b' ');
        out.extend_from_slice(field.name().as_bytes());
        out.push(b'=');
    }

    fn nothing(field: Field, out: &mut Vec<u8>) {
        Self::key(field, out);
        out.push(b'-');
    }

    fn text(value: &str, out: &mut Vec<u8>) {
        push_bare_or_quoted(out, value);
    }

    fn word(value: &[u8], out: &mut Vec<u8>) {
        push_bare_or_quoted(out, str::from_utf8(value).unwrap_or_default());
    }
}

struct Json;

impl Notation for Json {
    const QUOTE: &'static [u8] = b"\"";

    fn key(field: Field, out: &mut Vec<u8>) {
        out.extend_from_slice(field.json_key().as_bytes());
    }

    fn nothing(field: Field, out: &mut Vec<u8>) {
        out.extend_from_slice(field.json_null().as_bytes());
    }

    fn text(value: &str, out: &mut Vec<u8>) {
        push_quoted(out, value);
    }

    fn word(value: &[u8], out: &mut Vec<u8>) {
        out.push(b'"');
        out.extend_from_slice(value);
        out.push(b'"');
    }
}

/// A line, and the fields that it is to have.
struct Line<'a, N> {
    out: &'a mut Vec<u8>,
    wanted: FieldSet,
    notation: PhantomData<N>,
}

impl<N: Notation> Line<'_, N> {
    fn text(&mut self, field: Field, value: Option<&str>) {
        self.push(field, value, |out, value| N::text(value, out));
    }

    fn word(&mut self, field: Field, value: Option<&[u8]>) {
        self.push(field, value, |out, value| N::word(value, out));
    }

    fn ip(&mut self, field: Field, value: IpAddr) {
        self.push(field, Some(value), |out, value| match value {
            IpAddr::V4(_) => {
                out.extend_from_slice(N::QUOTE);
                push_address(out, value);
                out.extend_from_slice(N::QUOTE);
            }
            IpAddr::V6(value) => N::word(value.to_string().as_bytes(), out),
        });
    }

    fn number(&mut self, field: Field, value: u64) {
        self.push(field, Some(value), push_number);
    }

    /// In milliseconds, to the microsecond.
    fn millis(&mut self, field: Field, value: Option<Duration>) {
        self.push(field, value, push_millis);
    }

    fn push<V>(&mut self, field: Field, value: Option<V>, push: impl FnOnce(&mut Vec<u8>, V)) {
        if !self.wanted.has(field) {
            return;
        }
        match value {
            Some(value) => {
                N::key(field, self.out);
                push(self.out, value);
            }
            None => N::nothing(field, self.out),
        }
    }
}

fn push_millis(out: &mut Vec<u8>, value: Duration) {
    push_number(out, u64::try_from(value.as_millis()).unwrap_or(u64::MAX));
    let micros = value.subsec_micros() % 1000;
    let digit = |number: u32| b'0' + (number % 10) as u8;
    out.extend_from_slice(&[b'.', digit(micros / 100), digit(micros / 10), digit(micros)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Event<'static> {
        Event {
            time: Timestamp(1_767_225_600_250),
            request_id: b"r-1",
            trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736"),
            client_ip: [127, 0, 0, 1].into(),
            method: Some("GET"),
            host: Some("api.example.com"),
            path: Some("/graph/me"),
            status: 200,
            code: None,
            reason: None,
            route: Some("graph"),
            upstream: Some("graph"),
            endpoint: Some("graph.microsoft.com:443"),
            user: Some("u1"),
            client_id: Some("c1"),
            tenant: Some("t1"),
            token_cache: Some("hit"),
            duration: Duration::from_micros(12_345),
            upstream_took: Some(Duration::from_micros(11_900)),
            exchange_took: None,
            bytes_in: 0,
            bytes_out: 1234,
        }
    }

    fn line(event: &Event<'_>, format: LogFormat) -> String {
        let mut out = Vec::new();
        event.write(format, FieldSet::ALL, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_text_line() {
        assert_eq!(
            line(&full(), LogFormat::Text),
            "2026-01-01T00:00:00.250Z  INFO access: request_id=r-1 \
             trace_id=4bf92f3577b34da6a3ce929d0e0e4736 client_ip=127.0.0.1 method=GET \
             host=api.example.com path=/graph/me status=200 code=- reason=- route=graph \
             upstream=graph endpoint=graph.microsoft.com:443 user=u1 client_id=c1 tenant=t1 \
             token_cache=hit duration_ms=12.345 upstream_ms=11.900 exchange_ms=- bytes_in=0 \
             bytes_out=1234\n"
        );
    }

    #[test]
    fn the_json_line() {
        assert_eq!(
            line(&full(), LogFormat::Json),
            "{\"time\":\"2026-01-01T00:00:00.250Z\",\"request_id\":\"r-1\",\
             \"trace_id\":\"4bf92f3577b34da6a3ce929d0e0e4736\",\"client_ip\":\"127.0.0.1\",\
             \"method\":\"GET\",\"host\":\"api.example.com\",\"path\":\"/graph/me\",\
             \"status\":200,\"code\":null,\"reason\":null,\"route\":\"graph\",\
             \"upstream\":\"graph\",\"endpoint\":\"graph.microsoft.com:443\",\"user\":\"u1\",\
             \"client_id\":\"c1\",\"tenant\":\"t1\",\"token_cache\":\"hit\",\
             \"duration_ms\":12.345,\"upstream_ms\":11.900,\"exchange_ms\":null,\
             \"bytes_in\":0,\"bytes_out\":1234}\n"
        );
    }

    #[test]
    fn a_line_has_the_fields_that_are_wanted() {
        let some = |fields: &[Field], format| {
            let mut out = Vec::new();
            full().write(format, FieldSet::of(fields.iter().copied()), &mut out);
            String::from_utf8(out).unwrap()
        };
        let fields = [Field::Status, Field::RequestId];
        assert_eq!(some(&fields, LogFormat::Json), "{\"request_id\":\"r-1\",\"status\":200}\n");
        assert_eq!(
            some(&fields, LogFormat::Text),
            "2026-01-01T00:00:00.250Z  INFO access: request_id=r-1 status=200\n"
        );
        let fields = [Field::Time, Field::BytesOut];
        assert_eq!(
            some(&fields, LogFormat::Json),
            "{\"time\":\"2026-01-01T00:00:00.250Z\",\"bytes_out\":1234}\n"
        );
    }

    #[test]
    fn no_value_forges_a_line_or_a_field() {
        let forged = "x\n2026-01-01T00:00:00.000Z  INFO access: status=200\u{1b}[2J\",\"a\":\"b";
        let event = Event {
            host: Some(forged),
            path: Some(forged),
            reason: Some(forged),
            user: Some(" user=admin"),
            ..full()
        };
        let text = line(&event, LogFormat::Text);
        assert_eq!(text.matches('\n').count(), 1);
        assert!(!text.contains('\u{1b}'));
        assert!(text.contains("user=\" user=admin\""));
        let json = line(&event, LogFormat::Json);
        assert_eq!(json.matches('\n').count(), 1);
        let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(parsed["path"], forged);
        assert_eq!(parsed["status"], 200);
        assert_eq!(parsed.as_object().unwrap().len(), 22);
    }
}
