//! `make demo` shows what is true, briefly.

use anyhow::Result;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// It takes about a minute by itself, most of it for a resolve that waits.
const LONGEST: Duration = Duration::from_secs(300);

#[tokio::test]
async fn the_demo_is_true_and_short_and_plain_where_nobody_looks() -> Result<()> {
    let running = Command::new(env!("CARGO_BIN_EXE_demo"))
        .env_remove("KEEP")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(LONGEST, running).await??;
    let (said, complained) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{said}{complained}");
    assert!(said.contains("claims were checked and are true"), "{said}");
    assert!(said.lines().count() < 150, "{} lines", said.lines().count());
    assert!(!said.contains('\x1b'), "{said}");
    Ok(())
}
