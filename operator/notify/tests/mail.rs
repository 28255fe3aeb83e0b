//! Mail on loopback: encryption, logging in, recipients one by one, and a server that is silent, or lies, at each step.

mod support;

use base64::{Engine, engine::general_purpose::STANDARD};
use certmon_core::{
    delivery::{FailureClass, Misconfigured, Outcome},
    message::MessageReason,
};
use certmon_notify::{Delivery, Sink};
use std::{collections::BTreeMap, time::Duration};
use support::{
    NAMESPACE, Pki, assert_failed, delivery, mail, message, out_of_patience, sinks,
    smtp::{Reply, Script, Server, ordinary},
    thread,
};

const LOGIN: [(&str, &str); 2] = [("username", "certmon"), ("password", "s3cret\n")];

fn to(server: &Server, pki: &Pki, to: &[&str], more: &[(&str, &str)]) -> Delivery {
    let port = server.address.port().to_string();
    let mut values = vec![
        ("host", "127.0.0.1"),
        ("port", &*port),
        ("from", "Certmon <certmon@example.com>"),
        ("ca.crt", &*pki.ca_pem),
    ];
    values.extend(more);
    delivery(mail(to), &values)
}

async fn told(script: Script, recipients: &[&str], more: &[(&str, &str)]) -> (Outcome, support::smtp::Told) {
    let pki = Pki::new();
    let implicit = more.contains(&("tls", "Implicit"));
    let server = Server::start(&pki, implicit, script).await;
    let outcome = sinks(&[server.address])
        .deliver(to(&server, &pki, recipients, more))
        .await;
    (outcome, server.told())
}

#[tokio::test]
async fn a_mail_arrives_after_starttls_and_nothing_of_it_before() {
    let (outcome, told) = told(ordinary, &["a@example.com", "b@example.com"], &LOGIN).await;
    assert!(
        matches!(
            outcome,
            Outcome::Delivered {
                rejected_recipients: 0,
                ..
            }
        ),
        "{outcome:?}"
    );
    let clear: Vec<_> = told
        .commands
        .iter()
        .filter(|(_, encrypted)| !encrypted)
        .map(|(c, _)| c.as_str())
        .collect();
    assert_eq!(clear, ["EHLO [127.0.0.1]", "STARTTLS"]);
    let inside: Vec<_> = told
        .commands
        .iter()
        .filter(|(_, encrypted)| *encrypted)
        .map(|(c, _)| c.as_str())
        .collect();
    let auth = format!("AUTH PLAIN {}", STANDARD.encode("\0certmon\0s3cret"));
    assert_eq!(
        inside,
        [
            "EHLO [127.0.0.1]",
            &auth,
            "MAIL FROM:<certmon@example.com>",
            "RCPT TO:<a@example.com>",
            "RCPT TO:<b@example.com>",
            "DATA",
            "QUIT",
        ]
    );
    assert!(
        told.mail.contains("Subject: [certmon][CRITICAL] shop/edge"),
        "{}",
        told.mail
    );
    assert!(
        told.mail.contains("Message-ID: <MESSAGEID0001@example.com>"),
        "{}",
        told.mail
    );
}

#[tokio::test]
async fn implicit_tls_and_none_work_and_login_is_asked_for_by_its_names() {
    fn login(step: &str, encrypted: bool) -> Reply {
        match step {
            "AUTH LOGIN" => Reply::Say("334 VXNlcm5hbWU6"),
            "Y2VydG1vbg==" => Reply::Say("334 UGFzc3dvcmQ6"),
            "czNjcmV0" => Reply::Say("235 ok"),
            _ if step.starts_with("EHLO") => Reply::Say("250-mx\r\n250 auth login"),
            _ => ordinary(step, encrypted),
        }
    }
    let (outcome, told_) = told(login, &["a@example.com"], &[LOGIN[0], LOGIN[1], ("tls", "Implicit")]).await;
    assert!(
        matches!(outcome, Outcome::Delivered { .. }),
        "{outcome:?} {:?}",
        told_.commands
    );
    assert!(
        told_.commands.iter().all(|(_, encrypted)| *encrypted),
        "{:?}",
        told_.commands
    );
    let (outcome, told_) = told(ordinary, &["a@example.com"], &[("tls", "None")]).await;
    assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
    assert!(!told_.has("AUTH"), "{:?}", told_.commands);
}

