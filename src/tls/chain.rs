//! A certificate chain with its key: read from PEM, checked, and served by the one cryptographic library of this program.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, Error, InconsistentKeys, RootCertStore, ServerConfig};

use crate::model::time::Timestamp;
use crate::tls::TlsError;

/// Certificates, the server's own first, and its key.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    certified: Arc<CertifiedKey>,
    /// From when on the first certificate is good.
    pub(super) begins: Timestamp,
    /// Until when.
    pub(super) ends: Timestamp,
}

impl Chain {
    /// Checks that both can be used and belong together.
    pub(super) fn read(certificate: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate)
            .collect::<Result<_, _>>()
            .map_err(|error| TlsError::Certificate(error.to_string()))?;
        if chain.is_empty() {
            return Err(TlsError::Certificate("there is none in it".to_owned()));
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| TlsError::Key(error.to_string()))?;
        let key = provider().key_provider.load_private_key(key).map_err(|error| TlsError::Key(error.to_string()))?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) => {}
            Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => return Err(TlsError::Mismatch),
            Err(error) => return Err(TlsError::Certificate(error.to_string())),
        }
        let (begins, ends) = life(&certified.cert[0]).map_err(|error| TlsError::Certificate(error.to_string()))?;
        Ok(Self { certified: Arc::new(certified), begins, ends })
    }

    /// Whether the certificates are the same, and with them the key.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.certified.cert == other.certified.cert
    }

    /// TLS 1.2 and 1.3 with this certificate, for HTTP/1.1.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for them")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&self.certified))));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// From when until when a certificate is good (RFC 5280 section 4.1.2.5). The library says so only where it refuses one for it,
/// which it does before anything else: so it is asked about the beginning and the end of time.
fn life(leaf: &CertificateDer<'_>) -> Result<(Timestamp, Timestamp), Error> {
    let mut roots = RootCertStore::empty();
    roots.add(leaf.clone().into_owned())?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| Error::General(error.to_string()))?;
    let name = ServerName::try_from("localhost").expect("it is a name");
    let refused_at = |seconds| {
        let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        verifier.verify_server_cert(leaf, &[], &name, &[], at).err()
    };
    let begins = match refused_at(0) {
        Some(Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. })) => {
            not_before.as_secs()
        }
        // It was good in 1970 already.
        _ => 0,
    };
    match refused_at(u64::MAX) {
        Some(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            Ok((timestamp(begins), timestamp(not_after.as_secs())))
        }
        Some(error) => Err(error),
        None => Err(Error::General("it has no end".to_owned())),
    }
}

fn timestamp(seconds: u64) -> Timestamp {
    Timestamp::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX))
}
