//! Redeeming a code and refreshing a token (RFC 6749 sections 4.1.3 and 6): one request, one answer, never a retry.

use std::borrow::Cow;

use futures_util::future::BoxFuture;
use http::header::{CONTENT_TYPE, HeaderValue};
use oauth2::basic::{
    BasicErrorResponse, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse, BasicTokenType,
};
use oauth2::{
    AsyncHttpClient, AuthType, ClientId, EndpointNotSet, EndpointSet, ExtraTokenFields, HttpRequest, HttpResponse,
    PkceCodeVerifier, RedirectUrl, RequestTokenError, StandardRevocableToken, StandardTokenResponse, TokenUrl,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::client::{Client, ClientAuth};
use crate::model::grant_type::GrantType;
use crate::model::id::SlotName;
use crate::model::provider::Provider;
use crate::model::provider::resources::Resource;
use crate::model::provider::rules::ScopeOnRefresh;
use crate::model::scope::ScopeSet;
use crate::model::secret::{AuthorizationCode, CodeVerifier, RefreshToken};
use crate::model::time::Timestamp;
use crate::oauth::answer::{self, SlotAnswer, TokenAnswer};
use crate::oauth::refused::Refused;
use crate::oauth::rejection::Rejection;
use crate::oauth::transport::Transport;
use crate::oauth::{assertion, quirk};

/// A provider and our registration at it: who is asked, as whom, and when.
#[derive(Clone, Copy, Debug)]
pub struct As<'a> {
    /// The provider.
    pub provider: &'a Provider,
    /// Our registration.
    pub client: &'a Client,
    /// Now: an assertion lasts a few minutes from here.
    pub now: Timestamp,
}

/// A refresh token that is to be spent, and what it is expected to bring.
#[derive(Clone, Copy, Debug)]
pub struct Spend<'a> {
    /// The refresh token.
    pub token: &'a RefreshToken,
    /// The slot of its grant.
    pub slot: &'a SlotName,
    /// What the grant may do.
    pub granted: &'a ScopeSet,
    /// The resource that the token is to be for, where it is another than the grant's own.
    pub resource: Option<&'a Resource>,
    /// How it was obtained: the client proves itself as it did then.
    pub grant_type: GrantType,
}

/// A code that is to be redeemed, and what was sent to get it.
#[derive(Debug)]
pub struct Redeem<'a> {
    /// The code.
    pub code: AuthorizationCode,
    /// The PKCE verifier (RFC 7636).
    pub verifier: Option<CodeVerifier>,
    /// Where the code came back to.
    pub redirect_uri: &'a str,
    /// The scopes that were asked for.
    pub asked: &'a ScopeSet,
}

/// Redeems a code at the token endpoint.
///
/// # Errors
/// A [`Refused`]. A code may be redeemed once, so after [`Rejection::Ambiguous`] the person has to start again.
pub async fn redeem(whom: As<'_>, redeem: Redeem<'_>, http: &Transport<'_>) -> Result<TokenAnswer, Refused> {
    let Redeem { code, verifier, redirect_uri, asked } = redeem;
    let auth = whom.provider.token_auth(GrantType::AuthorizationCode);
    let client = registered(whom, auth);
    let mut request = client.exchange_code(oauth2::AuthorizationCode::new(code.expose().to_owned()));
    if let Some(verifier) = verifier {
        request = request.set_pkce_verifier(PkceCodeVerifier::new(verifier.expose().to_owned()));
    }
    if whom.provider.redirect.send_in_token {
        let redirect = RedirectUrl::new(redirect_uri.to_owned()).map_err(|_| Rejection::Unsent("a redirect URI"))?;
        request = request.set_redirect_uri(Cow::Owned(redirect));
    }
    if let Some(scopes) = scopes_to_redeem(whom.provider, asked) {
        request = request.add_extra_param("scope", scopes.join(' '));
    }
    for (name, value) in &whom.provider.token.code_params {
        request = request.add_extra_param(name, value);
    }
    for (name, value) in assertion::params(whom, auth)? {
        request = request.add_extra_param(name, value);
    }
    let via = Via { provider: whom.provider, http };
    let body = understood(request.request_async(&via).await)?;
    answer::read(whom.provider, body).ok_or_else(|| Rejection::Ambiguous("an answer without an access token").into())
}

