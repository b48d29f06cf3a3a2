//! Which grant a token request means, and what is to be done with it: pure, and all of the hot path that decides.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::broker::cache::{Held, HeldGrant, Shelf};
use crate::broker::renew::{Landed, NotRenewed};
use crate::broker::token::TokenRequest;
use crate::model::connection::{ReconnectReason, State};
use crate::model::provider::Provider;
use crate::model::provider::resources::Resource;
use crate::model::provider::rules::RefreshRules;
use crate::model::scope::ScopeSet;
use crate::model::time::Moment;
use crate::model::token::Freshness;

/// What is lacking before there can be a token.
#[derive(Debug)]
pub enum Lack<'s> {
    /// Several accounts are connected, and the request names none; or several answer to the name.
    AccountAmbiguous,
    /// What is stored of the grant does not open.
    Damaged,
    /// No account is connected.
    NotConnected,
    /// The connection has to be connected again.
    Reconnect(&'s Held, ReconnectReason),
    /// The grant does not cover these.
    Scopes(&'s Held, ScopeSet),
    /// No connected account answers to that name.
    UnknownAccount,
    /// The provider has no such slot.
    UnknownSlot,
    /// These are for several resources, and a token is for one.
    SeveralResources(BTreeSet<Resource>),
}

/// What a request means.
#[derive(Debug)]
pub struct Chosen<'s> {
    /// The connection.
    pub held: &'s Held,
    /// The grant.
    pub grant: &'s HeldGrant,
    /// The resource that the token has to be for, where it is another than that of the grant's own token.
    pub elsewhere: Option<Resource>,
}

/// The connection and the grant that a request means, if they serve and cover what is needed.
///
/// # Errors
/// What is lacking.
pub fn choose<'s>(request: &TokenRequest, provider: &Provider, shelf: &'s Shelf) -> Result<Chosen<'s>, Lack<'s>> {
    let held = connection(request, shelf)?;
    if let State::NeedsReconnect(reason) = held.connection.state {
        return Err(Lack::Reconnect(held, reason));
    }
    let grant = grant(request, provider, held)?;
    let (rules, granted) = (&provider.scopes, &grant.granted.token.scopes);
    let wanted = rules.wanted_resource(&request.scopes).map_err(Lack::SeveralResources)?;
    let missing = rules.missing(granted, &request.scopes);
    if !missing.is_empty() {
        return Err(Lack::Scopes(held, missing));
    }
    let elsewhere = wanted.filter(|wanted| rules.main_resource(granted).as_ref() != Some(wanted));
    Ok(Chosen { held, grant, elsewhere })
}

/// The connection that answers to `account`; or, where none is named, the default, or else the only one. Two that answer are
/// never guessed at.
fn connection<'s>(request: &TokenRequest, shelf: &'s Shelf) -> Result<&'s Held, Lack<'s>> {
    let mut meant = meant(request, shelf);
    match (meant.next(), meant.next()) {
        (Some(only), None) => Ok(only),
        (Some(_), Some(_)) if request.account.is_none() => {
            shelf.iter().find(|held| held.connection.is_default).map(Arc::as_ref).ok_or(Lack::AccountAmbiguous)
        }
        (Some(_), Some(_)) => Err(Lack::AccountAmbiguous),
        (None, _) if shelf.is_empty() => Err(Lack::NotConnected),
        (None, _) => Err(Lack::UnknownAccount),
    }
}

/// Those that answer to the account that is named; all of them where none is.
pub fn meant<'s>(request: &TokenRequest, shelf: &'s Shelf) -> impl Iterator<Item = &'s Held> {
    let selector = request.account.as_deref();
    let answers = move |held: &&Held| selector.is_none_or(|selector| held.connection.answers_to(selector));
    shelf.iter().map(Arc::as_ref).filter(answers)
}

