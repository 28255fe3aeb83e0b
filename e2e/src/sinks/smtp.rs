//! A mail relay: STARTTLS, implicit TLS or neither; AUTH; every message recorded.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::{Moment, Observer};
use crate::tls::{ANY_PORT, Task, accept, acceptor_for, listen};
use crate::{Authority, Leaf, wait_for};

/// No message is larger.
const LARGEST_MESSAGE: usize = 4 << 20;

/// How the relay is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpSecurity {
    /// In clear.
    None,
    /// Offers STARTTLS, and neither AUTH nor mail before it.
    StartTls,
    /// TLS from the first byte.
    Implicit,
}

/// The steps of a delivery, as the relay sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Before the greeting.
    Greeting,
    /// The answer to AUTH.
    Auth,
    /// The answer to MAIL.
    Mail,
    /// The answer to DATA.
    Data,
    /// The final answer, after the message: it is recorded by then.
    Final,
}

/// What the relay does. The default takes everything.
#[derive(Debug, Clone, Default)]
pub struct SmtpScript {
    /// AUTH is offered, and only this user name and password are right; without it AUTH is not offered.
    pub credentials: Option<(String, String)>,
    /// Recipients that are refused, with the reply, as `550 5.1.1 no such user`.
    pub refused_recipients: Vec<(String, String)>,
    /// A reply in place of the usual one, as `451 4.3.0 try later`.
    pub replies: Vec<(Stage, String)>,
    /// Waits before answering.
    pub delays: Vec<(Stage, Duration)>,
    /// Closes the connection in place of answering.
    pub hangs_up_at: Option<Stage>,
}

/// A message as it arrived.
#[derive(Debug, Clone)]
pub struct Mail {
    /// When.
    pub at: DateTime<Utc>,
    /// The name after EHLO.
    pub helo: String,
    /// The user name that AUTH accepted.
    pub user: Option<String>,
    /// Whether it came over TLS.
    pub over_tls: bool,
    /// The envelope's sender, without brackets.
    pub from: String,
    /// The envelope's accepted recipients, without brackets.
    pub to: Vec<String>,
    /// Header and body, dots unstuffed, lines ending in CR LF.
    pub data: String,
}

#[derive(Debug)]
struct Relay {
    security: SmtpSecurity,
    acceptor: NoDebug<TlsAcceptor>,
    script: Mutex<SmtpScript>,
    mails: Mutex<Vec<Mail>>,
    observer: Observer,
}

struct NoDebug<T>(T);

impl<T> std::fmt::Debug for NoDebug<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("…")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A mail relay on a free port of 127.0.0.1, with a certificate for `localhost` and `127.0.0.1`.
#[derive(Debug)]
pub struct SmtpSink {
    address: SocketAddr,
    authority: Authority,
    relay: Arc<Relay>,
    _task: Task,
}

