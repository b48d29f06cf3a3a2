//! The section `callers`: who may have what on behalf of whom, made into rules that nothing is left to look up for.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use rustix::process::geteuid;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::broker::registry::Configured as Provided;
use crate::config::Config;
use crate::config::people::People;
use crate::config::rules::Section;
use crate::config::values::{GroupName, ProviderChoice, ScopeChoice};
use crate::model::id::{ProviderId, SlotName};
use crate::model::subject::Subject;
use crate::model::unit::UnitName;
use crate::policy::callers::{Callers, Configured, PeerRule, UnitRule};
use crate::yaml::{Segment, YamlError};

/// A user that stands for several people, as the kernel names it.
const NOBODY: [u32; 2] = [65_534, u32::MAX];

/// One caller: a process of this machine that acts by rules.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CallerConfig {
    /// Who it is to the kernel: everything that is named has to hold.
    pub peer: PeerConfig,
    /// For whom it acts, by name or uid; for the user that it runs as if absent.
    #[serde(default)]
    pub on_behalf_of: Option<Person>,
    /// What it may have; whatever no rule allows, it may not.
    pub allow: Vec<RuleConfig>,
}

/// Who a caller is to the kernel.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PeerConfig {
    /// The number of the user that it runs as.
    pub uid: Option<u32>,
    /// The name of the user that it runs as.
    pub user: Option<String>,
    /// The number of a group that it is in.
    pub gid: Option<u32>,
    /// The name of a group that it is in.
    pub group: Option<GroupName>,
    /// The unit of the system's manager that it runs in.
    pub unit: Option<UnitName>,
    /// The unit of the user's own manager that it runs in; with `uid` or `user`.
    pub user_unit: Option<UnitName>,
}

/// What a caller may have.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// At which provider; `*` for all of them.
    pub provider: ProviderChoice,
    /// Which accounts, by the provider's id or by label; all of them if absent.
    #[serde(default)]
    pub accounts: Option<Vec<String>>,
    /// Which slots; all of them if absent.
    #[serde(default)]
    pub slots: Option<Vec<SlotName>>,
    /// The scopes that a token may have; whatever was granted if absent.
    #[serde(default)]
    pub scopes: Option<ScopeChoice>,
    /// Whether a token is handed out although the grant holds more than `scopes`.
    #[serde(default)]
    pub allow_broader: bool,
}

/// A user of this machine, by name or number.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Person {
    /// By name.
    Name(String),
    /// By number.
    Uid(u32),
}

impl<'de> Deserialize<'de> for Person {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        const EXPECTED: &str = "expected the name of a user, or a uid";
        match Value::deserialize(from)? {
            Value::String(name) if !name.is_empty() => Ok(Self::Name(name)),
            Value::Number(uid) => uid
                .as_u64()
                .and_then(|uid| u32::try_from(uid).ok())
                .map(Self::Uid)
                .ok_or_else(|| D::Error::custom(EXPECTED)),
            _ => Err(D::Error::custom(EXPECTED)),
        }
    }
}

impl JsonSchema for Person {
    fn schema_name() -> Cow<'static, str> {
        "Person".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"description": "The name of a user, or a uid.", "type": ["string", "integer"]})
    }
}

/// What the configuration is held against.
pub(super) struct Machine {
    pub(super) people: People,
    /// The daemon's own user.
    pub(super) own_uid: u32,
}

impl Machine {
    pub(super) fn here() -> Self {
        Self { people: People::of_this_machine(), own_uid: geteuid().as_raw() }
    }
}

impl Config {
    /// The callers, with their rules spelled out for the providers that there are.
    ///
    /// # Errors
    /// What is wrong first, with the place in the file.
    pub(super) fn callers(
        &self,
        providers: &BTreeMap<ProviderId, Arc<Provided>>,
        machine: &Machine,
    ) -> Result<Callers, YamlError> {
        let mut callers: Vec<Configured> = Vec::new();
        for (name, settings) in &self.callers {
            let section = Section { config: self, name };
            if name.as_str().starts_with("uid:") {
                return Err(
                    section.error(&[], "expected another name: `uid:` begins that of a user who acts for itself")
                );
            }
            let on_behalf_of =
                settings.on_behalf_of.as_ref().map(|person| subject(&section, person, machine)).transpose()?;
            let peer = peer(&section, &settings.peer, machine)?;
            let same = callers.iter().find(|other: &&Configured| other.peer == peer);
            if let Some(other) = same {
                let message =
                    format!("expected another peer: `{}` has the same, so nobody could tell them apart", other.name);
                return Err(section.error(&["peer".into()], message));
            }
            let rules = Arc::new(section.rules(&settings.allow, providers)?);
            callers.push(Configured { name: name.clone(), peer, on_behalf_of, rules });
        }
        Ok(Callers::new(callers))
    }
}

fn subject(section: &Section<'_>, person: &Person, machine: &Machine) -> Result<Subject, YamlError> {
    let path = ["on_behalf_of".into()];
    let uid = match person {
        Person::Uid(uid) => *uid,
        Person::Name(name) => machine
            .people
            .uid(name)
            .ok_or_else(|| section.error(&path, "there is no such user in /etc/passwd; name one, or give its uid"))?,
    };
    if NOBODY.contains(&uid) {
        return Err(section.error(&path, "expected a user: this one stands for anybody"));
    }
    Ok(Subject::from_uid(uid))
}

fn peer(section: &Section<'_>, peer: &PeerConfig, machine: &Machine) -> Result<PeerRule, YamlError> {
    let error = |member: &str, message: &str| section.error(&["peer".into(), Segment::from(member)], message);
    let uid = match (peer.uid, &peer.user) {
        (Some(_), Some(_)) => return Err(error("user", "expected either `uid` or `user`, not both")),
        (uid, None) => uid,
        (None, Some(name)) => {
            let missing = || error("user", "there is no such user in /etc/passwd; name one, or give its `uid`");
            Some(machine.people.uid(name).ok_or_else(missing)?)
        }
    };
    let gid = match (peer.gid, &peer.group) {
        (Some(_), Some(_)) => return Err(error("group", "expected either `gid` or `group`, not both")),
        (gid, None) => gid,
        (None, Some(name)) => {
            let missing = || error("group", "there is no such group in /etc/group; name one, or give its `gid`");
            Some(machine.people.gid(name.as_str()).ok_or_else(missing)?)
        }
    };
    let unit = match (&peer.unit, &peer.user_unit) {
        (Some(_), Some(_)) => return Err(error("user_unit", "expected either `unit` or `user_unit`, not both")),
        (Some(unit), None) => Some(UnitRule::System(unit.clone())),
        (None, Some(_)) if uid.is_none() => {
            return Err(error(
                "user_unit",
                "expected `uid` or `user` beside it: every user can have a unit of that name",
            ));
        }
        (None, unit) => unit.clone().map(UnitRule::User),
    };
    let member = if peer.user.is_some() { "user" } else { "uid" };
    match uid {
        Some(uid) if NOBODY.contains(&uid) => {
            return Err(error(member, "expected a user: this one stands for anybody, and is not served"));
        }
        Some(uid) if unit.is_none() && (uid == 0 || uid == machine.own_uid) => {
            return Err(error(member, "expected a `unit` as well: root and the daemon's own user administer"));
        }
        None if gid.is_none() && unit.is_none() => {
            let names = "expected at least one of `uid`, `user`, `gid`, `group`, `unit` and `user_unit`";
            return Err(section.error(&["peer".into()], names));
        }
        _ => {}
    }
    Ok(PeerRule { unit, uid, gid })
}

#[cfg(test)]
mod tests;
