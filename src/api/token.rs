//! `POST /v1/token`: a fresh access token. The hot path: nothing here waits, allocates or copies without need.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{Method, Request, StatusCode};
use http_body_util::BodyDataStream;
use hyper::body::Body;
use serde::Serialize;
use warp::reply::Response;

use crate::api::input::{
    ACCOUNT_MAX, Invalid, MIN_TTL_DEFAULT, MIN_TTL_MAX, PURPOSE_MAX, WAIT_MAX, parse, scopes, seconds, text,
};
use crate::api::peer::Asker;
use crate::api::problem::Problem;
use crate::api::reply;
use crate::api::wire::TokenBody;
use crate::broker::Broker;
use crate::broker::token::{Granted, Handout, TokenRequest};
use crate::model::connection::Account;

/// Where it is.
pub(super) const PATH: &str = "/v1/token";

/// Answers a request to [`PATH`]. It is not among the routes: looking for one would cost as much as everything else here.
///
/// # Errors
/// None.
pub(super) async fn answer<B>(broker: Arc<Broker>, asker: Asker, request: Request<B>) -> Result<Response, Infallible>
where
    B: Body,
{
    Ok(match hand_out(&broker, &asker, request).await {
        Ok(handout) => reply::json(StatusCode::OK, &Answer::of(&handout)),
        Err(problem) => problem.into_response(),
    })
}

async fn hand_out<B>(broker: &Arc<Broker>, asker: &Asker, request: Request<B>) -> Result<Handout, Problem>
where
    B: Body,
{
    if request.method() != Method::POST {
        return Err(Problem::method_not_allowed("POST"));
    }
    let body = reply::read(BodyDataStream::new(request.into_body())).await?;
    let request = self::request(parse(&body)?)?;
    let handed = broker.token(&asker.caller, &request).await;
    handed.map_err(|error| Problem::from_broker(error, &broker.registry()).under(request.id.get()))
}

fn request(body: TokenBody) -> Result<TokenRequest, Invalid> {
    Ok(TokenRequest {
        provider: body.provider,
        account: text("account", body.account, ACCOUNT_MAX)?,
        slot: body.slot,
        scopes: scopes(body.scopes)?,
        min_ttl: seconds("min_ttl", body.min_ttl, MIN_TTL_DEFAULT, MIN_TTL_MAX)?,
        rejected: body.rejected,
        wait: seconds("wait", body.wait, Duration::ZERO, WAIT_MAX)?,
        purpose: text("purpose", body.purpose, PURPOSE_MAX)?,
        connect: body.connect.unwrap_or(true),
        id: OnceLock::new(),
    })
}

/// The answer, borrowed from what the broker handed out.
#[derive(Serialize)]
struct Answer<'a> {
    access_token: &'a str,
    token_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
    scope: &'a str,
    provider: &'a str,
    account: &'a Account,
    connection: &'a str,
    token_id: &'a str,
}

impl<'a> Answer<'a> {
    fn of(handout: &'a Handout) -> Self {
        let Granted { connection, provider, account, scope, token, slot: _, fingerprint: _ } = &*handout.granted;
        Self {
            access_token: token.access_token.expose(),
            token_type: "Bearer",
            expires_in: token.left(handout.now).map(|left| left.as_secs()),
            expires_at: token.ends_at(handout.now).map(|at| at.as_secs()),
            scope,
            provider: provider.as_str(),
            account,
            connection: connection.as_str(),
            token_id: token.token_id.as_str(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::audit::Fingerprint;
    use crate::model::id::{Generation, SlotName};
    use crate::model::scope::ScopeSet;
    use crate::model::secret::AccessToken;
    use crate::model::time::{Moment, Timestamp};
    use crate::model::token::IssuedToken;

    fn read(body: &str) -> Result<TokenRequest, Invalid> {
        request(parse(body.as_bytes())?)
    }

    fn handout(expires_at: Option<Timestamp>) -> Handout {
        Handout {
            rule: "own".into(),
            granted: Arc::new(Granted {
                connection: "cx_1".parse().unwrap(),
                provider: "github".parse().unwrap(),
                account: Account { id: "583231".to_owned(), name: "octocat".to_owned() },
                slot: SlotName::main(),
                scope: "read:user repo".to_owned(),
                fingerprint: Fingerprint::of(&AccessToken::new("gho_1").unwrap()),
                token: IssuedToken {
                    issued_at: Timestamp::from_secs(0),
                    access_token: AccessToken::new("gho_1").unwrap(),
                    token_id: "tk_1".parse().unwrap(),
                    generation: Generation(1),
                    scopes: ScopeSet::read("repo read:user", ' '),
                    expires_at,
                    dies_at: None,
                },
            }),
            now: Moment { wall: Timestamp::from_millis(1_000_500), ..Moment::default() },
        }
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let request = read(r#"{"provider":"github"}"#).unwrap();
        assert_eq!(request.min_ttl, Duration::from_secs(60));
        assert_eq!(request.wait, Duration::ZERO);
        assert!(request.scopes.is_empty() && request.account.is_none() && request.connect);
    }

    #[test]
    fn limits_are_kept_and_the_field_is_named() {
        for (field, value) in [
            ("min_ttl", "3601".to_owned()),
            ("wait", "61".to_owned()),
            ("account", format!("{:?}", "x".repeat(257))),
            ("purpose", format!("{:?}", "x".repeat(121))),
            ("purpose", r#""a\nb""#.to_owned()),
            ("scopes", format!("{:?}", (0..101).map(|n| n.to_string()).collect::<Vec<_>>())),
        ] {
            let refused = read(&format!(r#"{{"provider":"github","{field}":{value}}}"#)).unwrap_err();
            assert_eq!(refused.field.as_deref(), Some(field), "{value}");
        }
    }

    #[test]
    fn the_answer_is_the_documented_one() {
        let answer = serde_json::to_value(Answer::of(&handout(Some(Timestamp::from_secs(1_100))))).unwrap();
        assert_eq!(
            answer,
            serde_json::json!({
                "access_token": "gho_1", "token_type": "Bearer", "expires_in": 99, "expires_at": 1100,
                "scope": "read:user repo", "provider": "github",
                "account": {"id": "583231", "name": "octocat"}, "connection": "cx_1", "token_id": "tk_1",
            })
        );
    }

    #[test]
    fn a_token_that_does_not_expire_has_no_expiry_fields() {
        let answer = serde_json::to_value(Answer::of(&handout(None))).unwrap();
        assert!(answer.get("expires_in").is_none() && answer.get("expires_at").is_none());
    }
}