impl SmtpSink {
    /// Starts one that takes everything.
    ///
    /// # Errors
    /// When it can't listen.
    pub async fn start(security: SmtpSecurity) -> Result<Self> {
        let authority = Authority::new("certmon-e2e mail")?;
        let acceptor = acceptor_for(&authority.issue(&Leaf::for_names(["localhost", "127.0.0.1"]))?)?;
        let (listener, address) = listen(ANY_PORT).await?;
        let relay = Arc::new(Relay {
            security,
            acceptor: NoDebug(acceptor),
            script: Mutex::new(SmtpScript::default()),
            mails: Mutex::new(Vec::new()),
            observer: Observer::default(),
        });
        let shared = Arc::clone(&relay);
        let task = accept(listener, move |stream| {
            let relay = Arc::clone(&shared);
            async move {
                // A broken dialogue is the client's to report.
                let _ended = converse(stream, &relay).await;
            }
        });
        Ok(Self {
            address,
            authority,
            relay,
            _task: task,
        })
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Who signed its certificate, for `ca.crt`.
    pub fn ca_pem(&self) -> String {
        self.authority.pem()
    }

    /// Does this from the next connection on.
    pub fn script(&self, script: SmtpScript) {
        *lock(&self.relay.script) = script;
    }

    /// Calls this at each of these moments.
    pub fn observe(&self, observer: impl Fn(Moment) + Send + Sync + 'static) {
        self.relay.observer.set(observer);
    }

    /// What arrived so far, oldest first.
    pub fn mails(&self) -> Vec<Mail> {
        lock(&self.relay.mails).clone()
    }

    /// Waits until at least `count` messages have arrived, and returns them.
    ///
    /// # Errors
    /// At the deadline, with those that did arrive.
    pub async fn wait_for_mails(&self, count: usize, deadline: Duration) -> Result<Vec<Mail>> {
        wait_for(&format!("{count} mails"), deadline, async || {
            let mails = self.mails();
            if mails.len() >= count {
                Ok(mails)
            } else {
                Err(anyhow!("{} arrived: {mails:?}", mails.len()))
            }
        })
        .await
    }
}

async fn converse(stream: TcpStream, relay: &Relay) -> Result<()> {
    relay.observer.see(Moment::Accepted);
    let script = lock(&relay.script).clone();
    match relay.security {
        SmtpSecurity::None => Session::new(stream, relay, script, false).run(true).await.map(drop),
        SmtpSecurity::Implicit => {
            let stream = relay.acceptor.0.accept(stream).await?;
            Session::new(stream, relay, script, true).run(true).await.map(drop)
        }
        SmtpSecurity::StartTls => {
            let Some(stream) = Session::new(stream, relay, script.clone(), false).run(true).await? else {
                return Ok(());
            };
            let stream = relay.acceptor.0.accept(stream).await?;
            Session::new(stream, relay, script, true).run(false).await.map(drop)
        }
    }
}

/// One side of the dialogue of RFC 5321, in clear or inside TLS.
struct Session<'a, S> {
    stream: BufReader<S>,
    relay: &'a Relay,
    script: SmtpScript,
    over_tls: bool,
    helo: String,
    user: Option<String>,
    from: String,
    to: Vec<String>,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Session<'a, S> {
    fn new(stream: S, relay: &'a Relay, script: SmtpScript, over_tls: bool) -> Self {
        Self {
            stream: BufReader::new(stream),
            relay,
            script,
            over_tls,
            helo: String::new(),
            user: None,
            from: String::new(),
            to: Vec::new(),
        }
    }

    async fn say(&mut self, line: &str) -> Result<()> {
        self.stream
            .get_mut()
            .write_all(format!("{line}\r\n").as_bytes())
            .await?;
        Ok(self.stream.get_mut().flush().await?)
    }

    /// Answers at a stage as the script wants it.
    async fn say_at(&mut self, stage: Stage, usual: &str) -> Result<()> {
        if let Some((_, delay)) = self.script.delays.iter().find(|(at, _)| *at == stage) {
            tokio::time::sleep(*delay).await;
        }
        if self.script.hangs_up_at == Some(stage) {
            bail!("hangs up, as told");
        }
        let told = self
            .script
            .replies
            .iter()
            .find(|(at, _)| *at == stage)
            .map(|(_, reply)| reply.clone());
        self.say(told.as_deref().unwrap_or(usual)).await
    }

    async fn line(&mut self) -> Result<Option<String>> {
        let mut line = Vec::new();
        if self.stream.read_until(b'\n', &mut line).await? == 0 {
            return Ok(None);
        }
        Ok(Some(
            String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned(),
        ))
    }

    fn needs_tls(&self) -> bool {
        self.relay.security == SmtpSecurity::StartTls && !self.over_tls
    }

    /// Runs to the end; returns the stream when the client asked for STARTTLS.
    async fn run(mut self, greets: bool) -> Result<Option<S>> {
        if greets {
            self.say_at(Stage::Greeting, "220 localhost ESMTP").await?;
        }
        while let Some(line) = self.line().await? {
            let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
            match verb.to_ascii_uppercase().as_str() {
                "EHLO" | "HELO" => self.ehlo(rest).await?,
                "STARTTLS" if self.needs_tls() => {
                    self.say("220 2.0.0 ready").await?;
                    if !self.stream.buffer().is_empty() {
                        bail!("commands were sent behind STARTTLS, before the handshake");
                    }
                    return Ok(Some(self.stream.into_inner()));
                }
                "NOOP" | "RSET" => self.say("250 2.0.0 fine").await?,
                "QUIT" => {
                    self.say("221 2.0.0 bye").await?;
                    return Ok(None);
                }
                _ if self.needs_tls() => self.say("530 5.7.0 STARTTLS first").await?,
                "AUTH" => self.auth(rest).await?,
                "MAIL" => self.mail(rest).await?,
                "RCPT" => self.recipient(rest).await?,
                "DATA" => self.data().await?,
                _ => self.say("500 5.5.1 unknown").await?,
            }
        }
        Ok(None)
    }

