//! Makes a tree of plain values out of YAML, refusing duplicate keys, merge keys and what is not a value.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::{DEPTH_MAX, Place};

/// # Errors
/// At the first thing that is not plain, with its place where the parser tells it.
pub(super) fn build(text: &str) -> Result<Value, (Option<Place>, String)> {
    let problem = RefCell::new(None);
    let node = Node { depth: 0, problem: &problem };
    let value =
        node.deserialize(serde_yaml::Deserializer::from_str(text)).map_err(|error| explain(&error, problem.take()))?;
    match value {
        Value::Object(_) => Ok(value),
        Value::Null => Err((None, "is empty; expected a mapping".to_owned())),
        _ => Err((Some(Place { line: 1, column: 1 }), "expected a mapping: `key: value` lines".to_owned())),
    }
}

/// Our own words if it was us who refused, else the parser's first sentence. Its other sentences repeat the place.
fn explain(error: &serde_yaml::Error, problem: Option<String>) -> (Option<Place>, String) {
    let place = error.location().map(|location| Place { line: location.line(), column: location.column() });
    if let Some(problem) = problem {
        return (place, problem);
    }
    let text = error.to_string();
    if text.starts_with("EOF while parsing") {
        return (None, "is empty; expected a mapping".to_owned());
    }
    let first = text.split(" at line ").next().unwrap_or(&text);
    let first = match first.split(" at position ").next().unwrap_or(first) {
        "found character that cannot start any token" => {
            "no value begins like this; indent with spaces and never with tabs, and put text in quotes"
        }
        first => first,
    };
    (place, format!("is not valid YAML: {first}"))
}

/// The parser adds the place to an error that is raised while it visits a node; the words go beside it, because the
/// parser mixes the path into its own.
#[derive(Clone, Copy)]
struct Node<'p> {
    depth: usize,
    problem: &'p RefCell<Option<String>>,
}

impl Node<'_> {
    fn refuse<E: Error>(self, message: impl Into<String>) -> E {
        *self.problem.borrow_mut() = Some(message.into());
        E::custom("refused")
    }

    fn deeper<E: Error>(self) -> Result<Self, E> {
        if self.depth >= DEPTH_MAX {
            return Err(self.refuse(format!("expected at most {DEPTH_MAX} levels")));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a plain value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<Value, E> {
        Err(self.refuse("expected a smaller number; put text in quotes"))
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<Value, E> {
        Err(self.refuse("expected a smaller number; put text in quotes"))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| self.refuse("expected a finite number; put text in quotes"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key_seed(Key { node: inner, taken: &map })? {
            let value = entries.next_value_seed(inner)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

/// Refuses while the key itself is visited, so that the place is the key's.
struct Key<'k, 'p> {
    node: Node<'p>,
    taken: &'k Map<String, Value>,
}

impl<'de> DeserializeSeed<'de> for Key<'_, '_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<String, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Key<'_, '_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key of text")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<String, E> {
        if key == "<<" {
            return Err(self.node.refuse("expected no merge key"));
        }
        if self.taken.contains_key(key) {
            return Err(self.node.refuse(format!("the key `{}` is here twice", key.escape_debug())));
        }
        Ok(key.to_owned())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<String, E> {
        Err(self.node.refuse(KEY))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<String, E> {
        Err(self.node.refuse(KEY))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<String, E> {
        Err(self.node.refuse(KEY))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<String, E> {
        Err(self.node.refuse(KEY))
    }

    fn visit_unit<E: Error>(self) -> Result<String, E> {
        Err(self.node.refuse(KEY))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<String, A::Error> {
        Err(self.node.refuse(KEY))
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<String, A::Error> {
        Err(self.node.refuse(KEY))
    }
}

const KEY: &str = "expected a key of text; put it in quotes";
