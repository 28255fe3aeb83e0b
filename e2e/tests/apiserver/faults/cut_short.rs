//! Answers that end in the middle, with Secrets in them: nothing of those is logged, and what was missed comes after all.

use anyhow::{Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use certmon_e2e::proxy::{Matching, Proxy, Step, Verdict};
use certmon_e2e::{Authority, egress_policy};
use serde_json::Value;

use super::{behind, every_secret, receiver, telling};
use crate::stories::sinks::webhook_secret;
use crate::stories::{SOON, Stage, ninety_days};

/// In clear as long as three bytes of base64, so that it looks the same wherever it stands.
const CANARY: &str = "canary-in-the-secret-7f3a";

/// A TLS Secret whose key has a canary in it, and whose other parts say so too.
fn with_canary(mut secret: Value) -> Value {
    secret["metadata"]["annotations"] = serde_json::json!({ "example.com/note": CANARY });
    secret["data"]["extra"] = STANDARD.encode(CANARY.repeat(3)).into();
    secret
}

fn nothing_is_logged(stage: &Stage) -> Result<()> {
    let log = stage.operator.log();
    let encoded = STANDARD.encode(CANARY.repeat(3));
    // The middle of it: how it begins depends on what stands before.
    for part in [CANARY, &encoded[..16], "whsec_", "BEGIN CERTIFICATE", "LS0tLS1CRUdJTi"] {
        ensure!(!log.contains(part), "{part:?} is logged:\n{log}");
    }
    Ok(())
}

/// Answers of this kind are cut after so many bytes, one after the other.
fn cuts(proxy: &Proxy, matching: &Matching, after: &[usize]) {
    for bytes in after {
        proxy.fault(matching.clone(), 1, Verdict::CutShort(*bytes));
    }
}

/// Starts with `faults` in force, at the most talkative level.
async fn comes_after_all(hint: &str, faults: impl FnOnce(&Proxy)) -> Result<()> {
    let hook = receiver().await?;
    let (proxy, stage) = behind(hint, |operator| {
        operator
            .egress_policy(egress_policy([hook.port()]))
            .arg("--log-level", "trace")
    })
    .await?;
    faults(&proxy);
    let secret = with_canary(ninety_days(
        &Authority::new("Cut CA")?,
        "shop-tls",
        "shop.example.com",
        3,
    )?);
    let mut hook_secret = webhook_secret("hook", &hook);
    hook_secret["metadata"]["annotations"] = serde_json::json!({ "example.com/note": CANARY });
    stage
        .apply(&[secret, hook_secret, telling("shop", &every_secret())])
        .await?;
    hook.wait_for_messages(1, SOON).await?;
    stage
        .until("shop", "that it is told", |monitor| {
            monitor.says("Healthy", "False", "ExpiryCritical") && monitor.says("Notified", "True", "Delivered")
        })
        .await?;
    ensure!(hook.received().len() == 1, "{:?}", hook.received());
    nothing_is_logged(&stage)
}

#[tokio::test]
async fn answers_that_are_cut_short_come_again_and_nothing_of_a_secret_is_logged() -> Result<()> {
    let watch = Matching::new(&["watch"], "secrets").asking("kubernetes.io%2Ftls");
    let streamed = comes_after_all("cut-watch", |proxy| cuts(proxy, &watch, &[700, 1500, 1]));
    // A server that streams no lists is asked for pages.
    let in_pages = comes_after_all("cut-list", |proxy| {
        proxy.rule(|request, step| {
            let streams = request.verb == "watch" && request.query.contains("sendInitialEvents");
            (streams && step == Step::Request).then_some(Verdict::Status(422))
        });
        let list = Matching::new(&["list"], "secrets").asking("kubernetes.io%2Ftls");
        cuts(proxy, &list, &[700, 1500, 1]);
    });
    let read = comes_after_all("cut-read", |proxy| {
        cuts(proxy, &Matching::new(&["get"], "secrets"), &[700, 300]);
        cuts(proxy, &Matching::new(&["get"], "alertledgers"), &[60]);
        cuts(
            proxy,
            &Matching::new(&["create", "update"], "alertledgers"),
            &[200, 100],
        );
        cuts(proxy, &Matching::new(&["patch"], "certificatemonitors/status"), &[200]);
    });
    tokio::try_join!(streamed, in_pages, read)?;
    Ok(())
}
