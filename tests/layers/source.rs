//! Reads source text: which paths from the root of the crate a file names, and what of it is test code.
//!
//! Comments and literals are blanked first. What it cannot see: names that a macro puts together, and names that come
//! through a re-export.

use std::fs;
use std::path::{Path, PathBuf};

#[derive(Clone)]
pub(crate) struct File {
    /// For messages.
    pub(crate) path: String,
    /// Where it is in the module tree: `broker/token` for `src/broker/token.rs`, nothing for `lib.rs` and `main.rs`.
    pub(crate) module: PathBuf,
    pub(crate) text: String,
    /// The text with comments and literals blanked, of the same length.
    pub(crate) code: String,
}

/// A path from the root of the crate that a file names.
pub(crate) struct Named {
    pub(crate) line: usize,
    pub(crate) path: Vec<String>,
    /// Whether it stands directly in `crate::{…}`.
    pub(crate) grouped: bool,
}

impl File {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let module = path.trim_end_matches(".rs").trim_end_matches("/mod");
        let module = if ["lib", "main"].contains(&module) { "" } else { module };
        Self { path: format!("src/{path}"), module: module.into(), text: text.to_owned(), code: code_of(text) }
    }

    /// The module right below the root that the file belongs to.
    pub(crate) fn top(&self) -> &str {
        self.module.iter().next().and_then(|top| top.to_str()).unwrap_or_default()
    }

    /// Every path that begins at the root: by `crate::`, by the crate's own name, or by enough `super::`.
    pub(crate) fn named(&self) -> Vec<Named> {
        let mut found = Vec::new();
        for (at, word) in words(&self.code) {
            let above = match word {
                _ if self.code[..at].ends_with("::") => continue,
                "crate" | "grantd" => usize::MAX,
                "super" => 1,
                _ => continue,
            };
            let Some(mut rest) = self.code[at + word.len()..].strip_prefix("::") else {
                continue;
            };
            let mut climbed = above;
            while let Some(further) = rest.strip_prefix("super::") {
                (rest, climbed) = (further, climbed.saturating_add(1));
            }
            if climbed < self.module.iter().count() + inline_depth(&self.code[..at]) {
                continue;
            }
            let line = line_of(&self.code, at);
            let grouped = rest.starts_with('{');
            let paths = expand(rest).into_iter().filter(|path| !path.is_empty());
            found.extend(paths.map(|path| Named { line, path, grouped }));
        }
        found
    }
}

pub(crate) fn sources() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut found, mut folders) = (Vec::new(), vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let inside = path.strip_prefix(&root).unwrap().to_str().unwrap();
                found.push(File::new(inside, &fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(found.len() > 10, "found only {} source files", found.len());
    found
}

/// The modules that a file declares as `#[cfg(test)] mod name;`: all of their text is behind it.
pub(crate) fn test_modules(file: &File) -> Vec<PathBuf> {
    let declaration = |(from, to): (usize, usize)| {
        let (_, name) = file.code[from..to].rsplit_once("mod ")?;
        Some(file.module.join(name.strip_suffix(';')?.trim()))
    };
    test_items(&file.code).into_iter().filter_map(declaration).collect()
}

/// The code with everything behind `#[cfg(test)]` blanked.
pub(crate) fn without_tests(code: &str) -> String {
    let mut left = code.as_bytes().to_vec();
    for (from, to) in test_items(code) {
        blank(&mut left[from..to]);
    }
    String::from_utf8(left).expect("items are blanked whole")
}

/// Where items marked `#[cfg(test)]` begin and end.
fn test_items(code: &str) -> Vec<(usize, usize)> {
    const MARK: &str = "#[cfg(test)]";
    code.match_indices(MARK).map(|(from, _)| (from, end_of_item(code, from + MARK.len()))).collect()
}

/// The end of the item that begins at `from`: its `;`, or the brace that closes its first one. A field or a variant ends
/// with what holds it.
fn end_of_item(code: &str, from: usize) -> usize {
    let (mut braces, mut brackets) = (0, 0);
    for (at, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => brackets += 1,
            b')' | b']' => brackets -= 1,
            b'{' => braces += 1,
            b'}' => braces -= 1,
            _ => {}
        }
        let closed = byte == b'}' && braces == 0 && brackets == 0;
        let ended = byte == b';' && braces == 0 && brackets == 0;
        if closed || ended {
            return at + 1;
        }
        if braces < 0 {
            return at;
        }
    }
    code.len()
}

/// How many `mod name { … }` are open at the end of `code`.
fn inline_depth(code: &str) -> usize {
    let (mut open, mut last_words) = (Vec::new(), ["", ""]);
    let mut rest = code;
    while let Some(at) = rest.find(|c: char| c == '{' || c == '}' || c == ';' || is_word(c)) {
        rest = &rest[at..];
        let word = first_word(rest);
        match rest.as_bytes()[0] {
            b'{' => open.push(last_words[0] == "mod"),
            b'}' => _ = open.pop(),
            _ => {}
        }
        last_words = if word.is_empty() { ["", ""] } else { [last_words[1], word] };
        rest = &rest[word.len().max(1)..];
    }
    open.into_iter().filter(|is_module| *is_module).count()
}

/// The paths of a use tree: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn expand(tree: &str) -> Vec<Vec<String>> {
    let tree = tree.trim_start();
    if let Some(list) = tree.strip_prefix('{') {
        return branches(list).into_iter().flat_map(expand).collect();
    }
    let word = first_word(tree);
    let tails = match tree[word.len()..].strip_prefix("::") {
        Some(rest) if !word.is_empty() => expand(rest),
        _ => Vec::new(),
    };
    let head = || {
        if word.is_empty() { Vec::new() } else { vec![word.to_owned()] }
    };
    if tails.is_empty() {
        return vec![head()];
    }
    tails.into_iter().map(|tail| head().into_iter().chain(tail).collect()).collect()
}

