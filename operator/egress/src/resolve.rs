//! Names to addresses: all of them, once, fully qualified, bounded in time and number.

use crate::Denied;
use hickory_resolver::{
    Resolver as Hickory, TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::rr::{Name, RData, RecordType},
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

/// All of one name's resolution.
pub const RESOLVE_TIMEOUT: Duration = Duration::from_secs(3);
/// Of an answer so many addresses are looked at, the rest is dropped.
pub const MOST_ADDRESSES: usize = 16;

/// Why there is no resolver: the system's configuration can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system's resolver configuration can't be used: {0}")]
pub struct ResolverError(String);

/// Resolves names. Cheap to clone. Answers are not cached: every look asks, and the cluster's own resolver caches.
#[derive(Clone)]
pub struct Resolver(Arc<TokioResolver>);

impl Resolver {
    /// By the name servers of `/etc/resolv.conf`, and `/etc/hosts`. Search domains are never used.
    ///
    /// # Errors
    /// Where that file can't be read or names no server.
    pub fn system() -> Result<Self, ResolverError> {
        let mut builder = Hickory::builder_tokio().map_err(|error| ResolverError(error.to_string()))?;
        bound(builder.options_mut());
        let resolver = builder.build().map_err(|error| ResolverError(error.to_string()))?;
        Ok(Self(Arc::new(resolver)))
    }

    /// By one name server, over UDP and, where an answer is cut, TCP.
    ///
    /// # Errors
    /// Never in practice: nothing of the system's is read.
    pub fn server(server: SocketAddr) -> Result<Self, ResolverError> {
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()]
            .into_iter()
            .map(|mut connection| {
                connection.port = server.port();
                connection
            })
            .collect();
        let config = ResolverConfig::from_name_servers(vec![NameServerConfig::new(server.ip(), true, connections)]);
        let mut builder = Hickory::builder_with_config(config, TokioRuntimeProvider::default());
        bound(builder.options_mut());
        builder.options_mut().use_hosts_file = ResolveHosts::Never;
        let resolver = builder.build().map_err(|error| ResolverError(error.to_string()))?;
        Ok(Self(Arc::new(resolver)))
    }

    /// Every address of a name, IPv4 before IPv6, at most [`MOST_ADDRESSES`], in at most [`RESOLVE_TIMEOUT`].
    pub(crate) async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, Denied> {
        // A wildcard is no name, and an odd one has no record.
        let Ok(mut name) = Name::from_ascii(name) else {
            return Err(Denied::NoRecord);
        };
        name.set_fqdn(true);
        let both = async {
            tokio::join!(
                self.0.lookup(name.clone(), RecordType::A),
                self.0.lookup(name.clone(), RecordType::AAAA)
            )
        };
        let (v4, v6) = tokio::time::timeout(RESOLVE_TIMEOUT, both)
            .await
            .map_err(|_| Denied::ResolverFailed)?;
        // One family's failure must not hide the other's addresses; but "no record" needs both to say so.
        let mut failed = false;
        let mut addresses = Vec::new();
        for answer in [v4, v6] {
            match answer {
                Ok(lookup) => addresses.extend(lookup.answers().iter().filter_map(|record| match &record.data {
                    RData::A(ip) => Some(IpAddr::V4(ip.0)),
                    RData::AAAA(ip) => Some(IpAddr::V6(ip.0)),
                    _ => None,
                })),
                Err(error) => failed |= !no_record(&error),
            }
        }
        let mut unique = Vec::new();
        for address in addresses {
            if unique.len() < MOST_ADDRESSES && !unique.contains(&address) {
                unique.push(address);
            }
        }
        match (unique.is_empty(), failed) {
            (false, _) => Ok(unique),
            (true, true) => Err(Denied::ResolverFailed),
            (true, false) => Err(Denied::NoRecord),
        }
    }
}

fn bound(options: &mut ResolverOpts) {
    options.timeout = RESOLVE_TIMEOUT / 2;
    options.attempts = 2;
    options.cache_size = 0;
    // Answers in flight per connection; past it hickory says "busy", which would be a failure of nobody's.
    options.max_active_requests = 1024;
    options.ndots = 0;
}

fn no_record(error: &NetError) -> bool {
    use hickory_resolver::proto::op::ResponseCode::{NXDomain, NoError};
    matches!(error, NetError::Dns(DnsError::NoRecordsFound(none)) if matches!(none.response_code, NXDomain | NoError))
}
