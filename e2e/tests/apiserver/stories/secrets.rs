//! Stored certificates.

use super::Stage;
use anyhow::Result;
use certmon_e2e::{Authority, Leaf, Validity};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

const MONITOR: &str = "\
apiVersion: certmon.dev/v1alpha1
kind: CertificateMonitor
metadata: {name: shop}
spec: {sources: [{name: tls, secrets: {}}]}
";

/// A 90-day certificate with so many days left.
fn of_ninety_days(left: i64) -> Validity {
    let not_after = chrono::Utc::now() + chrono::TimeDelta::days(left);
    Validity {
        not_before: not_after - chrono::TimeDelta::days(90),
        not_after,
    }
}

#[tokio::test]
async fn a_secret_that_expires_in_three_days_is_seen_in_get_describe_and_events() -> Result<()> {
    let stage = Stage::set("expiry", |operator| operator).await?;
    let authority = Authority::new("Story CA")?;
    let soon = Leaf::for_names(["checkout.example.com"]).valid(of_ninety_days(3));
    stage
        .namespace
        .kubectl()
        .apply_object(&authority.issue(&soon)?.secret("checkout-tls"))
        .await?;
    stage.namespace.kubectl().apply(MONITOR).await?;

    stage.shows(&["get", "certmon"], &["ExpiryCritical", "True"]).await?;
    let described = stage
        .shows(&["describe", "certmon", "shop"], &["Events:", "ExpiryCritical  "])
        .await?;
    assert!(described.contains("1 of 1 certificate needs attention:"), "{described}");
    assert!(
        described.contains("CRITICAL  Secret/checkout-tls tls.crt  checkout.example.com  expires 2"),
        "{described}"
    );

    // A renewal resolves it.
    let renewed = Leaf::for_names(["checkout.example.com"]).valid(Validity::ending_in(90 * DAY));
    stage
        .namespace
        .kubectl()
        .apply_object(&authority.issue(&renewed)?.secret("checkout-tls"))
        .await?;
    stage.shows(&["get", "certmon"], &["AllValid"]).await?;
    stage.shows(&["events", "--for", "certmon/shop"], &["Renewed"]).await?;
    Ok(())
}
