//! Plays a recorded exchange: the request is made as the daemon makes it, and the recorded answer comes back.

use std::time::Duration;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt as _;
use grantd::model::client::{Client, ClientAuth};
use grantd::model::client_key::ClientKey;
use grantd::model::grant_type::GrantType;
use grantd::model::id::SlotName;
use grantd::model::provider::{ClientKind, Provider};
use grantd::model::scope::ScopeSet;
use grantd::model::secret::{AccessToken, AuthorizationCode, ClientSecret, DeviceCode, RefreshToken};
use grantd::model::time::Timestamp;
use grantd::oauth::answer::{self, SlotAnswer};
use grantd::oauth::device::{self, Polled};
use grantd::oauth::exchange::{self, As, Redeem, Spend};
use grantd::oauth::refused::Refused;
use grantd::oauth::rejection::Rejection;
use grantd::oauth::retry_after::RetryAfter;
use grantd::oauth::revoke::{self, Revoked};
use grantd::oauth::transport::{Answer, Transport};
use grantd::oauth::{identity, quirk};
use oauth2::HttpRequest;
use serde_json::{Value, json};

use crate::record::Record;

/// What comes out of the exchange.
pub(crate) fn replay(record: &Record, provider: &Provider) -> Value {
    let client = client(provider);
    let whom = As { provider, client: &client, now: Timestamp::from_secs(1_800_000_000) };
    let answer = record.response();
    let http = move |_: HttpRequest| -> Answer<'static> { Box::pin(std::future::ready(Ok(answer.clone()))) };
    let outcome = match record.asked.as_str() {
        "code" => {
            let code = AuthorizationCode::new("_MARK_code").unwrap();
            let redirect_uri = "http://localhost:8717/callback";
            let redeem = Redeem { code, verifier: None, redirect_uri, asked: &ScopeSet::default() };
            let redeemed = exchange::redeem(whom, redeem, &http);
            let answer = redeemed.now_or_never().expect("nothing to wait for");
            answer.map(|answer| (answer.slots, Some(answer.body.0)))
        }
        "refresh" => {
            let slot =
                record.slot.as_ref().map_or_else(|| provider.slots[0].name.clone(), |slot| slot.parse().unwrap());
            refresh(whom, &slot, &http).map(|slot| (vec![slot], None))
        }
        "device" if let Some(undecided) = undecided(whom, &http) => return undecided,
        "device" => quirk::incoming(provider, &record.response()).and_then(|body| {
            let answer = answer::read(provider, body);
            let answer = answer.ok_or_else(|| Refused::from(Rejection::Ambiguous("no token")))?;
            Ok((answer.slots, Some(answer.body.0)))
        }),
        "revoke" => return revoked(whom, &http),
        other => panic!("{record}: nothing is asked with `{other}`"),
    };
    match outcome {
        Ok((slots, body)) => {
            let mut found = json!({"grants": slots.iter().map(grant).collect::<serde_json::Map<_, _>>()});
            let told = record.told.as_ref().or(body.as_ref());
            if let (true, Some(told)) = (record.names_an_account(), told) {
                let account = identity::account(provider, told);
                found["account"] = account.map_or(Value::Null, |it| json!({"id": it.id, "name": it.name}));
            }
            found
        }
        Err(refused) => refusal(&refused),
    }
}

/// What a poll of a device flow is told while nobody has decided.
fn undecided(whom: As<'_>, http: &Transport<'_>) -> Option<Value> {
    let code = DeviceCode::new("_MARK_code").unwrap();
    match device::poll(whom, &code, http).now_or_never().expect("nothing to wait for") {
        Polled::Pending => Some(json!({"class": "pending"})),
        Polled::SlowDown { interval: None } => Some(json!({"class": "slow_down"})),
        Polled::SlowDown { interval: Some(interval) } => {
            Some(json!({"class": "slow_down", "interval": interval.as_secs()}))
        }
        _ => None,
    }
}

