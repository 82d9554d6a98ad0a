//! Finds links in a JSON body as it goes by, in chunks of any size, and puts others in their place.
//!
//! It reads JSON as a row of strings and what is between them, and builds nothing: a member is a
//! string behind `{` or `,`, a `:`, and another string. So depth costs nothing, memory is the one
//! link that is held back, and of a body that is no JSON, or in another encoding than UTF-8, every
//! byte passes as it came. What a link is, and what takes its place, is decided elsewhere.
//!
//! A name may be written with escapes (`next\u004cink`): it is the same member for whoever reads
//! the body.

use memchr::{memchr, memchr2};

use crate::limits::MAX_LINK_BYTES;

/// The members that hold links.
const NAMES: [&[u8]; 3] = [b"@odata.nextLink", b"@odata.deltaLink", b"nextLink"];

/// Puts other links in place of those in a body.
#[derive(Debug)]
pub(super) struct Scanner {
    place: Place,
    /// The last byte that is neither in a string nor white space; of a string, its quote.
    last: u8,
    /// The name that is read, as far as it is the beginning of one of [`NAMES`].
    name: Vec<u8>,
    /// The link that is read, without its quotes, as it is written.
    held: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Outside of strings.
    Between,
    /// In a string that may be one of [`NAMES`].
    Name(Escape),
    /// In another string.
    Text,
    /// In another string, behind a backslash.
    Escaped,
    /// Behind one of [`NAMES`]: a `:` is due.
    Colon,
    /// Behind its `:`.
    Value,
    /// In its value, a string.
    Link,
    /// The same, behind a backslash.
    LinkEscaped,
}

/// How much of an escape was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    None,
    Backslash,
    /// `\u` and so many of its four digits, with their value.
    Unicode {
        digits: u8,
        value: u32,
    },
}

impl Default for Scanner {
    fn default() -> Self {
        Self { place: Place::Between, last: 0, name: Vec::new(), held: Vec::new() }
    }
}

impl Scanner {
    /// Appends to `out` what becomes of the next bytes. `relink` gets each link as it is written,
    /// without quotes and with its escapes, and returns what is written in its place.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        relink: &mut dyn FnMut(&[u8]) -> Option<Vec<u8>>,
    ) {
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            rest = match self.place {
                Place::Between => self.between(rest, out),
                Place::Text => self.text(rest, out),
                Place::Link => self.link(rest, out, relink),
                Place::Escaped => {
                    out.push(byte);
                    self.place = Place::Text;
                    after
                }
                Place::LinkEscaped => {
                    self.held.push(byte);
                    self.place = Place::Link;
                    after
                }
                Place::Name(escape) => {
                    self.place = self.name(escape, byte);
                    // What is no name is looked at again, as a text.
                    if matches!(self.place, Place::Text | Place::Escaped) {
                        rest
                    } else {
                        out.push(byte);
                        after
                    }
                }
                Place::Colon | Place::Value if is_space(byte) => {
                    out.push(byte);
                    after
                }
                Place::Colon if byte == b':' => {
                    out.push(byte);
                    self.last = byte;
                    self.place = Place::Value;
                    after
                }
                Place::Value if byte == b'"' => {
                    out.push(byte);
                    self.last = byte;
                    self.held.clear();
                    self.place = Place::Link;
                    after
                }
                Place::Colon | Place::Value => {
                    self.place = Place::Between;
                    rest
                }
            };
        }
    }

    /// Appends to `out` what is still held back: the body has ended in the middle of a link.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
        self.place = Place::Text;
    }

    fn between<'b>(&mut self, bytes: &'b [u8], out: &mut Vec<u8>) -> &'b [u8] {
        let quote = memchr(b'"', bytes);
        let (before, rest) = divide(bytes, quote);
        if let Some(last) = before.iter().rfind(|byte| !is_space(**byte)) {
            self.last = *last;
        }
        out.extend_from_slice(before);
        let Some((quote, rest)) = rest.split_first() else { return rest };
        out.push(*quote);
        self.place = if matches!(self.last, b'{' | b',') {
            self.name.clear();
            Place::Name(Escape::None)
        } else {
            Place::Text
        };
        self.last = *quote;
        rest
    }

    fn text<'b>(&mut self, bytes: &'b [u8], out: &mut Vec<u8>) -> &'b [u8] {
        let (before, rest) = divide(bytes, memchr2(b'"', b'\\', bytes));
        out.extend_from_slice(before);
        let Some((mark, rest)) = rest.split_first() else { return rest };
        out.push(*mark);
        self.place = if *mark == b'"' { Place::Between } else { Place::Escaped };
        rest
    }

    /// The place behind one more byte of a name; [`Place::Text`] where it is none.
    fn name(&mut self, escape: Escape, byte: u8) -> Place {
        match (escape, byte) {
            (Escape::None, b'"') if NAMES.contains(&self.name.as_slice()) => Place::Colon,
            (Escape::None, b'"') => Place::Text,
            (Escape::None, b'\\') => Place::Name(Escape::Backslash),
            (Escape::None, byte) => self.named(byte),
            (Escape::Backslash, b'u') => Place::Name(Escape::Unicode { digits: 0, value: 0 }),
            // None of the names has what the short escapes stand for.
            (Escape::Backslash, _) => Place::Escaped,
            (Escape::Unicode { digits, value }, byte) => {
                let Some(digit) = char::from(byte).to_digit(16) else { return Place::Text };
                let value = value * 16 + digit;
                if digits < 3 {
                    return Place::Name(Escape::Unicode { digits: digits + 1, value });
                }
                u8::try_from(value).map_or(Place::Text, |byte| self.named(byte))
            }
        }
    }

    fn named(&mut self, byte: u8) -> Place {
        self.name.push(byte);
        if NAMES.iter().any(|name| name.starts_with(&self.name)) {
            Place::Name(Escape::None)
        } else {
            Place::Text
        }
    }

    fn link<'b>(
        &mut self,
        bytes: &'b [u8],
        out: &mut Vec<u8>,
        relink: &mut dyn FnMut(&[u8]) -> Option<Vec<u8>>,
    ) -> &'b [u8] {
        let (before, rest) = divide(bytes, memchr2(b'"', b'\\', bytes));
        self.held.extend_from_slice(before);
        if self.held.len() > MAX_LINK_BYTES {
            out.append(&mut self.held);
            self.place = Place::Text;
            return rest;
        }
        let Some((mark, rest)) = rest.split_first() else { return rest };
        if *mark == b'\\' {
            self.held.push(*mark);
            self.place = Place::LinkEscaped;
            return rest;
        }
        match relink(&self.held) {
            Some(mut link) => out.append(&mut link),
            None => out.extend_from_slice(&self.held),
        }
        self.held.clear();
        out.push(*mark);
        self.place = Place::Between;
        rest
    }
}