/// The grant of the slot that is named, or else of the first slot of the provider that was granted at all.
fn grant<'s>(request: &TokenRequest, provider: &Provider, held: &'s Held) -> Result<&'s HeldGrant, Lack<'s>> {
    let slot = match &request.slot {
        Some(slot) if provider.slot(slot).is_none() => return Err(Lack::UnknownSlot),
        slot => slot.as_ref(),
    };
    let mut wanted = held.grants.iter().filter(|grant| slot.is_none_or(|slot| grant.granted.slot == *slot));
    let by_order = provider.slots.iter().find_map(|rule| wanted.clone().find(|grant| grant.granted.slot == rule.name));
    by_order
        .or_else(|| wanted.next())
        .ok_or_else(|| if held.is_damaged { Lack::Damaged } else { Lack::Scopes(held, request.scopes.clone()) })
}

/// What to do with a grant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// There is nothing to hand out.
    Fail(Failure),
    /// Hand it out.
    HandOut,
    /// Refresh it, and look again.
    Refresh,
}

/// Why there is nothing to hand out although the account is connected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failure {
    /// A refresh was made and brought nothing.
    Landed(NotRenewed),
    /// The token is dead, and there is no way to renew it.
    NoRefreshToken,
    /// A refresh failed a moment ago; the provider is not asked again before its time.
    Wait,
}

