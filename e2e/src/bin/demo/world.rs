//! The world that certmon looks at: an authority, five TLS servers, three receivers, and what stands in the namespaces.

use std::sync::Mutex;
use std::time::Duration;

use anyhow::Result;
use certmon_e2e::sinks::{HttpSink, SigningKey, SmtpScript, SmtpSecurity, SmtpSink};
use certmon_e2e::tls::{BadServer, Misbehaviour, TlsServer};
use certmon_e2e::{Authority, Identity, Kubectl, Leaf, Validity};
use serde_json::{Value, json};

const DAY: Duration = Duration::from_secs(86_400);

/// As `samples/webhook.yaml` has it.
const SIGNING_KEY: &str = "whsec_cmVwbGFjZS1tZS13aXRoLTMyLXJhbmRvbS1ieXRlcyE=";

/// The mail relay's only account, as `samples/public-endpoints.yaml` names it.
const MAIL_USER: (&str, &str) = ("certmon", "REPLACE-ME");

/// The world; it ends when dropped.
#[derive(Debug)]
pub(crate) struct World {
    authority: Authority,
    shop: Identity,
    checkout: Mutex<Identity>,
    fine: TlsServer,
    expiring: TlsServer,
    pub(crate) expired: TlsServer,
    pub(crate) misnamed: TlsServer,
    pub(crate) silent: BadServer,
    pub(crate) slack: HttpSink,
    pub(crate) mail: SmtpSink,
    pub(crate) hook: HttpSink,
}

/// A 90-day certificate with so many days and a half left, so that no reader watches a number change.
fn of_ninety_days(names: &[&str], left: i64) -> Leaf {
    let not_after = chrono::Utc::now() + chrono::TimeDelta::days(left) + chrono::TimeDelta::hours(12);
    Leaf::for_names(names.iter().copied()).valid(Validity {
        not_before: not_after - chrono::TimeDelta::days(90),
        not_after,
    })
}

impl World {
    /// Starts the servers and the receivers, on free ports of 127.0.0.1.
    pub(crate) async fn start() -> Result<Self> {
        let authority = Authority::new("Demo CA")?;
        let shop = authority.issue(&of_ninety_days(&["shop.example.com"], 75))?;
        let checkout = authority.issue(&of_ninety_days(&["checkout.example.com"], 2))?;
        let expired = authority.issue(&Leaf::for_names(["www.example.com", "api.partner.example"]).expired(3 * DAY))?;
        let misnamed = authority.issue(&of_ninety_days(&["old-mail.example.com"], 60))?;
        let mail = SmtpSink::start(SmtpSecurity::StartTls).await?;
        mail.script(SmtpScript {
            credentials: Some((MAIL_USER.0.to_owned(), MAIL_USER.1.to_owned())),
            ..SmtpScript::default()
        });
        Ok(Self {
            fine: TlsServer::start(&shop).await?,
            expiring: TlsServer::start(&checkout).await?,
            expired: TlsServer::start(&expired).await?,
            misnamed: TlsServer::start(&misnamed).await?,
            silent: BadServer::start(Misbehaviour::Silent).await?,
            slack: HttpSink::slack().await?,
            mail,
            hook: HttpSink::webhook(vec![SigningKey::parse(SIGNING_KEY)?]).await?,
            authority,
            shop,
            checkout: Mutex::new(checkout),
        })
    }

    /// Who issued it all.
    pub(crate) fn ca_pem(&self) -> String {
        self.authority.pem()
    }

    /// Each server: the name that it should have, where it listens, in what state it is.
    pub(crate) fn servers(&self) -> [(&'static str, String, &'static str); 5] {
        [
            ("shop.example.com", self.fine.address().to_string(), "fine"),
            (
                "checkout.example.com",
                self.expiring.address().to_string(),
                "expires in 2 days",
            ),
            (
                "www.example.com",
                self.expired.address().to_string(),
                "expired 3 days ago",
            ),
            (
                "mail.example.com",
                self.misnamed.address().to_string(),
                "has another name's certificate",
            ),
            (
                "api.example.com",
                self.silent.address().to_string(),
                "accepts, and says nothing",
            ),
        ]
    }

    /// Each receiver.
    pub(crate) fn receivers(&self) -> [(&'static str, String, &'static str); 3] {
        let at = |port: u16| format!("127.0.0.1:{port}");
        [
            (
                "Slack's Web API",
                at(self.slack.port()),
                "played by a receiver of the same shape",
            ),
            ("a mail relay", at(self.mail.port()), "STARTTLS, and a password"),
            (
                "a webhook",
                at(self.hook.port()),
                "refuses what isn't signed with its key",
            ),
        ]
    }

