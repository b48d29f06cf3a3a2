//! What each manner does that the plain one does not, as a client sees it that makes a mistake.

use http::header::{ACCEPT, AUTHORIZATION, USER_AGENT};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::sandbox::tests::{Reply, Setup};
use crate::sandbox::{DEFAULT_CLIENT, DEFAULT_SECRET, Issued, Options, Role, SandboxClient};

const ADA: &str = "u-1001";

async fn playing(role: Role) -> Setup {
    Setup::new(Options::of(role)).await
}

fn given(setup: &Setup) -> Issued {
    setup.sandbox.give(DEFAULT_CLIENT, ADA, &["openid", "email", "User.Read"]).unwrap()
}

fn spending(issued: &Issued) -> Vec<(&'static str, String)> {
    let refresh = issued.refresh.as_ref().unwrap().expose().to_owned();
    vec![("grant_type", "refresh_token".to_owned()), ("refresh_token", refresh)]
}

impl Setup {
    /// A form with the client in the body.
    async fn form_at(&self, path: &str, form: Vec<(&'static str, String)>, accept: &str) -> Reply {
        let client = [("client_id", DEFAULT_CLIENT.to_owned()), ("client_secret", DEFAULT_SECRET.to_owned())];
        let form: Vec<_> = form.into_iter().chain(client).collect();
        let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.send(self.form(path, &form).header(ACCEPT, accept)).await.unwrap()
    }

    async fn json_at(&self, method: Method, path: &str, body: &Value, client: Option<&str>) -> Reply {
        let request = self.http.request(method, self.at(path)).header("content-type", "application/json");
        let request = request.body(body.to_string());
        let request = match client {
            Some(id) => request.basic_auth(id, Some(DEFAULT_SECRET)),
            None => request,
        };
        self.send(request).await.unwrap()
    }
}

#[tokio::test]
async fn github_answers_with_a_form_unless_json_is_accepted_and_errors_have_status_200() {
    let setup = playing(Role::Github).await;
    let issued = given(&setup);
    let path = "/login/oauth/access_token";
    let form = setup.form_at(path, spending(&issued), "*/*").await;
    assert!(
        form.body.starts_with("access_token=at_MARK_") && form.body.contains("scope=openid%2Cemail"),
        "{}",
        form.body
    );
    assert!(!setup.sandbox.opens(issued.access.expose()), "the old one dies at once");
    for (accept, start) in
        [("*/*", "error=bad_refresh_token"), ("application/json", "{\"error\":\"bad_refresh_token\"")]
    {
        let again = setup.form_at(path, spending(&issued), accept).await;
        assert_eq!(again.status, 200);
        assert!(again.body.starts_with(start), "{}", again.body);
    }
    let bare = [("grant_type", "refresh_token"), ("refresh_token", "x"), ("client_id", DEFAULT_CLIENT)];
    let bare = setup.send(setup.form(path, &bare).header(ACCEPT, "application/json")).await.unwrap();
    assert_eq!(bare.error(), "incorrect_client_credentials", "there are no public clients");
}

#[tokio::test]
async fn github_wants_to_know_who_asks_and_revokes_for_the_client_in_the_path() {
    let setup = playing(Role::Github).await;
    let issued = given(&setup);
    let user = |agent: Option<&str>| {
        let request = setup.http.get(setup.at("/user")).bearer_auth(issued.access.expose());
        setup.send(match agent {
            Some(agent) => request.header(USER_AGENT, agent),
            None => request,
        })
    };
    assert_eq!(user(None).await.unwrap().status, 403);
    assert_eq!(user(Some("test")).await.unwrap().json()["id"], 1001, "a number");

    let body = json!({"access_token": issued.access.expose()});
    let refresh = json!({"access_token": issued.refresh.as_ref().unwrap().expose()});
    let mine = format!("/applications/{DEFAULT_CLIENT}/token");
    for (path, body, client, status) in [
        (mine.as_str(), &body, None, 404),
        (mine.as_str(), &body, Some("another"), 404),
        ("/applications/another/token", &body, Some(DEFAULT_CLIENT), 404),
        (mine.as_str(), &refresh, Some(DEFAULT_CLIENT), 422),
        (mine.as_str(), &json!({}), Some(DEFAULT_CLIENT), 422),
        (mine.as_str(), &body, Some(DEFAULT_CLIENT), 204),
        (mine.as_str(), &body, Some(DEFAULT_CLIENT), 422),
    ] {
        let reply = setup.json_at(Method::DELETE, path, body, client).await;
        assert_eq!(reply.status, status, "{path} {body} {client:?}: {}", reply.body);
    }
    assert!(!setup.sandbox.opens(issued.access.expose()));
    let (one, other) = (given(&setup), given(&setup));
    let whole = format!("/applications/{DEFAULT_CLIENT}/grant");
    let body = json!({"access_token": one.access.expose()});
    assert_eq!(setup.json_at(Method::DELETE, &whole, &body, Some(DEFAULT_CLIENT)).await.status, 204);
    assert!(!setup.sandbox.opens(other.access.expose()), "the whole grant is gone");
}

#[tokio::test]
async fn google_tells_no_refresh_token_again_and_its_revocation_spares_no_client() {
    let mut options = Options::of(Role::Google);
    options.clients.push(SandboxClient::public("another"));
    let setup = Setup::new(options).await;
    let issued = given(&setup);
    let neighbour = setup.sandbox.give("another", ADA, &["openid"]).unwrap();
    let stranger = setup.sandbox.give("another", "u-1002", &["openid"]).unwrap();
    let renewed = setup.form_at("/token", spending(&issued), "*/*").await;
    assert_eq!(renewed.json().get("refresh_token"), None);
    assert_eq!(renewed.text("scope"), "openid https://www.googleapis.com/auth/userinfo.email User.Read");
    assert_eq!(setup.form_at("/token", spending(&issued), "*/*").await.status, 200, "it is never spent");
    for (token, status) in [("unknown", 400), (issued.access.expose(), 200), (issued.access.expose(), 400)] {
        let reply = setup.send(setup.form("/revoke", &[("token", token)])).await.unwrap();
        assert_eq!(reply.status, status, "{}", reply.body);
    }
    assert!(!setup.sandbox.opens(neighbour.access.expose()), "the project is the same");
    assert!(setup.sandbox.opens(stranger.access.expose()));
    let secretless = [("grant_type", "refresh_token"), ("refresh_token", "x"), ("client_id", DEFAULT_CLIENT)];
    let reply = setup.send(setup.form("/token", &secretless)).await.unwrap();
    assert_eq!((reply.status, reply.text("error_description").as_str()), (400, "client_secret is missing."));
}

#[tokio::test]
async fn microsoft_puts_a_number_beside_each_error() {
    let mut options = Options::of(Role::Microsoft);
    options.clients.push(SandboxClient::public("public"));
    let setup = Setup::new(options).await;
    let issued = setup.sandbox.give(DEFAULT_CLIENT, ADA, &["User.Read", "offline_access"]).unwrap();
    let mut spent = spending(&issued);
    for (path, status, number) in [
        ("/nowhere/oauth2/v2.0/token", 400, 900_144),
        ("/common/oauth2/v2.0/token", 200, 0),
        ("/5a4d0b0e-0000-4000-8000-5a4d0b0e0001/oauth2/v2.0/token", 200, 0),
    ] {
        let reply = setup.form_at(path, spent.clone(), "*/*").await;
        assert_eq!(reply.status, status, "{}", reply.body);
        assert_eq!(reply.json()["error_codes"][0].as_i64().unwrap_or_default(), number, "{}", reply.body);
    }
    for (scope, status) in [("User.Read", 200), ("https://graph.microsoft.com/User.Read", 200), ("Mail.Read", 400)] {
        spent.push(("scope", scope.to_owned()));
        let reply = setup.form_at("/common/oauth2/v2.0/token", spent.clone(), "*/*").await;
        assert_eq!(reply.status, status, "{scope}: {}", reply.body);
        spent.pop();
    }
    let public =
        [("client_id", "public"), ("client_secret", "s"), ("grant_type", "refresh_token"), ("refresh_token", "x")];
    let reply = setup.send(setup.form("/common/oauth2/v2.0/token", &public)).await.unwrap();
    assert_eq!(reply.json()["error_codes"], json!([700_025]), "{}", reply.body);
    assert_eq!(setup.send(setup.form("/common/oauth2/v2.0/logout", &[])).await.unwrap().status, 405);
}

#[tokio::test]
async fn slack_says_ok_or_not_in_status_200_and_keeps_two_access_tokens() {
    let setup = playing(Role::Slack).await;
    let issued = given(&setup);
    let first = setup.form_at("/api/oauth.v2.access", spending(&issued), "*/*").await;
    assert_eq!((&first.json()["ok"], &first.json()["scope"]), (&json!(true), &json!("openid,email,User.Read")));
    assert!(setup.sandbox.opens(issued.access.expose()), "the old one lives on");
    let spend = vec![("grant_type", "refresh_token".to_owned()), ("refresh_token", first.text("refresh_token"))];
    assert_eq!(setup.form_at("/api/oauth.v2.access", spend, "*/*").await.status, 200);
    assert!(!setup.sandbox.opens(issued.access.expose()), "and two are the most");
    assert!(setup.sandbox.opens(&first.text("access_token")));

    let wrong = vec![("grant_type", "refresh_token".to_owned()), ("refresh_token", "x".to_owned())];
    let refused = setup.form_at("/api/oauth.v2.access", wrong, "*/*").await;
    assert_eq!((refused.status, refused.json()), (200, json!({"ok": false, "error": "invalid_refresh_token"})));
    let revoke =
        |token: &str| setup.send(setup.form("/api/auth.revoke", &[]).header(AUTHORIZATION, format!("Bearer {token}")));
    assert_eq!(revoke("x").await.unwrap().error(), "invalid_auth");
    assert_eq!(revoke(&first.text("access_token")).await.unwrap().json()["revoked"], true);
    let test = setup.http.get(setup.at("/api/auth.test")).bearer_auth(first.text("access_token"));
    assert_eq!(setup.send(test).await.unwrap().json(), json!({"ok": false, "error": "invalid_auth"}));
}

#[tokio::test]
async fn notion_takes_json_and_basic_and_nothing_else() {
    let setup = playing(Role::Notion).await;
    let issued = given(&setup);
    let spend = json!({"grant_type": "refresh_token", "refresh_token": issued.refresh.as_ref().unwrap().expose()});
    assert_eq!(setup.form_at("/v1/oauth/token", spending(&issued), "*/*").await.error(), "invalid_request");
    let mut in_body = spend.clone();
    in_body["client_id"] = DEFAULT_CLIENT.into();
    in_body["client_secret"] = DEFAULT_SECRET.into();
    let refused = setup.json_at(Method::POST, "/v1/oauth/token", &in_body, None).await;
    assert_eq!((refused.status, refused.error().as_str()), (401, "invalid_client"));
    let renewed = setup.json_at(Method::POST, "/v1/oauth/token", &spend, Some(DEFAULT_CLIENT)).await;
    assert_eq!((renewed.status, renewed.json().get("expires_in")), (200, None), "{}", renewed.body);
    assert_eq!(renewed.json()["owner"]["user"]["name"], "Ada Lovelace");
    assert!(renewed.text("refresh_token").starts_with("rt_MARK_"));

    let me = setup.http.get(setup.at("/v1/users/me")).bearer_auth(renewed.text("access_token"));
    let versioned = me.try_clone().unwrap().header("notion-version", "2025-09-03");
    assert_eq!(setup.send(me).await.unwrap().json()["code"], "validation_error");
    assert_eq!(setup.send(versioned).await.unwrap().status, StatusCode::OK.as_u16());
    let token = json!({"token": renewed.text("access_token")});
    assert_eq!(setup.json_at(Method::POST, "/v1/oauth/revoke", &token, Some(DEFAULT_CLIENT)).await.status, 200);
    assert_eq!(setup.sandbox.grants()[0].ended, Some("revoked_by_client"));
}
