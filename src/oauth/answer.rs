//! A token response (RFC 6749 section 5.1), read into grants by slot, whatever shape the provider gave it.

use std::time::Duration;

use serde_json::Value;
use subtle::ConstantTimeEq as _;

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

/// Reads the grants out of the answer to a code; `None` if there is no usable access token in it.
#[must_use]
pub fn read(provider: &Provider, body: Value) -> Option<TokenAnswer> {
    if !token_type_is_usable(provider, &body) {
        return None;
    }
    let mut found = Vec::new();
    for rule in &provider.slots {
        let mut places = rule.places.iter().filter(|place| holds(place.when.as_ref(), &body));
        let slot = places.find_map(|place| Some((place, slot_at(provider, &rule.name, place, &body)?)));
        found.extend(slot.map(|(place, slot)| Found { named: place.when.is_some(), slot }));
    }
    let slots = without_doubles(found);
    if slots.is_empty() {
        return None;
    }
    Some(TokenAnswer { slots, body: AnswerBody(body) })
}

/// Reads the answer to a refresh of this slot. Such an answer holds one grant, often in another place than the answer to the
/// code; one that says it is of another slot is none.
#[must_use]
pub fn read_slot(provider: &Provider, slot: &SlotName, body: &Value) -> Option<SlotAnswer> {
    if !token_type_is_usable(provider, body) {
        return None;
    }
    let rule = provider.slot(slot)?;
    let mut places = rule.places.iter().filter(|place| !contradicts(place.when.as_ref(), body));
    places.find_map(|place| slot_at(provider, slot, place, body))
}

/// A slot of an answer, and whether the answer says by its own words that it is this one.
struct Found {
    named: bool,
    slot: SlotAnswer,
}

/// One token in two slots is one grant, and must not be spent twice: it belongs to the slot that the answer names, else to
/// the first.
fn without_doubles(found: Vec<Found>) -> Vec<SlotAnswer> {
    let mut kept: Vec<Found> = Vec::new();
    for next in found {
        match kept.iter_mut().find(|kept| is_same_grant(&kept.slot, &next.slot)) {
            Some(double) if next.named && !double.named => *double = next,
            Some(_) => {}
            None => kept.push(next),
        }
    }
    kept.into_iter().map(|found| found.slot).collect()
}

fn is_same_grant(one: &SlotAnswer, other: &SlotAnswer) -> bool {
    let same = |one: &str, other: &str| -> bool { one.as_bytes().ct_eq(other.as_bytes()).into() };
    match (&one.refresh, &other.refresh) {
        (Some(one), Some(other)) => same(one.expose(), other.expose()),
        _ => same(one.access.expose(), other.access.expose()),
    }
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

/// Whether the member is there with another value.
fn contradicts(condition: Option<&Match>, body: &Value) -> bool {
    condition.is_some_and(|Match { pointer, equals }| pointer.find(body).is_some_and(|found| found != equals))
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

    /// A bot's token on top, a person's inside, as one of our providers has it.
    fn two_slots() -> Provider {
        let mut provider = plain_provider();
        provider.response.token_types = vec!["bot".to_owned(), "user".to_owned()];
        provider.slots = serde_json::from_value(json!([
            {"name": "bot", "places": [{"when": {"pointer": "/token_type", "equals": "bot"}}]},
            {"name": "user", "places": [
                {"access": "/person/access_token", "refresh": "/person/refresh_token"},
                {"when": {"pointer": "/token_type", "equals": "user"}},
            ]},
        ]))
        .unwrap();
        provider
    }

    #[test]
    fn one_token_in_two_slots_is_one_grant() {
        let person = |access: &str, refresh: &str| json!({"access_token": access, "refresh_token": refresh});
        for (body, slots) in [
            (
                json!({"token_type": "bot", "access_token": "b", "refresh_token": "rb", "person": person("u", "ru")}),
                "bot user",
            ),
            (
                json!({"token_type": "bot", "access_token": "b", "refresh_token": "r", "person": person("u", "r")}),
                "bot",
            ),
            (json!({"token_type": "bot", "access_token": "x", "person": {"access_token": "x"}}), "bot"),
            (
                json!({"token_type": "user", "access_token": "u", "refresh_token": "r", "person": person("u", "r")}),
                "user",
            ),
            (json!({"token_type": "user", "access_token": "u"}), "user"),
            (json!({"person": {"access_token": "u"}}), "user"),
        ] {
            let answer = read(&two_slots(), body.clone()).unwrap();
            let found: Vec<_> = answer.slots.iter().map(|slot| slot.slot.as_str()).collect();
            assert_eq!(found.join(" "), slots, "{body}");
        }
        let mut turned = two_slots();
        turned.slots.reverse();
        let answer = read(&turned, json!({"token_type": "bot", "access_token": "x", "person": {"access_token": "x"}}));
        assert_eq!(answer.unwrap().slots[0].slot.as_str(), "bot", "the answer says so, whatever the order");
    }

    #[test]
    fn the_answer_to_a_refresh_is_of_the_slot_that_was_asked_for_or_of_none() {
        for (slot, body, access) in [
            ("bot", json!({"token_type": "bot", "access_token": "b"}), Some("b")),
            ("user", json!({"token_type": "user", "access_token": "u"}), Some("u")),
            ("user", json!({"token_type": "bot", "access_token": "b"}), None),
            ("bot", json!({"token_type": "user", "access_token": "u"}), None),
            ("user", json!({"token_type": "bot", "access_token": "b", "person": {"access_token": "u"}}), Some("u")),
            ("user", json!({"access_token": "u"}), Some("u")),
            ("bot", json!({"access_token": "b"}), Some("b")),
            ("other", json!({"access_token": "b"}), None),
        ] {
            let found = read_slot(&two_slots(), &slot.parse().unwrap(), &body);
            assert_eq!(found.as_ref().map(|found| found.access.expose()), access, "{slot} {body}");
            assert!(found.is_none_or(|found| found.slot.as_str() == slot), "{slot} {body}");
        }
    }

    #[test]
    fn printing_an_answer_shows_no_token() {
        let answer = read(&plain_provider(), json!({"access_token": "secret", "refresh_token": "hidden"})).unwrap();
        let printed = format!("{answer:?}");
        assert!(!printed.contains("secret") && !printed.contains("hidden"), "{printed}");
    }
}
