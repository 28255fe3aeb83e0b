use super::*;

fn parsed(spec: serde_json::Value) -> Result<Parsed, InvalidSpec> {
    parse(&serde_json::from_value(spec).unwrap())
}

#[test]
fn what_is_no_host_is_that_endpoint_s_trouble_alone() {
    let hosts = [
        "127.1",
        "0x7f000001",
        "2130706433",
        "0177.0.0.1",
        "2852039166",
        "a b\u{202e}",
        "*.example.com",
    ];
    let mut endpoints: Vec<_> = hosts.iter().map(|host| serde_json::json!({ "host": host })).collect();
    endpoints.push(serde_json::json!({ "host": "www.example.com", "serverName": "127.1" }));
    endpoints.push(serde_json::json!({ "host": "WWW.example.com.", "port": 8443 }));
    let spec = parsed(serde_json::json!({ "sources": [{ "name": "public", "endpoints": endpoints }] })).unwrap();
    let SourceKind::Endpoints(endpoints) = &spec.sources[0].kind else {
        panic!("{spec:?}")
    };
    let (good, bad) = endpoints.split_last().unwrap();
    assert!(bad.iter().all(|one| matches!(one, Endpoint::NoHost { .. })), "{bad:?}");
    let host = Host::parse("www.example.com").unwrap();
    let expected = Endpoint::Dialled {
        host: host.clone(),
        port: 8443,
        server_name: host,
    };
    assert_eq!(*good, expected);
    assert!(!format!("{bad:?}").contains('\u{202e}'));
}

#[test]
fn patterns_that_an_older_schema_took_are_used_as_they_are() {
    let stars = "*a".repeat(20);
    let spec = parsed(serde_json::json!({
        "sources": [{ "name": "tls", "secrets": { "keys": [stars] } }],
        "silences": [{ "name": "old", "certificates": [stars], "until": "2027-02-01T00:00:00Z" }],
    }))
    .unwrap();
    let kept = certmon_core::silence::NameGlob::new(&stars);
    assert_eq!(spec.policy.silences[0].certificates[0], kept);
    assert!(certmon_core::silence::glob(&stars, &"a".repeat(20)));
}

#[test]
fn a_spec_that_cannot_be_read_names_the_field() {
    let wrong = |spec| parsed(spec).unwrap_err().to_string();
    assert_eq!(
        wrong(serde_json::json!({ "sources": [{ "name": "a" }], "probe": { "interval": "often" } })),
        "`spec.probe.interval` must be one number and one unit: 30d, 36h, 90m or 45s"
    );
    assert_eq!(
        wrong(serde_json::json!({ "sources": [{ "name": "a" }] })),
        "`spec.sources[0]` must have exactly one of `secrets`, `ingresses`, `endpoints`"
    );
}
