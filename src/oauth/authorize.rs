//! The authorization request and the checks of its callback (RFC 6749 section 4.1, RFC 7636, RFC 9207).

use std::collections::BTreeMap;

use oauth2::PkceCodeChallenge;
use url::Url;

use crate::model::claims::Claims;
use crate::model::id::{SlotName, random_text};
use crate::model::provider::Provider;
use crate::model::provider::rules::{CallbackIss, IssuerRules, ScopesManagedBy};
use crate::model::scope::ScopeSet;
use crate::model::secret::CodeVerifier;

/// What is to be authorized.
#[derive(Clone, Copy, Debug)]
pub struct Authorization<'a> {
    /// At which provider.
    pub provider: &'a Provider,
    /// Our client id there.
    pub client_id: &'a str,
    /// Where the browser is to come back, exactly.
    pub redirect_uri: &'a str,
    /// What to ask for, by slot.
    pub scopes: &'a BTreeMap<SlotName, ScopeSet>,
    /// Ask again although the person agreed before: a refresh token is missing, or another account is wanted.
    pub reconsent: bool,
    /// What the provider wanted to see proven when it refused the connection that is to be connected again.
    pub claims: Option<&'a Claims>,
}

/// The URL to send the browser to, and what must be kept until it comes back.
#[derive(Debug)]
pub struct AuthorizationRequest {
    /// Where the browser goes.
    pub url: Url,
    /// 256 random bits that come back in the callback.
    pub state: String,
    /// The PKCE verifier; `None` where PKCE is off.
    pub verifier: Option<CodeVerifier>,
    /// What the ID token must carry; `None` without OpenID Connect.
    pub nonce: Option<String>,
}

/// Builds an authorization request, with a new `state`, verifier and nonce.
#[must_use]
pub fn request(ask: &Authorization<'_>) -> AuthorizationRequest {
    let rules = &ask.provider.authorize;
    let mut url = ask.provider.endpoints.authorize.clone();
    let state = random_text::<32>();
    let scopes = scope_params(ask);
    let wants_id_token = scopes.iter().any(|(_, list)| list.split([' ', ',']).any(|scope| scope == "openid"));
    let nonce = wants_id_token.then(random_text::<32>);
    let mut verifier = None;
    {
        let mut query = url.query_pairs_mut();
        query.append_pair("response_type", "code");
        query.append_pair("client_id", ask.client_id);
        query.append_pair("redirect_uri", ask.redirect_uri);
        query.append_pair("state", &state);
        for (param, list) in &scopes {
            query.append_pair(param, list);
        }
        if ask.provider.pkce {
            let (challenge, secret) = PkceCodeChallenge::new_random_sha256();
            query.append_pair("code_challenge", challenge.as_str());
            query.append_pair("code_challenge_method", challenge.method().as_str());
            verifier = CodeVerifier::new(secret.secret().as_str()).ok();
        }
        if let Some(nonce) = &nonce {
            query.append_pair("nonce", nonce);
        }
        let mut params = rules.params.clone();
        params.extend(rules.offline_params.clone());
        if ask.reconsent {
            params.extend(rules.reconsent_params.clone());
        }
        query.extend_pairs(params);
        if let (Some(param), Some(claims)) = (&rules.claims_param, ask.claims) {
            query.append_pair(param, claims.as_str());
        }
    }
    AuthorizationRequest { url, state, verifier, nonce }
}

/// The parameters that carry scopes, with the scope that asks for a refresh token in the first of them.
pub(super) fn scope_params(ask: &Authorization<'_>) -> Vec<(String, String)> {
    if ask.provider.scopes.managed_by == ScopesManagedBy::App {
        return Vec::new();
    }
    let mut offline = ask.provider.authorize.offline_scope.clone();
    let params = ask.provider.authorize.scope_params.iter().filter_map(|param| {
        let wanted = ask.scopes.get(&param.slot).cloned().unwrap_or_default();
        let wanted = match offline.take() {
            Some(scope) => wanted.union(&ScopeSet::from_iter([scope])),
            None => wanted,
        };
        let list = wanted.join(ask.provider.scopes.separator_request);
        (!list.is_empty()).then(|| (param.param.clone(), list))
    });
    params.collect()
}

/// The callback may come from another authorization server than the one that was asked (RFC 9207 section 2.4).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the answer names another issuer, or none where one is required")]
pub struct IssuerMismatch;

