//! What a definition must hold beyond its shape: names that lead somewhere, headers that are headers.

mod revoke;

use serde_json::Value;

use crate::catalog::error::unknown;
use crate::catalog::fill::check_value;
use crate::catalog::schema::{Definition, IdentityFrom};
use crate::model::client::ClientAuth;
use crate::model::id::SlotName;
use crate::model::provider::ClientKind;
use crate::model::provider::assertion::Audience;
use crate::model::provider::rules::{Params, Rotation, ScopesManagedBy};
use crate::yaml::Segment;

/// What is wrong in a definition, and where.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) path: Vec<Segment>,
    pub(super) message: String,
}

pub(super) type Check = Result<(), Problem>;

/// The path to a member: `member!["slots", 0, "name"]`.
macro_rules! member {
    ($($segment:expr),* $(,)?) => { vec![$($crate::yaml::Segment::from($segment)),*] };
}
pub(super) use member;

pub(super) fn fail<T>(path: Vec<Segment>, message: impl Into<String>) -> Result<T, Problem> {
    Err(Problem { path, message: message.into() })
}

/// Parameters that the flow itself sets: a definition that sets them too would break it or weaken it.
const AUTHORIZE_OWN: &[&str] = &[
    "client_id",
    "client_secret",
    "code_challenge",
    "code_challenge_method",
    "nonce",
    "redirect_uri",
    "response_type",
    "scope",
    "state",
];
const TOKEN_OWN: &[&str] = &[
    "client_assertion",
    "client_assertion_type",
    "client_id",
    "client_secret",
    "code",
    "code_verifier",
    "grant_type",
    "redirect_uri",
    "refresh_token",
    "scope",
];
const HEADERS_OWN: &[&str] =
    &["accept", "authorization", "connection", "content-length", "content-type", "cookie", "host", "transfer-encoding"];

/// The longest text in a definition, in bytes.
const TEXT_MAX: usize = 2048;

/// Checks a definition, the variant already merged in.
pub(super) fn definition(definition: &Definition) -> Check {
    vars(definition)?;
    client(definition)?;
    device(definition)?;
    slots(definition)?;
    requests(definition)?;
    identity(definition)?;
    redirect(definition)?;
    resources(definition)?;
    answers(definition)
}

/// Every text goes to a terminal, a page, a log or a header some day: it is one line of what can be seen.
pub(super) fn texts(value: &Value, path: &mut Vec<Segment>) -> Check {
    let step = |segment: Segment, inner: &Value, path: &mut Vec<Segment>| {
        path.push(segment);
        texts(inner, path)?;
        path.pop();
        Ok(())
    };
    match value {
        Value::String(text) if text.len() > TEXT_MAX => {
            fail(path.clone(), format!("expected at most {TEXT_MAX} bytes of text"))
        }
        Value::String(text) if text.chars().any(char::is_control) => {
            fail(path.clone(), "expected one line of text without control characters")
        }
        Value::Array(items) => {
            items.iter().enumerate().try_for_each(|(index, item)| step(Segment::Index(index), item, path))
        }
        Value::Object(members) => {
            members.iter().try_for_each(|(key, member)| step(Segment::Key(key.clone()), member, path))
        }
        _ => Ok(()),
    }
}

fn vars(definition: &Definition) -> Check {
    for (name, var) in &definition.vars {
        let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !plain || name.is_empty() || matches!(name.as_str(), "client_id" | "token") {
            return fail(
                member!["vars", name.as_str()],
                "expected a name of lower-case letters, digits and `_` that is not `client_id` or `token`",
            );
        }
        if let Some(default) = &var.default
            && let Err(message) = check_value(var, default)
        {
            return fail(member!["vars", name.as_str(), "default"], message);
        }
    }
    Ok(())
}

fn client(definition: &Definition) -> Check {
    match (definition.client.kind, definition.client.auth) {
        (ClientKind::Confidential, ClientAuth::None) => {
            let message = "expected `basic`, `post` or `private_key_jwt`, because the client is confidential";
            fail(member!["client", "auth"], message)
        }
        (ClientKind::Public, ClientAuth::Basic | ClientAuth::Post | ClientAuth::PrivateKeyJwt) => {
            fail(member!["client", "auth"], "expected `none`, because the client is public")
        }
        _ => assertion(definition),
    }
}

