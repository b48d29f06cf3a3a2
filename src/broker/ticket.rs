//! One-time tickets: how a browser that the subject's own command opened proves whose it is.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

use crate::model::id::{ConnectId, random_text};
use crate::model::session::{CONNECT_TTL, ConnectSession};
use crate::model::subject::Subject;
use crate::model::time::Timestamp;

/// Tickets and the cookies they were turned into, by digest; only in memory, because a restart asks for a new one.
#[derive(Debug, Default)]
pub struct Tickets(Mutex<Drawer>);

#[derive(Debug, Default)]
struct Drawer {
    tickets: HashMap<[u8; 32], (ConnectId, Subject, Timestamp)>,
    cookies: HashMap<[u8; 32], (Subject, Timestamp)>,
}

impl Tickets {
    /// A ticket for the session's subject, good once and as long as the session.
    #[must_use]
    pub fn issue(&self, session: &ConnectSession, now: Timestamp) -> String {
        let ticket = random_text::<32>();
        let mut drawer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        drawer.clear_out(now);
        let entry = (session.id.clone(), session.subject.clone(), session.expires_at);
        drawer.tickets.insert(digest(&ticket), entry);
        ticket
    }

    /// Turns a ticket into the secret of a cookie.
    #[must_use]
    pub fn redeem(&self, id: &ConnectId, ticket: &str, now: Timestamp) -> Option<String> {
        let mut drawer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        drawer.clear_out(now);
        let (session, subject, _) = drawer.tickets.remove(&digest(ticket))?;
        if session != *id {
            return None;
        }
        let cookie = random_text::<32>();
        drawer.cookies.insert(digest(&cookie), (subject, now.after(CONNECT_TTL)));
        Some(cookie)
    }

    /// Whose browser carries this cookie.
    #[must_use]
    pub fn holder(&self, cookie: &str, now: Timestamp) -> Option<Subject> {
        let mut drawer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        drawer.clear_out(now);
        drawer.cookies.get(&digest(cookie)).map(|(subject, _)| subject.clone())
    }
}

impl Drawer {
    fn clear_out(&mut self, now: Timestamp) {
        self.tickets.retain(|_, (_, _, until)| now < *until);
        self.cookies.retain(|_, (_, until)| now < *until);
    }
}

/// Looking up a digest leaks nothing about the secret that a clock could measure.
fn digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::grant_type::GrantType;
    use crate::model::scope::ScopeSet;
    use crate::model::session::Progress;

    fn session() -> ConnectSession {
        ConnectSession {
            id: ConnectId::random(),
            subject: Subject::from_uid(1000),
            caller: "uid:1000".parse().unwrap(),
            purpose: None,
            provider: "github".parse().unwrap(),
            scopes: ScopeSet::default(),
            reconnect: None,
            grant_type: GrantType::AuthorizationCode,
            user_code: "BCDF-GHJK".to_owned(),
            progress: Progress::Pending,
            created_at: Timestamp::from_secs(0),
            expires_at: Timestamp::from_secs(600),
        }
    }

    #[test]
    fn a_ticket_is_good_once_and_for_its_own_session() {
        let (tickets, session, now) = (Tickets::default(), session(), Timestamp::from_secs(1));
        let ticket = tickets.issue(&session, now);
        let cookie = tickets.redeem(&session.id, &ticket, now).unwrap();
        assert_eq!(tickets.holder(&cookie, now), Some(session.subject.clone()));
        assert!(tickets.redeem(&session.id, &ticket, now).is_none());
        assert!(tickets.holder(&ticket, now).is_none());

        let other = tickets.issue(&session, now);
        assert!(tickets.redeem(&ConnectId::random(), &other, now).is_none());
    }

    #[test]
    fn tickets_and_cookies_end_by_themselves() {
        let (tickets, session) = (Tickets::default(), session());
        let ticket = tickets.issue(&session, Timestamp::from_secs(1));
        assert!(tickets.redeem(&session.id, &ticket, Timestamp::from_secs(600)).is_none());
        let ticket = tickets.issue(&session, Timestamp::from_secs(1));
        let cookie = tickets.redeem(&session.id, &ticket, Timestamp::from_secs(10)).unwrap();
        assert!(tickets.holder(&cookie, Timestamp::from_secs(610)).is_none());
    }
}
