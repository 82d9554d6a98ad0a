//! Makes values that callers send harmless in a log: no value can end its line or its field.

use std::io::Write as _;

use crate::limits::MAX_LOGGED_VALUE_BYTES;

/// Appends `value` in double quotes with the escapes of JSON (RFC 8259 §7).
///
/// Beyond what JSON asks for, everything that is neither visible ASCII, a space, a letter nor
/// a digit is escaped: control characters of all kinds, line separators, and what turns the
/// direction of text on a terminal.
pub(crate) fn push_quoted(out: &mut Vec<u8>, value: &str) {
    out.push(b'"');
    let kept = shortened(value);
    let plain = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    // No early end, so that many bytes are compared at once: nearly every value is plain.
    if kept.bytes().fold(true, |all, byte| all & plain(byte)) {
        out.extend_from_slice(kept.as_bytes());
    } else {
        push_escaped_text(out, kept);
    }
    if kept.len() < value.len() {
        out.extend_from_slice(b"...");
    }
    out.push(b'"');
}

fn push_escaped_text(out: &mut Vec<u8>, text: &str) {
    for c in text.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            c if matches!(c, ' '..='~') || c.is_alphanumeric() => {
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            c => push_escaped(out, c),
        }
    }
}

/// Appends `value` as it stands if it can't be mistaken for anything else, else quoted.
pub(crate) fn push_bare_or_quoted(out: &mut Vec<u8>, value: &str) {
    let bare = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'=');
    let short = value.len() <= MAX_LOGGED_VALUE_BYTES;
    if short && !matches!(value, "" | "-") && value.bytes().all(bare) {
        out.extend_from_slice(value.as_bytes());
    } else {
        push_quoted(out, value);
    }
}

fn shortened(value: &str) -> &str {
    let end = value.floor_char_boundary(MAX_LOGGED_VALUE_BYTES);
    value.get(..end).unwrap_or(value)
}

fn push_escaped(out: &mut Vec<u8>, c: char) {
    let mut units = [0; 2];
    for unit in c.encode_utf16(&mut units) {
        // Writing to memory does not fail.
        write!(out, "\\u{unit:04x}").unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quoted(value: &str) -> String {
        let mut out = Vec::new();
        push_quoted(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_quoted_reads_back_as_it_was_and_holds_no_control() {
        for value in
            ["", "plain", "a\"b\\c", "x\r\ny\tz\0", "\u{85}\u{2028}\u{202e}\u{9b}2J", "grün 𝒜 🚀"]
        {
            let out = quoted(value);
            assert_eq!(serde_json::from_str::<String>(&out).unwrap(), value);
            assert!(!out.chars().any(|c| c.is_control() || "\u{2028}\u{202e}".contains(c)));
        }
        assert_eq!(quoted("grün"), "\"grün\"");
    }

    #[test]
    fn long_values_are_cut() {
        let out = quoted(&"ü".repeat(MAX_LOGGED_VALUE_BYTES));
        assert_eq!(out.len(), MAX_LOGGED_VALUE_BYTES + "\"...\"".len());
        let whole = "x".repeat(MAX_LOGGED_VALUE_BYTES);
        assert_eq!(quoted(&whole), format!("\"{whole}\""));
    }

    #[test]
    fn only_unmistakable_values_stand_bare() {
        let mut out = Vec::new();
        for value in ["/a/b", "-", "", "a b", "a=b", "ü"] {
            push_bare_or_quoted(&mut out, value);
            out.push(b' ');
        }
        assert_eq!(String::from_utf8(out).unwrap(), r#"/a/b "-" "" "a b" "a=b" "ü" "#);
    }
}
