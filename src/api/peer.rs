//! Who is asking, from what the kernel says, and what a request must not carry.

use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName, ORIGIN};
use tracing::warn;

use crate::api::problem::Problem;
use crate::model::caller::{Caller, Identity, Peer, Process};
use crate::model::id::{CallerName, UserId};
use crate::model::subject::Subject;
use crate::policy::callers::{Callers, Recognised};

/// The most headers a request may have.
const HEADERS_MAX: usize = 64;
/// What the kernel says when the peer's user does not exist in our user namespace, and in NFS and containers "nobody".
const OVERFLOW_UID: u32 = 65_534;
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether this uid stands for several people, so that it cannot be told who it is.
#[must_use]
pub const fn is_nobody(uid: u32) -> bool {
    matches!(uid, OVERFLOW_UID | u32::MAX)
}

/// The other end of one connection. It travels in the extensions of every request of that connection.
#[derive(Clone, Debug)]
pub struct Asker {
    /// What the kernel says.
    pub peer: Peer,
    /// What we make of it.
    pub caller: Arc<Caller>,
    known: Arc<Known>,
}

/// What is known of a connection from its beginning to its end.
#[derive(Debug)]
struct Known {
    identity: Identity,
    /// The user that acts for itself.
    itself: Arc<Caller>,
    /// What came of looking among the configured callers last, with where that was: the configuration may be exchanged.
    last: Mutex<Option<Last>>,
}

/// What came of looking among these callers; nobody, if it could not be told.
#[derive(Debug)]
struct Last {
    callers: Arc<Callers>,
    found: Option<Arc<Caller>>,
}

impl Asker {
    /// Who asks, if `own_uid` is the daemon's. `None` for a uid that stands for nobody in particular: several people
    /// could hide behind it.
    #[must_use]
    pub fn new(peer: Peer, own_uid: u32) -> Option<Self> {
        if is_nobody(peer.uid) {
            return None;
        }
        let itself = Arc::new(Caller {
            name: caller_name(peer.uid),
            subject: Subject::from_uid(peer.uid),
            admin: peer.uid == 0 || peer.uid == own_uid,
            peer: Some(peer),
            rules: None,
        });
        let identity = Identity { peer, process: Process::Untold };
        let known = Known { identity, itself: Arc::clone(&itself), last: Mutex::default() };
        Some(Self { peer, caller: itself, known: Arc::new(known) })
    }

    /// The same, with what the kernel tells of the process that connected.
    #[must_use]
    pub fn looked_at(self, process: Process) -> Self {
        let itself = Arc::clone(&self.known.itself);
        let identity = Identity { peer: self.peer, process };
        Self { known: Arc::new(Known { identity, itself, last: Mutex::default() }), ..self }
    }

    /// What the kernel tells of the process that connected.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.known.identity
    }

    /// Who it is among these callers. To be asked for each request: a reload counts for connections that are open.
    ///
    /// # Errors
    /// 403 if it cannot be told which caller it is; the operator hears why, once for each connection.
    pub fn among(self, callers: &Arc<Callers>) -> Result<Self, Problem> {
        if callers.is_empty() {
            return Ok(self);
        }
        let found = {
            let mut last = self.known.last.lock().unwrap_or_else(PoisonError::into_inner);
            match &*last {
                Some(Last { callers: known, found }) if Arc::ptr_eq(known, callers) => found.clone(),
                _ => {
                    let found = self.recognised(callers);
                    *last = Some(Last { callers: Arc::clone(callers), found: found.clone() });
                    found
                }
            }
        };
        found.map(|caller| Self { caller, ..self }).ok_or_else(Problem::unclear_peer)
    }

    fn recognised(&self, callers: &Callers) -> Option<Arc<Caller>> {
        let Identity { peer, process } = &self.known.identity;
        match callers.recognise(&self.known.identity, self.known.itself.admin) {
            Recognised::Itself => Some(Arc::clone(&self.known.itself)),
            Recognised::Caller(caller) => Some(Arc::new(Caller { peer: Some(*peer), ..caller })),
            Recognised::Several(names) => {
                let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
                warn!(
                    uid = peer.uid,
                    gid = peer.gid,
                    pid = peer.pid,
                    ?process,
                    "Refused a process that is several callers at once, {}: make the `peer` of one of them more specific",
                    names.join(" and ")
                );
                None
            }
            Recognised::Unclear(name) => {
                warn!(uid = peer.uid, gid = peer.gid, pid = peer.pid, caller = %name,
                    "Refused a process that may have been `{name}`: it ended before it could be looked at, or is hidden");
                None
            }
        }
    }
}

