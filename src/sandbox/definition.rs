//! The provider definition that lets grantd connect accounts at a sandbox.

use url::Url;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::provider::rules::{AuthorizeRules, ErrorRule, IssuerRules, Presets, RedirectRules, RefreshRules};

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
