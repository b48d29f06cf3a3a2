//! Listens on loopback and serves the pages: never another port, never another address, and never more than it can hold.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::{Host, Url};

use crate::broker::Broker;
use crate::tls::Tls;
use crate::web::conversation::{self, Patience};
use crate::web::gate::{Site, is_loopback};
use crate::web::handler::{Connection, Handler};
use crate::web::handshake;
use crate::web::service::{Gate, routes};

/// How many connections are served at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 256;
/// How long to wait when the system has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Why the pages cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address is not on this machine (RFC 9700 section 2.6).
    #[error(
        "the pages are served on this machine only: expected `http://localhost:PORT` or `https://localhost:PORT`, not `{0}`"
    )]
    Address(Url),
    /// Another program has the port. There is no second choice: providers know the redirect URI with this one.
    #[error(
        "port {} is taken: another program listens on {address}; stop it, or configure another port and register the new redirect URIs",
        .address.port()
    )]
    Busy {
        /// Where.
        address: SocketAddr,
    },
    /// The system refuses for another reason.
    #[error("cannot listen on {address}: {source}")]
    Refused {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// Listens where `web_url` says. `localhost` means 127.0.0.1 and `[::1]`, because browsers choose either; a machine without
/// IPv6 does without. Must be called within a tokio runtime.
///
/// # Errors
/// See [`BindError`]. A port that is taken on one of the two addresses is an error too: whoever has it would be sent
/// half of our visitors.
pub fn bind(web_url: &Url) -> Result<Vec<TcpListener>, BindError> {
    let wrong = || BindError::Address(web_url.clone());
    let port = web_url.port_or_known_default().ok_or_else(wrong)?;
    if !matches!(web_url.scheme(), "http" | "https") || !is_loopback(web_url) {
        return Err(wrong());
    }
    match web_url.host().ok_or_else(wrong)? {
        Host::Ipv4(ip) => Ok(vec![listen((ip, port).into())?]),
        Host::Ipv6(ip) => Ok(vec![listen((ip, port).into())?]),
        Host::Domain(_) => {
            let mut listeners = vec![listen((Ipv4Addr::LOCALHOST, port).into())?];
            match listen((IpAddr::V6(Ipv6Addr::LOCALHOST), port).into()) {
                Ok(listener) => listeners.push(listener),
                Err(BindError::Refused { source, .. }) if has_no_ipv6(&source) => {}
                Err(error) => return Err(error),
            }
            Ok(listeners)
        }
    }
}

/// Serves the pages until `shutdown`, then ends what is under way and returns. `tls` is there where `web_url` is https.
pub async fn serve(
    listeners: Vec<TcpListener>,
    broker: Arc<Broker>,
    web_url: Url,
    tls: Option<Arc<Tls>>,
    shutdown: CancellationToken,
) {
    let site = Site::of(&web_url);
    let server = Arc::new(Server {
        site: Arc::new(site.clone()),
        handler: Arc::new(Handler::new(broker, site)),
        tls,
        places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        connections: TaskTracker::new(),
        shutdown,
    });
    let loops = TaskTracker::new();
    for listener in listeners {
        loops.spawn(Arc::clone(&server).accept(listener));
    }
    loops.close();
    loops.wait().await;
    server.connections.close();
    server.connections.wait().await;
    server.handler.drained().await;
}

struct Server {
    site: Arc<Site>,
    handler: Arc<Handler>,
    tls: Option<Arc<Tls>>,
    places: Arc<Semaphore>,
    connections: TaskTracker,
    shutdown: CancellationToken,
}

impl Server {
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        loop {
            let next = async {
                let place = Arc::clone(&self.places).acquire_owned().await;
                (place, listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                next = next => next,
                () = self.shutdown.cancelled() => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let server = Arc::clone(&self);
                    self.connections.spawn(async move {
                        server.converse(stream, peer).await;
                        drop(place);
                    });
                }
                // A browser that has gone is nothing; a system without descriptors needs time.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!(%error, "the pages cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn converse(&self, stream: TcpStream, peer: SocketAddr) {
        let Ok(local) = stream.local_addr() else { return };
        let gate = Gate {
            inner: warp::service(routes(Arc::clone(&self.handler))),
            site: Arc::clone(&self.site),
            connection: Arc::new(Connection::new(peer, local)),
        };
        let Some(tls) = &self.tls else {
            return conversation::hold(stream, gate, Patience::USUAL, &self.shutdown).await;
        };
        let shaken = tokio::select! {
            shaken = handshake::accept(tls, stream, self.site.origin(), handshake::DEADLINE) => shaken,
            () = self.shutdown.cancelled() => None,
        };
        if let Some(stream) = shaken {
            conversation::hold(stream, gate, Patience::USUAL, &self.shutdown).await;
        }
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener, BindError> {
    let bound = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    });
    bound.map_err(|source| match source.kind() {
        ErrorKind::AddrInUse => BindError::Busy { address },
        _ => BindError::Refused { address, source },
    })
}

fn has_no_ipv6(error: &std::io::Error) -> bool {
    let unsupported = rustix::io::Errno::AFNOSUPPORT.raw_os_error();
    error.kind() == ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(unsupported)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn nothing_but_this_machine_is_listened_on() {
        for address in [
            "ftp://localhost:8717",
            "https://grantd.example:8717",
            "http://example.org:8717",
            "http://0.0.0.0:8717",
            "http://[::]:8717",
            "http://192.168.1.2:8717",
            "http://localhost.example.org:8717",
        ] {
            assert!(matches!(bind(&url(address)), Err(BindError::Address(_))), "{address}");
        }
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_named_and_no_other_one_is_tried() {
        for taken in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(first) = std::net::TcpListener::bind(taken) else {
                continue;
            };
            let port = first.local_addr().unwrap().port();
            let error = bind(&url(&format!("http://localhost:{port}"))).unwrap_err();
            assert!(error.to_string().contains(&format!("port {port} is taken")), "{error}");
        }
    }

    #[tokio::test]
    async fn localhost_is_both_addresses_where_the_machine_has_both() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let has_ipv6 = std::net::TcpListener::bind("[::1]:0").is_ok();
        let listeners = bind(&url(&format!("http://localhost:{free}"))).unwrap();
        assert_eq!(listeners.len(), if has_ipv6 { 2 } else { 1 });
        assert!(listeners.iter().all(|listener| listener.local_addr().unwrap().port() == free));
    }
}
