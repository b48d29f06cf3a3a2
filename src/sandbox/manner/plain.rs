//! The plain manner: OAuth 2.0 and OpenID Connect as RFC 6749, RFC 8414 and OpenID Connect Core write them.

use http::StatusCode;
use http::header::WWW_AUTHENTICATE;
use serde_json::{Value, json};

use crate::sandbox::answer::Answer;
use crate::sandbox::machine::{DEVICE_GRANT_TYPE, DeviceGiven, Issued};
use crate::sandbox::manner::route::{Route, Spot};
use crate::sandbox::manner::{Manner, MetadataFacts, Said, Scene, private};
use crate::sandbox::options::SandboxUser;

const AUTHORIZE: &str = "/authorize";
const DEVICE: &str = "/device_authorization";
const TOKEN: &str = "/token";
const REVOKE: &str = "/revoke";
const USERINFO: &str = "/userinfo";
const JWKS: &str = "/jwks.json";

/// OAuth 2.0 and OpenID Connect without quirks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plain;

impl Manner for Plain {
    fn routes(&self) -> Vec<Route> {
        vec![
            Route::at("authorize", AUTHORIZE, Spot::Authorize),
            Route::at("consent", "/consent", Spot::Consent),
            Route::at("token", TOKEN, Spot::Token),
            Route::at("device authorization", DEVICE, Spot::Device),
            Route::at("enter a code", "/device", Spot::DevicePage),
            Route::at("revoke", REVOKE, Spot::Revoke),
            Route::at("userinfo", USERINFO, Spot::Account),
            Route::at("example API", "/api/me", Spot::Account),
            Route::at("keys", JWKS, Spot::Jwks),
            Route::at("metadata", "/.well-known/openid-configuration", Spot::Metadata),
            Route::at("metadata", "/.well-known/oauth-authorization-server", Spot::Metadata),
        ]
    }

    fn issued(&self, scene: &Scene<'_>, issued: &[Issued], id_token: Option<&str>) -> Answer {
        let issued = &issued[0];
        let mut body = json!({
            "access_token": issued.access.expose(),
            "token_type": "Bearer",
            "scope": issued.scopes.join(" "),
        });
        if let Some(ttl) = issued.access_ttl {
            body["expires_in"] = ttl.as_secs().into();
        }
        if let Some(refresh) = &issued.refresh {
            body["refresh_token"] = refresh.expose().into();
            if let Some(ttl) = issued.refresh_ttl {
                body["refresh_token_expires_in"] = ttl.as_secs().into();
            }
        }
        if let Some(id_token) = id_token {
            body["id_token"] = id_token.into();
        }
        private(Answer::json(StatusCode::OK, &scene.quirks.touch(body)))
    }

    fn device_given(&self, _scene: &Scene<'_>, given: &DeviceGiven, page: &str) -> Answer {
        let mut body = given.members("verification_uri", page);
        body["verification_uri_complete"] = format!("{page}?user_code={}", given.user_code).into();
        private(Answer::json(StatusCode::OK, &body))
    }

    fn error(&self, _scene: &Scene<'_>, said: &Said) -> Answer {
        let body = said.members(json!({"error": said.code, "error_description": said.description}));
        if said.code == "invalid_client" {
            let answer = Answer::json(said.status_or(401), &body);
            return private(answer.header(WWW_AUTHENTICATE, "Basic realm=\"sandbox\""));
        }
        private(Answer::json(said.status_or(400), &body))
    }

    fn revoked(&self, _scene: &Scene<'_>) -> Answer {
        private(Answer::empty(StatusCode::OK))
    }

    fn account(&self, _scene: &Scene<'_>, user: &SandboxUser) -> Answer {
        private(Answer::json(StatusCode::OK, &json!({"sub": &*user.sub, "name": user.name, "email": user.email})))
    }

    fn dead_token(&self, _scene: &Scene<'_>, sent: bool) -> Answer {
        // A request without a token is told nothing but how to ask (RFC 6750 section 3.1).
        let challenge = if sent {
            "Bearer realm=\"sandbox\", error=\"invalid_token\", error_description=\"expired, revoked or unknown\""
        } else {
            "Bearer realm=\"sandbox\""
        };
        let answer = Answer::json(StatusCode::UNAUTHORIZED, &json!({"error": "invalid_token"}));
        private(answer.header(WWW_AUTHENTICATE, challenge))
    }

    fn metadata(&self, issuer: &str, facts: &MetadataFacts) -> Option<Value> {
        let at = |path: &str| format!("{issuer}{path}");
        let mut scopes =
            vec!["openid".to_owned(), "profile".to_owned(), "email".to_owned(), "offline_access".to_owned()];
        if let Some(known) = &facts.scopes {
            scopes.clone_from(known);
        }
        Some(json!({
            "issuer": issuer,
            "authorization_endpoint": at(AUTHORIZE),
            "token_endpoint": at(TOKEN),
            "device_authorization_endpoint": at(DEVICE),
            "revocation_endpoint": at(REVOKE),
            "userinfo_endpoint": at(USERINFO),
            "jwks_uri": at(JWKS),
            "scopes_supported": scopes,
            "claims_supported": ["iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "at_hash", "name", "email"],
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code", "refresh_token", DEVICE_GRANT_TYPE],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
            "revocation_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
            "code_challenge_methods_supported": ["S256"],
            "prompt_values_supported": ["none", "login", "consent", "select_account"],
            "request_parameter_supported": false,
            "request_uri_parameter_supported": false,
            "authorization_response_iss_parameter_supported": facts.iss_on_callback,
        }))
    }
}
