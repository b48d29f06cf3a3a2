//! The provider definitions that let grantd connect accounts at a sandbox: one of its own, and the compiled-in ones with the
//! sandbox in the provider's place.

use std::collections::BTreeSet;

use serde_json::Value;
use url::Url;

use crate::catalog::Catalog;
use crate::sandbox::manner::Role;

/// Where a definition, or a variant's changes, say where to send what and whose answers to believe.
const PLACES: [&str; 10] = [
    "/endpoints/authorize",
    "/endpoints/token",
    "/endpoints/device",
    "/endpoints/jwks",
    "/issuer/accept",
    "/identity/url",
    "/identity/id_token/issuer_template",
    "/revoke/url",
    "/revoke_wider/url",
    "/api/base_url",
];

/// The YAML of a provider `sandbox` for the server at `url`, ready to be put into `providers.d/sandbox.yaml`. It wants a
/// client with a secret.
#[must_use]
pub fn definition(url: &Url) -> String {
    written(url, "confidential", "basic", "basic")
}

/// The same for a client without a secret.
#[must_use]
pub fn public_definition(url: &Url) -> String {
    written(url, "public", "none", "post")
}

fn written(url: &Url, kind: &str, auth: &str, revoke_auth: &str) -> String {
    let at = url.as_str().trim_end_matches('/');
    format!(
        r#"# A provider for the sandbox at {at}. Everything in it is made up.
id: sandbox
name: Sandbox
endpoints:
  authorize: {at}/authorize
  token: {at}/token
  device: {at}/device_authorization
  jwks: {at}/jwks.json
issuer:
  accept: ["{at}"]
  callback_iss: validate_if_present
client:
  kind: {kind}
  auth: {auth}
authorize:
  account_hint_param: login_hint
  reconsent_params: {{prompt: consent}}
  account_picker_params: {{prompt: select_account}}
redirect:
  loopback_any_port: true
refresh:
  rotation: single_use
  after_ambiguous: once
  lead: 60
errors:
  - {{code: [invalid_grant], class: reauth}}
  - {{code: [invalid_client, unauthorized_client], class: misconfigured}}
  - {{code: [access_denied], class: denied}}
identity:
  source: http
  url: {at}/userinfo
  account_id: "{{/sub}}"
  display: "{{/email}}"
revoke:
  method: POST
  url: {at}/revoke
  auth: {revoke_auth}
  body: {{token: "{{token}}"}}
  token: refresh
  ok_http: [200]
  reach: grant
scopes:
  sentences:
    email: See the e-mail address of the account
    offline_access: Keep the access while you are away
    openid: Know which account it is
    profile: See the name of the account
presets:
  default: {{main: [openid, profile, email]}}
  read-only: {{main: [openid, profile]}}
  full: {{main: [openid, profile, email, offline_access]}}
"#
    )
}

/// The YAML with which grantd knows the sandbox at `url` in this role: the compiled-in definition with every host that it
/// names replaced, and http on loopback allowed; for the plain role [`definition`].
///
/// # Panics
/// Never in a build whose tests pass: one of them adapts each.
#[must_use]
pub fn adapted(role: &Role, url: &Url) -> String {
    let Some(id) = role.built_in() else { return definition(url) };
    let id = id.parse().expect("the roles name definitions");
    let catalog = Catalog::built_in();
    let entry = catalog.get(&id).expect("the roles name definitions");
    let written = serde_json::to_value(entry.definition()).expect("a definition is a JSON value");
    let origin = url.as_str().trim_end_matches('/');
    let places = places(&written);
    // The longest first, so that none is replaced inside another one.
    let text = places
        .iter()
        .rev()
        .fold(entry.text().to_owned(), |text, (_, place)| replaced(&text, place, &moved(place, origin)));
    let text = text.replace("loopback_http: false", "loopback_http: true");
    let text = text.split_once('\n').map_or(text.as_str(), |(_schema, rest)| rest);
    format!(
        "# {} as the sandbox at {origin} plays it: the compiled-in definition with other hosts.\n{text}",
        entry.definition().name
    )
}

/// Every address and issuer that the definition or one of its variants names, the shortest first.
fn places(definition: &Value) -> BTreeSet<(usize, String)> {
    let variants = definition["variants"].as_object().into_iter().flatten();
    let trees = variants.filter_map(|(_, variant)| variant.get("set")).chain([definition]);
    let found = trees.flat_map(|tree| PLACES.iter().filter_map(|place| tree.pointer(place)));
    let texts = found.flat_map(|value| match value {
        Value::Array(list) => list.iter().collect(),
        one => vec![one],
    });
    texts.filter_map(Value::as_str).map(|text| (text.len(), text.to_owned())).collect()
}

