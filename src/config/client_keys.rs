//! Reads the key that a client signs with in place of a secret, and its certificate.

use std::path::Path;

use crate::config::secrets::{Privacy, SecretRef, SecretRefError, read, read_as};
use crate::model::client_key::ClientKey;

/// What `reference` leads to, as the key that a client signs with.
///
/// # Errors
/// As [`read`](crate::config::secrets::read), and if it is no private key in PEM.
pub(super) fn key(reference: &SecretRef, credentials: Option<&Path>) -> Result<ClientKey, SecretRefError> {
    let bytes = read(reference, credentials)?;
    ClientKey::from_pem(&bytes)
        .map_err(|problem| SecretRefError { reference: reference.clone(), problem: problem.into() })
}

/// `key` with the certificate that `reference` leads to. A certificate is no secret, but who can change it can put another
/// in its place: a file may be read by everybody and written by nobody else.
///
/// # Errors
/// As [`read`](crate::config::secrets::read), and if it is no certificate in PEM, or another key's.
pub(super) fn certificate(
    key: ClientKey,
    reference: &SecretRef,
    credentials: Option<&Path>,
) -> Result<ClientKey, SecretRefError> {
    let bytes = read_as(reference, credentials, Privacy::Public)?;
    key.with_certificate(&bytes)
        .map_err(|problem| SecretRefError { reference: reference.clone(), problem: problem.into() })
}
