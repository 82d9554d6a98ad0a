//! How lax readers may understand a canonical path.
//!
//! Servers differ in what they do to a path before they look at it. Tomcat and Jetty drop
//! parameters after `;`, before or after decoding; many decode once more than they should, or
//! until nothing changes; some take `\` for `/`; some decode `%3F` and then cut the query off.
//! An open route in front of such a server would let `/open;/..%2Fadmin`-like spellings reach
//! what another route guards. `table.rs` looks each reading up, and refuses the path where one
//! leads elsewhere. Only paths with `%` or `;` have readings.
//!
//! A path that a deeper decoding turns into something that is not UTF-8 has no readings to
//! compare: a lenient decoder makes `..` of `%25C0%25AE%25C0%25AE`, another one something else.

use crate::route::canonical::{decode_once, resolve};

/// Stands in a reading for an encoded slash that is not read as one: no file has it in a path.
const KEPT_SLASH: &str = "\u{F8FF}";

/// What some reader takes for more than itself, where it comes out of an escape or was never one;
/// a slash is looked for apart.
const OF_MEANING: [char; 6] = [';', '%', '\\', '?', '#', '\0'];

/// The readings of `path`, which is canonical, decoded and resolved, none twice; at most 128.
/// `None` where decoding on and on leaves what is not UTF-8.
pub(super) fn lax_readings(path: &str) -> Option<Vec<String>> {
    let decoded = decode_once(path);
    // Nothing that any reader takes for more than itself: all that there is to do is decoded.
    if !decoded.contains(OF_MEANING) && !has_encoded_slash(path) {
        return Some(vec![decoded.into_owned()]);
    }
    all_readings(path)
}

/// The same the long way, which looks for each reading.
pub(super) fn all_readings(path: &str) -> Option<Vec<String>> {
    let mut texts = vec![path.to_owned()];
    branch(&mut texts, |text| {
        let kept = text.replace("%2F", KEPT_SLASH).replace("%2f", KEPT_SLASH);
        (kept != text).then_some(kept)
    });
    branch(&mut texts, without_parameters);
    let decoded: Option<Vec<String>> = texts.iter().map(|text| decode_fully(text)).collect();
    // A canonical path is UTF-8 when it is decoded once.
    texts = texts.iter().map(|text| decode_once(text).into_owned()).chain(decoded?).collect();
    branch(&mut texts, |text| text.contains('\\').then(|| text.replace('\\', "/")));
    branch(&mut texts, without_parameters);
    branch(&mut texts, |text| text.split_once(['?', '#', '\0']).map(|(path, _)| path.to_owned()));
    // Some merge slashes before they resolve `..`, others behind it, as `resolve` does.
    branch(&mut texts, with_slashes_merged);
    for text in &mut texts {
        *text = resolve(text);
    }
    texts.sort_unstable();
    texts.dedup();
    Some(texts)
}

fn has_encoded_slash(path: &str) -> bool {
    path.contains("%2F") || path.contains("%2f")
}

/// Adds what `change` makes of each text.
fn branch(texts: &mut Vec<String>, change: impl Fn(&str) -> Option<String>) {
    let changed: Vec<String> = texts.iter().filter_map(|text| change(text)).collect();
    texts.extend(changed);
    texts.sort_unstable();
    texts.dedup();
}

fn with_slashes_merged(text: &str) -> Option<String> {
    text.contains("//").then(|| {
        let mut merged = String::with_capacity(text.len());
        for letter in text.chars() {
            if letter != '/' || !merged.ends_with('/') {
                merged.push(letter);
            }
        }
        merged
    })
}

fn without_parameters(text: &str) -> Option<String> {
    text.contains(';').then(|| {
        let bare: Vec<&str> =
            text.split('/').map(|segment| segment.split(';').next().unwrap_or_default()).collect();
        bare.join("/")
    })
}

/// `text` decoded until there is nothing left to decode, in one pass: an octet that completes
/// an escape is taken back together with it. `None` if that is not UTF-8.
fn decode_fully(text: &str) -> Option<String> {
    let mut octets: Vec<u8> = Vec::with_capacity(text.len());
    for octet in text.bytes() {
        octets.push(octet);
        while let Some(decoded) = escape_at_end(&octets) {
            octets.truncate(octets.len().saturating_sub(3));
            octets.push(decoded);
        }
    }
    String::from_utf8(octets).ok()
}

fn escape_at_end(octets: &[u8]) -> Option<u8> {
    let [.., b'%', high, low] = octets else { return None };
    let digit =
        |octet: u8| char::from(octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(*high)? * 16 + digit(*low)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_lax_reader_is_covered() {
        for (path, reading) in [
            ("/a%20b", "/a b"),
            ("/%2561", "/%61"),
            ("/%2561", "/a"),
            ("/%25252561", "/a"),
            ("/%252e%252e/a", "/a"),
            ("/a%2Fb", "/a/b"),
            ("/a%2fb/;x", "/a\u{F8FF}b/"),
            ("/a%5Cb", "/a/b"),
            ("/a%5Cb", "/a\\b"),
            ("/a%252fb", "/a/b"),
            ("/a;x/b", "/a/b"),
            ("/a;x/b", "/a;x/b"),
            ("/a%3Bx/b", "/a/b"),
            ("/a%253Bx/b", "/a/b"),
            ("/a;%2Fb", "/a"),
            ("/a;%2Fb", "/a;/b"),
            ("/a;%2Fb", "/a/b"),
            ("/;x/a", "/a"),
            ("/a%3Fb", "/a"),
            ("/a%23b", "/a"),
            ("/a%2500b", "/a"),
            ("/a/;x", "/a/"),
            ("/a/%2F..%252Fb", "/b"),
            ("/a/%2F..%252Fb", "/a/b"),
        ] {
            let readings = lax_readings(path).unwrap();
            assert!(readings.iter().any(|found| found == reading), "{path}: {readings:?}");
        }
    }

    #[test]
    fn a_plain_path_has_one_reading_and_the_worst_has_few() {
        assert_eq!(lax_readings("/a/b").unwrap(), ["/a/b"]);
        assert!(lax_readings("/a;b%3Bc%253Bd%5C%2Fe%3Ff%252541").unwrap().len() <= 128);
    }

    #[test]
    fn the_short_way_leads_where_the_long_one_does() {
        for path in [
            "/",
            "/a/b/",
            "/a%20b",
            "/My%20Documents/%C3%A9t%C3%A9.txt",
            "/a%2eb/c",
            "/a%3Ab/%7E/",
            "/\u{e9}%20",
            "/a%2Fb",
            "/a%5Cb",
            "/a%25b",
            "/a;b",
            "/a%3bb",
            "/a%3F",
            "/a%23",
        ] {
            assert_eq!(lax_readings(path), all_readings(path), "{path}");
        }
    }

    #[test]
    fn what_is_not_utf8_further_down_has_no_readings() {
        for path in ["/%25c0%25ae", "/%2525c0%2525af", "/a;%25ff", "/%25c3%253bx", "/%C3%A9%25A9"] {
            assert_eq!(lax_readings(path), None, "{path}");
        }
        for path in ["/%25c3%25a9", "/%C3%A9", "/100%25", "/%25zz", "/a;%25c3%2525a9"] {
            assert!(lax_readings(path).is_some(), "{path}");
        }
    }

    #[test]
    fn deeply_nested_escapes_take_one_pass() {
        let nested = format!("/%{}61", "25".repeat(30_000));
        assert_eq!(decode_fully(&nested).unwrap(), "/a");
    }
}
