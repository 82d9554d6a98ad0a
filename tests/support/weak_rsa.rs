//! RSA as it must be refused: a modulus of 1,024 bits, and the exponent 1.
//!
//! aws-lc-rs rightly makes and uses neither, so this signs by hand (RSASSA-PKCS1-v1_5 with
//! SHA-256, RFC 8017 §8.2.1). The key is fixed and worth nothing.

use aws_lc_rs::digest::{SHA256, digest};

const MODULUS: &str = "b3ae762295f883a38590a17030eae602caaa03da886b9306d54f8d511d1213a5\
6a46510d201bfa75650a4eab02559f172361137589a217f7572b4eb7a2108eef\
2e57fdd1a7620ed256020623467bd7f14379f9efb2a527594b7622e5b9712e66\
491fffe525e59dfd5a15ec88ca4292e301fa8f35084e8d6a60356e22c86c6d77";
const PRIVATE_EXPONENT: &str = "7f9b23fcd6032301eba6567085dd1cb2d8d93b5964cef920be36fc06a21da764\
2f8076a95aa7640d214fdba4a948c36e3c4b01f5d464109f3101e9aa92672e0a\
4fb22228de06a6f3863c798e6706772caa439e4b56008bc522ec3232e9966c9e\
6c4077bcc92b3e2c092fcfa8e4d1306bdc3c80193f9f445f47b2366ba266f7c9";

/// A number, 32 bits a limb, the lowest first.
type Limbs = Vec<u32>;

/// The modulus, big-endian.
pub fn modulus() -> Vec<u8> {
    bytes(&limbs(&hex(MODULUS)))
}

/// Signs `message` with the 1,024-bit key.
pub fn sign(message: &[u8]) -> Vec<u8> {
    let modulus = limbs(&hex(MODULUS));
    let one = limbs(&[&[0; 127][..], &[1]].concat());
    let base = montgomery(limbs(&encoded(message, 128)), &modulus);
    let mut power = montgomery(one.clone(), &modulus);
    for bit in
        hex(PRIVATE_EXPONENT).iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1))
    {
        power = times(&power, &power, &modulus);
        if bit == 1 {
            power = times(&power, &base, &modulus);
        }
    }
    bytes(&times(&power, &one, &modulus))
}

/// The "signature" of `message` that any key of `length` bytes with exponent 1 verifies.
pub fn forge_for_exponent_one(message: &[u8], length: usize) -> Vec<u8> {
    encoded(message, length)
}

/// EMSA-PKCS1-v1_5 (RFC 8017 §9.2).
fn encoded(message: &[u8], length: usize) -> Vec<u8> {
    const SHA256_INFO: [u8; 19] = [
        0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01,
        0x05, 0x00, 0x04, 0x20,
    ];
    let hash = digest(&SHA256, message);
    let padding = vec![0xff; length - 3 - SHA256_INFO.len() - hash.as_ref().len()];
    [&[0, 1], padding.as_slice(), &[0], &SHA256_INFO, hash.as_ref()].concat()
}

/// `number * R mod modulus`, where R is 2 to the bits of the modulus: by doubling.
fn montgomery(number: Limbs, modulus: &Limbs) -> Limbs {
    (0..modulus.len() * 32).fold(number, |number, _| plus(&number, &number, modulus))
}

/// `a * b / R mod modulus` (Montgomery's product, limb by limb).
fn times(a: &Limbs, b: &Limbs, modulus: &Limbs) -> Limbs {
    // The inverse of the lowest limb, by Newton: each step doubles the bits that are right.
    let inverse =
        (0..5).fold(1_u32, |x, _| x.wrapping_mul(2_u32.wrapping_sub(modulus[0].wrapping_mul(x))));
    let size = modulus.len();
    let mut sum = vec![0_u32; size + 2];
    for limb in a {
        add_product(&mut sum, *limb, b);
        let factor = sum[0].wrapping_mul(inverse).wrapping_neg();
        add_product(&mut sum, factor, modulus);
        sum.remove(0);
        sum.push(0);
    }
    let over = sum[size] > 0;
    sum.truncate(size);
    reduced(sum, over, modulus)
}

/// `sum += limb * number`.
fn add_product(sum: &mut [u32], limb: u32, number: &Limbs) {
    let mut carry = 0;
    for (at, place) in sum.iter_mut().enumerate() {
        let other = number.get(at).copied().unwrap_or(0);
        carry += u64::from(*place) + u64::from(limb) * u64::from(other);
        *place = low(carry);
        carry >>= 32;
    }
}

fn plus(a: &Limbs, b: &Limbs, modulus: &Limbs) -> Limbs {
    let mut carry = 0;
    let sum: Limbs = a
        .iter()
        .zip(b)
        .map(|(a, b)| {
            carry += u64::from(*a) + u64::from(*b);
            let limb = low(carry);
            carry >>= 32;
            limb
        })
        .collect();
    reduced(sum, carry == 1, modulus)
}

/// `sum`, with one more limb of 1 if it is `over`, less the modulus if it is not below it.
fn reduced(mut sum: Limbs, over: bool, modulus: &Limbs) -> Limbs {
    if over || sum.iter().rev().ge(modulus.iter().rev()) {
        let mut borrow = 0;
        for (limb, modulus) in sum.iter_mut().zip(modulus) {
            let taken = u64::from(*modulus) + borrow;
            borrow = u64::from(u64::from(*limb) < taken);
            *limb = low(u64::from(*limb).wrapping_sub(taken));
        }
    }
    sum
}

#[allow(clippy::cast_possible_truncation, reason = "the low limb is what is wanted")]
fn low(wide: u64) -> u32 {
    wide as u32
}

fn hex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn limbs(bytes: &[u8]) -> Limbs {
    bytes.rchunks(4).map(|limb| u32::from_be_bytes(limb.try_into().unwrap())).collect()
}

fn bytes(limbs: &Limbs) -> Vec<u8> {
    limbs.iter().rev().flat_map(|limb| limb.to_be_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{
        RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, RsaPublicKeyComponents,
    };

    #[test]
    fn the_weak_key_really_signs() {
        let key = RsaPublicKeyComponents { n: modulus(), e: vec![1, 0, 1] };
        let algorithm = &RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY;
        key.verify(algorithm, b"message", &sign(b"message")).unwrap();
        key.verify(algorithm, b"other", &sign(b"message")).unwrap_err();
    }
}
