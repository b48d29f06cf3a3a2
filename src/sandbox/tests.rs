//! The sandbox as a client sees it.

mod authorize;
mod control;
mod device;
mod faults;
mod manners;
mod oidc;
mod refresh;
mod token;

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION};
use serde_json::Value;
use sha2::{Digest, Sha256};
use url::Url;

use crate::clock::ManualClock;
use crate::model::time::Timestamp;
use crate::sandbox::{DEFAULT_CLIENT, DEFAULT_SECRET, Decision, Options, Rotation, Sandbox};

const CALLBACK: &str = "http://localhost:8717/callback";
const VERIFIER: &str = "a-verifier-that-is-long-enough-for-rfc-7636.";

/// A sandbox and somebody who talks to it.
struct Setup {
    sandbox: Sandbox,
    http: reqwest::Client,
    clock: Arc<ManualClock>,
}

/// What came back: status, headers and body.
struct Reply {
    status: u16,
    headers: http::HeaderMap,
    body: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.body))
    }

    fn text(&self, member: &str) -> String {
        self.json()[member].as_str().unwrap_or_else(|| panic!("no {member} in {}", self.body)).to_owned()
    }

    fn error(&self) -> String {
        self.text("error")
    }
}

fn consenting() -> Options {
    Options { auto_consent: Some(Decision::Allow { sub: None }), ..Options::default() }
}

fn rotating(rotation: Rotation) -> Options {
    Options { rotation, ..consenting() }
}

impl Setup {
    #[expect(clippy::disallowed_methods, reason = "this is the other side, not grantd's way out")]
    async fn new(options: Options) -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
        let options = Options { clock: Arc::clone(&clock) as _, ..options };
        Self {
            sandbox: Sandbox::start(options).await.unwrap(),
            http: reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap(),
            clock,
        }
    }

    fn at(&self, path: &str) -> Url {
        self.sandbox.url().join(path).unwrap()
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Reply, reqwest::Error> {
        let response = request.send().await?;
        Ok(Reply {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.text().await?,
        })
    }

    async fn get(&self, path: &str) -> Reply {
        self.send(self.http.get(self.at(path))).await.unwrap()
    }

    async fn try_post(&self, path: &str, form: &[(&str, &str)]) -> Result<Reply, reqwest::Error> {
        let secret = format!("Basic {}", STANDARD.encode(format!("{DEFAULT_CLIENT}:{DEFAULT_SECRET}")));
        self.send(self.form(path, form).header(AUTHORIZATION, secret)).await
    }

    async fn post(&self, path: &str, form: &[(&str, &str)]) -> Reply {
        self.try_post(path, form).await.unwrap()
    }

    fn form(&self, path: &str, form: &[(&str, &str)]) -> reqwest::RequestBuilder {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        self.http.post(self.at(path)).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body)
    }

    fn authorization(&self, changes: &[(&str, &str)]) -> Url {
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER));
        let mut params: Vec<(&str, &str)> = vec![
            ("client_id", DEFAULT_CLIENT),
            ("redirect_uri", CALLBACK),
            ("response_type", "code"),
            ("scope", "openid read write"),
            ("state", "s t&te"),
            ("nonce", "n-1"),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        for change in changes {
            params.retain(|(name, _)| *name != change.0);
            params.push(*change);
        }
        let mut url = self.at("/authorize");
        url.query_pairs_mut().extend_pairs(params);
        url
    }

    async fn authorize(&self, changes: &[(&str, &str)]) -> Reply {
        self.send(self.http.get(self.authorization(changes))).await.unwrap()
    }

    /// The parameters that come back to the client.
    async fn callback(&self, changes: &[(&str, &str)]) -> HashMap<String, String> {
        answer_of(&self.authorize(changes).await)
    }

    async fn code(&self) -> String {
        self.callback(&[]).await.remove("code").unwrap()
    }

    async fn redeem(&self, code: &str) -> Reply {
        self.redeem_with(code, CALLBACK, VERIFIER).await
    }

    async fn redeem_with(&self, code: &str, redirect_uri: &str, verifier: &str) -> Reply {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_uri),
            ("code_verifier", verifier),
        ];
        self.post("/token", &form).await
    }

    async fn tokens(&self) -> Reply {
        let reply = self.redeem(&self.code().await).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply
    }

    async fn try_refresh(&self, token: &str) -> Result<Reply, reqwest::Error> {
        self.try_post("/token", &[("grant_type", "refresh_token"), ("refresh_token", token)]).await
    }

    async fn refresh(&self, token: &str) -> Reply {
        self.try_refresh(token).await.unwrap()
    }

    /// The status that a token gets at the example API.
    async fn opens(&self, access_token: &str) -> u16 {
        self.send(self.http.get(self.at("/api/me")).bearer_auth(access_token)).await.unwrap().status
    }

    /// Whether the kernel has had the time to tell.
    async fn settled(&self, mut until: impl FnMut() -> bool) -> bool {
        for _ in 0..200 {
            if until() {
                return true;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        false
    }
}

fn answer_of(reply: &Reply) -> HashMap<String, String> {
    assert_eq!(reply.status, 303, "{}", reply.body);
    let target = Url::parse(reply.headers[LOCATION].to_str().unwrap()).unwrap();
    assert!(target.as_str().starts_with(CALLBACK), "{target}");
    target.query_pairs().into_owned().collect()
}
