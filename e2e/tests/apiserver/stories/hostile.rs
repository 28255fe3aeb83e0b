//! What somebody may put into a Secret, or once could put into a monitor: a clear word on that object, and nothing else
//! suffers.

use super::{Stage, monitor, ninety_days};
use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use certmon_e2e::{Authority, Cluster, Leaf, Options, repository};
use futures::{StreamExt as _, TryStreamExt as _};
use rcgen::{CertificateParams, DnType, DnValue, KeyPair, SanType, SerialNumber, SigningKey as _, date_time_ymd};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What the process may ever hold, in MiB.
const MOST_MEMORY: u64 = 80;

/// Wherever a peer's name may stand, these may not.
const FORBIDDEN: [char; 3] = ['\r', '\u{202e}', '\u{0}'];

fn pem(der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in body.as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text + "-----END CERTIFICATE-----\n"
}

/// A self-signed certificate with whatever `with` makes of it.
fn crafted(with: impl FnOnce(&mut CertificateParams) -> Result<()>) -> Result<Vec<u8>> {
    let mut params = CertificateParams::new(vec!["crafted.example.com".to_owned()])?;
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2100, 1, 1);
    with(&mut params)?;
    Ok(params.self_signed(&KeyPair::generate()?)?.der().to_vec())
}

fn replaced(der: &[u8], from: &[u8], to: &[u8]) -> Result<Vec<u8>> {
    let at = der.windows(from.len()).position(|window| window == from);
    let at = at.context("the bytes to replace are not there")?;
    Ok([&der[..at], to, &der[at + from.len()..]].concat())
}

/// The tag, the content and what follows of the first value in DER.
fn first_of(der: &[u8]) -> Result<(u8, &[u8], &[u8])> {
    let [tag, length, rest @ ..] = der else { bail!("no DER") };
    let (length, rest) = match usize::from(*length) {
        short @ 0..0x80 => (short, rest),
        long => {
            let (bytes, rest) = rest.split_at(long - 0x80);
            (
                bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)),
                rest,
            )
        }
    };
    let (content, rest) = rest.split_at(length);
    Ok((*tag, content, rest))
}

/// A SEQUENCE or another value with a tag of one byte.
fn value_of(tag: u8, content: &[u8]) -> Result<Vec<u8>> {
    let length = u16::try_from(content.len())?.to_be_bytes();
    Ok([&[tag, 0x82], &length[..], content].concat())
}

/// A version 1 certificate as old devices make it: no version, no extensions, rightly signed by itself.
fn version_one() -> Result<Vec<u8>> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec!["v3.example.com".to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, "v1.example.com");
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2100, 1, 1);
    let modern = params.self_signed(&key)?;
    let (_, certificate, _) = first_of(modern.der())?;
    let (_, signed, after) = first_of(certificate)?;
    let (algorithm_tag, algorithm, _) = first_of(after)?;
    let mut kept = Vec::new();
    let mut rest = signed;
    while !rest.is_empty() {
        let (tag, content, after) = first_of(rest)?;
        // [0] is the version, [3] are the extensions.
        if ![0xa0, 0xa3].contains(&tag) {
            kept.extend(value_of(tag, content)?);
        }
        rest = after;
    }
    let signed = value_of(0x30, &kept)?;
    let signature = [&[0], &*key.sign(&signed)?].concat();
    let parts = [signed, value_of(algorithm_tag, algorithm)?, value_of(0x03, &signature)?];
    value_of(0x30, &parts.concat())
}

/// What is found where nothing can be read, and where it can.
type Findings = &'static [&'static str];
const BAD: Findings = &["BadCertificateData"];
const FINE: Findings = &[];