/// Refuses what no honest client of the socket sends.
///
/// # Errors
/// 401 for an `Authorization` header, which is never silently ignored; 403 for a browser; 431 for too many headers.
pub fn admit(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.len() > HEADERS_MAX {
        return Err(Problem::headers_too_large());
    }
    if headers.contains_key(ORIGIN) || headers.contains_key(SEC_FETCH_SITE) {
        return Err(Problem::browser());
    }
    // Whoever sends a key relies on its limits: serving it as the bare peer would give it more than it asked for.
    if headers.contains_key(AUTHORIZATION) {
        return Err(Problem::invalid_api_key());
    }
    Ok(())
}

fn caller_name(uid: u32) -> CallerName {
    let user = UserId::from_uid(uid);
    user.as_str().parse().expect("`uid:` and a number is a caller's name")
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, StatusCode};

    use super::*;
    use crate::policy::callers::{Configured, PeerRule, UnitRule};

    fn asker(uid: u32) -> Option<Asker> {
        let peer = Peer { uid, gid: 100, pid: Some(1) };
        Asker::new(peer, 990)
    }

    #[test]
    fn the_subject_is_the_uid_and_root_and_the_daemon_administer() {
        for (uid, admin) in [(0, true), (990, true), (1000, false)] {
            let caller = asker(uid).unwrap().caller;
            assert_eq!(caller.name.as_str(), format!("uid:{uid}"));
            assert_eq!(caller.subject, Subject::from_uid(uid));
            assert_eq!(caller.admin, admin, "{uid}");
        }
    }

    #[test]
    fn another_configuration_is_looked_at_for_the_next_request_and_one_that_stays_is_not() {
        let callers = |name: &str, uid| {
            let peer = PeerRule { uid: Some(uid), ..PeerRule::default() };
            let (name, rules) = (name.parse().unwrap(), Arc::default());
            Arc::new(Callers::new(vec![Configured { name, peer, on_behalf_of: None, rules }]))
        };
        let asker = asker(1000).unwrap();
        let name = |callers: &Arc<Callers>| asker.clone().among(callers).unwrap().caller.name.to_string();
        let (first, second, other) = (callers("a", 1000), callers("b", 1000), callers("c", 7));
        assert_eq!(name(&first), "a");
        assert_eq!(name(&second), "b");
        assert_eq!(name(&other), "uid:1000");
        assert_eq!(name(&Arc::default()), "uid:1000");
        let again = asker.clone().among(&first).unwrap().caller;
        assert!(Arc::ptr_eq(&again, &asker.clone().among(&first).unwrap().caller), "it is made once");
    }

    #[test]
    fn who_cannot_be_told_is_refused() {
        let peer = PeerRule { unit: Some(UnitRule::System("a.service".parse().unwrap())), ..PeerRule::default() };
        let (name, rules) = ("a".parse().unwrap(), Arc::default());
        let callers = Arc::new(Callers::new(vec![Configured { name, peer, on_behalf_of: None, rules }]));
        let gone = asker(1000).unwrap().looked_at(Process::Gone);
        assert_eq!(gone.among(&callers).err().map(|problem| problem.status()), Some(StatusCode::FORBIDDEN));
        assert!(asker(1000).unwrap().among(&callers).is_ok(), "on a kernel that does not tell, nobody is that unit");
    }

    #[test]
    fn a_uid_that_stands_for_anybody_is_nobody() {
        assert!(asker(65_534).is_none());
        assert!(asker(u32::MAX).is_none());
    }

    #[test]
    fn browsers_keys_and_floods_of_headers_are_refused() {
        let with =
            |name: &'static str| HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static("x"))]);
        for (name, status) in [
            ("origin", Some(StatusCode::FORBIDDEN)),
            ("sec-fetch-site", Some(StatusCode::FORBIDDEN)),
            ("authorization", Some(StatusCode::UNAUTHORIZED)),
            ("user-agent", None),
        ] {
            assert_eq!(admit(&with(name)).err().map(|problem| problem.status()), status, "{name}");
        }
        let mut many = HeaderMap::new();
        for _ in 0..65 {
            many.append("x-a", HeaderValue::from_static("x"));
        }
        let refused = admit(&many).unwrap_err();
        assert_eq!(refused.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    }
}
