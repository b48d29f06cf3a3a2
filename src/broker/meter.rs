//! What the daemon counts about itself, for Prometheus. Counts and durations only: no person, account or connection is named.

use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::broker::Broker;
use crate::broker::error::BrokerError;
use crate::broker::health::ProviderState;
use crate::broker::renew::{Landed, NotRenewed};
use crate::model::id::ProviderId;
use crate::store::StoreError;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// How soon a connection needs a person, as it is counted: each holds those before it.
const WITHIN: [(&str, u32); 4] = [("now", 0), ("1d", 1), ("7d", 7), ("14d", 14)];

type Labels<const N: usize> = [(&'static str, String); N];

/// The counters. What other metrics are needed is added here.
pub struct Meter {
    registry: Registry,
    refreshes: Family<Labels<2>, Counter>,
    durations: Family<Labels<1>, Histogram, fn() -> Histogram>,
    need_person: Family<Labels<1>, Gauge>,
    due: Gauge,
    flights: Gauge,
    providers: Family<Labels<2>, Gauge>,
}

/// How things stand when somebody looks.
#[derive(Clone, Debug, Default)]
struct Standing {
    need_person: [usize; WITHIN.len()],
    due: usize,
    flights: usize,
    providers: Vec<(ProviderId, ProviderState)>,
}

impl Default for Meter {
    fn default() -> Self {
        let mut registry = Registry::default();
        let refreshes = Family::default();
        registry.register(
            "grantd_refreshes",
            "Refreshes that ended, by provider and by what they brought",
            refreshes.clone(),
        );
        let durations = Family::new_with_constructor(histogram as fn() -> Histogram);
        registry.register_with_unit(
            "grantd_refresh_duration",
            "How long a refresh took, from reading the grant to what it brought being stored",
            Unit::Seconds,
            durations.clone(),
        );
        let need_person = Family::default();
        registry.register(
            "grantd_connections_need_person",
            "Connections that need a person so soon or sooner, if nothing changes",
            need_person.clone(),
        );
        let (due, flights) = (Gauge::default(), Gauge::default());
        registry.register("grantd_grants_due", "Grants whose time to be renewed has come", due.clone());
        registry.register("grantd_flights", "Refreshes that are under way", flights.clone());
        let providers = Family::default();
        registry.register("grantd_provider_state", "Whether a provider is in this state", providers.clone());
        Self { registry, refreshes, durations, need_person, due, flights, providers }
    }
}

/// From 5 ms to 80 s: a store that is quick, and a provider that uses up every deadline.
fn histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.005, 2.0, 15))
}

impl Meter {
    /// Counts a refresh that ended, and how long it took.
    pub fn refreshed(&self, provider: &ProviderId, outcome: Landed, took: Duration) {
        let provider = ("provider", provider.to_string());
        self.durations.get_or_create(std::array::from_ref(&provider)).observe(took.as_secs_f64());
        self.refreshes.get_or_create(&[provider, ("outcome", word(outcome).to_owned())]).inc();
    }

    /// Everything, in the text format of OpenMetrics 1.0.
    fn text(&self, standing: &Standing) -> String {
        for ((within, _), count) in WITHIN.iter().zip(standing.need_person) {
            set(&self.need_person.get_or_create(&[("within", (*within).to_owned())]), count);
        }
        set(&self.due, standing.due);
        set(&self.flights, standing.flights);
        // A provider that is no longer configured is in no state.
        self.providers.clear();
        for (provider, is) in &standing.providers {
            for state in ProviderState::ALL {
                let labels = [("provider", provider.to_string()), ("state", state.as_str().to_owned())];
                set(&self.providers.get_or_create(&labels), usize::from(state == *is));
            }
        }
        let mut written = String::new();
        text::encode(&mut written, &self.registry).expect("writing into a text cannot fail");
        written
    }
}

fn set(gauge: &Gauge, count: usize) {
    gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
}

/// The stable word for what a refresh brought.
const fn word(outcome: Landed) -> &'static str {
    match outcome {
        Landed::Renewed => "renewed",
        Landed::Failed(NotRenewed::Held | NotRenewed::Wait { .. }) => "kept_back",
        Landed::Failed(NotRenewed::NeedsPerson) => "needs_person",
        Landed::Failed(NotRenewed::Provider) => "provider",
        Landed::Failed(NotRenewed::Registration) => "registration",
        Landed::Failed(NotRenewed::Store) => "store",
        Landed::Failed(NotRenewed::Timeout) => "timeout",
    }
}

impl Broker {
    /// What the daemon counts, in the text format of OpenMetrics 1.0. Costs what is due or ending, not what is stored.
    ///
    /// # Errors
    /// If the store cannot be asked.
    pub async fn metrics(&self) -> Result<String, BrokerError> {
        Ok(self.meter.text(&self.standing().await?))
    }

    async fn standing(&self) -> Result<Standing, StoreError> {
        let now = self.clock.now();
        let mut standing = Standing { flights: self.flights.count(), ..Standing::default() };
        for (provider, configured) in &self.registry().providers {
            standing.providers.push((provider.clone(), self.health(configured).state));
            standing.due += self.store.count_due(provider, now).await?;
        }
        for ((_, days), count) in WITHIN.iter().zip(&mut standing.need_person) {
            *count = self.store.count_needing_person(now.after(DAY * *days)).await?;
        }
        Ok(standing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_written_under_stable_names() {
        let meter = Meter::default();
        let (github, notion) = ("github".parse().unwrap(), "notion".parse().unwrap());
        meter.refreshed(&github, Landed::Renewed, Duration::from_millis(80));
        meter.refreshed(&github, Landed::Renewed, Duration::from_secs(300));
        meter.refreshed(&notion, Landed::Failed(NotRenewed::Provider), Duration::from_millis(1));
        let text = meter.text(&Standing {
            need_person: [1, 2, 3, 4],
            due: 5,
            flights: 6,
            providers: vec![(github, ProviderState::Frozen)],
        });
        for line in [
            r#"grantd_refreshes_total{provider="github",outcome="renewed"} 2"#,
            r#"grantd_refreshes_total{provider="notion",outcome="provider"} 1"#,
            r#"grantd_refresh_duration_seconds_count{provider="github"} 2"#,
            r#"grantd_refresh_duration_seconds_bucket{le="0.005",provider="notion"} 1"#,
            r#"grantd_connections_need_person{within="now"} 1"#,
            r#"grantd_connections_need_person{within="14d"} 4"#,
            "grantd_grants_due 5",
            r#"grantd_provider_state{provider="github",state="frozen"} 1"#,
            r#"grantd_provider_state{provider="github",state="ok"} 0"#,
            "grantd_flights 6",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
