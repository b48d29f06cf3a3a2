//! Format 1 of a sealed value: `0x01 | kind | kid(8) | salt(32) | nonce(12) | ciphertext | tag(16)`.

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use zeroize::Zeroizing;

use crate::model::id::random_bytes;
use crate::seal::OpenError;
use crate::seal::key::Key;

/// The format that is written. A reader refuses every other.
const VERSION: u8 = 1;
/// Lengths are hidden up to this many bytes.
const STEP: usize = 256;
/// The length of the plaintext, in front of it and inside the padding.
const LENGTH_LEN: usize = 4;
const TAG_LEN: usize = 16;

pub(super) const KID_LEN: usize = 8;
pub(super) const SALT_LEN: usize = 32;
pub(super) const NONCE_LEN: usize = 12;

/// Names a key in the clear. Random, so that it tells nothing of the key.
pub(super) type Kid = [u8; KID_LEN];

/// What was sealed, and with it which key is used and for what.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// A value in a place, under a key of the keyring.
    Value = 1,
    /// The keyring itself, under the root key; its kid is the fingerprint of the root key.
    Keyring = 2,
}

impl Kind {
    const fn purpose(self) -> &'static str {
        match self {
            Self::Value => "value",
            Self::Keyring => "keyring",
        }
    }
}

/// The two random inputs of one message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Randomness {
    pub(super) salt: [u8; SALT_LEN],
    pub(super) nonce: [u8; NONCE_LEN],
}

impl Randomness {
    pub(super) fn fresh() -> Self {
        Self { salt: random_bytes(), nonce: random_bytes() }
    }
}

/// Seals `plaintext` under `key`. `context` is what the value is bound to besides format, kind and kid.
pub(super) fn seal(
    key: &Key,
    kind: Kind,
    kid: &Kid,
    context: &[&[u8]],
    plaintext: &[u8],
    random: &Randomness,
) -> Vec<u8> {
    let payload = Payload { msg: &pad(plaintext), aad: &associated_data(kind, kid, context) };
    let sealed = cipher(key, kind, &random.salt)
        .encrypt(&Nonce::from(random.nonce), payload)
        .expect("a secret is far shorter than the 64 GiB that AES-GCM can take");
    [&[VERSION, kind as u8], &kid[..], &random.salt, &random.nonce, &sealed].concat()
}

/// A sealed value taken apart. Nothing of it is authenticated yet.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    pub(super) kid: &'a Kid,
    kind: Kind,
    salt: &'a [u8; SALT_LEN],
    nonce: &'a [u8; NONCE_LEN],
    body: &'a [u8],
}

impl<'a> Parts<'a> {
    /// Takes `bytes` apart if they are a value of this kind.
    pub(super) fn read(kind: Kind, bytes: &'a [u8]) -> Result<Self, OpenError> {
        let ([version, found], rest) = bytes.split_first_chunk().ok_or(OpenError::Format)?;
        let (kid, rest) = rest.split_first_chunk().ok_or(OpenError::Format)?;
        let (salt, rest) = rest.split_first_chunk().ok_or(OpenError::Format)?;
        let (nonce, body) = rest.split_first_chunk().ok_or(OpenError::Format)?;
        let padded = body.len().checked_sub(TAG_LEN).ok_or(OpenError::Format)?;
        if *version != VERSION || *found != kind as u8 || padded == 0 || !padded.is_multiple_of(STEP) {
            return Err(OpenError::Format);
        }
        Ok(Self { kid, kind, salt, nonce, body })
    }

    /// Opens it with `key`, which was chosen by the kid and nothing else.
    pub(super) fn open(&self, key: &Key, context: &[&[u8]]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let payload = Payload { msg: self.body, aad: &associated_data(self.kind, self.kid, context) };
        let padded = cipher(key, self.kind, self.salt)
            .decrypt(&Nonce::from(*self.nonce), payload)
            .map(Zeroizing::new)
            .map_err(|_| OpenError::Forged)?;
        unpad(&padded).ok_or(OpenError::Format)
    }
}

/// A cipher for one message. A random salt of 256 bits gives each its own key, so the 2^32 messages that one AES-GCM key
/// can take with random nonces (NIST SP 800-38D section 8.3) are no limit for a key of the keyring.
fn cipher(key: &Key, kind: Kind, salt: &[u8; SALT_LEN]) -> Aes256Gcm {
    let key = key.derive(salt, kind.purpose());
    Aes256Gcm::new(key.expose().into())
}

/// Each field behind its length, so that no two lists of fields give the same bytes.
fn associated_data(kind: Kind, kid: &Kid, context: &[&[u8]]) -> Vec<u8> {
    let mut data = Vec::with_capacity(256);
    let fixed: [&[u8]; 4] = [b"grantd", &[VERSION], &[kind as u8], kid];
    for field in fixed.iter().chain(context) {
        data.extend_from_slice(&length(field));
        data.extend_from_slice(field);
    }
    data
}

/// The plaintext behind its length, filled up with zeros to a multiple of [`STEP`].
fn pad(plaintext: &[u8]) -> Zeroizing<Vec<u8>> {
    let size = (LENGTH_LEN + plaintext.len()).next_multiple_of(STEP);
    let mut padded = Zeroizing::new(Vec::with_capacity(size));
    padded.extend_from_slice(&length(plaintext));
    padded.extend_from_slice(plaintext);
    padded.resize(size, 0);
    padded
}

fn unpad(padded: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (length, rest) = padded.split_first_chunk::<LENGTH_LEN>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (plaintext, filling) = rest.split_at_checked(length)?;
    let whole = filling.len() < STEP && filling.iter().all(|byte| *byte == 0);
    whole.then(|| Zeroizing::new(plaintext.to_vec()))
}

fn length(field: &[u8]) -> [u8; LENGTH_LEN] {
    u32::try_from(field.len()).expect("no field of ours reaches 4 GiB").to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_hides_the_length_and_comes_off_whole() {
        for (length, padded) in [(0, 256), (1, 256), (252, 256), (253, 512), (508, 512), (509, 768)] {
            let text = vec![7; length];
            assert_eq!(pad(&text).len(), padded, "{length}");
            assert_eq!(unpad(&pad(&text)).unwrap().as_slice(), text);
        }
    }

    #[test]
    fn padding_has_one_form_only() {
        let mut longer = pad(b"x").to_vec();
        longer.extend([0; STEP]);
        assert!(unpad(&longer).is_none(), "more than needed");
        let mut dirty = pad(b"x").to_vec();
        dirty[200] = 1;
        assert!(unpad(&dirty).is_none(), "not zeros");
        let mut beyond = pad(b"x").to_vec();
        beyond[0] = 0xff;
        assert!(unpad(&beyond).is_none(), "a length beyond the end");
        assert!(unpad(b"abc").is_none(), "no length at all");
    }

    #[test]
    fn fields_cannot_lend_each_other_bytes() {
        let kid = [0; KID_LEN];
        assert_ne!(
            associated_data(Kind::Value, &kid, &[b"ab", b"c"]),
            associated_data(Kind::Value, &kid, &[b"a", b"bc"])
        );
    }
}