/// Decides by the token's life, what the caller says of it, and what a refresh that was just made brought.
#[must_use]
pub fn next_step(
    grant: &HeldGrant,
    request: &TokenRequest,
    rules: &RefreshRules,
    flown: Option<Landed>,
    now: Moment,
) -> Step {
    let token = &grant.granted.token;
    let refused = request.rejected.as_ref() == Some(&token.token_id);
    let freshness = token.freshness(request.min_ttl, now);
    let good = !refused && freshness != Freshness::Dead;
    // Renewed behind the caller's back, the token would be dead before it is used.
    let is_about_to_die =
        rules.kills_access && grant.renewable && !grant.failing && grant.renew_at.is_some_and(|at| at <= now.wall);
    match flown {
        None if good && is_about_to_die => Step::Refresh,
        _ if good && freshness == Freshness::Fresh => Step::HandOut,
        // Whatever the refresh brought: a token that lives is better than none.
        Some(_) if good => Step::HandOut,
        Some(Landed::Failed(why)) => Step::Fail(Failure::Landed(why)),
        // The provider gives tokens that are dead on arrival: asking again would go on for ever.
        Some(Landed::Renewed) => Step::Fail(Failure::Landed(NotRenewed::Provider)),
        _ if !grant.renewable && good => Step::HandOut,
        _ if !grant.renewable => Step::Fail(Failure::NoRefreshToken),
        _ if grant.failing && grant.renew_at.is_some_and(|at| at > now.wall) => {
            if good {
                Step::HandOut
            } else {
                Step::Fail(Failure::Wait)
            }
        }
        _ => Step::Refresh,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;
    use std::time::Duration;

    use super::*;
    use crate::broker::cache::Granted;
    use crate::broker::usage::Usage;
    use crate::model::audit::Fingerprint;
    use crate::model::connection::{Account, Connection};
    use crate::model::grant_type::GrantType;
    use crate::model::id::{ConnectionId, Epoch, Generation, SlotName, Version};
    use crate::model::secret::AccessToken;
    use crate::model::subject::Subject;
    use crate::model::time::Timestamp;
    use crate::model::token::IssuedToken;

    fn grant(expires_at: Option<i64>, renewable: bool, failing: bool, renew_at: i64) -> HeldGrant {
        let token = IssuedToken {
            access_token: AccessToken::new("a").unwrap(),
            token_id: "tk_1".parse().unwrap(),
            generation: Generation(1),
            scopes: ScopeSet::default(),
            issued_at: Timestamp::from_secs(0),
            expires_at: expires_at.map(Timestamp::from_secs),
            dies_at: None,
        };
        let account = Account { id: "1".to_owned(), name: "a".to_owned() };
        let (connection, provider, slot) = (ConnectionId::random(), "p".parse().unwrap(), SlotName::main());
        HeldGrant {
            granted: Arc::new(Granted {
                connection,
                provider,
                account,
                slot,
                scope: String::new(),
                fingerprint: Fingerprint::of(&token.access_token),
                token,
            }),
            version: Version::default(),
            renewable,
            renew_at: Some(Timestamp::from_secs(renew_at)),
            failing,
        }
    }

    fn connection() -> Connection {
        Connection {
            id: ConnectionId::random(),
            subject: Subject::from_uid(1),
            provider: "p".parse().unwrap(),
            account: Account { id: "1".to_owned(), name: "a".to_owned() },
            label: None,
            is_default: false,
            state: State::Active,
            epoch: Epoch(1),
            grant_type: GrantType::AuthorizationCode,
            scopes: ScopeSet::default(),
            created_at: Timestamp::default(),
            confirmed_at: Timestamp::default(),
            given_at: Timestamp::default(),
            used_at: None,
        }
    }

    fn request(rejected: Option<&str>) -> TokenRequest {
        TokenRequest {
            provider: "p".parse().unwrap(),
            account: None,
            slot: None,
            scopes: ScopeSet::default(),
            min_ttl: Duration::from_secs(60),
            rejected: rejected.map(|id| id.parse().unwrap()),
            wait: Duration::ZERO,
            purpose: None,
            connect: true,
            id: OnceLock::new(),
        }
    }

    /// A shelf of accounts: id, name, label, whether it is the default.
    fn shelf(accounts: &[(&str, &str, Option<&str>, bool)]) -> Shelf {
        let held = |&(id, name, label, is_default): &(&str, &str, Option<&str>, bool)| {
            let connection = Connection {
                account: Account { id: id.to_owned(), name: name.to_owned() },
                label: label.map(|label| label.parse().unwrap()),
                is_default,
                ..connection()
            };
            let used = Usage::default().of(&connection);
            let grants = vec![grant(None, false, false, 0)];
            Arc::new(Held { connection, grants, is_damaged: false, used })
        };
        accounts.iter().map(held).collect()
    }

    #[test]
    fn an_account_is_meant_by_name_or_by_default_and_never_guessed() {
        let provider = crate::oauth::quirk::tests::plain_provider();
        let none: &[_] = &[];
        let one = &[("1", "ada", None, false)][..];
        let two = &[("1", "ada", Some("work"), false), ("2", "ada", None, false)][..];
        let default = &[("1", "ada", None, false), ("2", "grace", Some("work"), true), ("3", "2", None, false)][..];
        for (accounts, named, expected) in [
            (none, None, "not connected"),
            (none, Some("ada"), "not connected"),
            (one, None, "1"),
            (one, Some("ada"), "1"),
            (one, Some("work"), "unknown"),
            (two, None, "ambiguous"),
            (two, Some("ada"), "ambiguous"),
            (two, Some("work"), "1"),
            (two, Some("Work"), "unknown"),
            (two, Some("2"), "2"),
            (default, None, "2"),
            (default, Some("ada"), "1"),
            (default, Some("work"), "2"),
            // One account's name is the other's id: the default says nothing about what is named.
            (default, Some("2"), "ambiguous"),
        ] {
            let (shelf, mut request) = (shelf(accounts), request(None));
            request.account = named.map(str::to_owned);
            let found = match choose(&request, &provider, &shelf) {
                Ok(Chosen { held, .. }) => held.connection.account.id.as_str(),
                Err(Lack::AccountAmbiguous) => "ambiguous",
                Err(Lack::NotConnected) => "not connected",
                Err(Lack::UnknownAccount) => "unknown",
                Err(_) => "something else",
            };
            assert_eq!(found, expected, "{named:?} of {accounts:?}");
        }
    }

    #[test]
    fn a_grant_that_does_not_open_is_not_called_a_lack_of_scopes() {
        let provider = crate::oauth::quirk::tests::plain_provider();
        let lack = |is_damaged| {
            let connection = connection();
            let used = Usage::default().of(&connection);
            let shelf = vec![Arc::new(Held { connection, grants: Vec::new(), is_damaged, used })];
            match choose(&request(None), &provider, &shelf) {
                Err(Lack::Damaged) => "damaged",
                Err(Lack::Scopes(..)) => "scopes",
                _ => "something else",
            }
        };
        assert_eq!([lack(true), lack(false)], ["damaged", "scopes"]);
    }

    #[test]
    fn the_next_step_follows_from_life_rejection_and_flight() {
        use Step::{Fail, HandOut, Refresh};
        let (now, failed) =
            (Moment { wall: Timestamp::from_secs(1000), ..Moment::default() }, Landed::Failed(NotRenewed::Provider));
        let down = Fail(Failure::Landed(NotRenewed::Provider));
        for (what, grant, rejected, flown, expected) in [
            ("fresh", grant(Some(3600), true, false, 2000), None, None, HandOut),
            ("due", grant(Some(1030), true, false, 2000), None, None, Refresh),
            ("due, just refreshed", grant(Some(1030), true, false, 2000), None, Some(Landed::Renewed), HandOut),
            ("due, refresh failed", grant(Some(1030), true, true, 1005), None, Some(failed), HandOut),
            ("due, failing lately", grant(Some(1030), true, true, 1005), None, None, HandOut),
            ("dead", grant(Some(1000), true, false, 900), None, None, Refresh),
            ("dead, refresh failed", grant(Some(1000), true, true, 1005), None, Some(failed), down),
            ("dead, failing lately", grant(Some(1000), true, true, 1005), None, None, Fail(Failure::Wait)),
            ("dead, time to try again", grant(Some(1000), true, true, 1000), None, None, Refresh),
            ("dead on arrival", grant(Some(1000), true, false, 900), None, Some(Landed::Renewed), down),
            ("dead for good", grant(Some(1000), false, false, 900), None, None, Fail(Failure::NoRefreshToken)),
            ("due, cannot be renewed", grant(Some(1030), false, false, 900), None, None, HandOut),
            ("endless", grant(None, false, false, 900), None, None, HandOut),
            ("rejected upstream", grant(Some(3600), true, false, 2000), Some("tk_1"), None, Refresh),
            ("another one was rejected", grant(Some(3600), true, false, 2000), Some("tk_0"), None, HandOut),
            (
                "rejected, cannot be renewed",
                grant(None, false, false, 0),
                Some("tk_1"),
                None,
                Fail(Failure::NoRefreshToken),
            ),
            ("rejected, refresh failed", grant(Some(3600), true, true, 0), Some("tk_1"), Some(failed), down),
        ] {
            let rules = RefreshRules::default();
            assert_eq!(next_step(&grant, &request(rejected), &rules, flown, now), expected, "{what}");
        }
    }

    #[test]
    fn a_token_that_its_own_renewal_would_kill_is_not_handed_out_when_that_is_due() {
        use Step::{HandOut, Refresh};
        let (now, failed) =
            (Moment { wall: Timestamp::from_secs(1000), ..Moment::default() }, Landed::Failed(NotRenewed::Provider));
        for (what, grant, flown, kills, lives_on) in [
            ("not due yet", grant(Some(1600), true, false, 1001), None, HandOut, HandOut),
            ("due", grant(Some(1600), true, false, 1000), None, Refresh, HandOut),
            (
                "just renewed, and due again",
                grant(Some(1600), true, false, 1000),
                Some(Landed::Renewed),
                HandOut,
                HandOut,
            ),
            ("the renewal failed", grant(Some(1600), true, false, 1000), Some(failed), HandOut, HandOut),
            ("failing lately", grant(Some(1600), true, true, 1000), None, HandOut, HandOut),
            ("cannot be renewed", grant(Some(1600), false, false, 1000), None, HandOut, HandOut),
        ] {
            for (kills_access, expected) in [(true, kills), (false, lives_on)] {
                let rules = RefreshRules { kills_access, ..RefreshRules::default() };
                assert_eq!(next_step(&grant, &request(None), &rules, flown, now), expected, "{what} {kills_access}");
            }
        }
    }
}
