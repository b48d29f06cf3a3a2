//! `grantd provider test`: runs a definition against a made-up provider that behaves as it says, and reports each step.

mod ahead;
mod client;
mod connect;
mod device;
mod play;
mod report;
mod stage;

use std::path::PathBuf;

use tokio::signal::unix::{SignalKind, signal};

use crate::catalog::{Catalog, CatalogError, Entry};
use crate::cli::exit::{CliError, ExitCode};
use crate::cli::provider::ProviderError;
use crate::cli::provider::test::play::play;
use crate::cli::provider::test::report::{Report, Trial};
use crate::cli::screen::Screen;
use crate::yaml;

/// Try a definition against a made-up provider that behaves as it says
///
/// Offline: authorize, exchange, identity, refresh, rotation, every error rule, revoke, the device flow, and the assertions of a
/// client that signs for itself. It shows whether grantd understands
/// what the definition says, not whether the definition is true. Exit status: 0 if all is well, 1 if a step failed, 78 if the
/// definition cannot be read.
#[derive(clap::Args, Clone, Debug)]
pub struct TestArgs {
    /// The definition
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// One variant of it; all of them otherwise
    #[arg(long, value_name = "NAME")]
    pub variant: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
///
/// # Errors
/// If the definition is not good, there is no such variant, or nothing can be started here.
pub async fn run(args: TestArgs, screen: &mut Screen<'_>) -> Result<ExitCode, CliError> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    // What has been made is removed when the trial is dropped.
    tokio::select! {
        ended = try_all(args, screen) => ended,
        _ = interrupt.recv() => Err(CliError::new(ExitCode::Failure, "interrupted")),
        _ = terminate.recv() => Err(CliError::new(ExitCode::Failure, "terminated")),
    }
}

async fn try_all(args: TestArgs, screen: &mut Screen<'_>) -> Result<ExitCode, CliError> {
    let name = args.file.display().to_string();
    let catalog_error = |error: CatalogError| CliError::from(ProviderError::Catalog(error));
    let text = yaml::open(&args.file).map_err(|error| catalog_error(error.into()))?;
    let entry = Catalog::read(&name, &text).map_err(catalog_error)?;
    let mut report = Report { file: name, id: entry.definition().id.to_string(), trials: Vec::new() };
    for variant in variants(&entry, args.variant)? {
        let steps = play(&entry, &text, variant.as_deref()).await?;
        let trial = Trial { variant, steps };
        if !args.json {
            trial.print(&report.id, screen.out)?;
        }
        report.trials.push(trial);
    }
    if args.json {
        writeln!(screen.out, "{:#}", report.json())?;
    } else {
        report.sum_up(screen.out)?;
    }
    Ok(if report.failed() == 0 { ExitCode::Ok } else { ExitCode::Failure })
}

/// The one that was asked for, or all, the default one first.
fn variants(entry: &Entry, asked: Option<String>) -> Result<Vec<Option<String>>, CliError> {
    if let Some(name) = asked {
        entry.variant(Some(&name)).map_err(|error| CliError::new(ExitCode::Usage, error.to_string()))?;
        return Ok(vec![Some(name)]);
    }
    let base = entry.definition();
    let others = base.variants.keys().filter(|name| Some(*name) != base.default_variant.as_ref());
    Ok(std::iter::once(base.default_variant.clone()).chain(others.cloned().map(Some)).collect())
}
