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

/// Port of SIP without a port in its address.
const SIP_PORT: u16 = 5060;
/// Port of SIP over TLS.
const SIPS_PORT: u16 = 5061;

/// Server that a domain names.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Server {
    host: String,
    port: u16,
    priority: u16,
    weight: u16,
}

/// Directory of names: the system's, or a DNS server of the trunk's own.
pub(super) struct Names {
    /// DNS client, or the reason why there is none.
    dns: Result<TokioResolver, String>,
    /// Whether the DNS server is not the system's.
    has_own_server: bool,
}

impl Names {
    /// Uses a DNS server, or the system's settings.
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
        let dns = builder.and_then(|builder| builder.build());
        let dns = dns.map_err(|error| format!("DNS cannot be asked: {error}"));
        Self { dns, has_own_server: server.is_some() }
    }

    /// Returns the addresses of a trunk, the preferred first. A certificate names the host, so over
    /// TLS the name stays.
    pub async fn servers(
        &self,
        trunk: &TrunkAddress,
        transport: Transport,
    ) -> Result<Vec<HostWithPort>, String> {
        if transport == Transport::Tls {
            if self.has_own_server {
                return Err("leave --sip-name-server out: TLS uses the system's names".to_owned());
            }
            let name = format!("{}:{}", trunk.host, trunk.port.unwrap_or(SIPS_PORT));
            let name = HostWithPort::try_from(name.as_str());
            return Ok(vec![name.map_err(|error| error.to_string())?]);
        }
        let servers = match trunk.port {
            Some(port) => vec![(trunk.host.clone(), port)],
            None if digits(&trunk.host).is_some() => vec![(trunk.host.clone(), SIP_PORT)],
            None => self.of_domain(&trunk.host, transport).await?,
        };
        let (mut addresses, mut missing) = (Vec::new(), None);
        for (host, port) in servers {
            match self.addresses(&host).await {
                Ok(found) => {
                    let found = found.into_iter();
                    addresses.extend(found.map(|address| SocketAddr::new(address, port)));
                }
                // The other servers of the domain take the calls.
                Err(error) => missing = Some(error),
            }
        }
        let Some(first) = addresses.first().copied() else {
            let no_address = || format!("--sip-trunk {} has no address", trunk.host);
            return Err(missing.unwrap_or_else(no_address));
        };
        addresses.retain(|address| address.is_ipv4() == first.is_ipv4());
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
        let found = match self.dns()?.srv_lookup(name.as_str()).await {
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
        if let Some(address) = digits(host) {
            return Ok(vec![address]);
        }
        let not_found = |error: String| format!("--sip-trunk {host} is not found: {error}");
        if !self.has_own_server {
            let found = tokio::net::lookup_host((host, 0)).await;
            let found = found.map_err(|error| not_found(error.to_string()))?;
            return Ok(found.map(|address| address.ip()).collect());
        }
        let found = self.dns()?.lookup_ip(host).await;
        Ok(found.map_err(|error| not_found(error.to_string()))?.iter().collect())
    }

    fn dns(&self) -> Result<&TokioResolver, String> {
        self.dns.as_ref().map_err(Clone::clone)
    }
}

/// Returns the address that a host in digits is.
fn digits(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
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
    use std::collections::BTreeMap;

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
        let mut first = BTreeMap::<String, usize>::new();
        for _ in 0..1_000 {
            let ordered = in_order(servers.clone(), &mut random);
            assert_eq!((ordered.len(), ordered[3].host.as_str()), (4, "last"));
            *first.entry(ordered[0].host.clone()).or_default() += 1;
        }
        assert!((850..950).contains(&first["heavy"]), "{first:?}");
        assert!((50..150).contains(&first["light"]), "{first:?}");
        assert!(first.get("never").is_none_or(|times| *times < 30), "{first:?}");
    }

    #[tokio::test]
    async fn addresses_in_digits_and_hosts_of_the_system_need_no_dns() {
        let nobody = Names { dns: Err("not asked".to_owned()), has_own_server: false };
        for (trunk, expected) in [
            ("127.0.0.1:5070", "127.0.0.1:5070"),
            ("127.0.0.1", "127.0.0.1:5060"),
            ("[::1]", "[::1]:5060"),
            ("localhost:5070", "127.0.0.1:5070"),
        ] {
            let trunk: TrunkAddress = trunk.parse().expect("right");
            let found = nobody.servers(&trunk, Transport::Udp).await.expect("found");
            assert!(found.iter().any(|server| server.to_string() == expected), "{found:?}");
        }
        let domain: TrunkAddress = "trunk.example".parse().expect("right");
        assert!(nobody.servers(&domain, Transport::Udp).await.is_err());
    }

    #[tokio::test]
    async fn tls_does_not_ask_another_dns_server() {
        let own = Names::by(Some(SocketAddr::from(([127, 0, 0, 1], 53))));
        let trunk: TrunkAddress = "trunk.example".parse().expect("right");
        assert!(own.servers(&trunk, Transport::Tls).await.is_err());
        let found = Names::by(None).servers(&trunk, Transport::Tls).await.expect("the name");
        assert_eq!(found[0].to_string(), "trunk.example:5061");
    }
}
