//! The composition root and the life cycle: build everything, say that it is ready, run, drain, stop.

mod namespace;
mod reload;
mod root_key;
mod supervisor;

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::geteuid;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

pub use crate::daemon::reload::{Reloader, Reread};
pub use crate::daemon::root_key::{RootKeyError, RootKeyFrom};

use crate::api;
use crate::api::kernel;
use crate::api::listener::{self, ListenError, Placement, SocketFile};
use crate::api::peer::is_nobody;
use crate::api::serve::Limits;
use crate::broker::audit::AuditParts;
use crate::broker::registry::Registry;
use crate::broker::{Broker, Parts};
use crate::clock::SystemClock;
use crate::egress::{Egress, EgressError};
use crate::jobs::{self, Jobs, JobsError, Timetable};
use crate::model::id::InstanceId;
use crate::policy::callers::{Callers, Configured};
use crate::seal::{Keyring, UnlockError};
use crate::store::journal::Journal;
use crate::store::records::Installation;
use crate::store::spool::{Spool, SpoolError};
use crate::store::sqlite::{OpenError, SqliteStore};
use crate::store::{Store, StoreError};
use crate::tls::{Tls, TlsError, TlsFrom};
use crate::web;

/// How long work that must not be cut off may take when the daemon stops. The unit's `TimeoutStopSec` is longer.
const DRAIN_DEADLINE: Duration = Duration::from_secs(45);

/// Everything the daemon is built from, with nothing left to look up.
pub struct Settings {
    /// What can be connected, and the address of the pages.
    pub registry: Registry,
    /// The socket: handed over by the service manager, or to be made.
    pub socket: Socket,
    /// How much one peer may take.
    pub limits: Limits,
    /// The database file.
    pub store: PathBuf,
    /// The certificate of the pages, where their address is https.
    pub tls: Option<TlsFrom>,
    /// Where the root key comes from.
    pub root_key: RootKeyFrom,
    /// When the jobs run.
    pub timetable: Timetable,
    /// What becomes of the audit log.
    pub audit: AuditSettings,
    /// How many subjects' grants are kept in memory.
    pub cache_entries: usize,
    /// How many connect sessions of one subject may be open at once.
    pub open_sessions: usize,
}

/// What becomes of the audit log.
#[derive(Clone, Copy, Debug)]
pub struct AuditSettings {
    /// How long its entries are kept.
    pub keep: Duration,
    /// Whether each is written into the log of the daemon too.
    pub copy: bool,
}

/// Where the API listens.
pub enum Socket {
    /// On a socket that the service manager made.
    Inherited(UnixListener),
    /// On one of our own.
    Own(Placement),
}

