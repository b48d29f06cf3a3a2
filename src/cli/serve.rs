//! `grantd serve`: load the configuration and run the daemon.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use listenfd::ListenFd;
use rustix::fs::Mode;
use rustix::net::sockopt::socket_acceptconn;
use rustix::process::{DumpableBehavior, set_dumpable_behavior, umask};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::api::listener::Placement;
use crate::api::serve::Limits;
use crate::broker::registry::Registry;
use crate::catalog::Catalog;
use crate::cli::exit::{CliError, ExitCode};
use crate::cli::provider::Context;
use crate::config::paths::{self, Paths, Scope};
use crate::config::people::People;
use crate::config::{Config, JobsConfig, LogFormat, LogLevel, secrets};
use crate::daemon::{AuditSettings, Daemon, Reloader, Reread, RootKeyFrom, Settings, Socket, StartError};
use crate::jobs::{JobsError, Timetable};
use crate::telemetry::{self, Format};
use crate::tls::TlsFrom;

/// Run the daemon
///
/// Under systemd it takes its socket, credentials and directories from the unit; by hand it uses those of the person who
/// starts it. SIGHUP reads the configuration again, SIGTERM finishes what is under way and stops.
#[derive(clap::Args, Clone, Debug)]
pub struct ServeArgs {
    /// The configuration file, if it is not ~/.config/grantd/grantd.yaml (with --system: /etc/grantd/grantd.yaml)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Be the daemon of the whole machine: /etc/grantd, /var/lib/grantd, /run/grantd
    #[arg(long)]
    pub system: bool,
}

/// Runs the daemon until SIGTERM or SIGINT.
///
/// # Errors
/// If it cannot start: 78 for what an operator has to correct.
pub async fn run(args: ServeArgs, mut inherited: ListenFd) -> Result<ExitCode, CliError> {
    harden();
    let mut paths = paths::paths(args.system, &|name| std::env::var_os(name))
        .map_err(|error| CliError::new(ExitCode::Configuration, error.to_string()))?;
    paths.config = args.config.unwrap_or(paths.config);
    let config = read(&paths)?;
    telemetry::init(level(config.log.level), format(config.log.format));
    let catalog = catalog(&config, &paths)?;
    let handed_over = handed_over(&mut inherited)?;
    let settings = settings(&config, &catalog, &paths, handed_over)?;
    let (socket, store) = (socket_path(&config, &paths), settings.store.clone());

    let mut signals = Signals::listen()?;
    let daemon = Daemon::build(settings).await.map_err(start_error)?;
    info!(socket = %socket.display(), store = %store.display(), config = %paths.config.display(), "Starting");
    let reloader = daemon.reloader();
    let shutdown = CancellationToken::new();
    let mut running = tokio::spawn(daemon.run(shutdown.clone()));
    loop {
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Reload => reload(&reloader, &paths),
                Asked::Stop => shutdown.cancel(),
            },
            ended = &mut running => {
                let ended = ended.map_err(|_| CliError::new(ExitCode::Failure, "the daemon broke down"))?;
                return ended.map(|()| ExitCode::Ok).map_err(start_error);
            }
        }
    }
}

/// What the daemon is built from, by configuration and place.
///
/// # Errors
/// If something that the configuration refers to is wrong or missing.
pub fn settings(
    config: &Config,
    catalog: &Catalog,
    paths: &Paths,
    handed_over: Option<UnixListener>,
) -> Result<Settings, CliError> {
    let registry = registry(config, catalog, paths)?;
    let socket = match handed_over {
        Some(listener) => Socket::Inherited(listener),
        None => Socket::Own(placement(config, paths)?),
    };
    let mut limits = Limits::for_this_process();
    limits.per_uid = usize::try_from(config.limits.connections_per_uid.get()).unwrap_or(usize::MAX);
    Ok(Settings {
        registry,
        socket,
        limits,
        tls: tls(config, paths)?,
        store: store_path(config, paths).to_owned(),
        root_key: root_key(config, paths)?,
        timetable: timetable(config)?,
        audit: AuditSettings {
            keep: Duration::from_secs(u64::from(config.audit.keep.get()) * 24 * 3600),
            copy: config.audit.log,
        },
        cache_entries: usize::try_from(config.limits.cache_entries.get()).unwrap_or(usize::MAX),
        open_sessions: usize::try_from(config.limits.open_sessions.get()).unwrap_or(usize::MAX),
    })
}

