//! Transports of SIP messages.

use clap::ValueEnum;

/// Transport of SIP messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// Datagrams; lost ones are sent again.
    #[default]
    Udp,
    /// One connection to the trunk.
    Tcp,
    /// One encrypted connection to the trunk.
    Tls,
}
