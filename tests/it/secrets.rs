//! No secret is ever where it does not belong: every secret of the sandbox carries a marker, and whatever the daemon writes,
//! shows or says is searched for it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use grantd::sandbox::browser::{Browser, Page};
use grantd::sandbox::{BodyKind, Endpoint, Fault, Options, What, When};
use serde_json::json;

use crate::support::launch::Kept;
use crate::support::person::skipped;
use crate::support::{Answer, Daemon, Home, Launch, World, eventually};

const MARKER: &[u8] = b"_MARK_";

/// What was looked through, and what must not be in it.
struct Scanner {
    secrets: Vec<Vec<u8>>,
    places: usize,
    leaks: Vec<String>,
}

impl Scanner {
    /// Looks for the marker and for the root key of this home in all its forms.
    fn new(home: &Home) -> Self {
        let text = fs::read(root_key(home)).unwrap();
        let text = text.trim_ascii_end().to_vec();
        let bytes = hex::decode(&text).unwrap();
        assert_eq!(bytes.len(), 32);
        Self { secrets: vec![MARKER.to_vec(), text, bytes], places: 0, leaks: Vec::new() }
    }

    fn scan(&mut self, place: &str, content: impl AsRef<[u8]>) {
        let content = content.as_ref();
        self.places += 1;
        for secret in &self.secrets {
            if let Some(at) = content.windows(secret.len()).position(|window| window == secret) {
                let around = &content[at.saturating_sub(60)..content.len().min(at + 60)];
                self.leaks.push(format!("{place}: {}", String::from_utf8_lossy(around)));
            }
        }
    }

    fn page(&mut self, place: &str, page: &Page) {
        self.scan(place, format!("{} {} {:?} {}", page.url, page.status, page.headers, page.body));
    }

    /// An answer of the socket; `access_token` of a good one is the one place where a token belongs.
    fn answer(&mut self, place: &str, answer: &Answer) {
        let mut json = answer.json.clone();
        if answer.status == 200 && place == "/v1/token" {
            let token = json.as_object_mut().unwrap().remove("access_token").unwrap();
            assert!(token.as_str().unwrap().contains("_MARK_"));
        }
        self.scan(place, format!("{} {:?} {json}", answer.status, answer.headers));
    }

    fn files(&mut self, directory: &Path) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                self.files(&path);
            } else if path.is_file() && !path.ends_with("root.key") && !path.ends_with("config/secret") {
                self.scan(&path.display().to_string(), fs::read(&path).unwrap());
            }
        }
    }
}

fn root_key(home: &Home) -> std::path::PathBuf {
    home.file(".local/state/grantd/root.key")
}

