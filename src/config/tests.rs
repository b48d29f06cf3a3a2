//! What the operator's file may say, and how each mistake is told.

use std::path::Path;

use super::*;
use crate::catalog::Catalog;
use crate::model::client_key::tests as client_key;
use crate::model::scope::ScopeSet;

const FULL: &str = r#"
socket: {path: /run/grantd/grantd.sock, mode: "0660", group: grantd-clients}
web: {url: "http://localhost:8717"}
store: {path: /var/lib/grantd/grantd.db}
root_key: {credential: grantd.root}
log: {level: debug, format: json}
limits: {connections_per_uid: 8, cache_entries: 100, open_sessions: 2}
jobs: {renew: "*/5 * * * * *", housekeep: "0 */5 * * * *"}
providers_dir: /etc/grantd/providers.d
providers:
  github:
    client_id: Iv23li
    client_secret: {credential: github}
    scopes: read-only
"#;

fn refusal(text: &str) -> String {
    Config::parse("g.yaml", text).unwrap_err().to_string()
}

/// A directory with the credentials `github` and `slack`.
fn credentials() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    for name in ["github", "slack"] {
        let path = dir.path().join(name);
        std::fs::write(&path, "s3cret\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    dir
}

fn registry(text: &str, dir: &Path) -> Result<(crate::broker::registry::Registry, Vec<String>), String> {
    Config::parse("g.yaml", text)
        .and_then(|config| config.registry(&Catalog::built_in(), Some(dir)))
        .map_err(|error| error.to_string())
}

#[test]
fn everything_that_can_be_said_is_understood() {
    let config = Config::parse("g.yaml", FULL).unwrap();
    assert_eq!(config.socket.path.unwrap().as_path(), Path::new("/run/grantd/grantd.sock"));
    assert_eq!(config.socket.mode.unwrap().bits(), 0o660);
    assert_eq!(config.socket.group.unwrap().as_str(), "grantd-clients");
    assert_eq!(config.store.path.unwrap().as_path(), Path::new("/var/lib/grantd/grantd.db"));
    assert_eq!(config.root_key.unwrap().to_string(), "the credential grantd.root");
    assert_eq!((config.log.level, config.log.format), (LogLevel::Debug, LogFormat::Json));
    assert_eq!(config.limits.cache_entries.get(), 100);
    assert_eq!(config.limits.connections_per_uid.get(), 8);
    assert_eq!(config.jobs.housekeep, "0 */5 * * * *");
    assert_eq!(config.providers.len(), 1);
}

#[test]
fn five_lines_are_enough() {
    let config = Config::parse("g.yaml", "providers:\n  github:\n    client_id: a\n").unwrap();
    assert_eq!(config.web.url.as_url().as_str(), "http://localhost:8717/");
    assert_eq!(config.limits.connections_per_uid.get(), 256);
    assert_eq!(config.jobs.renew, "*/1 * * * * *");
    assert_eq!(config.log.level, LogLevel::Info);
    assert!(config.socket.mode.is_none() && config.root_key.is_none());
}

#[test]
fn every_mistake_is_told_with_its_place() {
    for (from, to, expected) in [
        ("socket:", "sockets:", "g.yaml:2:1: unknown key `sockets`; expected one of `socket`, `web`"),
        ("providers:\n", "provider:\n", "g.yaml:10:1: unknown key `provider`; "),
        (
            "\"0660\"",
            "660",
            "g.yaml:2:47: expected text; put it in quotes, because YAML reads it as a number (at socket.mode)",
        ),
        (
            "\"0660\"",
            "\"4755\"",
            "g.yaml:2:47: expected octal digits in quotes from \"0000\" to \"0777\", such as \"0660\" (at socket.mode)",
        ),
        (
            "/run/grantd/grantd.sock",
            "grantd.sock",
            "g.yaml:2:16: expected a path that begins with `/` (at socket.path)",
        ),
        ("grantd-clients", "\"a b\"", "g.yaml:2:62: expected the name of a group (at socket.group)"),
        (
            "level: debug",
            "level: loud",
            "g.yaml:6:14: expected one of `error`, `warn`, `info`, `debug`, `trace` (at log.level)",
        ),
        (
            "connections_per_uid: 8",
            "connections_per_uid: 0",
            "g.yaml:7:31: expected a whole number above zero, found a number (at limits.connections_per_uid)",
        ),
        ("scopes: read-only", "scopes: readonly", "g.yaml:14:13: expected `default`, `read-only` or `full`, or a list"),
        ("scopes: read-only", "scopes: [a b]", "g.yaml:14:13: a scope is 1 to 256 visible ASCII characters"),
        ("    client_id: Iv23li\n", "", "g.yaml:11:3: expected the key `client_id` (at providers.github)"),
        ("client_id: Iv23li", "client_id: 123.456", "g.yaml:12:16: expected text; put it in quotes"),
        ("  github:", "  GitHub:", "g.yaml:11:3: `G` is not allowed here; expected lower-case letters, digits and `-`"),
        ("{credential: grantd.root}", "hunter2", "g.yaml:5:11: expected one of `{credential: NAME}`, `{file: PATH}`"),
    ] {
        let text = FULL.replacen(from, to, 1);
        assert_ne!(text, FULL, "{from}");
        let error = refusal(&text);
        assert!(error.starts_with(expected), "\nfound    {error}\nexpected {expected}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn a_literal_secret_is_refused_and_not_repeated() {
    for literal in
        ["hunter2", "\"hunter2\"", "{value: hunter2}", "[hunter2]", "{credential: {x: hunter2}}", "{file: hunter2}"]
    {
        let error = refusal(&FULL.replace("{credential: github}", literal));
        assert!(error.starts_with("g.yaml:13:20: expected "), "{literal}: {error}");
        assert!(!error.contains("hunter2"), "{literal}: {error}");
    }
}

#[test]
fn the_pages_are_for_this_machine() {
    for good in ["http://localhost:8717", "http://127.0.0.1:1", "http://[::1]:65535/", "https://localhost:8717"] {
        assert!(good.parse::<values::WebUrl>().is_ok(), "{good}");
    }
    for bad in [
        "ftp://localhost:8717",
        "https://localhost",
        "https://localhost:443",
        "http://localhost",
        "http://localhost:80",
        "http://localhost:0",
        "http://127.0.0.2:8717",
        "http://0.0.0.0:8717",
        "http://auth.example:8717",
        "http://localhost.example:8717",
        "http://a@localhost:8717",
        "http://localhost:8717/x",
        "http://localhost:8717/?x",
        "http://localhost:8717/#x",
        "http://local\nhost:8717",
        "localhost:8717",
        "javascript:alert(1)",
    ] {
        assert!(bad.parse::<values::WebUrl>().is_err(), "{bad}");
    }
    let error = refusal("web: {url: \"https://auth.example\"}\nproviders: {}\n");
    assert!(error.contains("other addresses are not served yet (at web.url)"), "{error}");
}

#[test]
fn presets_and_lists_become_full_scopes_for_each_slot() {
    let dir = credentials();
    let text = "providers:
  github: {client_id: a, client_secret: {credential: github}, scopes: [repo, gist]}
  mail: {definition: google, variant: desktop, client_id: a, client_secret: {credential: github}, scopes: [drive.file]}
  microsoft: {client_id: a, variant: public}
  slack: {client_id: a, client_secret: {credential: slack}, scopes: {user: [\"chat:write\"]}}
  notion: {client_id: a, client_secret: {credential: github}}
";
    let (registry, warnings) = registry(text, dir.path()).unwrap();
    let scopes = |id: &str, slot: &str| {
        let configured = &registry.providers[&id.parse().unwrap()];
        configured.scopes.get(&slot.parse().unwrap()).cloned().unwrap_or_default()
    };
    let set = |text: &str| ScopeSet::read(text, ' ');
    assert_eq!(scopes("github", "main"), set("repo gist"));
    assert_eq!(
        scopes("mail", "main"),
        set(
            "openid https://www.googleapis.com/auth/drive.file https://www.googleapis.com/auth/userinfo.email https://www.googleapis.com/auth/userinfo.profile"
        )
    );
    assert_eq!(scopes("microsoft", "main"), set("openid profile https://graph.microsoft.com/User.Read"));
    assert_eq!((scopes("slack", "user"), scopes("slack", "bot")), (set("chat:write"), set("")));
    assert!(registry.providers[&"notion".parse().unwrap()].scopes.is_empty());
    assert!(registry.providers[&"microsoft".parse().unwrap()].client.secret.is_none());
    assert!(registry.providers[&"slack".parse().unwrap()].client.secret.is_some());
    let [warning] = warnings.as_slice() else { panic!("one warning for the one that cannot work: {warnings:?}") };
    assert!(warning.starts_with("g.yaml:5:10: nobody can connect: Slack needs https even for localhost"), "{warning}");
    assert!(warning.contains("register https://localhost:8717/callback/slack there"), "{warning}");
    assert!(warning.ends_with("(at providers.slack)"), "{warning}");
}

#[test]
fn settings_that_do_not_fit_are_told_with_their_place() {
    let dir = credentials();
    for (settings, expected) in [
        (
            "github: {client_id: a}",
            "g.yaml:2:11: expected the key `client_secret`: this kind of client has one (at providers.github)",
        ),
        (
            "microsoft: {client_id: a, variant: public, client_secret: {credential: github}}",
            "g.yaml:2:61: expected no secret: this kind of client has none (at providers.microsoft.client_secret)",
        ),
        (
            "githib: {client_id: a}",
            "g.yaml:2:11: no definition `githib`; expected one of `atlassian`, `github`, `gitlab`, `google`, `microsoft`, `notion`, `slack`; did you mean `github`?; or say which with the key `definition` (at providers.githib)",
        ),
        (
            "work: {client_id: a, definition: gitea}",
            "g.yaml:2:36: no definition `gitea`; expected one of `atlassian`, `github`, `gitlab`, `google`, `microsoft`, `notion`, `slack`",
        ),
        (
            "github: {client_id: a, variant: ap}",
            "g.yaml:2:35: no variant `ap`; expected one of `app`, `device`, `ghes`, `ghes-app`, `oauth-app`; did you mean `app`? (at providers.github.variant)",
        ),
        (
            "github: {client_id: a, vars: {host: a/b}}",
            "g.yaml:2:39: expected a host name such as `github.example.com`, and nothing around it (at providers.github.vars.host)",
        ),
        (
            "github: {client_id: a, vars: {hots: a}}",
            "g.yaml:2:39: no variable `hots`; expected `host`; did you mean `host`? (at providers.github.vars.hots)",
        ),
        (
            "github: {client_id: \"\", client_secret: {credential: github}}",
            "g.yaml:2:23: expected 1 to 512 visible ASCII characters",
        ),
        (
            "notion: {client_id: a, client_secret: {credential: github}, scopes: read-only}",
            "g.yaml:2:71: expected nothing: Notion fixes them in its own settings of the client (at providers.notion.scopes)",
        ),
        (
            "slack: {client_id: a, client_secret: {credential: slack}, scopes: [\"chat:write\"]}",
            "g.yaml:2:69: expected a list for each slot, of `bot`, `user` (at providers.slack.scopes)",
        ),
        (
            "slack: {client_id: a, client_secret: {credential: slack}, scopes: {man: []}}",
            "g.yaml:2:75: no such slot; expected one of `bot`, `user` (at providers.slack.scopes.man)",
        ),
        (
            "github: {client_id: a, client_secret: {credential: other}}",
            "g.yaml:2:41: the credential other cannot be read: No such file or directory (os error 2) (at providers.github.client_secret)",
        ),
    ] {
        let text = format!("providers:\n  {settings}\n");
        let error = registry(&text, dir.path()).unwrap_err();
        assert!(error.starts_with(expected), "\nfound    {error}\nexpected {expected}");
    }
}

/// The registry with a client that signs, its key and certificate in files.
fn with_files(settings: &str, key: &str, certificate: Option<(&str, u32)>) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = credentials();
    let put = |name: &str, text: &str, mode: u32| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    put("key.pem", key, 0o600);
    let mut text = format!("providers:\n  microsoft:\n    client_id: a\n{settings}");
    if let Some((certificate, mode)) = certificate {
        put("crt.pem", certificate, mode);
        text += "    client_certificate: {file: DIR/crt.pem}\n";
    }
    let dir_name = dir.path().display().to_string();
    let registry = registry(&text.replace("DIR", &dir_name), dir.path());
    registry.map(drop).map_err(|error| error.replace(&dir_name, "DIR"))
}

#[test]
fn a_client_that_signs_has_a_key_and_no_secret() {
    let ((rsa, public), (p256, _)) = (client_key::rsa_pem(), client_key::p256_pem());
    let (own, other) = (client_key::certificate(&public), client_key::certificate(&client_key::rsa_pem().1));
    let signing = "    variant: certificate\n    client_key: {file: DIR/key.pem}\n";
    for (settings, key, certificate, expected) in [
        (signing, &rsa, None, ""),
        (signing, &rsa, Some((&*own, 0o644)), ""),
        (
            signing,
            &rsa,
            Some((&*own, 0o664)),
            "g.yaml:6:25: the file DIR/crt.pem has the mode 0664; expected no writing by the group and by others, such as 0644 (at providers.microsoft.client_certificate)",
        ),
        (
            signing,
            &rsa,
            Some((&*other, 0o600)),
            "g.yaml:6:25: the file DIR/crt.pem is not the certificate of the client's key",
        ),
        (signing, &rsa, Some((&*rsa, 0o600)), "g.yaml:6:25: the file DIR/crt.pem holds no certificate; expected PEM"),
        (
            signing,
            &own,
            None,
            "g.yaml:5:17: the file DIR/key.pem holds no private key; expected PEM with `-----BEGIN PRIVATE KEY-----`",
        ),
        (signing, &p256, None, "g.yaml:5:17: expected a key that can sign with PS256: Microsoft wants that"),
        (
            "    variant: certificate\n",
            &rsa,
            None,
            "g.yaml:2:3: expected the key `client_key`: this kind of client signs with one",
        ),
        (
            "    variant: certificate\n    client_secret: {credential: github}\n",
            &rsa,
            None,
            "g.yaml:5:20: expected no secret: this kind of client signs with its key",
        ),
        (
            "    client_key: {file: DIR/key.pem}\n    client_secret: {credential: github}\n",
            &rsa,
            None,
            "g.yaml:4:17: expected none: this kind of client does not sign; see the variants in `grantd provider show`",
        ),
    ] {
        let error = with_files(settings, key, certificate).err().unwrap_or_default();
        assert!(error.starts_with(expected), "\nfound    {error}\nexpected {expected}");
        assert_eq!(error.is_empty(), expected.is_empty(), "{error}");
    }
}

#[test]
fn the_committed_schema_is_the_one_of_the_types() {
    let committed = include_str!("../../schemas/grantd.schema.json");
    assert!(committed == schema_json(), "run `grantd provider schema --config > schemas/grantd.schema.json`");
}
