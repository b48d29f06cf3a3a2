//! The promises, and how they are looked at.
//!
//! By the names of the state machine: at most one refresh of a grant is under way (I1, I6, by the ledger), a generation never
//! goes back (I2), what is handed out belongs to what the person gave last (I3), nothing is handed out after a disconnect (I4),
//! what the provider sent is ours (I5), and nobody is sent to the browser without a definite word of the provider (I7). There
//! is no audit trail yet, so nothing is said of it (I8).

use std::time::Duration;

use grantd::broker::token::Handout;
use grantd::broker::vault::Owner;
use grantd::model::connection::{Connection, ReconnectReason, State};
use grantd::model::id::TokenId;
use grantd::sandbox::{Entry, Fingerprint, GrantId, Kind, Ledger, Secret};
use grantd::store::records::Grant;

use super::class::Class;
use super::event::Answer;
use super::life::Keys;
use super::model::Account;
use super::stage::{Known, TOKEN_LIFE};

/// The account's row in the store: where it is and which refresh token it holds.
pub struct Row {
    pub connection: Connection,
    pub version: (u64, u64),
    pub refresh: Option<Fingerprint>,
}

impl Row {
    pub fn of(keys: &Keys, connection: Connection, grant: &Grant) -> Result<Self, String> {
        let owner = Owner::connection(&connection, grant.version);
        let sealed = grant.content.refresh.as_ref();
        let refresh = sealed.map(|sealed| owner.open_refresh(&keys.ring(), &grant.slot, sealed)).transpose();
        let refresh = refresh.map_err(|error| format!("a stored refresh token does not open: {error}"))?;
        let version = (grant.version.epoch.0, grant.version.generation.0);
        Ok(Self { version, refresh: refresh.map(|token| Fingerprint::of(token.expose())), connection })
    }
}

/// What is handed out is alive, the account's own, not what was refused, and never older than what came before.
pub fn of_handout(
    handout: &Handout,
    account: &Account,
    rejected: Option<&TokenId>,
    ledger: &Ledger,
    truth_ms: i64,
) -> Result<(), String> {
    let token = &handout.granted.token;
    if !account.connected {
        return Err("a token of a disconnected account was handed out".to_owned());
    }
    if token.left(handout.now).is_none_or(|left| left == Duration::ZERO) {
        return Err("a token that is dead by the broker's clock was handed out".to_owned());
    }
    let known = Fingerprint::of(token.access_token.expose());
    let issued = ledger.of(Kind::Issued, Secret::Access).find(|entry| entry.fingerprint == known);
    let issued = issued.ok_or("a token was handed out that the provider never gave")?;
    if issued.grant != Some(account.grant) {
        return Err(format!("a token of {:?} was handed out, and the person gave {:?}", issued.grant, account.grant));
    }
    if issued.at_ms + i64::try_from(TOKEN_LIFE.as_millis()).unwrap_or(i64::MAX) <= truth_ms {
        return Err("a token that is dead by the true time was handed out".to_owned());
    }
    if rejected == Some(&token.token_id) {
        return Err("the token that was refused upstream was handed out again".to_owned());
    }
    if token.generation.0 < account.handed.1 {
        return Err(format!("generation {} was handed out after {}", token.generation.0, account.handed.1));
    }
    Ok(())
}

/// What the provider's ledger has to say of the lines behind `from`.
pub fn of_ledger(ledger: &Ledger, from: usize, known: &Known) -> Result<(), String> {
    for entry in &ledger.entries()[from..] {
        if (entry.kind, entry.what) != (Kind::Presented, Secret::Refresh) {
            continue;
        }
        if entry.concurrently_in_flight > 1 {
            return Err("a refresh token was sent again before it was answered".to_owned());
        }
        if known.forbidden.contains(&entry.fingerprint) {
            return Err("a refresh token that works once was sent while the store is held as an old copy".to_owned());
        }
    }
    let doubled = ledger
        .double_presentations()
        .iter()
        .find(|double| double.after_delivery && double.grant.is_none_or(|grant| !known.excused.contains(&grant)));
    match doubled {
        Some(double) => Err(format!("a refresh token was sent though its successor had come: {double:?}")),
        None => Ok(()),
    }
}

/// What the store has to say of an account while nothing is under way.
pub fn of_row(class: Class, row: &Row, account: &Account, ledger: &Ledger, known: &Known) -> Result<(), String> {
    let name = &account.name;
    if row.version < account.stored || row.version < account.handed {
        let (stored, handed) = (account.stored, account.handed);
        return Err(format!("account {name} went back to {:?} from {stored:?}, {handed:?} handed out", row.version));
    }
    if row.connection.state == State::Revoked {
        return if account.connected { Err(format!("account {name} is revoked and nobody did it")) } else { Ok(()) };
    }
    if !account.connected {
        return Err(format!("account {name} was disconnected and is {:?}", row.connection.state));
    }
    let owed = account.owed(ledger);
    if row.refresh != owed {
        return Err(format!("account {name} holds refresh token {:?}, and the provider gave {owed:?}", row.refresh));
    }
    match row.connection.state {
        State::NeedsReconnect(reason) => is_condemned(row, (class, account.grant), reason, ledger, known),
        _ => Ok(()),
    }
}

/// Whether the provider has said often enough, and definitely, that it does not take the refresh token.
fn is_condemned(
    row: &Row,
    (class, grant): (Class, GrantId),
    reason: ReconnectReason,
    ledger: &Ledger,
    known: &Known,
) -> Result<(), String> {
    let Some(token) = row.refresh else { return Err("a grant without a refresh token was condemned".to_owned()) };
    let refused = ledger.of(Kind::Refused, Secret::Refresh).filter(|entry| entry.fingerprint == token);
    let (scripted, definite): (Vec<_>, Vec<_>) = refused.partition(|entry| entry.outcome == "scripted");
    // The ledger does not tell a scripted `invalid_grant` from a scripted 500.
    let refusals = known.scripted.iter().filter(|answer| matches!(answer, Answer::Refused)).count();
    let (refusals, sent) = (definite.len() + refusals.min(scripted.len()), ledger.presentations_of(token));
    let enough = match reason {
        ReconnectReason::RefreshTokenInvalid => refusals >= 2,
        ReconnectReason::LostResponse => refusals >= 1 && (sent >= 2 || known.crashes > 0),
        _ => false,
    };
    let own = |entry: &&Entry| entry.what == Secret::Refresh && entry.grant == Some(grant);
    let first_sent =
        ledger.entries().iter().position(|entry| entry.kind == Kind::Presented && entry.fingerprint == token);
    let is_spent = first_sent
        .is_some_and(|sent| ledger.entries()[sent..].iter().filter(own).any(|entry| entry.kind == Kind::Issued));
    let by_us = class.is_single_use() && is_spent && !known.put_back.contains(&grant);
    if by_us && reason != ReconnectReason::LostResponse {
        return Err(format!("an answer was lost, and the person is told {reason:?}"));
    }
    if enough { Ok(()) } else { Err(format!("{reason:?} after {refusals} definite refusals of {sent}")) }
}

/// Whether the provider was given a reason to condemn this account: it was told to refuse, or a refresh token that works once
/// was lost, or an old one came back.
pub fn had_it_coming(class: Class, account: &Account, known: &Known) -> bool {
    let lost = |answer: &Answer| matches!(answer, Answer::Lost | Answer::Truncated) && class.is_single_use();
    let scripted = known.scripted.iter().any(|answer| matches!(answer, Answer::Refused) || lost(answer));
    scripted || !account.destroyed.is_empty() || known.excused.contains(&account.grant)
}