/// What the pages are served with; a certificate of grantd's own is beside the database.
fn tls(config: &Config, paths: &Paths) -> Result<Option<TlsFrom>, CliError> {
    let directory = store_path(config, paths).parent().map(Path::to_owned).unwrap_or_default();
    let tls = config.tls(paths.credentials.as_deref(), &directory);
    tls.map_err(|error| CliError::new(ExitCode::Configuration, error.to_string()))
}

fn store_path<'c>(config: &'c Config, paths: &'c Paths) -> &'c Path {
    config.store.path.as_ref().map_or(&*paths.store, |path| path.as_path())
}

fn timetable(config: &Config) -> Result<Timetable, CliError> {
    let JobsConfig { renew, housekeep, forecast, usage, audit } = config.jobs.clone();
    let timetable = Timetable { renew, housekeep, forecast, usage, audit };
    match timetable.check() {
        Err(JobsError::Expression { job, .. }) => {
            let expected = "expected a cron expression that begins with seconds, such as `0 */5 * * * *`";
            let error = config.error(&["jobs".into(), job.into()], expected);
            Err(CliError::new(ExitCode::Configuration, error.to_string()))
        }
        Err(error) => Err(CliError::new(ExitCode::Failure, error.to_string())),
        Ok(()) => Ok(timetable),
    }
}

/// No core dumps, no debugger, and nothing we make is for others.
fn harden() {
    umask(Mode::from_raw_mode(0o077));
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        warn!(%error, "Could not turn off core dumps");
    }
}

