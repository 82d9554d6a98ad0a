//! The one spelling of a path, or why it has none.
//!
//! In the order of the contract: escapes of unreserved characters are decoded (RFC 3986
//! §6.2.2.2), dot segments resolved (§5.2.4), empty segments merged. What comes out is what is
//! matched and what is forwarded, so that nobody behind the gateway resolves anything again.
//!
//! What is refused, and what it would be used for:
//!
//! | refused | because |
//! | --- | --- |
//! | `\`, `%5C`, `%2F` | some servers take them for `/`: `/open%2F..%2Fadmin` (the encoded ones can be allowed per route) |
//! | `..;x`, `.%3Bx` | servers that know path parameters drop `;x` and then go up: `/open/..;x/admin` |
//! | dot segments behind an encoded slash | the same, on a route that keeps encoded slashes |
//! | `%00` and other control characters | they end the path for servers written in C, and split log lines and headers |
//! | a raw `#`, `?` or space | the upstream would read a shorter path than was judged |
//! | a malformed escape | some servers leave it, some drop it, some read `%u002f` |
//! | invalid or overlong UTF-8 | `%C0%AF` is `/` to a lenient decoder |

use std::borrow::Cow;

use thiserror::Error;

/// A path in its one spelling, and what was seen on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Canonical {
    /// The spelling, where it is not the one that came.
    pub(super) respelled: Option<String>,
    /// It has what a lax reader could read in another way: an escape or a `;`.
    pub(super) doubtful: bool,
    /// It has `%2F` or `%5C`.
    pub(super) encoded_slashes: bool,
}

/// Why a path has no spelling that everybody reads alike; offsets are bytes of the path as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum PathFault {
    #[error("the path does not begin with `/`")]
    NotAbsolute,
    #[error("byte 0x{byte:02X} at offset {at} may not stand in a path")]
    Byte { byte: u8, at: usize },
    #[error("the escape at offset {at} is not `%` and two hexadecimal digits")]
    Escape { at: usize },
    #[error("the escape at offset {at} is a control character")]
    Control { at: usize },
    #[error("the decoded path is not UTF-8")]
    Utf8,
    #[error("a dot segment hides behind parameters or an encoded slash")]
    HiddenDots,
}

/// Brings `path` to its one spelling.
pub(super) fn canonicalise(path: &str) -> Result<Canonical, PathFault> {
    let seen = scan(path)?;
    let mut canonical = Canonical::default();
    let mut text = Cow::Borrowed(path);
    if seen.escape {
        let decoded = decode_unreserved(path)?;
        canonical.doubtful = decoded.text.contains('%');
        canonical.encoded_slashes = decoded.encoded_slashes;
        text = Cow::Owned(decoded.text);
    }
    if seen.parameter || seen.escape {
        canonical.doubtful |= seen.parameter;
        if text.split('/').any(hides_dots) {
            return Err(PathFault::HiddenDots);
        }
    }
    if seen.dots_or_empty || seen.escape {
        text = Cow::Owned(resolve(&text));
    }
    if let Cow::Owned(text) = text
        && text != path
    {
        canonical.respelled = Some(text);
    }
    Ok(canonical)
}

/// What one pass over the bytes finds; a path with none of it is canonical as it came.
#[derive(Default)]
struct Seen {
    escape: bool,
    parameter: bool,
    dots_or_empty: bool,
}

fn scan(path: &str) -> Result<Seen, PathFault> {
    if !path.starts_with('/') {
        return Err(PathFault::NotAbsolute);
    }
    let mut seen = Seen::default();
    let mut previous = 0;
    for (at, byte) in path.bytes().enumerate() {
        match byte {
            // A segment that begins with a dot may be a dot segment; `resolve` looks closer.
            b'/' | b'.' => seen.dots_or_empty |= previous == b'/',
            b'%' => seen.escape = true,
            b';' => seen.parameter = true,
            0..=b' ' | 0x7F | b'\\' | b'#' | b'?' => return Err(PathFault::Byte { byte, at }),
            _ => {}
        }
        previous = byte;
    }
    Ok(seen)
}

struct Decoded {
    text: String,
    encoded_slashes: bool,
}

