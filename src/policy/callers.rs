//! The configured callers, and which of them a process is.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::model::caller::{Caller, Identity, Process};
use crate::model::id::CallerName;
use crate::model::rule::Rules;
use crate::model::subject::Subject;
use crate::model::unit::UnitName;

/// The callers of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Callers(Vec<Configured>);

/// One caller of the configuration.
#[derive(Clone, Debug)]
pub struct Configured {
    /// Its name.
    pub name: CallerName,
    /// Who it is to the kernel.
    pub peer: PeerRule,
    /// For whom it acts; for the user that it runs as if absent.
    pub on_behalf_of: Option<Subject>,
    /// What it may have.
    pub rules: Arc<Rules>,
}

/// Who a caller is to the kernel: everything that is named has to hold.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PeerRule {
    /// In which unit it runs.
    pub unit: Option<UnitRule>,
    /// As which user.
    pub uid: Option<u32>,
    /// In which group, be it a supplementary one.
    pub gid: Option<u32>,
}

/// A unit, of the one manager or of the other.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum UnitRule {
    /// Of the system's manager.
    System(UnitName),
    /// Of the manager of the user that it runs as.
    User(UnitName),
}

/// Who a process is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Recognised {
    /// No configured caller: its user acts for itself.
    Itself,
    /// This caller.
    Caller(Caller),
    /// Several callers, none of which is more specific than the others.
    Several(Vec<CallerName>),
    /// Possibly this caller: the process cannot be looked at any more.
    Unclear(CallerName),
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Holds {
    No,
    /// It cannot be told.
    Maybe,
    Yes,
}

impl From<bool> for Holds {
    fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}

impl Callers {
    /// These callers.
    #[must_use]
    pub const fn new(callers: Vec<Configured>) -> Self {
        Self(callers)
    }

    /// Whether none is configured.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Configured> {
        self.0.iter()
    }

    /// The caller of this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Configured> {
        self.0.iter().find(|caller| caller.name.as_str() == name)
    }

    /// Which caller a process is: of those that match, the most specific. An administrator is one only by its unit.
    #[must_use]
    pub fn recognise(&self, identity: &Identity, is_admin: bool) -> Recognised {
        let mut best: Vec<(&Configured, Holds)> = Vec::new();
        for caller in self.0.iter().filter(|caller| !is_admin || caller.peer.unit.is_some()) {
            let holds = caller.peer.holds(identity);
            if holds == Holds::No {
                continue;
            }
            match best.first().map_or(Ordering::Equal, |(other, _)| caller.peer.specific().cmp(&other.peer.specific()))
            {
                Ordering::Greater => best = vec![(caller, holds)],
                Ordering::Equal => best.push((caller, holds)),
                Ordering::Less => {}
            }
        }
        match best.as_slice() {
            [] => Recognised::Itself,
            [(caller, Holds::Yes)] => Recognised::Caller(caller.acting(identity.peer.uid)),
            [(caller, _)] => Recognised::Unclear(caller.name.clone()),
            several => Recognised::Several(several.iter().map(|(caller, _)| caller.name.clone()).collect()),
        }
    }
}

impl Configured {
    /// The caller as it acts when it runs as `uid`.
    #[must_use]
    pub fn acting(&self, uid: u32) -> Caller {
        Caller {
            name: self.name.clone(),
            subject: self.on_behalf_of.clone().unwrap_or_else(|| Subject::from_uid(uid)),
            admin: false,
            peer: None,
            rules: Some(Arc::clone(&self.rules)),
        }
    }
}

impl PeerRule {
    /// How closely it names a process: a unit counts for more than a user, and a user for more than a group.
    #[must_use]
    pub const fn specific(&self) -> (bool, bool, bool) {
        (self.unit.is_some(), self.uid.is_some(), self.gid.is_some())
    }

    fn holds(&self, identity: &Identity) -> Holds {
        let unit = self.unit.as_ref().map_or(Holds::Yes, |unit| unit.holds(identity));
        let uid = Holds::from(self.uid.is_none_or(|uid| uid == identity.peer.uid));
        let gid = self.gid.map_or(Holds::Yes, |gid| in_group(gid, identity));
        unit.min(uid).min(gid)
    }
}

impl UnitRule {
    fn holds(&self, identity: &Identity) -> Holds {
        let units = match &identity.process {
            Process::Gone => return Holds::Maybe,
            Process::Untold => return Holds::No,
            Process::Seen { units, .. } => units.as_ref(),
        };
        let named = match self {
            Self::System(name) => units.is_some_and(|units| units.system == *name),
            // A program with another user's rights is no longer in that user's hands.
            Self::User(name) => units
                .and_then(|units| units.user.as_ref())
                .is_some_and(|user| user.name == *name && user.uid == identity.peer.uid),
        };
        Holds::from(named)
    }
}

