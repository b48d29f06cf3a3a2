//! Over https on this machine a person connects as over http, with a certificate of grantd's own or of the operator's.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use grantd::sandbox::Options;
use grantd::sandbox::browser::Browser;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde_json::json;

use crate::support::journey::{assert_says, param};
use crate::support::raw::to_port;
use crate::support::{Daemon, Home, Launch, World, eventually};

const CERTIFICATE: &str = "state/web-certificate.pem";
const KEY: &str = "state/web-key.pem";

/// Makes the pages of this home https, with more in `web:` (begins with a comma).
fn https(home: &Home, more: &str) {
    let (from, to) = (format!("http://localhost:{}\"", home.port), format!("https://localhost:{}\"{more}", home.port));
    home.edit("config/grantd.yaml", |text| {
        assert!(text.contains(&from), "{text}");
        text.replace(&from, &to)
    });
}

/// The `tls:` of the configuration, for two files of this home.
fn tls(home: &Home, certificate: &str, key: &str) -> String {
    let at = |below| home.file(below).display().to_string();
    format!(", tls: {{certificate: {{file: {}}}, key: {{file: {}}}}}", at(certificate), at(key))
}

async fn world() -> World {
    World::arranged(Options::default(), |home, _| https(home, "")).await
}

/// Goes the whole way, and says what the cookies were called.
async fn connect(world: &World, certificate: &str) -> Vec<String> {
    let browser = Browser::trusting(&fs::read(world.daemon.home.file(certificate)).unwrap()).unwrap();
    let session = world.daemon.post("/v1/connect", json!({"provider": "sandbox"})).await;
    let mut page = browser.open(&session.url("connect_url")).await.unwrap();
    assert_eq!(page.url.scheme(), "https");
    assert!(!page.headers.contains_key("strict-transport-security"), "localhost belongs to every program");
    let mut cookies = Vec::new();
    let mut keep = |headers: &http::HeaderMap| {
        let set = headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap().to_owned());
        cookies.extend(set);
    };
    keep(&page.headers);
    let sent = browser.press_once(&page, "/start", &[]).await.unwrap();
    keep(&sent.headers);
    let provider = sent.location().unwrap().unwrap();
    let callback = format!("https://localhost:{}/callback/sandbox", world.daemon.home.port);
    assert_eq!(param(&provider, "redirect_uri"), callback);
    let consent = browser.open(&provider).await.unwrap();
    page = browser.press(&consent, "allow", &[("account", "u-1001")]).await.unwrap();
    page = browser.press(&page, "/confirm", &[]).await.unwrap();
    assert_says(&page, &["ada@sandbox.example"]);
    assert_eq!(world.daemon.token(json!({})).await.status, 200);
    cookies
}

