//! Our registration at a provider (RFC 6749 section 2).

use serde::{Deserialize, Serialize};

use crate::model::client_key::ClientKey;
use crate::model::secret::ClientSecret;

/// How a client proves itself at the token endpoint (RFC 6749 section 2.3).
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// HTTP Basic, id and secret form-encoded first (RFC 6749 section 2.3.1).
    Basic,
    /// A public client: only `client_id` is sent.
    None,
    /// `client_id` and `client_secret` in the body (RFC 6749 section 2.3.1).
    Post,
    /// An assertion that the client signs with its own key (RFC 7523 section 2.2); there is no secret.
    PrivateKeyJwt,
}

/// The client id and the secret, if it has one.
#[derive(Debug)]
pub struct Client {
    /// `client_id` (RFC 6749 section 2.2); not a secret.
    pub id: String,
    /// `client_secret`, read from where the configuration points to.
    pub secret: Option<ClientSecret>,
    /// The key that signs assertions, where those take the place of a secret.
    pub key: Option<ClientKey>,
}
