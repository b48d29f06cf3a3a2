//! Takes another configuration while the daemon serves: its providers and callers, and the certificate of the
//! pages.

use std::fmt::Display;
use std::sync::Arc;

use tracing::{error, info, warn};

use crate::broker::Broker;
use crate::broker::registry::Registry;
use crate::daemon::supervisor;
use crate::tls::{Tls, TlsFrom};

/// What was read again.
pub struct Reread<E> {
    /// What can be connected.
    pub registry: Registry,
    /// The certificate of the pages, where their address is https. A file that cannot be used does not keep the providers from
    /// being exchanged: they may be what an operator mends in a hurry.
    pub tls: Result<Option<TlsFrom>, E>,
}

/// What a reload changes of a daemon that serves.
#[derive(Clone)]
pub struct Reloader {
    pub(super) broker: Arc<Broker>,
    pub(super) tls: Option<Arc<Tls>>,
}

impl Reloader {
    /// Takes what `read` finds, or keeps what there is and tells why; and tells the service manager.
    pub fn reload<E: Display>(&self, read: impl FnOnce() -> Result<Reread<E>, E>) {
        supervisor::reloading();
        match read() {
            Ok(Reread { registry, tls }) => {
                let providers = self.take(registry);
                let kept = if self.show(tls) { "" } else { ", with the old certificate: the new one is wrong" };
                supervisor::ready(&format!("Serving {providers} providers{kept}"));
            }
            Err(error) => {
                error!("Keeping the old configuration: {error}");
                supervisor::ready("Keeping the old configuration: the new one is wrong");
            }
        }
    }

    fn take(&self, mut registry: Registry) -> usize {
        let providers = registry.providers.len();
        let serving = self.broker.registry().web_url.clone();
        if registry.web_url != serving {
            warn!(web = %serving, "The pages stay at {serving}: another `web.url` needs a restart");
            registry.web_url = serving;
        }
        super::tell_of_blindness(&registry.callers);
        self.broker.reload(registry);
        info!(providers, "Took the new configuration");
        providers
    }

    /// Shows another certificate from now on. Says whether the one of the configuration is shown.
    fn show<E: Display>(&self, from: Result<Option<TlsFrom>, E>) -> bool {
        let why = match (from, &self.tls) {
            (Ok(Some(from)), Some(tls)) => match tls.replace(from) {
                Ok(_) => return true,
                Err(error) => error.to_string(),
            },
            (Err(error), Some(_)) => error.to_string(),
            // Pages that are served over http until the next start have none.
            (Ok(None), _) | (_, None) => return true,
        };
        error!("Keeping the old certificate of the pages: {why}");
        false
    }
}
