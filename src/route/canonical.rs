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
    let mut seen = scan(path)?;
    let mut canonical = Canonical::default();
    if seen.is_plain() {
        return Ok(canonical);
    }
    let mut text = Cow::Borrowed(path);
    if seen.has(ESCAPE) {
        let decoded = decode_unreserved(path)?;
        canonical.encoded_slashes = decoded.encoded_slashes;
        // Dots may have come out of escapes.
        seen = scan(&decoded.text)?;
        text = Cow::Owned(decoded.text);
    }
    canonical.doubtful = seen.has(ESCAPE | PARAMETER);
    // A dot that stands for itself is in no escape any more: what hides is at the beginning of a
    // segment, or of what stands behind an encoded slash.
    let may_hide_dots = seen.is_behind_slash(DOT) || canonical.encoded_slashes;
    if canonical.doubtful && may_hide_dots && text.split('/').any(hides_dots) {
        return Err(PathFault::HiddenDots);
    }
    if seen.is_behind_slash(SLASH | DOT) {
        text = Cow::Owned(resolve(&text));
    }
    if let Cow::Owned(text) = text
        && text != path
    {
        canonical.respelled = Some(text);
    }
    Ok(canonical)
}

/// What one pass over the bytes finds: the kinds of bytes, and the kinds of those behind a slash.
struct Seen {
    kinds: u8,
    behind_slash: u8,
}

/// The kinds of bytes that a path is not plain with, as bits.
const SLASH: u8 = 1;
/// Behind a slash, the beginning of what may be a dot segment; `resolve` looks closer.
const DOT: u8 = 2;
const ESCAPE: u8 = 4;
const PARAMETER: u8 = 8;
const FORBIDDEN: u8 = 16;

/// The kind of each byte; 0 of most, the last one among them.
#[allow(clippy::indexing_slicing, reason = "the compiler does it, and there are 256 bytes")]
static KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut byte: u8 = 0;
    while byte < u8::MAX {
        kinds[byte as usize] = match byte {
            b'/' => SLASH,
            b'.' => DOT,
            b'%' => ESCAPE,
            b';' => PARAMETER,
            0..=b' ' | 0x7F | b'\\' | b'#' | b'?' => FORBIDDEN,
            _ => 0,
        };
        byte += 1;
    }
    kinds
};

impl Seen {
    fn has(&self, kind: u8) -> bool {
        self.kinds & kind != 0
    }

    fn is_behind_slash(&self, kind: u8) -> bool {
        self.behind_slash & kind != 0
    }

    /// Whether the path is canonical as it came.
    fn is_plain(&self) -> bool {
        !self.has(ESCAPE | PARAMETER) && !self.is_behind_slash(SLASH | DOT)
    }
}

fn scan(path: &str) -> Result<Seen, PathFault> {
    if !path.starts_with('/') {
        return Err(PathFault::NotAbsolute);
    }
    let mut seen = Seen { kinds: 0, behind_slash: 0 };
    let mut previous = 0;
    for byte in path.bytes() {
        let kind = kind(byte);
        seen.kinds |= kind;
        // All bits behind a slash, and none behind another byte.
        seen.behind_slash |= kind & (previous & SLASH).wrapping_neg();
        previous = kind;
    }
    if seen.has(FORBIDDEN)
        && let Some((at, byte)) =
            path.bytes().enumerate().find(|(_, byte)| kind(*byte) == FORBIDDEN)
    {
        return Err(PathFault::Byte { byte, at });
    }
    Ok(seen)
}

fn kind(byte: u8) -> u8 {
    KINDS.get(usize::from(byte)).copied().unwrap_or(FORBIDDEN)
}

struct Decoded {
    text: String,
    encoded_slashes: bool,
}

/// Decodes the escapes of unreserved characters; the others stay byte for byte.
fn decode_unreserved(path: &str) -> Result<Decoded, PathFault> {
    let mut text = String::with_capacity(path.len());
    let mut encoded_slashes = false;
    let mut beyond_ascii = false;
    let mut rest = path;
    while let Some((plain, after)) = rest.split_once('%') {
        text.push_str(plain);
        let at = path.len() - after.len() - 1;
        let (byte, digits, tail) = escape(after).ok_or(PathFault::Escape { at })?;
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(byte));
            }
            0..0x20 | 0x7F => return Err(PathFault::Control { at }),
            _ => {
                encoded_slashes |= matches!(byte, b'/' | b'\\');
                beyond_ascii |= !byte.is_ascii();
                text.push('%');
                text.push_str(digits);
            }
        }
        rest = tail;
    }
    text.push_str(rest);
    // Octets of ASCII among the characters of a text leave it one.
    if beyond_ascii && str::from_utf8(&octets(&text)).is_err() {
        return Err(PathFault::Utf8);
    }
    Ok(Decoded { text, encoded_slashes })
}

/// The octet of an escape, its two digits, and what follows, for the text behind a `%`.
fn escape(after: &str) -> Option<(u8, &str, &str)> {
    let (digits, tail) = after.split_at_checked(2)?;
    let mut octet = 0;
    for digit in digits.chars() {
        octet = octet * 16 + u8::try_from(digit.to_digit(16)?).ok()?;
    }
    Some((octet, digits, tail))
}

/// `text` with every escape decoded once; malformed ones stay as they are.
pub(super) fn decode_once(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    Cow::Owned(match String::from_utf8(octets(text)) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

/// The octets that `text` stands for; those of malformed escapes are their own.
fn octets(text: &str) -> Vec<u8> {
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
    octets
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
