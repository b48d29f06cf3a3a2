//! Which client is asking, and whether it can prove it (RFC 6749 section 2.3).

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use subtle::ConstantTimeEq;

use crate::model::secret::ClientSecret;
use crate::sandbox::machine::{Machine, Refusal, State};
use crate::sandbox::options::{DeviceSecret, SandboxClient};
use crate::sandbox::params::Params;

/// How a client names itself and proves it.
#[derive(Debug)]
pub(in crate::sandbox) struct Credentials {
    id: String,
    secret: Option<ClientSecret>,
}

impl Credentials {
    /// Reads `client_secret_basic`, `client_secret_post` or `none`; more than one method in a request is refused.
    pub(in crate::sandbox) fn read(headers: &HeaderMap, params: &Params) -> Result<Self, Refusal> {
        let in_body = params.get("client_id");
        let Some(header) = headers.get(AUTHORIZATION) else {
            return Ok(Self {
                id: in_body.ok_or(Refusal::Client)?.to_owned(),
                secret: params.get("client_secret").map(parse_secret).transpose()?,
            });
        };
        if params.get("client_secret").is_some() || headers.get_all(AUTHORIZATION).iter().count() > 1 {
            return Err(Refusal::Request("more than one way of client authentication"));
        }
        let (id, secret) = basic(header.as_bytes()).ok_or(Refusal::Client)?;
        if in_body.is_some_and(|other| other != id) {
            return Err(Refusal::Request("client_id differs from the one in the Authorization header"));
        }
        Ok(Self { id, secret: Some(parse_secret(&secret)?) })
    }

    /// Whether a secret was sent.
    pub(in crate::sandbox) const fn has_secret(&self) -> bool {
        self.secret.is_some()
    }

    /// Whether this is the client that a part of a path names.
    pub(in crate::sandbox) fn is(&self, encoded: &str) -> bool {
        // In a path a plus is a plus.
        form_decode(&encoded.replace('+', "%2B")).is_some_and(|name| name == self.id)
    }
}

impl Machine {
    /// The secret of a client, for who has to know it besides them.
    pub(in crate::sandbox) fn secret_of(&self, client: &str) -> Option<ClientSecret> {
        let state = self.state();
        let secret = state.client(client)?.secret.as_ref()?.expose().to_owned();
        ClientSecret::new(secret).ok()
    }
}

impl State {
    pub(super) fn client(&self, id: &str) -> Option<&SandboxClient> {
        self.options.clients.iter().find(|client| *client.id == *id)
    }

    /// The client, if it is who it says.
    pub(super) fn authenticate(&self, credentials: &Credentials) -> Result<Arc<str>, Refusal> {
        let client = self.client(&credentials.id).ok_or(Refusal::NoClient)?;
        let proved = match (&client.secret, &credentials.secret) {
            (None, None) => true,
            (Some(expected), Some(given)) => expected.expose().as_bytes().ct_eq(given.expose().as_bytes()).into(),
            (None, Some(_)) => return Err(Refusal::PublicSecret),
            (Some(_), None) => return Err(Refusal::NoSecret),
        };
        if proved { Ok(Arc::clone(&client.id)) } else { Err(Refusal::Client) }
    }
}

impl State {
    /// As [`authenticate`](Self::authenticate), in a request of the device flow, or for what came of it, that asks for the secret
    /// from this strictness on. Below it a client may leave the secret out.
    pub(super) fn authenticate_device(&self, sent: &Credentials, from: DeviceSecret) -> Result<Arc<str>, Refusal> {
        if self.options.device_secret == DeviceSecret::Refused && sent.secret.is_some() {
            return Err(Refusal::PublicSecret);
        }
        if self.options.device_secret >= from || sent.secret.is_some() {
            return self.authenticate(sent);
        }
        self.client(&sent.id).map(|client| Arc::clone(&client.id)).ok_or(Refusal::NoClient)
    }
}

fn parse_secret(text: &str) -> Result<ClientSecret, Refusal> {
    ClientSecret::new(text).map_err(|_| Refusal::Client)
}

/// Id and secret are form-encoded before they are joined (RFC 6749 section 2.3.1).
fn basic(header: &[u8]) -> Option<(String, String)> {
    let (scheme, encoded) = std::str::from_utf8(header).ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let joined = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = joined.split_once(':')?;
    Some((form_decode(id)?, form_decode(secret)?))
}

fn form_decode(text: &str) -> Option<String> {
    let mut pairs = url::form_urlencoded::parse(text.as_bytes());
    let (value, _) = pairs.next().unwrap_or_default();
    // `&` and `=` cannot stand in an encoded value; if they do, this is not one.
    let whole = pairs.next().is_none() && !text.contains(['&', '=']);
    whole.then(|| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, format!("Basic {}", STANDARD.encode(text)).parse().unwrap())])
    }

    #[test]
    fn basic_credentials_are_form_decoded() {
        let found = Credentials::read(&header("a%3Ab:p%25+q%3D"), &Params::parse(b"")).unwrap();
        assert_eq!((found.id.as_str(), found.secret.unwrap().expose()), ("a:b", "p% q="));
    }

    #[test]
    fn two_ways_of_authentication_in_one_request_are_refused() {
        let body = Params::parse(b"client_id=a&client_secret=s");
        assert!(matches!(Credentials::read(&header("a:s"), &body), Err(Refusal::Request(_))));
        let other = Params::parse(b"client_id=b");
        assert!(matches!(Credentials::read(&header("a:s"), &other), Err(Refusal::Request(_))));
        let mut twice = header("a:s");
        twice.append(AUTHORIZATION, twice[AUTHORIZATION].clone());
        assert!(matches!(Credentials::read(&twice, &Params::parse(b"")), Err(Refusal::Request(_))));
        let same = Params::parse(b"client_id=a");
        assert!(Credentials::read(&header("a:s"), &same).is_ok());
    }

    #[test]
    fn broken_headers_name_no_client() {
        for bad in ["Basic", "Basic !!!", "Bearer YTpi", "Basic YQ=="] {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, bad.parse().unwrap())]);
            let found = Credentials::read(&headers, &Params::parse(b""));
            assert_eq!(found.unwrap_err(), Refusal::Client, "{bad}");
        }
    }
}
