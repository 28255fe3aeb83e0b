//! Every rule of what a sink's Secret may hold, and the sentence that a person reads when it is broken.

use super::*;
use std::collections::BTreeMap;
use zeroize::Zeroizing;

const CANARY: &str = "canary7f3a";

fn secret(type_: &str, values: &[(&str, &str)]) -> SinkSecret {
    let values: BTreeMap<_, _> = values
        .iter()
        .map(|(key, value)| ((*key).to_owned(), Zeroizing::new(value.as_bytes().to_vec())))
        .collect();
    SinkSecret {
        type_: type_.to_owned(),
        values,
    }
}

fn slack_kind(channel: Option<&str>) -> SinkKind {
    SinkKind::Slack {
        channel: channel.map(str::to_owned),
        secret: "slack-bot".to_owned(),
    }
}

fn mail_kind() -> SinkKind {
    SinkKind::Email {
        to: vec!["a@example.com".to_owned()],
        secret: "mail".to_owned(),
    }
}

fn hook_kind() -> SinkKind {
    SinkKind::Webhook(WebhookTarget::Secret("hook".to_owned()))
}

fn parse(kind: &SinkKind, values: &[(&str, &str)]) -> Result<Parsed<Config>, SinkFault> {
    Config::parse("shop", kind, Some(&secret(kind.secret_type(), values)))
}

#[track_caller]
fn fault(kind: &SinkKind, values: &[(&str, &str)]) -> (Misconfigured, String) {
    let Err(fault) = parse(kind, values) else {
        panic!("accepted: {values:?}")
    };
    assert!(!fault.text.contains(CANARY), "a value is quoted: {}", fault.text);
    (fault.class, fault.text)
}

#[track_caller]
fn good(kind: &SinkKind, values: &[(&str, &str)]) -> Parsed<Config> {
    parse(kind, values).unwrap_or_else(|fault| panic!("{}", fault.text))
}

#[test]
fn a_slack_secret_without_its_keys_says_which_keys_it_has() {
    let (class, text) = fault(&slack_kind(Some("#a")), &[("webhook", CANARY)]);
    assert_eq!(class, Misconfigured::KeyMissing);
    assert_eq!(text, "Secret shop/slack-bot has no key `token` or `url`; keys: webhook");
    let (_, text) = fault(&slack_kind(None), &[("url", " \n")]);
    assert_eq!(
        text,
        "Secret shop/slack-bot has no key `token` or `url`; keys: url (empty)"
    );
    let (_, text) = fault(&slack_kind(None), &[]);
    assert_eq!(text, "Secret shop/slack-bot has no key `token` or `url`; keys: none");
}

#[test]
fn a_secret_that_is_missing_or_of_another_type_is_told_apart_from_its_content() {
    let missing = Config::parse("shop", &mail_kind(), None).err().expect("no Secret");
    assert_eq!(missing.class, Misconfigured::SecretMissing);
    assert!(
        missing.text.contains("Secret shop/mail") && missing.text.contains("certmon.dev/smtp"),
        "{}",
        missing.text
    );
    let opaque = secret("Opaque", &[(CANARY, CANARY)]);
    let wrong = Config::parse("shop", &mail_kind(), Some(&opaque))
        .err()
        .expect("wrong type");
    assert_eq!(wrong.class, Misconfigured::WrongType);
    assert!(
        !wrong.text.contains(CANARY) && !wrong.text.contains("Opaque"),
        "{}",
        wrong.text
    );
}

#[test]
fn slack_takes_a_url_or_a_token_and_never_both() {
    let url = format!("https://hooks.slack.com/services/{CANARY}\n");
    let token = format!("xoxb-{CANARY}\r\n");
    assert_eq!(
        fault(&slack_kind(Some("#a")), &[("url", &url), ("token", &token)]).0,
        Misconfigured::Conflict
    );
    assert_eq!(
        fault(&slack_kind(None), &[("token", &token)]).0,
        Misconfigured::KeyMissing
    );
    assert_eq!(
        fault(&slack_kind(None), &[("url", "http://hooks.slack.com/canary7f3a")]).0,
        Misconfigured::PlainHttp
    );
    assert_eq!(
        fault(&slack_kind(Some("#a")), &[("token", "xoxb-canary7f3a\u{e9}")]).0,
        Misconfigured::BadValue
    );

    let webhook = good(
        &slack_kind(Some("#a")),
        &[("url", &url), ("apiURL", "https://x.example")],
    );
    assert_eq!(webhook.remarks.len(), 2, "{:?}", webhook.remarks);
    let Config::Slack(SlackConfig {
        target: SlackTarget::IncomingWebhook(url),
        ..
    }) = webhook.config
    else {
        panic!("a webhook");
    };
    assert_eq!(
        url.path_and_query().as_str(),
        format!("/services/{CANARY}"),
        "trailing white space is cut"
    );

    let bot = good(&slack_kind(Some("#a")), &[("token", &token)]);
    assert!(bot.remarks.is_empty(), "{:?}", bot.remarks);
    let Config::Slack(SlackConfig {
        target: SlackTarget::Bot { api, .. },
        ..
    }) = bot.config
    else {
        panic!("a bot")
    };
    assert_eq!(
        (api.authority(), api.method("chat.update").path_and_query().to_string()),
        ("slack.com".to_owned(), "/api/chat.update".to_owned())
    );
    let gateway = good(
        &slack_kind(Some("#a")),
        &[("token", &token), ("apiURL", "https://gw.example:8443/slack")],
    );
    let Config::Slack(SlackConfig {
        target: SlackTarget::Bot { api, .. },
        ..
    }) = gateway.config
    else {
        panic!("a bot")
    };
    assert_eq!(
        (api.authority(), api.method("x").path_and_query().to_string()),
        ("gw.example:8443".to_owned(), "/slack/x".to_owned())
    );
}

