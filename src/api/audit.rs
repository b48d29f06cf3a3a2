//! `/v1/audit`: what was decided and done, page by page, and whether the record of it is whole; for administrators.

use std::sync::Arc;

use http::Method;
use warp::Filter;
use warp::reject::Rejection;
use warp::reply::Response;

use crate::api::input::Invalid;
use crate::api::peer::Asker;
use crate::api::problem::Problem;
use crate::api::wire::{AuditBody, AuditEntryBody, AuditVerdictBody};
use crate::api::{asker, known, query, query_value, reply};
use crate::broker::Broker;
use crate::broker::audit::chain::hex;
use crate::broker::audit::search::{From, PAGE_MAX, Page, Wanted};
use crate::broker::audit::verify::{Finding, Verdict};
use crate::model::time::Timestamp;

/// How many entries come when nobody says how many.
const PAGE: usize = 100;

pub(super) fn routes(broker: Arc<Broker>) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone {
    let other = Arc::clone(&broker);
    let listed = warp::path!("v1" / "audit").and(warp::method()).and(asker()).and(query()).then(
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
    let verified =
        warp::path!("v1" / "audit" / "verify").and(warp::method()).and(asker()).then(move |method, asker| {
            let broker = Arc::clone(&other);
            async move {
                match method {
                    Method::GET | Method::HEAD => reply::answer(verify(&broker, asker).await),
                    _ => Problem::method_not_allowed("GET, HEAD").into_response(),
                }
            }
        });
    listed.or(verified).unify()
}

async fn list(broker: &Broker, asker: Option<Asker>, query: &str) -> Result<AuditBody, Problem> {
    let asker = known(asker)?;
    let limit = number(query, "limit")?.map_or(Ok(PAGE), |limit| {
        usize::try_from(limit)
            .ok()
            .filter(|limit| (1..=PAGE_MAX).contains(limit))
            .ok_or_else(|| Invalid::field("limit", format!("must be 1 to {PAGE_MAX}")))
    })?;
    let from = match (number(query, "last")?, number(query, "after")?) {
        (Some(_), Some(_)) => return Err(Invalid::field("last", "makes no sense together with `after`").into()),
        (Some(last), None) => From::Last(last),
        (None, after) => From::Behind(after.unwrap_or_default()),
    };
    let page = broker.audit_page(&asker.caller, from, limit, &wanted(query)?).await;
    page.map(body).map_err(|error| Problem::from_broker(error, &broker.registry()))
}

async fn verify(broker: &Broker, asker: Option<Asker>) -> Result<AuditVerdictBody, Problem> {
    let verdict = broker.verify_audit(&known(asker)?.caller).await;
    verdict.map(verdict_body).map_err(|error| Problem::from_broker(error, &broker.registry()))
}

fn wanted(query: &str) -> Result<Wanted, Invalid> {
    let text = |name| query_value(query, name);
    let act = text("act").map(|word| word.parse().map_err(|_| Invalid::field("act", "is no act that is written down")));
    Ok(Wanted {
        caller: text("caller"),
        subject: text("subject"),
        provider: text("provider"),
        connection: text("connection"),
        since: time(query, "since")?,
        until: time(query, "until")?,
        code: text("code"),
        act: act.transpose()?,
        fingerprint: text("fingerprint"),
    })
}

fn time(query: &str, name: &str) -> Result<Option<Timestamp>, Invalid> {
    let seconds = number(query, name)?.map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX));
    Ok(seconds.map(Timestamp::from_secs))
}

fn number(query: &str, name: &str) -> Result<Option<u64>, Invalid> {
    let read = |text: String| text.parse().map_err(|_| Invalid::field(name, "must be a number"));
    query_value(query, name).map(read).transpose()
}

fn body(page: Page) -> AuditBody {
    let entries = page.entries.into_iter().map(|(entry, hash)| AuditEntryBody { entry, hash: hex(&hash) });
    AuditBody { entries: entries.collect(), next: page.next, more: page.more }
}

fn verdict_body(verdict: Verdict) -> AuditVerdictBody {
    let Verdict { finding, first, last, checkpoints } = verdict;
    let entries = finding.entries();
    AuditVerdictBody {
        intact: finding == Finding::Intact,
        finding: finding.as_str().into(),
        from: entries.map(|(from, _)| from),
        to: entries.map(|(_, to)| to),
        first,
        last: last.seq,
        hash: hex(&last.hash),
        checkpoints,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_looked_for_is_read_from_the_query() {
        let wanted = wanted("caller=uid%3A1000&since=5&act=token_refused&code=access_denied").unwrap();
        assert_eq!(wanted.caller.as_deref(), Some("uid:1000"));
        assert_eq!(wanted.since, Some(Timestamp::from_secs(5)));
        assert_eq!(
            (wanted.act.map(|act| act.as_str()), wanted.code.as_deref()),
            (Some("token_refused"), Some("access_denied"))
        );
        assert!(wanted.until.is_none() && wanted.provider.is_none());
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (query, field) in [("act=theft", "act"), ("since=yesterday", "since"), ("until=-1", "until")] {
            assert_eq!(wanted(query).unwrap_err().field.as_deref(), Some(field), "{query}");
        }
    }
}
