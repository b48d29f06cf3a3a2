//! Has the broker move the audit journal into the store, and with that make it durable, every second.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::broker::Broker;

/// How often: what a power cut may cost.
const EVERY: Duration = Duration::from_secs(1);

/// Moves every second until told to stop. What is written after that is moved at the end, or by the next run.
pub async fn run(broker: Arc<Broker>, stop: CancellationToken) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => broker.settle_audit().await,
            () = stop.cancelled() => return,
        }
    }
}