#[test]
fn an_unknown_key_is_a_remark() {
    let parsed = good(&hook_kind(), &[("url", "https://h.example/"), ("signing_key", CANARY)]);
    assert_eq!(
        parsed.remarks,
        ["Secret shop/hook: unknown key `signing_key` is ignored"]
    );
}

#[test]
fn smtp_ports_follow_the_way_of_encryption() {
    let base = [
        ("host", "mail.example.com"),
        ("from", "Certmon <certmon@example.com>\n"),
    ];
    for (tls, port) in [
        (None, 587),
        (Some("StartTLS"), 587),
        (Some("Implicit"), 465),
        (Some("None"), 25),
    ] {
        let mut values = base.to_vec();
        values.extend(tls.map(|tls| ("tls", tls)));
        assert_eq!(good(&mail_kind(), &values).config.address().1, port, "{tls:?}");
    }
    let mut values = base.to_vec();
    values.push(("port", "2525\n"));
    assert_eq!(good(&mail_kind(), &values).config.address().1, 2525);
}

#[test]
fn smtp_refuses_what_would_leak_or_not_work() {
    let with = |more: &[(&'static str, &'static str)]| {
        let mut values = vec![("host", "mail.example.com"), ("from", "certmon@example.com")];
        values.retain(|(key, _)| !more.iter().any(|(k, _)| k == key));
        values.extend(more);
        fault(&mail_kind(), &values).0
    };
    use Misconfigured::*;
    assert_eq!(
        with(&[("username", CANARY), ("password", CANARY), ("tls", "None")]),
        PlainCredentials
    );
    assert_eq!(with(&[("username", CANARY)]), KeyMissing);
    assert_eq!(with(&[("tls", "starttls-canary7f3a")]), BadValue);
    assert_eq!(with(&[("port", "0")]), BadValue);
    assert_eq!(with(&[("port", "65536")]), BadValue);
    assert_eq!(with(&[("host", "")]), KeyMissing);
    assert_eq!(with(&[("host", "mail.example.com:587")]), BadValue);
    assert_eq!(with(&[("host", "0x7f.1")]), BadValue);
    assert_eq!(with(&[("from", "canary7f3a")]), BadValue);
    assert_eq!(
        with(&[("from", "a@example.com\r\nBcc: canary7f3a@example.com")]),
        BadValue
    );
    assert_eq!(with(&[("ca.crt", "canary7f3a")]), BadValue);
    assert_eq!(
        with(&[(
            "ca.crt",
            "-----BEGIN CERTIFICATE-----\nY2FuYXJ5N2YzYQ==\n-----END CERTIFICATE-----\n"
        )]),
        BadValue
    );
    let kind = SinkKind::Email {
        to: vec!["a@example.com".to_owned(), "b".to_owned()],
        secret: "mail".to_owned(),
    };
    let (class, text) = fault(&kind, &[("host", "mail.example.com"), ("from", "certmon@example.com")]);
    assert_eq!(class, BadValue);
    assert!(text.contains("email.to[1]"), "{text}");
}

#[test]
fn a_password_without_a_user_is_remarked_and_not_used() {
    let values = [
        ("host", "mail.example.com"),
        ("from", "certmon@example.com"),
        ("password", CANARY),
    ];
    let parsed = good(&mail_kind(), &values);
    assert!(
        parsed.remarks[0].contains("`username`") && !parsed.remarks[0].contains(CANARY),
        "{:?}",
        parsed.remarks
    );
    let Config::Smtp(smtp) = parsed.config else {
        panic!("mail")
    };
    assert!(smtp.login.is_none());
}

