//! The private key of a client that signs for itself in place of a secret (RFC 7523), and the certificate that names it.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding,
    RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::model::provider::assertion::SigningAlgorithm;

/// A private key, and the thumbprint of its certificate if it has one. It is not printed.
pub struct ClientKey {
    pair: Pair,
    thumbprint: Option<String>,
}

enum Pair {
    P256(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

/// Why a text is not a key, or not the certificate of one.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ClientKeyError {
    /// No certificate in it.
    #[error("holds no certificate; expected PEM with `-----BEGIN CERTIFICATE-----`")]
    Certificate,
    /// Another key's certificate.
    #[error("is not the certificate of the client's key")]
    OtherKey,
    /// A key in another form, or none.
    #[error(
        "holds no private key; expected PEM with `-----BEGIN PRIVATE KEY-----` (PKCS#8 without a password), which \
         `openssl pkcs8 -topk8 -nocrypt` makes"
    )]
    Pem,
    /// A key of another kind.
    #[error("holds a private key of another kind; expected RSA of 2048 to 8192 bits, or EC on P-256")]
    Unusable,
}

impl ClientKey {
    /// Reads a key in PEM (RFC 7468, RFC 5958).
    ///
    /// # Errors
    /// If there is none, or not of a kind that signs as [`SigningAlgorithm`] says.
    pub fn from_pem(text: &[u8]) -> Result<Self, ClientKeyError> {
        let der = block(text, "PRIVATE KEY").ok_or(ClientKeyError::Pem)?;
        let rsa = || RsaKeyPair::from_pkcs8(&der).map(Pair::Rsa);
        let p256 = |_| EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der).map(Pair::P256);
        let pair = rsa().or_else(p256).map_err(|_| ClientKeyError::Unusable)?;
        Ok(Self { pair, thumbprint: None })
    }

    /// The key with its certificate, by which the provider knows it.
    ///
    /// # Errors
    /// If there is no certificate in the text, or it is another key's.
    pub fn with_certificate(self, text: &[u8]) -> Result<Self, ClientKeyError> {
        let der = block(text, "CERTIFICATE").ok_or(ClientKeyError::Certificate)?;
        // The public key stands in a certificate as it is (RFC 5280 section 4.1.2.7).
        let public = match &self.pair {
            Pair::P256(pair) => pair.public_key().as_ref(),
            Pair::Rsa(pair) => pair.public_key().as_ref(),
        };
        if !der.windows(public.len()).any(|part| part == public) {
            return Err(ClientKeyError::OtherKey);
        }
        Ok(Self { thumbprint: Some(URL_SAFE_NO_PAD.encode(Sha256::digest(&*der))), ..self })
    }

    /// What `x5t#S256` says (RFC 7515 section 4.1.8).
    #[must_use]
    pub fn certificate_thumbprint(&self) -> Option<&str> {
        self.thumbprint.as_deref()
    }

    /// Whether the key is of the kind that signs like this.
    #[must_use]
    pub const fn can(&self, algorithm: SigningAlgorithm) -> bool {
        matches!(
            (&self.pair, algorithm),
            (Pair::P256(_), SigningAlgorithm::ES256)
                | (Pair::Rsa(_), SigningAlgorithm::PS256 | SigningAlgorithm::RS256)
        )
    }

    /// A signature of the message (RFC 7518 section 3); nothing if the key is of another kind.
    #[must_use]
    pub fn sign(&self, algorithm: SigningAlgorithm, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match (&self.pair, algorithm) {
            (Pair::P256(pair), SigningAlgorithm::ES256) => Some(pair.sign(&random, message).ok()?.as_ref().to_vec()),
            (Pair::Rsa(pair), SigningAlgorithm::PS256) => rsa(pair, &RSA_PSS_SHA256, message),
            (Pair::Rsa(pair), SigningAlgorithm::RS256) => rsa(pair, &RSA_PKCS1_SHA256, message),
            _ => None,
        }
    }
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientKey([redacted])")
    }
}

fn rsa(pair: &RsaKeyPair, encoding: &'static dyn RsaEncoding, message: &[u8]) -> Option<Vec<u8>> {
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(encoding, &SystemRandom::new(), message, &mut signature).ok()?;
    Some(signature)
}

