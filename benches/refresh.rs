//! What the refresh engine does in a second, and what a million stored connections cost it.
//!
//! Durable refreshes: the broker as it is shipped, a real SQLite file with `synchronous=FULL` beside the build, and over HTTP a
//! sandbox provider that answers at once, all in this process on the same processors. A refresh counts when the caller has the
//! new token, and that is after the second commit. Then ten thousand tokens that expire in the same second, with callers who
//! ask for them all the while. Then the cost of a scheduler tick that finds nothing to do, and the start of the daemon as a
//! process of its own on a file that is not in the page cache, at a thousand, a hundred thousand and a million connections.
//!
//! The last line is `refreshes_per_second=… tick_ms_1m=… ready_s_1m=… rss_mb_1m=…`: refreshes with 64 in flight, as many as
//! the schedule has; the 99th percentile of a tick; the time from the start of the process until it says that it is ready; its
//! resident memory after it has served, in units of 2^20 bytes.

#![expect(clippy::print_stdout, reason = "it prints what it measured")]

#[path = "refresh/cohort.rs"]
mod cohort;
#[path = "refresh/engine.rs"]
mod engine;
#[path = "refresh/home.rs"]
mod home;
#[path = "refresh/rate.rs"]
mod rate;
#[path = "refresh/size.rs"]
mod size;

use std::error::Error;
use std::time::Duration;

use tokio::runtime::Builder;

/// How many refreshes are in flight at once, in one row of the table each.
const IN_FLIGHT: [usize; 5] = [1, 4, 16, 64, 256];
/// The row that the last line tells.
const TOLD: usize = 64;
/// How many connections are stored, in one row of the table each; the last line tells the last.
const STORED: [usize; 3] = [1_000, 100_000, 1_000_000];

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` only wants to know that it starts.
    if args.iter().any(|arg| arg == "--test") {
        return Ok(());
    }
    let parts: Vec<&str> = args.iter().map(String::as_str).filter(|arg| !arg.starts_with("--")).collect();
    Builder::new_multi_thread().enable_all().build()?.block_on(measure(&parts))
}

/// Everything, or the parts that are named: `rates`, `cohort`, `sizes`.
async fn measure(parts: &[&str]) -> Result<()> {
    let wanted = |part| parts.is_empty() || parts.contains(&part);
    let per_second = if wanted("rates") { Some(rates().await?) } else { None };
    if wanted("cohort") {
        cohort::renew(10_000).await?;
    }
    let sizes = if wanted("sizes") { Some(sizes().await?) } else { None };
    if let (Some(per_second), Some((tick, started))) = (per_second, sizes) {
        println!(
            "refreshes_per_second={per_second:.0} tick_ms_1m={:.2} ready_s_1m={:.2} rss_mb_1m={:.0}",
            tick.as_secs_f64() * 1e3,
            started.ready.as_secs_f64(),
            started.rss_served,
        );
    }
    Ok(())
}

async fn rates() -> Result<f64> {
    let mut told = 0.0;
    for in_flight in IN_FLIGHT {
        let rate = rate::measure(in_flight, Duration::from_secs(4)).await?;
        println!(
            "{in_flight:>9} in flight  {:>6.0} refreshes/s  p50 {:>6.1} ms  p99 {:>6.1} ms  {:>5.0} µs of processor time each, sandbox included",
            rate.per_second, rate.p50, rate.p99, rate.cpu
        );
        if in_flight == TOLD {
            told = rate.per_second;
        }
    }
    Ok(told)
}

async fn sizes() -> Result<(Duration, size::Started)> {
    let mut last = None;
    let mut stock = size::Stock::make().await?;
    for stored in STORED {
        stock.grow(stored)?;
        let ticks = stock.ticks().await?;
        let started = stock.start().await?;
        println!(
            "{stored:>9} stored  tick p50 {:>5.2} ms  p99 {:>5.2} ms  housekeeping {:>5.2} ms  ready in {:>4.2} s  memory {:>3.0} MB, {:>3.0} MB after serving  file {:>4.0} MB",
            ticks.p50.as_secs_f64() * 1e3,
            ticks.p99.as_secs_f64() * 1e3,
            ticks.housekeep.as_secs_f64() * 1e3,
            started.ready.as_secs_f64(),
            started.rss_ready,
            started.rss_served,
            started.file,
        );
        last = Some((ticks.p99, started));
    }
    last.ok_or_else(|| "no size".into())
}

/// The value that so much of the list is below.
fn share_of<T: Copy + Ord>(values: &mut [T], share: f64) -> T {
    values.sort_unstable();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index into the list")]
    let index = ((values.len() - 1) as f64 * share) as usize;
    values[index]
}
