//! Authorization codes: bound to client, redirect URI and challenge, good for a minute and for one use (RFC 6749
//! section 4.1.3, RFC 7636 section 4.6).

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::model::time::Timestamp;
use crate::sandbox::ledger::{Fingerprint, GrantId, Kind, Line, Secret};
use crate::sandbox::machine::{Credentials, Issued, Machine, Refusal, State, mint};
use crate::sandbox::manner::Wish;
use crate::sandbox::options::SandboxUser;

pub(super) const GRANT_TYPE: &str = "authorization_code";

/// How long a code is good. RFC 6749 section 4.1.2 allows ten minutes; a browser needs a second.
const CODE_TTL: Duration = Duration::from_secs(60);

/// What is known of a code.
pub(super) struct Code {
    pub(super) client: Arc<str>,
    /// As it stood in the authorization request; `None` if it was left out there.
    pub(super) redirect_uri: Option<String>,
    pub(super) challenge: Option<String>,
    pub(super) nonce: Option<String>,
    pub(super) user: SandboxUser,
    /// What was granted: a grant for each slot, at least one.
    pub(super) granted: Vec<Wish>,
    /// Whether the consent brings a refresh token where the parameters decide that.
    pub(super) offline: bool,
    pub(super) expires: Timestamp,
    pub(super) used: Used,
}

/// Whether a code was tried, and what came of it.
#[derive(Clone, Eq, PartialEq)]
pub(super) enum Used {
    No,
    /// Tried and refused: a code is tried once.
    InVain,
    For(Vec<GrantId>),
}

/// What a client sends along with its code.
pub(in crate::sandbox) struct Redemption<'a> {
    pub(in crate::sandbox) code: &'a str,
    pub(in crate::sandbox) redirect_uri: Option<&'a str>,
    pub(in crate::sandbox) verifier: Option<&'a str>,
    /// What is named of the scopes that the code is good for.
    pub(in crate::sandbox) scope: Option<&'a str>,
}

impl Code {
    /// The first grant that it brought.
    pub(super) fn grant(&self) -> Option<GrantId> {
        match &self.used {
            Used::For(grants) => grants.first().copied(),
            Used::No | Used::InVain => None,
        }
    }

    /// `lenient` takes a verifier that belongs to no challenge.
    fn check(&self, sent: &Redemption<'_>, lenient: bool, now: Timestamp) -> Result<(), Refusal> {
        if now >= self.expires {
            return Err(Refusal::Code("the code has expired"));
        }
        if self.redirect_uri.is_some() && self.redirect_uri.as_deref() != sent.redirect_uri {
            return Err(Refusal::RedirectUri);
        }
        match (&self.challenge, sent.verifier) {
            (None, None) => Ok(()),
            (Some(challenge), Some(verifier)) if matches(challenge, verifier) => Ok(()),
            (Some(_), Some(_)) => Err(Refusal::Code("code_verifier does not match the challenge")),
            (Some(_), None) => Err(Refusal::Code("code_verifier is missing")),
            // Else a stolen code could be redeemed by stripping the challenge (RFC 9700 section 4.8.2).
            (None, Some(_)) if lenient => Ok(()),
            (None, Some(_)) => Err(Refusal::Code("code_verifier without a challenge")),
        }
    }
}

impl Machine {
    /// Redeems a code. A second use ends what the first one brought.
    pub(in crate::sandbox) fn redeem(
        &self,
        credentials: &Credentials,
        sent: &Redemption<'_>,
    ) -> Result<Vec<Issued>, Refusal> {
        let now = self.now();
        self.state().redeem(credentials, Fingerprint::of(sent.code), sent, now)
    }
}

impl State {
    pub(super) fn new_code(&mut self, code: Code, now: Timestamp) -> String {
        let text = mint("code_MARK_");
        let fingerprint = Fingerprint::of(&text);
        self.codes.insert(fingerprint, code);
        self.write_about(now, Line::new(Kind::Issued, Secret::Code, fingerprint));
        text
    }

    fn redeem(
        &mut self,
        credentials: &Credentials,
        fingerprint: Fingerprint,
        sent: &Redemption<'_>,
        now: Timestamp,
    ) -> Result<Vec<Issued>, Refusal> {
        let client = self.authenticate(credentials)?;
        let unknown = Refusal::Code("no such code");
        let lenient = self.options.quirks.ignores_pkce;
        let code = self.codes.get_mut(&fingerprint).ok_or(unknown)?;
        if code.client != client {
            return Err(unknown);
        }
        let used_before = Refusal::Code("the code was used before");
        match &code.used {
            Used::No => {}
            Used::InVain => return Err(used_before),
            Used::For(grants) => {
                for grant in grants.clone() {
                    self.end_grant(grant, "code_reuse", now);
                }
                return Err(used_before);
            }
        }
        if let Err(refusal) = code.check(sent, lenient, now) {
            code.used = Used::InVain;
            return Err(refusal);
        }
        let named: Option<Vec<String>> =
            sent.scope.map(|scope| scope.split_ascii_whitespace().map(str::to_owned).collect());
        let (user, granted, nonce, offline) =
            (code.user.clone(), code.granted.clone(), code.nonce.clone(), code.offline);
        if self.options.quirks.one_grant_per_account {
            self.end_grants(&user.sub, Some(&client), "superseded", now);
        }
        let grants: Vec<GrantId> = granted
            .into_iter()
            .map(|given| self.open_grant(Arc::clone(&client), given, user.clone(), offline, now))
            .collect();
        if let Some(code) = self.codes.get_mut(&fingerprint) {
            code.used = Used::For(grants.clone());
        }
        let mut issue = |grant| {
            self.one_resource(named.as_deref().unwrap_or(&self.known(grant).scopes))?;
            Ok(self.issue(grant, named.clone(), nonce.clone(), Some(GRANT_TYPE), now))
        };
        grants.into_iter().map(&mut issue).collect()
    }
}

pub(super) fn expiry(now: Timestamp) -> Timestamp {
    now.after(CODE_TTL)
}

/// Whether a text can be an S256 challenge: a SHA-256 in base64url.
pub(super) fn is_challenge(text: &str) -> bool {
    URL_SAFE_NO_PAD.decode(text).is_ok_and(|digest| digest.len() == 32)
}

fn matches(challenge: &str, verifier: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    let well_formed = (43..=128).contains(&verifier.len()) && verifier.bytes().all(allowed);
    let expected = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
    well_formed && bool::from(expected.as_bytes().ct_eq(challenge.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_7636_appendix_b_matches() {
        let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert!(is_challenge(challenge));
        assert!(matches(challenge, verifier));
        assert!(!matches(challenge, &verifier.replace('d', "e")));
        assert!(!is_challenge(&challenge[1..]));
        let short = "too-short";
        assert!(!matches(&URL_SAFE_NO_PAD.encode(Sha256::digest(short)), short));
    }
}
