//! The README is true: its configurations start a daemon, its commands exist, its requests get the answers it shows, and its
//! tour of the sandbox leads to a live token.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use grantd::config::Config;
use grantd::sandbox::browser::Browser;
use serde_json::{Value, json};
use url::Url;

use crate::support::daemon::Output;
use crate::support::{Daemon, Home, World, ask, eventually};

/// Where the reader of the README lives.
const YOU: &str = "/home/you";
/// The documents whose commands and configurations have to be good.
const DOCUMENTS: [&str; 6] = [
    "README.md",
    "docs/OPERATIONS.md",
    "docs/PROVIDERS.md",
    "docs/ARCHITECTURE.md",
    "docs/REFRESH.md",
    "CONTRIBUTING.md",
];
/// The programs of the tour that run until they are stopped.
const SERVERS: [&str; 2] = ["grantd serve", "grantd sandbox"];

/// A piece of code in a document.
struct Block {
    section: String,
    language: String,
    text: String,
}

#[test]
fn every_configuration_that_is_shown_is_one() {
    let mut seen = 0;
    for document in DOCUMENTS {
        for block in blocks(&read(document)).iter().filter(|block| block.language == "yaml") {
            if block.text.starts_with("callers:") {
                let whole = format!("providers: {{}}\n{}", block.text);
                let config = Config::parse(document, &whole).unwrap_or_else(|error| panic!("{error}\n{whole}"));
                assert!(!config.callers.is_empty());
                continue;
            }
            if !block.text.contains("providers:") {
                continue;
            }
            let config = Config::parse(document, &block.text).unwrap_or_else(|error| panic!("{error}\n{}", block.text));
            assert!(!config.providers.is_empty());
            seen += 1;
        }
    }
    assert!(seen >= 2, "{seen}");
    let example = read("examples/grantd.yaml");
    assert_eq!(Config::parse("examples/grantd.yaml", &example).unwrap().providers.len(), 1);
}

#[test]
fn every_command_that_is_named_exists() {
    let home = Home::new();
    let mut seen = BTreeSet::new();
    for document in DOCUMENTS {
        let text = read(document);
        let shells = blocks(&text).into_iter().filter(|block| block.language == "sh");
        let code = shells.map(|block| block.text).chain(text.split('`').skip(1).step_by(2).map(str::to_owned));
        for piece in code {
            for line in piece.lines() {
                seen.extend(commands(line));
            }
        }
    }
    let names: BTreeSet<_> = seen.iter().filter_map(|words| words.first().map(String::as_str)).collect();
    assert!(names.is_superset(&BTreeSet::from(["serve", "demo", "connect", "token", "status"])), "{names:?}");
    for words in seen {
        let mut asked: Vec<&str> = words.iter().map(String::as_str).collect();
        asked.push("--help");
        let Output { code, err, .. } = Output::of(Daemon::command(&home).args(&asked));
        assert_eq!(code, 0, "grantd {}: {err}", words.join(" "));
    }
}

#[test]
fn every_link_leads_to_a_file() {
    for document in DOCUMENTS {
        let text = read(document);
        let folder = root().join(document).parent().unwrap().to_owned();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap();
            assert!(path.contains("://") || folder.join(path).exists(), "{document} links to {target}");
        }
    }
}

#[tokio::test]
async fn five_lines_start_a_daemon_that_answers_as_the_readme_shows() {
    let readme = read("README.md");
    let github = blocks(&readme);
    let yaml = github.iter().find(|block| block.language == "yaml" && block.section.contains("GitHub")).unwrap();
    assert!(yaml.text.lines().count() <= 5, "five lines are promised");
    let home = Home::new();
    home.write("config/github.secret", "secret-of-nobody\n");
    let secret = format!("{YOU}/.config/grantd/github.secret");
    let (_, lines) = yaml.text.split_once("providers:\n").unwrap();
    home.configure(&lines.replace(&secret, &home.file("config/github.secret").display().to_string()));
    let daemon = Daemon::start(home).await;

    let (path, body) = curl(&readme);
    let answer = ask::ask_raw(&daemon.home.socket(), "POST", &path, &[], body.into()).await.unwrap();
    assert_eq!(answer.status, 409, "{answer:?}");
    let shown = answer_in(&readme, "\"error\"");
    assert_eq!(keys(&answer.json), keys(&shown));
    assert_eq!(keys(&answer.json["elicitation"]), keys(&shown["elicitation"]));
    assert_eq!(answer.json["error"], shown["error"]);
    assert_eq!(answer.json["error_description"], shown["error_description"]);
    let code = |json: &Value| json["user_code"].as_str().unwrap().to_owned();
    let message = |json: &Value| json["elicitation"]["message"].as_str().unwrap().replace(&code(json), "CODE");
    assert_eq!(message(&answer.json), message(&shown));

    // The link leads to our page, and its button to GitHub's own, with what is registered there.
    let page = Browser::new().open(&answer.url("connect_url")).await.unwrap();
    let browser = Browser::new();
    let page = browser.open(&page.url).await.unwrap();
    let to_github = browser.press_once(&page, "/start", &[]).await.unwrap().location().unwrap().unwrap();
    assert_eq!(to_github.host_str(), Some("github.com"));
    let callback = format!("http://localhost:{}/callback/github", daemon.home.port);
    assert!(to_github.query_pairs().any(|(name, value)| name == "redirect_uri" && value == callback), "{to_github}");
}

