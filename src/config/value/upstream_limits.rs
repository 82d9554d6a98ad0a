//! How often a request is tried, and how many connections and waiting requests an upstream has.

use super::super::failure::WrongText;
use super::super::schema::Form;
use super::Written;

/// Tries of a request in all: 1 to [`Attempts::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempts(pub u32);

/// A share in whole percent: `0%` to `100%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(pub u32);

/// Connections to one upstream: 1 to [`UpstreamConnections::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamConnections(pub usize);

/// Requests that wait for a connection: 0 to [`Pending::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending(pub usize);

impl Attempts {
    /// 10: whoever is down for the third try is down for the tenth.
    pub const MAX: u32 = 10;
}

impl UpstreamConnections {
    /// A million: more than an operating system gives to one process.
    pub const MAX: usize = 1_000_000;
}

impl Pending {
    /// A million: at 4 KiB and more for each that is all the memory of a machine.
    pub const MAX: usize = 1_000_000;
}

/// A whole number in decimal digits, from `least` to `most`.
fn between(text: &str, least: usize, most: usize, hint: &str) -> Result<usize, WrongText> {
    let wrong = |message: String| WrongText::new(message, hint);
    // A leading zero would be octal in older YAML: nobody should have to know which this is.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty();
    if !digits || (text.len() > 1 && text.starts_with('0')) {
        return Err(wrong(format!("`{text}` is not a whole number")));
    }
    match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        Ok(number) if number < least => Err(wrong(format!("`{text}` is too small"))),
        Ok(_) | Err(_) => Err(wrong(format!("`{text}` is too large"))),
    }
}

impl Written for Attempts {
    const FORM: &'static str = "a whole number";

    fn form() -> Form {
        Form::Number { least: 1, most: Self::MAX as usize }
    }

    fn parse(text: &str) -> Result<Self, WrongText> {
        let hint = "write 1 to 10, the first try counted: 1 tries once, 2 once more";
        let number = between(text, 1, Self::MAX as usize, hint)?;
        Ok(Self(u32::try_from(number).unwrap_or(Self::MAX)))
    }
}

impl Written for Share {
    const FORM: &'static str = "a percentage such as `20%`";

    fn form() -> Form {
        Form::Pattern("(0|[1-9][0-9]?|100)%")
    }

    fn parse(text: &str) -> Result<Self, WrongText> {
        let hint = "write `0%` to `100%`, in whole percent";
        let Some(number) = text.strip_suffix('%') else {
            let message = format!("`{text}` is not a percentage");
            return Err(WrongText::new(message, hint));
        };
        let number = between(number, 0, 100, hint)
            .map_err(|_wrong| WrongText::new(format!("`{text}` is not a percentage"), hint))?;
        Ok(Self(u32::try_from(number).unwrap_or(100)))
    }
}

impl Written for UpstreamConnections {
    const FORM: &'static str = "a whole number";

    fn form() -> Form {
        Form::Number { least: 1, most: Self::MAX }
    }

    fn parse(text: &str) -> Result<Self, WrongText> {
        between(text, 1, Self::MAX, "write 1 to 1000000").map(Self)
    }
}

impl Written for Pending {
    const FORM: &'static str = "a whole number";

    fn form() -> Form {
        Form::Number { least: 0, most: Self::MAX }
    }

    fn parse(text: &str) -> Result<Self, WrongText> {
        between(text, 0, Self::MAX, "write 0 to 1000000; with 0 no request waits").map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_bounds() {
        assert_eq!(Attempts::parse("1").unwrap(), Attempts(1));
        assert_eq!(Attempts::parse("10").unwrap(), Attempts(10));
        for text in ["0", "11", "", "-1", "02", "1.5", "99999999999999999999999"] {
            assert!(Attempts::parse(text).is_err(), "{text}");
        }
        assert_eq!(Share::parse("0%").unwrap(), Share(0));
        assert_eq!(Share::parse("100%").unwrap(), Share(100));
        for text in ["101%", "20", "0.2", "%", "-1%", "20 %", "020%", "20%%"] {
            assert!(Share::parse(text).is_err(), "{text}");
        }
        assert_eq!(UpstreamConnections::parse("1000000").unwrap(), UpstreamConnections(1_000_000));
        assert!(UpstreamConnections::parse("0").is_err());
        assert!(UpstreamConnections::parse("1000001").is_err());
        assert_eq!(Pending::parse("0").unwrap(), Pending(0));
        assert!(Pending::parse("1000001").is_err() && Pending::parse("00").is_err());
    }
}
