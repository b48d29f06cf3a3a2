//! What the audit log says: one entry for each decision and each act, with a JSON form that does not change.
//!
//! Times are milliseconds since the Unix epoch. Fields that make no sense for an act are left out. An entry never holds a
//! token, nor anything that a provider wrote but the id of an account.

use std::borrow::Cow;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::model::caller::Caller;
use crate::model::secret::AccessToken;
use crate::model::subject::Subject;
use crate::model::time::Timestamp;

/// What was done. The words are stable; more of them may come.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// A token was handed out. There is one entry for each answer that has a token in it.
    TokenGranted,
    /// A token was not handed out; `code` is what the caller was told.
    TokenRefused,
    /// A connect session was made.
    ConnectStarted,
    /// A person confirmed the account: it serves from now on.
    ConnectConfirmed,
    /// A connect session ended without a connection; `code` says how.
    ConnectEnded,
    /// A connection was ended here.
    Disconnected,
    /// What became of one of its grants at the provider; `code` is the outcome.
    GrantRevoked,
    /// What an account is called, or which one is the default, was changed.
    AccountNamed,
    /// A store that may be an old copy was accepted.
    RestoreAccepted,
    /// A provider that was held back was released.
    ProviderReleased,
    /// An administrative act was refused; `code` is what the caller was told, `what` the act.
    ActRefused,
    /// The operator had the configuration read again, and it was taken.
    ConfigurationReloaded,
    /// The daemon began to serve.
    DaemonStarted,
    /// The daemon ended in peace.
    DaemonStopped,
}

impl Act {
    /// Every act.
    pub const ALL: [Self; 14] = [
        Self::TokenGranted,
        Self::TokenRefused,
        Self::ConnectStarted,
        Self::ConnectConfirmed,
        Self::ConnectEnded,
        Self::Disconnected,
        Self::GrantRevoked,
        Self::AccountNamed,
        Self::RestoreAccepted,
        Self::ProviderReleased,
        Self::ActRefused,
        Self::ConfigurationReloaded,
        Self::DaemonStarted,
        Self::DaemonStopped,
    ];

    /// The stable word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TokenGranted => "token_granted",
            Self::TokenRefused => "token_refused",
            Self::ConnectStarted => "connect_started",
            Self::ConnectConfirmed => "connect_confirmed",
            Self::ConnectEnded => "connect_ended",
            Self::Disconnected => "disconnected",
            Self::GrantRevoked => "grant_revoked",
            Self::AccountNamed => "account_named",
            Self::RestoreAccepted => "restore_accepted",
            Self::ProviderReleased => "provider_released",
            Self::ActRefused => "act_refused",
            Self::ConfigurationReloaded => "configuration_reloaded",
            Self::DaemonStarted => "daemon_started",
            Self::DaemonStopped => "daemon_stopped",
        }
    }
}

/// The word names no act.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no such act")]
pub struct ActError;

impl FromStr for Act {
    type Err = ActError;

    fn from_str(word: &str) -> Result<Self, ActError> {
        Self::ALL.into_iter().find(|act| act.as_str() == word).ok_or(ActError)
    }
}

/// One entry: who, what, why and when. `seq` and `at` are filled in when it is written.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Entry<'a> {
    /// Counts the entries, from 1, without a gap.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// What was done.
    pub act: Act,
    /// Who asked, by the name that the policy knows; absent for what the daemon does by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<Cow<'a, str>>,
    /// The tenant of whoever it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Cow<'a, str>>,
    /// Whoever it is about, within the tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Cow<'a, str>>,
    /// The uid at the other end of the socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The process there when it connected: a hint, because the number can be used again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// The provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Cow<'a, str>>,
    /// The account there: its id, or for a refusal what the caller named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Cow<'a, str>>,
    /// The connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<Cow<'a, str>>,
    /// The connect session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Cow<'a, str>>,
    /// The token slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Cow<'a, str>>,
    /// What the token may do, or was to be allowed to do; separated by spaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Cow<'a, str>>,
    /// The rule that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Cow<'a, str>>,
    /// How it ended, in a stable word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Cow<'a, str>>,
    /// What was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what: Option<Cow<'a, str>>,
    /// Names the token, as the caller was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_id: Option<Cow<'a, str>>,
    /// The token's [`Fingerprint`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Cow<'a, str>>,
    /// The request, as the caller was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Cow<'a, str>>,
}

impl<'a> Entry<'a> {
    /// An entry that says nothing else yet.
    #[must_use]
    pub const fn new(act: Act) -> Self {
        Self {
            seq: 0,
            at: Timestamp::from_millis(0),
            act,
            caller: None,
            tenant: None,
            subject: None,
            uid: None,
            pid: None,
            provider: None,
            account: None,
            connection: None,
            session: None,
            slot: None,
            scopes: None,
            rule: None,
            code: None,
            what: None,
            token_id: None,
            fingerprint: None,
            request_id: None,
        }
    }

    /// With whoever asked, and as their own affair.
    #[must_use]
    pub fn by(self, caller: &'a Caller) -> Self {
        Self {
            caller: Some(caller.name.as_str().into()),
            uid: caller.peer.map(|peer| peer.uid),
            pid: caller.peer.and_then(|peer| peer.pid),
            ..self.about(&caller.subject)
        }
    }

    /// With whoever it is about.
    #[must_use]
    pub fn about(self, subject: &'a Subject) -> Self {
        Self { tenant: Some(subject.tenant.as_str().into()), subject: Some(subject.user.as_str().into()), ..self }
    }
}

/// Tells one token from others without telling anything of it: the first 16 hexadecimal digits of its SHA-256. Whoever finds a
/// token somewhere can look for it in the log, with `sha256sum` and nothing else.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fingerprint(Box<str>);

impl Fingerprint {
    /// Of this token.
    #[must_use]
    pub fn of(token: &AccessToken) -> Self {
        let digest = Sha256::digest(token.expose().as_bytes());
        Self(digest[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>().into())
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::caller::Peer;

    #[test]
    fn the_words_of_the_acts_are_those_of_the_json() {
        for act in Act::ALL {
            assert_eq!(serde_json::to_value(act).unwrap(), act.as_str());
            assert_eq!(act.as_str().parse(), Ok(act));
        }
        assert_eq!("token_stolen".parse::<Act>(), Err(ActError));
    }

    #[test]
    fn an_entry_is_written_in_one_way_and_read_back_the_same() {
        let peer = Peer { uid: 1000, gid: 100, pid: Some(7) };
        let subject = Subject::from_uid(1000);
        let caller = Caller { name: "uid:1000".parse().unwrap(), subject, admin: false, peer: Some(peer), rules: None };
        let entry = Entry {
            seq: 3,
            at: Timestamp::from_millis(1_795_412_345_678),
            provider: Some("github".into()),
            rule: Some("own".into()),
            ..Entry::new(Act::TokenGranted).by(&caller)
        };
        let text = serde_json::to_string(&entry).unwrap();
        assert_eq!(
            text,
            r#"{"seq":3,"at":1795412345678,"act":"token_granted","caller":"uid:1000","tenant":"local","subject":"uid:1000","uid":1000,"pid":7,"provider":"github","rule":"own"}"#
        );
        let again: Entry<'static> = serde_json::from_str(&text).unwrap();
        assert_eq!((&again, serde_json::to_string(&again).unwrap()), (&entry, text));
    }

    #[test]
    fn a_fingerprint_is_what_sha256sum_says() {
        let token = AccessToken::new("abc").unwrap();
        assert_eq!(Fingerprint::of(&token).as_str(), "ba7816bf8f01cfea");
    }
}
