//! One cell: a daemon is started with its orders and struck, another one follows in peace, and what is left is judged.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use grantd::sandbox::{BodyKind, Fault, GrantId, What, When};
use rustix::process::Signal;
use tokio::time::{Instant, sleep, timeout};

use crate::cell::{Action, Cell, Class, Scene};
use crate::device;
use crate::field::{Account, Field, Renewal, VISITOR, accounts_at, everybody};
use crate::life::{Life, last_of_each_flight};
use crate::support::ask::ask;
use crate::verdict;

/// How long a cell tries to reach its point.
const LONGEST_TRY: Duration = Duration::from_secs(15);
/// How long callers are waited for while the store refuses everything.
const FAILING: Duration = Duration::from_millis(700);
/// How long the daemon may take to put elsewhere what the store refuses.
const LONGEST_ESCAPE: Duration = Duration::from_secs(10);

/// What came of cells.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub kills: usize,
    pub lost: usize,
    pub unavoidable: usize,
}

/// A grant as it was when the struck daemon was gone.
struct Left {
    grant: Option<GrantId>,
    kept: i64,
}

/// Plays a cell and puts everything in order again.
pub async fn play(field: &mut Field, cell: &Cell) -> Tally {
    let known = field.wrong.len();
    let visitors = if cell.scene() == Scene::Disconnect { invite(field, cell).await } else { Vec::new() };
    if cell.needs_spool() {
        fill_spool(field, cell).await;
    }
    let mut life = Life::begin(&field.home, &cell.orders());
    if life.is_ready(&field.home).await {
        act(field, cell, &mut life).await;
    }
    let tally = settle(field, cell, life).await;
    if cell.scene() == Scene::Disconnect {
        farewell(field, &visitors).await;
    }
    for wrong in &mut field.wrong[known..] {
        *wrong = format!("{cell}: {wrong}");
        println!("wrong: {wrong}");
    }
    tally
}

fn accounts(cell: &Cell) -> Vec<Account> {
    cell.class.map_or_else(|| everybody().collect(), |class| accounts_at(class).collect())
}

fn visitors(cell: &Cell) -> Vec<Account> {
    let classes = cell.class.map_or_else(|| Class::ALL.to_vec(), |class| vec![class]);
    classes.into_iter().map(|class| Account { provider: class.provider(), id: VISITOR.to_owned() }).collect()
}

// What happens while it strikes

async fn act(field: &mut Field, cell: &Cell, life: &mut Life) {
    match cell.scene() {
        Scene::Start => drop(join_all(accounts(cell).iter().map(|account| field.refresh(account))).await),
        Scene::Connect => {
            for visitor in visitors(cell) {
                let _ = field.connect(&visitor, None).await;
            }
        }
        Scene::Device => field.flows = device::act(field, visitors(cell)).await,
        Scene::Refresh => refresh(field, cell, life).await,
        Scene::Refused => {
            for (_, sandbox) in field.sandboxes() {
                sandbox.script(Fault::of_refresh(When::Next(3), What::Status { code: 500, body: BodyKind::Empty }));
            }
            refresh(field, cell, life).await;
            field.sandboxes().for_each(|(_, sandbox)| sandbox.clear_faults());
        }
        Scene::Disconnect => {
            for visitor in visitors(cell) {
                disconnect(field, &visitor).await;
            }
        }
        Scene::Stop => stop(field, cell, life).await,
    }
}

/// A daemon that can store nothing has put everything into the spool, and is gone.
async fn fill_spool(field: &mut Field, cell: &Cell) {
    let mut life = Life::begin(&field.home, "store.replace.before=fail");
    let (accounts, deadline) = (accounts(cell), Instant::now() + LONGEST_TRY);
    if life.is_ready(&field.home).await {
        let _ = timeout(LONGEST_TRY, join_all(accounts.iter().map(|account| field.refresh(account)))).await;
        while field.spooled_records() < accounts.len() && Instant::now() < deadline {
            sleep(Duration::from_millis(10)).await;
        }
    }
    if field.spooled_records() < accounts.len() {
        field.wrong.push("what the store refuses is not in the spool".to_owned());
    }
    field.over(life, true);
}

