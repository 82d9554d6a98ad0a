//! Sizes and counts: decimal digits, sizes with a binary unit.

use std::num::{NonZeroU32, NonZeroUsize};

use super::super::failure::WrongText;
use super::super::schema::Form;
use super::Written;

/// The size of a request head in bytes: [`HeadBytes::LEAST`] to [`HeadBytes::MOST`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeadBytes(pub usize);

impl HeadBytes {
    /// 4 KiB: with less, a token of common size and a few cookies don't fit.
    pub const LEAST: usize = 4 * 1024;
    /// 1 MiB: every connection may make the gateway keep as much.
    pub const MOST: usize = 1024 * 1024;
}

/// A size, or none: `unlimited`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeLimit {
    /// No limit.
    Unlimited,
    /// This many bytes; 0 takes no body at all.
    Bytes(u64),
}

fn size(text: &str) -> Result<u64, WrongText> {
    let wrong = |hint: String| WrongText::new(format!("`{text}` is not a size"), hint);
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).unwrap_or(("", text));
    let Ok(number) = number.parse::<u64>() else {
        return Err(wrong("write a whole number and a unit: `512B`, `64KiB`, `10MiB`".into()));
    };
    let factor = match unit {
        "B" => 1,
        "KiB" => 1024,
        "MiB" => 1024 * 1024,
        "GiB" => 1024 * 1024 * 1024,
        "" if number == 0 => 1,
        "" => return Err(wrong(format!("give it a unit: `{number}B`, `{number}KiB`"))),
        _ => {
            return Err(wrong(
                "the units are `B`, `KiB`, `MiB` and `GiB`, right behind the number: `64KiB`"
                    .into(),
            ));
        }
    };
    number.checked_mul(factor).ok_or_else(|| wrong("it is more than 16 EiB".into()))
}

impl Written for HeadBytes {
    const FORM: &'static str = "a size such as `64KiB`";

    fn form() -> Form {
        Form::Pattern("[0-9]+(B|KiB|MiB)")
    }

    fn parse(text: &str) -> Result<Self, WrongText> {
        let bytes = usize::try_from(size(text)?).unwrap_or(usize::MAX);
        let wrong = |what, why| {
            let hint = format!("write `4KiB` to `1MiB`: {why}");
            Err(WrongText::new(format!("`{text}` is too {what} for request heads"), hint))
        };
        match bytes {
            ..Self::LEAST => wrong("small", "a token and a few cookies have to fit"),
            Self::LEAST..=Self::MOST => Ok(Self(bytes)),
            _ => wrong("large", "every connection may make the gateway keep as much"),
        }
    }
}

impl Written for SizeLimit {
    const FORM: &'static str = "a size such as `10MiB`, or `unlimited`";

    fn form() -> Form {
        Form::ZeroOr("unlimited|0|[0-9]+(B|KiB|MiB|GiB)")
    }

    fn parse(text: &str) -> Result<Self, WrongText> {
        if text == "unlimited" { Ok(Self::Unlimited) } else { size(text).map(Self::Bytes) }
    }
}

/// A whole number of 1 or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count(pub NonZeroU32);

fn whole_number<T: std::str::FromStr>(text: &str, most: usize) -> Result<T, WrongText> {
    let wrong = || {
        let hint = format!("write 1 to {most} in decimal digits, and nothing else");
        WrongText::new(format!("`{text}` is not a whole number of 1 or more"), hint)
    };
    // A leading zero would be octal in older YAML: nobody should have to know which this is.
    if !text.bytes().all(|byte| byte.is_ascii_digit()) || text.starts_with('0') {
        return Err(wrong());
    }
    text.parse().ok().ok_or_else(|| if text.is_empty() { wrong() } else { too_large(text, most) })
}

fn too_large(text: &str, most: usize) -> WrongText {
    WrongText::new(format!("`{text}` is too large"), format!("write {most} or less"))
}

impl Written for Count {
    const FORM: &'static str = "a whole number";

    fn form() -> Form {
        Form::Number { least: 1, most: u32::MAX as usize }
    }

    fn parse(text: &str) -> Result<Self, WrongText> {
        whole_number(text, u32::MAX as usize).map(Self)
    }
}

/// How often something happens in a row: 1 to [`Times::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Times(pub NonZeroU32);

