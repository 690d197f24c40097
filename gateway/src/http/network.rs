//! Networks of addresses, and who a request came from when it came through a proxy.

use super::listener::Peer;
use http::HeaderMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// Most hops of `X-Forwarded-For` that are looked at.
const HOPS_MAX: usize = 32;

/// Addresses that begin with the same bits, IPv4 as the IPv6 addresses that stand for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    base: u128,
    /// 0 to 128.
    bits: u32,
    /// Whether it was written as IPv4.
    four: bool,
}

impl FromStr for Network {
    type Err = String;

    /// `10.0.0.0/8`, `2001:db8::/32`, or one address.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no address or network (like 10.0.0.0/8)");
        let (address, bits) = match text.trim().split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u32>().map_err(|_| wrong())?)),
            None => (text.trim(), None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let four = address.is_ipv4();
        let width = if four { 32 } else { 128 };
        let bits = bits.unwrap_or(width);
        match bits <= width {
            true => Ok(Network { base: number(address), bits: bits + 128 - width, four }),
            false => Err(wrong()),
        }
    }
}

impl Network {
    /// Whether an address is of it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match self.bits {
            0 => true,
            bits => (number(address) ^ self.base) >> (128 - bits.min(128)) == 0,
        }
    }

    /// Whether so few addresses are meant that it is not everybody: S3's bound.
    pub fn is_narrow(&self) -> bool {
        self.bits >= if self.four { 96 + 8 } else { 32 }
    }
}

fn number(address: IpAddr) -> u128 {
    let six: Ipv6Addr = match address {
        IpAddr::V4(four) => four.to_ipv6_mapped(),
        IpAddr::V6(six) => six,
    };
    six.to_bits()
}

/// Who sent a request, by the connection it came over and its headers. Headers are believed from `trusted`
/// proxies only, because anybody can write them: then the client is the last hop of `X-Forwarded-For` that is
/// no trusted proxy itself. A hop that cannot be read ends the search at the one behind it. `X-Forwarded-Proto`
/// tells then whether the client's own connection is encrypted.
pub fn origin(peer: Peer, headers: &HeaderMap, trusted: &[Network]) -> Peer {
    let is_trusted =
        |address: IpAddr| trusted.iter().any(|network| network.contains(address.to_canonical()));
    let Some(address) = peer.address.filter(|address| is_trusted(*address)) else { return peer };
    let mut origin = Peer { address: Some(address), ..peer };
    let mut hops: Vec<Option<IpAddr>> = Vec::new();
    for value in headers.get_all("x-forwarded-for") {
        let text = value.to_str().unwrap_or("?");
        hops.extend(text.split(',').map(hop));
    }
    for hop in hops.into_iter().rev().take(HOPS_MAX) {
        let Some(address) = hop else { break };
        origin.address = Some(address);
        if !is_trusted(address) {
            break;
        }
    }
    let protocol = headers.get("x-forwarded-proto").and_then(|value| value.to_str().ok());
    if let Some(protocol) = protocol {
        origin.secure = protocol.trim().eq_ignore_ascii_case("https");
        // The proxy does not tell with which version its client came.
        origin.tls = None;
    }
    origin
}

/// An address as proxies write it: alone, with a port, or in brackets.
fn hop(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse().ok().map(|with_port: SocketAddr| with_port.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_their_addresses() {
        for (network, address, expected) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.1.1.1", true),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "1.2.3.4", true),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
        ] {
            let network: Network = network.parse().expect("a network");
            assert_eq!(network.contains(address.parse().expect("an address")), expected);
        }
        for wrong in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/-1", "example.com"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }

    fn from(peer: &str, forwarded: &[&str], trusted: &[&str]) -> String {
        let peer = Peer { address: peer.parse().ok(), secure: false, tls: None };
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", value.parse().expect("a value"));
        }
        let trusted: Vec<Network> = trusted.iter().map(|text| text.parse().expect("one")).collect();
        origin(peer, &headers, &trusted).address.expect("an address").to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let proxies = ["10.0.0.0/8"];
        for (peer, forwarded, trusted, expected) in [
            ("10.0.0.1", &["192.0.2.1"][..], &[][..], "10.0.0.1"),
            ("192.0.2.9", &["192.0.2.1"], &proxies, "192.0.2.9"),
            ("10.0.0.1", &["192.0.2.1"], &proxies, "192.0.2.1"),
            ("::ffff:10.0.0.1", &["192.0.2.1"], &proxies, "192.0.2.1"),
            ("10.0.0.1", &[], &proxies, "10.0.0.1"),
            // What the client wrote itself stands before what the first proxy saw.
            ("10.0.0.1", &["127.0.0.1, 192.0.2.1"], &proxies, "192.0.2.1"),
            ("10.0.0.1", &["127.0.0.1, 192.0.2.1, 10.0.0.7"], &proxies, "192.0.2.1"),
            ("10.0.0.1", &["127.0.0.1", "192.0.2.1", "10.0.0.7"], &proxies, "192.0.2.1"),
            ("10.0.0.1", &["192.0.2.1, nonsense, 10.0.0.7"], &proxies, "10.0.0.7"),
            ("10.0.0.1", &["192.0.2.1:4711"], &proxies, "192.0.2.1"),
            ("10.0.0.1", &["[2001:db8::1]:4711"], &proxies, "2001:db8::1"),
            ("10.0.0.1", &["[2001:db8::1]"], &proxies, "2001:db8::1"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], &proxies, "10.0.0.3"),
        ] {
            assert_eq!(from(peer, forwarded, trusted), expected, "{peer} {forwarded:?}");
        }
    }

    #[test]
    fn the_clients_own_encryption_counts() {
        let trusted = ["10.0.0.1".parse().expect("one")];
        let secure = |peer: &str, secure: bool, protocol: Option<&str>| {
            let peer = Peer { address: peer.parse().ok(), secure, tls: secure.then_some("1.3") };
            let protocol = protocol.map(|text| text.parse().expect("a value"));
            let headers: HeaderMap = protocol
                .map(|value| (http::HeaderName::from_static("x-forwarded-proto"), value))
                .into_iter()
                .collect();
            let origin = origin(peer, &headers, &trusted);
            // What a proxy says of its client's encryption has no version.
            assert_eq!(origin.tls.is_some(), peer.tls.is_some() && headers.is_empty());
            origin.secure
        };
        assert!(secure("10.0.0.1", false, Some("https")));
        assert!(!secure("10.0.0.2", false, Some("https")));
        assert!(!secure("10.0.0.1", true, Some("http")));
        assert!(secure("10.0.0.1", true, None));
    }
}
