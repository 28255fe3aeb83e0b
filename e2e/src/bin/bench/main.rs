//! `make bench`: what certmon costs and how fast it is, on a real API server, each figure beside its goal.
//!
//! `ONLY=secrets,probe` measures only these. The tables are printed and written to `target/bench/results.md`. Figures are
//! reported, never asserted: a machine is noisy, so what can be is a ratio of two figures of one run.

mod first_status;
mod idle;
mod measure;
mod probe;
mod report;
mod secrets;
mod stage;
mod threshold;

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::report::Report;

const ALL: [&str; 5] = ["idle", "secrets", "status", "threshold", "probe"];

#[tokio::main]
#[expect(clippy::print_stderr, reason = "a command that people start")]
async fn main() -> ExitCode {
    match bench().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn bench() -> Result<()> {
    let asked = std::env::var("ONLY").unwrap_or_default();
    let mut only: Vec<&str> = asked
        .split([',', ' '])
        .filter(|measurement| !measurement.is_empty())
        .collect();
    if let Some(unknown) = only.iter().find(|measurement| !ALL.contains(measurement)) {
        bail!("ONLY={unknown}: there is {}", ALL.join(", "));
    }
    if only.is_empty() {
        only.extend(ALL);
    }
    let mut report = Report::new()?;
    for measurement in only {
        match measurement {
            "idle" => idle::measure(&mut report).await?,
            "secrets" => secrets::measure(&mut report).await?,
            "status" => first_status::measure(&mut report).await?,
            "threshold" => threshold::measure(&mut report).await?,
            _ => probe::measure(&mut report).await?,
        }
    }
    Ok(())
}
