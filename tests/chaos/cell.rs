//! What is tried: every failpoint, everything that can happen at it, every way in which refresh tokens rotate.

use std::fmt;
use std::time::Duration;

use grantd::failpoint::NAMES;
use grantd::sandbox::Rotation;

/// How refresh tokens rotate at a provider. Each is a provider of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Class {
    Static,
    MultiValid,
    SingleUse,
    Grace,
}

impl Class {
    pub const ALL: [Self; 4] = [Self::Static, Self::MultiValid, Self::SingleUse, Self::Grace];

    /// The provider's id.
    pub const fn provider(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::MultiValid => "multi-valid",
            Self::SingleUse => "single-use",
            Self::Grace => "grace",
        }
    }

    pub const fn rotation(self) -> Rotation {
        match self {
            Self::Static => Rotation::Static,
            Self::MultiValid => Rotation::MultiValid,
            Self::SingleUse => Rotation::SingleUse { kills_family: true, grace: Duration::ZERO },
            // Long enough for a restart on a busy machine.
            Self::Grace => Rotation::SingleUse { kills_family: true, grace: Duration::from_secs(60) },
        }
    }

    /// `rotation` and `after_ambiguous` of the definition.
    pub const fn rules(self) -> (&'static str, &'static str) {
        match self {
            Self::Static => ("static", "safe"),
            Self::MultiValid => ("multi_valid", "safe"),
            Self::SingleUse | Self::Grace => ("single_use", "once"),
        }
    }

    /// Whether a token that was spent may ever be sent again without harm.
    pub const fn is_single_use(self) -> bool {
        matches!(self, Self::SingleUse | Self::Grace)
    }
}

/// What happens at a point.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// The process is gone, the third, second or first time it comes there.
    Kill,
    /// The task or thread unwinds, the first few times.
    Panic,
    /// Everybody waits there a while, every time.
    Delay,
    /// The place says that it failed, a few times, and then works.
    Fail,
    /// The place fails from some time on until the process is killed.
    FailUntilKilled,
    /// The place fails from some time on until the process has ended because it was asked to.
    FailUntilStopped,
}

/// What is done so that the point is reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scene {
    /// The daemon starts.
    Start,
    /// An account is connected.
    Connect,
    /// An account is connected by a code that is entered elsewhere.
    Device,
    /// Grants are refreshed.
    Refresh,
    /// Grants are refreshed while the provider refuses.
    Refused,
    /// A connection is ended.
    Disconnect,
    /// The daemon is asked to stop while grants are refreshed.
    Stop,
}

/// One thing that is tried.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    pub point: &'static str,
    pub action: Action,
    /// Whose grants are refreshed; `None` is everybody's.
    pub class: Option<Class>,
    /// Which time it strikes, counted from 1; for a kill.
    pub time: u32,
}

impl Cell {
    pub fn scene(&self) -> Scene {
        match self.point {
            "writer.checkpoint" => Scene::Stop,
            "refresh.judged" => Scene::Refused,
            point if point.starts_with("start.") || point == REPLAY => Scene::Start,
            point if point.starts_with("confirm.") => Scene::Connect,
            point if point.starts_with("device.") => Scene::Device,
            point if point.starts_with("settle.") || point.starts_with("store.failure.") => Scene::Refused,
            point if point.starts_with("revoke.") => Scene::Disconnect,
            point if point.starts_with("drain.") => Scene::Stop,
            _ => Scene::Refresh,
        }
    }

    /// What the daemon is told.
    pub fn orders(&self) -> String {
        let action = match self.action {
            Action::Kill => format!("kill@{}", self.time),
            Action::Panic => format!("panic*{}", self.strikes()),
            Action::Delay => "delay(60)".to_owned(),
            Action::Fail => format!("fail*{}", self.strikes()),
            Action::FailUntilKilled | Action::FailUntilStopped => "fail+2".to_owned(),
        };
        format!("{}{}={action}", self.way_there(), self.point)
    }

    /// How often what does not take the process strikes: every grant once, or everybody at once a few times.
    fn strikes(&self) -> u32 {
        if self.point.starts_with("writer.") { 3 } else { 12 }
    }

    /// What has to fail so that the daemon comes to the point at all.
    fn way_there(&self) -> &'static str {
        match self.point {
            // The file is opened again only after the disk has failed, more often than the point strikes.
            "writer.reopen" => "writer.commit=fail*5;",
            // The spool is left again when the store works again.
            "keep.unspooling" => "store.replace.before=fail*3;",
            // The spool is for what the store refuses: a kill there is a second fault on top of it.
            point if is_on_the_way_to_the_spool(point) => match self.action {
                Action::Kill => "store.replace.before=fail;",
                _ => "store.replace.before=fail*12;",
            },
            _ => "",
        }
    }

    /// Whether an earlier life has to have left something in the spool.
    pub fn needs_spool(&self) -> bool {
        self.point == REPLAY
    }

    /// How many times of reaching the point there are to choose from.
    fn times(&self) -> u32 {
        let often = matches!(self.scene(), Scene::Refresh) && self.point != "keep.unspooling";
        if often || self.needs_spool() { 3 } else { 1 }
    }

    /// Whether it takes the process: a kill does, and so does a panic of the main task.
    pub fn is_deadly(&self) -> bool {
        let is_main = self.point.starts_with("start.") || self.point.starts_with("drain.") || self.needs_spool();
        self.action == Action::Kill || self.action == Action::Panic && is_main
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = self.class.map_or("every class", Class::provider);
        write!(f, "{} {:?}@{} {class}", self.point, self.action, self.time)
    }
}

/// Where what was found in the spool is about to be stored.
const REPLAY: &str = "spool.replay";

fn is_on_the_way_to_the_spool(point: &str) -> bool {
    point != REPLAY && (point.starts_with("spool.") || ["keep.spooling", "keep.spooled"].contains(&point))
}

/// The points that can fail.
const CAN_FAIL: [&str; 22] = [
    "egress.dial",
    "refresh.dialled",
    "egress.answer",
    "egress.body",
    "keep.spooling",
    "spool.create",
    "spool.write",
    "spool.sync",
    "spool.rename",
    "spool.sync_directory",
    "store.arm.before",
    "store.arm.after",
    "store.replace.before",
    "store.replace.after",
    "store.failure.before",
    "store.failure.after",
    "writer.begin",
    "writer.commit",
    "writer.committed",
    "writer.reopen",
    "writer.checkpoint",
    "journal.moved",
];

/// The points whose failing leaves an answer of the provider without a place in the store.
const CANNOT_STORE: [&str; 4] = ["store.replace.before", "store.replace.after", "writer.begin", "writer.commit"];

/// Every cell whose name contains `only`. Which time a kill strikes is drawn from `random`.
pub fn plan(only: &str, mut random: impl FnMut(u32) -> u32) -> Vec<Cell> {
    let mut cells = Vec::new();
    for &point in NAMES {
        for class in Class::ALL {
            let kill = Cell { point, action: Action::Kill, class: Some(class), time: 1 };
            cells.push(Cell { time: 1 + random(kill.times()), ..kill });
            if CANNOT_STORE.contains(&point) {
                let ends = [Action::FailUntilKilled, Action::FailUntilStopped];
                cells.extend(ends.map(|action| Cell { action, ..kill }));
            }
        }
        let can_fail = CAN_FAIL.contains(&point).then_some(Action::Fail);
        for action in [Action::Panic, Action::Delay].into_iter().chain(can_fail) {
            cells.push(Cell { point, action, class: None, time: 1 });
        }
    }
    cells.retain(|cell| cell.to_string().contains(only));
    cells
}
