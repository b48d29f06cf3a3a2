//! `grantd restore`: what is held because the database may be an old copy, and the word that lets it go on.

use std::path::Path;
use std::time::Duration;

use crate::api::wire::{RestoreBody, RestoreState};
use crate::cli::client::Client;
use crate::cli::duration;
use crate::cli::exit::{CliError, ExitCode};
use crate::cli::screen::{Screen, plain};
use crate::clock::{Clock, SystemClock};
use crate::model::time::Timestamp;

/// Show whether the database is taken for an old copy, and accept it as it is
///
/// After an old copy of the database was put back, accounts whose refresh token works only once are not renewed: it may have
/// been used since, and a provider that sees it again may end the access for good. Tokens that still live are handed out,
/// and accounts that are connected again are renewed as ever.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct RestoreArgs {
    /// Renew the old accounts again, whatever their refresh tokens are worth by now
    #[arg(long)]
    pub accept: bool,
    /// Do not ask first
    #[arg(long, short, requires = "accept")]
    pub yes: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

const MEANING: &str = "\
Accepting means: their old refresh tokens are tried. Those that were replaced since the copy was made are rejected, and
a provider may end that access for good; those people have to connect again. Those that were not are renewed.";

/// Asks the daemon at `socket`, and with `--accept` releases what is held, after asking the person.
///
/// # Errors
/// If an administrator has to do it, if the person says no, or if the daemon cannot do it.
pub async fn run(args: RestoreArgs, socket: &Path, screen: &mut Screen<'_>) -> Result<ExitCode, CliError> {
    let client = Client::new(socket);
    let mut found: RestoreBody = client.get("/v1/restore", Duration::ZERO).await?;
    if args.accept && found.state == RestoreState::Held {
        if !args.yes && !confirm(&found, screen)? {
            return Err(CliError::new(ExitCode::Denied, "nothing was accepted"));
        }
        found = client.post("/v1/restore/accept", &serde_json::json!({})).await?;
    }
    if args.json {
        let text = serde_json::to_string(&found).map_err(std::io::Error::from)?;
        writeln!(screen.out, "{text}")?;
    } else {
        writeln!(screen.out, "{}", told(&found, SystemClock.now()))?;
    }
    Ok(ExitCode::Ok)
}

fn confirm(found: &RestoreBody, screen: &mut Screen<'_>) -> Result<bool, CliError> {
    if !screen.input_is_terminal {
        let message = "there is nobody to ask whether the old copy may be used";
        return Err(CliError::new(ExitCode::Usage, message).hint("Say so with --yes."));
    }
    write!(screen.err, "{}\n\n{MEANING}\n\nAccept it? [y/N] ", what(found, SystemClock.now()))?;
    screen.err.flush()?;
    let mut answer = String::new();
    screen.input.read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn told(found: &RestoreBody, now: Timestamp) -> String {
    match found.state {
        RestoreState::None => "Nothing is held: the database is the one that grantd wrote last.".to_owned(),
        RestoreState::Held => {
            format!("{}\n\n{MEANING}\nTo accept it as it is:\n  grantd restore --accept", what(found, now))
        }
        RestoreState::Accepted => format!("Accepted. Accounts that are renewed again: {}", count(found)),
    }
}

fn what(found: &RestoreBody, now: Timestamp) -> String {
    let why = plain(found.description.as_deref().unwrap_or("The database may be an old copy."));
    let since = found.found_at.map(Timestamp::from_secs).map_or_else(String::new, |at| {
        let ago = now.since(at);
        if ago < Duration::from_secs(1) { String::new() } else { format!(" Found {} ago.", duration::words(ago)) }
    });
    let count = count(found);
    format!("{why}{since}\nAccounts that are not renewed until you accept it or their people connect again: {count}")
}

fn count(found: &RestoreBody) -> String {
    let count = found.connections.unwrap_or_default();
    if found.more == Some(true) { format!("at least {count}") } else { count.to_string() }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use serde_json::{Value, json};

    use super::*;
    use crate::cli::client::fake::Daemon;
    use crate::cli::screen::fake::Recorder;

    fn state(word: &str) -> Value {
        json!({
            "state": word, "reason": "older_copy", "description": "It is an old copy.", "found_at": 1,
            "issued_before": 1, "connections": 7, "more": word == "held",
        })
    }

    fn daemon(held: bool) -> Daemon {
        let held = AtomicBool::new(held);
        Daemon::start(move |asked, _| match asked {
            "GET /v1/restore" if held.load(Ordering::SeqCst) => (200, state("held")),
            "GET /v1/restore" => (200, json!({"state": "none"})),
            _ => {
                held.store(false, Ordering::SeqCst);
                (200, state("accepted"))
            }
        })
    }

    async fn ran(daemon: &Daemon, args: RestoreArgs, answer: &str) -> (Result<ExitCode, CliError>, Recorder) {
        let mut recorder = Recorder { terminal: !answer.is_empty(), ..Recorder::default() };
        let result = run(args, &daemon.socket(), &mut recorder.screen(&mut answer.as_bytes())).await;
        (result, recorder)
    }

    const SHOW: RestoreArgs = RestoreArgs { accept: false, yes: false, json: false };

    #[tokio::test]
    async fn what_is_held_is_shown_with_what_accepting_means() {
        let (result, screen) = ran(&daemon(true), SHOW, "").await;
        assert_eq!(result, Ok(ExitCode::Ok));
        for said in ["It is an old copy.", "connect again: at least 7", "tried", "grantd restore --accept"] {
            assert!(screen.out().contains(said), "{said}: {}", screen.out());
        }
        let (_, screen) = ran(&daemon(false), SHOW, "").await;
        assert!(screen.out().starts_with("Nothing is held"), "{}", screen.out());
        let (_, screen) = ran(&daemon(true), RestoreArgs { json: true, ..SHOW }, "").await;
        assert_eq!(serde_json::from_str::<Value>(screen.out()).unwrap(), state("held"));
    }

    #[tokio::test]
    async fn nothing_is_accepted_unless_it_is_meant() {
        for (yes, answer, expected) in [
            (false, "", Err(ExitCode::Usage)),
            (false, "n\n", Err(ExitCode::Denied)),
            (false, "\n", Err(ExitCode::Denied)),
            (false, "y\n", Ok(ExitCode::Ok)),
            (true, "", Ok(ExitCode::Ok)),
        ] {
            let daemon = daemon(true);
            let (result, screen) = ran(&daemon, RestoreArgs { accept: true, yes, json: false }, answer).await;
            assert_eq!(result.map_err(|error| error.code), expected, "{yes} {answer:?}");
            let posted = daemon.asked().iter().any(|asked| asked.starts_with("POST"));
            assert_eq!((posted, screen.out().starts_with("Accepted. ")), (expected.is_ok(), expected.is_ok()));
        }
    }

    #[tokio::test]
    async fn where_nothing_is_held_nothing_is_asked() {
        let daemon = daemon(false);
        let (result, screen) = ran(&daemon, RestoreArgs { accept: true, ..SHOW }, "").await;
        assert_eq!((result, daemon.asked().len()), (Ok(ExitCode::Ok), 1));
        assert!(screen.out().starts_with("Nothing is held"), "{}", screen.out());
    }
}