#[tokio::test]
async fn nobody_is_logged_in_without_a_user_name() {
    let (outcome, told) = told(ordinary, &["a@example.com"], &[]).await;
    assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
    assert!(!told.has("AUTH"), "it was offered, and not wanted: {:?}", told.commands);
}

#[tokio::test]
async fn a_server_without_starttls_gets_no_mail_and_no_password() {
    fn stripped(step: &str, encrypted: bool) -> Reply {
        if step.starts_with("EHLO") {
            Reply::Say("250-mx\r\n250 AUTH PLAIN LOGIN")
        } else {
            ordinary(step, encrypted)
        }
    }
    let (outcome, told) = told(stripped, &["a@example.com"], &LOGIN).await;
    assert_failed(&outcome, FailureClass::Connect, None);
    assert!(!told.has("AUTH") && !told.has("MAIL"), "{:?}", told.commands);
}

#[tokio::test]
async fn a_reply_that_was_injected_before_tls_is_no_answer_inside_it() {
    fn with_starttls(step: &str, encrypted: bool) -> Reply {
        if step == "STARTTLS" {
            Reply::Say("220 go\r\n250-mx\r\n250 AUTH PLAIN")
        } else {
            ordinary(step, encrypted)
        }
    }
    fn with_ehlo(step: &str, encrypted: bool) -> Reply {
        match step {
            "EHLO [127.0.0.1]" if !encrypted => Reply::Say("250-mx\r\n250 STARTTLS\r\n220 go"),
            _ => ordinary(step, encrypted),
        }
    }
    for script in [with_starttls as Script, with_ehlo] {
        let (outcome, told) = told(script, &["a@example.com"], &LOGIN).await;
        assert_failed(&outcome, FailureClass::Connect, None);
        assert!(!told.has("AUTH") && !told.has("MAIL"), "{:?}", told.commands);
    }
}

#[tokio::test]
async fn one_bad_recipient_does_not_stop_the_others() {
    fn one_bad(step: &str, encrypted: bool) -> Reply {
        if step.contains("<bad@") {
            Reply::Say("550 5.1.1 who?")
        } else {
            ordinary(step, encrypted)
        }
    }
    let (outcome, told_) = told(one_bad, &["bad@example.com", "good@example.com"], &[]).await;
    assert!(
        matches!(
            outcome,
            Outcome::Delivered {
                rejected_recipients: 1,
                ..
            }
        ),
        "{outcome:?}"
    );
    assert!(
        told_.mail.contains("To: bad@example.com, good@example.com"),
        "{}",
        told_.mail
    );
    let (outcome, told_) = told(one_bad, &["bad@example.com", "bad@example.org"], &[]).await;
    assert_failed(&outcome, FailureClass::RecipientsRejected, Some(550));
    assert!(!told_.has("DATA"), "{:?}", told_.commands);
}

#[tokio::test]
async fn codes_mean_what_they_mean_at_their_step() {
    macro_rules! at {
        ($step:literal, $reply:literal) => {{
            fn script(step: &str, encrypted: bool) -> Reply {
                if step.starts_with($step) {
                    Reply::Say($reply)
                } else {
                    ordinary(step, encrypted)
                }
            }
            script as Script
        }};
    }
    use FailureClass::*;
    for (script, class, code) in [
        (at!("CONNECT", "421 busy"), ServerError, 421),
        (at!("CONNECT", "554 no service"), Rejected, 554),
        (at!("STARTTLS", "454 not now"), ServerError, 454),
        (at!("AUTH", "535 5.7.8 no"), CredentialsRejected, 535),
        (at!("AUTH", "550 no"), CredentialsRejected, 550),
        (at!("AUTH", "454 not now"), ServerError, 454),
        (at!("MAIL", "530 log in first"), CredentialsRejected, 530),
        (at!("MAIL", "552 too large"), PayloadRejected, 552),
        (at!("MAIL", "553 not you"), Rejected, 553),
        (at!("RCPT", "450 greylisted"), ServerError, 450),
        (at!("RCPT", "421 bye"), ServerError, 421),
        (at!("DATA", "554 no valid recipients"), Rejected, 554),
        (at!(".", "552 too large"), PayloadRejected, 552),
        (at!(".", "451 later"), ServerError, 451),
        (at!(".", "554 spam"), Rejected, 554),
    ] {
        let (outcome, _) = told(script, &["a@example.com"], &LOGIN).await;
        assert_failed(&outcome, class, Some(code));
    }
}

