//! The manner of Microsoft's identity platform: the directory in the path and in the issuer, and numbers beside the errors.

use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::sandbox::answer::Answer;
use crate::sandbox::machine::{Credentials, Issued, Refusal};
use crate::sandbox::manner::route::{Route, Spot};
use crate::sandbox::manner::{Manner, MetadataFacts, Said, Scene, private};
use crate::sandbox::options::{IdTokenFlaw, SandboxUser};
use crate::sandbox::params::Params;

/// The directory of all personal accounts.
const PERSONAL: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";
/// What answers put before the names of scopes when they tell them in full.
const GRAPH: &str = "https://graph.microsoft.com/";

/// Microsoft's identity platform, v2.0. Sign-in host and Graph share one origin here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Microsoft;

impl Manner for Microsoft {
    fn routes(&self) -> Vec<Route> {
        vec![
            Route::at("authorize", "/{tenant}/oauth2/v2.0/authorize", Spot::Authorize),
            Route::at("consent", "/kmsi", Spot::Consent),
            Route::at("token", "/{tenant}/oauth2/v2.0/token", Spot::Token),
            Route::at("device authorization", "/{tenant}/oauth2/v2.0/devicecode", Spot::Device),
            Route::at("enter a code", "/devicelogin", Spot::DevicePage),
            Route::at("keys", "/{tenant}/discovery/v2.0/keys", Spot::Jwks),
            Route::at("Graph", "/v1.0/me", Spot::Account),
            Route::at("userinfo", "/oidc/userinfo", Spot::Account),
            Route::at("metadata", "/{tenant}/v2.0/.well-known/openid-configuration", Spot::Metadata),
        ]
    }

    /// Refuses a directory that does not exist before it looks at the client.
    fn credentials(&self, scene: &Scene<'_>, params: &Params) -> Result<Credentials, Refusal> {
        let tenant = scene.call.captured("tenant").unwrap_or_default();
        if !["common", "organizations", "consumers", &scene.quirks.tenant].contains(&tenant) {
            return Err(Refusal::Request("AADSTS90002: Tenant not found."));
        }
        Credentials::read(&scene.call.headers, params)
    }

    fn issued(&self, scene: &Scene<'_>, issued: &[Issued], id_token: Option<&str>) -> Answer {
        let issued = &issued[0];
        let ttl = issued.access_ttl.map(|ttl| ttl.as_secs());
        let mut body = json!({
            "token_type": "Bearer",
            "scope": told(scene, &issued.scopes),
            "expires_in": ttl,
            "ext_expires_in": ttl,
            "access_token": issued.access.expose(),
        });
        if let Some(refresh) = &issued.refresh {
            body["refresh_token"] = refresh.expose().into();
        }
        if let Some(id_token) = id_token {
            body["id_token"] = id_token.into();
        }
        private(Answer::json(StatusCode::OK, &scene.quirks.touch(body)))
    }

    fn named(&self, _scene: &Scene<'_>, refusal: Refusal) -> Said {
        let (code, number, words) = match refusal {
            Refusal::NoClient => ("unauthorized_client", 700_016, "Application was not found in the directory."),
            Refusal::Assertion => ("invalid_client", 700_027, "Client assertion failed signature validation."),
            Refusal::Client => ("invalid_client", 7_000_215, "Invalid client secret provided."),
            Refusal::NoSecret => ("invalid_client", 7_000_218, "The request body must contain client_secret."),
            Refusal::PublicSecret => {
                ("invalid_client", 700_025, "Client is public so neither assertion nor secret should be presented.")
            }
            Refusal::Code(why) => ("invalid_grant", 70_008, why),
            Refusal::RedirectUri => ("invalid_client", 50_011, "The redirect URI does not match."),
            Refusal::RefreshToken(why) => ("invalid_grant", 700_082, why),
            Refusal::Scope => ("invalid_scope", 70_011, refusal.description()),
            Refusal::GrantType => ("unsupported_grant_type", 70_003, refusal.description()),
            Refusal::Request(why) => ("invalid_request", 900_144, why),
            Refusal::Pending => ("authorization_pending", 70_016, refusal.description()),
            Refusal::SlowDown { .. } => ("slow_down", 70_016, refusal.description()),
            Refusal::Expired => ("expired_token", 70_020, refusal.description()),
            Refusal::Denied => ("authorization_declined", 65_004, refusal.description()),
            Refusal::DeviceCode(why) => ("bad_verification_code", 70_018, why),
            Refusal::ForeignToken | Refusal::NoToken => ("invalid_grant", 70_000, refusal.description()),
        };
        let members = json!({"error_codes": [number]});
        let said = Said::of(code, &format!("AADSTS{number}: {words}"));
        Said { more: members.as_object().cloned().unwrap_or_default(), ..said }
    }

