//! Why an exchange failed, sorted by what the broker does next.

use http::{HeaderMap, StatusCode};

use crate::model::provider::Provider;
use crate::model::provider::rules::{ErrorClass, ErrorRule};
use crate::oauth::retry_after::RetryAfter;
use crate::oauth::transport::TransportError;

/// Why an exchange brought nothing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Rejection {
    /// It cannot be told whether the provider did what was asked: no answer, or one that makes no sense.
    #[error("the outcome is unknown: {0}")]
    Ambiguous(&'static str),
    /// Our registration is wrong or the grant is gone, and the provider does not say which: what it says of other grants tells.
    #[error("our registration or the grant is refused ({code})")]
    ClientOrGrant {
        /// The provider's code, if it is one we know.
        code: Code,
    },
    /// The grant or the code is gone: a person has to consent again.
    #[error("the grant is gone ({code})")]
    Consent {
        /// The provider's code, if it is one we know.
        code: Code,
    },
    /// The person said no.
    #[error("the person declined")]
    Denied,
    /// Our registration is wrong: an operator has to act. It says nothing about the grant.
    #[error("our registration is wrong ({code})")]
    Registration {
        /// The provider's code, if it is one we know.
        code: Code,
    },
    /// The code was too old or used: start again.
    #[error("the code was refused ({code})")]
    Restart {
        /// The provider's code, if it is one we know.
        code: Code,
    },
    /// Nothing is known to be wrong with the grant: later, and not before `after` if the provider said so.
    #[error("refused for now")]
    Retry {
        /// What the provider asked for.
        after: Option<RetryAfter>,
    },
    /// Nothing was sent: the grant is untouched.
    #[error("not sent: {0}")]
    Unsent(&'static str),
    /// The person has to do something at the provider: sign in again, agree to more, ask an administrator.
    #[error("a person has to act at the provider ({code})")]
    UserAction {
        /// The provider's code, if it is one we know.
        code: Code,
    },
}

impl Rejection {
    /// Whether the provider does not know our client or its secret, in the words of RFC 6749 section 5.2. Other mistakes in our
    /// registration may be of one request.
    #[must_use]
    pub fn is_our_client(&self) -> bool {
        matches!(self, Self::Registration { code } if code.as_str() == "invalid_client")
    }
}

/// A provider's error code that is safe to show: letters, digits and `_.-`, at most 64 of them. Anything else is `other`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Code(Box<str>);

impl Code {
    /// Takes a provider's word for what went wrong, or `other` if it is not a plain word.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let plain = (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        Self(if plain { text.into() } else { "other".into() })
    }

    /// The word.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<TransportError> for Rejection {
    fn from(error: TransportError) -> Self {
        match error {
            TransportError::Lost(why) => Self::Ambiguous(why),
            TransportError::NotAllowed => Self::Unsent("not an address of this provider"),
            TransportError::NotPermitted => Self::Unsent("not permitted"),
            TransportError::Unsent(why) => Self::Unsent(why),
        }
    }
}

/// What a provider said when it refused.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    /// The status of the response.
    pub status: StatusCode,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// The error code, wherever the definition says it stands.
    pub code: Option<&'a str>,
    /// The finer code.
    pub sub: Option<&'a str>,
}

/// Sorts a refusal: by the definition's rules first, then by RFC 6749 section 5.2 and the status.
#[must_use]
pub fn classify(provider: &Provider, refusal: &Refusal<'_>) -> Rejection {
    let class = class_of(provider, refusal);
    let code = Code::read(refusal.sub.or(refusal.code).unwrap_or("none"));
    match class {
        Some(ErrorClass::ClientOrGrant) => Rejection::ClientOrGrant { code },
        Some(ErrorClass::Denied) => Rejection::Denied,
        Some(ErrorClass::Misconfigured) => Rejection::Registration { code },
        Some(ErrorClass::Reauth) => Rejection::Consent { code },
        Some(ErrorClass::RestartLogin) => Rejection::Restart { code },
        // Only the device flow knows what these are good for.
        Some(ErrorClass::Pending | ErrorClass::SlowDown | ErrorClass::Transient) => {
            Rejection::Retry { after: RetryAfter::of(refusal.headers) }
        }
        Some(ErrorClass::UserAction) => Rejection::UserAction { code },
        None => by_status(refusal),
    }
}

/// The class of a refusal: by the definition's rules first, then by the standards. `None` if nobody knows the code.
#[must_use]
pub fn class_of(provider: &Provider, refusal: &Refusal<'_>) -> Option<ErrorClass> {
    let rule = provider.errors.iter().find(|rule| matches(rule, refusal));
    rule.map(|rule| rule.class).or_else(|| refusal.code.and_then(standard))
}

/// An unknown code in a proper error answer says that the provider refused before doing anything. A server error may come
/// from a proxy behind which the provider did its work.
fn by_status(refusal: &Refusal<'_>) -> Rejection {
    let status = refusal.status;
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        return Rejection::Retry { after: RetryAfter::of(refusal.headers) };
    }
    if status.is_client_error() && refusal.headers.contains_key("retry-after") {
        return Rejection::Retry { after: RetryAfter::of(refusal.headers) };
    }
    if status.is_client_error() && refusal.code.is_some() {
        return Rejection::Retry { after: None };
    }
    Rejection::Ambiguous("an answer that is neither a token nor an error")
}

