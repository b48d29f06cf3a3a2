//! Takes the grants of a connection that has ended back at the provider, and says of each what became of it.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::broker::Broker;
use crate::broker::registry::Configured;
use crate::broker::vault::Owner;
use crate::model::id::SlotName;
use crate::model::provider::Revoke;
use crate::model::secret::{AccessToken, RefreshToken};
use crate::oauth::exchange::As;
use crate::oauth::revoke::{self, Revoked};
use crate::seal::Sealed;
use crate::store::records::{Extent, Grant, Unfinished};

/// What became of a grant at the provider.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Upstream {
    /// It is gone.
    Revoked,
    /// grantd cannot take it back: a person can do it by hand.
    ByHand,
    /// The provider could not be asked: it will be tried again.
    Pending,
}

/// The same, with the reason.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// What is stored of it does not open.
    Damaged,
    /// Its access token has died, there is no refresh token, and the provider does not take a dead one back.
    Expired,
    /// The provider did not know it any more.
    Gone,
    /// An answer of the provider was lost, and a token that grantd never saw may be alive.
    LostResponse,
    /// The provider has no way to take it back alone.
    NoWay,
    /// The provider could not be asked.
    Pending,
    /// The provider refused.
    Refused,
    /// The provider confirmed it.
    Revoked,
    /// It was renewed so that it could be revoked, and then the provider did not answer.
    Unanswered,
    /// The provider is no longer configured.
    Unconfigured,
}

impl Fate {
    /// What that comes to.
    #[must_use]
    pub const fn upstream(self) -> Upstream {
        match self {
            Self::Revoked | Self::Gone => Upstream::Revoked,
            Self::Pending => Upstream::Pending,
            Self::Damaged
            | Self::Expired
            | Self::LostResponse
            | Self::NoWay
            | Self::Refused
            | Self::Unanswered
            | Self::Unconfigured => Upstream::ByHand,
        }
    }

    /// The stable word, in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::Expired => "expired",
            Self::Gone => "gone",
            Self::LostResponse => "lost_response",
            Self::NoWay => "no_way",
            Self::Pending => "unreachable",
            Self::Refused => "refused",
            Self::Revoked => "confirmed",
            Self::Unanswered => "unanswered",
            Self::Unconfigured => "unconfigured",
        }
    }
}

/// What became of all grants of a connection.
#[derive(Clone, Debug)]
pub struct Parting {
    /// By slot.
    pub fates: BTreeMap<SlotName, Fate>,
    /// What became of the wider revocation, if one was asked for.
    pub wider: Option<Upstream>,
}

impl Parting {
    /// What is told while the provider has not answered.
    pub(super) fn awaited(unfinished: &Unfinished) -> Self {
        let wider = (unfinished.extent == Extent::Wider).then_some(Upstream::Pending);
        Self { fates: fates(unfinished, Fate::Pending), wider }
    }

    /// The worst of it. A connection without grants has nothing left to be taken back.
    #[must_use]
    pub fn upstream(&self) -> Upstream {
        self.fates.values().map(|fate| fate.upstream()).max().unwrap_or(Upstream::Revoked)
    }
}

fn fates(unfinished: &Unfinished, fate: Fate) -> BTreeMap<SlotName, Fate> {
    unfinished.ended.grants.iter().map(|grant| (grant.slot.clone(), fate)).collect()
}

/// Grants that hold the same token: what is done to one is done to all.
struct Opened<'g> {
    grants: Vec<&'g Grant>,
    access: AccessToken,
    refresh: Option<RefreshToken>,
}

/// How long the provider is asked again to revoke what was renewed for that alone: only this run knows of it.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

impl Broker {
    /// Revokes every grant of an ended connection at the provider and wipes those that need not be tried again.
    pub(super) async fn finish_revocation(&self, unfinished: &Unfinished) -> Parting {
        let parting = self.part(unfinished).await;
        let id = &unfinished.ended.connection.id;
        let done = parting.fates.iter().filter(|(_, fate)| **fate != Fate::Pending);
        let done: Vec<SlotName> = done.map(|(slot, _)| slot.clone()).collect();
        for (slot, fate) in &parting.fates {
            info!(connection.id = %id, slot = %slot, outcome = fate.as_str(), "The grant `{slot}` of `{id}` was to be revoked");
            self.revocation_noted(&unfinished.ended.connection, slot, *fate);
        }
        if !done.is_empty()
            && let Err(error) = self.store.forget_grants(id, &done).await
        {
            warn!(connection.id = %id, %error, "Could not wipe the grants of `{id}`; trying again later");
        }
        parting
    }

