//! `GET /v1/explain`: what the policy would say to a caller, for administrators.

use std::str::FromStr;
use std::sync::Arc;

use http::Method;
use warp::Filter;
use warp::reject::Rejection;
use warp::reply::Response;

use crate::api::input::{ACCOUNT_MAX, Invalid, scopes, text};
use crate::api::peer::Asker;
use crate::api::problem::Problem;
use crate::api::wire::{ExplainBody, SaidBody};
use crate::api::{asker, known, query, query_value, reply};
use crate::broker::Broker;
use crate::broker::judge::{Judgement, Question};
use crate::model::scope::ScopeSet;
use crate::policy::Refusal;
use crate::policy::weigh::Weighed;

pub(super) fn route(broker: Arc<Broker>) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone {
    warp::path!("v1" / "explain").and(warp::method()).and(asker()).and(query()).then(
        move |method, asker, query: String| {
            let broker = Arc::clone(&broker);
            async move {
                match method {
                    Method::GET | Method::HEAD => reply::answer(explain(&broker, asker, &query).await),
                    _ => Problem::method_not_allowed("GET, HEAD").into_response(),
                }
            }
        },
    )
}

async fn explain(broker: &Broker, asker: Option<Asker>, query: &str) -> Result<ExplainBody, Problem> {
    let caller = known(asker)?.caller;
    let question = question(query)?;
    let judged = broker.judge(&caller, &question).await;
    let judged = judged.map_err(|error| Problem::from_broker(error, &broker.registry()))?;
    Ok(body(question, judged))
}

/// Reads `caller`, `provider`, `account`, `slot`, and any number of `scope`.
fn question(query: &str) -> Result<Question, Invalid> {
    let wanted: Result<ScopeSet, _> = url::form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| name == "scope")
        .map(|(_, scope)| scope.parse().map_err(|error| Invalid::field("scope", format!("{error}"))))
        .collect::<Result<Vec<_>, _>>()
        .map(|scopes| scopes.into_iter().collect());
    Ok(Question {
        caller: required(query, "caller")?,
        provider: required(query, "provider")?,
        account: text("account", query_value(query, "account"), ACCOUNT_MAX)?,
        slot: query_value(query, "slot").map(|slot| read("slot", &slot)).transpose()?,
        scopes: scopes(Some(wanted?))?,
    })
}

fn required<T: FromStr>(query: &str, field: &str) -> Result<T, Invalid> {
    let value = query_value(query, field).ok_or_else(|| Invalid::field(field, "is missing"))?;
    read(field, &value)
}

fn read<T: FromStr>(field: &str, value: &str) -> Result<T, Invalid> {
    value.parse().map_err(|_| Invalid::field(field, "is not such a name"))
}

fn body(question: Question, judged: Judgement) -> ExplainBody {
    let Judgement { subject, found, rules, rule, refusal } = judged;
    let error = refusal.as_ref().map(|refusal| {
        match refusal {
            Refusal::Absent if question.slot.is_some() => "invalid_request",
            Refusal::Absent if found.is_some() => "unknown_account",
            Refusal::Absent => "unknown_provider",
            Refusal::Broader(_) | Refusal::Scopes(_) => "scope_denied",
            Refusal::Forbidden => "access_denied",
        }
        .into()
    });
    let (connection, account, grant) =
        found.map_or((None, None, None), |found| (Some(found.connection), Some(found.account), found.grant));
    let (slot, granted) = grant.map_or((question.slot, None), |(slot, granted)| (Some(slot), Some(granted)));
    ExplainBody {
        caller: question.caller,
        subject,
        provider: question.provider,
        connection,
        account,
        slot,
        granted,
        rules: rules.into_iter().map(|(rule, weighed)| said(rule, weighed)).collect(),
        allowed: refusal.is_none(),
        rule,
        error,
    }
}

fn said(rule: String, weighed: Option<Weighed>) -> SaidBody {
    let (says, scopes) = match weighed {
        None => ("other_provider", None),
        Some(Weighed::Allows) => ("allows", None),
        Some(Weighed::OtherAccount) => ("other_account", None),
        Some(Weighed::OtherSlot) => ("other_slot", None),
        Some(Weighed::Above(scopes)) => ("above_ceiling", Some(scopes)),
        Some(Weighed::Broader(scopes)) => ("grant_broader", Some(scopes)),
    };
    SaidBody { rule, says: says.into(), scopes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_names_a_caller_and_a_provider() {
        let asked = question("caller=issue-reader&provider=github&scope=repo&scope=gist&slot=main").unwrap();
        assert_eq!((asked.caller.as_str(), asked.provider.as_str()), ("issue-reader", "github"));
        assert_eq!((asked.scopes.to_string().as_str(), asked.account), ("gist repo", None));
        for (query, field) in [
            ("provider=github", "caller"),
            ("caller=x", "provider"),
            ("caller=x&provider=Git%20Hub", "provider"),
            ("caller=x&provider=github&scope=a%20b", "scope"),
            ("caller=x&provider=github&slot=", "slot"),
        ] {
            assert_eq!(question(query).unwrap_err().field.as_deref(), Some(field), "{query}");
        }
    }
}