    async fn ehlo(&mut self, name: &str) -> Result<()> {
        self.helo = name.to_owned();
        let mut offers = vec!["localhost", "8BITMIME", "SMTPUTF8"];
        if self.needs_tls() {
            offers.push("STARTTLS");
        } else if self.script.credentials.is_some() {
            offers.push("AUTH PLAIN LOGIN");
        }
        let last = offers.pop().unwrap_or("localhost");
        for offer in offers {
            self.say(&format!("250-{offer}")).await?;
        }
        self.say(&format!("250 {last}")).await
    }

    async fn auth(&mut self, rest: &str) -> Result<()> {
        let (mechanism, initial) = rest.split_once(' ').unwrap_or((rest, ""));
        let given = match mechanism.to_ascii_uppercase().as_str() {
            "PLAIN" => {
                let text = if initial.is_empty() {
                    self.ask("").await?
                } else {
                    decode(initial)?
                };
                let mut parts = text.split('\0').skip(1).map(str::to_owned);
                (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
            }
            "LOGIN" => {
                let user = if initial.is_empty() {
                    self.ask("VXNlcm5hbWU6").await?
                } else {
                    decode(initial)?
                };
                (user, self.ask("UGFzc3dvcmQ6").await?)
            }
            _ => return self.say("504 5.5.4 no such mechanism").await,
        };
        if self.script.credentials.as_ref() == Some(&given) {
            self.user = Some(given.0);
            return self.say_at(Stage::Auth, "235 2.7.0 welcome").await;
        }
        self.say_at(Stage::Auth, "535 5.7.8 wrong user name or password").await
    }

    async fn ask(&mut self, challenge: &str) -> Result<String> {
        self.say(&format!("334 {challenge}")).await?;
        decode(&self.line().await?.unwrap_or_default())
    }

    async fn mail(&mut self, rest: &str) -> Result<()> {
        if self.script.credentials.is_some() && self.user.is_none() {
            return self.say("530 5.7.0 AUTH first").await;
        }
        self.from = address(rest);
        self.to.clear();
        self.say_at(Stage::Mail, "250 2.1.0 fine").await
    }

    async fn recipient(&mut self, rest: &str) -> Result<()> {
        let to = address(rest);
        let refused = self
            .script
            .refused_recipients
            .iter()
            .find(|(refused, _)| *refused == to);
        if let Some(reply) = refused.map(|(_, reply)| reply.clone()) {
            return self.say(&reply).await;
        }
        self.to.push(to);
        self.say("250 2.1.5 fine").await
    }

    async fn data(&mut self) -> Result<()> {
        if self.to.is_empty() {
            return self.say("554 5.5.1 no recipients").await;
        }
        let refused = self
            .script
            .replies
            .iter()
            .any(|(stage, reply)| *stage == Stage::Data && !reply.starts_with('3'));
        self.say_at(Stage::Data, "354 go on").await?;
        if refused {
            return Ok(());
        }
        let mut data = String::new();
        loop {
            let Some(line) = self.line().await? else {
                bail!("the client left in the middle of a message")
            };
            if line == "." {
                break;
            }
            data.push_str(line.strip_prefix('.').unwrap_or(&line));
            data.push_str("\r\n");
            if data.len() > LARGEST_MESSAGE {
                return self.say("552 5.3.4 too large").await;
            }
        }
        lock(&self.relay.mails).push(Mail {
            at: Utc::now(),
            helo: self.helo.clone(),
            user: self.user.clone(),
            over_tls: self.over_tls,
            from: self.from.clone(),
            to: self.to.clone(),
            data,
        });
        self.relay.observer.see(Moment::Received);
        self.say_at(Stage::Final, "250 2.0.0 taken").await
    }
}

fn decode(text: &str) -> Result<String> {
    Ok(String::from_utf8(STANDARD.decode(text)?)?)
}

/// What stands between the brackets of `FROM:<a@b>` or `TO:<a@b>`.
fn address(rest: &str) -> String {
    let inside = rest.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    inside.map_or_else(String::new, |(address, _)| address.to_owned())
}

#[cfg(test)]
mod tests {
    use lettre::transport::smtp::authentication::Credentials;
    use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
    use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    fn transport(
        sink: &SmtpSink,
        security: SmtpSecurity,
        password: Option<&str>,
    ) -> AsyncSmtpTransport<Tokio1Executor> {
        crate::install_crypto();
        let parameters = || {
            let ca = Certificate::from_pem(sink.ca_pem().as_bytes()).unwrap();
            let builder = TlsParameters::builder("localhost".to_owned());
            builder
                .certificate_store(CertificateStore::None)
                .add_root_certificate(ca)
                .build()
                .unwrap()
        };
        let tls = match security {
            SmtpSecurity::None => Tls::None,
            SmtpSecurity::StartTls => Tls::Required(parameters()),
            SmtpSecurity::Implicit => Tls::Wrapper(parameters()),
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous("127.0.0.1")
            .port(sink.port())
            .tls(tls);
        if let Some(password) = password {
            builder = builder.credentials(Credentials::new("ops".to_owned(), password.to_owned()));
        }
        builder.build()
    }

    fn message(body: &str) -> Message {
        let message = Message::builder()
            .from("certmon@a.test".parse().unwrap())
            .to("ops@b.test".parse().unwrap());
        message.subject("hello").body(body.to_owned()).unwrap()
    }

    #[tokio::test]
    async fn mail_arrives_whole_with_each_kind_of_security() -> Result<()> {
        for security in [SmtpSecurity::None, SmtpSecurity::StartTls, SmtpSecurity::Implicit] {
            let sink = SmtpSink::start(security).await?;
            let script = SmtpScript {
                credentials: Some(("ops".into(), "secret".into())),
                ..SmtpScript::default()
            };
            sink.script(script);
            transport(&sink, security, Some("secret"))
                .send(message("first\n.\n..dots"))
                .await?;
            let mail = sink.wait_for_mails(1, SOON).await?.remove(0);
            assert_eq!(
                (mail.from.as_str(), mail.to.as_slice()),
                ("certmon@a.test", ["ops@b.test".to_owned()].as_slice())
            );
            assert_eq!(
                (mail.user.as_deref(), mail.over_tls),
                (Some("ops"), security != SmtpSecurity::None)
            );
            assert!(mail.data.contains("Subject: hello\r\n"), "{}", mail.data);
            assert!(mail.data.contains("\r\n\r\nfirst\r\n.\r\n..dots"), "{:?}", mail.data);
        }
        Ok(())
    }

    #[tokio::test]
    async fn the_relay_refuses_as_told() -> Result<()> {
        let sink = SmtpSink::start(SmtpSecurity::StartTls).await?;
        let right = Some(("ops".to_owned(), "secret".to_owned()));
        let refused = vec![("ops@b.test".to_owned(), "550 5.1.1 nobody".to_owned())];
        let cases = [
            (
                "535",
                SmtpScript {
                    credentials: right,
                    ..SmtpScript::default()
                },
            ),
            (
                "550",
                SmtpScript {
                    refused_recipients: refused,
                    ..SmtpScript::default()
                },
            ),
            (
                "451",
                SmtpScript {
                    replies: vec![(Stage::Data, "451 4.3.0 later".into())],
                    ..SmtpScript::default()
                },
            ),
        ];
        for (code, script) in cases {
            let password = script.credentials.is_some().then_some("wrong");
            sink.script(script);
            let sent = transport(&sink, SmtpSecurity::StartTls, password)
                .send(message("x"))
                .await;
            let error = sent.expect_err(code);
            assert_eq!(
                error.status().map(|status| status.to_string()).as_deref(),
                Some(code),
                "{error}"
            );
        }
        assert!(sink.mails().is_empty());
        sink.script(SmtpScript {
            hangs_up_at: Some(Stage::Final),
            ..SmtpScript::default()
        });
        let sent = transport(&sink, SmtpSecurity::StartTls, None)
            .send(message("ambiguous"))
            .await;
        assert!(sent.is_err(), "the relay hung up instead of answering");
        assert_eq!(sink.mails().len(), 1, "it was taken all the same");
        Ok(())
    }
}
