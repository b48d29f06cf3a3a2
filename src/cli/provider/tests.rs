//! What the commands print, and how they end.

use super::*;

const CONFIG: &str = "\
web: {url: \"http://127.0.0.1:9999\"}
providers:
  work: {definition: github, variant: ghes, client_id: Ov23, vars: {host: git.corp.example}}
  notion: {client_id: n, client_secret: {env: NOTION}}
";

fn output(command: &ProviderCommand, context: Context<'_>) -> Result<String, ProviderError> {
    let mut out = Vec::new();
    run(command, context, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

fn show(name: &str, variant: Option<&str>, json: bool) -> ProviderCommand {
    ProviderCommand::Show { name: name.to_owned(), json, variant: variant.map(str::to_owned) }
}

#[test]
fn a_built_in_provider_is_shown_without_a_configuration() {
    let shown = output(&show("slack", None, false), Context::default()).unwrap();
    for expected in [
        "Slack (slack)\n",
        "variant       v2: ",
        "redirect URI  http://localhost:8717/callback/slack\n              ! Slack needs https even for localhost, with this kind of client.\n              ! Set `web.url` to https://localhost:8717 in grantd.yaml, register https://localhost:8717/callback/slack there",
        "register at   https://api.slack.com/apps\n",
        "client secret needed\n",
        "  - Without PKCE Slack takes https redirect URIs only",
        "  host: The host of this Slack (default slack.com)",
        "  pkce: An app with PKCE switched on, through http on localhost; it acts as the person only and has no secret. It takes this redirect URI.\n",
        "Preset default, for the bot token\n",
        "search:read.public           Search public channels.\n",
    ] {
        assert!(shown.contains(expected), "{expected}\n---\n{shown}");
    }
    let shown = output(&show("slack", Some("pkce"), false), Context::default()).unwrap();
    assert!(!shown.contains('!') && shown.contains("client secret none"), "{shown}");
    assert!(
        shown.contains("client_id: CLIENT_ID\n      variant: pkce\n") && !shown.contains("client_secret"),
        "{shown}"
    );
    let shown = output(&show("notion", None, false), Context::default()).unwrap();
    assert!(shown.contains("Scopes: fixed in the provider's settings"), "{shown}");
}

#[test]
fn a_configured_provider_is_shown_as_it_is_configured() {
    let config = Config::parse("g.yaml", CONFIG).unwrap();
    let context = Context { config: Some(&config), providers_dir: None };
    let shown = output(&show("work", None, true), context).unwrap();
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["redirect_uri"], "http://127.0.0.1:9999/callback/work");
    assert_eq!((&shown["definition"], &shown["variant"]), (&"github".into(), &"ghes".into()));
    assert_eq!(shown["incomplete"], serde_json::Value::Null);
    assert_eq!(shown["scopes"]["presets"][1]["name"], "read-only");
    let shown = output(&show("notion", None, true), context).unwrap();
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let problem = shown["problems"][0].as_str().unwrap();
    assert!(
        problem.starts_with("Notion does not accept 127.0.0.1, only localhost. Set `web.url` to http://localhost:9999"),
        "{problem}"
    );
    assert_eq!(shown["redirect_uri_instead"], "http://localhost:9999/callback/notion");
    let shown = output(&show("work", None, false), context).unwrap();
    assert!(!shown.contains("grantd.yaml"), "what is configured need not be written: {shown}");
    let listed = output(&ProviderCommand::List { json: false }, context).unwrap();
    assert!(
        listed.contains("github     GitHub  [app, device, ghes, ghes-app, oauth-app]  configured as work\n"),
        "{listed}"
    );
}

#[test]
fn what_is_shown_for_the_configuration_is_a_configuration() {
    for (name, variant) in [("github", None), ("github", Some("ghes")), ("slack", Some("pkce")), ("notion", None)] {
        let shown = output(&show(name, variant, false), Context::default()).unwrap();
        let (_, after) = shown.split_once("grantd.yaml\n").unwrap();
        let lines: Vec<_> = after.lines().take_while(|line| !line.is_empty()).collect();
        let config = Config::parse("shown", &lines.join("\n")).unwrap();
        let provider = &config.providers[&name.parse().unwrap()];
        assert_eq!(provider.variant.as_deref(), variant);
        assert_eq!(provider.client_secret.is_some(), variant != Some("pkce"), "{name}");
        assert_eq!(provider.vars.contains_key("host"), variant == Some("ghes"), "{name}");
    }
}

#[test]
fn what_still_has_to_be_said_is_named() {
    let shown = output(&show("github", Some("ghes"), false), Context::default()).unwrap();
    assert!(shown.contains("! expected the variable `host`: The host of the web pages"), "{shown}");
}

#[test]
fn a_name_that_is_not_known_is_a_mistake_of_usage() {
    for (command, expected) in [
        (
            show("githib", None, false),
            "no provider githib; known are atlassian, github, gitlab, google, microsoft, notion, slack; did you mean github?",
        ),
        (show("Git Hub", None, false), "no provider Git Hub; known are "),
        (show("github", Some("ap"), false), "no variant `ap`; expected one of "),
    ] {
        let error = output(&command, Context::default()).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
        assert_eq!(CliError::from(error).code, ExitCode::Usage);
    }
}

#[test]
fn the_list_has_every_definition() {
    let listed = output(&ProviderCommand::List { json: true }, Context::default()).unwrap();
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let ids: Vec<_> = listed["providers"].as_array().unwrap().iter().map(|row| &row["id"]).collect();
    assert_eq!(ids, ["atlassian", "github", "gitlab", "google", "microsoft", "notion", "slack"]);
}

#[test]
fn a_definition_is_checked_and_a_bad_one_ends_in_78() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("github.yaml");
    let good = include_str!("../../../providers/github.yaml");
    std::fs::write(&file, good).unwrap();
    let command = ProviderCommand::Check { files: vec![file.clone()] };
    let told = output(&command, Context::default()).unwrap();
    assert!(told.ends_with("github.yaml: good: github (GitHub)\n  slots     main\n  variables host\n  variants  app, device, ghes, ghes-app, oauth-app\n"), "{told}");

    std::fs::write(&file, good.replace("pkce: true", "pkec: true")).unwrap();
    let error = output(&command, Context::default()).unwrap_err();
    assert!(error.to_string().contains("unknown key `pkec`"), "{error}");
    assert!(error.to_string().ends_with("did you mean `pkce`? (at pkec)"), "{error}");
    assert_eq!(CliError::from(error).code, ExitCode::Configuration);

    let both = ProviderCommand::Check { files: vec![file, dir.path().join("none.yaml")] };
    let error = output(&both, Context::default()).unwrap_err();
    assert!(error.to_string().contains("`pkec`") && error.to_string().contains("none.yaml: cannot be read"), "{error}");
    assert_eq!(CliError::from(error).code, ExitCode::Configuration);
}

#[test]
fn the_schemas_are_json() {
    for config in [false, true] {
        let text = output(&ProviderCommand::Schema { config }, Context::default()).unwrap();
        let schema: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(schema["additionalProperties"], false);
    }
}
