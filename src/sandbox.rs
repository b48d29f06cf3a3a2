//! The sandbox: a local authorization server for trying grantd and for testing it.
//!
//! It speaks OAuth 2.0 (RFC 6749) with PKCE (RFC 7636), `iss` (RFC 9207), revocation (RFC 7009), metadata (RFC 8414),
//! device codes (RFC 8628) and OpenID Connect. It listens on loopback and nowhere else. Each quirk that providers are known for is a switch in
//! [`Options`]; what goes wrong is in a script of [`Fault`]s; what became of every code and token is in the [`Ledger`].
//!
//! Every secret it makes carries a marker: `code_MARK_`, `dc_MARK_`, `at_MARK_`, `rt_MARK_`. A test that finds `_MARK_` in a log, a
//! database or a page has found a leak.
//!
//! Two parts: the machine knows what a code, a grant and a token are and what becomes of them; a manner knows how a
//! provider writes that down. [`Role`] chooses the manner.

mod answer;
mod assertion;
pub mod browser;
mod definition;
mod endpoints;
mod fault;
mod id_token;
mod ledger;
mod machine;
mod manner;
mod options;
mod params;
mod routes;
mod signer;
#[cfg(test)]
mod tests;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::sandbox::machine::Machine;

pub use self::assertion::{AssertionFault, MadeKey};
pub use self::definition::{adapted, definition, public_definition};
pub use self::fault::{BodyKind, Endpoint, Fault, What, When};
pub use self::ledger::{DoublePresentation, Entry, Fingerprint, GrantId, Kind, Ledger, Secret};
pub use self::machine::{GrantView, IdTokenFacts, Issued};
pub use self::manner::{Mirror, Role, Telling};
pub use self::options::{
    DEFAULT_CLIENT, DEFAULT_SECRET, Decision, DeviceSecret, IdTokenFlaw, IssueRefresh, Options, OptionsPatch, Quirks,
    Rotation, SandboxClient, SandboxUser, UnknownScopes,
};

/// Why a sandbox does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It hands out tokens to whoever asks nicely, so nobody else may reach it.
    #[error("{0} is not a loopback address, and a sandbox listens on nothing else")]
    NotLoopback(SocketAddr),
    /// The address cannot be had.
    #[error("cannot listen on {addr}")]
    Bind {
        /// Which one.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Without a person nobody can consent.
    #[error("a sandbox needs at least one user")]
    NoUsers,
}

/// A running sandbox. Dropping it stops it.
pub struct Sandbox {
    machine: Arc<Machine>,
    url: Url,
    stop: CancellationToken,
    server: Mutex<Option<JoinHandle<()>>>,
}

impl Sandbox {
    /// Starts a sandbox on the current tokio runtime. It answers when this returns.
    ///
    /// # Errors
    /// If the address is not loopback, is taken, or there are no users.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let addr = options.addr;
        if !addr.ip().is_loopback() {
            return Err(StartError::NotLoopback(addr));
        }
        if options.users.is_empty() {
            return Err(StartError::NoUsers);
        }
        let bound = async {
            let listener = TcpListener::bind(addr).await?;
            let addr = listener.local_addr()?;
            Ok((listener, addr))
        };
        let (listener, addr) = bound.await.map_err(|source| StartError::Bind { addr, source })?;
        let origin = format!("http://{addr}");
        let url = Url::parse(&origin).expect("a socket address is a host and a port");
        let machine = Arc::new(Machine::new(options, origin));
        let stop = CancellationToken::new();
        let server = tokio::spawn(wire::serve(listener, Arc::clone(&machine), stop.clone()));
        Ok(Self { machine, url, stop, server: Mutex::new(Some(server)) })
    }

    /// Where it is: `http://127.0.0.1:PORT/`.
    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// The issuer, as it stands in callbacks.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.machine.issuer
    }

    /// Adds a fault behind those that are there.
    pub fn script(&self, fault: Fault) {
        self.machine.state().script.add(fault);
    }

    /// Forgets all faults.
    pub fn clear_faults(&self) {
        self.machine.state().script.clear();
    }

    /// Changes switches while it runs. The address, the role and the clock stay as they were at the start.
    pub fn adjust(&self, change: impl FnOnce(&mut Options)) {
        change(&mut self.machine.state().options);
    }

    /// A copy of the ledger as it stands.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.machine.state().ledger.clone()
    }

    /// Who may be signed in as.
    #[must_use]
    pub fn users(&self) -> Vec<SandboxUser> {
        self.machine.state().options.users.clone()
    }

    /// All grants, oldest first.
    #[must_use]
    pub fn grants(&self) -> Vec<GrantView> {
        self.machine.grants()
    }

    /// Whether the newest refresh token of a grant would still be accepted: what has to be ours after every run.
    #[must_use]
    pub fn newest_refresh_usable(&self, grant: GrantId) -> bool {
        self.machine.grant_view(grant).is_some_and(|grant| grant.newest_refresh_usable)
    }

    /// Gives `client` a grant of `sub` without a browser, for tests that need many. `None` if one of them is unknown.
    #[must_use]
    pub fn give(&self, client: &str, sub: &str, scopes: &[&str]) -> Option<Issued> {
        self.machine.give(client, sub, scopes)
    }

    /// Whether an access token is alive here. Looking stands in the ledger, as every use does.
    #[must_use]
    pub fn opens(&self, access_token: &str) -> bool {
        self.machine.whose(access_token).is_some()
    }

    /// The resource that a live access token is for, where a token is for one of several.
    #[must_use]
    pub fn resource_of(&self, access_token: &str) -> Option<String> {
        self.machine.resource_of(access_token)
    }

    /// Ends all grants of a person, as their account settings would. Tells how many there were.
    pub fn revoke_user(&self, sub: &str) -> usize {
        self.machine.revoke_user(sub)
    }

    /// Stops accepting, gives open requests half a second, and frees the port.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(server) = server {
            let _ = server.await;
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}
