//! What goes back to the browser, and the headers that keep it safe there.

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY, SET_COOKIE,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use url::{Host, Url};

use crate::model::id::ConnectId;
use crate::web::assets::Asset;
use crate::web::cookie::Cookie;
use crate::web::pages::{Link, Problem, html};

const HTML: &str = "text/html; charset=utf-8";

/// An answer without its last headers.
#[derive(Debug)]
pub(crate) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    cookies: Vec<Cookie>,
    form_action: String,
    body: Bytes,
}

impl Answer {
    /// A page.
    pub(crate) fn html(status: StatusCode, html: String) -> Self {
        Self { body: html.into(), ..Self::empty(status, HTML, "no-store") }
    }

    /// The page of a problem, where it arose.
    pub(crate) fn problem(problem: Problem) -> Self {
        Self::html(status(problem), html(&problem.notice()))
    }

    /// The page of a problem at an address that still holds the provider's answer: the browser moves on to a clean one.
    pub(crate) fn problem_moving_on(problem: Problem) -> Self {
        let mut notice = problem.notice();
        notice.move_to = Some(problem.path());
        Self::html(status(problem), html(&notice))
    }

    /// The form of this session is not one we believe: back to its page, which makes a new one.
    pub(crate) fn old_form(id: &ConnectId) -> Self {
        let mut notice = Problem::Forged.notice();
        notice.next.link = Some(Link { href: format!("/connect/{id}"), label: "Open the page again".to_owned() });
        Self::html(status(Problem::Forged), html(&notice))
    }

    /// The request went to the wrong host (RFC 9110 section 15.5.20). Plain text: whoever asks is no page of ours.
    pub(crate) fn misdirected() -> Self {
        Self {
            body: Bytes::from_static(b"This is not the address of grantd.\n"),
            ..Self::empty(StatusCode::MISDIRECTED_REQUEST, "text/plain; charset=utf-8", "no-store")
        }
    }

    /// There is such a page, but not for this method.
    pub(crate) fn wrong_method(allowed: &'static str) -> Self {
        Self::problem(Problem::WrongMethod).with(ALLOW, HeaderValue::from_static(allowed))
    }

    /// The stylesheet or the mark. Asked for by its version it never changes.
    pub(crate) fn asset(asset: &Asset, query: &str) -> Self {
        let versioned = query == format!("v={}", asset.version());
        let cache = if versioned { "public, max-age=31536000, immutable" } else { "no-cache" };
        Self {
            body: Bytes::from_static(asset.text.as_bytes()),
            ..Self::empty(StatusCode::OK, asset.content_type, cache)
        }
    }

    /// To another address with GET. Always 303: a 307 would send the form once more, to the provider (RFC 9700 section 4.12).
    pub(crate) fn see_other(location: &str) -> Self {
        match HeaderValue::try_from(location) {
            Ok(location) => Self::empty(StatusCode::SEE_OTHER, HTML, "no-store").with(LOCATION, location),
            Err(_) => Self::problem(Problem::Internal),
        }
    }

    /// To the page of a session.
    pub(crate) fn to_session(id: &ConnectId) -> Self {
        Self::see_other(&format!("/connect/{id}"))
    }

    pub(crate) fn with_cookie(mut self, cookie: impl Into<Option<Cookie>>) -> Self {
        self.cookies.extend(cookie.into());
        self
    }

    /// The page has the button that leads to this provider.
    ///
    /// Browsers apply `form-action` to every redirect that follows a form, not only to the form's own address, and a
    /// provider may bounce through any of its sign-in hosts or those of an employer. So every https address is
    /// allowed, and plain http only where the provider itself is on loopback.
    pub(crate) fn leading_to(mut self, authorize: &Url) -> Self {
        self.form_action.push_str(" https:");
        if authorize.scheme() == "http" {
            self.form_action.push(' ');
            match authorize.host() {
                // The policy's grammar has no IPv6 addresses.
                Some(Host::Ipv6(_)) | None => self.form_action.push_str("http:"),
                Some(_) => self.form_action.push_str(&authorize.origin().ascii_serialization()),
            }
        }
        self
    }

    /// The finished response. `secure` limits cookies to TLS.
    pub(crate) fn into_response(self, secure: bool) -> Response<Bytes> {
        let policy = format!(
            "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action {}; base-uri 'none'; frame-ancestors 'none'",
            self.form_action
        );
        let Ok(policy) = HeaderValue::try_from(policy) else {
            return Self::problem(Problem::Internal).into_response(secure);
        };
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        let headers = response.headers_mut();
        headers.insert(CONTENT_SECURITY_POLICY, policy);
        for (name, value) in ALWAYS {
            headers.insert(name, HeaderValue::from_static(value));
        }
        for cookie in self.cookies {
            let Some(cookie) = cookie.header(secure) else {
                return Self::problem(Problem::Internal).into_response(secure);
            };
            headers.append(SET_COOKIE, cookie);
        }
        response
    }

