//! The certificate that listeners on TCP show: the operator's or one of our own, exchanged while they serve.
//!
//! A listener asks [`Tls::current`] for each handshake, and so does every other one that shows the same certificate. Whoever is
//! connected already stays as they are; sessions of an earlier certificate are not resumed, so that a new handshake always shows
//! the new one.

mod chain;
mod own;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use chrono::DateTime;
use rustls::ServerConfig;

use crate::clock::Clock;
use crate::model::time::Timestamp;
use crate::tls::chain::Chain;
use crate::tls::own::Keeper;

const DAY: Duration = Duration::from_secs(86_400);
/// How long before the end of the operator's certificate they hear of it, each day.
const WARNING: Duration = Duration::from_secs(14 * 86_400);
/// When a certificate of our own that could not be made anew is tried again.
const MAKE_AGAIN: Duration = Duration::from_secs(3600);

/// Where the certificate comes from.
#[derive(Clone, Debug)]
pub enum TlsFrom {
    /// From the operator, read and checked.
    Given(Given),
    /// From grantd itself: made once and kept in this directory.
    Own(PathBuf),
}

/// A certificate of the operator's.
#[derive(Clone, Debug)]
pub struct Given {
    file: PathBuf,
    chain: Chain,
}

/// Why there is no TLS: an operator has to act.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate is none.
    #[error("holds no certificate in PEM form that can be used: {0}")]
    Certificate(String),
    /// The certificate is good no more.
    #[error("the certificate in {} ended at {}", .file.display(), words(*.at))]
    Ended {
        /// Where it is.
        file: PathBuf,
        /// When it ended.
        at: Timestamp,
    },
    /// The certificate is not good yet.
    #[error("the certificate in {} is not valid before {}", .file.display(), words(*.at))]
    Early {
        /// Where it is.
        file: PathBuf,
        /// When it begins.
        at: Timestamp,
    },
    /// A file of ours cannot be read or written.
    #[error("the certificate of the pages: {}: {cause}", .path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// The key is none.
    #[error("holds no private key in PEM form that can be used: {0}")]
    Key(String),
    /// No certificate can be made.
    #[error("the certificate of the pages cannot be made: {0}")]
    Make(String),
    /// They do not belong together.
    #[error("is not the key of the certificate")]
    Mismatch,
    /// A file stands where ours would be.
    #[error(
        "the certificate of the pages: {} was not made by grantd; name it in `web.tls`, or move it away and one is made",
        .0.display()
    )]
    NotOurs(PathBuf),
}

/// Checks a certificate chain, which was read from `file`, and its key, both in PEM form. Whether its time has come is seen where
/// it is to be shown.
///
/// # Errors
/// If either cannot be used, or they do not belong together.
pub fn given(file: &Path, certificate: &[u8], key: &[u8]) -> Result<TlsFrom, TlsError> {
    Ok(TlsFrom::Given(Given { file: file.to_owned(), chain: Chain::read(certificate, key)? }))
}

/// TLS as it is served. One of our own is made anew before it ends; of the operator's they are told.
pub struct Tls {
    shown: ArcSwap<Shown>,
    /// When what is shown is looked at again. Whoever exchanges it holds this.
    due: Mutex<Timestamp>,
    clock: Arc<dyn Clock>,
}

struct Shown {
    config: Arc<ServerConfig>,
    source: Source,
}

enum Source {
    Given(Given),
    Own { keeper: Keeper, chain: Chain },
}

impl Tls {
    /// Has a certificate ready, and makes one if it is ours to make and there is none that lasts. The operator's is shown even if
    /// its time is over, which the log says: without the pages nobody connects, but whoever is connected still gets tokens.
    ///
    /// # Errors
    /// If it cannot be read, made or kept.
    pub fn open(from: TlsFrom, clock: Arc<dyn Clock>) -> Result<Self, TlsError> {
        let now = clock.now();
        let (shown, due) = shown(from, now)?;
        match &shown.source {
            Source::Given(given) => {
                if let Err(error) = given.check(now) {
                    tracing::error!(%error, "Showing a certificate that no browser accepts");
                }
            }
            Source::Own { keeper, .. } => tell_of_own(keeper),
        }
        Ok(Self { shown: ArcSwap::from_pointee(shown), due: Mutex::new(due), clock })
    }

    /// What the next handshake is made with: the certificate of now, for HTTP/1.1.
    #[must_use]
    pub fn current(&self) -> Arc<ServerConfig> {
        self.look_after(self.clock.now());
        Arc::clone(&self.shown.load().config)
    }

