//! What went wrong, as a status and a flat JSON object with a stable code.

use std::time::Duration;

use http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use warp::reply::Response;

use crate::api::input::Invalid;
use crate::api::wire::{AccountBody, ProblemBody};
use crate::api::{invitation, reply};
use crate::broker::connect::Prompt;
use crate::broker::error::{BrokerError, PageError};
use crate::broker::registry::Registry;
use crate::model::id::{ProviderId, RequestId};
use crate::model::provider::Provider;
use crate::store::StoreError;

/// How soon to ask again when nobody knows better.
const SOON: Duration = Duration::from_secs(1);

/// An error on its way to the caller.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    header: Option<Header>,
    body: Box<ProblemBody>,
    id: Option<RequestId>,
}

#[derive(Debug)]
enum Header {
    Allow(&'static str),
    Challenge,
    RetryAfter(Duration),
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, description: &'static str) -> Self {
        let body = ProblemBody { error: code.into(), error_description: description.into(), ..ProblemBody::default() };
        Self { status, header: None, body: Box::new(body), id: None }
    }

    /// The status it will have.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// The shape it will have.
    #[must_use]
    pub fn body(&self) -> &ProblemBody {
        &self.body
    }

    /// Nothing is served at this path, or nothing that this caller may know of.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "There is no such thing, or it is not yours.")
    }

    /// The path is served, but not by this method. `allow` lists those that are.
    #[must_use]
    pub fn method_not_allowed(allow: &'static str) -> Self {
        let problem =
            Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "This path does not know this method.");
        problem.with(Header::Allow(allow))
    }

    /// The body is longer than [`crate::api::input::BODY_MAX`].
    #[must_use]
    pub fn payload_too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", "The body is longer than 64 KiB.")
    }

    /// There are too many headers.
    #[must_use]
    pub fn headers_too_large() -> Self {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        Self::new(status, "headers_too_large", "The request has more than 64 headers.")
    }

    /// The body did not arrive in time.
    #[must_use]
    pub fn body_timeout() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", "The body did not arrive in time.")
    }

    /// The body broke off.
    #[must_use]
    pub fn body_broken() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", "The body broke off.")
    }

    /// A browser has no business on the socket.
    #[must_use]
    pub fn browser() -> Self {
        let why = "This socket does not serve browsers: leave out `Origin` and `Sec-Fetch-Site`.";
        Self::new(StatusCode::FORBIDDEN, "peer_denied", why)
    }

    /// It cannot be told which configured caller this is; the log says why.
    #[must_use]
    pub fn unclear_peer() -> Self {
        let why = "grantd cannot tell which of its configured callers this process is; its log says more.";
        Self::new(StatusCode::FORBIDDEN, "peer_denied", why)
    }

    /// The request carries a key or a JWT that is not good here.
    #[must_use]
    pub fn invalid_api_key() -> Self {
        let why = "This key is not accepted here; without an `Authorization` header the socket peer's own uid counts.";
        Self::new(StatusCode::UNAUTHORIZED, "invalid_api_key", why).with(Header::Challenge)
    }

    /// Something is broken here; the log says what.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal_error",
            "Something is broken in grantd; its log has more under this request id.",
        )
    }

    /// What the broker could not do. The registry knows what people call the provider.
    #[must_use]
    pub fn from_broker(error: BrokerError, registry: &Registry) -> Self {
        match error {
            BrokerError::AccountAmbiguous { accounts } => {
                let why = "Several accounts are meant: name one as `account`, or make one the default.";
                let mut problem = Self::person("account_ambiguous", why);
                problem.body.accounts = Some(accounts.into_iter().map(AccountBody::of).collect());
                problem
            }
            BrokerError::ConnectionRequired { provider, prompt } => {
                Self::person("connection_required", "No account is connected at this provider.")
                    .because("not_connected")
                    .at(provider, prompt.as_deref(), registry)
            }
            BrokerError::InsufficientScope { provider, missing, prompt } => {
                let mut problem =
                    Self::person("insufficient_scope", "The connected account has not agreed to these scopes.")
                        .because("scope_upgrade")
                        .at(provider, prompt.as_deref(), registry);
                problem.body.missing_scopes = Some(missing);
                problem
            }
            BrokerError::ReconnectRequired { provider, account, reason, prompt } => {
                let mut problem = Self::person("reconnect_required", reason.sentence()).because(reason.as_str()).at(
                    provider,
                    prompt.as_deref(),
                    registry,
                );
                problem.body.account = Some(account);
                problem
            }
            // Which rule it was is for the operator, who finds it in the log.
            BrokerError::Denied { rule } => {
                tracing::info!(rule, "refused by policy");
                Self::new(StatusCode::FORBIDDEN, "access_denied", "The policy does not allow this.")
            }
            BrokerError::GrantBroader { rule: _ } => {
                let why = "The connected account has agreed to more than this caller may have, and the provider gives no \
                           token for less.";
                Self::new(StatusCode::FORBIDDEN, "scope_denied", why).because("grant_broader")
            }
            BrokerError::Internal => Self::internal(),
            BrokerError::Limited { retry_after } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", "Too many requests: try again later.")
                    .with(Header::RetryAfter(retry_after))
            }
            BrokerError::LabelTaken => Self::from(Invalid::field("label", "another of your accounts answers to it")),
            BrokerError::NoDeviceCode { retry_after } => {
                let why = "The provider gave no code to enter now.";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "provider_unavailable", why)
                    .with(Header::RetryAfter(retry_after))
            }
            BrokerError::NoDeviceFlow => {
                Self::from(Invalid::field("device", "cannot be asked for: this provider has no device flow"))
            }
            BrokerError::NotFound => Self::not_found(),
            BrokerError::NoWiderRevocation => {
                Self::from(Invalid::field("wider", "this provider has no way to take back more than this connection"))
            }
            BrokerError::NoWayBack(unusable) => {
                let mut problem = Self::new(StatusCode::BAD_GATEWAY, "provider_error", "").because("redirect_uri");
                problem.body.error_description = format!("Nobody can connect: {unusable}").into();
                problem
            }
            BrokerError::ProviderError { code } => {
                let why = "The provider refused grantd's registration: an operator has to correct it.";
                let mut problem = Self::new(StatusCode::BAD_GATEWAY, "provider_error", why);
                problem.body.provider_error = Some(code.into());
                problem
            }
            BrokerError::ProviderTimeout => {
                Self::new(StatusCode::GATEWAY_TIMEOUT, "provider_timeout", "The provider did not answer in time.")
            }
            BrokerError::ProviderUnavailable { retry_after } => {
                let why = "The provider cannot be used now, and the last token has died.";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "provider_unavailable", why)
                    .with(Header::RetryAfter(retry_after))
            }
            BrokerError::ScopeDenied { denied, rule: _ } => {
                let why = "This caller may not have these scopes.";
                let mut problem = Self::new(StatusCode::FORBIDDEN, "scope_denied", why).because("above_ceiling");
                problem.body.denied_scopes = Some(denied);
                problem
            }
            BrokerError::SeveralResources { resources } => {
                let all: Vec<_> = resources.iter().map(ToString::to_string).collect();
                let why = format!("are for several resources, and a token is for one of them: {}", all.join(", "));
                Self::from(Invalid::field("scopes", why))
            }
            BrokerError::ShuttingDown => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "shutting_down", "grantd is going down.")
                    .with(Header::RetryAfter(SOON))
            }
            BrokerError::Store(StoreError::Busy(why)) => {
                tracing::warn!(why, "the store cannot be used now");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", "The store cannot be used now.")
                    .with(Header::RetryAfter(SOON))
            }
            BrokerError::Store(StoreError::Damaged(why)) => {
                tracing::error!(why, "the store is damaged");
                Self::internal()
            }
            BrokerError::UnknownAccount => {
                Self::new(StatusCode::NOT_FOUND, "unknown_account", "No connected account answers to that name.")
            }
            BrokerError::UnknownCaller => {
                Self::new(StatusCode::NOT_FOUND, "unknown_caller", "No such caller is configured.")
            }
            BrokerError::UnknownProvider => Self::new(
                StatusCode::NOT_FOUND,
                "unknown_provider",
                "No such provider is configured; `GET /v1/providers` lists those that are.",
            ),
            BrokerError::UnknownSlot => Self::from(Invalid::field("slot", "is not one of this provider's")),
        }
    }

    /// Why a step of a connect session over the socket was not taken.
    #[must_use]
    pub fn from_session(error: PageError) -> Self {
        match error {
            PageError::Internal => Self::internal(),
            PageError::NoWayBack => {
                let why = "The provider would send nobody back to this address: see `grantd provider show`.";
                Self::new(StatusCode::BAD_GATEWAY, "provider_error", why).because("redirect_uri")
            }
            PageError::NotFound | PageError::OtherPerson => Self::not_found(),
            PageError::OtherBrowser => Self::new(
                StatusCode::FORBIDDEN,
                "wrong_proof",
                "This is not the proof that the session was begun with.",
            ),
            PageError::Used => {
                let why = "The session has moved on or ended, or the answer was used before: look at the session.";
                Self::new(StatusCode::GONE, "already_used", why)
            }
        }
    }

    /// With a request id that has been written down already.
    #[must_use]
    pub fn under(mut self, id: Option<&RequestId>) -> Self {
        self.id = id.cloned();
        self
    }

    /// The answer, with a request id under which the log can be searched.
    #[must_use]
    pub fn into_response(mut self) -> Response {
        let id = self.id.take().unwrap_or_else(RequestId::random);
        if self.status.is_server_error() {
            tracing::warn!(request_id = %id, code = %self.body.error, "answered with an error");
        } else {
            tracing::debug!(request_id = %id, code = %self.body.error, "answered with an error");
        }
        self.body.request_id = Some(id.as_str().to_owned());
        let mut response = reply::json(self.status, &*self.body);
        let (name, value) = match self.header {
            None => return response,
            Some(Header::Allow(methods)) => (ALLOW, HeaderValue::from_static(methods)),
            Some(Header::Challenge) => (WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"invalid_token\"")),
            Some(Header::RetryAfter(span)) => (RETRY_AFTER, HeaderValue::from(whole_seconds(span))),
        };
        response.headers_mut().insert(name, value);
        response
    }

    /// 409: a person must act.
    fn person(code: &'static str, description: &'static str) -> Self {
        Self::new(StatusCode::CONFLICT, code, description)
    }

    fn because(mut self, reason: &'static str) -> Self {
        self.body.reason = Some(reason.into());
        self
    }

    fn with(mut self, header: Header) -> Self {
        self.header = Some(header);
        self
    }

    fn at(mut self, provider: ProviderId, prompt: Option<&Prompt>, registry: &Registry) -> Self {
        if let Some(prompt) = prompt {
            let known = registry.providers.get(&provider).map(|configured| &configured.provider);
            let name = known.map_or(provider.as_str(), |provider| provider.name.as_str());
            // What has no connection yet has nothing that a consent could replace.
            let connected = self.body.error != "connection_required";
            let warning = known.filter(|_| connected).and_then(Provider::consent_warning);
            invitation::add(&mut self.body, prompt, name, warning);
        }
        self.body.provider = Some(provider);
        self
    }
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        let mut problem = Self::new(StatusCode::BAD_REQUEST, "invalid_request", "");
        problem.body.error_description = match &invalid.field {
            Some(field) => format!("`{field}`: {}", invalid.why).into(),
            None => invalid.why.into(),
        };
        problem.body.field = invalid.field;
        problem
    }
}

