//! A number of a record, as its text. What it is worth, and whether it is an integer, is read from its digits, so both
//! are right at any size.

use super::decimal::Decimal;
use jsonschema::json::JsonNumber;
use std::borrow::Cow;

/// A number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Number<'a> {
    pub(super) text: &'a str,
    /// Without fraction and exponent.
    pub(super) written_as_integer: bool,
}

impl<'a> Number<'a> {
    /// The number as what it is worth.
    pub(super) fn decimal(&self) -> Decimal<'a> {
        Decimal::parse(self.text)
    }
}

impl JsonNumber for Number<'_> {
    #[inline]
    fn as_u64(&self) -> Option<u64> {
        if self.written_as_integer { self.text.parse().ok() } else { None }
    }

    #[inline]
    fn as_i64(&self) -> Option<i64> {
        if self.written_as_integer { self.text.parse().ok() } else { None }
    }

    fn as_f64(&self) -> Option<f64> {
        self.text.parse().ok()
    }

    fn as_str(&self) -> Cow<'_, str> {
        Cow::Borrowed(self.text)
    }

    fn to_number(&self) -> Cow<'_, serde_json::Number> {
        let number = self
            .as_u64()
            .map(Into::into)
            .or_else(|| self.as_i64().map(Into::into))
            .or_else(|| serde_json::Number::from_f64(self.as_f64()?.clamp(f64::MIN, f64::MAX)));
        Cow::Owned(number.unwrap_or_else(|| 0.into()))
    }

    #[inline]
    fn is_integer(&self) -> bool {
        self.written_as_integer || is_whole(self.text)
    }

    fn is_written_as_integer(&self) -> bool {
        self.written_as_integer
    }
}

/// Whether a number with a fraction or an exponent is whole: `1.0`, `1.50e1`, `0e-9`.
fn is_whole(text: &str) -> bool {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = || whole.bytes().chain(fraction.bytes()).filter(u8::is_ascii_digit);
    if digits().all(|digit| digit == b'0') {
        return true;
    }
    let zeros = digits().rev().take_while(|digit| *digit == b'0').count();
    // Digits behind the point once the zeros at the end are gone, before the exponent moves it.
    let behind =
        i64::try_from(fraction.len()).unwrap_or(i64::MAX).saturating_sub(i64::try_from(zeros).unwrap_or(i64::MAX));
    let moved = exponent.parse().unwrap_or(if exponent.starts_with('-') { i64::MIN } else { i64::MAX });
    behind <= moved
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Number<'_> {
        Number { text, written_as_integer: !text.contains(['.', 'e', 'E']) }
    }

    #[test]
    fn an_integer_is_what_has_no_digits_behind_the_point() {
        for whole in [
            "0",
            "-0",
            "1",
            "1.0",
            "-1.000",
            "1e0",
            "1.5e1",
            "150e-1",
            "0e-9",
            "0.0e-99",
            "1e999",
            "1e99999999999999999999",
            "12.0e-0",
        ] {
            assert!(number(whole).is_integer(), "{whole}");
        }
        for broken in ["1.5", "1e-1", "1.55e1", "15e-1", "1e-999", "1e-99999999999999999999", "0.1"] {
            assert!(!number(broken).is_integer(), "{broken}");
        }
    }
}
