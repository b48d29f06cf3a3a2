//! The manner of GitHub: errors inside status 200, commas in answers, and form encoding unless JSON is asked for.

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

use crate::model::id::SlotName;
use crate::model::provider::rules::Encoding;
use crate::sandbox::answer::Answer;
use crate::sandbox::machine::{Credentials, DEVICE_GRANT_TYPE, Issued, Reach, Refusal, Revocation};
use crate::sandbox::manner::route::{Route, Spot};
use crate::sandbox::manner::{Manner, Said, Scene, Wish, private};
use crate::sandbox::options::SandboxUser;
use crate::sandbox::params::Params;

/// What a scope includes; the included ones are not told.
const INCLUDES: [(&str, &[&str]); 4] = [
    ("admin:org", &["write:org", "read:org"]),
    ("repo", &["public_repo", "repo:status", "repo_deployment", "repo:invite", "security_events"]),
    ("user", &["read:user", "user:email", "user:follow"]),
    ("write:packages", &["read:packages"]),
];

/// GitHub, an OAuth App or a GitHub App. Its web pages and its API share one origin here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Github;

impl Manner for Github {
    fn routes(&self) -> Vec<Route> {
        let revoke = |path: &'static str| Route::at("revoke", path, Spot::Revoke).only(Method::DELETE);
        vec![
            Route::at("authorize", "/login/oauth/authorize", Spot::Authorize),
            Route::at("consent", "/login/oauth/consent", Spot::Consent),
            Route::at("token", "/login/oauth/access_token", Spot::Token),
            Route::at("device authorization", "/login/device/code", Spot::Device),
            Route::at("enter a code", "/login/device", Spot::DevicePage),
            revoke("/applications/{client_id}/token"),
            revoke("/applications/{client_id}/grant"),
            Route::at("API", "/user", Spot::Account),
            // As an Enterprise Server has them.
            revoke("/api/v3/applications/{client_id}/token"),
            revoke("/api/v3/applications/{client_id}/grant"),
            Route::at("API", "/api/v3/user", Spot::Account),
        ]
    }

    fn encoding(&self, at: Spot) -> Encoding {
        if at == Spot::Revoke { Encoding::Json } else { Encoding::Form }
    }

    /// There are no public clients: even with PKCE the secret is asked for. Only the device flow can do without, and whoever
    /// renews what came of it.
    fn credentials(&self, scene: &Scene<'_>, params: &Params) -> Result<Credentials, Refusal> {
        let credentials = Credentials::read(&scene.call.headers, params)?;
        let may_lack = scene.spot == Spot::Device
            || params.get("grant_type").is_some_and(|kind| [DEVICE_GRANT_TYPE, "refresh_token"].contains(&kind));
        if may_lack || credentials.has_secret() { Ok(credentials) } else { Err(Refusal::NoSecret) }
    }

    fn wishes(&self, scene: &Scene<'_>, params: &Params) -> Vec<Wish> {
        let asked = params.get("scope").filter(|_| !scene.quirks.scopes_fixed_by_app);
        vec![Wish::of(SlotName::main(), asked, ',')]
    }

    /// HTTP Basic as the client that stands in the path, and an access token in JSON.
    fn revocation(&self, scene: &Scene<'_>, params: &Params) -> Result<Revocation, Refusal> {
        if !scene.call.headers.contains_key(AUTHORIZATION) {
            return Err(Refusal::NoSecret);
        }
        let by = Credentials::read(&scene.call.headers, &Params::parse(b""))?;
        if !by.is(scene.call.captured("client_id").unwrap_or_default()) {
            return Err(Refusal::NoClient);
        }
        let whole = scene.call.path.ends_with("/grant");
        let wanted = Revocation::of(Some(by), params.get("access_token"))?;
        Ok(Revocation { reach: if whole { Reach::Grant } else { Reach::Access }, must_exist: true, ..wanted })
    }

    fn issuer(&self, origin: &str) -> String {
        format!("{origin}/login/oauth")
    }

    fn issued(&self, scene: &Scene<'_>, issued: &[Issued], _id_token: Option<&str>) -> Answer {
        let issued = &issued[0];
        let mut body = json!({
            "access_token": issued.access.expose(),
            "token_type": "bearer",
            "scope": told(scene, &issued.scopes),
        });
        if let Some(ttl) = issued.access_ttl {
            body["expires_in"] = ttl.as_secs().into();
        }
        if let Some(refresh) = &issued.refresh {
            body["refresh_token"] = refresh.expose().into();
            body["refresh_token_expires_in"] = issued.refresh_ttl.map(|ttl| ttl.as_secs()).into();
        }
        encoded(scene, StatusCode::OK, &scene.quirks.touch(body))
    }

