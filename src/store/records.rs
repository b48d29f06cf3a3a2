//! What the store keeps, and what it answers.

use std::time::Duration;

use crate::model::connection::{Account, Connection, State};
use crate::model::id::{BootId, ConnectId, ConnectionId, Epoch, Generation, InstanceId, SlotName, TokenId, Version};
use crate::model::label::Label;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::seal::Sealed;

/// Whose store this is, and the keyring that opens what it holds, sealed by the root key.
#[derive(Clone, Debug)]
pub struct Installation {
    /// The installation.
    pub instance: InstanceId,
    /// The sealed keyring.
    pub keyring: Vec<u8>,
}

/// What a callback is checked against.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Keyed digest of the `state` that was sent (RFC 6749 section 10.12).
    pub state: [u8; 32],
    /// Keyed digest of the cookie of the browser that pressed the button.
    pub browser: [u8; 32],
    /// The PKCE verifier, sealed; `None` where PKCE is off.
    pub verifier: Option<Sealed>,
    /// The `nonce` that the ID token must carry; `None` without OpenID Connect.
    pub nonce: Option<String>,
    /// The redirect URI that was sent, to be repeated exactly.
    pub redirect_uri: String,
    /// The token endpoint the code may be sent to; a definition that changed meanwhile is not followed.
    pub token_endpoint: String,
}

/// What a device flow is gone on with (RFC 8628 section 3.4).
#[derive(Clone, Debug)]
pub struct DeviceOpening {
    /// The device code, sealed.
    pub code: Sealed,
    /// Keyed digest of the proof of whoever began.
    pub browser: [u8; 32],
    /// The token endpoint the code may be sent to; a definition that changed meanwhile is not followed.
    pub token_endpoint: String,
    /// How long to wait between two polls at least.
    pub interval: Duration,
    /// When the code dies.
    pub expires_at: Timestamp,
    /// What it brought, if the person has said yes: there is nothing more to ask for, and only the account is not known yet.
    pub answer: Option<DeviceAnswer>,
}

/// What a device code brought. The code is spent for it.
#[derive(Clone, Debug)]
pub struct DeviceAnswer {
    /// The token response, sealed.
    pub body: Sealed,
    /// When it was asked for; lifetimes count from here.
    pub sent_at: Timestamp,
}

/// What a provider gave and no person has confirmed yet.
#[derive(Clone, Debug)]
pub struct Pending {
    /// The account that came back.
    pub account: Account,
    /// What the grants may do together.
    pub granted: ScopeSet,
    /// Keyed digest of the proof of whoever began and may confirm: a browser's cookie, or what a command keeps.
    pub browser: [u8; 32],
    /// One for each slot.
    pub grants: Vec<PendingGrant>,
}

/// One unconfirmed grant, sealed for its session.
#[derive(Clone, Debug)]
pub struct PendingGrant {
    /// Its slot.
    pub slot: SlotName,
    /// The access token.
    pub access: Sealed,
    /// The refresh token.
    pub refresh: Option<Sealed>,
    /// What it may do.
    pub scopes: ScopeSet,
    /// When the request for it was sent.
    pub issued_at: Timestamp,
    /// When the access token dies.
    pub expires_at: Option<Timestamp>,
    /// When the refresh token dies.
    pub refresh_expires_at: Option<Timestamp>,
}

impl PendingGrant {
    /// Whether it is the same one: nothing is sealed twice alike.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.slot == other.slot && self.access.as_bytes() == other.access.as_bytes()
    }
}

/// A connection that a person has confirmed.
#[derive(Clone, Debug)]
pub struct ConfirmedConnection {
    /// The session that brought it.
    pub session: ConnectId,
    /// The connection as it will be, its epoch included.
    pub connection: Connection,
    /// The epoch the connection had when it was read; `None` if it is new. If it has moved, nothing is changed.
    pub replaces: Option<Epoch>,
    /// Its grants, at the first generation of the new epoch.
    pub grants: Vec<(SlotName, NewGrant)>,
}

impl ConfirmedConnection {
    /// The version of its grants, to seal them for.
    #[must_use]
    pub const fn version(&self) -> Version {
        first_version(self.connection.epoch)
    }
}

