//! Turns a deserializer's message into one that says what was expected and repeats no value.

/// The message without values, and whether it is about a key rather than its value.
pub(super) fn plain(message: &str) -> (String, bool) {
    if let Some(rest) = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: ")) {
        return (mismatch(rest), false);
    }
    if let Some(rest) = message.strip_prefix("unknown variant `") {
        let (found, expected) = rest.rsplit_once("`, expected ").unwrap_or(("", "something else"));
        return (format!("expected {expected}{}", hint(found, expected)), false);
    }
    if let Some(rest) = message.strip_prefix("unknown field `") {
        let (found, expected) = rest.split_once("`, ").unwrap_or((rest, ""));
        let shown: String = found.escape_debug().take(60).collect();
        return (format!("unknown key `{shown}`; {expected}{}", hint(found, expected)), true);
    }
    if let Some(rest) = message.strip_prefix("missing field `") {
        let name = rest.split('`').next().unwrap_or(rest);
        return (format!("expected the key `{name}`"), true);
    }
    (message.to_owned(), false)
}

/// `string "x", expected a map` says what it found by its value; its kind is enough.
fn mismatch(rest: &str) -> String {
    let (found, expected) = rest.rsplit_once(", expected ").unwrap_or((rest, "something else"));
    let kind = found.split([' ', '`', '"']).next().unwrap_or("value");
    let kind = match kind {
        "boolean" | "integer" | "floating" | "number" if expected.contains("string") => {
            return format!("expected text; put it in quotes, because YAML reads it as a {}", number_or(kind));
        }
        "floating" | "integer" | "number" => "a number",
        "boolean" => "`true` or `false`",
        "null" | "unit" => "nothing",
        "string" | "character" => "text",
        "map" => "a mapping",
        "sequence" => "a list",
        _ => "something else",
    };
    format!("expected {}, found {kind}", words(expected))
}

fn number_or(kind: &str) -> &'static str {
    if kind == "boolean" { "truth value" } else { "number" }
}

/// The names of Rust's types are not the reader's words.
fn words(expected: &str) -> String {
    match expected {
        "a string" | "string" => "text".to_owned(),
        "a boolean" => "`true` or `false`".to_owned(),
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, not negative and not too large".to_owned(),
        "a nonzero u32" | "a nonzero u64" | "a nonzero usize" => "a whole number above zero".to_owned(),
        "a map" => "a mapping".to_owned(),
        "a sequence" => "a list".to_owned(),
        _ => match expected.strip_prefix("struct ") {
            Some(_) => "a mapping".to_owned(),
            None => expected.to_owned(),
        },
    }
}

fn hint(found: &str, expected: &str) -> String {
    let names = expected.split('`').skip(1).step_by(2);
    nearest(found, names).map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

/// The name that `found` is most likely a slip of the pen for.
#[must_use]
pub fn nearest<'n>(found: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    if found.len() > 64 {
        return None;
    }
    names
        .into_iter()
        .map(|name| (distance(found, name), name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .min()
        .map(|(_, name)| name)
}

/// How many letters have to be changed, put in, left out or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.to_lowercase().replace('-', "_").chars().collect();
    let b: Vec<char> = b.to_lowercase().replace('-', "_").chars().collect();
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}
