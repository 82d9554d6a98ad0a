//! The PROXY protocol, versions 1 and 2: what a load balancer writes in front of a connection to
//! say whose it is (`proxy-protocol.txt` of haproxy, sections 2.1 and 2.2).
//!
//! It decides whether bytes are such a header, where it ends, and which address it names. It
//! reads nothing by itself ([`super::proxied`] does), and who may send one is not its question: the
//! listener's `proxy_protocol` says that whoever reaches that port may.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::limits::MAX_PROXY_HEADER_BYTES;

/// What version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// What version 1 begins with.
const WORD: &[u8] = b"PROXY ";
/// The longest line of version 1, its CRLF included (section 2.1).
const MAX_LINE_BYTES: usize = 107;
/// The shortest: `PROXY UNKNOWN` and CRLF.
const MIN_LINE_BYTES: usize = 15;
/// Signature, version and command, family and transport, length of the rest.
const FIXED_BYTES: usize = 16;
/// `PP2_TYPE_CRC32C`.
const CRC32C: u8 = 0x03;

/// Why bytes are no header: a sentence for the operator.
pub(crate) type Fault = &'static str;

/// What bytes are that may be the beginning of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// All is well so far, and at least so many bytes of the header are missing. What is behind
    /// them is perhaps not the header's.
    Missing(usize),
    /// A whole header.
    Header {
        /// How many of the bytes it has.
        length: usize,
        /// Who connected to the load balancer; `None` where it speaks for itself, or does not know.
        source: Option<SocketAddr>,
    },
}

/// Reads a header from its first byte.
///
/// # Errors
///
/// The bytes can't be, or become, a header.
pub(crate) fn parse(bytes: &[u8]) -> Result<Parsed, Fault> {
    if begins_alike(bytes, WORD) {
        return line(bytes);
    }
    if begins_alike(bytes, SIGNATURE) {
        return binary(bytes);
    }
    Err("the connection does not begin with a PROXY header")
}

/// Whether `bytes` have `beginning`, as far as they go.
fn begins_alike(bytes: &[u8], beginning: &[u8]) -> bool {
    bytes.iter().zip(beginning).all(|(byte, expected)| byte == expected)
}

/// Version 1: `PROXY TCP4 192.0.2.1 192.0.2.2 51000 443` and CRLF.
fn line(bytes: &[u8]) -> Result<Parsed, Fault> {
    let window = bytes.get(..bytes.len().min(MAX_LINE_BYTES)).unwrap_or_default();
    let Some(end) = window.iter().position(|byte| *byte == b'\n') else {
        if window.len() == MAX_LINE_BYTES {
            return Err("a PROXY line is longer than 107 bytes");
        }
        let least = if window.ends_with(b"\r") { 1 } else { 2 };
        return Ok(Parsed::Missing(MIN_LINE_BYTES.saturating_sub(window.len()).max(least)));
    };
    let text = window.get(..end).and_then(|text| text.strip_suffix(b"\r"));
    let text = text.ok_or("a PROXY line does not end in CRLF")?;
    let text = std::str::from_utf8(text).map_err(|_invalid| "a PROXY line is not ASCII")?;
    let mut words = text.split(' ').skip(1);
    let source = match words.next() {
        // Whatever else is in the line is to be ignored.
        Some("UNKNOWN") => None,
        Some("TCP4") => Some(ends(words, |word| word.parse().ok().map(IpAddr::V4))?),
        Some("TCP6") => Some(ends(words, |word| word.parse().ok().map(IpAddr::V6))?),
        _ => return Err("a PROXY line is of no known family (TCP4, TCP6, UNKNOWN)"),
    };
    Ok(Parsed::Header { length: end + 1, source })
}

/// The source of a line: two addresses and two ports, and nothing else.
fn ends<'w>(
    mut words: impl Iterator<Item = &'w str>,
    address: impl Fn(&str) -> Option<IpAddr>,
) -> Result<SocketAddr, Fault> {
    let mut addresses = || words.next().and_then(&address);
    let (Some(source), Some(_destination)) = (addresses(), addresses()) else {
        return Err("a PROXY line has no two addresses of its family");
    };
    let mut ports = || words.next().and_then(port);
    let (Some(port), Some(_destination), None) = (ports(), ports(), words.next()) else {
        return Err("a PROXY line does not end with two ports");
    };
    Ok(whole(source, port))
}

