//! ID tokens (OpenID Connect Core section 3.1.3.7): nothing of one is used until all of it has been checked.

use std::str::FromStr as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openidconnect::core::{
    CoreGenderClaim, CoreIdTokenVerifier, CoreJsonWebKey, CoreJsonWebKeySet, CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
};
use openidconnect::{AdditionalClaims, ClientId, IdToken, IssuerUrl, JsonWebKey, JsonWebKeyUse, Nonce};
use serde_json::Value;

use crate::model::provider::rules::{IdTokenRules, IssuerRules};
use crate::model::time::Timestamp;
use crate::oauth::json;

/// Why an ID token is not believed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum IdTokenError {
    /// A claim says what the definition does not let pass, such as another directory.
    #[error("has a claim that is not allowed here")]
    Claim,
    /// Signature, audience, nonce, expiry or algorithm is wrong.
    #[error("failed its checks")]
    Check,
    /// Its issuer is not this provider.
    #[error("comes from another issuer")]
    Issuer,
    /// It is no JWT.
    #[error("is no JWT")]
    Form,
    /// The provider's keys cannot be read.
    #[error("cannot be checked: the provider's keys are unreadable")]
    Keys,
}

/// What an ID token is checked against.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The issuers accepted as they stand.
    pub issuer: &'a IssuerRules,
    /// The issuer as a template, where the provider has one.
    pub rules: &'a IdTokenRules,
    /// Our client id: the only audience.
    pub client_id: &'a str,
    /// The nonce that was sent.
    pub nonce: Option<&'a str>,
    /// Now.
    pub now: Timestamp,
}

type AnyIdToken = IdToken<NoClaims, CoreGenderClaim, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm>;

/// No claim beyond the standard ones is typed: pointers of the definition read them after the checks.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
struct NoClaims {}
impl AdditionalClaims for NoClaims {}

/// The signatures that are believed: asymmetric ones. A shared secret cannot prove who signed.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 7] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// The claims of an ID token that passed every check.
///
/// # Errors
/// If any check fails; which one is for the operator's log only.
pub fn verify(token: &str, keys: &[u8], expected: &Expected<'_>) -> Result<Value, IdTokenError> {
    let claims = claims_of(token).ok_or(IdTokenError::Form)?;
    let named = expected_issuer(expected, &claims).ok_or(IdTokenError::Issuer)?;
    let keys: CoreJsonWebKeySet = serde_json::from_slice(keys).map_err(|_| IdTokenError::Keys)?;
    let now = expected.now;
    let time = move || chrono_from(now);
    let nonce = |sent: Option<&Nonce>| match (expected.nonce, sent) {
        (Some(expected), Some(sent)) if constant_time_eq(expected, sent.secret()) => Ok(()),
        (None, None) => Ok(()),
        _ => Err("the nonce is not the one that was sent".to_owned()),
    };
    // The library reads no issuer without a scheme. Such a token has its signature checked as it stands, and its claims with
    // the scheme put before the issuer.
    let is_url = IssuerUrl::new(named.clone()).is_ok();
    let (text, issuer) = if is_url {
        (token.to_owned(), named)
    } else {
        check_signature(token, &keys)?;
        let issuer = format!("https://{named}");
        (respelled(token, &claims, &issuer).ok_or(IdTokenError::Form)?, issuer)
    };
    let parsed = AnyIdToken::from_str(&text).map_err(|_| IdTokenError::Form)?;
    let issuer = IssuerUrl::new(issuer).map_err(|_| IdTokenError::Issuer)?;
    let client = ClientId::new(expected.client_id.to_owned());
    let verifier =
        CoreIdTokenVerifier::new_public_client(client, issuer, keys).set_allowed_algs(ALGORITHMS).set_time_fn(time);
    let verifier = if is_url { verifier } else { verifier.insecure_disable_signature_check() };
    parsed.claims(&verifier, nonce).map_err(|_| IdTokenError::Check)?;
    if !expected.rules.claims.iter().all(|rule| rule.allows(&claims)) {
        return Err(IdTokenError::Claim);
    }
    Ok(claims)
}

/// The issuer this token has to come from: the accepted one it names, or the template filled with its own claim.
fn expected_issuer(expected: &Expected<'_>, claims: &Value) -> Option<String> {
    let named = claims.get("iss")?.as_str()?;
    let accepted = expected.issuer.accept.iter().any(|issuer| issuer == named);
    let templated = || -> Option<bool> {
        let template = expected.rules.issuer_template.as_ref()?;
        let claim = expected.rules.issuer_claim.as_ref()?;
        let value = claims.get(claim)?.as_str()?;
        let plain = !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        Some(plain && template.replace(&format!("{{{claim}}}"), value) == named)
    };
    let believed = accepted || templated().unwrap_or(false);
    believed.then(|| named.to_owned())
}

