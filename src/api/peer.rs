//! Who is asking, from what the kernel says, and what a request must not carry.

use std::sync::Arc;

use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName, ORIGIN};

use crate::api::problem::Problem;
use crate::model::caller::{Caller, Peer};
use crate::model::id::{CallerName, UserId};
use crate::model::subject::Subject;

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
    /// What we make of it, made once per connection.
    pub caller: Arc<Caller>,
}

impl Asker {
    /// Who asks, if `own_uid` is the daemon's. `None` for a uid that stands for nobody in particular: several people
    /// could hide behind it.
    #[must_use]
    pub fn new(peer: Peer, own_uid: u32) -> Option<Self> {
        if is_nobody(peer.uid) {
            return None;
        }
        let caller = Caller {
            name: caller_name(peer.uid),
            subject: Subject::from_uid(peer.uid),
            admin: peer.uid == 0 || peer.uid == own_uid,
            peer: Some(peer),
        };
        Some(Self { peer, caller: Arc::new(caller) })
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
