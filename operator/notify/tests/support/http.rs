//! An HTTPS server that answers by script and keeps what it was asked.

use super::Pki;
use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};
use tokio_rustls::TlsAcceptor;

/// What the server does with one connection.
#[derive(Clone)]
pub enum Answer {
    /// Reads the request and says this.
    Say(String),
    /// Reads the request, says this, and no more.
    Begin(String),
    /// Reads the request and says this again and again, until the client hangs up.
    Forever(String),
    /// Reads the request and says nothing.
    Silent,
    /// Reads the request and closes.
    Close,
    /// Accepts, and doesn't even shake hands.
    Mute,
    /// Closes before the handshake.
    Drop,
}

pub struct Asked {
    pub head: String,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }
}

#[derive(Clone)]
pub struct Server {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    fell_silent: Arc<Notify>,
}

pub fn status(status: u16, headers: &str, body: &str) -> Answer {
    Answer::Say(format!(
        "HTTP/1.1 {status} Because\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    ))
}

pub fn json(body: &serde_json::Value) -> Answer {
    status(200, "Content-Type: application/json\r\n", &body.to_string())
}

impl Server {
    /// Answers connection after connection; the last answer serves all that follow.
    pub async fn start(pki: &Pki, answers: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let server = Self {
            address: listener.local_addr().expect("an address"),
            asked: Arc::default(),
            fell_silent: Arc::default(),
        };
        let (serving, acceptor) = (server.clone(), TlsAcceptor::from(Arc::clone(&pki.server)));
        let mut answers: VecDeque<_> = answers.into_iter().collect();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let answer = if answers.len() > 1 {
                    answers.pop_front()
                } else {
                    answers.front().cloned()
                };
                let (serving, acceptor) = (serving.clone(), acceptor.clone());
                tokio::spawn(async move { serving.serve(tcp, acceptor, answer.expect("an answer")).await });
            }
        });
        server
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    /// What was asked since the last time.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().expect("no panic holds it"))
    }

    /// Once a connection has come to where nothing is said any more.
    pub async fn silent(&self) {
        self.fell_silent.notified().await;
    }

    async fn serve(&self, tcp: TcpStream, acceptor: TlsAcceptor, answer: Answer) {
        match answer {
            Answer::Drop => return,
            Answer::Mute => {
                self.fell_silent.notify_one();
                std::future::pending::<()>().await;
            }
            _ => {}
        }
        let Ok(mut tls) = acceptor.accept(tcp).await else {
            return;
        };
        let Some(asked) = read(&mut tls).await else { return };
        self.asked.lock().expect("no panic holds it").push(asked);
        match answer {
            Answer::Say(text) => {
                // The client may hang up on an answer that it doesn't want to read to its end.
                let _ = tls.write_all(text.as_bytes()).await;
                let _ = tls.shutdown().await;
                let _ = tls.read_to_end(&mut Vec::new()).await;
            }
            Answer::Begin(text) => {
                let _ = tls.write_all(text.as_bytes()).await;
                let _ = tls.flush().await;
                self.fell_silent.notify_one();
                // Until the client hangs up.
                let _ = tls.read_to_end(&mut Vec::new()).await;
            }
            Answer::Forever(text) => {
                let many = text.repeat(1000);
                while tls.write_all(many.as_bytes()).await.is_ok() {}
            }
            Answer::Silent => {
                self.fell_silent.notify_one();
                std::future::pending::<()>().await;
            }
            _ => {}
        }
    }
}

async fn read<S: AsyncReadExt + Unpin>(stream: &mut S) -> Option<Asked> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let asked = Asked {
        head: String::from_utf8(bytes[..end].to_vec()).ok()?,
        body: bytes.split_off(end),
    };
    let length = asked.header("content-length")?.parse().ok()?;
    let mut body = asked.body;
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(Asked { head: asked.head, body })
}
