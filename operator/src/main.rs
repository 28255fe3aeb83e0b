//! The `certmon` program.

use anyhow::Context;
use certmon::args::{Cli, Command};
use clap::Parser;
use std::{io::Write, process::ExitCode};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match go(cli) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "certmon: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn go(cli: Cli) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    match cli.command {
        Command::Run(args) => {
            drop(out);
            certmon::start(*args)?;
        }
        Command::Crds => out
            .write_all(certmon_crd::crds_yaml().as_bytes())
            .context("can't write")?,
        Command::Explain { reason } => {
            return certmon::explain::print(reason.as_deref(), &mut out, &mut std::io::stderr());
        }
        Command::Version => writeln!(out, "certmon {}", env!("CARGO_PKG_VERSION")).context("can't write")?,
    }
    Ok(ExitCode::SUCCESS)
}