/// Decodes the escapes of unreserved characters; the others stay byte for byte.
fn decode_unreserved(path: &str) -> Result<Decoded, PathFault> {
    let mut text = String::with_capacity(path.len());
    // Everything decoded, only to see whether it is UTF-8.
    let mut octets = Vec::with_capacity(path.len());
    let mut encoded_slashes = false;
    let mut rest = path;
    while let Some((plain, after)) = rest.split_once('%') {
        text.push_str(plain);
        octets.extend_from_slice(plain.as_bytes());
        let at = path.len() - after.len() - 1;
        let (byte, digits, tail) = escape(after).ok_or(PathFault::Escape { at })?;
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(byte));
            }
            0..0x20 | 0x7F => return Err(PathFault::Control { at }),
            _ => {
                encoded_slashes |= matches!(byte, b'/' | b'\\');
                text.push('%');
                text.push_str(digits);
            }
        }
        octets.push(byte);
        rest = tail;
    }
    text.push_str(rest);
    octets.extend_from_slice(rest.as_bytes());
    str::from_utf8(&octets).map_err(|_error| PathFault::Utf8)?;
    Ok(Decoded { text, encoded_slashes })
}

/// The octet of an escape, its two digits, and what follows, for the text behind a `%`.
fn escape(after: &str) -> Option<(u8, &str, &str)> {
    let (digits, tail) = after.split_at_checked(2)?;
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    Some((u8::from_str_radix(digits, 16).ok()?, digits, tail))
}

