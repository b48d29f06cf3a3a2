//! `grantd connect`: link an account, in a browser or without one, up to the account that came back.

mod account;
mod browser;
mod device;
mod interrupt;
mod outcome;
mod paste;
#[cfg(test)]
mod stage;
mod wait;

use std::io;
use std::path::Path;

use url::Url;

use crate::api::wire::{ConnectBody, SessionBody};
use crate::cli::client::Client;
use crate::cli::exit::{CliError, ExitCode};
use crate::cli::screen::{Screen, plain};
use crate::model::id::{ConnectionId, ProviderId};
use crate::model::scope::Scope;

pub use self::browser::open_browser;

/// Connect an account: opens the browser, waits, and names the account that came back
#[derive(clap::Args, Clone, Debug)]
pub struct ConnectArgs {
    /// The provider, such as `github`
    pub provider: ProviderId,
    /// A scope to ask for besides the configured ones; may be repeated
    #[arg(long = "scope", value_name = "SCOPE")]
    pub scopes: Vec<Scope>,
    /// Connect this connection again, in place; its ID is in `grantd status`
    #[arg(long, value_name = "ID")]
    pub reconnect: Option<ConnectionId>,
    /// Print the link instead of opening a browser
    #[arg(long)]
    pub no_open: bool,
    /// Without a browser on this machine: show a code to enter on any other device
    #[arg(long, group = "elsewhere", conflicts_with = "no_open")]
    pub device: bool,
    /// Without a browser on this machine: open the provider's page in any browser, and paste back the address it ends at
    #[arg(long, group = "elsewhere", conflicts_with = "no_open")]
    pub paste: bool,
    /// With `--device` or `--paste`: do not ask whether the account that came back is the right one
    #[arg(long, short, requires = "elsewhere")]
    pub yes: bool,
    /// Print how it ended as JSON
    #[arg(long)]
    pub json: bool,
}

impl ConnectArgs {
    /// The same command with `more`, to be typed.
    fn command(&self, more: &str) -> String {
        let scopes: String = self.scopes.iter().map(|scope| format!(" --scope {scope}")).collect();
        let reconnect = self.reconnect.as_ref().map_or_else(String::new, |id| format!(" --reconnect {id}"));
        format!("grantd connect {}{scopes}{reconnect} {more}", self.provider)
    }

    fn request(&self) -> ConnectBody {
        ConnectBody {
            provider: self.provider.clone(),
            scopes: (!self.scopes.is_empty()).then(|| self.scopes.iter().cloned().collect()),
            reconnect: self.reconnect.clone(),
            purpose: None,
            open: None,
            device: None,
        }
    }
}

/// What the environment says about where the person sits.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Desk {
    /// Whether there is a display to open a browser on.
    pub display: bool,
    /// Whether the person came over SSH.
    pub ssh: bool,
}

impl Desk {
    /// Reads the environment through `var`.
    #[must_use]
    pub fn read(var: impl Fn(&str) -> Option<std::ffi::OsString>) -> Self {
        let is_set = |name| var(name).is_some_and(|value| !value.is_empty());
        Self {
            display: cfg!(target_os = "macos") || is_set("DISPLAY") || is_set("WAYLAND_DISPLAY"),
            ssh: is_set("SSH_CONNECTION"),
        }
    }
}

/// Makes a connect session with the daemon at `socket`, brings the person through it, and says how it ended. `open`
/// shows a link in a browser.
///
/// # Errors
/// If it ends without a connection. Interrupting it cancels the session.
pub async fn run(
    args: ConnectArgs,
    socket: &Path,
    desk: Desk,
    open: &dyn Fn(&Url) -> io::Result<()>,
    screen: &mut Screen<'_>,
) -> Result<ExitCode, CliError> {
    let client = Client::new(socket);
    let ended = if args.device {
        device::run(&args, &client, screen).await?
    } else if args.paste {
        paste::run(&args, &client, screen).await?
    } else {
        browser::run(&args, &client, desk, open, screen).await?
    };
    if args.json {
        let text = serde_json::to_string(&ended).map_err(io::Error::from)?;
        writeln!(screen.out, "{text}")?;
    }
    let text = outcome::words(&ended)?;
    if !args.json {
        writeln!(screen.out, "{text}")?;
    }
    Ok(ExitCode::Ok)
}

/// Says what a new consent does to what is connected already, before the person is sent anywhere.
fn warn(session: &SessionBody, screen: &mut Screen<'_>) -> io::Result<()> {
    match &session.warning {
        Some(warning) => writeln!(screen.err, "{}\n", plain(warning)),
        None => Ok(()),
    }
}

/// Where a session is asked for and acted on.
fn path(session: &SessionBody) -> String {
    format!("/v1/connect/{}", session.connect_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_desk_is_read_from_the_environment() {
        let with = |set: &'static [&str]| Desk::read(move |name| set.contains(&name).then(|| "x".into())).ssh;
        assert!(with(&["SSH_CONNECTION"]));
        assert!(!with(&["DISPLAY"]));
        assert!(Desk::read(|name| (name == "WAYLAND_DISPLAY").then(|| "wayland-0".into())).display);
    }
}
