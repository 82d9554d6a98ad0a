//! Addresses, networks, URLs and statuses.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use url::Url;

use super::super::failure::WrongText;
use super::super::schema::Form;
use super::Written;

/// An IP address and a port to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address(pub SocketAddr);

impl Written for Address {
    const FORM: &'static str = "an address such as `127.0.0.1:8080`";

    fn form() -> Form {
        Form::Pattern(".+:[0-9]{1,5}")
    }

    fn parse(text: &str) -> Result<Self, WrongText> {
        if let Ok(address) = text.parse() {
            return Ok(Self(address));
        }
        let hint = match text.rsplit_once(':') {
            _ if text.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()) => {
                format!("add a port: `[{text}]:8080`")
            }
            _ if text.parse::<IpAddr>().is_ok() => format!("add a port: `{text}:8080`"),
            Some(("" | "*", port)) => {
                format!("for all interfaces write `0.0.0.0:{port}` (or `[::]:{port}`)")
            }
            Some(("localhost", port)) => format!("write `127.0.0.1:{port}` (or `[::1]:{port}`)"),
            Some(_) | None => {
                "write an IP address and a port: `0.0.0.0:8443`, `[::1]:8080`".to_owned()
            }
        };
        Err(WrongText::new(format!("`{text}` is not an address to listen on"), hint))
    }
}

/// Where the admin port is, if anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    /// There is none.
    Off,
    /// Here.
    At(SocketAddr),
}

impl Written for AdminAddress {
    const FORM: &'static str = "an address such as `127.0.0.1:9901`, or `off`";

    fn form() -> Form {
        Form::Pattern("off|.+:[0-9]{1,5}")
    }

    fn parse(text: &str) -> Result<Self, WrongText> {
        if text == "off" { Ok(Self::Off) } else { Address::parse(text).map(|it| Self::At(it.0)) }
    }
}

/// A network, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(pub IpNet);

impl Written for Network {
    const FORM: &'static str = "a network such as `10.0.0.0/8`";

    fn form() -> Form {
        Form::Pattern("[0-9a-fA-F.:]+(/[0-9]{1,3})?")
    }

    fn parse(text: &str) -> Result<Self, WrongText> {
        let wrong = |hint: String| {
            WrongText::new(format!("`{text}` is not a network or an IP address"), hint)
        };
        let network = match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address),
            Err(_) => text.parse::<IpNet>().ok().ok_or_else(|| {
                wrong("write `10.0.0.0/8`, `2001:db8::/32` or `192.0.2.7`".to_owned())
            })?,
        };
        if network.trunc() != network {
            return Err(wrong(format!(
                "bits are set behind the prefix: write `{}`",
                network.trunc()
            )));
        }
        Ok(Self(network))
    }
}

/// An absolute `http` or `https` URL without credentials and fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl {
    /// As written: issuers are compared byte for byte.
    pub text: String,
    /// As parsed; a path of `/` is added where there is none.
    pub url: Url,
}

impl Written for HttpUrl {
    const FORM: &'static str = "a URL such as `https://api.example.com`";

    fn form() -> Form {
        Form::Pattern("[hH][tT][tT][pP][sS]?://[^#\\s]+")
    }

    fn parse(text: &str) -> Result<Self, WrongText> {
        let hint = "write an absolute URL: `https://api.example.com`";
        let wrong = |what: String, hint: &str| Err(WrongText::new(what, hint));
        let url = match Url::parse(text) {
            Ok(url) => url,
            Err(url::ParseError::RelativeUrlWithoutBase) => {
                let is_host = text.starts_with(|c: char| c.is_ascii_alphanumeric());
                let hint = match Url::parse(&format!("https://{text}")) {
                    Ok(url) if is_host && url.username().is_empty() => {
                        format!("write an absolute URL: `https://{text}`")
                    }
                    Ok(_) | Err(_) => hint.to_owned(),
                };
                return wrong(format!("`{text}` is not an absolute URL"), &hint);
            }
            Err(error) => return wrong(format!("`{text}` is not a URL: {error}"), hint),
        };
        if !url.username().is_empty() || url.password().is_some() {
            // The URL is not repeated: a password is in it.
            return wrong("the URL has a user name or password in it".into(), "remove them");
        }
        if !matches!(url.scheme(), "http" | "https") {
            return wrong(format!("`{text}` is not an `https` or `http` URL"), hint);
        }
        if url.fragment().is_some() {
            return wrong(format!("`{text}` has a fragment"), "remove the `#` and what follows");
        }
        if url.port() == Some(0) {
            return wrong(
                format!("`{text}` has port 0, where nobody can listen"),
                "write its port",
            );
        }
        if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
            return wrong(format!("`{text}` has a character that no URL has"), hint);
        }
        Ok(Self { text: text.to_owned(), url })
    }
}

