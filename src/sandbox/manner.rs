//! Manners: how a sandbox looks on the wire. The machine behind them is always the same.
//!
//! A manner says where the endpoints are, reads requests and writes answers down. It decides nothing about tokens.

mod github;
mod google;
mod microsoft;
mod mirror;
mod notion;
mod plain;
pub(super) mod route;
mod said;
mod slack;

use std::fmt;
use std::sync::Arc;

use http::StatusCode;
use http::header::{CACHE_CONTROL, PRAGMA};
use serde_json::{Map, Value, json};

use crate::model::id::SlotName;
use crate::model::provider::rules::Encoding;
use crate::model::time::Timestamp;
use crate::sandbox::answer::Answer;
use crate::sandbox::machine::{Credentials, DeviceGiven, Issued, Refusal, Revocation};
use crate::sandbox::manner::route::{Route, Spot};
use crate::sandbox::options::{Quirks, SandboxUser};
use crate::sandbox::params::Params;
use crate::sandbox::routes::Call;

pub use self::mirror::{Mirror, Telling};
pub(super) use self::said::Said;

/// Whose manners the sandbox has.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Role {
    /// OAuth 2.0 and OpenID Connect as the standards write them.
    #[default]
    Plain,
    /// GitHub: OAuth Apps and GitHub Apps.
    Github,
    /// Google.
    Google,
    /// Microsoft's identity platform, v2.0.
    Microsoft,
    /// Slack: `v2` and `v2_user`.
    Slack,
    /// Notion.
    Notion,
    /// A provider as a definition has it.
    Mirror(Arc<Mirror>),
}

impl Role {
    pub(super) fn manner(&self) -> Arc<dyn Manner> {
        match self {
            Self::Plain => Arc::new(plain::Plain),
            Self::Github => Arc::new(github::Github),
            Self::Google => Arc::new(google::Google),
            Self::Microsoft => Arc::new(microsoft::Microsoft),
            Self::Slack => Arc::new(slack::Slack),
            Self::Notion => Arc::new(notion::Notion),
            Self::Mirror(mirror) => Arc::clone(mirror) as Arc<dyn Manner>,
        }
    }

    /// The id of the compiled-in definition that this role is for; `None` for the plain one and for a mirror, which have
    /// their own.
    #[must_use]
    pub const fn built_in(&self) -> Option<&'static str> {
        match self {
            Self::Plain | Self::Mirror(_) => None,
            Self::Github => Some("github"),
            Self::Google => Some("google"),
            Self::Microsoft => Some("microsoft"),
            Self::Slack => Some("slack"),
            Self::Notion => Some("notion"),
        }
    }
}

/// What differs between providers.
pub(super) trait Manner: fmt::Debug + Send + Sync {
    /// Where the endpoints are. Asked once, when the sandbox starts.
    fn routes(&self) -> Vec<Route>;

    /// How the bodies of requests to a place are written.
    fn encoding(&self, _at: Spot) -> Encoding {
        Encoding::Form
    }

    /// Which client asks, and how it proves that.
    fn credentials(&self, scene: &Scene<'_>, params: &Params) -> Result<Credentials, Refusal> {
        Credentials::read(&scene.call.headers, params)
    }

    /// What an authorization request asks for: a grant for each slot.
    fn wishes(&self, _scene: &Scene<'_>, params: &Params) -> Vec<Wish> {
        vec![Wish::of(SlotName::main(), params.get("scope"), ' ')]
    }

    /// What a revocation request wants to be ended, and who wants it.
    fn revocation(&self, scene: &Scene<'_>, params: &Params) -> Result<Revocation, Refusal> {
        let by = Some(self.credentials(scene, params)?);
        Revocation::of(by, params.get("token"))
    }

    /// The issuer, as it stands in callbacks and metadata.
    fn issuer(&self, origin: &str) -> String {
        origin.to_owned()
    }

    /// The answer to a good token request: what it brings for each slot, at least one.
    fn issued(&self, scene: &Scene<'_>, issued: &[Issued], id_token: Option<&str>) -> Answer;
    /// The answer to a good device authorization request. The code is entered at `page`.
    fn device_given(&self, _scene: &Scene<'_>, given: &DeviceGiven, page: &str) -> Answer {
        private(Answer::json(StatusCode::OK, &given.members("verification_uri", page)))
    }
    /// What the provider calls a refusal.
    fn named(&self, _scene: &Scene<'_>, refusal: Refusal) -> Said {
        Said::of(refusal.error(), refusal.description())
    }
    /// How the provider writes an error down.
    fn error(&self, scene: &Scene<'_>, said: &Said) -> Answer;
    /// The answer to a bad token or revocation request.
    fn refused(&self, scene: &Scene<'_>, refusal: Refusal) -> Answer {
        self.error(scene, &self.named(scene, refusal))
    }
    /// The answer to a good revocation request.
    fn revoked(&self, scene: &Scene<'_>) -> Answer;
    /// Whose account a token opens.
    fn account(&self, scene: &Scene<'_>, user: &SandboxUser) -> Answer;
    /// The answer to a dead token; `sent` says whether there was one at all.
    fn dead_token(&self, scene: &Scene<'_>, sent: bool) -> Answer;

    /// What an ID token says about its issuer and its person.
    fn id_claims(&self, scene: &Scene<'_>, user: &SandboxUser) -> Map<String, Value> {
        let claims = json!({"iss": scene.origin, "sub": &*user.sub, "name": user.name, "email": user.email});
        claims.as_object().cloned().unwrap_or_default()
    }

    /// What stands at the discovery addresses; `None` if the provider has none.
    fn metadata(&self, _origin: &str, _facts: &MetadataFacts) -> Option<Value> {
        None
    }
}

/// What a manner may look at when it reads a request or writes an answer.
pub(super) struct Scene<'a> {
    /// The request.
    pub(super) call: &'a Call,
    /// What it is for.
    pub(super) spot: Spot,
    /// Where the sandbox is, without the last slash.
    pub(super) origin: &'a str,
    /// The switches as they stood when the request came.
    pub(super) quirks: Quirks,
    /// When it came.
    pub(super) now: Timestamp,
}

/// What is asked for in one slot.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Wish {
    /// The slot.
    pub(super) slot: SlotName,
    /// The scopes, each once.
    pub(super) scopes: Vec<String>,
}

impl Wish {
    /// Reads a list of scopes. What is absent asks for none.
    pub(super) fn of(slot: SlotName, list: Option<&str>, separator: char) -> Self {
        let mut scopes: Vec<String> = Vec::new();
        for scope in list.unwrap_or_default().split(|c: char| c == separator || c.is_ascii_whitespace()) {
            if !scope.is_empty() && !scopes.iter().any(|earlier| earlier == scope) {
                scopes.push(scope.to_owned());
            }
        }
        Self { slot, scopes }
    }

    /// How a scope is told apart from the same one in another slot.
    pub(super) fn label(&self, scope: &str) -> String {
        if self.slot == SlotName::main() { scope.to_owned() } else { format!("{}/{scope}", self.slot) }
    }
}

/// What the metadata tells about switches.
#[derive(Debug)]
pub(super) struct MetadataFacts {
    /// The scopes that exist, if they are limited.
    pub(super) scopes: Option<Vec<String>>,
    /// Whether callbacks carry `iss`.
    pub(super) iss_on_callback: bool,
}

/// RFC 6749 section 5.1 wants both.
fn private(answer: Answer) -> Answer {
    answer.header(CACHE_CONTROL, "no-store").header(PRAGMA, "no-cache")
}
