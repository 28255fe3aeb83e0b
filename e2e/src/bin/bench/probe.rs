//! CPU of one verified probe, beside Debian's blackbox_exporter where it is installed, at the same server.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use certmon_e2e::lifeline::{self, Process};
use certmon_e2e::tls::TlsServer;
use certmon_e2e::{Authority, Leaf, Validity, get, wait_for};
use serde_json::{Value, json};

use crate::measure::cpu;
use crate::report::{Report, Table};
use crate::stage::release;

const LOOKS: u32 = 3000;
const ROUNDS: usize = 3;
const NAME: &str = "shop.example";
const EXPORTER: &str = "/usr/bin/prometheus-blackbox-exporter";

pub(crate) async fn measure(report: &mut Report) -> Result<()> {
    report.note(&format!("probe: {ROUNDS} times {LOOKS} looks"));
    let folder = lifeline::folder("certmon-bench-")?;
    let root = Authority::new("Bench Root")?;
    let year = Duration::from_secs(365 * 86_400);
    let authority = root.intermediate("Bench CA", Validity::ending_in(year))?;
    let server = TlsServer::start(&authority.issue(&Leaf::for_names([NAME]))?).await?;
    let roots = folder.join("ca.pem");
    std::fs::write(&roots, root.pem())?;
    let exporter = Path::new(EXPORTER)
        .exists()
        .then(|| Exporter::start(&folder, &roots))
        .transpose()?;
    let mut pairs = Vec::new();
    for _ in 0..ROUNDS {
        let ours = own(server.address(), &roots).await?;
        let theirs = match &exporter {
            Some(exporter) => Some(exporter.cost(server.address()).await?),
            None => None,
        };
        pairs.push((ours, theirs));
    }
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (ours, _) = pairs[ROUNDS / 2];
    let mut table = Table::new("One verified probe: TLS 1.3, P-256, chain of two, loopback");
    let each: Vec<String> = pairs.iter().map(|(ours, _)| format!("{ours:.0}")).collect();
    table.fact("CPU, each round", format!("{} µs", each.join(", ")));
    table.at_most("CPU, median", ours, 200.0, "µs");
    let mut theirs: Vec<f64> = pairs.iter().filter_map(|(_, theirs)| *theirs).collect();
    theirs.sort_by(f64::total_cmp);
    match theirs.get(theirs.len() / 2) {
        Some(theirs) => {
            table.fact("blackbox_exporter, median", format!("{theirs:.0} µs"));
            table.at_most("ratio", ours / theirs, 0.2, "");
        }
        None => table.fact(
            "blackbox_exporter",
            "not installed: apt-get install -y prometheus-blackbox-exporter",
        ),
    }
    report.add(&table)
}

/// Microseconds per look of the product's own probe, judged against the roots.
async fn own(server: SocketAddr, roots: &Path) -> Result<f64> {
    let program = release("examples/probe_cost");
    ensure!(
        program.exists(),
        "{} is missing: `make bench` builds it",
        program.display()
    );
    let output = tokio::process::Command::new(program)
        .args([LOOKS.to_string(), server.to_string()])
        .arg(roots)
        .output()
        .await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout)?;
    said["cpuMicrosPerLook"].as_f64().context("no cpuMicrosPerLook")
}

/// Debian's blackbox_exporter with one module: TLS over TCP, verified.
struct Exporter {
    process: Process,
    address: SocketAddr,
}

impl Exporter {
    fn start(folder: &Path, roots: &Path) -> Result<Self> {
        let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let config: PathBuf = folder.join("blackbox.yml");
        let tls = json!({ "ca_file": roots, "server_name": NAME });
        let module = json!({ "prober": "tcp", "timeout": "5s", "tcp": { "tls": true, "tls_config": tls } });
        std::fs::write(&config, json!({ "modules": { "tls": module } }).to_string())?;
        let mut command = Command::new(EXPORTER);
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=error")
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        let process = Process::start(&mut command)?;
        Ok(Self { process, address })
    }

    /// Microseconds per probe, with the price of asking for it.
    async fn cost(&self, server: SocketAddr) -> Result<f64> {
        let path = format!("/probe?module=tls&target={server}");
        let probe = async || {
            let (status, body) = get(self.address, &path).await?;
            ensure!(status == 200 && body.contains("\nprobe_success 1"), "{status} {body}");
            Ok(())
        };
        wait_for("blackbox_exporter to probe", Duration::from_secs(20), probe).await?;
        let before = cpu(self.process.id())?;
        for _ in 0..LOOKS {
            probe().await?;
        }
        Ok((cpu(self.process.id())? - before).as_secs_f64() * 1e6 / f64::from(LOOKS))
    }
}