/// Whether a key of the provider, the one that the header names, made the signature (RFC 7515 section 5.2).
fn check_signature(token: &str, keys: &CoreJsonWebKeySet) -> Result<(), IdTokenError> {
    let (message, signature) = token.rsplit_once('.').ok_or(IdTokenError::Form)?;
    let header = part_of(token, 0).ok_or(IdTokenError::Form)?;
    let algorithm: CoreJwsSigningAlgorithm =
        serde_json::from_value(header["alg"].clone()).map_err(|_| IdTokenError::Form)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| IdTokenError::Form)?;
    let named = header["kid"].as_str();
    let made_by = |key: &CoreJsonWebKey| {
        named.is_none_or(|named| key.key_id().is_some_and(|id| id.as_str() == named))
            && key.key_use().is_none_or(JsonWebKeyUse::allows_signature)
            && key.verify_signature(&algorithm, message.as_bytes(), &signature).is_ok()
    };
    // A header that asks for more than is known here is not understood.
    let understood = ALGORITHMS.contains(&algorithm) && header.get("crit").is_none();
    let signed = understood && keys.keys().iter().any(made_by);
    if signed { Ok(()) } else { Err(IdTokenError::Check) }
}

/// The token with another spelling of its issuer. Its signature has been checked before.
fn respelled(token: &str, claims: &Value, issuer: &str) -> Option<String> {
    let mut claims = claims.clone();
    *claims.get_mut("iss")? = issuer.into();
    let (header, rest) = token.split_once('.')?;
    let (_, signature) = rest.split_once('.')?;
    Some(format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(claims.to_string())))
}

fn claims_of(token: &str) -> Option<Value> {
    part_of(token, 1)
}

fn part_of(token: &str, index: usize) -> Option<Value> {
    let part = token.split('.').nth(index)?;
    json::read(&URL_SAFE_NO_PAD.decode(part).ok()?)
}

fn constant_time_eq(left: &str, right: &str) -> bool {
    use subtle::ConstantTimeEq as _;
    left.as_bytes().ct_eq(right.as_bytes()).into()
}

