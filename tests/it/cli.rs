//! What the command line says when no daemon is needed or none is there: help, what to register, and how a mistake ends.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::daemon::Output;
use crate::support::{Daemon, Home};

/// With this variable set, the transcripts are written instead of compared.
const REGENERATE: &str = "GRANTD_WRITE_TRANSCRIPTS";

const COMMANDS: [&str; 22] = [
    "",
    "serve",
    "demo",
    "connect",
    "token",
    "status",
    "account",
    "disconnect",
    "restore",
    "audit",
    "audit tail",
    "audit search",
    "audit verify",
    "audit export",
    "explain",
    "provider",
    "provider check",
    "provider list",
    "provider release",
    "provider schema",
    "provider show",
    "sandbox",
];

#[test]
fn the_help_of_every_command_is_what_the_transcript_shows() {
    let home = Home::new();
    let mut text = String::new();
    for command in COMMANDS {
        let mut words: Vec<&str> = command.split_whitespace().collect();
        words.push("--help");
        let Output { code, out, err } = run(&home, &words);
        assert_eq!((code, err.as_str()), (0, ""), "{command}");
        text.push_str(&format!("$ grantd {}\n{out}\n", words.join(" ")));
    }
    compare("help.txt", &text);
}

#[test]
fn every_command_has_a_transcript() {
    let help = run(&Home::new(), &["--help"]).out;
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let listed = list.lines().take_while(|line| !line.is_empty());
    let names = listed.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    let missing: Vec<_> = names.filter(|name| !COMMANDS.contains(name)).collect();
    assert_eq!(missing, [""; 0]);
}

#[test]
fn a_reader_who_leaves_early_is_no_error_to_talk_about() {
    let home = Home::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Daemon::command(&home);
    let ended =
        command.args(["provider", "list"]).stdout(writer).stderr(std::process::Stdio::piped()).output().unwrap();
    assert_eq!((ended.status.code(), String::from_utf8_lossy(&ended.stderr).as_ref()), (Some(141), ""));
}

#[test]
fn what_goes_wrong_says_what_to_do_as_the_transcript_shows() {
    let home = Home::new();
    fs::remove_file(home.config()).unwrap();
    home.write("bad.yaml", "providers:\n  github: {client_id: x, client_secrte: {env: X}}\n");
    home.write("definition.yaml", "id: mine\nname: Mine\nendpoint: {}\n");
    let mut text = String::new();
    for (line, code) in [
        ("grantd --version", 0),
        ("grantd provider list", 0),
        ("grantd conect github", 2),
        ("grantd token", 2),
        ("grantd token Git_Hub", 2),
        ("grantd token github --min-ttl soon", 2),
        ("grantd provider show githb", 2),
        ("grantd provider show github --variant ap", 2),
        ("grantd token github", 7),
        ("grantd status", 7),
        ("grantd connect github", 7),
        ("grantd disconnect github --yes", 7),
        ("grantd restore", 7),
        ("grantd audit tail", 7),
        ("grantd audit search --since soon", 2),
        ("grantd restore --yes", 2),
        ("grantd explain --provider github", 2),
        ("grantd explain --caller uid:1000 --provider github", 7),
        ("grantd serve", 78),
        ("grantd serve --config HOME/bad.yaml", 78),
        ("grantd provider check HOME/definition.yaml", 78),
        ("grantd provider check HOME/none.yaml", 78),
    ] {
        let at_home = line.replace("HOME", &home.path().display().to_string());
        let words: Vec<&str> = at_home.split_whitespace().skip(1).collect();
        let Output { code: found, out, err } = run(&home, &words);
        assert_eq!(found, code, "{line}\n{out}{err}");
        assert!(out.is_empty() != err.is_empty(), "results go to stdout, the rest to stderr: {line}\n{out}---\n{err}");
        let told = format!("{out}{err}").replace(&home.path().display().to_string(), "HOME");
        text.push_str(&format!("$ {line}\n{told}[{code}]\n\n"));
    }
    compare("mistakes.txt", &text);
}

#[test]
fn what_to_register_names_the_exact_redirect_uri() {
    let home = Home::new();
    for provider in ["atlassian", "github", "gitlab", "google", "microsoft", "slack", "notion"] {
        let Output { code, out, err } = run(&home, &["provider", "show", provider]);
        assert_eq!((code, err.as_str()), (0, ""), "{provider}");
        let line = format!("redirect URI  http://localhost:8717/callback/{provider}\n");
        assert!(out.contains(&line), "{out}");
        assert!(out.contains(&format!("  {provider}:\n      client_id: CLIENT_ID\n")), "{out}");
        assert!(out.contains("register at   https://"), "{out}");
    }
}

#[test]
fn the_definitions_that_are_shipped_are_good() {
    let home = Home::new();
    let files: Vec<PathBuf> =
        fs::read_dir(root().join("providers")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 7);
    let test = root().join("tests/oidc-provider/provider.yaml");
    let mut words = vec!["provider", "check"];
    words.extend(files.iter().chain([&test]).map(|path| path.to_str().unwrap()));
    let Output { code, out, err } = run(&home, &words);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert_eq!(out.matches(": good: ").count(), 8, "{out}");
}

#[test]
fn a_configuration_that_others_can_write_is_refused() {
    let home = Home::new();
    fs::set_permissions(home.config(), fs::Permissions::from_mode(0o666)).unwrap();
    let Output { code, err, .. } = run(&home, &["serve", "--config", home.config().to_str().unwrap()]);
    assert_eq!(code, 78, "{err}");
    assert!(err.contains("grantd.yaml"), "{err}");
}

/// Runs the command where no daemon is, at a width that does not depend on the terminal.
fn run(home: &Home, words: &[&str]) -> Output {
    let mut command: Command = Daemon::command(home);
    command
        .env_remove("GRANTD_SOCKET")
        .env("XDG_RUNTIME_DIR", home.file("run"))
        .env("XDG_CONFIG_HOME", home.file("config"))
        .env("COLUMNS", "100");
    Output::of(command.args(words))
}

/// Compares byte for byte with a file of `tests/it/transcripts`.
fn compare(name: &str, text: &str) {
    let path = root().join("tests/it/transcripts").join(name);
    if std::env::var_os(REGENERATE).is_some() {
        return fs::write(path, text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    let mut lines = expected.lines().zip(text.lines()).enumerate();
    let first = lines.find(|(_, (expected, found))| expected != found).map(|(at, pair)| (at + 1, pair));
    assert!(
        expected == text,
        "{name} is not what the commands say; the first line that differs (expected, found): {first:?}\n\
         If the change is meant: {REGENERATE}=1 cargo test --test it cli::, and look at the difference."
    );
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