fn refresh(whom: As<'_>, slot: &SlotName, http: &Transport<'_>) -> Result<SlotAnswer, Refused> {
    let (token, granted) = (RefreshToken::new("_MARK_spent").unwrap(), ScopeSet::default());
    let spend =
        Spend { token: &token, slot, granted: &granted, grant_type: GrantType::AuthorizationCode, resource: None };
    exchange::refresh(whom, spend, http).now_or_never().expect("nothing to wait for")
}

fn revoked(whom: As<'_>, http: &Transport<'_>) -> Value {
    let rules = whom.provider.revoke.as_ref().or(whom.provider.revoke_wider.as_ref());
    let rules = rules.expect("the definition says how to revoke");
    let (access, refresh) = (AccessToken::new("_MARK_a").unwrap(), RefreshToken::new("_MARK_r").unwrap());
    let outcome = revoke::revoke(whom, rules, &access, Some(&refresh), http).now_or_never();
    json!({"class": match outcome.expect("nothing to wait for") {
        Revoked::Gone => "gone",
        Revoked::Later => "later",
        Revoked::Refused => "by_hand",
        Revoked::Yes => "revoked",
    }})
}

fn grant(slot: &SlotAnswer) -> (String, Value) {
    assert!(!format!("{slot:?}").contains("MARK"), "printing an answer shows no token");
    let mut grant = json!({"access": slot.access.expose()});
    let seconds = |span: Option<Duration>| span.map(|span| Value::from(span.as_secs()));
    for (name, value) in [
        ("refresh", slot.refresh.as_ref().map(|token| Value::from(token.expose()))),
        ("expires_in", seconds(slot.expires_in)),
        ("refresh_expires_in", seconds(slot.refresh_expires_in)),
        ("scopes", slot.scopes.as_ref().map(|scopes| Value::from(scopes.to_string()))),
    ] {
        if let Some(value) = value {
            grant[name] = value;
        }
    }
    (slot.slot.to_string(), grant)
}

fn refusal(refused: &Refused) -> Value {
    let printed = format!("{refused} {refused:?}");
    assert!(!printed.contains("MARK"), "a refusal repeats no text of the provider: {printed}");
    let mut found = match &refused.rejection {
        Rejection::Ambiguous(_) => json!({"class": "ambiguous"}),
        Rejection::ClientOrGrant { code } => json!({"class": "client_or_grant", "code": code.as_str()}),
        Rejection::Consent { code } => json!({"class": "reauth", "code": code.as_str()}),
        Rejection::Denied => json!({"class": "denied"}),
        Rejection::Registration { code } => json!({"class": "misconfigured", "code": code.as_str()}),
        Rejection::Restart { code } => json!({"class": "restart_login", "code": code.as_str()}),
        Rejection::Retry { after: Some(RetryAfter::In(wait)) } => {
            json!({"class": "transient", "retry_after": wait.as_secs()})
        }
        Rejection::Retry { .. } => json!({"class": "transient"}),
        Rejection::UserAction { code } => json!({"class": "user_action", "code": code.as_str()}),
        other => json!({"class": other.to_string()}),
    };
    if let Some(hint) = &refused.hint {
        found["number"] = hint.number.into();
        if hint.sentence.is_some() {
            found["hint"] = true.into();
        }
    }
    if let Some(claims) = &refused.claims {
        found["claims"] = claims.as_str().into();
    }
    found
}

pub(crate) fn client(provider: &Provider) -> Client {
    let secret = match (provider.client_kind, provider.client_auth) {
        (ClientKind::Public, _) | (_, ClientAuth::PrivateKeyJwt) => None,
        (ClientKind::Confidential, _) => Some(ClientSecret::new("_MARK_secret").unwrap()),
    };
    let key = (provider.client_auth == ClientAuth::PrivateKeyJwt).then(key);
    Client { id: "client".to_owned(), secret, key }
}

fn key() -> ClientKey {
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der.as_ref()));
    ClientKey::from_pem(pem.as_bytes()).unwrap()
}