/// What stands in `tls.crt`, and what is found there.
fn inputs() -> Result<BTreeMap<&'static str, (Vec<u8>, Findings)>> {
    let fine = pem(&crafted(|_params| Ok(()))?);
    let second = pem(&crafted(|_params| Ok(()))?);
    let serial = [0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x08];
    let numbered = crafted(|params| {
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        Ok(())
    })?;
    let mut many = String::new();
    for _ in 0..201 {
        many.push_str(&pem(&crafted(|_params| Ok(()))?));
    }
    let mut large = String::new();
    while large.len() < 1_000_000 {
        large.push_str(&fine);
    }
    let named = |name: &'static str, value: DnValue| {
        crafted(move |params| {
            params.distinguished_name.push(DnType::CommonName, value);
            params.subject_alt_names = if name.is_empty() {
                Vec::new()
            } else {
                vec![SanType::DnsName(name.try_into()?)]
            };
            Ok(())
        })
    };
    let mut latin = b"# Zertifikat f\xfcr den Laden\n".to_vec();
    latin.extend(fine.bytes());
    latin.extend(b"# Stop f\xfcr heute\n");
    let key = KeyPair::generate()?.serialize_pem();
    let one_line = format!("{}{second}", fine.trim_end());
    Ok(BTreeMap::from([
        ("garbage", (b"\x00\xff\x13\x37 no certificate".to_vec(), BAD)),
        ("empty", (Vec::new(), BAD)),
        ("key-in-its-place", (key.into_bytes(), BAD)),
        ("half-a-block", (fine.as_bytes()[..fine.len() / 2].to_vec(), BAD)),
        ("too-many", (many.into_bytes(), BAD)),
        ("one-line", (one_line.into_bytes(), FINE)),
        ("bom", (format!("\u{feff}{fine}").into_bytes(), FINE)),
        ("crlf", (fine.replace('\n', "\r\n").into_bytes(), FINE)),
        ("latin-1", (latin, FINE)),
        ("large", (large.into_bytes(), BAD)),
        ("v1", (pem(&version_one()?).into_bytes(), FINE)),
        (
            "v1-marked",
            (
                pem(&replaced(&numbered, &[0xa0, 3, 2, 1, 2], &[0xa0, 3, 2, 1, 0])?).into_bytes(),
                FINE,
            ),
        ),
        (
            "negative-serial",
            (
                pem(&replaced(&numbered, &serial, &[&[0x91], &serial[1..]].concat())?).into_bytes(),
                FINE,
            ),
        ),
        (
            "for-ever",
            (
                pem(&crafted(|params| {
                    params.not_after = date_time_ymd(9999, 12, 31);
                    Ok(())
                })?)
                .into_bytes(),
                FINE,
            ),
        ),
        (
            "20000-names",
            (
                pem(&crafted(|params| {
                    let names = (0..20_000).map(|number| format!("host-{number}.example.com"));
                    params.subject_alt_names = names
                        .map(|name| Ok(SanType::DnsName(name.try_into()?)))
                        .collect::<Result<_>>()?;
                    Ok(())
                })?)
                .into_bytes(),
                BAD,
            ),
        ),
        (
            "bmp-string",
            (
                pem(&named("", DnValue::BmpString("bmp name".try_into()?))?).into_bytes(),
                FINE,
            ),
        ),
        (
            "ip-as-name",
            (
                pem(&named("192.0.2.7", DnValue::Utf8String("ip".into()))?).into_bytes(),
                FINE,
            ),
        ),
        (
            "control-characters",
            (
                pem(&named(
                    "evil.example.com\r\nX-Injected: 1",
                    DnValue::Utf8String("a\r\n\u{202e}\u{0}b".into()),
                )?)
                .into_bytes(),
                FINE,
            ),
        ),
    ]))
}

/// The findings of each Secret, by the operator's metrics: the status lists only ten.
fn findings(metrics: &str) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let label = |line: &str, name: &str| {
        let rest = line.split_once(&format!("{name}=\""))?.1;
        Some(rest.split_once('"')?.0.to_owned())
    };
    for line in metrics
        .lines()
        .filter(|line| line.starts_with("certmon_certificate_finding{"))
    {
        if let (Some(name), Some(finding)) = (label(line, ",name"), label(line, "finding")) {
            found.entry(name).or_default().push(finding);
        }
    }
    found
}

