//! Secrets stand in the configuration as references; this reads what a reference leads to.

use std::borrow::Cow;
use std::fmt;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, Mode as FileMode, OFlags};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::config::values::{AbsolutePath, Expected};
use crate::model::client_key::ClientKeyError;
use crate::model::secret::{ClientSecret, SecretError};

/// The longest secret, in bytes.
pub const LENGTH_MAX: usize = 4096;

/// How long a command may take.
pub const COMMAND_MAX: Duration = Duration::from_secs(10);

/// Where a secret is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SecretRef {
    /// The output of a program, which is run without a shell.
    Command(Vec<String>),
    /// A credential of the service, by systemd's `LoadCredential=` or `SetCredentialEncrypted=`.
    Credential(CredentialName),
    /// A variable of the environment: the last resort, because every child and every crash report sees it.
    Env(EnvName),
    /// A file that nobody else can read.
    File(AbsolutePath),
}

/// The name of a credential: one file name, so that it cannot lead out of the directory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CredentialName(String);

/// The name of a variable of the environment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EnvName(String);

impl FromStr for CredentialName {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if plain && (1..=128).contains(&text.len()) && !text.starts_with('.') {
            Ok(Self(text.to_owned()))
        } else {
            Err(Expected("the name of a credential: letters, digits and `._-`"))
        }
    }
}

impl FromStr for EnvName {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if plain && (1..=128).contains(&text.len()) && !text.as_bytes()[0].is_ascii_digit() {
            Ok(Self(text.to_owned()))
        } else {
            Err(Expected("the name of a variable: letters, digits and `_`"))
        }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(argv) => write!(f, "the command {}", argv[0]),
            Self::Credential(name) => write!(f, "the credential {}", name.0),
            Self::Env(name) => write!(f, "the variable {}", name.0),
            Self::File(path) => write!(f, "the file {}", path.as_path().display()),
        }
    }
}

const EXPECTED: &str = "expected one of `{credential: NAME}`, `{file: PATH}`, `{env: NAME}` and `{command: [PROGRAM, ARGUMENT…]}`; a secret itself never stands in this file";

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Value::Object(members) = Value::deserialize(from)? else {
            return Err(D::Error::custom(EXPECTED));
        };
        let mut members = members.into_iter();
        let (Some((kind, value)), None) = (members.next(), members.next()) else {
            return Err(D::Error::custom(EXPECTED));
        };
        match (kind.as_str(), value) {
            ("credential", Value::String(name)) => name.parse().map(Self::Credential).map_err(D::Error::custom),
            ("env", Value::String(name)) => name.parse().map(Self::Env).map_err(D::Error::custom),
            ("file", Value::String(path)) => path.parse().map(Self::File).map_err(D::Error::custom),
            ("command", Value::Array(words)) => command(words).map(Self::Command).map_err(D::Error::custom),
            _ => Err(D::Error::custom(EXPECTED)),
        }
    }
}

/// The program is named by its path: a search would find what somebody put before it.
fn command(words: Vec<Value>) -> Result<Vec<String>, Expected> {
    const EXPECTED: Expected = Expected("a list of texts, the first of them the path of a program");
    let argv = words.into_iter().map(|word| match word {
        Value::String(text) if !text.contains('\0') => Ok(text),
        _ => Err(EXPECTED),
    });
    let argv = argv.collect::<Result<Vec<_>, _>>()?;
    match argv.first() {
        Some(program) if program.starts_with('/') => Ok(argv),
        _ => Err(EXPECTED),
    }
}

impl JsonSchema for SecretRef {
    fn schema_name() -> Cow<'static, str> {
        "SecretRef".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let one = |name: &str, value: Value| {
            serde_json::json!({
                "type": "object", "required": [name], "additionalProperties": false, "properties": {name: value},
            })
        };
        let text = serde_json::json!({"type": "string"});
        json_schema!({
            "description": "Where a secret is; never the secret itself.",
            "oneOf": [
                one("credential", text.clone()),
                one("file", text.clone()),
                one("env", text.clone()),
                one("command", serde_json::json!({"type": "array", "items": text, "minItems": 1})),
            ],
        })
    }
}

