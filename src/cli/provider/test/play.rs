//! The steps: what a person, a caller and an operator would do, one after the other, until one that the rest depends on fails.

use std::time::Duration;

use serde_json::{Value, json};
use url::Url;

use crate::api::wire::{ConnectBody, ConnectionsBody, DisconnectBody, SessionBody};
use crate::catalog::Entry;
use crate::cli::client::Failure;
use crate::cli::exit::{CliError, ExitCode};
use crate::cli::provider::test::report::Step;
use crate::cli::provider::test::stage::Stage;
use crate::clock::{Clock as _, SystemClock};
use crate::egress::Egress;
use crate::model::grant_type::GrantType;
use crate::model::id::SlotName;
use crate::model::provider::IdentitySource;
use crate::model::provider::rules::{ErrorClass, ErrorRule, RefreshMode, Rotation};
use crate::model::scope::ScopeSet;
use crate::model::secret::{DeviceCode, RefreshToken};
use crate::oauth::device::{self, Polled};
use crate::oauth::exchange::{self, As, Spend};
use crate::oauth::identity;
use crate::oauth::rejection::Rejection;
use crate::oauth::transport::Transport;
use crate::sandbox::browser::Page;
use crate::sandbox::{Kind, Secret, Telling};

/// Tries one variant.
///
/// # Errors
/// If something cannot be started that has nothing to do with the definition.
pub(super) async fn play(entry: &Entry, text: &str, variant: Option<&str>) -> Result<Vec<Step>, CliError> {
    let stage = match Stage::set(entry, text, variant).await? {
        Ok(stage) => stage,
        Err(why) => return Ok(vec![Step::skipped("authorize", why)]),
    };
    let mut steps = Vec::new();
    if let Ok(connection) = connect(&stage, &mut steps).await {
        renew(&stage, &mut steps).await;
        errors(&stage, &mut steps).await?;
        revoke(&stage, &connection, &mut steps).await;
    }
    stage.strike().await;
    Ok(steps)
}

/// What the rest depends on has failed.
struct Stuck;

/// Through the pages of grantd and of the provider, as a person goes. The connection that comes of it.
async fn connect(stage: &Stage, steps: &mut Vec<Step>) -> Result<String, Stuck> {
    let asked = format!("GET {}", address(&stage.original.endpoints.authorize));
    let (session, consent) = match authorize(stage).await {
        Ok(reached) => reached,
        Err(came) => {
            steps.push(Step::failed("authorize", asked, came, "authorize"));
            return Err(Stuck);
        }
    };
    steps.push(Step::ok("authorize", asked, "the provider asks the person"));

    let asked = format!("POST {} (code)", address(&stage.original.endpoints.token));
    let user = stage.sandbox.users().into_iter().next().ok_or(Stuck)?;
    let page = stage.browser.press(&consent, "allow", &[("account", &user.sub)]).await;
    let session = standing(stage, &session.connect_id.to_string()).await;
    let (page, session) = match (page, session) {
        (Ok(page), Ok(session)) => (page, session),
        (Err(error), _) => return stuck(steps, "exchange", asked, error.to_string(), "token"),
        (_, Err(came)) => return stuck(steps, "exchange", asked, came, "token"),
    };
    let account_asked = match &stage.original.identity.source {
        IdentitySource::Http { url, .. } => format!("GET {}", address(url)),
        IdentitySource::IdToken(_) => "the ID token".to_owned(),
        IdentitySource::Token => "the token answer".to_owned(),
    };
    match &*session.status {
        "awaiting_confirmation" => {}
        "identity_failed" => {
            steps.push(Step::ok("exchange", asked, "a token"));
            let came = match &stage.original.identity.source {
                IdentitySource::IdToken(_) => {
                    "no ID token that can be believed; is `openid` among the scopes that are always asked for?"
                }
                _ => "no account in it",
            };
            return stuck(steps, "identity", account_asked, came.to_owned(), "identity");
        }
        other => {
            let came = format!("{other}: grantd found no token in the answer that the definition describes");
            return stuck(steps, "exchange", asked, came, "slots");
        }
    }
    steps.push(Step::ok("exchange", asked, "a token"));

    let expected = identity::account(&stage.original, &stage.mirror.account_of(&user));
    let came = session.account.as_ref().map(|account| format!("{} ({})", account.id, account.name));
    match (session.account == expected, came) {
        (true, Some(came)) => steps.push(Step::ok("identity", account_asked, came)),
        (_, came) => {
            return stuck(
                steps,
                "identity",
                account_asked,
                came.unwrap_or_else(|| "no account".to_owned()),
                "identity",
            );
        }
    }
    confirm(stage, &page, steps).await
}

