//! A token response (RFC 6749 section 5.1), read into grants by slot, whatever shape the provider gave it.

use std::time::Duration;

use serde_json::Value;

use crate::model::id::SlotName;
use crate::model::provider::Provider;
use crate::model::provider::pointer::Pointer;
use crate::model::provider::rules::{DefaultTtl, Match, SlotPlace};
use crate::model::scope::ScopeSet;
use crate::model::secret::{AccessToken, RefreshToken};

/// What a token response brought.
#[derive(Debug)]
pub struct TokenAnswer {
    /// One grant for each slot that was found; never empty.
    pub slots: Vec<SlotAnswer>,
    /// The whole answer, for the identity it may hold.
    pub body: AnswerBody,
}

/// The whole answer. It holds tokens, so it is not printed.
pub struct AnswerBody(pub Value);

impl std::fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AnswerBody([redacted])")
    }
}

/// What a token response brought for one slot.
#[derive(Debug)]
pub struct SlotAnswer {
    /// The slot.
    pub slot: SlotName,
    /// The access token.
    pub access: AccessToken,
    /// The refresh token, if one came.
    pub refresh: Option<RefreshToken>,
    /// How long the access token lives from when the request was sent; `None` if it does not expire by time.
    pub expires_in: Option<Duration>,
    /// How long the refresh token lives, as far as known.
    pub refresh_expires_in: Option<Duration>,
    /// What it may do; `None` if the answer does not say, which means what was asked for (RFC 6749 section 5.1).
    pub scopes: Option<ScopeSet>,
}

/// A lifetime that cannot be read counts as this: short, so that a token is never served long after it died.
const UNREADABLE_LIFETIME: Duration = Duration::from_secs(60);
/// No lifetime is believed to be longer.
const LIFETIME_MAX: u64 = 10 * 365 * 24 * 3600;

/// Reads the grants out of a successful answer; `None` if there is no usable access token in it.
#[must_use]
pub fn read(provider: &Provider, body: Value) -> Option<TokenAnswer> {
    if !token_type_is_usable(provider, &body) {
        return None;
    }
    let slots: Vec<SlotAnswer> = provider
        .slots
        .iter()
        .filter_map(|rule| {
            let places = rule.places.iter();
            places
                .filter(|place| holds(place.when.as_ref(), &body))
                .find_map(|place| slot_at(provider, &rule.name, place, &body))
        })
        .collect();
    if slots.is_empty() {
        return None;
    }
    Some(TokenAnswer { slots, body: AnswerBody(body) })
}

fn slot_at(provider: &Provider, slot: &SlotName, place: &SlotPlace, body: &Value) -> Option<SlotAnswer> {
    let access = AccessToken::new(text(&place.access, body)?).ok()?;
    let refresh = text(&place.refresh, body).and_then(|token| RefreshToken::new(token).ok());
    let expires_in = match place.expires_in.find(body) {
        Some(value) => Some(lifetime(value).unwrap_or(UNREADABLE_LIFETIME)),
        None => default_lifetime(provider.response.access_ttl),
    };
    let refresh_expires_in = match place.refresh_expires_in.find(body) {
        Some(value) => lifetime(value),
        None => provider.response.refresh_ttl.map(Duration::from_secs),
    };
    let scopes = place
        .scope
        .find(body)
        .and_then(Value::as_str)
        .map(|scopes| ScopeSet::read(scopes, provider.scopes.separator_response));
    Some(SlotAnswer {
        slot: slot.clone(),
        access,
        refresh_expires_in: refresh_expires_in.filter(|_| refresh.is_some()),
        refresh,
        expires_in,
        scopes,
    })
}

/// RFC 6749 section 7.1: a client must not use a token of a type it does not know. A missing type is forgiven, because
/// some providers leave it out and nothing but a bearer token can be meant.
fn token_type_is_usable(provider: &Provider, body: &Value) -> bool {
    match body.get("token_type") {
        None | Some(Value::Null) => true,
        Some(Value::String(kind)) => provider.response.token_types.iter().any(|known| known.eq_ignore_ascii_case(kind)),
        Some(_) => false,
    }
}

/// Whether the member has the value; no condition always holds.
#[must_use]
pub fn holds(condition: Option<&Match>, body: &Value) -> bool {
    condition.is_none_or(|Match { pointer, equals }| pointer.find(body) == Some(equals))
}

fn text<'v>(pointer: &Pointer, body: &'v Value) -> Option<&'v str> {
    pointer.find(body)?.as_str().filter(|text| !text.is_empty())
}

/// Seconds as a number, a fraction or a text; `None` if it is none of these or not positive.
pub(super) fn lifetime(value: &Value) -> Option<Duration> {
    let seconds = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    if !seconds.is_finite() {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the range just before")]
    let whole = seconds.clamp(0.0, LIFETIME_MAX as f64) as u64;
    Some(Duration::from_secs(whole))
}

const fn default_lifetime(ttl: DefaultTtl) -> Option<Duration> {
    match ttl {
        DefaultTtl::Never | DefaultTtl::Unknown => None,
        DefaultTtl::Seconds(seconds) => Some(Duration::from_secs(seconds)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::oauth::quirk::tests::plain_provider;

    #[test]
    fn a_lifetime_is_read_in_every_form_providers_use() {
        for (value, expected) in [
            (json!(3600), Some(3600)),
            (json!("3600"), Some(3600)),
            (json!(3599.9), Some(3599)),
            (json!(0), Some(0)),
            (json!(-1), Some(0)),
            (json!(1e300), Some(LIFETIME_MAX)),
            (json!("soon"), None),
            (json!("inf"), None),
            (json!([1]), None),
            (json!(true), None),
        ] {
            assert_eq!(lifetime(&value), expected.map(Duration::from_secs), "{value}");
        }
    }

    #[test]
    fn a_lifetime_that_cannot_be_read_is_short_and_never_endless() {
        let answer = read(&plain_provider(), json!({"access_token": "a", "expires_in": {"x": 1}})).unwrap();
        assert_eq!(answer.slots[0].expires_in, Some(UNREADABLE_LIFETIME));
    }

    #[test]
    fn an_answer_without_a_usable_access_token_is_none() {
        for body in [
            json!({}),
            json!([]),
            json!({"access_token": ""}),
            json!({"access_token": null}),
            json!({"access_token": 7}),
            json!({"access_token": "a\r\nb"}),
            json!({"access_token": "a", "token_type": "mac"}),
            json!({"access_token": "a", "token_type": 1}),
        ] {
            assert!(read(&plain_provider(), body.clone()).is_none(), "{body}");
        }
        assert!(read(&plain_provider(), json!({"access_token": "a", "token_type": "BEARER"})).is_some());
    }

    #[test]
    fn an_empty_refresh_token_is_no_refresh_token() {
        for refresh in [json!(""), json!(null), json!(1)] {
            let answer = read(&plain_provider(), json!({"access_token": "a", "refresh_token": refresh})).unwrap();
            assert!(answer.slots[0].refresh.is_none());
        }
    }

    #[test]
    fn printing_an_answer_shows_no_token() {
        let answer = read(&plain_provider(), json!({"access_token": "secret", "refresh_token": "hidden"})).unwrap();
        let printed = format!("{answer:?}");
        assert!(!printed.contains("secret") && !printed.contains("hidden"), "{printed}");
    }
}