/// Spends a refresh token at the token endpoint. As a rule no scope is asked for, and the grant keeps what it has; where the
/// definition wants one named, it is what the grant has.
///
/// # Errors
/// A [`Refused`]. Only [`Rejection::Unsent`] says that the refresh token has not been spent.
pub async fn refresh(whom: As<'_>, spend: Spend<'_>, http: &Transport<'_>) -> Result<SlotAnswer, Refused> {
    let auth = whom.provider.token_auth(spend.grant_type);
    let client = registered(whom, auth);
    let token = oauth2::RefreshToken::new(spend.token.expose().to_owned());
    let mut request = client.exchange_refresh_token(&token);
    for scope in scopes_to_name(whom.provider, spend).iter() {
        request = request.add_scope(oauth2::Scope::new(scope.to_string()));
    }
    for (name, value) in &whom.provider.token.refresh_params {
        request = request.add_extra_param(name, value);
    }
    for (name, value) in assertion::params(whom, auth)? {
        request = request.add_extra_param(name, value);
    }
    let via = Via { provider: whom.provider, http };
    let body = understood(request.request_async(&via).await)?;
    let answer = answer::read_slot(whom.provider, spend.slot, &body);
    answer.ok_or_else(|| Rejection::Ambiguous("an answer without an access token for this grant").into())
}

/// What has to be named when a code is redeemed that is good for several resources: the token is for one of them.
fn scopes_to_redeem(provider: &Provider, asked: &ScopeSet) -> Option<ScopeSet> {
    let here = provider.scopes.at_resource(asked, provider.scopes.main_resource(asked).as_ref());
    (here.len() < asked.len()).then(|| here.iter().cloned().chain(provider.authorize.offline_scope.clone()).collect())
}

/// What a refresh names, so that the answer is for the resource that is meant. Without the scope for it there would be no
/// further refresh token, and none is wanted by whoever asks for another resource: the one at hand goes on working.
fn scopes_to_name(provider: &Provider, spend: Spend<'_>) -> ScopeSet {
    let rules = &provider.scopes;
    if let Some(resource) = spend.resource {
        return rules.at_resource(spend.granted, Some(resource));
    }
    if provider.token.scope_on_refresh == ScopeOnRefresh::Never || spend.granted.is_empty() {
        return ScopeSet::default();
    }
    let here = rules.at_resource(spend.granted, rules.main_resource(spend.granted).as_ref());
    here.iter().cloned().chain(provider.authorize.offline_scope.clone()).collect()
}

/// The transport as this provider needs it: its quirks on the way out and on the way back.
struct Via<'a, 't> {
    provider: &'a Provider,
    http: &'a Transport<'t>,
}

impl<'c> AsyncHttpClient<'c> for Via<'_, '_> {
    type Error = Refused;
    type Future = BoxFuture<'c, Result<HttpResponse, Refused>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move {
            let sent = (self.http)(quirk::outgoing(self.provider, request)).await;
            let answer = quirk::incoming(self.provider, &sent.map_err(Rejection::from)?)?;
            let standard = serde_json::json!({ "access_token": "-", "token_type": "bearer", "answer": answer });
            let mut response = HttpResponse::new(standard.to_string().into_bytes());
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            Ok(response)
        })
    }
}

type TokenResponse = StandardTokenResponse<WholeAnswer, BasicTokenType>;

/// The provider's whole answer, carried through the `oauth2` crate, which knows one grant per answer.
#[derive(Deserialize, Serialize)]
struct WholeAnswer {
    answer: Value,
}

impl ExtraTokenFields for WholeAnswer {}

impl std::fmt::Debug for WholeAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WholeAnswer([redacted])")
    }
}

type RegisteredClient = oauth2::Client<
    BasicErrorResponse,
    TokenResponse,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;

fn registered(whom: As<'_>, auth: ClientAuth) -> RegisteredClient {
    let client = oauth2::Client::new(ClientId::new(whom.client.id.clone()))
        .set_token_uri(TokenUrl::from_url(whom.provider.endpoints.token.clone()))
        .set_auth_type(match auth {
            ClientAuth::Basic => AuthType::BasicAuth,
            ClientAuth::None | ClientAuth::Post | ClientAuth::PrivateKeyJwt => AuthType::RequestBody,
        });
    match (&whom.client.secret, auth) {
        (Some(secret), ClientAuth::Basic | ClientAuth::Post) => {
            client.set_client_secret(oauth2::ClientSecret::new(secret.expose().to_owned()))
        }
        _ => client,
    }
}

