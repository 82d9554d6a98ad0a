//! A request as an upstream saw it, and what no upstream may ever see.

use http::request::Parts;
use http::{HeaderMap, Version};

use super::registry::{self, Kind};

/// A request that reached an upstream.
#[derive(Clone, Debug)]
pub struct Seen {
    pub version: Version,
    pub method: String,
    /// The request target as it came: path and query, byte for byte.
    pub target: String,
    /// `Host` of HTTP/1.1, `:authority` of HTTP/2.
    pub authority: String,
    /// All fields; names in the order they first came, values of one name in theirs.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Which connection it came over, from 0.
    pub connection: usize,
    /// What is known of its body once it was read.
    pub body: SeenBody,
}

/// The body of a request that reached an upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenBody {
    /// Its bytes in all.
    pub length: u64,
    /// SHA-256 of them, in hex; empty until all was read.
    pub sha256: String,
    /// The first of them, at most [`SeenBody::KEPT`].
    pub start: Vec<u8>,
    pub trailers: Option<HeaderMap>,
    /// Whether it ended as it should.
    pub complete: bool,
}

impl SeenBody {
    /// How much of a body is kept, in bytes.
    pub const KEPT: usize = 64 * 1024;
}

/// What a test expects that is a violation anywhere else.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowed {
    /// The caller's token, in `Authorization` only.
    pub passthrough: bool,
    /// `Connection: upgrade` and `Upgrade`.
    pub upgrades: bool,
}

impl Seen {
    /// Takes down the head of a request.
    pub fn of(head: &Parts, connection: usize) -> Self {
        let names = head.headers.keys();
        let headers = names.flat_map(|name| {
            let values = head.headers.get_all(name).into_iter();
            values.map(|value| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        });
        let host = head.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
        let authority = head.uri.authority().map(http::uri::Authority::as_str).or(host);
        Self {
            version: head.version,
            method: head.method.as_str().to_owned(),
            target: head
                .uri
                .path_and_query()
                .map_or_else(|| head.uri.to_string(), ToString::to_string),
            authority: authority.unwrap_or_default().to_owned(),
            headers: headers.collect(),
            connection,
            body: SeenBody::default(),
        }
    }

    /// The values of `name` (lower case), as text.
    pub fn values(&self, name: &str) -> Vec<String> {
        let fields = self.headers.iter().filter(|(field, _)| field == name);
        fields.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
    }

    /// The value of `name`, if there is exactly one.
    pub fn value(&self, name: &str) -> Option<String> {
        let mut values = self.values(name);
        if values.len() == 1 { values.pop() } else { None }
    }

    /// The outbound token, of an `Authorization: Bearer`.
    pub fn bearer(&self) -> Option<String> {
        self.value("authorization")?.strip_prefix("Bearer ").map(str::to_owned)
    }

    /// What of this request no upstream may see. Values are not shown: they may be tokens.
    pub fn violations(&self, allowed: Allowed) -> Vec<String> {
        let mut found = Vec::new();
        let is_token = |text: &[u8]| registry::find(text, &[Kind::Inbound, Kind::Secret]).is_some();
        if is_token(self.target.as_bytes()) {
            found.push("a caller's token or a secret of the gateway is in the target".to_owned());
        }
        for (name, value) in &self.headers {
            let passed = allowed.passthrough && name == "authorization";
            if is_token(value) && !passed || is_token(name.as_bytes()) {
                found.push(format!("a caller's token or a secret of the gateway is in `{name}`"));
            }
            if name.contains('_') {
                found.push(format!("`{name}` has an underscore in its name"));
            }
            if let Some(text) = hop_by_hop(name, value, self.version, allowed) {
                found.push(text);
            }
        }
        if self.values("authorization").len() > 1 {
            found.push("there are several `authorization` fields".to_owned());
        }
        if self.values("host").len() > 1 {
            found.push("there are several `host` fields".to_owned());
        }
        found
    }
}

fn hop_by_hop(name: &str, value: &[u8], version: Version, allowed: Allowed) -> Option<String> {
    let value = value.to_ascii_lowercase();
    let fine = match name {
        "keep-alive"
        | "proxy-connection"
        | "proxy-authorization"
        | "proxy-authenticate"
        | "http2-settings" => false,
        "connection" => allowed.upgrades && value == b"upgrade",
        "upgrade" => allowed.upgrades,
        "te" => value == b"trailers",
        // The framing of the gateway's own connection; hyper accepts no other coding.
        "transfer-encoding" => version == Version::HTTP_11 && value == b"chunked",
        _ => true,
    };
    (!fine).then(|| format!("`{name}: {}` belongs to the caller's own hop", value.escape_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::token::Token;

    fn seen(headers: &[(&str, &str)]) -> Seen {
        let mut request = http::Request::get("/x?y");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Seen::of(&request.body(()).unwrap().into_parts().0, 0)
    }

    #[test]
    fn a_callers_token_is_a_violation_wherever_it_is() {
        let token = Token::entra_v2("https://i").user("seen-violation").build();
        let allowed = Allowed { passthrough: true, upgrades: false };
        let bearer = format!("Bearer {token}");
        assert_eq!(seen(&[("authorization", &bearer)]).violations(Allowed::default()).len(), 1);
        assert_eq!(seen(&[("authorization", &bearer)]).violations(allowed).len(), 0);
        assert_eq!(seen(&[("x-copy", &token)]).violations(allowed).len(), 1);
        let payload = token.split('.').nth(1).unwrap();
        assert_eq!(seen(&[("x-copy", payload)]).violations(allowed).len(), 1);
        assert_eq!(
            seen(&[("authorization", "Bearer outbound-1")]).violations(Allowed::default()).len(),
            0
        );
    }

    #[test]
    fn what_belongs_to_the_callers_hop_is_a_violation() {
        let upgrades = Allowed { passthrough: false, upgrades: true };
        let none = Allowed::default();
        for (name, value) in [
            ("connection", "close"),
            ("keep-alive", "1"),
            ("te", "gzip"),
            ("x_y", "1"),
            ("transfer-encoding", "gzip"),
        ] {
            assert_eq!(seen(&[(name, value)]).violations(upgrades).len(), 1, "{name}");
        }
        for (name, value) in [("te", "trailers"), ("transfer-encoding", "chunked"), ("x-y", "1")] {
            assert_eq!(seen(&[(name, value)]).violations(none).len(), 0, "{name}");
        }
        let websocket = [("connection", "Upgrade"), ("upgrade", "websocket")];
        assert_eq!(seen(&websocket).violations(none).len(), 2);
        assert_eq!(seen(&websocket).violations(upgrades).len(), 0);
    }
}
