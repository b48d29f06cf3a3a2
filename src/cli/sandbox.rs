//! `grantd sandbox`: a local provider for trying things out.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::duration;
use crate::cli::exit::{CliError, ExitCode};
use crate::model::secret::ClientSecret;
use crate::sandbox::{
    DEFAULT_SECRET, IssueRefresh, Options, Rotation, Sandbox, SandboxClient, definition, public_definition,
};

/// Run a made-up provider on this machine, to try grantd and your servers against
///
/// It prints the definition and the configuration with which grantd knows it. Its accounts are made up, it listens on
/// loopback only, and it forgets everything when it ends. Its page shows what it was asked and lets you order failures.
#[derive(Args, Debug)]
pub struct SandboxArgs {
    /// The port on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 9417)]
    port: u16,
    /// How long access tokens live, such as `30s` or `1h`
    #[arg(long, value_name = "SPAN", default_value = "1h", value_parser = duration::parse)]
    access_ttl: Duration,
    /// How long refresh tokens live; for ever if absent
    #[arg(long, value_name = "SPAN", value_parser = duration::parse)]
    refresh_ttl: Option<Duration>,
    /// What becomes of a refresh token when it is used
    #[arg(long, value_enum, default_value_t = RotationArg::SingleUse)]
    rotation: RotationArg,
    /// With single-use: how long a used refresh token still works
    #[arg(long, value_name = "SPAN", default_value = "0s", value_parser = duration::parse)]
    grace: Duration,
    /// With single-use: using a dead refresh token does not end the grant
    #[arg(long)]
    keeps_family: bool,
    /// A refresh ends the access tokens from before
    #[arg(long)]
    kills_access: bool,
    /// Refresh tokens only for those who ask for `offline_access`
    #[arg(long)]
    offline_access: bool,
    /// A client, as `ID` (public) or `ID:SECRET`; may be repeated
    #[arg(long = "client", value_name = "ID[:SECRET]")]
    clients: Vec<String>,
    /// Accept authorization requests without PKCE
    #[arg(long)]
    no_pkce: bool,
    /// Print the definition with which grantd knows a sandbox on this port, and end
    #[arg(long)]
    definition: bool,
}

/// What becomes of a refresh token when it is used.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum RotationArg {
    /// It stays the same
    Static,
    /// Each answer brings a new one, the old ones go on working
    MultiValid,
    /// Each answer brings a new one, the old one is dead
    SingleUse,
}

/// Runs the sandbox until Ctrl-C or SIGTERM.
///
/// # Errors
/// If a client is malformed, the port is taken, or the terminal is gone.
pub async fn run(args: SandboxArgs) -> Result<ExitCode, CliError> {
    if args.definition {
        return print_definition(args.port, &mut anstream::stdout());
    }
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let options = options(args)?;
    let client = options.clients.first().map(|client| (client.id.to_string(), shown_secret(client)));
    let sandbox = Sandbox::start(options).await.map_err(|error| CliError::new(ExitCode::Failure, error.to_string()))?;
    let mut out = anstream::stdout();
    introduce(&mut out, &sandbox, client.as_ref().map(|(id, secret)| (id.as_str(), secret.as_deref())))?;
    out.flush()?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    sandbox.shutdown().await;
    Ok(ExitCode::Ok)
}

fn print_definition(port: u16, out: &mut impl Write) -> Result<ExitCode, CliError> {
    if port == 0 {
        return Err(CliError::new(ExitCode::Usage, "`--definition` needs to know the port: say which with --port"));
    }
    let url = format!("http://127.0.0.1:{port}").parse().expect("it is a URL with a number in it");
    write!(out, "{}", definition(&url))?;
    Ok(ExitCode::Ok)
}

fn options(args: SandboxArgs) -> Result<Options, CliError> {
    let defaults = Options::default();
    let clients = args.clients.iter().map(|text| client(text)).collect::<Result<Vec<_>, _>>()?;
    Ok(Options {
        addr: SocketAddr::from((Ipv4Addr::LOCALHOST, args.port)),
        clients: if clients.is_empty() { defaults.clients } else { clients },
        access_ttl: args.access_ttl,
        refresh_ttl: args.refresh_ttl,
        rotation: match args.rotation {
            RotationArg::Static => Rotation::Static,
            RotationArg::MultiValid => Rotation::MultiValid,
            RotationArg::SingleUse => Rotation::SingleUse { kills_family: !args.keeps_family, grace: args.grace },
        },
        pkce_required: !args.no_pkce,
        issue_refresh: if args.offline_access { IssueRefresh::OfflineAccessOnly } else { IssueRefresh::Always },
        kills_access_on_refresh: args.kills_access,
        ..Options::default()
    })
}

