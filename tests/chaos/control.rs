//! The control: a daemon whose safety is turned off. If this looks well, the harness is blind.

use std::time::Duration;

use futures_util::future::join_all;
use grantd::sandbox::{Fault, What, When};

use crate::cell::Class;
use crate::field::{Field, Renewal, accounts_at, everybody};
use crate::life::Life;
use crate::verdict;

/// What is turned off: keeping what the provider gives; and what keeps two refreshes of one grant from overlapping, which are
/// two things, either of which is enough.
const TURNED_OFF: [&str; 2] = ["control.drop_writes=fail", "control.many_flights=fail;control.no_lease=fail"];
/// How long the provider thinks, so that refreshes that can overlap do.
const THINKING: Duration = Duration::from_millis(400);

/// Plays every control. Whether each was seen to fail.
pub async fn is_seen_to_fail() -> bool {
    let mut seen = true;
    for orders in TURNED_OFF {
        let mut field = Field::new().await;
        let mut life = Life::begin(&field.home, orders);
        assert!(life.is_ready(&field.home).await, "{orders}: the daemon does not start:\n{}", field.log());
        for (_, sandbox) in field.sandboxes() {
            sandbox.script(Fault::of_refresh(When::Always, What::Delay(THINKING)));
        }
        let asking: Vec<_> = everybody().chain(everybody()).collect();
        join_all(asking.iter().map(|account| field.refresh(account))).await;
        field.sandboxes().for_each(|(_, sandbox)| sandbox.clear_faults());
        field.over(life, false);
        let life = field.peace().await;
        let mut lost = 0;
        for account in accounts_at(Class::SingleUse) {
            lost += usize::from(field.renew(&account, &mut Vec::new()).await == Renewal::Lost);
        }
        field.over(life, false);
        // Nothing struck, so nothing is excused.
        let doubles = doubles(&field);
        println!("{orders}: lost={lost} double={doubles}");
        seen &= lost > 0 && doubles > 0;
    }
    seen
}

fn doubles(field: &Field) -> usize {
    field.sandboxes().map(|(class, sandbox)| verdict::doubles(class, &sandbox.ledger(), &field.lives).len()).sum()
}
