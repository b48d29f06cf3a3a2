//! Secrets at rest: a root key seals a keyring, the keyring seals every value, and each value is bound to its place.
//!
//! The format is described in `docs/SEALING.md` and pinned by the vectors in `docs/seal-vectors.json`.
//!
//! ```text
//! root key ── seals ──▶ keyring { kid → key, one of them primary; a key for digests }
//!                          └─ HKDF-SHA256(key, 32 random bytes) ──▶ a key for one message ── AES-256-GCM ──▶ Sealed
//! ```

mod format;
mod key;
mod keyring;
mod root;
#[cfg(test)]
mod vectors;

pub use keyring::Keyring;
pub use root::{RootKey, RootKeyError};

use crate::model::id::{ProviderId, TenantId, Version};

/// Ciphertext in format 1. It opens only in the place it was sealed for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// Takes bytes as they were stored. Whether they are a sealed value shows when they are opened.
    #[must_use]
    pub const fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes to store.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Where a sealed value belongs. All of it is associated data, so a value moved to another row, column, tenant or
/// generation does not open.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The tenant of the subject.
    pub tenant: &'a TenantId,
    /// The provider that issued the value.
    pub provider: &'a ProviderId,
    /// The connection or the connect session that holds the value.
    pub owner: &'a str,
    /// Which value of it: column and slot.
    pub column: &'a str,
    /// The version of the grant.
    pub version: Version,
}

/// Why a keyring stays shut.
#[derive(Debug, thiserror::Error)]
pub enum UnlockError {
    /// Another root key sealed it: an operator has to give the right one. Both are named by their fingerprints.
    #[error("the root key {given} does not open this store; it was sealed with {expected}")]
    WrongRoot {
        /// The fingerprint of the root key that sealed the keyring.
        expected: String,
        /// The fingerprint of the root key that was tried.
        given: String,
    },
    /// The root key is the right one, and the keyring is not what was sealed: restore it from a backup.
    #[error("the keyring is damaged: {0}")]
    Damaged(&'static str),
}

/// Why a sealed value stays shut. Nothing of it is given away.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum OpenError {
    /// The keyring is older than the value, or the key has been destroyed.
    #[error("sealed with a key that is not in the keyring")]
    UnknownKey,
    /// Cut off, of a later format, or never sealed.
    #[error("not a sealed value of a known format")]
    Format,
    /// Moved to another place, or changed by somebody without the key.
    #[error("does not belong here or was changed")]
    Forged,
}
