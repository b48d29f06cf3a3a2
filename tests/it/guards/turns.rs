//! Whose turn it is when a provider takes few refreshes a second: that of whoever waits.

use crate::guards::HOUR;
use crate::support::{World, eventually};
use grantd::sandbox::{Kind, Options, Secret};

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_waits_goes_before_what_is_merely_due() {
    const ALL: usize = 60;
    const LAST: &str = "stock-59";
    let mut world = World::arranged(Options::default(), |home, _| {
        home.redefine("  lead: 60\n", "  lead: 60\n  per_second: 2\n");
    })
    .await;
    world.daemon.signal("TERM");
    assert!(world.daemon.ended().await.success());
    let tokens = world.stock_while_away(0..ALL, HOUR).await;
    world.make_due_but(LAST);
    world.daemon.restart().await;
    eventually("the schedule is at it", async || world.refreshes() >= 2).await;

    let before = world.refreshes();
    let renewed = world.refuse(LAST).await;
    assert_eq!(renewed.status, 200, "{renewed:?}");
    let ledger = world.sandbox.ledger();
    let issued = ledger.of(Kind::Issued, Secret::Access).find(|entry| entry.fingerprint == tokens[ALL - 1]);
    let mine = issued.unwrap().grant;
    let turn = ledger.refreshes().position(|entry| entry.grant == mine).unwrap();
    // At two a second the due ones take half a minute. Some have their turn while the caller's request is on its way.
    assert!(turn < before + 8, "its turn was {turn}, after {before} when it asked");
    assert!(ledger.refreshes().count() < ALL / 2, "the schedule has more to do");
    world.assert_sound();
}
