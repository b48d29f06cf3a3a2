//! The compiled-in definitions, another from a file, and what is refused in which words.

mod redirects;

use super::*;
use crate::model::provider::rules::ScopesManagedBy;
use crate::model::scope::ScopeSet;

const SIXTH: &str = "\
id: sixth
name: Sixth
vars:
  host: {about: Its host, kind: host}
endpoints:
  authorize: https://{host}/authorize
  token: http://127.0.0.1:9000/token
client: {kind: confidential, auth: basic}
identity: {source: token, account_id: \"{/id}\", display: \"{/name}\"}
default_variant: one
variants:
  one: {about: As it stands}
  two:
    about: Public
    set:
      client: {kind: public, auth: none}
";

fn settings(id: &str, variant: Option<&str>) -> Settings {
    let id: ProviderId = id.parse().unwrap();
    Settings { variant: variant.map(str::to_owned), ..Settings::plain(id, "client id/1".replace(' ', "").as_str()) }
}

fn refusal(text: &str) -> String {
    Catalog::read("x.yaml", text).unwrap_err().to_string()
}

/// Whatever the umask is, nobody else may write it.
fn put(dir: &Path, name: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(dir.join(name), text).unwrap();
    std::fs::set_permissions(dir.join(name), std::fs::Permissions::from_mode(0o644)).unwrap();
}

#[test]
fn every_built_in_definition_resolves_in_every_variant() {
    let catalog = Catalog::built_in();
    let ids: Vec<_> = catalog.entries().map(|entry| entry.definition().id.to_string()).collect();
    assert_eq!(ids, ["atlassian", "github", "gitlab", "google", "microsoft", "notion", "slack"]);
    for entry in catalog.entries() {
        let id = entry.definition().id.as_str();
        let names = entry.definition().variants.keys().map(|name| Some(name.as_str()));
        for variant in names.chain([None]) {
            let mut settings = settings(id, variant);
            if variant.is_some_and(|name| name.starts_with("ghes")) {
                settings.vars.insert("host".to_owned(), "git.corp.example".to_owned());
            }
            let provider = catalog.resolve(&settings).unwrap();
            assert_eq!(provider.id.as_str(), id);
            assert!(!provider.slots.is_empty());
            assert!(provider.hosts().all(|url| url.scheme() == "https"), "{id} {variant:?}");
            assert!(!provider.errors.is_empty());
        }
    }
}

#[test]
fn every_scope_of_a_preset_has_a_plain_sentence() {
    let catalog = Catalog::built_in();
    for entry in catalog.entries() {
        let names = entry.definition().variants.keys().map(|name| Some(name.as_str()));
        for variant in names.chain([None]) {
            let definition = entry.variant(variant).unwrap();
            let presets = &definition.presets;
            if definition.scopes.managed_by == ScopesManagedBy::Request {
                assert!(!presets.default.is_empty(), "{} {variant:?}", definition.id);
            }
            let lists = [&presets.default, &presets.read_only, &presets.full];
            let scopes = lists.into_iter().flat_map(|preset| preset.values());
            let always = &definition.scopes.always;
            for scope in scopes.chain([always]).flat_map(ScopeSet::iter) {
                let sentence = definition.scopes.sentence(scope).unwrap_or_default();
                assert!(sentence.ends_with('.'), "{}: {scope}", definition.id);
            }
        }
    }
}

#[test]
fn variables_lead_to_the_other_clouds() {
    let catalog = Catalog::built_in();
    for (id, variant, vars, token, api) in [
        ("github", None, vec![], "https://github.com/login/oauth/access_token", "https://api.github.com"),
        (
            "github",
            Some("app"),
            vec![("host", "octo.ghe.com")],
            "https://octo.ghe.com/login/oauth/access_token",
            "https://api.octo.ghe.com",
        ),
        (
            "github",
            Some("ghes-app"),
            vec![("host", "git.corp.example:8443")],
            "https://git.corp.example:8443/login/oauth/access_token",
            "https://git.corp.example:8443/api/v3",
        ),
        (
            "microsoft",
            None,
            vec![
                ("tenant", "9188040d-6c67-4c5b-b112-36a304b66dad"),
                ("login_host", "login.microsoftonline.us"),
                ("graph_host", "graph.microsoft.us"),
            ],
            "https://login.microsoftonline.us/9188040d-6c67-4c5b-b112-36a304b66dad/oauth2/v2.0/token",
            "https://graph.microsoft.us/v1.0",
        ),
        (
            "slack",
            Some("v2_user"),
            vec![("host", "slack-gov.com")],
            "https://slack-gov.com/api/oauth.v2.user.access",
            "https://slack-gov.com/api",
        ),
    ] {
        let mut settings = settings(id, variant);
        settings.vars = vars.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let provider = catalog.resolve(&settings).unwrap();
        assert_eq!(provider.endpoints.token.as_str(), token);
        assert_eq!(provider.api.base_url.as_deref(), Some(api));
    }
}

#[test]
fn the_client_id_is_one_segment_of_the_revocation_url() {
    let provider = Catalog::built_in().resolve(&settings("github", None)).unwrap();
    let url = provider.revoke.unwrap().url;
    assert_eq!(url.as_str(), "https://api.github.com/applications/clientid%2F1/token");
}

#[test]
fn a_templated_issuer_keeps_its_claim() {
    let provider = Catalog::built_in().resolve(&settings("microsoft", None)).unwrap();
    let crate::model::provider::IdentitySource::IdToken(rules) = provider.identity.source else {
        panic!("microsoft tells the account in the ID token");
    };
    assert_eq!(rules.issuer_template.as_deref(), Some("https://login.microsoftonline.com/{tid}/v2.0"));
}

#[test]
fn the_tenant_decides_which_directories_are_believed() {
    const CONSUMERS: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";
    const WORK: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
    for (tenant, consumers, work) in [
        ("common", true, true),
        ("organizations", false, true),
        ("consumers", true, false),
        (WORK, false, true),
        ("72F988BF-86F1-41AF-91AB-2D7CD011DB47", false, true),
        (CONSUMERS, true, false),
        ("contoso.example", true, true),
    ] {
        let mut chosen = settings("microsoft", None);
        chosen.vars.insert("tenant".to_owned(), tenant.to_owned());
        let provider = Catalog::built_in().resolve(&chosen).unwrap();
        let crate::model::provider::IdentitySource::IdToken(rules) = provider.identity.source else {
            panic!("microsoft tells the account in the ID token");
        };
        let allowed = |tid: &str| rules.claims.iter().all(|rule| rule.allows(&serde_json::json!({ "tid": tid })));
        assert_eq!((allowed(CONSUMERS), allowed(WORK)), (consumers, work), "{tenant}");
    }
}

#[test]
fn a_sixth_provider_needs_a_file_and_no_code() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "sixth.yaml", SIXTH);
    put(dir.path(), "notes.txt", "not read");
    let github = SIXTH.replace("id: sixth", "id: github");
    put(dir.path(), "a.yaml", &github);
    let catalog = Catalog::load(Some(dir.path())).unwrap();
    assert_eq!(catalog.entries().count(), 8);
    let mut chosen = settings("sixth", Some("two"));
    chosen.vars.insert("host".to_owned(), "sixth.example".to_owned());
    let provider = catalog.resolve(&chosen).unwrap();
    assert_eq!(provider.endpoints.authorize.as_str(), "https://sixth.example/authorize");
    assert_eq!(provider.endpoints.token.as_str(), "http://127.0.0.1:9000/token");
    assert_eq!(provider.client_auth, crate::model::client::ClientAuth::None);
    let replaced = catalog.get(&"github".parse().unwrap()).unwrap();
    assert_eq!(replaced.definition().name, "Sixth");

    put(dir.path(), "b.yaml", SIXTH);
    let error = Catalog::load(Some(dir.path())).unwrap_err().to_string();
    assert!(error.contains("sixth.yaml: the id `sixth` is that of"), "{error}");

    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let error = Catalog::load(Some(dir.path())).unwrap_err().to_string();
    assert!(error.contains("has the mode 0777"), "{error}");
    let none = Catalog::load(Some(&dir.path().join("missing"))).unwrap();
    assert_eq!(none.entries().count(), 7);
}