fn divide(bytes: &[u8], at: Option<usize>) -> (&[u8], &[u8]) {
    at.and_then(|at| bytes.split_at_checked(at)).unwrap_or((bytes, &[]))
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// The text of a string of JSON, and how it was written.
#[derive(Debug)]
pub(super) struct Written<'w> {
    raw: &'w [u8],
    text: String,
    /// Where the query or the fragment begins, in `text` and as it is written.
    tail: (usize, usize),
    /// How its first slash is written.
    slash: &'w [u8],
}

impl<'w> Written<'w> {
    /// Reads what stands between two quotes; `None` if it is no string of JSON.
    pub(super) fn read(raw: &'w [u8]) -> Option<Self> {
        let mut text = Vec::with_capacity(raw.len());
        let mut tail = None;
        let mut slash: Option<&[u8]> = None;
        let mut rest = raw;
        while let Some((&byte, after)) = rest.split_first() {
            let before = (text.len(), raw.len() - rest.len());
            let behind = if byte == b'\\' {
                unescape(after, &mut text)?
            } else {
                text.push(byte);
                after
            };
            match text.last() {
                Some(b'/') if slash.is_none() => slash = rest.get(..rest.len() - behind.len()),
                Some(b'?' | b'#') if tail.is_none() => tail = Some(before),
                _ => {}
            }
            rest = behind;
        }
        let tail = tail.unwrap_or((text.len(), raw.len()));
        let text = String::from_utf8(text).ok()?;
        Some(Self { raw, text, tail, slash: slash.unwrap_or(b"/") })
    }

    /// Up to the query or the fragment.
    pub(super) fn path(&self) -> &str {
        self.text.get(..self.tail.0).unwrap_or_default()
    }

    /// The query or the fragment with its mark, if there is one.
    pub(super) fn tail(&self) -> &str {
        self.text.get(self.tail.0..).unwrap_or_default()
    }

    /// Another text up to the query, its slashes written as those of this one, and the rest of
    /// it as it was written.
    pub(super) fn with_path(&self, path: &str) -> Vec<u8> {
        let tail = self.raw.get(self.tail.1..).unwrap_or_default();
        let mut written = Vec::with_capacity(path.len() + tail.len());
        for byte in path.bytes() {
            match byte {
                b'/' => written.extend_from_slice(self.slash),
                b'"' | b'\\' => written.extend_from_slice(&[b'\\', byte]),
                _ => written.push(byte),
            }
        }
        written.extend_from_slice(tail);
        written
    }
}

/// Reads what is behind a backslash; returns what is behind that.
fn unescape<'b>(bytes: &'b [u8], text: &mut Vec<u8>) -> Option<&'b [u8]> {
    let (&mark, rest) = bytes.split_first()?;
    text.push(match mark {
        b'"' | b'\\' | b'/' => mark,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'u' => {
            let (first, mut rest) = unit(rest)?;
            let character = if (0xD800..0xDC00).contains(&first) {
                let (second, behind) = unit(rest.strip_prefix(b"\\u")?)?;
                rest = behind;
                let low = second.checked_sub(0xDC00).filter(|low| *low < 0x400)?;
                0x10000 + (first - 0xD800) * 0x400 + low
            } else {
                first
            };
            let character = char::from_u32(character)?;
            text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(rest);
        }
        _ => return None,
    });
    Some(rest)
}

/// Four hexadecimal digits.
fn unit(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = bytes.split_at_checked(4)?;
    let value = digits
        .iter()
        .try_fold(0, |value, digit| Some(value * 16 + char::from(*digit).to_digit(16)?))?;
    Some((value, rest))
}

#[cfg(test)]
mod tests;
