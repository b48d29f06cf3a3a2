//! The pages keep a browser safe: fixed headers on every answer, no foreign host, no foreign form, nothing of an answer in the address.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::support::journey::{assert_says, param, with_param};
use crate::support::raw::{RawAnswer, to_port};
use crate::support::{Journey, World};

/// Headers that every answer has, whatever it is.
const ALWAYS: [(&str, &str); 5] = [
    ("x-frame-options", "DENY"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];
/// The largest answer, in bytes: a phone on a bad line can load every page.
const PAGE_MAX: usize = 100 * 1024;

impl World {
    /// Asks for a page on a connection of its own.
    async fn page(&self, method: &str, target: &str, more: &[&str]) -> RawAnswer {
        let line = format!("{method} {target} HTTP/1.1");
        let host = format!("Host: localhost:{}", self.daemon.home.port);
        let head: Vec<&str> = [line.as_str(), host.as_str()].into_iter().chain(more.iter().copied()).collect();
        to_port(self.daemon.home.port, &head, "").await
    }
}

/// The session page as a browser without cookies gets it: its form token and its cookie.
async fn form_of(world: &World, path: &str) -> (String, String) {
    let page = world.page("GET", path, &[]).await;
    assert_eq!(page.status, 200, "{page:?}");
    let token = page.body.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let cookie = page.header("set-cookie").split(';').next().unwrap().to_owned();
    assert!(cookie.starts_with("grantd_csrf="), "{cookie}");
    (token, cookie)
}

fn assert_safe(answer: &RawAnswer, what: &str) {
    for (name, value) in ALWAYS {
        assert_eq!(answer.header(name), value, "{name} of {what}");
    }
    let policy = answer.header("content-security-policy");
    for directive in ["default-src 'none';", "style-src 'self';", "base-uri 'none';", "frame-ancestors 'none'"] {
        assert!(policy.contains(directive), "{directive} of {what}: {policy}");
    }
    assert!(!policy.contains("script-src") && !policy.contains("unsafe"), "{what}: {policy}");
    let types = answer.header("content-type");
    if types.starts_with("text/html") || types.starts_with("text/plain") {
        assert_eq!(answer.header("cache-control"), "no-store", "{what}");
    }
    assert!(types.contains('/') || answer.body.is_empty(), "{what}");
    for name in answer.names() {
        assert!(!name.starts_with("access-control-") && name != "server", "{name} of {what}");
    }
    assert!(answer.body.len() < PAGE_MAX, "{what} has {} bytes", answer.body.len());
}

#[tokio::test]
async fn every_answer_has_the_headers_that_keep_a_browser_safe() {
    let world = World::new().await;
    let journey = Journey::begin(&world).await;
    let page = format!("/connect/{}", journey.id);
    let long = format!("/callback/sandbox?code={}", "x".repeat(17 * 1024));
    let stopped = ["bad-answer", "old-form", "internal", "long-address", "long-form", "missing", "other-browser"];
    let mut asked: Vec<(&str, String, u16)> = vec![
        ("GET", "/".to_owned(), 200),
        ("HEAD", "/".to_owned(), 200),
        ("POST", "/".to_owned(), 405),
        ("GET", "/assets/grantd.css".to_owned(), 200),
        ("GET", "/assets/mark.svg".to_owned(), 200),
        ("GET", "/favicon.ico".to_owned(), 200),
        ("GET", page.clone(), 200),
        ("HEAD", page.clone(), 405),
        ("GET", format!("{page}?ticket=AAAA"), 303),
        ("GET", format!("{page}/start"), 405),
        ("POST", format!("{page}/start"), 403),
        ("POST", format!("{page}/confirm"), 403),
        ("POST", format!("{page}/decline"), 403),
        ("GET", "/connect/cn_AAAAAAAAAAAAAAAAAAAAAA".to_owned(), 404),
        ("GET", "/connect/..%2f..%2fetc%2fpasswd".to_owned(), 404),
        ("GET", "/callback/sandbox".to_owned(), 400),
        ("GET", "/callback/sandbox?code=c&state=s".to_owned(), 400),
        ("GET", "/callback/nobody?code=c&state=s".to_owned(), 400),
        ("GET", long, 414),
        ("POST", "/callback/sandbox".to_owned(), 405),
        ("GET", "/no/such/page".to_owned(), 404),
        ("GET", "//".to_owned(), 404),
        ("OPTIONS", "*".to_owned(), 404),
        ("GET", "/v1/connections".to_owned(), 404),
        ("POST", "/v1/token".to_owned(), 404),
        ("BREW", "/".to_owned(), 405),
    ];
    asked.extend(stopped.map(|name| ("GET", format!("/stopped/{name}"), 0)));
    for (method, target, status) in asked {
        let answer = world.page(method, &target, &["Content-Length: 0"]).await;
        let what = format!("{method} {}", &target[..target.len().min(60)]);
        assert!(answer.status == status || (status == 0 && answer.status >= 400), "{what}: {}", answer.status);
        assert_safe(&answer, &what);
        if answer.status == 405 {
            assert!(!answer.header("allow").is_empty(), "{what}");
        }
        if method == "HEAD" {
            assert_eq!(answer.body, "", "{what}");
        }
    }
    assert_eq!(journey.status(&world).await, "pending");
}

#[tokio::test]
async fn only_the_page_with_the_button_lets_a_form_leave_and_the_cookies_are_kept_from_scripts() {
    let world = World::new().await;
    let journey = Journey::begin(&world).await;
    let page = world.page("GET", journey.page.url.path(), &[]).await;
    let sandbox = world.sandbox.url().origin().ascii_serialization();
    assert!(page.header("content-security-policy").contains(&format!("form-action 'self' https: {sandbox};")));
    for cookie in page.headers("set-cookie") {
        assert!(cookie.contains("; Path=/; HttpOnly; SameSite=Strict"), "{cookie}");
    }
    let sent = journey.browser.press_once(&journey.page, "/start", &[]).await.unwrap();
    assert_eq!(sent.status, 303, "never 307, which would send the form on to the provider");
    let flow = sent.headers["set-cookie"].to_str().unwrap();
    assert!(flow.starts_with(&format!("grantd_flow_{}=", journey.id)), "{flow}");
    assert!(flow.contains("; Path=/; HttpOnly; SameSite=Lax"), "the provider leads back here: {flow}");
    let confirm = journey.come_back("u-1001").await;
    let policy = confirm.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("form-action 'self';"), "{policy}");
}

