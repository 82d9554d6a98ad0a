use proptest::prelude::*;

use super::*;

fn at(address: &str) -> Option<SocketAddr> {
    address.parse().ok()
}

/// A header of version 2 with this command byte, family and block.
fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[command, family], &length, block].concat()
}

const IPV4: &[u8] = &[203, 0, 113, 7, 10, 0, 0, 1, 0xc7, 0x38, 1, 0xbb];

fn ipv6() -> Vec<u8> {
    let address = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
    [&address("2001:db8::7")[..], &address("::1"), &[0xc7, 0x38, 1, 0xbb]].concat()
}

/// With a checksum of `crc`, or the right one.
fn with_checksum(extensions: &[u8], crc: Option<u32>) -> Vec<u8> {
    let block = |crc: u32| [IPV4, &[CRC32C, 0, 4], &crc.to_be_bytes(), extensions].concat();
    let right = crc32c(&[&v2(0x21, 0x11, &block(0))]);
    v2(0x21, 0x11, &block(crc.unwrap_or(right)))
}

/// `header` with a request behind it, whole and cut at each byte: the same comes out, nothing of
/// the request is asked for, and the reader gets there by what it is told is missing.
fn parsed(header: &[u8]) -> Option<SocketAddr> {
    let stream = [header, b"GET / HTTP/1.1\r\n"].concat();
    let Ok(Parsed::Header { length, source }) = parse(&stream) else {
        panic!("no header: {:?}", parse(&stream));
    };
    assert_eq!(length, header.len());
    for end in 0..length {
        match parse(&stream[..end]) {
            Ok(Parsed::Missing(more)) => {
                assert!(more > 0 && end + more <= length, "{more} at {end} of {length}");
            }
            other => panic!("{other:?} at {end} of {length}"),
        }
    }
    source
}

fn refused(bytes: &[u8]) -> Fault {
    // What is refused whole is refused, or asks for more, cut off; never taken for a header.
    for end in 0..bytes.len() {
        let cut = parse(&bytes[..end]);
        assert!(!matches!(cut, Ok(Parsed::Header { .. })), "{}", bytes.escape_ascii());
    }
    parse(bytes).expect_err("it is refused")
}

#[test]
fn lines_of_version_1() {
    for (line, source) in [
        ("PROXY TCP4 203.0.113.7 10.0.0.1 51000 443\r\n", at("203.0.113.7:51000")),
        ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", at("255.255.255.255:65535")),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 0 0\r\n", at("1.2.3.4:0")),
        ("PROXY TCP6 2001:db8::7 ::1 51000 443\r\n", at("[2001:db8::7]:51000")),
        ("PROXY TCP6 ::ffff:203.0.113.7 ::1 51000 443\r\n", at("203.0.113.7:51000")),
        (
            "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
            at("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
        ),
        ("PROXY UNKNOWN\r\n", None),
        (
            "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
            None,
        ),
    ] {
        assert_eq!(parsed(line.as_bytes()), source, "{line:?}");
    }
}

