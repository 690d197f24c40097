//! Ceph's own byte forms, for its unmodified clients and tools (CEPH-WIRE.md).
//!
//! Integers, strings, vectors and versioned structs are those of [`crate::codec`], which took them from
//! Ceph. Here is what else there is: times, addresses, placement groups, checksums; and the maps.
//! A newer reader accepts older versions of a struct, so each is written in the oldest version that says
//! all we have to say.

mod crush;
mod osdmap;

pub use crush::encode_crush;
pub use osdmap::{NATIVE_ADDRESS, encode_osdmap};

use crate::codec::{Encode, Writer};
use crate::ids::{PgId, Timestamp};
use std::net::{IpAddr, SocketAddr};

/// Address type of messenger version 2.
const ADDRESS_V2: u32 = 2;

/// Linux' address families.
const FAMILY_IPV4: u16 = 2;
const FAMILY_IPV6: u16 = 10;

/// A client's or daemon's address: where it listens, and a nonce that tells its lives apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// Where.
    pub socket: SocketAddr,
    /// Another one with every start of the process.
    pub nonce: u32,
}

/// u32 seconds, u32 nanoseconds; ends in the year 2106, as Ceph's does.
pub fn put_time(time: Timestamp, out: &mut Writer) {
    u32::try_from(time.secs).unwrap_or(u32::MAX).encode(out);
    time.nanos.encode(out);
}

/// u8 1, versioned (1, 1) { u32 type, u32 nonce, u32 length, socket address }. Within the latter, the
/// family is little endian, the port big endian, the rest as in C.
pub fn put_address(address: &Address, out: &mut Writer) {
    1u8.encode(out);
    out.versioned(1, 1, |out| {
        ADDRESS_V2.encode(out);
        address.nonce.encode(out);
        let mut socket = Writer::new();
        match address.socket.ip() {
            IpAddr::V4(ip) => {
                FAMILY_IPV4.encode(&mut socket);
                socket.put_slice(&address.socket.port().to_be_bytes());
                socket.put_slice(&ip.octets());
                socket.put_slice(&[0; 8]);
            }
            IpAddr::V6(ip) => {
                FAMILY_IPV6.encode(&mut socket);
                socket.put_slice(&address.socket.port().to_be_bytes());
                0u32.encode(&mut socket); // flow
                socket.put_slice(&ip.octets());
                0u32.encode(&mut socket); // scope
            }
        }
        socket.into_bytes().encode(out);
    });
}

/// u8 2, u32 count, addresses.
pub fn put_addresses(addresses: &[Address], out: &mut Writer) {
    2u8.encode(out);
    put_count(addresses.len(), out);
    addresses.iter().for_each(|address| put_address(address, out));
}

/// u8 1, u64 pool, u32 seed, i32 −1.
pub fn put_pg(pg: PgId, out: &mut Writer) {
    1u8.encode(out);
    pg.pool.encode(out);
    pg.seed.encode(out);
    (-1i32).encode(out);
}

/// The u32 before the items of a vector, set or map.
pub fn put_count(count: usize, out: &mut Writer) {
    u32::try_from(count).expect("a collection has less than 2^32 items").encode(out);
}

/// Ceph's CRC-32C: start value −1 and no inversion at the end.
pub fn crc32c(bytes: &[u8]) -> u32 {
    // The usual one starts so, too, and inverts at the end. It has 32 bits in a wider type.
    !(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Encode;
    use crate::ids::PoolId;

    fn bytes(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut out = Writer::new();
        write(&mut out);
        out.into_bytes().to_vec()
    }

    #[test]
    fn golden_bytes() {
        let v4 = Address { socket: "10.1.2.3:6801".parse().unwrap(), nonce: 7 };
        assert_eq!(
            bytes(|out| put_addresses(&[v4], out)),
            *b"\x02\x01\0\0\0\x01\x01\x01\x1c\0\0\0\x02\0\0\0\x07\0\0\0\x10\0\0\0\
               \x02\0\x1a\x91\x0a\x01\x02\x03\0\0\0\0\0\0\0\0"
        );
        let v6 = Address { socket: "[::1]:3300".parse().unwrap(), nonce: 0 };
        assert_eq!(bytes(|out| put_address(&v6, out)).len(), 1 + 6 + 12 + 28);
        assert_eq!(
            bytes(|out| put_pg(PgId { pool: PoolId(3), seed: 0x2a }, out)),
            *b"\x01\x03\0\0\0\0\0\0\0\x2a\0\0\0\xff\xff\xff\xff"
        );
        assert_eq!(
            bytes(|out| out.versioned(8, 7, |out| 1u16.encode(out))),
            *b"\x08\x07\x02\0\0\0\x01\0"
        );
    }

    #[test]
    fn checksum_is_not_inverted() {
        // The published check value of CRC-32C is 0xe3069283.
        assert_eq!(crc32c(b"123456789"), !0xe306_9283);
        assert_eq!(crc32c(b""), u32::MAX);
    }
}
