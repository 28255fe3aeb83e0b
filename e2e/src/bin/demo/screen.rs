//! What the demo prints. Colours only where a person looks.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::{Error, Result, bail};

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const CYAN: &str = "\x1b[36m";

/// The terminal, or whatever stands in its place.
#[derive(Debug)]
pub(crate) struct Screen {
    colours: bool,
    checked: usize,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty());
        Self {
            colours: std::io::stdout().is_terminal() && !unwanted,
            checked: 0,
        }
    }

    fn coloured(&self, colour: &str, text: &str) -> String {
        if self.colours {
            format!("{colour}{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// A reader who has gone away (a closed pipe) is no reason to stop half-way.
    fn line(text: &str) {
        let _read = writeln!(std::io::stdout(), "{text}");
    }

    pub(crate) fn title(&self, text: &str) {
        Self::line(&self.coloured(BOLD, text));
    }

    pub(crate) fn step(&self, text: &str) {
        Self::line(&format!("\n{}", self.coloured(BOLD, &format!("== {text}"))));
    }

    pub(crate) fn note(&self, text: &str) {
        Self::line(&format!("   {text}"));
    }

    /// Said while the reader waits.
    pub(crate) fn wait(&self, text: &str) {
        Self::line(&format!("   {}", self.coloured(DIM, text)));
    }

    pub(crate) fn command(&self, text: &str) {
        Self::line(&format!("   {}", self.coloured(CYAN, &format!("$ {text}"))));
    }

    /// What a program printed, as it printed it.
    pub(crate) fn output(&self, text: &str) {
        for line in text.trim_end().lines() {
            Self::line(&format!("   {line}"));
        }
    }

    /// A message as it arrived.
    pub(crate) fn block(&self, title: &str, text: &str) {
        Self::line(&format!("   {}", self.coloured(BOLD, &format!("┌ {title}"))));
        for line in text.trim_end().lines() {
            Self::line(&format!("   │ {line}"));
        }
    }

    /// Something that was waited for, and how long it took.
    pub(crate) fn done(&mut self, text: &str, took: Duration) {
        self.checked += 1;
        let took = self.coloured(DIM, &format!("({:.1} s)", took.as_secs_f32()));
        Self::line(&format!("   {} {text} {took}", self.coloured(GREEN, "✓")));
    }

    /// A claim, and whether it is true.
    ///
    /// # Errors
    /// When it isn't.
    pub(crate) fn check(&mut self, holds: bool, claim: &str) -> Result<()> {
        if !holds {
            bail!("this isn't true: {claim}");
        }
        self.checked += 1;
        Self::line(&format!("   {} {claim}", self.coloured(GREEN, "✓")));
        Ok(())
    }

    pub(crate) fn end(&self, took: Duration) {
        let text = format!(
            "All {} claims were checked and are true. {:.0} s.",
            self.checked,
            took.as_secs_f32()
        );
        Self::line(&format!("\n{}", self.coloured(BOLD, &text)));
    }

    pub(crate) fn failed(&self, error: &Error) {
        Self::line(&format!("   {} {error:#}", self.coloured(RED, "✗")));
        Self::line("\nThe demo has failed. With CERTMON_E2E_KEEP=1 the next run leaves its logs behind.");
    }
}