    /// The ports that the operator must be allowed to dial.
    pub(crate) fn ports(&self) -> Vec<u16> {
        vec![
            self.fine.port(),
            self.expiring.port(),
            self.expired.port(),
            self.misnamed.port(),
            self.silent.port(),
            self.slack.port(),
            self.mail.port(),
            self.hook.port(),
        ]
    }

    fn checkout(&self) -> Identity {
        self.checkout
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    /// What stands in a tenant's namespace before there is a monitor.
    pub(crate) fn objects(&self, namespace: &str) -> Result<Vec<Value>> {
        Ok(match namespace {
            "shop" => vec![
                self.secret("shop-tls", &self.shop)?,
                self.secret("checkout-tls", &self.checkout())?,
                ingress("shop", "shop.example.com", "shop-tls"),
                ingress("checkout", "checkout.example.com", "checkout-tls"),
            ],
            "cmdb" => vec![
                self.secret(
                    "intranet-tls",
                    &self.authority.issue(&of_ninety_days(&["intranet.example.com"], 11))?,
                )?,
                self.secret(
                    "wiki-tls",
                    &self.authority.issue(&of_ninety_days(&["wiki.example.com"], 70))?,
                )?,
            ],
            "warehouse" => {
                let leaf = self.authority.issue(&of_ninety_days(&["scanner.example.com"], 80))?;
                vec![self.secret("scanner-tls", &leaf)?]
            }
            "payments" => ["ledger", "payout", "refund"]
                .into_iter()
                .map(|name| {
                    let leaf = Leaf::for_names([name]).expires_in(DAY - Duration::from_secs(3600));
                    let mut secret = self.secret(&format!("{name}-identity"), &self.authority.issue(&leaf)?)?;
                    secret["metadata"]["labels"] = json!({ "pki.example.com/issued": "true" });
                    Ok(secret)
                })
                .collect::<Result<_>>()?,
            "archive" => {
                let leaf = self.authority.issue(&of_ninety_days(&["legacy.example.com"], 15))?;
                vec![self.secret("legacy-crm", &leaf)?]
            }
            // Samples trust the system's roots, which know nothing of the demo's authority.
            "integrations" => vec![json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "demo-ca" },
                "data": { "ca.crt": self.ca_pem() },
            })],
            _ => Vec::new(),
        })
    }

    /// What a controller does afterwards: the Ingresses' addresses.
    pub(crate) async fn publish(&self, namespace: &str, kubectl: &Kubectl) -> Result<()> {
        if namespace != "shop" {
            return Ok(());
        }
        for (name, server) in [("shop", &self.fine), ("checkout", &self.expiring)] {
            let ports = json!([{ "port": server.port(), "protocol": "TCP" }]);
            let status =
                json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "127.0.0.1", "ports": ports }] } } });
            let patch = status.to_string();
            kubectl
                .run([
                    "patch",
                    "ingress",
                    name,
                    "--subresource=status",
                    "--type=merge",
                    "-p",
                    &patch,
                ])
                .await?;
        }
        Ok(())
    }

    /// Renews the certificate that is about to expire: the server presents it from now on, the Secret is to be applied.
    pub(crate) fn renew(&self) -> Result<Value> {
        let renewed = self.authority.issue(&of_ninety_days(&["checkout.example.com"], 89))?;
        self.expiring.present(&renewed)?;
        let secret = self.secret("checkout-tls", &renewed)?;
        *self.checkout.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = renewed;
        Ok(secret)
    }

    /// A TLS Secret as cert-manager makes it, with `ca.crt`.
    fn secret(&self, name: &str, identity: &Identity) -> Result<Value> {
        let mut secret = serde_json::to_value(identity.secret(name))?;
        secret["stringData"] = json!({ "ca.crt": self.ca_pem() });
        Ok(secret)
    }
}

fn ingress(name: &str, host: &str, secret: &str) -> Value {
    let backend = json!({ "service": { "name": name, "port": { "number": 80 } } });
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": { "name": name, "labels": { "app.kubernetes.io/part-of": "shop" } },
        "spec": {
            "tls": [{ "hosts": [host], "secretName": secret }],
            "rules": [{
                "host": host,
                "http": { "paths": [{ "path": "/", "pathType": "Prefix", "backend": backend }] },
            }],
        },
    })
}
