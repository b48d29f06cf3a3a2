//! TLS for the pages, where a provider insists on https even on loopback.

mod own;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::clock::Clock;
use crate::model::time::Timestamp;
use crate::web::tls::own::Keeper;

/// How long a handshake may take, from the moment the connection is accepted.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// How a TLS handshake begins (RFC 8446 section 5.1).
const HANDSHAKE_RECORD: u8 = 22;
/// How much of a request in plain http is read before the connection is closed, in bytes.
const PLAIN_MAX: u64 = 64 * 1024;

/// Where the certificate comes from.
#[derive(Clone, Debug)]
pub enum TlsFrom {
    /// From the operator, read and checked.
    Given(Arc<ServerConfig>),
    /// From grantd itself: made once and kept in this directory.
    Own(PathBuf),
}

/// Why there is no TLS: an operator has to act.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate is none.
    #[error("holds no certificate in PEM form that can be used: {0}")]
    Certificate(String),
    /// The key is none.
    #[error("holds no private key in PEM form that can be used: {0}")]
    Key(String),
    /// They do not belong together.
    #[error("is not the key of the certificate")]
    Mismatch,
    /// A file of ours cannot be read or written.
    #[error("the certificate of the pages: {}: {cause}", .path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// A file stands where ours would be.
    #[error(
        "the certificate of the pages: {} was not made by grantd; name it in `web.tls`, or move it away and one is made",
        .0.display()
    )]
    NotOurs(PathBuf),
    /// No certificate can be made.
    #[error("the certificate of the pages cannot be made: {0}")]
    Make(String),
}

/// Checks a certificate chain and its key, both in PEM form.
///
/// # Errors
/// If either cannot be used, or they do not belong together.
pub fn given(certificate: &[u8], key: &[u8]) -> Result<TlsFrom, TlsError> {
    Ok(TlsFrom::Given(Arc::new(config(certificate, key)?)))
}

/// TLS as it is served. A certificate of our own is made anew before it ends.
pub struct Tls {
    serving: ArcSwap<ServerConfig>,
    own: Option<Own>,
    clock: Arc<dyn Clock>,
    patience: Duration,
}

struct Own {
    keeper: Keeper,
    /// When the next one is made.
    due: Mutex<Timestamp>,
}

impl Tls {
    /// Has a certificate ready, and makes one if it is ours to make and there is none that lasts.
    ///
    /// # Errors
    /// If it cannot be read, made or kept.
    pub fn open(from: TlsFrom, clock: Arc<dyn Clock>) -> Result<Self, TlsError> {
        let (serving, own) = match from {
            TlsFrom::Given(serving) => (serving, None),
            TlsFrom::Own(directory) => {
                let keeper = Keeper::of(&directory);
                let kept = keeper.load_or_make(clock.now())?;
                let serving = Arc::new(config(kept.certificate.as_bytes(), kept.key.as_bytes())?);
                tracing::info!(certificate = %keeper.certificate().display(),
                    "The pages are served over https with a certificate of grantd's own. A browser warns of it until it is told \
                     to trust this file; docs/OPERATIONS.md says how");
                (serving, Some(Own { keeper, due: Mutex::new(kept.due) }))
            }
        };
        Ok(Self { serving: ArcSwap::new(serving), own, clock, patience: HANDSHAKE_DEADLINE })
    }

    /// Where the certificate is that a browser has to trust; `None` if it is the operator's.
    #[must_use]
    pub fn own_certificate(&self) -> Option<&Path> {
        self.own.as_ref().map(|own| own.keeper.certificate())
    }

    /// The handshake. `None` if it does not come about; who speaks plain http is told where to go.
    pub(crate) async fn accept(&self, stream: TcpStream, origin: &str) -> Option<TlsStream<TcpStream>> {
        self.renew_if_due();
        let shaking = async {
            let mut first = [0];
            match stream.peek(&mut first).await {
                Ok(1) if first[0] == HANDSHAKE_RECORD => {
                    TlsAcceptor::from(self.serving.load_full()).accept(stream).await.ok()
                }
                Ok(1) => {
                    drop(refuse_plain(stream, origin).await);
                    None
                }
                _ => None,
            }
        };
        tokio::time::timeout(self.patience, shaking).await.ok().flatten()
    }

    fn renew_if_due(&self) {
        let Some(own) = &self.own else { return };
        let now = self.clock.now();
        let mut due = own.due.lock().unwrap_or_else(PoisonError::into_inner);
        if now < *due {
            return;
        }
        let renewed = own.keeper.make(now).and_then(|kept| {
            self.serving.store(Arc::new(config(kept.certificate.as_bytes(), kept.key.as_bytes())?));
            Ok(kept.due)
        });
        match renewed {
            Ok(next) => {
                *due = next;
                tracing::warn!(certificate = %own.keeper.certificate().display(),
                    "Made a new certificate for the pages, because the old one ends; browsers have to be told to trust it");
            }
            Err(error) => {
                *due = now.after(Duration::from_secs(3600));
                tracing::error!(%error, "The certificate of the pages cannot be made anew");
            }
        }
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("own", &self.own_certificate()).finish_non_exhaustive()
    }
}

/// Tells a browser that came with http where the pages are, and reads what it still sends: a connection that is closed with
/// bytes unread is reset, and the answer with it.
async fn refuse_plain(mut stream: TcpStream, origin: &str) -> std::io::Result<()> {
    let body = format!("These pages are served over https: open {origin}/ instead.\n");
    let head = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\
         x-content-type-options: nosniff\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await?;
    stream.shutdown().await?;
    match tokio::io::copy(&mut stream.take(PLAIN_MAX), &mut tokio::io::sink()).await {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => Err(error),
        _ => Ok(()),
    }
}

/// TLS 1.2 and 1.3 by the one cryptographic library of this program.
fn config(certificate: &[u8], key: &[u8]) -> Result<ServerConfig, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::Certificate(error.to_string()))?;
    if chain.is_empty() {
        return Err(TlsError::Certificate("there is none in it".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| TlsError::Key(error.to_string()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = provider.key_provider.load_private_key(key).map_err(|error| TlsError::Key(error.to_string()))?;
    let certified = rustls::sign::CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) => {}
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => return Err(TlsError::Mismatch),
        Err(error) => return Err(TlsError::Certificate(error.to_string())),
    }
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for them")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests;
