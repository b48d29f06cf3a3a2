//! Watches one access as an MCP server sees it: fetches it on every tool call, uses it, and tells what changes.

use std::io::{self, Write};
use std::time::Duration;

use tokio::time::{Instant, interval};

use crate::api::wire::TokenReply;
use crate::cli::demo::stage::Stage;
use crate::cli::exit::{CliError, ExitCode};
use crate::cli::screen::Screen;
use crate::sandbox::browser::Browser;
use crate::sandbox::{Fingerprint, Ledger, Sandbox};

/// How often the watcher plays a tool call.
const EVERY: Duration = Duration::from_millis(500);

/// Watches.
pub(super) struct Watch<'a> {
    stage: &'a Stage,
    access_ttl: Duration,
    tally: &'a mut Tally,
    last: Option<String>,
}

/// What has been seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) calls: usize,
    pub(super) live: usize,
    pub(super) renewals: usize,
}

impl<'a> Watch<'a> {
    pub(super) const fn new(stage: &'a Stage, access_ttl: Duration, tally: &'a mut Tally) -> Self {
        Self { stage, access_ttl, tally, last: None }
    }

    /// Goes on until so many renewals have been seen; for ever if `None`.
    pub(super) async fn until(&mut self, enough: Option<usize>, screen: &mut Screen<'_>) -> Result<(), CliError> {
        let deadline = Instant::now() + self.access_ttl * 10 + Duration::from_secs(30);
        let mut tick = interval(EVERY);
        while enough.is_none_or(|enough| self.tally.renewals < enough) {
            tick.tick().await;
            if enough.is_some() && Instant::now() > deadline {
                return Err(CliError::new(ExitCode::Failure, "the access was not renewed in time"));
            }
            self.call(screen).await?;
        }
        Ok(())
    }

    /// One tool call: fetch, use, tell.
    async fn call(&mut self, screen: &mut Screen<'_>) -> Result<(), CliError> {
        let body = serde_json::json!({"provider": "sandbox", "purpose": "a tool call of the demo"});
        let reply: TokenReply = self.stage.client().post("/v1/token", &body).await?;
        let live = is_live(&self.stage.sandbox, reply.access_token.expose()).await;
        self.tally.calls += 1;
        self.tally.live += usize::from(live);
        if !live {
            return Err(CliError::new(ExitCode::Failure, "the provider refused a token that was just handed out"));
        }
        let fingerprint: String = Fingerprint::of(reply.access_token.expose()).to_string().chars().take(8).collect();
        let left = reply.expires_in.unwrap_or_default();
        let changed = self.last.as_ref() != Some(&fingerprint);
        if changed {
            let renewed = self.last.is_some();
            self.tally.renewals += usize::from(renewed);
            let account = reply.account.name;
            let what = if renewed { "renewed ahead of expiry; nobody waited" } else { "handed out for the first time" };
            clear_line(screen)?;
            writeln!(screen.out, "  token {fingerprint}…  {left:>3} s left  {account}  {what}")?;
            self.last = Some(fingerprint);
        } else if screen.err_is_terminal {
            clear_line(screen)?;
            write!(
                screen.err,
                "  token {fingerprint}…  {left:>3} s left  accepted by the provider {} times",
                self.tally.live
            )?;
            screen.err.flush()?;
        }
        screen.out.flush()?;
        Ok(())
    }
}

impl Tally {
    /// What the run showed, from the provider's own ledger.
    pub(super) fn summarize(&self, ledger: &Ledger, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "{} calls, {} accepted by the provider, {} renewals seen, {} refreshes at the provider, {} refused, {} spent twice.",
            self.calls,
            self.live,
            self.renewals,
            ledger.refreshed(),
            ledger.refusals().values().sum::<usize>(),
            ledger.double_presentations().len(),
        )
    }
}

fn clear_line(screen: &mut Screen<'_>) -> io::Result<()> {
    if screen.err_is_terminal {
        write!(screen.err, "\r\x1b[K")?;
        screen.err.flush()?;
    }
    Ok(())
}

/// Uses the token as an MCP server would.
async fn is_live(sandbox: &Sandbox, token: &str) -> bool {
    let Ok(url) = sandbox.url().join("api/me") else {
        return false;
    };
    Browser::new().with_bearer(token, &url).await == Some(200)
}
