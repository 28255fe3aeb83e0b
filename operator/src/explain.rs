//! `certmon explain`.

use anyhow::Context;
use certmon_core::reason::{self, Reason, ReasonGroup};
use std::{io::Write, process::ExitCode};
use strum::IntoEnumIterator;

/// What a command line that asks for something unknown ends with, as clap's own.
const USAGE: u8 = 2;

/// Below this likeness (0 to 1, Jaro-Winkler's) two names have nothing to do with each other.
const ALIKE: f64 = 0.75;

/// The most names that are proposed.
const MOST_NEAR: usize = 3;

/// Prints what a reason means, or all reasons. What is no reason gets the nearest ones, in `complaints`, and the exit code 2.
///
/// # Errors
/// The output can't be written.
pub fn print(name: Option<&str>, out: &mut impl Write, complaints: &mut impl Write) -> anyhow::Result<ExitCode> {
    let Some(name) = name else {
        list(out).context("can't write")?;
        return Ok(ExitCode::SUCCESS);
    };
    if let Ok(known) = name.parse::<Reason>() {
        write!(out, "{}", reason::explain(known)).context("can't write")?;
        return Ok(ExitCode::SUCCESS);
    }
    let near = near(name);
    let hint = if near.is_empty() {
        String::new()
    } else {
        format!(" Did you mean {}?", near.join(" or "))
    };
    writeln!(
        complaints,
        "certmon: {name:?} is no reason that certmon gives.{hint} `certmon explain` lists all of them"
    )
    .context("can't write")?;
    Ok(ExitCode::from(USAGE))
}

/// All reasons, by what they are given for.
fn list(out: &mut impl Write) -> std::io::Result<()> {
    let width = Reason::iter().map(|reason| reason.name().len()).max().unwrap_or(0);
    for group in ReasonGroup::iter() {
        if group != ReasonGroup::Finding {
            writeln!(out)?;
        }
        writeln!(out, "{}: {}", group.title(), group.about())?;
        for reason in Reason::iter().filter(|reason| reason.group() == group) {
            writeln!(out, "  {:width$}  {}", reason.name(), reason.meaning())?;
        }
    }
    writeln!(
        out,
        "\n`certmon explain REASON` says what leads to one, and what to do."
    )
}

/// The reasons that somebody may have meant: those that contain the name, or are contained in it; else the most alike.
fn near(asked: &str) -> Vec<&'static str> {
    let asked = asked.to_lowercase();
    let contains = |reason: &Reason| {
        let known = reason.name().to_lowercase();
        asked.len() > 2 && (known.contains(&asked) || asked.contains(&known))
    };
    let mut near: Vec<&str> = Reason::iter().filter(contains).map(Reason::name).collect();
    if near.is_empty() {
        let alike = |name: &str| strsim::jaro_winkler(&name.to_lowercase(), &asked);
        let mut ranked: Vec<(f64, &str)> = Reason::iter()
            .map(|reason| (alike(reason.name()), reason.name()))
            .collect();
        ranked.sort_by(|(one, _), (other, _)| other.total_cmp(one));
        let best = ranked.first().map_or(0.0, |(alike, _)| *alike);
        near = ranked
            .into_iter()
            .filter(|(alike, _)| *alike >= ALIKE && best - alike < 0.03)
            .map(|(_, name)| name)
            .collect();
    }
    near.truncate(MOST_NEAR);
    near
}