#[tokio::test]
async fn a_person_connects_over_https_with_a_certificate_that_grantd_made() {
    let world = world().await;
    let cookies = connect(&world, CERTIFICATE).await;
    assert_eq!(cookies.len(), 2, "{cookies:?}");
    for cookie in cookies {
        assert!(cookie.starts_with("__Host-grantd_") && cookie.ends_with("; Secure"), "{cookie}");
        assert!(cookie.contains("; Path=/;") && !cookie.contains("Domain"), "{cookie}");
    }
    assert!(world.daemon.log().contains(&world.daemon.home.file(CERTIFICATE).display().to_string()));
    let mode = fs::metadata(world.daemon.home.file(KEY)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn the_certificate_outlives_the_daemon() {
    let mut world = world().await;
    let made = fs::read(world.daemon.home.file(CERTIFICATE)).unwrap();
    world.daemon.restart().await;
    assert_eq!(fs::read(world.daemon.home.file(CERTIFICATE)).unwrap(), made);
    assert!(
        Browser::new().open(&format!("https://localhost:{}/", world.daemon.home.port).parse().unwrap()).await.is_err(),
        "nobody trusts it unasked"
    );
}

#[tokio::test]
async fn plain_http_on_the_https_port_is_told_where_to_go() {
    let world = world().await;
    let port = world.daemon.home.port;
    let host = format!("Host: localhost:{port}");
    let answer = to_port(port, &["GET /connect/cn_x?ticket=t HTTP/1.1", &host], "").await;
    assert_eq!(answer.status, 400, "{answer:?}");
    assert!(answer.body.contains(&format!("open https://localhost:{port}/ instead")), "{answer:?}");
    connect(&world, CERTIFICATE).await;
}

#[tokio::test]
async fn the_operators_own_certificate_is_served_and_a_wrong_one_is_refused_by_name() {
    let ours = world().await;
    let other = world().await;
    let copy = |from: &Home, below: &str| fs::read_to_string(from.file(below)).unwrap();
    let (certificate, key) = (copy(&ours.daemon.home, CERTIFICATE), copy(&ours.daemon.home, KEY));
    let arranged = World::arranged(Options::default(), |home, _| {
        home.write("config/web.pem", &certificate);
        home.write("config/web.key", &key);
        https(home, &tls(home, "config/web.pem", "config/web.key"));
    })
    .await;
    connect(&arranged, "config/web.pem").await;
    assert!(!arranged.daemon.home.file(CERTIFICATE).exists(), "none is made beside it");

    let home = Home::new();
    home.configure("  {}\n");
    https(&home, &tls(&home, "config/web.pem", "config/web.key"));
    let stranger = copy(&other.daemon.home, KEY);
    for (certificate, key, expected) in [
        (certificate.as_str(), stranger.as_str(), "web.key is not the key of the certificate (at web.tls.key)"),
        (&certificate, "\n", "web.key is empty (at web.tls.key)"),
        (&certificate, &certificate, "web.key holds no private key in PEM form"),
        ("\n", &key, "web.pem holds no certificate in PEM form"),
    ] {
        home.write("config/web.pem", certificate);
        home.write("config/web.key", key);
        let ended = Daemon::refused(&home, &Launch::default());
        assert_eq!(ended.code, 78, "{ended:?}");
        assert!(ended.err.contains(expected) && ended.err.contains("grantd.yaml:"), "{ended:?}");
        assert!(!home.store().exists(), "nothing is made");
    }
}

#[tokio::test]
async fn a_certificate_without_https_is_a_mistake() {
    let home = Home::new();
    home.configure("  {}\n");
    let (from, to) = (
        format!("http://localhost:{}\"", home.port),
        format!("http://localhost:{}\"{}", home.port, tls(&home, "config/a", "config/b")),
    );
    home.edit("config/grantd.yaml", |text| text.replace(&from, &to));
    let ended = Daemon::refused(&home, &Launch::default());
    assert_eq!(ended.code, 78, "{ended:?}");
    assert!(ended.err.contains("expected `url` with https beside it"), "{ended:?}");
}

/// A certificate and its key as an operator brings them, which ends with this year.
fn issued(ends: i32) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(ends, 12, 31);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn put(home: &Home, (certificate, key): &(String, String)) {
    home.write("config/web.pem", certificate);
    home.write("config/web.key", key);
}

/// A world whose pages are served with this certificate of the operator's.
async fn serving(pair: &(String, String)) -> World {
    World::arranged(Options::default(), |home, _| {
        put(home, pair);
        https(home, &tls(home, "config/web.pem", "config/web.key"));
    })
    .await
}

/// Reloads, and waits until the log has one more line with this in it. Returns that line.
async fn reload(world: &World, telling: &str) -> String {
    let lines =
        || world.daemon.log().lines().filter(|line| line.contains(telling)).map(str::to_owned).collect::<Vec<_>>();
    let before = lines().len();
    world.daemon.signal("HUP");
    eventually("the reload is told", async || lines().len() > before).await;
    lines().pop().unwrap()
}

/// Whether a browser that has not been here gets a page, if it trusts this certificate and no other.
async fn is_shown(world: &World, (certificate, _): &(String, String)) -> bool {
    let home = format!("https://localhost:{}/", world.daemon.home.port).parse().unwrap();
    Browser::trusting(certificate.as_bytes()).unwrap().open(&home).await.is_ok()
}

#[tokio::test]
async fn a_reload_shows_the_new_certificate_to_new_connections_and_open_ones_go_on() {
    let (old, new) = (issued(2999), issued(2999));
    let world = serving(&old).await;
    let browser = Browser::trusting(old.0.as_bytes()).unwrap();
    let page = format!("https://localhost:{}/", world.daemon.home.port).parse().unwrap();
    browser.open(&page).await.unwrap();
    put(&world.daemon.home, &new);
    assert!(is_shown(&world, &old).await, "files alone change nothing");

    reload(&world, "Took another certificate").await;
    browser.open(&page).await.expect("its connection is open still");
    assert!(!is_shown(&world, &old).await && is_shown(&world, &new).await);
    connect(&world, "config/web.pem").await;

    let with = tls(&world.daemon.home, "config/web.pem", "config/web.key");
    world.daemon.home.edit("config/grantd.yaml", |text| text.replace(&with, ""));
    reload(&world, "with a certificate of grantd's own").await;
    assert!(!is_shown(&world, &new).await);
    connect(&world, CERTIFICATE).await;
}

#[tokio::test]
async fn a_reload_keeps_the_old_certificate_if_the_new_one_is_no_good_and_takes_the_providers() {
    let (old, other) = (issued(2999), issued(2999));
    let world = serving(&old).await;
    let home = &world.daemon.home;
    let ended = issued(2024);
    let unreadable = |below: &str| fs::set_permissions(home.file(below), fs::Permissions::from_mode(0o666)).unwrap();
    for (number, (certificate, key, expected)) in [
        (old.0.as_str(), other.1.as_str(), "config/web.key is not the key of the certificate (at web.tls.key)"),
        (&old.0, "nothing", "config/web.key holds no private key in PEM form"),
        ("nothing", &old.1, "config/web.pem holds no certificate in PEM form"),
        (&old.0[..old.0.len() / 2], &old.1, "config/web.pem holds no certificate in PEM form"),
        (&ended.0, &ended.1, "config/web.pem ended at 2024-12-31 00:00:00 UTC"),
        (&other.0, "WIDE", "config/web.key has the mode 0666"),
        ("GONE", &other.1, "config/web.pem cannot be read: "),
    ]
    .into_iter()
    .enumerate()
    {
        home.write("config/web.pem", certificate);
        home.write("config/web.key", key);
        match (certificate, key) {
            ("GONE", _) => fs::remove_file(home.file("config/web.pem")).unwrap(),
            (_, "WIDE") => unreadable("config/web.key"),
            _ => {}
        }
        let line = format!("  other-{number}: {{definition: sandbox, {}}}\n", home.client());
        home.edit("config/grantd.yaml", |text| text + &line);
        let told = reload(&world, "Keeping the old certificate of the pages").await;
        assert!(told.contains(expected) && told.contains(&*home.path().to_string_lossy()), "{told}");
        assert!(!told.contains("BEGIN"), "{told}");
        assert!(is_shown(&world, &old).await, "{told}");
        let providers = world.daemon.get("/v1/providers").await.json["providers"].as_array().unwrap().len();
        assert_eq!(providers, number + 2, "{told}");
    }
    put(home, &other);
    reload(&world, "Took another certificate").await;
    assert!(is_shown(&world, &other).await && !is_shown(&world, &old).await);
}

#[tokio::test]
async fn a_daemon_whose_certificate_has_ended_serves_tokens_and_takes_the_next_one() {
    let (ended, next) = (issued(2024), issued(2999));
    let world = serving(&ended).await;
    assert!(world.daemon.log().contains("Showing a certificate that no browser accepts"), "{}", world.daemon.log());
    assert_eq!(world.daemon.token(json!({})).await.text("error"), "connection_required");
    put(&world.daemon.home, &next);
    reload(&world, "Took another certificate").await;
    assert!(is_shown(&world, &next).await);
}