    fn named(&self, scene: &Scene<'_>, refusal: Refusal) -> Said {
        if scene.spot == Spot::Revoke {
            return match refusal {
                Refusal::Request(_) | Refusal::NoToken => Said::with(422, "Validation Failed", "not a live token"),
                Refusal::NoClient | Refusal::Client | Refusal::NoSecret | Refusal::ForeignToken => {
                    Said::with(404, "Not Found", "no such application, or its proof is wrong")
                }
                other => Said::of(other.error(), other.description()),
            };
        }
        if let Refusal::SlowDown { interval } = refusal {
            let more = json!({"interval": interval}).as_object().cloned().unwrap_or_default();
            return Said { more, ..Said::of(refusal.error(), refusal.description()) };
        }
        let code = match refusal {
            Refusal::DeviceCode(_) => "incorrect_device_code",
            Refusal::Client | Refusal::NoClient | Refusal::NoSecret | Refusal::PublicSecret => {
                "incorrect_client_credentials"
            }
            Refusal::Code(_) => "bad_verification_code",
            Refusal::RedirectUri => "redirect_uri_mismatch",
            Refusal::RefreshToken(_) => "bad_refresh_token",
            other => other.error(),
        };
        Said::of(code, refusal.description())
    }

    fn error(&self, scene: &Scene<'_>, said: &Said) -> Answer {
        if scene.spot == Spot::Revoke {
            let body = json!({"message": said.code, "documentation_url": "https://docs.github.com/rest"});
            return private(Answer::json(said.status_or(422), &said.members(body)));
        }
        let body = json!({
            "error": said.code,
            "error_description": said.description,
            "error_uri": "https://docs.github.com/apps/troubleshooting",
        });
        let status = if scene.quirks.errors_in_200 { 200 } else { 400 };
        encoded(scene, said.status_or(status), &said.members(body))
    }

    fn revoked(&self, _scene: &Scene<'_>) -> Answer {
        Answer::empty(StatusCode::NO_CONTENT)
    }

    fn account(&self, scene: &Scene<'_>, user: &SandboxUser) -> Answer {
        if scene.quirks.user_agent_required && scene.call.header(USER_AGENT).is_none_or(str::is_empty) {
            let why =
                "Request forbidden by administrative rules. Please make sure your request has a User-Agent header\n";
            return Answer::text(StatusCode::FORBIDDEN, "text/plain; charset=utf-8", why);
        }
        let login = user.email.split('@').next().unwrap_or_default();
        let body = json!({"login": login, "id": user.number(), "type": "User", "name": user.name, "email": null});
        private(Answer::json(StatusCode::OK, &body))
    }

    fn dead_token(&self, _scene: &Scene<'_>, sent: bool) -> Answer {
        let message = if sent { "Bad credentials" } else { "Requires authentication" };
        private(Answer::json(StatusCode::UNAUTHORIZED, &json!({"message": message, "status": "401"})))
    }
}

/// The scopes as answers tell them.
fn told(scene: &Scene<'_>, scopes: &[String]) -> String {
    if scene.quirks.scopes_fixed_by_app {
        return String::new();
    }
    let included = |scope: &String| {
        let by = |(wide, narrow): &(&str, &[&str])| {
            narrow.contains(&scope.as_str()) && scopes.iter().any(|other| other == wide)
        };
        scene.quirks.normalises_scopes && INCLUDES.iter().any(by)
    };
    let told = scopes.iter().filter(|scope| !scene.quirks.not_echoed.contains(scope) && !included(scope));
    told.map(String::as_str).collect::<Vec<_>>().join(",")
}

/// JSON for those who accept it, else a form.
fn encoded(scene: &Scene<'_>, status: StatusCode, body: &Value) -> Answer {
    let accepts_json = scene.call.header(ACCEPT).is_some_and(|accept| accept.contains("json"));
    if accepts_json || !scene.quirks.form_unless_json_accepted {
        return private(Answer::json(status, body));
    }
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in body.as_object().into_iter().flatten() {
        form.append_pair(name, &value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
    let mut answer = Answer::text(status, "text/plain", form.finish());
    answer.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8"));
    private(answer)
}
