//! Address of a trunk, as it is configured.

use std::str::FromStr;

/// Address of a trunk, as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrunkAddress {
    pub(super) host: String,
    /// Port; `None`: the host is a domain, which may name servers.
    pub(super) port: Option<u16>,
    /// Most calls at a time.
    pub(super) max_calls: usize,
}

impl FromStr for TrunkAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, rest) = text.split_once(';').unwrap_or((text, ""));
        let max_calls = match rest.split_once('=') {
            None if rest.is_empty() => Some(usize::MAX),
            Some(("calls", calls)) => calls.parse().ok().filter(|calls| *calls > 0),
            _ => None,
        };
        let has_port = name.rfind(':') > name.rfind(']');
        let place = match name.rsplit_once(':').filter(|_| has_port) {
            Some((host, port)) => port.parse().ok().map(|port| (host, Some(port))),
            None => Some((name, None)),
        };
        match (place, max_calls) {
            (Some((host, port)), Some(max_calls)) if !host.is_empty() => {
                Ok(Self { host: host.to_owned(), port, max_calls })
            }
            _ => Err("write it like sip.example.com:5060, sip.example.com or \
                      sip.example.com:5060;calls=20"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hosts_with_a_port_or_domains() {
        for wrong in ["", ":1", "a:b", "a:1;calls=0", "a:1;lines=3", "a:1;calls", "a:70000"] {
            assert!(wrong.parse::<TrunkAddress>().is_err(), "{wrong}");
        }
        for (text, host, port, max_calls) in [
            ("[::1]:5060;calls=3", "[::1]", Some(5_060), 3),
            ("[::1]", "[::1]", None, usize::MAX),
            ("sip.example.com;calls=20", "sip.example.com", None, 20),
        ] {
            let host = host.to_owned();
            assert_eq!(text.parse(), Ok(TrunkAddress { host, port, max_calls }), "{text}");
        }
    }
}