/// Rounded up, and at least one: zero would mean at once.
fn whole_seconds(span: Duration) -> u64 {
    span.as_millis().div_ceil(1000).clamp(1, 86_400) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::model::connection::{Account, ReconnectReason};
    use crate::model::grant_type::GrantType;
    use crate::model::id::ConnectId;
    use crate::model::provider::redirect::Unusable;
    use crate::model::scope::ScopeSet;
    use crate::model::session::{ConnectSession, Progress};
    use crate::model::subject::Subject;
    use crate::model::time::Timestamp;

    fn registry() -> Registry {
        Registry {
            web_url: "http://localhost:8717".parse().unwrap(),
            providers: BTreeMap::new(),
            callers: std::sync::Arc::default(),
        }
    }

    fn prompt() -> Box<Prompt> {
        let session = ConnectSession {
            id: "cn_1".parse::<ConnectId>().unwrap(),
            subject: Subject::from_uid(1000),
            caller: "issue-bot".parse().unwrap(),
            purpose: None,
            provider: github(),
            scopes: ScopeSet::read("repo", ' '),
            reconnect: None,
            grant_type: GrantType::AuthorizationCode,
            user_code: "WDJB-MJHT".to_owned(),
            progress: Progress::Pending,
            created_at: Timestamp::from_secs(1),
            expires_at: Timestamp::from_secs(601),
        };
        let connect_url = registry().connect_url(&session.id);
        Box::new(Prompt { session, connect_url })
    }

    fn github() -> ProviderId {
        "github".parse().unwrap()
    }

    fn account() -> Account {
        Account { id: "1".to_owned(), name: "octocat".to_owned() }
    }

    fn unusable() -> Box<Unusable> {
        Box::new(Unusable { why: "It needs https.".to_owned(), next: "Set it.".to_owned(), instead: None })
    }

    fn problem(error: BrokerError) -> Problem {
        Problem::from_broker(error, &registry())
    }

    #[test]
    fn every_failure_has_its_status_and_its_stable_code() {
        let retry_after = Duration::from_millis(1500);
        for (error, status, code) in [
            (BrokerError::AccountAmbiguous { accounts: vec![] }, 409, "account_ambiguous"),
            (BrokerError::ConnectionRequired { provider: github(), prompt: None }, 409, "connection_required"),
            (
                BrokerError::InsufficientScope { provider: github(), missing: ScopeSet::default(), prompt: None },
                409,
                "insufficient_scope",
            ),
            (
                BrokerError::ReconnectRequired {
                    provider: github(),
                    account: account(),
                    reason: ReconnectReason::LostResponse,
                    prompt: None,
                },
                409,
                "reconnect_required",
            ),
            (BrokerError::Denied { rule: "r" }, 403, "access_denied"),
            (BrokerError::GrantBroader { rule: String::new() }, 403, "scope_denied"),
            (BrokerError::ScopeDenied { denied: ScopeSet::default(), rule: String::new() }, 403, "scope_denied"),
            (BrokerError::UnknownCaller, 404, "unknown_caller"),
            (BrokerError::Internal, 500, "internal_error"),
            (BrokerError::Limited { retry_after }, 429, "rate_limited"),
            (BrokerError::NotFound, 404, "not_found"),
            (BrokerError::NoWayBack(unusable()), 502, "provider_error"),
            (BrokerError::ProviderError { code: "invalid_client" }, 502, "provider_error"),
            (BrokerError::ProviderTimeout, 504, "provider_timeout"),
            (BrokerError::ProviderUnavailable { retry_after }, 503, "provider_unavailable"),
            (BrokerError::ShuttingDown, 503, "shutting_down"),
            (BrokerError::Store(StoreError::Busy("disk".into())), 503, "store_unavailable"),
            (BrokerError::Store(StoreError::Damaged("row 7".into())), 500, "internal_error"),
            (BrokerError::UnknownAccount, 404, "unknown_account"),
            (BrokerError::UnknownProvider, 404, "unknown_provider"),
            (BrokerError::LabelTaken, 400, "invalid_request"),
            (BrokerError::NoDeviceCode { retry_after }, 503, "provider_unavailable"),
            (BrokerError::NoDeviceFlow, 400, "invalid_request"),
            (BrokerError::NoWiderRevocation, 400, "invalid_request"),
            (BrokerError::SeveralResources { resources: BTreeSet::new() }, 400, "invalid_request"),
            (BrokerError::UnknownSlot, 400, "invalid_request"),
        ] {
            assert_eq!(error.code(), code, "what the audit log has is what the caller is told");
            let problem = problem(error);
            assert_eq!((problem.status().as_u16(), &*problem.body().error), (status, code));
            assert!(!problem.body().error_description.is_empty(), "{code}");
            let retries = matches!(problem.header, Some(Header::RetryAfter(_)));
            assert_eq!(retries, matches!(status, 429 | 503), "{code}");
        }
    }

    #[test]
    fn a_409_carries_everything_a_person_needs() {
        let problem = problem(BrokerError::ConnectionRequired { provider: github(), prompt: Some(prompt()) });
        let json = serde_json::to_value(problem.body()).unwrap();
        assert_eq!(json["reason"], "not_connected");
        assert_eq!(json["connect_url"], "http://localhost:8717/connect/cn_1");
        assert_eq!(json["connect_expires_at"], 601);
        assert_eq!(json["user_code"], "WDJB-MJHT");
        assert_eq!(
            json["elicitation"],
            serde_json::json!({
                "mode": "url",
                "elicitationId": "cn_1",
                "url": "http://localhost:8717/connect/cn_1",
                "message": "issue-bot wants to use github (repo). Check that the page shows WDJB-MJHT.",
            })
        );
    }

    #[test]
    fn who_cannot_be_sent_back_is_not_invited_and_the_operator_is_told_what_to_change() {
        let json = serde_json::to_value(problem(BrokerError::NoWayBack(unusable())).body()).unwrap();
        assert_eq!(json["reason"], "redirect_uri");
        assert_eq!(json["error_description"], "Nobody can connect: It needs https. Set it.");
        assert!(json.get("connect_url").is_none() && json.get("elicitation").is_none(), "{json}");
    }

    #[test]
    fn the_rule_that_refused_is_not_told() {
        let json = serde_json::to_string(problem(BrokerError::Denied { rule: "secret-rule" }).body()).unwrap();
        assert!(!json.contains("secret-rule"));
    }

    #[test]
    fn retry_after_is_rounded_up_and_never_zero() {
        for (millis, seconds) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2")] {
            let error = BrokerError::Limited { retry_after: Duration::from_millis(millis) };
            let response = problem(error).into_response();
            assert_eq!(response.headers()[RETRY_AFTER], seconds, "{millis} ms");
        }
    }

    #[test]
    fn answers_are_json_and_must_not_be_kept() {
        let response = Problem::method_not_allowed("POST").into_response();
        assert_eq!(response.headers()["allow"], "POST");
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(response.headers()["cache-control"], "no-store");
    }
}
