//! Where a command reads and writes, handed in so that a test can look.

use std::io::{BufRead, Write};

use crate::api::input::is_control;

/// What a command talks to.
pub struct Screen<'a> {
    /// For results only: what a script reads.
    pub out: &'a mut dyn Write,
    /// For everything that is meant for a person.
    pub err: &'a mut dyn Write,
    /// For answers to questions.
    pub input: &'a mut dyn BufRead,
    /// Whether `err` is a terminal: progress, QR codes and one-time links go nowhere else.
    pub err_is_terminal: bool,
    /// Whether `input` is a terminal: otherwise nothing is asked.
    pub input_is_terminal: bool,
}

impl std::fmt::Debug for Screen<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen")
            .field("err_is_terminal", &self.err_is_terminal)
            .field("input_is_terminal", &self.input_is_terminal)
            .finish_non_exhaustive()
    }
}

/// A name from outside as it may be shown: nothing in it steers the terminal.
#[must_use]
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if is_control(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
pub(crate) mod fake {
    use super::Screen;

    /// A screen that remembers.
    #[derive(Default)]
    pub(crate) struct Recorder {
        pub(crate) out: Vec<u8>,
        pub(crate) err: Vec<u8>,
        pub(crate) terminal: bool,
    }

    impl Recorder {
        pub(crate) fn screen<'a>(&'a mut self, input: &'a mut &[u8]) -> Screen<'a> {
            Screen {
                out: &mut self.out,
                err: &mut self.err,
                input,
                err_is_terminal: self.terminal,
                input_is_terminal: self.terminal,
            }
        }

        pub(crate) fn out(&self) -> &str {
            std::str::from_utf8(&self.out).unwrap()
        }

        pub(crate) fn err(&self) -> &str {
            std::str::from_utf8(&self.err).unwrap()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        assert_eq!(plain("a\u{1b}[2J\u{202e}b é"), "a\u{fffd}[2J\u{fffd}b é");
    }
}