fn stuck<T>(
    steps: &mut Vec<Step>,
    name: &'static str,
    asked: String,
    came: String,
    look: &'static str,
) -> Result<T, Stuck> {
    steps.push(Step::failed(name, asked, came, look));
    Err(Stuck)
}

/// Up to the provider's own page.
async fn authorize(stage: &Stage) -> Result<(SessionBody, Page), String> {
    let body = ConnectBody {
        provider: stage.original.id.clone(),
        scopes: None,
        reconnect: None,
        purpose: Some("to try the definition".to_owned()),
        open: Some(true),
        device: None,
    };
    let session: SessionBody = stage.client.post("/v1/connect", &body).await.map_err(told)?;
    let link = session.browser_url.clone().unwrap_or_else(|| session.connect_url.clone());
    let page = stage.browser.open(&link).await.map_err(|error| error.to_string())?;
    let sent = stage.browser.press_once(&page, "/start", &[]).await.map_err(|error| error.to_string())?;
    let to = sent.location().and_then(Result::ok).ok_or("grantd sends nobody there")?;
    let query = |name: &str| to.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    for asked in &stage.original.authorize.scope_params {
        let wanted = stage.original.presets.default.get(&asked.slot).is_some_and(|scopes| !scopes.is_empty());
        if wanted && query(&asked.param).is_none() {
            return Err(format!("no scopes in the parameter `{}`", asked.param));
        }
    }
    let consent = stage.browser.open(&to).await.map_err(|error| error.to_string())?;
    let refused = consent.url.query_pairs().find(|(key, _)| key == "error").map(|(_, value)| value.into_owned());
    match refused {
        Some(error) => Err(format!("the provider refuses the request: {error}")),
        None if consent.status != 200 => Err(format!("status {}", consent.status)),
        None => Ok((session, consent)),
    }
}

/// The person says yes, and every slot has what it should.
async fn confirm(stage: &Stage, page: &Page, steps: &mut Vec<Step>) -> Result<String, Stuck> {
    let asked = "the person says yes".to_owned();
    if let Err(error) = stage.browser.press(page, "/confirm", &[]).await {
        return stuck(steps, "connect", asked, error.to_string(), "identity");
    }
    let listed: Result<ConnectionsBody, _> = stage.client.get("/v1/connections", Duration::ZERO).await;
    let connection = match listed {
        Ok(listed) => listed.connections.into_iter().next(),
        Err(failure) => return stuck(steps, "connect", asked, told(failure), "slots"),
    };
    let Some(connection) = connection else {
        return stuck(steps, "connect", asked, "no connection".to_owned(), "slots");
    };
    let missing =
        stage.sandbox.grants().into_iter().find(|grant| connection.slots.iter().all(|slot| slot.slot != grant.slot));
    if let Some(grant) = missing {
        return stuck(
            steps,
            "connect",
            asked,
            format!("nothing of its own was found for the slot {}", grant.slot),
            "slots",
        );
    }
    for grant in stage.sandbox.grants() {
        let held = connection.slots.iter().find(|slot| slot.slot == grant.slot);
        let held: Vec<&str> = held.map(|slot| slot.scope.split(' ').collect()).unwrap_or_default();
        let silent = &stage.original.scopes.not_echoed;
        let lost = grant
            .scopes
            .iter()
            .find(|scope| !held.contains(&scope.as_str()) && silent.iter().all(|not| not.as_str() != **scope));
        if let Some(lost) = lost {
            let came = format!("the scope {lost} was granted and is not seen");
            return stuck(steps, "connect", asked, came, "scopes.separator_response");
        }
    }
    let slots: Vec<String> = connection
        .slots
        .iter()
        .map(|slot| match slot.scope.as_str() {
            "" => format!("slot {}", slot.slot),
            scope => format!("slot {} with {scope}", slot.slot),
        })
        .collect();
    steps.push(Step::ok("connect", asked, slots.join(", ")));
    Ok(connection.id.to_string())
}