fn device(definition: &Definition) -> Check {
    let rules = &definition.device;
    for (name, auth) in [("request_auth", rules.request_auth), ("poll_auth", rules.poll_auth)] {
        let proves = matches!(auth, Some(ClientAuth::Basic | ClientAuth::Post));
        if proves && definition.client.kind == ClientKind::Public {
            return fail(member!["device", name], "expected `none`, because the client is public");
        }
        if auth == Some(ClientAuth::PrivateKeyJwt) && definition.client.auth != ClientAuth::PrivateKeyJwt {
            return fail(member!["device", name], "expected another way, because the client has no key");
        }
    }
    if rules.verification_uri.is_empty() {
        return fail(member!["device", "verification_uri"], "expected at least one pointer");
    }
    Ok(())
}

fn assertion(definition: &Definition) -> Check {
    let Some(rules) = &definition.client.assertion else {
        return Ok(());
    };
    if definition.client.auth != ClientAuth::PrivateKeyJwt {
        return fail(
            member!["client", "assertion"],
            "expected nothing, because `client.auth` is not `private_key_jwt`",
        );
    }
    if rules.algorithms.is_empty() {
        return fail(member!["client", "assertion", "algorithms"], "expected at least one algorithm");
    }
    if rules.audience == Audience::Issuer && definition.issuer.accept.is_empty() {
        return fail(
            member!["client", "assertion", "audience"],
            "expected `issuer.accept`, because that is the audience",
        );
    }
    Ok(())
}

fn slots(definition: &Definition) -> Check {
    if definition.slots.is_empty() {
        return fail(member!["slots"], "expected at least one slot");
    }
    for (index, slot) in definition.slots.iter().enumerate() {
        if slot.places.is_empty() {
            return fail(member!["slots", index, "places"], "expected at least one place");
        }
        if definition.slots[..index].iter().any(|earlier| earlier.name == slot.name) {
            return fail(member!["slots", index, "name"], format!("the slot `{}` is here twice", slot.name));
        }
    }
    for (index, param) in definition.authorize.scope_params.iter().enumerate() {
        known_slot(definition, &param.slot, || member!["authorize", "scope_params", index, "slot"])?;
    }
    let by_app = definition.scopes.managed_by == ScopesManagedBy::App;
    if by_app && !definition.authorize.scope_params.is_empty() {
        return fail(
            member!["authorize", "scope_params"],
            "expected an empty list, because the scopes are fixed in the client's settings (scopes.managed_by)",
        );
    }
    let presets = &definition.presets;
    for (name, preset) in [("default", &presets.default), ("read-only", &presets.read_only), ("full", &presets.full)] {
        if by_app && !preset.is_empty() {
            return fail(
                member!["presets", name],
                "expected nothing, because the scopes are fixed in the client's settings (scopes.managed_by)",
            );
        }
        for slot in preset.keys() {
            known_slot(definition, slot, || member!["presets", name, slot.as_str()])?;
        }
    }
    Ok(())
}

fn known_slot(definition: &Definition, slot: &SlotName, path: impl FnOnce() -> Vec<Segment>) -> Check {
    if definition.slots.iter().any(|known| known.name == *slot) {
        return Ok(());
    }
    let names: Vec<_> = definition.slots.iter().map(|known| known.name.as_str()).collect();
    fail(path(), unknown("slot", slot.as_str(), &names))
}

fn requests(definition: &Definition) -> Check {
    let authorize = &definition.authorize;
    for (name, params) in [
        ("params", &authorize.params),
        ("offline_params", &authorize.offline_params),
        ("reconsent_params", &authorize.reconsent_params),
        ("account_picker_params", &authorize.account_picker_params),
    ] {
        own(params, AUTHORIZE_OWN, || member!["authorize", name])?;
    }
    if let Some(param) = &authorize.claims_param
        && AUTHORIZE_OWN.contains(&param.as_str())
    {
        return fail(member!["authorize", "claims_param"], "expected another parameter: grantd sets this one itself");
    }
    for (name, params) in
        [("code_params", &definition.token.code_params), ("refresh_params", &definition.token.refresh_params)]
    {
        own(params, TOKEN_OWN, || member!["token", name])?;
    }
    headers(&definition.token.headers, || member!["token", "headers"])?;
    headers(&definition.identity.headers, || member!["identity", "headers"])
}

fn own(params: &Params, own: &[&str], path: impl FnOnce() -> Vec<Segment>) -> Check {
    let Some(name) = params.keys().find(|name| own.contains(&name.as_str())) else {
        return Ok(());
    };
    let mut path = path();
    path.push(Segment::from(name.as_str()));
    fail(path, "expected another parameter: grantd sets this one itself")
}

