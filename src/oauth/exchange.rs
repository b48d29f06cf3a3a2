//! Redeeming a code and refreshing a token (RFC 6749 sections 4.1.3 and 6): one request, one answer, never a retry.

use std::borrow::Cow;

use futures_util::future::BoxFuture;
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
use crate::model::provider::Provider;
use crate::model::secret::{AuthorizationCode, CodeVerifier, RefreshToken};
use crate::oauth::answer::{self, TokenAnswer};
use crate::oauth::quirk;
use crate::oauth::rejection::Rejection;
use crate::oauth::transport::Transport;

/// A provider and our registration at it: who is asked, and as whom.
#[derive(Clone, Copy, Debug)]
pub struct As<'a> {
    /// The provider.
    pub provider: &'a Provider,
    /// Our registration.
    pub client: &'a Client,
}

/// Redeems a code at the token endpoint.
///
/// # Errors
/// A [`Rejection`]. A code may be redeemed once, so after [`Rejection::Ambiguous`] the person has to start again.
pub async fn redeem(
    whom: As<'_>,
    code: AuthorizationCode,
    verifier: Option<CodeVerifier>,
    redirect_uri: &str,
    http: &Transport<'_>,
) -> Result<TokenAnswer, Rejection> {
    let client = registered(whom);
    let mut request = client.exchange_code(oauth2::AuthorizationCode::new(code.expose().to_owned()));
    if let Some(verifier) = verifier {
        request = request.set_pkce_verifier(PkceCodeVerifier::new(verifier.expose().to_owned()));
    }
    if whom.provider.redirect.send_in_token {
        let redirect = RedirectUrl::new(redirect_uri.to_owned()).map_err(|_| Rejection::Unsent("a redirect URI"))?;
        request = request.set_redirect_uri(Cow::Owned(redirect));
    }
    for (name, value) in &whom.provider.token.code_params {
        request = request.add_extra_param(name, value);
    }
    let via = Via { provider: whom.provider, http };
    understood(whom.provider, request.request_async(&via).await)
}

/// Spends a refresh token at the token endpoint. No scope is asked for: the grant keeps what it has.
///
/// # Errors
/// A [`Rejection`]. Only [`Rejection::Unsent`] says that the refresh token has not been spent.
pub async fn refresh(whom: As<'_>, token: &RefreshToken, http: &Transport<'_>) -> Result<TokenAnswer, Rejection> {
    let client = registered(whom);
    let token = oauth2::RefreshToken::new(token.expose().to_owned());
    let mut request = client.exchange_refresh_token(&token);
    for (name, value) in &whom.provider.token.refresh_params {
        request = request.add_extra_param(name, value);
    }
    let via = Via { provider: whom.provider, http };
    understood(whom.provider, request.request_async(&via).await)
}

/// The transport as this provider needs it: its quirks on the way out and on the way back.
struct Via<'a, 't> {
    provider: &'a Provider,
    http: &'a Transport<'t>,
}

