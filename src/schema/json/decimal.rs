//! A number by its digits: compared, hashed and divided as the mathematical value that it is (JSON Schema core, 4.2.2),
//! however many digits it has and however they are written. No allocation: the digits stay where they are.
//!
//! An exponent outside 64 bits counts as the largest or smallest of them.

use std::{
    cmp::Ordering,
    hash::{Hash, Hasher},
};

/// Digits of a divisor: with one more, a remainder would not fit into 128 bits.
pub(super) const DIVISOR_DIGITS: usize = 37;
/// Factors of two or five that a number of 128 bits can have: shifting a remainder further changes nothing.
const SHIFTS: i64 = 128;

/// A number.
#[derive(Debug, Clone, Copy)]
pub(in crate::schema) struct Decimal<'a> {
    negative: bool,
    /// From the first digit that is not zero to the last such; a point may stand between. Empty: zero.
    digits: &'a [u8],
    /// The number is `0.digits` times ten to the power of this.
    magnitude: i64,
}

impl<'a> Decimal<'a> {
    /// Returns the value of a JSON number.
    pub(in crate::schema) fn parse(text: &'a str) -> Self {
        let (negative, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let mantissa = mantissa.as_bytes();
        let is_significant = |byte: &u8| matches!(byte, b'1'..=b'9');
        let (Some(first), Some(last)) =
            (mantissa.iter().position(is_significant), mantissa.iter().rposition(is_significant))
        else {
            return Self { negative: false, digits: b"", magnitude: 0 };
        };
        let point = mantissa.iter().position(|byte| *byte == b'.').unwrap_or(mantissa.len());
        let signed = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        // The point itself stands between the zeros behind it and the first digit.
        let before = if first < point { signed(point - first) } else { -signed(first - point - 1) };
        let overflow = if exponent.starts_with('-') { i64::MIN } else { i64::MAX };
        let exponent = exponent.parse().unwrap_or(overflow);
        let digits = mantissa.get(first..=last).unwrap_or_default();
        Self { negative, digits, magnitude: before.saturating_add(exponent) }
    }

    fn digits(self) -> impl Iterator<Item = u8> {
        self.digits.iter().copied().filter(|byte| *byte != b'.')
    }

    /// Returns the value, if it is whole and has at most 38 digits.
    pub(in crate::schema) fn to_whole(self) -> Option<i128> {
        let zeros = match self.last_exponent() {
            _ if self.digits.is_empty() => return Some(0),
            zeros @ 0..=37 => u32::try_from(zeros).ok()?,
            _ => return None,
        };
        let digits = self
            .digits()
            .try_fold(0_i128, |value, digit| value.checked_mul(10)?.checked_add(i128::from(digit - b'0')))?;
        let value = digits.checked_mul(10_i128.pow(zeros))?;
        Some(if self.negative { -value } else { value })
    }

    /// Returns the exponent of the last digit.
    fn last_exponent(self) -> i64 {
        self.magnitude.saturating_sub(i64::try_from(self.digits().count()).unwrap_or(i64::MAX))
    }

    /// Whether this is a whole number of times the divisor.
    pub(super) fn is_multiple_of(self, divisor: Divisor) -> bool {
        let shift = self.last_exponent().saturating_sub(divisor.exponent);
        if self.digits.is_empty() {
            return true;
        }
        // The last digit is not zero, so ten does not divide what the digits say.
        if shift < 0 {
            return false;
        }
        let append = |rest: u128, digit: u8| (rest * 10 + u128::from(digit - b'0')) % divisor.digits;
        let rest = self.digits().fold(0, append);
        (0..shift.min(SHIFTS)).fold(rest, |rest, _| append(rest, b'0')) == 0
    }
}

impl Ord for Decimal<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let sign = |number: &Self| if number.digits.is_empty() { 0 } else { 1 - 2 * i8::from(number.negative) };
        let by_sign = sign(self).cmp(&sign(other));
        if by_sign != Ordering::Equal {
            return by_sign;
        }
        // Neither ends in a zero, so of two that begin alike the longer is the larger.
        let by_size = self.magnitude.cmp(&other.magnitude).then_with(|| self.digits().cmp(other.digits()));
        if self.negative { by_size.reverse() } else { by_size }
    }
}

impl PartialOrd for Decimal<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Decimal<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Decimal<'_> {}

impl Hash for Decimal<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.negative, self.magnitude).hash(state);
        self.digits().for_each(|digit| state.write_u8(digit));
    }
}

/// What numbers are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Divisor {
    /// Of at most [`DIVISOR_DIGITS`] digits, the last of which is not zero.
    digits: u128,
    exponent: i64,
}

