//! Doing harm only when it is meant.

use crate::exit::Failure;
use std::io::{self, BufRead, IsTerminal, Write};

/// What a destructive verb must be told where nobody can be asked.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub(crate) struct Sure {
    /// Do it without asking
    #[arg(long = "yes-i-really-mean-it")]
    pub(crate) sure: bool,
}

impl Sure {
    /// Goes on if it was said on the command line, or is typed now. `word` is what must be typed: the name of
    /// what will be lost.
    pub(crate) fn confirm(self, harm: &str, word: &str) -> Result<(), Failure> {
        if self.sure {
            return Ok(());
        }
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Err(Failure::unsafe_(format!(
                "{harm} If that is what you want, say --yes-i-really-mean-it."
            )));
        }
        ask(harm, word, &mut io::stdin().lock(), &mut io::stderr().lock())
    }
}

fn ask(
    harm: &str,
    word: &str,
    input: &mut impl BufRead,
    output: &mut impl Write,
) -> Result<(), Failure> {
    write!(output, "{harm}\nType {word} to go on: ")?;
    output.flush()?;
    let mut typed = String::new();
    input.read_line(&mut typed)?;
    if typed.trim() == word {
        return Ok(());
    }
    Err(Failure::unsafe_("not confirmed; nothing was done"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_word_itself_confirms() {
        let said =
            |typed: &str| ask("It is lost.", "pool1", &mut typed.as_bytes(), &mut Vec::new());
        assert!(said("pool1\n").is_ok());
        for typed in ["", "\n", "y\n", "yes\n", "pool\n", "POOL1\n"] {
            assert_eq!(said(typed).expect_err("not confirmed").exit_code(), 4, "{typed:?}");
        }
    }
}
