//! The device flow (RFC 8628): each thing that a provider may say while a person decides, by a clock that is set forward.

use std::ops::ControlFlow;

use url::Url;

use crate::cli::exit::{CliError, ExitCode};
use crate::cli::provider::test::play::address;
use crate::cli::provider::test::report::Step;
use crate::cli::provider::test::stage::Stage;
use crate::clock::Clock as _;
use crate::egress::Egress;
use crate::model::client::Client;
use crate::model::id::SlotName;
use crate::oauth::device::follow::{Followed, Pace, follow};
use crate::oauth::device::{self, DeviceAuthorization, Polled};
use crate::oauth::exchange::As;
use crate::oauth::transport::Transport;
use crate::sandbox::browser::BrowserError;

/// Where a definition says what a refused poll means.
const RULES: &str = "errors";

/// Tries the flow, if the definition has one.
///
/// # Errors
/// If something cannot be started that has nothing to do with the definition.
pub(super) async fn device(stage: &Stage, steps: &mut Vec<Step>) -> Result<(), CliError> {
    if stage.original.endpoints.device.is_none() {
        return Ok(());
    }
    let egress = Egress::open().map_err(|error| CliError::new(ExitCode::Failure, error.to_string()))?;
    let http = egress.to(&stage.provider);
    let flow = Flow { stage, client: stage.registration()?, http: &http };
    // What fails in one of them would fail in the others too.
    let _ = flow.play(steps).await;
    Ok(())
}

/// Where to look when no device code can be had: what the mirror answered, it was asked for.
pub(super) fn no_code(stage: &Stage, given_before: usize) -> &'static str {
    if stage.mirror.device_codes() > given_before { "device.verification_uri" } else { "endpoints.device" }
}

/// A person enters the code at the page, as `account`, and decides.
pub(super) async fn enter(
    stage: &Stage,
    page: &Url,
    code: &str,
    decision: &str,
    account: &str,
) -> Result<(), BrowserError> {
    let form = stage.browser.open(page).await?;
    let asked = stage.browser.press(&form, "/device", &[("user_code", code)]).await?;
    stage.browser.press(&asked, decision, &[("account", account)]).await.map(drop)
}

/// A step has failed.
struct Stuck;

struct Flow<'a, 't> {
    stage: &'a Stage,
    client: Client,
    http: &'a Transport<'t>,
}

impl Flow<'_, '_> {
    async fn play(&self, steps: &mut Vec<Step>) -> Result<(), Stuck> {
        let mut given = self.code(steps).await?;
        for _ in 1..self.stage.mirror.page_names() {
            given = self.code(steps).await?;
        }
        let what = "a code, and the page to enter it at";
        steps.push(Step::ok("device", format!("POST {}", self.code_address()), what));

        let (undecided, hasty) = (self.asked("nobody has decided"), self.asked("too fast"));
        match self.poll(&given).await {
            Polled::Pending => steps.push(Step::ok("device", undecided, "pending: it is asked again")),
            other => return stuck(steps, undecided, not("pending", &other), RULES),
        }
        let pace = match self.poll(&given).await {
            Polled::SlowDown { interval: Some(interval) } if interval > given.interval => {
                steps.push(Step::ok("device", hasty, "slow_down: it is asked less often"));
                Pace::of(interval)
            }
            other => return stuck(steps, hasty, not("slow_down", &other), RULES),
        };
        self.decided("allow", &given, pace, steps).await?;

        let given = self.code(steps).await?;
        self.decided("deny", &given, Pace::of(given.interval), steps).await?;

        let given = self.code(steps).await?;
        self.stage.clock.advance(given.expires_in);
        let asked = self.asked("the code is too old");
        match self.poll(&given).await {
            Polled::Expired => steps.push(Step::ok("device", asked, "expired: the person starts again")),
            other => return stuck(steps, asked, not("expired", &other), RULES),
        }
        Ok(())
    }

