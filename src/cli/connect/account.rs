//! The person's word: shows which account came back and what it may do, asks, and passes the answer on.

use std::time::Duration;

use crate::api::wire::{ConfirmBody, ConnectionBody, SessionBody};
use crate::cli::client::Client;
use crate::cli::connect::{ConnectArgs, interrupt, path};
use crate::cli::exit::{CliError, ExitCode};
use crate::cli::screen::{Screen, plain};
use crate::model::connection::Account;
use crate::model::secret::Proof;

/// Looks whether somebody can be asked, before the provider is.
pub(super) fn can_ask(args: &ConnectArgs, screen: &Screen<'_>) -> Result<(), CliError> {
    if args.yes || screen.input_is_terminal {
        return Ok(());
    }
    let message = "there is nobody to ask whether the account that comes back is the right one";
    Err(CliError::new(ExitCode::Usage, message).hint("Say so with --yes."))
}

/// Asks about the account that waits to be confirmed, unless `--yes` has said it, and tells the daemon.
pub(super) async fn settle(
    args: &ConnectArgs,
    client: &Client,
    session: SessionBody,
    proof: Proof,
    screen: &mut Screen<'_>,
) -> Result<SessionBody, CliError> {
    if session.done {
        return Ok(session);
    }
    let before = before(args, client).await;
    writeln!(screen.err, "{}", shown(&session, before.as_ref()))?;
    let path = path(&session);
    if args.yes || confirm(client, &path, screen)? {
        return Ok(client.post(&format!("{path}/confirm"), &ConfirmBody { proof }).await?);
    }
    Ok(client.post(&format!("{path}/decline"), &serde_json::json!({})).await?)
}

/// On a reconnect: the account that was connected before.
async fn before(args: &ConnectArgs, client: &Client) -> Option<Account> {
    let id = args.reconnect.as_ref()?;
    let known: Result<ConnectionBody, _> = client.get(&format!("/v1/connections/{id}"), Duration::ZERO).await;
    known.ok().map(|connection| connection.account)
}

fn shown(session: &SessionBody, before: Option<&Account>) -> String {
    let name = session.account.as_ref().map_or_else(String::new, |account| plain(&account.name));
    let granted = session.granted.clone().unwrap_or_default();
    let scopes = match granted.to_string() {
        none if none.is_empty() => "what its settings at the provider say".to_owned(),
        some => plain(&some),
    };
    let mut text =
        format!("The account that came back at {}:\n\n  {name}\n  may be used for: {scopes}\n", session.provider);
    if let Some(missing) = &session.missing_scopes {
        text.push_str(&format!("  was not told to be good for: {}\n", plain(&missing.to_string())));
    }
    let other = before.filter(|before| session.account.as_ref().is_some_and(|account| account.id != before.id));
    if let Some(before) = other {
        text.push_str(&format!(
            "  This is another account than {}, which was connected before.\n",
            plain(&before.name)
        ));
    }
    text
}

fn confirm(client: &Client, path: &str, screen: &mut Screen<'_>) -> Result<bool, CliError> {
    write!(screen.err, "Is this your account, and shall it be connected? [y/N] ")?;
    if screen.input_is_terminal {
        interrupt::end_when_interrupted(client, path);
    }
    screen.err.flush()?;
    let mut answer = String::new();
    screen.input.read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::connect::stage::body;
    use crate::model::scope::ScopeSet;

    #[test]
    fn the_account_is_shown_with_what_it_may_do_and_what_is_missing() {
        let mut session = body("awaiting_confirmation", "localhost");
        session.account = Some(Account { id: "1".to_owned(), name: "octo\u{1b}cat".to_owned() });
        session.granted = Some(ScopeSet::read("gist", ' '));
        session.missing_scopes = Some(ScopeSet::read("repo", ' '));
        let text = shown(&session, None);
        for said in ["at github:", "octo\u{fffd}cat", "may be used for: gist", "was not told to be good for: repo"] {
            assert!(text.contains(said), "{said}: {text}");
        }
        session.missing_scopes = None;
        assert!(!shown(&session, None).contains("was not told"));
    }

    #[test]
    fn another_account_than_before_is_pointed_out() {
        let account = |id: &str, name: &str| Account { id: id.to_owned(), name: name.to_owned() };
        let mut session = body("awaiting_confirmation", "localhost");
        session.account = Some(account("2", "hubot"));
        for (before, expected) in
            [(None, false), (Some(account("2", "bot")), false), (Some(account("1", "octocat")), true)]
        {
            let text = shown(&session, before.as_ref());
            assert_eq!(text.contains("This is another account than octocat"), expected, "{text}");
        }
    }
}
