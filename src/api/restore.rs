//! `/v1/restore`: whether the store may be an old copy, and an administrator's word that it is to be used as it is.

use std::sync::Arc;

use http::Method;
use warp::Filter;
use warp::reject::Rejection;
use warp::reply::Response;

use crate::api::peer::Asker;
use crate::api::problem::Problem;
use crate::api::wire::{RestoreBody, RestoreState};
use crate::api::{asker, known, reply};
use crate::broker::Broker;
use crate::broker::restore::Held;

pub(super) fn routes(broker: Arc<Broker>) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone {
    let other = Arc::clone(&broker);
    let shown = warp::path!("v1" / "restore").and(warp::method()).and(asker()).then(move |method, asker| {
        let broker = Arc::clone(&broker);
        async move {
            match method {
                Method::GET | Method::HEAD => reply::answer(show(&broker, asker).await),
                _ => Problem::method_not_allowed("GET, HEAD").into_response(),
            }
        }
    });
    let accepted =
        warp::path!("v1" / "restore" / "accept").and(warp::method()).and(asker()).then(move |method, asker| {
            let broker = Arc::clone(&other);
            async move {
                match method {
                    Method::POST => reply::answer(accept(&broker, asker).await),
                    _ => Problem::method_not_allowed("POST").into_response(),
                }
            }
        });
    shown.or(accepted).unify()
}

async fn show(broker: &Broker, asker: Option<Asker>) -> Result<RestoreBody, Problem> {
    let held = broker.held(&known(asker)?.caller).await;
    let held = held.map_err(|error| Problem::from_broker(error, &broker.registry()))?;
    Ok(body(held, RestoreState::Held))
}

async fn accept(broker: &Broker, asker: Option<Asker>) -> Result<RestoreBody, Problem> {
    let held = broker.accept_restore(&known(asker)?.caller).await;
    let held = held.map_err(|error| Problem::from_broker(error, &broker.registry()))?;
    Ok(body(held, RestoreState::Accepted))
}

fn body(held: Option<Held>, state: RestoreState) -> RestoreBody {
    let Some(Held { hold, connections, more }) = held else { return RestoreBody::default() };
    RestoreBody {
        state,
        reason: Some(hold.why.as_str().into()),
        description: Some(hold.why.sentence().into()),
        found_at: Some(hold.found_at.as_secs()),
        issued_before: Some(hold.before.as_secs()),
        connections: Some(connections),
        more: Some(more),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use http::Request;
    use tower_service::Service;

    use super::*;
    use crate::broker::Parts;
    use crate::broker::audit::AuditParts;
    use crate::broker::registry::Registry;
    use crate::clock::SystemClock;
    use crate::egress::Egress;
    use crate::model::caller::Peer;
    use crate::model::id::InstanceId;
    use crate::model::time::Timestamp;
    use crate::seal::Keyring;
    use crate::store::journal::Journal;
    use crate::store::memory::MemoryStore;
    use crate::store::records::{Hold, HoldReason};
    use crate::store::spool::Spool;

    fn held_broker() -> Arc<Broker> {
        let store = MemoryStore::new();
        let at = Timestamp::from_secs(1_800_000_000);
        store.put_on_hold(Hold { before: at, found_at: at, why: HoldReason::Older });
        Broker::new(Parts {
            registry: Registry {
                web_url: "http://localhost:8717".parse().unwrap(),
                providers: BTreeMap::new(),
                callers: Arc::default(),
            },
            store: Arc::new(store),
            keyring: Keyring::create(&InstanceId::random()),
            clock: Arc::new(SystemClock),
            egress: Egress::open().unwrap(),
            spool: Spool::open(tempfile::tempdir().unwrap().path()).unwrap(),
            audit: AuditParts {
                journal: Journal::open(&tempfile::tempdir().unwrap().path().join("db")).unwrap(),
                keep: Duration::from_secs(86_400),
                copy: false,
            },
            cache_entries: 1,
            open_sessions: 1,
        })
    }

    #[tokio::test]
    async fn only_an_administrator_sees_and_accepts() {
        let broker = held_broker();
        let mut api = warp::service(routes(Arc::clone(&broker)));
        for (uid, method, path, status) in [
            (1000, "GET", "/v1/restore", 403),
            (1000, "POST", "/v1/restore/accept", 403),
            (0, "GET", "/v1/restore", 200),
            (0, "DELETE", "/v1/restore", 405),
            (0, "GET", "/v1/restore/accept", 405),
        ] {
            let asker = Asker::new(Peer { uid, gid: uid, pid: None }, 0).unwrap();
            let request = Request::builder().method(method).uri(path).extension(asker).body(String::new()).unwrap();
            assert_eq!(api.call(request).await.unwrap().status().as_u16(), status, "{uid} {method} {path}");
        }
        assert!(broker.standing_hold().await.unwrap().is_some(), "nothing was released");
    }

    #[tokio::test]
    async fn accepting_once_is_enough_and_twice_is_harmless() {
        let broker = held_broker();
        let asker = || Some(Asker::new(Peer { uid: 0, gid: 0, pid: None }, 0).unwrap());
        assert_eq!(show(&broker, asker()).await.unwrap().state, RestoreState::Held);
        assert_eq!(accept(&broker, asker()).await.unwrap().state, RestoreState::Accepted);
        assert_eq!(accept(&broker, asker()).await.unwrap().state, RestoreState::None);
        assert_eq!(show(&broker, asker()).await.unwrap().state, RestoreState::None);
    }
}
