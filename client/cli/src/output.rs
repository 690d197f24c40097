//! What goes to the screen or into a pipe.

use crate::exit::Failure;
use crate::table::Table;
use serde_json::{Value, json};
use std::io::{self, IsTerminal, Write};

/// How results are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Aligned, with a header, for people
    #[default]
    Table,
    /// Fields separated by tabs, without a header, for cut and awk
    Plain,
    /// JSON, for programs
    Json,
}

#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// Show JSON; short for --format json
    #[arg(long, global = true)]
    json: bool,
    /// How to show results
    #[arg(long, global = true, value_enum, default_value_t)]
    format: Format,
    /// Do not show progress
    #[arg(long, short, global = true)]
    quiet: bool,
}

/// Where results go.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    format: Format,
    color: bool,
    progress: bool,
}

/// How a word is marked on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Good,
    Warning,
    Bad,
    Strong,
}

impl Output {
    pub(crate) fn new(args: &OutputArgs) -> Self {
        let format = if args.json { Format::Json } else { args.format };
        // https://no-color.org: any value that is not empty.
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Output {
            format,
            color: !unwanted && !dumb && io::stdout().is_terminal(),
            progress: !args.quiet && format != Format::Json && io::stderr().is_terminal(),
        }
    }

    /// For programs.
    pub(crate) fn json_only() -> Self {
        Output { format: Format::Json, color: false, progress: false }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Whether progress may be drawn on standard error.
    pub(crate) fn shows_progress(&self) -> bool {
        self.progress
    }

    /// A result: the value for programs, made into a table for people.
    pub(crate) fn show(&self, value: &Value, table: impl FnOnce(&Value) -> Table) {
        match self.format {
            Format::Json => self.json(value),
            Format::Plain => self.text(&table(value).to_plain()),
            Format::Table => self.text(&table(value).to_aligned()),
        }
    }

    /// A result that is no table.
    pub(crate) fn show_text(&self, value: &Value, text: impl FnOnce(&Value) -> String) {
        match self.format {
            Format::Json => self.json(value),
            Format::Plain | Format::Table => self.text(&text(value)),
        }
    }

    /// What was done, in a sentence.
    pub(crate) fn done(&self, message: &str) {
        match self.format {
            Format::Json => self.json(&json!({"done": true, "message": message})),
            Format::Plain | Format::Table => self.text(message),
        }
    }

    fn json(&self, value: &Value) {
        self.text(&format!("{value:#}"));
    }

    /// One JSON value on one line.
    pub(crate) fn json_line(&self, value: &Value) {
        self.text(&value.to_string());
    }

    /// Lines; a missing newline at the end is added.
    pub(crate) fn text(&self, text: &str) {
        let newline = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        self.raw(format!("{text}{newline}").as_bytes());
    }

    /// Bytes as they are. A reader that has gone away (`store … | head`) ends the program in peace.
    pub(crate) fn raw(&self, bytes: &[u8]) {
        let mut out = io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
            // There is no place left to say it, except in the exit code.
            Err(_) => std::process::exit(1),
            Ok(()) => {}
        }
    }

    /// A remark that is no result.
    pub(crate) fn remark(&self, text: &str) {
        let _ = writeln!(io::stderr(), "{text}"); // nobody listens any more
    }

    pub(crate) fn fail(&self, failure: &Failure) {
        match self.format {
            Format::Json => {
                let value = json!({"error": failure.message(), "exit_code": failure.exit_code()});
                self.remark(&value.to_string());
            }
            _ => self.remark(&format!("store: {}", failure.message())),
        }
    }

    /// A word, marked if this is a terminal.
    pub(crate) fn mark(&self, mark: Mark, text: &str) -> String {
        if !self.color {
            return text.to_string();
        }
        let code = match mark {
            Mark::Good => 32,
            Mark::Warning => 33,
            Mark::Bad => 31,
            Mark::Strong => 1,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// Begins the screen anew, if this is a terminal.
    pub(crate) fn clear_screen(&self) {
        if io::stdout().is_terminal() {
            self.raw(b"\x1b[H\x1b[2J\x1b[3J");
        }
    }
}