/// `text` with every escape decoded once; malformed ones stay as they are.
pub(super) fn decode_once(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, after)) = rest.split_once('%') {
        octets.extend_from_slice(plain.as_bytes());
        // A malformed escape stays: its `%` is a `%`.
        let (byte, tail) = escape(after).map_or((b'%', after), |(byte, _, tail)| (byte, tail));
        octets.push(byte);
        rest = tail;
    }
    octets.extend_from_slice(rest.as_bytes());
    Cow::Owned(match String::from_utf8(octets) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

/// Whether a reader that decodes, takes `\` for `/` or drops parameters finds a dot segment
/// where there is none. Plain dot segments are no secret: they are resolved.
fn hides_dots(segment: &str) -> bool {
    if matches!(segment, "." | "..") {
        return false;
    }
    decode_once(segment)
        .split(['/', '\\'])
        .any(|piece| matches!(piece.split(';').next(), Some("." | "..")))
}

/// Resolves dot segments, then merges empty ones. In this order, as the contract has it:
/// `/a//../b` is `/a/b`, because `..` takes back the empty segment.
pub(super) fn resolve(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    // A last segment that is empty or a dot segment leaves a slash at the end.
    let mut slash_at_end = false;
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." => slash_at_end = last,
            ".." => {
                kept.pop();
                slash_at_end = last;
            }
            "" if last => slash_at_end = true,
            _ => kept.push(segment),
        }
    }
    let mut text = String::with_capacity(path.len());
    for segment in kept.into_iter().filter(|segment| !segment.is_empty()) {
        text.push('/');
        text.push_str(segment);
    }
    if slash_at_end || text.is_empty() {
        text.push('/');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(path: &str) -> Result<String, PathFault> {
        canonicalise(path).map(|canonical| canonical.respelled.unwrap_or_else(|| path.to_owned()))
    }

    #[test]
    fn every_spelling_of_a_path_becomes_one() {
        for (path, one) in [
            ("/", "/"),
            ("/a", "/a"),
            ("/a/", "/a/"),
            ("/a/b/c", "/a/b/c"),
            ("/A/b", "/A/b"),
            // Empty segments.
            ("//", "/"),
            ("///", "/"),
            ("//a", "/a"),
            ("/a//b", "/a/b"),
            ("/a///b//", "/a/b/"),
            // Dot segments.
            ("/.", "/"),
            ("/..", "/"),
            ("/./", "/"),
            ("/../", "/"),
            ("/a/.", "/a/"),
            ("/a/..", "/"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/b/../..", "/"),
            ("/a/b/../../../../c", "/c"),
            ("/../../etc/passwd", "/etc/passwd"),
            ("/a//../b", "/a/b"),
            ("/a/..//b", "/b"),
            ("/open/../admin", "/admin"),
            // What only looks like one.
            ("/...", "/..."),
            ("/.a", "/.a"),
            ("/..a", "/..a"),
            ("/a.", "/a."),
            ("/a..", "/a.."),
            ("/.well-known/x", "/.well-known/x"),
            // Unreserved characters.
            ("/%61dmin", "/admin"),
            ("/%41%5A%61%7a%30%39", "/AZaz09"),
            ("/%2D%2E%5F%7E", "/-._~"),
            ("/%7euser", "/~user"),
            ("/%2e", "/"),
            ("/%2e%2e", "/"),
            ("/%2E%2e/a", "/a"),
            ("/a/%2e%2e/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/a/%2e./b", "/b"),
            ("/a/%2E/b", "/a/b"),
            // The rest stays byte for byte.
            ("/a%20b", "/a%20b"),
            ("/a+b", "/a+b"),
            ("/%c3%a9", "/%c3%a9"),
            ("/%C3%a9", "/%C3%a9"),
            ("/é", "/é"),
            ("/%2561", "/%2561"),
            ("/%252e%252e/a", "/%252e%252e/a"),
            ("/%25", "/%25"),
            ("/%3B", "/%3B"),
            ("/a;x=1/b", "/a;x=1/b"),
            ("/a;..", "/a;.."),
            ("/a%3B..", "/a%3B.."),
            ("/%3F%23", "/%3F%23"),
            ("/users('a@b')/x,y:z!$&*=", "/users('a@b')/x,y:z!$&*="),
            ("/\"<>^`{|}", "/\"<>^`{|}"),
            ("/%E2%82%AC/%f0%9f%98%80", "/%E2%82%AC/%f0%9f%98%80"),
            // Encoded slashes are refused, or not, by the route.
            ("/a%2Fb", "/a%2Fb"),
            ("/a%2fb%5Cc%5c", "/a%2fb%5Cc%5c"),
        ] {
            assert_eq!(spelled(path).as_deref(), Ok(one), "{path}");
            assert_eq!(spelled(one).as_deref(), Ok(one), "{path} again");
        }
    }

    #[test]
    fn a_path_that_can_be_read_in_two_ways_is_refused() {
        for path in [
            "",
            "*",
            "a",
            "a/b",
            "\\a",
            "/a\\b",
            "/a\\..\\b",
            "/a#b",
            "/#",
            "/a?b",
            "/a b",
            "/a\tb",
            "/a\u{0}b",
            "/a\u{7f}",
            "/a\r\nb",
            "/%00",
            "/a%00.html",
            "/a%0d%0ab",
            "/a%1F",
            "/a%7f",
            "/%",
            "/%4",
            "/%zz",
            "/%4g",
            "/%u002f",
            "/%%34%31",
            "/% 41",
            "/%+1",
            "/%é",
            "/%ff",
            "/%c3",
            "/%c3x",
            "/%c0%af",
            "/%c0%ae%c0%ae/a",
            "/%e0%80%af",
            "/%f0%80%80%af",
            "/%ed%a0%80",
            "/%f4%90%80%80",
            "/..;/a",
            "/..;x",
            "/..;x=1/admin",
            "/.;/a",
            "/a/..;x/../b",
            "/..%3B/a",
            "/..%3bx",
            "/%2e%2e;x/a",
            "/%2e%2e%3bx/a",
            "/a%2F..",
            "/a%2f../b",
            "/..%2Fb",
            "/a%2F..%2Fb",
            "/a%2F%2e%2e%2Fb",
            "/a%5C..%5Cb",
            "/a%2f.%2fb",
            "/a%2f..;x%2fb",
        ] {
            assert!(spelled(path).is_err(), "{path:?} became {:?}", spelled(path));
        }
    }

    #[test]
    fn what_came_clean_is_not_copied_and_not_doubted() {
        for path in ["/", "/v1.0/me/messages", "/.well-known/x", "/caf\u{e9}"] {
            assert_eq!(canonicalise(path), Ok(Canonical::default()), "{path}");
        }
        assert!(!canonicalise("/%61").unwrap().doubtful);
        assert!(canonicalise("/%20").unwrap().doubtful);
        assert!(canonicalise("/a;b").unwrap().doubtful);
        assert!(canonicalise("/a%2fb").unwrap().encoded_slashes);
        assert!(canonicalise("/a%5cb").unwrap().encoded_slashes);
        assert!(!canonicalise("/a%252fb").unwrap().encoded_slashes);
    }
}
