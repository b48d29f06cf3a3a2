//! What an answer brings: sealed for the store, and opened to be handed out.

use std::sync::Arc;

use tracing::warn;

use crate::broker::Broker;
use crate::broker::cache::{Granted, HeldGrant};
use crate::broker::forecast;
use crate::broker::renew::Run;
use crate::broker::schedule::{self, Life};
use crate::broker::vault::Owner;
use crate::model::audit::Fingerprint;
use crate::model::connection::Connection;
use crate::model::id::{SlotName, TokenId, Version};
use crate::model::provider::rules::OnMissingToken;
use crate::model::secret::AccessToken;
use crate::model::time::{Moment, Timestamp};
use crate::model::token::IssuedToken;
use crate::oauth::answer::SlotAnswer;
use crate::seal::OpenError;
use crate::store::records::{GrantKey, NewGrant};

/// What a provider gave in place of one version of a grant.
#[derive(Debug)]
pub struct Pair {
    /// The connection as it was read.
    pub connection: Connection,
    /// Which grant.
    pub key: GrantKey,
    /// The version whose refresh token was spent for it.
    pub read: Version,
    /// What is to be stored, sealed for the next version.
    pub new: NewGrant,
    /// The same, opened, to be handed out.
    pub opened: HeldGrant,
}

impl Broker {
    /// What is to be kept of an answer.
    pub(super) fn pair(&self, run: Run, slot: SlotAnswer, sent: Moment) -> Pair {
        // By the clock as it is now: it may have been set since.
        let now = self.clock.moment();
        let sent_at = now.wall.before(now.boot.since(sent.boot));
        let access = slot.access.clone();
        let new = self.content(&run, slot, sent_at);
        let opened = self.held_grant(&run.connection, &run.key.slot, run.grant.version.next(), &new, access);
        Pair { connection: run.connection, key: run.key, read: run.grant.version, new, opened }
    }

    fn content(&self, run: &Run, slot: SlotAnswer, sent_at: Timestamp) -> NewGrant {
        let Run { configured, connection, grant, key, .. } = run;
        let rules = &configured.provider.refresh;
        let version = grant.version.next();
        let owner = Owner::connection(connection, version);
        let expires_at = slot.expires_in.map(|lifetime| sent_at.after(lifetime));
        // Without a new refresh token the old one stays good (RFC 6749 section 6); it is sealed again for its new version.
        let old = || {
            let sealed = grant.content.refresh.as_ref()?;
            Owner::connection(connection, grant.version).open_refresh(&self.keyring, &grant.slot, sealed).ok()
        };
        let came = slot.refresh.is_some();
        if !came && rules.on_missing_token == OnMissingToken::Suspect {
            warn!(connection.id = %connection.id, provider.id = %connection.provider,
                "{} gave no new refresh token, which it always should; the old one is kept and may be dead", configured.provider.name);
        }
        let refresh = slot.refresh.or_else(old);
        let refresh_expires_at = match slot.refresh_expires_in {
            Some(lifetime) => Some(sent_at.after(lifetime)),
            None if came => None,
            None => grant.content.refresh_expires_at,
        };
        let life = Life { issued_at: sent_at, expires_at, refresh_expires_at };
        NewGrant {
            token_id: TokenId::random(),
            access: owner.seal_access(&self.keyring, &key.slot, &slot.access),
            refresh: refresh.map(|token| owner.seal_refresh(&self.keyring, &key.slot, &token)),
            scopes: configured.provider.scopes.granted(slot.scopes, &grant.content.scopes),
            issued_at: sent_at,
            expires_at,
            refresh_expires_at,
            renew_at: schedule::renew_at(rules, key, version, life),
            ends: forecast::ends(rules, connection.confirmed_at, true, life),
        }
    }

    /// A stored grant, opened to be handed out.
    pub(super) fn opened_grant(
        &self,
        connection: &Connection,
        slot: &SlotName,
        version: Version,
        content: &NewGrant,
    ) -> Result<HeldGrant, OpenError> {
        let access = Owner::connection(connection, version).open_access(&self.keyring, slot, &content.access)?;
        Ok(self.held_grant(connection, slot, version, content, access))
    }

    /// A grant in memory, as it is handed out.
    fn held_grant(
        &self,
        connection: &Connection,
        slot: &SlotName,
        version: Version,
        content: &NewGrant,
        access_token: AccessToken,
    ) -> HeldGrant {
        let registry = self.registry();
        let rules = registry.providers.get(&connection.provider).map(|configured| &configured.provider.scopes);
        // The grant may have more, for which there are other tokens.
        let own = rules.map(|rules| rules.at_resource(&content.scopes, rules.main_resource(&content.scopes).as_ref()));
        let dies_at = self.timing.dies_at(content.issued_at, content.expires_at, self.clock.moment());
        let token = IssuedToken {
            access_token,
            token_id: content.token_id.clone(),
            generation: version.generation,
            scopes: content.scopes.clone(),
            issued_at: content.issued_at,
            expires_at: content.expires_at,
            dies_at,
        };
        HeldGrant {
            granted: Arc::new(Granted {
                connection: connection.id.clone(),
                provider: connection.provider.clone(),
                account: connection.account.clone(),
                slot: slot.clone(),
                scope: own.as_ref().unwrap_or(&content.scopes).to_string(),
                fingerprint: Fingerprint::of(&token.access_token),
                token,
            }),
            version,
            renewable: content.refresh.is_some(),
            renew_at: content.renew_at,
            failing: false,
        }
    }
}