    async fn part(&self, unfinished: &Unfinished) -> Parting {
        let Unfinished { ended, extent } = unfinished;
        let all = |fate| fates(unfinished, fate);
        let registry = self.registry();
        let Some(configured) = registry.providers.get(&ended.connection.provider) else {
            let wider = (*extent == Extent::Wider).then_some(Upstream::ByHand);
            return Parting { fates: all(Fate::Unconfigured), wider };
        };
        let (opened, damaged) = self.opened_once(unfinished);
        let mut wider = None;
        if *extent == Extent::Wider {
            let reached = self.reach_wider(unfinished, configured, &opened).await;
            match reached {
                Upstream::Revoked => return Parting { fates: all(Fate::Revoked), wider: Some(reached) },
                // Alone first would take away the token that the wider request has to show.
                Upstream::Pending => return Parting { fates: all(Fate::Pending), wider: Some(reached) },
                Upstream::ByHand => wider = Some(reached),
            }
        }
        let taken = join_all(opened.iter().map(async |opened| match &configured.provider.revoke {
            Some(rules) => self.take_back(unfinished, configured, opened, rules).await,
            None => Fate::NoWay,
        }))
        .await;
        let mut fates: BTreeMap<_, _> = damaged.into_iter().map(|slot| (slot, Fate::Damaged)).collect();
        for (opened, fate) in opened.iter().zip(taken) {
            fates.extend(opened.grants.iter().map(|grant| (grant.slot.clone(), fate)));
        }
        Parting { fates, wider }
    }

