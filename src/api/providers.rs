//! `/v1/providers`: what can be connected here, how each is doing, and an administrator's word to try one again.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;
use warp::Filter;
use warp::reject::Rejection;
use warp::reply::Response;

use crate::api::peer::Asker;
use crate::api::problem::Problem;
use crate::api::wire::{ProviderBody, ProvidersBody, RefusalBody, ReleaseBody, WiderBody};
use crate::api::{asker, known, reply};
use crate::broker::Broker;
use crate::broker::health::Released;
use crate::broker::registry::Configured;
use crate::model::caller::Caller;
use crate::model::id::{ProviderId, SlotName};
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;

pub(super) fn routes(broker: Arc<Broker>) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone {
    let other = Arc::clone(&broker);
    let listed =
        warp::path!("v1" / "providers").and(warp::method()).and(asker()).map(move |method, asker| match method {
            Method::GET | Method::HEAD => reply::answer(list(&broker, asker)),
            _ => Problem::method_not_allowed("GET, HEAD").into_response(),
        });
    let released = warp::path!("v1" / "providers" / ProviderId / "release").and(warp::method()).and(asker()).then(
        move |provider, method, asker| {
            let broker = Arc::clone(&other);
            async move {
                match method {
                    Method::POST => reply::answer(release(&broker, provider, asker).await),
                    _ => Problem::method_not_allowed("POST").into_response(),
                }
            }
        },
    );
    listed.or(released).unify()
}

fn list(broker: &Broker, asker: Option<Asker>) -> Result<ProvidersBody, Problem> {
    let caller = known(asker)?.caller;
    let admin = caller.admin;
    let registry = broker.registry();
    let visible = registry.providers.iter().filter(|(id, _)| broker.sees_provider(&caller, id));
    let providers = visible.map(|(id, configured)| {
        let health = broker.health(configured);
        let detail = |at: Option<Timestamp>| at.filter(|_| admin).map(Timestamp::as_secs);
        ProviderBody {
            id: id.clone(),
            name: configured.provider.name.clone(),
            scopes: seen(broker, &caller, configured),
            revoke: configured.provider.revoke.as_ref().map(|rules| rules.reach.as_str().into()),
            revoke_wider: configured.provider.revoke_wider.as_ref().map(|rules| WiderBody {
                reach: rules.reach.as_str().into(),
                takes: rules.takes.clone().unwrap_or_default(),
            }),
            state: health.state.as_str().into(),
            since: detail(health.since),
            until: detail(health.until),
            last_refusal: broker.last_refusal(configured).filter(|_| admin).map(|(explained, at)| RefusalBody {
                number: explained.number,
                explanation: explained.sentence,
                at: at.as_secs(),
            }),
        }
    });
    Ok(ProvidersBody { providers: providers.collect() })
}

/// What is asked for, in the slots that are the caller's.
fn seen(broker: &Broker, caller: &Caller, configured: &Configured) -> BTreeMap<SlotName, ScopeSet> {
    let slots = configured.scopes.iter().filter(|(slot, _)| broker.sees_slot(caller, &configured.provider.id, slot));
    slots.map(|(slot, scopes)| (slot.clone(), scopes.clone())).collect()
}

async fn release(broker: &Broker, provider: ProviderId, asker: Option<Asker>) -> Result<ReleaseBody, Problem> {
    let released = broker.release_provider(&known(asker)?.caller, &provider).await;
    let Released { state, grants } = released.map_err(|error| Problem::from_broker(error, &broker.registry()))?;
    Ok(ReleaseBody { provider, state: state.as_str().into(), grants })
}
