//! What the ledger of the provider, the store and the callers say when a run is over.

use std::collections::{BTreeMap, HashMap};

use grantd::sandbox::{Entry, Fingerprint, GrantId, Kind, Ledger, Secret};

use crate::kills::callers::Diary;
use crate::support::World;

/// Which grant of the provider each account of ours is. Fails if somebody was served a token that the provider never made, that
/// belongs to another account, or that is older than one served before.
pub fn grants_of_accounts(
    ledger: &Ledger,
    first: &BTreeMap<String, Fingerprint>,
    diary: &Diary,
) -> BTreeMap<String, GrantId> {
    let made: HashMap<Fingerprint, (usize, GrantId)> = ledger
        .of(Kind::Issued, Secret::Access)
        .enumerate()
        .map(|(order, entry)| (entry.fingerprint, (order, entry.grant.unwrap())))
        .collect();
    let grants: BTreeMap<String, GrantId> =
        first.iter().map(|(account, token)| (account.clone(), made[token].1)).collect();
    let mut newest: HashMap<(usize, &str), usize> = HashMap::new();
    let all = diary.served.lock().unwrap();
    for served in all.iter() {
        let &(order, grant) = made.get(&served.token).expect("the provider made the token");
        assert_eq!(grants[&served.account], grant, "`{}` was served the token of somebody else", served.account);
        // Nobody sees a token before it is durable, so no crash can take one back.
        let before = newest.insert((served.caller, &served.account), order).unwrap_or(order);
        assert!(before <= order, "`{}` went back to an older token", served.account);
    }
    grants
}

/// How many replacements of each account the store holds: the first pair is generation 1.
pub fn replacements_stored(world: &World) -> BTreeMap<String, usize> {
    let read_only = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let database = rusqlite::Connection::open_with_flags(world.daemon.home.store(), read_only).unwrap();
    let mut rows = database
        .prepare("SELECT account_id, generation FROM grants JOIN connections ON connections.id = grants.connection")
        .unwrap();
    let rows = rows.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))).unwrap();
    rows.map(|row| row.unwrap()).map(|(account, count)| (account, usize::try_from(count - 1).unwrap())).collect()
}

/// How often the provider has replaced the tokens of each grant.
pub fn replacements_given(ledger: &Ledger) -> BTreeMap<GrantId, usize> {
    let mut given = BTreeMap::new();
    for entry in ledger.of(Kind::Issued, Secret::Access).filter(|entry| entry.grant_type == Some("refresh_token")) {
        *given.entry(entry.grant.unwrap()).or_default() += 1;
    }
    given
}

/// Whether the provider has refused a refresh of this grant.
pub fn was_refused(ledger: &Ledger, grant: GrantId) -> bool {
    ledger
        .of(Kind::Refused, Secret::Refresh)
        .any(|entry| entry.grant == Some(grant) && entry.outcome == "invalid_grant")
}

/// Fails if a refresh token was sent again without a reason: the daemon was killed after it was sent before, so that it cannot
/// know what came of it, or the provider refused it and is asked whether it means that. Where it stays the same, only sending
/// it while it is unanswered is wrong.
pub fn nothing_was_sent_twice(ledger: &Ledger, rotates: bool, kills: &[i64]) {
    let mut before: HashMap<Fingerprint, &Entry> = HashMap::new();
    let mut refused: HashMap<Fingerprint, usize> = HashMap::new();
    for entry in ledger.entries() {
        match (entry.kind, entry.what) {
            (Kind::Refused, Secret::Refresh) => *refused.entry(entry.fingerprint).or_default() += 1,
            (Kind::Presented, Secret::Refresh) => {
                let Some(earlier) = before.insert(entry.fingerprint, entry) else { continue };
                let killed = kills.iter().any(|&at| (earlier.at_ms..=entry.at_ms).contains(&at));
                let confirms = refused.get(&entry.fingerprint) == Some(&1);
                let again = rotates || entry.concurrently_in_flight > 1;
                assert!(!again || killed || confirms, "sent twice without a kill between: {earlier:?} and {entry:?}");
            }
            _ => {}
        }
    }
}