/// Refreshes until the point has struck; if the daemon is to get over it, until it has.
async fn refresh(field: &mut Field, cell: &Cell, life: &mut Life) {
    let (accounts, deadline) = (accounts(cell), Instant::now() + LONGEST_TRY);
    while !life.has_ended() && !life.has_struck(cell.point) && Instant::now() < deadline {
        let round = join_all(accounts.iter().map(|account| field.refresh(account)));
        let limit = if is_refused_for_good(cell) { FAILING } else { LONGEST_TRY };
        let _ = timeout(limit, round).await;
        sleep(Duration::from_millis(10)).await;
    }
    match cell.action {
        Action::Kill => drop(life.ended(Duration::from_secs(5)).await),
        Action::FailUntilKilled => {
            escape(field, life).await;
            life.signal(Signal::KILL);
            let _ = life.ended(Duration::from_secs(5)).await;
        }
        Action::FailUntilStopped => check_end(field, life).await,
        Action::Fail | Action::Panic if !life.has_ended() => {
            let mut wrong = Vec::new();
            let renewals = join_all(accounts.iter().map(async |account| {
                let mut wrong = Vec::new();
                let renewal = field.renew(account, &mut wrong).await;
                (renewal, account, wrong)
            }));
            for (renewal, account, found) in renewals.await {
                wrong.extend(found);
                if renewal == Renewal::Stuck {
                    wrong.push(format!("{account:?} is stuck until the daemon starts again"));
                }
            }
            field.wrong.extend(wrong);
        }
        Action::Fail | Action::Panic | Action::Delay => {}
    }
}

const fn is_refused_for_good(cell: &Cell) -> bool {
    matches!(cell.action, Action::FailUntilKilled | Action::FailUntilStopped)
}