#[test]
fn a_bad_definition_is_told_with_its_place() {
    for (from, to, expected) in [
        ("name: Sixth", "naem: Sixth", "x.yaml:2:1: unknown key `naem`; expected one of `id`, `name`"),
        ("name: Sixth\n", "", "x.yaml:1:1: expected the key `name`"),
        ("id: sixth", "id: Sixth", "x.yaml:1:5: `S` is not allowed here; expected lower-case letters"),
        (
            "https://{host}/authorize",
            "https://{hots}/authorize",
            "x.yaml:6:14: no variable `hots`; expected one of `client_id`, `host`; did you mean `host`? (at endpoints.authorize)",
        ),
        (
            "http://127.0.0.1:9000/token",
            "http://sixth.example/token",
            "x.yaml:7:10: expected https; http is for this machine only (at endpoints.token)",
        ),
        (
            "kind: host}",
            "kind: segment}",
            "x.yaml:6:14: `{host}` stands in the host; expected a variable of the kind `host` (at endpoints.authorize)",
        ),
        (
            "auth: basic",
            "auth: none",
            "x.yaml:8:36: expected `basic`, `post` or `private_key_jwt`, because the client is confidential (at client.auth)",
        ),
        (
            "kind: public, auth: none",
            "kind: public",
            "x.yaml:8:36: expected `none`, because the client is public, in the variant `two` (at client.auth)",
        ),
        (
            "client: {kind: public, auth: none}\n",
            "clinet: {kind: public, auth: none}\n",
            "x.yaml:16:7: unknown key `clinet`; ",
        ),
        (
            "client: {kind: public, auth: none}\n",
            "refresh: {lead: soon}\n",
            "x.yaml:16:23: expected a whole number, not negative and not too large, found text (at variants.two.set.refresh.lead)",
        ),
        (
            "client: {kind: public, auth: none}\n",
            "refresh: {per_second: 0}\n",
            "x.yaml:16:29: expected a whole number above zero, found a number (at variants.two.set.refresh.per_second)",
        ),
        (
            "client: {kind: public, auth: none}\n",
            "id: other\n",
            "x.yaml:16:11: expected no change of this member (at variants.two.set.id)",
        ),
        (
            "default_variant: one",
            "default_variant: on",
            "x.yaml:10:18: no variant `on`; expected one of `one`, `two`; did you mean `one`?",
        ),
        ("default_variant: one\n", "", "x.yaml:10:1: expected `default_variant` beside it (at variants)"),
        (
            "    about: Public\n",
            "    about: Public\n    extends: [tow]\n",
            "x.yaml:15:15: no variant `tow`; expected one of `one`, `two`; did you mean `two`?",
        ),
        ("source: token", "source: http", "x.yaml:9:11: expected `url`, because the source is `http` (at identity)"),
        (
            "source: token",
            "source: id_token",
            "x.yaml:5:1: expected `jwks`, because the identity is read from an ID token (at endpoints)",
        ),
        (
            "\"{/id}\"",
            "\"{id}\"",
            "x.yaml:9:39: expected JSON Pointers between the braces, such as `{/id}` or `{/name|/login}` (at identity.account_id)",
        ),
        (
            "default_variant: one",
            "presets: {default: {bot: [a]}}\ndefault_variant: one",
            "x.yaml:10:26: no slot `bot`; expected `main` (at presets.default.bot)",
        ),
        (
            "default_variant: one",
            "authorize: {params: {state: x}}\ndefault_variant: one",
            "x.yaml:10:29: expected another parameter: grantd sets this one itself (at authorize.params.state)",
        ),
        (
            "default_variant: one",
            "token: {headers: {Authorization: x}}\ndefault_variant: one",
            "x.yaml:10:34: expected a header name in lower-case letters",
        ),
        (
            "default_variant: one",
            "token: {headers: {host: x}}\ndefault_variant: one",
            "x.yaml:10:25: expected another header: grantd sets this one itself",
        ),
        (
            "default_variant: one",
            "token: {headers: {x-a: é}}\ndefault_variant: one",
            "x.yaml:10:24: expected visible ASCII",
        ),
        (
            "name: Sixth",
            "name: \"Si\\r\\nxth\"",
            "x.yaml:2:7: expected one line of text without control characters (at name)",
        ),
        ("default_variant: one", "scopes: {separator_request: ab}\ndefault_variant: one", "x.yaml:10:29: expected "),
        (
            "default_variant: one",
            "errors: [{class: reauth}]\ndefault_variant: one",
            "x.yaml:10:10: expected `code`, `sub` or `http`; else it matches every failure (at errors[0])",
        ),
        (
            "client: {kind: confidential, auth: basic}",
            "client: {kind: confidential, auth: basic, assertion: {}}",
            "x.yaml:8:54: expected nothing, because `client.auth` is not `private_key_jwt` (at client.assertion)",
        ),
        (
            "client: {kind: confidential, auth: basic}",
            "client: {kind: confidential, auth: private_key_jwt, assertion: {audience: issuer}}",
            "x.yaml:8:75: expected `issuer.accept`, because that is the audience (at client.assertion.audience)",
        ),
        (
            "client: {kind: confidential, auth: basic}",
            "client: {kind: confidential, auth: private_key_jwt, assertion: {algorithms: [HS256]}}",
            "x.yaml:8:78: expected one of `ES256`, `PS256`, `RS256`",
        ),
        (
            "default_variant: one",
            "authorize: {claims_param: state}\nresponse: {claims: /claims}\ndefault_variant: one",
            "x.yaml:10:27: expected another parameter: grantd sets this one itself (at authorize.claims_param)",
        ),
        (
            "default_variant: one",
            "response: {claims: /claims}\ndefault_variant: one",
            "x.yaml:10:11: expected `claims` and `authorize.claims_param` together",
        ),
        (
            "default_variant: one",
            "response: {hints: [{number: [1, 2], sentence: A.}, {number: [2], sentence: B.}]}\ndefault_variant: one",
            "x.yaml:10:61: the number 2 is here twice (at response.hints[1].number)",
        ),
        (
            "default_variant: one",
            "redirect: {loopback_hosts: [0.0.0.0]}\ndefault_variant: one",
            "x.yaml:10:29: expected `localhost`, `127.0.0.1` or `[::1]`",
        ),
        (
            "default_variant: one",
            "revoke: {method: POST, url: \"https://a.example/r\", auth: none, body: {token: \"{token}\"}, token: refresh, ok_http: [200], reach: project}\ndefault_variant: one",
            "x.yaml:10:129: expected `token` or `grant`: disconnecting takes nothing else with it; what takes more belongs in `revoke_wider` (at revoke.reach)",
        ),
        (
            "default_variant: one",
            "revoke_wider: {method: POST, url: \"https://a.example/r\", auth: none, body: {token: \"{token}\"}, token: refresh, ok_http: [200], reach: grant}\ndefault_variant: one",
            "x.yaml:10:135: expected `client` or `project`; what takes this connection alone belongs in `revoke` (at revoke_wider.reach)",
        ),
        (
            "default_variant: one",
            "revoke_wider: {method: POST, url: \"https://a.example/r\", auth: none, body: {token: \"{token}\"}, token: refresh, ok_http: [200], reach: client}\ndefault_variant: one",
            "x.yaml:10:15: expected `takes`, a sentence that tells the person who is asked what else goes (at revoke_wider)",
        ),
        (
            "default_variant: one",
            "revoke: {method: POST, url: \"https://a.example/r\", auth: none, body: {a: b}, token: refresh, ok_http: [200], reach: grant}\ndefault_variant: one",
            "x.yaml:10:70: expected `{token}` in a value: nothing says which token it is about (at revoke.body)",
        ),
        (
            "default_variant: one",
            "revoke: {method: POST, url: \"https://a.example/r\", auth: none, body: {token: \"{token}\"}, token: refresh, ok_http: [200], gone_http: [404, 200], reach: grant}\ndefault_variant: one",
            "x.yaml:10:139: expected a status code that is not in `ok_http` (at revoke.gone_http[1])",
        ),
    ] {
        let text = SIXTH.replacen(from, to, 1);
        assert_ne!(text, SIXTH, "{from}");
        let error = refusal(&text);
        assert!(error.starts_with(expected), "\nfound    {error}\nexpected {expected}");
    }
}

