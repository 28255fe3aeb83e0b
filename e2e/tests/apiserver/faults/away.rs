//! What the operator's log says of an API server that goes away and comes back.

use super::behind;
use crate::stories::SOON;
use anyhow::{Result, ensure};
use certmon_e2e::proxy::Matching;
use certmon_e2e::wait_for;
use serde_json::Value;

#[tokio::test]
async fn an_api_server_that_goes_away_is_said_once_and_its_return_once() -> Result<()> {
    let (proxy, stage) = behind("away", |operator| operator).await?;
    let lines = |level: &str, part: &str| -> Vec<Value> {
        let says = |line: &Value| {
            let message = line["fields"]["message"].as_str().unwrap_or_default();
            line["level"] == level && message.contains(part)
        };
        stage.operator.log_lines().into_iter().filter(says).collect()
    };
    let shown = async |level: &str, part: &str| -> Result<Value> {
        wait_for(&format!("{level} {part:?} in the log"), SOON, async || {
            let found = lines(level, part);
            ensure!(found.len() == 1, "{}", stage.operator.log());
            Ok(found[0]["fields"].clone())
        })
        .await
    };
    let started = shown("INFO", "certmon starts").await?;
    let server = started["api_server"].as_str().unwrap_or_default().to_owned();
    ensure!(server.starts_with("https://127.0.0.1:"), "{started}");
    assert_eq!(started["scope"], stage.namespace.name());
    let answers = shown("INFO", "the API server answers").await?;
    ensure!(
        answers["kubernetes"]
            .as_str()
            .is_some_and(|version| version.starts_with("v1.")),
        "{answers}"
    );
    assert!(lines("WARN", "").is_empty(), "{}", stage.operator.log());

    proxy.gone().await;
    let away = shown("WARN", "the API server can't be reached").await?;
    assert_eq!(away["api_server"], *server);
    ensure!(
        away["message"].as_str().is_some_and(|text| text.contains("; check ")),
        "{away}"
    );
    let before = proxy
        .requests(&Matching::new(&["list", "watch"], "certificatemonitors"))
        .len();
    proxy.back().await?;
    shown("INFO", "the API server can be reached again").await?;
    ensure!(
        proxy
            .requests(&Matching::new(&["list", "watch"], "certificatemonitors"))
            .len()
            > before,
        "it was asked again"
    );
    assert_eq!(lines("WARN", "the API server can't be reached").len(), 1);
    Ok(())
}
