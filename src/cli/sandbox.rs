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
    DEFAULT_SECRET, IssueRefresh, Options, Role, Rotation, Sandbox, SandboxClient, adapted, public_definition,
};

/// Run a made-up provider on this machine, to try grantd and your servers against
///
/// It prints the definition and the configuration with which grantd knows it. Its accounts are made up, it listens on
/// loopback only, and it forgets everything when it ends. Its page shows what it was asked and lets you order failures.
#[derive(Args, Debug)]
pub struct SandboxArgs {
    /// Whose manners it has
    #[arg(long = "as", value_name = "PROVIDER", value_enum, default_value_t = RoleArg::Plain)]
    role: RoleArg,
    /// The port on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 9417)]
    port: u16,
    /// How long access tokens live, such as `30s` or `1h`; as long as the provider's if absent
    #[arg(long, value_name = "SPAN", value_parser = duration::parse)]
    access_ttl: Option<Duration>,
    /// How long refresh tokens live; as long as the provider's if absent
    #[arg(long, value_name = "SPAN", value_parser = duration::parse)]
    refresh_ttl: Option<Duration>,
    /// What becomes of a refresh token when it is used; as the provider has it if absent
    #[arg(long, value_enum)]
    rotation: Option<RotationArg>,
    /// With single-use: how long a used refresh token still works
    #[arg(long, value_name = "SPAN", value_parser = duration::parse)]
    grace: Option<Duration>,
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
    /// A quirk, as `NAME=VALUE`; may be repeated. `docs/PROVIDERS.md` says which
    #[arg(long = "quirk", value_name = "NAME=VALUE")]
    quirks: Vec<String>,
    /// Print the definition with which grantd knows a sandbox on this port, and end
    #[arg(long)]
    definition: bool,
}

/// Whose manners the sandbox has.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum RoleArg {
    /// OAuth 2.0 and OpenID Connect as the standards write them
    Plain,
    /// GitHub: OAuth Apps and GitHub Apps
    Github,
    /// Google
    Google,
    /// Microsoft's identity platform
    Microsoft,
    /// Slack: v2 and v2_user
    Slack,
    /// Notion
    Notion,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Plain => Self::Plain,
            RoleArg::Github => Self::Github,
            RoleArg::Google => Self::Google,
            RoleArg::Microsoft => Self::Microsoft,
            RoleArg::Slack => Self::Slack,
            RoleArg::Notion => Self::Notion,
        }
    }
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
        return print_definition(&args.role.into(), args.port, &mut anstream::stdout());
    }
    let role = Role::from(args.role);
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let options = options(args)?;
    let client = options.clients.first().map(|client| (client.id.to_string(), shown_secret(client)));
    let sandbox = Sandbox::start(options).await.map_err(|error| CliError::new(ExitCode::Failure, error.to_string()))?;
    let mut out = anstream::stdout();
    introduce(&mut out, &role, &sandbox, client.as_ref().map(|(id, secret)| (id.as_str(), secret.as_deref())))?;
    out.flush()?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    sandbox.shutdown().await;
    Ok(ExitCode::Ok)
}

fn print_definition(role: &Role, port: u16, out: &mut impl Write) -> Result<ExitCode, CliError> {
    if port == 0 {
        return Err(CliError::new(ExitCode::Usage, "`--definition` needs to know the port: say which with --port"));
    }
    let url = format!("http://127.0.0.1:{port}").parse().expect("it is a URL with a number in it");
    write!(out, "{}", adapted(role, &url))?;
    Ok(ExitCode::Ok)
}

fn options(args: SandboxArgs) -> Result<Options, CliError> {
    let mut options = Options::of(args.role.into());
    let quirks = args.quirks.iter().map(|text| quirk(text)).collect::<Result<_, _>>()?;
    options.quirks.merge(quirks).map_err(|error| CliError::new(ExitCode::Usage, format!("`--quirk`: {error}")))?;
    options.addr = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
    if !args.clients.is_empty() {
        options.clients = args.clients.iter().map(|text| client(text)).collect::<Result<_, _>>()?;
    }
    options.access_ttl = args.access_ttl.unwrap_or(options.access_ttl);
    options.refresh_ttl = args.refresh_ttl.or(options.refresh_ttl);
    let rotation = args.rotation.map_or(options.rotation, |rotation| match rotation {
        RotationArg::Static => Rotation::Static,
        RotationArg::MultiValid => Rotation::MultiValid,
        RotationArg::SingleUse => Rotation::SingleUse { kills_family: true, grace: Duration::ZERO },
    });
    options.rotation = match rotation {
        Rotation::SingleUse { kills_family, grace } => {
            Rotation::SingleUse { kills_family: kills_family && !args.keeps_family, grace: args.grace.unwrap_or(grace) }
        }
        other => other,
    };
    options.pkce_required &= !args.no_pkce;
    if args.offline_access {
        options.issue_refresh = IssueRefresh::OfflineAccessOnly;
    }
    options.kills_access_on_refresh |= args.kills_access;
    Ok(options)
}

/// A value that is no JSON is a text.
fn quirk(text: &str) -> Result<(String, serde_json::Value), CliError> {
    let (name, value) = text.split_once('=').ok_or_else(|| {
        CliError::new(ExitCode::Usage, format!("`--quirk {text}`: expected NAME=VALUE, such as `numbers_as_text=true`"))
    })?;
    Ok((name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| value.into())))
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

fn introduce(
    out: &mut impl Write,
    role: &Role,
    sandbox: &Sandbox,
    client: Option<(&str, Option<&str>)>,
) -> io::Result<()> {
    let name = role.built_in().unwrap_or("sandbox");
    writeln!(out, "sandbox at  {}", sandbox.url())?;
    writeln!(out, "issuer      {}", sandbox.issuer())?;
    if let Some((id, secret)) = client {
        writeln!(out, "client id   {id}")?;
        writeln!(out, "secret      {}", secret.unwrap_or("none, it is a public client"))?;
        let text = match (role, secret) {
            (Role::Plain, None) => public_definition(sandbox.url()),
            _ => adapted(role, sandbox.url()),
        };
        writeln!(out, "\n# put this into providers.d/{name}.yaml, beside grantd.yaml\n{text}")?;
        writeln!(out, "# and this into grantd.yaml\nproviders:\n  {name}:\n    client_id: {id}")?;
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
    fn a_role_brings_its_own_defaults_and_a_quirk_is_named() {
        let found = parsed("sandbox --as slack --quirk enterprise_install=true --quirk tenant=acme --access-ttl 5s");
        assert_eq!((found.role, found.access_ttl), (Role::Slack, Duration::from_secs(5)));
        assert_eq!(found.quirks.access_tokens_max, Some(2));
        assert!(found.quirks.enterprise_install && found.quirks.tenant == "acme");
        assert_eq!(parsed("sandbox --as github").refresh_ttl, Some(Duration::from_secs(15_897_600)));
        assert_eq!(parsed("sandbox --as google").rotation, Rotation::Static);
        for wrong in ["--quirk=tenant", "--quirk=no_such=1", "--quirk=numbers_as_text=maybe"] {
            let command = Command::try_parse_from(["sandbox", wrong]).unwrap();
            assert!(options(command.args).is_err(), "{wrong}");
        }
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
            introduce(&mut out, &Role::Plain, &sandbox, Some(("id-1", secret))).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert!(told(None).contains("kind: public"));
        let text = told(Some("s"));
        for needed in [sandbox.issuer(), "providers.d/sandbox.yaml", "client_id: id-1", "/token"] {
            assert!(text.contains(needed), "{needed} is missing in {text}");
        }
    }
}
