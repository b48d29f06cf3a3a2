//! systemd units, and which of them a process is in by its control group.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest name of a unit, in characters.
const UNIT_MAX: usize = 255;

/// The name of a unit that processes run in, such as `mcp-issues.service`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct UnitName(Box<str>);

/// The text is not the name of such a unit.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("expected the name of a unit that ends in `.service` or `.scope`, such as `mcp-issues.service`")]
pub struct UnitNameError;

impl UnitName {
    /// The text, as it was parsed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UnitName {
    type Err = UnitNameError;

    fn from_str(text: &str) -> Result<Self, UnitNameError> {
        let stem = text.strip_suffix(".service").or_else(|| text.strip_suffix(".scope")).ok_or(UnitNameError)?;
        let plain = stem.bytes().all(|b| b.is_ascii_alphanumeric() || b":_.\\@-".contains(&b));
        let fits = !stem.is_empty() && text.len() <= UNIT_MAX;
        // An instance that is left open names a template, and no process runs in one.
        if plain && fits && !stem.ends_with('@') { Ok(Self(text.into())) } else { Err(UnitNameError) }
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for UnitName {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for UnitName {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "UnitName".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "The name of a systemd unit that ends in .service or .scope."
        })
    }
}

/// The units that a process is in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Units {
    /// The unit of the system's manager. Nobody but root puts a process there.
    pub system: UnitName,
    /// The unit of a user's own manager, if it is in one: within `user@UID.service` that user decides.
    pub user: Option<UserUnit>,
}

/// A unit of a user's own manager.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UserUnit {
    /// Whose manager it is.
    pub uid: u32,
    /// Its name there.
    pub name: UnitName,
}

impl Units {
    /// Reads what the kernel says in `/proc/PID/cgroup` (cgroups version 2). `None` if the process is in no unit.
    ///
    /// The path is read from the root down: slices, then the first group that is none is the unit, and what is below belongs to
    /// it. Whoever may make groups below a unit of their own, as every user may below `user@UID.service`, can give them any
    /// name, and none of those names counts as a unit of the system.
    #[must_use]
    pub fn of_cgroup(text: &str) -> Option<Self> {
        let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
        // A group that has been removed, or one that lies outside what we may see.
        if path.ends_with(" (deleted)") || path.split('/').any(|group| matches!(group, "" | "." | "..")) {
            return None;
        }
        let groups: Vec<&str> = path.split('/').collect();
        let (system, depth) = first_unit(&groups)?;
        let user = manager_of(&groups[..=depth]).and_then(|uid| {
            let (name, _) = first_unit(&groups[depth + 1..])?;
            Some(UserUnit { uid, name })
        });
        Some(Self { system, user })
    }
}

/// The first group that is no slice, if it is a unit, and how deep it lies.
fn first_unit(groups: &[&str]) -> Option<(UnitName, usize)> {
    let depth = groups.iter().position(|group| !group.ends_with(".slice"))?;
    // systemd puts `_` before a name that the kernel would take for one of its own.
    let name = groups[depth].strip_prefix('_').unwrap_or(groups[depth]);
    Some((name.parse().ok()?, depth))
}

