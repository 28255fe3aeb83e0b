//! `certmon explain`.

use anyhow::Context;
use certmon_core::reason::{self, Reason};
use std::{io::Write, process::ExitCode};
use strum::IntoEnumIterator;

/// Prints what a reason means, or all reasons.
///
/// # Errors
/// The output can't be written.
pub fn print(name: Option<&str>, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let Some(name) = name else {
        let width = Reason::iter().map(|reason| reason.name().len()).max().unwrap_or(0);
        for reason in Reason::iter() {
            writeln!(out, "{:width$}  {}", reason.name(), reason.meaning()).context("can't write")?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    match name.parse::<Reason>() {
        Ok(known) => {
            write!(out, "{}", reason::explain(known)).context("can't write")?;
            Ok(ExitCode::SUCCESS)
        }
        Err(_) => {
            let near = Reason::iter().filter(|reason| {
                let (known, asked) = (reason.name().to_lowercase(), name.to_lowercase());
                known.contains(&asked) || asked.contains(&known)
            });
            let near: Vec<&str> = near.map(Reason::name).collect();
            let hint = if near.is_empty() {
                String::new()
            } else {
                format!(" Did you mean {}?", near.join(" or "))
            };
            anyhow::bail!("{name} is no reason that certmon gives.{hint} `certmon explain` lists all of them")
        }
    }
}
