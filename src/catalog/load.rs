//! Reads definitions: those compiled in, and those of the overlay directory; each is tried in every variant.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::catalog::check::{Check, Problem, fail, member, texts};
use crate::catalog::error::unknown;
use crate::catalog::resolve::{self, Settings};
use crate::catalog::schema::{Definition, VarKind};
use crate::catalog::{Catalog, CatalogError, Entry, SettingsError, check};
use crate::yaml::{self, Fault, Segment, YamlError};

const BUILT_IN: [(&str, &str); 7] = [
    ("atlassian.yaml", include_str!("../../providers/atlassian.yaml")),
    ("github.yaml", include_str!("../../providers/github.yaml")),
    ("gitlab.yaml", include_str!("../../providers/gitlab.yaml")),
    ("google.yaml", include_str!("../../providers/google.yaml")),
    ("microsoft.yaml", include_str!("../../providers/microsoft.yaml")),
    ("notion.yaml", include_str!("../../providers/notion.yaml")),
    ("slack.yaml", include_str!("../../providers/slack.yaml")),
];

pub(super) fn built_in() -> Result<Catalog, CatalogError> {
    let mut entries = BTreeMap::new();
    for (name, text) in BUILT_IN {
        let entry = entry(&format!("built-in:{name}"), text)?;
        entries.insert(entry.base.id.clone(), entry);
    }
    Ok(Catalog { entries })
}

pub(super) fn overlay(catalog: &mut Catalog, dir: &Path) -> Result<(), CatalogError> {
    let mut seen = BTreeMap::new();
    for path in files(dir)? {
        let entry = entry(&path.display().to_string(), &yaml::open_trusted(&path)?)?;
        let (file, id) = (entry.file.clone(), entry.base.id.clone());
        if let Some(other) = seen.insert(id.clone(), file.clone()) {
            return Err(CatalogError::Twice { file, id, other });
        }
        catalog.entries.insert(id, entry);
    }
    Ok(())
}

