//! Talks to whoever started us: ready, reloading, stopping, and a watchdog that is fed only while we work.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::broker::Broker;

/// How long the store may take to answer the watchdog.
const PROBE_DEADLINE: Duration = Duration::from_secs(10);

/// Serving.
pub(super) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Reading the configuration again.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// Going down.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "Could not notify the service manager");
    }
}

/// Feeds the watchdog until told to stop, twice as often as it asks. Each time the store has to write and the runtime to run
/// a task: when either hangs, the service manager starts us again.
pub(super) async fn feed_watchdog(broker: Arc<Broker>, stop: CancellationToken) {
    let Some(every) = sd_notify::watchdog_enabled() else {
        return;
    };
    loop {
        tokio::select! {
            () = sleep(every / 2) => {}
            () = stop.cancelled() => return,
        }
        let probed = timeout(PROBE_DEADLINE, async {
            let round = tokio::spawn(std::future::ready(())).await;
            round.is_ok()
                && broker.probe().await.inspect_err(|error| error!(%error, "The store cannot be written")).is_ok()
        });
        match probed.await {
            Ok(true) => tell(&[NotifyState::Watchdog]),
            Ok(false) | Err(_) => error!("Not feeding the watchdog: the store or the runtime does not answer"),
        }
    }
}
