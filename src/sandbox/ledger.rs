//! The ledger: what became of every code and token, in the order in which it happened.
//!
//! Secrets stand in it by fingerprint only. It is kept in memory and never shortened: it is the evidence of a run.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::model::time::Timestamp;

/// The first half of a secret's SHA-256: enough to recognise it, useless to whoever wants it.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// The fingerprint of `secret`.
    #[must_use]
    pub fn of(secret: &str) -> Self {
        let digest = Sha256::digest(secret.as_bytes());
        let mut half = [0; 16];
        half.copy_from_slice(&digest[..16]);
        Self(half)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// Which grant of this sandbox; counted from 1.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct GrantId(pub u32);

/// What happened.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It was made.
    Issued,
    /// A client sent it.
    Presented,
    /// The kernel took the last byte of the answer that carries it. Written down right after, so that the client may be
    /// a moment ahead of the ledger.
    Delivered,
    /// A client sent it and was refused.
    Refused,
    /// It was ended.
    Revoked,
    /// The answer that would have carried it, or the request that did, was dropped.
    Dropped,
}

/// What it happened to.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Secret {
    /// An authorization code.
    Code,
    /// An access token.
    Access,
    /// A refresh token.
    Refresh,
    /// A device code (RFC 8628); each poll presents it.
    Device,
}

/// One line of the ledger.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// What happened.
    pub kind: Kind,
    /// What it happened to.
    pub what: Secret,
    /// Which one.
    pub fingerprint: Fingerprint,
    /// The grant it belongs to, where that is known.
    pub grant: Option<GrantId>,
    /// The kind of token request it was part of.
    pub grant_type: Option<&'static str>,
    /// The client it belongs to, where that is known.
    #[serde(serialize_with = "as_text")]
    pub client: Option<Arc<str>>,
    /// `ok`, or why not: an OAuth error code, `scripted` for a fault, `reuse`, `expired`, …
    pub outcome: &'static str,
    /// Of a presentation: how many requests with this very secret were unanswered, this one included.
    pub concurrently_in_flight: u32,
}

/// A refresh token that was sent when it should not have been.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct DoublePresentation {
    /// Which one.
    pub fingerprint: Fingerprint,
    /// The grant it belongs to.
    pub grant: Option<GrantId>,
    /// It was sent while an earlier request with it was unanswered.
    pub concurrent: bool,
    /// It was sent after an answer with its successor had been delivered.
    pub after_delivery: bool,
}

/// Everything that happened, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    entries: Vec<Entry>,
    doubles: Vec<DoublePresentation>,
}

impl Ledger {
    /// All lines.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The lines of this kind about this sort of secret.
    pub fn of(&self, kind: Kind, what: Secret) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.kind == kind && entry.what == what)
    }

    /// The presentations of refresh tokens, successful or not.
    pub fn refreshes(&self) -> impl Iterator<Item = &Entry> {
        self.of(Kind::Presented, Secret::Refresh)
    }

    /// How many refreshes brought an access token, delivered or not.
    #[must_use]
    pub fn refreshed(&self) -> usize {
        self.of(Kind::Issued, Secret::Access).filter(|entry| entry.grant_type == Some("refresh_token")).count()
    }

    /// How often this secret was presented.
    #[must_use]
    pub fn presentations_of(&self, secret: Fingerprint) -> usize {
        self.entries.iter().filter(|entry| entry.fingerprint == secret && entry.kind == Kind::Presented).count()
    }

    /// The refresh tokens that were sent while unanswered, or again after their successor was delivered. Sending one
    /// again after the answer was lost is not among them.
    #[must_use]
    pub fn double_presentations(&self) -> &[DoublePresentation] {
        &self.doubles
    }

    /// How many lines of this kind about this sort of secret have this outcome.
    #[must_use]
    pub fn count(&self, kind: Kind, what: Secret, outcome: &str) -> usize {
        self.of(kind, what).filter(|entry| entry.outcome == outcome).count()
    }

    /// How many requests were refused, by reason.
    #[must_use]
    pub fn refusals(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for entry in self.entries.iter().filter(|entry| entry.kind == Kind::Refused) {
            *counts.entry(entry.outcome).or_default() += 1;
        }
        counts
    }

    pub(super) fn write(&mut self, at: Timestamp, line: Line<'_>) {
        self.entries.push(Entry {
            at_ms: at.as_millis(),
            kind: line.kind,
            what: line.what,
            fingerprint: line.fingerprint,
            grant: line.grant,
            grant_type: line.grant_type,
            client: line.client.cloned(),
            outcome: line.outcome,
            concurrently_in_flight: line.in_flight,
        });
    }

    pub(super) fn note_double(&mut self, double: DoublePresentation) {
        self.doubles.push(double);
    }
}

fn as_text<S: Serializer>(client: &Option<Arc<str>>, to: S) -> Result<S::Ok, S::Error> {
    client.as_deref().serialize(to)
}

/// What goes into one line, borrowed.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) kind: Kind,
    pub(super) what: Secret,
    pub(super) fingerprint: Fingerprint,
    pub(super) grant: Option<GrantId>,
    pub(super) grant_type: Option<&'static str>,
    pub(super) client: Option<&'a Arc<str>>,
    pub(super) outcome: &'static str,
    pub(super) in_flight: u32,
}

impl<'a> Line<'a> {
    pub(super) const fn new(kind: Kind, what: Secret, fingerprint: Fingerprint) -> Self {
        Self { kind, what, fingerprint, grant: None, grant_type: None, client: None, outcome: "ok", in_flight: 0 }
    }

    pub(super) const fn of(mut self, grant: GrantId, client: &'a Arc<str>) -> Self {
        self.grant = Some(grant);
        self.client = Some(client);
        self
    }

    pub(super) const fn in_a(mut self, grant_type: Option<&'static str>) -> Self {
        self.grant_type = grant_type;
        self
    }

    pub(super) const fn because(mut self, outcome: &'static str) -> Self {
        self.outcome = outcome;
        self
    }
}
