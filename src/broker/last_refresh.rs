//! The last refresh of a grant: made so that it can be revoked, where a provider takes back living access tokens only.
//!
//! The connection has ended by then. What comes is shown to the provider once more and never stored or handed out. The rules
//! of every refresh hold: the intent is durable before anything is sent, and a refresh token that may have been spent is not
//! sent again.

use std::sync::OnceLock;
use std::time::Instant;

use tracing::warn;

use crate::broker::Broker;
use crate::broker::lane::Outcome;
use crate::broker::quarantine::is_held;
use crate::broker::refusal::outcome;
use crate::broker::registry::Configured;
use crate::broker::renew::LEASE;
use crate::broker::revocation::Fate;
use crate::model::id::Version;
use crate::model::provider::rules::AfterAmbiguous;
use crate::model::secret::{AccessToken, RefreshToken};
use crate::oauth::exchange::{self, As, Spend};
use crate::oauth::rejection::Rejection;
use crate::store::records::{Armed, Grant, GrantKey, Lease, Unfinished};

impl Broker {
    /// A pair that lives, in place of one whose access token has died.
    ///
    /// # Errors
    /// What becomes of the grant, since there is none.
    pub(super) async fn last_refresh(
        &self,
        unfinished: &Unfinished,
        configured: &Configured,
        grant: &Grant,
        token: &RefreshToken,
    ) -> Result<(AccessToken, Option<RefreshToken>), Fate> {
        let rules = &configured.provider.refresh;
        let is_safe = rules.after_ambiguous == AfterAmbiguous::Safe;
        if grant.uncertain && !is_safe {
            return Err(Fate::LostResponse);
        }
        let hold = self.store.hold().await.map_err(|_| Fate::Pending)?;
        if is_held(hold.as_ref(), rules, grant.content.issued_at) {
            return Err(Fate::Pending);
        }
        let mut place = self.place_for_caller(configured).await.map_err(|_| Fate::Pending)?;
        let key = GrantKey { connection: unfinished.ended.connection.id.clone(), slot: grant.slot.clone() };
        let armed = OnceLock::new();
        let permit = async {
            let now = self.clock.now();
            let lease = Lease { boot: self.boot.clone(), until: now.after(LEASE) };
            let noted = self.store.arm_last(&key, grant.version, &lease, now).await;
            let permitted = matches!(noted, Ok(Armed::Yes { recovery }) if is_safe || !recovery);
            let _ = armed.set(noted);
            permitted
        };
        let whom = As { provider: &configured.provider, client: &configured.client, now: self.clock.now() };
        let grant_type = unfinished.ended.connection.grant_type;
        let spend = Spend { token, slot: &grant.slot, granted: &grant.content.scopes, grant_type, resource: None };
        let http = self.egress.to_when(&configured.provider, permit);
        let answer = exchange::refresh(whom, spend, &http).await;
        drop(http);
        match armed.into_inner() {
            Some(Ok(Armed::Yes { recovery: true })) if !is_safe => return Err(Fate::LostResponse),
            Some(Ok(Armed::Yes { .. })) => {}
            // It may have been noted after all, and was not sent.
            Some(Err(_)) => return Err(self.not_spent(&key, grant.version).await),
            // Somebody else is on the way with it, or there was no connection.
            Some(Ok(Armed::Held { .. } | Armed::Moved | Armed::Gone)) | None => return Err(Fate::Pending),
        }
        let heard = match &answer {
            Ok(_) => Outcome::Answered,
            Err(refused) => outcome(&refused.rejection, self.clock.now()),
        };
        place.note(heard, Instant::now());
        match answer {
            Ok(answer) => Ok((answer.access, answer.refresh)),
            Err(refused) => Err(self.not_renewed_last(&key, grant.version, &refused.rejection).await),
        }
    }

    async fn not_renewed_last(&self, key: &GrantKey, read: Version, rejection: &Rejection) -> Fate {
        match rejection {
            Rejection::Unsent(_) | Rejection::Retry { .. } => self.not_spent(key, read).await,
            // Neither token works any more: there is nothing left to take back.
            Rejection::Consent { .. } => Fate::Gone,
            Rejection::Ambiguous(_) => Fate::LostResponse,
            Rejection::ClientOrGrant { .. }
            | Rejection::Denied
            | Rejection::Registration { .. }
            | Rejection::Restart { .. }
            | Rejection::UserAction { .. } => Fate::Refused,
        }
    }

    async fn not_spent(&self, key: &GrantKey, read: Version) -> Fate {
        if let Err(error) = self.store.disarm_last(key, read).await {
            warn!(connection.id = %key.connection, slot = %key.slot, %error,
                "Cannot note that the refresh token of `{}` was not spent", key.connection);
        }
        Fate::Pending
    }
}
