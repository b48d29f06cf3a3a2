//! A recorded exchange as it is written in YAML.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use grantd::catalog::{Catalog, Settings};
use grantd::model::provider::Provider;
use serde::Deserialize;
use serde_json::{Value, json};

/// One request and what came of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    #[serde(skip)]
    pub(crate) folder: String,
    #[serde(skip)]
    place: String,
    #[serde(default)]
    name: Option<String>,
    pub(crate) asked: String,
    #[serde(default)]
    variant: Option<String>,
    #[serde(default)]
    vars: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) slot: Option<String>,
    #[serde(default = "ok")]
    pub(crate) status: u16,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) body: Value,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    pub(crate) told: Option<Value>,
    pub(crate) expect: Expect,
}

/// What should come out: grants, or a refusal.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expect {
    pub(crate) grants: Option<Value>,
    account: Option<Value>,
    pub(crate) class: Option<String>,
    code: Option<String>,
    number: Option<u64>,
    #[serde(default)]
    hint: bool,
    claims: Option<String>,
    retry_after: Option<u64>,
    interval: Option<u64>,
}

const fn ok() -> u16 {
    200
}

/// Every record of every provider's folder.
pub(crate) fn records() -> Vec<Record> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exchanges");
    let folders = std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let mut files: Vec<_> =
        folders.flat_map(|folder| std::fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut records = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let listed: Vec<Record> =
            serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let folder = file.parent().and_then(Path::file_name).unwrap().to_string_lossy().into_owned();
        let place = file.strip_prefix(&root).unwrap().display().to_string();
        let named = listed.into_iter().enumerate();
        records.extend(named.map(|(index, record)| Record {
            folder: folder.clone(),
            place: format!("{place}[{index}]"),
            ..record
        }));
    }
    records
}

impl Record {
    /// The provider as the record wants it.
    pub(crate) fn provider(&self, catalog: &Catalog) -> Provider {
        let settings = Settings {
            variant: self.variant.clone(),
            vars: self.vars.clone(),
            ..Settings::plain(self.folder.parse().unwrap(), "client")
        };
        catalog.resolve(&settings).unwrap_or_else(|error| panic!("{self}: {error}"))
    }

    /// What the provider answered.
    pub(crate) fn response(&self) -> http::Response<Vec<u8>> {
        let mut response = http::Response::builder().status(self.status);
        if !self.headers.contains_key("content-type") {
            response = response.header("content-type", "application/json");
        }
        for (name, value) in &self.headers {
            response = response.header(name, value);
        }
        let body = self.text.clone().unwrap_or_else(|| self.body.to_string());
        response.body(body.into_bytes()).unwrap()
    }

    /// What should come out, in the form that [`replay`](crate::replay::replay) gives.
    pub(crate) fn expected(&self) -> Value {
        let expect = &self.expect;
        let mut expected = json!({});
        let members = [
            ("grants", expect.grants.clone()),
            ("account", expect.account.clone()),
            ("class", expect.class.clone().map(Value::from)),
            ("code", expect.code.clone().map(Value::from)),
            ("number", expect.number.map(Value::from)),
            ("hint", expect.hint.then_some(Value::Bool(true))),
            ("claims", expect.claims.clone().map(Value::from)),
            ("retry_after", expect.retry_after.map(Value::from)),
            ("interval", expect.interval.map(Value::from)),
        ];
        for (name, value) in members {
            if let Some(value) = value {
                expected[name] = value;
            }
        }
        expected
    }

    /// Whether the record says whose account it should be.
    pub(crate) fn names_an_account(&self) -> bool {
        self.expect.account.is_some()
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.place, self.asked, self.name.as_deref().unwrap_or_default())
    }
}
