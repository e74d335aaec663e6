//! Servers of the trunk, by DNS: the addresses of a host, or the servers that a domain names for SIP
//! (RFC 3263, RFC 2782).

use std::net::{IpAddr, SocketAddr};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use rand::Rng;
use rsipstack::sip::HostWithPort;

use super::transport::Transport;
use super::trunk_address::TrunkAddress;

/// Port of SIP, and of SIP over TLS.
const SIP_PORT: u16 = 5060;
const SIPS_PORT: u16 = 5061;

/// Server that a domain names.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Server {
    host: String,
    port: u16,
    priority: u16,
    weight: u16,
}

/// DNS, as the worker asks it; or why it cannot be asked. Addresses in digits need none.
pub(super) struct Names(Result<TokioResolver, String>);

impl Names {
    /// Uses a server, or the system's settings.
    pub fn by(server: Option<SocketAddr>) -> Self {
        let builder = match server {
            None => TokioResolver::builder_tokio(),
            Some(address) => {
                let mut server = NameServerConfig::udp_and_tcp(address.ip());
                for connection in &mut server.connections {
                    connection.port = address.port();
                }
                let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
                let provider = TokioRuntimeProvider::default();
                Ok(TokioResolver::builder_with_config(config, provider))
            }
        };
        let resolver = builder.and_then(|builder| builder.build());
        Self(resolver.map_err(|error| format!("names cannot be looked up: {error}")))
    }

    /// Returns the addresses of a trunk, the preferred first. A certificate names the host, so over
    /// TLS the name stays.
    pub async fn servers(
        &self,
        trunk: &TrunkAddress,
        transport: Transport,
    ) -> Result<Vec<HostWithPort>, String> {
        if transport == Transport::Tls {
            let name = format!("{}:{}", trunk.host, trunk.port.unwrap_or(SIPS_PORT));
            let name = HostWithPort::try_from(name.as_str());
            return Ok(vec![name.map_err(|error| error.to_string())?]);
        }
        let servers = match trunk.port {
            Some(port) => vec![(trunk.host.clone(), port)],
            None => self.of_domain(&trunk.host, transport).await?,
        };
        let mut addresses = Vec::new();
        for (host, port) in servers {
            let found = self.addresses(&host).await?;
            addresses.extend(found.into_iter().map(|address| SocketAddr::new(address, port)));
        }
        let first_is_ipv4 = addresses.first().is_none_or(SocketAddr::is_ipv4);
        addresses.retain(|address| address.is_ipv4() == first_is_ipv4);
        addresses.dedup();
        Ok(addresses.into_iter().map(HostWithPort::from).collect())
    }

    /// Returns the servers that a domain names, in the order in which they are tried. A domain that
    /// names none is a host itself.
    async fn of_domain(
        &self,
        domain: &str,
        transport: Transport,
    ) -> Result<Vec<(String, u16)>, String> {
        let protocol = if transport == Transport::Tcp { "tcp" } else { "udp" };
        let name = format!("_sip._{protocol}.{}.", domain.trim_end_matches('.'));
        let found = match self.0.as_ref().map_err(Clone::clone)?.srv_lookup(name.as_str()).await {
            Ok(found) => found,
            Err(error) if error.is_no_records_found() || error.is_nx_domain() => {
                return Ok(vec![(domain.to_owned(), SIP_PORT)]);
            }
            Err(error) => return Err(format!("--sip-trunk {domain} is not found: {error}")),
        };
        let server = |data: &RData| match data {
            RData::SRV(server) => Some(Server {
                host: server.target.to_utf8(),
                port: server.port,
                priority: server.priority,
                weight: server.weight,
            }),
            _ => None,
        };
        let servers = found.answers().iter().filter_map(|record| server(&record.data));
        // A single dot says that there is no such service.
        let servers: Vec<Server> = servers.filter(|server| server.host != ".").collect();
        if servers.is_empty() {
            return Err(format!("--sip-trunk {domain} takes no SIP over {protocol}"));
        }
        let ordered = in_order(servers, &mut rand::rng()).into_iter();
        Ok(ordered.map(|server| (server.host, server.port)).collect())
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse() {
            return Ok(vec![address]);
        }
        let found = self.0.as_ref().map_err(Clone::clone)?.lookup_ip(bare).await;
        let found = found.map_err(|error| format!("--sip-trunk {host} is not found: {error}"))?;
        Ok(found.iter().collect())
    }
}

/// Returns servers in the order in which they are tried: by priority, and among equals by chance,
/// heavier ones sooner.
fn in_order(mut servers: Vec<Server>, random: &mut impl Rng) -> Vec<Server> {
    // Servers without weight come first in the sum, so that they have a small chance.
    servers.sort_by_key(|server| (server.priority, server.weight > 0));
    let mut ordered = Vec::with_capacity(servers.len());
    while let Some(priority) = servers.first().map(|server| server.priority) {
        let equals = servers.iter().take_while(|server| server.priority == priority);
        let sums: Vec<u32> = equals
            .scan(0, |sum, server| {
                *sum += u32::from(server.weight);
                Some(*sum)
            })
            .collect();
        let chosen = random.random_range(0..=sums.last().copied().unwrap_or(0));
        let index = sums.iter().position(|sum| *sum >= chosen).unwrap_or(0);
        ordered.push(servers.remove(index));
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    fn server(host: &str, priority: u16, weight: u16) -> Server {
        Server { host: host.to_owned(), port: SIP_PORT, priority, weight }
    }

    #[test]
    fn lower_priorities_come_first_and_heavier_servers_more_often() {
        let servers = vec![
            server("last", 20, 0),
            server("light", 10, 10),
            server("heavy", 10, 90),
            server("never", 10, 0),
        ];
        let mut random = SmallRng::seed_from_u64(1);
        let mut first = std::collections::BTreeMap::<String, usize>::new();
        for _ in 0..1_000 {
            let ordered = in_order(servers.clone(), &mut random);
            assert_eq!((ordered.len(), ordered[3].host.as_str()), (4, "last"));
            *first.entry(ordered[0].host.clone()).or_default() += 1;
        }
        assert!((850..950).contains(&first["heavy"]), "{first:?}");
        assert!((50..150).contains(&first["light"]), "{first:?}");
        assert!(first.get("never").is_none_or(|times| *times < 30), "{first:?}");
    }
}