/// Why the daemon does not start. Nothing has been written, unless the variant says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no way out to the network.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// The schedule is wrong.
    #[error(transparent)]
    Jobs(#[from] JobsError),
    /// We are a user that stands for several people, and could not tell our own callers from others.
    #[error(
        "this process runs as uid {0}, which stands for every user that has no number here; run it as a user of its own, \
         outside user namespaces and without `PrivateUsers=`"
    )]
    Nobody(u32),
    /// Several users would look like one.
    #[error(
        "this process runs in a user namespace that does not have every user of the machine, so that it could not tell who is at \
         the other end of its socket: set `PrivateUsers=no` in the unit, or run it outside user namespaces; or let nobody else \
         connect, with the mode \"0600\" for `socket`"
    )]
    Namespace,
    /// The root key is missing, or is not one.
    #[error(transparent)]
    RootKey(#[from] RootKeyError),
    /// There can be no socket.
    #[error(transparent)]
    Socket(#[from] ListenError),
    /// What the store cannot take has no place either.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store cannot be opened.
    #[error(transparent)]
    StoreOpen(#[from] OpenError),
    /// The journal of the audit log is not usable.
    #[error("cannot open the audit journal beside the store: {0}")]
    Journal(#[source] io::Error),
    /// The root key does not open this store.
    #[error("{0}")]
    Unlock(#[from] UnlockError),
    /// There can be no TLS for the pages.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// There can be no pages.
    #[error(transparent)]
    Web(#[from] web::listener::BindError),
}

impl StartError {
    /// Whether starting again changes nothing, because an operator has to act (`EX_CONFIG`).
    #[must_use]
    pub const fn is_configuration(&self) -> bool {
        matches!(
            self,
            Self::Jobs(_) | Self::Namespace | Self::Nobody(_) | Self::RootKey(_) | Self::Tls(_) | Self::Unlock(_)
        )
    }
}

/// A daemon that is built and bound, and does not serve yet.
pub struct Daemon {
    broker: Arc<Broker>,
    api: UnixListener,
    socket_file: Option<SocketFile>,
    pages: Vec<TcpListener>,
    tls: Option<Arc<Tls>>,
    settings: Running,
}

struct Running {
    limits: Limits,
    timetable: Timetable,
}

impl Daemon {
    /// Builds everything: keys, store, listeners. From here on peers can connect, and wait.
    ///
    /// # Errors
    /// A [`StartError`].
    pub async fn build(settings: Settings) -> Result<Self, StartError> {
        settings.timetable.check()?;
        let web_url = settings.registry.web_url.clone();
        let own_uid = geteuid().as_raw();
        if is_nobody(own_uid) {
            return Err(StartError::Nobody(own_uid));
        }
        if namespace::is_for_others(&settings.socket) && !namespace::tells_users_apart() {
            return Err(StartError::Namespace);
        }
        tell_of_blindness(&settings.registry.callers);
        // Whatever can refuse without writing comes first; a name in the file system goes again if something later refuses.
        let root = settings.root_key.find(&settings.store)?;
        let pages = web::listener::bind(&web_url)?;
        let (api, socket_file) = match settings.socket {
            Socket::Inherited(listener) => (listener, None),
            Socket::Own(placement) => (listener::bind(&placement)?, Some(SocketFile::of(&placement.path)?)),
        };
        let root = root.or_make()?;
        let path = settings.store;
        // The spool and the journal come later: whoever has the lock of the store has them too.
        let opening = tokio::task::spawn_blocking(move || {
            let store = open_store(&path)?;
            let journal = Journal::open(&path).map_err(StartError::Journal)?;
            Ok::<_, StartError>((store, Spool::open(&beside(&path, ".spool"))?, journal))
        });
        let (store, spool, journal) =
            opening.await.map_err(|_| StoreError::Busy("opening it was interrupted".to_owned()))??;
        failpoint_async!("start.opened");
        let keyring = unlock(&store, &root).await?;
        tell_of_hold(&store).await?;
        let tls = settings.tls.map(|from| Tls::open(from, Arc::new(SystemClock))).transpose()?.map(Arc::new);
        let broker = Broker::new(Parts {
            registry: settings.registry,
            store: Arc::new(store),
            keyring,
            clock: Arc::new(SystemClock),
            egress: Egress::open()?,
            spool,
            audit: AuditParts { journal, keep: settings.audit.keep, copy: settings.audit.copy },
            cache_entries: settings.cache_entries,
            open_sessions: settings.open_sessions,
        });
        broker.take_up_audit().await?;
        broker.check_clock().await?;
        broker.take_up_spool().await;
        if let Err(error) = broker.resume_devices().await {
            warn!(%error, "Cannot go on with what people were connecting when the daemon ended");
        }
        let settings = Running { limits: settings.limits, timetable: settings.timetable };
        Ok(Self { broker, api, socket_file, pages, tls, settings })
    }

    /// The use cases, for whoever runs beside the daemon in one process.
    #[must_use]
    pub fn broker(&self) -> Arc<Broker> {
        Arc::clone(&self.broker)
    }

    /// What takes another configuration while it serves.
    #[must_use]
    pub fn reloader(&self) -> Reloader {
        Reloader { broker: Arc::clone(&self.broker), tls: self.tls.clone() }
    }

    /// Serves until `shutdown` is cancelled, then finishes what is under way and closes the store.
    ///
    /// # Errors
    /// If the schedule cannot be started.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), StartError> {
        let Self { broker, api, socket_file, pages, tls, settings } = self;
        let web_url = broker.registry().web_url.clone();
        broker.serving_noted();
        let jobs = Jobs::start(&settings.timetable, &broker).await?;
        let serving: Vec<JoinHandle<()>> = vec![
            serve_api(api, &broker, settings.limits, &shutdown),
            tokio::spawn(web::listener::serve(pages, Arc::clone(&broker), web_url.clone(), tls, shutdown.clone())),
            tokio::spawn(jobs::ticker::run(Arc::clone(&broker), shutdown.clone())),
            tokio::spawn(jobs::settle::run(Arc::clone(&broker), shutdown.clone())),
            tokio::spawn(supervisor::feed_watchdog(Arc::clone(&broker), shutdown.clone())),
        ];
        failpoint_async!("start.ready");
        let providers = broker.registry().providers.len();
        info!(providers, web = %web_url, "grantd {} is ready", env!("CARGO_PKG_VERSION"));
        supervisor::ready(&format!("Serving {providers} providers; pages at {web_url}"));

        shutdown.cancelled().await;
        info!("Stopping");
        supervisor::stopping();
        drop(socket_file);
        broker.leave();
        jobs.stop().await;
        for task in serving {
            if let Err(error) = task.await {
                error!(%error, "A listener ended badly");
            }
        }
        broker.drain(DRAIN_DEADLINE).await;
        info!("Stopped");
        Ok(())
    }
}

fn serve_api(
    listener: UnixListener,
    broker: &Arc<Broker>,
    limits: Limits,
    shutdown: &CancellationToken,
) -> JoinHandle<()> {
    let (broker, shutdown) = (Arc::clone(broker), shutdown.clone());
    tokio::spawn(async move {
        if let Err(error) = api::run(listener, broker, limits, shutdown.clone()).await {
            error!(%error, "The socket cannot be served");
            shutdown.cancel();
        }
    })
}

/// Opens the store, in a directory that nobody else can look into.
fn open_store(path: &Path) -> Result<SqliteStore, StartError> {
    if let Some(directory) = path.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|error| StoreError::Busy(format!("cannot make {}: {error}", directory.display())))?;
    }
    Ok(SqliteStore::open(path)?)
}

/// The path of what lies beside the database, named after it.
fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Says at every start that the store may be an old copy, until somebody has decided.
async fn tell_of_hold(store: &SqliteStore) -> Result<(), StoreError> {
    if let Some(hold) = store.hold().await? {
        error!(
            reason = hold.why.as_str(),
            issued_before = hold.before.as_secs(),
            "{} Tokens that live are handed out. Accounts whose refresh token works only once and was stored before that was \
             found are not renewed, because it may have been used since. See `grantd restore`, which also lets them go on",
            hold.why.sentence()
        );
    }
    Ok(())
}

/// Says which callers nobody can be, because the kernel does not tell.
fn tell_of_blindness(callers: &Callers) {
    let blind = |caller: &&Configured| caller.peer.unit.is_some() || caller.peer.gid.is_some();
    let named: Vec<_> = callers.iter().filter(blind).map(|caller| format!("`{}`", caller.name)).collect();
    if let (false, Some(why)) = (named.is_empty(), kernel::blindness()) {
        warn!("Units and supplementary groups cannot be told here, and {} are named by them: {why}", named.join(", "));
    }
}

/// Opens the store's keyring, or makes one in a new store.
async fn unlock(store: &SqliteStore, root: &crate::seal::RootKey) -> Result<Keyring, StartError> {
    if let Some(installation) = store.installation().await? {
        return Ok(Keyring::unlock(root, &installation.instance, &installation.keyring)?);
    }
    let instance = InstanceId::random();
    let keyring = Keyring::create(&instance);
    let made = store.install(Installation { instance: instance.clone(), keyring: keyring.lock(root) }).await?;
    if !made {
        return Err(StoreError::Busy("another daemon took the new store".to_owned()).into());
    }
    info!(instance.id = %instance, "Made a new store");
    Ok(keyring)
}
