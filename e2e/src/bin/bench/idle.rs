//! What the operator costs where nobody uses it.

use std::time::Duration;

use anyhow::Result;

use crate::measure::{cpu, memory};
use crate::report::{Report, Table};
use crate::stage::{Stage, binary, size};

/// How long it is left alone.
const ALONE: Duration = Duration::from_secs(20);

pub(crate) async fn measure(report: &mut Report) -> Result<()> {
    report.note("idle: no monitor at all");
    let stage = Stage::set(&[]).await?;
    let operator = stage.operator([])?;
    operator.ready().await?;
    let before = cpu(operator.id())?;
    tokio::time::sleep(ALONE).await;
    let memory = memory(operator.id())?;
    let mut table = Table::new("Idle: no monitor");
    table.at_most("RSS", memory.rss, 15.0, "MiB");
    table.fact("of that, allocated", format!("{:.1} MiB", memory.anonymous));
    table.fact(
        &format!("CPU in {} s", ALONE.as_secs()),
        format!("{} ms", (cpu(operator.id())? - before).as_millis()),
    );
    table.at_most("release binary", size(&binary()?)?, 20.0, "MiB");
    report.add(&table)
}
