//! The manner of Google: full scope names, an ID token, and a revocation that wants no client and spares none.

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use crate::sandbox::answer::Answer;
use crate::sandbox::machine::{DeviceGiven, Issued, Reach, Refusal, Revocation};
use crate::sandbox::manner::route::{Route, Spot};
use crate::sandbox::manner::{Manner, MetadataFacts, Said, Scene, private};
use crate::sandbox::options::SandboxUser;
use crate::sandbox::params::Params;

const AUTHORIZE: &str = "/o/oauth2/v2/auth";
const TOKEN: &str = "/token";
const REVOKE: &str = "/revoke";
const USERINFO: &str = "/v1/userinfo";
const CERTS: &str = "/oauth2/v3/certs";

/// Google. Its hosts share one origin here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Google;

impl Manner for Google {
    fn routes(&self) -> Vec<Route> {
        vec![
            Route::at("authorize", AUTHORIZE, Spot::Authorize),
            Route::at("consent", "/signin/oauth/consent", Spot::Consent),
            Route::at("token", TOKEN, Spot::Token),
            Route::at("revoke", REVOKE, Spot::Revoke).only(Method::POST),
            Route::at("device authorization", "/device/code", Spot::Device),
            Route::at("enter a code", "/device", Spot::DevicePage),
            Route::at("userinfo", USERINFO, Spot::Account),
            Route::at("keys", CERTS, Spot::Jwks),
            Route::at("metadata", "/.well-known/openid-configuration", Spot::Metadata),
        ]
    }

    /// Whoever has a token may end it, and everything that its person gave to this project goes with it.
    fn revocation(&self, _scene: &Scene<'_>, params: &Params) -> Result<Revocation, Refusal> {
        let wanted = Revocation::of(None, params.get("token"))?;
        Ok(Revocation { reach: Reach::Person, must_exist: true, ..wanted })
    }

    fn issued(&self, scene: &Scene<'_>, issued: &[Issued], id_token: Option<&str>) -> Answer {
        let issued = &issued[0];
        let scopes: Vec<&str> = issued.scopes.iter().map(|scope| told(scene, scope)).collect();
        let mut body = json!({
            "access_token": issued.access.expose(),
            "expires_in": issued.access_ttl.map(|ttl| ttl.as_secs()),
            "token_type": "Bearer",
            "scope": scopes.join(" "),
        });
        if let Some(refresh) = &issued.refresh {
            body["refresh_token"] = refresh.expose().into();
        }
        if let Some(id_token) = id_token {
            body["id_token"] = id_token.into();
        }
        private(Answer::json(StatusCode::OK, &scene.quirks.touch(body)))
    }

    fn device_given(&self, _scene: &Scene<'_>, given: &DeviceGiven, page: &str) -> Answer {
        private(Answer::json(StatusCode::OK, &given.members("verification_url", page)))
    }

    fn named(&self, scene: &Scene<'_>, refusal: Refusal) -> Said {
        match refusal {
            Refusal::NoSecret => Said::of("invalid_request", "client_secret is missing."),
            Refusal::Client | Refusal::PublicSecret => Said::of("invalid_client", "Unauthorized"),
            Refusal::NoClient => Said::of("invalid_client", "The OAuth client was not found."),
            Refusal::RedirectUri => Said::of("redirect_uri_mismatch", "Bad Request"),
            Refusal::NoToken if scene.spot == Spot::Revoke => Said::of("invalid_token", "Token expired or revoked"),
            Refusal::RefreshToken(_) => Said::of("invalid_grant", "Token has been expired or revoked."),
            other => Said::of(other.error(), other.description()),
        }
    }

    fn error(&self, _scene: &Scene<'_>, said: &Said) -> Answer {
        let status = match said.code.as_str() {
            "invalid_client" | "deleted_client" | "unauthorized_client" => 401,
            "authorization_pending" => 428,
            "slow_down" | "access_denied" | "org_internal" | "rate_limit_exceeded" => 403,
            "internal_failure" => 500,
            _ => 400,
        };
        let body = json!({"error": said.code, "error_description": said.description});
        private(Answer::json(said.status_or(status), &said.members(body)))
    }

    fn revoked(&self, _scene: &Scene<'_>) -> Answer {
        private(Answer::json(StatusCode::OK, &json!({})))
    }

    fn id_claims(&self, scene: &Scene<'_>, user: &SandboxUser) -> Map<String, Value> {
        let bare = scene.origin.split_once("://").map_or(scene.origin, |(_, host)| host);
        let issuer = if scene.quirks.bare_issuer { bare } else { scene.origin };
        let claims = json!({
            "iss": issuer,
            "sub": user.number().to_string(),
            "name": user.name,
            "email": user.email,
            "email_verified": true,
        });
        claims.as_object().cloned().unwrap_or_default()
    }

    fn account(&self, _scene: &Scene<'_>, user: &SandboxUser) -> Answer {
        let body = json!({"sub": user.number().to_string(), "name": user.name, "email": user.email});
        private(Answer::json(StatusCode::OK, &body))
    }

    fn dead_token(&self, _scene: &Scene<'_>, _sent: bool) -> Answer {
        let body = json!({"error": "invalid_request", "error_description": "Invalid Credentials"});
        private(Answer::json(StatusCode::UNAUTHORIZED, &body))
    }

    fn metadata(&self, origin: &str, _facts: &MetadataFacts) -> Option<Value> {
        let at = |path: &str| format!("{origin}{path}");
        Some(json!({
            "issuer": origin,
            "authorization_endpoint": at(AUTHORIZE),
            "token_endpoint": at(TOKEN),
            "revocation_endpoint": at(REVOKE),
            "userinfo_endpoint": at(USERINFO),
            "jwks_uri": at(CERTS),
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "scopes_supported": ["openid", "email", "profile"],
            "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
            "code_challenge_methods_supported": ["plain", "S256"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
        }))
    }
}

/// A scope as answers tell it.
fn told<'a>(scene: &Scene<'_>, scope: &'a str) -> &'a str {
    match scope {
        "email" if scene.quirks.full_scope_names => "https://www.googleapis.com/auth/userinfo.email",
        "profile" if scene.quirks.full_scope_names => "https://www.googleapis.com/auth/userinfo.profile",
        other => other,
    }
}
