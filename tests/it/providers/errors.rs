//! Every error that the providers document for their token endpoints, in their own shape, and what becomes of it.

use std::time::Duration;

use grantd::sandbox::{Fault, What, When};
use serde_json::{Value, json};

use crate::providers::stage::{ADA, Stage};
use crate::providers::{Case, GITHUB, GOOGLE, MICROSOFT, NOTION, SLACK};
use crate::support::{Journey, World, eventually_within};

/// A rejection is confirmed after some seconds.
const PATIENCE: Duration = Duration::from_secs(90);

/// An error with the members that come beside it.
fn error(code: &str, members: &Value) -> What {
    let members = members.as_object().cloned().unwrap_or_default();
    What::Error { code: code.to_owned(), status: None, members }
}

/// The words of a session that failed, and the codes that end in them.
type Ends = [(&'static str, &'static [&'static str])];

async fn when_redeeming(case: Case, ends: &Ends) {
    let world = case.world().await;
    for (expected, codes) in ends {
        for code in *codes {
            world.sandbox.clear_faults();
            world.sandbox.script(Fault::new(
                grantd::sandbox::Endpoint::Token,
                When::Next(1),
                What::OAuthError((*code).to_owned()),
            ));
            let journey = Journey::begin(&world).await;
            journey.come_back(ADA).await;
            assert_eq!(journey.status(&world).await, *expected, "{} {code}", case.name);
        }
    }
    world.assert_nothing_kept(case.name).await;
}

#[tokio::test]
async fn what_github_says_to_a_code() {
    let ends: &Ends = &[
        ("code_refused", &["bad_verification_code"]),
        (
            "misconfigured",
            &[
                "incorrect_client_credentials",
                "redirect_uri_mismatch",
                "unsupported_grant_type",
                "device_flow_disabled",
                "unauthorized_client",
                "application_suspended",
            ],
        ),
        ("denied", &["unverified_user_email", "access_denied"]),
    ];
    when_redeeming(GITHUB, ends).await;
}

#[tokio::test]
async fn what_google_says_to_a_code() {
    let ends: &Ends = &[
        ("code_refused", &["invalid_grant"]),
        ("denied", &["admin_policy_enforced", "access_denied"]),
        (
            "misconfigured",
            &[
                "invalid_client",
                "deleted_client",
                "unauthorized_client",
                "invalid_request",
                "redirect_uri_mismatch",
                "invalid_scope",
                "unsupported_grant_type",
                "org_internal",
            ],
        ),
        ("provider_failed", &["internal_failure", "rate_limit_exceeded"]),
    ];
    when_redeeming(GOOGLE, ends).await;
}

#[tokio::test]
async fn what_microsoft_says_to_a_code() {
    let ends: &Ends = &[
        ("code_refused", &["invalid_grant", "interaction_required", "consent_required", "login_required"]),
        (
            "misconfigured",
            &[
                "invalid_client",
                "unauthorized_client",
                "invalid_request",
                "unsupported_grant_type",
                "invalid_resource",
                "invalid_scope",
            ],
        ),
        ("denied", &["access_denied"]),
        ("provider_failed", &["temporarily_unavailable", "server_error"]),
    ];
    when_redeeming(MICROSOFT, ends).await;
}

#[tokio::test]
async fn what_slack_says_to_a_code() {
    let ends: &Ends = &[
        ("code_refused", &["invalid_code", "token_expired", "token_revoked", "account_inactive", "invalid_auth"]),
        ("denied", &["access_denied", "user_email_unverified", "two_factor_setup_required", "org_login_required"]),
        (
            "misconfigured",
            &[
                "bad_client_secret",
                "invalid_client_id",
                "bad_redirect_uri",
                "oauth_authorization_url_mismatch",
                "no_scopes",
                "invalid_grant_type",
                "invalid_arguments",
                "invalid_form_data",
                "preview_feature_not_available",
                "token_rotation_not_enabled",
                "accesslimited",
                "enterprise_is_restricted",
                "team_access_not_granted",
            ],
        ),
        (
            "provider_failed",
            &[
                "ratelimited",
                "internal_error",
                "fatal_error",
                "service_unavailable",
                "request_timeout",
                "team_added_to_org",
            ],
        ),
    ];
    when_redeeming(SLACK, ends).await;
}

#[tokio::test]
async fn what_notion_says_to_a_code() {
    let ends: &Ends = &[
        ("code_refused", &["invalid_grant"]),
        (
            "misconfigured",
            &[
                "invalid_client",
                "unauthorized",
                "unauthorized_client",
                "invalid_request",
                "unsupported_grant_type",
                "validation_error",
            ],
        ),
        ("denied", &["access_denied"]),
        ("provider_failed", &["rate_limited", "service_unavailable", "internal_server_error"]),
    ];
    when_redeeming(NOTION, ends).await;
}

/// What a refusal of a refresh leads to.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// A person has to consent again.
    Reconnect(&'static str),
    /// An operator has to act; nobody's grant is touched.
    Operator,
    /// Nothing is wrong: the next try brings a token.
    Later,
}

async fn when_refreshing(case: &Case, code: &str, members: &Value, then: Then) {
    let world = case.world().await;
    let name = format!("{} {code} {members}", case.name);
    world.connects(ADA).await;
    let first = world.living(json!({})).await;
    world.sandbox.script(Fault::of_refresh(When::Always, error(code, members)));
    let refused = world.rejects(&first).await;
    assert_ne!(refused.status, 200, "{name}");
    match then {
        Then::Reconnect(reason) => {
            let over = async || world.state().await == "needs_reconnect";
            eventually_within(PATIENCE, &name, over).await;
            let told = world.daemon.token(json!({})).await;
            assert_eq!((told.status, told.text("reason")), (409, reason), "{name}: {told:?}");
        }
        Then::Operator => {
            assert!(matches!(refused.status, 502 | 503), "{name}: {refused:?}");
            assert_eq!(world.state().await, "refresh_failed", "{name}");
            assert_eq!(standing(&world).await, "registration_refused", "{name}");
            // Who has not seen it rejected is served.
            world.living(json!({})).await;
        }
        Then::Later => {
            assert_eq!(refused.status, 503, "{name}: {refused:?}");
            assert_eq!(world.state().await, "refresh_failed", "{name}");
            assert_ne!(standing(&world).await, "registration_refused", "{name}");
            world.sandbox.clear_faults();
            let renewed = async || world.rejects(&first).await.status == 200;
            eventually_within(PATIENCE, &name, renewed).await;
        }
    }
    world.never_twice();
}

/// How the provider stands.
async fn standing(world: &World) -> String {
    let listed = world.daemon.get("/v1/providers").await;
    listed.json["providers"][0]["state"].as_str().unwrap_or_default().to_owned()
}

async fn each(case: Case, table: &[(&str, Value, Then)]) {
    let tries = table.iter().map(|(code, members, then)| when_refreshing(&case, code, members, *then));
    futures_util::future::join_all(tries).await;
}

const GONE: Then = Then::Reconnect("refresh_token_invalid");
const ACT: Then = Then::Reconnect("user_action");

#[tokio::test]
async fn what_github_says_to_a_refresh() {
    let table = [
        ("bad_refresh_token", json!({}), GONE),
        ("unverified_user_email", json!({}), ACT),
        ("incorrect_client_credentials", json!({}), Then::Operator),
    ];
    each(GITHUB, &table).await;
}

#[tokio::test]
async fn what_google_says_to_a_refresh() {
    let table = [
        ("invalid_grant", json!({}), GONE),
        ("invalid_grant", json!({"error_subtype": "invalid_rapt"}), GONE),
        ("admin_policy_enforced", json!({}), ACT),
        ("deleted_client", json!({}), Then::Operator),
        ("internal_failure", json!({}), Then::Later),
    ];
    each(GOOGLE, &table).await;
}

#[tokio::test]
async fn what_microsoft_says_to_a_refresh() {
    let table = [
        ("invalid_grant", json!({"error_codes": [700_082], "suberror": "bad_token"}), GONE),
        ("interaction_required", json!({"error_codes": [50_076], "suberror": "basic_action"}), GONE),
        ("invalid_client", json!({"error_codes": [7_000_222]}), Then::Operator),
        ("temporarily_unavailable", json!({"error_codes": [90_033]}), Then::Later),
    ];
    each(MICROSOFT, &table).await;
}

#[tokio::test]
async fn what_slack_says_to_a_refresh() {
    let table = [
        ("invalid_refresh_token", json!({}), GONE),
        ("two_factor_setup_required", json!({}), ACT),
        ("bad_client_secret", json!({}), Then::Operator),
        ("ratelimited", json!({}), Then::Later),
        ("fatal_error", json!({}), Then::Later),
    ];
    each(SLACK, &table).await;
}

#[tokio::test]
async fn what_notion_says_to_a_refresh() {
    let table = [
        ("invalid_grant", json!({}), GONE),
        ("invalid_client", json!({}), Then::Operator),
        ("unauthorized", json!({}), Then::Operator),
        ("rate_limited", json!({}), Then::Later),
    ];
    each(NOTION, &table).await;
}
