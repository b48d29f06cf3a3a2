//! The manner of Notion: HTTP Basic and JSON, no scopes, no lifetimes, and an owner in the answer.

use http::StatusCode;
use http::header::AUTHORIZATION;
use serde_json::{Value, json};

use crate::model::id::SlotName;
use crate::model::provider::rules::Encoding;
use crate::sandbox::answer::Answer;
use crate::sandbox::machine::{Credentials, Issued, Reach, Refusal, Revocation};
use crate::sandbox::manner::route::{Route, Spot};
use crate::sandbox::manner::{Manner, Said, Scene, Wish, private};
use crate::sandbox::options::SandboxUser;
use crate::sandbox::params::Params;

/// Error codes of the API, which has a shape of its own for them.
const OF_THE_API: [(&str, u16); 5] = [
    ("internal_server_error", 500),
    ("rate_limited", 429),
    ("service_unavailable", 503),
    ("unauthorized", 401),
    ("validation_error", 400),
];

/// Notion, a public connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Notion;

impl Manner for Notion {
    fn routes(&self) -> Vec<Route> {
        vec![
            Route::at("authorize", "/v1/oauth/authorize", Spot::Authorize),
            Route::at("consent", "/install-integration", Spot::Consent),
            Route::at("token", "/v1/oauth/token", Spot::Token),
            Route::at("revoke", "/v1/oauth/revoke", Spot::Revoke),
            Route::at("API", "/v1/users/me", Spot::Account),
        ]
    }

    fn encoding(&self, at: Spot) -> Encoding {
        if matches!(at, Spot::Token | Spot::Revoke) { Encoding::Json } else { Encoding::Form }
    }

    /// HTTP Basic and nothing else.
    fn credentials(&self, scene: &Scene<'_>, params: &Params) -> Result<Credentials, Refusal> {
        if !scene.call.headers.contains_key(AUTHORIZATION) {
            return Err(Refusal::Client);
        }
        Credentials::read(&scene.call.headers, params)
    }

    fn wishes(&self, _scene: &Scene<'_>, _params: &Params) -> Vec<Wish> {
        vec![Wish::of(SlotName::main(), None, ' ')]
    }

    fn revocation(&self, scene: &Scene<'_>, params: &Params) -> Result<Revocation, Refusal> {
        let by = self.credentials(scene, params)?;
        Ok(Revocation { reach: Reach::Grant, ..Revocation::of(Some(by), params.get("token"))? })
    }

    fn issued(&self, scene: &Scene<'_>, issued: &[Issued], _id_token: Option<&str>) -> Answer {
        let issued = &issued[0];
        let body = json!({
            "access_token": issued.access.expose(),
            "token_type": "bearer",
            "refresh_token": issued.refresh.as_ref().map(|token| token.expose()),
            "bot_id": uuid(2, &issued.user),
            "workspace_id": "00000000-0000-4000-a000-000000000001",
            "workspace_name": "Sandbox Workspace",
            "workspace_icon": null,
            "duplicated_template_id": null,
            "owner": owner(scene, &issued.user),
            "request_id": uuid(3, &issued.user),
        });
        private(Answer::json(StatusCode::OK, &scene.quirks.touch(body)))
    }

    fn named(&self, _scene: &Scene<'_>, refusal: Refusal) -> Said {
        match refusal {
            Refusal::RefreshToken(_) => Said::of("invalid_grant", "Invalid refresh token"),
            other => Said::of(other.error(), other.description()),
        }
    }

    fn error(&self, _scene: &Scene<'_>, said: &Said) -> Answer {
        if let Some((_, status)) = OF_THE_API.iter().find(|(code, _)| *code == said.code) {
            let status = said.status_or(*status);
            let body =
                json!({"object": "error", "status": status.as_u16(), "code": said.code, "message": said.description});
            return private(Answer::json(status, &said.members(body)));
        }
        let status = if said.code == "invalid_client" { 401 } else { 400 };
        let body = json!({"error": said.code, "error_description": said.description});
        private(Answer::json(said.status_or(status), &said.members(body)))
    }

    fn revoked(&self, _scene: &Scene<'_>) -> Answer {
        private(Answer::json(StatusCode::OK, &json!({"request_id": "00000000-0000-4000-a000-000000000002"})))
    }

    /// Every call of the API names the version it was written for.
    fn account(&self, scene: &Scene<'_>, user: &SandboxUser) -> Answer {
        if !scene.call.headers.contains_key("notion-version") {
            return self.error(scene, &Said::with(400, "validation_error", "Notion-Version header should be defined."));
        }
        let bot = json!({"owner": owner(scene, user), "workspace_name": "Sandbox Workspace"});
        let body = json!({"object": "user", "id": uuid(2, user), "type": "bot", "bot": bot});
        private(Answer::json(StatusCode::OK, &body))
    }

    fn dead_token(&self, scene: &Scene<'_>, _sent: bool) -> Answer {
        self.error(scene, &Said::of("unauthorized", "API token is invalid."))
    }
}

fn owner(scene: &Scene<'_>, user: &SandboxUser) -> Value {
    if scene.quirks.workspace_owner {
        return json!({"type": "workspace", "workspace": true});
    }
    let person = json!({"email": user.email});
    json!({"type": "user", "user": {"object": "user", "id": uuid(1, user), "name": user.name, "person": person}})
}

/// An id that is always the same for a person; `kind` says of what.
fn uuid(kind: u8, user: &SandboxUser) -> String {
    format!("00000000-0000-4000-b00{kind}-{:012}", user.number())
}