#[tokio::test]
async fn each_hostile_secret_is_one_finding_or_none_and_others_are_unaffected() -> Result<()> {
    let stage = Stage::set("hostile", |operator| operator).await?;
    let inputs = inputs()?;
    let key = Leaf::for_names(["any.example.com"]).self_signed()?.key_pem();
    for (name, (certificate, _)) in &inputs {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": { "name": name, "labels": { "hostile": "yes" } },
            "data": { "tls.crt": STANDARD.encode(certificate), "tls.key": STANDARD.encode(&key) },
        });
        stage.tenant(&stage.namespace).create("secrets", &secret).await?;
    }
    let choose = |value: &str| {
        let selector = json!({ "matchLabels": { "hostile": value } });
        json!({ "sources": [{ "name": "tls", "secrets": { "selector": selector } }] })
    };
    let mut good = ninety_days(&Authority::new("Story CA")?, "good", "good.example.com", 60)?;
    good["metadata"]["labels"] = json!({ "hostile": "no" });
    stage
        .apply(&[good, monitor("bad", &choose("yes")), monitor("good", &choose("no"))])
        .await?;
    stage
        .until("good", "AllValid", |monitor| {
            monitor.says("Healthy", "True", "AllValid")
        })
        .await?;
    let wrong = inputs.values().filter(|(_, found)| !found.is_empty()).count() as u64;
    let seen = stage
        .until("bad", "what is wrong with each", |monitor| {
            monitor.says("Healthy", "False", "BadCertificateData") && monitor.count("warning") >= wrong
        })
        .await?;
    assert_eq!(seen.count("unknown"), 0, "{seen:?}");
    let metrics = stage.operator.metrics().await?;
    let found = findings(&metrics);
    let mut faults = String::new();
    for (name, (_, expected)) in &inputs {
        let of = found.get(*name).cloned().unwrap_or_default();
        if of != *expected {
            writeln!(faults, "{name}: {of:?}")?;
        }
    }
    assert!(faults.is_empty(), "{faults}\n{found:#?}");

    // They are read for what they say, not merely borne.
    for (name, subject) in [("v1", "v1.example.com"), ("bmp-string", "bmp name")] {
        let of_name = |line: &&str| {
            line.starts_with("certmon_certificate_not_after") && line.contains(&format!("name=\"{name}\""))
        };
        let line = metrics
            .lines()
            .find(of_name)
            .with_context(|| format!("{name} in {metrics}"))?;
        assert!(line.contains(&format!("subject=\"{subject}\"")), "{line}");
    }
    let events = stage.kubectl(&["get", "events", "-o", "json"]).await?;
    let status = serde_json::to_string(&seen.0["status"])?;
    for (what, text) in [
        ("metrics", metrics),
        ("Events", events),
        ("status", status),
        ("log", stage.operator.log()),
    ] {
        let bad = |c: char| FORBIDDEN.contains(&c);
        assert!(
            !text.contains(bad) && !text.contains("\\r") && !text.contains("\\u202e"),
            "{what}: {text}"
        );
    }
    let peak = peak_memory(&stage)?;
    assert!(peak <= MOST_MEMORY, "{peak} MiB at the peak");
    Ok(())
}

/// What the operator's process ever held, in MiB.
fn peak_memory(stage: &Stage) -> Result<u64> {
    let memory = std::fs::read_to_string(format!("/proc/{}/status", stage.operator.id()))?;
    let peak = memory.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    Ok(peak.context("the kernel tells the peak")? / 1024)
}

