//! What a request may say: one JSON object, each field within its limits, and the field that is not named in the error.

use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::model::scope::ScopeSet;

/// The longest request body, in bytes.
pub const BODY_MAX: usize = 64 * 1024;
/// The most scopes one request may name.
pub const SCOPES_MAX: usize = 100;
/// The longest purpose, in characters.
pub const PURPOSE_MAX: usize = 120;
/// The longest account selector, in characters.
pub const ACCOUNT_MAX: usize = 256;
/// The most life a caller may ask a token to have left.
pub const MIN_TTL_MAX: Duration = Duration::from_secs(3600);
/// What a token must have left when the caller does not say.
pub const MIN_TTL_DEFAULT: Duration = Duration::from_secs(60);
/// The longest a request may wait for a person.
pub const WAIT_MAX: Duration = Duration::from_secs(60);

/// Why a request makes no sense.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Invalid {
    /// Which field, as far as it can be told.
    pub field: Option<String>,
    /// What is wrong with it.
    pub why: String,
}

impl Invalid {
    /// A field that is wrong.
    #[must_use]
    pub fn field(field: &str, why: impl Into<String>) -> Self {
        Self { field: Some(field.to_owned()), why: why.into() }
    }
}

/// Reads a JSON object. Fields that are given twice are refused: two readers could take different ones for true.
///
/// # Errors
/// Names the field that does not fit.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Invalid> {
    // An array would pass for a struct with its fields in order.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(Invalid { field: None, why: "the body must be a JSON object".to_owned() });
    }
    // Following the path costs; only who made a mistake pays for it.
    serde_json::from_slice(body).map_err(|_| locate::<T>(body))
}

fn locate<T: DeserializeOwned>(body: &[u8]) -> Invalid {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let Err(error) = serde_path_to_error::deserialize::<_, T>(&mut reader) else {
        return Invalid { field: None, why: "there is something behind the JSON object".to_owned() };
    };
    let path = error.path().to_string();
    let why = error.inner().to_string();
    Invalid { field: (path != ".").then_some(path), why: why.chars().take(200).collect() }
}

/// A number of seconds within its limit, or what holds when none is given.
///
/// # Errors
/// If it is more than `max`.
pub fn seconds(field: &str, given: Option<u64>, default: Duration, max: Duration) -> Result<Duration, Invalid> {
    let span = given.map_or(default, Duration::from_secs);
    if span > max {
        return Err(Invalid::field(field, format!("must be 0 to {} seconds", max.as_secs())));
    }
    Ok(span)
}

/// A text of at most `max` characters that cannot confuse a page or a log. An empty one is as good as none.
///
/// # Errors
/// If it is longer or holds a character that controls the terminal or the direction of writing.
pub fn text(field: &str, given: Option<String>, max: usize) -> Result<Option<String>, Invalid> {
    let Some(text) = given.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    if text.chars().count() > max {
        return Err(Invalid::field(field, format!("must not be longer than {max} characters")));
    }
    if text.chars().any(is_control) {
        return Err(Invalid::field(field, "must not hold control characters"));
    }
    Ok(Some(text))
}

/// The scopes, if there are not too many.
///
/// # Errors
/// If there are more than [`SCOPES_MAX`].
pub fn scopes(given: Option<ScopeSet>) -> Result<ScopeSet, Invalid> {
    let scopes = given.unwrap_or_default();
    if scopes.len() > SCOPES_MAX {
        return Err(Invalid::field("scopes", format!("must not be more than {SCOPES_MAX}")));
    }
    Ok(scopes)
}

/// Whether a character steers a terminal or turns the direction of writing, so that a text reads as another.
#[must_use]
pub fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::TokenBody;

    fn field_of(body: &str) -> Option<String> {
        parse::<TokenBody>(body.as_bytes()).unwrap_err().field
    }

    #[test]
    fn only_the_provider_is_required_and_unknown_fields_are_ignored() {
        let body: TokenBody = parse(br#" {"provider":"github","tomorrow":{"a":[1]},"account":null}"#).unwrap();
        assert_eq!(body.provider.as_str(), "github");
        assert!(body.account.is_none() && body.scopes.is_none() && body.connect.is_none());
    }

    #[test]
    fn a_field_that_does_not_fit_is_named() {
        for (body, field) in [
            (r#"{"provider":7}"#, Some("provider")),
            (r#"{"provider":"Git Hub"}"#, Some("provider")),
            (r#"{"provider":"github","min_ttl":"60"}"#, Some("min_ttl")),
            (r#"{"provider":"github","min_ttl":-1}"#, Some("min_ttl")),
            (r#"{"provider":"github","scopes":"repo"}"#, Some("scopes")),
            (r#"{"provider":"github","scopes":["a","b c"]}"#, Some("scopes[1]")),
            (r#"{"provider":"github","rejected":"cx_1"}"#, Some("rejected")),
            (r#"{"provider":"github","connect":"no"}"#, Some("connect")),
            (r#"{}"#, None),
        ] {
            assert_eq!(field_of(body).as_deref(), field, "{body}");
        }
    }

    #[test]
    fn what_is_not_one_json_object_is_refused() {
        for body in ["", "[]", r#"["github"]"#, "null", "\"x\"", "{", r#"{"provider":"github"} {}"#] {
            assert!(parse::<TokenBody>(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn a_field_given_twice_is_refused() {
        let twice = parse::<TokenBody>(br#"{"provider":"github","provider":"google"}"#).unwrap_err();
        assert!(twice.why.contains("duplicate"), "{twice:?}");
    }

    #[test]
    fn deep_nesting_is_refused_and_not_followed() {
        let deep = format!(r#"{{"provider":{}"#, "[".repeat(60_000));
        assert!(parse::<TokenBody>(deep.as_bytes()).is_err());
        let ignored = format!(r#"{{"provider":"github","x":{}{}}}"#, "[".repeat(30_000), "]".repeat(30_000));
        assert!(parse::<TokenBody>(ignored.as_bytes()).is_ok(), "what is ignored is skipped without recursion");
    }

    #[test]
    fn seconds_keep_to_their_limits() {
        let read = |given| seconds("min_ttl", given, MIN_TTL_DEFAULT, MIN_TTL_MAX);
        assert_eq!(read(None), Ok(Duration::from_secs(60)));
        assert_eq!(read(Some(0)), Ok(Duration::ZERO));
        assert_eq!(read(Some(3600)), Ok(Duration::from_secs(3600)));
        assert_eq!(read(Some(3601)).unwrap_err().field.as_deref(), Some("min_ttl"));
        assert!(read(Some(u64::MAX)).is_err());
    }

    #[test]
    fn a_text_cannot_steer_a_terminal_or_turn_the_writing_around() {
        for bad in ["a\nb", "\u{1b}[2J", "\u{202e}x", "a\u{200b}b", &"x".repeat(121)] {
            assert!(text("purpose", Some(bad.to_owned()), PURPOSE_MAX).is_err(), "{bad:?}");
        }
        let umlauts = "ü".repeat(120);
        assert_eq!(text("purpose", Some(umlauts.clone()), PURPOSE_MAX), Ok(Some(umlauts)));
        assert_eq!(text("purpose", Some(String::new()), PURPOSE_MAX), Ok(None));
    }
}