/// The status of an answer of the gateway's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub http::StatusCode);

impl Written for Status {
    const FORM: &'static str = "a status such as `204`";

    fn form() -> Form {
        Form::Number { least: 200, most: 599 }
    }

    fn parse(text: &str) -> Result<Self, WrongText> {
        let status =
            text.parse().ok().filter(|it: &http::StatusCode| (200..=599).contains(&it.as_u16()));
        let message = || format!("`{text}` is not a status to answer with");
        status.map(Self).ok_or_else(|| WrongText::new(message(), "write a number from 200 to 599"))
    }
}

/// The status of a redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedirectStatus(pub http::StatusCode);

impl Written for RedirectStatus {
    const FORM: &'static str = "a status such as `308`";

    fn form() -> Form {
        Form::Words(&["308", "307", "303", "302", "301"])
    }

    fn parse(text: &str) -> Result<Self, WrongText> {
        let status = text.parse::<http::StatusCode>().ok();
        let status = status.filter(|it| matches!(it.as_u16(), 301 | 302 | 303 | 307 | 308));
        let message = || format!("`{text}` is not a status of a redirect");
        status.map(Self).ok_or_else(|| {
            WrongText::new(message(), "write 301, 302, 303, 307 or 308 (the default)")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_networks() {
        assert!(Address::parse("0.0.0.0:8443").is_ok() && Address::parse("[::1]:80").is_ok());
        for (text, hint) in [
            (":8080", "0.0.0.0:8080"),
            ("localhost:80", "127.0.0.1:80"),
            ("127.0.0.1", "127.0.0.1:8080"),
            ("::1", "[::1]:8080"),
            ("8080", "0.0.0.0:8443"),
            ("0.0.0.0:99999", "0.0.0.0:8443"),
        ] {
            let wrong = Address::parse(text).unwrap_err();
            assert!(wrong.hint.contains(hint), "{text}: {wrong}");
        }
        assert_eq!(AdminAddress::parse("off").unwrap(), AdminAddress::Off);
        assert!(Network::parse("10.0.0.0/8").is_ok() && Network::parse("192.0.2.7").is_ok());
        assert!(Network::parse("10.0.0.1/8").unwrap_err().hint.contains("`10.0.0.0/8`"));
        assert!(Network::parse("10.0.0.0/33").is_err());
    }

    #[test]
    fn urls_are_absolute_and_carry_no_password() {
        let url = HttpUrl::parse("https://a.example/base").unwrap();
        assert_eq!((url.text.as_str(), url.url.path()), ("https://a.example/base", "/base"));
        for text in [
            "",
            "a.example",
            "/x",
            "ftp://a",
            "https://",
            "https://a#f",
            "https://a b",
            "http://a:0",
        ] {
            assert!(HttpUrl::parse(text).is_err(), "{text}");
        }
        let wrong = HttpUrl::parse("https://u:hunter2@a").unwrap_err();
        assert!(!wrong.to_string().contains("hunter2"));
    }

    #[test]
    fn statuses() {
        assert!(Status::parse("204").is_ok() && Status::parse("199").is_err());
        assert!(RedirectStatus::parse("302").is_ok() && RedirectStatus::parse("304").is_err());
    }
}
