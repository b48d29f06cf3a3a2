//! Where something stands in an answer: JSON Pointers (RFC 6901), and texts that are filled in through them.
//!
//! A [`PointerTemplate`] is text with `{/a/b|/c}` in it: the first pointer that finds something, or nothing if the
//! alternatives end with an empty one.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A JSON Pointer (RFC 6901).
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Pointer(String);

/// The text is not a JSON Pointer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("expected a JSON Pointer such as `/error` (RFC 6901)")]
pub struct PointerError;

impl Pointer {
    /// The pointer to a member at the top of an answer.
    #[must_use]
    pub fn to_member(name: &str) -> Self {
        Self(format!("/{name}"))
    }

    /// What the pointer finds in `value`; nothing if it finds `null`.
    #[must_use]
    pub fn find<'v>(&self, value: &'v serde_json::Value) -> Option<&'v serde_json::Value> {
        value.pointer(&self.0).filter(|found| !found.is_null())
    }

    /// Puts `what` where the pointer points, and makes the objects on the way there.
    pub fn put(&self, target: &mut serde_json::Value, what: serde_json::Value) {
        let mut place = target;
        for step in self.0.split('/').skip(1) {
            if !place.is_object() {
                *place = serde_json::Value::Object(serde_json::Map::new());
            }
            // RFC 6901 section 4.
            place = &mut place[step.replace("~1", "/").replace("~0", "~")];
        }
        *place = what;
    }
}

impl FromStr for Pointer {
    type Err = PointerError;

    fn from_str(text: &str) -> Result<Self, PointerError> {
        if text.starts_with('/') && text.len() <= 256 && !text.contains(['{', '}', '|']) {
            Ok(Self(text.to_owned()))
        } else {
            Err(PointerError)
        }
    }
}

impl<'de> Deserialize<'de> for Pointer {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Text with `{/pointer|/other|}` in it, filled in from a JSON value.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(into = "String")]
#[schemars(with = "String")]
pub struct PointerTemplate {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Part {
    Choice { pointers: Vec<Pointer>, optional: bool },
    Text(String),
}

/// Why a text is not a [`PointerTemplate`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TemplateError {
    /// A `{` without `}`, or the other way round.
    #[error("has an unmatched brace")]
    Brace,
    /// What stands between the braces is not a list of JSON Pointers.
    #[error("expected JSON Pointers between the braces, such as `{{/id}}` or `{{/name|/login}}`")]
    Pointer,
}

impl PointerTemplate {
    /// The text filled in from `value`; `None` if a pointer that must find something does not.
    #[must_use]
    pub fn fill(&self, value: &serde_json::Value) -> Option<String> {
        let mut filled = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Choice { pointers, optional } => {
                    match pointers.iter().find_map(|pointer| plain(pointer.find(value)?)) {
                        Some(text) => filled.push_str(&text),
                        None if *optional => {}
                        None => return None,
                    }
                }
            }
        }
        Some(filled)
    }
}

impl PointerTemplate {
    /// The pointer of each choice that is looked at first.
    pub fn pointers(&self) -> impl Iterator<Item = &Pointer> {
        self.parts.iter().filter_map(|part| match part {
            Part::Choice { pointers, .. } => pointers.first(),
            Part::Text(_) => None,
        })
    }
}

impl FromStr for PointerTemplate {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            let (before, from_brace) = rest.split_at(open);
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let inside = from_brace.strip_prefix('{').ok_or(TemplateError::Brace)?;
            let (choice, after) = inside.split_once('}').ok_or(TemplateError::Brace)?;
            parts.push(choice_from(choice)?);
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { text: text.to_owned(), parts })
    }
}

fn choice_from(text: &str) -> Result<Part, TemplateError> {
    let (list, optional) = match text.strip_suffix('|') {
        Some(list) => (list, true),
        None => (text, false),
    };
    let pointers =
        list.split('|').map(|pointer| pointer.parse().map_err(|_| TemplateError::Pointer)).collect::<Result<_, _>>()?;
    Ok(Part::Choice { pointers, optional })
}

/// Text and whole numbers as text. An object or a list has no plain form, and a fraction may have lost digits on the way: two
/// accounts could become one.
fn plain(value: &serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Number(number) if !number.is_f64() => Some(number.to_string()),
        _ => None,
    }
}

impl From<PointerTemplate> for String {
    fn from(template: PointerTemplate) -> Self {
        template.text
    }
}

impl<'de> Deserialize<'de> for PointerTemplate {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_template_takes_the_first_pointer_that_finds_something() {
        let value = json!({"id": 7, "team": {"id": "T0"}, "enterprise": null, "deep": {}, "huge": 1e30});
        for (template, expected) in [
            ("{/id}", Some("7")),
            ("{/enterprise/id|}:{/team/id|}", Some(":T0")),
            ("{/nothing|/team/id}", Some("T0")),
            ("{/enterprise}", None),
            ("{/deep}", None),
            ("{/huge}", None),
            ("plain", Some("plain")),
        ] {
            let template: PointerTemplate = template.parse().unwrap();
            assert_eq!(template.fill(&value).as_deref(), expected, "{template:?}");
        }
    }

    #[test]
    fn what_is_put_somewhere_is_found_there() {
        let mut value = json!({"team": "T0"});
        for text in ["/id", "/team/id", "/team/name", "/a~1b/c~0d", "/deep/0/er"] {
            let pointer: Pointer = text.parse().unwrap();
            pointer.put(&mut value, json!(text));
            assert_eq!(pointer.find(&value), Some(&json!(text)));
        }
        assert_eq!(value["a/b"]["c~d"], "/a~1b/c~0d");
        assert_eq!(value["team"], json!({"id": "/team/id", "name": "/team/name"}));
    }

    #[test]
    fn a_template_knows_where_it_looks_first() {
        let template: PointerTemplate = "{/a|/b}:x{/c|}".parse().unwrap();
        let first: Vec<_> = template.pointers().cloned().collect();
        assert_eq!(first, [Pointer::to_member("a"), Pointer::to_member("c")]);
    }

    #[test]
    fn a_broken_template_is_refused() {
        for (text, error) in [
            ("{/a", TemplateError::Brace),
            ("/a}", TemplateError::Brace),
            ("{a}", TemplateError::Pointer),
            ("{}", TemplateError::Pointer),
            ("{/a||/b}", TemplateError::Pointer),
        ] {
            assert_eq!(text.parse::<PointerTemplate>(), Err(error), "{text}");
        }
    }
}