#[test]
fn settings_that_do_not_fit_are_refused() {
    let catalog = Catalog::built_in();
    let with = |change: &dyn Fn(&mut Settings)| {
        let mut settings = settings("github", None);
        change(&mut settings);
        catalog.resolve(&settings).unwrap_err().to_string()
    };
    for (found, expected) in [
        (
            with(&|s| s.definition = "githib".parse().unwrap()),
            "no definition `githib`; expected one of `atlassian`, `github`, `gitlab`, `google`, `microsoft`, `notion`, `slack`; did you mean `github`?",
        ),
        (
            with(&|s| s.variant = Some("oauth".to_owned())),
            "no variant `oauth`; expected one of `app`, `device`, `ghes`, `ghes-app`, `oauth-app`",
        ),
        (
            with(&|s| s.vars = BTreeMap::from([("hots".to_owned(), "x".to_owned())])),
            "no variable `hots`; expected `host`; did you mean `host`?",
        ),
        (
            with(&|s| s.vars = BTreeMap::from([("host".to_owned(), "a@evil.example/".to_owned())])),
            "expected a host name such as `github.example.com`, and nothing around it",
        ),
        (with(&|s| s.variant = Some("ghes".to_owned())), "expected the variable `host`: The host of the web pages"),
        (with(&|s| s.client_id = String::new()), "expected 1 to 512 visible ASCII characters (RFC 6749 Appendix A.1)"),
        (
            with(&|s| s.client_id = "a\r\nb".to_owned()),
            "expected 1 to 512 visible ASCII characters (RFC 6749 Appendix A.1)",
        ),
    ] {
        assert_eq!(found, expected);
    }
}

#[test]
fn the_committed_schema_is_the_one_of_the_types() {
    let committed = include_str!("../../schemas/provider.schema.json");
    assert!(committed == schema_json(), "run `grantd provider schema > schemas/provider.schema.json`");
}
