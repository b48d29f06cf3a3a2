//! Where everything is when nobody says: in the system's directories for a service, in the user's own otherwise.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// The environment as a function, so that a test can be a table.
pub type Env<'e> = &'e dyn Fn(&str) -> Option<OsString>;

/// Whose daemon it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    /// The machine's: started as a system service, or by whoever says so.
    System,
    /// One person's.
    User,
}

/// Where everything is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Paths {
    /// Whose daemon it is.
    pub scope: Scope,
    /// The configuration.
    pub config: PathBuf,
    /// A directory with further provider definitions.
    pub providers_dir: PathBuf,
    /// The database.
    pub store: PathBuf,
    /// The socket.
    pub socket: PathBuf,
    /// The root key, where there is no credential for it.
    pub root_key: PathBuf,
    /// The directory of systemd's credentials.
    pub credentials: Option<PathBuf>,
}

/// Why no place can be told.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PathsError {
    /// `GRANTD_SOCKET` is not a path.
    #[error("GRANTD_SOCKET: expected a path that begins with `/`, or unix:///PATH")]
    Socket,
    /// Neither `HOME` nor the directories of the XDG base directory specification are known.
    #[error("expected $HOME to be set, because the files of a user's grantd are found from there")]
    Home,
}

/// Where everything is. `system` says that it is the machine's daemon whatever the environment says.
///
/// # Errors
/// If the environment of a user has no home.
pub fn paths(system: bool, env: Env<'_>) -> Result<Paths, PathsError> {
    let scope = scope(system, env);
    let config = directory(env, "CONFIGURATION_DIRECTORY", || match scope {
        Scope::System => Ok(PathBuf::from("/etc/grantd")),
        Scope::User => base(env, "XDG_CONFIG_HOME", ".config"),
    })?;
    let state = directory(env, "STATE_DIRECTORY", || match scope {
        Scope::System => Ok(PathBuf::from("/var/lib/grantd")),
        Scope::User => base(env, "XDG_STATE_HOME", ".local/state"),
    })?;
    let runtime = directory(env, "RUNTIME_DIRECTORY", || match scope {
        Scope::System => Ok(PathBuf::from("/run/grantd")),
        Scope::User => user_runtime(env),
    })?;
    Ok(Paths {
        scope,
        providers_dir: config.join("providers.d"),
        config: config.join("grantd.yaml"),
        store: state.join("grantd.db"),
        root_key: state.join("root.key"),
        socket: runtime.join("grantd.sock"),
        credentials: absolute(env, "CREDENTIALS_DIRECTORY"),
    })
}

/// The sockets that a client tries, in order: the one that `GRANTD_SOCKET` names and no other, else the user's own daemon
/// and the machine's.
///
/// # Errors
/// If `GRANTD_SOCKET` is not a path.
pub fn sockets(env: Env<'_>) -> Result<Vec<PathBuf>, PathsError> {
    if let Some(named) = env("GRANTD_SOCKET").filter(|value| !value.is_empty()) {
        let bytes = named.as_bytes();
        let path = bytes.strip_prefix(b"unix://").unwrap_or(bytes);
        let path = Path::new(std::ffi::OsStr::from_bytes(path));
        return if path.is_absolute() { Ok(vec![path.to_owned()]) } else { Err(PathsError::Socket) };
    }
    let own = user_runtime(env).ok().map(|dir| dir.join("grantd.sock"));
    Ok(own.into_iter().chain([PathBuf::from("/run/grantd/grantd.sock")]).collect())
}

/// A user's service has a `STATE_DIRECTORY` too; what tells it from the system's is the user's runtime directory. Root by
/// hand is a user like any other: the machine's daemon is started by its unit, or by whoever says so.
fn scope(system: bool, env: Env<'_>) -> Scope {
    let service = env("STATE_DIRECTORY").is_some() && env("XDG_RUNTIME_DIR").is_none();
    if system || service { Scope::System } else { Scope::User }
}

/// systemd may name several directories, with colons between; the first is ours.
fn directory(
    env: Env<'_>,
    name: &str,
    otherwise: impl FnOnce() -> Result<PathBuf, PathsError>,
) -> Result<PathBuf, PathsError> {
    let first = env(name).and_then(|value| {
        let first = value.as_bytes().split(|b| *b == b':').next()?;
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(first));
        path.is_absolute().then_some(path)
    });
    first.map_or_else(otherwise, Ok)
}

fn base(env: Env<'_>, name: &str, under_home: &str) -> Result<PathBuf, PathsError> {
    let dir = match absolute(env, name) {
        Some(dir) => dir,
        None => absolute(env, "HOME").ok_or(PathsError::Home)?.join(under_home),
    };
    Ok(dir.join("grantd"))
}

