//! Connecting an account: through the pages as a person goes, or by a device flow where no browser comes back.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::api::wire::{ConfirmBody, ConnectBody, ConnectionsBody, SessionBody};
use crate::cli::provider::test::client::look_at;
use crate::cli::provider::test::device::{enter, no_code};
use crate::cli::provider::test::play::{address, told};
use crate::cli::provider::test::report::Step;
use crate::cli::provider::test::stage::Stage;
use crate::model::provider::IdentitySource;
use crate::model::secret::Proof;
use crate::oauth::identity;
use crate::sandbox::SandboxUser;
use crate::sandbox::browser::Page;

/// How long the daemon may take to hear what the person decided: it asks every second.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the rest depends on has failed.
pub(super) struct Stuck;

/// A session that waits for the person to see the account, and how they say yes.
struct Waiting {
    session: SessionBody,
    yes: Yes,
    /// What brought it this far.
    asked: String,
}

enum Yes {
    Page(Page),
    Proof(Proof),
}

/// Through the pages of grantd and of the provider, as a person goes, or by a device flow. The connection that comes of it.
pub(super) async fn connect(stage: &Stage, steps: &mut Vec<Step>) -> Result<String, Stuck> {
    let user = stage.sandbox.users().into_iter().next().ok_or(Stuck)?;
    let waiting = match stage.by_device {
        true => by_device(stage, &user, steps).await?,
        false => by_browser(stage, &user, steps).await?,
    };
    identified(stage, &user, &waiting, steps)?;
    confirm(stage, waiting, steps).await
}

async fn by_browser(stage: &Stage, user: &SandboxUser, steps: &mut Vec<Step>) -> Result<Waiting, Stuck> {
    let asked = format!("GET {}", address(&stage.original.endpoints.authorize));
    let (session, consent) = match authorize(stage).await {
        Ok(reached) => reached,
        Err(came) => return stuck(steps, "authorize", asked, came, "authorize"),
    };
    steps.push(Step::ok("authorize", asked, "the provider asks the person"));

    let asked = format!("POST {} (code)", address(&stage.original.endpoints.token));
    let page = stage.browser.press(&consent, "allow", &[("account", &user.sub)]).await;
    let session = standing(stage, &session.connect_id.to_string(), Duration::ZERO).await;
    match (page, session) {
        (Ok(page), Ok(session)) => Ok(Waiting { session, yes: Yes::Page(page), asked }),
        (Err(error), _) => stuck(steps, "exchange", asked, error.to_string(), "token"),
        (_, Err(came)) => stuck(steps, "exchange", asked, came, "token"),
    }
}

async fn by_device(stage: &Stage, user: &SandboxUser, steps: &mut Vec<Step>) -> Result<Waiting, Stuck> {
    let endpoint = stage.original.endpoints.device.as_ref().map_or("", address);
    let asked = format!("POST {endpoint}");
    let before = stage.mirror.device_codes();
    let body = ConnectBody { device: Some(true), ..wanted(stage) };
    let begun: Result<SessionBody, _> = stage.client.post("/v1/connect", &body).await;
    let (device, proof, id) = match begun {
        Ok(SessionBody { device: Some(device), proof: Some(proof), connect_id, .. }) => (device, proof, connect_id),
        Ok(_) => return stuck(steps, "authorize", asked, "no code".to_owned(), "endpoints.device"),
        Err(failure) => {
            // The daemon does not tell a caller more; what the mirror saw does.
            let look = stage.mirror.assertion_fault().map_or_else(|| no_code(stage, before), look_at);
            return stuck(steps, "authorize", asked, told(failure), look);
        }
    };
    if let Err(error) = enter(stage, &device.verification_uri, &device.user_code, "allow", &user.sub).await {
        return stuck(steps, "authorize", asked, error.to_string(), "device.verification_uri");
    }
    steps.push(Step::ok("authorize", asked, "a code, which the person enters elsewhere"));

    let asked = format!("POST {} (device_code)", address(&stage.original.endpoints.token));
    match heard(stage, &id.to_string()).await {
        Ok(session) => Ok(Waiting { session, yes: Yes::Proof(proof), asked }),
        Err(came) => stuck(steps, "exchange", asked, came, "errors"),
    }
}

/// Waits until the daemon has heard what the person decided.
async fn heard(stage: &Stage, id: &str) -> Result<SessionBody, String> {
    let asking = async {
        loop {
            let session = standing(stage, id, PATIENCE).await?;
            if session.done || session.status == "awaiting_confirmation" {
                return Ok(session);
            }
            // An answer that is no news must not be asked for in a loop.
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, asking).await.unwrap_or_else(|_| Err("no poll brought anything".to_owned()))
}

/// The provider gave a token, and the definition tells whose it is.
fn identified(stage: &Stage, user: &SandboxUser, waiting: &Waiting, steps: &mut Vec<Step>) -> Result<(), Stuck> {
    let (session, asked) = (&waiting.session, waiting.asked.clone());
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
            if let Some(fault) = stage.mirror.assertion_fault() {
                let came = format!("{other}: the provider refuses the client's assertion ({fault})");
                return stuck(steps, "exchange", asked, came, look_at(fault));
            }
            let came = format!("{other}: grantd found no token in the answer that the definition describes");
            return stuck(steps, "exchange", asked, came, "slots");
        }
    }
    steps.push(Step::ok("exchange", asked, "a token"));

    let expected = identity::account(&stage.original, &stage.mirror.account_of(user));
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
    Ok(())
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

fn wanted(stage: &Stage) -> ConnectBody {
    ConnectBody {
        provider: stage.original.id.clone(),
        scopes: None,
        reconnect: None,
        purpose: Some("to try the definition".to_owned()),
        open: None,
        device: None,
    }
}

/// Up to the provider's own page.
async fn authorize(stage: &Stage) -> Result<(SessionBody, Page), String> {
    let body = ConnectBody { open: Some(true), ..wanted(stage) };
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
async fn confirm(stage: &Stage, waiting: Waiting, steps: &mut Vec<Step>) -> Result<String, Stuck> {
    let asked = "the person says yes".to_owned();
    let said = match waiting.yes {
        Yes::Page(page) => {
            stage.browser.press(&page, "/confirm", &[]).await.map(drop).map_err(|error| error.to_string())
        }
        Yes::Proof(proof) => {
            let path = format!("/v1/connect/{}/confirm", waiting.session.connect_id);
            let done: Result<SessionBody, _> = stage.client.post(&path, &ConfirmBody { proof }).await;
            done.map(drop).map_err(told)
        }
    };
    if let Err(came) = said {
        return stuck(steps, "connect", asked, came, "identity");
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

/// How the session stands, or how it stands when something has happened; at the latest after `wait`.
async fn standing(stage: &Stage, id: &str, wait: Duration) -> Result<SessionBody, String> {
    stage.client.get(&format!("/v1/connect/{id}?wait={}", wait.as_secs()), wait).await.map_err(told)
}
