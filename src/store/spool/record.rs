//! How a pair is written into the spool: a small JSON object with the tokens sealed as they would be in the database.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::model::id::{ConnectionId, Epoch, Generation, SlotName, TokenId, Version};
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::seal::Sealed;
use crate::store::records::{Ends, GrantKey, NewGrant};

/// The format that is written. A reader takes no later one, and leaves out fields that it does not know.
const FORMAT: u32 = 1;

/// A replacement that is still to be written into the store: everything that `Store::replace_grant` takes.
#[derive(Clone, Debug)]
pub struct Spooled {
    /// The grant.
    pub key: GrantKey,
    /// The version that was read, whose refresh token was spent.
    pub read: Version,
    /// What came for it, sealed for the version after that.
    pub content: NewGrant,
}

/// Why the bytes are no record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// They were changed or cut off.
    #[error("not a record: {0}")]
    Malformed(String),
    /// A later grantd wrote them.
    #[error("the record has format {0}, and this grantd knows formats up to {FORMAT}")]
    Newer(u32),
}

/// The format alone, which is looked at before everything else.
#[derive(Deserialize)]
struct Head {
    format: u32,
}

#[derive(Deserialize, Serialize)]
struct Body {
    format: u32,
    connection: ConnectionId,
    slot: SlotName,
    /// The version that was read.
    epoch: Epoch,
    generation: Generation,
    content: Content,
}

#[derive(Deserialize, Serialize)]
struct Content {
    token_id: TokenId,
    access: String,
    refresh: Option<String>,
    scopes: ScopeSet,
    issued_at: Timestamp,
    expires_at: Option<Timestamp>,
    refresh_expires_at: Option<Timestamp>,
    renew_at: Option<Timestamp>,
    ends_at: Option<Timestamp>,
    lapses_at: Option<Timestamp>,
}

impl Spooled {
    /// The bytes to put into the spool.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let content = &self.content;
        let body = Body {
            format: FORMAT,
            connection: self.key.connection.clone(),
            slot: self.key.slot.clone(),
            epoch: self.read.epoch,
            generation: self.read.generation,
            content: Content {
                token_id: content.token_id.clone(),
                access: text(&content.access),
                refresh: content.refresh.as_ref().map(text),
                scopes: content.scopes.clone(),
                issued_at: content.issued_at,
                expires_at: content.expires_at,
                refresh_expires_at: content.refresh_expires_at,
                renew_at: content.renew_at,
                ends_at: content.ends.at,
                lapses_at: content.ends.unless_renewed,
            },
        };
        serde_json::to_vec(&body).expect("a record has text keys and no failing serializer")
    }

    /// Reads a record. Whether its tokens are good shows when they are opened.
    ///
    /// # Errors
    /// If the bytes are no record, or one of a later format.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let Head { format } = read(bytes)?;
        if format > FORMAT {
            return Err(RecordError::Newer(format));
        }
        let Body { connection, slot, epoch, generation, content, .. } = read(bytes)?;
        Ok(Self {
            key: GrantKey { connection, slot },
            read: Version { epoch, generation },
            content: NewGrant {
                token_id: content.token_id,
                access: sealed(&content.access)?,
                refresh: content.refresh.as_deref().map(sealed).transpose()?,
                scopes: content.scopes,
                issued_at: content.issued_at,
                expires_at: content.expires_at,
                refresh_expires_at: content.refresh_expires_at,
                renew_at: content.renew_at,
                ends: Ends { at: content.ends_at, unless_renewed: content.lapses_at },
            },
        })
    }
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, RecordError> {
    // The place is said and the value is not: serde's own message could repeat what stands there.
    serde_json::from_slice(bytes).map_err(|error| {
        RecordError::Malformed(format!("{:?} at line {} column {}", error.classify(), error.line(), error.column()))
    })
}

fn text(sealed: &Sealed) -> String {
    STANDARD_NO_PAD.encode(sealed.as_bytes())
}

fn sealed(text: &str) -> Result<Sealed, RecordError> {
    let bytes = STANDARD_NO_PAD.decode(text);
    bytes.map(Sealed::from_bytes).map_err(|_| RecordError::Malformed("a sealed value is not base64".to_owned()))
}
