//! The authorization request, from the browser's arrival to its way back (RFC 6749 section 4.1.1).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use url::{Host, Url};

use crate::model::time::Timestamp;
use crate::sandbox::machine::codes::{Code, Used};
use crate::sandbox::machine::{Grant, Machine, State, codes, mint};
use crate::sandbox::manner::Wish;
use crate::sandbox::options::{Decision, Options, SandboxClient, SandboxUser, UnknownScopes};
use crate::sandbox::params::Params;

/// How long a consent page can be answered.
const PAGE_TTL: Duration = Duration::from_secs(600);
/// How many pages may be open. A crowd that asks for more is no crowd of people.
const PAGES_MAX: usize = 10_000;

/// A consent page that is open.
pub(super) struct Waiting {
    client: Arc<str>,
    way_back: WayBack,
    /// As the client sent it; `None` if it left it out.
    redirect_uri: Option<String>,
    wishes: Vec<Wish>,
    challenge: Option<String>,
    nonce: Option<String>,
    hint: Option<String>,
    /// `access_type=offline`.
    offline: bool,
    /// `prompt=consent`: the person is asked although they agreed before.
    asks_again: bool,
    until: Timestamp,
}

/// Where the browser goes in the end, and what it takes along whatever the answer is.
#[derive(Clone)]
struct WayBack {
    uri: String,
    state: Option<String>,
    iss: Option<String>,
}

/// Why the browser cannot be sent back: nobody trustworthy to send it to (RFC 6749 section 4.1.2.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(in crate::sandbox) enum AuthorizeError {
    #[error("no client with this client_id is registered here")]
    Client,
    #[error("the redirect_uri is not one of this client's, or not on loopback")]
    RedirectUri,
    #[error("a parameter is missing or stands twice")]
    Malformed,
    #[error("this page has been answered already, or was left open for too long")]
    Stale,
}

/// What happens next in the browser.
#[derive(Debug)]
pub(in crate::sandbox) enum Step {
    Ask(Asked),
    Go(Redirect),
}

/// What the consent page shows.
#[derive(Debug)]
pub(in crate::sandbox) struct Asked {
    pub(in crate::sandbox) id: String,
    pub(in crate::sandbox) client: Arc<str>,
    pub(in crate::sandbox) redirect_uri: String,
    /// The scopes by their labels.
    pub(in crate::sandbox) scopes: Vec<String>,
    pub(in crate::sandbox) users: Vec<SandboxUser>,
    pub(in crate::sandbox) chosen: Arc<str>,
}

/// The browser goes back to the client.
#[derive(Debug)]
pub(in crate::sandbox) struct Redirect {
    pub(in crate::sandbox) uri: String,
    pub(in crate::sandbox) code: Option<String>,
}

/// What the person chose on the page.
#[derive(Debug)]
pub(in crate::sandbox) enum Choice {
    Allow { sub: String, scopes: Vec<String> },
    Deny,
}

impl Machine {
    /// Takes an authorization request.
    pub(in crate::sandbox) fn authorize(&self, params: &Params, wishes: Vec<Wish>) -> Result<Step, AuthorizeError> {
        let now = self.now();
        let mut state = self.state();
        let client = params.get("client_id").and_then(|id| state.client(id)).ok_or(AuthorizeError::Client)?;
        let uri = redirect_uri(client, params.get("redirect_uri"))?;
        let client = Arc::clone(&client.id);
        if params.has_duplicates() {
            return Err(AuthorizeError::Malformed);
        }
        let way_back = WayBack {
            uri,
            state: params.get("state").map(str::to_owned),
            iss: state
                .options
                .iss_on_callback
                .then(|| state.options.quirks.callback_iss_says.clone().unwrap_or_else(|| self.issuer.clone())),
        };
        let waiting = match read(&state.options, client, &way_back, params, wishes, now) {
            Ok(waiting) => waiting,
            Err(error) => return Ok(Step::Go(way_back.refused(error))),
        };
        let decision = match (&state.options.auto_consent, params.get("prompt")) {
            (Some(decision), _) => Some(decision.clone()),
            (None, Some("none")) => match state.earlier_consent(&waiting) {
                Ok(sub) => Some(Decision::Allow { sub: Some(sub) }),
                Err(error) => return Ok(Step::Go(way_back.refused(error))),
            },
            (None, _) => None,
        };
        Ok(match decision {
            None => Step::Ask(state.ask(waiting, now)),
            Some(Decision::Deny) => Step::Go(way_back.refused("access_denied")),
            Some(Decision::Allow { sub }) => {
                let sub = sub.unwrap_or_else(|| state.suggested(&waiting));
                let scopes = waiting.labels();
                Step::Go(state.allow(waiting, &sub, &scopes, now))
            }
        })
    }

    /// Takes the person's answer. A page is answered once.
    pub(in crate::sandbox) fn decide(&self, id: &str, choice: &Choice) -> Result<Redirect, AuthorizeError> {
        let now = self.now();
        let mut state = self.state();
        let waiting = state.waiting.remove(id).filter(|page| now < page.until).ok_or(AuthorizeError::Stale)?;
        Ok(match choice {
            Choice::Allow { sub, scopes } => state.allow(waiting, sub, scopes, now),
            Choice::Deny => waiting.way_back.refused("access_denied"),
        })
    }
}