/// Compares `iss` byte for byte, as the definition wants it.
///
/// # Errors
/// If the answer names an issuer that is not accepted, or none where one is required.
pub fn check_issuer(rules: &IssuerRules, iss: Option<&str>) -> Result<(), IssuerMismatch> {
    match (rules.callback_iss, iss) {
        (CallbackIss::Ignore, _) | (CallbackIss::ValidateIfPresent, None) => Ok(()),
        (CallbackIss::Require, None) => Err(IssuerMismatch),
        (CallbackIss::Require | CallbackIss::ValidateIfPresent, Some(iss)) => {
            let known = rules.accept.iter().any(|accepted| accepted == iss);
            if known { Ok(()) } else { Err(IssuerMismatch) }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::model::provider::rules::ScopeParam;
    use crate::oauth::quirk::tests::plain_provider;

    fn asked(provider: &Provider, scopes: &[(&str, &str)]) -> (AuthorizationRequest, BTreeMap<String, String>) {
        let scopes = scopes.iter().map(|(slot, list)| (slot.parse().unwrap(), ScopeSet::read(list, ' '))).collect();
        let redirect_uri = "http://localhost:8717/callback/plain";
        let ask =
            Authorization { provider, client_id: "me", redirect_uri, scopes: &scopes, reconsent: false, claims: None };
        let built = request(&ask);
        let query = built.url.query_pairs().into_owned().collect();
        (built, query)
    }

    #[test]
    fn a_challenge_goes_back_in_the_parameter_that_the_definition_names() {
        let (mut provider, claims) = (plain_provider(), Claims::new("{\"a\": \"&=+\"}").unwrap());
        let query = |provider: &Provider, claims| -> BTreeMap<String, String> {
            let (redirect_uri, scopes) = ("http://localhost:8717/callback/plain", BTreeMap::new());
            let ask =
                Authorization { provider, client_id: "me", redirect_uri, scopes: &scopes, reconsent: true, claims };
            request(&ask).url.query_pairs().into_owned().collect()
        };
        assert!(!query(&provider, Some(&claims)).contains_key("claims"));
        provider.authorize.claims_param = Some("claims".to_owned());
        assert_eq!(query(&provider, Some(&claims))["claims"], claims.as_str());
        assert!(!query(&provider, None).contains_key("claims"));
    }

    #[test]
    fn pkce_is_s256_and_the_challenge_is_of_the_verifier() {
        let (built, query) = asked(&plain_provider(), &[("main", "repo")]);
        assert_eq!(query["code_challenge_method"], "S256");
        let verifier = oauth2::PkceCodeVerifier::new(built.verifier.unwrap().expose().to_owned());
        assert_eq!(query["code_challenge"], PkceCodeChallenge::from_code_verifier_sha256(&verifier).as_str());
        assert_eq!(query["response_type"], "code");
    }

    #[test]
    fn where_pkce_is_off_nothing_of_it_is_sent() {
        let mut provider = plain_provider();
        provider.pkce = false;
        let (built, query) = asked(&provider, &[]);
        assert!(built.verifier.is_none());
        assert!(!query.contains_key("code_challenge") && !query.contains_key("code_challenge_method"));
    }

    #[test]
    fn every_request_has_its_own_state_and_verifier() {
        let mut seen = HashSet::new();
        for _ in 0..1000 {
            let (built, _) = asked(&plain_provider(), &[]);
            assert_eq!(built.state.len(), 43);
            assert!(seen.insert(built.state));
            assert!(seen.insert(built.verifier.unwrap().expose().to_owned()));
        }
    }

    #[test]
    fn each_slot_asks_in_its_own_parameter_with_the_providers_separator() {
        let mut provider = plain_provider();
        provider.scopes.separator_request = ',';
        provider.authorize.scope_params = vec![
            ScopeParam { param: "scope".to_owned(), slot: "bot".parse().unwrap() },
            ScopeParam { param: "user_scope".to_owned(), slot: "user".parse().unwrap() },
        ];
        let (_, query) = asked(&provider, &[("bot", "b a"), ("user", "c")]);
        assert_eq!((query["scope"].as_str(), query["user_scope"].as_str()), ("a,b", "c"));
        let (_, query) = asked(&provider, &[("user", "c")]);
        assert!(!query.contains_key("scope"), "an empty list is not sent");
    }

    #[test]
    fn the_offline_scope_is_asked_for_and_openid_brings_a_nonce() {
        let mut provider = plain_provider();
        provider.authorize.offline_scope = Some("offline_access".parse().unwrap());
        let (built, query) = asked(&provider, &[("main", "openid")]);
        assert_eq!(query["scope"], "offline_access openid");
        assert_eq!(query["nonce"], built.nonce.unwrap());
        assert!(asked(&provider, &[("main", "repo")]).0.nonce.is_none());
    }

    #[test]
    fn the_issuer_is_compared_byte_for_byte() {
        use CallbackIss::{Ignore, Require, ValidateIfPresent};
        for (rule, iss, good) in [
            (Require, Some("https://as.example"), true),
            (Require, None, false),
            (Require, Some("https://as.example/"), false),
            (Require, Some("HTTPS://as.example"), false),
            (ValidateIfPresent, None, true),
            (ValidateIfPresent, Some("https://as.example"), true),
            (ValidateIfPresent, Some("https://evil.example"), false),
            (ValidateIfPresent, Some(""), false),
            (Ignore, Some("anything"), true),
        ] {
            let rules = IssuerRules { accept: vec!["https://as.example".to_owned()], callback_iss: rule };
            assert_eq!(check_issuer(&rules, iss).is_ok(), good, "{rule:?} {iss:?}");
        }
    }
}
