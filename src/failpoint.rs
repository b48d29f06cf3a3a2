//! Named places where a test makes the daemon die, wait or fail. Without the feature `failpoints` they are nothing at all.
//!
//! The process that starts the daemon chooses by `GRANTD_FAILPOINTS`: `NAME=ACTION` with `;` between, where an action is
//! `kill` (SIGKILL of ourselves), `panic`, `delay(MS)` or `fail` (the place returns its own error). `kill@3` strikes the third
//! time only, `fail*2` the first two times, `fail+3` from the third time on, `fail` every time. A point that cannot fail goes
//! on. Every point that is reached is appended to the file `GRANTD_FAILPOINTS_TRACE` as a line `TASK NAME ACTION`, before
//! anything happens, with `-` for what there is not.

/// Every place, in the order of the protocol. A test compares this with the source.
pub const NAMES: &[&str] = &[
    "start.recovered",
    "start.opened",
    "start.ready",
    "device.given",
    "device.polled",
    "device.kept",
    "device.waiting",
    "confirm.storing",
    "confirm.stored",
    "refresh.started",
    "refresh.read",
    "refresh.admitted",
    "refresh.opened",
    "egress.dial",
    "refresh.dialled",
    "refresh.arming",
    "refresh.armed",
    "refresh.sending",
    "egress.answer",
    "egress.body",
    "refresh.answered",
    "refresh.sealed",
    "keep.storing",
    "keep.stored",
    "keep.exposing",
    "keep.exposed",
    "keep.spooling",
    "spool.create",
    "spool.write",
    "spool.sync",
    "spool.rename",
    "spool.sync_directory",
    "keep.spooled",
    "keep.unspooling",
    "spool.replay",
    "refresh.judged",
    "settle.noting",
    "settle.noted",
    "refresh.landed",
    "store.arm.before",
    "store.arm.after",
    "store.replace.before",
    "store.replace.after",
    "store.failure.before",
    "store.failure.after",
    "writer.begin",
    "writer.job",
    "writer.commit",
    "writer.committed",
    "writer.answered",
    "writer.reopen",
    "writer.checkpoint",
    "revoke.storing",
    "revoke.stored",
    "revoke.upstream",
    "journal.append",
    "journal.moved",
    "drain.begin",
    "drain.flights",
    "drain.close",
];

/// Switches that turn a safety off, so that a test can show that it would notice.
pub const CONTROLS: &[&str] = &["control.drop_writes", "control.many_flights", "control.no_lease"];

/// A failpoint in code that may block: `failpoint!("name")`, and `failpoint!("name", Err(error))` where the place can fail: it
/// then returns that.
#[cfg(feature = "failpoints")]
macro_rules! failpoint {
    ($name:literal) => {
        let _ = $crate::failpoint::strike($name);
    };
    ($name:literal, $failed:expr) => {
        if $crate::failpoint::strike($name) {
            return $failed;
        }
    };
}

/// A failpoint in async code: [`failpoint!`] that waits without blocking the runtime.
#[cfg(feature = "failpoints")]
macro_rules! failpoint_async {
    ($name:literal) => {
        let _ = $crate::failpoint::strike_async($name).await;
    };
    ($name:literal, $failed:expr) => {
        if $crate::failpoint::strike_async($name).await {
            return $failed;
        }
    };
}

#[cfg(not(feature = "failpoints"))]
macro_rules! failpoint {
    ($name:literal $(, $failed:expr)?) => {};
}

#[cfg(not(feature = "failpoints"))]
macro_rules! failpoint_async {
    ($name:literal $(, $failed:expr)?) => {};
}

#[cfg(feature = "failpoints")]
pub use on::{strike, strike_async};

#[cfg(feature = "failpoints")]
mod on {
    use std::fs::File;
    use std::io::Write as _;
    use std::sync::LazyLock;
    use std::time::Duration;

    use rustix::process::{Signal, getpid, kill_process};

    use super::{CONTROLS, NAMES};

    /// Where the points that are reached are written.
    static TRACE: LazyLock<Option<File>> = LazyLock::new(|| {
        for (name, actions) in std::env::var("GRANTD_FAILPOINTS").iter().flat_map(|text| orders(text)) {
            fail::cfg(name, &actions).expect("the actions are written by `orders`");
        }
        let path = std::env::var_os("GRANTD_FAILPOINTS_TRACE")?;
        Some(File::options().create(true).append(true).open(path).expect("the trace can be written"))
    });

