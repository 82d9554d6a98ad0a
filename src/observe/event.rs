//! One access event as a line, in text and in JSON, with all fields of section 5 of the interface.
//!
//! A field without a value is `null` in JSON and `-` in text, so that every line has the same
//! fields in the same order: all, or those that the file asks for.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use crate::observe::escape::{push_bare_or_quoted, push_quoted};
use crate::observe::field::{Field, FieldSet};
use crate::observe::sink::LogFormat;
use crate::observe::timestamp::Timestamp;

/// What is known of a request when it is over.
pub(crate) struct Event<'a> {
    pub(crate) time: Timestamp,
    pub(crate) request_id: &'a str,
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
    pub(crate) fn write(&self, format: LogFormat, wanted: FieldSet, out: &mut String) {
        match format {
            LogFormat::Text => {
                push(out, format_args!("{}  INFO access:", self.time));
                self.fields(wanted, &mut Text(out));
                out.push('\n');
            }
            LogFormat::Json => {
                out.push('{');
                if wanted.has(Field::Time) {
                    push(out, format_args!("\"time\":\"{}\"", self.time));
                }
                self.fields(wanted, &mut Json(out));
                out.push_str("}\n");
            }
        }
    }

    fn fields(&self, wanted: FieldSet, to: &mut impl Fields) {
        if wanted.has(Field::RequestId) {
            to.text("request_id", Some(self.request_id));
        }
        if wanted.has(Field::TraceId) {
            to.text("trace_id", self.trace_id);
        }
        if wanted.has(Field::ClientIp) {
            to.ip("client_ip", self.client_ip);
        }
        if wanted.has(Field::Method) {
            to.text("method", self.method);
        }
        if wanted.has(Field::Host) {
            to.text("host", self.host);
        }
        if wanted.has(Field::Path) {
            to.text("path", self.path);
        }
        if wanted.has(Field::Status) {
            to.number("status", u64::from(self.status));
        }
        if wanted.has(Field::Code) {
            to.text("code", self.code);
        }
        if wanted.has(Field::Reason) {
            to.text("reason", self.reason);
        }
        if wanted.has(Field::Route) {
            to.text("route", self.route);
        }
        if wanted.has(Field::Upstream) {
            to.text("upstream", self.upstream);
        }
        if wanted.has(Field::Endpoint) {
            to.text("endpoint", self.endpoint);
        }
        if wanted.has(Field::User) {
            to.text("user", self.user);
        }
        if wanted.has(Field::ClientId) {
            to.text("client_id", self.client_id);
        }
        if wanted.has(Field::Tenant) {
            to.text("tenant", self.tenant);
        }
        if wanted.has(Field::TokenCache) {
            to.text("token_cache", self.token_cache);
        }
        if wanted.has(Field::DurationMs) {
            to.millis("duration_ms", Some(self.duration));
        }
        if wanted.has(Field::UpstreamMs) {
            to.millis("upstream_ms", self.upstream_took);
        }
        if wanted.has(Field::ExchangeMs) {
            to.millis("exchange_ms", self.exchange_took);
        }
        if wanted.has(Field::BytesIn) {
            to.number("bytes_in", self.bytes_in);
        }
        if wanted.has(Field::BytesOut) {
            to.number("bytes_out", self.bytes_out);
        }
    }
}

/// How the fields of an event are written.
trait Fields {
    fn text(&mut self, key: &'static str, value: Option<&str>);
    fn ip(&mut self, key: &'static str, value: IpAddr);
    fn number(&mut self, key: &'static str, value: u64);
    /// In milliseconds, to the microsecond.
    fn millis(&mut self, key: &'static str, value: Option<Duration>);
}

struct Text<'a>(&'a mut String);

impl Text<'_> {
    fn key(&mut self, key: &'static str) {
        self.0.push(' ');
        self.0.push_str(key);
        self.0.push('=');
    }
}

impl Fields for Text<'_> {
    fn text(&mut self, key: &'static str, value: Option<&str>) {
        self.key(key);
        match value {
            Some(value) => push_bare_or_quoted(self.0, value),
            None => self.0.push('-'),
        }
    }

    fn ip(&mut self, key: &'static str, value: IpAddr) {
        self.key(key);
        push(self.0, format_args!("{value}"));
    }

    fn number(&mut self, key: &'static str, value: u64) {
        self.key(key);
        push_number(self.0, value);
    }

    fn millis(&mut self, key: &'static str, value: Option<Duration>) {
        self.key(key);
        match value {
            Some(value) => push_millis(self.0, value),
            None => self.0.push('-'),
        }
    }
}

struct Json<'a>(&'a mut String);

impl Json<'_> {
    fn key(&mut self, key: &'static str) {
        self.0.push_str(if self.0.ends_with('{') { "\"" } else { ",\"" });
        self.0.push_str(key);
        self.0.push_str("\":");
    }
}

impl Fields for Json<'_> {
    fn text(&mut self, key: &'static str, value: Option<&str>) {
        self.key(key);
        match value {
            Some(value) => push_quoted(self.0, value),
            None => self.0.push_str("null"),
        }
    }

    fn ip(&mut self, key: &'static str, value: IpAddr) {
        self.key(key);
        push(self.0, format_args!("\"{value}\""));
    }

    fn number(&mut self, key: &'static str, value: u64) {
        self.key(key);
        push_number(self.0, value);
    }

    fn millis(&mut self, key: &'static str, value: Option<Duration>) {
        self.key(key);
        match value {
            Some(value) => push_millis(self.0, value),
            None => self.0.push_str("null"),
        }
    }
}

fn push_millis(out: &mut String, value: Duration) {
    push_number(out, u64::try_from(value.as_millis()).unwrap_or(u64::MAX));
    out.push('.');
    let micros = u64::from(value.subsec_micros() % 1000);
    for unit in [100, 10, 1] {
        push_number(out, micros / unit % 10);
    }
}

/// Without the formatter, which took a third of the time of a line.
fn push_number(out: &mut String, value: u64) {
    if value >= 10 {
        push_number(out, value / 10);
    }
    out.push(char::from(b'0' + (value % 10) as u8));
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a `String` does not fail.
    out.write_fmt(text).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Event<'static> {
        Event {
            time: Timestamp(1_767_225_600_250),
            request_id: "r-1",
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
        let mut out = String::new();
        event.write(format, FieldSet::ALL, &mut out);
        out
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
            let mut out = String::new();
            full().write(format, FieldSet::of(fields.iter().copied()), &mut out);
            out
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