/// The version of the grants that a person's consent brings: the first generation of its epoch.
#[must_use]
pub const fn first_version(epoch: Epoch) -> Version {
    Version { epoch, generation: Generation(1) }
}

/// What became of a confirmation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Confirmed {
    /// The session is not waiting for a confirmation: somebody was faster, or it has ended.
    NotWaiting,
    /// The connection changed meanwhile: read again.
    Stale,
    /// Done.
    Yes,
}

/// How much a revocation is to take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Extent {
    /// This connection and nothing else.
    Alone,
    /// Whatever the provider's wider way takes with it: a person asked for that.
    Wider,
}

/// A revocation that has not been finished at the provider.
#[derive(Clone, Debug)]
pub struct Unfinished {
    /// The connection, with the grants that are left to be revoked.
    pub ended: StoredConnection,
    /// What was asked for.
    pub extent: Extent,
}

/// A change of what a connection is called. `None` leaves it as it is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Naming {
    /// The label it gets; `Some(None)` takes it away.
    pub label: Option<Option<Label>>,
    /// Whether it is the default from now on. Another one ceases to be.
    pub is_default: Option<bool>,
}

/// What became of a change of names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Named {
    /// The connection is not there, or revoked.
    Gone,
    /// Another connection of the same subject answers to the label.
    Taken,
    /// Done: the connection as it is now.
    Yes(Box<Connection>),
}

/// Names a grant.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct GrantKey {
    /// The connection that holds it.
    pub connection: ConnectionId,
    /// Its slot there.
    pub slot: SlotName,
}

/// A connection and the grants it holds.
#[derive(Clone, Debug)]
pub struct StoredConnection {
    /// The connection.
    pub connection: Connection,
    /// Its grants, by slot.
    pub grants: Vec<Grant>,
}

/// A grant (RFC 6749 section 1.3) as it is stored.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Its slot.
    pub slot: SlotName,
    /// Its version.
    pub version: Version,
    /// What it holds.
    pub content: NewGrant,
    /// The lease of a refresh that is under way, or was when the daemon died.
    pub lease: Option<Lease>,
    /// How many refreshes in a row brought nothing.
    pub failures: u32,
    /// Why the last refresh brought nothing, in a stable word.
    pub last_failure: Option<String>,
    /// The provider's own number for it, if the definition explained that when it came.
    pub failure_number: Option<u32>,
    /// Whether an answer to its refresh token may have been lost: it may be spent.
    pub uncertain: bool,
    /// How often in a row the provider refused its refresh token for good.
    pub rejections: u32,
}

impl Grant {
    /// A grant that has just been stored, with nothing against it.
    #[must_use]
    pub const fn new(slot: SlotName, version: Version, content: NewGrant) -> Self {
        Self {
            slot,
            version,
            content,
            lease: None,
            failures: 0,
            last_failure: None,
            failure_number: None,
            uncertain: false,
            rejections: 0,
        }
    }
}

/// The content of a grant: what one token response brought.
#[derive(Clone, Debug)]
pub struct NewGrant {
    /// Names the access token.
    pub token_id: TokenId,
    /// The access token.
    pub access: Sealed,
    /// The refresh token.
    pub refresh: Option<Sealed>,
    /// What it may do.
    pub scopes: ScopeSet,
    /// When the request for it was sent.
    pub issued_at: Timestamp,
    /// When the access token dies; `None` if it does not by time.
    pub expires_at: Option<Timestamp>,
    /// When the refresh token dies, as far as known.
    pub refresh_expires_at: Option<Timestamp>,
    /// When it is to be renewed; `None` if never by itself.
    pub renew_at: Option<Timestamp>,
    /// When it will need a person.
    pub ends: Ends,
}

/// When a grant will need a person, by what is known of its life when it is stored.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Ends {
    /// Whatever is done.
    pub at: Option<Timestamp>,
    /// Unless it is renewed before.
    pub unless_renewed: Option<Timestamp>,
}

/// A grant that will need a person.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ending {
    /// When.
    pub at: Timestamp,
    /// Which.
    pub key: GrantKey,
    /// The latest warning that was given about its connection: for which point in time it was due.
    pub warned: Option<Timestamp>,
}

