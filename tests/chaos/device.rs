//! Visitors who connect by a code that is entered elsewhere, and what became of it when the daemon was struck on the way.

use std::time::Duration;

use futures_util::future::join_all;
use grantd::sandbox::browser::Browser;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::cell::{Action, Cell};
use crate::field::{Account, Field, Renewal};
use crate::life::{get, post};

/// How long a device flow may take that is resumed: it asks five seconds later than it would have.
const PATIENCE: Duration = Duration::from_secs(25);

/// A device flow as whoever began it knows it.
pub struct Flow {
    account: Account,
    path: String,
    proof: Value,
}

/// Begins a flow for each visitor and goes on with it as far as the daemon lives.
pub async fn act(field: &Field, visitors: Vec<Account>) -> Vec<Flow> {
    let flows = visitors.into_iter().map(async |account| {
        let body = json!({"provider": account.provider, "device": true});
        let begun = post(&field.home, "/v1/connect", body).await.filter(|answer| answer.status == 200)?;
        let path = format!("/v1/connect/{}", begun.text("connect_id"));
        let flow = Flow { account, path, proof: begun.json["proof"].clone() };
        entered(&begun.json["device"], &flow.account.id).await;
        if settled(field, &flow, Duration::from_secs(8)).await.as_deref() == Some("awaiting_confirmation") {
            confirmed(field, &flow).await;
        }
        Some(flow)
    });
    join_all(flows).await.into_iter().flatten().collect()
}

/// With a daemon that nothing happens to: every flow that was begun comes to a good end, unless the strike destroyed the answer.
pub async fn aftermath(field: &Field, cell: &Cell, flows: Vec<Flow>) -> Vec<String> {
    let mut wrong = Vec::new();
    for flow in flows {
        let told = settled(field, &flow, PATIENCE).await.unwrap_or_default();
        let account = &flow.account;
        match &*told {
            "awaiting_confirmation" if confirmed(field, &flow).await => {}
            "completed" => {}
            // The code was spent, and nothing could be durable yet.
            "code_refused" if cell.point == "device.polled" && cell.action != Action::Delay => continue,
            other => {
                wrong.push(format!("the code of {account:?} has brought {other:?}"));
                continue;
            }
        }
        if field.renew(account, &mut wrong).await != Renewal::Done {
            wrong.push(format!("what {account:?} was given by a code cannot be renewed"));
        }
    }
    wrong
}

async fn entered(device: &Value, account: &str) {
    let browser = Browser::new();
    let page = device["verification_uri"].as_str().unwrap().parse().unwrap();
    let form = browser.open(&page).await.unwrap();
    let asked = browser.press(&form, "/device", &[("user_code", device["user_code"].as_str().unwrap())]).await.unwrap();
    browser.press(&asked, "allow", &[("account", account)]).await.unwrap();
}

/// The word for how a flow stands, as soon as there is something to say or do, or nobody answers.
async fn settled(field: &Field, flow: &Flow, limit: Duration) -> Option<String> {
    let deadline = Instant::now() + limit;
    loop {
        let status = get(&field.home, &flow.path).await?.json["status"].as_str()?.to_owned();
        if status != "opened" || Instant::now() > deadline {
            return Some(status);
        }
        sleep(Duration::from_millis(20)).await;
    }
}

async fn confirmed(field: &Field, flow: &Flow) -> bool {
    let answer = post(&field.home, &format!("{}/confirm", flow.path), json!({"proof": flow.proof})).await;
    answer.is_some_and(|answer| answer.status == 200)
}
