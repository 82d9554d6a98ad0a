//! `typ` in a token's header (RFC 7515 §4.1.9, RFC 9068 §2.1): which forms an access token has.

use std::fmt;

/// A form of access token that is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderType {
    /// `JWT`: any kind of token, so that its claims have to tell.
    Jwt,
    /// `at+jwt`: an access token and nothing else.
    AccessToken,
}

impl HeaderType {
    /// The form that a header's `typ` names: in any case, with or without `application/`.
    pub fn named(text: &str) -> Option<Self> {
        const PREFIX: &str = "application/";
        let short = match text.get(..PREFIX.len()) {
            Some(prefix) if prefix.eq_ignore_ascii_case(PREFIX) => text.get(PREFIX.len()..)?,
            Some(_) | None => text,
        };
        [Self::Jwt, Self::AccessToken]
            .into_iter()
            .find(|own| short.eq_ignore_ascii_case(own.name()))
    }

    /// Its short name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jwt => "JWT",
            Self::AccessToken => "at+jwt",
        }
    }
}

impl fmt::Display for HeaderType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_prefix_make_no_difference() {
        for text in ["at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"] {
            assert_eq!(HeaderType::named(text), Some(HeaderType::AccessToken), "{text}");
        }
        for text in ["JWT", "jwt", "application/jwt"] {
            assert_eq!(HeaderType::named(text), Some(HeaderType::Jwt), "{text}");
        }
        for text in [
            "",
            "application/",
            "application/application/jwt",
            "text/jwt",
            "dpop+jwt",
            "logout+jwt",
            "secevent+jwt",
            "JOSE",
            "at+jwt ",
            "\u{e4}pplicat/jwt",
        ] {
            assert_eq!(HeaderType::named(text), None, "{text}");
        }
    }
}
