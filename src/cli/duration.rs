//! Spans of time as people write and read them.

use std::time::Duration;

/// Reads `60`, `90s`, `5m`, `1h` or `2d`; a bare number is seconds.
///
/// # Errors
/// In words, for the command line.
pub fn parse(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.trim_end_matches(|c: char| c.is_ascii_alphabetic()) {
        number if number.len() == text.len() => (text, 1),
        number => (number, unit(&text[number.len()..])?),
    };
    let number: u64 = number.parse().map_err(|_| expected())?;
    number.checked_mul(unit).map(Duration::from_secs).ok_or_else(expected)
}

fn unit(text: &str) -> Result<u64, String> {
    match text {
        "s" => Ok(1),
        "m" => Ok(60),
        "h" => Ok(3600),
        "d" => Ok(86_400),
        _ => Err(expected()),
    }
}

fn expected() -> String {
    "expected a span of time such as 60, 90s, 5m or 1h".to_owned()
}

/// The span in its two largest units: `3 h 20 min`.
#[must_use]
pub fn words(span: Duration) -> String {
    let seconds = span.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let two = |large: u64, large_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large} {large_unit}"),
        _ => format!("{large} {large_unit} {small} {small_unit}"),
    };
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => two(hours, "h", minutes, "min"),
        (1, hours, _) => two(1, "day", hours, "h"),
        (days, _, _) => format!("{days} days"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_with_and_without_a_unit() {
        for (text, seconds) in [("60", 60), ("90s", 90), ("5m", 300), ("1h", 3600), ("2d", 172_800), ("0", 0)] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "s", "5x", "-1", "1.5h", "5 m", "1h30m", "99999999999999999d", "５"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn spans_are_told_in_two_units_at_most() {
        for (seconds, expected) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3599, "59 min"),
            (3600, "1 h"),
            (12_000, "3 h 20 min"),
            (86_400, "1 day"),
            (90_000, "1 day 1 h"),
            (7_776_000, "90 days"),
        ] {
            assert_eq!(words(Duration::from_secs(seconds)), expected);
        }
    }
}