#[tokio::test]
async fn the_answer_with_a_token_has_the_fields_that_are_shown() {
    let world = World::new().await;
    assert_eq!(world.connect("u-1002").await.status, 200);
    let shown = answer_in(&read("README.md"), "\"access_token\"");
    let answer = world.daemon.token(json!({})).await;
    assert_eq!(keys(&answer.json), keys(&shown));
    assert_eq!(keys(&answer.json["account"]), keys(&shown["account"]));
}

#[tokio::test]
async fn the_tour_of_the_sandbox_leads_to_a_live_token() {
    let readme = read("README.md");
    let tour = Tour::new();
    let (mut servers, mut connected, mut live) = (Vec::new(), false, false);
    for block in blocks(&readme).iter().filter(|block| block.section.contains("against the sandbox")) {
        let text = tour.here(&block.text);
        if block.language == "yaml" {
            // The one line more: in the README the pages are at their usual port.
            tour.write_configuration(&format!("web: {{url: \"http://localhost:{}\"}}\n{text}", tour.web));
        } else if SERVERS.iter().any(|server| text.starts_with(server)) {
            let line = text.trim();
            servers.push(tour.start(line));
            if line.starts_with("grantd serve") {
                eventually("the daemon of the tour has a socket", async || tour.socket().exists()).await;
            } else {
                eventually("the sandbox of the tour answers", async || tour.sandbox_answers().await).await;
            }
        } else if text.contains("grantd connect") {
            for line in text.lines() {
                if line.starts_with("grantd connect") {
                    tour.connect(line).await;
                    connected = true;
                } else if line.starts_with("curl") {
                    let token = Output::of(&mut tour.shell("grantd token sandbox"));
                    assert_eq!(token.code, 0, "{}", token.err);
                    let url: Url = line.split_whitespace().last().unwrap().parse().unwrap();
                    live = Browser::new().with_bearer(token.out.trim(), &url).await == Some(200);
                } else {
                    let status = Output::of(&mut tour.shell(line));
                    assert!(status.code == 0 && status.out.contains("connected"), "{line}: {status:?}");
                }
            }
        } else {
            let done = Output::of(&mut tour.shell(&text));
            assert_eq!((done.code, done.err.as_str()), (0, ""), "{text}");
        }
    }
    assert!(live, "the tour did not come to its end");
    assert_eq!((servers.len(), connected), (2, true));
}

/// A home like the reader's, and ports that are free here.
struct Tour {
    home: tempfile::TempDir,
    web: u16,
    sandbox: u16,
}

