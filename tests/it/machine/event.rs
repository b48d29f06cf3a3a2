//! What can happen, how likely it is, and how it is told.

use std::fmt;

use proptest::prelude::*;

/// How many accounts there are.
pub const ACCOUNTS: usize = 2;

/// How long it takes until what cannot be stored is in the spool, and a good while longer.
pub const SPOOLED_MS: u64 = 450;

/// Something that happens.
#[derive(Clone, Debug)]
pub enum Event {
    /// Time passes.
    Pass { seconds: u64 },
    /// The wall clock is set.
    Set { seconds: i64 },
    /// The schedule comes round, and all that it starts lands.
    Tick,
    /// A caller asks, as several of them may at once.
    Ask { account: usize, how: Ask, callers: usize },
    /// What the provider does at the next refresh.
    Next { answer: Answer },
    /// The schedule comes round, or a caller asks, and so much later the daemon is gone. Then it starts again.
    Crash { asked: Option<usize>, after_ms: u64 },
    /// The daemon stops in peace and starts again.
    Stop,
    /// Somebody locks the store, right away or as soon as a refresh is under way.
    Lock { for_ms: u64, mid_flight: bool },
    /// A person connects the account again.
    Connect { account: usize, mid_flight: bool },
    /// A person disconnects the account.
    Disconnect { account: usize, mid_flight: bool },
    /// The daemon stops, and the database is copied.
    Copy,
    /// The daemon stops, or is gone, and the copy is put back.
    PutBack { crash: bool },
    /// An administrator accepts the old copy.
    Accept,
}

/// What a caller wants.
#[derive(Clone, Copy, Debug)]
pub enum Ask {
    /// A token.
    Plain,
    /// One that lives so long.
    MinTtl { seconds: u64 },
    /// Another one than the latest.
    RejectedLatest,
    /// Another one than an old one.
    RejectedOld,
}

/// What the provider does.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// It refreshes, and its answer is lost.
    Lost,
    /// It fails before it has done anything.
    Broken,
    /// It has had enough for a second.
    TooMany,
    /// It refuses, though the refresh token is good.
    Refused,
    /// It refreshes, and its answer breaks off.
    Truncated,
    /// It takes its time.
    Slow { ms: u64 },
}

/// Events as they come.
pub fn events() -> impl Strategy<Value = Event> {
    let account = || 0..ACCOUNTS;
    prop_oneof![
        7 => prop_oneof![Just(1), Just(15), Just(600), Just(2400), Just(3700)].prop_map(|seconds| Event::Pass { seconds }),
        1 => prop_oneof![Just(-7200), Just(-600), Just(600), Just(7200)].prop_map(|seconds| Event::Set { seconds }),
        6 => Just(Event::Tick),
        9 => (account(), asks(), 1..=3_usize).prop_map(|(account, how, callers)| Event::Ask { account, how, callers }),
        5 => answers().prop_map(|answer| Event::Next { answer }),
        3 => (proptest::option::of(account()), prop_oneof![5 => 0..40_u64, 1 => Just(SPOOLED_MS)]).prop_map(|(asked, after_ms)| Event::Crash { asked, after_ms }),
        1 => Just(Event::Stop),
        2 => (20..700_u64, any::<bool>()).prop_map(|(for_ms, mid_flight)| Event::Lock { for_ms, mid_flight }),
        4 => (account(), any::<bool>()).prop_map(|(account, mid_flight)| Event::Connect { account, mid_flight }),
        1 => (account(), any::<bool>()).prop_map(|(account, mid_flight)| Event::Disconnect { account, mid_flight }),
        1 => Just(Event::Copy),
        1 => any::<bool>().prop_map(|crash| Event::PutBack { crash }),
        1 => Just(Event::Accept),
    ]
}

fn asks() -> impl Strategy<Value = Ask> {
    prop_oneof![
        3 => Just(Ask::Plain),
        1 => prop_oneof![Just(600), Just(3500)].prop_map(|seconds| Ask::MinTtl { seconds }),
        4 => Just(Ask::RejectedLatest),
        1 => Just(Ask::RejectedOld),
    ]
}

fn answers() -> impl Strategy<Value = Answer> {
    prop_oneof![
        2 => Just(Answer::Lost),
        2 => Just(Answer::Broken),
        1 => Just(Answer::TooMany),
        2 => Just(Answer::Refused),
        1 => Just(Answer::Truncated),
        3 => (5..150_u64).prop_map(|ms| Answer::Slow { ms }),
    ]
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass { seconds } => write!(f, "{seconds} s pass"),
            Self::Set { seconds } => write!(f, "the wall clock is set by {seconds} s"),
            Self::Tick => f.write_str("the schedule comes round, and all that it starts lands"),
            Self::Ask { account, how, callers } => {
                let wish = match how {
                    Ask::Plain => "a token".to_owned(),
                    Ask::MinTtl { seconds } => format!("a token that lives {seconds} s"),
                    Ask::RejectedLatest => "another token than the latest".to_owned(),
                    Ask::RejectedOld => "another token than an old one".to_owned(),
                };
                write!(f, "{callers} at once ask for {wish} of account {account}")
            }
            Self::Next { answer } => match answer {
                Answer::Lost => f.write_str("the next refresh is done, and its answer is lost"),
                Answer::Broken => f.write_str("the next refresh fails with 500 before it is done"),
                Answer::TooMany => f.write_str("the next refresh is answered 429, Retry-After: 1"),
                Answer::Refused => f.write_str("the next refresh is answered invalid_grant, though the token is good"),
                Answer::Truncated => f.write_str("the next refresh is done, and its answer breaks off"),
                Answer::Slow { ms } => write!(f, "the next refresh waits {ms} ms"),
            },
            Self::Crash { asked: Some(account), after_ms } => {
                write!(
                    f,
                    "somebody is refused with the latest token of account {account}, and {after_ms} ms later the daemon is gone"
                )
            }
            Self::Crash { asked: None, after_ms } => {
                write!(f, "the schedule comes round, and {after_ms} ms later the daemon is gone")
            }
            Self::Stop => f.write_str("the daemon stops in peace"),
            Self::Lock { for_ms, mid_flight } => {
                write!(f, "the store is locked for {for_ms} ms{}", during(*mid_flight))
            }
            Self::Connect { account, mid_flight } => {
                write!(f, "account {account} is connected again{}", during(*mid_flight))
            }
            Self::Disconnect { account, mid_flight } => {
                write!(f, "account {account} is disconnected{}", during(*mid_flight))
            }
            Self::Copy => f.write_str("the daemon stops, and the database is copied"),
            Self::PutBack { crash: false } => f.write_str("the daemon stops, and the copy is put back"),
            Self::PutBack { crash: true } => {
                f.write_str("the daemon is gone while the store is locked, and the copy is put back")
            }
            Self::Accept => f.write_str("an administrator accepts the old copy"),
        }
    }
}

const fn during(mid_flight: bool) -> &'static str {
    if mid_flight { " while a refresh is under way" } else { "" }
}
