//! A share of requests.

use super::super::failure::WrongText;
use super::super::schema::Form;
use super::Written;

/// A share in percent, with up to four decimals: `0%` to `100%`. In millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample(pub u32);

impl Sample {
    /// The share that a number from 0 to 1 is, as `OTEL_TRACES_SAMPLER_ARG` has it.
    pub fn of_ratio(text: &str) -> Option<Self> {
        decimal(text, 6, 1)
    }
}

impl Written for Sample {
    const FORM: &'static str = "a percentage such as `10%`";

    fn form() -> Form {
        Form::Pattern("[0-9]{1,3}([.][0-9]{1,4})?%")
    }

    fn parse(text: &str) -> Result<Self, WrongText> {
        let number = text.strip_suffix('%').and_then(|number| decimal(number, 4, 100));
        number.ok_or_else(|| {
            let message = format!("`{text}` is not a percentage");
            WrongText::new(
                message,
                "write `0%` to `100%`, with four decimals at most: `10%`, `0.1%`",
            )
        })
    }
}

/// A decimal number up to `most`, of which one `most`th with `decimals` places is a millionth.
fn decimal(text: &str, decimals: usize, most: u32) -> Option<Sample> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_number = !whole.is_empty() && digits(whole) && digits(rest);
    let has_rest = text.contains('.') != rest.is_empty();
    if !is_number || !has_rest || rest.len() > decimals || whole.len() > 3 {
        return None;
    }
    let scale = 10_u32.pow(u32::try_from(decimals).ok()?);
    let rest: u32 = format!("{rest:0<decimals$}").parse().ok()?;
    let number = whole.parse::<u32>().ok()?.checked_mul(scale)?.checked_add(rest)?;
    (number <= most * scale).then_some(Sample(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_have_up_to_four_decimals() {
        for (text, millionths) in [
            ("0%", 0),
            ("100%", 1_000_000),
            ("10%", 100_000),
            ("0.1%", 1_000),
            ("0.0001%", 1),
            ("99.9999%", 999_999),
            ("100.0%", 1_000_000),
        ] {
            assert_eq!(Sample::parse(text).unwrap(), Sample(millionths), "{text}");
        }
        for text in [
            "",
            "%",
            "10",
            "0.1",
            "101%",
            "100.0001%",
            "0.00001%",
            "-1%",
            "1e1%",
            ".5%",
            "5.%",
            "1 %",
        ] {
            assert!(Sample::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ratios_are_those_of_the_samplers() {
        for (text, millionths) in
            [("1", 1_000_000), ("1.0", 1_000_000), ("0.25", 250_000), ("0", 0), ("0.000001", 1)]
        {
            assert_eq!(Sample::of_ratio(text), Some(Sample(millionths)), "{text}");
        }
        for text in ["", "2", "1.1", "-0.1", "10%", "x"] {
            assert_eq!(Sample::of_ratio(text), None, "{text}");
        }
    }
}