/// A program of the tour, killed when dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Tour {
    fn new() -> Self {
        let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        Self { home: tempfile::Builder::new().prefix("grantd-tour-").tempdir().unwrap(), web: free(), sandbox: free() }
    }

    /// The lines with this home in the place of the reader's, and the free port in the place of the usual one.
    fn here(&self, text: &str) -> String {
        text.replace(YOU, &self.home.path().display().to_string())
            .replace("grantd sandbox ", &format!("grantd sandbox --port {} ", self.sandbox))
            .replace(":9417", &format!(":{}", self.sandbox))
    }

    /// A shell that finds `grantd`, with an environment in which nothing but the home is known.
    fn shell(&self, line: &str) -> Command {
        let bin = Path::new(env!("CARGO_BIN_EXE_grantd")).parent().unwrap().display().to_string();
        let mut command = Command::new("sh");
        command
            .env_clear()
            .env("HOME", self.home.path())
            .env("PATH", format!("{bin}:{}", std::env::var("PATH").unwrap_or_default()))
            .stdin(Stdio::null())
            .args(["-euc", line]);
        command
    }

    /// Starts one program, in the place of its shell, so that it ends when it is killed.
    fn start(&self, line: &str) -> Server {
        let mut command = self.shell(&format!("exec {line}"));
        Server(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn socket(&self) -> std::path::PathBuf {
        self.home.path().join(".local/state/grantd/run/grantd.sock")
    }

    fn write_configuration(&self, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.home.path().join(".config/grantd/grantd.yaml");
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    async fn sandbox_answers(&self) -> bool {
        let home = format!("http://127.0.0.1:{}/", self.sandbox).parse().unwrap();
        Browser::new().open(&home).await.is_ok()
    }

    /// The command and the person who opens the link that it prints.
    async fn connect(&self, line: &str) {
        let mut command = self.shell(&format!("exec {line}"));
        let mut connect = Server(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        let mut told = BufReader::new(connect.0.stderr.take().unwrap()).lines();
        let link = told.find_map(|line| line.unwrap().trim().parse::<Url>().ok()).expect("the command prints a link");
        let browser = Browser::new();
        let page = browser.open(&link).await.unwrap();
        let consent = browser.press(&page, "/start", &[]).await.unwrap();
        let account = browser.press(&consent, "allow", &[]).await.unwrap();
        assert_eq!(browser.press(&account, "/confirm", &[]).await.unwrap().status, 200);
        let mut ended = || connect.0.try_wait().unwrap().is_some();
        eventually("the command that connects ends", || std::future::ready(ended())).await;
        assert!(connect.0.wait().unwrap().success());
    }
}

/// The path and the body of the request that the README makes with curl.
fn curl(readme: &str) -> (String, String) {
    let line = readme.lines().find(|line| line.starts_with("curl --unix-socket")).expect("the README asks with curl");
    let path = line.split("http://localhost").nth(1).unwrap().split(' ').next().unwrap();
    let body = line.split("-d '").nth(1).unwrap().trim_end_matches('\'');
    (path.to_owned(), body.to_owned())
}

fn answer_in(readme: &str, with: &str) -> Value {
    let found = blocks(readme).into_iter().find(|block| block.language == "json" && block.text.contains(with));
    serde_json::from_str(&found.unwrap().text).unwrap()
}

fn keys(json: &Value) -> BTreeSet<&str> {
    json.as_object().unwrap().keys().map(String::as_str).collect()
}

/// The words behind `grantd` up to the first that is no command, once for each time it is called in the line.
fn commands(line: &str) -> Vec<Vec<String>> {
    let line = line.split('#').next().unwrap_or_default();
    let calls = line.match_indices("grantd ").filter(|(at, _)| {
        let before = line[..*at].trim_end();
        before.is_empty() || before.ends_with(['(', '|', ';', '&']) || before.ends_with("run --release --")
    });
    let is_name = |word: &&str| word.bytes().all(|b| b.is_ascii_lowercase());
    calls
        .map(|(at, _)| {
            let words: Vec<&str> = line[at..].split_whitespace().skip(1).take_while(is_name).collect();
            let several = words.first() == Some(&"provider");
            words.into_iter().take(if several { 2 } else { 1 }).map(str::to_owned).collect()
        })
        .filter(|words: &Vec<String>| !words.is_empty())
        .collect()
}

/// The fenced blocks of a document, without the indentation of the list they stand in.
fn blocks(text: &str) -> Vec<Block> {
    let (mut found, mut section, mut open) = (Vec::new(), String::new(), None::<(usize, Block)>);
    for line in text.lines() {
        let bare = line.trim_start();
        match (&mut open, bare.strip_prefix("```")) {
            (None, Some(language)) => {
                let block = Block { section: section.clone(), language: language.to_owned(), text: String::new() };
                open = Some((line.len() - bare.len(), block));
            }
            (Some(_), Some(_)) => found.extend(open.take().map(|(_, block)| block)),
            (Some((indent, block)), None) => {
                block.text.push_str(line.get(*indent..).unwrap_or_default());
                block.text.push('\n');
            }
            (None, None) if line.starts_with('#') => section = line.trim_start_matches('#').trim().to_owned(),
            (None, None) => {}
        }
    }
    found
}

fn read(document: &str) -> String {
    fs::read_to_string(root().join(document)).unwrap_or_else(|error| panic!("{document}: {error}"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
