//! The machine: codes, grants and tokens, and what becomes of them. Manners decide how that looks on the wire.
//!
//! Everything stands behind one mutex that is held for a few map operations and never across an await. Secrets are
//! kept by fingerprint only, so the machine could not leak one if it wanted to.

mod access;
mod clients;
mod codes;
mod consent;
mod device;
mod receipt;
mod refresh;
mod resources;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Serialize, Serializer};

use crate::clock::Clock;
use crate::model::id::SlotName;
use crate::model::secret::{AccessToken, RefreshToken};
use crate::model::time::Timestamp;
use crate::sandbox::fault::{Endpoint, Script, What};
use crate::sandbox::ledger::{Fingerprint, GrantId, Kind, Ledger, Line, Secret};
use crate::sandbox::manner::route::{Route, Spot, path_of};
use crate::sandbox::manner::{Manner, Wish};
use crate::sandbox::options::{IssueRefresh, Options, Quirks, SandboxUser};
use crate::sandbox::signer::Signer;

pub(super) use self::access::{Reach, Revocation};
pub(super) use self::clients::Credentials;
pub(super) use self::codes::Redemption;
pub(super) use self::consent::{Asked, AuthorizeError, Choice, Redirect, Step};
pub(super) use self::device::{DeviceAsked, DeviceGiven, GRANT_TYPE as DEVICE_GRANT_TYPE};
pub(super) use self::receipt::{Presentation, Receipt};

