//! `make demo` shows what is true, briefly, and fails where it isn't.

use anyhow::{Context as _, Result, ensure};
use certmon_e2e::wait_for;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{ChildStdout, Command};
use tokio::time::timeout;

/// It takes about a minute by itself, most of it for a resolve that waits.
const LONGEST: Duration = Duration::from_secs(300);

fn demo() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    command.env_remove("KEEP").stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn ended(command: &mut Command) -> Result<(Output, String)> {
    let output = timeout(LONGEST, command.output()).await??;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok((output, said))
}

#[tokio::test]
async fn the_demo_is_true_and_short_and_plain_where_nobody_looks() -> Result<()> {
    let (output, said) = ended(&mut demo()).await?;
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complained}");
    assert!(said.contains("claims were checked and are true"), "{said}");
    assert!(said.lines().count() < 150, "{} lines", said.lines().count());
    assert!(!said.contains('\x1b'), "{said}");
    Ok(())
}

/// With an operator that looks at one of the six tenants only, most of what the demo says isn't true.
#[tokio::test]
async fn the_demo_fails_where_a_claim_is_not_true() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let blind = folder.path().join("certmon");
    let own = Path::new(env!("CARGO_BIN_EXE_demo")).with_file_name("certmon");
    let real = std::env::var_os("CERTMON_BIN").map_or(own, PathBuf::from);
    let script = format!("#!/bin/sh\nexec '{}' \"$@\" --watch-namespace shop\n", real.display());
    std::fs::write(&blind, script)?;
    std::fs::set_permissions(&blind, std::fs::Permissions::from_mode(0o755))?;
    let (output, said) = ended(demo().env("CERTMON_BIN", &blind)).await?;
    let all = format!("{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{all}");
    assert!(!said.contains("claims were checked and are true"), "{all}");
    assert!(
        all.contains("every monitor to say what is wrong"),
        "why it failed: {all}"
    );
    Ok(())
}

/// The lines until one holds `part`; that one is the last.
async fn until(lines: &mut Lines<BufReader<ChildStdout>>, part: &str) -> Result<Vec<String>> {
    let mut read = Vec::new();
    let reading = async {
        while let Some(line) = lines.next_line().await? {
            read.push(line.trim().to_owned());
            if line.contains(part) {
                return Ok(());
            }
        }
        anyhow::bail!("it ended")
    };
    let outcome = timeout(LONGEST, reading).await.context("in time").flatten();
    outcome.with_context(|| format!("{part:?} in:\n{}", read.join("\n")))?;
    Ok(read)
}

/// What it prints can be used as it stands.
#[tokio::test]
async fn kept_the_demo_says_how_to_talk_to_it_and_how_to_stop_it() -> Result<()> {
    let mut child = demo()
        .env("KEEP", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("its output")?).lines();
    let said = until(&mut lines, "To stop it:").await?;
    let value = |prefix: &str| {
        let line = said.iter().find_map(|line| line.strip_prefix(prefix));
        line.with_context(|| format!("{prefix} in {said:#?}"))
    };
    let kubeconfig = PathBuf::from(value("export KUBECONFIG=")?);
    let path = value("export PATH=")?.trim_end_matches(":$PATH");
    let kubectl = Command::new(Path::new(path).join("kubectl"))
        .args(["get", "certmon", "-A", "--cache-dir"])
        .arg(tempfile::tempdir()?.path())
        .env("KUBECONFIG", &kubeconfig)
        .output()
        .await?;
    let shown = String::from_utf8_lossy(&kubectl.stdout);
    ensure!(shown.contains("partners") && shown.contains("Expired"), "{kubectl:?}");
    ensure!(child.try_wait()?.is_none(), "it has ended");

    let stop = said
        .last()
        .and_then(|line| line.split_once("`kill ")?.1.split('`').next());
    let stop = stop.with_context(|| format!("how to stop it: {said:#?}"))?;
    ensure!(child.id().is_some_and(|id| id.to_string() == stop), "kill {stop}");
    let killed = Command::new("kill").arg(stop).status().await?;
    ensure!(killed.success());
    let said = until(&mut lines, "claims were checked and are true").await?;
    let status = timeout(LONGEST, child.wait()).await??;
    ensure!(status.success(), "{status} {said:#?}");
    wait_for("its folder to be gone", Duration::from_secs(30), async || {
        ensure!(!kubeconfig.exists(), "{} is there", kubeconfig.display());
        Ok(())
    })
    .await
}
