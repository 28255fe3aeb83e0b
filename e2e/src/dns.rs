//! A name server of the world: over UDP, on loopback, with the names that a test gives it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use tokio::net::UdpSocket;

use crate::tls::{ANY_PORT, Task};

/// The record types that have an address.
const A: u16 = 1;
const AAAA: u16 = 28;

/// Names that aren't there.
const NXDOMAIN: u8 = 3;

#[derive(Debug, Default)]
struct Zone {
    /// Lower case, without the trailing dot.
    names: BTreeMap<String, Vec<IpAddr>>,
    /// What ends so is never answered.
    silent: Vec<String>,
    asked: Vec<String>,
}

/// A name server on a free port of 127.0.0.1; it ends when dropped. A name that it wasn't given doesn't exist.
#[derive(Debug)]
pub struct DnsServer {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    _task: Task,
}

fn lock(zone: &Mutex<Zone>) -> MutexGuard<'_, Zone> {
    zone.lock().unwrap_or_else(PoisonError::into_inner)
}

impl DnsServer {
    /// One without names.
    ///
    /// # Errors
    /// When it can't listen.
    pub async fn start() -> Result<Self> {
        let socket = UdpSocket::bind(ANY_PORT).await.context("no free port on 127.0.0.1")?;
        let address = socket.local_addr()?;
        let zone = Arc::<Mutex<Zone>>::default();
        let serves = Arc::clone(&zone);
        let task = Task::spawn(async move {
            let mut query = [0; 1500];
            // A client that has left is told of by the next read; nothing else can go wrong on loopback.
            loop {
                if let Ok((length, from)) = socket.recv_from(&mut query).await
                    && let Some(reply) = answer(&query[..length], &mut lock(&serves))
                {
                    let _sent = socket.try_send_to(&reply, from);
                }
            }
        });
        Ok(Self {
            address,
            zone,
            _task: task,
        })
    }

    /// From now on a name has these addresses, in this order.
    pub fn name(&self, name: &str, addresses: impl IntoIterator<Item = IpAddr>) {
        lock(&self.zone)
            .names
            .insert(name.to_owned(), addresses.into_iter().collect());
    }

    /// From now on nothing is answered about names that end so.
    pub fn silent_about(&self, suffix: &str) {
        lock(&self.zone).silent.push(suffix.to_owned());
    }

    /// The names that were asked for so far, once for each question.
    pub fn asked(&self) -> Vec<String> {
        lock(&self.zone).asked.clone()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// `None` where nothing is to be said.
fn answer(query: &[u8], zone: &mut Zone) -> Option<Vec<u8>> {
    let (name, kind, question) = question(query)?;
    zone.asked.push(name.clone());
    if zone.silent.iter().any(|suffix| name.ends_with(suffix)) {
        return None;
    }
    let (code, addresses) = match zone.names.get(&name) {
        Some(addresses) => (0, addresses.as_slice()),
        None => (NXDOMAIN, [].as_slice()),
    };
    let of_kind = |address: &&IpAddr| match address {
        IpAddr::V4(_) => kind == A,
        IpAddr::V6(_) => kind == AAAA,
    };
    let addresses: Vec<&IpAddr> = addresses.iter().filter(of_kind).collect();
    let mut reply = query[..2].to_vec();
    // A response, recursion desired and available, one question.
    reply.extend([0x81, 0x80 | code, 0, 1]);
    reply.extend(u16::try_from(addresses.len()).ok()?.to_be_bytes());
    reply.extend([0, 0, 0, 0]);
    reply.extend(question);
    for address in addresses {
        // The question's name, the type, IN, a TTL of 0.
        reply.extend([0xc0, 12]);
        reply.extend(kind.to_be_bytes());
        reply.extend([0, 1, 0, 0, 0, 0]);
        match address {
            IpAddr::V4(address) => reply.extend([&[0, 4], &address.octets()[..]].concat()),
            IpAddr::V6(address) => reply.extend([&[0, 16], &address.octets()[..]].concat()),
        }
    }
    Some(reply)
}

/// The name (lower case, without its trailing dot), the type, and the question's bytes; `None` of what is no question.
fn question(query: &[u8]) -> Option<(String, u16, &[u8])> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let length = usize::from(*query.get(at)?);
        if length == 0 {
            break;
        }
        let label = query.get(at + 1..=at + length)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += length + 1;
    }
    let kind = query.get(at + 1..at + 3)?.try_into().ok()?;
    Some((labels.join("."), u16::from_be_bytes(kind), query.get(12..at + 5)?))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// The query for one name, and the answer's code and length.
    async fn ask(server: &DnsServer, name: &str, kind: u8) -> Option<(u8, Vec<u8>)> {
        let mut query = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            query.push(u8::try_from(label.len()).unwrap());
            query.extend(label.as_bytes());
        }
        query.extend([0, 0, kind, 0, 1]);
        let socket = UdpSocket::bind(ANY_PORT).await.unwrap();
        socket.send_to(&query, server.address()).await.unwrap();
        let mut reply = [0; 512];
        let read = timeout(Duration::from_millis(200), socket.recv(&mut reply))
            .await
            .ok()?;
        let reply = &reply[..read.unwrap()];
        assert_eq!(&reply[..2], [7, 7]);
        Some((reply[3] & 0x0f, reply[query.len()..].to_vec()))
    }

    #[tokio::test]
    async fn a_name_has_the_addresses_that_it_was_given_and_others_do_not_exist() -> Result<()> {
        let server = DnsServer::start().await?;
        server.name("shop.test", ["127.0.0.1".parse()?, "::1".parse()?]);
        server.silent_about(".silent.test");
        let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1];
        assert_eq!(ask(&server, "Shop.test", 1).await, Some((0, record.to_vec())));
        let (code, record) = ask(&server, "shop.test", 28).await.context("an answer")?;
        assert_eq!((code, record.len()), (0, 28));
        assert_eq!(ask(&server, "other.test", 1).await, Some((NXDOMAIN, vec![])));
        assert_eq!(ask(&server, "a.silent.test", 1).await, None);
        assert_eq!(server.asked().len(), 4);
        Ok(())
    }
}
