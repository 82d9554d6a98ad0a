//! Points of Ed25519 that are no keys: those of small order. Under one of them a signature can be made
//! that holds for many messages, or for all, by anybody (RFC 8032 leaves it to the verifier to refuse them).

/// The y coordinates of the points whose order divides 8, and the encodings above the prime that are read as
/// one of them; the bit that tells x from −x is 0 here.
const SMALL_ORDER: [[u8; 32]; 7] = [
    // 0, of order 4.
    [0; 32],
    // 1, the neutral element.
    ends([0x01, 0x00, 0x00, 0x00], 0x00, 0x00),
    // Two of order 8.
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
    // p − 1, of order 2; p and p + 1, which are 0 and 1.
    ends([0xec, 0xff, 0xff, 0xff], 0xff, 0x7f),
    ends([0xed, 0xff, 0xff, 0xff], 0xff, 0x7f),
    ends([0xee, 0xff, 0xff, 0xff], 0xff, 0x7f),
];

/// `first`, then `filler`, and `last` at the end.
const fn ends(first: [u8; 4], filler: u8, last: u8) -> [u8; 32] {
    let mut bytes = [filler; 32];
    [bytes[0], bytes[1], bytes[2], bytes[3]] = first;
    bytes[31] = last;
    bytes
}

/// Whether `point`, as RFC 8032 §5.1.2 encodes it, is of small order.
pub(super) fn is_small(point: &[u8]) -> bool {
    let Some((sign_and_top, rest)) = point.split_last() else { return false };
    SMALL_ORDER.iter().any(|small| small.split_last() == Some((&(sign_and_top & 0x7f), rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_them_whatever_their_sign() {
        for mut point in SMALL_ORDER {
            assert!(is_small(&point));
            point[31] |= 0x80;
            assert!(is_small(&point));
            point[7] ^= 1;
            assert!(!is_small(&point), "its neighbour is another point, or none");
        }
        // The base point: y is 4/5.
        let mut base = [0x66; 32];
        base[0] = 0x58;
        assert!(!is_small(&base));
        assert!(!is_small(&[]) && !is_small(&[0; 31]));
    }
}
