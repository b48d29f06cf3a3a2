//! The audit log as it is kept: entries in a chain of hashes, and what a backend has to do with them.
//!
//! ```text
//! hash = SHA-256("grantd/audit/1" 0x00 ‖ hash of the entry before ‖ seq, 8 bytes, big-endian ‖ the entry as it was written)
//! ```
//!
//! Before the first entry stand 32 zero bytes. Whoever changes, adds or takes out an entry would have to write all that follow
//! anew, and the head and the daily checkpoints with them, which are authenticated with a key that no backend has.

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};

use crate::model::time::Timestamp;
use crate::store::StoreError;

/// A hash of the chain, or a digest under the key.
pub type Hash = [u8; 32];

const DAY: i64 = 24 * 3600 * 1000;

/// A place in the chain: behind the entry of this number.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Position {
    /// The number of the entry; 0 before the first.
    pub seq: u64,
    /// Its hash; zeros before the first.
    pub hash: Hash,
    /// Its time.
    pub at: Timestamp,
}

impl Position {
    /// The place behind the entry that comes next.
    #[must_use]
    pub fn next(&self, seq: u64, at: Timestamp, text: &str) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(b"grantd/audit/1\0");
        hasher.update(self.hash);
        hasher.update(seq.to_be_bytes());
        hasher.update(text.as_bytes());
        Self { seq, hash: hasher.finalize().into(), at }
    }

    /// Whether an entry of this time begins another day (UTC), so that a checkpoint belongs here.
    #[must_use]
    pub const fn ends_a_day(&self, next: Timestamp) -> bool {
        self.seq > 0 && next.as_millis().div_euclid(DAY) > self.at.as_millis().div_euclid(DAY)
    }

    /// What is authenticated of it. `purpose` keeps a checkpoint from being taken for a head.
    #[must_use]
    pub fn sealed_as(&self, purpose: &str) -> Vec<u8> {
        let mut data = purpose.as_bytes().to_vec();
        data.push(0);
        data.extend(self.seq.to_be_bytes());
        data.extend(self.at.as_millis().to_be_bytes());
        data.extend(self.hash);
        data
    }
}

/// An entry in the chain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Link {
    /// Its number.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
    /// Its JSON, to the byte as it was written.
    pub text: String,
}

/// Where the log begins and ends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Head {
    /// The entry before the first one that is kept.
    pub base: Position,
    /// The last entry.
    pub tip: Position,
    /// Authenticates both.
    pub mac: Hash,
}

/// The end of a day, authenticated.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Checkpoint {
    /// The last entry of the day.
    pub position: Position,
    /// Authenticates it.
    pub mac: Hash,
}

/// What is put behind the end of the log, in one step.
#[derive(Clone, Debug)]
pub struct Addition {
    /// The number of the last entry, as the log has to have it now.
    pub after: u64,
    /// The entries.
    pub links: Vec<Link>,
    /// The days that ended.
    pub checkpoints: Vec<Checkpoint>,
    /// The head as it is then.
    pub head: Head,
}

/// The part of a store that keeps the audit log. Entries come at the end and go at the beginning; none is ever changed.
#[async_trait]
pub trait AuditLog: Send + Sync + 'static {
    /// Where the log begins and ends; `None` while it is empty and always was.
    async fn audit_head(&self) -> Result<Option<Head>, StoreError>;

    /// Adds to the log, unless its last entry is another one than was thought. Says whether it did.
    async fn audit_add(&self, addition: &Addition) -> Result<bool, StoreError>;

    /// At most `limit` entries behind that number, in order.
    async fn audit_after(&self, seq: u64, limit: usize) -> Result<Vec<Link>, StoreError>;

    /// Every checkpoint that is kept, in order.
    async fn audit_checkpoints(&self) -> Result<Vec<Checkpoint>, StoreError>;

    /// Drops the entries up to and with `head.base`, and the checkpoints before it, unless the last entry is another one than
    /// `head.tip`. Says whether it did.
    async fn audit_prune(&self, head: &Head) -> Result<bool, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_an_entry_moves_the_hash() {
        let start = Position::default();
        let at = Timestamp::from_secs(1);
        let first = start.next(1, at, "a");
        assert_eq!(first, start.next(1, at, "a"));
        for other in [start.next(2, at, "a"), start.next(1, at, "b"), first.next(1, at, "a")] {
            assert_ne!(first.hash, other.hash);
        }
    }

    #[test]
    fn the_hash_is_the_documented_one() {
        let mut input = b"grantd/audit/1\0".to_vec();
        input.extend([0; 32]);
        input.extend([0, 0, 0, 0, 0, 0, 0, 1]);
        input.extend(b"{}");
        let expected: Hash = Sha256::digest(input).into();
        assert_eq!(Position::default().next(1, Timestamp::default(), "{}").hash, expected);
    }

    #[test]
    fn a_day_ends_at_midnight_and_only_forward() {
        let at = |seconds| Position { seq: 1, at: Timestamp::from_secs(seconds), ..Position::default() };
        for (before, next, ends) in
            [(86_399, 86_400, true), (86_400, 86_401, false), (86_400, 86_399, false), (0, 200_000, true)]
        {
            assert_eq!(at(before).ends_a_day(Timestamp::from_secs(next)), ends, "{before} {next}");
        }
        assert!(!Position::default().ends_a_day(Timestamp::from_secs(86_400)), "nothing has been written yet");
    }
}