/// Twice: the second refresh shows that what the first one brought was kept.
async fn renew(stage: &Stage, steps: &mut Vec<Step>) {
    let asked = format!("POST {} (refresh)", address(&stage.original.endpoints.token));
    let slots: Vec<SlotName> = stage.original.slots.iter().map(|slot| slot.name.clone()).collect();
    let granted = stage.sandbox.grants();
    let held: Vec<&SlotName> = slots.iter().filter(|slot| granted.iter().any(|grant| grant.slot == **slot)).collect();
    for slot in slots.iter().filter(|slot| !held.contains(slot)) {
        steps.push(Step::skipped("refresh", format!("slot {slot}: the preset `default` asks for nothing in it")));
    }
    for slot in held {
        let named = |step: &str| if slots.len() > 1 { format!("{step}, slot {slot}") } else { step.to_owned() };
        let first = match token(stage, slot, None).await {
            Ok(first) => first,
            Err(came) => return steps.push(Step::failed("refresh", named("a token"), came, "slots")),
        };
        let second = match token(stage, slot, Some(&first)).await {
            Ok(second) if second["token_id"] != first["token_id"] => second,
            Ok(_) => return steps.push(Step::failed("refresh", named(&asked), "the same token again", "refresh.mode")),
            Err(came) => return steps.push(Step::failed("refresh", named(&asked), came, "slots")),
        };
        let when = match stage.original.refresh.mode {
            RefreshMode::Ahead => "a new token",
            RefreshMode::Reactive => "a new token, because the old one was reported",
        };
        steps.push(Step::ok("refresh", named(&asked), when));
        let what = match stage.original.refresh.rotation {
            Rotation::Static => "the refresh token stays, and was sent again",
            Rotation::MultiValid => "a new refresh token, and it was sent",
            Rotation::SingleUse => "a new refresh token, and none was sent twice",
        };
        let third = token(stage, slot, Some(&second)).await;
        let usable = stage.sandbox.grants().iter().all(|grant| grant.newest_refresh_usable);
        let twice = stage.sandbox.ledger().double_presentations().len();
        let spent_twice = stage.original.refresh.rotation == Rotation::SingleUse && twice > 0;
        steps.push(match third {
            Ok(third) if third["token_id"] != second["token_id"] && usable && !spent_twice => {
                Step::ok("rotation", named(&asked), what)
            }
            Ok(_) => {
                Step::failed("rotation", named(&asked), "a refresh token was lost or sent twice", "refresh.rotation")
            }
            Err(came) => Step::failed("rotation", named(&asked), came, "refresh.rotation"),
        });
    }
}

/// A token; another one than `rejected`, if that is given.
async fn token(stage: &Stage, slot: &SlotName, rejected: Option<&Value>) -> Result<Value, String> {
    let mut body = json!({"provider": stage.original.id, "connect": false});
    if stage.original.slots.len() > 1 {
        body["slot"] = json!(slot);
    }
    if let Some(rejected) = rejected {
        body["rejected"] = rejected["token_id"].clone();
    }
    stage.client.post("/v1/token", &body).await.map_err(told)
}

/// Each rule with each of its codes: told as the definition says, it has to be understood as it says.
async fn errors(stage: &Stage, steps: &mut Vec<Step>) -> Result<(), CliError> {
    let egress = Egress::open().map_err(|error| CliError::new(ExitCode::Failure, error.to_string()))?;
    let client = stage.registration();
    let rules = &stage.original.errors;
    if rules.is_empty() {
        steps.push(Step::skipped("errors", "the definition has no `errors`: what RFC 6749 says counts"));
    }
    for (index, rule) in rules.iter().enumerate() {
        let codes: Vec<Option<&str>> = match rule.code.as_slice() {
            [] => vec![None],
            codes => codes.iter().map(|code| Some(code.as_str())).collect(),
        };
        let mut wrong = None;
        for code in &codes {
            let telling = stage.mirror.telling(rule, *code);
            stage.mirror.tell(Some(telling.clone()));
            let whom = As { provider: &stage.provider, client: &client, now: SystemClock.now() };
            let found = understood(whom, rule.class, &egress.to(&stage.provider)).await?;
            if found != Some(rule.class) {
                wrong = Some(misread(rules, index, &telling, found));
                break;
            }
        }
        let asked = format!("errors[{index}]: {}", shown(rule));
        let word = name(rule.class);
        steps.push(match wrong {
            None => Step::ok("errors", asked, word),
            Some(came) => Step::failed("errors", asked, format!("not {word}: {came}"), "errors"),
        });
    }
    stage.mirror.tell(None);
    Ok(())
}

/// What the refusal is taken for where the class that is expected matters: while a device flow is polled, or on a refresh.
async fn understood(whom: As<'_>, expected: ErrorClass, http: &Transport<'_>) -> Result<Option<ErrorClass>, CliError> {
    let made_up = || CliError::new(ExitCode::Failure, "no token");
    if matches!(expected, ErrorClass::Pending | ErrorClass::SlowDown) {
        let code = DeviceCode::new("dc_MARK_unknown").map_err(|_| made_up())?;
        return Ok(match device::poll(whom, &code, http).await {
            Polled::Pending => Some(ErrorClass::Pending),
            Polled::SlowDown { .. } => Some(ErrorClass::SlowDown),
            _ => None,
        });
    }
    let token = RefreshToken::new("rt_MARK_unknown").map_err(|_| made_up())?;
    let spend = Spend {
        token: &token,
        slot: &SlotName::main(),
        granted: &ScopeSet::default(),
        grant_type: GrantType::AuthorizationCode,
        resource: None,
    };
    let refused = exchange::refresh(whom, spend, http).await.err();
    Ok(refused.and_then(|refused| class(&refused.rejection)))
}