/// A life with all that goes right and wrong in it, at the highest level of every library's log.
#[tokio::test]
async fn no_secret_is_anywhere_but_in_a_callers_hand() {
    let sandbox = grantd::sandbox::Sandbox::start(Options::default()).await.unwrap();
    let home = Home::new();
    home.knows(&sandbox);
    let environment = vec![("RUST_LOG", "trace".into())];
    let daemon = Daemon::launch(home, Launch { environment, ..Launch::default() }).await;
    let world = World { sandbox, daemon };
    let mut scanner = Scanner::new(&world.daemon.home);
    let daemon = &world.daemon;

    // No turn, wrong turns, and the right one.
    scanner.answer("409", &daemon.token(json!({})).await);
    for what in [
        What::Garbage,
        What::Html,
        What::Truncate(90),
        What::Status { code: 500, body: BodyKind::Json },
        What::OAuthError("invalid_grant".to_owned()),
        What::DropAfterProcessing,
    ] {
        world.sandbox.script(Fault::new(Endpoint::Token, When::Next(1), what));
        turn(&world, &mut scanner, "allow").await;
        world.sandbox.clear_faults();
    }
    for endpoint in [Endpoint::Userinfo, Endpoint::Jwks] {
        world.sandbox.script(Fault::new(endpoint, When::Next(1), What::Garbage));
        turn(&world, &mut scanner, "allow").await;
        world.sandbox.clear_faults();
    }
    turn(&world, &mut scanner, "deny").await;
    turn(&world, &mut scanner, "allow").await;
    let mut token = daemon.token(json!({})).await;
    assert_eq!(token.status, 200, "{token:?}");
    scanner.answer("/v1/token", &token);

    // Refreshes, good and bad.
    for what in [
        None,
        Some(What::Garbage),
        Some(What::Truncate(60)),
        Some(What::Huge(4 << 20)),
        Some(What::Status { code: 503, body: BodyKind::Text }),
        Some(What::OAuthError("invalid_client".to_owned())),
        Some(What::RetryAfter { code: 429, value: "1".to_owned() }),
    ] {
        if let Some(what) = what {
            world.sandbox.script(Fault::of_refresh(When::Next(1), what));
        }
        let rejected = daemon.token(json!({"rejected": token.json["token_id"]})).await;
        scanner.answer("/v1/token", &rejected);
        world.sandbox.clear_faults();
        token = daemon.token(json!({})).await;
        scanner.answer("/v1/token", &token);
    }

    // What the commands say.
    for args in
        [&["token", "sandbox"][..], &["status"], &["status", "--json"], &["token", "nothing"], &["provider", "list"]]
    {
        let output = daemon.run(args);
        scanner.scan(&format!("stderr of {args:?}"), &output.err);
        if args != ["token", "sandbox"] {
            scanner.scan(&format!("stdout of {args:?}"), &output.out);
        } else if output.code == 0 {
            assert!(output.out.contains("_MARK_"), "{output:?}");
        }
    }
    for path in
        ["/v1/connections", "/v1/connections?all=true", "/v1/providers", "/v1/whoami", "/v1/health?deep=true", "/x"]
    {
        scanner.answer(path, &daemon.get(path).await);
    }

    // What stands on the disk and in the kernel's books while it runs, and after disconnecting.
    let process = format!("/proc/{}", daemon.pid());
    for file in ["cmdline", "environ", "comm", "status"] {
        match fs::read(format!("{process}/{file}")) {
            Ok(content) => scanner.scan(file, content),
            // It must not be dumped, so its books are root's.
            Err(error) => skipped(&format!("what is in {file}"), &error.to_string()),
        }
    }
    scanner.files(daemon.home.path());
    let connections = daemon.get("/v1/connections").await;
    for connection in connections.json["connections"].as_array().unwrap() {
        let path = format!("/v1/connections/{}", connection["id"].as_str().unwrap());
        scanner.answer(&path, &daemon.delete(&path).await);
    }
    scanner.answer("409", &daemon.token(json!({})).await);
    scanner.files(daemon.home.path());

    assert!(daemon.log().lines().count() > 200, "the log is at its most talkative");
    assert!(daemon.log().contains("\"TRACE\""), "the log is at its most talkative");
    assert!(scanner.places > 60, "{}", scanner.places);
    assert!(scanner.leaks.is_empty(), "{:#?}", scanner.leaks);
}

/// One way through the pages, looking at each of them.
async fn turn(world: &World, scanner: &mut Scanner, answer: &str) {
    let browser = Browser::new();
    let session = world.daemon.post("/v1/connect", json!({"provider": "sandbox"})).await;
    scanner.answer("/v1/connect", &session);
    let page = browser.open(&session.url("connect_url")).await.unwrap();
    scanner.page("the connect page", &page);
    let consent = browser.press(&page, "/start", &[]).await.unwrap();
    let mut page = browser.press_once(&consent, answer, &[("account", "u-1001")]).await.unwrap();
    // From here on every page is ours; the address of the first still has the code in it, as it must.
    let mut hops = 0;
    while let Some(next) = page.location() {
        let next = next.unwrap();
        page = browser.peek(&next).await.unwrap();
        let mut shown = page.clone();
        if hops == 0 {
            shown.url.set_query(None);
        }
        scanner.page("a page after the callback", &shown);
        hops += 1;
    }
    assert!(hops > 0, "{}", page.body);
    if page.forms().iter().any(|form| form.action.ends_with("/confirm")) {
        page = browser.press(&page, "/confirm", &[]).await.unwrap();
        scanner.page("the last page", &page);
    }
    let path = format!("/v1/connect/{}", session.text("connect_id"));
    scanner.answer(&path, &world.daemon.get(&path).await);
    scanner.answer(&path, &world.daemon.delete(&path).await);
}

#[tokio::test]
async fn the_scanner_sees_what_is_there() {
    let world = World::new().await;
    let home = &world.daemon.home;
    let mut scanner = Scanner::new(home);
    scanner.files(home.path());
    assert!(scanner.leaks.is_empty(), "{:?}", scanner.leaks);
    let key = fs::read(root_key(home)).unwrap();
    let bytes = hex::decode(key.trim_ascii_end()).unwrap();
    for planted in [b"at_MARK_x".as_slice(), &key, &bytes] {
        fs::write(home.file("state/planted"), [b"before ", planted, b" after"].concat()).unwrap();
        let mut scanner = Scanner::new(home);
        scanner.files(home.path());
        assert_eq!(scanner.leaks.len(), 1, "{:?}", scanner.leaks);
    }
    let answer = Answer { status: 409, headers: http::HeaderMap::new(), json: json!({"access_token": "at_MARK_x"}) };
    let mut scanner = Scanner::new(home);
    scanner.answer("/v1/token", &answer);
    assert_eq!(scanner.leaks.len(), 1);
}