fn in_group(gid: u32, identity: &Identity) -> Holds {
    if identity.peer.gid == gid {
        return Holds::Yes;
    }
    match &identity.process {
        Process::Gone => Holds::Maybe,
        Process::Seen { groups, .. } => Holds::from(groups.contains(&gid)),
        Process::Untold => Holds::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::caller::Peer;
    use crate::model::unit::{Units, UserUnit};

    fn unit(name: &str) -> Option<UnitRule> {
        let user = name.strip_prefix("user:");
        Some(user.map_or_else(|| UnitRule::System(name.parse().unwrap()), |name| UnitRule::User(name.parse().unwrap())))
    }

    fn caller(name: &str, peer: PeerRule) -> Configured {
        Configured { name: name.parse().unwrap(), peer, on_behalf_of: None, rules: Arc::default() }
    }

    fn callers() -> Callers {
        let rule = PeerRule::default;
        Callers::new(vec![
            caller("unit", PeerRule { unit: unit("a.service"), ..rule() }),
            caller("unit-and-uid", PeerRule { unit: unit("a.service"), uid: Some(7), ..rule() }),
            caller("user-unit", PeerRule { unit: unit("user:b.service"), uid: Some(1000), ..rule() }),
            caller("uid", PeerRule { uid: Some(1001), ..rule() }),
            caller("gid", PeerRule { gid: Some(50), ..rule() }),
            caller("other-gid", PeerRule { gid: Some(51), ..rule() }),
            caller("uid-and-gid", PeerRule { uid: Some(1002), gid: Some(50), ..rule() }),
        ])
    }

    fn seen(groups: &[u32], system: &str, user: Option<(u32, &str)>) -> Process {
        let units = (!system.is_empty()).then(|| Units {
            system: system.parse().unwrap(),
            user: user.map(|(uid, name)| UserUnit { uid, name: name.parse().unwrap() }),
        });
        Process::Seen { groups: groups.to_vec(), units }
    }

    fn name(callers: &Callers, uid: u32, gid: u32, process: Process, is_admin: bool) -> String {
        let identity = Identity { peer: Peer { uid, gid, pid: None }, process };
        match callers.recognise(&identity, is_admin) {
            Recognised::Itself => "itself".to_owned(),
            Recognised::Caller(caller) => {
                assert!(!caller.admin && caller.subject == Subject::from_uid(uid) && caller.rules.is_some());
                caller.name.to_string()
            }
            Recognised::Several(names) => format!("several: {}", names.len()),
            Recognised::Unclear(name) => format!("unclear: {name}"),
        }
    }

    #[test]
    fn the_most_specific_caller_is_meant_and_a_tie_is_nobody() {
        let manager = "user@1000.service";
        for (uid, gid, process, expected) in [
            (1000, 1000, seen(&[], "", None), "itself"),
            (1000, 1000, seen(&[], "a.service", None), "unit"),
            (7, 7, seen(&[], "a.service", None), "unit-and-uid"),
            (7, 7, seen(&[], "c.service", None), "itself"),
            (1001, 1001, seen(&[], "a.service", None), "unit"),
            (1001, 50, seen(&[], "", None), "uid"),
            (1000, 50, seen(&[], "", None), "gid"),
            (1000, 1000, seen(&[50], "", None), "gid"),
            (1000, 50, seen(&[51], "", None), "several: 2"),
            (1002, 50, seen(&[51], "", None), "uid-and-gid"),
            (1002, 1002, seen(&[], "", None), "itself"),
            (1000, 1000, seen(&[], manager, Some((1000, "b.service"))), "user-unit"),
            // A user's own unit is never the system's unit of the same name, and the other way round.
            (1000, 1000, seen(&[], manager, Some((1000, "a.service"))), "itself"),
            (1000, 1000, seen(&[], "b.service", None), "itself"),
            (1003, 1003, seen(&[], "user@1003.service", Some((1003, "b.service"))), "itself"),
            // Somebody else's rights in a user's unit.
            (1000, 1000, seen(&[], "user@1003.service", Some((1003, "b.service"))), "itself"),
            // Without a safe way to tell, only what came with the connection counts.
            (1000, 50, Process::Untold, "gid"),
            (1000, 1000, Process::Untold, "itself"),
            (1001, 1001, Process::Untold, "uid"),
            // Who may have been in a unit is not served as if it had not.
            (1001, 1001, Process::Gone, "unclear: unit"),
            (7, 7, Process::Gone, "unclear: unit-and-uid"),
        ] {
            assert_eq!(name(&callers(), uid, gid, process.clone(), false), expected, "{uid} {gid} {process:?}");
        }
    }

    #[test]
    fn an_administrator_is_a_caller_only_by_its_unit() {
        for (process, expected) in
            [(seen(&[50], "", None), "itself"), (seen(&[50], "a.service", None), "unit"), (Process::Untold, "itself")]
        {
            assert_eq!(name(&callers(), 0, 50, process, true), expected);
        }
    }

    #[test]
    fn nothing_is_asked_of_a_process_where_no_rule_needs_it() {
        let callers = Callers::new(vec![caller("uid", PeerRule { uid: Some(1001), ..PeerRule::default() })]);
        assert_eq!(name(&callers, 1001, 1, Process::Gone, false), "uid");
        assert_eq!(name(&callers, 1000, 1, Process::Gone, false), "itself");
    }

    #[test]
    fn on_behalf_of_fixes_the_subject() {
        let mut one = caller("uid", PeerRule { uid: Some(1001), ..PeerRule::default() });
        one.on_behalf_of = Some(Subject::from_uid(5));
        assert_eq!(one.acting(1001).subject, Subject::from_uid(5));
    }
}
