//! `Retry-After`: how long a provider wants to be left alone (RFC 9110 section 10.2.3).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use http::header::{DATE, RETRY_AFTER};

use crate::model::time::Timestamp;

/// The shortest and the longest that it is believed.
const BELIEVED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));

/// What a provider asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RetryAfter {
    /// To wait until then; the answer does not say what time it was.
    At(Timestamp),
    /// To wait this long, counted from the answer.
    In(Duration),
}

impl RetryAfter {
    /// Reads the header; `None` if there is none that makes sense. A date counts from the answer's own `Date` (section 6.6.1),
    /// so that it does not matter whose clock is wrong. Several headers are an error of the sender: then the last date counts,
    /// or else the longest span.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let sent_at = headers.get(DATE).and_then(|value| date(value.to_str().ok()?));
        let values = || headers.get_all(RETRY_AFTER).iter().filter_map(|value| value.to_str().ok());
        let span = values().flat_map(|text| text.split(',')).filter_map(seconds).max();
        match (values().filter_map(date).max(), sent_at) {
            (None, _) => span.map(Self::In),
            (Some(then), Some(sent_at)) => Some(Self::In(span.unwrap_or_default().max(then.since(sent_at)))),
            (Some(then), None) => Some(Self::At(then)),
        }
    }

    /// How long to wait from `now`, the time of the answer: between a second and an hour.
    #[must_use]
    pub fn wait(self, now: Timestamp) -> Duration {
        let asked = match self {
            Self::At(then) => then.until(now),
            Self::In(span) => span,
        };
        asked.clamp(BELIEVED.0, BELIEVED.1)
    }
}

/// Whole seconds. A fraction, which the RFC does not know, is rounded up.
fn seconds(text: &str) -> Option<Duration> {
    let text = text.trim();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !are_digits(whole) || !are_digits(fraction) {
        return None;
    }
    let more = u64::from(fraction.bytes().any(|digit| digit != b'0'));
    // More digits than fit are a very long time, not an error.
    Some(Duration::from_secs(whole.parse().unwrap_or(u64::MAX).saturating_add(more)))
}

/// A date in one of the three forms that have to be understood (section 5.6.7).
fn date(text: &str) -> Option<Timestamp> {
    let then: SystemTime = httpdate::parse_http_date(text.trim()).ok()?;
    let millis = then.duration_since(UNIX_EPOCH).ok()?.as_millis();
    Some(Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// Wed, 21 Oct 2026 07:28:00 GMT.
    const NOW: Timestamp = Timestamp::from_secs(1_792_567_680);
    const NOW_TEXT: &str = "Wed, 21 Oct 2026 07:28:00 GMT";

    fn waited(sent_at: Option<&str>, retry_after: &[&[u8]]) -> Option<u64> {
        let mut headers = HeaderMap::new();
        if let Some(sent_at) = sent_at {
            headers.insert(DATE, HeaderValue::from_str(sent_at).unwrap());
        }
        for value in retry_after {
            headers.append(RETRY_AFTER, HeaderValue::from_bytes(value).unwrap());
        }
        RetryAfter::of(&headers).map(|asked| asked.wait(NOW).as_secs())
    }

    #[test]
    fn seconds_are_read_strictly_and_believed_within_limits() {
        for (text, wait) in [
            ("0", Some(1)),
            ("1", Some(1)),
            ("120", Some(120)),
            (" 120\t", Some(120)),
            ("0120", Some(120)),
            ("3600", Some(3600)),
            ("3601", Some(3600)),
            ("1000000000000", Some(3600)),
            ("18446744073709551616", Some(3600)),
            ("99999999999999999999999", Some(3600)),
            ("1.5", Some(2)),
            ("30.0", Some(30)),
            ("0.000001", Some(1)),
            ("18446744073709551615.9", Some(3600)),
            ("1.", None),
            (".5", None),
            ("1.5.2", None),
            ("-5", None),
            ("-0", None),
            ("+5", None),
            ("", None),
            (" ", None),
            ("soon", None),
            ("5s", None),
            ("5 seconds", None),
            ("1e3", None),
            ("0x10", None),
            ("1_000", None),
            ("NaN", None),
            ("inf", None),
            ("null", None),
            ("\"5\"", None),
            ("5;6", None),
        ] {
            assert_eq!(waited(None, &[text.as_bytes()]), wait, "{text:?}");
        }
        for not_ascii in ["٥".as_bytes(), "５".as_bytes(), b"5\xff"] {
            assert_eq!(waited(None, &[not_ascii]), None, "{not_ascii:?}");
        }
    }

    #[test]
    fn all_three_forms_of_a_date_are_read() {
        for (text, wait) in [
            ("Wed, 21 Oct 2026 07:29:00 GMT", Some(60)),
            ("Wednesday, 21-Oct-26 07:29:00 GMT", Some(60)),
            ("Wed Oct 21 07:29:00 2026", Some(60)),
            ("Sun Nov  1 07:29:00 2026", Some(3600)),
            ("Wed, 21 Oct 2026 07:28:00 GMT", Some(1)),
            ("Wed, 21 Oct 2026 07:00:00 GMT", Some(1)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(1)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(3600)),
            ("Sat, 01 Jan 10000 00:00:00 GMT", None),
            ("Wed, 21 Oct 2026 07:29:00 UTC", None),
            ("Wed, 21 Oct 2026 07:29:00 +0000", None),
            ("Wed, 21 Oct 2026 25:29:00 GMT", None),
            ("Wed, 32 Oct 2026 07:29:00 GMT", None),
            ("21 Oct 2026 07:29:00 GMT", None),
            ("2026-10-21T07:29:00Z", None),
            ("GMT", None),
        ] {
            assert_eq!(waited(Some(NOW_TEXT), &[text.as_bytes()]), wait, "{text}");
            assert_eq!(waited(None, &[text.as_bytes()]), wait, "{text} without a date of the answer");
        }
    }

    #[test]
    fn a_date_counts_from_the_answers_own_and_else_from_now() {
        let asked = b"Wed, 21 Oct 2026 07:30:00 GMT".as_slice();
        for (sent_at, wait) in [
            (None, 120),
            (Some("Wed, 21 Oct 2026 07:29:50 GMT"), 10),
            (Some("Wednesday, 21-Oct-26 07:29:50 GMT"), 10),
            (Some("Mon, 19 Oct 2026 07:30:00 GMT"), 3600),
            (Some("Wed, 21 Oct 2099 07:28:00 GMT"), 1),
            (Some("yesterday"), 120),
            (Some(""), 120),
        ] {
            assert_eq!(waited(sent_at, &[asked]), Some(wait), "{sent_at:?}");
        }
    }

    #[test]
    fn of_several_the_longest_counts_and_nonsense_is_passed_over() {
        let date = "Wed, 21 Oct 2026 07:29:00 GMT";
        for (values, wait) in [
            (&["10", "20"][..], Some(20)),
            (&["20", "10"], Some(20)),
            (&["10, 20"], Some(20)),
            (&["10,"], Some(10)),
            (&["soon", "10"], Some(10)),
            (&["soon", "-1"], None),
            (&["10", date], Some(60)),
            (&[date, "100"], Some(100)),
        ] {
            let values: Vec<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
            assert_eq!(waited(Some(NOW_TEXT), &values), wait, "{values:?}");
        }
        assert_eq!(waited(Some(NOW_TEXT), &[]), None);
    }
}
