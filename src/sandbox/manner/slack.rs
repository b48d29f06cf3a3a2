//! The manner of Slack: `ok` in every answer, a bot and a person in one consent, and flat answers to refreshes.

use http::header::AUTHORIZATION;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::model::id::SlotName;
use crate::sandbox::answer::Answer;
use crate::sandbox::machine::{Issued, Refusal, Revocation};
use crate::sandbox::manner::route::{Route, Spot};
use crate::sandbox::manner::{Manner, Said, Scene, Wish, private};
use crate::sandbox::options::SandboxUser;
use crate::sandbox::params::Params;

/// The endpoints that give tokens of the person only.
const USER_AUTHORIZE: &str = "/oauth/v2_user/authorize";
const USER_TOKEN: &str = "/api/oauth.v2.user.access";

/// Slack, both code flows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slack;

impl Manner for Slack {
    fn routes(&self) -> Vec<Route> {
        vec![
            Route::at("authorize", "/oauth/v2/authorize", Spot::Authorize),
            Route::at("authorize (person)", USER_AUTHORIZE, Spot::Authorize),
            Route::at("consent", "/oauth/allow", Spot::Consent),
            Route::at("token", "/api/oauth.v2.access", Spot::Token),
            Route::at("token (person)", USER_TOKEN, Spot::Token),
            Route::at("revoke", "/api/auth.revoke", Spot::Revoke).only(Method::POST),
            Route::at("API", "/api/auth.test", Spot::Account),
        ]
    }

    fn wishes(&self, scene: &Scene<'_>, params: &Params) -> Vec<Wish> {
        let bot = Wish::of(slot("bot"), params.get("scope"), ',');
        if scene.call.path == USER_AUTHORIZE {
            return vec![Wish { slot: slot("user"), ..bot }];
        }
        vec![bot, Wish::of(slot("user"), params.get("user_scope"), ',')]
    }

    /// The token proves itself.
    fn revocation(&self, scene: &Scene<'_>, params: &Params) -> Result<Revocation, Refusal> {
        let header = scene.call.header(AUTHORIZATION).and_then(|header| header.strip_prefix("Bearer "));
        let wanted = Revocation::of(None, header.or_else(|| params.get("token")))?;
        Ok(Revocation { must_exist: true, ..wanted })
    }

    fn issued(&self, scene: &Scene<'_>, issued: &[Issued], _id_token: Option<&str>) -> Answer {
        let mut body =
            json!({"ok": true, "app_id": "A0SANDBOX", "is_enterprise_install": scene.quirks.enterprise_install});
        body["team"] = json!({"id": "T0SANDBOX", "name": "Sandbox Team"});
        body["enterprise"] = Value::Null;
        if scene.quirks.enterprise_install {
            body["team"] = Value::Null;
            body["enterprise"] = json!({"id": "E0SANDBOX", "name": "Sandbox Grid"});
        }
        let of_refresh = issued.iter().all(|issued| issued.grant_type == Some("refresh_token"));
        if !of_refresh {
            body["authed_user"] = json!({"id": user_id(&issued[0].user)});
        }
        for issued in issued {
            let is_bot = issued.slot == slot("bot");
            let on_top = scene.call.path == USER_TOKEN && scene.quirks.user_token_on_top;
            match is_bot || of_refresh || on_top {
                true => write(&mut body, issued),
                false => write(&mut body["authed_user"], issued),
            }
            if is_bot {
                body["bot_user_id"] = "U0BOT".into();
            }
            if on_top && !of_refresh {
                let scope = body["scope"].take();
                body["authed_user"]["scope"] = scope;
                body["scope"] = "".into();
            }
        }
        if let ([alone], true) = (issued, scene.quirks.repeats_user_token) {
            write(&mut body, alone);
        }
        private(Answer::json(StatusCode::OK, &scene.quirks.touch(body)))
    }

    fn named(&self, scene: &Scene<'_>, refusal: Refusal) -> Said {
        let code = match refusal {
            Refusal::NoClient => "invalid_client_id",
            Refusal::Assertion | Refusal::Client | Refusal::NoSecret | Refusal::PublicSecret => "bad_client_secret",
            Refusal::Code(_) => "invalid_code",
            Refusal::RedirectUri => "bad_redirect_uri",
            Refusal::RefreshToken(_) => "invalid_refresh_token",
            // There is no device flow.
            Refusal::GrantType
            | Refusal::DeviceCode(_)
            | Refusal::Pending
            | Refusal::SlowDown { .. }
            | Refusal::Expired
            | Refusal::Denied => "invalid_grant_type",
            Refusal::NoToken | Refusal::ForeignToken => "invalid_auth",
            Refusal::Request(_) if scene.spot == Spot::Revoke => "not_authed",
            Refusal::Request(_) | Refusal::Scope => "invalid_arguments",
        };
        Said::of(code, "")
    }

    fn error(&self, _scene: &Scene<'_>, said: &Said) -> Answer {
        let status = if said.code == "ratelimited" { 429 } else { 200 };
        private(Answer::json(said.status_or(status), &said.members(json!({"ok": false, "error": said.code}))))
    }

    fn revoked(&self, _scene: &Scene<'_>) -> Answer {
        private(Answer::json(StatusCode::OK, &json!({"ok": true, "revoked": true})))
    }

    fn account(&self, _scene: &Scene<'_>, user: &SandboxUser) -> Answer {
        let body = json!({"ok": true, "team": "Sandbox Team", "team_id": "T0SANDBOX", "user": user.name, "user_id": user_id(user)});
        private(Answer::json(StatusCode::OK, &body))
    }

    fn dead_token(&self, _scene: &Scene<'_>, sent: bool) -> Answer {
        let code = if sent { "invalid_auth" } else { "not_authed" };
        private(Answer::json(StatusCode::OK, &json!({"ok": false, "error": code})))
    }
}

/// Writes down one grant where its slot has it.
fn write(place: &mut Value, issued: &Issued) {
    place["access_token"] = issued.access.expose().into();
    place["token_type"] = issued.slot.as_str().into();
    place["scope"] = issued.scopes.join(",").into();
    if let Some(ttl) = issued.access_ttl {
        place["expires_in"] = ttl.as_secs().into();
    }
    if let Some(refresh) = &issued.refresh {
        place["refresh_token"] = refresh.expose().into();
    }
}

fn slot(name: &str) -> SlotName {
    name.parse().expect("the names here are names of slots")
}

fn user_id(user: &SandboxUser) -> String {
    format!("U{}", user.number())
}