/// Why a reference leads to no secret. It names the reference and never shows content.
#[derive(Debug, thiserror::Error)]
#[error("{reference} {problem}")]
pub struct SecretRefError {
    /// The reference.
    pub reference: SecretRef,
    /// What is wrong with it.
    #[source]
    pub problem: SecretProblem,
}

/// What is wrong with what a reference leads to.
#[derive(Debug, thiserror::Error)]
pub enum SecretProblem {
    /// Nothing there.
    #[error("is empty")]
    Empty,
    /// The program ended with an error.
    #[error("failed with {0}")]
    Failed(std::process::ExitStatus),
    /// The system refuses.
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// No service manager has handed over credentials.
    #[error("cannot be found: $CREDENTIALS_DIRECTORY is not set; use LoadCredential= in the unit")]
    NoCredentials,
    /// The variable does not exist.
    #[error("is not set")]
    NotSet,
    /// A directory, a device, a pipe or a link.
    #[error("is not a plain file")]
    NotPlain,
    /// It belongs to somebody who is neither this user nor root.
    #[error("belongs to user {owner}; expected this user or root")]
    Owner {
        /// The owner's user id.
        owner: u32,
    },
    /// No key that a client can sign with, or not the certificate of one.
    #[error(transparent)]
    Key(#[from] ClientKeyError),
    /// Not a secret that can be sent.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The program did not end in time.
    #[error("took longer than {} s", COMMAND_MAX.as_secs())]
    Slow,
    /// Not text.
    #[error("is not UTF-8 text")]
    Text,
    /// Longer than any secret.
    #[error("is longer than {LENGTH_MAX} bytes")]
    TooLong,
    /// Others can change it.
    #[error("has the mode {mode:04o}; expected no writing by the group and by others, such as 0644")]
    Writable {
        /// The permission bits.
        mode: u32,
    },
    /// Others can read or change it.
    #[error("has the mode {mode:04o}; expected no access for others and no writing by the group, such as 0600")]
    Wide {
        /// The permission bits.
        mode: u32,
    },
}

/// What `reference` leads to, without one line end. `credentials` is the directory of systemd's credentials.
///
/// # Errors
/// If there is nothing, too much, or something that others could have read or written.
pub fn read(reference: &SecretRef, credentials: Option<&Path>) -> Result<Zeroizing<Vec<u8>>, SecretRefError> {
    read_as(reference, credentials, Privacy::Secret)
}

/// Who may read a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Privacy {
    Public,
    Secret,
}

pub(super) fn read_as(
    reference: &SecretRef,
    credentials: Option<&Path>,
    privacy: Privacy,
) -> Result<Zeroizing<Vec<u8>>, SecretRefError> {
    let found = match reference {
        SecretRef::Command(argv) => output(argv),
        SecretRef::Credential(name) => match credentials {
            Some(dir) => file(&dir.join(&name.0), privacy),
            None => Err(SecretProblem::NoCredentials),
        },
        SecretRef::Env(name) => variable(&name.0),
        SecretRef::File(path) => file(path.as_path(), privacy),
    };
    found.and_then(without_line_end).map_err(|problem| SecretRefError { reference: reference.clone(), problem })
}

/// What `reference` leads to, as a client's secret.
///
/// # Errors
/// As [`read`], and if it is not what a client's secret is made of.
pub fn read_client_secret(reference: &SecretRef, credentials: Option<&Path>) -> Result<ClientSecret, SecretRefError> {
    let bytes = read(reference, credentials)?;
    let secret =
        std::str::from_utf8(&bytes).map_err(|_| SecretProblem::Text).and_then(|text| Ok(ClientSecret::new(text)?));
    secret.map_err(|problem| SecretRefError { reference: reference.clone(), problem })
}