/// The state of one sandbox, shared by its requests.
pub(super) struct Machine {
    /// Where it is, without the last slash.
    pub(super) origin: String,
    /// What stands in callbacks.
    pub(super) issuer: String,
    pub(super) manner: Arc<dyn Manner>,
    pub(super) routes: Vec<Route>,
    pub(super) signer: Signer,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

pub(super) struct State {
    pub(super) options: Options,
    pub(super) ledger: Ledger,
    pub(super) script: Script,
    waiting: HashMap<String, consent::Waiting>,
    codes: HashMap<Fingerprint, codes::Code>,
    devices: HashMap<Fingerprint, device::Device>,
    grants: Vec<Grant>,
    refresh: HashMap<Fingerprint, refresh::Refresh>,
    access: HashMap<Fingerprint, access::Access>,
    in_flight: HashMap<Fingerprint, u32>,
}

/// What one person gave one client, for one slot.
struct Grant {
    client: Arc<str>,
    slot: SlotName,
    user: SandboxUser,
    scopes: Arc<[String]>,
    /// Whether the consent was one that brings a refresh token where the parameters decide that.
    offline: bool,
    given: Timestamp,
    ended: Option<&'static str>,
    newest_refresh: Option<Fingerprint>,
    /// Oldest first.
    access: VecDeque<Fingerprint>,
}

/// A grant as others may see it.
#[derive(Clone, Debug, Serialize)]
pub struct GrantView {
    /// Which one.
    pub id: GrantId,
    /// Who has it.
    #[serde(serialize_with = "whole")]
    pub client: Arc<str>,
    /// The slot it is for; `main` where there is one.
    pub slot: SlotName,
    /// Who gave it.
    #[serde(serialize_with = "whole")]
    pub sub: Arc<str>,
    /// What for.
    #[serde(serialize_with = "whole")]
    pub scopes: Arc<[String]>,
    /// Why it ended; `None` while it lives.
    pub ended: Option<&'static str>,
    /// The refresh token that was issued last.
    pub newest_refresh: Option<Fingerprint>,
    /// Whether that one would still be accepted.
    pub newest_refresh_usable: bool,
}

/// What a token request brings.
#[derive(Debug)]
pub struct Issued {
    /// The grant it belongs to.
    pub grant: GrantId,
    /// The slot of the grant.
    pub slot: SlotName,
    /// Who has it.
    pub client: Arc<str>,
    /// Whose account it is.
    pub user: SandboxUser,
    /// What the access token is good for.
    pub scopes: Vec<String>,
    /// `at_MARK_…`
    pub access: AccessToken,
    /// How long it lives; `None` is for ever.
    pub access_ttl: Option<Duration>,
    /// `rt_MARK_…`, unless the grant has none or the old one stays.
    pub refresh: Option<RefreshToken>,
    /// How long that lives; `None` is for ever.
    pub refresh_ttl: Option<Duration>,
    /// What goes into an ID token; `None` if `openid` was not granted.
    pub id_token: Option<IdTokenFacts>,
    pub(super) grant_type: Option<&'static str>,
}

/// What an ID token says besides who and for whom (OpenID Connect Core section 2).
#[derive(Clone, Debug)]
pub struct IdTokenFacts {
    /// The nonce of the authorization request; absent after a refresh.
    pub nonce: Option<String>,
    /// When the person agreed.
    pub auth_time: Timestamp,
    /// Now.
    pub issued_at: Timestamp,
}

/// Why a token request fails. The standard code is [`Refusal::error`]; a manner may say it in its own way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refusal {
    /// The request is malformed.
    Request(&'static str),
    /// The client's proof is wrong, or it names none.
    Client,
    /// The assertion with which the client proves itself is not good (RFC 7523 section 3.2).
    Assertion,
    /// There is no such client.
    NoClient,
    /// The client has a secret and did not send it.
    NoSecret,
    /// The client has no secret and sent one.
    PublicSecret,
    /// The code, or what has to go with it, is not good.
    Code(&'static str),
    /// The redirect URI is not the one of the authorization request.
    RedirectUri,
    /// There is no such token to be revoked.
    NoToken,
    /// The refresh token is not good.
    RefreshToken(&'static str),
    /// The token is somebody else's.
    ForeignToken,
    /// More was asked for than was granted.
    Scope,
    /// There is no such grant type.
    GrantType,
    /// The device code is not good.
    DeviceCode(&'static str),
    /// The person has not decided about a device code yet.
    Pending,
    /// Not yet either, and the client polls too fast; from now on this many seconds are to lie between two polls.
    SlowDown {
        /// The interval in seconds.
        interval: u64,
    },
    /// The device code is too old.
    Expired,
    /// The person said no to a device.
    Denied,
}

impl Refusal {
    /// The error code (RFC 6749 section 5.2).
    pub(super) const fn error(self) -> &'static str {
        match self {
            Self::Request(_) => "invalid_request",
            Self::Assertion | Self::Client | Self::NoClient | Self::NoSecret | Self::PublicSecret => "invalid_client",
            Self::Code(_) | Self::DeviceCode(_) | Self::RedirectUri | Self::RefreshToken(_) | Self::NoToken => {
                "invalid_grant"
            }
            Self::ForeignToken => "unauthorized_client",
            Self::Scope => "invalid_scope",
            Self::GrantType => "unsupported_grant_type",
            Self::Pending => "authorization_pending",
            Self::SlowDown { .. } => "slow_down",
            Self::Expired => "expired_token",
            Self::Denied => "access_denied",
        }
    }

    /// The same in words.
    pub(super) const fn description(self) -> &'static str {
        match self {
            Self::Request(why) | Self::Code(why) | Self::DeviceCode(why) | Self::RefreshToken(why) => why,
            Self::Assertion => "the client's assertion is not good",
            Self::Client | Self::NoClient => "no such client, or its proof is wrong",
            Self::NoSecret => "the secret of the client is missing",
            Self::PublicSecret => "the client is public and sent a secret",
            Self::RedirectUri => "redirect_uri differs from the one in the authorization request",
            Self::NoToken => "no such token",
            Self::ForeignToken => "the token was issued to another client",
            Self::Scope => "more than was granted",
            Self::GrantType => "authorization_code, refresh_token and device_code are supported",
            Self::Pending => "the person has not decided yet",
            Self::SlowDown { .. } => "too fast: wait longer between two polls",
            Self::Expired => "the device code has expired",
            Self::Denied => "the person said no",
        }
    }
}

impl Machine {
    pub(super) fn new(options: Options, origin: String) -> Self {
        let manner = options.role.manner();
        Self {
            issuer: manner.issuer(&origin),
            origin,
            routes: manner.routes(),
            manner,
            signer: Signer::default(),
            clock: Arc::clone(&options.clock),
            state: Mutex::new(State {
                options,
                ledger: Ledger::default(),
                script: Script::default(),
                waiting: HashMap::new(),
                codes: HashMap::new(),
                devices: HashMap::new(),
                grants: Vec::new(),
                refresh: HashMap::new(),
                access: HashMap::new(),
                in_flight: HashMap::new(),
            }),
        }
    }

    /// The state. Hold it briefly. Nothing under it can panic half-way, so a poisoned lock is as good as a whole one.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The path of the place where this is answered.
    pub(super) fn path_of(&self, spot: Spot) -> &str {
        path_of(&self.routes, spot)
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn quirks(&self) -> Quirks {
        self.state().options.quirks.clone()
    }

    pub(super) fn fault(&self, at: Endpoint, grant_type: Option<&str>) -> Option<What> {
        self.state().script.take(at, grant_type)
    }

    pub(super) fn grants(&self) -> Vec<GrantView> {
        let now = self.now();
        let state = self.state();
        (1..).zip(&state.grants).map(|(id, grant)| state.view(GrantId(id), grant, now)).collect()
    }

    pub(super) fn grant_view(&self, id: GrantId) -> Option<GrantView> {
        let now = self.now();
        let state = self.state();
        state.grant(id).map(|grant| state.view(id, grant, now))
    }

    /// Gives a grant without a browser.
    pub(super) fn give(&self, client: &str, sub: &str, scopes: &[&str]) -> Option<Issued> {
        let now = self.now();
        let mut state = self.state();
        let client = Arc::clone(&state.client(client)?.id);
        let user = state.options.users.iter().find(|user| *user.sub == *sub)?.clone();
        let scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
        let grant = state.open_grant(client, Wish { slot: SlotName::main(), scopes }, user, true, now);
        Some(state.issue(grant, None, None, None, now))
    }

    /// Ends every grant of this person, as their account settings would.
    pub(super) fn revoke_user(&self, sub: &str) -> usize {
        let now = self.now();
        self.state().end_grants(sub, None, "revoked_by_user", now)
    }
}

impl State {
    /// Ends every grant of this person, or those to one client only. Tells how many there were.
    fn end_grants(&mut self, sub: &str, client: Option<&str>, why: &'static str, now: Timestamp) -> usize {
        let of_client = |grant: &Grant| client.is_none_or(|client| *grant.client == *client);
        let theirs: Vec<GrantId> = (1..)
            .zip(&self.grants)
            .filter(|(_, grant)| *grant.user.sub == *sub && grant.ended.is_none() && of_client(grant))
            .map(|(id, _)| GrantId(id))
            .collect();
        for &grant in &theirs {
            self.end_grant(grant, why, now);
        }
        theirs.len()
    }

    fn grant(&self, id: GrantId) -> Option<&Grant> {
        self.grants.get(usize::try_from(id.0).ok()?.checked_sub(1)?)
    }

    /// A grant that a token of ours names; grants are never removed.
    fn known(&self, id: GrantId) -> &Grant {
        self.grant(id).expect("grants are never removed")
    }

    fn known_mut(&mut self, id: GrantId) -> &mut Grant {
        &mut self.grants[id.0 as usize - 1]
    }

    fn view(&self, id: GrantId, grant: &Grant, now: Timestamp) -> GrantView {
        let newest = grant.newest_refresh.and_then(|token| self.refresh.get(&token));
        GrantView {
            id,
            client: Arc::clone(&grant.client),
            slot: grant.slot.clone(),
            sub: Arc::clone(&grant.user.sub),
            scopes: Arc::clone(&grant.scopes),
            ended: grant.ended,
            newest_refresh: grant.newest_refresh,
            newest_refresh_usable: grant.ended.is_none() && newest.is_some_and(|token| token.is_fresh(now)),
        }
    }

    fn open_grant(
        &mut self,
        client: Arc<str>,
        given: Wish,
        user: SandboxUser,
        offline: bool,
        now: Timestamp,
    ) -> GrantId {
        self.grants.push(Grant {
            client,
            slot: given.slot,
            user,
            scopes: given.scopes.into(),
            offline,
            given: now,
            ended: None,
            newest_refresh: None,
            access: VecDeque::new(),
        });
        GrantId(u32::try_from(self.grants.len()).expect("four thousand million grants do not fit into memory"))
    }

    /// Issues what a new grant comes with. `scopes` narrows the access token.
    fn issue(
        &mut self,
        id: GrantId,
        scopes: Option<Vec<String>>,
        nonce: Option<String>,
        grant_type: Option<&'static str>,
        now: Timestamp,
    ) -> Issued {
        let wants_refresh = match self.options.issue_refresh {
            IssueRefresh::Always => true,
            IssueRefresh::Never => false,
            IssueRefresh::FirstOfflineConsent => self.known(id).offline,
            IssueRefresh::OfflineAccessOnly => self.known(id).scopes.iter().any(|scope| scope == "offline_access"),
        };
        let refresh = wants_refresh.then(|| self.new_refresh(id, grant_type, now));
        self.complete(id, scopes, refresh, nonce, grant_type, now)
    }

    fn complete(
        &mut self,
        id: GrantId,
        scopes: Option<Vec<String>>,
        refresh: Option<RefreshToken>,
        nonce: Option<String>,
        grant_type: Option<&'static str>,
        now: Timestamp,
    ) -> Issued {
        let grant = self.known(id);
        let scopes = scopes.unwrap_or_else(|| grant.scopes.to_vec());
        let (client, slot, user, given) =
            (Arc::clone(&grant.client), grant.slot.clone(), grant.user.clone(), grant.given);
        let openid = scopes.iter().any(|scope| scope == "openid");
        let endless = self.options.quirks.endless_without_refresh && grant.newest_refresh.is_none();
        let access_ttl = (!endless).then_some(self.options.access_ttl);
        // Whoever asked for several has been refused.
        let resource = self.one_resource(&scopes).unwrap_or_default();
        let access = self.new_access(id, (access_ttl, resource), grant_type, now);
        Issued {
            grant: id,
            slot,
            client,
            user,
            access,
            access_ttl,
            refresh,
            refresh_ttl: self.options.refresh_ttl,
            id_token: openid.then_some(IdTokenFacts { nonce, auth_time: given, issued_at: now }),
            scopes,
            grant_type,
        }
    }

    fn end_grant(&mut self, id: GrantId, why: &'static str, now: Timestamp) {
        let grant = self.known_mut(id);
        if grant.ended.is_some() {
            return;
        }
        grant.ended = Some(why);
        let client = Arc::clone(&grant.client);
        let access = std::mem::take(&mut grant.access);
        let refresh = grant.newest_refresh;
        for token in access {
            self.access.remove(&token);
            self.ledger.write(now, Line::new(Kind::Revoked, Secret::Access, token).of(id, &client).because(why));
        }
        if let Some(token) = refresh {
            self.ledger.write(now, Line::new(Kind::Revoked, Secret::Refresh, token).of(id, &client).because(why));
        }
    }
}

fn whole<T: Serialize + ?Sized, S: Serializer>(shared: &Arc<T>, to: S) -> Result<S::Ok, S::Error> {
    (**shared).serialize(to)
}

/// A new secret: its marker, then 256 bits nobody can guess.
fn mint(marker: &str) -> String {
    let mut random = [0; 32];
    getrandom::fill(&mut random).expect("a system without randomness cannot issue tokens");
    let mut text = String::with_capacity(marker.len() + 43);
    text.push_str(marker);
    URL_SAFE_NO_PAD.encode_string(random, &mut text);
    text
}
