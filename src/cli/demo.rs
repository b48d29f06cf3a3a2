//! `grantd demo`: the whole thing in a minute, offline: a daemon and a sandbox provider in one process, on loopback and in a
//! temporary directory that is removed at the end.

mod person;
mod stage;
mod watch;

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::cli::demo::stage::Stage;
use crate::cli::demo::watch::{Tally, Watch};
use crate::cli::exit::{CliError, ExitCode};
use crate::cli::screen::Screen;

/// Try everything in a minute, offline, without registering anything
///
/// Starts a daemon and a made-up provider, prints a link to connect an account, and then shows how the access stays fresh.
/// Nothing of it outlives the command.
#[derive(clap::Args, Clone, Debug)]
pub struct DemoArgs {
    /// Click through by itself, watch three renewals, and end
    #[arg(long)]
    pub auto: bool,
    /// Do not open a browser
    #[arg(long)]
    pub no_open: bool,
    /// How long the sandbox's access tokens live
    #[arg(long, value_name = "SPAN", default_value = "10s", value_parser = crate::cli::duration::parse)]
    pub access_ttl: Duration,
}

/// How many renewals `--auto` waits for.
const RENEWALS: usize = 3;

/// Runs the demo until it is interrupted, or with `--auto` until it has shown what it has to show.
///
/// # Errors
/// If it cannot start, or if anything went wrong that it promises cannot.
pub async fn run(args: DemoArgs, screen: &mut Screen<'_>) -> Result<ExitCode, CliError> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(CliError::from)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(CliError::from)?;
    let stage = Stage::set(args.access_ttl).await?;
    let mut tally = Tally::default();
    let outcome = tokio::select! {
        outcome = play(&args, &stage, &mut tally, screen) => outcome,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    let ledger = stage.sandbox.ledger();
    let directory = stage.directory().display().to_string();
    stage.strike().await;
    outcome?;
    writeln!(screen.out)?;
    if tally.calls > 0 {
        tally.summarize(&ledger, screen.out)?;
    }
    writeln!(screen.out, "Stopped, and removed {directory}.")?;
    Ok(ExitCode::Ok)
}

async fn play(args: &DemoArgs, stage: &Stage, tally: &mut Tally, screen: &mut Screen<'_>) -> Result<(), CliError> {
    let invitation = stage.invite().await?;
    stage.introduce(&invitation, screen.out)?;
    if args.auto {
        writeln!(screen.out, "Connecting by itself, as a person would in a browser …")?;
        person::click_through(&invitation).await?;
    } else {
        if !args.no_open && stage::has_browser() {
            drop(open::that_detached(invitation.browser_url.as_str()));
        }
        writeln!(screen.out, "Waiting for you to connect. Ctrl-C ends the demo and removes everything.")?;
        screen.out.flush()?;
        stage.wait_until_connected(&invitation).await?;
    }
    let mut watch = Watch::new(stage, args.access_ttl, tally);
    let enough = args.auto.then_some(RENEWALS);
    watch.until(enough, screen).await
}