/// Waits until no flight holds an answer that is nowhere but in its hands.
async fn escape(field: &mut Field, life: &Life) {
    let deadline = Instant::now() + LONGEST_ESCAPE;
    loop {
        let trace = life.trace();
        let Some(held) = last_of_each_flight(&trace).into_iter().find(|last| verdict::is_in_hand(last)) else { return };
        if Instant::now() > deadline {
            return field.wrong.push(format!("an answer that cannot be stored stays at {}", held.point));
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Asks the daemon to stop while every grant of the cell is being refreshed.
async fn stop(field: &Field, cell: &Cell, life: &mut Life) {
    let accounts = accounts(cell);
    let sent = || field.sandboxes().map(|(_, sandbox)| sandbox.ledger().refreshes().count()).sum::<usize>();
    let before = sent();
    for (_, sandbox) in field.sandboxes() {
        sandbox.script(Fault::of_refresh(When::Next(3), What::Delay(Duration::from_millis(250))));
    }
    let refreshes = join_all(accounts.iter().map(|account| field.refresh(account)));
    let ask_to_stop = async {
        let deadline = Instant::now() + Duration::from_secs(5);
        while sent() < before + accounts.len() && Instant::now() < deadline {
            sleep(Duration::from_millis(5)).await;
        }
        life.signal(Signal::TERM);
    };
    // Whoever asked hangs up, so that the daemon has nothing to wait for but its flights.
    tokio::select! {
        _ = refreshes => {}
        () = ask_to_stop => {}
    }
    let _ = life.ended(Duration::from_secs(60)).await;
    field.sandboxes().for_each(|(_, sandbox)| sandbox.clear_faults());
    // What was sent before a death is worked on all the same.
    sleep(Duration::from_millis(300)).await;
}

async fn invite(field: &mut Field, cell: &Cell) -> Vec<(Account, Option<GrantId>)> {
    let life = field.peace().await;
    let mut invited = Vec::new();
    for visitor in visitors(cell) {
        if !field.connect(&visitor, None).await {
            field.wrong.push(format!("{visitor:?} cannot be connected"));
        }
        let grant = field.grant(&visitor).map(|grant| grant.id);
        invited.push((visitor, grant));
    }
    field.over(life, false);
    invited
}

async fn disconnect(field: &Field, account: &Account) {
    if let Some(id) = field.connection(account).await {
        let path = format!("/v1/connections/{id}");
        let _ = timeout(LONGEST_TRY, ask(&field.home.socket(), "DELETE", &path, None)).await;
    }
}

/// A connection that was ended, or was going to be, can be ended for good.
async fn farewell(field: &mut Field, visitors: &[(Account, Option<GrantId>)]) {
    let life = field.peace().await;
    for (visitor, grant) in visitors {
        disconnect(field, visitor).await;
        let served = field.ask(visitor, &serde_json::Value::Null).await;
        if served.is_some_and(|answer| answer.status == 200) {
            field.wrong.push(format!("{visitor:?} is served after its connection was ended"));
        }
        let deadline = Instant::now() + LONGEST_TRY;
        let lives = || {
            let grants = field.sandbox(visitor.provider).grants();
            grants.iter().any(|one| Some(one.id) == *grant && one.ended.is_none())
        };
        while lives() && Instant::now() < deadline {
            sleep(Duration::from_millis(50)).await;
        }
        if lives() {
            field.wrong.push(format!("what {visitor:?} was given lives on at the provider"));
        }
    }
    field.over(life, false);
}

// What is left

async fn settle(field: &mut Field, cell: &Cell, mut life: Life) -> Tally {
    if cell.is_deadly() && life.has_struck(cell.point) {
        let _ = life.ended(Duration::from_secs(5)).await;
    }
    let mut tally = Tally { kills: usize::from(life.was_killed()), ..Tally::default() };
    if !life.has_ended() && !cell.is_deadly() {
        check_end(field, &mut life).await;
    }
    let trace = life.trace();
    if !trace.iter().any(|reached| reached.point == cell.point && reached.action.is_some()) {
        field.wrong.push("the point was not reached".to_owned());
    }
    field.over(life, cell.action != Action::Delay);
    let accounts = accounts(cell);
    let left: BTreeMap<Account, Left> = accounts
        .iter()
        .map(|account| {
            let grant = field.grant(account).map(|grant| grant.id);
            (account.clone(), Left { grant, kept: field.replacements_kept(account) })
        })
        .collect();
    let lost = after_it(field, cell, &accounts, &left).await;
    tally.lost = lost.lost;
    tally.unavoidable = lost.unavoidable.min(verdict::destroyed(cell, &trace, tally.kills > 0));
    tally
}

/// A daemon that lives ends well when it is asked to.
async fn check_end(field: &mut Field, life: &mut Life) {
    life.signal(Signal::TERM);
    match life.ended(Duration::from_secs(60)).await {
        Some(status) if status.success() => {}
        other => field.wrong.push(format!("it did not end well: {other:?}")),
    }
}

/// A daemon in peace: every grant of the cell is refreshed once more, and what is lost is counted and connected again.
async fn after_it(field: &mut Field, cell: &Cell, accounts: &[Account], left: &BTreeMap<Account, Left>) -> Tally {
    let mut tally = Tally::default();
    let mut life = Life::begin(&field.home, "");
    if !life.is_ready(&field.home).await {
        field.wrong.push("the daemon does not start any more".to_owned());
        field.over(life, false);
        return tally;
    }
    let renewals = join_all(accounts.iter().map(async |account| {
        let mut wrong = Vec::new();
        let renewal = field.renew(account, &mut wrong).await;
        (account, renewal, wrong)
    }))
    .await;
    for (account, renewal, wrong) in renewals {
        field.wrong.extend(wrong);
        match renewal {
            Renewal::Done => {}
            Renewal::Stuck => field.wrong.push(format!("{account:?} is stuck")),
            Renewal::Lost => {
                tally.lost += 1;
                if is_proven(field, account, &left[account]) {
                    tally.unavoidable += 1;
                }
                field.reconnect(account).await;
            }
        }
    }
    if cell.scene() == Scene::Device {
        let flows = std::mem::take(&mut field.flows);
        field.wrong.extend(device::aftermath(field, cell, flows).await);
    }
    if matches!(cell.scene(), Scene::Connect | Scene::Device) {
        for visitor in visitors(cell) {
            if !field.connect(&visitor, None).await {
                field.wrong.push(format!("{visitor:?} cannot be connected any more"));
            }
            disconnect(field, &visitor).await;
        }
    }
    field.over(life, false);
    tally
}

/// Whether provider, store and spool agree that an answer was destroyed: the provider takes each refresh token once and without
/// grace, it had replaced the tokens of this grant, and neither the store nor the spool ever got the replacement.
fn is_proven(field: &Field, account: &Account, left: &Left) -> bool {
    let Some(grant) = left.grant else { return false };
    account.provider == Class::SingleUse.provider() && field.replacements_given(account.provider, grant) > left.kept
}