/// Runs something that can do without a configuration and takes one where there is one, at the default place.
///
/// # Errors
/// If the configuration that is there is wrong, or what is run fails.
pub fn with_configuration<E: Into<CliError>>(
    run: impl FnOnce(Context<'_>) -> Result<(), E>,
) -> Result<ExitCode, CliError> {
    let paths = paths::paths(false, &|name| std::env::var_os(name)).ok();
    let config = match &paths {
        Some(paths) if paths.config.exists() => Some(read(paths)?),
        _ => None,
    };
    let providers_dir = paths.as_ref().map(|paths| &*paths.providers_dir).filter(|directory| directory.is_dir());
    run(Context { config: config.as_ref(), providers_dir }).map_err(Into::into)?;
    Ok(ExitCode::Ok)
}

/// What somebody without a configuration needs to know.
const FIRST_CONFIGURATION: &str = "\
Make one, or say where it is with --config FILE. This is enough to begin with:

  providers:
    github:
      client_id: YOUR_CLIENT_ID
      client_secret: {file: /home/you/.config/grantd/github.secret}
      scopes: read-only

`grantd provider show github` says where to get the client id and the secret. To look around first: `grantd demo`.";

fn read(paths: &Paths) -> Result<Config, CliError> {
    if !paths.config.exists() {
        let message = format!("there is no configuration at {}", paths.config.display());
        return Err(CliError::new(ExitCode::Configuration, message).hint(FIRST_CONFIGURATION));
    }
    Config::load(&paths.config).map_err(|error| CliError::new(ExitCode::Configuration, error.to_string()))
}

fn catalog(config: &Config, paths: &Paths) -> Result<Catalog, CliError> {
    let named = config.providers_dir.as_ref().map(|path| path.as_path());
    let default = paths.config.parent().map(|directory| directory.join("providers.d"));
    let directory = named.or_else(|| default.as_deref().filter(|directory| directory.is_dir()));
    Catalog::load(directory).map_err(|error| CliError::new(ExitCode::Configuration, error.to_string()))
}

fn registry(config: &Config, catalog: &Catalog, paths: &Paths) -> Result<Registry, CliError> {
    let (registry, warnings) = config
        .registry(catalog, paths.credentials.as_deref())
        .map_err(|error| CliError::new(ExitCode::Configuration, error.to_string()))?;
    for warning in warnings {
        warn!("{warning}");
    }
    Ok(registry)
}

fn reload(reloader: &Reloader, paths: &Paths) {
    reloader.reload(|| {
        let config = read(paths)?;
        let catalog = catalog(&config, paths)?;
        Ok::<_, CliError>(Reread { registry: registry(&config, &catalog, paths)?, tls: tls(&config, paths) })
    });
}

fn socket_path(config: &Config, paths: &Paths) -> PathBuf {
    config.socket.path.as_ref().map_or_else(|| paths.socket.clone(), |path| path.as_path().to_owned())
}

fn placement(config: &Config, paths: &Paths) -> Result<Placement, CliError> {
    let group = match &config.socket.group {
        Some(name) => Some(gid(name.as_str())?),
        None => None,
    };
    // A user's own socket is for that user; the machine's is for a group.
    let default = match (paths.scope, group) {
        (Scope::User, None) => 0o600,
        _ => 0o660,
    };
    Ok(Placement {
        path: socket_path(config, paths),
        mode: config.socket.mode.map_or(default, |mode| mode.bits()),
        group,
    })
}

/// The number of a group.
fn gid(name: &str) -> Result<u32, CliError> {
    People::of_this_machine().gid(name).ok_or_else(|| {
        CliError::new(ExitCode::Configuration, format!("socket.group: there is no group `{name}` in /etc/group"))
            .hint(format!("Make it with: groupadd --system {name}"))
    })
}

/// Which credential is the root key when the configuration does not say.
const ROOT_CREDENTIAL: &str = "grantd.root";

fn root_key(config: &Config, paths: &Paths) -> Result<RootKeyFrom, CliError> {
    let wrong = |error: String| CliError::new(ExitCode::Configuration, format!("root_key: {error}"));
    if let Some(reference) = &config.root_key {
        let bytes = secrets::read(reference, paths.credentials.as_deref()).map_err(|error| wrong(error.to_string()))?;
        return Ok(RootKeyFrom::Read { bytes, from: reference.to_string() });
    }
    let credential = paths.credentials.as_ref().map(|directory| directory.join(ROOT_CREDENTIAL));
    if let Some(path) = credential.filter(|path| path.exists()) {
        return Ok(RootKeyFrom::File { path, create: false });
    }
    Ok(RootKeyFrom::File { path: paths.root_key.clone(), create: paths.scope == Scope::User })
}

/// The socket of a unit with `ListenStream=`.
fn handed_over(inherited: &mut ListenFd) -> Result<Option<UnixListener>, CliError> {
    if inherited.len() > 1 {
        let message = format!("{} sockets were handed over; expected one", inherited.len());
        return Err(CliError::new(ExitCode::Configuration, message));
    }
    let wrong = |error: std::io::Error| {
        CliError::new(ExitCode::Configuration, format!("what was handed over is no Unix socket that listens: {error}"))
    };
    let Some(listener) = inherited.take_unix_listener(0).map_err(wrong)? else { return Ok(None) };
    // A unit with `Accept=yes` hands over one connection.
    match socket_acceptconn(&listener) {
        Ok(true) => Ok(Some(listener)),
        Ok(false) => Err(wrong(std::io::ErrorKind::InvalidInput.into())),
        Err(errno) => Err(wrong(errno.into())),
    }
}

fn start_error(error: StartError) -> CliError {
    let code = if error.is_configuration() { ExitCode::Configuration } else { ExitCode::Failure };
    CliError::new(code, error.to_string())
}

const fn level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    }
}

const fn format(format: LogFormat) -> Format {
    match format {
        LogFormat::Auto => Format::Auto,
        LogFormat::Human => Format::Human,
        LogFormat::Json => Format::Json,
    }
}

/// What a signal asks for.
enum Asked {
    Reload,
    Stop,
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> Result<Self, CliError> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.hang_up.recv() => Asked::Reload,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.terminate.recv() => Asked::Stop,
        }
    }
}
