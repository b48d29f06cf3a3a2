//! `grantd connect`: link an account, from the browser that opens to the account that came back.

use std::io;
use std::path::Path;
use std::time::Duration;

use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use tokio::time::sleep;
use url::Url;

use crate::api::wire::{ConnectBody, SessionBody};
use crate::cli::client::{Client, Failure};
use crate::cli::duration;
use crate::cli::exit::{CliError, ExitCode};
use crate::cli::screen::{Screen, plain};
use crate::clock::{Clock, SystemClock};
use crate::model::id::{ConnectionId, ProviderId};
use crate::model::scope::Scope;
use crate::model::time::Timestamp;

/// How long one poll waits; short enough that the time left on the screen is true.
const POLL: Duration = Duration::from_secs(20);
/// How often in a row the daemon may be unreachable while we wait: it may be restarting.
const RETRIES: u32 = 5;

/// Connect an account: opens the browser, waits, and names the account that came back
#[derive(clap::Args, Clone, Debug)]
pub struct ConnectArgs {
    /// The provider, such as `github`
    pub provider: ProviderId,
    /// A scope to ask for besides the configured ones; may be repeated
    #[arg(long = "scope", value_name = "SCOPE")]
    pub scopes: Vec<Scope>,
    /// Connect this connection again, in place; its ID is in `grantd status`
    #[arg(long, value_name = "ID")]
    pub reconnect: Option<ConnectionId>,
    /// Print the link instead of opening a browser
    #[arg(long)]
    pub no_open: bool,
    /// Print how it ended as JSON
    #[arg(long)]
    pub json: bool,
}

/// What the environment says about where the person sits.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Desk {
    /// Whether there is a display to open a browser on.
    pub display: bool,
    /// Whether the person came over SSH.
    pub ssh: bool,
}

impl Desk {
    /// Reads the environment through `var`.
    #[must_use]
    pub fn read(var: impl Fn(&str) -> Option<std::ffi::OsString>) -> Self {
        let is_set = |name| var(name).is_some_and(|value| !value.is_empty());
        Self {
            display: cfg!(target_os = "macos") || is_set("DISPLAY") || is_set("WAYLAND_DISPLAY"),
            ssh: is_set("SSH_CONNECTION"),
        }
    }
}

/// Makes a connect session with the daemon at `socket`, brings the person to its page, and waits for the end. `open`
/// shows a link in a browser.
///
/// # Errors
/// If it ends without a connection. Interrupting it cancels the session.
pub async fn run(
    args: ConnectArgs,
    socket: &Path,
    desk: Desk,
    open: &dyn Fn(&Url) -> io::Result<()>,
    screen: &mut Screen<'_>,
) -> Result<ExitCode, CliError> {
    let client = Client::new(socket);
    // Over SSH a display is somewhere else, and so is the loopback address.
    let opens = desk.display && !desk.ssh && !args.no_open;
    let body = ConnectBody {
        provider: args.provider,
        scopes: (!args.scopes.is_empty()).then(|| args.scopes.into_iter().collect()),
        reconnect: args.reconnect,
        purpose: None,
        // The link with the ticket goes to a browser or to the person's own terminal, and never into a log.
        open: Some(opens || screen.err_is_terminal),
    };
    let session: SessionBody = client.post("/v1/connect", &body).await?;
    if let Some(warning) = &session.warning {
        writeln!(screen.err, "{}", plain(warning))?;
    }
    let shown = session.browser_url.as_ref().unwrap_or(&session.connect_url);
    if opens && open(shown).is_ok() {
        writeln!(screen.err, "{}", opened_text(&session))?;
    } else {
        let link = if screen.err_is_terminal { shown } else { &session.connect_url };
        writeln!(screen.err, "{}", link_text(&session, link, desk, screen.err_is_terminal))?;
    }
    screen.err.flush()?;

    let path = format!("/v1/connect/{}", session.connect_id);
    let ended = tokio::select! {
        ended = wait(&client, &path, session, screen) => ended?,
        _ = tokio::signal::ctrl_c() => {
            let cancelled = client.delete::<serde_json::Value>(&path).await;
            clear(screen)?;
            let message = match cancelled {
                Ok(_) => "cancelled: the link no longer works",
                Err(_) => "interrupted; the link works until it expires",
            };
            return Err(CliError::new(ExitCode::Denied, message));
        }
    };
    clear(screen)?;
    if args.json {
        let text = serde_json::to_string(&ended).map_err(io::Error::from)?;
        writeln!(screen.out, "{text}")?;
    }
    let text = outcome(&ended)?;
    if !args.json {
        writeln!(screen.out, "{text}")?;
    }
    Ok(ExitCode::Ok)
}

