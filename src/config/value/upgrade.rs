//! What a connection may become, as `Upgrade` names it.

use super::super::failure::WrongText;
use super::super::schema::Form;
use super::Written;

/// A protocol of `upgrades`, in lower case: `websocket`, or another token with an optional version
/// (RFC 9110 §7.8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade(pub String);

impl Written for Upgrade {
    const FORM: &'static str = "a protocol such as `websocket`";

    fn form() -> Form {
        Form::Scalar
    }

    fn parse(text: &str) -> Result<Self, WrongText> {
        let lower = text.to_ascii_lowercase();
        let (name, version) = lower.split_once('/').map_or((&*lower, None), |(n, v)| (n, Some(v)));
        if !is_token(name) || !version.is_none_or(is_token) {
            let hint = "write one as the `Upgrade` header has it: `websocket`, `spdy/3.1`";
            return Err(WrongText::new(format!("`{text}` is not the name of a protocol"), hint));
        }
        match name {
            "*" => {
                let hint = "there is no word for all: name each one, such as `websocket`";
                Err(WrongText::new("`*` is not the name of a protocol".to_owned(), hint))
            }
            // HTTP that nobody judges would pass through.
            "h2c" | "h2" | "http" => {
                let hint = "HTTP/2 needs no upgrade here: listeners without TLS take it with prior knowledge, and `protocol: http2` speaks it to an upstream; remove it";
                Err(WrongText::new(format!("`{text}` would be HTTP past all rules"), hint))
            }
            "tls" => {
                let hint = "give the listener `tls`, or the upstream an `https` URL; remove it";
                Err(WrongText::new(format!("`{text}` would hide requests from all rules"), hint))
            }
            _ => Ok(Self(lower)),
        }
    }
}

/// RFC 9110 §5.6.2.
fn is_token(text: &str) -> bool {
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_tchar)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_taken_and_http_is_not() {
        for good in ["websocket", "WebSocket", "SPDY/3.1", "tcp", "x-tls", "http-like"] {
            assert_eq!(Upgrade::parse(good).unwrap().0, good.to_ascii_lowercase(), "{good}");
        }
        for bad in [
            "", " ", "a b", "a,b", "/1", "a/", "a/1/2", "h2c", "H2C", "HTTP/2.0", "http",
            "TLS/1.0", "*",
        ] {
            assert!(Upgrade::parse(bad).is_err(), "{bad}");
        }
    }
}