#[tokio::test]
async fn a_foreign_host_sees_nothing() {
    let world = World::new().await;
    let port = world.daemon.home.port;
    let journey = Journey::begin(&world).await;
    let page = journey.page.url.path().to_owned();
    let mut hosts: Vec<String> = [
        "evil.example",
        "localhost",
        "localhost:80",
        "localhost.evil.example:PORT",
        "evil.localhost:PORT",
        "localhost.:PORT",
        "LOCALHOST:PORT",
        "localhost:PORT@evil.example",
        "evil.example:PORT",
        "127.0.0.2:PORT",
        "0.0.0.0:PORT",
        "2130706433:PORT",
        "0x7f.1:PORT",
        "[::ffff:127.0.0.1]:PORT",
        "localhost:0PORT",
        "localhost:PORT,evil.example",
        "",
    ]
    .map(|host| format!("Host: {}", host.replace("PORT", &port.to_string())))
    .to_vec();
    let ours = format!("Host: localhost:{port}");
    hosts.push(format!("{ours}\r\n{ours}"));
    hosts.push(format!("{ours}\r\nHost: evil.example"));
    hosts.push(format!("Host: evil.example\r\nX-Forwarded-Host: localhost:{port}\r\nForwarded: host=localhost:{port}"));
    hosts.push("X-No-Host: at all".to_owned());
    for host in &hosts {
        for line in [format!("GET {page} HTTP/1.1"), format!("POST {page}/start HTTP/1.1")] {
            let answer = to_port(port, &[&line, host, "Content-Length: 0"], "").await;
            assert_eq!(answer.status, 421, "{host}");
            assert!(!answer.body.contains("csrf"), "{host}");
            assert_eq!(answer.header("set-cookie"), "", "{host}");
            assert_safe(&answer, host);
        }
    }
    let absolute = to_port(port, &[&format!("GET http://evil.example{page} HTTP/1.1"), &ours], "").await;
    assert_eq!(absolute.status, 421, "a target that contradicts the host");
    assert_eq!(to_port(port, &[&format!("GET {page} HTTP/1.1"), &ours], "").await.status, 200);

    // Another spelling of this machine leads to the one that has the cookies, and takes no form.
    for alias in ["127.0.0.1", "[::1]"] {
        let host = format!("Host: {alias}:{port}");
        let moved = to_port(port, &[&format!("GET {page}?a=b HTTP/1.1"), &host], "").await;
        assert_eq!((moved.status, moved.header("location")), (303, &*format!("http://localhost:{port}{page}?a=b")));
        let form = to_port(port, &[&format!("POST {page}/start HTTP/1.1"), &host, "Content-Length: 0"], "").await;
        assert_eq!(form.status, 421);
    }
    assert_eq!(journey.status(&world).await, "pending");
}

