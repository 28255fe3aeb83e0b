//! A mail server that answers by script and keeps what it was told.

use super::Pki;
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::Notify,
};
use tokio_rustls::TlsAcceptor;

/// What the server does at a step.
pub enum Reply {
    /// Says this, line breaks added.
    Say(&'static str),
    /// Says this again and again, until the client hangs up.
    Forever(&'static str),
    /// Says nothing, ever.
    Silent,
    /// Closes.
    Close,
}

/// A step: a command as it came, or one of `CONNECT` (what is said first), `TLS` (the handshake), `.` (after the mail).
pub type Script = fn(step: &str, encrypted: bool) -> Reply;

/// A server of the ordinary kind.
pub fn ordinary(step: &str, encrypted: bool) -> Reply {
    Reply::Say(match step.split([' ', ':']).next().unwrap_or_default() {
        "CONNECT" => "220 mx.example ESMTP",
        "EHLO" if encrypted => "250-mx.example\r\n250-AUTH PLAIN LOGIN\r\n250 8BITMIME",
        "EHLO" => "250-mx.example\r\n250 STARTTLS",
        "STARTTLS" => "220 go",
        "TLS" => "",
        "AUTH" => "235 ok",
        "DATA" => "354 go on",
        "QUIT" => "221 bye",
        _ => "250 ok",
    })
}

#[derive(Clone, Default)]
pub struct Told {
    /// `(command, encrypted)`.
    pub commands: Vec<(String, bool)>,
    pub mail: String,
}

impl Told {
    pub fn has(&self, start: &str) -> bool {
        self.commands.iter().any(|(command, _)| command.starts_with(start))
    }
}

#[derive(Clone)]
pub struct Server {
    pub address: SocketAddr,
    told: Arc<Mutex<Told>>,
    fell_silent: Arc<Notify>,
    script: Script,
}

impl Server {
    pub async fn start(pki: &Pki, implicit: bool, script: Script) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = Self {
            address,
            told: Arc::default(),
            fell_silent: Arc::default(),
            script,
        };
        let (serving, acceptor) = (server.clone(), TlsAcceptor::from(Arc::clone(&pki.server)));
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (serving, acceptor) = (serving.clone(), acceptor.clone());
                tokio::spawn(async move { serving.serve(tcp, acceptor, implicit).await });
            }
        });
        server
    }

    /// What was told since the last time.
    pub fn told(&self) -> Told {
        std::mem::take(&mut *self.told.lock().expect("no panic holds it"))
    }

    /// Once a connection has come to where nothing is said any more.
    pub async fn silent(&self) {
        self.fell_silent.notified().await;
    }

    async fn serve(&self, tcp: TcpStream, acceptor: TlsAcceptor, implicit: bool) -> Option<()> {
        let mut clear = BufReader::new(tcp);
        if !implicit {
            self.reply(&mut clear, "CONNECT", false).await?;
            self.talk(&mut clear, false).await?;
        }
        if let Reply::Silent = (self.script)("TLS", false) {
            self.hang().await;
        }
        let mut tls = BufReader::new(acceptor.accept(clear.into_inner()).await.ok()?);
        if implicit {
            self.reply(&mut tls, "CONNECT", true).await?;
        }
        self.talk(&mut tls, true).await
    }

    async fn hang(&self) {
        self.fell_silent.notify_one();
        std::future::pending::<()>().await;
    }

    async fn reply<S: AsyncWrite + Unpin>(&self, stream: &mut S, step: &str, encrypted: bool) -> Option<&'static str> {
        match (self.script)(step, encrypted) {
            Reply::Say(text) => {
                stream.write_all(format!("{text}\r\n").as_bytes()).await.ok()?;
                stream.flush().await.ok()?;
                Some(text)
            }
            Reply::Forever(text) => {
                let many = format!("{text}\r\n").repeat(1000);
                while stream.write_all(many.as_bytes()).await.is_ok() {}
                None
            }
            Reply::Silent => {
                self.hang().await;
                None
            }
            Reply::Close => None,
        }
    }

    /// Talks until the client goes (`None`) or encryption begins.
    async fn talk<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: &mut BufReader<S>, encrypted: bool) -> Option<()> {
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            let line = line.trim_end();
            self.told
                .lock()
                .expect("no panic holds it")
                .commands
                .push((line.to_owned(), encrypted));
            let said = self.reply(stream, line, encrypted).await?;
            if line == "STARTTLS" && said.starts_with("220") {
                return Some(());
            }
            if line == "DATA" && said.starts_with("354") {
                let mut mail = String::new();
                while !mail.ends_with("\r\n.\r\n") {
                    if stream.read_line(&mut mail).await.ok()? == 0 {
                        return None;
                    }
                }
                self.told.lock().expect("no panic holds it").mail = mail;
                self.reply(stream, ".", encrypted).await?;
            }
        }
    }
}
