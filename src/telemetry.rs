//! Sets up the log: one event a line, readable for people on a terminal and for machines elsewhere.
//!
//! What is never logged: tokens, client secrets, codes, verifiers, cookies, keys, a provider's own text, and the query of a
//! URL. Types that hold secrets print themselves as `[redacted]`; names that come from outside were cleaned of control
//! characters when they were taken in.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

/// How a line is written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Format {
    /// For people on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Sets up the log on standard error. `level` is a filter such as `info` or `grantd=debug`; `RUST_LOG` goes before it.
/// Later calls in the same process change nothing.
pub fn init(level: &str, format: Format) {
    let ours = if level.contains(['=', ',']) { level.to_owned() } else { format!("warn,audit={level},grantd={level}") };
    let filter = EnvFilter::try_from_default_env()
        .or_else(|_| EnvFilter::try_new(ours))
        .unwrap_or_else(|_| EnvFilter::new("warn,audit=info,grantd=info"));
    let terminal = std::io::stderr().is_terminal();
    let human = match format {
        Format::Auto => terminal,
        Format::Human => true,
        Format::Json => false,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_span_events(FmtSpan::NONE)
        .with_target(false);
    let done = if human {
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        builder.with_ansi(colour).finish().try_init()
    } else {
        builder.json().flatten_event(true).finish().try_init()
    };
    // Only a test that starts a second daemon in one process gets here twice.
    drop(done);
}
