//! The first message each way.

use crate::identity::{PeerIdentity, Role};
use bytes::Bytes;
use store_base::codec::{Decode, DecodeError, Encode, Reader, Writer};
use store_base::{ClusterId, Incarnation};

/// The version of what follows the hello. Raised when peers of before could not understand; both ends must
/// speak the same.
pub const PROTOCOL_VERSION: u32 = 1;

/// What a process says of itself when a link begins.
///
/// Versioned struct (version 1, compat 1): u32 protocol, 16 bytes cluster, string role, string name, u64
/// incarnation, string address, bytes extra. The first two fields may never change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`] of the sender.
    pub protocol: u32,
    /// Its cluster.
    pub cluster: ClusterId,
    /// What it is.
    pub role: Role,
    /// Which one.
    pub name: String,
    /// Which life of it; 0 if it has none (a client).
    pub incarnation: Incarnation,
    /// Where it can be dialled, `host:port`; empty if nowhere.
    pub address: String,
    /// Whatever the layer above wants to say first (a client id, an epoch), in its own encoding.
    pub extra: Bytes,
}

// By hand, since no role is a fair default for a field from an older writer.
impl Encode for Hello {
    fn encode(&self, out: &mut Writer) {
        out.versioned(1, 1, |out| {
            self.protocol.encode(out);
            self.cluster.encode(out);
            self.role.encode(out);
            self.name.encode(out);
            self.incarnation.encode(out);
            self.address.encode(out);
            self.extra.encode(out);
        });
    }
}

impl Decode for Hello {
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        input.versioned("Hello", 1, |_, input| {
            Ok(Hello {
                protocol: Decode::decode(input)?,
                cluster: Decode::decode(input)?,
                role: Decode::decode(input)?,
                name: Decode::decode(input)?,
                incarnation: Decode::decode(input)?,
                address: Decode::decode(input)?,
                extra: Decode::decode(input)?,
            })
        })
    }
}

impl Hello {
    /// A hello of this protocol, with no incarnation, address or extra.
    pub fn new(cluster: ClusterId, role: Role, name: impl Into<String>) -> Self {
        Hello {
            protocol: PROTOCOL_VERSION,
            cluster,
            role,
            name: name.into(),
            incarnation: Incarnation(0),
            address: String::new(),
            extra: Bytes::new(),
        }
    }

    /// Judges a peer's hello against our own and the peer's certificate, and says who the peer is. The error
    /// names the cure.
    pub(super) fn judge(
        &self,
        peer: &Hello,
        certified: Option<&PeerIdentity>,
    ) -> Result<PeerIdentity, String> {
        if peer.cluster != self.cluster {
            return Err(format!(
                "wrong cluster: {}.{} is of cluster {}, {}.{} of cluster {}; give both the monitors of the same cluster",
                peer.role, peer.name, peer.cluster, self.role, self.name, self.cluster
            ));
        }
        if peer.protocol != self.protocol {
            return Err(format!(
                "{}.{} speaks version {} of the protocol, {}.{} speaks {}; upgrade the older",
                peer.role, peer.name, peer.protocol, self.role, self.name, self.protocol
            ));
        }
        let claimed = PeerIdentity::new(peer.cluster, peer.role, &peer.name)
            .map_err(|e| format!("the hello is invalid: {e}"))?;
        match certified {
            Some(certified) if *certified != claimed => {
                Err(format!("{claimed} shows the certificate of {certified}; give it its own"))
            }
            _ => Ok(claimed),
        }
    }
}

impl Encode for Role {
    fn encode(&self, out: &mut Writer) {
        self.as_str().to_string().encode(out);
    }
}

impl Decode for Role {
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let text = String::decode(input)?;
        text.parse()
            .map_err(|_| DecodeError::Invalid { what: "role of length", value: text.len() as u64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(cluster: u8, role: Role, name: &str) -> Hello {
        Hello::new(ClusterId([cluster; 16]), role, name)
    }

    #[test]
    fn the_bytes_are_these() {
        let mut hello = hello(1, Role::Daemon, "3");
        hello.incarnation = Incarnation(9);
        hello.address = "a:1".to_string();
        let bytes = hello.to_bytes();
        let body = [
            &1u32.to_le_bytes()[..],
            &[1; 16],
            b"\x06\0\0\0daemon\x01\0\0\x003",
            &9u64.to_le_bytes(),
            b"\x03\0\0\0a:1\0\0\0\0",
        ]
        .concat();
        let golden = [&[1, 1][..], &u32::to_le_bytes(body.len() as u32), &body].concat();
        assert_eq!(bytes, golden);
        assert_eq!(Hello::from_bytes(bytes.clone()), Ok(hello));
        for len in 0..bytes.len() {
            assert!(Hello::from_bytes(bytes.slice(..len)).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn strangers_are_refused_with_the_cure() {
        let own = hello(1, Role::Daemon, "0");
        assert_eq!(
            own.judge(&hello(1, Role::Gateway, "g"), None).map(|p| p.to_string()),
            Ok("gateway.g".to_string())
        );
        let error = own.judge(&hello(2, Role::Gateway, "g"), None).expect_err("another cluster");
        assert!(error.contains("01010101-") && error.contains("02020202-"), "names both: {error}");
        let newer = Hello { protocol: 2, ..hello(1, Role::Gateway, "g") };
        assert!(own.judge(&newer, None).expect_err("newer").contains("upgrade"));
        let shown = PeerIdentity::new(ClusterId([1; 16]), Role::Gateway, "g").expect("a good name");
        let error = own.judge(&hello(1, Role::Daemon, "1"), Some(&shown)).expect_err("not its own");
        assert!(error.contains("daemon.1 shows the certificate of gateway.g"), "{error}");
        assert!(own.judge(&hello(1, Role::Daemon, "../x"), None).is_err());
    }
}
