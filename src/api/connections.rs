//! `/v1/connections`: list, show, disconnect.

use std::sync::Arc;

use http::Method;
use warp::Filter;
use warp::reject::Rejection;
use warp::reply::Response;

use crate::api::input::Invalid;
use crate::api::peer::Asker;
use crate::api::problem::Problem;
use crate::api::wire::{ConnectionBody, ConnectionsBody, DisconnectBody, SlotBody};
use crate::api::{asker, known, query, query_value, reply};
use crate::broker::Broker;
use crate::broker::disconnect::Upstream;
use crate::broker::error::BrokerError;
use crate::broker::look::Look;
use crate::model::connection::State;
use crate::model::id::ConnectionId;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::store::records::{Grant, StoredConnection};

pub(super) fn routes(broker: Arc<Broker>) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone {
    let other = Arc::clone(&broker);
    let all = warp::path!("v1" / "connections").and(warp::method()).and(asker()).and(query()).then(
        move |method, asker, query: String| {
            let broker = Arc::clone(&broker);
            async move {
                match method {
                    Method::GET | Method::HEAD => reply::answer(list(&broker, asker, &query).await),
                    _ => Problem::method_not_allowed("GET, HEAD").into_response(),
                }
            }
        },
    );
    let one = warp::path!("v1" / "connections" / ConnectionId).and(warp::method()).and(asker()).then(
        move |id: ConnectionId, method, asker| {
            let broker = Arc::clone(&other);
            async move {
                match method {
                    Method::GET | Method::HEAD => reply::answer(show(&broker, &id, asker).await),
                    Method::DELETE => reply::answer(disconnect(&broker, id, asker).await),
                    _ => Problem::method_not_allowed("GET, HEAD, DELETE").into_response(),
                }
            }
        },
    );
    all.or(one).unify()
}

async fn list(broker: &Arc<Broker>, asker: Option<Asker>, query: &str) -> Result<ConnectionsBody, Problem> {
    let asker = known(asker)?;
    let everybody = everybody(query)?;
    let listed = broker.connections(&asker.caller, everybody).await;
    let looks = listed.map_err(|error| Problem::from_broker(error, &broker.registry()))?;
    let hold = broker.standing_hold().await;
    let hold = hold.map_err(|error| Problem::from_broker(error, &broker.registry()))?;
    let admin = asker.caller.admin;
    Ok(ConnectionsBody {
        connections: looks.iter().map(|look| connection(look, admin)).collect(),
        held: hold.map(|hold| hold.why.as_str().into()),
    })
}

async fn show(broker: &Arc<Broker>, id: &ConnectionId, asker: Option<Asker>) -> Result<ConnectionBody, Problem> {
    let asker = known(asker)?;
    match broker.connection(&asker.caller, id).await {
        Ok(look) => Ok(connection(&look, asker.caller.admin)),
        Err(error) => Err(Problem::from_broker(error, &broker.registry())),
    }
}

async fn disconnect(broker: &Arc<Broker>, id: ConnectionId, asker: Option<Asker>) -> Result<DisconnectBody, Problem> {
    let asker = known(asker)?;
    let fail = |error: BrokerError| Problem::from_broker(error, &broker.registry());
    // Read first: afterwards nobody can say at which provider it was.
    let stored = broker.connection(&asker.caller, &id).await.map_err(fail)?.stored;
    let upstream = broker.disconnect(&asker.caller, &id).await.map_err(fail)?;
    let registry = broker.registry();
    let configured = registry.providers.get(&stored.connection.provider);
    let manual_url = configured.and_then(|configured| configured.provider.revoke_manual_url.clone());
    Ok(DisconnectBody {
        connection: id,
        upstream: word(upstream).into(),
        manual_url: manual_url.filter(|_| upstream != Upstream::Revoked),
    })
}

const fn word(upstream: Upstream) -> &'static str {
    match upstream {
        Upstream::Revoked => "revoked",
        Upstream::ByHand => "by_hand",
        Upstream::Pending => "pending",
    }
}

fn everybody(query: &str) -> Result<bool, Invalid> {
    match query_value(query, "all").as_deref() {
        None | Some("false" | "0") => Ok(false),
        Some("true" | "1" | "") => Ok(true),
        Some(_) => Err(Invalid::field("all", "must be `true` or `false`")),
    }
}

fn connection(look: &Look, admin: bool) -> ConnectionBody {
    let StoredConnection { connection, grants } = &look.stored;
    let granted = grants.iter().fold(ScopeSet::default(), |all, grant| all.union(&grant.content.scopes));
    let reason = match &connection.state {
        State::NeedsReconnect(reason) => Some(reason.as_str().into()),
        State::Active | State::RefreshFailed | State::Revoked => None,
    };
    ConnectionBody {
        id: connection.id.clone(),
        provider: connection.provider.clone(),
        account: connection.account.clone(),
        state: connection.state.as_str().into(),
        reason,
        scopes: granted,
        slots: grants.iter().map(slot).collect(),
        created_at: connection.created_at.as_secs(),
        confirmed_at: connection.confirmed_at.as_secs(),
        used_at: connection.used_at.map(Timestamp::as_secs),
        needs_person_at: look.forecast.map(|forecast| forecast.at.as_secs()),
        needs_person_because: look.forecast.map(|forecast| forecast.why.as_str().into()),
        subject: admin.then(|| connection.subject.clone()),
    }
}

fn slot(grant: &Grant) -> SlotBody {
    let content = &grant.content;
    SlotBody {
        slot: grant.slot.clone(),
        scope: content.scopes.to_string(),
        expires_at: content.expires_at.map(|at| at.as_secs()),
        refresh_expires_at: content.refresh_expires_at.map(|at| at.as_secs()),
        renew_at: content.renew_at.map(|at| at.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_asked_for_in_so_many_words() {
        for (query, expected) in [
            ("", Some(false)),
            ("all", Some(true)),
            ("all=true", Some(true)),
            ("all=false", Some(false)),
            ("all=yes", None),
        ] {
            assert_eq!(everybody(query).ok(), expected, "{query}");
        }
    }
}
