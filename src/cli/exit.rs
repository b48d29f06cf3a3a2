//! How a command ends: the exit codes, which scripts may rely on, and errors that say what to do.

use std::fmt;
use std::io::{self, Write};

/// The exit codes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum ExitCode {
    /// Done.
    Ok = 0,
    /// Something unexpected broke.
    Failure = 1,
    /// The command makes no sense as it was given.
    Usage = 2,
    /// A person must connect an account. The link is on stderr, and stdout is empty.
    Connect = 3,
    /// The policy or the person said no.
    Denied = 4,
    /// Too many requests.
    Limited = 5,
    /// The provider failed.
    Provider = 6,
    /// The daemon cannot be reached.
    Unreachable = 7,
    /// The configuration is wrong (`EX_CONFIG` of sysexits).
    Configuration = 78,
    /// Nobody reads the output any more, as in `grantd provider show | head`; what a shell reports for SIGPIPE.
    Closed = 141,
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}

/// Why a command did not do what it was asked for, and what to do about it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CliError {
    /// What happened, as a sentence without its full stop.
    pub message: String,
    /// What to do, one or more lines.
    pub hint: Option<String>,
    /// What the process exits with.
    pub code: ExitCode,
}

impl CliError {
    /// An error without a hint.
    #[must_use]
    pub fn new(code: ExitCode, message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, code }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Writes the error as a person reads it. A reader who has left has had enough and is told nothing.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        if self.code == ExitCode::Closed {
            return Ok(());
        }
        writeln!(to, "grantd: {}", self.message)?;
        match &self.hint {
            Some(hint) => writeln!(to, "{hint}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CliError {}

impl From<io::Error> for CliError {
    /// A terminal or pipe that cannot be written to.
    fn from(error: io::Error) -> Self {
        let code = if error.kind() == io::ErrorKind::BrokenPipe { ExitCode::Closed } else { ExitCode::Failure };
        Self::new(code, format!("cannot write: {error}"))
    }
}