/// The same path at another origin. What has no scheme is a host alone.
fn moved(place: &str, origin: &str) -> String {
    match place.split_once("://") {
        Some((_, rest)) => format!("{origin}{}", rest.find('/').map_or("", |at| &rest[at..])),
        None => origin.split_once("://").map_or(origin, |(_, host)| host).to_owned(),
    }
}

/// The YAML with a scalar replaced wherever it stands as a whole, in quotes or not.
fn replaced(yaml: &str, from: &str, to: &str) -> String {
    let mut parts = yaml.split(from).peekable();
    let mut out = String::new();
    while let Some(part) = parts.next() {
        out.push_str(part);
        let Some(next) = parts.peek() else { break };
        match (out.chars().next_back(), next.chars().next()) {
            (Some('"'), Some('"')) => out.push_str(to),
            (Some(' ' | '['), Some(' ' | '\n' | ',' | ']' | '}') | None) => out.extend(["\"", to, "\""]),
            _ => out.push_str(from),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Settings;
    use crate::model::provider::rules::{AuthorizeRules, ErrorRule, IssuerRules, Presets, RedirectRules, RefreshRules};

    #[test]
    fn an_adapted_definition_sends_nothing_elsewhere_in_any_variant() {
        let url = Url::parse("http://127.0.0.1:9417").unwrap();
        for role in [Role::Plain, Role::Github, Role::Google, Role::Microsoft, Role::Slack, Role::Notion] {
            let text = adapted(&role, &url);
            let entry = Catalog::read("adapted.yaml", &text).unwrap_or_else(|error| panic!("{error} in\n{text}"));
            let variants = entry.definition().variants.keys().map(|name| Some(name.clone()));
            for variant in variants.chain([None]) {
                let vars = [("host".to_owned(), "octo.example".to_owned())];
                let declares = entry.variant(variant.as_deref()).unwrap().vars.contains_key("host");
                let declares = declares && role == Role::Github;
                let settings = Settings {
                    variant: variant.clone(),
                    vars: vars.into_iter().filter(|_| declares).collect(),
                    ..Settings::plain(entry.definition().id.clone(), "id")
                };
                let provider = entry.resolve(&settings).unwrap();
                let asked: Vec<&Url> = provider.hosts().chain([&provider.endpoints.authorize]).collect();
                for address in asked {
                    assert_eq!(address.origin(), url.origin(), "{role:?} {variant:?} {address}");
                }
                for issuer in &provider.issuer.accept {
                    assert!(issuer.contains("127.0.0.1:9417"), "{role:?} {variant:?} {issuer}");
                }
                assert!(provider.redirect.loopback_http, "{role:?} {variant:?}");
            }
        }
    }

    #[test]
    fn what_only_begins_like_an_address_stays() {
        let yaml = "a: https://x/y\nb: [https://x/y, \"https://x/y\"]\nc: https://x/y/z\nd: nhttps://x/y\n";
        let expected = "a: \"Q\"\nb: [\"Q\", \"Q\"]\nc: https://x/y/z\nd: nhttps://x/y\n";
        assert_eq!(replaced(yaml, "https://x/y", "Q"), expected);
        assert_eq!(moved("https://{host}/a/{b}", "http://l:1"), "http://l:1/a/{b}");
        assert_eq!(moved("https://host", "http://l:1"), "http://l:1");
        assert_eq!(moved("accounts.example", "http://l:1"), "l:1");
    }

    #[test]
    fn its_sections_are_what_the_rules_read() {
        #[derive(serde::Deserialize)]
        struct Sections {
            issuer: IssuerRules,
            authorize: AuthorizeRules,
            redirect: RedirectRules,
            refresh: RefreshRules,
            errors: Vec<ErrorRule>,
            presets: Presets,
        }
        let text = definition(&Url::parse("http://127.0.0.1:9417").unwrap());
        let sections: Sections = serde_yaml::from_str(&text).unwrap();
        assert_eq!(sections.issuer.accept, ["http://127.0.0.1:9417"]);
        assert_eq!(sections.authorize.account_hint_param.as_deref(), Some("login_hint"));
        assert!(sections.redirect.loopback_any_port);
        assert_eq!(sections.refresh.lead, 60);
        assert_eq!(sections.errors.len(), 3);
        assert_eq!(sections.presets.full.len(), 1);
    }
}
