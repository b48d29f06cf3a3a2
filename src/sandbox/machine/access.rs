//! Access tokens: issuing, checking, ending and revoking them (RFC 6749 section 1.4, RFC 7009).

use crate::model::secret::AccessToken;
use crate::model::time::Timestamp;
use crate::sandbox::ledger::{Fingerprint, GrantId, Kind, Line, Secret};
use crate::sandbox::machine::{Credentials, Machine, Refusal, State, mint};
use crate::sandbox::options::SandboxUser;

/// What a client wants to be ended.
#[derive(Debug)]
pub(in crate::sandbox) struct Revocation {
    /// Who asks; `None` if the token alone is enough.
    pub(in crate::sandbox) by: Option<Credentials>,
    /// An access or a refresh token.
    pub(in crate::sandbox) token: String,
    /// What goes with it.
    #[allow(dead_code, reason = "for manners that need it")]
    pub(in crate::sandbox) reach: Reach,
}

/// What a revocation takes with it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::sandbox) enum Reach {
    /// An access token alone; a refresh token takes its grant with it.
    Token,
}

impl Revocation {
    /// One token, as RFC 7009 section 2.1 has it.
    pub(in crate::sandbox) fn of(by: Option<Credentials>, token: Option<&str>) -> Result<Self, Refusal> {
        let token = token.ok_or(Refusal::Request("token is missing"))?.to_owned();
        Ok(Self { by, token, reach: Reach::Token })
    }
}

/// What is known of an access token.
pub(super) struct Access {
    pub(super) grant: GrantId,
    expires: Timestamp,
}

impl Machine {
    /// Whose account a live access token opens.
    pub(in crate::sandbox) fn whose(&self, token: &str) -> Option<SandboxUser> {
        let now = self.now();
        let token = Fingerprint::of(token);
        let mut state = self.state();
        state.write_about(now, Line::new(Kind::Presented, Secret::Access, token));
        let known = state.access.get(&token).map(|access| (access.grant, access.expires));
        let refused = match known {
            Some((grant, expires)) if now < expires => return Some(state.known(grant).user.clone()),
            Some(_) => "expired",
            None => "invalid_token",
        };
        state.write_about(now, Line::new(Kind::Refused, Secret::Access, token).because(refused));
        None
    }

    /// Ends a token. A refresh token takes its grant with it; an unknown one is no error (RFC 7009 section 2.2).
    pub(in crate::sandbox) fn revoke(&self, wanted: &Revocation) -> Result<(), Refusal> {
        let now = self.now();
        let token = Fingerprint::of(&wanted.token);
        let mut state = self.state();
        let client = wanted.by.as_ref().map(|credentials| state.authenticate(credentials)).transpose()?;
        let as_refresh = state.refresh.get(&token).map(|refresh| refresh.grant);
        let as_access = state.access.get(&token).map(|access| access.grant);
        let Some(id) = as_refresh.or(as_access) else {
            return Ok(());
        };
        if client.is_some_and(|client| state.known(id).client != client) {
            return Err(Refusal::ForeignToken);
        }
        if as_refresh.is_some() {
            state.end_grant(id, "revoked_by_client", now);
            return Ok(());
        }
        let line = Line::new(Kind::Revoked, Secret::Access, token).because("revoked_by_client");
        state.write_about(now, line);
        state.access.remove(&token);
        state.known_mut(id).access.retain(|&other| other != token);
        Ok(())
    }
}

impl State {
    pub(super) fn new_access(&mut self, id: GrantId, grant_type: Option<&'static str>, now: Timestamp) -> AccessToken {
        let text = mint("at_MARK_");
        let token = Fingerprint::of(&text);
        let expires = now.after(self.options.access_ttl);
        self.access.insert(token, Access { grant: id, expires });
        self.known_mut(id).access.push_back(token);
        self.write_about(now, Line::new(Kind::Issued, Secret::Access, token).in_a(grant_type));
        AccessToken::new(text).expect("base64 is visible ASCII")
    }

    /// What a refresh does to the grant's earlier access tokens: with the switch on they end, else those that have
    /// expired are forgotten.
    pub(super) fn retire_access(&mut self, id: GrantId, now: Timestamp) {
        let kills = self.options.kills_access_on_refresh;
        while let Some(&token) = self.known(id).access.front() {
            let live = self.access.get(&token).is_some_and(|access| now < access.expires);
            if live && !kills {
                // The oldest expires first, so the rest is alive too.
                return;
            }
            if live {
                self.write_about(now, Line::new(Kind::Revoked, Secret::Access, token).because("refreshed"));
            }
            self.access.remove(&token);
            self.known_mut(id).access.pop_front();
        }
    }
}
