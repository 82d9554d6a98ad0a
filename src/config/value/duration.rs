//! Durations: a whole number and one unit.

use std::time::Duration;

use super::super::failure::WrongText;
use super::super::schema::Form;
use super::Written;

/// A time that is not zero: `250ms`, `30s`, `5m`, `12h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

/// A time that may be `0s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeriodOrZero(pub Duration);

/// A tolerance between two clocks: at most [`ClockSkew::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClockSkew(pub Duration);

/// A time limit, or none: `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// No limit.
    Off,
    /// This long.
    After(Duration),
}

const DURATION: &str = "a duration such as `30s`";
/// Longest duration that is no slip of the unit.
const MAX_PERIOD: Duration = Duration::from_hours(365 * 24);

/// The texts of [`Period`] and [`PeriodOrZero`], as patterns.
const TIME: &str = "0*[1-9][0-9]*(ms|s|m|h)";
const TIME_OR_ZERO: &str = "[0-9]+(ms|s|m|h)";

fn duration(text: &str) -> Result<Duration, WrongText> {
    let wrong = |hint: String| WrongText::new(format!("`{text}` is not a duration"), hint);
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).unwrap_or(("", text));
    let Ok(number) = number.parse::<u64>() else {
        return Err(wrong("write a whole number and a unit: `250ms`, `30s`, `5m`, `12h`".into()));
    };
    let seconds =
        match unit {
            "ms" => return bounded(text, Duration::from_millis(number)),
            "s" => 1,
            "m" => 60,
            "h" => 60 * 60,
            "" => return Err(wrong(format!("give it a unit: `{number}s`, `{number}ms`"))),
            _ if ["ms", "s", "m", "h"].contains(&unit.trim()) => {
                return Err(wrong(format!(
                    "no space or line break stands in it: `{number}{}`",
                    unit.trim()
                )));
            }
            _ => return Err(wrong(
                "the units are `ms`, `s`, `m` and `h`, one of them, right behind the number: `90s`"
                    .into(),
            )),
        };
    bounded(text, Duration::from_secs(number.saturating_mul(seconds)))
}

fn bounded(text: &str, duration: Duration) -> Result<Duration, WrongText> {
    if duration > MAX_PERIOD {
        return Err(WrongText::new(format!("`{text}` is more than a year"), "check the unit"));
    }
    Ok(duration)
}

impl Written for PeriodOrZero {
    const FORM: &'static str = DURATION;

    fn form() -> Form {
        Form::Pattern(TIME_OR_ZERO)
    }

    fn parse(text: &str) -> Result<Self, WrongText> {
        duration(text).map(Self)
    }
}

impl Written for Period {
    const FORM: &'static str = DURATION;

    fn form() -> Form {
        Form::Pattern(TIME)
    }

    fn parse(text: &str) -> Result<Self, WrongText> {
        match duration(text)? {
            Duration::ZERO => {
                Err(WrongText::new(format!("`{text}` leaves no time"), "write `1ms` or more"))
            }
            some => Ok(Self(some)),
        }
    }
}

impl ClockSkew {
    /// Beyond five minutes clocks are broken, and tokens would live too long.
    pub const MAX: Duration = Duration::from_mins(5);
}

impl Written for ClockSkew {
    const FORM: &'static str = DURATION;

    fn form() -> Form {
        Form::Pattern(TIME_OR_ZERO)
    }

    fn parse(text: &str) -> Result<Self, WrongText> {
        let skew = duration(text)?;
        if skew > Self::MAX {
            let hint = "write `300s` at most: expired tokens are accepted for this long";
            return Err(WrongText::new(format!("`{text}` is more than 300s"), hint));
        }
        Ok(Self(skew))
    }
}

impl Written for Timeout {
    const FORM: &'static str = "a duration such as `30s`, or `off`";

    fn form() -> Form {
        Form::Pattern("off|0*[1-9][0-9]*(ms|s|m|h)")
    }

    fn parse(text: &str) -> Result<Self, WrongText> {
        if text == "off" {
            return Ok(Self::Off);
        }
        match duration(text)? {
            Duration::ZERO => {
                Err(WrongText::new(format!("`{text}` leaves no time"), "for no limit write `off`"))
            }
            some => Ok(Self::After(some)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, expected) in
            [("250ms", 250), ("30s", 30_000), ("5m", 300_000), ("12h", 43_200_000)]
        {
            assert_eq!(Period::parse(text).unwrap().0, Duration::from_millis(expected), "{text}");
        }
        for text in [
            "",
            "30",
            "s",
            "-1s",
            "1.5s",
            "1e3s",
            "30 s",
            "1h30m",
            "30S",
            "0s",
            "99999999999999999999s",
            "18446744073709551615h",
            "٣s",
        ] {
            assert!(Period::parse(text).is_err(), "{text}");
        }
        assert_eq!(PeriodOrZero::parse("0s").unwrap().0, Duration::ZERO);
        assert_eq!(Timeout::parse("off").unwrap(), Timeout::Off);
        assert!(Timeout::parse("0s").is_err());
        assert!(ClockSkew::parse("300s").is_ok());
        assert!(ClockSkew::parse("301s").is_err());
    }
}