/// Shows a link in the person's browser, detached from this process.
///
/// # Errors
/// If no browser could be started.
pub fn open_browser(url: &Url) -> io::Result<()> {
    open::that_detached(url.as_str())
}

/// Polls until the session has ended.
async fn wait(
    client: &Client,
    path: &str,
    mut session: SessionBody,
    screen: &mut Screen<'_>,
) -> Result<SessionBody, CliError> {
    let mut failures = 0;
    while !session.done {
        let now = SystemClock.now();
        if screen.err_is_terminal {
            write!(screen.err, "\r\x1b[2K{}", progress(&session, now))?;
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

fn opened_text(session: &SessionBody) -> String {
    let SessionBody { provider, user_code, .. } = session;
    format!("Connecting {provider} in your browser. Check that the page shows {user_code}.")
}

fn link_text(session: &SessionBody, link: &Url, desk: Desk, terminal: bool) -> String {
    let SessionBody { provider, user_code, .. } = session;
    let mut text =
        format!("To connect {provider}, open this link and check that the page shows {user_code}:\n\n  {link}\n");
    if desk.ssh && is_loopback(link) {
        let port = link.port_or_known_default().unwrap_or(80);
        text.push_str(&format!(
            "\nThe link leads to this machine. On the one with your browser, run this first, with this host's name:\n\n  \
             ssh -L {port}:localhost:{port} HOST\n"
        ));
    }
    // For a phone with a tunnel, or a camera that hands the link to a browser on this machine.
    if let Some(code) = terminal.then(|| qr(link)).flatten() {
        text.push('\n');
        text.push_str(&code);
        text.push('\n');
    }
    text
}

fn is_loopback(link: &Url) -> bool {
    match link.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The link as half blocks, light on dark as most terminals are.
fn qr(link: &Url) -> Option<String> {
    let code = QrCode::new(link.as_str()).ok()?;
    let image = code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
    Some(image)
}

/// One line that is written over itself.
fn progress(session: &SessionBody, now: Timestamp) -> String {
    let what = match &*session.status {
        "opened" => "You are at the provider",
        "awaiting_confirmation" => "Confirm the account in the browser",
        _ => "Waiting for you in the browser",
    };
    let left = Timestamp::from_secs(session.connect_expires_at).until(now);
    format!("{what} … {} left, Ctrl-C cancels", duration::words(left))
}

/// How it ended, in words.
fn outcome(session: &SessionBody) -> Result<String, CliError> {
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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::{Value, json};

    use super::*;
    use crate::cli::client::fake::Daemon;
    use crate::cli::screen::fake::Recorder;

    fn session(status: &str, host: &str) -> Value {
        json!({
            "connect_id": "cn_1", "provider": "github", "status": status,
            "done": !matches!(status, "pending" | "opened" | "awaiting_confirmation"),
            "connect_url": format!("http://{host}/connect/cn_1"), "connect_expires_at": 4_000_000_000_i64,
            "user_code": "WDJB-MJHT", "scopes": ["repo"],
        })
    }

    fn body(status: &str, host: &str) -> SessionBody {
        serde_json::from_value(session(status, host)).unwrap()
    }

    fn args() -> ConnectArgs {
        ConnectArgs {
            provider: "github".parse().unwrap(),
            scopes: vec![],
            reconnect: None,
            no_open: false,
            json: false,
        }
    }

    /// Pending at first, opened next, and then as `end` says.
    fn daemon(end: Value) -> Daemon {
        let polls = AtomicUsize::new(0);
        Daemon::start(move |asked, body| match (asked, polls.load(Ordering::SeqCst)) {
            ("POST /v1/connect", _) => {
                let mut session = session("pending", "localhost:8717");
                if body["open"] == true {
                    session["browser_url"] = json!("http://localhost:8717/connect/cn_1?ticket=t");
                }
                (200, session)
            }
            (_, 0) => {
                polls.fetch_add(1, Ordering::SeqCst);
                (200, session("opened", "localhost:8717"))
            }
            _ => (200, end.clone()),
        })
    }

    async fn run_at(
        desk: Desk,
        args: ConnectArgs,
        end: Value,
        terminal: bool,
    ) -> (Result<ExitCode, CliError>, Recorder, Vec<String>, Daemon) {
        let daemon = daemon(end);
        let mut recorder = Recorder { terminal, ..Recorder::default() };
        let opened = RefCell::new(Vec::new());
        let open = |url: &Url| {
            opened.borrow_mut().push(url.to_string());
            Ok(())
        };
        let result = run(args, &daemon.socket(), desk, &open, &mut recorder.screen(&mut &b""[..])).await;
        (result, recorder, opened.into_inner(), daemon)
    }

    fn completed() -> Value {
        let mut end = session("completed", "localhost:8717");
        end["account"] = json!({"id": "1", "name": "octo\u{1b}cat"});
        end["connection"] = json!("cx_1");
        end
    }

    const DESKTOP: Desk = Desk { display: true, ssh: false };

    #[tokio::test]
    async fn the_browser_gets_the_ticket_and_the_person_the_account() {
        let (result, screen, opened, daemon) = run_at(DESKTOP, args(), completed(), false).await;
        assert_eq!(result, Ok(ExitCode::Ok));
        assert_eq!(opened, ["http://localhost:8717/connect/cn_1?ticket=t"]);
        assert_eq!(screen.out(), "Connected github as octo\u{fffd}cat (cx_1)\n");
        assert!(screen.err().contains("WDJB-MJHT") && !screen.err().contains("ticket"));
        assert_eq!(daemon.asked().last().unwrap(), "GET /v1/connect/cn_1?wait=20");
    }

    #[tokio::test]
    async fn without_a_display_the_link_is_shown_and_a_log_never_sees_the_ticket() {
        for (terminal, ticket) in [(true, true), (false, false)] {
            let (result, screen, opened, _daemon) = run_at(Desk::default(), args(), completed(), terminal).await;
            assert_eq!(result, Ok(ExitCode::Ok));
            assert!(opened.is_empty());
            assert!(screen.err().contains("http://localhost:8717/connect/cn_1"));
            assert_eq!(screen.err().contains("ticket=t"), ticket, "{}", screen.err());
        }
    }

    #[tokio::test]
    async fn a_person_who_says_no_is_told_apart_from_one_who_never_came() {
        for (status, code) in [
            ("denied", ExitCode::Denied),
            ("cancelled", ExitCode::Denied),
            ("expired", ExitCode::Connect),
            ("misconfigured", ExitCode::Provider),
            ("from_the_future", ExitCode::Failure),
        ] {
            let (result, screen, ..) = run_at(DESKTOP, args(), session(status, "localhost:8717"), false).await;
            assert_eq!(result.unwrap_err().code, code, "{status}");
            assert_eq!(screen.out(), "", "{status}");
        }
    }

    #[tokio::test]
    async fn json_tells_the_end_also_when_it_is_a_bad_one() {
        let json = ConnectArgs { json: true, ..args() };
        let (result, screen, ..) = run_at(DESKTOP, json, session("denied", "localhost:8717"), false).await;
        assert_eq!(result.unwrap_err().code, ExitCode::Denied);
        let printed: Value = serde_json::from_str(screen.out()).unwrap();
        assert_eq!(printed["status"], "denied");
    }

    #[test]
    fn over_ssh_the_tunnel_is_explained_and_only_where_it_helps() {
        let ssh = Desk { ssh: true, display: true };
        for (host, desk, terminal, tunnel, qr) in [
            ("localhost:8717", ssh, true, true, true),
            ("localhost:8717", Desk::default(), true, false, true),
            ("127.0.0.1:9000", ssh, false, true, false),
            ("grantd.example.com", ssh, true, false, true),
        ] {
            let session = body("pending", host);
            let text = link_text(&session, &session.connect_url, desk, terminal);
            assert_eq!(text.contains("ssh -L "), tunnel, "{host}");
            assert_eq!(text.contains('▀') || text.contains('█'), qr, "{host}");
        }
        let session = body("pending", "127.0.0.1:9000");
        let text = link_text(&session, &session.connect_url, ssh, false);
        assert!(text.contains("ssh -L 9000:localhost:9000 HOST"), "{text}");
    }

    #[test]
    fn the_desk_is_read_from_the_environment() {
        let with = |set: &'static [&str]| Desk::read(move |name| set.contains(&name).then(|| "x".into())).ssh;
        assert!(with(&["SSH_CONNECTION"]));
        assert!(!with(&["DISPLAY"]));
        assert!(Desk::read(|name| (name == "WAYLAND_DISPLAY").then(|| "wayland-0".into())).display);
    }

    #[test]
    fn the_progress_line_says_what_is_waited_for_and_how_long() {
        let mut session = body("awaiting_confirmation", "localhost");
        session.connect_expires_at = 600;
        let line = progress(&session, Timestamp::from_secs(60));
        assert_eq!(line, "Confirm the account in the browser … 9 min left, Ctrl-C cancels");
    }
}
