//! Paths that the gateway itself asks for.

use http::uri::PathAndQuery;

use super::super::failure::WrongText;
use super::super::schema::Form;
use super::Written;

/// The path of a request, from its slash on; a query may follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestPath(pub PathAndQuery);

impl Written for RequestPath {
    const FORM: &'static str = "a path such as `/healthz`";

    fn form() -> Form {
        Form::Pattern("/[!-~]*")
    }

    fn parse(text: &str) -> Result<Self, WrongText> {
        let wrong = |hint: &str| Err(WrongText::new(format!("`{text}` is not a path"), hint));
        if !text.starts_with('/') {
            return wrong("write it from its slash on, without a host: `/healthz`");
        }
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"#\\\"<>^`{|}".contains(&byte);
        if !text.bytes().all(plain) {
            return wrong("percent-encode what is not plain ASCII: `/%C3%BC`");
        }
        match text.parse() {
            Ok(path) => Ok(Self(path)),
            Err(_) => wrong("write a path: `/healthz`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for text in ["/", "/healthz", "/a/b?c=d&e", "//a", "/%20"] {
            assert_eq!(RequestPath::parse(text).unwrap().0.as_str(), text);
        }
        for text in ["", "healthz", "https://a/healthz", "*", "/a b", "/a#b", "/ü", "/a\n", "/a\\b"]
        {
            assert!(RequestPath::parse(text).is_err(), "{text}");
        }
    }
}