impl<'c> AsyncHttpClient<'c> for Via<'_, '_> {
    type Error = Rejection;
    type Future = BoxFuture<'c, Result<HttpResponse, Rejection>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move {
            let answer = (self.http)(quirk::outgoing(self.provider, request)).await?;
            let (parts, body) = quirk::incoming(self.provider, answer)?.into_parts();
            let body: Value =
                serde_json::from_slice(&body).map_err(|_| Rejection::Ambiguous("an answer that is not JSON"))?;
            let standard = serde_json::json!({ "access_token": "-", "token_type": "bearer", "answer": body });
            Ok(HttpResponse::from_parts(parts, standard.to_string().into_bytes()))
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

fn registered(whom: As<'_>) -> RegisteredClient {
    let client = oauth2::Client::new(ClientId::new(whom.client.id.clone()))
        .set_token_uri(TokenUrl::from_url(whom.provider.endpoints.token.clone()))
        .set_auth_type(match whom.provider.client_auth {
            ClientAuth::Basic => AuthType::BasicAuth,
            ClientAuth::None | ClientAuth::Post => AuthType::RequestBody,
        });
    match (&whom.client.secret, whom.provider.client_auth) {
        (Some(secret), ClientAuth::Basic | ClientAuth::Post) => {
            client.set_client_secret(oauth2::ClientSecret::new(secret.expose().to_owned()))
        }
        _ => client,
    }
}

/// What the `oauth2` crate made of it. Its own error types never leave here: one of them prints the raw answer.
fn understood(
    provider: &Provider,
    result: Result<TokenResponse, RequestTokenError<Rejection, BasicErrorResponse>>,
) -> Result<TokenAnswer, Rejection> {
    match result {
        Ok(response) => {
            let body = response.extra_fields().answer.clone();
            answer::read(provider, body).ok_or(Rejection::Ambiguous("an answer without an access token"))
        }
        Err(RequestTokenError::Request(rejection)) => Err(rejection),
        Err(_) => Err(Rejection::Ambiguous("an answer that could not be read")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::model::provider::rules::Rotation;
    use crate::model::secret::ClientSecret;
    use crate::oauth::quirk::tests::plain_provider;
    use crate::oauth::transport::{Answer, TransportError};

    fn client() -> Client {
        Client { id: "id:1".to_owned(), secret: Some(ClientSecret::new("s%+ :é".replace('é', "e")).unwrap()) }
    }

    fn answered(body: &'static [u8]) -> Answer<'static> {
        Box::pin(std::future::ready(Ok(http::Response::new(body.to_vec()))))
    }

    fn form(request: &HttpRequest) -> Vec<(String, String)> {
        url::form_urlencoded::parse(request.body()).into_owned().collect()
    }

    async fn seen(provider: &Provider) -> HttpRequest {
        let (client, seen) = (client(), Mutex::new(None));
        let http = |request: HttpRequest| {
            *seen.lock().unwrap() = Some(request);
            answered(br#"{"access_token":"a","expires_in":5}"#)
        };
        let whom = As { provider, client: &client };
        let answer = refresh(whom, &RefreshToken::new("r1").unwrap(), &http).await.unwrap();
        assert_eq!(answer.slots[0].access.expose(), "a");
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
    async fn a_refresh_asks_for_no_scope() {
        let request = seen(&plain_provider()).await;
        assert!(form(&request).iter().all(|(name, _)| name != "scope"));
        assert_eq!(request.method(), "POST");
        assert_eq!(request.uri().query(), None);
    }

    #[tokio::test]
    async fn what_was_not_sent_is_told_from_what_was_lost() {
        let (provider, client) = (plain_provider(), client());
        let whom = As { provider: &provider, client: &client };
        let token = RefreshToken::new("r").unwrap();
        for (failure, expected) in [
            (TransportError::Unsent("refused"), Rejection::Unsent("refused")),
            (TransportError::Lost("reset"), Rejection::Ambiguous("reset")),
        ] {
            let http = move |_: HttpRequest| -> Answer<'static> { Box::pin(std::future::ready(Err(failure.clone()))) };
            assert_eq!(refresh(whom, &token, &http).await.unwrap_err(), expected);
        }
    }

    #[tokio::test]
    async fn a_code_goes_with_its_verifier_and_redirect_uri() {
        let (provider, client, seen) = (plain_provider(), client(), Mutex::new(None));
        let http = |request: HttpRequest| {
            *seen.lock().unwrap() = Some(request);
            answered(br#"{"access_token":"a"}"#)
        };
        let whom = As { provider: &provider, client: &client };
        let code = AuthorizationCode::new("c").unwrap();
        let verifier = CodeVerifier::new("v".repeat(43)).unwrap();
        redeem(whom, code, Some(verifier), "http://localhost:1/callback/plain", &http).await.unwrap();
        let sent = form(seen.lock().unwrap().as_ref().unwrap());
        for (name, value) in
            [("code", "c"), ("code_verifier", &*"v".repeat(43)), ("redirect_uri", "http://localhost:1/callback/plain")]
        {
            assert!(sent.contains(&(name.to_owned(), value.to_owned())), "{name}");
        }
    }
}