#[test]
fn lines_that_are_not_of_version_1() {
    for line in [
        "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "proxy TCP4 203.0.113.7 10.0.0.1 51000 443\r\n",
        " PROXY TCP4 203.0.113.7 10.0.0.1 51000 443\r\n",
        "PROXY\tTCP4 203.0.113.7 10.0.0.1 51000 443\r\n",
        "PROXY  TCP4 203.0.113.7 10.0.0.1 51000 443\r\n",
        "PROXY TCP4 203.0.113.7 10.0.0.1 51000 443\n",
        "PROXY TCP4 203.0.113.7 10.0.0.1 51000 443 \r\n",
        "PROXY TCP4 203.0.113.7 10.0.0.1 51000 443 1\r\n",
        "PROXY TCP4 203.0.113.7 10.0.0.1 51000\r\n",
        "PROXY TCP4 203.0.113.7  10.0.0.1 51000 443\r\n",
        "PROXY TCP4 203.0.113.7 10.0.0.1 051000 443\r\n",
        "PROXY TCP4 203.0.113.7 10.0.0.1 +51000 443\r\n",
        "PROXY TCP4 203.0.113.7 10.0.0.1 65536 443\r\n",
        "PROXY TCP4 203.0.113.7 10.0.0.1  443\r\n",
        "PROXY TCP4 203.0.113.07 10.0.0.1 51000 443\r\n",
        "PROXY TCP4 203.0.113.256 10.0.0.1 51000 443\r\n",
        "PROXY TCP4 2001:db8::7 ::1 51000 443\r\n",
        "PROXY TCP6 203.0.113.7 10.0.0.1 51000 443\r\n",
        "PROXY TCP6 [2001:db8::7] ::1 51000 443\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 51000 443\r\n",
        "PROXY UDP4 203.0.113.7 10.0.0.1 51000 443\r\n",
        "PROXY \r\n",
        "PROXY TCP4\r\n\r\n\r\n",
        "PROXY unknown\r\n\r\n",
        "PROXY TCP4 203.0.113.7 10.0.0.1 51000 443\r \r\n",
        "PROXY TCP4 203.0.113.7\0 10.0.0.1 51000 443\r\n",
    ] {
        refused(line.as_bytes());
    }
    refused(b"PROXY TCP4 \xff\xfe 10.0.0.1 51000 443\r\n");
    let long = |length: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(length - 16));
    assert_eq!(parsed(long(107).as_bytes()), None);
    assert_eq!(refused(long(108).as_bytes()), "a PROXY line is longer than 107 bytes");
}

#[test]
fn headers_of_version_2() {
    let peer = at("203.0.113.7:51000");
    let extensions = [0xea, 0, 2, 1, 2, 0x04, 0, 0];
    let unix = vec![b'/'; 216];
    for (header, source) in [
        (v2(0x21, 0x11, IPV4), peer),
        (v2(0x21, 0x11, &[IPV4, &extensions].concat()), peer),
        (v2(0x21, 0x21, &ipv6()), at("[2001:db8::7]:51000")),
        (v2(0x21, 0x21, &[&ipv6()[..], &extensions].concat()), at("[2001:db8::7]:51000")),
        (v2(0x21, 0x31, &unix), None),
        (v2(0x21, 0x31, &[&unix[..], &extensions].concat()), None),
        (v2(0x21, 0x00, &[]), None),
        (v2(0x21, 0x00, &extensions), None),
        // The load balancer's own: whatever is behind it is skipped.
        (v2(0x20, 0x00, &[]), None),
        (v2(0x20, 0x11, IPV4), None),
        (v2(0x20, 0xff, b"whatever"), None),
        (with_checksum(&[], None), peer),
        (with_checksum(&extensions, None), peer),
    ] {
        assert_eq!(parsed(&header), source, "{}", header.escape_ascii());
    }
    let mut mapped = ipv6();
    mapped[..16].copy_from_slice(&"::ffff:203.0.113.7".parse::<Ipv6Addr>().unwrap().octets());
    assert_eq!(parsed(&v2(0x21, 0x21, &mapped)), peer);
}

#[test]
fn headers_that_are_not_of_version_2() {
    for (header, fault) in [
        (v2(0x11, 0x11, IPV4), "a PROXY header is of an unknown version or command"),
        (v2(0x22, 0x11, IPV4), "a PROXY header is of an unknown version or command"),
        (v2(0x21, 0x12, IPV4), "a PROXY header is of a family or transport that is not TCP"),
        (v2(0x21, 0x01, &[]), "a PROXY header is of a family or transport that is not TCP"),
        (v2(0x21, 0x41, IPV4), "a PROXY header is of a family or transport that is not TCP"),
        (v2(0x21, 0x11, &IPV4[..11]), "a PROXY header is too short for its addresses"),
        (v2(0x21, 0x21, &ipv6()[..35]), "a PROXY header is too short for its addresses"),
        (v2(0x21, 0x31, &[0; 215]), "a PROXY header is too short for its addresses"),
        (
            v2(0x21, 0x11, &[IPV4, &[0xea, 0, 3, 1, 2]].concat()),
            "a PROXY header has an extension that is longer than the header",
        ),
        (
            v2(0x21, 0x11, &[IPV4, &[0xea]].concat()),
            "a PROXY header has an extension that is longer than the header",
        ),
        (
            v2(0x21, 0x11, &[IPV4, &[CRC32C, 0, 1, 0]].concat()),
            "a PROXY header's checksum has not 4 bytes",
        ),
        (with_checksum(&[], Some(1)), "a PROXY header's checksum is wrong"),
    ] {
        assert_eq!(refused(&header), fault, "{}", header.escape_ascii());
    }
    let mut signature = v2(0x21, 0x11, IPV4);
    signature[11] = b'\r';
    refused(&signature);
}

