//! What must be true, in a few fields: whose grant an account has, how far it has come, and what was destroyed on its way.

use std::collections::HashSet;

use grantd::model::id::{ConnectionId, TokenId};
use grantd::sandbox::{Entry, Fingerprint, GrantId, Kind, Ledger, Secret};

/// One account of the person.
#[derive(Clone, Debug)]
pub struct Account {
    pub name: String,
    pub id: ConnectionId,
    pub connected: bool,
    /// What the provider calls what the person gave last.
    pub grant: GrantId,
    /// The epoch and the generation that the store has shown.
    pub stored: (u64, u64),
    /// The epoch and the generation of what was handed out.
    pub handed: (u64, u64),
    /// What was handed out, oldest first.
    pub token_ids: Vec<TokenId>,
    /// Refresh tokens that the provider sent and that are lost, by no fault of the engine.
    pub destroyed: HashSet<Fingerprint>,
}

impl Account {
    /// The refresh token that has to be ours: the last one that the provider gave for the grant and that got through.
    pub fn owed(&self, ledger: &Ledger) -> Option<Fingerprint> {
        let own = |entry: &&Entry| entry.what == Secret::Refresh && entry.grant == Some(self.grant);
        let came = |entry: &&Entry| entry.kind == Kind::Delivered && !self.destroyed.contains(&entry.fingerprint);
        let last = ledger.entries().iter().filter(own).rfind(came);
        let first = || ledger.of(Kind::Issued, Secret::Refresh).find(own);
        last.or_else(first).map(|entry| entry.fingerprint)
    }

    /// Everything that the provider sent from this line of the ledger on is lost, except what is here.
    pub fn lose(&mut self, ledger: &Ledger, from: usize, except: Option<Fingerprint>) {
        let sent = |entry: &&Entry| {
            (entry.kind, entry.what, entry.grant) == (Kind::Delivered, Secret::Refresh, Some(self.grant))
        };
        let lost = ledger.entries()[from..].iter().filter(sent).map(|entry| entry.fingerprint);
        let lost: Vec<Fingerprint> = lost.filter(|&token| Some(token) != except).collect();
        self.destroyed.extend(lost);
    }
}

/// How many refreshes the provider has not answered yet.
pub fn unanswered(ledger: &Ledger) -> usize {
    let of_refresh = |entry: &&Entry| entry.grant_type == Some("refresh_token");
    let presented = ledger.refreshes().count();
    let ended = |entry: &&Entry| match (entry.kind, entry.what) {
        (Kind::Refused, Secret::Refresh) | (Kind::Delivered | Kind::Dropped, Secret::Access) => true,
        (Kind::Dropped, Secret::Refresh) => entry.outcome == "scripted",
        _ => false,
    };
    presented.saturating_sub(ledger.entries().iter().filter(of_refresh).filter(ended).count())
}
