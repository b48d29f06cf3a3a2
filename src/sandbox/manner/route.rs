//! Where the endpoints of a manner are: a method, a path that may hold `{name}`, and what answers there.

use std::borrow::Cow;

use http::Method;

use crate::sandbox::fault::Endpoint;

/// What answers at a place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::sandbox) enum Spot {
    /// Authorization endpoint.
    Authorize,
    /// Where the consent form goes.
    Consent,
    /// Token endpoint.
    Token,
    /// Revocation endpoint.
    Revoke,
    /// A resource that tells whose token it is.
    Account,
    /// The key set.
    Jwks,
    /// A discovery document.
    Metadata,
    /// Device authorization endpoint.
    Device,
    /// Where a person enters the code of a device.
    DevicePage,
}

/// One place.
#[derive(Clone, Debug)]
pub(in crate::sandbox) struct Route {
    /// What people call it.
    pub(in crate::sandbox) name: &'static str,
    /// The only method it has; `None` leaves that to the endpoint.
    pub(in crate::sandbox) method: Option<Method>,
    /// Its path. A segment `{name}` stands for any one segment.
    pub(in crate::sandbox) path: Cow<'static, str>,
    /// What answers.
    pub(in crate::sandbox) spot: Spot,
}

/// The values of the `{name}` segments of a path.
pub(in crate::sandbox) type Captured = Vec<(String, String)>;

impl Spot {
    /// Which endpoint it is, as far as faults go.
    pub(in crate::sandbox) const fn endpoint(self) -> Option<Endpoint> {
        match self {
            Self::Authorize | Self::Consent => Some(Endpoint::Authorize),
            Self::Token => Some(Endpoint::Token),
            Self::Revoke => Some(Endpoint::Revoke),
            Self::Account => Some(Endpoint::Userinfo),
            Self::Jwks => Some(Endpoint::Jwks),
            Self::Device => Some(Endpoint::Device),
            Self::Metadata | Self::DevicePage => None,
        }
    }
}

impl Route {
    /// A place that looks at the method itself.
    pub(in crate::sandbox) fn at(name: &'static str, path: impl Into<Cow<'static, str>>, spot: Spot) -> Self {
        Self { name, method: None, path: path.into(), spot }
    }

    /// The same place for one method only.
    pub(in crate::sandbox) fn only(self, method: Method) -> Self {
        Self { method: Some(method), ..self }
    }

    fn matches(&self, method: &Method, path: &str) -> Option<Captured> {
        if self.method.as_ref().is_some_and(|only| only != method) {
            return None;
        }
        let mut captured = Captured::new();
        let mut segments = path.split('/');
        for expected in self.path.split('/') {
            let segment = segments.next()?;
            match expected.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                Some(name) if !segment.is_empty() => captured.push((name.to_owned(), segment.to_owned())),
                None if segment == expected => {}
                Some(_) | None => return None,
            }
        }
        segments.next().is_none().then_some(captured)
    }
}

/// The first place that is meant by a request.
pub(in crate::sandbox) fn find(routes: &[Route], method: &Method, path: &str) -> Option<(Spot, Captured)> {
    routes.iter().find_map(|route| Some((route.spot, route.matches(method, path)?)))
}

/// The path of a place without `{name}` in it.
pub(in crate::sandbox) fn path_of(routes: &[Route], spot: Spot) -> &str {
    routes.iter().find(|route| route.spot == spot).map_or("/", |route| &route.path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_for_one_segment_and_a_method_for_itself() {
        let routes = [
            Route::at("revoke", "/applications/{client_id}/token", Spot::Revoke).only(Method::DELETE),
            Route::at("token", "/{tenant}/oauth2/v2.0/token", Spot::Token),
        ];
        let found = |method: Method, path| find(&routes, &method, path);
        let captured = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        assert_eq!(
            found(Method::DELETE, "/applications/a%20b/token"),
            Some((Spot::Revoke, captured("client_id", "a%20b")))
        );
        assert_eq!(found(Method::POST, "/common/oauth2/v2.0/token"), Some((Spot::Token, captured("tenant", "common"))));
        for (method, path) in [
            (Method::POST, "/applications/a/token"),
            (Method::DELETE, "/applications//token"),
            (Method::DELETE, "/applications/a/token/"),
            (Method::DELETE, "/applications/a/b/token"),
            (Method::POST, "/oauth2/v2.0/token"),
            (Method::POST, "/"),
        ] {
            assert_eq!(found(method, path), None, "{path}");
        }
    }
}
