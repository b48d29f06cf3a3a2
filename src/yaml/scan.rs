//! Looks at the characters of a YAML text once and refuses what a configuration never needs and a parser pays dearly for.
//!
//! It knows just enough of YAML to tell a node from quoted text, comments and block scalars. Where it is stricter than
//! YAML, quoting the text helps, and the message says so.

use super::{DEPTH_MAX, Place};

/// Where and why a text is refused.
pub(super) type Refusal = (Place, String);

/// # Errors
/// At the first anchor, alias, tag, directive, complex key, second document, or nesting deeper than [`DEPTH_MAX`].
pub(super) fn scan(text: &str) -> Result<(), Refusal> {
    let mut scanner = Scanner::default();
    for (number, line) in text.split('\n').enumerate() {
        scanner.line(number + 1, line.strip_suffix('\r').unwrap_or(line))?;
    }
    Ok(())
}

#[derive(Default)]
struct Scanner {
    /// The quote that is still open at the end of the line.
    quote: Option<char>,
    /// The column that the lines of a block scalar stand to the right of.
    block: Option<usize>,
    /// How many `[` and `{` are open.
    flow: usize,
    /// Whether the document has begun.
    begun: bool,
}

impl Scanner {
    fn line(&mut self, number: usize, line: &str) -> Result<(), Refusal> {
        let chars: Vec<char> = line.chars().collect();
        if let Some(at) = chars.iter().position(|c| unseen(*c)) {
            let place = Place { line: number, column: at + 1 };
            return Err((place, "expected no control character".to_owned()));
        }
        let indent = chars.iter().take_while(|c| **c == ' ').count();
        if let Some(parent) = self.block {
            if indent == chars.len() || indent > parent {
                return Ok(());
            }
            self.block = None;
        }
        if self.quote.is_none() && self.flow == 0 {
            self.document_mark(number, line)?;
        }
        self.nodes(number, &chars)
    }

    fn document_mark(&mut self, number: usize, line: &str) -> Result<(), Refusal> {
        let refuse = |message: &str| Err((Place { line: number, column: 1 }, message.to_owned()));
        let is =
            |mark: &str| line.strip_prefix(mark).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']));
        if line.starts_with('%') {
            return refuse("expected no directive");
        }
        if is("...") || (is("---") && self.begun) {
            return refuse("expected one document in the file");
        }
        if is("---") {
            self.begun = true;
        }
        Ok(())
    }

    fn nodes(&mut self, number: usize, chars: &[char]) -> Result<(), Refusal> {
        let refuse = |at: usize, message: String| Err((Place { line: number, column: at + 1 }, message));
        let spaced = |at: usize| chars.get(at).is_none_or(|c| matches!(c, ' ' | '\t'));
        let mut at = 0;
        let mut sequences = 0;
        // What a block scalar on this line belongs to, and where the node that may yet turn out to be a key begins.
        let mut parent = None;
        let mut node = 0;
        while at < chars.len() {
            if let Some(quote) = self.quote {
                at = self.quoted(chars, at, quote);
                continue;
            }
            let found = chars[at];
            if !matches!(found, ' ' | '\t' | '#') {
                self.begun = true;
            }
            match found {
                '#' if at == 0 || spaced(at - 1) => return Ok(()),
                '&' => return refuse(at, "expected no anchor; put text that begins with `&` in quotes".into()),
                '*' => return refuse(at, "expected no alias; put text that begins with `*` in quotes".into()),
                '!' => return refuse(at, "expected no tag; put text that begins with `!` in quotes".into()),
                '?' if spaced(at + 1) => return refuse(at, "expected a plain key".into()),
                '"' | '\'' => {
                    node = at;
                    self.quote = Some(found);
                }
                '[' | '{' => {
                    self.flow += 1;
                    if self.flow > DEPTH_MAX {
                        return refuse(at, too_deep());
                    }
                }
                ']' | '}' => self.flow = self.flow.saturating_sub(1),
                '-' if self.flow == 0 && spaced(at + 1) => {
                    // `---` was dealt with before; a dash is an item.
                    sequences += 1;
                    if sequences > DEPTH_MAX {
                        return refuse(at, too_deep());
                    }
                    parent = Some(at);
                }
                ':' => parent = Some(node),
                '|' | '>' if self.flow == 0 => {
                    // Without anything before it on the line, the scalar belongs to a line above: to its left, at least.
                    self.block = Some(parent.unwrap_or_else(|| at.saturating_sub(1)));
                    return Ok(());
                }
                ' ' | '\t' | ',' => {}
                _ => {
                    node = at;
                    at = self.plain(chars, at);
                    continue;
                }
            }
            at += 1;
        }
        Ok(())
    }

    /// The end of the quoted text, or of the line.
    fn quoted(&mut self, chars: &[char], mut at: usize, quote: char) -> usize {
        while at < chars.len() {
            match chars[at] {
                '\\' if quote == '"' => at += 1,
                '\'' if quote == '\'' && chars.get(at + 1) == Some(&'\'') => at += 1,
                found if found == quote => {
                    self.quote = None;
                    return at + 1;
                }
                _ => {}
            }
            at += 1;
        }
        chars.len()
    }

    /// The end of a plain scalar: the `:` after a key, a comment, or the end of the line.
    fn plain(&self, chars: &[char], mut at: usize) -> usize {
        let after = |at: usize| chars.get(at + 1).copied().unwrap_or(' ');
        while at < chars.len() {
            match chars[at] {
                ':' if matches!(after(at), ' ' | '\t') => return at,
                ':' if self.flow > 0 && matches!(after(at), ',' | '[' | ']' | '{' | '}') => return at,
                ',' | '[' | ']' | '{' | '}' if self.flow > 0 => return at,
                '#' if at > 0 && matches!(chars[at - 1], ' ' | '\t') => return at,
                _ => at += 1,
            }
        }
        at
    }
}

/// Control characters, and those that turn the direction of the text: what a reviewer sees is what is read.
fn unseen(found: char) -> bool {
    (found.is_control() && found != '\t') || matches!(found, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn too_deep() -> String {
    format!("expected at most {DEPTH_MAX} levels")
}
