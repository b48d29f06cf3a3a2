//! The certificate that grantd makes for its own pages: made once, kept beside the store, and made anew before it ends.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Datelike as _};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use zeroize::Zeroizing;

use crate::model::time::Timestamp;
use crate::tls::TlsError;
use crate::tls::chain::Chain;

/// For which names of this machine it is good.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
const DAY: Duration = Duration::from_secs(86_400);
/// How long one lasts; some systems trust none that lasts longer than 825 days.
const LIFE: Duration = Duration::from_secs(800 * 86_400);
/// How long before its end another one is made.
const MARGIN: Duration = Duration::from_secs(30 * 86_400);
/// The first line of a certificate of ours, before the PEM text, where every reader of PEM skips it.
const MARK: &str = "# Made by grantd for https on this machine; another one is made at ";

/// Where the certificate and its key are.
#[derive(Clone, Debug)]
pub(super) struct Keeper {
    certificate: PathBuf,
    key: PathBuf,
}

/// A certificate with its key.
pub(super) struct Kept {
    pub(super) chain: Chain,
    /// When another one is to be made.
    pub(super) due: Timestamp,
}

impl Keeper {
    pub(super) fn of(directory: &Path) -> Self {
        Self { certificate: directory.join("web-certificate.pem"), key: directory.join("web-key.pem") }
    }

    pub(super) fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// The one that is kept, or a new one if there is none, it ends soon, its key is gone, or it was made by a clock that was
    /// ahead.
    pub(super) fn load_or_make(&self, now: Timestamp) -> Result<Kept, TlsError> {
        let Some(certificate) = read(&self.certificate)? else { return self.make(now) };
        let due = due(&certificate).ok_or_else(|| TlsError::NotOurs(self.certificate.clone()))?;
        let key = read(&self.key)?.map(Zeroizing::new);
        match key.map(|key| Chain::read(certificate.as_bytes(), key.as_bytes())) {
            Some(Ok(chain)) if chain.begins <= now && now < due => Ok(Kept { chain, due }),
            _ => self.make(now),
        }
    }

    /// A new one, which takes the place of the old one. The key comes first: a certificate without its key is made again.
    pub(super) fn make(&self, now: Timestamp) -> Result<Kept, TlsError> {
        let due = now.after(LIFE - MARGIN);
        let (certificate, key) = certificate(now).map_err(|error| TlsError::Make(error.to_string()))?;
        let certificate = format!("{MARK}{}\n{certificate}", due.as_secs());
        let chain = Chain::read(certificate.as_bytes(), key.as_bytes())?;
        put(&self.key, &key)?;
        put(&self.certificate, &certificate)?;
        Ok(Kept { chain, due })
    }
}

fn certificate(now: Timestamp) -> Result<(String, Zeroizing<String>), rcgen::Error> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(NAMES.map(str::to_owned).to_vec())?;
    params.distinguished_name.push(DnType::CommonName, "grantd on this machine");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Whole days, and from yesterday on: a browser's clock may be behind.
    let day = |secs| {
        let (year, month, day) = date(secs);
        rcgen::date_time_ymd(year, month, day)
    };
    params.not_before = day(now.as_secs() - DAY.as_secs().cast_signed());
    params.not_after = day(now.after(LIFE).as_secs());
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), Zeroizing::new(key.serialize_pem())))
}

/// Year, month and day.
fn date(secs: i64) -> (i32, u8, u8) {
    let date = DateTime::from_timestamp(secs, 0).unwrap_or_default();
    (date.year(), u8::try_from(date.month()).unwrap_or(1), u8::try_from(date.day()).unwrap_or(1))
}

fn due(certificate: &str) -> Option<Timestamp> {
    let line = certificate.lines().next()?;
    Some(Timestamp::from_secs(line.strip_prefix(MARK)?.parse().ok()?))
}

fn read(path: &Path) -> Result<Option<String>, TlsError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(TlsError::File { path: path.to_owned(), cause }),
    }
}

/// Written beside it and renamed: what is there is whole.
fn put(path: &Path, text: &str) -> Result<(), TlsError> {
    let beside = path.with_extension("new");
    let written = || {
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    written().map_err(|cause| TlsError::File { path: path.to_owned(), cause })
}