#[tokio::test]
async fn a_hundred_bad_secrets_at_once_are_a_finding_each_and_the_good_one_is_judged_as_ever() -> Result<()> {
    const BAD: usize = 100;
    let stage = Stage::set("hundred", |operator| operator).await?;
    let key = Leaf::for_names(["any.example.com"]).self_signed()?.key_pem();
    let inputs: Vec<Vec<u8>> = inputs()?
        .into_values()
        .filter_map(|(certificate, wrong)| (!wrong.is_empty()).then_some(certificate))
        .collect();
    let choose = |value: &str| {
        let selector = json!({ "matchLabels": { "hostile": value } });
        json!({ "sources": [{ "name": "tls", "secrets": { "selector": selector } }] })
    };
    let authority = Authority::new("Story CA")?;
    let good = |left| {
        let mut good = ninety_days(&authority, "good", "good.example.com", left)?;
        good["metadata"]["labels"] = json!({ "hostile": "no" });
        anyhow::Ok(good)
    };
    stage
        .apply(&[
            good(60)?,
            monitor("bad", &choose("yes")),
            monitor("good", &choose("no")),
        ])
        .await?;
    let is_fine = |monitor: &super::Monitor| monitor.says("Healthy", "True", "AllValid");
    stage.until("good", "AllValid", is_fine).await?;

    let tenant = stage.tenant(&stage.namespace);
    let secrets = inputs.iter().cycle().zip(0..BAD).map(|(certificate, number)| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": { "name": format!("bad-{number}"), "labels": { "hostile": "yes" } },
            "data": { "tls.crt": STANDARD.encode(certificate), "tls.key": STANDARD.encode(&key) },
        })
    });
    let creating = futures::stream::iter(secrets).map(Ok::<_, anyhow::Error>);
    creating
        .try_for_each_concurrent(16, async |secret| tenant.create("secrets", &secret).await)
        .await?;
    // Its own monitor comes after them, as the pace of its status is no matter of this story.
    stage.apply(&[good(-1)?, monitor("bad", &choose("yes"))]).await?;
    stage
        .until("good", "Expired", |monitor| monitor.says("Healthy", "False", "Expired"))
        .await?;
    stage
        .until("bad", "what is wrong with each", |monitor| {
            monitor.count("warning") == BAD as u64 && monitor.count("total") == BAD as u64
        })
        .await?;
    let found = findings(&stage.operator.metrics().await?);
    for number in 0..BAD {
        let of = found.get(&format!("bad-{number}"));
        ensure!(
            of.is_some_and(|of| *of == ["BadCertificateData"]),
            "bad-{number}: {of:?}"
        );
    }
    let peak = peak_memory(&stage)?;
    assert!(peak <= MOST_MEMORY, "{peak} MiB at the peak");
    Ok(())
}

/// Monitors as an older schema, that bounded nothing, would have let them in.
fn once_allowed() -> Vec<Value> {
    let source = json!([{ "name": "tls", "secrets": {} }]);
    let with = |field: &str, value: Value| json!({ "sources": source, field: value });
    let endpoint = |endpoint: Value| json!({ "sources": [{ "name": "public", "endpoints": [endpoint] }] });
    vec![
        json!({}),
        json!({ "sources": "all" }),
        json!({ "sources": [{ "name": "tls" }] }),
        json!({ "sources": [{ "name": "tls", "secrets": {}, "ingresses": {} }] }),
        json!({ "sources": [{ "secrets": {} }] }),
        json!({ "sources": [{ "name": "tls", "secrets": { "types": "Opaque" } }] }),
        json!({ "sources": [{ "name": "tls", "secrets": { "selector": { "matchExpressions": [{ "key": "a", "operator": "Near" }] } } }] }),
        endpoint(json!({ "host": "example.com", "port": 70_000 })),
        endpoint(json!({ "host": "example.com", "port": "https" })),
        with("suspend", json!("yes")),
        with("thresholds", json!({ "warning": { "remaining": "soon" } })),
        with("thresholds", json!({ "warning": { "remainingPercent": 500 } })),
        with("probe", json!({ "interval": "often" })),
        with("probe", json!({ "failureThreshold": -1 })),
        with("sinks", json!([{ "name": "team" }])),
        with(
            "sinks",
            json!([{ "name": "team", "email": { "to": "oncall@example.com" } }]),
        ),
        with(
            "silences",
            json!([{ "name": "a", "certificates": ["*"], "until": "never" }]),
        ),
        with("checks", json!({ "hostname": "Fatal" })),
        with("limits", json!({ "maxCertificates": -5 })),
    ]
}