fn without_line_end(mut bytes: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, SecretProblem> {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    if bytes.is_empty() {
        return Err(SecretProblem::Empty);
    }
    Ok(bytes)
}

fn variable(name: &str) -> Result<Zeroizing<Vec<u8>>, SecretProblem> {
    use std::os::unix::ffi::OsStringExt as _;
    let value = std::env::var_os(name).ok_or(SecretProblem::NotSet)?;
    let bytes = Zeroizing::new(value.into_vec());
    if bytes.len() > LENGTH_MAX {
        return Err(SecretProblem::TooLong);
    }
    Ok(bytes)
}

/// The file is opened first and looked at then, so that what is checked is what is read. `O_NONBLOCK` keeps a pipe from
/// holding us up.
fn file(path: &Path, privacy: Privacy) -> Result<Zeroizing<Vec<u8>>, SecretProblem> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = match rustix::fs::open(path, flags, FileMode::empty()) {
        Err(rustix::io::Errno::LOOP) => return Err(SecretProblem::NotPlain),
        opened => opened.map_err(std::io::Error::from)?,
    };
    check(&opened, privacy)?;
    bounded(std::fs::File::from(opened))
}

fn check(file: &OwnedFd, privacy: Privacy) -> Result<(), SecretProblem> {
    let stat = rustix::fs::fstat(file).map_err(std::io::Error::from)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(SecretProblem::NotPlain);
    }
    let mode = stat.st_mode & 0o7777;
    // A group that may read is how distributions share one secret between services; others never may.
    let forbidden = if privacy == Privacy::Secret { 0o027 } else { 0o022 };
    if mode & forbidden != 0 {
        return Err(match privacy {
            Privacy::Public => SecretProblem::Writable { mode },
            Privacy::Secret => SecretProblem::Wide { mode },
        });
    }
    let owner = stat.st_uid;
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(SecretProblem::Owner { owner });
    }
    Ok(())
}

fn bounded(from: impl Read) -> Result<Zeroizing<Vec<u8>>, SecretProblem> {
    let limit = LENGTH_MAX + 3;
    // The full capacity at once: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit));
    from.take(limit as u64).read_to_end(&mut bytes)?;
    if bytes.len() > LENGTH_MAX + 2 {
        return Err(SecretProblem::TooLong);
    }
    Ok(bytes)
}