fn chrono_from(now: Timestamp) -> chrono::DateTime<chrono::Utc> {
    chrono::DateTime::from_timestamp_millis(now.as_millis()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::{KeyPair, KeySize};
    use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
    use serde_json::json;

    use super::*;

    struct Signer(KeyPair);

    impl Signer {
        fn new() -> Self {
            Self(KeyPair::generate(KeySize::Rsa2048).unwrap())
        }

        fn jwks(&self, kid: &str) -> Vec<u8> {
            let public = self.0.public_key();
            let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
            let n = part(public.modulus().big_endian_without_leading_zero());
            let e = part(public.exponent().big_endian_without_leading_zero());
            json!({"keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid, "n": n, "e": e}]})
                .to_string()
                .into()
        }

        fn sign(&self, header: &Value, claims: &Value) -> String {
            let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
            let message = format!("{}.{}", part(header), part(claims));
            let mut signature = vec![0; self.0.public_modulus_len()];
            self.0.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
            format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
        }
    }

    const NOW: i64 = 1_800_000_000;

    fn header() -> Value {
        json!({"alg": "RS256", "kid": "k1", "typ": "JWT"})
    }

    fn claims() -> Value {
        json!({"iss": "https://as.example", "sub": "7", "aud": "me", "nonce": "n", "iat": NOW, "exp": NOW + 300,
               "tid": "t-1", "email": "a@example.org"})
    }

    fn check(token: &str, jwks: &[u8], rules: &IdTokenRules) -> Result<Value, IdTokenError> {
        let issuer = IssuerRules { accept: vec!["https://as.example".to_owned()], ..IssuerRules::default() };
        let now = Timestamp::from_secs(NOW);
        verify(token, jwks, &Expected { issuer: &issuer, rules, client_id: "me", nonce: Some("n"), now })
    }

    #[test]
    fn a_token_that_passes_every_check_gives_its_claims() {
        let signer = Signer::new();
        let read = check(&signer.sign(&header(), &claims()), &signer.jwks("k1"), &IdTokenRules::default()).unwrap();
        assert_eq!((read["sub"].as_str(), read["email"].as_str()), (Some("7"), Some("a@example.org")));
    }

    #[test]
    fn what_the_standard_allows_is_allowed() {
        let signer = Signer::new();
        for more in
            [json!({"aud": ["me"]}), json!({"azp": "me", "nbf": NOW}), json!({"auth_time": NOW, "unknown": {"a": []}})]
        {
            let mut good = claims();
            good.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let nameless = signer.sign(&json!({"alg": "RS256"}), &good);
            for token in [signer.sign(&header(), &good), nameless] {
                assert!(check(&token, &signer.jwks("k1"), &IdTokenRules::default()).is_ok(), "{more}");
            }
        }
    }

    #[test]
    fn one_wrong_thing_is_enough_to_refuse_it() {
        let (signer, other) = (Signer::new(), Signer::new());
        let jwks = signer.jwks("k1");
        let changed = |name: &str, value: Value| {
            let mut claims = claims();
            claims[name] = value;
            signer.sign(&header(), &claims)
        };
        let without = |name: &str| {
            let mut claims = claims();
            claims.as_object_mut().unwrap().remove(name);
            signer.sign(&header(), &claims)
        };
        let good = signer.sign(&header(), &claims());
        let unsigned = {
            let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
            format!("{}.{}.", part(&json!({"alg": "none"})), part(&claims()))
        };
        for (what, token) in [
            ("issuer", changed("iss", json!("https://evil.example"))),
            ("issuer with a slash", changed("iss", json!("https://as.example/"))),
            ("audience", changed("aud", json!("somebody"))),
            ("one audience of two", changed("aud", json!(["me", "somebody"]))),
            ("nonce", changed("nonce", json!("m"))),
            ("no nonce", without("nonce")),
            ("expired", changed("exp", json!(NOW - 1))),
            ("no expiry", without("exp")),
            ("no subject", without("sub")),
            ("expiry as text", changed("exp", json!("9999999999"))),
            ("signed by another key", other.sign(&header(), &claims())),
            ("cut short", good[..good.len() - 4].to_owned()),
            ("alg none", unsigned),
            ("no JWT", "x".to_owned()),
        ] {
            assert!(check(&token, &jwks, &IdTokenRules::default()).is_err(), "{what}");
        }
        assert!(check(&good, b"{}", &IdTokenRules::default()).is_err(), "no keys");
    }

    #[test]
    fn a_claim_that_the_definition_does_not_let_pass_refuses_the_token() {
        let signer = Signer::new();
        let token = signer.sign(&header(), &claims());
        for (rule, result) in [
            (json!({"claim": "tid", "one_of": ["t-1"]}), Ok(())),
            (json!({"claim": "tid", "one_of": ["t-2"]}), Err(IdTokenError::Claim)),
            (json!({"claim": "tid", "none_of": ["t-1"]}), Err(IdTokenError::Claim)),
            (json!({"claim": "hd", "none_of": ["t-1"]}), Err(IdTokenError::Claim)),
        ] {
            let rules: IdTokenRules = serde_json::from_value(json!({"claims": [rule]})).unwrap();
            assert_eq!(check(&token, &signer.jwks("k1"), &rules).map(drop), result, "{rule}");
        }
    }

    #[test]
    fn an_issuer_without_a_scheme_is_believed_if_it_is_accepted_and_all_else_is_right() {
        let (signer, other) = (Signer::new(), Signer::new());
        let issuer = IssuerRules { accept: vec!["as.example".to_owned()], ..IssuerRules::default() };
        let rules = IdTokenRules::default();
        let now = Timestamp::from_secs(NOW);
        let jwks = signer.jwks("k1");
        let check = |token: &str| {
            verify(token, &jwks, &Expected { issuer: &issuer, rules: &rules, client_id: "me", nonce: Some("n"), now })
        };
        let with = |name: &str, value: Value| {
            let mut claims = claims();
            claims["iss"] = json!("as.example");
            claims[name] = value;
            claims
        };
        let good = signer.sign(&header(), &with("sub", json!("7")));
        assert_eq!(check(&good).unwrap()["iss"], "as.example", "the claims stay as they were signed");
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let (message, signature) = good.rsplit_once('.').unwrap();
        let signed = message.split_once('.').unwrap().0;
        let unsigned = |alg: &str| format!("{}.{}.", part(&json!({"alg": alg})), part(&with("sub", json!("8"))));
        for (what, token) in [
            ("another issuer", signer.sign(&header(), &with("iss", json!("as2.example")))),
            ("audience", signer.sign(&header(), &with("aud", json!("somebody")))),
            ("nonce", signer.sign(&header(), &with("nonce", json!("m")))),
            ("expired", signer.sign(&header(), &with("exp", json!(NOW - 1)))),
            ("another key", other.sign(&header(), &with("sub", json!("7")))),
            ("a key by another name", signer.sign(&json!({"alg": "RS256", "kid": "k2"}), &with("sub", json!("7")))),
            ("other claims", format!("{signed}.{}.{signature}", part(&with("sub", json!("8"))))),
            ("not signed", unsigned("none")),
            ("an empty signature", unsigned("RS256")),
            ("one part more", format!("{good}.x")),
        ] {
            assert!(check(&token).is_err(), "{what}");
        }
    }

    #[test]
    fn a_templated_issuer_is_bound_to_the_tokens_own_tenant() {
        let signer = Signer::new();
        let rules = IdTokenRules {
            issuer_template: Some("https://login.example/{tid}/v2.0".to_owned()),
            issuer_claim: Some("tid".to_owned()),
            claims: Vec::new(),
        };
        let mut theirs = claims();
        theirs["iss"] = json!("https://login.example/t-1/v2.0");
        assert!(check(&signer.sign(&header(), &theirs), &signer.jwks("k1"), &rules).is_ok());
        for tenant in ["t-2", "", "t-1/../x", "t-1/v2.0#"] {
            theirs["tid"] = json!(tenant);
            let token = signer.sign(&header(), &theirs);
            assert_eq!(check(&token, &signer.jwks("k1"), &rules), Err(IdTokenError::Issuer), "{tenant}");
        }
    }
}