    /// A new device code, with the page under the next of its names.
    async fn code(&self, steps: &mut Vec<Step>) -> Result<DeviceAuthorization, Stuck> {
        let before = self.stage.mirror.device_codes();
        let asked = format!("POST {}", self.code_address());
        let given = match device::authorize(self.whom(), &self.stage.scopes, self.http).await {
            Ok(given) => given,
            Err(refused) => return stuck(steps, asked, refused.to_string(), no_code(self.stage, before)),
        };
        if given.verification_uri.query().is_some() || given.verification_uri_complete.is_none() {
            let came = format!("another page than the one for the code: {}", given.verification_uri.path());
            return stuck(steps, asked, came, "device.verification_uri");
        }
        Ok(given)
    }

    /// The person decides, and grantd asks until it knows.
    async fn decided(
        &self,
        decision: &str,
        given: &DeviceAuthorization,
        pace: Pace,
        steps: &mut Vec<Step>,
    ) -> Result<(), Stuck> {
        let stage = self.stage;
        let allows = decision == "allow";
        let asked = self.asked(if allows { "the person says yes" } else { "the person says no" });
        let user = stage.sandbox.users().into_iter().next().ok_or(Stuck)?;
        if let Err(error) = enter(stage, &given.verification_uri, &given.user_code, decision, &user.sub).await {
            return stuck(steps, asked, error.to_string(), "device.verification_uri");
        }
        let until = stage.clock.now().after(given.expires_in);
        let rest = |pause| {
            stage.clock.advance(pause);
            std::future::ready(ControlFlow::Continue(()))
        };
        let followed = follow(pace, until, || stage.clock.now(), rest, || self.poll(given)).await;
        match followed {
            Followed::Tokens { answer, .. } if allows => {
                let found = |name: &SlotName| answer.slots.iter().any(|slot| slot.slot == *name);
                if let Some(missing) = stage.scopes.keys().find(|name| !found(name)) {
                    return stuck(steps, asked, format!("no token for the slot {missing}"), "slots");
                }
                steps.push(Step::ok("device", asked, "a token"));
            }
            Followed::Denied if !allows => steps.push(Step::ok("device", asked, "denied")),
            Followed::Tokens { .. } => return stuck(steps, asked, "a token".to_owned(), RULES),
            Followed::Denied => return stuck(steps, asked, "denied".to_owned(), RULES),
            Followed::Gone => return stuck(steps, asked, "expired".to_owned(), RULES),
            Followed::Expired | Followed::Stopped => {
                let look = if allows { "slots" } else { RULES };
                return stuck(steps, asked, "nothing that is understood, until the code dies".to_owned(), look);
            }
            Followed::Refused(refused) => return stuck(steps, asked, refused.to_string(), RULES),
        }
        Ok(())
    }

    async fn poll(&self, given: &DeviceAuthorization) -> Polled {
        device::poll(self.whom(), &given.device_code, self.http).await
    }

    fn whom(&self) -> As<'_> {
        As { provider: &self.stage.provider, client: &self.client, now: self.stage.clock.now() }
    }

    fn code_address(&self) -> &str {
        self.stage.original.endpoints.device.as_ref().map_or("", address)
    }

    fn asked(&self, when: &str) -> String {
        format!("POST {} (device_code), {when}", address(&self.stage.original.endpoints.token))
    }
}

fn stuck<T>(steps: &mut Vec<Step>, asked: String, came: String, look: &'static str) -> Result<T, Stuck> {
    steps.push(Step::failed("device", asked, came, look));
    Err(Stuck)
}

/// What a poll is taken for in place of what it should be.
fn not(expected: &str, polled: &Polled) -> String {
    let found = match polled {
        Polled::Denied => "denied".to_owned(),
        Polled::Expired => "expired".to_owned(),
        Polled::Later { .. } => "transient".to_owned(),
        Polled::Pending => "pending".to_owned(),
        Polled::Refused(refused) => refused.to_string(),
        Polled::SlowDown { .. } => "slow_down".to_owned(),
        Polled::Tokens(_) => "a token".to_owned(),
        Polled::Unanswered(why) => (*why).to_owned(),
    };
    format!("not {expected}: it is taken for {found}")
}
