//! `/v1/connections`: list, show, name, disconnect.

use std::sync::Arc;

use bytes::Buf;
use futures_util::Stream;
use http::Method;
use warp::Filter;
use warp::reject::Rejection;
use warp::reply::Response;

use crate::api::input::{Invalid, parse};
use crate::api::peer::Asker;
use crate::api::problem::Problem;
use crate::api::wire::{
    ConnectionBody, ConnectionsBody, DisconnectBody, FailureBody, NamingBody, PartedBody, SlotBody,
};
use crate::api::{asker, known, query, query_value, reply};
use crate::broker::Broker;
use crate::broker::disconnect::Disconnected;
use crate::broker::explain::Explained;
use crate::broker::look::Look;
use crate::broker::revocation::{Fate, Upstream};
use crate::model::connection::State;
use crate::model::id::{ConnectionId, SlotName};
use crate::model::label::Label;
use crate::model::provider::RevokeReach;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::store::records::{Extent, Grant, Naming, StoredConnection};

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
    let one = warp::path!("v1" / "connections" / ConnectionId)
        .and(warp::method())
        .and(asker())
        .and(query())
        .and(warp::body::stream())
        .then(move |id: ConnectionId, method, asker, query: String, body| {
            let broker = Arc::clone(&other);
            async move {
                match method {
                    Method::GET | Method::HEAD => reply::answer(show(&broker, &id, asker).await),
                    Method::DELETE => reply::answer(disconnect(&broker, id, asker, &query).await),
                    Method::PATCH => reply::answer(name(&broker, &id, asker, body).await),
                    _ => Problem::method_not_allowed("GET, HEAD, DELETE, PATCH").into_response(),
                }
            }
        });
    all.or(one).unify()
}

async fn list(broker: &Arc<Broker>, asker: Option<Asker>, query: &str) -> Result<ConnectionsBody, Problem> {
    let asker = known(asker)?;
    let everybody = flag(query, "all")?;
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

async fn name<S, B, E>(
    broker: &Arc<Broker>,
    id: &ConnectionId,
    asker: Option<Asker>,
    body: S,
) -> Result<ConnectionBody, Problem>
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
{
    let asker = known(asker)?;
    let naming = naming(parse(&reply::read(body).await?)?)?;
    match broker.name(&asker.caller, id, &naming).await {
        Ok(look) => Ok(connection(&look, asker.caller.admin)),
        Err(error) => Err(Problem::from_broker(error, &broker.registry())),
    }
}

fn naming(body: NamingBody) -> Result<Naming, Invalid> {
    let NamingBody { label, default } = body;
    if label.is_none() && default.is_none() {
        return Err(Invalid {
            field: None,
            why: "there is nothing to change: expected `label` or `default`".to_owned(),
        });
    }
    let read = |text: String| text.parse::<Label>().map_err(|error| Invalid::field("label", error.to_string()));
    let label = label.map(|label| label.map(read).transpose()).transpose()?;
    Ok(Naming { label, is_default: default })
}

async fn disconnect(
    broker: &Arc<Broker>,
    id: ConnectionId,
    asker: Option<Asker>,
    query: &str,
) -> Result<DisconnectBody, Problem> {
    let asker = known(asker)?;
    let extent = if flag(query, "wider")? { Extent::Wider } else { Extent::Alone };
    let ended = broker.disconnect(&asker.caller, &id, extent).await;
    ended.map(|ended| parted(id, ended)).map_err(|error| Problem::from_broker(error, &broker.registry()))
}

fn parted(connection: ConnectionId, ended: Disconnected) -> DisconnectBody {
    let Disconnected { parting, reach, manual_url, .. } = ended;
    let upstream = parting.upstream();
    let reach = reach.filter(|_| upstream == Upstream::Revoked);
    let is_all_gone = upstream == Upstream::Revoked && parting.wider.is_none_or(|wider| wider == Upstream::Revoked);
    DisconnectBody {
        connection,
        upstream: word(upstream).into(),
        reach: reach.map(|reach| reach.as_str().into()),
        slots: parting.fates.into_iter().map(slot_parted).collect(),
        wider: parting.wider.map(|wider| word(wider).into()),
        // What takes one token back leaves the app in the person's list.
        manual_url: manual_url.filter(|_| !is_all_gone || reach == Some(RevokeReach::Token)),
    }
}

fn slot_parted((slot, fate): (SlotName, Fate)) -> PartedBody {
    PartedBody { slot, upstream: word(fate.upstream()).into(), because: fate.as_str().into() }
}

const fn word(upstream: Upstream) -> &'static str {
    match upstream {
        Upstream::Revoked => "revoked",
        Upstream::ByHand => "by_hand",
        Upstream::Pending => "pending",
    }
}

