//! A configuration that is wrong: exit 78, the place and what was expected, and nothing has been made.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::bad_input::{names_place, run, tree};
use crate::support::{Daemon, Home, World};

/// Starts a daemon that must not start. What it says.
async fn refused(home: &Home, what: &str) -> String {
    let before = tree(home.path());
    let path = home.config();
    let output = run(home, &["serve", "--config", path.to_str().unwrap()]).await;
    assert_eq!(output.code, 78, "{what}: {output:?}");
    assert_eq!(output.out, "", "{what}");
    assert_eq!(tree(home.path()), before, "{what}: no store, no socket, no key");
    assert!(!output.err.contains("panicked"), "{what}: {}", output.err);
    output.err
}

fn put(home: &Home, below: &str, bytes: &[u8], mode: u32) {
    drop(fs::remove_file(home.file(below)));
    fs::write(home.file(below), bytes).unwrap();
    fs::set_permissions(home.file(below), fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn every_mistake_in_the_file_is_told_with_its_line_and_column() {
    let home = Home::new();
    put(&home, "config/good", b"s3cret\n", 0o600);
    put(&home, "config/open", b"s3cret\n", 0o644);
    put(&home, "config/empty", b"", 0o600);
    put(&home, "config/long", &[b'x'; 5000], 0o600);
    let deep = format!("providers: {}{}\n", "[".repeat(200), "]".repeat(200));
    for (what, lines, expected) in [
        ("a slip in a key", "sokcet: {}\nproviders: {}\n", "unknown key `sokcet`; expected one of `socket`"),
        ("its hint", "sokcet: {}\nproviders: {}\n", "did you mean `socket`?"),
        ("a slip further in", "providers:\n  github: {client_di: a}\n", "did you mean `client_id`?"),
        ("a list", "providers: []\n", "expected a mapping, found a list"),
        ("a number", "web: 7\nproviders: {}\n", "expected a mapping, found a number"),
        ("a number as text", "providers:\n  github: {client_id: 7}\n", "put it in quotes"),
        ("a key twice", "providers: {}\nproviders: {}\n", "twice"),
        ("no providers", "web: {}\n", "expected the key `providers`"),
        ("not a mapping", "just text\n", "expected a mapping"),
        ("broken YAML", "providers: {\n", "is not valid YAML"),
        ("a tab", "providers:\n\tgithub: {}\n", "never with tabs"),
        ("two documents", "providers: {}\n---\nproviders: {}\n", "one document"),
        ("a tag", "providers: !!python/object:os.system {}\n", "expected no tag"),
        ("an alias", "a: &a [x, x]\nb: &b [*a, *a]\nproviders: {}\n", "expected no anchor"),
        ("deep nesting", &deep, "at most 32 levels"),
        (
            "a literal secret",
            "providers:\n  github: {client_id: a, client_secret: hunter2}\n",
            "never stands in this file",
        ),
        (
            "a missing secret",
            "providers:\n  github: {client_id: a, client_secret: {file: HOME/none}}\n",
            "cannot be read",
        ),
        (
            "an open secret",
            "providers:\n  github: {client_id: a, client_secret: {file: HOME/open}}\n",
            "has the mode 0644",
        ),
        ("an empty secret", "providers:\n  github: {client_id: a, client_secret: {file: HOME/empty}}\n", "is empty"),
        ("a long secret", "providers:\n  github: {client_id: a, client_secret: {file: HOME/long}}\n", "is longer than"),
        ("a directory", "providers:\n  github: {client_id: a, client_secret: {file: HOME}}\n", "is not a plain file"),
        ("an unset variable", "providers:\n  github: {client_id: a, client_secret: {env: NOT_SET}}\n", "is not set"),
        ("no credentials", "providers:\n  github: {client_id: a, client_secret: {credential: x}}\n", "LoadCredential="),
        (
            "a failing command",
            "providers:\n  github: {client_id: a, client_secret: {command: [/bin/false]}}\n",
            "failed with",
        ),
        ("no secret", "providers:\n  github: {client_id: a}\n", "expected the key `client_secret`"),
        ("no definition", "providers:\n  githib: {client_id: a}\n", "did you mean `github`?"),
        ("no variant", "providers:\n  github: {client_id: a, variant: ap}\n", "did you mean `app`?"),
        ("no variable", "providers:\n  github: {client_id: a, vars: {hots: a}}\n", "did you mean `host`?"),
        ("no preset", "providers:\n  github: {client_id: a, scopes: readonly}\n", "`read-only`"),
        ("a hosted page", "web: {url: \"https://auth.example\"}\nproviders: {}\n", "`localhost`"),
        ("a relative path", "store: {path: grantd.db}\nproviders: {}\n", "a path that begins with `/`"),
        ("an open socket", "socket: {mode: \"7777\"}\nproviders: {}\n", "octal digits"),
        ("no level", "log: {level: loud}\nproviders: {}\n", "`trace`"),
        ("no schedule", "jobs: {renew: now and then}\nproviders: {}\n", "a cron expression"),
        ("a time that never is", "jobs: {housekeep: \"99 * * * * *\"}\nproviders: {}\n", "a cron expression"),
        ("a limit of zero", "limits: {cache_entries: 0}\nproviders: {}\n", "above zero"),
    ] {
        let lines = lines.replace("HOME", home.file("config").to_str().unwrap());
        home.write("config/grantd.yaml", &lines);
        let said = refused(&home, what).await;
        assert!(names_place(&said, &home.config()), "{what}: {said}");
        assert!(said.contains(expected), "{what}: expected {expected}\n{said}");
        for secret in ["hunter2", "s3cret", "xxxxxxxx"] {
            assert!(!said.contains(secret), "{what}: {said}");
        }
    }
}

#[tokio::test]
async fn a_file_that_is_no_configuration_is_told_apart() {
    let home = Home::new();
    for (what, bytes, mode, expected) in [
        ("bytes that are no text", &b"providers: {}\n# \xff\xfe\n"[..], 0o600, "UTF-8"),
        ("nothing", &b""[..], 0o600, "is empty"),
        ("only a comment", &b"# nothing\n"[..], 0o600, "expected a mapping"),
        ("zeros", &[0; 64], 0o600, "grantd.yaml"),
        ("more than anybody writes", &[b'#'; 300 * 1024], 0o600, "larger than"),
        ("a file that others can write", &b"providers: {}\n"[..], 0o666, "mode 0666"),
    ] {
        put(&home, "config/grantd.yaml", bytes, mode);
        let said = refused(&home, what).await;
        assert!(said.contains(expected), "{what}: {said}");
        assert!(said.contains(home.config().to_str().unwrap()), "{what}: {said}");
    }
    fs::remove_file(home.config()).unwrap();
    let said = refused(&home, "no file").await;
    assert!(said.contains("there is no configuration at") && said.contains("--config FILE"), "{said}");
    fs::create_dir(home.config()).unwrap();
    let said = refused(&home, "a directory").await;
    assert!(said.contains(home.config().to_str().unwrap()), "{said}");
}

#[tokio::test]
async fn what_lies_outside_the_file_is_checked_before_anything_is_made() {
    let home = Home::new();
    let places = home.places();
    put(&home, "config/short", b"too short\n", 0o600);
    for (what, lines, expected) in [
        ("no such group", "socket: {group: no-such-group}\n".to_owned(), "no-such-group"),
        ("no root key", format!("{places}root_key: {{file: /no/such/key}}\n"), "root_key"),
        (
            "a root key that is none",
            format!("{places}root_key: {{file: {}}}\n", home.file("config/short").display()),
            "root",
        ),
    ] {
        home.write("config/grantd.yaml", &format!("{lines}providers: {{}}\n"));
        let said = refused(&home, what).await;
        assert!(said.contains(expected), "{what}: {said}");
        assert!(!said.contains("too short"), "{what}: {said}");
    }
    home.configure("  {}\n");
    home.write("config/providers.d/mine.yaml", "id: mine\nnaem: Mine\n");
    let said = refused(&home, "a definition that is wrong").await;
    assert!(names_place(&said, &home.file("config/providers.d/mine.yaml")), "{said}");
    assert!(said.contains("unknown key `naem`"), "{said}");
}

#[tokio::test]
async fn a_mistake_on_reload_leaves_the_running_configuration_in_force() {
    let world = World::new().await;
    world.connect("u-1001").await;
    let home = &world.daemon.home;
    let good = fs::read_to_string(home.config()).unwrap();
    home.write("config/grantd.yaml", "providers:\n  sandbox: {client_id: a, client_secret: hunter2}\n");
    world.daemon.signal("HUP");
    let told = || async { world.daemon.log().contains("never stands in this file") };
    crate::support::eventually("the log says what is wrong with the file", told).await;
    assert!(!world.daemon.log().contains("hunter2"));
    assert_eq!(world.daemon.token(serde_json::json!({})).await.status, 200);

    home.write("config/grantd.yaml", &format!("{good}  other: {{definition: sandbox, {}}}\n", home.client()));
    world.daemon.signal("HUP");
    let known = || async { world.daemon.get("/v1/providers").await.json["providers"].as_array().unwrap().len() == 2 };
    crate::support::eventually("a good file is taken", known).await;
}

#[tokio::test]
async fn a_daemon_that_was_refused_starts_once_the_file_is_right() {
    let home = Home::new();
    home.write("config/grantd.yaml", "providrs: {}\n");
    refused(&home, "a slip").await;
    home.configure("  {}\n");
    let daemon = Daemon::start(home).await;
    assert_eq!(daemon.get("/v1/providers").await.json["providers"], serde_json::json!([]));
}
