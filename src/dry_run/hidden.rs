//! Which values of a request are not repeated: they may be secrets, by the names that they stand
//! under or by how they begin. Does not know which fields the routes file means as secrets.

use percent_encoding::percent_decode_str;

/// What is shown in place of a value.
pub(super) const VALUE: &str = "***";

/// Names of secrets contain one of these, in whatever case.
const MARKS: [&str; 7] = ["auth", "key", "token", "secret", "cookie", "pass", "sig"];

const BEARER: &str = "bearer ";

/// What the gateway itself shows of a credential.
const OWN: &str = "Bearer ***";

/// `value` as it is shown under `name`.
pub(super) fn value(name: &str, value: String) -> String {
    if value == OWN || !is_secret(name, &value) { value } else { VALUE.to_owned() }
}

/// A query, with what is shown of its values; all else as it came.
pub(super) fn query(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for part in text.split_inclusive(['&', ';']) {
        let pair = part.trim_end_matches(['&', ';']);
        let separator = part.strip_prefix(pair).unwrap_or_default();
        match pair.split_once('=') {
            Some((name, value)) if is_secret(&decoded(name), &decoded(value)) => {
                shown.extend([name, "=", VALUE]);
            }
            Some(_) | None => shown.push_str(pair),
        }
        shown.push_str(separator);
    }
    shown
}

/// A URL, or a path, with the same of its query.
pub(super) fn url(text: &str) -> String {
    match text.split_once('?') {
        Some((path, behind)) => format!("{path}?{}", query(behind)),
        None => text.to_owned(),
    }
}

fn is_secret(name: &str, value: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let begins = value.trim_start().get(..BEARER.len());
    MARKS.iter().any(|mark| name.contains(mark))
        || begins.is_some_and(|begins| begins.eq_ignore_ascii_case(BEARER))
}

fn decoded(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_hidden_by_name_and_by_beginning() {
        for (name, text) in [
            ("x-api-key", "1"),
            ("X-Auth", "1"),
            ("x-id-token", ""),
            ("x-a", "Bearer x"),
            ("x-a", "bearer x"),
            ("x-signature", "Bearer x"),
        ] {
            assert_eq!(value(name, text.to_owned()), "***", "{name}: {text}");
        }
        for (name, text) in [("x-a", "Bearerx"), ("accept", "a"), ("authorization", "Bearer ***")] {
            assert_eq!(value(name, text.to_owned()), text, "{name}");
        }
    }

    #[test]
    fn of_a_query_only_such_values_are_hidden() {
        for (text, shown) in [
            ("a=1&b", "a=1&b"),
            ("access_token=x", "access_token=***"),
            ("a=1&Access%5fToken=x=y&&b=%20", "a=1&Access%5fToken=***&&b=%20"),
            ("a=1;sig=x;b=2", "a=1;sig=***;b=2"),
            ("a=Bearer%20x&b=bearer+x&c=Bearer", "a=***&b=***&c=Bearer"),
            ("token", "token"),
        ] {
            assert_eq!(query(text), shown);
            assert_eq!(url(&format!("/x?{text}")), format!("/x?{shown}"));
        }
        assert_eq!(url("/token=x"), "/token=x");
    }
}