/// Digits without a sign or leading zeros.
fn port(word: &str) -> Option<u16> {
    let digits = word.bytes().all(|byte| byte.is_ascii_digit());
    let padded = word.len() > 1 && word.starts_with('0');
    if digits && !padded { word.parse().ok() } else { None }
}

/// An IPv4 address in IPv6 is that IPv4 address.
fn whole(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address.to_canonical(), port)
}

/// Version 2.
fn binary(bytes: &[u8]) -> Result<Parsed, Fault> {
    let Some((fixed, rest)) = bytes.split_at_checked(FIXED_BYTES) else {
        return Ok(Parsed::Missing(FIXED_BYTES - bytes.len()));
    };
    let &[.., version_and_command, family, high, low] = fixed else {
        return Err("a PROXY header is cut off");
    };
    let is_local = match version_and_command {
        0x20 => true,
        0x21 => false,
        _ => return Err("a PROXY header is of an unknown version or command"),
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if FIXED_BYTES + length > MAX_PROXY_HEADER_BYTES {
        return Err("a PROXY header is too large");
    }
    let Some(block) = rest.get(..length) else {
        return Ok(Parsed::Missing(length - rest.len()));
    };
    // The load balancer asks for itself: whatever else it says is to be skipped.
    let source = if is_local {
        None
    } else {
        let (source, extensions) = addresses(family, block)?;
        let whole = bytes.get(..FIXED_BYTES + length).unwrap_or_default();
        check_extensions(whole, extensions)?;
        source
    };
    Ok(Parsed::Header { length: FIXED_BYTES + length, source })
}

/// The source, and what is behind the addresses.
fn addresses(family: u8, block: &[u8]) -> Result<(Option<SocketAddr>, &[u8]), Fault> {
    const SHORT: Fault = "a PROXY header is too short for its addresses";
    match family {
        // Not known to the load balancer.
        0x00 => Ok((None, block)),
        // TCP over IPv4: two addresses, two ports.
        0x11 => {
            let ([a, b, c, d, _, _, _, _, high, low, _, _], rest) =
                block.split_first_chunk::<12>().ok_or(SHORT)?;
            let port = u16::from_be_bytes([*high, *low]);
            Ok((Some(whole(Ipv4Addr::new(*a, *b, *c, *d).into(), port)), rest))
        }
        // TCP over IPv6.
        0x21 => {
            let (pair, rest) = block.split_first_chunk::<36>().ok_or(SHORT)?;
            let (source, others) = pair.split_first_chunk::<16>().ok_or(SHORT)?;
            let (_destination, ports) = others.split_first_chunk::<16>().ok_or(SHORT)?;
            let (port, _) = ports.split_first_chunk::<2>().ok_or(SHORT)?;
            let port = u16::from_be_bytes(*port);
            Ok((Some(whole(Ipv6Addr::from(*source).into(), port)), rest))
        }
        // Unix sockets: two paths of 108 bytes, and no address of the network.
        0x31 => Ok((None, block.get(216..).ok_or(SHORT)?)),
        _ => Err("a PROXY header is of a family or transport that is not TCP"),
    }
}

/// Goes over the type-length-values: they fill the rest exactly, and a checksum holds.
fn check_extensions(header: &[u8], mut rest: &[u8]) -> Result<(), Fault> {
    const BROKEN: Fault = "a PROXY header has an extension that is longer than the header";
    while let Some((&kind, behind)) = rest.split_first() {
        let (length, behind) = behind.split_first_chunk::<2>().ok_or(BROKEN)?;
        let (value, behind) =
            behind.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or(BROKEN)?;
        if kind == CRC32C {
            let given: [u8; 4] =
                value.try_into().map_err(|_length| "a PROXY header's checksum has not 4 bytes")?;
            // It was made over the header with zeros in its own place (section 2.2.3).
            let before = header.len() - behind.len() - value.len();
            let parts = [header.get(..before).unwrap_or_default(), &[0; 4], behind];
            if crc32c(&parts) != u32::from_be_bytes(given) {
                return Err("a PROXY header's checksum is wrong");
            }
        }
        rest = behind;
    }
    Ok(())
}

/// CRC-32C (Castagnoli), bit by bit: a header is short, and there is one for each connection.
fn crc32c(parts: &[&[u8]]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut crc = u32::MAX;
    for byte in parts.iter().copied().flatten() {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
mod tests;
