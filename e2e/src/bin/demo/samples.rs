//! The files of `samples/`, with the demo's addresses in the place of yours.

use anyhow::{Context as _, Result, ensure};
use certmon_e2e::repository;

use crate::world::World;

/// Who applies which sample where.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) namespace: &'static str,
    pub(crate) file: &'static str,
    pub(crate) manifest: String,
}

/// One tenant per sample.
///
/// # Errors
/// When a sample doesn't hold what the demo must replace.
pub(crate) fn tenants(world: &World) -> Result<Vec<Tenant>> {
    let tenant = |namespace, file, changes: &[(&str, String)]| {
        Ok::<_, anyhow::Error>(Tenant {
            namespace,
            file,
            manifest: adapted(file, changes)?,
        })
    };
    let bot = bot(world);
    let until = (chrono::Utc::now() + chrono::TimeDelta::days(60))
        .format("\"%Y-%m-%dT%H:%M:%SZ\"")
        .to_string();
    Ok(vec![
        tenant("shop", "ingress.yaml", std::slice::from_ref(&bot))?,
        tenant("integrations", "public-endpoints.yaml", &public_endpoints(world))?,
        tenant("cmdb", "webhook.yaml", &webhook(world))?,
        tenant(
            "payments",
            "short-lived.yaml",
            &[
                bot.clone(),
                (
                    "    Replace me with your root, from -----BEGIN to END-----.\n",
                    indented(&world.ca_pem()),
                ),
            ],
        )?,
        tenant("warehouse", "secrets.yaml", &[slack_hook(world)])?,
        tenant(
            "archive",
            "silences.yaml",
            &[
                bot,
                (
                    "    - host: api.partner.example\n",
                    endpoint(world.expired.port(), "api.partner.example"),
                ),
                ("\"2027-02-01T00:00:00Z\"", until.clone()),
                ("\"2027-01-15T12:00:00Z\"", until),
            ],
        )?,
    ])
}

/// A bot's token, and where the demo's Slack answers.
fn bot(world: &World) -> (&'static str, String) {
    let answer = format!(
        "  token: xoxb-demo\n  apiURL: {}\n  ca.crt: |\n{}  # ",
        world.slack.url("/api/"),
        indented(&world.slack.ca_pem())
    );
    ("  token: xoxb-REPLACE-ME", answer)
}

fn slack_hook(world: &World) -> (&'static str, String) {
    let url = world.slack.url("/services/demo");
    let answer = format!("{url}\n  ca.crt: |\n{}", indented(&world.slack.ca_pem()));
    ("https://hooks.slack.com/services/REPLACE/ME/PLEASE\n", answer)
}

fn public_endpoints(world: &World) -> [(&'static str, String); 6] {
    let trust = format!(
        "  trust:\n    caCertificateRefs: [{{name: demo-ca}}]\n  probe:\n    timeout: 2s{}",
        " ".repeat(25)
    );
    let relay = format!(
        "  host: 127.0.0.1\n  port: \"{}\"\n  ca.crt: |\n{}",
        world.mail.port(),
        indented(&world.mail.ca_pem())
    );
    [
        (
            "    - host: www.example.com              # port 443\n",
            endpoint(world.expired.port(), "www.example.com"),
        ),
        (
            "    - host: mail.example.com\n      port: 993",
            endpoint(world.misnamed.port(), "mail.example.com")
                .trim_end()
                .to_owned(),
        ),
        (
            "    - host: 192.0.2.7                    # by address, asking for a name\n      serverName: api.example.com\n",
            endpoint(world.silent.port(), "api.example.com"),
        ),
        ("  probe:\n    interval: 6h", format!("{trust}\n    interval: 6h")),
        ("  host: smtp.example.com\n", relay),
        // So that nobody waits for a second failure.
        ("    failureThreshold: 2 ", "    failureThreshold: 1 ".to_owned()),
    ]
}

fn webhook(world: &World) -> [(&'static str, String); 2] {
    let mine = world.hook.url("/hooks/certmon");
    let answer = format!("{mine}\n  ca.crt: |\n{}", indented(&world.hook.ca_pem()));
    [
        ("https://cmdb.example.com/hooks/certmon\n", answer),
        // A URL in the spec is verified by the system's roots, and the demo's receivers are not among them.
        (
            "  - name: public-board                   # without a Secret: neither signed nor authenticated\n    webhook:\n      \
             url: https://board.example.com/certificates\n    minSeverity: Critical\n    sendResolved: false\n",
            String::new(),
        ),
    ]
}

/// An endpoint on loopback that asks for a name.
fn endpoint(port: u16, server_name: &str) -> String {
    format!("    - host: 127.0.0.1\n      port: {port}\n      serverName: {server_name}\n")
}

/// As the content of a block scalar under a key of `data`.
fn indented(pem: &str) -> String {
    pem.lines().map(|line| format!("    {line}\n")).collect()
}

/// A sample in which each first text, which stands there once, is replaced by the second.
fn adapted(file: &str, changes: &[(&str, String)]) -> Result<String> {
    let path = repository().join("samples").join(file);
    let mut text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    for (from, to) in changes {
        let found = text.matches(from).count();
        ensure!(
            found == 1,
            "samples/{file} holds {found} times what the demo replaces: {from:?}"
        );
        text = text.replace(from, to);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_sample_has_a_tenant_and_nothing_is_left_to_replace() -> Result<()> {
        let tenants = tenants(&World::start().await?)?;
        let mut used: Vec<String> = tenants.iter().map(|tenant| tenant.file.to_owned()).collect();
        used.sort();
        let mut samples: Vec<String> = std::fs::read_dir(repository().join("samples"))?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<Result<_>>()?;
        samples.sort();
        assert_eq!(used, samples);
        for tenant in tenants {
            for left in [
                "xoxb-REPLACE-ME",
                "hooks.slack.com",
                "cmdb.example.com",
                "board.example.com",
            ] {
                assert!(!tenant.manifest.contains(left), "{left} in\n{}", tenant.manifest);
            }
        }
        Ok(())
    }
}
