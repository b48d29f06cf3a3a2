//! Sealing and opening the tokens of a grant: each value in a place of its own.

use zeroize::Zeroizing;

use crate::model::connection::Connection;
use crate::model::id::{ProviderId, SlotName, TenantId, Version};
use crate::model::secret::{AccessToken, CodeVerifier, DeviceCode, RefreshToken};
use crate::model::session::ConnectSession;
use crate::oauth::answer::AnswerBody;
use crate::seal::{Keyring, OpenError, Place, Sealed};

/// Whose tokens they are: a connection's, or a connect session's that nobody has confirmed yet.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    tenant: &'a TenantId,
    provider: &'a ProviderId,
    name: &'a str,
    version: Version,
}

impl<'a> Owner<'a> {
    /// One version of a connection's grants.
    #[must_use]
    pub fn connection(connection: &'a Connection, version: Version) -> Self {
        Self {
            tenant: &connection.subject.tenant,
            provider: &connection.provider,
            name: connection.id.as_str(),
            version,
        }
    }

    /// A connect session.
    #[must_use]
    pub fn session(session: &'a ConnectSession) -> Self {
        Self {
            tenant: &session.subject.tenant,
            provider: &session.provider,
            name: session.id.as_str(),
            version: Version::default(),
        }
    }

    fn seal(self, keyring: &Keyring, column: &str, slot: &str, text: &str) -> Sealed {
        let column = format!("{column}:{slot}");
        keyring.seal(&self.place(&column), text.as_bytes())
    }

    fn open(self, keyring: &Keyring, column: &str, slot: &str, sealed: &Sealed) -> Result<String, OpenError> {
        let column = format!("{column}:{slot}");
        let opened = keyring.open(&self.place(&column), sealed)?;
        String::from_utf8(opened.to_vec()).map_err(|_| OpenError::Format)
    }

    fn place<'p>(&self, column: &'p str) -> Place<'p>
    where
        'a: 'p,
    {
        Place { tenant: self.tenant, provider: self.provider, owner: self.name, column, version: self.version }
    }

    /// Seals an access token.
    #[must_use]
    pub fn seal_access(self, keyring: &Keyring, slot: &SlotName, token: &AccessToken) -> Sealed {
        self.seal(keyring, "access", slot.as_str(), token.expose())
    }

    /// Seals a refresh token.
    #[must_use]
    pub fn seal_refresh(self, keyring: &Keyring, slot: &SlotName, token: &RefreshToken) -> Sealed {
        self.seal(keyring, "refresh", slot.as_str(), token.expose())
    }

    /// Seals a PKCE verifier.
    #[must_use]
    pub fn seal_verifier(self, keyring: &Keyring, verifier: &CodeVerifier) -> Sealed {
        self.seal(keyring, "verifier", "", verifier.expose())
    }

    /// Seals a device code.
    #[must_use]
    pub fn seal_device_code(self, keyring: &Keyring, code: &DeviceCode) -> Sealed {
        self.seal(keyring, "device", "", code.expose())
    }

    /// Opens a device code.
    ///
    /// # Errors
    /// If it was not sealed for this place.
    pub fn open_device_code(self, keyring: &Keyring, sealed: &Sealed) -> Result<DeviceCode, OpenError> {
        let text = self.open(keyring, "device", "", sealed)?;
        DeviceCode::new(text).map_err(|_| OpenError::Format)
    }

    /// Seals what a device code brought.
    #[must_use]
    pub fn seal_answer(self, keyring: &Keyring, body: &AnswerBody) -> Sealed {
        self.seal(keyring, "answer", "", &Zeroizing::new(body.0.to_string()))
    }

    /// Opens what a device code brought.
    ///
    /// # Errors
    /// If it was not sealed for this place.
    pub fn open_answer(self, keyring: &Keyring, sealed: &Sealed) -> Result<AnswerBody, OpenError> {
        let text = Zeroizing::new(self.open(keyring, "answer", "", sealed)?);
        serde_json::from_str(&text).map(AnswerBody).map_err(|_| OpenError::Format)
    }

    /// Opens an access token.
    ///
    /// # Errors
    /// If it was not sealed for this place.
    pub fn open_access(self, keyring: &Keyring, slot: &SlotName, sealed: &Sealed) -> Result<AccessToken, OpenError> {
        let text = self.open(keyring, "access", slot.as_str(), sealed)?;
        AccessToken::new(text).map_err(|_| OpenError::Format)
    }

    /// Opens a refresh token.
    ///
    /// # Errors
    /// If it was not sealed for this place.
    pub fn open_refresh(self, keyring: &Keyring, slot: &SlotName, sealed: &Sealed) -> Result<RefreshToken, OpenError> {
        let text = self.open(keyring, "refresh", slot.as_str(), sealed)?;
        RefreshToken::new(text).map_err(|_| OpenError::Format)
    }

    /// Opens a PKCE verifier.
    ///
    /// # Errors
    /// If it was not sealed for this place.
    pub fn open_verifier(self, keyring: &Keyring, sealed: &Sealed) -> Result<CodeVerifier, OpenError> {
        let text = self.open(keyring, "verifier", "", sealed)?;
        CodeVerifier::new(text).map_err(|_| OpenError::Format)
    }
}
