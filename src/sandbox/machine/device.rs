//! Device codes: asked for by a client, decided on by a person elsewhere, polled no faster than allowed, good for one use
//! (RFC 8628).

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::model::time::Timestamp;
use crate::sandbox::ledger::{Fingerprint, GrantId, Kind, Line, Secret};
use crate::sandbox::machine::{Choice, Credentials, Issued, Machine, Refusal, State, mint};
use crate::sandbox::manner::Wish;
use crate::sandbox::options::{DeviceSecret, SandboxUser};

/// Extension grant type (section 3.4).
pub(in crate::sandbox) const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// How much longer the interval gets for a client that polls too fast (section 3.5).
const STEP: Duration = Duration::from_secs(5);

/// What is known of a device code.
pub(super) struct Device {
    client: Arc<str>,
    user_code: String,
    wishes: Vec<Wish>,
    interval: Duration,
    expires: Timestamp,
    polled: Option<Timestamp>,
    decision: Decision,
}

/// What the person said, and whether the client has it.
enum Decision {
    None,
    Denied,
    Allowed { user: SandboxUser, granted: Vec<Wish> },
    Used(Vec<GrantId>),
}

/// What a client gets that asks for a device code (section 3.2).
#[derive(Debug)]
pub(in crate::sandbox) struct DeviceGiven {
    /// `dc_MARK_…`
    pub(in crate::sandbox) device_code: String,
    pub(in crate::sandbox) user_code: String,
    pub(in crate::sandbox) expires_in: Duration,
    pub(in crate::sandbox) interval: Duration,
}

/// What the page shows to a person who has entered a code.
#[derive(Debug)]
pub(in crate::sandbox) struct DeviceAsked {
    pub(in crate::sandbox) user_code: String,
    pub(in crate::sandbox) client: Arc<str>,
    /// The scopes by their labels.
    pub(in crate::sandbox) scopes: Vec<String>,
    pub(in crate::sandbox) users: Vec<SandboxUser>,
}

impl DeviceGiven {
    /// The members of the answer, with the page under the name that the provider gives it.
    pub(in crate::sandbox) fn members(&self, page_is: &str, page: &str) -> Value {
        let mut members = json!({
            "device_code": self.device_code,
            "user_code": self.user_code,
            "expires_in": self.expires_in.as_secs(),
            "interval": self.interval.as_secs(),
        });
        members[page_is] = page.into();
        members
    }
}

impl Device {
    pub(super) fn grant(&self) -> Option<GrantId> {
        match &self.decision {
            Decision::Used(grants) => grants.first().copied(),
            Decision::None | Decision::Denied | Decision::Allowed { .. } => None,
        }
    }

    pub(super) const fn client(&self) -> &Arc<str> {
        &self.client
    }

    fn can_be_decided(&self, user_code: &str, now: Timestamp) -> bool {
        matches!(self.decision, Decision::None) && now < self.expires && plain(&self.user_code) == plain(user_code)
    }

    /// Whether this poll comes at the right pace. One that does not makes the next ones slower.
    fn pace(&mut self, now: Timestamp) -> Result<(), Refusal> {
        let too_soon = self.polled.is_some_and(|polled| now.since(polled) < self.interval);
        self.polled = Some(now);
        if too_soon {
            self.interval += STEP;
            return Err(Refusal::SlowDown { interval: self.interval.as_secs() });
        }
        Ok(())
    }
}

impl Machine {
    /// Gives a client a device code.
    pub(in crate::sandbox) fn authorize_device(
        &self,
        credentials: &Credentials,
        wishes: Vec<Wish>,
    ) -> Result<DeviceGiven, Refusal> {
        let now = self.now();
        let mut state = self.state();
        let client = state.authenticate_device(credentials, DeviceSecret::Always)?;
        let (interval, expires_in) = (state.options.device_interval, state.options.device_ttl);
        let (device_code, user_code) = (mint("dc_MARK_"), user_code());
        let fingerprint = Fingerprint::of(&device_code);
        let device = Device {
            client,
            user_code: user_code.clone(),
            wishes,
            interval,
            expires: now.after(expires_in),
            polled: None,
            decision: Decision::None,
        };
        state.devices.insert(fingerprint, device);
        state.write_about(now, Line::new(Kind::Issued, Secret::Device, fingerprint));
        Ok(DeviceGiven { device_code, user_code, expires_in, interval })
    }