fn client(text: &str) -> Result<SandboxClient, CliError> {
    let Some((id, secret)) = text.split_once(':') else {
        return Ok(SandboxClient::public(text));
    };
    let secret = ClientSecret::new(secret)
        .map_err(|reason| CliError::new(ExitCode::Usage, format!("`--client {id}:…`: the secret {reason}")))?;
    Ok(SandboxClient::confidential(id, secret))
}

/// The built-in secret is public; one that the operator chose is theirs and is not repeated.
fn shown_secret(client: &SandboxClient) -> Option<String> {
    let secret = client.secret.as_ref()?.expose();
    let shown = if secret == DEFAULT_SECRET { secret } else { "the one you gave it" };
    Some(shown.to_owned())
}

fn introduce(out: &mut impl Write, sandbox: &Sandbox, client: Option<(&str, Option<&str>)>) -> io::Result<()> {
    writeln!(out, "sandbox at  {}", sandbox.url())?;
    writeln!(out, "issuer      {}", sandbox.issuer())?;
    if let Some((id, secret)) = client {
        writeln!(out, "client id   {id}")?;
        writeln!(out, "secret      {}", secret.unwrap_or("none, it is a public client"))?;
        let text = match secret {
            Some(_) => definition(sandbox.url()),
            None => public_definition(sandbox.url()),
        };
        writeln!(out, "\n# put this into providers.d/sandbox.yaml, beside grantd.yaml\n{text}")?;
        writeln!(out, "# and this into grantd.yaml\nproviders:\n  sandbox:\n    client_id: {id}")?;
        if secret.is_some() {
            writeln!(
                out,
                "    # a file, readable for you only, with the secret in it\n    client_secret: {{file: /home/you/.config/grantd/sandbox.secret}}"
            )?;
        }
        writeln!(out, "    scopes: default")?;
    }
    writeln!(out, "\nCtrl-C ends it.")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: SandboxArgs,
    }

    fn parsed(line: &str) -> Options {
        let command = Command::try_parse_from(line.split(' ')).unwrap();
        options(command.args).unwrap()
    }

    #[test]
    fn the_switches_reach_the_sandbox() {
        let found =
            parsed("sandbox --port 0 --access-ttl 90s --grace 2s --keeps-family --client a --client b:c:d --no-pkce");
        assert_eq!(found.addr.to_string(), "127.0.0.1:0");
        assert_eq!(found.access_ttl, Duration::from_secs(90));
        let grace = Duration::from_secs(2);
        assert_eq!(found.rotation, Rotation::SingleUse { kills_family: false, grace });
        assert!(!found.pkce_required);
        let clients: Vec<_> = found.clients.iter().map(|client| (&*client.id, &client.secret)).collect();
        assert!(matches!(&clients[..], [("a", None), ("b", Some(secret))] if secret.expose() == "c:d"));
    }

    #[test]
    fn only_the_built_in_secret_is_shown() {
        let shown = |text| shown_secret(&client(text).unwrap());
        assert_eq!(shown("a"), None);
        assert!(!shown("a:mine").unwrap().contains("mine"));
        assert_eq!(shown(&format!("a:{DEFAULT_SECRET}")).as_deref(), Some(DEFAULT_SECRET));
    }

    #[tokio::test]
    async fn the_introduction_is_enough_to_connect() {
        let sandbox = Sandbox::start(Options::default()).await.unwrap();
        let told = |secret| {
            let mut out = Vec::new();
            introduce(&mut out, &sandbox, Some(("id-1", secret))).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert!(told(None).contains("kind: public"));
        let text = told(Some("s"));
        for needed in [sandbox.issuer(), "providers.d/sandbox.yaml", "client_id: id-1", "/token"] {
            assert!(text.contains(needed), "{needed} is missing in {text}");
        }
    }
}
