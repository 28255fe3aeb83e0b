//! What the kernel says of a process, and statistics of samples.

use std::time::Duration;

use anyhow::{Context as _, Result};

/// The kernel counts CPU in `/proc/PID/stat` in hundredths of a second (proc(5), `USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// User and system time of a process so far.
pub(crate) fn cpu(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name before it may hold anything, a bracket too.
    let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
    let ticks = fields.split_ascii_whitespace().skip(11).take(2);
    let ticks: u32 = ticks.map(str::parse::<u32>).sum::<Result<u32, _>>()?;
    Ok(TICK * ticks)
}

/// Memory of a process, in MiB.
pub(crate) struct Memory {
    /// Resident now.
    pub(crate) rss: f64,
    /// Of that, not backed by a file: what it allocated.
    pub(crate) anonymous: f64,
    /// The most that was ever resident.
    pub(crate) peak: f64,
}

pub(crate) fn memory(pid: u32) -> Result<Memory> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| -> Result<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|rest| rest.split_ascii_whitespace().nth(1));
        Ok(kib.with_context(|| format!("no {name}"))?.parse::<f64>()? / 1024.0)
    };
    Ok(Memory {
        rss: field("VmRSS")?,
        anonymous: field("RssAnon")?,
        peak: field("VmHWM")?,
    })
}

/// The sample below which `share` (0 to 1) of them lie.
pub(crate) fn percentile(samples: &[Duration], share: f64) -> Duration {
    let mut sorted = samples.to_vec();
    sorted.sort();
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index of a few hundred"
    )]
    let at = ((sorted.len() as f64 * share).ceil() as usize).saturating_sub(1);
    sorted.get(at).copied().unwrap_or_default()
}

pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// "12, 15, 20", in milliseconds.
pub(crate) fn list(samples: &[Duration]) -> String {
    let each: Vec<String> = samples.iter().map(|sample| format!("{:.0}", millis(*sample))).collect();
    format!("{} ms", each.join(", "))
}