    /// What happens at a point.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    enum Action {
        Delay(Duration),
        Fail,
        Kill,
        Panic,
    }

    /// Does what was ordered for this point. Whether the place is to fail.
    ///
    /// # Panics
    /// If that was ordered, or if the orders make no sense.
    #[must_use]
    pub fn strike(name: &'static str) -> bool {
        match reached(name) {
            Some(Action::Delay(span)) => std::thread::sleep(span),
            other => return at_once(name, other),
        }
        false
    }

    /// As [`strike`], waiting without blocking the runtime.
    ///
    /// # Panics
    /// If that was ordered, or if the orders make no sense.
    pub async fn strike_async(name: &'static str) -> bool {
        match reached(name) {
            Some(Action::Delay(span)) => tokio::time::sleep(span).await,
            other => return at_once(name, other),
        }
        false
    }

    fn at_once(name: &str, action: Option<Action>) -> bool {
        match action {
            Some(Action::Fail) => true,
            Some(Action::Kill) => {
                kill_process(getpid(), Signal::KILL).expect("a process may kill itself");
                // The signal may be a moment behind the call.
                loop {
                    std::thread::park();
                }
            }
            Some(Action::Panic) => panic!("failpoint {name}"),
            Some(Action::Delay(_)) | None => false,
        }
    }

    fn reached(name: &'static str) -> Option<Action> {
        let trace = TRACE.as_ref();
        let ordered = fail::eval(name, Option::unwrap_or_default);
        if let Some(mut trace) = trace {
            let task = tokio::task::try_id().map_or_else(|| "-".to_owned(), |id| id.to_string());
            let line = format!("{task} {name} {}\n", ordered.as_deref().unwrap_or("-"));
            trace.write_all(line.as_bytes()).expect("the trace can be written");
        }
        ordered.map(|word| action(&word).expect("`orders` has looked at it"))
    }

    fn action(word: &str) -> Option<Action> {
        let wait = word.strip_prefix("delay ").and_then(|ms| ms.parse().ok());
        Some(match word {
            "fail" => Action::Fail,
            "kill" => Action::Kill,
            "panic" => Action::Panic,
            _ => Action::Delay(Duration::from_millis(wait?)),
        })
    }

    /// The orders in the words of the crate `fail`: what a point is to return, and how often.
    fn orders(text: &str) -> Vec<(&str, String)> {
        text.split(';').map(str::trim).filter(|order| !order.is_empty()).map(order).collect()
    }

    fn order(order: &str) -> (&str, String) {
        let wrong = |why: &str| -> ! { panic!("GRANTD_FAILPOINTS: `{order}`: {why}") };
        let Some((name, what)) = order.split_once('=') else { wrong("not NAME=ACTION") };
        if !NAMES.contains(&name) && !CONTROLS.contains(&name) {
            wrong("no such failpoint");
        }
        let (word, count) = match what.find(['@', '*', '+']) {
            Some(at) => (&what[..at], Some((&what[at..=at], &what[at + 1..]))),
            None => (what, None),
        };
        let word = match word.strip_prefix("delay(").and_then(|rest| rest.strip_suffix(')')) {
            Some(ms) => format!("delay {ms}"),
            None => word.to_owned(),
        };
        if action(&word).is_none() {
            wrong("not `kill`, `panic`, `delay(MS)` or `fail`");
        }
        let Some((how, count)) = count else { return (name, format!("return({word})")) };
        let Ok(count @ 1..) = count.parse::<usize>() else { wrong("not a count") };
        match how {
            "@" => (name, format!("{}*off->1*return({word})", count - 1)),
            "+" => (name, format!("{}*off->return({word})", count - 1)),
            _ => (name, format!("{count}*return({word})")),
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn an_order_says_what_happens_and_how_often() {
            for (text, expected) in [
                ("refresh.armed=kill", "return(kill)"),
                ("refresh.armed=kill@3", "2*off->1*return(kill)"),
                ("refresh.armed=fail*2", "2*return(fail)"),
                ("refresh.armed=fail+2", "1*off->return(fail)"),
                ("refresh.armed=delay(50)", "return(delay 50)"),
            ] {
                assert_eq!(orders(text), [("refresh.armed", expected.to_owned())]);
            }
            assert_eq!(orders("refresh.armed=kill; writer.begin=panic@1;").len(), 2);
        }

        #[test]
        fn an_order_that_makes_no_sense_is_no_silent_nothing() {
            for text in [
                "refresh.armed",
                "nowhere=kill",
                "refresh.armed=explode",
                "refresh.armed=kill@0",
                "refresh.armed=delay",
            ] {
                assert!(std::panic::catch_unwind(|| orders(text)).is_err(), "{text}");
            }
        }

        #[test]
        fn a_point_strikes_the_time_it_was_told_to() {
            fail::cfg("refresh.started", &order("refresh.started=fail@3").1).unwrap();
            let struck: Vec<bool> = (0..5).map(|_| strike("refresh.started")).collect();
            fail::remove("refresh.started");
            assert_eq!(struck, [false, false, true, false, false]);
        }
    }
}