fn matches(rule: &ErrorRule, refusal: &Refusal<'_>) -> bool {
    let listed = |list: &[String], word: Option<&str>| {
        list.is_empty() || word.is_some_and(|word| list.iter().any(|entry| entry == word))
    };
    listed(&rule.code, refusal.code)
        && listed(&rule.sub, refusal.sub)
        && (rule.http.is_empty() || rule.http.contains(&refusal.status.as_u16()))
}

/// RFC 6749 sections 4.1.2.1 and 5.2; OpenID Connect Core section 3.1.2.6; RFC 8628 section 3.5.
fn standard(code: &str) -> Option<ErrorClass> {
    Some(match code {
        "access_denied" => ErrorClass::Denied,
        "authorization_pending" => ErrorClass::Pending,
        "expired_token" => ErrorClass::RestartLogin,
        "slow_down" => ErrorClass::SlowDown,
        "invalid_grant" => ErrorClass::Reauth,
        "account_selection_required" | "consent_required" | "interaction_required" | "login_required" => {
            ErrorClass::UserAction
        }
        "invalid_client"
        | "invalid_request"
        | "invalid_scope"
        | "unauthorized_client"
        | "unsupported_grant_type"
        | "unsupported_response_type" => ErrorClass::Misconfigured,
        "server_error" | "temporarily_unavailable" => ErrorClass::Transient,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderValue;

    use super::*;
    use crate::model::provider::Provider;
    use crate::oauth::quirk::tests::plain_provider;

    fn sorted(provider: &Provider, status: u16, code: Option<&str>, retry: Option<&str>) -> Rejection {
        let mut headers = HeaderMap::new();
        if let Some(retry) = retry {
            headers.insert("retry-after", HeaderValue::from_str(retry).unwrap());
        }
        let status = StatusCode::from_u16(status).unwrap();
        classify(provider, &Refusal { status, headers: &headers, code, sub: None })
    }

    #[test]
    fn only_a_definite_word_of_the_provider_ends_a_grant() {
        let provider = plain_provider();
        for (status, code, expected) in [
            (400, Some("invalid_grant"), Rejection::Consent { code: Code::read("invalid_grant") }),
            (401, Some("invalid_client"), Rejection::Registration { code: Code::read("invalid_client") }),
            (400, Some("interaction_required"), Rejection::UserAction { code: Code::read("interaction_required") }),
            (400, Some("access_denied"), Rejection::Denied),
            (400, Some("never heard of"), Rejection::Retry { after: None }),
            (503, None, Rejection::Retry { after: None }),
        ] {
            assert_eq!(sorted(&provider, status, code, None), expected, "{status} {code:?}");
        }
        for status in [200, 302, 404, 500, 502] {
            assert!(matches!(sorted(&provider, status, None, None), Rejection::Ambiguous(_)), "{status}");
        }
    }

    #[test]
    fn the_definition_has_the_first_word() {
        let mut provider = plain_provider();
        provider.errors = vec![ErrorRule {
            code: vec!["bad_refresh_token".to_owned()],
            sub: Vec::new(),
            http: Vec::new(),
            class: ErrorClass::Reauth,
        }];
        assert!(matches!(sorted(&provider, 200, Some("bad_refresh_token"), None), Rejection::Consent { .. }));
        provider.errors[0].class = ErrorClass::ClientOrGrant;
        let doubtful = Rejection::ClientOrGrant { code: Code::read("bad_refresh_token") };
        assert_eq!(sorted(&provider, 401, Some("bad_refresh_token"), None), doubtful);
        assert!(!doubtful.is_our_client());
        assert!(sorted(&provider, 401, Some("invalid_client"), None).is_our_client());
        assert!(!sorted(&provider, 400, Some("invalid_request"), None).is_our_client(), "it may be of one request");
    }

    #[test]
    fn retry_after_is_heard_where_the_provider_refused_and_proves_nothing_where_it_broke_down() {
        let provider = plain_provider();
        let later = || Rejection::Retry { after: Some(RetryAfter::In(Duration::from_secs(120))) };
        for (status, code, expected) in [
            (429, None, later()),
            (503, None, later()),
            (403, None, later()),
            (400, Some("temporarily_unavailable"), later()),
            (400, Some("invalid_grant"), Rejection::Consent { code: Code::read("invalid_grant") }),
            (502, None, Rejection::Ambiguous("an answer that is neither a token nor an error")),
            (200, None, Rejection::Ambiguous("an answer that is neither a token nor an error")),
        ] {
            assert_eq!(sorted(&provider, status, code, Some("120")), expected, "{status} {code:?}");
        }
        assert_eq!(sorted(&provider, 429, None, Some("soon")), Rejection::Retry { after: None });
    }

    #[test]
    fn a_code_that_is_not_a_plain_word_is_not_repeated() {
        for hostile in ["<script>", "a b", "", "é", "x\n", &"x".repeat(65)] {
            assert_eq!(Code::read(hostile).as_str(), "other", "{hostile:?}");
        }
    }
}
