//! Waiting for conditions.

use std::time::Duration;

use anyhow::{Error, Result, anyhow};
use tokio::time::{Instant, sleep, timeout_at};

/// The first pause between two looks; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Looks again and again until `probe` returns `Ok`, and returns that.
///
/// The `Err` of a look is the state that it saw; the last one is in the error when the condition doesn't come. `what`
/// completes the sentence "waited 5 s for …".
///
/// # Errors
/// At the deadline, with the last state. A look that hangs is cut off there too.
pub async fn wait_for<T>(what: &str, deadline: Duration, mut probe: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let end = Instant::now() + deadline;
    let mut pause = FIRST_PAUSE;
    let mut last: Option<Error> = None;
    loop {
        match timeout_at(end, probe()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(state)) => last = Some(state),
            Err(_elapsed) => {
                let before = last.map_or_else(|| "none".to_owned(), |state| format!("{state:#}"));
                return Err(anyhow!(
                    "waited {deadline:?} for {what}; the last look did not return; the state before it: {before}"
                ));
            }
        }
        if Instant::now() + pause >= end {
            let state = last.unwrap_or_else(|| anyhow!("none"));
            return Err(anyhow!("waited {deadline:?} for {what}; the last state: {state:#}"));
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_state_is_in_the_error() {
        let mut looks = 0;
        let error = wait_for("the moon", Duration::from_millis(100), async || -> Result<()> {
            looks += 1;
            Err(anyhow!("only clouds at look {looks}"))
        })
        .await
        .unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("waited 100ms for the moon; the last state: only clouds at look"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_look_that_hangs_is_cut_off() {
        let error = wait_for("nothing", Duration::from_millis(50), async || {
            std::future::pending::<()>().await;
            Ok(())
        })
        .await
        .unwrap_err();
        assert!(error.to_string().contains("did not return"), "{error}");
    }
}
