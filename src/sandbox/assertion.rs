//! Clients that sign for themselves in place of a secret (RFC 7523 section 3): a key made for one run, and whether an assertion
//! is that client's own.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey,
    VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::model::provider::assertion::SigningAlgorithm;
use crate::model::time::Timestamp;
use crate::sandbox::params::Params;

/// RFC 7523 section 2.2.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// The longest that an assertion may last (section 3 lets a server refuse what lasts unreasonably long).
const LIFETIME_MAX: Duration = Duration::from_secs(3600);

/// A private key and its certificate, made for one run and known to nobody else.
pub struct MadeKey {
    pem: Zeroizing<String>,
    certificate: String,
    public: PublicKey,
}

/// What a provider knows of a client that signs.
#[derive(Clone, Debug)]
pub(super) struct PublicKey {
    algorithm: SigningAlgorithm,
    public: Vec<u8>,
    thumbprint: String,
}

/// What is wrong with an assertion (RFC 7523 section 3).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AssertionFault {
    /// There is none, or it is no JWT of the kind that was agreed on.
    #[error("no assertion that can be read")]
    Form,
    /// It is signed in another way than was agreed on.
    #[error("alg")]
    Algorithm,
    /// The client's key did not sign it.
    #[error("signature")]
    Signature,
    /// It names another certificate.
    #[error("x5t#S256")]
    Certificate,
    /// Another client made it.
    #[error("iss")]
    Issuer,
    /// It is about another client.
    #[error("sub")]
    Subject,
    /// It is for another server.
    #[error("aud")]
    Audience,
    /// It is too old, too young, or lasts too long.
    #[error("exp")]
    Lifetime,
    /// It was used before, or nothing tells.
    #[error("jti")]
    Replayed,
}

/// The assertions of one client, as its provider sees them.
#[derive(Debug)]
pub(super) struct Assertions {
    client: Arc<str>,
    key: PublicKey,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    used: HashSet<String>,
    last_fault: Option<AssertionFault>,
}

impl MadeKey {
    /// A key that signs like this.
    ///
    /// # Panics
    /// On a system without randomness.
    #[must_use]
    pub fn make(algorithm: SigningAlgorithm) -> Self {
        let kind = match algorithm {
            SigningAlgorithm::ES256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            SigningAlgorithm::PS256 | SigningAlgorithm::RS256 => &rcgen::PKCS_RSA_SHA256,
        };
        let key = KeyPair::generate_for(kind).expect("a system without randomness cannot make keys");
        let params = CertificateParams::new(Vec::new()).expect("no names are good names");
        let certificate = params.self_signed(&key).expect("a new key can sign");
        let public = PublicKey {
            algorithm,
            public: key.public_key_raw().to_vec(),
            thumbprint: URL_SAFE_NO_PAD.encode(Sha256::digest(certificate.der())),
        };
        Self { pem: Zeroizing::new(key.serialize_pem()), certificate: certificate.pem(), public }
    }

    /// The private key in PEM (RFC 5958).
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The certificate in PEM (RFC 5280).
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// How it signs.
    #[must_use]
    pub const fn algorithm(&self) -> SigningAlgorithm {
        self.public.algorithm
    }

    pub(super) fn public(&self) -> PublicKey {
        self.public.clone()
    }
}

impl std::fmt::Debug for MadeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MadeKey([redacted])")
    }
}

impl PublicKey {
    fn verifies(&self, message: &str, signature: &[u8]) -> bool {
        let how: &'static dyn VerificationAlgorithm = match self.algorithm {
            SigningAlgorithm::ES256 => &ECDSA_P256_SHA256_FIXED,
            SigningAlgorithm::PS256 => &RSA_PSS_2048_8192_SHA256,
            SigningAlgorithm::RS256 => &RSA_PKCS1_2048_8192_SHA256,
        };
        UnparsedPublicKey::new(how, &self.public).verify(message.as_bytes(), signature).is_ok()
    }
}

impl Assertions {
    /// Those of `client`, which holds the private half of `key`. None was used yet.
    pub(super) fn of(client: &str, key: PublicKey) -> Self {
        Self { client: client.into(), key, seen: Mutex::default() }
    }

    /// Whether the parameters of a request prove the client to the server that `audience` names. An assertion is good once.
    pub(super) fn check(&self, params: &Params, audience: &str, now: Timestamp) -> Result<(), AssertionFault> {
        let told =
            params.get("client_assertion").filter(|_| params.get("client_assertion_type") == Some(ASSERTION_TYPE));
        let claims = told.ok_or(AssertionFault::Form).and_then(|assertion| self.claims(assertion));
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let checked = claims.and_then(|claims| self.believe(&claims, audience, now, &mut seen.used));
        seen.last_fault = checked.err();
        checked
    }