fn output(argv: &[String]) -> Result<Zeroizing<Vec<u8>>, SecretProblem> {
    let deadline = Instant::now() + COMMAND_MAX;
    let mut child = Command::new(&argv[0])
        .args(&argv[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let (sender, receiver) = mpsc::channel();
    let stdout = child.stdout.take();
    // On a thread of its own: a grandchild that keeps the pipe open must not hold us up.
    std::thread::spawn(move || {
        if let Some(stdout) = stdout {
            let _ = sender.send(bounded(stdout));
        }
    });
    let read = receiver.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    let bytes = match read {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(problem)) => return ended(child, problem),
        Err(_) => return ended(child, SecretProblem::Slow),
    };
    loop {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(bytes),
            Some(status) => return Err(SecretProblem::Failed(status)),
            None if Instant::now() >= deadline => return ended(child, SecretProblem::Slow),
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn ended<T>(mut child: Child, problem: SecretProblem) -> Result<T, SecretProblem> {
    let _ = child.kill();
    let _ = child.wait();
    Err(problem)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn reference(json: Value) -> SecretRef {
        serde_json::from_value(json).unwrap()
    }

    fn problem(json: Value, dir: Option<&Path>) -> String {
        read(&reference(json), dir).unwrap_err().to_string()
    }

    fn write(path: &Path, content: &str, mode: u32) {
        std::fs::write(path, content).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_secret_is_read_without_its_line_end() {
        let dir = tempfile::tempdir().unwrap();
        for (content, expected) in [("s3cret\n", "s3cret"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a b", "a b")] {
            write(&dir.path().join("github"), content, 0o600);
            let by_name = reference(serde_json::json!({"credential": "github"}));
            assert_eq!(*read(&by_name, Some(dir.path())).unwrap(), expected.as_bytes());
            let by_path = reference(serde_json::json!({"file": dir.path().join("github")}));
            assert_eq!(*read(&by_path, None).unwrap(), expected.as_bytes());
        }
        let command = reference(serde_json::json!({"command": ["/bin/echo", "$HOME; x"]}));
        assert_eq!(*read(&command, None).unwrap(), b"$HOME; x");
        let home = std::env::var("HOME").unwrap();
        let variable = reference(serde_json::json!({"env": "HOME"}));
        assert_eq!(*read(&variable, None).unwrap(), home.as_bytes());
    }

    #[test]
    fn a_file_that_others_could_have_touched_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        for (mode, fits) in [
            (0o600, true),
            (0o400, true),
            (0o440, true),
            (0o640, true),
            (0o604, false),
            (0o602, false),
            (0o660, false),
            (0o644, false),
        ] {
            write(&path, "hunter2", 0o600);
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let found = read(&reference(serde_json::json!({"file": path})), None);
            assert_eq!(found.is_ok(), fits, "{mode:o}");
        }
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        for odd in [link.as_path(), dir.path()] {
            let told = problem(serde_json::json!({"file": odd}), None);
            assert!(told.ends_with("is not a plain file"), "{told}");
        }
    }

    #[test]
    fn what_cannot_be_had_is_named_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("empty"), "\n", 0o600);
        write(&dir.path().join("long"), &"hunter2".repeat(1000), 0o600);
        for (json, expected) in [
            (serde_json::json!({"credential": "empty"}), "the credential empty is empty"),
            (serde_json::json!({"credential": "long"}), "the credential long is longer than 4096 bytes"),
            (
                serde_json::json!({"credential": "none"}),
                "the credential none cannot be read: No such file or directory (os error 2)",
            ),
            (serde_json::json!({"env": "GRANTD_NOT_SET"}), "the variable GRANTD_NOT_SET is not set"),
            (serde_json::json!({"command": ["/bin/false"]}), "the command /bin/false failed with exit status: 1"),
            (
                serde_json::json!({"command": ["/bin/cat", "/dev/zero"]}),
                "the command /bin/cat is longer than 4096 bytes",
            ),
            (
                serde_json::json!({"command": ["/nowhere"]}),
                "the command /nowhere cannot be read: No such file or directory (os error 2)",
            ),
        ] {
            assert_eq!(problem(json, Some(dir.path())), expected);
        }
        assert!(problem(serde_json::json!({"credential": "a"}), None).contains("LoadCredential="));
        write(&dir.path().join("odd"), "hunter2\u{e9}", 0o600);
        let odd = reference(serde_json::json!({"credential": "odd"}));
        let told = read_client_secret(&odd, Some(dir.path())).unwrap_err().to_string();
        assert_eq!(told, "the credential odd holds a character outside visible ASCII");
    }

    #[test]
    fn a_reference_is_exactly_one_of_four() {
        for bad in [
            serde_json::json!("hunter2"),
            serde_json::json!(5),
            serde_json::json!(null),
            serde_json::json!({}),
            serde_json::json!({"literal": "hunter2"}),
            serde_json::json!({"credential": "a", "file": "/hunter2"}),
            serde_json::json!({"credential": "../hunter2"}),
            serde_json::json!({"credential": ".hunter2"}),
            serde_json::json!({"file": "hunter2"}),
            serde_json::json!({"env": "hunter2=x"}),
            serde_json::json!({"command": "hunter2"}),
            serde_json::json!({"command": []}),
            serde_json::json!({"command": ["hunter2"]}),
            serde_json::json!({"command": ["/bin/echo", 5]}),
        ] {
            let told = serde_json::from_value::<SecretRef>(bad.clone()).unwrap_err().to_string();
            assert!(told.starts_with("expected ") && !told.contains("hunter2"), "{bad}: {told}");
        }
    }
}
