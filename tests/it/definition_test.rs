//! `grantd provider test` runs a definition through the sandbox offline, and says which step fails and where to look.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::daemon::Output;
use crate::support::{Daemon, Home};

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("providers").join(name)
}

async fn run(home: &Home, args: &[&str]) -> Output {
    let (mut command, args) = (Daemon::command(home), args.iter().map(ToString::to_string).collect::<Vec<_>>());
    tokio::task::spawn_blocking(move || Output::of(command.args(["provider", "test"]).args(args))).await.unwrap()
}

/// Runs a shipped definition after changes to it; every change has to find its place.
async fn changed(name: &str, changes: &[(&str, &str)], args: &[&str]) -> Output {
    let home = Home::new();
    let mut text = fs::read_to_string(shipped(name)).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "{name} has no `{from}`");
        text = text.replacen(from, to, 1);
    }
    home.write("mine.yaml", &text);
    let file = home.file("mine.yaml").display().to_string();
    let all: Vec<&str> = [file.as_str()].into_iter().chain(args.iter().copied()).collect();
    run(&home, &all).await
}

fn steps(report: &Value) -> Vec<(&str, &str)> {
    let variants = report["variants"].as_array().unwrap().iter();
    let steps = variants.flat_map(|variant| variant["steps"].as_array().unwrap());
    steps.map(|step| (step["step"].as_str().unwrap(), step["result"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn every_shipped_definition_passes_in_every_variant() {
    let home = Home::new();
    let mut tried = 0;
    for entry in fs::read_dir(shipped("")).unwrap() {
        let path = entry.unwrap().path();
        let Output { code, out, err } = run(&home, &[path.to_str().unwrap(), "--json"]).await;
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        let report: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(report["ok"], true);
        for variant in report["variants"].as_array().unwrap() {
            let names: Vec<_> = variant["steps"].as_array().unwrap().iter().map(|step| &step["step"]).collect();
            let whole = ["authorize", "exchange", "identity", "connect", "refresh", "rotation", "errors", "revoke"];
            let missing = whole.iter().find(|step| !names.iter().any(|name| name == *step));
            assert_eq!(missing, None, "{path:?} {}", variant["variant"]);
            let skipped = variant["steps"].as_array().unwrap().iter().filter(|step| step["result"] == "skipped");
            for step in skipped {
                let why = step["came"].as_str().unwrap();
                assert!(step["step"] == "revoke" && why.contains("by hand: https://"), "{path:?}: {step}");
                let text = fs::read_to_string(&path).unwrap();
                let has_way = text.contains("\nrevoke:") || text.contains("\nrevoke_wider:");
                // GitHub takes nothing back from a client without its secret.
                assert!(!has_way || variant["variant"] == "device", "{path:?}: {step}");
            }
        }
        assert!(!out.contains("_MARK_"), "no secret is shown: {out}");
        tried += 1;
    }
    assert_eq!(tried, 7);
}

/// What each step says, by the variant.
async fn came(file: &str, variant: &str, step: &str) -> Vec<String> {
    let home = Home::new();
    let path = shipped(file).display().to_string();
    let Output { code, out, err } = run(&home, &[&path, "--variant", variant, "--json"]).await;
    assert_eq!(code, 0, "{out}{err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    let steps = report["variants"][0]["steps"].as_array().unwrap().iter().filter(|found| found["step"] == step);
    steps.map(|step| format!("{} -> {}", step["asked"].as_str().unwrap(), step["came"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn a_device_flow_is_played_to_each_of_its_ends_and_nobody_waits_for_it() {
    let started = std::time::Instant::now();
    for (file, variant, code_at, token_at) in [
        ("google.yaml", "limited-input", "oauth2.googleapis.com/device/code", "oauth2.googleapis.com/token"),
        ("github.yaml", "device", "github.com/login/device/code", "github.com/login/oauth/access_token"),
        ("gitlab.yaml", "confidential", "gitlab.com/oauth/authorize_device", "gitlab.com/oauth/token"),
    ] {
        let poll = |when: &str, came: &str| format!("POST https://{token_at} (device_code), {when} -> {came}");
        let expected = [
            format!("POST https://{code_at} -> a code, and the page to enter it at"),
            poll("nobody has decided", "pending: it is asked again"),
            poll("too fast", "slow_down: it is asked less often"),
            poll("the person says yes", "a token"),
            poll("the person says no", "denied"),
            poll("the code is too old", "expired: the person starts again"),
        ];
        assert_eq!(came(file, variant, "device").await, expected, "{file}");
    }
    // The pauses of these flows alone are more than a minute by the provider's clock.
    assert!(started.elapsed() < std::time::Duration::from_secs(60), "{:?}", started.elapsed());
}

#[tokio::test]
async fn both_ways_of_taking_back_are_tried() {
    for (file, variant, expected) in [
        ("google.yaml", "web", &["POST https://oauth2.googleapis.com/revoke (wider)"][..]),
        ("gitlab.yaml", "public", &["POST https://gitlab.com/oauth/revoke"]),
        (
            "github.yaml",
            "app",
            &[
                "DELETE https://api.github.com/applications/grantd-sandbox/token",
                "DELETE https://api.github.com/applications/grantd-sandbox/grant (wider)",
            ],
        ),
    ] {
        let expected: Vec<String> = expected.iter().map(|asked| format!("{asked} -> the provider confirms")).collect();
        assert_eq!(came(file, variant, "revoke").await, expected, "{file}");
    }
}

#[tokio::test]
async fn a_client_that_signs_is_believed_and_each_wrong_assertion_refused() {
    let steps = came("microsoft.yaml", "certificate", "client").await;
    let expected = [
        "with PS256 -> alg, signature, x5t#S256, iss, sub, aud, exp and jti are right",
        "by another key -> refused (signature): misconfigured",
        "by another client -> refused (iss): misconfigured",
        "for another server -> refused (aud): misconfigured",
        "an hour ago -> refused (exp): misconfigured",
        "and sent twice -> refused (jti): misconfigured",
    ];
    assert_eq!(steps, expected.map(|end| format!("client_assertion, signed {end}")));
}

/// What is told of a device flow has to be what RFC 8628 has, or what a definition can say instead.
#[tokio::test]
async fn a_fault_in_a_device_flow_or_an_assertion_names_its_member() {
    const SIGNS: &str = "client: {auth: private_key_jwt, assertion: {audience: token_endpoint, algorithms: [PS256]}}";
    let rule = |rule: &str| format!("errors:\n  - {rule}\n");
    let (pending, slow) =
        (rule("{code: [authorization_pending], class: transient}"), rule("{code: [slow_down], class: pending}"));
    let (late, no) =
        (rule("{code: [expired_token], class: transient}"), rule("{code: [access_denied], class: transient}"));
    let reauth = rule("{code: [invalid_client], class: reauth}");
    for (name, variant, from, to, step, said) in [
        (
            "google.yaml",
            "limited-input",
            "[/verification_url]",
            "[/verification_link]",
            "authorize",
            "device.verification_uri",
        ),
        ("google.yaml", "limited-input", "/device/code\"}", "/token\"}", "authorize", "endpoints.device"),
        (
            "google.yaml",
            "limited-input",
            "endpoints: {device: \"https://oauth2.googleapis.com/device/code\"}\n",
            "pkce: true\n",
            "it has no device flow",
            "endpoints.device",
        ),
        ("github.yaml", "oauth-app", "/login/device/code", "/login/oauth/access_token", "device", "endpoints.device"),
        (
            "github.yaml",
            "oauth-app",
            "poll_auth: none}",
            "poll_auth: none, verification_uri: [/user_code]}",
            "device",
            "device.verification_uri",
        ),
        (
            "github.yaml",
            "oauth-app",
            "poll_auth: none}",
            "poll_auth: none, verification_uri: [/verification_uri_complete]}",
            "device",
            "device.verification_uri",
        ),
        (
            "github.yaml",
            "oauth-app",
            "poll_auth: none}",
            "poll_auth: none, verification_uri: [/verification_uri, /verification_url]}",
            "",
            "",
        ),
        ("gitlab.yaml", "public", "errors:\n", &pending, "not pending: it is taken for transient", "errors"),
        ("gitlab.yaml", "public", "errors:\n", &slow, "not slow_down: it is taken for pending", "errors"),
        ("gitlab.yaml", "public", "errors:\n", &late, "not expired: it is taken for transient", "errors"),
        ("gitlab.yaml", "public", "errors:\n", &no, "the person says no", "errors"),
        (
            "microsoft.yaml",
            "certificate",
            "errors:\n",
            &reauth,
            "not misconfigured: invalid_client is reauth",
            "errors",
        ),
        (
            "microsoft.yaml",
            "certificate",
            "issuer: {callback_iss: ignore}",
            "issuer: {callback_iss: ignore, accept: [login.example]}\n",
            "",
            "",
        ),
        (
            "microsoft.yaml",
            "certificate",
            SIGNS,
            "client: {auth: private_key_jwt, assertion: {audience: issuer}}\n      issuer: {accept: [login.example]}",
            "the provider refuses the client's assertion (aud)",
            "client.assertion.audience",
        ),
        (
            "microsoft.yaml",
            "certificate",
            SIGNS,
            "client: {auth: private_key_jwt}\n      endpoints: {device: \"https://{login_host}/devicecode\"}",
            "",
            "",
        ),
    ] {
        let Output { code, out, err } = changed(name, &[(from, to)], &["--variant", variant]).await;
        if said.is_empty() {
            assert_eq!(code, 0, "{name} {to}: {out}{err}");
            continue;
        }
        let look = format!("look at `{said}`");
        let line = out.lines().find(|line| line.contains("FAILED") && line.contains(step) && line.ends_with(&look));
        assert!(line.is_some() && code == 1, "{name} {to}: {step} … {look}\n{out}{err}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_found_in_the_step_that_it_spoils() {
    for (name, changes, args, step, said) in [
        (
            "gitlab.yaml",
            &[("errors:\n", "errors:\n  - {code: [invalid_grant], class: transient}\n")][..],
            &["--variant", "public"][..],
            "errors[1]: invalid_grant",
            "not reauth: invalid_grant with status 400 is transient, because errors[0] comes first; look at `errors`",
        ),
        (
            "slack.yaml",
            &[("token_types: [bot, user, bearer]", "token_types: [bearer]")],
            &["--variant", "v2"],
            "exchange",
            "grantd found no token in the answer that the definition describes; look at `slots`",
        ),
        (
            "google.yaml",
            &[("always: [openid, email, profile]", "always: [email]")],
            &["--variant", "web"],
            "identity",
            "is `openid` among the scopes that are always asked for?; look at `identity`",
        ),
        (
            "notion.yaml",
            &[("body: {token: \"{token}\"}", "body: {token: \"x{token}\", more: y}")],
            &[],
            "revoke",
            "the provider confirms",
        ),
        (
            "microsoft.yaml",
            &[("error_sub: [/suberror]", "error_sub: []")],
            &["--variant", "web"],
            "errors[1]: bad_token",
            "not reauth: no code with status 400 is no error that is understood; look at `errors`",
        ),
    ] {
        let Output { code, out, err } = changed(name, changes, args).await;
        let line = out.lines().find(|line| line.contains(step) && line.contains(said));
        let line = line.unwrap_or_else(|| panic!("{name}: {step} … {said}\n{out}{err}"));
        let fails = said.contains("look at");
        assert_eq!(code, i32::from(fails), "{out}{err}");
        assert_eq!(line.trim_start().starts_with("FAILED"), fails, "{line}");
        assert_eq!(out.contains(", 0 failed,"), !fails, "{out}");
    }
}

#[tokio::test]
async fn two_slots_at_one_place_are_found_out() {
    let slots = "slots:\n  - {name: one, places: [{}]}\n  - {name: two, places: [{}]}\n\nidentity:\n";
    let asks = "authorize:\n  scope_params: [{param: scope, slot: one}, {param: more, slot: two}]\n";
    let changes = [
        ("identity:\n", slots),
        ("authorize:\n", asks),
        ("default:\n    main:", "default:\n    two: [\"read:me\"]\n    one:"),
        ("read-only:\n    main:", "read-only:\n    two:"),
        ("full:\n    main:", "full:\n    two:"),
    ];
    let Output { code, out, err } = changed("atlassian.yaml", &changes, &["--json"]).await;
    assert_eq!(code, 1, "{out}{err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert!(steps(&report).contains(&("connect", "failed")), "{out}");
    assert!(out.contains("nothing of its own was found for the slot two"), "{out}");
    assert_eq!(report["ok"], false);
}

#[tokio::test]
async fn a_definition_that_is_none_is_told_with_its_place_and_nothing_is_tried() {
    let Output { code, out, err } = changed("gitlab.yaml", &[("pkce: true", "pkec: true")], &[]).await;
    assert_eq!((code, out.as_str()), (78, ""), "{err}");
    assert!(err.contains("mine.yaml:") && err.contains("did you mean `pkce`?"), "{err}");
    let Output { code, out, err } = changed("gitlab.yaml", &[], &["--variant", "publik"]).await;
    assert_eq!((code, out.as_str()), (2, ""), "{err}");
    assert!(err.contains("did you mean `public`?"), "{err}");
    let home = Home::new();
    let Output { code, err, .. } = run(&home, &["/nowhere/mine.yaml"]).await;
    assert_eq!(code, 78, "{err}");
    assert!(err.contains("/nowhere/mine.yaml"), "{err}");
}

/// The guide takes its reader to a definition that passes, and shows what the commands say.
#[tokio::test]
async fn the_guide_ends_in_a_definition_that_passes() {
    let guide = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/PROVIDERS.md")).unwrap();
    let (_, example) = guide.split_once("## An example, step by step").unwrap();
    let blocks = |kind: &str| -> Vec<String> {
        let opened = format!("\n```{kind}\n");
        example.split(&opened).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
    };
    let home = Home::new();
    home.write("tracker.yaml", &blocks("yaml").concat());
    let shown = blocks("console").concat();
    let commands: Vec<&str> = shown.split("$ grantd ").skip(1).collect();
    assert_eq!(commands.len(), 2, "{shown}");
    for command in commands {
        let (line, expected) = command.split_once('\n').unwrap();
        let mut process = Daemon::command(&home);
        process.current_dir(home.path()).args(line.split_whitespace());
        let Output { code, out, err } = tokio::task::spawn_blocking(move || Output::of(&mut process)).await.unwrap();
        assert_eq!((code, err.as_str()), (0, ""), "{line}: {out}");
        assert_eq!(out.trim_end(), expected.trim_end(), "{line}");
    }
    let Output { code, out, err } = run(&home, &[home.file("tracker.yaml").to_str().unwrap()]).await;
    assert_eq!(code, 0, "{out}{err}");
}
