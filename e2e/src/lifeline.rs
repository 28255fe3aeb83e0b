//! Everything that a run starts dies with the run.
//!
//! A shell of a few lines waits on a pipe whose other end only this process holds. When the pipe closes (the run ended,
//! a test aborted, somebody sent `kill -9`), the shell kills what is still on its list and removes the run's folders.
//! `PR_SET_PDEATHSIG` is no way: it needs unsafe code, and it fires when the spawning *thread* ends, as those of tests do.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};

use crate::wait_for;

/// Reads `start PID`, `end PID` and `folder PATH`, one per line, until the pipe closes.
const WATCHDOG: &str = r#"
trap '' HUP INT TERM
pids=' '
while read -r verb what; do
  case $verb in
    start) pids="$pids$what " ;;
    end) case $pids in *" $what "*) pids="${pids%%" $what "*} ${pids#*" $what "}" ;; esac ;;
    folder) set -- "$@" "$what" ;;
  esac
done
[ -z "${pids# }" ] || kill -KILL $pids 2>/dev/null
[ $# -eq 0 ] || rm -rf -- "$@"
"#;

static WATCHDOG_STDIN: OnceLock<Result<Mutex<ChildStdin>, String>> = OnceLock::new();

fn start_watchdog() -> Result<Mutex<ChildStdin>, String> {
    Command::new("sh")
        .args(["-c", WATCHDOG, "certmon-e2e-watchdog"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // A group of its own: Ctrl-C reaches the run, not the one that cleans up after it.
        .process_group(0)
        .spawn()
        .map_err(|error| format!("can't start the watchdog shell: {error}"))
        .map(|mut child| Mutex::new(child.stdin.take().expect("stdin was asked for as a pipe")))
}

fn tell_watchdog(line: &str) -> Result<()> {
    let stdin = WATCHDOG_STDIN
        .get_or_init(start_watchdog)
        .as_ref()
        .map_err(|error| anyhow!(error.clone()))?;
    let mut stdin = stdin.lock().unwrap_or_else(PoisonError::into_inner);
    writeln!(stdin, "{line}").context("the watchdog shell is gone")
}

/// A process of the run: killed and reaped when dropped, and killed with the run at the latest.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
}

impl Process {
    /// Starts `command` in a process group of its own, without standard input.
    ///
    /// A plain [`std::process`] child, not tokio's: it outlives the runtime of the test that started it.
    ///
    /// # Errors
    /// When the program can't be started, or the watchdog shell is missing.
    pub fn start(command: &mut Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        tell_watchdog("")?;
        let child = command
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .with_context(|| format!("can't start {name}"))?;
        let process = Self { name, child };
        tell_watchdog(&format!("start {}", process.id()))?;
        Ok(process)
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The exit status, once it has ended.
    ///
    /// # Errors
    /// When the kernel refuses to tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child
            .try_wait()
            .with_context(|| format!("can't wait for {}", self.name))
    }

    /// Sends SIGTERM.
    ///
    /// # Errors
    /// When it isn't running any more.
    pub fn terminate(&mut self) -> Result<()> {
        // `ended` first: only an unreaped child's id is surely still ours.
        if let Some(status) = self.ended()? {
            return Err(anyhow!("{} has already ended: {status}", self.name));
        }
        let sent = Command::new("kill").args(["-TERM", &self.id().to_string()]).status()?;
        sent.success()
            .then_some(())
            .ok_or_else(|| anyhow!("can't send SIGTERM to {}", self.name))
    }

    /// `kill -9`, and waits for the end.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.child.kill().with_context(|| format!("can't kill {}", self.name))?;
        self.child
            .wait()
            .with_context(|| format!("can't wait for {}", self.name))
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it hasn't at the deadline.
    pub async fn exit(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let what = format!("{} to exit", self.name);
        let child = Mutex::new(&mut self.child);
        wait_for(&what, deadline, async || {
            let ended = child.lock().unwrap_or_else(PoisonError::into_inner).try_wait()?;
            ended.ok_or_else(|| anyhow!("still running"))
        })
        .await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing to do about a failure here: it has ended already, or the watchdog gets it.
        let _ended = self.kill();
        let _told = tell_watchdog(&format!("end {}", self.id()));
    }
}

/// A new folder that is removed with the run; in memory (`/dev/shm`) where there is such a place.
/// With `CERTMON_E2E_KEEP` set it stays, for reading logs after a failure.
///
/// # Errors
/// When no folder can be made.
pub fn folder(prefix: &str) -> Result<PathBuf> {
    let memory = Path::new("/dev/shm");
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix);
    let made = if memory.is_dir() {
        builder.tempdir_in(memory)
    } else {
        builder.tempdir()
    };
    let path = made
        .or_else(|_| builder.tempdir())
        .context("can't make a folder for the run")?
        .keep();
    if std::env::var_os("CERTMON_E2E_KEEP").is_none() {
        tell_watchdog(&format!("folder {}", path.display()))?;
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alive(pid: u32) -> bool {
        Command::new("kill")
            .args(["-0", &pid.to_string()])
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
    }

    #[tokio::test]
    async fn the_watchdog_kills_what_is_left_when_the_pipe_closes() {
        let mut left = Command::new("sleep").arg("600").spawn().unwrap();
        let mut spared = Command::new("sleep").arg("600").spawn().unwrap();
        let folder = tempfile::tempdir().unwrap().keep();
        let mut watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "watchdog"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pipe = watchdog.stdin.take().unwrap();
        let (a, b) = (left.id(), spared.id());
        write!(pipe, "start {a}\nstart {b}\nend {b}\nfolder {}\n", folder.display()).unwrap();
        drop(pipe);
        assert!(watchdog.wait().is_ok());
        let ended = left.wait().unwrap();
        assert!(!ended.success(), "{ended}");
        assert!(alive(b), "a process that was taken off the list is left alone");
        spared.kill().unwrap();
        spared.wait().unwrap();
        assert!(!folder.exists());
    }

    #[tokio::test]
    async fn a_dropped_process_is_gone() {
        let process = Process::start(Command::new("sleep").arg("600")).unwrap();
        let pid = process.id();
        assert!(alive(pid));
        drop(process);
        assert!(!alive(pid));
    }
}
