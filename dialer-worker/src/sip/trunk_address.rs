//! Address of a trunk, as it is configured.

use std::str::FromStr;

/// Address of a trunk, as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrunkAddress {
    /// Host and port.
    pub(super) name: String,
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
        match (name.rsplit_once(':'), max_calls) {
            (Some((host, port)), Some(max_calls))
                if !host.is_empty() && port.parse::<u16>().is_ok() =>
            {
                Ok(Self { name: name.to_owned(), max_calls })
            }
            _ => Err("write it like sip.example.com:5060 or sip.example.com:5060;calls=20"),
        }
    }
}

impl TrunkAddress {
    /// Returns the host without its port.
    pub(super) fn host(&self) -> &str {
        self.name.rsplit_once(':').map_or(&self.name, |(host, _)| host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_port() {
        for wrong in ["", "a", ":1", "a:b", "a:1;calls=0", "a:1;lines=3", "a:1;calls"] {
            assert!(wrong.parse::<TrunkAddress>().is_err(), "{wrong}");
        }
        let right: TrunkAddress = "[::1]:5060;calls=3".parse().expect("right");
        assert_eq!((right.host(), right.max_calls), ("[::1]", 3));
    }
}
