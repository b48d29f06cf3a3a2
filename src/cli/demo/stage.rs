//! What the demo plays on: a temporary home, a sandbox provider and a daemon with a real configuration.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::api::wire::{ConnectBody, SessionBody};
use crate::catalog::Catalog;
use crate::cli::client::Client;
use crate::cli::exit::{CliError, ExitCode};
use crate::cli::serve;
use crate::cli::temporary::{self, Home};
use crate::config::Config;
use crate::daemon::{Daemon, StartError};
use crate::sandbox::{self, Sandbox};

/// Everything that runs during the demo.
pub(super) struct Stage {
    pub(super) sandbox: Sandbox,
    home: Home,
    client: Client,
    daemon: JoinHandle<Result<(), StartError>>,
    stop: CancellationToken,
}

/// A connect session as it was offered.
pub(super) struct Invitation {
    pub(super) id: String,
    pub(super) connect_url: Url,
    pub(super) browser_url: Url,
    pub(super) user_code: String,
}

impl Stage {
    /// Starts everything.
    pub(super) async fn set(access_ttl: Duration) -> Result<Self, CliError> {
        let broken = |what: &str, error: &dyn std::fmt::Display| {
            CliError::new(ExitCode::Failure, format!("the demo cannot start: {what}: {error}"))
        };
        let home = Home::make("demo").map_err(|error| broken("its directory", &error))?;
        let options = sandbox::Options { access_ttl, ..sandbox::Options::default() };
        let sandbox = Sandbox::start(options).await.map_err(|error| broken("the sandbox", &error))?;
        let file = furnish(&home, &sandbox).map_err(|error| broken("its configuration", &error))?;
        let text = fs::read_to_string(&file).map_err(|error| broken("its configuration", &error))?;
        let name = file.display().to_string();
        let config = Config::parse(&name, &text).map_err(|error| broken("its configuration", &error))?;
        let catalog =
            Catalog::load(Some(&home.providers())).map_err(|error| broken("the sandbox's definition", &error))?;
        let settings = serve::settings(&config, &catalog, &home.paths(file), None)?;
        let daemon = Daemon::build(settings).await.map_err(|error| broken("the daemon", &error))?;
        let stop = CancellationToken::new();
        let client = Client::new(&home.socket());
        let daemon = tokio::spawn(daemon.run(stop.clone()));
        Ok(Self { sandbox, home, client, daemon, stop })
    }

    pub(super) fn directory(&self) -> &Path {
        self.home.path()
    }

    pub(super) const fn client(&self) -> &Client {
        &self.client
    }

    /// Asks the daemon for a connect session, over the socket as everybody does.
    pub(super) async fn invite(&self) -> Result<Invitation, CliError> {
        let body = ConnectBody {
            provider: "sandbox".parse().expect("it is a name"),
            scopes: None,
            reconnect: None,
            purpose: Some("to show how grantd works".to_owned()),
            device: None,
            open: Some(true),
        };
        let reply: SessionBody = self.client.post("/v1/connect", &body).await?;
        Ok(Invitation {
            id: reply.connect_id.to_string(),
            browser_url: reply.browser_url.unwrap_or_else(|| reply.connect_url.clone()),
            connect_url: reply.connect_url,
            user_code: reply.user_code,
        })
    }

    pub(super) async fn wait_until_connected(&self, invitation: &Invitation) -> Result<(), CliError> {
        loop {
            let wait = Duration::from_secs(30);
            let path = format!("/v1/connect/{}?wait={}", invitation.id, wait.as_secs());
            let reply: SessionBody = self.client.get(&path, wait).await?;
            match &*reply.status {
                "completed" => return Ok(()),
                "pending" | "opened" | "awaiting_confirmation" => {}
                other => {
                    let message = format!("the account was not connected ({other}); start the demo again");
                    return Err(CliError::new(ExitCode::Connect, message));
                }
            }
        }
    }

    /// Says what there is and what to try.
    pub(super) fn introduce(&self, invitation: &Invitation, out: &mut dyn Write) -> io::Result<()> {
        let socket = self.home.socket().display().to_string();
        writeln!(
            out,
            "A daemon and a made-up provider are running in this process, on loopback and in {}.",
            self.home.path().display()
        )?;
        writeln!(out)?;
        writeln!(out, "1. Connect an account. The page shows the code {}:", invitation.user_code)?;
        writeln!(out, "     {}", invitation.connect_url)?;
        writeln!(out, "2. Then be an MCP server, in another terminal:")?;
        writeln!(out, "     curl --unix-socket {socket} http://localhost/v1/token -d '{{\"provider\":\"sandbox\"}}'")?;
        writeln!(out, "     GRANTD_SOCKET={socket} {} token sandbox", program())?;
        writeln!(out, "     GRANTD_SOCKET={socket} {} status", program())?;
        writeln!(out, "3. Look at what the provider saw: {}", self.sandbox.url())?;
        writeln!(out)
    }

    /// Stops everything, in the order in which it depends on each other, and removes what is left.
    pub(super) async fn strike(self) {
        self.stop.cancel();
        drop(self.daemon.await);
        self.sandbox.shutdown().await;
    }
}

/// How this program was called, so that a line can be copied.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "grantd".to_owned())
}

/// Whether there is a screen for a browser to appear on.
pub(super) fn has_browser() -> bool {
    cfg!(target_os = "macos") || ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some())
}

/// Writes the configuration that a person would write.
fn furnish(home: &Home, sandbox: &Sandbox) -> io::Result<PathBuf> {
    fs::create_dir(home.providers())?;
    fs::write(home.providers().join("sandbox.yaml"), sandbox::definition(sandbox.url()))?;
    let secret = home.path().join("sandbox.secret");
    temporary::write(&secret, sandbox::DEFAULT_SECRET)?;
    let config = home.path().join("grantd.yaml");
    let port = temporary::free_port()?;
    fs::write(
        &config,
        format!(
            "web: {{url: \"http://localhost:{port}\"}}\n\
             log: {{level: warn}}\n\
             providers:\n  sandbox: {{client_id: {}, client_secret: {{file: {}}}}}\n",
            sandbox::DEFAULT_CLIENT,
            secret.display()
        ),
    )?;
    Ok(config)
}
