//! What can be connected, and by whom: the providers and the callers as the operator configured them.

use std::collections::BTreeMap;
use std::sync::Arc;

use url::Url;

use crate::model::client::Client;
use crate::model::id::{ProviderId, SlotName};
use crate::model::provider::Provider;
use crate::model::scope::ScopeSet;
use crate::policy::callers::Callers;

/// The configured providers and the address of the pages.
#[derive(Debug)]
pub struct Registry {
    /// Where a browser reaches the pages, such as `http://localhost:8717`.
    pub web_url: Url,
    /// By name.
    pub providers: BTreeMap<ProviderId, Arc<Configured>>,
    /// Who may have what of it, besides everybody what is their own.
    pub callers: Arc<Callers>,
}

/// A provider with our registration at it.
#[derive(Debug)]
pub struct Configured {
    /// The provider.
    pub provider: Provider,
    /// Our registration.
    pub client: Client,
    /// What is asked for when nobody says more, by slot.
    pub scopes: BTreeMap<SlotName, ScopeSet>,
}

impl Registry {
    /// The page of a connect session.
    #[must_use]
    pub fn connect_url(&self, id: &crate::model::id::ConnectId) -> Url {
        self.page(&["connect", id.as_str()])
    }

    /// The redirect URI of a provider (RFC 6749 section 3.1.2): one of its own for each, so that an answer cannot be taken
    /// for another provider's.
    #[must_use]
    pub fn redirect_uri(&self, provider: &ProviderId) -> Url {
        self.page(&["callback", provider.as_str()])
    }

    fn page(&self, path: &[&str]) -> Url {
        let mut url = self.web_url.clone();
        url.set_path(&path.join("/"));
        url
    }
}

impl Configured {
    /// What is asked for when nobody says more, of all slots together.
    #[must_use]
    pub fn all_scopes(&self) -> ScopeSet {
        self.scopes.values().fold(ScopeSet::default(), |all, scopes| all.union(scopes))
    }
}