#[test]
fn a_header_of_version_2_has_a_size() {
    let filled = |length: usize| {
        let value = length - FIXED_BYTES - IPV4.len() - 3;
        let size = u16::try_from(value).unwrap().to_be_bytes();
        v2(0x21, 0x11, &[IPV4, &[0xea], &size, &vec![0; value]].concat())
    };
    assert_eq!(parsed(&filled(MAX_PROXY_HEADER_BYTES)), at("203.0.113.7:51000"));
    let large = filled(MAX_PROXY_HEADER_BYTES + 1);
    // As soon as it says so.
    assert_eq!(parse(&large[..FIXED_BYTES]), Err("a PROXY header is too large"));
}

#[test]
fn the_checksum_is_castagnolis() {
    assert_eq!(crc32c(&[b"123456789"]), 0xe306_9283);
    assert_eq!(crc32c(&[&[0; 32]]), 0x8a91_36aa);
    assert_eq!(crc32c(&[b"1234", b"", b"56789"]), 0xe306_9283);
}

proptest! {
    /// What a reader does: it follows what is said to be missing, and comes to the same end.
    #[test]
    fn a_source_survives_the_way(
        source: SocketAddr,
        destination: SocketAddr,
        binary: bool,
        rest: Vec<u8>,
    ) {
        let pair = match (source, destination) {
            (SocketAddr::V4(a), SocketAddr::V4(b)) => (
                format!("PROXY TCP4 {} {} {} {}\r\n", a.ip(), b.ip(), a.port(), b.port()),
                v2(0x21, 0x11, &[
                    &a.ip().octets()[..], &b.ip().octets(),
                    &a.port().to_be_bytes(), &b.port().to_be_bytes(),
                ].concat()),
            ),
            (a, b) => {
                let six = |address: IpAddr| match address {
                    IpAddr::V4(address) => address.to_ipv6_mapped(),
                    IpAddr::V6(address) => address,
                };
                let (from, to) = (six(a.ip()), six(b.ip()));
                (
                    format!("PROXY TCP6 {from} {to} {} {}\r\n", a.port(), b.port()),
                    v2(0x21, 0x21, &[
                        &from.octets()[..], &to.octets(),
                        &a.port().to_be_bytes(), &b.port().to_be_bytes(),
                    ].concat()),
                )
            }
        };
        let header = if binary { pair.1 } else { pair.0.into_bytes() };
        let stream = [&header[..], &rest].concat();
        let expected = SocketAddr::new(source.ip().to_canonical(), source.port());
        let mut read = 0;
        let found = loop {
            match parse(&stream[..read]).unwrap() {
                Parsed::Missing(more) => read += more,
                Parsed::Header { length, source } => {
                    prop_assert_eq!(length, read);
                    break source;
                }
            }
        };
        prop_assert_eq!(read, header.len());
        prop_assert_eq!(found, Some(expected));
    }

    #[test]
    fn no_bytes_make_it_panic_or_ask_for_too_much(
        which in 0..3_usize,
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let beginning: &[u8] = [&b""[..], WORD, SIGNATURE][which];
        let stream = [beginning, &bytes].concat();
        let mut read = 0;
        while let Ok(Parsed::Missing(more)) = parse(&stream[..read]) {
            prop_assert!(more > 0 && read + more <= MAX_PROXY_HEADER_BYTES);
            read += more;
            if read > stream.len() {
                break;
            }
        }
    }
}