impl Divisor {
    /// Returns the divisor of this value; `None`: zero, or too many digits.
    pub(super) fn new(value: Decimal<'_>) -> Option<Self> {
        let count = value.digits().count();
        let digits = value
            .digits()
            .fold(0_u128, |digits, digit| digits.saturating_mul(10).saturating_add(u128::from(digit - b'0')));
        (1..=DIVISOR_DIGITS).contains(&count).then_some(Self { digits, exponent: value.last_exponent() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::hash_map::DefaultHasher;

    fn hash(value: Decimal<'_>) -> u64 {
        let mut state = DefaultHasher::new();
        value.hash(&mut state);
        state.finish()
    }

    #[test]
    fn numbers_are_compared_by_their_digits() {
        // In their order; those of one row are equal.
        let rows: [&[&str]; 17] = [
            &["-1e999"],
            &["-100000000000000000000000000000000000000", "-1e38", "-1.0E+38"],
            &["-9223372036854775809", "-9223372036854775809.0", "-92233720368547758.09e2"],
            &["-9223372036854775808"],
            &["-1.5", "-15e-1", "-0.15e1"],
            &["-1"],
            &["-0.001", "-1e-3"],
            &["0", "-0", "0.0", "0e99", "-0.000e-5"],
            &["1e-400"],
            &["0.1", "1e-1", "0.10"],
            &["0.10000000000000000000001"],
            &["1", "1.0", "1e0", "10e-1", "0.001e3"],
            &["9007199254740992"],
            &["9007199254740993", "9007199254740993.0", "9.007199254740993e15"],
            &["18446744073709551616", "1.8446744073709551616e19"],
            &["99999999999999999999999999999999999999"],
            &["100000000000000000000000000000000000000", "1e38", "1000e35"],
        ];
        for (left_row, lefts) in rows.iter().enumerate() {
            for (right_row, rights) in rows.iter().enumerate() {
                for left in *lefts {
                    for right in *rights {
                        let (one, other) = (Decimal::parse(left), Decimal::parse(right));
                        assert_eq!(one.cmp(&other), left_row.cmp(&right_row), "{left} {right}");
                        assert_eq!(hash(one) == hash(other), left_row == right_row, "{left} {right}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_multiple_leaves_no_rest() {
        let check = |value: &str, divisor: &str| {
            Decimal::parse(value).is_multiple_of(Divisor::new(Decimal::parse(divisor)).expect("a divisor"))
        };
        for (value, divisor) in [
            ("0", "7"),
            ("-0.0", "0.1"),
            ("4", "2"),
            ("-4", "2"),
            ("4.0", "2"),
            ("1e2", "50"),
            ("0.07", "0.01"),
            ("4.35", "0.01"),
            ("12391239123", "1e-8"),
            ("1e999", "125"),
            ("99999999999999999999999999999999999998", "2"),
            ("300000000000000000000000000000000000000000000003", "3"),
            ("1e400", "1024"),
            ("1", "0.5"),
            ("2.5", "0.5"),
        ] {
            assert!(check(value, divisor), "{value} {divisor}");
        }
        for (value, divisor) in [
            ("1", "2"),
            ("9007199254740993", "2"),
            ("99999999999999999999999999999999999999", "2"),
            ("0.75", "0.5"),
            ("1e308", "0.123456789"),
            ("1e400", "3"),
            ("1e-400", "1"),
            ("1", "1e400"),
            ("100000000000000000000000000000000000001", "10"),
        ] {
            assert!(!check(value, divisor), "{value} {divisor}");
        }
        assert_eq!(Divisor::new(Decimal::parse("0.0")), None);
        assert_eq!(Divisor::new(Decimal::parse(&"1".repeat(38))), None);
    }

    proptest! {
        #[test]
        fn integers_compare_and_divide_as_integers(
            left in any::<i64>(), right in any::<i64>(), divisor in 1..10_000_u32, zeros in 0..30_usize,
        ) {
            let (one, other) = (left.to_string(), right.to_string());
            prop_assert_eq!(Decimal::parse(&one).cmp(&Decimal::parse(&other)), left.cmp(&right));
            // The same number, its point moved and moved back.
            let moved = format!("{one}{}.0e-{zeros}", "0".repeat(zeros));
            prop_assert_eq!(Decimal::parse(&one), Decimal::parse(&moved));
            let text = divisor.to_string();
            let divides = Divisor::new(Decimal::parse(&text)).map(|divisor| Decimal::parse(&moved).is_multiple_of(divisor));
            prop_assert_eq!(divides, Some(i128::from(left) % i128::from(divisor) == 0));
        }

        #[test]
        fn doubles_compare_as_doubles(left in -1e300..1e300_f64, right in -1e300..1e300_f64) {
            let (one, other) = (format!("{left:e}"), format!("{right:?}"));
            prop_assert_eq!(Decimal::parse(&one).partial_cmp(&Decimal::parse(&other)), left.partial_cmp(&right));
        }
    }
}