    /// Asks for more than this connection, with one token after the other until one does it.
    async fn reach_wider(&self, unfinished: &Unfinished, configured: &Configured, opened: &[Opened<'_>]) -> Upstream {
        let Some(rules) = &configured.provider.revoke_wider else {
            return Upstream::ByHand;
        };
        for opened in opened {
            match self.take_back(unfinished, configured, opened, rules).await {
                Fate::Revoked => return Upstream::Revoked,
                Fate::Pending => return Upstream::Pending,
                // A token that is not known says nothing about the others.
                _ => {}
            }
        }
        Upstream::ByHand
    }

    /// The tokens to be taken back, each once, and the slots of those that do not open.
    fn opened_once<'g>(&self, unfinished: &'g Unfinished) -> (Vec<Opened<'g>>, Vec<SlotName>) {
        let (mut opened, mut damaged): (Vec<Opened<'g>>, Vec<SlotName>) = (Vec::new(), Vec::new());
        let digest = |text: &str| self.keyring.digest("revocation", text.as_bytes());
        for grant in &unfinished.ended.grants {
            let owner = Owner::connection(&unfinished.ended.connection, grant.version);
            let (access, refresh) = (&grant.content.access, grant.content.refresh.as_ref());
            let Some((access, refresh)) = self.open_both(owner, &grant.slot, access, refresh) else {
                damaged.push(grant.slot.clone());
                continue;
            };
            let same_refresh = |other: &RefreshToken| {
                refresh.as_ref().is_some_and(|token| digest(token.expose()) == digest(other.expose()))
            };
            let same = opened.iter_mut().find(|other| {
                digest(other.access.expose()) == digest(access.expose())
                    || other.refresh.as_ref().is_some_and(same_refresh)
            });
            match same {
                Some(other) => other.grants.push(grant),
                None => opened.push(Opened { grants: vec![grant], access, refresh }),
            }
        }
        (opened, damaged)
    }

    fn open_both(
        &self,
        owner: Owner<'_>,
        slot: &SlotName,
        access: &Sealed,
        refresh: Option<&Sealed>,
    ) -> Option<(AccessToken, Option<RefreshToken>)> {
        let opened = owner.open_access(&self.keyring, slot, access).and_then(|access| {
            let refresh = refresh.map(|sealed| owner.open_refresh(&self.keyring, slot, sealed)).transpose()?;
            Ok((access, refresh))
        });
        opened.inspect_err(|error| warn!(slot = %slot, %error, "Cannot open a grant to revoke it")).ok()
    }

    async fn take_back(
        &self,
        unfinished: &Unfinished,
        configured: &Configured,
        opened: &Opened<'_>,
        rules: &Revoke,
    ) -> Fate {
        let Opened { grants, access, refresh } = opened;
        let [grant, ..] = grants.as_slice() else { return Fate::Damaged };
        let is_dead = grant.content.expires_at.is_some_and(|at| at <= self.clock.now());
        if revoke::shows_access(rules, refresh.is_some()) && is_dead {
            return match refresh {
                Some(refresh) => match self.last_refresh(unfinished, configured, grant, refresh).await {
                    Ok((access, refresh)) => self.revoke_only_copy(configured, rules, &access, refresh.as_ref()).await,
                    Err(fate) => fate,
                },
                None => match self.revoke_opened(configured, rules, access, None).await {
                    Revoked::Yes => Fate::Revoked,
                    Revoked::Gone => Fate::Gone,
                    Revoked::Later => Fate::Pending,
                    Revoked::Refused => Fate::Expired,
                },
            };
        }
        match self.revoke_opened(configured, rules, access, refresh.as_ref()).await {
            Revoked::Yes => Fate::Revoked,
            Revoked::Gone => self.unknown_there(grant),
            Revoked::Later => Fate::Pending,
            Revoked::Refused => Fate::Refused,
        }
    }

    /// The provider does not know the token. It may have been replaced by one that is on its way here, or never came.
    fn unknown_there(&self, grant: &Grant) -> Fate {
        match &grant.lease {
            Some(lease) if lease.boot == self.boot && lease.until > self.clock.now() => Fate::Pending,
            Some(_) => Fate::LostResponse,
            None if grant.uncertain => Fate::LostResponse,
            None => Fate::Gone,
        }
    }

    /// Revokes what nobody else knows of, so it is tried for a while.
    async fn revoke_only_copy(
        &self,
        configured: &Configured,
        rules: &Revoke,
        access: &AccessToken,
        refresh: Option<&RefreshToken>,
    ) -> Fate {
        let mut pauses = PAUSES.into_iter();
        loop {
            match self.revoke_opened(configured, rules, access, refresh).await {
                Revoked::Yes => return Fate::Revoked,
                Revoked::Gone => return Fate::Gone,
                Revoked::Refused => return Fate::Refused,
                Revoked::Later => {}
            }
            let Some(pause) = pauses.next() else { return Fate::Unanswered };
            // A daemon that is to end asks once more, at once.
            let _ = timeout(pause, self.stopping.cancelled()).await;
        }
    }

    /// Revokes one grant as disconnecting does: what came for a connection that is no more, or was never confirmed.
    pub(super) async fn revoke_sealed(
        &self,
        configured: &Configured,
        owner: Owner<'_>,
        slot: &SlotName,
        access: &Sealed,
        refresh: Option<&Sealed>,
    ) -> Fate {
        let Some(rules) = &configured.provider.revoke else {
            return Fate::NoWay;
        };
        let Some((access, refresh)) = self.open_both(owner, slot, access, refresh) else {
            return Fate::Damaged;
        };
        match self.revoke_opened(configured, rules, &access, refresh.as_ref()).await {
            Revoked::Yes => Fate::Revoked,
            Revoked::Gone => Fate::Gone,
            Revoked::Later => Fate::Pending,
            Revoked::Refused => Fate::Refused,
        }
    }

    async fn revoke_opened(
        &self,
        configured: &Configured,
        rules: &Revoke,
        access: &AccessToken,
        refresh: Option<&RefreshToken>,
    ) -> Revoked {
        failpoint_async!("revoke.upstream");
        let http = self.egress.to(&configured.provider);
        let whom = As { provider: &configured.provider, client: &configured.client, now: self.clock.now() };
        revoke::revoke(whom, rules, access, refresh, &http).await
    }
}