impl State {
    fn ask(&mut self, waiting: Waiting, now: Timestamp) -> Asked {
        make_room(&mut self.waiting, now);
        let id = mint("page_");
        let asked = Asked {
            id: id.clone(),
            client: Arc::clone(&waiting.client),
            redirect_uri: waiting.way_back.uri.clone(),
            scopes: waiting.labels(),
            users: self.options.users.clone(),
            chosen: self.suggested(&waiting),
        };
        self.waiting.insert(id, waiting);
        asked
    }

    /// The account that `login_hint` names, or else the first.
    fn suggested(&self, waiting: &Waiting) -> Arc<str> {
        let hinted = self.hinted(waiting).or_else(|| self.options.users.first());
        hinted.map_or_else(|| "".into(), |user| Arc::clone(&user.sub))
    }

    fn hinted(&self, waiting: &Waiting) -> Option<&SandboxUser> {
        let hint = waiting.hint.as_deref()?;
        self.options.users.iter().find(|user| user.answers_to(hint))
    }

    /// Whose yes from before covers this request, for `prompt=none` (OpenID Connect Core section 3.1.2.1). There are no
    /// sessions here, so the request has to say who.
    fn earlier_consent(&self, waiting: &Waiting) -> Result<Arc<str>, &'static str> {
        let user = self.hinted(waiting).ok_or("login_required")?;
        let asked = |grant: &Grant| waiting.wishes.iter().find(|wish| wish.slot == grant.slot);
        let covers = |grant: &Grant| {
            asked(grant).is_some_and(|wish| wish.scopes.iter().all(|scope| grant.scopes.contains(scope)))
        };
        let given = self.grants.iter().any(|grant| {
            grant.ended.is_none() && grant.client == waiting.client && grant.user.sub == user.sub && covers(grant)
        });
        if given { Ok(Arc::clone(&user.sub)) } else { Err("consent_required") }
    }

    fn allow(&mut self, waiting: Waiting, sub: &str, chosen: &[String], now: Timestamp) -> Redirect {
        let granted = waiting.granted(chosen);
        let user = self.options.users.iter().find(|user| *user.sub == *sub).cloned();
        let Some(user) = user.filter(|_| !granted.is_empty()) else {
            return waiting.way_back.refused("access_denied");
        };
        let agreed_before = self.grants.iter().any(|grant| {
            grant.ended.is_none()
                && grant.client == waiting.client
                && grant.user.sub == user.sub
                && grant.newest_refresh.is_some()
        });
        let offline = waiting.offline && (waiting.asks_again || !agreed_before);
        let code = Code {
            client: waiting.client,
            redirect_uri: waiting.redirect_uri,
            challenge: waiting.challenge,
            nonce: waiting.nonce,
            user,
            granted,
            offline,
            expires: codes::expiry(now),
            used: Used::No,
        };
        let code = self.new_code(code, now);
        Redirect { uri: waiting.way_back.with("code", &code), code: Some(code) }
    }
}

impl Waiting {
    fn labels(&self) -> Vec<String> {
        let labels = self.wishes.iter().flat_map(|wish| wish.scopes.iter().map(|scope| wish.label(scope)));
        labels.collect()
    }

    /// What was chosen of what was asked. A slot of which nothing was chosen is not granted, unless nothing was asked at all.
    fn granted(&self, chosen: &[String]) -> Vec<Wish> {
        let asked_nothing = self.wishes.iter().all(|wish| wish.scopes.is_empty());
        let granted = self.wishes.iter().map(|wish| Wish {
            slot: wish.slot.clone(),
            scopes: wish.scopes.iter().filter(|scope| chosen.contains(&wish.label(scope))).cloned().collect(),
        });
        let granted = granted.filter(|wish| asked_nothing || !wish.scopes.is_empty());
        granted.take(if asked_nothing { 1 } else { usize::MAX }).collect()
    }
}

impl WayBack {
    fn refused(&self, error: &str) -> Redirect {
        Redirect { uri: self.with("error", error), code: None }
    }

    /// The redirect URI with the answer behind whatever query it has (RFC 6749 section 3.1.2).
    fn with(&self, name: &str, value: &str) -> String {
        let mut answer = url::form_urlencoded::Serializer::new(String::new());
        answer.append_pair(name, value);
        for (name, value) in [("state", &self.state), ("iss", &self.iss)] {
            if let Some(value) = value {
                answer.append_pair(name, value);
            }
        }
        let joint = if self.uri.contains('?') { '&' } else { '?' };
        format!("{}{joint}{}", self.uri, answer.finish())
    }
}

/// Where the code may go. Registered URIs are compared byte for byte (RFC 9700 section 2.1).
fn redirect_uri(client: &SandboxClient, sent: Option<&str>) -> Result<String, AuthorizeError> {
    let found = match (&client.redirect_uris, sent) {
        (None, Some(sent)) => is_loopback(sent).then_some(sent),
        (Some(registered), Some(sent)) => registered.iter().map(String::as_str).find(|&uri| uri == sent),
        (Some(registered), None) if registered.len() == 1 => Some(registered[0].as_str()),
        (Some(_) | None, None) => None,
    };
    found.map(str::to_owned).ok_or(AuthorizeError::RedirectUri)
}

