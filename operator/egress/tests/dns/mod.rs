//! A name server on loopback, over UDP, that answers as a test says.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};
use tokio::{net::UdpSocket, task::JoinHandle};

/// What is answered to one question. Addresses of the other family are left out.
#[derive(Clone)]
#[allow(dead_code, reason = "each test crate has its own use of it")]
pub(crate) enum Answer {
    Addresses(Vec<IpAddr>),
    NxDomain,
    ServFail,
    Silence,
}

pub(crate) struct Dns {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

const A: u16 = 1;
const AAAA: u16 = 28;

impl Dns {
    /// `answer` is asked with the name (lower case, with its trailing dot) and whether it is for AAAA.
    pub(crate) async fn start(answer: impl Fn(&str, bool) -> Answer + Send + 'static) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            let mut query = [0; 1500];
            loop {
                let (length, from) = socket.recv_from(&mut query).await.unwrap();
                let (name, kind, question) = question(&query[..length]);
                log.lock().unwrap().push(name.clone());
                let answer = match kind {
                    A | AAAA => answer(&name, kind == AAAA),
                    _ => Answer::NxDomain,
                };
                if let Some(reply) = reply(&query[..2], question, kind, answer) {
                    socket.send_to(&reply, from).await.unwrap();
                }
            }
        });
        Self { address, asked, task }
    }

    /// The names that were asked for, in order.
    #[allow(dead_code, reason = "each test crate has its own use of it")]
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn question(query: &[u8]) -> (String, u16, &[u8]) {
    let mut name = String::new();
    let mut at = 12;
    while query[at] != 0 {
        let length = usize::from(query[at]);
        name.push_str(std::str::from_utf8(&query[at + 1..at + 1 + length]).unwrap());
        name.push('.');
        at += length + 1;
    }
    let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    (name.to_ascii_lowercase(), kind, &query[12..at + 5])
}

fn reply(id: &[u8], question: &[u8], kind: u16, answer: Answer) -> Option<Vec<u8>> {
    let (code, addresses) = match answer {
        Answer::Addresses(addresses) => (0, addresses),
        Answer::ServFail => (2, Vec::new()),
        Answer::NxDomain => (3, Vec::new()),
        Answer::Silence => return None,
    };
    let addresses: Vec<IpAddr> = addresses
        .into_iter()
        .filter(|ip| ip.is_ipv6() == (kind == AAAA))
        .collect();
    let count = u16::try_from(addresses.len()).unwrap();
    let mut reply = id.to_vec();
    reply.extend([0x81, 0x80 | code, 0, 1]);
    reply.extend(count.to_be_bytes());
    reply.extend([0, 0, 0, 0]);
    reply.extend(question);
    for ip in addresses {
        // The question's name, the type, IN, a TTL of 0.
        reply.extend([0xc0, 12]);
        reply.extend(kind.to_be_bytes());
        reply.extend([0, 1, 0, 0, 0, 0]);
        let octets = match ip {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        reply.extend(u16::try_from(octets.len()).unwrap().to_be_bytes());
        reply.extend(octets);
    }
    Some(reply)
}
