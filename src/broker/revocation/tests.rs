//! How each provider that comes with grantd is asked to take a grant back, and what its answers mean.

use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use oauth2::HttpRequest;

use crate::catalog::{Catalog, Settings};
use crate::model::client::Client;
use crate::model::provider::{Provider, Revoke};
use crate::model::secret::{AccessToken, ClientSecret, RefreshToken};
use crate::model::time::Timestamp;
use crate::oauth::exchange::As;
use crate::oauth::revoke::{Revoked, revoke};
use crate::oauth::transport::{Answer, TransportError};

fn provider(id: &str) -> Provider {
    Catalog::built_in().resolve(&Settings::plain(id.parse().unwrap(), "id:1")).unwrap()
}

/// What is sent for these tokens, and what is made of the answer.
async fn asked(
    provider: &Provider,
    rules: &Revoke,
    answer: Result<(u16, &'static str), TransportError>,
) -> (Revoked, Option<HttpRequest>) {
    let client = Client { id: "id:1".to_owned(), secret: Some(ClientSecret::new("s").unwrap()), key: None };
    let sent = Mutex::new(None);
    let http = |request: HttpRequest| -> Answer<'_> {
        *sent.lock().unwrap() = Some(request);
        let answer = answer
            .clone()
            .map(|(status, body)| http::Response::builder().status(status).body(body.as_bytes().to_vec()).unwrap());
        Box::pin(std::future::ready(answer))
    };
    let whom = As { provider, client: &client, now: Timestamp::default() };
    let (access, refresh) = (AccessToken::new("at").unwrap(), RefreshToken::new("rt").unwrap());
    let revoked = revoke(whom, rules, &access, Some(&refresh), &http).await;
    (revoked, sent.into_inner().unwrap())
}

#[tokio::test]
async fn each_provider_is_asked_in_its_own_way_and_by_itself_for_this_connection_alone() {
    let basic = format!("Basic {}", STANDARD.encode("id%3A1:s"));
    for (id, wider, method, url, authorization, body) in [
        (
            "github",
            false,
            "DELETE",
            "https://api.github.com/applications/id%3A1/token",
            Some(basic.as_str()),
            r#"{"access_token":"at"}"#,
        ),
        (
            "github",
            true,
            "DELETE",
            "https://api.github.com/applications/id%3A1/grant",
            Some(basic.as_str()),
            r#"{"access_token":"at"}"#,
        ),
        ("google", true, "POST", "https://oauth2.googleapis.com/revoke", None, "token=rt"),
        ("slack", false, "POST", "https://slack.com/api/auth.revoke", Some("Bearer at"), ""),
        ("notion", false, "POST", "https://api.notion.com/v1/oauth/revoke", Some(basic.as_str()), r#"{"token":"at"}"#),
    ] {
        let provider = provider(id);
        let rules = if wider { &provider.revoke_wider } else { &provider.revoke };
        let (_, sent) = asked(&provider, rules.as_ref().unwrap(), Ok((200, ""))).await;
        let sent = sent.unwrap();
        assert_eq!((sent.method().as_str(), sent.uri().to_string().as_str()), (method, url), "{id}");
        let header = sent.headers().get(AUTHORIZATION).map(|value| value.to_str().unwrap());
        assert_eq!(header, authorization, "{id}");
        assert_eq!(std::str::from_utf8(sent.body()).unwrap(), body, "{id}");
    }
    for (id, alone, wider) in [
        ("github", true, true),
        ("google", false, true),
        ("microsoft", false, false),
        ("slack", true, false),
        ("notion", true, false),
    ] {
        let provider = provider(id);
        assert_eq!((provider.revoke.is_some(), provider.revoke_wider.is_some()), (alone, wider), "{id}");
        assert!(provider.revoke.is_none_or(|rules| !rules.reach.is_wide()), "{id}");
    }
}

#[tokio::test]
async fn an_answer_means_done_gone_refused_or_later() {
    use Revoked::{Gone, Later, Refused, Yes};
    for (id, wider, status, body, expected) in [
        ("github", false, 204, "", Yes),
        ("github", false, 404, r#"{"message":"Not Found"}"#, Gone),
        ("github", true, 404, "", Gone),
        ("github", false, 401, r#"{"message":"Bad credentials"}"#, Refused),
        ("github", false, 422, "", Refused),
        ("github", false, 429, "", Later),
        ("github", false, 502, "<html>", Later),
        ("google", true, 200, "{}", Yes),
        ("google", true, 400, r#"{"error":"invalid_token","error_description":"Token expired or revoked"}"#, Gone),
        ("google", true, 400, r#"{"error":"invalid_request"}"#, Refused),
        ("google", true, 400, "nonsense", Refused),
        ("slack", false, 200, r#"{"ok":true,"revoked":true}"#, Yes),
        ("slack", false, 200, r#"{"ok":false,"error":"token_revoked"}"#, Gone),
        ("slack", false, 200, r#"{"ok":false,"error":"account_inactive"}"#, Gone),
        ("slack", false, 200, r#"{"ok":false,"error":"token_expired"}"#, Refused),
        ("slack", false, 200, r#"{"ok":false,"error":"ratelimited"}"#, Later),
        ("slack", false, 200, r#"{"ok":false,"error":"internal_error"}"#, Later),
        ("slack", false, 200, "", Refused),
        ("notion", false, 200, r#"{"request_id":"x"}"#, Yes),
        ("notion", false, 401, r#"{"code":"unauthorized"}"#, Refused),
        ("notion", false, 400, r#"{"code":"rate_limited"}"#, Later),
    ] {
        let provider = provider(id);
        let rules = if wider { &provider.revoke_wider } else { &provider.revoke };
        let (revoked, _) = asked(&provider, rules.as_ref().unwrap(), Ok((status, body))).await;
        assert_eq!(revoked, expected, "{id} {status} {body}");
    }
}
