//! The browser's way: opens the link or shows it, with whatever helps a person who sits somewhere else.

use std::io;

use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use url::Url;

use crate::api::wire::{ConnectBody, SessionBody};
use crate::cli::client::Client;
use crate::cli::connect::{ConnectArgs, Desk, account, device, path, wait, warn};
use crate::cli::exit::{CliError, ExitCode};
use crate::cli::screen::{Screen, plain};

/// Makes a session, brings the person to its page, and waits for the end. Where no browser would come back, and there is a device
/// flow, goes on with that.
pub(super) async fn run(
    args: &ConnectArgs,
    client: &Client,
    desk: Desk,
    open: &dyn Fn(&Url) -> io::Result<()>,
    screen: &mut Screen<'_>,
) -> Result<SessionBody, CliError> {
    // Over SSH a display is somewhere else, and so is the loopback address.
    let opens = desk.display && !desk.ssh && !args.no_open;
    // The link with the ticket goes to a browser or to the person's own terminal, and never into a log.
    let body = ConnectBody { open: Some(opens || screen.err_is_terminal), ..args.request() };
    let session: SessionBody = client.post("/v1/connect", &body).await?;
    if let (Some(why), true) = (&session.no_way_back, session.device_flow) {
        drop(client.delete::<serde_json::Value>(&path(&session)).await);
        return by_device(args, client, &plain(why), screen).await;
    }
    warn(&session, screen)?;
    let shown = session.browser_url.as_ref().unwrap_or(&session.connect_url);
    if opens && open(shown).is_ok() {
        writeln!(screen.err, "{}", opened_text(&session))?;
    } else {
        let link = if screen.err_is_terminal { shown } else { &session.connect_url };
        writeln!(screen.err, "{}", link_text(&session, link, desk, screen.err_is_terminal))?;
    }
    screen.err.flush()?;
    wait::until(client, session, wording, |_| false, screen).await
}

/// There is one way left, and it is the person at this terminal who began: they see the account before anything serves.
async fn by_device(
    args: &ConnectArgs,
    client: &Client,
    why: &str,
    screen: &mut Screen<'_>,
) -> Result<SessionBody, CliError> {
    if account::can_ask(args, screen).is_err() {
        let hint = format!("Say so, and that the account will be the right one: {}", args.command("--device --yes"));
        return Err(CliError::new(ExitCode::Usage, format!("{why} It can be connected by a code only")).hint(hint));
    }
    writeln!(screen.err, "{why} So it is connected by a code, as with --device.\n")?;
    device::run(args, client, screen).await
}

/// Shows a link in the person's browser, detached from this process.
///
/// # Errors
/// If no browser could be started.
pub fn open_browser(url: &Url) -> io::Result<()> {
    open::that_detached(url.as_str())
}

fn wording(status: &str) -> &'static str {
    match status {
        "opened" => "You are at the provider",
        "awaiting_confirmation" => "Confirm the account in the browser",
        _ => "Waiting for you in the browser",
    }
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
    if terminal {
        text.push_str(&elsewhere(session));
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

/// What else there is for a person whose browser is somewhere else.
fn elsewhere(session: &SessionBody) -> String {
    let SessionBody { provider, .. } = session;
    let device = match session.device_flow {
        true => format!("\n  grantd connect {provider} --device   shows a code to enter on any device"),
        false => String::new(),
    };
    format!(
        "\nWithout a browser that reaches this link:\n{device}\n  \
         grantd connect {provider} --paste    takes the address at which any browser ends\n"
    )
}

/// The link as half blocks, light on dark as most terminals are.
pub(super) fn qr(link: &Url) -> Option<String> {
    let code = QrCode::new(link.as_str()).ok()?;
    let image = code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
    Some(image)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::{Value, json};

    use super::*;
    use crate::cli::client::fake::Daemon;
    use crate::cli::connect::stage::{args, body, completed, session};
    use crate::cli::exit::ExitCode;
    use crate::cli::screen::fake::Recorder;

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
        let result =
            crate::cli::connect::run(args, &daemon.socket(), desk, &open, &mut recorder.screen(&mut &b""[..])).await;
        (result, recorder, opened.into_inner(), daemon)
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

    /// The daemon of a provider that sends no browser back.
    fn one_way_only() -> Daemon {
        Daemon::start(|asked, body| match asked {
            "POST /v1/connect" if body["device"] == true => {
                let mut begun = session("opened", "localhost:8717");
                begun["connect_id"] = json!("cn_2");
                begun["proof"] = json!("p-secret");
                begun["device"] = json!({"user_code": "WDJB-MJHT", "verification_uri": "https://github.com/login/device",
                    "interval": 5, "expires_at": 4_000_000_000_i64});
                (200, begun)
            }
            "POST /v1/connect" => {
                let mut made = session("pending", "localhost:8717");
                made["device_flow"] = json!(true);
                made["no_way_back"] = json!("GitHub sends no browser back.");
                (200, made)
            }
            "POST /v1/connect/cn_2/confirm" => (200, completed()),
            "DELETE /v1/connect/cn_1" => (200, json!({})),
            _ => {
                let mut waits = session("awaiting_confirmation", "localhost:8717");
                waits["connect_id"] = json!("cn_2");
                (200, waits)
            }
        })
    }

    #[tokio::test]
    async fn where_no_browser_comes_back_the_person_gets_a_code_and_a_script_the_command() {
        for (terminal, expected) in [(true, Ok(ExitCode::Ok)), (false, Err(ExitCode::Usage))] {
            let daemon = one_way_only();
            let mut recorder = Recorder { terminal, ..Recorder::default() };
            let open = |_: &Url| panic!("no browser is opened");
            let mut typed = &b"y\n"[..];
            let screen = &mut recorder.screen(&mut typed);
            let result = crate::cli::connect::run(args(), &daemon.socket(), DESKTOP, &open, screen).await;
            assert_eq!(result.as_ref().map_err(|error| error.code), expected.as_ref().map_err(|code| *code));
            assert!(daemon.asked().contains(&"DELETE /v1/connect/cn_1".to_owned()), "the link is worth nothing");
            match result {
                Ok(_) => {
                    assert!(recorder.err().starts_with("GitHub sends no browser back. So it is connected by a code"));
                    assert!(recorder.err().contains("WDJB-MJHT") && recorder.err().contains("[y/N]"));
                }
                Err(error) => {
                    assert!(error.hint.unwrap().ends_with("grantd connect github --device --yes"));
                    assert_eq!(recorder.err(), "");
                }
            }
        }
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
    fn a_person_without_a_browser_here_is_told_what_works() {
        for (device_flow, terminal, device, paste) in
            [(true, true, true, true), (false, true, false, true), (true, false, false, false)]
        {
            let session = SessionBody { device_flow, ..body("pending", "localhost:8717") };
            let text = link_text(&session, &session.connect_url, Desk::default(), terminal);
            assert_eq!(text.contains("grantd connect github --device"), device, "{text}");
            assert_eq!(text.contains("grantd connect github --paste"), paste, "{text}");
        }
    }
}
