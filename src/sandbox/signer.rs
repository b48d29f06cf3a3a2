//! Signatures of ID tokens: the key, made when it is first needed, and RS256 with it (RFC 7515, RFC 7517); or what only
//! looks like it.

use std::sync::Arc;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

/// DER before the modulus of a 2048-bit RSAPublicKey (RFC 8017 appendix A.1.1): a sequence and an integer with a sign byte.
const BEFORE_MODULUS: usize = 9;
const MODULUS: usize = 256;
/// The exponent is the last thing in it: 65537, three bytes.
const EXPONENT: usize = 3;

/// The signing key of one sandbox.
#[derive(Default)]
pub(super) struct Signer {
    key: OnceCell<Arc<Key>>,
    /// Not in the key set.
    other: OnceCell<Arc<Key>>,
}

/// How a token is signed.
#[derive(Clone, Copy)]
pub(super) enum Signature<'a> {
    /// As it should be.
    Rs256,
    /// By a key that is not ours, under the name of the one that is.
    Forged,
    /// Not at all (RFC 7518 section 3.6).
    None,
    /// By a secret that two share (RFC 7518 section 3.2).
    Shared(&'a [u8]),
}

struct Key {
    pair: KeyPair,
    id: String,
}

impl Signer {
    /// The public half as a key set.
    pub(super) async fn key_set(&self) -> Value {
        let key = self.key().await;
        let (modulus, exponent) = key.public();
        json!({"keys": [{
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": key.id,
            "n": URL_SAFE_NO_PAD.encode(modulus),
            "e": URL_SAFE_NO_PAD.encode(exponent),
        }]})
    }

    /// `claims` as a compact JWS.
    pub(super) async fn sign(&self, claims: &Value, by: Signature<'_>) -> String {
        let key = self.key().await;
        let algorithm = match by {
            Signature::Rs256 | Signature::Forged => "RS256",
            Signature::None => "none",
            Signature::Shared(_) => "HS256",
        };
        let header = json!({"alg": algorithm, "typ": "JWT", "kid": key.id});
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let input = format!("{}.{}", part(&header), part(claims));
        let signature = match by {
            Signature::Rs256 => key.sign(input.as_bytes()),
            Signature::Forged => made(&self.other).await.sign(input.as_bytes()),
            Signature::None => Vec::new(),
            Signature::Shared(secret) => {
                hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), input.as_bytes()).as_ref().to_vec()
            }
        };
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    async fn key(&self) -> Arc<Key> {
        made(&self.key).await
    }
}

/// Making a key takes long enough to hold up other requests, so it happens on a thread for that.
async fn made(place: &OnceCell<Arc<Key>>) -> Arc<Key> {
    let make = || async {
        let key = tokio::task::spawn_blocking(Key::generate).await;
        Arc::new(key.expect("making a key does not panic"))
    };
    Arc::clone(place.get_or_init(make).await)
}

impl Key {
    fn generate() -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).expect("a system without randomness cannot make keys");
        let digest = Sha256::digest(pair.public_key().as_ref());
        Self { id: URL_SAFE_NO_PAD.encode(&digest[..9]), pair }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
            .expect("the buffer has the length of the modulus");
        signature
    }

    /// Modulus and exponent, big-endian.
    fn public(&self) -> (&[u8], &[u8]) {
        let der = self.pair.public_key().as_ref();
        (&der[BEFORE_MODULUS..][..MODULUS], &der[der.len() - EXPONENT..])
    }
}

/// The `at_hash` of an access token under RS256 (OpenID Connect Core section 3.1.3.6).
pub(super) fn at_hash(access_token: &str) -> String {
    URL_SAFE_NO_PAD.encode(&Sha256::digest(access_token)[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_cut_out_of_its_der_at_the_right_places() {
        let key = Key::generate();
        let (modulus, exponent) = key.public();
        assert!(modulus[0] >= 0x80, "2048 bits have the first one set");
        assert_eq!(modulus[MODULUS - 1] % 2, 1, "a product of odd primes is odd");
        assert_eq!(exponent, [1, 0, 1]);
        assert_eq!(key.pair.public_key().as_ref().len(), BEFORE_MODULUS + MODULUS + 2 + EXPONENT);
    }

    #[test]
    fn at_hash_agrees_with_a_known_pair() {
        assert_eq!(at_hash("jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y"), "77QmUPtjPfzWtF2AnpK9RQ");
    }
}
