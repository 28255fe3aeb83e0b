//! The dialogue with a mail server: one transaction for all recipients, each with its own answer.

use super::wire::Wire;
use crate::{
    config::{Login, SmtpConfig, SmtpTls},
    door::Door,
    http::clear,
    tls,
};
use certmon_core::{
    delivery::{Failure, FailureClass, Misconfigured},
    place::Host,
};
use certmon_egress::Stream;
use lettre::{
    Address,
    transport::smtp::{
        Error,
        authentication::{Credentials, Mechanism},
        client::AsyncSmtpConnection,
        commands::{Auth, Data, Ehlo, Mail, Rcpt, Starttls},
        extension::{ClientId, Extension, MailParameter, ServerInfo},
    },
};
use secrecy::ExposeSecret;
use std::{net::IpAddr, time::Duration};
use tokio::time::{Instant, timeout, timeout_at};

/// How long everything up to the reply to DATA may take.
pub(crate) const UP_TO_DATA: Duration = Duration::from_secs(60);
/// How long a server may think about a message (RFC 5321 §4.5.3.2.6).
pub(crate) const FINAL_REPLY: Duration = Duration::from_secs(600);
/// How long taking leave may take.
pub(crate) const QUIT: Duration = Duration::from_secs(1);

/// Sends `mail`; returns how many recipients were refused while others were not.
///
/// # Errors
/// The mail was not accepted, or is not known to be: that is so from its first byte until the reply after its last.
pub(crate) async fn send(
    door: &Door,
    namespace: &str,
    config: &SmtpConfig,
    helo: Option<&Host>,
    mail: &[u8],
) -> Result<u32, Failure> {
    let deadline = Instant::now() + UP_TO_DATA;
    let opened = timeout_at(deadline, open(door, namespace, config, helo, deadline));
    let (mut connection, refused) = opened.await.unwrap_or(Err(clear(FailureClass::Connect)))?;
    let answer = timeout(FINAL_REPLY, connection.message(mail)).await;
    let outcome = match answer {
        Ok(Ok(_)) => Ok(refused),
        Ok(Err(error)) => Err(failure(&error, FailureClass::Ambiguous)),
        Err(_) => Err(clear(FailureClass::Ambiguous)),
    };
    // Whether the server hears it makes no difference to what became of the mail.
    let _ = timeout(QUIT, connection.abort()).await;
    outcome
}

/// Everything up to the server's consent to DATA.
async fn open(
    door: &Door,
    namespace: &str,
    config: &SmtpConfig,
    helo: Option<&Host>,
    deadline: Instant,
) -> Result<(AsyncSmtpConnection, u32), Failure> {
    let stream = door
        .dial(namespace, &config.host, config.port, deadline)
        .await
        .map_err(clear)?;
    let client = client_id(helo, &stream);
    let wire = Wire::new(stream);
    if config.tls == SmtpTls::Implicit {
        encrypt(door, config, &wire).await?;
    }
    let connected = AsyncSmtpConnection::connect_with_transport(Box::new(wire.clone()), &client).await;
    let mut connection = connected.map_err(before)?;
    let mut server = connection.server_info().clone();
    if config.tls == SmtpTls::StartTls {
        if !server.supports_feature(Extension::StartTls) {
            return Err(clear(FailureClass::Connect));
        }
        connection.command(Starttls).await.map_err(before)?;
        encrypt(door, config, &wire).await?;
        let reply = connection.command(Ehlo::new(client)).await.map_err(before)?;
        server = ServerInfo::from_response(&reply).map_err(before)?;
    }
    if let Some(login) = &config.login {
        authenticate(&mut connection, &server, login).await?;
    }
    let refused = envelope(&mut connection, &server, config).await?;
    connection.command(Data).await.map_err(before)?;
    Ok((connection, refused))
}

async fn encrypt(door: &Door, config: &SmtpConfig, wire: &Wire) -> Result<(), Failure> {
    let name =
        tls::server_name(&config.host).ok_or_else(|| clear(FailureClass::Misconfigured(Misconfigured::BadValue)))?;
    wire.encrypt(door.tls(&config.roots), name).await.map_err(clear)
}

