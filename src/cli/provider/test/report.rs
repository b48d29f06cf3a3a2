//! What each step asked, what came, and where in the definition to look if it is wrong.

use std::io::{self, Write};

use serde_json::{Value, json};

/// All variants of one definition.
pub(super) struct Report {
    pub(super) file: String,
    pub(super) id: String,
    pub(super) trials: Vec<Trial>,
}

/// One variant.
pub(super) struct Trial {
    pub(super) variant: Option<String>,
    pub(super) steps: Vec<Step>,
}

/// One step.
pub(super) struct Step {
    /// Which one.
    pub(super) name: &'static str,
    /// What was asked.
    pub(super) asked: String,
    /// What came, or why nothing was asked.
    pub(super) came: String,
    pub(super) outcome: Outcome,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    /// As the definition says.
    Ok,
    /// In another way; the member of the definition to look at.
    Failed(&'static str),
    /// Nothing was tried.
    Skipped,
}

impl Step {
    pub(super) fn ok(name: &'static str, asked: impl Into<String>, came: impl Into<String>) -> Self {
        Self { name, asked: asked.into(), came: came.into(), outcome: Outcome::Ok }
    }

    pub(super) fn failed(
        name: &'static str,
        asked: impl Into<String>,
        came: impl Into<String>,
        look: &'static str,
    ) -> Self {
        Self { name, asked: asked.into(), came: came.into(), outcome: Outcome::Failed(look) }
    }

    pub(super) fn skipped(name: &'static str, why: impl Into<String>) -> Self {
        Self { name, asked: String::new(), came: why.into(), outcome: Outcome::Skipped }
    }

    fn line(&self) -> String {
        let (word, look) = match self.outcome {
            Outcome::Ok => ("ok", String::new()),
            Outcome::Failed(look) => ("FAILED", format!("; look at `{look}`")),
            Outcome::Skipped => ("-", String::new()),
        };
        let arrow = if self.asked.is_empty() { "" } else { " -> " };
        format!("  {word:7} {:10} {}{arrow}{}{look}", self.name, self.asked, self.came)
    }

    fn json(&self) -> Value {
        let (result, look) = match self.outcome {
            Outcome::Ok => ("ok", None),
            Outcome::Failed(look) => ("failed", Some(look)),
            Outcome::Skipped => ("skipped", None),
        };
        json!({"step": self.name, "asked": self.asked, "came": self.came, "result": result, "look_at": look})
    }
}

impl Trial {
    pub(super) fn print(&self, id: &str, out: &mut dyn Write) -> io::Result<()> {
        match &self.variant {
            Some(variant) => writeln!(out, "{id}, variant {variant}")?,
            None => writeln!(out, "{id}")?,
        }
        for step in &self.steps {
            writeln!(out, "{}", step.line())?;
        }
        writeln!(out)
    }
}

impl Report {
    pub(super) fn failed(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Failed(_)))
    }

    fn count(&self, which: impl Fn(Outcome) -> bool) -> usize {
        self.trials.iter().flat_map(|trial| &trial.steps).filter(|step| which(step.outcome)).count()
    }

    pub(super) fn sum_up(&self, out: &mut dyn Write) -> io::Result<()> {
        let (ok, failed) = (self.count(|outcome| outcome == Outcome::Ok), self.failed());
        let skipped = self.count(|outcome| outcome == Outcome::Skipped);
        writeln!(out, "{}: {ok} steps ok, {failed} failed, {skipped} not tried", self.file)
    }

    pub(super) fn json(&self) -> Value {
        let trials = self.trials.iter().map(
            |trial| json!({"variant": trial.variant, "steps": trial.steps.iter().map(Step::json).collect::<Vec<_>>()}),
        );
        json!({
            "file": self.file,
            "id": self.id,
            "ok": self.failed() == 0,
            "variants": trials.collect::<Vec<_>>(),
        })
    }
}
