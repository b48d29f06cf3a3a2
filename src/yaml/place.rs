//! Finds the line and the column of a member that is named by its path.

use std::cell::Cell;
use std::fmt;
use std::fmt::Write as _;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A place in a text; both count from one, the column in characters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// One step from a collection to a member.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Segment {
    /// The item of a list, counted from zero.
    Index(usize),
    /// The value of a key.
    Key(String),
}

impl From<&str> for Segment {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<usize> for Segment {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

/// Where the value at `path` begins; `None` if there is none.
#[must_use]
pub fn locate(text: &str, path: &[Segment]) -> Option<Place> {
    find(text, path, false)
}

/// The value at `path`, or else the nearest key around it that is written. For a value that begins on a line after its
/// key, the key says better what is meant.
pub(super) fn nearest_place(text: &str, path: &[Segment]) -> Option<Place> {
    let (value, key) = (locate(text, path), nearest_key(text, path));
    match (value, key) {
        (Some(value), Some(key)) if value.line > key.line && find(text, path, true).is_some() => Some(key),
        (value, key) => value.or(key),
    }
}

/// The key at the end of `path`, or else the nearest one around it that is written.
pub(super) fn nearest_key(text: &str, path: &[Segment]) -> Option<Place> {
    (0..=path.len()).rev().find_map(|length| find(text, &path[..length], true))
}

/// The path as people write it: `slots[0].name`.
#[must_use]
pub fn dotted(path: &[Segment]) -> String {
    let mut text = String::new();
    for segment in path {
        match segment {
            Segment::Index(index) => {
                let _ = write!(text, "[{index}]");
            }
            Segment::Key(key) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.extend(key.escape_debug().take(100));
            }
        }
    }
    text
}

pub(super) fn segments(path: &serde_path_to_error::Path) -> Vec<Segment> {
    path.iter()
        .filter_map(|segment| match segment {
            serde_path_to_error::Segment::Seq { index } => Some(Segment::Index(*index)),
            serde_path_to_error::Segment::Map { key } => Some(Segment::Key(key.clone())),
            serde_path_to_error::Segment::Enum { variant } => Some(Segment::Key(variant.clone())),
            serde_path_to_error::Segment::Unknown => None,
        })
        .collect()
}

/// The parser tells places in errors only, so the walk ends in an error at the place that is looked for.
fn find(text: &str, path: &[Segment], key: bool) -> Option<Place> {
    let found = Cell::new(false);
    let step = Step { path, key, found: &found };
    let error = step.deserialize(serde_yaml::Deserializer::from_str(super::body(text))).err()?;
    let location = error.location().filter(|_| found.get())?;
    Some(Place { line: location.line(), column: location.column() })
}

#[derive(Clone, Copy)]
struct Step<'p> {
    path: &'p [Segment],
    /// Whether the key that leads to the end of the path is looked for, instead of its value.
    key: bool,
    found: &'p Cell<bool>,
}

impl Step<'_> {
    fn here<E: Error>(self) -> E {
        self.found.set(true);
        E::custom("here")
    }

    fn rest(self) -> Self {
        Self { path: &self.path[1..], ..self }
    }
}

impl<'de> DeserializeSeed<'de> for Step<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Step<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a plain value")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.scalar()
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.scalar()
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.scalar()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.scalar()
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        self.scalar()
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.scalar()
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        self.scalar()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let wanted = match self.path.first() {
            None => return Err(self.here()),
            Some(Segment::Index(index)) => Some(*index),
            Some(Segment::Key(_)) => None,
        };
        for index in 0.. {
            let more = if Some(index) == wanted {
                items.next_element_seed(self.rest())?.is_some()
            } else {
                items.next_element::<IgnoredAny>()?.is_some()
            };
            if !more {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        if self.path.is_empty() {
            return Err(self.here());
        }
        while let Some(wanted) = entries.next_key_seed(Name(self))? {
            if wanted {
                entries.next_value_seed(self.rest())?;
            } else {
                entries.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

impl Step<'_> {
    fn scalar<E: Error>(self) -> Result<(), E> {
        if self.path.is_empty() { Err(self.here()) } else { Ok(()) }
    }
}

/// Whether this key is the next step.
struct Name<'p>(Step<'p>);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<bool, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key of text")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<bool, E> {
        let step = self.0;
        let wanted = matches!(step.path.first(), Some(Segment::Key(name)) if name == key);
        if wanted && step.key && step.path.len() == 1 {
            return Err(step.here());
        }
        Ok(wanted)
    }
}
