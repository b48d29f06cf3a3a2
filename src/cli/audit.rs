//! `grantd audit`: what was decided and done, and whether the record of it is whole.

mod lines;

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use clap::Subcommand;
use tokio::time::sleep;
use url::form_urlencoded::Serializer;

use crate::api::wire::{AuditBody, AuditVerdictBody};
use crate::cli::client::{Client, Failure};
use crate::cli::duration;
use crate::cli::exit::{CliError, ExitCode};
use crate::cli::screen::Screen;
use crate::clock::{Clock, SystemClock};
use crate::model::time::Timestamp;

/// How often `tail -f` asks.
const EVERY: Duration = Duration::from_secs(1);
/// How many entries are asked for at once.
const PAGE: u64 = 1000;

/// Show who got a token or was refused, connected or administered, and verify that record
///
/// For administrators: root, or the user that the daemon runs as. An entry names a token by its id and its fingerprint, which
/// is the beginning of `sha256sum` of it; never by more.
#[derive(clap::Args, Clone, Debug)]
pub struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum AuditCommand {
    /// Show the last entries
    Tail(TailArgs),
    /// Show the entries that fit
    Search(SearchArgs),
    /// Look whether every entry is there as it was written; exit code 1 if not
    Verify(VerifyArgs),
    /// Print every entry with its hash, one JSON object a line
    Export(ExportArgs),
}

#[derive(clap::Args, Clone, Debug)]
struct TailArgs {
    /// How many
    #[arg(short = 'n', long, default_value_t = 20, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(..=100_000))]
    lines: u64,
    /// Go on with what happens from now on
    #[arg(short, long)]
    follow: bool,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args, Clone, Debug)]
struct SearchArgs {
    #[command(flatten)]
    wanted: WantedArgs,
    /// Stop after so many entries
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    limit: u64,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args, Clone, Debug)]
struct VerifyArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args, Clone, Debug)]
struct ExportArgs {
    #[command(flatten)]
    wanted: WantedArgs,
}

#[derive(clap::Args, Clone, Debug)]
struct WantedArgs {
    /// Who asked, such as uid:1000
    #[arg(long, value_name = "NAME")]
    caller: Option<String>,
    /// Whose account it is about, such as uid:1000
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
    /// The provider
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// The connection
    #[arg(long, value_name = "ID")]
    connection: Option<String>,
    /// How it ended, such as access_denied
    #[arg(long, value_name = "CODE")]
    code: Option<String>,
    /// What was done, such as token_granted
    #[arg(long, value_name = "ACT")]
    act: Option<String>,
    /// The token, by the first 16 digits of its SHA-256
    #[arg(long, value_name = "DIGITS")]
    fingerprint: Option<String>,
    /// Not before: 2h, 7d, 2026-11-28 or 2026-11-28T13:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = when)]
    since: Option<When>,
    /// Before
    #[arg(long, value_name = "WHEN", value_parser = when)]
    until: Option<When>,
}

/// A point in time as people give it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum When {
    Ago(Duration),
    At(Timestamp),
}

impl When {
    fn seconds(self, now: Timestamp) -> i64 {
        match self {
            Self::Ago(span) => now.before(span).as_secs(),
            Self::At(at) => at.as_secs(),
        }
        .max(0)
    }
}

fn when(text: &str) -> Result<When, String> {
    let midnight = format!("{text}T00:00:00Z");
    let date = [text, &midnight].into_iter().find_map(|text| chrono::DateTime::parse_from_rfc3339(text).ok());
    if let Some(date) = date {
        return Ok(When::At(Timestamp::from_millis(date.timestamp_millis())));
    }
    let span = duration::parse(text).ok().map(When::Ago);
    span.ok_or_else(|| "expected a span of time such as 2h or 7d, or a time such as 2026-11-28T13:00:00Z".to_owned())
}

impl WantedArgs {
    fn query(&self, now: Timestamp) -> Serializer<'static, String> {
        let mut query = Serializer::new(String::new());
        let texts = [
            ("caller", &self.caller),
            ("subject", &self.subject),
            ("provider", &self.provider),
            ("connection", &self.connection),
            ("code", &self.code),
            ("act", &self.act),
            ("fingerprint", &self.fingerprint),
        ];
        for (name, value) in texts {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        for (name, value) in [("since", self.since), ("until", self.until)] {
            if let Some(value) = value {
                query.append_pair(name, &value.seconds(now).to_string());
            }
        }
        query
    }
}