/// The right to spend one version's refresh token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lease {
    /// Which run of the daemon holds it.
    pub boot: BootId,
    /// Until when.
    pub until: Timestamp,
}

/// How to plan again when the wall clock was set back.
#[derive(Clone, Copy, Debug)]
pub struct Replan {
    /// Now, by the clock as it is.
    pub now: Timestamp,
    /// Nothing can have been issued later than this.
    pub believed_until: Timestamp,
    /// No failure puts off the next attempt beyond this.
    pub waits_until: Timestamp,
    /// No lease lasts longer than this.
    pub leased_until: Timestamp,
    /// Over how long renewals are spread that become due together.
    pub spread: Duration,
}

/// What became of an attempt to arm.
#[derive(Clone, Debug)]
pub enum Armed {
    /// The grant is not there, or its connection is revoked or needs a person.
    Gone,
    /// Somebody else holds the lease until then.
    Held {
        /// The end of the lease.
        until: Timestamp,
    },
    /// The grant has been replaced meanwhile: take the new one.
    Moved,
    /// The refresh token may be sent, once.
    Yes {
        /// Whether this version was armed before, and whoever did never told what came of it: its refresh token may
        /// have been spent.
        recovery: bool,
    },
}

/// What became of a replacement.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Replaced {
    /// The connection was connected again or revoked meanwhile: what came back belongs to nobody.
    Gone,
    /// The grant had been replaced already.
    Stale {
        /// By this version.
        current: Version,
    },
    /// Done.
    Yes {
        /// The version it has now.
        version: Version,
    },
}

/// A refresh that brought nothing.
#[derive(Clone, Debug)]
pub struct Failure {
    /// In a stable word.
    pub class: &'static str,
    /// The provider's own number for it, if its definition explains that; never one that it does not.
    pub number: Option<u32>,
    /// What the connection is now.
    pub state: State,
    /// When to try again; `None` for never by itself.
    pub retry_at: Option<Timestamp>,
    /// Whether an answer to the refresh token may have been lost, now or before.
    pub uncertain: bool,
    /// How often in a row the provider has refused the refresh token for good.
    pub rejections: u32,
}

/// The [`Failure::class`] of a renewal that was put off because the store is held. Releasing the hold makes those due at once.
pub const HELD: &str = "held";

/// The wall clock was set back: what was issued before it has times that promise more than they keep.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Setback {
    /// What was issued before this, by the clock as it is now, has times of the clock as it was.
    pub until: Timestamp,
    /// How far that clock was ahead of this one; never zero. A millisecond is the least that is kept.
    pub by: Duration,
}

/// The store may be an old copy: what its grants hold may have been spent since, and is not tried before an administrator
/// has said so.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Hold {
    /// Grants that were issued before this are held.
    pub before: Timestamp,
    /// When it was found.
    pub found_at: Timestamp,
    /// What was found.
    pub why: HoldReason,
}

/// Why the store is believed to be an old copy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HoldReason {
    /// The mark beside it knows of later changes.
    Older,
    /// It is another file than the one that was marked: a directory was copied back, or moved.
    OtherFile,
    /// It had a mark, and that is gone or damaged.
    MarkMissing,
    /// The mark beside it is another installation's.
    OtherInstance,
}

impl HoldReason {
    /// Every reason.
    pub const ALL: [Self; 4] = [Self::Older, Self::OtherFile, Self::MarkMissing, Self::OtherInstance];

    /// The stable word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Older => "older_copy",
            Self::OtherFile => "other_file",
            Self::MarkMissing => "mark_missing",
            Self::OtherInstance => "other_instance",
        }
    }

    /// One sentence for an operator.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Older => "The database is older than the mark beside it: an old copy was put back.",
            Self::OtherFile => {
                "The database is another file than the one that grantd wrote last: it was copied back or moved."
            }
            Self::MarkMissing => {
                "The mark beside the database is gone or damaged, so nobody can tell whether this is an old copy."
            }
            Self::OtherInstance => "The mark beside the database belongs to another installation.",
        }
    }
}
