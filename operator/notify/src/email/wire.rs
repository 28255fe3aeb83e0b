//! The connection under an SMTP dialogue: one line of a reply per read, stripped of the server's words.
//!
//! lettre 0.11.23 buffers what it reads: a reply that was injected before STARTTLS is taken for an answer inside TLS. It
//! also quotes replies in its errors, reads a line without end, and panics on an extension without a name. So it gets
//! whole lines one by one, with nothing in them but the code and what the protocol needs, and nothing that was sent
//! ahead of its command. Since little of a line is left, lettre's own bound on a reply never holds, and it parses the
//! reply from its first line again at every line: so what a server may say to one command is counted here.

use crate::tls;
use certmon_core::delivery::FailureClass;
use certmon_egress::Stream;
use lettre::transport::smtp::client::AsyncTokioStream;
use rustls::{ClientConfig, pki_types::ServerName};
use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// The longest line of a reply (RFC 5321 §4.5.3.1.5 allows 512 bytes).
const LONGEST_LINE: usize = 4096;
/// The most lines of one reply. What servers say to EHLO has ten to twenty.
const MOST_LINES: usize = 64;
/// The most bytes of one reply, as they came.
const LONGEST_REPLY: usize = 16 * 1024;

/// A handle of the connection: lettre has one, we keep another to encrypt what is under it.
#[derive(Clone)]
pub(crate) struct Wire(Arc<Mutex<Inner>>);

struct Inner {
    pipe: Pipe,
    /// Read, and not yet a line that was passed on.
    held: Vec<u8>,
    /// How much of `held` is known to have no line break in it.
    searched: usize,
    /// The line that is being passed on.
    line: Vec<u8>,
    /// Of the reply to the last command: the lines that were taken, and their bytes.
    lines: usize,
    bytes: usize,
}

enum Pipe {
    Clear(Stream),
    Tls(Box<TlsStream<Stream>>),
    /// While the handshake has it, and after one that failed.
    Gone,
}

impl Wire {
    pub(crate) fn new(stream: Stream) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            pipe: Pipe::Clear(stream),
            held: Vec::new(),
            searched: 0,
            line: Vec::new(),
            lines: 0,
            bytes: 0,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Encrypts from here on. What the server sent before counts for nothing: if anything is left of it, this fails.
    ///
    /// # Errors
    /// The class of the failure.
    pub(crate) async fn encrypt(
        &self,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<(), FailureClass> {
        let clear = {
            let mut inner = self.lock();
            match std::mem::replace(&mut inner.pipe, Pipe::Gone) {
                Pipe::Clear(stream) if inner.held.is_empty() && inner.line.is_empty() => stream,
                _ => return Err(FailureClass::Connect),
            }
        };
        let connected = TlsConnector::from(config).connect(name, clear).await;
        let encrypted = connected.map_err(|error| tls::handshake_failure(&error))?;
        self.lock().pipe = Pipe::Tls(Box::new(encrypted));
        Ok(())
    }
}

impl Inner {
    /// Takes the first whole line out of what was read, and counts it. No byte is searched twice.
    fn next_line(&mut self) -> Option<Vec<u8>> {
        let Some(end) = self.held[self.searched..].iter().position(|b| *b == b'\n') else {
            self.searched = self.held.len();
            return None;
        };
        let rest = self.held.split_off(self.searched + end + 1);
        let line = std::mem::replace(&mut self.held, rest);
        self.searched = 0;
        self.lines += 1;
        self.bytes += line.len();
        Some(line)
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

impl AsyncTokioStream for Wire {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        match &self.lock().pipe {
            Pipe::Clear(stream) => Ok(stream.peer_address()),
            Pipe::Tls(stream) => Ok(stream.get_ref().0.peer_address()),
            Pipe::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.lock();
        while inner.line.is_empty() {
            if let Some(line) = inner.next_line() {
                inner.line = tidy(&line);
            } else if inner.held.len() > LONGEST_LINE {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            } else {
                let mut bytes = [0; 1024];
                let mut chunk = ReadBuf::new(&mut bytes);
                ready!(inner.pipe.poll_read(cx, &mut chunk))?;
                if chunk.filled().is_empty() {
                    return Poll::Ready(Ok(()));
                }
                inner.held.extend_from_slice(chunk.filled());
            }
            if inner.lines > MOST_LINES || inner.bytes > LONGEST_REPLY {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
        }
        let passed = inner.line.len().min(buf.remaining());
        buf.put_slice(&inner.line[..passed]);
        inner.line.drain(..passed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.lock();
        if matches!(inner.pipe, Pipe::Clear(_)) && !inner.held.is_empty() {
            // A reply that came ahead of its command was injected, or is of no server to talk to.
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        // Another command, another reply.
        (inner.lines, inner.bytes) = (0, 0);
        match &mut inner.pipe {
            Pipe::Clear(stream) => Pin::new(stream).poll_write(cx, buf),
            Pipe::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
            Pipe::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.lock().pipe {
            Pipe::Clear(stream) => Pin::new(stream).poll_flush(cx),
            Pipe::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Pipe::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.lock().pipe {
            Pipe::Clear(stream) => Pin::new(stream).poll_shutdown(cx),
            Pipe::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Pipe::Gone => Poll::Ready(Ok(())),
        }
    }
}

impl Pipe {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Clear(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

/// A line of a reply with nothing of the server's words but extensions (250, in upper case: RFC 5321 §2.4 says that case
/// doesn't matter, lettre minds it) and challenges (334). What is no line of a reply stays none.
fn tidy(line: &[u8]) -> Vec<u8> {
    let line = line.trim_ascii_end();
    let (code, rest) = line.split_at(line.len().min(3));
    let separator = match rest.first() {
        None | Some(b' ') => b' ',
        Some(b'-') => b'-',
        Some(_) => return b"?\r\n".to_vec(),
    };
    if code.len() < 3 || !code.iter().all(u8::is_ascii_digit) {
        return b"?\r\n".to_vec();
    }
    let words: Vec<u8> = match code {
        b"250" => rest
            .iter()
            .skip(1)
            .map(|b| {
                if b.is_ascii_graphic() {
                    b.to_ascii_uppercase()
                } else {
                    b' '
                }
            })
            .collect(),
        b"334" => rest
            .iter()
            .skip(1)
            .copied()
            .filter(|b| b.is_ascii_alphanumeric() || b"+/=".contains(b))
            .collect(),
        _ => Vec::new(),
    };
    let words = match words.trim_ascii() {
        [] => b".",
        words => words,
    };
    [code, &[separator], words, b"\r\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::tidy;

    #[test]
    fn nothing_of_a_reply_passes_but_what_the_protocol_needs() {
        for (line, passes) in [
            (&b"220 canary.example ESMTP\r\n"[..], &b"220 .\r\n"[..]),
            (b"250-starttls\r\n", b"250-STARTTLS\r\n"),
            (b"250 auth plain\tLOGIN\n", b"250 AUTH PLAIN LOGIN\r\n"),
            (b"250-  \r\n", b"250-.\r\n"),
            (b"250\r\n", b"250 .\r\n"),
            (b"334 VXNlcm5hbWU6\r\n", b"334 VXNlcm5hbWU6\r\n"),
            (b"535 5.7.8 canary\r\n", b"535 .\r\n"),
            (b"2500 x\r\n", b"?\r\n"),
            (b"25\r\n", b"?\r\n"),
            (b"\xff\xff\xff \r\n", b"?\r\n"),
            (b"\n", b"?\r\n"),
        ] {
            assert_eq!(tidy(line), passes, "{}", String::from_utf8_lossy(line));
        }
    }
}