    /// What a person who enters this code is asked; `None` if it is unknown, decided on or too old.
    pub(in crate::sandbox) fn device_asked(&self, user_code: &str) -> Option<DeviceAsked> {
        let now = self.now();
        let state = self.state();
        let device = state.devices.values().find(|device| device.can_be_decided(user_code, now))?;
        let labels = device.wishes.iter().flat_map(|wish| wish.scopes.iter().map(|scope| wish.label(scope)));
        Some(DeviceAsked {
            user_code: device.user_code.clone(),
            client: Arc::clone(&device.client),
            scopes: labels.collect(),
            users: state.options.users.clone(),
        })
    }

    /// Takes the person's answer. `false` if there is nothing to decide.
    pub(in crate::sandbox) fn decide_device(&self, user_code: &str, choice: &Choice) -> bool {
        let now = self.now();
        let mut state = self.state();
        let State { devices, options, .. } = &mut *state;
        let Some(device) = devices.values_mut().find(|device| device.can_be_decided(user_code, now)) else {
            return false;
        };
        device.decision = match choice {
            Choice::Deny => Decision::Denied,
            Choice::Allow { sub, scopes } => {
                let granted = device.wishes.iter().map(|wish| Wish {
                    slot: wish.slot.clone(),
                    scopes: wish.scopes.iter().filter(|scope| scopes.contains(&wish.label(scope))).cloned().collect(),
                });
                match options.users.iter().find(|user| *user.sub == **sub) {
                    Some(user) => Decision::Allowed { user: user.clone(), granted: granted.collect() },
                    None => Decision::Denied,
                }
            }
        };
        true
    }

    /// Answers a poll.
    pub(in crate::sandbox) fn redeem_device(
        &self,
        credentials: &Credentials,
        device_code: &str,
    ) -> Result<Vec<Issued>, Refusal> {
        let now = self.now();
        self.state().redeem_device(credentials, Fingerprint::of(device_code), now)
    }
}

impl State {
    /// Whether a grant was obtained by a device flow.
    pub(super) fn came_by_device(&self, id: GrantId) -> bool {
        self.devices.values().any(|device| matches!(&device.decision, Decision::Used(grants) if grants.contains(&id)))
    }

    fn redeem_device(
        &mut self,
        credentials: &Credentials,
        fingerprint: Fingerprint,
        now: Timestamp,
    ) -> Result<Vec<Issued>, Refusal> {
        let client = self.authenticate_device(credentials, DeviceSecret::WhenPolling)?;
        let device = self.devices.get_mut(&fingerprint).filter(|device| device.client == client);
        let device = device.ok_or(Refusal::DeviceCode("no such device code"))?;
        if now >= device.expires {
            return Err(Refusal::Expired);
        }
        device.pace(now)?;
        let (user, granted) = match &device.decision {
            Decision::None => return Err(Refusal::Pending),
            Decision::Denied => return Err(Refusal::Denied),
            Decision::Used(_) => return Err(Refusal::DeviceCode("the device code was used before")),
            Decision::Allowed { user, granted } => (user.clone(), granted.clone()),
        };
        let grants: Vec<GrantId> = granted
            .into_iter()
            .map(|given| self.open_grant(Arc::clone(&client), given, user.clone(), true, now))
            .collect();
        if let Some(device) = self.devices.get_mut(&fingerprint) {
            device.decision = Decision::Used(grants.clone());
        }
        let issue = |grant| self.issue(grant, None, None, Some(GRANT_TYPE), now);
        Ok(grants.into_iter().map(issue).collect())
    }
}

/// Eight letters without vowels, as section 6.1 suggests.
fn user_code() -> String {
    const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
    let mut random = [0; 8];
    getrandom::fill(&mut random).expect("a system without randomness cannot make codes");
    let letter = |byte: &u8| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]);
    let (first, last) = random.split_at(4);
    let group = |bytes: &[u8]| bytes.iter().map(letter).collect::<String>();
    format!("{}-{}", group(first), group(last))
}

/// A code as a person may type it: in any case, with or without what is between the groups.
fn plain(code: &str) -> String {
    code.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).collect()
}
