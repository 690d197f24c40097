//! Addresses in settings: where to listen, and whom to reach.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// Where a service listens: an IP address of this machine and a port, `0.0.0.0:6800`, `[::]:6800`; `:6800` is
/// every address of the machine. Port 0 lets the system choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenAddress(pub SocketAddr);

/// Whom to reach: a name or an IP address, and a port: `monitor:6789`, `10.0.0.1:6789`, `[::1]:6789`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// A DNS name or an IP address (IPv6 without brackets).
    pub host: String,
    /// The port, never 0.
    pub port: u16,
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let every = text.strip_prefix(':').map(|port| format!("0.0.0.0:{port}"));
        every.as_deref().unwrap_or(text).parse().map(ListenAddress).map_err(|_| {
            format!("{text:?} is not an address to listen on: write IP:PORT, as in 0.0.0.0:6800 or [::]:6800")
        })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl HostPort {
    /// As `FromStr`, with a port for texts that name none.
    pub fn with_default_port(text: &str, port: u16) -> Result<Self, String> {
        let text = text.trim();
        let wrong = || {
            format!(
                "{text:?} is not an address: write HOST:PORT, as in 10.0.0.1:6789 or monitor:6789"
            )
        };
        let (host, port) = if let Some(inner) = text.strip_prefix('[') {
            let (host, behind) = inner.split_once(']').ok_or_else(wrong)?;
            host.parse::<Ipv6Addr>().map_err(|_| wrong())?;
            match behind.strip_prefix(':') {
                Some(port) => (host, port.parse().map_err(|_| wrong())?),
                None if behind.is_empty() => (host, port),
                None => return Err(wrong()),
            }
        } else if text.parse::<Ipv6Addr>().is_ok() {
            (text, port)
        } else if let Some((host, port)) = text.split_once(':') {
            (host, port.parse().map_err(|_| wrong())?)
        } else {
            (text, port)
        };
        let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if port == 0 || host.is_empty() || host.len() > HOST_BYTES_MAX || !host.chars().all(named) {
            return Err(wrong());
        }
        Ok(HostPort { host: host.to_string(), port })
    }

    /// The address as it stands, if the host is an IP address.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        self.host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, self.port))
    }
}

/// Longest DNS name.
const HOST_BYTES_MAX: usize = 253;

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        HostPort::with_default_port(text, 0)
    }
}

impl From<SocketAddr> for HostPort {
    fn from(addr: SocketAddr) -> Self {
        HostPort { host: addr.ip().to_string(), port: addr.port() }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

macro_rules! as_text {
    ($type:ident) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(D::Error::custom)
            }
        }
    };
}

as_text!(ListenAddress);
as_text!(HostPort);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_and_show() {
        for text in ["monitor:6789", "10.0.0.1:6789", "[::1]:6789", "a-b.c_d:1"] {
            let address: HostPort = text.parse().expect(text);
            assert_eq!(address.to_string(), text);
        }
        for text in [
            "",
            "monitor",
            "monitor:",
            "monitor:0",
            "monitor:70000",
            ":6789",
            "a b:1",
            "[::1]",
            "[x]:1",
            "::1",
            "a/b:1",
        ] {
            let error = text.parse::<HostPort>().expect_err(text);
            assert!(error.contains("HOST:PORT"), "{error}");
        }
        let defaulted = HostPort::with_default_port("::1", 6789).expect("an IPv6 address");
        assert_eq!(defaulted.socket_addr().map(|a| a.to_string()).as_deref(), Some("[::1]:6789"));
        assert_eq!(HostPort::with_default_port("m", 6789).expect("a name").socket_addr(), None);
    }

    #[test]
    fn listen_addresses_read_and_show() {
        for (text, shown) in
            [(":6800", "0.0.0.0:6800"), ("127.0.0.1:0", "127.0.0.1:0"), ("[::]:1", "[::]:1")]
        {
            assert_eq!(text.parse::<ListenAddress>().expect(text).to_string(), shown);
        }
        assert!("localhost:6800".parse::<ListenAddress>().expect_err("a name").contains("IP:PORT"));
    }
}