/// In the order of their names, so that the first error is always the same one.
fn files(dir: &Path) -> Result<Vec<PathBuf>, CatalogError> {
    let cannot = |cause| CatalogError::Directory { dir: dir.to_owned(), cause };
    let listed = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.map_err(cannot)?,
    };
    let metadata = std::fs::metadata(dir).map_err(cannot)?;
    yaml::trusted(&metadata).map_err(|message| YamlError::whole(&dir.display().to_string(), message))?;
    let mut files = Vec::new();
    for item in listed {
        let path = item.map_err(cannot)?.path();
        if path.extension().is_some_and(|end| end == "yaml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

pub(super) fn entry(file: &str, text: &str) -> Result<Entry, CatalogError> {
    let located = |problem: Problem| YamlError::at(file, text, &problem.path, problem.message);
    let mut tree = yaml::tree(file, text)?;
    texts(&tree, &mut Vec::new()).map_err(located)?;
    let base: Definition = yaml::read(file, text)?;
    variants(&base).map_err(located)?;
    if let Value::Object(members) = &mut tree {
        members.remove("variants");
        members.remove("default_variant");
    }
    let entry = Entry { file: file.to_owned(), text: text.to_owned(), tree, base };
    try_variant(&entry, None)?;
    for name in entry.base.variants.keys() {
        try_variant(&entry, Some(name))?;
    }
    Ok(entry)
}

fn variants(base: &Definition) -> Check {
    let names: Vec<_> = base.variants.keys().map(String::as_str).collect();
    match &base.default_variant {
        None if !names.is_empty() => return fail(member!["variants"], "expected `default_variant` beside it"),
        Some(name) => match base.variants.get(name) {
            None => return fail(member!["default_variant"], unknown("variant", name, &names)),
            Some(variant) if !variant.set.is_empty() || !variant.extends.is_empty() => {
                return fail(
                    member!["variants", name.as_str()],
                    "expected only `about`: the default variant is the definition as it stands",
                );
            }
            Some(_) => {}
        },
        None => {}
    }
    for (name, variant) in &base.variants {
        let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'));
        if !plain || name.is_empty() || name.len() > 64 {
            return fail(
                member!["variants", name.as_str()],
                "expected a name of lower-case letters, digits, `-` and `_`",
            );
        }
        for own in ["id", "variants", "default_variant"] {
            if variant.set.contains_key(own) {
                return fail(member!["variants", name.as_str(), "set", own], "expected no change of this member");
            }
        }
        for (index, other) in variant.extends.iter().enumerate() {
            let path = || member!["variants", name.as_str(), "extends", index];
            match base.variants.get(other) {
                None => return fail(path(), unknown("variant", other, &names)),
                Some(other) if !other.extends.is_empty() => {
                    return fail(path(), "expected a variant that extends no other");
                }
                Some(_) => {}
            }
        }
    }
    Ok(())
}

/// Makes a provider of the variant with values that stand in for an operator's.
fn try_variant(entry: &Entry, variant: Option<&str>) -> Result<(), YamlError> {
    let definition = merged(entry, variant).map_err(|fault| {
        let (path, message) = written_at(entry, variant, &fault.path, &fault.message);
        YamlError {
            file: entry.file.clone(),
            place: fault.place(&entry.text, &path),
            path: yaml::dotted(&path),
            message,
        }
    })?;
    let located = |problem: Problem| {
        let (path, message) = written_at(entry, variant, &problem.path, &problem.message);
        YamlError::at(&entry.file, &entry.text, &path, message)
    };
    check::definition(&definition).map_err(located)?;
    let stand_ins = definition.vars.iter().filter(|(_, var)| var.default.is_none());
    let settings = Settings {
        id: definition.id.clone(),
        definition: definition.id.clone(),
        variant: variant.map(str::to_owned),
        vars: stand_ins
            .map(|(name, var)| {
                let value = match (var.one_of.first(), var.kind) {
                    (Some(first), _) => first.clone(),
                    (None, VarKind::Host) => "host.example".to_owned(),
                    (None, VarKind::Segment) => "segment".to_owned(),
                };
                (name.clone(), value)
            })
            .collect(),
        client_id: "client".to_owned(),
    };
    let problem = |error: SettingsError| located(Problem { path: member!["vars"], message: error.message });
    let filler = resolve::filler(&definition, &settings).map_err(problem)?;
    resolve::provider(definition, &filler, &settings).map_err(located)?;
    Ok(())
}

/// The definition with a variant's changes.
pub(super) fn merged(entry: &Entry, variant: Option<&str>) -> Result<Definition, Fault> {
    let mut tree = entry.tree.clone();
    for change in chain(entry, variant) {
        merge(&mut tree, &Value::Object(entry.base.variants[change].set.clone()));
    }
    yaml::shape(tree)
}

/// The variants whose changes are merged, in order.
fn chain<'e>(entry: &'e Entry, variant: Option<&str>) -> Vec<&'e str> {
    let Some((name, found)) = variant.and_then(|name| entry.base.variants.get_key_value(name)) else {
        return Vec::new();
    };
    found.extends.iter().chain([name]).map(String::as_str).collect()
}

/// RFC 7396.
fn merge(target: &mut Value, change: &Value) {
    let Value::Object(changes) = change else {
        *target = change.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(members) = target else { return };
    for (key, change) in changes {
        if change.is_null() {
            members.remove(key);
        } else {
            merge(members.entry(key.clone()).or_insert(Value::Null), change);
        }
    }
}

/// Where the member of a merged definition is written in the file: in the last variant that changes it, or in the base.
/// A member of the base that is wrong only beside a variant's changes needs a word about it.
fn written_at(entry: &Entry, variant: Option<&str>, path: &[Segment], message: &str) -> (Vec<Segment>, String) {
    for name in chain(entry, variant).into_iter().rev() {
        for length in (1..=path.len()).rev() {
            let mut changed = member!["variants", name, "set"];
            changed.extend_from_slice(&path[..length]);
            if yaml::locate(&entry.text, &changed).is_some() {
                changed.extend_from_slice(&path[length..]);
                return (changed, message.to_owned());
            }
            // A mapping that the variant only adds to is not where an untouched member is written.
            if yaml::locate(&entry.text, &path[..length]).is_some() {
                break;
            }
        }
    }
    let message = match variant {
        Some(name) => format!("{message}, in the variant `{name}`"),
        None => message.to_owned(),
    };
    (path.to_vec(), message)
}