    fn empty(status: StatusCode, content_type: &'static str, cache: &'static str) -> Self {
        let headers =
            [(CONTENT_TYPE, HeaderValue::from_static(content_type)), (CACHE_CONTROL, HeaderValue::from_static(cache))];
        Self {
            status,
            headers: headers.into_iter().collect(),
            cookies: Vec::new(),
            form_action: "'self'".to_owned(),
            body: Bytes::new(),
        }
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

/// On every answer, whatever it is.
const ALWAYS: [(HeaderName, &str); 5] = [
    (X_FRAME_OPTIONS, "DENY"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

const fn status(problem: Problem) -> StatusCode {
    match problem {
        Problem::BadAnswer | Problem::Used => StatusCode::BAD_REQUEST,
        Problem::Forged | Problem::OtherBrowser | Problem::OtherPerson => StatusCode::FORBIDDEN,
        Problem::NoWayBack => StatusCode::CONFLICT,
        Problem::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Problem::LongAddress => StatusCode::URI_TOO_LONG,
        Problem::LongForm => StatusCode::PAYLOAD_TOO_LARGE,
        Problem::Missing => StatusCode::NOT_FOUND,
        Problem::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::assets::{MARK, STYLESHEET};

    const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

    fn every_kind() -> Vec<(String, Answer)> {
        let id: ConnectId = "cn_x".parse().unwrap();
        let mut answers = vec![
            ("page".to_owned(), Answer::html(StatusCode::OK, "<p>".to_owned())),
            ("misdirected".to_owned(), Answer::misdirected()),
            ("wrong method".to_owned(), Answer::wrong_method("POST")),
            ("stylesheet".to_owned(), Answer::asset(&STYLESHEET, "")),
            ("mark".to_owned(), Answer::asset(&MARK, "v=x")),
            ("to the session".to_owned(), Answer::to_session(&id)),
            ("to the provider".to_owned(), Answer::see_other("https://p.example/authorize?a=b")),
            ("to nowhere".to_owned(), Answer::see_other("/\r\nSet-Cookie: a=b")),
        ];
        for problem in Problem::ALL {
            answers.push((format!("{problem:?}"), Answer::problem(problem)));
            answers.push((format!("{problem:?}, moving on"), Answer::problem_moving_on(problem)));
        }
        answers
    }

    #[test]
    fn every_answer_has_the_headers_that_keep_a_browser_safe() {
        for (kind, answer) in every_kind() {
            let response = answer.into_response(false);
            let header = |name: &str| response.headers().get(name).map_or("", |value| value.to_str().unwrap());
            for (name, expected) in [
                ("content-security-policy", POLICY),
                ("x-frame-options", "DENY"),
                ("x-content-type-options", "nosniff"),
                ("referrer-policy", "no-referrer"),
                ("cross-origin-opener-policy", "same-origin"),
                ("cross-origin-resource-policy", "same-origin"),
            ] {
                assert_eq!(header(name), expected, "{kind}");
            }
            assert!(header("content-type").contains('/'), "{kind}");
            let names: Vec<_> = response.headers().keys().map(HeaderName::as_str).collect();
            assert!(!names.iter().any(|name| name.starts_with("access-control-")), "{kind}");
            if header("content-type").starts_with("text/html") {
                assert_eq!(header("cache-control"), "no-store", "{kind}");
            }
            assert!(!matches!(response.status().as_u16(), 307 | 308), "{kind}");
        }
    }

    #[test]
    fn each_problem_has_the_status_that_says_whose_turn_it_is() {
        for (problem, expected) in [
            (Problem::BadAnswer, 400),
            (Problem::Used, 400),
            (Problem::NoWayBack, 409),
            (Problem::Forged, 403),
            (Problem::OtherBrowser, 403),
            (Problem::OtherPerson, 403),
            (Problem::Missing, 404),
            (Problem::WrongMethod, 405),
            (Problem::LongForm, 413),
            (Problem::LongAddress, 414),
            (Problem::Internal, 500),
        ] {
            assert_eq!(Answer::problem(problem).into_response(false).status(), expected);
        }
        assert_eq!(Answer::misdirected().into_response(false).status(), 421);
    }

    #[test]
    fn a_problem_at_the_callback_leads_to_an_address_without_the_answer() {
        let body = Answer::problem_moving_on(Problem::Used).into_response(false).into_body();
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert!(body.contains(r#"<meta http-equiv="refresh" content="0;url=/stopped/used">"#));
    }

    #[test]
    fn only_the_page_with_the_button_lets_a_form_leave() {
        for (authorize, form_action) in [
            ("https://p.example/authorize", "form-action 'self' https:;"),
            ("http://127.0.0.1:9000/authorize", "form-action 'self' https: http://127.0.0.1:9000;"),
            ("http://[::1]:9000/authorize", "form-action 'self' https: http:;"),
        ] {
            let page = Answer::html(StatusCode::OK, String::new()).leading_to(&authorize.parse().unwrap());
            let response = page.into_response(false);
            let policy = response.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap();
            assert!(policy.contains(form_action), "{policy}");
        }
    }

    #[test]
    fn only_what_is_asked_for_by_its_version_is_kept_for_ever() {
        let cache =
            |query: &str| Answer::asset(&STYLESHEET, query).into_response(false).headers()[CACHE_CONTROL].clone();
        assert_eq!(cache(&format!("v={}", STYLESHEET.version())), "public, max-age=31536000, immutable");
        assert_eq!(cache("v=old"), "no-cache");
    }

    #[test]
    fn a_cookie_that_cannot_be_written_is_not_left_out_silently() {
        let answer = Answer::html(StatusCode::OK, String::new()).with_cookie(Cookie::person("a;b".to_owned()));
        assert_eq!(answer.into_response(false).status(), 500);
        let answer = Answer::html(StatusCode::OK, String::new()).with_cookie(Cookie::person("ab".to_owned()));
        assert!(answer.into_response(true).headers()[SET_COOKIE].to_str().unwrap().ends_with("; Secure"));
    }
}