#[test]
fn a_signing_key_is_one_or_two_and_of_a_sound_length() {
    let key = format!("whsec_{}", "QUJD".repeat(8));
    let two = format!("{key} {key}\n");
    for (value, keys) in [(key.as_str(), 1), (two.as_str(), 2)] {
        let parsed = good(&hook_kind(), &[("url", "https://h.example/"), ("signingKey", value)]);
        let Config::Webhook(webhook) = parsed.config else {
            panic!("a webhook")
        };
        assert_eq!(webhook.signing_keys.len(), keys);
    }
    for wrong in [
        format!("{key} {key} {key}"),
        "QUJD".repeat(8),
        "whsec_QUJD".to_owned(),
        "whsec_???".to_owned(),
    ] {
        assert_eq!(
            fault(&hook_kind(), &[("url", "https://h.example/"), ("signingKey", &wrong)]).0,
            Misconfigured::BadValue
        );
    }
}

#[test]
fn a_webhook_url_is_https_without_a_user() {
    use Misconfigured::*;
    for (url, class) in [
        ("http://h.example/canary7f3a", PlainHttp),
        ("gopher://h.example/canary7f3a", BadValue),
        ("h.example/canary7f3a", BadValue),
        ("https://canary7f3a@h.example/", BadValue),
        ("https://a:canary7f3a@h.example/", BadValue),
        ("https:///canary7f3a", BadValue),
        ("https://h.example:0/canary7f3a", BadValue),
        ("https://h.example:65536/canary7f3a", BadValue),
        ("https://*.example/canary7f3a", BadValue),
    ] {
        let of_secret = parse(&hook_kind(), &[("url", url)]).err().map(|fault| fault.class);
        let of_spec = webhook_of_spec(url).err().map(|fault| fault.class);
        // `https:///x` is read as the host `x`, as browsers do.
        if url != "https:///canary7f3a" {
            assert_eq!((of_secret, of_spec), (Some(class), Some(class)), "{url}");
        }
    }
    for (url, host) in [
        ("https://2130706433/", "127.0.0.1"),
        ("https://0x7f.1/", "127.0.0.1"),
        ("https://[::1]:8443/", "[::1]"),
    ] {
        let parsed = webhook_of_spec(url).map(|parsed| parsed.config.address().0.to_string());
        assert_eq!(
            parsed.ok().as_deref(),
            Some(host),
            "{url}: vetted as the address that it is"
        );
    }
}

#[test]
fn a_url_of_the_spec_gets_no_credential() {
    let kind = SinkKind::Webhook(WebhookTarget::Url("https://h.example/".to_owned()));
    let held = secret(
        "certmon.dev/webhook",
        &[("url", "https://other.example/"), ("authorization", CANARY)],
    );
    let parsed = Config::parse("shop", &kind, Some(&held)).unwrap_or_else(|fault| panic!("{}", fault.text));
    let Config::Webhook(webhook) = parsed.config else {
        panic!("a webhook")
    };
    assert!(webhook.authorization.is_none() && webhook.signing_keys.is_empty());
    assert_eq!(webhook.url.host().to_string(), "h.example");
}

#[test]
fn a_value_that_is_too_large_is_a_fault_and_never_none() {
    let large = |bytes: usize| CANARY.repeat(bytes / CANARY.len() + 1);
    let (url, from) = ("https://hook.example/", "a@example.com");
    for (kind, key, rest) in [
        (hook_kind(), "ca.crt", vec![("url", url)]),
        (hook_kind(), "signingKey", vec![("url", url)]),
        (hook_kind(), "authorization", vec![("url", url)]),
        (hook_kind(), "url", vec![]),
        (slack_kind(None), "ca.crt", vec![("url", url)]),
        (slack_kind(None), "token", vec![("url", url)]),
        (slack_kind(Some("#a")), "apiURL", vec![("token", "xoxb-1")]),
        (mail_kind(), "ca.crt", vec![("host", "mx.example"), ("from", from)]),
        (mail_kind(), "username", vec![("host", "mx.example"), ("from", from)]),
        (mail_kind(), "password", vec![("host", "mx.example"), ("from", from)]),
    ] {
        let kib = if key == "ca.crt" { 256 } else { 64 };
        let value = large(kib * 1024);
        let values: Vec<_> = rest.into_iter().chain([(key, &*value)]).collect();
        let (class, text) = fault(&kind, &values);
        assert_eq!(class, Misconfigured::BadValue, "{key}");
        assert!(
            text.contains(&format!("key `{key}` is larger than {kib} KiB; ")),
            "{key}: {text}"
        );
    }
    // What nobody asks for may be large.
    good(&hook_kind(), &[("url", url), ("notes", &large(100_000))]);
}
