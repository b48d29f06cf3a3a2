//! Waiting for a person: polls the session, keeps one line on the screen true, and cancels when interrupted.

use std::io;
use std::time::Duration;

use tokio::time::sleep;

use crate::api::wire::SessionBody;
use crate::cli::client::{Client, Failure};
use crate::cli::connect::interrupt::{self, Signals};
use crate::cli::connect::path;
use crate::cli::duration;
use crate::cli::exit::{CliError, ExitCode};
use crate::cli::screen::Screen;
use crate::clock::{Clock, SystemClock};
use crate::model::time::Timestamp;

/// How long one poll waits; short enough that the time left on the screen is true.
const POLL: Duration = Duration::from_secs(20);
/// How often in a row the daemon may be unreachable while we wait: it may be restarting.
const RETRIES: u32 = 5;

/// What is waited for, by the status of the session.
pub(super) type Wording = fn(&str) -> &'static str;

/// Waits until the session has ended, or is `enough`. Interrupting it cancels the session.
pub(super) async fn until(
    client: &Client,
    session: SessionBody,
    wording: Wording,
    enough: impl Fn(&SessionBody) -> bool,
    screen: &mut Screen<'_>,
) -> Result<SessionBody, CliError> {
    let path = path(&session);
    let mut signals = Signals::listen()?;
    let waited = tokio::select! {
        waited = polled(client, &path, session, wording, enough, screen) => waited?,
        () = signals.any() => {
            let ended = interrupt::cancelled(client, &path).await;
            clear(screen)?;
            ended?
        }
    };
    clear(screen)?;
    Ok(waited)
}

async fn polled(
    client: &Client,
    path: &str,
    mut session: SessionBody,
    wording: Wording,
    enough: impl Fn(&SessionBody) -> bool,
    screen: &mut Screen<'_>,
) -> Result<SessionBody, CliError> {
    let mut failures = 0;
    while !session.done && !enough(&session) {
        let now = SystemClock.now();
        if screen.err_is_terminal {
            write!(screen.err, "\r\x1b[2K{}", progress(wording(&session.status), &session, now))?;
            screen.err.flush()?;
        }
        let polled = client.get(&format!("{path}?wait={}", POLL.as_secs()), POLL).await;
        match polled {
            Ok(next) => {
                // A daemon that answers at once although nothing happened must not be asked in a loop.
                if SystemClock.now().since(now) < Duration::from_millis(200) && !next_is_news(&session, &next) {
                    sleep(Duration::from_millis(500)).await;
                }
                session = next;
                failures = 0;
            }
            Err(Failure::Broken(error)) if error.code == ExitCode::Unreachable && failures < RETRIES => {
                failures += 1;
                sleep(Duration::from_secs(1)).await;
            }
            Err(failure) => {
                clear(screen)?;
                return Err(failure.into());
            }
        }
    }
    Ok(session)
}

fn next_is_news(before: &SessionBody, after: &SessionBody) -> bool {
    before.status != after.status
}

fn clear(screen: &mut Screen<'_>) -> io::Result<()> {
    if screen.err_is_terminal {
        write!(screen.err, "\r\x1b[2K")?;
        screen.err.flush()?;
    }
    Ok(())
}

/// One line that is written over itself.
fn progress(what: &str, session: &SessionBody, now: Timestamp) -> String {
    let left = Timestamp::from_secs(session.connect_expires_at).until(now);
    format!("{what} … {} left, Ctrl-C cancels", duration::words(left))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::connect::stage::body;

    #[test]
    fn the_progress_line_says_what_is_waited_for_and_how_long() {
        let mut session = body("awaiting_confirmation", "localhost");
        session.connect_expires_at = 600;
        let line = progress("Confirm the account in the browser", &session, Timestamp::from_secs(60));
        assert_eq!(line, "Confirm the account in the browser … 9 min left, Ctrl-C cancels");
    }
}
