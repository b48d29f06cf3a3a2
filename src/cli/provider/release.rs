//! `grantd provider release`: an operator's word that a provider is to be tried again now.

use std::path::Path;

use crate::api::wire::ReleaseBody;
use crate::cli::client::Client;
use crate::cli::exit::{CliError, ExitCode};
use crate::cli::screen::Screen;
use crate::model::id::ProviderId;

/// Try a provider again now, once you have mended what was wrong there
///
/// When a provider rejects too many accounts at once, nobody is sent to connect again: the cause is more likely one for all
/// of them, such as our registration. Look into that first. After a release the accounts that were held back are tried at
/// once, and those that the provider still rejects have to be connected again. A pause because the provider refused the
/// client id or secret ends too. For administrators.
#[derive(clap::Args, Clone, Debug)]
pub struct ReleaseArgs {
    /// The provider, by its name in grantd.yaml
    #[arg(value_name = "NAME")]
    pub provider: ProviderId,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Asks the daemon at `socket`.
///
/// # Errors
/// If an administrator has to do it, if the provider is not known, or if the daemon cannot do it.
pub async fn run(args: ReleaseArgs, socket: &Path, screen: &mut Screen<'_>) -> Result<ExitCode, CliError> {
    let path = format!("/v1/providers/{}/release", args.provider);
    let released: ReleaseBody = Client::new(socket).post(&path, &serde_json::json!({})).await?;
    if args.json {
        let text = serde_json::to_string(&released).map_err(std::io::Error::from)?;
        writeln!(screen.out, "{text}")?;
    } else {
        writeln!(screen.out, "{}", told(&released))?;
    }
    Ok(ExitCode::Ok)
}

fn told(released: &ReleaseBody) -> String {
    let ReleaseBody { provider, state, grants } = released;
    match (&**state, grants) {
        ("ok", 0) => format!("Nothing was held back at {provider}."),
        ("unreachable" | "throttled", 0) => {
            format!("Nothing was held back at {provider}. It is {state}; it is tried again by itself.")
        }
        _ => format!("Released {provider}. Accounts that had waited and are tried now: {grants}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::client::fake::Daemon;
    use crate::cli::screen::fake::Recorder;

    #[tokio::test]
    async fn what_was_released_is_told() {
        for (state, grants, told) in [
            ("frozen", 20, "Released github. Accounts that had waited and are tried now: 20\n"),
            ("registration_refused", 0, "Released github. Accounts that had waited and are tried now: 0\n"),
            ("ok", 3, "Released github. Accounts that had waited and are tried now: 3\n"),
            ("ok", 0, "Nothing was held back at github.\n"),
            ("throttled", 0, "Nothing was held back at github. It is throttled; it is tried again by itself.\n"),
        ] {
            let daemon = Daemon::start(move |asked, _| {
                assert_eq!(asked, "POST /v1/providers/github/release");
                (200, json!({"provider": "github", "state": state, "grants": grants}))
            });
            let mut recorder = Recorder::default();
            let args = ReleaseArgs { provider: "github".parse().unwrap(), json: false };
            let result = run(args, &daemon.socket(), &mut recorder.screen(&mut &b""[..])).await;
            assert_eq!((result, recorder.out()), (Ok(ExitCode::Ok), told));
        }
    }

    #[tokio::test]
    async fn whoever_may_not_is_told_so() {
        let daemon = Daemon::start(|_, _| (403, json!({"error": "access_denied", "error_description": "No."})));
        let args = ReleaseArgs { provider: "github".parse().unwrap(), json: false };
        let result = run(args, &daemon.socket(), &mut Recorder::default().screen(&mut &b""[..])).await;
        assert_eq!(result.unwrap_err().code, ExitCode::Denied);
    }
}