fn is_loopback(uri: &str) -> bool {
    // What `Url` would quietly repair is refused, since the text goes into a header as it stands.
    let clean = uri.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    let Ok(uri) = Url::parse(uri) else { return false };
    let here = match uri.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    let plain = uri.fragment().is_none() && uri.username().is_empty() && uri.password().is_none();
    clean && here && plain && matches!(uri.scheme(), "http" | "https")
}

/// Checks everything that a client is told about by redirect.
fn read(
    options: &Options,
    client: Arc<str>,
    way_back: &WayBack,
    params: &Params,
    wishes: Vec<Wish>,
    now: Timestamp,
) -> Result<Waiting, &'static str> {
    for (name, error) in [("request", "request_not_supported"), ("request_uri", "request_uri_not_supported")] {
        if params.get(name).is_some() {
            return Err(error);
        }
    }
    match params.get("response_type") {
        Some("code") => {}
        Some(_) => return Err("unsupported_response_type"),
        None => return Err("invalid_request"),
    }
    if params.get("response_mode").is_some_and(|mode| mode != "query") {
        return Err("invalid_request");
    }
    let prompts = params.get("prompt").unwrap_or_default();
    if prompts != "none" && prompts.split(' ').any(|prompt| prompt == "none") {
        return Err("invalid_request");
    }
    let is_public = options.clients.iter().any(|known| known.id == client && known.secret.is_none());
    Ok(Waiting {
        client,
        way_back: way_back.clone(),
        redirect_uri: params.get("redirect_uri").map(str::to_owned),
        wishes: known(options, wishes)?,
        challenge: challenge(options, is_public, params)?,
        nonce: params.get("nonce").map(str::to_owned),
        hint: params.get("login_hint").or_else(|| params.get("login")).map(str::to_owned),
        offline: params.get("access_type") == Some("offline"),
        asks_again: prompts.split(' ').any(|prompt| prompt == "consent"),
        until: now.after(PAGE_TTL),
    })
}

/// S256 or nothing. A challenge without a method would mean `plain` (RFC 7636 section 4.3).
fn challenge(options: &Options, is_public: bool, params: &Params) -> Result<Option<String>, &'static str> {
    if options.quirks.ignores_pkce && !is_public {
        return Ok(None);
    }
    let required = options.pkce_required || (is_public && options.quirks.public_needs_pkce);
    match (params.get("code_challenge"), params.get("code_challenge_method")) {
        (Some(challenge), Some("S256")) if codes::is_challenge(challenge) => Ok(Some(challenge.to_owned())),
        (None, None) if !required => Ok(None),
        _ => Err("invalid_request"),
    }
}

/// The wishes without the scopes that do not exist.
fn known(options: &Options, mut wishes: Vec<Wish>) -> Result<Vec<Wish>, &'static str> {
    let Some(known) = &options.scopes_supported else { return Ok(wishes) };
    let is_known = |scope: &String| known.contains(scope);
    let refuses = options.unknown_scopes == UnknownScopes::Refuse;
    if refuses && !wishes.iter().flat_map(|wish| &wish.scopes).all(is_known) {
        return Err("invalid_scope");
    }
    wishes.iter_mut().for_each(|wish| wish.scopes.retain(is_known));
    Ok(wishes)
}

fn make_room(pages: &mut HashMap<String, Waiting>, now: Timestamp) {
    if pages.len() < PAGES_MAX {
        return;
    }
    pages.retain(|_, page| now < page.until);
    if pages.len() >= PAGES_MAX {
        pages.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unregistered_redirect_uri_must_be_on_loopback() {
        for (uri, expected) in [
            ("http://localhost:8717/oauth/callback", true),
            ("http://127.0.0.1/cb?x=1", true),
            ("https://[::1]:9/cb", true),
            ("http://localhost.evil.example/cb", false),
            ("http://evil.example/?http://localhost", false),
            ("http://localhost@evil.example/", false),
            ("http://user@localhost/", false),
            ("http://localhost/cb#x", false),
            ("http://localhost\\@evil.example/", false),
            ("http://localhost/a\r\nX: y", false),
            ("javascript://localhost/%0aalert(1)", false),
            ("localhost", false),
        ] {
            assert_eq!(is_loopback(uri), expected, "{uri}");
        }
    }

    #[test]
    fn the_answer_goes_behind_the_query_that_is_there() {
        let mut back =
            WayBack { uri: "http://localhost/cb?a=b".to_owned(), state: Some("x y&z".to_owned()), iss: None };
        assert_eq!(back.with("code", "c"), "http://localhost/cb?a=b&code=c&state=x+y%26z");
        back.uri = "http://localhost/cb".to_owned();
        assert_eq!(back.with("code", "c"), "http://localhost/cb?code=c&state=x+y%26z");
    }
}