#[tokio::test]
async fn a_form_of_another_site_does_nothing() {
    let world = World::new().await;
    let port = world.daemon.home.port;
    let journey = Journey::begin(&world).await;
    let page = journey.page.url.path().to_owned();
    let (token, cookie) = form_of(&world, &page).await;
    let post = async |button: &str, fields: &str, kind: &str, more: &[&str]| {
        let length = format!("Content-Length: {}", fields.len());
        let kind = format!("Content-Type: {kind}");
        let (line, host) = (format!("POST {page}/{button} HTTP/1.1"), format!("Host: localhost:{port}"));
        let head: Vec<&str> = [&*line, &*host, &*length, &*kind].into_iter().chain(more.iter().copied()).collect();
        to_port(port, &head, fields).await
    };
    let (good, cookie) = (format!("csrf={token}"), format!("Cookie: {cookie}"));
    let form = "application/x-www-form-urlencoded";
    for origin in [
        "Origin: http://evil.example",
        "Origin: https://localhost",
        "Origin: http://localhost:1",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
        "Sec-Fetch-Site: none",
        "Origin: null\r\nSec-Fetch-Site: cross-site",
        "Origin: http://evil.example\r\nSec-Fetch-Site: same-origin",
    ] {
        for button in ["start", "decline", "confirm"] {
            let answer = post(button, &good, form, &[&cookie, origin]).await;
            assert_eq!(answer.status, 403, "{button} from {origin}");
            assert_safe(&answer, origin);
            assert!(answer.body.contains("out of date"), "{}", answer.body);
        }
    }
    let (foreign, _) = form_of(&world, &page).await;
    let other = Journey::of(&world, json!({"provider": "sandbox", "scopes": ["openid", "x"]})).await;
    let same_cookie = world.page("GET", other.page.url.path(), &[&cookie]).await;
    let others = same_cookie.body.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    for (why, fields, kind, cookie) in [
        ("no cookie", good.clone(), form, "X-A: b"),
        ("no token", "a=b".to_owned(), form, &*cookie),
        ("an empty token", "csrf=".to_owned(), form, &*cookie),
        ("two tokens", format!("{good}&{good}"), form, &*cookie),
        ("the token of another browser", format!("csrf={foreign}"), form, &*cookie),
        ("the token of another session", format!("csrf={others}"), form, &*cookie),
        ("no form", good.clone(), "text/plain", &*cookie),
        ("JSON", format!("{{\"csrf\":\"{token}\"}}"), "application/json", &*cookie),
    ] {
        let answer = post("start", &fields, kind, &[cookie]).await;
        assert_eq!(answer.status, 403, "{why}");
        assert_eq!(answer.header("location"), "", "{why}");
    }
    let long = format!("{good}&x={}", "y".repeat(17 * 1024));
    assert_eq!(post("start", &long, form, &[&cookie]).await.status, 413);
    assert_eq!(journey.status(&world).await, "pending", "nothing happened");

    let origin = format!("Origin: http://localhost:{port}\r\nSec-Fetch-Site: same-origin");
    let answer = post("start", &good, form, &[&cookie, &origin]).await;
    assert_eq!(answer.status, 303, "our own form works");
    assert_eq!(journey.status(&world).await, "opened");
}