/// The parts of a list up to its closing brace, split at the commas of its own level.
fn branches(list: &str) -> Vec<&str> {
    let (mut found, mut from, mut depth) = (Vec::new(), 0, 0);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                found.push(&list[from..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(&list[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    found
}

/// The text with comments, strings and characters blanked; line ends stay.
fn code_of(text: &str) -> String {
    let mut code = text.as_bytes().to_vec();
    let mut at = 0;
    while at < text.len() {
        let length = opaque_length(&text.as_bytes()[at..]);
        blank(&mut code[at..at + length]);
        at += length.max(1);
    }
    String::from_utf8(code).expect("literals are blanked whole")
}

/// How long the comment or literal is that begins here; 0 if none does.
fn opaque_length(text: &[u8]) -> usize {
    let until = |end: &[u8], from: usize| {
        let rest = text.get(from..).unwrap_or_default();
        rest.windows(end.len()).position(|window| window == end).map_or(text.len(), |at| from + at)
    };
    match text {
        [b'/', b'/', ..] => until(b"\n", 2),
        [b'/', b'*', ..] => block_comment_length(text),
        [b'"', ..] => quoted_length(text, b'"'),
        [b'r', b'"' | b'#', ..] => {
            let hashes = text[1..].iter().take_while(|byte| **byte == b'#').count();
            if text.get(1 + hashes) != Some(&b'"') {
                return 0;
            }
            let end = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
            (until(&end, 2 + hashes) + end.len()).min(text.len())
        }
        // A lifetime has no closing quote right behind its first character.
        [b'\'', b'\\', ..] | [b'\'', _, b'\'', ..] => quoted_length(text, b'\''),
        [b'\'', first, ..] if !first.is_ascii() => quoted_length(text, b'\''),
        _ => 0,
    }
}

fn block_comment_length(text: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        match text[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted_length(text: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < text.len() && text[at] != quote {
        at += if text[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(text.len())
}

fn blank(bytes: &mut [u8]) {
    bytes.iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
}

/// Every identifier and keyword, with where it begins.
pub(crate) fn words(code: &str) -> Vec<(usize, &str)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(ahead) = code[at..].find(is_word) {
        at += ahead;
        let word = first_word(&code[at..]);
        found.push((at, word));
        at += word.len();
    }
    found
}

pub(crate) fn first_word(code: &str) -> &str {
    &code[..code.find(|c| !is_word(c)).unwrap_or(code.len())]
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

pub(crate) fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}
