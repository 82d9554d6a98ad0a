//! Times as the error bodies of Entra, Graph and ARM show them. Knows the calendar, no clock.

use crate::clock::UnixTime;

const SECONDS_A_DAY: u64 = 24 * 60 * 60;

/// `2026-08-07 12:34:56Z`, in UTC.
pub(super) fn entra(time: UnixTime) -> String {
    let (date, clock) = parts(time);
    format!("{date} {clock}Z")
}

/// `2026-08-07T12:34:56Z` (RFC 3339), in UTC.
pub(super) fn rfc3339(time: UnixTime) -> String {
    let (date, clock) = parts(time);
    format!("{date}T{clock}Z")
}

fn parts(UnixTime(seconds): UnixTime) -> (String, String) {
    let (year, month, day) = civil(seconds / SECONDS_A_DAY);
    let second = seconds % SECONDS_A_DAY;
    let date = format!("{year:04}-{month:02}-{day:02}");
    (date, format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60))
}

/// The date that lies `days` after 1970-01-01: years are counted from March, so that the
/// leap day is the last of its year, in cycles of 400 years.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // from 0000-03-01
    let (cycle, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (cycle * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_around_leap_days_and_ends_of_years() {
        for (seconds, shown) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
            (1_767_225_600, "2026-01-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(UnixTime(seconds)), shown);
        }
        assert_eq!(entra(UnixTime(1_767_225_600)), "2026-01-01 00:00:00Z");
    }
}
