//! How a connect session ended, in words and as an exit code.

use crate::api::wire::SessionBody;
use crate::cli::exit::{CliError, ExitCode};
use crate::cli::screen::plain;
use crate::model::id::ConnectionId;

/// How it ended, in words.
pub(super) fn words(session: &SessionBody) -> Result<String, CliError> {
    let provider = &session.provider;
    let again = format!("Start again with: grantd connect {provider}");
    let (code, message, hint) = match &*session.status {
        "completed" => {
            let account = session.account.as_ref().map_or_else(String::new, |account| plain(&account.name));
            let id = session.connection.as_ref().map_or("", ConnectionId::as_str);
            return Ok(format!("Connected {provider} as {account} ({id})"));
        }
        "cancelled" => (ExitCode::Denied, "it was cancelled", again),
        "denied" => (ExitCode::Denied, "the person said no", again),
        "expired" => (ExitCode::Connect, "nobody finished it in time", again),
        "code_refused" => (ExitCode::Connect, "the provider's code was too old or already used", again),
        "identity_failed" => (
            ExitCode::Provider,
            "the provider's answer does not say reliably which account it is",
            "The daemon's log has more.".to_owned(),
        ),
        "misconfigured" => (
            ExitCode::Provider,
            "the provider refused grantd's registration",
            "An operator has to check the client id, the secret and the redirect URI. The daemon's log has more."
                .to_owned(),
        ),
        "provider_failed" => (ExitCode::Provider, "the provider failed or gave no useful answer", again),
        other => {
            let message = format!("{provider} was not connected: {}", plain(other));
            return Err(CliError::new(ExitCode::Failure, message));
        }
    };
    Err(CliError::new(code, format!("{provider} was not connected: {message}")).hint(hint))
}
