//! A refused exchange with all that is of use later: the rejection, what the provider's number means, what it wants proven.

use std::fmt;

use serde_json::Value;

use crate::model::claims::Claims;
use crate::model::provider::Provider;
use crate::model::provider::pointer::Pointer;
use crate::oauth::rejection::Rejection;

/// Why an exchange brought nothing, and what goes with it.
#[derive(Debug)]
pub struct Refused {
    /// Why, sorted by what happens next.
    pub rejection: Rejection,
    /// What the provider's own number for it means.
    pub hint: Option<Hint>,
    /// What the provider wants to see proven in the next authorization.
    pub claims: Option<Claims>,
}

/// A provider's number for an error, which is safe to show, with our sentence about it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hint {
    /// The number.
    pub number: u64,
    /// What it means, if the definition tells.
    pub sentence: Option<String>,
}

impl Refused {
    /// A rejection with what the body of the answer says besides.
    #[must_use]
    pub fn read(provider: &Provider, rejection: Rejection, body: &Value) -> Self {
        let rules = &provider.response;
        let number = rules.error_number.iter().find_map(|pointer| number(pointer, body));
        let hint = number.map(|number| Hint {
            number,
            sentence: u32::try_from(number).ok().and_then(|number| rules.sentence(number)).map(str::to_owned),
        });
        // A challenge that nothing would carry back is not kept.
        let pointer = rules.claims.as_ref().filter(|_| provider.authorize.claims_param.is_some());
        let claims = pointer.and_then(|pointer| claims(pointer, body));
        Self { rejection, hint, claims }
    }

    /// The provider's number, if the definition says what it means. Any other is for the log alone.
    #[must_use]
    pub fn known_number(&self) -> Option<u32> {
        let hint = self.hint.as_ref().filter(|hint| hint.sentence.is_some())?;
        u32::try_from(hint.number).ok()
    }
}

impl fmt::Display for Refused {
    /// For the operator's log: nothing in it is the provider's own text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rejection.fmt(f)?;
        match &self.hint {
            Some(Hint { number, sentence: Some(sentence) }) => write!(f, "; {number}: {sentence}"),
            Some(Hint { number, sentence: None }) => write!(f, "; {number}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refused {}

impl From<Rejection> for Refused {
    fn from(rejection: Rejection) -> Self {
        Self { rejection, hint: None, claims: None }
    }
}

impl From<Refused> for Rejection {
    fn from(refused: Refused) -> Self {
        refused.rejection
    }
}

fn number(pointer: &Pointer, body: &Value) -> Option<u64> {
    match pointer.find(body)? {
        Value::Number(number) => number.as_u64(),
        Value::String(text) if text.len() <= 20 => text.parse().ok(),
        _ => None,
    }
}

/// As text in the answer, or as an object.
fn claims(pointer: &Pointer, body: &Value) -> Option<Claims> {
    match pointer.find(body)? {
        Value::String(text) => Claims::new(text),
        object @ Value::Object(_) => Claims::new(&object.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::oauth::quirk::tests::plain_provider;

    fn refused(body: &Value) -> Refused {
        let mut provider = plain_provider();
        provider.response.error_number = vec!["/error_codes/0".parse().unwrap()];
        provider.response.claims = Some("/claims".parse().unwrap());
        provider.response.hints =
            serde_json::from_value(json!([{"number": [50076, 50079], "sentence": "A second factor is needed."}]))
                .unwrap();
        provider.authorize.claims_param = Some("claims".to_owned());
        Refused::read(&provider, Rejection::Denied, body)
    }

    #[test]
    fn a_number_is_told_with_its_sentence_and_nothing_else_of_the_answer() {
        for (body, told) in [
            (
                json!({"error_codes": [50079], "error_description": "MARK"}),
                "the person declined; 50079: A second factor is needed.",
            ),
            (json!({"error_codes": ["50076"]}), "the person declined; 50076: A second factor is needed."),
            (json!({"error_codes": [1]}), "the person declined; 1"),
            (json!({"error_codes": ["<b>MARK</b>"]}), "the person declined"),
            (json!({"error_codes": [-1]}), "the person declined"),
            (json!({"error_codes": 50079}), "the person declined"),
        ] {
            assert_eq!(refused(&body).to_string(), told, "{body}");
        }
    }

    #[test]
    fn only_a_number_that_is_explained_is_known() {
        for (number, known) in [
            (json!(50079), Some(50079)),
            (json!("50076"), Some(50076)),
            (json!(1), None),
            (json!(4_295_017_375_u64), None),
            (json!("MARK"), None),
        ] {
            assert_eq!(refused(&json!({"error_codes": [number]})).known_number(), known, "{number}");
        }
        assert_eq!(Refused::from(Rejection::Denied).known_number(), None);
    }

    #[test]
    fn a_challenge_is_kept_as_text_or_as_an_object() {
        let text = "{\"access_token\":{\"acrs\":{\"value\":\"c1\"}}}";
        for (claims, kept) in
            [(json!(text), Some(text)), (json!({"a": 1}), Some("{\"a\":1}")), (json!("x"), None), (json!(1), None)]
        {
            let found = refused(&json!({"claims": claims})).claims;
            assert_eq!(found.as_ref().map(Claims::as_str), kept, "{claims}");
        }
    }

    #[test]
    fn a_challenge_that_nothing_carries_back_is_dropped() {
        let mut provider = plain_provider();
        provider.response.claims = Some("/claims".parse().unwrap());
        assert!(Refused::read(&provider, Rejection::Denied, &json!({"claims": "{}"})).claims.is_none());
    }
}