    /// Shows another certificate from the next handshake on. Says whether it is another one.
    ///
    /// # Errors
    /// If it cannot be read, made or kept, or its time has not come or is over. Then the old one is still shown.
    pub fn replace(&self, from: TlsFrom) -> Result<bool, TlsError> {
        let now = self.clock.now();
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        if let TlsFrom::Given(given) = &from {
            given.check(now)?;
        }
        let (shown, next) = shown(from, now)?;
        *due = next;
        if self.shown.load().source.chain().is_same(shown.source.chain()) {
            return Ok(false);
        }
        match &shown.source {
            Source::Given(given) => {
                tracing::info!(certificate = %given.file.display(), until = words(given.chain.ends), "Took another certificate");
            }
            Source::Own { keeper, .. } => tell_of_own(keeper),
        }
        self.shown.store(Arc::new(shown));
        Ok(true)
    }

    /// Makes one of our own anew whose end is near, and warns of the end of another.
    fn look_after(&self, now: Timestamp) {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = self.shown.load();
        if now < *due && !shown.source.is_ours_and_early(now) {
            return;
        }
        match &shown.source {
            Source::Given(given) => *due = given.warn(now),
            Source::Own { keeper, .. } => match keeper.make(now) {
                Ok(kept) => {
                    *due = kept.due;
                    let source = Source::Own { keeper: keeper.clone(), chain: kept.chain };
                    tracing::warn!(certificate = %keeper.certificate().display(),
                        "Made a new certificate for the pages, because the time of the old one is over or has not come; browsers have to be told to trust it");
                    self.shown.store(Arc::new(Shown { config: source.chain().config(), source }));
                }
                Err(error) => {
                    *due = now.after(MAKE_AGAIN);
                    tracing::error!(%error, "The certificate of the pages cannot be made anew");
                }
            },
        }
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let file = match &self.shown.load().source {
            Source::Given(given) => given.file.clone(),
            Source::Own { keeper, .. } => keeper.certificate().to_owned(),
        };
        f.debug_struct("Tls").field("certificate", &file).finish_non_exhaustive()
    }
}

impl Source {
    const fn chain(&self) -> &Chain {
        match self {
            Self::Given(given) => &given.chain,
            Self::Own { chain, .. } => chain,
        }
    }

    /// Whether a clock that was ahead has made it.
    fn is_ours_and_early(&self, now: Timestamp) -> bool {
        matches!(self, Self::Own { chain, .. } if now < chain.begins)
    }
}

impl Given {
    /// Whether its time has come and is not over.
    fn check(&self, now: Timestamp) -> Result<(), TlsError> {
        let Chain { begins, ends, .. } = self.chain;
        if now < begins {
            return Err(TlsError::Early { file: self.file.clone(), at: begins });
        }
        if now > ends {
            return Err(TlsError::Ended { file: self.file.clone(), at: ends });
        }
        Ok(())
    }

    /// Tells of its end, and when to tell of it again.
    fn warn(&self, now: Timestamp) -> Timestamp {
        match self.check(now) {
            Ok(()) => tracing::warn!(certificate = %self.file.display(), until = words(self.chain.ends),
                "The certificate of the pages ends soon: put the next one in its place and reload"),
            Err(error) => tracing::error!(%error, "Showing a certificate that no browser accepts"),
        }
        now.after(DAY)
    }
}

/// What to show, and when to look at it again.
fn shown(from: TlsFrom, now: Timestamp) -> Result<(Shown, Timestamp), TlsError> {
    let (source, due) = match from {
        TlsFrom::Given(given) => {
            let due = given.chain.ends.before(WARNING);
            (Source::Given(given), due)
        }
        TlsFrom::Own(directory) => {
            let keeper = Keeper::of(&directory);
            let kept = keeper.load_or_make(now)?;
            (Source::Own { keeper, chain: kept.chain }, kept.due)
        }
    };
    Ok((Shown { config: source.chain().config(), source }, due))
}

fn tell_of_own(keeper: &Keeper) {
    tracing::info!(certificate = %keeper.certificate().display(),
        "The pages are served over https with a certificate of grantd's own. A browser warns of it until it is told \
         to trust this file; docs/OPERATIONS.md says how");
}

/// A point in time for the log, in UTC.
fn words(at: Timestamp) -> String {
    DateTime::from_timestamp(at.as_secs(), 0)
        .map_or_else(|| at.as_secs().to_string(), |date| date.format("%Y-%m-%d %H:%M:%S UTC").to_string())
}

#[cfg(test)]
mod tests;
