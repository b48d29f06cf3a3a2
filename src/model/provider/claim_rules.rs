//! What the claims of an ID token must say beyond what OpenID Connect asks, such as which directory it may come from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What one claim must say. Texts may hold variables, which are filled in from the operator's settings.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimRule {
    /// The claim.
    pub claim: String,
    /// The rule counts only if this holds; always if absent.
    #[serde(default)]
    pub when: Option<Condition>,
    /// It must be one of these; anything if empty.
    #[serde(default)]
    pub one_of: Vec<String>,
    /// It must be none of these.
    #[serde(default)]
    pub none_of: Vec<String>,
}

/// What an operator must have said for a rule to count.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// A text with variables, such as `{tenant}`.
    pub value: String,
    /// It is one of these.
    #[serde(default)]
    pub is: Vec<String>,
    /// It has this form.
    #[serde(default)]
    pub form: Option<Form>,
}

/// A form that a text can have.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Five groups of hexadecimal digits, as RFC 9562 writes them.
    Uuid,
}

impl Condition {
    /// Whether the filled-in `value` is what the condition wants.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.is.contains(&self.value) || self.form.is_some_and(|Form::Uuid| is_uuid(&self.value))
    }
}

impl ClaimRule {
    /// Whether these claims may pass. A claim that is not there, or is no text, passes no rule.
    #[must_use]
    pub fn allows(&self, claims: &Value) -> bool {
        let Some(said) = claims.get(&self.claim).and_then(Value::as_str) else {
            return false;
        };
        // Identifiers of directories are hexadecimal, and an operator may have copied capitals.
        let among = |list: &[String]| list.iter().any(|entry| entry.eq_ignore_ascii_case(said));
        (self.one_of.is_empty() || among(&self.one_of)) && !among(&self.none_of)
    }
}

fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.iter().all(|group| group.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(json: Value) -> ClaimRule {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_claim_is_one_of_these_and_none_of_those() {
        let rule = rule(json!({"claim": "tid", "one_of": ["a", "b"], "none_of": ["b"]}));
        for (claims, allowed) in [
            (json!({"tid": "a"}), true),
            (json!({"tid": "A"}), true),
            (json!({"tid": "b"}), false),
            (json!({"tid": "c"}), false),
            (json!({"tid": 1}), false),
            (json!({"tid": ["a"]}), false),
            (json!({}), false),
        ] {
            assert_eq!(rule.allows(&claims), allowed, "{claims}");
        }
    }

    #[test]
    fn a_condition_is_about_what_the_operator_said() {
        let holds = |value: &str| {
            let condition = json!({"value": value, "is": ["organizations"], "form": "uuid"});
            serde_json::from_value::<Condition>(condition).unwrap().holds()
        };
        assert!(holds("organizations") && holds("9188040D-6c67-4c5b-b112-36a304b66dad"));
        for other in [
            "common",
            "contoso.example",
            "9188040d6c674c5bb11236a304b66dad",
            "g188040d-6c67-4c5b-b112-36a304b66dad",
            "",
        ] {
            assert!(!holds(other), "{other}");
        }
    }
}
