//! Refresh tokens: rotation in its classes, and what a second use of a spent one does (RFC 6749 section 6).

use std::sync::Arc;

use crate::model::secret::RefreshToken;
use crate::model::time::Timestamp;
use crate::sandbox::ledger::{Fingerprint, GrantId, Kind, Line, Secret};
use crate::sandbox::machine::{Credentials, Issued, Machine, Refusal, State, mint};
use crate::sandbox::options::{DeviceSecret, Rotation};

pub(super) const GRANT_TYPE: &str = "refresh_token";

/// What is known of a refresh token.
pub(super) struct Refresh {
    pub(super) grant: GrantId,
    expires: Option<Timestamp>,
    /// Set when a single-use token was used.
    spent: Option<Spent>,
    pub(super) delivered: bool,
}

struct Spent {
    at: Timestamp,
    successor: Fingerprint,
}

impl Refresh {
    /// Whether it would be accepted without a look at grace.
    pub(super) fn is_fresh(&self, now: Timestamp) -> bool {
        self.spent.is_none() && self.expires.is_none_or(|expires| now < expires)
    }
}

impl Machine {
    /// Refreshes. A second use of a spent token may end the grant.
    pub(in crate::sandbox) fn refresh(
        &self,
        credentials: &Credentials,
        token: &str,
        scope: Option<&str>,
    ) -> Result<Issued, Refusal> {
        let now = self.now();
        self.state().refresh(credentials, Fingerprint::of(token), scope, now)
    }
}

impl State {
    /// Whether this token was spent and the answer that replaced it was delivered.
    pub(super) fn was_replaced(&self, token: Fingerprint) -> bool {
        self.refresh
            .get(&token)
            .and_then(|token| token.spent.as_ref())
            .and_then(|spent| self.refresh.get(&spent.successor))
            .is_some_and(|successor| successor.delivered)
    }

    pub(super) fn new_refresh(
        &mut self,
        id: GrantId,
        grant_type: Option<&'static str>,
        now: Timestamp,
    ) -> RefreshToken {
        let text = mint("rt_MARK_");
        let token = Fingerprint::of(&text);
        self.refresh.insert(
            token,
            Refresh {
                grant: id,
                expires: self.options.refresh_ttl.map(|ttl| now.after(ttl)),
                spent: None,
                delivered: false,
            },
        );
        self.known_mut(id).newest_refresh = Some(token);
        self.write_about(now, Line::new(Kind::Issued, Secret::Refresh, token).in_a(grant_type));
        RefreshToken::new(text).expect("base64 is visible ASCII")
    }

    fn refresh(
        &mut self,
        credentials: &Credentials,
        token: Fingerprint,
        scope: Option<&str>,
        now: Timestamp,
    ) -> Result<Issued, Refusal> {
        let by_device = self.refresh.get(&token).is_some_and(|known| self.came_by_device(known.grant));
        let client = match by_device {
            true => self.authenticate_device(credentials, DeviceSecret::WhenPolling)?,
            false => self.authenticate(credentials)?,
        };
        let id = self.accept(token, &client, now)?;
        let scopes = scope.map(|asked| self.narrow(id, asked)).transpose()?;
        self.one_resource(scopes.as_deref().unwrap_or(&self.known(id).scopes))?;
        let rotation = self.options.rotation;
        let is_offline = |scopes: &Vec<String>| scopes.iter().any(|scope| scope == "offline_access");
        let successor = match rotation {
            Rotation::Static => None,
            // Who asks for one resource gets a refresh token only by asking for that too.
            _ if self.options.quirks.one_resource.is_some() && !scopes.as_ref().is_none_or(is_offline) => None,
            Rotation::MultiValid | Rotation::SingleUse { .. } => Some(self.new_refresh(id, Some(GRANT_TYPE), now)),
        };
        if let (Rotation::SingleUse { .. }, Some(successor)) = (rotation, &successor) {
            let successor = Fingerprint::of(successor.expose());
            let spent = self.refresh.get_mut(&token).map(|token| &mut token.spent);
            // Grace counts from the first use.
            if let Some(spent) = spent {
                spent.get_or_insert(Spent { at: now, successor });
            }
        }
        self.retire_access(id, now);
        Ok(self.complete(id, scopes, successor, None, Some(GRANT_TYPE), now))
    }

    /// The grant of this token, if the token is good for this client.
    fn accept(&mut self, token: Fingerprint, client: &Arc<str>, now: Timestamp) -> Result<GrantId, Refusal> {
        let unknown = Refusal::RefreshToken("no such refresh token");
        let known = self.refresh.get(&token).ok_or(unknown)?;
        let id = known.grant;
        let grant = self.known(id);
        if grant.client != *client {
            return Err(unknown);
        }
        if grant.ended.is_some() {
            return Err(Refusal::RefreshToken("the grant was revoked"));
        }
        if known.expires.is_some_and(|expires| now >= expires) {
            return Err(Refusal::RefreshToken("the refresh token has expired"));
        }
        let Some(spent) = &known.spent else { return Ok(id) };
        let (kills_family, grace) = match self.options.rotation {
            Rotation::SingleUse { kills_family, grace } => (kills_family, grace),
            Rotation::Static | Rotation::MultiValid => return Ok(id),
        };
        if now < spent.at.after(grace) {
            return Ok(id);
        }
        if kills_family {
            self.end_grant(id, "reuse", now);
        }
        Err(Refusal::RefreshToken("the refresh token was used before"))
    }

    /// The scopes asked for, if all of them were granted (RFC 6749 section 6).
    fn narrow(&self, id: GrantId, asked: &str) -> Result<Vec<String>, Refusal> {
        let granted = &self.known(id).scopes;
        let named = |asked: &str| granted.iter().find(|scope| self.is_same_scope(scope, asked)).cloned();
        asked.split_ascii_whitespace().map(|asked| named(asked).ok_or(Refusal::Scope)).collect()
    }
}