    /// How many were good.
    pub(super) fn good(&self) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).used.len()
    }

    /// What was wrong with the last one; `None` if nothing was.
    pub(super) fn last_fault(&self) -> Option<AssertionFault> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).last_fault
    }

    /// The claims of an assertion that the client's key signed.
    fn claims(&self, assertion: &str) -> Result<Value, AssertionFault> {
        let (message, signature) = assertion.rsplit_once('.').ok_or(AssertionFault::Form)?;
        let (header, claims) = message.split_once('.').ok_or(AssertionFault::Form)?;
        let bytes = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| AssertionFault::Form);
        let json = |part: &str| serde_json::from_slice::<Value>(&bytes(part)?).map_err(|_| AssertionFault::Form);
        let header = json(header)?;
        if header["alg"] != self.key.algorithm.as_str() {
            return Err(AssertionFault::Algorithm);
        }
        if !self.key.verifies(message, &bytes(signature)?) {
            return Err(AssertionFault::Signature);
        }
        if header["x5t#S256"] != *self.key.thumbprint {
            return Err(AssertionFault::Certificate);
        }
        json(claims)
    }

    fn believe(
        &self,
        claims: &Value,
        audience: &str,
        now: Timestamp,
        used: &mut HashSet<String>,
    ) -> Result<(), AssertionFault> {
        let at = |name: &str| claims[name].as_i64().map(Timestamp::from_secs);
        if claims["iss"] != *self.client {
            return Err(AssertionFault::Issuer);
        }
        if claims["sub"] != *self.client {
            return Err(AssertionFault::Subject);
        }
        if audience.is_empty() || claims["aud"] != *audience {
            return Err(AssertionFault::Audience);
        }
        let lasts = at("exp").is_some_and(|end| now < end && end.since(now) <= LIFETIME_MAX);
        if !lasts || at("nbf").is_some_and(|start| now < start) {
            return Err(AssertionFault::Lifetime);
        }
        let id = claims["jti"].as_str().filter(|id| !id.is_empty()).ok_or(AssertionFault::Replayed)?;
        if used.insert(id.to_owned()) { Ok(()) } else { Err(AssertionFault::Replayed) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::client_key::ClientKey;

    const NOW: i64 = 1_800_000_000;
    const HERE: &str = "http://127.0.0.1:1/as.example/token";

    /// A form with an assertion of the claims, which `change` has touched before `key` signed them.
    fn sent(key: &MadeKey, jti: &str, change: impl FnOnce(&mut Value, &mut Value)) -> Params {
        let made = ClientKey::from_pem(key.pem().as_bytes()).unwrap();
        let made = made.with_certificate(key.certificate().as_bytes()).unwrap();
        let algorithm = key.algorithm();
        let mut header = json!({"alg": algorithm.as_str(), "x5t#S256": made.certificate_thumbprint()});
        let mut claims = json!({"iss": "me", "sub": "me", "aud": HERE, "jti": jti, "exp": NOW + 300, "nbf": NOW - 30});
        change(&mut header, &mut claims);
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&header), part(&claims));
        let signature = URL_SAFE_NO_PAD.encode(made.sign(algorithm, message.as_bytes()).unwrap());
        Params::parse(
            format!("client_assertion_type={ASSERTION_TYPE}&client_assertion={message}.{signature}").as_bytes(),
        )
    }

    fn checked(assertions: &Assertions, params: &Params) -> Result<(), AssertionFault> {
        assertions.check(params, HERE, Timestamp::from_secs(NOW))
    }

    #[test]
    fn an_assertion_of_the_client_is_good_once_however_it_signs() {
        for algorithm in [SigningAlgorithm::ES256, SigningAlgorithm::PS256, SigningAlgorithm::RS256] {
            let key = MadeKey::make(algorithm);
            let assertions = Assertions::of("me", key.public());
            let params = sent(&key, "1", |_, _| {});
            assert_eq!((checked(&assertions, &params), assertions.good()), (Ok(()), 1), "{algorithm:?}");
            assert_eq!(checked(&assertions, &params), Err(AssertionFault::Replayed));
            assert_eq!(assertions.last_fault(), Some(AssertionFault::Replayed));
            assert_eq!(checked(&assertions, &sent(&key, "2", |_, _| {})), Ok(()));
            assert_eq!((assertions.good(), assertions.last_fault()), (2, None));
        }
    }

    #[test]
    fn one_thing_wrong_is_enough() {
        let (key, other) = (MadeKey::make(SigningAlgorithm::ES256), MadeKey::make(SigningAlgorithm::ES256));
        let assertions = Assertions::of("me", key.public());
        let claim = |name: &'static str, value: Value| sent(&key, "1", |_, claims| claims[name] = value);
        for (params, fault) in [
            (Params::parse(b"client_assertion=a.b.c"), AssertionFault::Form),
            (Params::parse(format!("client_assertion_type={ASSERTION_TYPE}").as_bytes()), AssertionFault::Form),
            (sent(&key, "1", |header, _| header["alg"] = json!("none")), AssertionFault::Algorithm),
            (sent(&other, "1", |_, _| {}), AssertionFault::Signature),
            (sent(&key, "1", |header, _| header["x5t#S256"] = json!("x")), AssertionFault::Certificate),
            (claim("iss", json!("you")), AssertionFault::Issuer),
            (claim("sub", json!("you")), AssertionFault::Subject),
            (claim("aud", json!("https://elsewhere.example")), AssertionFault::Audience),
            (claim("aud", json!([HERE])), AssertionFault::Audience),
            (claim("exp", json!(NOW)), AssertionFault::Lifetime),
            (claim("exp", json!(NOW + 3601)), AssertionFault::Lifetime),
            (claim("exp", Value::Null), AssertionFault::Lifetime),
            (claim("nbf", json!(NOW + 1)), AssertionFault::Lifetime),
            (claim("jti", json!("")), AssertionFault::Replayed),
        ] {
            assert_eq!(checked(&assertions, &params), Err(fault));
        }
        assert_eq!(assertions.good(), 0);
        let nowhere = sent(&key, "1", |_, claims| claims["aud"] = json!(""));
        assert_eq!(assertions.check(&nowhere, "", Timestamp::from_secs(NOW)), Err(AssertionFault::Audience));
    }
}
