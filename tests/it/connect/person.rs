//! The person in the browser is the one who asked: by the uid of the browser's socket, or by a ticket that counts once.

use std::os::unix::process::CommandExt;
use std::process::Command;

use grantd::sandbox::browser::Browser;
use serde_json::json;

use crate::support::World;
use crate::support::journey::assert_says;

/// A user that is neither the daemon's nor root.
const STRANGER: u32 = 12_345;

/// Asks the pages as another user of this machine: the raw answer. `None` if these tests may not become somebody else.
fn as_stranger(port: u16, method: &str, target: &str, cookie: &str) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let script = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{port} && printf '%s\\r\\n' '{method} {target} HTTP/1.1' 'Host: localhost:{port}' \
         'Connection: close' 'Content-Length: 0' 'Cookie: {cookie}' '' >&3 && cat <&3"
    );
    let output = Command::new("bash").arg("-c").arg(script).uid(STRANGER).gid(STRANGER).current_dir("/").output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[tokio::test]
async fn a_link_is_for_the_person_who_asked_and_for_nobody_else_on_the_machine() {
    let world = World::new().await;
    let port = world.daemon.home.port;
    let session = world.daemon.post("/v1/connect", json!({"provider": "sandbox", "purpose": "a private matter"})).await;
    let link = session.url("connect_url");
    assert_eq!(Browser::new().open(&link).await.unwrap().status, 200, "our own browser is let in");

    for (method, target) in [("GET", link.path().to_owned()), ("POST", format!("{}/start", link.path()))] {
        let Some(answer) = as_stranger(port, method, &target, "a=b") else { return };
        assert!(answer.starts_with("HTTP/1.1 403 "), "{method} {target}: {answer}");
        for never in ["a private matter", session.text("user_code"), "/start\"", "location:"] {
            assert!(!answer.contains(never), "{never} in {answer}");
        }
    }
    assert_eq!(
        world.daemon.get(&format!("/v1/connect/{}", session.text("connect_id"))).await.text("status"),
        "pending"
    );
}

#[tokio::test]
async fn a_ticket_opens_the_page_once_and_only_its_own() {
    let world = World::new().await;
    let port = world.daemon.home.port;
    let ask = json!({"provider": "sandbox", "open": true});
    let session = world.daemon.post("/v1/connect", ask.clone()).await;
    let (ticketed, link) = (session.url("browser_url"), session.url("connect_url"));
    assert_eq!(link.query(), None, "the link that may be shown holds no proof");
    let target = |url: &url::Url| format!("{}?{}", url.path(), url.query().unwrap_or_default());

    let browser = Browser::new();
    let page = browser.open(&ticketed).await.unwrap();
    assert_eq!(page.url, link, "the ticket does not stay in the address");
    assert_eq!(page.status, 200);
    let used = Browser::new().peek(&ticketed).await.unwrap();
    assert_eq!(used.status, 303, "a used ticket leads to the same page");
    assert!(used.headers.get("set-cookie").is_none(), "and proves nothing");

    let Some(spent) = as_stranger(port, "GET", &target(&ticketed), "a=b") else { return };
    assert!(spent.starts_with("HTTP/1.1 303 ") && !spent.to_lowercase().contains("set-cookie"), "{spent}");

    let other = world.daemon.post("/v1/connect", json!({"provider": "sandbox", "scopes": ["x"], "open": true})).await;
    let mut moved = other.url("browser_url");
    moved.set_path(link.path());
    let wrong = as_stranger(port, "GET", &target(&moved), "a=b").unwrap();
    assert!(!wrong.to_lowercase().contains("set-cookie"), "a ticket of another session: {wrong}");

    let fresh = world.daemon.post("/v1/connect", ask).await.url("browser_url");
    assert_ne!(fresh, ticketed);
    let accepted = as_stranger(port, "GET", &target(&fresh), "a=b").unwrap();
    let cookie = accepted
        .lines()
        .find_map(|line| line.strip_prefix("set-cookie: ")?.split(';').next())
        .unwrap_or_else(|| panic!("a ticket that was not used becomes a cookie: {accepted}"));
    assert!(accepted.contains("HttpOnly; SameSite=Lax"), "{accepted}");
    let shown = as_stranger(port, "GET", link.path(), cookie).unwrap();
    assert!(shown.starts_with("HTTP/1.1 200 "), "{shown}");
    let forged = as_stranger(port, "GET", link.path(), "grantd_person=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    assert!(forged.unwrap().starts_with("HTTP/1.1 403 "));
}

#[tokio::test]
async fn the_page_shows_the_code_that_the_message_shows() {
    let world = World::new().await;
    let refused = world.daemon.token(json!({"purpose": "read my mail"})).await;
    let code = refused.text("user_code");
    assert!(refused.json["elicitation"]["message"].as_str().unwrap().contains(code));
    let page = Browser::new().open(&refused.url("connect_url")).await.unwrap();
    assert_says(&page, &[code, "read my mail", "(uid ", "openid"]);
}