/// What the `oauth2` crate made of it. Its own error types never leave here: one of them prints the raw answer.
fn understood(result: Result<TokenResponse, RequestTokenError<Refused, BasicErrorResponse>>) -> Result<Value, Refused> {
    match result {
        Ok(response) => Ok(response.extra_fields().answer.clone()),
        Err(RequestTokenError::Request(refused)) => Err(refused),
        Err(_) => Err(Rejection::Ambiguous("an answer that could not be read").into()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::model::client_key::tests::p256;
    use crate::model::provider::rules::{Encoding, Rotation, TokenKind};
    use crate::model::provider::{Revoke, RevokeAuth, RevokeMethod, RevokeReach};
    use crate::model::secret::{AccessToken, ClientSecret};
    use crate::oauth::quirk::tests::plain_provider;
    use crate::oauth::revoke;
    use crate::oauth::transport::{Answer, TransportError};

    fn client() -> Client {
        let secret = Some(ClientSecret::new("s%+ :é".replace('é', "e")).unwrap());
        Client { id: "id:1".to_owned(), secret, key: None }
    }

    fn answered(body: &'static [u8]) -> Answer<'static> {
        Box::pin(std::future::ready(Ok(http::Response::new(body.to_vec()))))
    }

    fn form(request: &HttpRequest) -> Vec<(String, String)> {
        url::form_urlencoded::parse(request.body()).into_owned().collect()
    }

    async fn spend(provider: &Provider, client: &Client, http: &Transport<'_>) -> Result<SlotAnswer, Refused> {
        let whom = As { provider, client, now: Timestamp::from_secs(0) };
        let (token, granted) = (RefreshToken::new("r1").unwrap(), ScopeSet::read("b a", ' '));
        let spend = Spend {
            token: &token,
            slot: &SlotName::main(),
            granted: &granted,
            grant_type: GrantType::AuthorizationCode,
            resource: None,
        };
        refresh(whom, spend, http).await
    }

    fn code<'a>(asked: &'a ScopeSet, redirect_uri: &'a str) -> Redeem<'a> {
        let verifier = Some(CodeVerifier::new("v".repeat(43)).unwrap());
        Redeem { code: AuthorizationCode::new("c").unwrap(), verifier, redirect_uri, asked }
    }

    async fn seen(provider: &Provider) -> HttpRequest {
        let (client, seen) = (client(), Mutex::new(None));
        let http = |request: HttpRequest| {
            *seen.lock().unwrap() = Some(request);
            answered(br#"{"access_token":"a","expires_in":5}"#)
        };
        let answer = spend(provider, &client, &http).await.unwrap();
        assert_eq!(answer.access.expose(), "a");
        seen.into_inner().unwrap().unwrap()
    }

    #[tokio::test]
    async fn the_client_proves_itself_in_one_way_only() {
        let mut provider = plain_provider();
        provider.refresh.rotation = Rotation::SingleUse;
        let post = seen(&provider).await;
        assert!(!post.headers().contains_key("authorization"));
        assert!(form(&post).contains(&("client_secret".to_owned(), "s%+ :e".to_owned())));

        provider.client_auth = ClientAuth::Basic;
        let basic = seen(&provider).await;
        let header = basic.headers()["authorization"].to_str().unwrap().to_owned();
        assert_eq!(header, "Basic aWQlM0ExOnMlMjUlMkIrJTNBZQ==");
        assert!(form(&basic).iter().all(|(name, _)| name != "client_secret" && name != "client_id"));

        provider.client_auth = ClientAuth::None;
        let public = seen(&provider).await;
        assert!(!public.headers().contains_key("authorization"));
        assert!(form(&public).iter().all(|(name, _)| name != "client_secret"));
        assert!(form(&public).contains(&("client_id".to_owned(), "id:1".to_owned())));
    }

    #[tokio::test]
    async fn a_refresh_names_what_the_grant_has_where_the_definition_wants_it() {
        let mut provider = plain_provider();
        provider.token.scope_on_refresh = ScopeOnRefresh::Granted;
        provider.authorize.offline_scope = Some("offline_access".parse().unwrap());
        assert!(form(&seen(&provider).await).contains(&("scope".to_owned(), "a b offline_access".to_owned())));
    }

    #[tokio::test]
    async fn a_refresh_asks_for_no_scope() {
        let request = seen(&plain_provider()).await;
        assert!(form(&request).iter().all(|(name, _)| name != "scope"));
        assert_eq!(request.method(), "POST");
        assert_eq!(request.uri().query(), None);
    }

    #[tokio::test]
    async fn an_assertion_takes_the_place_of_the_secret_in_every_request() {
        let mut provider = plain_provider();
        provider.client_auth = ClientAuth::PrivateKeyJwt;
        let (key, seen) = (p256().0, Mutex::new(Vec::new()));
        let client = Client { id: "id:1".to_owned(), secret: None, key: Some(key) };
        let http = |request: HttpRequest| {
            seen.lock().unwrap().push(request);
            answered(br#"{"access_token":"a"}"#)
        };
        let whom = As { provider: &provider, client: &client, now: Timestamp::from_secs(0) };
        spend(&provider, &client, &http).await.unwrap();
        redeem(whom, code(&ScopeSet::default(), "http://localhost:1/callback"), &http).await.unwrap();
        let rules = Revoke {
            method: RevokeMethod::Post,
            url: "https://as.example/revoke".parse().unwrap(),
            auth: RevokeAuth::Post,
            encoding: Encoding::Form,
            body: [("token".to_owned(), "{token}".to_owned())].into(),
            token: TokenKind::Access,
            ok_http: vec![200],
            gone_http: Vec::new(),
            gone_code: Vec::new(),
            reach: RevokeReach::Token,
            takes: None,
        };
        revoke::revoke(whom, &rules, &AccessToken::new("a").unwrap(), None, &http).await;
        let seen = seen.into_inner().unwrap();
        assert_eq!(seen.len(), 3);
        let mut assertions = std::collections::HashSet::new();
        for request in &seen {
            let sent = form(request);
            let value = |name: &str| sent.iter().find(|(sent, _)| sent == name).map(|(_, value)| value.as_str());
            assert!(!request.headers().contains_key("authorization") && value("client_secret").is_none());
            assert_eq!(value("client_id"), Some("id:1"));
            let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
            assert_eq!(value("client_assertion_type"), Some(kind));
            assert!(assertions.insert(value("client_assertion").unwrap().to_owned()), "each is used once");
        }
    }

    #[tokio::test]
    async fn what_was_not_sent_is_told_from_what_was_lost() {
        let (provider, client) = (plain_provider(), client());
        for (failure, expected) in [
            (TransportError::Unsent("refused"), Rejection::Unsent("refused")),
            (TransportError::Lost("reset"), Rejection::Ambiguous("reset")),
        ] {
            let http = move |_: HttpRequest| -> Answer<'static> { Box::pin(std::future::ready(Err(failure.clone()))) };
            assert_eq!(spend(&provider, &client, &http).await.unwrap_err().rejection, expected);
        }
    }

    #[tokio::test]
    async fn a_code_goes_with_its_verifier_and_redirect_uri() {
        let (provider, client, seen) = (plain_provider(), client(), Mutex::new(None));
        let http = |request: HttpRequest| {
            *seen.lock().unwrap() = Some(request);
            answered(br#"{"access_token":"a"}"#)
        };
        let whom = As { provider: &provider, client: &client, now: Timestamp::from_secs(0) };
        redeem(whom, code(&ScopeSet::read("a b", ' '), "http://localhost:1/callback/plain"), &http).await.unwrap();
        let sent = form(seen.lock().unwrap().as_ref().unwrap());
        for (name, value) in
            [("code", "c"), ("code_verifier", &*"v".repeat(43)), ("redirect_uri", "http://localhost:1/callback/plain")]
        {
            assert!(sent.contains(&(name.to_owned(), value.to_owned())), "{name}");
        }
        assert!(sent.iter().all(|(name, _)| name != "scope"), "the code says it");
    }

    #[tokio::test]
    async fn where_a_token_is_for_one_resource_every_request_names_one() {
        let mut provider = plain_provider();
        provider.token.scope_on_refresh = ScopeOnRefresh::Granted;
        provider.authorize.offline_scope = Some("offline_access".parse().unwrap());
        provider.scopes.one_resource = true;
        provider.scopes.prefix = Some("https://graph/".to_owned());
        provider.scopes.aliases = [("openid".parse().unwrap(), "openid".parse().unwrap())].into();
        let (client, seen) = (client(), Mutex::new(Vec::new()));
        let http = |request: HttpRequest| {
            seen.lock().unwrap().push(form(&request));
            answered(br#"{"access_token":"a"}"#)
        };
        let whom = As { provider: &provider, client: &client, now: Timestamp::from_secs(0) };
        let granted = ScopeSet::read("openid https://graph/Mail.Read https://vault/x https://vault/y", ' ');
        let vault = provider.scopes.wanted_resource(&ScopeSet::read("https://vault/x", ' ')).unwrap();
        let token = RefreshToken::new("r1").unwrap();
        let grant_type = GrantType::AuthorizationCode;
        let spend = Spend { token: &token, slot: &SlotName::main(), granted: &granted, grant_type, resource: None };
        redeem(whom, code(&granted, "http://localhost:1/callback"), &http).await.unwrap();
        refresh(whom, spend, &http).await.unwrap();
        refresh(whom, Spend { resource: vault.as_ref(), ..spend }, &http).await.unwrap();
        let named = |sent: &Vec<(String, String)>| {
            sent.iter().find(|(name, _)| name == "scope").map(|(_, scopes)| scopes.clone()).unwrap()
        };
        let named: Vec<_> = seen.lock().unwrap().iter().map(named).collect();
        let main = "https://graph/Mail.Read offline_access openid";
        assert_eq!(named, [main, main, "https://vault/x https://vault/y openid"]);
    }
}
