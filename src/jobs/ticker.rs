//! Has the broker look at its clocks every second.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::broker::Broker;

/// How often. A token that was read from the store between a jump and the next look has been judged by a look of its own.
const EVERY: Duration = Duration::from_secs(1);

/// Looks at once, and every second after that until told to stop.
pub async fn run(broker: Arc<Broker>, stop: CancellationToken) {
    let mut ticks = interval(EVERY);
    // The system's sleep must not be made up for by a burst of looks.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let look = async {
            ticks.tick().await;
            broker.keep_time().await
        };
        // Planning a large store again takes a while. Stopping does not wait for it: the next start goes on with it.
        let looked = tokio::select! {
            looked = look => looked,
            () = stop.cancelled() => return,
        };
        if let Err(error) = looked {
            warn!(%error, "Could not plan again after the clock was set; trying again");
        }
    }
}
