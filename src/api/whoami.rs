//! `GET /v1/whoami`: who the caller is to the daemon.

use std::collections::BTreeMap;

use http::Method;
use warp::Filter;
use warp::reject::Rejection;
use warp::reply::Response;

use crate::api::peer::Asker;
use crate::api::problem::Problem;
use crate::api::wire::{AllowBody, PeerBody, WhoamiBody};
use crate::api::{asker, known, reply};
use crate::model::caller::Process;
use crate::model::id::{ProviderId, SlotName};
use crate::model::rule::{Ceiling, Rule};

pub(super) fn route() -> impl Filter<Extract = (Response,), Error = Rejection> + Clone {
    warp::path!("v1" / "whoami").and(warp::method()).and(asker()).map(|method, asker| match method {
        Method::GET | Method::HEAD => reply::answer(known(asker).map(describe)),
        _ => Problem::method_not_allowed("GET, HEAD").into_response(),
    })
}

fn describe(asker: Asker) -> WhoamiBody {
    let Asker { peer, caller, .. } = &asker;
    let units = match &asker.identity().process {
        Process::Seen { units, .. } => units.as_ref(),
        Process::Gone | Process::Untold => None,
    };
    let user = units.and_then(|units| units.user.as_ref()).filter(|user| user.uid == peer.uid);
    WhoamiBody {
        caller: caller.name.clone(),
        subject: caller.subject.clone(),
        admin: caller.admin,
        peer: PeerBody {
            uid: peer.uid,
            gid: peer.gid,
            pid: peer.pid,
            unit: units.map(|units| units.system.clone()),
            user_unit: user.map(|user| user.name.clone()),
        },
        allow: caller.rules.as_ref().map(|rules| rules.iter().map(allow).collect()),
    }
}

fn allow((provider, rule): (&ProviderId, &Rule)) -> AllowBody {
    let named = |ceiling: &Ceiling| match ceiling {
        Ceiling::Scopes { named, .. } => Some(named.clone()),
        Ceiling::Whole => None,
    };
    let slots = |ceilings: &BTreeMap<SlotName, Ceiling>| {
        ceilings.iter().map(|(slot, ceiling)| (slot.clone(), named(ceiling))).collect()
    };
    AllowBody {
        rule: rule.name.clone(),
        provider: provider.clone(),
        accounts: rule.accounts.clone(),
        slots: rule.ceilings.as_ref().map(slots),
        allow_broader: rule.allow_broader,
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use tower_service::Service;

    use super::*;
    use crate::model::caller::Peer;

    #[tokio::test]
    async fn only_reading_is_allowed_and_a_request_without_a_peer_is_our_fault() {
        let peer = Peer { uid: 1000, gid: 100, pid: None };
        let mut service = warp::service(route());
        for (method, asker, status) in [
            (Method::GET, Asker::new(peer, 0), 200),
            (Method::HEAD, Asker::new(peer, 0), 200),
            (Method::GET, None, 500),
            (Method::POST, Asker::new(peer, 0), 405),
        ] {
            let mut request = Request::builder().uri("/v1/whoami").method(method.clone()).body(String::new()).unwrap();
            if let Some(asker) = asker {
                request.extensions_mut().insert(asker);
            }
            let response = service.call(request).await.unwrap();
            assert_eq!(response.status().as_u16(), status, "{method}");
        }
    }
}