/// The configured name, else the literal of the socket's own address (RFC 5321 §4.1.4): a Pod's name means nothing.
fn client_id(helo: Option<&Host>, stream: &Stream) -> ClientId {
    let ip = match helo {
        Some(Host::Name(name)) => return ClientId::Domain(name.to_string()),
        Some(Host::Ip(ip)) => *ip,
        None => stream
            .local_address()
            .map_or(IpAddr::from([127, 0, 0, 1]), |address| address.ip()),
    };
    match ip.to_canonical() {
        IpAddr::V4(ip) => ClientId::Ipv4(ip),
        IpAddr::V6(ip) => ClientId::Ipv6(ip),
    }
}

async fn authenticate(connection: &mut AsyncSmtpConnection, server: &ServerInfo, login: &Login) -> Result<(), Failure> {
    let rejected = |error: Error| failure(&error, FailureClass::CredentialsRejected);
    let mechanism = server
        .get_auth_mechanism(&[Mechanism::Plain, Mechanism::Login])
        .ok_or_else(|| clear(FailureClass::CredentialsRejected))?;
    let credentials = || Credentials::new(login.username.clone(), login.password.expose_secret().to_owned());
    let auth = Auth::new(mechanism, credentials(), None).map_err(rejected)?;
    let mut reply = connection.command(auth).await.map_err(answered)?;
    // LOGIN asks twice: for the name and for the password.
    for _ in 0..2 {
        if !reply.has_code(334) {
            break;
        }
        let auth = Auth::new_from_response(mechanism, credentials(), &reply).map_err(rejected)?;
        reply = connection.command(auth).await.map_err(answered)?;
    }
    if reply.has_code(235) {
        Ok(())
    } else {
        Err(clear(FailureClass::CredentialsRejected))
    }
}

/// The reply to AUTH: every refusal for good is about the credentials.
fn answered(error: Error) -> Failure {
    let failure = before(error);
    match failure.code {
        Some(500..=599) => Failure {
            class: FailureClass::CredentialsRejected,
            ..failure
        },
        _ => failure,
    }
}

/// Who sends and who receives; returns how many recipients were refused.
async fn envelope(
    connection: &mut AsyncSmtpConnection,
    server: &ServerInfo,
    config: &SmtpConfig,
) -> Result<u32, Failure> {
    let plain = |address: &Address| {
        let address: &str = address.as_ref();
        address.is_ascii()
    };
    let international = !plain(&config.from.email) || !config.to.iter().all(plain);
    let utf8 = international && server.supports_feature(Extension::SmtpUtfEight);
    let parameters = if utf8 {
        vec![MailParameter::SmtpUtfEight]
    } else {
        Vec::new()
    };
    if !utf8 && !plain(&config.from.email) {
        return Err(clear(FailureClass::Rejected));
    }
    connection
        .command(Mail::new(Some(config.from.email.clone()), parameters))
        .await
        .map_err(before)?;
    let (mut refused, mut last, mut later) = (0, None, None);
    for to in &config.to {
        if !utf8 && !plain(to) {
            refused += 1;
            continue;
        }
        match connection.command(Rcpt::new(to.clone(), Vec::new())).await {
            Ok(_) => {}
            Err(error) => {
                let failure = before(error);
                match failure.code {
                    None | Some(421) => return Err(failure),
                    Some(400..=499) => later = Some(failure),
                    Some(_) => last = failure.code,
                }
                refused += 1;
            }
        }
    }
    if usize::try_from(refused) == Ok(config.to.len()) {
        let all = Failure {
            class: FailureClass::RecipientsRejected,
            code: last,
            retry_after: None,
        };
        return Err(later.unwrap_or(all));
    }
    Ok(refused)
}

/// A failure before the mail was on the wire.
fn before(error: Error) -> Failure {
    failure(&error, FailureClass::Connect)
}

/// A failure by the code of the reply; without one, the connection broke, which is `broken`. The reply's words are not
/// kept.
fn failure(error: &Error, broken: FailureClass) -> Failure {
    let code = error.status().map(u16::from);
    let class = match code {
        None => broken,
        Some(530 | 534 | 535 | 538) => FailureClass::CredentialsRejected,
        Some(552) => FailureClass::PayloadRejected,
        Some(400..=499) => FailureClass::ServerError,
        Some(_) => FailureClass::Rejected,
    };
    Failure {
        class,
        code,
        retry_after: None,
    }
}
