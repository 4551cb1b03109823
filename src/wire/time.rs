//! Times as text (RFC 3339): what the broker writes, what clients send and get.

/// Units of durations, in milliseconds: what the configuration takes, and what clients send.
pub const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Days from the first of March of the year 0 to 1970.
const DAYS_TO_1970: u64 = 719_468;
const DAY_MS: u64 = 86_400_000;

/// Returns the time, in milliseconds since 1970, that `2026-12-01T10:20:30.123456789Z` says, or the same with an offset
/// such as `+01:00`. What is finer than a millisecond is cut off. No time before 1970 is read.
#[must_use]
pub fn unix_ms(text: &str) -> Option<u64> {
    let (date, time) = text.split_at_checked(10)?;
    let mut date = date.splitn(3, '-').map(|digits| digits.parse::<u64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (time, offset_minutes) = offset(time.strip_prefix(['T', 't', ' '])?)?;
    let (seconds, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut clock = seconds.splitn(3, ':').map(two_digits);
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let valid = (1..=12).contains(&month)
        && (1..=days_of(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60
        && !fraction.is_empty();
    if !valid || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let milliseconds = fraction.bytes().chain(*b"000").take(3).fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    // Years begin in March: a leap day is the last one of a year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    let days = days.checked_sub(DAYS_TO_1970)?;
    let local = days * DAY_MS + (hour * 3_600 + minute * 60 + second) * 1_000 + milliseconds;
    local.checked_add_signed(-offset_minutes * 60_000)
}

fn two_digits(text: &str) -> Option<u64> {
    (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Returns a time of day without its offset from UTC, and the offset in minutes.
fn offset(time: &str) -> Option<(&str, i64)> {
    if let Some(time) = time.strip_suffix(['Z', 'z']).or_else(|| time.strip_suffix(" +0000 UTC")) {
        return Some((time, 0));
    }
    let (time, offset) = time.split_at_checked(time.len().checked_sub("+00:00".len())?)?;
    let (sign, offset) = offset.split_at_checked(1)?;
    let (hours, minutes) = offset.split_once(':')?;
    let (hours, minutes) = (two_digits(hours)?, two_digits(minutes)?);
    let offset = i64::try_from(hours * 60 + minutes).ok().filter(|_| hours < 24 && minutes < 60)?;
    match sign {
        "+" => Some((time, offset)),
        "-" => Some((time, -offset)),
        _ => None,
    }
}

fn days_of(year: u64, month: u64) -> u64 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The latest time that [`rfc3339`] writes: the end of the year 9999.
const YEAR_9999_END_MS: u64 = 253_402_300_799_999;

/// Writes a time that is given in milliseconds since 1970.
#[must_use]
pub fn rfc3339(unix_ms: u64) -> String {
    let unix_ms = unix_ms.min(YEAR_9999_END_MS);
    let (days, in_day) = (unix_ms / DAY_MS + DAYS_TO_1970, unix_ms % DAY_MS);
    // Days of 400 years, of a hundred, of four, of one.
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = (era * 400 + year_of_era + month / 10, if month < 10 { month + 3 } else { month - 9 });
    let (hour, minute) = (in_day / 3_600_000, in_day / 60_000 % 60);
    let (second, milliseconds) = (in_day / 1_000 % 60, in_day % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milliseconds:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TIME_MS: u64 = 1_796_120_430_123;

    #[test]
    fn times_are_read_as_brokers_and_clients_write_them() {
        for (text, expect) in [
            ("2026-12-01T10:20:30.123456789Z", Some(TIME_MS)),
            ("2026-12-01T10:20:30Z", Some(TIME_MS - 123)),
            ("2026-12-01t10:20:30z", Some(TIME_MS - 123)),
            ("2026-12-01T10:20:30.1Z", Some(TIME_MS - 23)),
            ("2026-12-01 10:20:30.123456789 +0000 UTC", Some(TIME_MS)),
            ("2026-12-01T11:20:30.123+01:00", Some(TIME_MS)),
            ("2026-12-01T00:50:30.123-09:30", Some(TIME_MS)),
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T00:00:00Z", Some(951_782_400_000)),
            ("2000-03-01T00:00:00Z", Some(951_868_800_000)),
            ("1969-12-31T23:59:59Z", None),
            ("1970-01-01T00:00:00+00:01", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-02-29T00:00:00Z", None),
            ("2026-12-01T1:20:30Z", None),
            ("2026-12-01T10:20:30.Z", None),
            ("2026-12-01T10:20:30+1:00", None),
            ("2026-12-01T10:20:30+24:00", None),
            ("2026-12-01T10:20:30", None),
            ("2026-12-01", None),
            ("", None),
        ] {
            assert_eq!(unix_ms(text), expect, "{text}");
        }
    }

    proptest! {
        #[test]
        fn times_come_back(ms in 0..=YEAR_9999_END_MS) {
            prop_assert_eq!(unix_ms(&rfc3339(ms)), Some(ms), "{}", rfc3339(ms));
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,40}", time in "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.+Z-]{0,20}") {
            let _ = (unix_ms(&text), unix_ms(&time));
        }
    }
}
