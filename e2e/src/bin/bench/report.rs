//! Tables: what was measured, and the goal beside it.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use certmon_e2e::repository;

/// All tables of a run; each is printed and written as soon as it is whole.
pub(crate) struct Report {
    file: PathBuf,
    text: String,
}

/// One measurement's table.
pub(crate) struct Table {
    title: String,
    rows: Vec<[String; 4]>,
}

impl Report {
    /// Starts `target/bench/results.md` afresh.
    pub(crate) fn new() -> Result<Self> {
        let folder = repository().join("target/bench");
        std::fs::create_dir_all(&folder)?;
        let model = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = model
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .map_or("", |rest| rest.trim_start_matches([' ', '\t', ':']));
        let cores = std::thread::available_parallelism()?;
        let report = Self {
            file: folder.join("results.md"),
            text: format!("# Figures of `make bench`\n\n{cores} cores, {model}. All processes share them.\n"),
        };
        Ok(report)
    }

    /// Says what goes on, beside the tables.
    #[expect(clippy::print_stderr, reason = "a command that people start")]
    pub(crate) fn note(&self, text: &str) {
        eprintln!("bench: {text}");
    }

    /// Prints a table and adds it to the file.
    #[expect(clippy::print_stdout, reason = "a command that people start")]
    pub(crate) fn add(&mut self, table: &Table) -> Result<()> {
        let text = table.markdown();
        println!("{text}");
        self.text.push_str(&text);
        std::fs::write(&self.file, &self.text).with_context(|| self.file.display().to_string())
    }
}

impl Table {
    pub(crate) fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            rows: Vec::new(),
        }
    }

    /// A figure without a goal.
    pub(crate) fn fact(&mut self, what: &str, measured: impl Into<String>) {
        self.rows
            .push([what.to_owned(), measured.into(), String::new(), String::new()]);
    }

    /// A figure that should be at most `goal`.
    pub(crate) fn at_most(&mut self, what: &str, measured: f64, goal: f64, unit: &str) {
        let verdict = if measured <= goal { "yes" } else { "NO" };
        let number = |value: f64| {
            if value.abs() >= 100.0 || value.fract() == 0.0 {
                format!("{value:.0} {unit}")
            } else {
                format!("{value:.2} {unit}")
            }
        };
        self.rows.push([
            what.to_owned(),
            number(measured),
            format!("≤ {}", number(goal)),
            verdict.to_owned(),
        ]);
    }

    fn markdown(&self) -> String {
        let head = ["", "measured", "goal", "met"].map(str::to_owned);
        let width = |column: usize| {
            let cells = self.rows.iter().chain([&head]);
            cells.map(|row| row[column].chars().count()).max().unwrap_or(0)
        };
        let widths: [usize; 4] = std::array::from_fn(width);
        let mut text = format!("\n## {}\n\n", self.title);
        let mut line = |cells: [&str; 4]| {
            for (cell, width) in cells.iter().zip(widths) {
                let _infallible = write!(text, "| {cell:width$} ");
            }
            text.push_str("|\n");
        };
        line(["", "measured", "goal", "met"]);
        let rule = widths.map(|width| "-".repeat(width.max(1)));
        line([&rule[0], &rule[1], &rule[2], &rule[3]]);
        for [what, measured, goal, met] in &self.rows {
            line([what, measured, goal, met]);
        }
        text
    }
}
