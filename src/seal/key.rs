//! Key material: 256 bits in one place on the heap, wiped when dropped, and what is derived from them.

use std::fmt;

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::model::id::random_bytes;

/// How many bytes a key has.
pub(super) const KEY_LEN: usize = 32;

/// What every derivation begins with, so that a key used elsewhere never yields one of ours.
const CONTEXT: &str = "grantd/v1/";

/// A 256-bit key. Boxed, because moving a value leaves a copy of it behind that nobody wipes.
pub(super) struct Key(Box<Zeroizing<[u8; KEY_LEN]>>);

impl Key {
    pub(super) fn random() -> Self {
        Self::filled(|bytes| *bytes = random_bytes())
    }

    /// Takes a copy; `None` if it is not exactly 32 bytes.
    pub(super) fn copy_of(bytes: &[u8]) -> Option<Self> {
        (bytes.len() == KEY_LEN).then(|| Self::filled(|key| key.copy_from_slice(bytes)))
    }

    /// HKDF-SHA256 (RFC 5869) with `salt` and the info `grantd/v1/<purpose>`.
    pub(super) fn derive(&self, salt: &[u8], purpose: &str) -> Self {
        let hkdf = Hkdf::<Sha256>::new(Some(salt), self.expose());
        Self::filled(|okm| {
            hkdf.expand_multi_info(&[CONTEXT.as_bytes(), purpose.as_bytes()], okm)
                .expect("32 bytes are a valid length for HKDF-SHA256");
        })
    }

    pub(super) fn expose(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    fn filled(fill: impl FnOnce(&mut [u8; KEY_LEN])) -> Self {
        let mut key = Self(Box::new(Zeroizing::new([0; KEY_LEN])));
        fill(&mut key.0);
        key
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key([redacted])")
    }
}
