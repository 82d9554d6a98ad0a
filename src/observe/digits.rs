//! Numbers and addresses as text, without the formatter: it took a third of the time of a log line.

use std::io::Write as _;
use std::net::IpAddr;

/// Appends `value` in decimal.
pub(crate) fn push_number(out: &mut Vec<u8>, mut value: u64) {
    // As many as `u64::MAX` has.
    let mut digits = [0; 20];
    let mut unused = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
        unused -= 1;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(unused..).unwrap_or_default());
}

/// Appends `address`: of IPv4 in four numbers, of IPv6 as RFC 5952 has it, without brackets.
pub(crate) fn push_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            let [first, rest @ ..] = address.octets();
            push_octet(out, first);
            for octet in rest {
                out.push(b'.');
                push_octet(out, octet);
            }
        }
        // Writing to a vector does not fail.
        IpAddr::V6(address) => write!(out, "{address}").unwrap_or_default(),
    }
}

fn push_octet(out: &mut Vec<u8>, octet: u8) {
    if octet >= 100 {
        out.push(b'0' + octet / 100);
    }
    if octet >= 10 {
        out.push(b'0' + octet / 10 % 10);
    }
    out.push(b'0' + octet % 10);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_formatter_has_it() {
        for value in [0, 9, 10, 255, u64::MAX] {
            let mut out = b"x".to_vec();
            push_number(&mut out, value);
            assert_eq!(out, format!("x{value}").into_bytes());
        }
        for address in ["0.9.10.99", "100.101.209.255", "::", "2001:db8::1"] {
            let mut out = Vec::new();
            push_address(&mut out, address.parse().unwrap());
            assert_eq!(String::from_utf8(out).unwrap(), address);
        }
    }
}
