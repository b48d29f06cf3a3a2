//! ID tokens (OpenID Connect Core section 3.1.3.7): nothing of one is used until all of it has been checked.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openidconnect::JsonWebKey as _;
use openidconnect::core::{CoreJsonWebKey, CoreJsonWebKeySet, CoreJsonWebKeyUse, CoreJwsSigningAlgorithm};
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

/// How far in the future, in seconds, a token may begin to be good: their clock and ours are never the same.
const CLOCKS_DIFFER: f64 = 60.0;

/// The claims of an ID token that passed every check.
///
/// The crate that knows the signatures takes no issuer that is not a URL, and some providers have one: the claims are
/// checked here.
///
/// # Errors
/// If any check fails; which one is for the operator's log only.
pub fn verify(token: &str, keys: &[u8], expected: &Expected<'_>) -> Result<Value, IdTokenError> {
    let (message, signature) = token.rsplit_once('.').ok_or(IdTokenError::Form)?;
    let (header, claims) = message.split_once('.').ok_or(IdTokenError::Form)?;
    let (header, claims) = (part(header).ok_or(IdTokenError::Form)?, part(claims).ok_or(IdTokenError::Form)?);
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| IdTokenError::Form)?;
    let keys: CoreJsonWebKeySet = serde_json::from_slice(keys).map_err(|_| IdTokenError::Keys)?;
    if !is_from(expected, &claims) {
        return Err(IdTokenError::Issuer);
    }
    if !is_signed(&header, message.as_bytes(), &signature, &keys) || !is_good(&claims, expected) {
        return Err(IdTokenError::Check);
    }
    if !expected.rules.claims.iter().all(|rule| rule.allows(&claims)) {
        return Err(IdTokenError::Claim);
    }
    Ok(claims)
}

/// RFC 7515 section 5.2. A header that asks for more than we know (`crit`) is not understood.
fn is_signed(header: &Value, message: &[u8], signature: &[u8], keys: &CoreJsonWebKeySet) -> bool {
    let named = header.get("alg").cloned().unwrap_or_default();
    let Ok(algorithm) = serde_json::from_value::<CoreJwsSigningAlgorithm>(named) else { return false };
    if !ALGORITHMS.contains(&algorithm) || header.get("crit").is_some() {
        return false;
    }
    let id = header.get("kid").and_then(Value::as_str);
    let may_be_it = |key: &&CoreJsonWebKey| {
        let named = key.key_id().is_none_or(|known| id.is_none_or(|id| known.as_str() == id));
        named && key.key_use().is_none_or(|usage| *usage == CoreJsonWebKeyUse::Signature)
    };
    keys.keys().iter().filter(may_be_it).any(|key| key.verify_signature(&algorithm, message, signature).is_ok())
}

/// Subject, audience, time and nonce (OpenID Connect Core section 3.1.3.7). It is ours alone: an audience that names
/// others too could be used by them.
fn is_good(claims: &Value, expected: &Expected<'_>) -> bool {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let number = |name: &str| claims.get(name).and_then(Value::as_f64);
    let audience = match claims.get("aud") {
        Some(Value::Array(list)) if list.len() == 1 => list[0].as_str(),
        one => one.and_then(Value::as_str),
    };
    let nonce = match (expected.nonce, text("nonce")) {
        (Some(expected), Some(sent)) => constant_time_eq(expected, sent),
        (None, None) => claims.get("nonce").is_none(),
        _ => false,
    };
    #[expect(clippy::cast_precision_loss, reason = "a day in the far future may be off by a second")]
    let now = expected.now.as_secs() as f64;
    nonce
        && text("sub").is_some_and(|subject| !subject.is_empty())
        && audience == Some(expected.client_id)
        && claims.get("azp").is_none_or(|party| party.as_str() == Some(expected.client_id))
        && number("iat").is_some()
        && number("exp").is_some_and(|end| end > now)
        && claims.get("nbf").is_none_or(|start| start.as_f64().is_some_and(|start| start <= now + CLOCKS_DIFFER))
}

/// Whether the token names the issuer it has to come from: one that is accepted, or the template filled with its own claim.
fn is_from(expected: &Expected<'_>, claims: &Value) -> bool {
    let Some(named) = claims.get("iss").and_then(Value::as_str) else { return false };
    let templated = || -> Option<bool> {
        let template = expected.rules.issuer_template.as_ref()?;
        let claim = expected.rules.issuer_claim.as_ref()?;
        let value = claims.get(claim)?.as_str()?;
        let plain = !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        Some(plain && template.replace(&format!("{{{claim}}}"), value) == named)
    };
    expected.issuer.accept.iter().any(|issuer| issuer == named) || templated().unwrap_or(false)
}

fn part(text: &str) -> Option<Value> {
    json::read(&URL_SAFE_NO_PAD.decode(text).ok()?).filter(Value::is_object)
}

fn constant_time_eq(left: &str, right: &str) -> bool {
    use subtle::ConstantTimeEq as _;
    left.as_bytes().ct_eq(right.as_bytes()).into()
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
        for more in [
            json!({"aud": ["me"]}),
            json!({"azp": "me", "nbf": NOW + 30}),
            json!({"exp": 1_800_000_000.5}),
            json!({"auth_time": NOW, "unknown": {"a": []}}),
        ] {
            let mut good = claims();
            good.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let nameless = signer.sign(&json!({"alg": "RS256"}), &good);
            for token in [signer.sign(&header(), &good), nameless] {
                assert!(check(&token, &signer.jwks("k1"), &IdTokenRules::default()).is_ok(), "{more}");
            }
        }
    }

    #[test]
    fn an_issuer_need_not_be_a_url() {
        let signer = Signer::new();
        let (issuer, now) = (IssuerRules { accept: vec!["as.example".to_owned()], ..IssuerRules::default() }, NOW);
        let mut theirs = claims();
        theirs["iss"] = json!("as.example");
        let rules = IdTokenRules::default();
        let now = Timestamp::from_secs(now);
        let expected = Expected { issuer: &issuer, rules: &rules, client_id: "me", nonce: Some("n"), now };
        assert!(verify(&signer.sign(&header(), &theirs), &signer.jwks("k1"), &expected).is_ok());
        let other = signer.sign(&header(), &claims());
        assert_eq!(verify(&other, &signer.jwks("k1"), &expected), Err(IdTokenError::Issuer));
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
            ("no time of issue", without("iat")),
            ("an empty subject", changed("sub", json!(""))),
            ("a subject that is a number", changed("sub", json!(7))),
            ("not good yet", changed("nbf", json!(NOW + 3600))),
            ("for another party", changed("azp", json!("somebody"))),
            ("a nonce that is null", changed("nonce", json!(null))),
            ("an issuer that is a list", changed("iss", json!(["https://as.example"]))),
            ("a critical header", signer.sign(&json!({"alg": "RS256", "kid": "k1", "crit": ["b64"]}), &claims())),
            ("another key's name", signer.sign(&json!({"alg": "RS256", "kid": "k2"}), &claims())),
            ("another algorithm", signer.sign(&json!({"alg": "PS256", "kid": "k1"}), &claims())),
            ("an unknown algorithm", signer.sign(&json!({"alg": "HS256", "kid": "k1"}), &claims())),
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
