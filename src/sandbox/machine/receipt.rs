//! What accompanies a secret on its way: a presentation while its request is open, a receipt until its answer is out.

use std::sync::Arc;

use crate::model::time::Timestamp;
use crate::sandbox::ledger::{DoublePresentation, Fingerprint, Kind, Line, Secret};
use crate::sandbox::machine::{Issued, Machine, State};

/// A code or refresh token that a client has sent, until it is answered.
pub(in crate::sandbox) struct Presentation {
    machine: Arc<Machine>,
    what: Secret,
    token: Fingerprint,
    grant_type: &'static str,
}

impl Presentation {
    /// Writes down that a client sent `text`.
    pub(in crate::sandbox) fn new(machine: &Arc<Machine>, what: Secret, text: &str, grant_type: &'static str) -> Self {
        let now = machine.now();
        let token = Fingerprint::of(text);
        let mut state = machine.state();
        let in_flight = state.in_flight.entry(token).or_default();
        *in_flight += 1;
        let in_flight = *in_flight;
        let mut line = Line::new(Kind::Presented, what, token).in_a(Some(grant_type));
        line.in_flight = in_flight;
        state.write_about(now, line);
        let after_delivery = state.was_replaced(token);
        if what == Secret::Refresh && (in_flight > 1 || after_delivery) {
            let grant = state.refresh.get(&token).map(|refresh| refresh.grant);
            state.ledger.note_double(DoublePresentation {
                fingerprint: token,
                grant,
                concurrent: in_flight > 1,
                after_delivery,
            });
        }
        drop(state);
        Self { machine: Arc::clone(machine), what, token, grant_type }
    }

    /// Writes down how it ended for what was presented: refused or dropped, and why.
    pub(in crate::sandbox) fn failed(&self, kind: Kind, why: &'static str) {
        let line = Line::new(kind, self.what, self.token).in_a(Some(self.grant_type)).because(why);
        self.machine.state().write_about(self.machine.now(), line);
    }
}

impl Drop for Presentation {
    fn drop(&mut self) {
        let mut state = self.machine.state();
        if let Some(count) = state.in_flight.get_mut(&self.token) {
            *count -= 1;
            if *count == 0 {
                state.in_flight.remove(&self.token);
            }
        }
    }
}

/// The secrets of one answer: delivered when the kernel has its last byte, dropped if that never happens.
pub(in crate::sandbox) struct Receipt {
    machine: Arc<Machine>,
    secrets: Vec<(Secret, Fingerprint)>,
    grant_type: Option<&'static str>,
}

impl Receipt {
    pub(in crate::sandbox) fn for_code(machine: &Arc<Machine>, code: &str) -> Self {
        Self { machine: Arc::clone(machine), secrets: vec![(Secret::Code, Fingerprint::of(code))], grant_type: None }
    }

    pub(in crate::sandbox) fn for_tokens(machine: &Arc<Machine>, issued: &[Issued]) -> Self {
        let secrets = issued.iter().flat_map(|issued| {
            let access = (Secret::Access, Fingerprint::of(issued.access.expose()));
            let refresh = issued.refresh.as_ref().map(|token| (Secret::Refresh, Fingerprint::of(token.expose())));
            [Some(access), refresh].into_iter().flatten()
        });
        Self {
            machine: Arc::clone(machine),
            secrets: secrets.collect(),
            grant_type: issued.first().and_then(|issued| issued.grant_type),
        }
    }

    /// Writes down that the answer is out.
    pub(in crate::sandbox) fn delivered(mut self) {
        self.write(Kind::Delivered);
        self.secrets.clear();
    }

    fn write(&self, kind: Kind) {
        let now = self.machine.now();
        let mut state = self.machine.state();
        for &(what, token) in &self.secrets {
            if let (Kind::Delivered, Some(refresh)) = (kind, state.refresh.get_mut(&token)) {
                refresh.delivered = true;
            }
            state.write_about(now, Line::new(kind, what, token).in_a(self.grant_type));
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if !self.secrets.is_empty() {
            self.write(Kind::Dropped);
        }
    }
}

impl State {
    /// Writes a line, adding the grant and the client if the secret is known.
    pub(super) fn write_about(&mut self, now: Timestamp, line: Line<'_>) {
        let grant = match line.what {
            Secret::Device => self.devices.get(&line.fingerprint).and_then(|device| device.grant()),
            Secret::Code => self.codes.get(&line.fingerprint).and_then(|code| code.grant()),
            Secret::Access => self.access.get(&line.fingerprint).map(|access| access.grant),
            Secret::Refresh => self.refresh.get(&line.fingerprint).map(|refresh| refresh.grant),
        };
        // A code has a client before it has a grant.
        let client = match grant {
            Some(grant) => Some(Arc::clone(&self.known(grant).client)),
            None => match self.devices.get(&line.fingerprint) {
                Some(device) => Some(Arc::clone(device.client())),
                None => self.codes.get(&line.fingerprint).map(|code| Arc::clone(&code.client)),
            },
        };
        let line = Line { grant, client: client.as_ref(), ..line };
        self.ledger.write(now, line);
    }
}
