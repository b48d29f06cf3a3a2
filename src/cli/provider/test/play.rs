//! The steps: what a person, a caller and an operator would do, one after the other, until one that the rest depends on fails.

use serde_json::{Value, json};
use url::Url;

use crate::api::wire::DisconnectBody;
use crate::catalog::Entry;
use crate::cli::client::Failure;
use crate::cli::exit::{CliError, ExitCode};
use crate::cli::provider::test::client::client;
use crate::cli::provider::test::connect::connect;
use crate::cli::provider::test::device::device;
use crate::cli::provider::test::report::Step;
use crate::cli::provider::test::stage::Stage;
use crate::clock::Clock as _;
use crate::egress::Egress;
use crate::model::grant_type::GrantType;
use crate::model::id::SlotName;
use crate::model::provider::Revoke;
use crate::model::provider::rules::{ErrorClass, ErrorRule, RefreshMode, Rotation};
use crate::model::scope::ScopeSet;
use crate::model::secret::{DeviceCode, RefreshToken};
use crate::oauth::device::{self as polling, Polled};
use crate::oauth::exchange::{self, As, Spend};
use crate::oauth::rejection::Rejection;
use crate::oauth::transport::Transport;
use crate::sandbox::{Kind, Secret, Telling};

/// Tries one variant.
///
/// # Errors
/// If something cannot be started that has nothing to do with the definition.
pub(super) async fn play(entry: &Entry, text: &str, variant: Option<&str>) -> Result<Vec<Step>, CliError> {
    let stage = match Stage::set(entry, text, variant).await? {
        Ok(stage) => stage,
        Err(step) => return Ok(vec![step]),
    };
    let mut steps = Vec::new();
    let connected = connect(&stage, &mut steps).await;
    if let Ok(connection) = &connected {
        client(&stage, &mut steps).await?;
        renew(&stage, &mut steps).await;
        errors(&stage, &mut steps).await?;
        revoke(&stage, connection, &mut steps).await;
    }
    // The last, because it sets the clock forward.
    if connected.is_ok() || !stage.by_device {
        device(&stage, &mut steps).await?;
    }
    stage.strike().await;
    Ok(steps)
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
    let client = stage.registration()?;
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
            let whom = As { provider: &stage.provider, client: &client, now: stage.clock.now() };
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
    if matches!(expected, ErrorClass::Pending | ErrorClass::SlowDown) {
        let code = DeviceCode::new("dc_MARK_unknown").map_err(|_| no_token())?;
        return Ok(match polling::poll(whom, &code, http).await {
            Polled::Pending => Some(ErrorClass::Pending),
            Polled::SlowDown { .. } => Some(ErrorClass::SlowDown),
            _ => None,
        });
    }
    let token = made_up()?;
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

/// A refresh token that nobody gave.
pub(super) fn made_up() -> Result<RefreshToken, CliError> {
    RefreshToken::new("rt_MARK_unknown").map_err(|_| no_token())
}

fn no_token() -> CliError {
    CliError::new(ExitCode::Failure, "no token")
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

/// Takes the connection back as the definition says, and another one in the wider way if there is one.
async fn revoke(stage: &Stage, connection: &str, steps: &mut Vec<Step>) {
    match (&stage.original.revoke, &stage.original.revoke_wider) {
        (None, None) => {
            let by_hand = stage.original.revoke_manual_url.as_ref();
            let where_to = by_hand.map_or_else(|| "the definition does not say where".to_owned(), ToString::to_string);
            steps.push(Step::skipped("revoke", format!("there is none for one connection; by hand: {where_to}")));
        }
        (Some(rules), None) => steps.push(disconnect(stage, connection, rules, "", "revoke").await),
        (None, Some(wider)) => steps.push(disconnect(stage, connection, wider, "?wider=true", "revoke_wider").await),
        (Some(rules), Some(wider)) => {
            steps.push(disconnect(stage, connection, rules, "", "revoke").await);
            // The same steps once more: only if they go wrong now, they are worth telling.
            let mut again = Vec::new();
            match connect(stage, &mut again).await {
                Ok(connection) => {
                    steps.push(disconnect(stage, &connection, wider, "?wider=true", "revoke_wider").await);
                }
                Err(_) => steps.extend(again.pop()),
            }
        }
    }
}

async fn disconnect(stage: &Stage, connection: &str, rules: &Revoke, query: &str, look: &'static str) -> Step {
    let asked =
        format!("{:?} {}", rules.method, address(&rules.url)).replace("Delete", "DELETE").replace("Post", "POST");
    let asked = if query.is_empty() { asked } else { format!("{asked} (wider)") };
    let before = revoked(stage);
    let ended: Result<DisconnectBody, _> = stage.client.delete(&format!("/v1/connections/{connection}{query}")).await;
    match ended {
        Ok(ended) if ended.upstream == "revoked" && revoked(stage) > before => {
            Step::ok("revoke", asked, "the provider confirms")
        }
        Ok(ended) if ended.upstream == "revoked" => {
            let look = if query.is_empty() { "revoke.body" } else { "revoke_wider.body" };
            Step::failed("revoke", asked, "the provider confirms, and nothing is gone", look)
        }
        Ok(ended) => Step::failed("revoke", asked, format!("the provider does not confirm ({})", ended.upstream), look),
        Err(failure) => Step::failed("revoke", asked, told(failure), look),
    }
}

/// How many tokens the provider has ended because we asked.
fn revoked(stage: &Stage) -> usize {
    let ledger = stage.sandbox.ledger();
    [Secret::Access, Secret::Refresh].iter().map(|what| ledger.count(Kind::Revoked, *what, "revoked_by_client")).sum()
}

pub(super) fn told(failure: Failure) -> String {
    CliError::from(failure).message
}

/// An address as the definition has it, without what is asked of it.
pub(super) fn address(url: &Url) -> &str {
    &url[..url::Position::AfterPath]
}

pub(super) const fn class(rejection: &Rejection) -> Option<ErrorClass> {
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

pub(super) const fn name(class: ErrorClass) -> &'static str {
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
