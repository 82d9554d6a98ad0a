use super::super::fuzzing::{linking, reference, scanned};
use super::*;
use proptest::prelude::*;

/// A body in which every link was replaced by `NEW` and its own text in brackets.
fn scan(body: &[u8], piece: usize) -> Vec<u8> {
    scanned(body, piece, &mut |raw| Some([b"NEW[", raw, b"]"].concat()))
}

#[test]
fn which_strings_are_links() {
    for (body, links) in [
        (r#"{"nextLink":"a"}"#, vec!["a"]),
        (r#"{"@odata.nextLink":"a","@odata.deltaLink" : "b"}"#, vec!["a", "b"]),
        ("\u{feff} {\n\t\"nextLink\"\r\n :\n \"a\" }", vec!["a"]),
        (r#"{"x":[{"y":{"nextLink":"a\\\"b"}}]}"#, vec![r#"a\\\"b"#]),
        (r#"{"nextLink":"a","nextLink":"b"}"#, vec!["a", "b"]),
        (r#"{"next\u004cink":"a","\u0040odata.nextLink":"b"}"#, vec!["a", "b"]),
        (r#"{"nextLink":""}"#, vec![""]),
        ("{\"nextLink\":\"a\"}\n{\"nextLink\":\"b\"}", vec!["a", "b"]),
        // Neither member nor string.
        (r#"["nextLink","a"]"#, vec![]),
        (r#"{"x":"nextLink","y":"a"}"#, vec![]),
        (r#"{"x":"\"nextLink\":\"a\""}"#, vec![]),
        (r#"{"nextLink":null,"x":"a"}"#, vec![]),
        (r#"{"nextLink":["a"]}"#, vec![]),
        (r#"{"nextLink":{"x":"a"}}"#, vec![]),
        (r#"{"nextLink":1,"x":"a"}"#, vec![]),
        // Other names.
        (r#"{"nextlink":"a","NextLink":"a","nextLinks":"a","nextLin":"a","":"a"}"#, vec![]),
        (r#"{"x@odata.nextLink":"a","@odata.context":"a","uploadUrl":"a"}"#, vec![]),
        (r#"{"next\/Link":"a","next\u004dink":"a","\"nextLink":"a","n\\":"a"}"#, vec![]),
        (r#"{"\u00":"a","\nextLink":"a","next\u104cink":"a"}"#, vec![]),
        // No JSON.
        (r#"["nextLink":"a"]"#, vec![]),
        (r#""nextLink":"a""#, vec![]),
        (r#"{"nextLink" "a"}"#, vec![]),
        (r#"{"nextLink"::"a"}"#, vec![]),
        (r#"{"nextLink":"a"#, vec![]),
        (r#"{"nextLink":"a\"#, vec![]),
    ] {
        for piece in 1..=body.len() {
            let mut found = Vec::new();
            let same = scanned(body.as_bytes(), piece, &mut |raw| {
                found.push(String::from_utf8(raw.to_vec()).unwrap());
                None
            });
            assert_eq!(found, links, "{body} in pieces of {piece}");
            assert_eq!(same, body.as_bytes(), "{piece}");
        }
    }
}

#[test]
fn a_link_is_held_back_up_to_its_limit() {
    for (length, replaced) in [(MAX_LINK_BYTES, true), (MAX_LINK_BYTES + 1, false)] {
        let link = "x".repeat(length);
        let body = format!(r#"{{"nextLink":"{link}","nextLink":"y"}}"#);
        let first = if replaced { format!("NEW[{link}]") } else { link };
        let expected = format!(r#"{{"nextLink":"{first}","nextLink":"NEW[y]"}}"#);
        for piece in [1, 1000, body.len()] {
            assert!(scan(body.as_bytes(), piece) == expected.as_bytes(), "{length} {piece}");
        }
    }
}

#[test]
fn memory_is_bounded_whatever_comes() {
    let mut scanner = Scanner::default();
    let mut out = Vec::new();
    let mut passed = 0;
    let mut feed = |bytes: &[u8]| {
        scanner.feed(bytes, &mut out, &mut |_| None);
        passed += out.len();
        out.clear();
        let held = scanner.held.capacity() + scanner.name.capacity();
        assert!(held <= 2 * (MAX_LINK_BYTES + bytes.len()) + 64, "{held}");
    };
    let mut sent = 0;
    for (start, chunk, count) in [
        // Depth, a string without an end, one of backslashes, a link without an end, a name.
        ("", [b'['; 1000], 1_000),
        ("{\"x\":\"", [b'y'; 1000], 10_000),
        ("\",\"x\":\"", [b'\\'; 1000], 1_000),
        ("\\\\\",\"nextLink\":\"", [b'\\'; 1000], 1_000),
        ("\",\"nextLink\":\"", [b'z'; 1000], 10_000),
        ("\",\"", [b'@'; 1000], 1_000),
        ("\",\"nextLink\"", [b' '; 1000], 1_000),
    ] {
        feed(start.as_bytes());
        sent += start.len();
        for _ in 0..count {
            feed(&chunk);
            sent += chunk.len();
        }
    }
    assert_eq!(passed, sent);
}

#[test]
fn a_link_is_written_as_the_other_was() {
    for (raw, text, tail, written) in [
        ("https://h/a?b=1", "https://h/a", "?b=1", "https://g/n?b=1"),
        (r"https:\/\/h\/a?b=\/", "https://h/a", "?b=/", r"https:\/\/g\/n?b=\/"),
        (
            r"https:\u002f\u002Fh/a?b\u0026c#d?",
            "https://h/a",
            "?b&c#d?",
            r"https:\u002f\u002fg\u002fn?b\u0026c#d?",
        ),
        (r"https://h/a\u003fb", "https://h/a", "?b", r"https://g/n\u003fb"),
        (r"\ud83d\ude00é", "😀é", "", "https://g/n"),
        (r#"\"\\\b\f\n\r\t"#, "\"\\\u{8}\u{c}\n\r\t", "", "https://g/n"),
    ] {
        let read = Written::read(raw.as_bytes()).unwrap();
        assert_eq!((read.path(), read.tail()), (text, tail), "{raw}");
        assert_eq!(String::from_utf8(read.with_path("https://g/n")).unwrap(), written, "{raw}");
    }
    for raw in [r"\", r"\x", r"\u12", r"\u12g4", r"\ud800", r"\ud800x", r"\ud800\u0041", r"\udc00"]
    {
        assert!(Written::read(raw.as_bytes()).is_none(), "{raw}");
    }
    assert!(Written::read(b"https://h/\xff").is_none());
}

fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "\\",
        " ",
        "\n",
        "null",
        "1e5",
        "\"nextLink\"",
        "\"@odata.nextLink\"",
        "\"next\\u004cink\"",
        "\"@odata.\"",
        "\\u00",
        "\"https://h/a\"",
        "\"https:\\/\\/graph.example\\/v1.0?$skip\\u003d1\"",
        "\"https://graph.example/a\"",
        "é",
        "{\"nextLink\":",
        "\"x\":",
        "\u{feff}",
        "\0",
    ]);
    let text = proptest::collection::vec(piece, 0..20).prop_map(|all| all.concat().into_bytes());
    prop_oneof![9 => text, 1 => proptest::collection::vec(any::<u8>(), 0..60)]
}

proptest! {
    #[test]
    fn every_cut_gives_what_the_whole_gives(body in pieces(), piece in 1_usize..20) {
        let expected = reference(&body, &mut |raw| Some([b"NEW[", raw, b"]"].concat()));
        prop_assert_eq!(scan(&body, piece), expected);
        prop_assert_eq!(scanned(&body, piece, &mut |_| None), body);
    }

    #[test]
    fn what_is_replaced_is_what_a_parser_finds(body in pieces(), piece: u8) {
        super::super::fuzzing::links(&[&[piece], body.as_slice()].concat());
    }
}

#[test]
fn a_link_of_the_upstream_leads_to_the_gateway() {
    let linking = linking("graph.example", "/graph/{*rest}", "strip /graph");
    let raw = r"https:\/\/GRAPH.example:443\/v1.0\/me?$skiptoken=a%2Fb\u0026x";
    let read = Written::read(raw.as_bytes()).unwrap();
    let path = linking.relink(read.path(), read.tail()).unwrap();
    assert_eq!(
        String::from_utf8(read.with_path(&path)).unwrap(),
        r"http:\/\/gateway.example:8080\/graph\/v1.0\/me?$skiptoken=a%2Fb\u0026x"
    );
}
