//! The person of `grantd demo --auto`: clicks through the pages as somebody would in a browser.

use crate::cli::demo::stage::Invitation;
use crate::cli::exit::{CliError, ExitCode};
use crate::sandbox::browser::{Browser, BrowserError};

/// Opens the link, presses the button, agrees at the provider, and confirms the account.
pub(super) async fn click_through(invitation: &Invitation) -> Result<(), CliError> {
    let browser = Browser::new();
    let clicks = async {
        let ask = browser.open(&invitation.connect_url).await?;
        let consent = browser.press(&ask, "/start", &[]).await?;
        let account = browser.press(&consent, "allow", &[]).await?;
        browser.press(&account, "/confirm", &[]).await
    };
    let done = clicks.await.map_err(|error: BrowserError| {
        CliError::new(ExitCode::Failure, format!("the demo could not click through the pages: {error}"))
    })?;
    if done.status == 200 {
        return Ok(());
    }
    Err(CliError::new(ExitCode::Failure, format!("the demo ended on a page with status {}", done.status)))
}
