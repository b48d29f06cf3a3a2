//! What providers do that no standard says, each as a switch of its own. By default all are off.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The quirks of a sandbox. Each manner looks at those that its provider has.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quirks {
    /// What callbacks say in `iss` in place of the issuer (RFC 9207).
    pub callback_iss_says: Option<String>,
    /// The lifetimes in token answers are texts.
    pub numbers_as_text: bool,
    /// What token answers leave out, as JSON pointers.
    pub leaves_out: Vec<String>,
    /// A challenge of a client with a secret is taken and never looked at again.
    pub ignores_pkce: bool,
    /// A client without a secret needs a challenge, whatever others need.
    pub public_needs_pkce: bool,
    /// The access tokens of a grant without a refresh token do not expire.
    pub endless_without_refresh: bool,
    /// A new consent ends what the same person gave to the same client before.
    pub one_grant_per_account: bool,
    /// How many access tokens of a grant live at a time; the oldest end.
    pub access_tokens_max: Option<usize>,
    /// The errors of the token endpoint have status 200.
    pub errors_in_200: bool,
    /// Token answers are form-encoded unless `Accept` names JSON.
    pub form_unless_json_accepted: bool,
    /// Requests to the API without a `User-Agent` are refused.
    pub user_agent_required: bool,
    /// A scope that another granted one includes is not told.
    pub normalises_scopes: bool,
    /// What a token may do is set in the app: scopes are not read, and the one in the answer is empty.
    pub scopes_fixed_by_app: bool,
    /// Scopes that answers leave out although they were granted.
    pub not_echoed: Vec<String>,
    /// A token is for one resource: that of its scopes, or this one for scopes that are no address.
    pub one_resource: Option<String>,
    /// Scopes are told by their full names.
    pub full_scope_names: bool,
    /// What is wrong with ID tokens.
    pub id_token: IdTokenFlaw,
    /// ID tokens name the issuer without its scheme.
    pub bare_issuer: bool,
    /// The directory that accounts belong to.
    pub tenant: String,
    /// The app is installed for a whole organization: answers name no team.
    pub enterprise_install: bool,
    /// The endpoint for user tokens puts the token on top and its scopes inside.
    pub user_token_on_top: bool,
    /// An installation without a bot repeats the person's token on top.
    pub repeats_user_token: bool,
    /// The workspace owns the grant, and no person is named.
    pub workspace_owner: bool,
}

/// What is wrong with an ID token.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IdTokenFlaw {
    /// Nothing.
    #[default]
    None,
    /// There is none.
    Missing,
    /// It comes from somebody else.
    Issuer,
    /// It is for somebody else.
    Audience,
    /// It answers another request.
    Nonce,
    /// It answers no request.
    NoNonce,
    /// Another key signed it, under the name of the right one.
    Key,
    /// It is not signed and says so.
    AlgNone,
    /// The client's secret signed it.
    Hs256,
    /// It is too old.
    Expired,
    /// Its issuer is another directory than its `tid`.
    Tenant,
}

impl Quirks {
    /// Changes what `changes` names.
    ///
    /// # Errors
    /// If there is no such quirk, or it cannot have that value; then nothing is changed.
    pub fn merge(&mut self, changes: Map<String, Value>) -> Result<(), serde_json::Error> {
        let mut whole = serde_json::to_value(&*self)?;
        if let Value::Object(members) = &mut whole {
            members.extend(changes);
        }
        *self = serde_json::from_value(whole)?;
        Ok(())
    }

    /// A token answer as these quirks leave it.
    pub(in crate::sandbox) fn touch(&self, mut body: Value) -> Value {
        if self.numbers_as_text {
            texts(&mut body);
        }
        for place in &self.leaves_out {
            let (above, name) = place.rsplit_once('/').unwrap_or_default();
            if let Some(Value::Object(members)) = body.pointer_mut(above) {
                members.remove(name);
            }
        }
        body
    }
}

fn texts(value: &mut Value) {
    match value {
        Value::Number(number) => *value = Value::String(number.to_string()),
        Value::Object(members) => members.values_mut().for_each(texts),
        Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_names_a_quirk_or_changes_nothing() {
        let mut quirks = Quirks { numbers_as_text: true, ..Quirks::default() };
        let changes = |value: Value| value.as_object().unwrap().clone();
        quirks.merge(changes(json!({"id_token": "alg_none", "access_tokens_max": 2}))).unwrap();
        assert_eq!((quirks.id_token, quirks.access_tokens_max), (IdTokenFlaw::AlgNone, Some(2)));
        let before = quirks.clone();
        for bad in [json!({"numbers_as_txt": true}), json!({"tenant": "x", "numbers_as_text": "yes"})] {
            assert!(quirks.merge(changes(bad)).is_err());
            assert_eq!(quirks, before);
        }
    }

    #[test]
    fn an_answer_loses_members_and_its_numbers_become_texts() {
        let leaves_out = vec!["/scope".to_owned(), "/inner/gone".to_owned(), "/not/there".to_owned()];
        let quirks = Quirks { numbers_as_text: true, leaves_out, ..Quirks::default() };
        let body = json!({"expires_in": 5, "scope": "a", "inner": {"gone": 1, "kept": 2}});
        assert_eq!(quirks.touch(body), json!({"expires_in": "5", "inner": {"kept": "2"}}));
    }
}