fn headers(headers: &Params, path: impl Fn() -> Vec<Segment>) -> Check {
    for (name, value) in headers {
        let message =
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
                "expected a header name in lower-case letters"
            } else if HEADERS_OWN.contains(&name.as_str()) {
                "expected another header: grantd sets this one itself"
            } else if !value.bytes().all(|b| matches!(b, 0x20..=0x7e)) {
                "expected visible ASCII"
            } else {
                continue;
            };
        let mut path = path();
        path.push(Segment::from(name.as_str()));
        return fail(path, message);
    }
    Ok(())
}

fn identity(definition: &Definition) -> Check {
    let identity = &definition.identity;
    match identity.source {
        IdentityFrom::Http if identity.url.is_none() => {
            fail(member!["identity"], "expected `url`, because the source is `http`")
        }
        IdentityFrom::IdToken | IdentityFrom::Token if identity.url.is_some() => {
            fail(member!["identity", "url"], "expected no `url`, because the source is not `http`")
        }
        IdentityFrom::Http | IdentityFrom::Token if identity.id_token.is_some() => {
            fail(member!["identity", "id_token"], "expected no `id_token`, because the source is another")
        }
        IdentityFrom::IdToken if definition.endpoints.jwks.is_none() => {
            fail(member!["endpoints"], "expected `jwks`, because the identity is read from an ID token")
        }
        IdentityFrom::IdToken => issuer(definition),
        _ => Ok(()),
    }
}

fn issuer(definition: &Definition) -> Check {
    let rules = definition.identity.id_token.as_ref();
    let template = rules.and_then(|rules| rules.issuer_template.as_deref());
    let claim = rules.and_then(|rules| rules.issuer_claim.as_deref());
    match (template, claim) {
        (Some(template), Some(claim)) if template.contains(&format!("{{{claim}}}")) => Ok(()),
        (Some(_), _) => {
            fail(member!["identity", "id_token", "issuer_template"], "expected the claim of `issuer_claim` in braces")
        }
        (None, _) if definition.issuer.accept.is_empty() => {
            fail(member!["issuer"], "expected `accept`, because an ID token is believed from a known issuer only")
        }
        (None, _) => Ok(()),
    }
}

fn redirect(definition: &Definition) -> Check {
    let hosts = &definition.redirect.loopback_hosts;
    match hosts.iter().position(|host| !["localhost", "127.0.0.1", "[::1]"].contains(&host.as_str())) {
        Some(index) => {
            fail(member!["redirect", "loopback_hosts", index], "expected `localhost`, `127.0.0.1` or `[::1]`")
        }
        None => Ok(()),
    }
}

/// The refresh that gets a token for another resource leaves the refresh token and the token at hand as they are.
fn resources(definition: &Definition) -> Check {
    let rules = &definition.refresh;
    if definition.scopes.one_resource && (rules.rotation == Rotation::SingleUse || rules.kills_access) {
        return fail(
            member!["scopes", "one_resource"],
            "expected false where a refresh token works once or a refresh kills the last token (refresh.rotation, refresh.kills_access)",
        );
    }
    Ok(())
}

fn answers(definition: &Definition) -> Check {
    for (index, rule) in definition.errors.iter().enumerate() {
        if rule.code.is_empty() && rule.sub.is_empty() && rule.http.is_empty() {
            return fail(member!["errors", index], "expected `code`, `sub` or `http`; else it matches every failure");
        }
        status(&rule.http, |at| member!["errors", index, "http", at])?;
    }
    for (index, hint) in definition.response.hints.iter().enumerate() {
        if hint.number.is_empty() {
            return fail(member!["response", "hints", index, "number"], "expected at least one number");
        }
        let known = definition.response.hints[..index].iter().flat_map(|earlier| &earlier.number);
        if let Some(twice) = known.into_iter().find(|number| hint.number.contains(number)) {
            return fail(member!["response", "hints", index, "number"], format!("the number {twice} is here twice"));
        }
    }
    if definition.response.claims.is_some() != definition.authorize.claims_param.is_some() {
        return fail(
            member!["response"],
            "expected `claims` and `authorize.claims_param` together: one is where a challenge comes from, the other where it goes",
        );
    }
    revoke::check(definition)
}

fn status(codes: &[u16], path: impl FnOnce(usize) -> Vec<Segment>) -> Check {
    match codes.iter().position(|code| !(100..=599).contains(code)) {
        Some(at) => fail(path(at), "expected a status code from 100 to 599"),
        None => Ok(()),
    }
}