#[tokio::test]
async fn nothing_of_a_providers_answer_stays_in_the_address() {
    let world = World::new().await;
    let journey = Journey::begin(&world).await;
    let callback = journey.callback("u-1001").await;
    let (code, state) = (param(&callback, "code"), param(&callback, "state"));
    let confirm = journey.browser.open(&callback).await.unwrap();
    assert_eq!(confirm.url, journey.page.url, "the browser stands at the page of the session");
    for secret in [&code, &state] {
        assert!(!confirm.body.contains(secret.as_str()), "{secret}");
    }
    let used = journey.browser.open(&callback).await.unwrap();
    assert_says(&used, &["<meta http-equiv=\"refresh\" content=\"0;url=/stopped/used\">"]);
    for secret in [&code, &state] {
        assert!(!used.body.contains(secret.as_str()), "{secret}");
    }
    let next = journey.browser.open(&used.url.join("/stopped/used").unwrap()).await.unwrap();
    assert_says(&next, &["This has been used already", "What to do now"]);
    assert!(!next.body.contains("http-equiv=\"refresh\""), "it stays there");
}

#[tokio::test]
async fn an_answer_that_says_two_things_at_once_is_refused() {
    let world = World::new().await;
    let journey = Journey::begin(&world).await;
    let callback = journey.callback("u-1001").await;
    let twice = |name: &str, value: &str| {
        let mut url = callback.clone();
        url.query_pairs_mut().append_pair(name, value);
        url
    };
    let (code, state) = (param(&callback, "code"), param(&callback, "state"));
    for (why, url) in [
        ("two states", twice("state", &state)),
        ("two codes", twice("code", &code)),
        ("two different codes", twice("code", "x")),
        ("two issuers", twice("iss", world.sandbox.issuer())),
        ("a code and an error", twice("error", "access_denied")),
        ("neither code nor error", with_param(&callback, "code", None)),
        ("an empty code", with_param(&callback, "code", Some(""))),
        ("a code with a line break", with_param(&callback, "code", Some("a\r\nb"))),
        ("a code with NUL", with_param(&callback, "code", Some("a\0b"))),
        ("no state", with_param(&callback, "state", None)),
    ] {
        let page = journey.browser.open(&url).await.unwrap();
        assert_eq!(page.status, 400, "{why}");
        assert_says(&page, &["What to do now"]);
        assert_eq!(world.token_requests(), 0, "{why}");
    }
    let long = journey.browser.open(&twice("scope", &"x".repeat(16 * 1024))).await.unwrap();
    assert_eq!(long.status, 414);
    assert_says(&long, &["That is too long", "What to do now"]);
    assert_eq!(world.token_requests(), 0);
    assert_says(&journey.browser.open(&twice("hd", "unknown")).await.unwrap(), &["Is this your account?"]);
}