#[tokio::test]
async fn twenty_monitors_of_a_looser_schema_stall_and_the_good_one_goes_on() -> Result<()> {
    let cluster = Cluster::start(&Options::from_environment()?).await?;
    let path = repository().join("crd/generated/certificatemonitors.yaml");
    let mut looser: Value = serde_saphyr::from_str(&std::fs::read_to_string(path)?)?;
    let version = &mut looser["spec"]["versions"][0];
    version["schema"]["openAPIV3Schema"] = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    if let Some(version) = version.as_object_mut() {
        let _fields = version.remove("selectableFields");
    }
    let kubectl = cluster.kubectl()?;
    // Server-side, as the real one will be: what it doesn't say any more goes.
    let applied = kubectl
        .output(["apply", "--server-side", "-f", "-"], &looser.to_string())
        .await?;
    ensure!(applied.success, "{}", applied.stderr);
    kubectl
        .run([
            "wait",
            "--for=condition=Established",
            "crd/certificatemonitors.certmon.dev",
        ])
        .await?;
    let before = cluster.namespace("before").await?;
    let list = |items: Vec<Value>| json!({ "apiVersion": "v1", "kind": "List", "items": items });
    let named: Vec<Value> = once_allowed()
        .iter()
        .enumerate()
        .map(|(number, spec)| monitor(&format!("old-{number}"), spec))
        .collect();
    let total = named.len();
    before.kubectl().apply_object(&list(named.clone())).await?;
    // What is wrong with one endpoint stays that endpoint's.
    let odd = [
        "127.1",
        "0x7f000001",
        "2130706433",
        "0177.0.0.1",
        "2852039166",
        "https://example.com/",
        "::g",
        "*.example.com",
    ];
    let endpoints: Vec<Value> = odd.iter().map(|host| json!({ "host": host, "port": 8443 })).collect();
    let sources = json!([{ "name": "public", "endpoints": endpoints }, { "name": "tls", "secrets": {} }]);
    let stored = ninety_days(&Authority::new("Story CA")?, "fine-tls", "fine.example.com", 60)?;
    let odd_hosts = monitor("odd-hosts", &json!({ "sources": sources }));
    before.kubectl().apply_object(&list(vec![stored, odd_hosts])).await?;
    cluster.crds().await?;

    let stage = Stage::everywhere(&cluster, "loose", |_rules| {}, |operator| operator).await?;
    stage
        .apply(&[
            ninety_days(&Authority::new("Story CA")?, "shop-tls", "shop.example.com", 60)?,
            monitor("shop", &json!({ "sources": [{ "name": "tls", "secrets": {} }] })),
        ])
        .await?;
    stage
        .until("shop", "AllValid", |monitor| {
            monitor.says("Healthy", "True", "AllValid")
        })
        .await?;
    certmon_e2e::wait_for("each old monitor to say what is wrong", super::SOON, async || {
        let monitors = before.kubectl().run(["get", "certmon", "-o", "json"]).await?;
        let monitors: Value = serde_json::from_str(&monitors)?;
        let events = before.kubectl().run(["events", "-o", "json"]).await?;
        let events: Value = serde_json::from_str(&events)?;
        let (mut silent, mut by_status, mut by_event) = (Vec::new(), 0, 0);
        for item in monitors["items"].as_array().into_iter().flatten() {
            let name = item["metadata"]["name"].as_str().unwrap_or_default();
            let stalled = super::Monitor(item.clone()).says("Stalled", "True", "InvalidSpec");
            let mut told = events["items"].as_array().into_iter().flatten();
            let told = told.any(|event| {
                event["reason"] == "InvalidSpec"
                    && event["involvedObject"]["name"] == name
                    && event["type"] == "Warning"
            });
            if name == "odd-hosts" {
                continue;
            }
            by_status += usize::from(stalled);
            by_event += usize::from(told && !stalled);
            let summary = item["status"]["summary"][0].as_str().unwrap_or_default();
            if !told || (stalled && !summary.starts_with("The spec can't be used: ")) {
                silent.push(format!("{name} {}: {}", item["spec"], item["status"]));
            }
        }
        ensure!(
            silent.is_empty(),
            "{} of {total}:\n{}\n{}",
            silent.len(),
            silent.join("\n"),
            stage.operator.log()
        );
        ensure!(
            by_status > 0 && by_event > 0,
            "{by_status} stalled, {by_event} by an Event alone: {monitors:#}"
        );
        Ok(())
    })
    .await?;
    certmon_e2e::wait_for(
        "the odd hosts to be refused, and nothing else",
        super::SOON,
        async || {
            let shown = before
                .kubectl()
                .run(["get", "certmon", "odd-hosts", "-o", "json"])
                .await?;
            let shown = super::Monitor(serde_json::from_str(&shown)?);
            let refused = |host: &str| {
                let text =
                    "TargetNotPermitted: is not dialled: the address or port is not permitted by the egress policy";
                shown.has_problem(&[&format!("{host}:8443: {text}")])
            };
            ensure!(odd.iter().all(|host| refused(host)), "{:#}", shown.0["status"]);
            ensure!(shown.count("ok") == 1 && shown.count("warning") == odd.len() as u64);
            ensure!(shown.condition("Stalled").is_null() && shown.says("Ready", "True", "Monitoring"));
            Ok(())
        },
    )
    .await
}