/// The first block with this label (RFC 7468 section 2).
fn block(text: &[u8], label: &str) -> Option<Zeroizing<Vec<u8>>> {
    let text = std::str::from_utf8(text).ok()?;
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (inside, _) = rest.split_once(&format!("-----END {label}-----"))?;
    let plain: Zeroizing<String> = Zeroizing::new(inside.split_ascii_whitespace().collect());
    STANDARD.decode(plain.as_bytes()).ok().map(Zeroizing::new)
}

#[cfg(test)]
pub(crate) mod tests {
    use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
    use aws_lc_rs::rsa::{KeyPair, KeySize};

    use super::*;

    fn pem(label: &str, der: &[u8]) -> String {
        let text = STANDARD.encode(der);
        let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
    }

    /// A new key in PEM, and its public half.
    pub(crate) fn rsa_pem() -> (String, Vec<u8>) {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        (pem("PRIVATE KEY", der.as_ref()), pair.public_key().as_ref().to_vec())
    }

    /// A new key in PEM, and its public half.
    pub(crate) fn p256_pem() -> (String, Vec<u8>) {
        let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.as_ref()).unwrap();
        (pem("PRIVATE KEY", der.as_ref()), pair.public_key().as_ref().to_vec())
    }

    pub(crate) fn rsa() -> (ClientKey, Vec<u8>) {
        let (pem, public) = rsa_pem();
        (ClientKey::from_pem(pem.as_bytes()).unwrap(), public)
    }

    pub(crate) fn p256() -> (ClientKey, Vec<u8>) {
        let (pem, public) = p256_pem();
        (ClientKey::from_pem(pem.as_bytes()).unwrap(), public)
    }

    /// What matters of a certificate here: the key in the midst of other bytes.
    pub(crate) fn certificate(public: &[u8]) -> String {
        pem("CERTIFICATE", &[b"before".as_slice(), public, b"behind"].concat())
    }

    #[test]
    fn a_key_is_read_among_other_blocks_and_never_printed() {
        let (pem, public) = p256_pem();
        let together = format!("Bag Attributes\n{}{pem}", certificate(&public)).replace('\n', "\r\n");
        let key = ClientKey::from_pem(together.as_bytes()).unwrap().with_certificate(together.as_bytes()).unwrap();
        assert!(key.certificate_thumbprint().is_some());
        assert_eq!(format!("{key:?}"), "ClientKey([redacted])");
    }

    #[test]
    fn what_is_no_key_of_a_kind_we_know_is_refused() {
        let (good, public) = rsa_pem();
        let cut: String = good.lines().filter(|line| line.starts_with('-')).collect::<Vec<_>>().join("\n");
        for (text, error) in [
            ("", ClientKeyError::Pem),
            (&*good.replace("PRIVATE KEY", "RSA PRIVATE KEY"), ClientKeyError::Pem),
            (&*good.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"), ClientKeyError::Pem),
            (&*good.replace("-----END", "-----"), ClientKeyError::Pem),
            (&*pem("PRIVATE KEY", b"not a key"), ClientKeyError::Unusable),
            (&*cut, ClientKeyError::Unusable),
        ] {
            assert_eq!(ClientKey::from_pem(text.as_bytes()).err(), Some(error), "{text}");
        }
        let of_another = rsa().0.with_certificate(certificate(&public).as_bytes());
        assert_eq!(of_another.err(), Some(ClientKeyError::OtherKey));
        assert_eq!(rsa().0.with_certificate(good.as_bytes()).err(), Some(ClientKeyError::Certificate));
    }

    #[test]
    fn a_key_signs_in_its_own_ways_only() {
        let ((rsa, _), (p256, _)) = (rsa(), p256());
        for (algorithm, by_rsa) in
            [(SigningAlgorithm::ES256, false), (SigningAlgorithm::PS256, true), (SigningAlgorithm::RS256, true)]
        {
            for (key, can) in [(&rsa, by_rsa), (&p256, !by_rsa)] {
                assert_eq!(key.can(algorithm), can);
                assert_eq!(key.sign(algorithm, b"message").is_some(), can);
            }
        }
    }
}