impl Times {
    /// Beyond a thousand it would be no rule but a wish.
    pub const MAX: u32 = 1000;
}

/// A default.
pub(in super::super) const fn times(number: u32) -> Times {
    match NonZeroU32::new(number) {
        Some(number) => Times(number),
        None => Times(NonZeroU32::MIN),
    }
}

impl Written for Times {
    const FORM: &'static str = "a whole number";

    fn form() -> Form {
        Form::Number { least: 1, most: Self::MAX as usize }
    }

    fn parse(text: &str) -> Result<Self, WrongText> {
        let most = Self::MAX as usize;
        let number: NonZeroU32 = whole_number(text, most)?;
        if number.get() > Self::MAX { Err(too_large(text, most)) } else { Ok(Self(number)) }
    }
}

/// A share of a hundred: 1 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(pub u8);

impl Written for Percent {
    const FORM: &'static str = "a number from 1 to 100";

    fn form() -> Form {
        Form::NumberOr { least: 1, most: 100, or: "[1-9][0-9]?%|100%" }
    }

    fn parse(text: &str) -> Result<Self, WrongText> {
        let number = text.strip_suffix('%').unwrap_or(text);
        let share = whole_number(number, 100).map(NonZeroU32::get).ok();
        let share = share.and_then(|share| u8::try_from(share).ok()).filter(|share| *share <= 100);
        share.map(Self).ok_or_else(|| {
            let message = format!("`{text}` is not a number from 1 to 100");
            WrongText::new(message, "write a share of a hundred: `50`")
        })
    }
}

/// How many threads serve requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// One for each CPU the process may use.
    Auto,
    /// This many.
    Count(NonZeroUsize),
}

impl Workers {
    /// More than any machine has CPUs.
    pub const MAX: usize = 1024;
}

impl Written for Workers {
    const FORM: &'static str = "a whole number, or `auto`";

    fn form() -> Form {
        Form::NumberOr { least: 1, most: Self::MAX, or: "auto" }
    }

    fn parse(text: &str) -> Result<Self, WrongText> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let count: NonZeroUsize = whole_number(text, Self::MAX)?;
        if count.get() > Self::MAX {
            Err(too_large(text, Self::MAX))
        } else {
            Ok(Self::Count(count))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, expected) in
            [("1B", 1), ("64KiB", 65_536), ("10MiB", 10_485_760), ("1GiB", 1 << 30), ("0B", 0)]
        {
            assert_eq!(SizeLimit::parse(text).unwrap(), SizeLimit::Bytes(expected), "{text}");
        }
        for text in ["", "64", "64KB", "64kib", "-1B", "1.5MiB", "99999999999GiB"] {
            assert!(SizeLimit::parse(text).is_err(), "{text}");
        }
        for (text, expected) in [("4KiB", 4096), ("4096B", 4096), ("1MiB", 1 << 20)] {
            assert_eq!(HeadBytes::parse(text).unwrap().0, expected, "{text}");
        }
        for text in ["0", "0B", "1B", "100B", "4095B", "1048577B", "10GiB", "17179869183GiB"] {
            assert!(HeadBytes::parse(text).is_err(), "{text}");
        }
        assert_eq!(SizeLimit::parse("unlimited").unwrap(), SizeLimit::Unlimited);
        assert_eq!(SizeLimit::parse("0").unwrap(), SizeLimit::Bytes(0));
    }

    #[test]
    fn numbers_are_decimal_digits() {
        assert_eq!(Count::parse("10000").unwrap().0.get(), 10_000);
        for text in ["", "0", "0777", "1e3", "1_000", "-1", "+1", "0x10", "4294967296", " 1"] {
            assert!(Count::parse(text).is_err(), "{text}");
        }
        assert!(Times::parse("1000").is_ok() && Times::parse("1001").is_err());
        for (text, share) in [("1", 1), ("50", 50), ("50%", 50), ("100", 100)] {
            assert_eq!(Percent::parse(text).unwrap().0, share);
        }
        for text in ["", "%", "0", "101", "256", "1.5", "50 %", "050", "-1"] {
            assert!(Percent::parse(text).is_err(), "{text}");
        }
        assert_eq!(Workers::parse("auto").unwrap(), Workers::Auto);
        assert!(Workers::parse("1024").is_ok() && Workers::parse("1025").is_err());
    }
}