#[tokio::test]
async fn what_a_caller_says_is_shown_and_cannot_become_more_than_text() {
    let world = World::new().await;
    let plain = Journey::of(&world, json!({"provider": "sandbox", "purpose": "plain", "scopes": ["s"]})).await;
    let tags = plain.page.body.matches('<').count();
    for (number, hostile) in [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "' onfocus=alert(1) autofocus='",
        "</bdi></title><form action=https://evil.example>",
        "{{ 7 * 7 }} {% raw %}",
        "&lt;b&gt; &#x3c;b>",
        "javascript:alert(1)//",
    ]
    .into_iter()
    .enumerate()
    {
        let ask = json!({"provider": "sandbox", "purpose": hostile, "scopes": [format!("s{number}")]});
        let journey = Journey::of(&world, ask).await;
        assert_eq!(journey.page.body.matches('<').count(), tags, "{hostile} in {}", journey.page.body);
        for never in ["' onfocus=alert(1) autofocus='", "\"><img", "49 "] {
            assert!(!journey.page.body.contains(never), "{never} from {hostile}");
        }
        assert_says(&journey.page, &["class=\"purpose\""]);
    }
    let long = Journey::of(&world, json!({"provider": "sandbox", "purpose": "\u{1F980}".repeat(120)})).await;
    assert_says(&long.page, &["\u{1F980}\u{1F980}"]);
    // Scopes are the caller's words too.
    let scoped = json!({"provider": "sandbox", "scopes": ["<script>alert(1)</script>", "a&b'c"]});
    let page = Journey::of(&world, scoped).await.page;
    assert!(!page.body.contains("<script"), "{}", page.body);
    for steering in ["a\u{202e}b", "a\u{2066}b", "a\u{200b}b", "a\nb", "\u{1b}[2J"] {
        let refused = world.daemon.post("/v1/connect", json!({"provider": "sandbox", "purpose": steering})).await;
        assert_eq!((refused.status, refused.json["field"].as_str()), (400, Some("purpose")), "{steering:?}");
    }
}

#[tokio::test]
async fn many_scopes_still_make_a_page_that_can_be_loaded() {
    let world = World::new().await;
    let scopes: Vec<String> = (0..100).map(|number| format!("{number:0>250}")).collect();
    let journey = Journey::of(&world, json!({"provider": "sandbox", "scopes": scopes})).await;
    assert!(journey.page.body.len() < PAGE_MAX, "{} bytes", journey.page.body.len());
}

#[tokio::test]
async fn who_sends_too_slowly_or_too_much_is_cut_off_and_the_others_are_served() {
    let world = World::new().await;
    let port = world.daemon.home.port;
    let mut silent = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut dripping = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let drip = async {
        let began = Instant::now();
        drop(dripping.write_all(format!("GET / HTTP/1.1\r\nHost: localhost:{port}\r\n").as_bytes()).await);
        while dripping.write_all(b"X-A: b\r\n").await.is_ok() {
            assert!(began.elapsed() < Duration::from_secs(60), "a head that never ends is waited for without end");
            sleep(Duration::from_millis(500)).await;
        }
    };
    let wait = async {
        let mut nothing = Vec::new();
        let ended = timeout(Duration::from_secs(60), silent.read_to_end(&mut nothing)).await;
        drop(ended.expect("a browser that says nothing is cut off"));
    };
    let others = async {
        for _ in 0..20 {
            assert_eq!(world.page("GET", "/", &[]).await.status, 200);
            sleep(Duration::from_millis(50)).await;
        }
        let huge = format!("X-Huge: {}", "x".repeat(128 * 1024));
        assert!(matches!(world.page("GET", "/", &[&huge]).await.status, 431 | 0));
        let many: Vec<String> = (0..100).map(|number| format!("X-{number}: a")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(matches!(world.page("GET", "/", &many).await.status, 431 | 0));
    };
    tokio::join!(drip, wait, others);
    assert_eq!(world.page("GET", "/", &[]).await.status, 200);
}

#[tokio::test]
async fn no_page_and_no_header_of_a_whole_journey_holds_a_secret() {
    let world = World::new().await;
    let journey = Journey::begin(&world).await;
    let confirm = journey.come_back("u-1001").await;
    let done = journey.browser.press(&confirm, "/confirm", &[]).await.unwrap();
    for page in [&journey.page, &confirm, &done, &journey.look().await] {
        let shown = format!("{} {:?} {}", page.url, page.headers, page.body);
        assert!(!shown.contains("_MARK_"), "{shown}");
        assert!(shown.len() < PAGE_MAX);
    }
}
