//! Access tokens: issuing, checking, ending and revoking them (RFC 6749 section 1.4, RFC 7009).

use std::sync::Arc;
use std::time::Duration;

use crate::model::secret::AccessToken;
use crate::model::time::Timestamp;
use crate::sandbox::ledger::{Fingerprint, GrantId, Kind, Line, Secret};
use crate::sandbox::machine::{Credentials, Machine, Refusal, State, mint};
use crate::sandbox::options::SandboxUser;

/// Why something ended that a client revoked.
const BY_CLIENT: &str = "revoked_by_client";

/// What a client wants to be ended.
#[derive(Debug)]
pub(in crate::sandbox) struct Revocation {
    /// Who asks; `None` if the token alone is enough.
    pub(in crate::sandbox) by: Option<Credentials>,
    /// An access or a refresh token.
    pub(in crate::sandbox) token: String,
    /// What goes with it.
    pub(in crate::sandbox) reach: Reach,
    /// Whether a token that is unknown or has expired is an error.
    pub(in crate::sandbox) must_exist: bool,
}

/// What a revocation takes with it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::sandbox) enum Reach {
    /// An access token alone; a refresh token takes its grant with it.
    Token,
    /// An access token alone; nothing else is known here.
    Access,
    /// Everything that this person gave to this client.
    Grant,
    /// Everything that this person gave to any client here.
    Person,
}

impl Revocation {
    /// One token, as RFC 7009 section 2.1 has it.
    pub(in crate::sandbox) fn of(by: Option<Credentials>, token: Option<&str>) -> Result<Self, Refusal> {
        let token = token.ok_or(Refusal::Request("token is missing"))?.to_owned();
        Ok(Self { by, token, reach: Reach::Token, must_exist: false })
    }
}

/// What is known of an access token.
pub(super) struct Access {
    pub(super) grant: GrantId,
    pub(super) expires: Timestamp,
    /// Where there are several.
    pub(super) resource: Option<String>,
}

impl Machine {
    /// Whose account a live access token opens.
    pub(in crate::sandbox) fn whose(&self, token: &str) -> Option<SandboxUser> {
        let now = self.now();
        let token = Fingerprint::of(token);
        let mut state = self.state();
        state.write_about(now, Line::new(Kind::Presented, Secret::Access, token));
        let refused = match state.access.get(&token) {
            Some(access) if now >= access.expires => "expired",
            Some(access) if state.is_for_api(access.resource.as_deref()) => {
                return Some(state.known(access.grant).user.clone());
            }
            Some(_) => "another_resource",
            None => "invalid_token",
        };
        state.write_about(now, Line::new(Kind::Refused, Secret::Access, token).because(refused));
        None
    }

    /// Ends a token, and what the revocation takes with it.
    pub(in crate::sandbox) fn revoke(&self, wanted: &Revocation) -> Result<(), Refusal> {
        let now = self.now();
        let token = Fingerprint::of(&wanted.token);
        let mut state = self.state();
        let client = wanted.by.as_ref().map(|credentials| state.authenticate(credentials)).transpose()?;
        let as_refresh = state.refresh.get(&token).map(|refresh| refresh.grant);
        let as_refresh = as_refresh.filter(|_| wanted.reach != Reach::Access);
        let alive = |access: &&Access| now < access.expires || !wanted.must_exist;
        let as_access = state.access.get(&token).filter(alive).map(|access| access.grant);
        let Some(id) = as_refresh.or(as_access) else {
            // RFC 7009 section 2.2.
            return if wanted.must_exist { Err(Refusal::NoToken) } else { Ok(()) };
        };
        if client.is_some_and(|client| state.known(id).client != client) {
            return Err(Refusal::ForeignToken);
        }
        let (sub, owner) = (Arc::clone(&state.known(id).user.sub), Arc::clone(&state.known(id).client));
        match wanted.reach {
            Reach::Person => {
                state.end_grants(&sub, None, BY_CLIENT, now);
            }
            Reach::Grant => {
                state.end_grants(&sub, Some(&owner), BY_CLIENT, now);
            }
            Reach::Token | Reach::Access if as_refresh.is_some() => state.end_grant(id, BY_CLIENT, now),
            Reach::Token | Reach::Access => state.end_access(id, token, now),
        }
        Ok(())
    }
}

impl State {
    /// Ends one access token. A grant that had nothing else has ended too.
    fn end_access(&mut self, id: GrantId, token: Fingerprint, now: Timestamp) {
        self.write_about(now, Line::new(Kind::Revoked, Secret::Access, token).because(BY_CLIENT));
        self.access.remove(&token);
        let grant = self.known_mut(id);
        grant.access.retain(|&other| other != token);
        if grant.access.is_empty() && grant.newest_refresh.is_none() {
            self.end_grant(id, BY_CLIENT, now);
        }
    }

    pub(super) fn new_access(
        &mut self,
        id: GrantId,
        (ttl, resource): (Option<Duration>, Option<String>),
        grant_type: Option<&'static str>,
        now: Timestamp,
    ) -> AccessToken {
        let text = mint("at_MARK_");
        let token = Fingerprint::of(&text);
        let expires = now.after(ttl.unwrap_or(Duration::MAX));
        self.access.insert(token, Access { grant: id, expires, resource });
        self.known_mut(id).access.push_back(token);
        self.write_about(now, Line::new(Kind::Issued, Secret::Access, token).in_a(grant_type));
        self.crowd_out(id, now);
        AccessToken::new(text).expect("base64 is visible ASCII")
    }

    /// Ends the oldest access tokens of a grant that has more than may live.
    fn crowd_out(&mut self, id: GrantId, now: Timestamp) {
        let most = self.options.quirks.access_tokens_max.unwrap_or(usize::MAX);
        while self.known(id).access.len() > most {
            let Some(token) = self.known_mut(id).access.pop_front() else { return };
            self.write_about(now, Line::new(Kind::Revoked, Secret::Access, token).because("too_many"));
            self.access.remove(&token);
        }
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
