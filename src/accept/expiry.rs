//! When a certificate expires: the `notAfter` of its DER (RFC 5280 §4.1.2.5), for a metric.
//!
//! Nothing is trusted by this: it reads just far enough, and says `None` at the first byte
//! that it does not understand.

use crate::clock::UnixTime;
use crate::observe::timestamp::days_from_civil;

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// The last second in which the certificate `der` is valid.
pub(crate) fn not_after(der: &[u8]) -> Option<UnixTime> {
    let (certificate, _) = expect(der, SEQUENCE)?;
    let (mut tbs, _) = expect(certificate, SEQUENCE)?;
    if let Some((_, rest)) = expect(tbs, VERSION) {
        tbs = rest;
    }
    let (_serial, tbs) = expect(tbs, INTEGER)?;
    let (_algorithm, tbs) = expect(tbs, SEQUENCE)?;
    let (_issuer, tbs) = expect(tbs, SEQUENCE)?;
    let (validity, _) = expect(tbs, SEQUENCE)?;
    let (_, _, rest) = element(validity)?;
    match element(rest)? {
        (UTC_TIME, time, _) => {
            let (year, time) = digits(time, 2)?;
            // RFC 5280 §4.1.2.5.1: two digits stand for 1950 to 2049.
            seconds(if year < 50 { 2000 + year } else { 1900 + year }, time)
        }
        (GENERALIZED_TIME, time, _) => {
            let (year, time) = digits(time, 4)?;
            seconds(year, time)
        }
        _ => None,
    }
}

/// The content of the element that `der` begins with, if it is a `tag`, and what is behind it.
fn expect(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(der)?;
    (found == tag).then_some((content, rest))
}

/// Tag, content and rest.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, der) = der.split_first()?;
    let (&first, der) = der.split_first()?;
    let (length, der) = if first < 0x80 {
        (usize::from(first), der)
    } else {
        // The long form: so many bytes of length, at most 4 here.
        let (length, der) = der.split_at_checked(usize::from(first & 0x7f))?;
        if length.len() > 4 {
            return None;
        }
        (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), der)
    };
    let (content, rest) = der.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn digits(text: &[u8], count: usize) -> Option<(u64, &[u8])> {
    let (number, rest) = text.split_at_checked(count)?;
    Some((str::from_utf8(number).ok()?.parse().ok()?, rest))
}

/// `MMDDHHMMSSZ` of `year`.
fn seconds(year: u64, text: &[u8]) -> Option<UnixTime> {
    let (month, text) = digits(text, 2)?;
    let (day, text) = digits(text, 2)?;
    let (hour, text) = digits(text, 2)?;
    let (minute, text) = digits(text, 2)?;
    let (second, text) = digits(text, 2)?;
    let in_day = hour < 24 && minute < 60 && second < 60;
    let days = days_from_civil(year, month, day)?;
    (in_day && text == b"Z").then_some(UnixTime(days * 86_400 + hour * 3600 + minute * 60 + second))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate_until(year: i32) -> Vec<u8> {
        let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(year, 2, 28);
        let key = rcgen::KeyPair::generate().unwrap();
        parameters.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_end_is_read_in_both_forms() {
        // Years from 2050 on are written as a GeneralizedTime.
        for (year, seconds) in [(2030, 1_898_467_200), (2049, 2_498_083_200), (2061, 2_876_774_400)]
        {
            assert_eq!(not_after(&certificate_until(year)), Some(UnixTime(seconds)), "{year}");
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        let der = certificate_until(2030);
        for length in 0..der.len().min(200) {
            assert_eq!(not_after(&der[..length]), None);
        }
        assert_eq!(not_after(&[0x30, 0xff, 1, 2, 3]), None);
    }
}
