//! An open connection.

use crate::lanes::Permits;
use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// The most bytes that are read of one peer. Nothing that is asked through this door has an answer near that long; without
/// a bound, a peer that never stops would have us decrypt for as long as a deadline allows.
pub const MOST_READ: usize = 1024 * 1024;

/// A TCP connection to a vetted address. It holds its share of the bounds until it is dropped. Dropped before it was shut
/// down, it is aborted (RST): a peer that hangs keeps no socket of ours in a queue of the kernel's. Past [`MOST_READ`] bytes
/// reading fails ([`io::ErrorKind::InvalidData`]).
#[derive(Debug)]
pub struct Stream {
    tcp: TcpStream,
    peer: SocketAddr,
    /// How many bytes may still be read.
    left: usize,
    finished: bool,
    _permits: Permits,
}

impl Stream {
    pub(crate) fn new(tcp: TcpStream, peer: SocketAddr, permits: Permits) -> Self {
        Self {
            tcp,
            peer,
            left: MOST_READ,
            finished: false,
            _permits: permits,
        }
    }

    /// The vetted address that was dialled.
    #[must_use]
    pub fn peer_address(&self) -> SocketAddr {
        self.peer
    }

    /// Our own end, such as EHLO's address literal needs it.
    ///
    /// # Errors
    /// Where the kernel doesn't say.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.tcp).poll_read(cx, buf))?;
        self.left = self.left.saturating_sub(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.tcp).poll_shutdown(cx))?;
        self.finished = true;
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.finished {
            // Best effort: without it the kernel says FIN instead of RST.
            let _ = self.tcp.set_zero_linger();
        }
    }
}
