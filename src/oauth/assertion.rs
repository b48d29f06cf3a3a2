//! The assertion with which a client proves itself in place of a secret (RFC 7523 section 2.2, RFC 7521 section 4.2).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::model::client::ClientAuth;
use crate::model::client_key::ClientKey;
use crate::model::id::random_text;
use crate::model::provider::Provider;
use crate::model::provider::assertion::{Audience, SigningAlgorithm};
use crate::oauth::exchange::As;
use crate::oauth::rejection::Rejection;

/// How long an assertion is good: enough for clocks that differ and an answer that is slow.
const LIFETIME: Duration = Duration::from_secs(300);
/// It counts from a little earlier, because their clock may be behind ours.
const EARLIER: Duration = Duration::from_secs(30);

/// RFC 7523 section 2.2.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The parameters that prove the client in the body of a request; none where `auth` is another way.
///
/// # Errors
/// [`Rejection::Unsent`] if the key cannot sign as the definition wants.
pub fn params(whom: As<'_>, auth: ClientAuth) -> Result<Vec<(&'static str, String)>, Rejection> {
    if auth != ClientAuth::PrivateKeyJwt {
        return Ok(Vec::new());
    }
    let signed = whom.client.key.as_ref().and_then(|key| signed(whom, key));
    let assertion = signed.ok_or(Rejection::Unsent("the client's key cannot sign"))?;
    Ok(vec![("client_assertion_type", ASSERTION_TYPE.to_owned()), ("client_assertion", assertion)])
}

/// How the key signs for this provider: the first of the definition's ways that it can.
#[must_use]
pub fn algorithm(provider: &Provider, key: &ClientKey) -> Option<SigningAlgorithm> {
    provider.assertion.algorithms.iter().copied().find(|algorithm| key.can(*algorithm))
}

fn signed(whom: As<'_>, key: &ClientKey) -> Option<String> {
    let algorithm = algorithm(whom.provider, key)?;
    let mut header = json!({"alg": algorithm.as_str(), "typ": "JWT"});
    if let Some(thumbprint) = key.certificate_thumbprint() {
        header["x5t#S256"] = Value::from(thumbprint);
    }
    let now = whom.now.as_secs();
    let claims = json!({
        "iss": whom.client.id,
        "sub": whom.client.id,
        "aud": audience(whom.provider)?,
        "jti": random_text::<16>(),
        "iat": now,
        "nbf": whom.now.before(EARLIER).as_secs(),
        "exp": whom.now.after(LIFETIME).as_secs(),
    });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(&header), part(&claims));
    let signature = key.sign(algorithm, message.as_bytes())?;
    Some(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// One text, never a list: an assertion that names two servers could be used at the second by the first.
fn audience(provider: &Provider) -> Option<&str> {
    match provider.assertion.audience {
        Audience::Issuer => provider.issuer.accept.first().map(String::as_str),
        Audience::TokenEndpoint => Some(provider.endpoints.token.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey,
        VerificationAlgorithm,
    };

    use super::*;
    use crate::model::client::Client;
    use crate::model::client_key::tests::{certificate, p256, rsa};
    use crate::model::time::Timestamp;
    use crate::oauth::quirk::tests::plain_provider;

    const NOW: i64 = 1_800_000_000;

    fn signing(algorithms: &[SigningAlgorithm]) -> Provider {
        let mut provider = plain_provider();
        provider.client_auth = ClientAuth::PrivateKeyJwt;
        provider.assertion.algorithms = algorithms.to_vec();
        provider
    }

    fn made(provider: &Provider, key: ClientKey) -> Result<String, Rejection> {
        let client = Client { id: "me".to_owned(), secret: None, key: Some(key) };
        let params = params(As { provider, client: &client, now: Timestamp::from_secs(NOW) }, provider.client_auth)?;
        assert_eq!(params[0], ("client_assertion_type", ASSERTION_TYPE.to_owned()));
        assert_eq!(params[1].0, "client_assertion");
        Ok(params[1].1.clone())
    }

    fn part(assertion: &str, index: usize) -> Value {
        let part = assertion.split('.').nth(index).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    #[test]
    fn it_verifies_with_the_public_key_and_with_no_other() {
        use SigningAlgorithm::{ES256, PS256, RS256};
        let verifiers: [(_, &'static dyn VerificationAlgorithm); 3] = [
            (PS256, &RSA_PSS_2048_8192_SHA256),
            (RS256, &RSA_PKCS1_2048_8192_SHA256),
            (ES256, &ECDSA_P256_SHA256_FIXED),
        ];
        for (algorithm, verifier) in verifiers {
            let make = if algorithm == ES256 { p256 } else { rsa };
            let ((key, public), (_, other)) = (make(), make());
            let assertion = made(&signing(&[algorithm]), key).unwrap();
            assert_eq!(part(&assertion, 0)["alg"], algorithm.as_str());
            let (message, signature) = assertion.rsplit_once('.').unwrap();
            let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
            let verified = |public: &[u8], message: &str| {
                UnparsedPublicKey::new(verifier, public).verify(message.as_bytes(), &signature).is_ok()
            };
            assert!(verified(&public, message));
            assert!(!verified(&other, message) && !verified(&public, &message[1..]));
        }
    }

    #[test]
    fn it_says_who_for_whom_and_for_how_long_and_never_the_same_twice() {
        let mut provider = signing(&[SigningAlgorithm::ES256]);
        let assertion = made(&provider, p256().0).unwrap();
        let claims = part(&assertion, 1);
        for (name, value) in [
            ("iss", json!("me")),
            ("sub", json!("me")),
            ("aud", json!("https://as.example/token")),
            ("iat", json!(NOW)),
            ("nbf", json!(NOW - 30)),
            ("exp", json!(NOW + 300)),
        ] {
            assert_eq!(claims[name], value, "{name}");
        }
        assert!(part(&assertion, 0).get("x5t#S256").is_none(), "there is no certificate");
        assert_ne!(claims["jti"], part(&made(&provider, p256().0).unwrap(), 1)["jti"]);
        provider.assertion.audience = Audience::Issuer;
        assert_eq!(part(&made(&provider, p256().0).unwrap(), 1)["aud"], "https://as.example");
    }

    #[test]
    fn a_certificate_is_named_by_its_thumbprint() {
        let (key, public) = rsa();
        let key = key.with_certificate(certificate(&public).as_bytes()).unwrap();
        let thumbprint = key.certificate_thumbprint().unwrap().to_owned();
        assert_eq!(thumbprint.len(), 43);
        assert_eq!(part(&made(&signing(&[SigningAlgorithm::PS256]), key).unwrap(), 0)["x5t#S256"], thumbprint);
    }

    #[test]
    fn nothing_is_sent_with_a_key_of_another_kind() {
        let refused = made(&signing(&[SigningAlgorithm::PS256]), p256().0).unwrap_err();
        assert!(matches!(refused, Rejection::Unsent(_)), "{refused:?}");
        assert!(made(&plain_provider_with_issuer_audience(), p256().0).is_err(), "no issuer is known");
    }

    fn plain_provider_with_issuer_audience() -> Provider {
        let mut provider = signing(&[SigningAlgorithm::ES256]);
        provider.assertion.audience = Audience::Issuer;
        provider.issuer.accept.clear();
        provider
    }
}
