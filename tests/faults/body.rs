//! Bodies that say who they are: the value first, then a stream that only this value has. Any mixture, cut or
//! foreign byte shows.

use bytes::Bytes;
use store_tests::sim::random::Random;

/// The value is in the first bytes.
const HEAD: usize = 8;

/// The bytes of a value at a size.
pub(crate) fn make(value: u64, size: usize) -> Bytes {
    let mut random = Random::new(value);
    let mut body = Vec::with_capacity(size + HEAD);
    body.extend_from_slice(&value.to_le_bytes());
    while body.len() < size {
        body.extend_from_slice(&random.any().to_le_bytes());
    }
    body.truncate(size.max(HEAD));
    Bytes::from(body)
}

/// The value whose whole body this is.
pub(crate) fn value_of(body: &[u8], size: impl Fn(u64) -> usize) -> Result<u64, String> {
    let Some(head) = body.first_chunk::<HEAD>() else {
        return Err(format!("{} bytes are too few to be any body", body.len()));
    };
    let value = u64::from_le_bytes(*head);
    let due = make(value, size(value));
    if body == due {
        return Ok(value);
    }
    let at = body
        .iter()
        .zip(&due)
        .position(|(a, b)| a != b)
        .unwrap_or_else(|| body.len().min(due.len()));
    Err(format!(
        "says to be value {value}, but differs from byte {at} on ({} bytes, {} are due)",
        body.len(),
        due.len()
    ))
}

/// One of these sizes by a value: mostly small ones.
pub(crate) fn size_of(value: u64, sizes: &[usize]) -> usize {
    // Each size is half as frequent as the one before.
    let chance = Random::new(value ^ 0x5a5a_0000_5a5a).any();
    sizes[(chance.trailing_zeros() as usize).min(sizes.len() - 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_of_a_body_shows() {
        let size = |value| size_of(value, &[16, 1000, 70_000]);
        for value in 1..50 {
            let body = make(value, size(value));
            assert_eq!(value_of(&body, size), Ok(value));
            for at in [0, 7, body.len() / 2, body.len() - 1] {
                let mut other = body.to_vec();
                other[at] ^= 1;
                assert!(value_of(&other, size).is_err(), "{value}, byte {at}");
            }
            assert!(value_of(&body[..body.len() - 1], size).is_err());
        }
    }
}