#[tokio::test]
async fn files_are_open_to_their_owner_alone() {
    let world = World::new().await;
    world.connect("u-1001").await;
    let home = &world.daemon.home;
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&root_key(home)), 0o400);
    assert_eq!(mode(root_key(home).parent().unwrap()), 0o700);
    assert_eq!(mode(&home.socket()), 0o600);
    assert_eq!(mode(home.socket().parent().unwrap()), 0o700);
    for companion in ["", "-wal", "-shm", ".lock"] {
        assert_eq!(mode(&home.file(&format!("state/grantd.db{companion}"))), 0o600, "{companion}");
    }

    for (given, expected) in [("0660", 0o660), ("0600", 0o600)] {
        let home = Home::new();
        home.configure_and("  {}\n", &format!(", mode: \"{given}\""), "");
        let daemon = Daemon::start(home).await;
        assert_eq!(mode(&daemon.home.socket()), expected);
    }
}

#[tokio::test]
async fn the_default_state_directory_is_closed_to_others() {
    let home = Home::new();
    home.write("config/grantd.yaml", &format!("web: {{url: \"http://localhost:{}\"}}\nproviders: {{}}\n", home.port));
    let environment = vec![("GRANTD_SOCKET", home.file(".local/state/grantd/run/grantd.sock").into())];
    // The home's own socket is elsewhere, so being ready is read from the files.
    let _running = Kept(Launch { environment, ..Launch::default() }.spawn(&home));
    let state = home.file(".local/state/grantd");
    eventually("the store is made", || async {
        state.join("grantd.db").exists() && state.join("run/grantd.sock").exists()
    })
    .await;
    let mode = |below: &str| fs::metadata(state.join(below)).unwrap().mode() & 0o7777;
    let found = [mode(""), mode("run"), mode("grantd.db"), mode("root.key"), mode("run/grantd.sock")];
    assert_eq!(found.map(|mode| format!("{mode:o}")), ["700", "700", "600", "400", "600"]);
}

#[tokio::test]
async fn nobody_can_look_into_the_process() {
    let user = rustix::process::geteuid().is_root().then_some((41_200, 41_200));
    let home = Home::new();
    if let Some((uid, gid)) = user {
        for below in ["", "config", "config/grantd.yaml", "config/providers.d", "state"] {
            std::os::unix::fs::chown(home.file(below), Some(uid), Some(gid)).unwrap();
        }
    }
    home.configure("  {}\n");
    if let Some((uid, gid)) = user {
        std::os::unix::fs::chown(home.config(), Some(uid), Some(gid)).unwrap();
    }
    let daemon = Daemon::launch(home, Launch { user, ..Launch::default() }).await;
    // The kernel gives the books of a process that must not be dumped to root: no core, no debugger of the same user.
    for file in ["mem", "environ", "maps"] {
        let owner = fs::metadata(format!("/proc/{}/{file}", daemon.pid())).unwrap().uid();
        assert_eq!(owner, 0, "{file}");
    }
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    assert!(!status.contains("CoreDumping:\t1"));
}

#[tokio::test]
async fn a_wrong_secret_is_named_by_its_place_and_never_shown() {
    let home = Home::new();
    let secret = home.file("config/secret");
    home.write("config/secret", "cs_MARK_with\u{7}bell\n");
    for (reference, named) in [
        (format!("{{file: {}}}", secret.display()), "config/secret"),
        (format!("{{file: {}}}", home.file("config/none").display()), "config/none"),
        ("{env: GRANTD_TEST_SECRET}".to_owned(), "GRANTD_TEST_SECRET"),
        ("cs_MARK_literal".to_owned(), "client_secret"),
    ] {
        home.configure(&format!("  github: {{client_id: x, client_secret: {reference}}}\n"));
        let environment = vec![("GRANTD_TEST_SECRET", "cs_MARK_\u{7}".into())];
        let refused = Daemon::refused(&home, &Launch { environment, ..Launch::default() });
        assert_eq!(refused.code, 78, "{refused:?}");
        assert!(refused.err.contains(named), "{refused:?}");
        // A literal in the configuration is shown in its line of the file, which is where it must not be in the first place.
        if !reference.contains("literal") {
            assert!(!format!("{refused:?}").contains("_MARK_"), "{refused:?}");
        }
    }
}