/// Whose manager runs in the unit at the end of these groups, if one does.
fn manager_of(groups: &[&str]) -> Option<u32> {
    let ["user.slice", slice, service] = groups else { return None };
    let uid: u32 = service.strip_prefix("user@")?.strip_suffix(".service")?.parse().ok()?;
    (*slice == format!("user-{uid}.slice") && *service == format!("user@{uid}.service")).then_some(uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The units of a process whose cgroup has this path: the system's, and the user's with its uid.
    fn read(path: &str) -> Option<(String, Option<(u32, String)>)> {
        let Units { system, user } = Units::of_cgroup(&format!("12:pids:/x.service\n0::{path}\n"))?;
        Some((system.to_string(), user.map(|user| (user.uid, user.name.to_string()))))
    }

    #[test]
    fn the_unit_is_the_first_group_below_the_slices() {
        for (path, system) in [
            ("/system.slice/mcp-issues.service", "mcp-issues.service"),
            ("/system.slice/mcp-issues.service/worker", "mcp-issues.service"),
            ("/system.slice/mcp-issues.service/other.service", "mcp-issues.service"),
            ("/system.slice/mcp-issues.service/system.slice/other.service", "mcp-issues.service"),
            ("/system.slice/system-mcp.slice/mcp@issues.service", "mcp@issues.service"),
            ("/system.slice/_memory.service", "memory.service"),
            ("/mcp.slice/mcp-issues.service", "mcp-issues.service"),
            ("/system.slice/docker-0123.scope/system.slice/mcp-issues.service", "docker-0123.scope"),
            ("/machine.slice/machine-box.scope/payload/system.slice/mcp-issues.service", "machine-box.scope"),
            ("/user.slice/user-1000.slice/session-3.scope", "session-3.scope"),
            ("/init.scope", "init.scope"),
        ] {
            assert_eq!(read(path), Some((system.to_owned(), None)), "{path}");
        }
    }

    #[test]
    fn a_user_has_units_below_their_manager_and_nowhere_else() {
        let user = |uid: u32, name: &str| Some((format!("user@{uid}.service"), Some((uid, name.to_owned()))));
        for (path, expected) in [
            ("/user.slice/user-1000.slice/user@1000.service/app.slice/mcp.service", user(1000, "mcp.service")),
            ("/user.slice/user-1000.slice/user@1000.service/init.scope", user(1000, "init.scope")),
            (
                "/user.slice/user-1000.slice/user@1000.service/system.slice/mcp-issues.service",
                user(1000, "mcp-issues.service"),
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/a.service/user.slice/user-7.slice/user@7.service/b.service",
                user(1000, "a.service"),
            ),
            ("/user.slice/user-1000.slice/user@1000.service", Some(("user@1000.service".to_owned(), None))),
            (
                "/user.slice/user-1000.slice/user@1000.service/mine/a.service",
                Some(("user@1000.service".to_owned(), None)),
            ),
            // Not where systemd puts a user's manager.
            ("/user.slice/user-1000.slice/user@1001.service/a.service", Some(("user@1001.service".to_owned(), None))),
            ("/system.slice/user@1000.service/a.service", Some(("user@1000.service".to_owned(), None))),
            ("/user.slice/user-7.slice/user@07.service/a.service", Some(("user@07.service".to_owned(), None))),
        ] {
            assert_eq!(read(path), expected, "{path}");
        }
    }

    #[test]
    fn what_is_in_no_unit_has_none() {
        for path in [
            "/",
            "",
            "/docker/0123/system.slice/mcp-issues.service",
            "/lxc.payload.box/system.slice/mcp-issues.service",
            "/mine/mcp-issues.service",
            "/system.slice",
            "/system.slice/mcp-issues.socket",
            "/system.slice/mcp issues.service",
            "/system.slice/mcp-issues.service (deleted)",
            "/../system.slice/mcp-issues.service",
            "/system.slice/../mcp-issues.service",
            "//system.slice/mcp-issues.service",
            "/system.slice/mcp-issues.service/",
            "/system.slice/__mcp.slice/x",
        ] {
            assert_eq!(read(path), None, "{path}");
        }
        for text in ["", "1:name=systemd:/system.slice/mcp-issues.service\n", "0:/system.slice/mcp-issues.service\n"] {
            assert_eq!(Units::of_cgroup(text), None, "{text}");
        }
    }

    #[test]
    fn a_name_is_that_of_a_unit_with_processes() {
        for good in ["a.service", "a-b_c:d.e@f\\x2d.scope", "user@1000.service"] {
            assert_eq!(good.parse::<UnitName>().unwrap().as_str(), good);
        }
        let long = format!("{}.service", "x".repeat(250));
        for bad in
            ["", "a", ".service", "a.socket", "a.slice", "a@.service", "a/b.service", "a b.service", "é.service", &long]
        {
            assert_eq!(bad.parse::<UnitName>(), Err(UnitNameError), "{bad}");
        }
    }
}