    fn error(&self, _scene: &Scene<'_>, said: &Said) -> Answer {
        let status = match said.code.as_str() {
            "invalid_client" => 401,
            "server_error" => 500,
            "temporarily_unavailable" => 503,
            _ => 400,
        };
        let body = json!({
            "error": said.code,
            "error_description": said.description,
            "error_codes": [],
            "timestamp": "2027-01-15 08:00:00Z",
            "trace_id": "00000000-0000-4000-8000-000000000001",
            "correlation_id": "00000000-0000-4000-8000-000000000002",
        });
        private(Answer::json(said.status_or(status), &said.members(body)))
    }

    /// There is no revocation endpoint, so this is never the answer to anything.
    fn revoked(&self, _scene: &Scene<'_>) -> Answer {
        Answer::empty(StatusCode::NOT_FOUND)
    }

    fn id_claims(&self, scene: &Scene<'_>, user: &SandboxUser) -> Map<String, Value> {
        let personal = scene.call.captured("tenant") == Some("consumers");
        let tenant = if personal { PERSONAL } else { &scene.quirks.tenant };
        let issued_by =
            if scene.quirks.id_token == IdTokenFlaw::Tenant { "11111111-1111-4111-8111-111111111111" } else { tenant };
        let claims = json!({
            "iss": format!("{}/{issued_by}/v2.0", scene.origin),
            // Pairwise: another app gets another one.
            "sub": format!("pairwise-{}", user.number()),
            "tid": tenant,
            "oid": format!("00000000-0000-4000-9000-{:012}", user.number()),
            "preferred_username": user.email,
            "name": user.name,
            "ver": "2.0",
        });
        claims.as_object().cloned().unwrap_or_default()
    }

    fn account(&self, _scene: &Scene<'_>, user: &SandboxUser) -> Answer {
        let id = format!("00000000-0000-4000-9000-{:012}", user.number());
        let body = json!({"id": id, "displayName": user.name, "userPrincipalName": user.email});
        private(Answer::json(StatusCode::OK, &body))
    }

    fn dead_token(&self, _scene: &Scene<'_>, _sent: bool) -> Answer {
        let error =
            json!({"code": "InvalidAuthenticationToken", "message": "Access token is empty, expired or revoked."});
        private(Answer::json(StatusCode::UNAUTHORIZED, &json!({"error": error})))
    }

    fn metadata(&self, origin: &str, _facts: &MetadataFacts) -> Option<Value> {
        let at = |path: &str| format!("{origin}/common/{path}");
        Some(json!({
            // As it really stands there: a template where an issuer should be.
            "issuer": format!("{origin}/{{tenantid}}/v2.0"),
            "authorization_endpoint": at("oauth2/v2.0/authorize"),
            "token_endpoint": at("oauth2/v2.0/token"),
            "jwks_uri": at("discovery/v2.0/keys"),
            "userinfo_endpoint": format!("{origin}/oidc/userinfo"),
            "response_types_supported": ["code"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "scopes_supported": ["openid", "profile", "email", "offline_access"],
        }))
    }
}

/// The scopes as answers tell them.
fn told(scene: &Scene<'_>, scopes: &[String]) -> String {
    let told = scopes.iter().filter(|scope| !scene.quirks.not_echoed.contains(scope));
    let told = told.map(|scope| match scene.quirks.full_scope_names && !scope.contains("://") {
        true => format!("{GRAPH}{scope}"),
        false => scope.clone(),
    });
    told.collect::<Vec<_>>().join(" ")
}