/// Asks the daemon at `socket`.
///
/// # Errors
/// If an administrator has to ask, or the daemon cannot answer. A log that is not whole is no error but [`ExitCode::Failure`].
pub async fn run(args: AuditArgs, socket: &Path, screen: &mut Screen<'_>) -> Result<ExitCode, CliError> {
    let client = Client::new(socket);
    let now = SystemClock.now();
    match args.command {
        AuditCommand::Tail(args) => tail(&args, &client, screen).await,
        AuditCommand::Search(args) => {
            let mut printer = lines::Printer::new(args.json);
            search(&args.wanted.query(now).finish(), args.limit, &client, screen, &mut printer).await
        }
        AuditCommand::Export(args) => {
            let mut printer = lines::Printer::new(true);
            search(&args.wanted.query(now).finish(), u64::MAX, &client, screen, &mut printer).await
        }
        AuditCommand::Verify(args) => verify(&args, &client, screen).await,
    }
}

async fn tail(args: &TailArgs, client: &Client, screen: &mut Screen<'_>) -> Result<ExitCode, CliError> {
    let mut printer = lines::Printer::new(args.json);
    let mut page: AuditBody = ask(client, &format!("last={}&limit={PAGE}", args.lines)).await?;
    loop {
        printer.print(&page.entries, screen)?;
        if !page.more && !args.follow {
            return Ok(ExitCode::Ok);
        }
        if !page.more {
            sleep(EVERY).await;
        }
        page = ask(client, &format!("after={}&limit={PAGE}", page.next)).await?;
    }
}

async fn search(
    wanted: &str,
    limit: u64,
    client: &Client,
    screen: &mut Screen<'_>,
    printer: &mut lines::Printer,
) -> Result<ExitCode, CliError> {
    let (mut left, mut after) = (limit, 0);
    while left > 0 {
        let mut path = format!("after={after}&limit={}", left.min(PAGE));
        if !wanted.is_empty() {
            let _ = write!(path, "&{wanted}");
        }
        let page = ask(client, &path).await?;
        printer.print(&page.entries, screen)?;
        left = left.saturating_sub(page.entries.len() as u64);
        if !page.more {
            return Ok(ExitCode::Ok);
        }
        after = page.next;
    }
    writeln!(screen.err, "There may be more: --limit shows more of them.")?;
    Ok(ExitCode::Ok)
}

async fn ask(client: &Client, query: &str) -> Result<AuditBody, Failure> {
    client.get(&format!("/v1/audit?{query}"), Duration::ZERO).await
}

async fn verify(args: &VerifyArgs, client: &Client, screen: &mut Screen<'_>) -> Result<ExitCode, CliError> {
    // A long log takes its time.
    let verdict: AuditVerdictBody = client.get("/v1/audit/verify", Duration::from_secs(3600)).await?;
    if args.json {
        let text = serde_json::to_string(&verdict).map_err(std::io::Error::from)?;
        writeln!(screen.out, "{text}")?;
    } else {
        writeln!(screen.out, "{}", told(&verdict))?;
    }
    Ok(if verdict.intact { ExitCode::Ok } else { ExitCode::Failure })
}

fn told(verdict: &AuditVerdictBody) -> String {
    let AuditVerdictBody { first, last, hash, checkpoints, .. } = verdict;
    let (from, to) = (verdict.from.unwrap_or_default(), verdict.to.unwrap_or_default());
    let entries = if from == to { format!("entry {from}") } else { format!("entries {from} to {to}") };
    let what = match &*verdict.finding {
        "intact" if last < first => return "Intact: there are no entries yet.".to_owned(),
        "intact" => {
            let days = if *checkpoints == 1 { "1 signed day".to_owned() } else { format!("{checkpoints} signed days") };
            return format!("Intact: entries {first} to {last}, {days}.\nThe last one has the hash {hash}.");
        }
        "changed" => format!("{entries} is not what was written, or follows one that is not."),
        "missing" => format!("{entries} not there, and later ones are."),
        "truncated" => format!("the tail is missing: {entries} not there."),
        "added" => format!("{entries} was added behind the last one that was written."),
        "checkpoint" => format!("the signature of the day that ended with {entries} is gone or wrong."),
        "head" => "where the log ends was not written by grantd, or is gone.".to_owned(),
        other => format!("{other}."),
    };
    let good = if last < first {
        "No entry before it is sure.".to_owned()
    } else {
        format!("Entries {first} to {last} are good.")
    };
    format!("BROKEN: {what}\n{good}")
}

#[cfg(test)]
mod tests;