/// A switch in the query; it is off unless it is said to be on.
fn flag(query: &str, name: &str) -> Result<bool, Invalid> {
    match query_value(query, name).as_deref() {
        None | Some("false" | "0") => Ok(false),
        Some("true" | "1" | "") => Ok(true),
        Some(_) => Err(Invalid::field(name, "must be `true` or `false`")),
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
        label: connection.label.as_ref().map(ToString::to_string),
        default: connection.is_default,
        state: connection.state.as_str().into(),
        reason,
        scopes: granted,
        slots: grants.iter().map(|grant| slot(grant, look.explained.get(&grant.slot), admin)).collect(),
        created_at: connection.created_at.as_secs(),
        confirmed_at: connection.confirmed_at.as_secs(),
        used_at: connection.used_at.map(Timestamp::as_secs),
        needs_person_at: look.forecast.map(|forecast| forecast.at.as_secs()),
        needs_person_because: look.forecast.map(|forecast| forecast.why.as_str().into()),
        subject: admin.then(|| connection.subject.clone()),
    }
}

fn slot(grant: &Grant, explained: Option<&Explained>, admin: bool) -> SlotBody {
    let content = &grant.content;
    SlotBody {
        slot: grant.slot.clone(),
        scope: content.scopes.to_string(),
        expires_at: content.expires_at.map(|at| at.as_secs()),
        refresh_expires_at: content.refresh_expires_at.map(|at| at.as_secs()),
        renew_at: content.renew_at.map(|at| at.as_secs()),
        last_failure: grant.last_failure.as_ref().filter(|_| admin).map(|class| FailureBody {
            class: class.clone().into(),
            number: explained.map(|explained| explained.number),
            explanation: explained.map(|explained| explained.sentence.clone()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::{TokenId, Version};
    use crate::seal::Sealed;
    use crate::store::records::{Ends, NewGrant};

    #[test]
    fn why_a_renewal_failed_is_told_to_administrators_in_our_words() {
        let content = NewGrant {
            token_id: TokenId::random(),
            access: Sealed::from_bytes(Vec::new()),
            refresh: None,
            scopes: ScopeSet::default(),
            issued_at: Timestamp::from_secs(0),
            expires_at: None,
            refresh_expires_at: None,
            renew_at: None,
            ends: Ends::default(),
        };
        let mut grant = Grant::new(SlotName::main(), Version::default(), content);
        let explained = Explained { number: 50173, sentence: "It was revoked.".to_owned() };
        let told =
            |grant: &Grant, admin| serde_json::to_value(slot(grant, Some(&explained), admin).last_failure).unwrap();
        assert!(told(&grant, true).is_null(), "nothing has failed");
        grant.last_failure = Some("rejected".to_owned());
        let whole = serde_json::json!({"class": "rejected", "number": 50173, "explanation": "It was revoked."});
        assert_eq!((told(&grant, true), told(&grant, false)), (whole, serde_json::Value::Null));
        let bare = serde_json::to_value(slot(&grant, None, true).last_failure).unwrap();
        assert_eq!(bare, serde_json::json!({"class": "rejected"}));
    }

    #[test]
    fn a_switch_is_set_in_so_many_words() {
        for (query, expected) in [
            ("", Some(false)),
            ("all", Some(true)),
            ("all=true", Some(true)),
            ("all=1", Some(true)),
            ("all=false", Some(false)),
            ("all=yes", None),
        ] {
            assert_eq!(flag(query, "all").ok(), expected, "{query}");
        }
    }

    #[test]
    fn a_name_that_is_left_out_stays_and_null_takes_it_away() {
        let read = |body: &str| naming(parse(body.as_bytes())?);
        let label = |text: &str| Some(Some(text.parse::<Label>().unwrap()));
        for (body, expected) in [
            (r#"{"label":"work"}"#, Naming { label: label("work"), is_default: None }),
            (r#"{"label":null}"#, Naming { label: Some(None), is_default: None }),
            (r#"{"default":true}"#, Naming { label: None, is_default: Some(true) }),
            (r#"{"label":"é 1","default":false}"#, Naming { label: label("é 1"), is_default: Some(false) }),
        ] {
            assert_eq!(read(body).unwrap(), expected, "{body}");
        }
        for (body, field) in [
            ("{}", None),
            (r#"{"default":null}"#, None),
            (r#"{"label":""}"#, Some("label")),
            (r#"{"label":" x"}"#, Some("label")),
            (r#"{"label":7}"#, Some("label")),
            (r#"{"label":"a","label":"b"}"#, None),
            (r#"{"label":"cx_h1cE3mIrDmSyQ2u0oWvZ5g"}"#, Some("label")),
            (r#"{"default":"yes"}"#, Some("default")),
        ] {
            assert_eq!(read(body).unwrap_err().field.as_deref(), field, "{body}");
        }
    }
}
