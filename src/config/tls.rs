//! Reads the certificate of the pages and its key, where the operator has one of their own.

use std::io::{self, Read as _};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::config::{Config, secrets};
use crate::tls::{self, TlsError, TlsFrom};
use crate::yaml::YamlError;

/// The longest certificate chain, in bytes.
const CERTIFICATE_MAX: u64 = 64 * 1024;

impl Config {
    /// What the pages are served with, if their address is https: the operator's certificate, read and checked, or one of
    /// grantd's own, kept in `directory`. `credentials` is the directory of systemd's credentials.
    ///
    /// # Errors
    /// What cannot be used, with the file and the place in the configuration.
    pub fn tls(&self, credentials: Option<&Path>, directory: &Path) -> Result<Option<TlsFrom>, YamlError> {
        let wrong = |member: &str, message: String| self.error(&["web".into(), "tls".into(), member.into()], message);
        let https = self.web.url.as_url().scheme() == "https";
        let Some(given) = &self.web.tls else {
            return Ok(https.then(|| TlsFrom::Own(directory.to_owned())));
        };
        if !https {
            let message = "expected `url` with https beside it, such as `https://localhost:8717`";
            return Err(self.error(&["web".into(), "tls".into()], message));
        }
        let file = given.certificate.file.as_path();
        let named = |problem: String| wrong("certificate", format!("the file {} {problem}", file.display()));
        let certificate = certificate(file).map_err(|error| named(format!("cannot be read: {error}")))?;
        let key = secrets::read(&given.key, credentials).map_err(|error| wrong("key", error.to_string()))?;
        tls::given(file, &certificate, &key).map(Some).map_err(|error| match error {
            TlsError::Certificate(_) => named(error.to_string()),
            _ => wrong("key", format!("{} {error}", given.key)),
        })
    }
}

/// A file that need not be secret. `O_NONBLOCK` keeps a pipe from holding us up.
fn certificate(file: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = std::fs::File::from(rustix::fs::open(file, flags, Mode::empty())?);
    if !opened.metadata()?.is_file() {
        return Err(io::Error::other("it is not a plain file"));
    }
    let mut bytes = Vec::new();
    opened.take(CERTIFICATE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > CERTIFICATE_MAX {
        return Err(io::Error::other(format!("it is longer than {CERTIFICATE_MAX} bytes")));
    }
    Ok(bytes)
}
