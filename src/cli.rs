//! The command line: one file per command.

pub mod account;
pub mod audit;
pub mod client;
pub mod connect;
pub mod demo;
pub mod disconnect;
pub mod duration;
pub mod exit;
pub mod explain;
mod pick;
pub mod provider;
pub mod restore;
pub mod sandbox;
pub mod screen;
pub mod serve;
pub mod status;
mod table;
mod temporary;
pub mod token;

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use listenfd::ListenFd;
use tokio::runtime::Builder;

use crate::cli::connect::Desk;
use crate::cli::exit::{CliError, ExitCode};
use crate::cli::screen::Screen;
use crate::config::paths;
use crate::telemetry::{self, Format};

/// Connect an account once; every MCP server on this machine gets a live access token
#[derive(Debug, Parser)]
#[command(name = "grantd", version, max_term_width = 100, after_help = START_HERE)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const START_HERE: &str = "\
Start here:
  grantd demo                  try everything, without registering anything
  grantd provider show github  what to register at a provider, and what to write into grantd.yaml
  grantd serve                 run the daemon; leave it running
  grantd connect github        connect your account, once
  grantd token github          a live access token, whenever one is needed

Exit codes:
  0  done                                  5  too many requests
  1  something broke                       6  the provider failed
  2  wrong usage                           7  no daemon
  3  a person has to connect an account   78  wrong configuration
  4  refused";

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::ServeArgs),
    Demo(demo::DemoArgs),
    Connect(Asking<connect::ConnectArgs>),
    Token(Asking<token::TokenArgs>),
    Status(Asking<status::StatusArgs>),
    Account(Asking<account::AccountArgs>),
    Disconnect(Asking<disconnect::DisconnectArgs>),
    Restore(Asking<restore::RestoreArgs>),
    Audit(Asking<audit::AuditArgs>),
    Explain(Asking<explain::ExplainArgs>),
    /// Show what to register at a provider; check and try a definition of your own; let a provider be asked again
    #[command(subcommand)]
    Provider(Provider),
    Sandbox(sandbox::SandboxArgs),
}

#[derive(Debug, Subcommand)]
enum Provider {
    #[command(flatten)]
    Local(provider::ProviderCommand),
    Test(provider::test::TestArgs),
    Release(Asking<provider::release::ReleaseArgs>),
}

// A command that asks a running daemon. No doc comment: clap would show it in the place of the command's own.
#[derive(clap::Args, Debug)]
struct Asking<A: clap::Args> {
    #[command(flatten)]
    args: A,
    /// The socket of the daemon to ask; GRANTD_SOCKET in the environment does the same
    #[arg(long, value_name = "PATH", display_order = 900, global = true)]
    socket: Option<PathBuf>,
}

impl<A: clap::Args> Asking<A> {
    /// The socket to ask: the one that was named, or the first that is there of one's own daemon's and the machine's.
    fn socket(&self) -> Result<PathBuf, CliError> {
        if let Some(named) = &self.socket {
            return Ok(named.clone());
        }
        let candidates = paths::sockets(&|name| std::env::var_os(name))
            .map_err(|error| CliError::new(ExitCode::Usage, error.to_string()))?;
        let there = candidates.iter().find(|path| path.exists());
        there
            .or_else(|| candidates.first())
            .cloned()
            .ok_or_else(|| CliError::new(ExitCode::Unreachable, "no socket is known"))
    }
}

/// The whole program: reads the command line, runs the command, says how it ended.
#[must_use]
pub fn main() -> std::process::ExitCode {
    // Before there are threads: it takes its variables out of the environment.
    let inherited = ListenFd::from_env();
    let cli = Cli::parse();
    let mut input = io::stdin().lock();
    let mut screen = Screen {
        out: &mut anstream::stdout(),
        err: &mut anstream::stderr(),
        input: &mut input,
        err_is_terminal: io::stderr().is_terminal(),
        input_is_terminal: io::stdin().is_terminal(),
    };
    let outcome = run(cli, inherited, &mut screen);
    let code = outcome.unwrap_or_else(|error| {
        // If not even this can be written, the exit code is all there is.
        drop(error.write(screen.err));
        error.code
    });
    code.into()
}

fn run(cli: Cli, inherited: ListenFd, screen: &mut Screen<'_>) -> Result<ExitCode, CliError> {
    let tries = matches!(cli.command, Command::Provider(Provider::Test(_)));
    let daemon = tries || matches!(cli.command, Command::Serve(_) | Command::Demo(_) | Command::Sandbox(_));
    let mut builder = if daemon { Builder::new_multi_thread() } else { Builder::new_current_thread() };
    let runtime = builder.enable_all().build()?;
    runtime.block_on(dispatch(cli, inherited, screen))
}

async fn dispatch(cli: Cli, inherited: ListenFd, screen: &mut Screen<'_>) -> Result<ExitCode, CliError> {
    match cli.command {
        Command::Serve(args) => serve::run(args, inherited).await,
        Command::Demo(args) => {
            telemetry::init("warn", Format::Human);
            demo::run(args, screen).await
        }
        Command::Connect(asking) => {
            let (socket, desk) = (asking.socket()?, Desk::read(|name| std::env::var_os(name)));
            connect::run(asking.args, &socket, desk, &connect::open_browser, screen).await
        }
        Command::Token(asking) => {
            let socket = asking.socket()?;
            token::run(asking.args, &socket, screen).await
        }
        Command::Status(asking) => {
            let socket = asking.socket()?;
            status::run(asking.args, &socket, screen).await
        }
        Command::Account(asking) => {
            let socket = asking.socket()?;
            account::run(asking.args, &socket, screen).await
        }
        Command::Disconnect(asking) => {
            let socket = asking.socket()?;
            disconnect::run(asking.args, &socket, screen).await
        }
        Command::Restore(asking) => {
            let socket = asking.socket()?;
            restore::run(asking.args, &socket, screen).await
        }
        Command::Audit(asking) => {
            let socket = asking.socket()?;
            audit::run(asking.args, &socket, screen).await
        }
        Command::Explain(asking) => {
            let socket = asking.socket()?;
            explain::run(asking.args, &socket, screen).await
        }
        Command::Provider(Provider::Local(command)) => {
            serve::with_configuration(|context| provider::run(&command, context, screen.out))
        }
        Command::Provider(Provider::Test(args)) => provider::test::run(args, screen).await,
        Command::Provider(Provider::Release(asking)) => {
            let socket = asking.socket()?;
            provider::release::run(asking.args, &socket, screen).await
        }
        Command::Sandbox(args) => sandbox::run(args).await,
    }
}