#[tokio::test]
async fn silence_is_clear_before_the_mail_and_ambiguous_after_it() {
    macro_rules! silent {
        ($step:literal, $encrypted:literal) => {{
            fn script(step: &str, encrypted: bool) -> Reply {
                if step.starts_with($step) && encrypted == $encrypted {
                    Reply::Silent
                } else {
                    ordinary(step, encrypted)
                }
            }
            script as Script
        }};
    }
    let pki = Pki::new();
    for (at, script, class) in [
        ("CONNECT", silent!("CONNECT", false), FailureClass::Connect),
        ("EHLO", silent!("EHLO", false), FailureClass::Connect),
        ("STARTTLS", silent!("STARTTLS", false), FailureClass::Connect),
        ("TLS", silent!("TLS", false), FailureClass::Connect),
        ("EHLO inside", silent!("EHLO", true), FailureClass::Connect),
        ("AUTH", silent!("AUTH", true), FailureClass::Connect),
        ("MAIL", silent!("MAIL", true), FailureClass::Connect),
        ("RCPT", silent!("RCPT", true), FailureClass::Connect),
        ("DATA", silent!("DATA", true), FailureClass::Connect),
        ("the end", silent!(".", true), FailureClass::Ambiguous),
    ] {
        let server = Server::start(&pki, false, script).await;
        let delivery = to(&server, &pki, &["a@example.com"], &LOGIN);
        let outcome = out_of_patience(sinks(&[server.address]), delivery, server.silent()).await;
        assert_eq!(support::failed(&outcome).class, class, "{at}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_clear_before_the_mail_and_ambiguous_after_it() {
    macro_rules! closes {
        ($step:literal) => {{
            fn script(step: &str, encrypted: bool) -> Reply {
                if step.starts_with($step) {
                    Reply::Close
                } else {
                    ordinary(step, encrypted)
                }
            }
            script as Script
        }};
    }
    for (script, class) in [
        (closes!("CONNECT"), FailureClass::Connect),
        (closes!("RCPT"), FailureClass::Connect),
        (closes!("DATA"), FailureClass::Connect),
        (closes!("."), FailureClass::Ambiguous),
    ] {
        let (outcome, _) = told(script, &["a@example.com"], &LOGIN).await;
        assert_failed(&outcome, class, None);
    }
}

#[tokio::test]
async fn lines_of_a_hostile_server_are_no_panic_and_no_flood() {
    fn blank(step: &str, encrypted: bool) -> Reply {
        if step.starts_with("EHLO") && encrypted {
            Reply::Say("250-mx\r\n250-  \r\n250 \t")
        } else {
            ordinary(step, encrypted)
        }
    }
    let (outcome, _) = told(blank, &["a@example.com"], &[]).await;
    assert!(
        matches!(outcome, Outcome::Delivered { .. }),
        "an extension without a name is none: {outcome:?}"
    );
    fn endless(step: &str, encrypted: bool) -> Reply {
        if step == "CONNECT" {
            Reply::Say(Box::leak("x".repeat(1 << 20).into_boxed_str()))
        } else {
            ordinary(step, encrypted)
        }
    }
    fn nonsense(step: &str, encrypted: bool) -> Reply {
        if step == "CONNECT" {
            Reply::Say("\u{0}\u{ff}hello")
        } else {
            ordinary(step, encrypted)
        }
    }
    for script in [endless as Script, nonsense] {
        let (outcome, told) = told(script, &["a@example.com"], &[]).await;
        assert_failed(&outcome, FailureClass::Connect, None);
        assert!(!told.has("MAIL"), "{:?}", told.commands);
    }
}

#[tokio::test]
async fn a_reply_without_end_ends_the_delivery_long_before_its_deadline() {
    macro_rules! forever {
        ($step:literal, $encrypted:literal, $reply:literal) => {{
            fn script(step: &str, encrypted: bool) -> Reply {
                if step.starts_with($step) && encrypted == $encrypted {
                    Reply::Forever($reply)
                } else {
                    ordinary(step, encrypted)
                }
            }
            script as Script
        }};
    }
    let pki = Pki::new();
    for (at, script, class) in [
        ("CONNECT", forever!("CONNECT", false, "220-"), FailureClass::Connect),
        ("EHLO", forever!("EHLO", false, "250-"), FailureClass::Connect),
        ("EHLO inside", forever!("EHLO", true, "250-A B"), FailureClass::Connect),
        ("AUTH", forever!("AUTH", true, "334-x"), FailureClass::Connect),
        ("RCPT", forever!("RCPT", true, "250-"), FailureClass::Connect),
        ("the end", forever!(".", true, "250-"), FailureClass::Ambiguous),
    ] {
        let server = Server::start(&pki, false, script).await;
        let sinks = sinks(&[server.address]);
        let delivery = to(&server, &pki, &["a@example.com"], &LOGIN);
        // The deadlines are a minute and ten minutes.
        let outcome = tokio::time::timeout(Duration::from_secs(20), sinks.deliver(delivery)).await;
        assert_failed(&outcome.unwrap_or_else(|_| panic!("still reading: {at}")), class, None);
    }
}

#[tokio::test]
async fn a_reply_is_taken_up_to_its_bounds_and_each_command_has_its_own() {
    fn long(lines: usize) -> String {
        (1..lines).map(|n| format!("250-X{n}\r\n")).collect::<String>() + "250 END"
    }
    fn most(step: &str, encrypted: bool) -> Reply {
        if step.starts_with("EHLO") && encrypted || step.starts_with("MAIL") || step.starts_with("RCPT") {
            Reply::Say(Box::leak(long(64).into_boxed_str()))
        } else {
            ordinary(step, encrypted)
        }
    }
    fn more(step: &str, encrypted: bool) -> Reply {
        if step.starts_with("MAIL") {
            Reply::Say(Box::leak(long(65).into_boxed_str()))
        } else {
            ordinary(step, encrypted)
        }
    }
    fn wide(step: &str, encrypted: bool) -> Reply {
        if step.starts_with("MAIL") {
            let line = format!("250-{}\r\n", "x".repeat(4000)).repeat(5);
            Reply::Say(Box::leak((line + "250 END").into_boxed_str()))
        } else {
            ordinary(step, encrypted)
        }
    }
    let (outcome, _) = told(most, &["a@example.com", "b@example.com"], &[]).await;
    assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
    for script in [more as Script, wide] {
        let (outcome, told) = told(script, &["a@example.com"], &[]).await;
        assert_failed(&outcome, FailureClass::Connect, None);
        assert!(!told.has("RCPT"), "{:?}", told.commands);
    }
}

#[tokio::test]
async fn an_untrusted_mail_server_is_told_nothing() {
    let (pki, other) = (Pki::new(), Pki::new());
    for (tls, implicit) in [("StartTLS", false), ("Implicit", true)] {
        let server = Server::start(&pki, implicit, ordinary).await;
        let delivery = to(&server, &other, &["a@example.com"], &[LOGIN[0], LOGIN[1], ("tls", tls)]);
        assert_failed(
            &sinks(&[server.address]).deliver(delivery).await,
            FailureClass::TlsUntrusted,
            None,
        );
        assert!(!server.told().has("AUTH"), "{tls}");
    }
}

#[tokio::test]
async fn later_mails_refer_to_the_first_of_their_period() {
    let pki = Pki::new();
    let server = Server::start(&pki, false, ordinary).await;
    let sinks = sinks(&[server.address]);
    let send = async |reason, thread: &BTreeMap<String, String>| {
        let mut delivery = to(&server, &pki, &["a@example.com"], &[]);
        delivery.message = message(reason);
        delivery.message.id = format!("ID-{reason}");
        delivery.thread = thread.clone();
        (sinks.deliver(delivery).await, server.told().mail)
    };
    let (first, mail) = send(MessageReason::First, &BTreeMap::new()).await;
    assert!(!mail.contains("In-Reply-To"), "{mail}");
    let (reminder, mail) = send(MessageReason::Reminder, &thread(&first)).await;
    assert!(
        mail.contains("In-Reply-To: <ID-first@example.com>") && mail.contains("References: <ID-first@example.com>"),
        "{mail}"
    );
    assert_eq!(thread(&reminder), thread(&first));
    let (end, mail) = send(MessageReason::ResolvedAll, &thread(&reminder)).await;
    assert!(mail.contains("In-Reply-To: <ID-first@example.com>"), "{mail}");
    assert_eq!(thread(&end), BTreeMap::new());
    let forged = [("root".to_owned(), "<a@b>\r\nBcc: victim@example.com".to_owned())].into();
    let (_, mail) = send(MessageReason::Reminder, &forged).await;
    assert!(!mail.contains("victim"), "{mail}");
}

#[tokio::test]
async fn a_line_of_one_dot_does_not_end_the_mail() {
    let pki = Pki::new();
    let server = Server::start(&pki, false, ordinary).await;
    let mut delivery = to(&server, &pki, &["a@example.com"], &[]);
    let alert = &mut delivery.message.alerts[0];
    (alert.title, alert.message) = (String::new(), ".".to_owned());
    alert.next_step = ".\r\n.\r\nMAIL FROM:<x@example.com>".to_owned();
    let outcome = sinks(&[server.address]).deliver(delivery).await;
    assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
    let told = server.told();
    assert_eq!(
        told.commands.iter().filter(|(c, _)| c.starts_with("MAIL")).count(),
        1,
        "{:?}",
        told.commands
    );
    assert!(told.mail.contains("\r\n..\r\n"), "a lone dot is stuffed: {}", told.mail);
}

#[test]
fn no_proxy_of_the_environment_is_asked() {
    support::proxies::again_with_proxies("a_mail_arrives_after_starttls_and_nothing_of_it_before");
}

#[tokio::test]
async fn a_mail_server_that_the_policy_refuses_gets_no_connection() {
    let pki = Pki::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a flag");
    let port = listener.local_addr().expect("an address").port().to_string();
    let sinks = sinks(&[]);
    let refused = FailureClass::Misconfigured(Misconfigured::NotPermitted);
    for tls in ["StartTLS", "Implicit", "None"] {
        for host in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "169.254.169.254", "10.0.0.1"] {
            let values = [
                ("host", host),
                ("port", &*port),
                ("tls", tls),
                ("from", "certmon@example.com"),
                ("ca.crt", &*pki.ca_pem),
            ];
            let delivery = delivery(mail(&["a@example.com"]), &values);
            let checked = sinks.check(NAMESPACE, &delivery.kind, delivery.secret.as_ref()).await;
            let fault = checked.expect_err("it may not be dialled");
            assert_eq!(fault.class, Misconfigured::NotPermitted);
            assert_eq!(
                fault.text,
                "Secret shop/mail names an address or port that the egress policy doesn't permit; name another, or ask an admin to allow it"
            );
            assert_failed(&sinks.deliver(delivery).await, refused, None);
        }
    }
    let came = listener.accept().map_err(|error| error.kind());
    assert!(matches!(came, Err(std::io::ErrorKind::WouldBlock)), "{came:?}");
}
