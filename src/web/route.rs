//! Which page a method and a path mean, without asking anybody.

use http::Method;

use crate::model::id::{ConnectId, ProviderId};
use crate::web::assets::{Asset, MARK, STYLESHEET};
use crate::web::pages::Problem;

/// What is asked for.
#[derive(Debug)]
pub(crate) enum Route {
    Home,
    Asset(Asset),
    Stopped(Problem),
    Callback(ProviderId),
    Connect(ConnectId),
    Press(Button, ConnectId),
}

/// A button on the page of a connect session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Button {
    Confirm,
    Decline,
    Start,
}

/// Why there is no such route.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Miss {
    Missing,
    /// With what the `Allow` header says (RFC 9110 section 10.2.1).
    WrongMethod(&'static str),
}

impl Route {
    /// Paths are compared as they came: an escaped or a doubled slash is another path, and so is one more at the end.
    pub(crate) fn find(method: &Method, path: &str) -> Result<Self, Miss> {
        let route = Self::at(path).ok_or(Miss::Missing)?;
        let allowed = route.methods();
        if allowed.split(", ").any(|allowed| allowed == method.as_str()) {
            Ok(route)
        } else {
            Err(Miss::WrongMethod(allowed))
        }
    }

    fn at(path: &str) -> Option<Self> {
        if let Some(problem) = Problem::ALL.into_iter().find(|problem| problem.path() == path) {
            return Some(Self::Stopped(problem));
        }
        let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        Some(match segments[..] {
            [""] => Self::Home,
            ["assets", "grantd.css"] => Self::Asset(STYLESHEET),
            ["assets", "mark.svg"] | ["favicon.ico"] => Self::Asset(MARK),
            ["callback", provider] => Self::Callback(provider.parse().ok()?),
            ["connect", id] => Self::Connect(id.parse().ok()?),
            ["connect", id, "confirm"] => Self::Press(Button::Confirm, id.parse().ok()?),
            ["connect", id, "decline"] => Self::Press(Button::Decline, id.parse().ok()?),
            ["connect", id, "start"] => Self::Press(Button::Start, id.parse().ok()?),
            _ => return None,
        })
    }

    /// `HEAD` is answered only where `GET` changes nothing: a callback and a ticket count once.
    const fn methods(&self) -> &'static str {
        match self {
            Self::Home | Self::Asset(_) | Self::Stopped(_) => "GET, HEAD",
            Self::Callback(_) | Self::Connect(_) => "GET",
            Self::Press(..) => "POST",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_leads_where_it_says() {
        let id = "cn_AAAAAAAAAAAAAAAAAAAAAA";
        for (method, path, found) in [
            ("GET", "/".to_owned(), "Home"),
            ("HEAD", "/".to_owned(), "Home"),
            ("GET", "/assets/grantd.css".to_owned(), "Asset"),
            ("GET", "/favicon.ico".to_owned(), "Asset"),
            ("GET", "/stopped/used".to_owned(), "Stopped(Used)"),
            ("GET", "/callback/github-work".to_owned(), "Callback"),
            ("GET", format!("/connect/{id}"), "Connect"),
            ("POST", format!("/connect/{id}/start"), "Press(Start"),
            ("POST", format!("/connect/{id}/confirm"), "Press(Confirm"),
            ("POST", format!("/connect/{id}/decline"), "Press(Decline"),
        ] {
            let route = format!("{:?}", Route::find(&method.parse().unwrap(), &path).unwrap());
            assert!(route.starts_with(found), "{path}: {route}");
        }
    }

    #[test]
    fn a_wrong_method_is_told_the_right_one_and_nothing_is_done() {
        for (method, path, allowed) in [
            ("POST", "/", "GET, HEAD"),
            ("HEAD", "/callback/github", "GET"),
            ("HEAD", "/connect/cn_x", "GET"),
            ("POST", "/connect/cn_x", "GET"),
            ("GET", "/connect/cn_x/start", "POST"),
            ("OPTIONS", "/connect/cn_x/start", "POST"),
            ("get", "/", "GET, HEAD"),
        ] {
            let miss = Route::find(&method.parse().unwrap(), path).unwrap_err();
            assert_eq!(miss, Miss::WrongMethod(allowed), "{method} {path}");
        }
    }

    #[test]
    fn what_merely_looks_like_a_path_of_ours_is_not_there() {
        for path in [
            "",
            "*",
            "//",
            "/connect",
            "/connect/",
            "/connect/cx_x",
            "/connect/cn_",
            "/connect/cn_x/",
            "/connect//cn_x",
            "/connect/cn_x%2fstart",
            "/connect/cn_x/../cn_y",
            "/callback/GitHub",
            "/callback/github/",
            "/assets/../Cargo.toml",
            "/stopped/",
            "/stopped/<b>",
        ] {
            assert_eq!(Route::find(&Method::GET, path).unwrap_err(), Miss::Missing, "{path}");
        }
    }
}