/// Never a directory below `/tmp`, where somebody else could have been first.
fn user_runtime(env: Env<'_>) -> Result<PathBuf, PathsError> {
    match absolute(env, "XDG_RUNTIME_DIR") {
        Some(dir) => Ok(dir.join("grantd")),
        None => Ok(base(env, "XDG_STATE_HOME", ".local/state")?.join("run")),
    }
}

/// A relative path in the environment means something else in every directory; the XDG specification says to ignore it.
fn absolute(env: Env<'_>, name: &str) -> Option<PathBuf> {
    env(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env<'v>(variables: &'v [(&str, &str)]) -> impl Fn(&str) -> Option<OsString> + 'v {
        |name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        }
    }

    #[test]
    fn every_place_follows_from_the_user_and_the_environment() {
        type Row = (bool, &'static [(&'static str, &'static str)], [&'static str; 4]);
        let table: [Row; 6] = [
            (
                true,
                &[("HOME", "/root"), ("XDG_CONFIG_HOME", "/root/.config")],
                [
                    "/etc/grantd/grantd.yaml",
                    "/var/lib/grantd/grantd.db",
                    "/run/grantd/grantd.sock",
                    "/var/lib/grantd/root.key",
                ],
            ),
            (
                false,
                &[("STATE_DIRECTORY", "/var/lib/g:/x"), ("RUNTIME_DIRECTORY", "/run/g")],
                ["/etc/grantd/grantd.yaml", "/var/lib/g/grantd.db", "/run/g/grantd.sock", "/var/lib/g/root.key"],
            ),
            (
                false,
                &[("HOME", "/home/a"), ("XDG_RUNTIME_DIR", "/run/user/1000")],
                [
                    "/home/a/.config/grantd/grantd.yaml",
                    "/home/a/.local/state/grantd/grantd.db",
                    "/run/user/1000/grantd/grantd.sock",
                    "/home/a/.local/state/grantd/root.key",
                ],
            ),
            (
                false,
                &[("HOME", "/home/a"), ("XDG_CONFIG_HOME", "/c"), ("XDG_STATE_HOME", "/s"), ("XDG_RUNTIME_DIR", "r")],
                ["/c/grantd/grantd.yaml", "/s/grantd/grantd.db", "/s/grantd/run/grantd.sock", "/s/grantd/root.key"],
            ),
            (
                false,
                &[
                    ("HOME", "/home/a"),
                    ("XDG_RUNTIME_DIR", "/run/user/1000"),
                    ("STATE_DIRECTORY", "/home/a/.local/state/g"),
                ],
                [
                    "/home/a/.config/grantd/grantd.yaml",
                    "/home/a/.local/state/g/grantd.db",
                    "/run/user/1000/grantd/grantd.sock",
                    "/home/a/.local/state/g/root.key",
                ],
            ),
            (
                false,
                &[("HOME", "/home/a")],
                [
                    "/home/a/.config/grantd/grantd.yaml",
                    "/home/a/.local/state/grantd/grantd.db",
                    "/home/a/.local/state/grantd/run/grantd.sock",
                    "/home/a/.local/state/grantd/root.key",
                ],
            ),
        ];
        for (system, variables, expected) in table {
            let found = paths(system, &env(variables)).unwrap();
            let found = [&found.config, &found.store, &found.socket, &found.root_key];
            assert_eq!(found.map(|path| path.to_str().unwrap()), expected, "{system} {variables:?}");
        }
        assert_eq!(paths(false, &env(&[])), Err(PathsError::Home));
    }

    #[test]
    fn a_client_is_told_which_sockets_to_try() {
        for (variables, expected) in [
            (vec![("GRANTD_SOCKET", "/a/b.sock")], Ok(vec!["/a/b.sock"])),
            (vec![("GRANTD_SOCKET", "unix:///a/b.sock")], Ok(vec!["/a/b.sock"])),
            (vec![("GRANTD_SOCKET", "b.sock")], Err(PathsError::Socket)),
            (vec![("GRANTD_SOCKET", "tcp://localhost:1")], Err(PathsError::Socket)),
            (
                vec![("GRANTD_SOCKET", ""), ("XDG_RUNTIME_DIR", "/run/user/1")],
                Ok(vec!["/run/user/1/grantd/grantd.sock", "/run/grantd/grantd.sock"]),
            ),
            (vec![], Ok(vec!["/run/grantd/grantd.sock"])),
        ] {
            let found = sockets(&env(&variables));
            let expected = expected.map(|paths| paths.into_iter().map(PathBuf::from).collect::<Vec<_>>());
            assert_eq!(found, expected, "{variables:?}");
        }
    }

    #[test]
    fn credentials_are_where_the_service_manager_says() {
        let found = paths(true, &env(&[("CREDENTIALS_DIRECTORY", "/run/credentials/grantd")])).unwrap();
        assert_eq!(found.credentials, Some(PathBuf::from("/run/credentials/grantd")));
        assert_eq!(paths(true, &env(&[])).unwrap().credentials, None);
    }
}