fn misread(rules: &[ErrorRule], index: usize, telling: &Telling, found: Option<ErrorClass>) -> String {
    let said = |list: &[String], word: Option<&String>| list.is_empty() || word.is_some_and(|word| list.contains(word));
    let earlier = rules[..index].iter().position(|rule| {
        said(&rule.code, telling.code.as_ref())
            && said(&rule.sub, telling.sub.as_ref())
            && (rule.http.is_empty() || rule.http.contains(&telling.status))
    });
    let what = telling.code.as_deref().unwrap_or("no code");
    let class = found.map_or("no error that is understood", name);
    match earlier {
        Some(earlier) => {
            format!("{what} with status {} is {class}, because errors[{earlier}] comes first", telling.status)
        }
        None => format!("{what} with status {} is {class}", telling.status),
    }
}

async fn revoke(stage: &Stage, connection: &str, steps: &mut Vec<Step>) {
    let by_hand = stage.original.revoke_manual_url.as_ref();
    let Some(rules) = &stage.original.revoke else {
        let where_to = by_hand.map_or_else(|| "the definition does not say where".to_owned(), ToString::to_string);
        return steps.push(Step::skipped("revoke", format!("there is none for one connection; by hand: {where_to}")));
    };
    let asked =
        format!("{:?} {}", rules.method, address(&rules.url)).replace("Delete", "DELETE").replace("Post", "POST");
    let ended: Result<DisconnectBody, _> = stage.client.delete(&format!("/v1/connections/{connection}")).await;
    steps.push(match ended {
        Ok(ended) if ended.upstream == "revoked" && gone(stage) => Step::ok("revoke", asked, "the provider confirms"),
        Ok(ended) if ended.upstream == "revoked" => {
            Step::failed("revoke", asked, "the provider confirms, and nothing is gone", "revoke.body")
        }
        Ok(ended) => {
            Step::failed("revoke", asked, format!("the provider does not confirm ({})", ended.upstream), "revoke")
        }
        Err(failure) => Step::failed("revoke", asked, told(failure), "revoke"),
    });
}

/// Whether the provider has ended something because we asked.
fn gone(stage: &Stage) -> bool {
    let ledger = stage.sandbox.ledger();
    [Secret::Access, Secret::Refresh].iter().any(|what| ledger.count(Kind::Revoked, *what, "revoked_by_client") > 0)
}

async fn standing(stage: &Stage, id: &str) -> Result<SessionBody, String> {
    stage.client.get(&format!("/v1/connect/{id}"), Duration::ZERO).await.map_err(told)
}

fn told(failure: Failure) -> String {
    CliError::from(failure).message
}

/// An address as the definition has it, without what is asked of it.
fn address(url: &Url) -> &str {
    &url[..url::Position::AfterPath]
}

const fn class(rejection: &Rejection) -> Option<ErrorClass> {
    match rejection {
        Rejection::ClientOrGrant { .. } => Some(ErrorClass::ClientOrGrant),
        Rejection::Consent { .. } => Some(ErrorClass::Reauth),
        Rejection::Denied => Some(ErrorClass::Denied),
        Rejection::Registration { .. } => Some(ErrorClass::Misconfigured),
        Rejection::Restart { .. } => Some(ErrorClass::RestartLogin),
        Rejection::Retry { .. } => Some(ErrorClass::Transient),
        Rejection::UserAction { .. } => Some(ErrorClass::UserAction),
        Rejection::Ambiguous(_) | Rejection::Unsent(_) => None,
    }
}

const fn name(class: ErrorClass) -> &'static str {
    match class {
        ErrorClass::ClientOrGrant => "client_or_grant",
        ErrorClass::Denied => "denied",
        ErrorClass::Misconfigured => "misconfigured",
        ErrorClass::Pending => "pending",
        ErrorClass::Reauth => "reauth",
        ErrorClass::RestartLogin => "restart_login",
        ErrorClass::SlowDown => "slow_down",
        ErrorClass::Transient => "transient",
        ErrorClass::UserAction => "user_action",
    }
}

fn shown(rule: &ErrorRule) -> String {
    let http = rule.http.iter().map(|status| format!("status {status}"));
    let words: Vec<String> = rule.code.iter().chain(&rule.sub).cloned().chain(http).collect();
    match words.as_slice() {
        [first, _, .., last] => format!("{first} … {last}"),
        words => words.join(", "),
    }
}
