//! Keys of bodies, and of clients.

use md5::{Digest, Md5};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use ring::hmac;
use std::collections::BTreeMap;
use store_base::bucket::{BucketId, DataRef, WriteId};
use store_base::codec::Encode;

/// Bytes of every key.
pub const KEY_BYTES: usize = 32;

/// Bytes of a wrapped key.
pub const WRAPPED_BYTES: usize = KEY_BYTES + 16;

struct Bytes32;

impl KeyType for Bytes32 {
    fn len(&self) -> usize {
        KEY_BYTES
    }
}

/// A key that is made of another one, for one purpose.
pub(super) fn derive(secret: &[u8], salt: &[u8], purpose: &[&[u8]]) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    let extracted = Salt::new(HKDF_SHA256, salt).extract(secret);
    let expanded = extracted.expand(purpose, Bytes32).expect("32 bytes are not too many");
    expanded.fill(&mut key).expect("the length is that of the key type");
    key
}

pub(super) fn cipher(key: &[u8; KEY_BYTES]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("the key has 32 bytes"))
}

/// The key of one body. It never leaves the gateway unwrapped.
#[derive(Clone)]
pub struct DataKey([u8; KEY_BYTES]);

impl DataKey {
    /// A new one.
    pub fn random() -> DataKey {
        DataKey(store_shell::clock::random())
    }

    #[cfg(test)]
    pub(super) fn fixed(bytes: [u8; KEY_BYTES]) -> DataKey {
        DataKey(bytes)
    }

    /// The cipher of one run of data.
    pub(super) fn of_run(&self, run: &DataRef) -> LessSafeKey {
        cipher(&derive(&self.0, &[], &[b"store segments", &run.key()]))
    }

    /// An entity tag in the place of the MD5, which would tell what the body is.
    pub fn tag(&self, md5: &[u8; 16]) -> [u8; 16] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &derive(&self.0, &[], &[b"store tag"]));
        let mut tag = [0; 16];
        tag.copy_from_slice(&hmac::sign(&key, md5).as_ref()[..16]);
        tag
    }
}

/// A key that wraps keys of bodies.
pub trait Wrapping {
    /// Its bytes.
    fn secret(&self) -> &[u8; KEY_BYTES];
    /// Tells kinds of them apart.
    fn purpose(&self) -> &'static [u8];
    /// What a key is bound to besides its bucket: associated data of the wrapping.
    fn bound(&self) -> &[u8] {
        &[]
    }

    /// Wraps the key of a body of this bucket. `id` is used for one body only, so that what wraps is too.
    fn wrap(&self, key: &DataKey, id: &WriteId, bucket: BucketId) -> bytes::Bytes {
        self.wrap_to(key, id, &[&bucket.0[..], self.bound()].concat())
    }

    /// Unwraps it. `None` if this is not the key that wrapped it, or it is damaged.
    fn unwrap_key(&self, wrapped: &[u8], id: &WriteId, bucket: BucketId) -> Option<DataKey> {
        self.unwrap_from(wrapped, id, &[&bucket.0[..], self.bound()].concat())
    }

    /// Wraps any key, with this as associated data. `id` is used once only.
    fn wrap_to(&self, key: &DataKey, id: &WriteId, associated: &[u8]) -> bytes::Bytes {
        let mut wrapped = key.0.to_vec();
        one_time(self, id)
            .seal_in_place_append_tag(nonce(), Aad::from(associated), &mut wrapped)
            .expect("32 bytes are not too long");
        wrapped.into()
    }

    /// Unwraps what [`Wrapping::wrap_to`] made.
    fn unwrap_from(&self, wrapped: &[u8], id: &WriteId, associated: &[u8]) -> Option<DataKey> {
        if wrapped.len() != WRAPPED_BYTES {
            return None;
        }
        let mut key = wrapped.to_vec();
        let opened =
            one_time(self, id).open_in_place(nonce(), Aad::from(associated), &mut key).ok()?;
        Some(DataKey(<[u8; KEY_BYTES]>::try_from(&*opened).ok()?))
    }
}

fn one_time(wrapping: &(impl Wrapping + ?Sized), id: &WriteId) -> LessSafeKey {
    cipher(&derive(wrapping.secret(), &id.0, &[b"store wrap", wrapping.purpose()]))
}

/// What this seals is sealed with a key of its own.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// A key that a client brings.
#[derive(Clone)]
pub struct CustomerKey([u8; KEY_BYTES]);

impl CustomerKey {
    /// Of these bytes.
    pub fn new(bytes: [u8; KEY_BYTES]) -> CustomerKey {
        CustomerKey(bytes)
    }

    /// By which clients check that it came over whole.
    pub fn md5(&self) -> [u8; 16] {
        Md5::digest(self.0).into()
    }
}

impl Wrapping for CustomerKey {
    fn secret(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    fn purpose(&self) -> &'static [u8] {
        b"customer"
    }
}

/// A key of the cluster.
#[derive(Clone)]
pub struct ClusterKey(pub(super) [u8; KEY_BYTES]);

impl Wrapping for ClusterKey {
    fn secret(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    fn purpose(&self) -> &'static [u8] {
        b"cluster"
    }
}

/// A version of a key of the key ring, and what the client binds the key of a body to.
#[derive(Clone)]
pub struct NamedKey {
    secret: DataKey,
    bound: Vec<u8>,
}

impl NamedKey {
    /// With this secret. Names and values of the context come in order, each with its length before it, so that
    /// no two contexts are the same bytes.
    pub fn new(secret: DataKey, context: &BTreeMap<String, String>) -> NamedKey {
        NamedKey { secret, bound: context.to_bytes().to_vec() }
    }
}

impl Wrapping for NamedKey {
    fn secret(&self) -> &[u8; KEY_BYTES] {
        &self.secret.0
    }

    fn purpose(&self) -> &'static [u8] {
        b"named"
    }

    fn bound(&self) -> &[u8] {
        &self.bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_unwrapped_by_what_wrapped_it_alone() {
        let (bucket, id) = (BucketId([1; 8]), WriteId([2; 16]));
        let (ours, theirs) = (CustomerKey::new([3; 32]), CustomerKey::new([4; 32]));
        let key = DataKey::random();
        let wrapped = ours.wrap(&key, &id, bucket);
        assert_eq!(wrapped.len(), WRAPPED_BYTES);
        assert_eq!(ours.unwrap_key(&wrapped, &id, bucket).unwrap().0, key.0);
        assert!(theirs.unwrap_key(&wrapped, &id, bucket).is_none());
        assert!(ours.unwrap_key(&wrapped, &WriteId([9; 16]), bucket).is_none());
        assert!(ours.unwrap_key(&wrapped, &id, BucketId([9; 8])).is_none());
        assert!(ClusterKey([3; 32]).unwrap_key(&wrapped, &id, bucket).is_none());
        for len in 0..wrapped.len() {
            assert!(ours.unwrap_key(&wrapped[..len], &id, bucket).is_none());
        }
    }

    #[test]
    fn a_context_is_part_of_the_wrapping() {
        let (bucket, id) = (BucketId([1; 8]), WriteId([2; 16]));
        let context = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
        };
        let with = |pairs: &[(&str, &str)]| NamedKey::new(DataKey([3; 32]), &context(pairs));
        let key = DataKey::random();
        let wrapped = with(&[("a", "b")]).wrap(&key, &id, bucket);
        assert_eq!(with(&[("a", "b")]).unwrap_key(&wrapped, &id, bucket).unwrap().0, key.0);
        for other in [&[][..], &[("a", "c")], &[("ab", "")], &[("a", "b"), ("c", "d")]] {
            assert!(with(other).unwrap_key(&wrapped, &id, bucket).is_none(), "{other:?}");
        }
    }

    #[test]
    fn what_is_stored_never_changes() {
        let wrapped =
            CustomerKey::new([3; 32]).wrap(&DataKey([5; 32]), &WriteId([2; 16]), BucketId([1; 8]));
        assert_eq!(hex::encode(&wrapped), GOLDEN_WRAPPED);
        assert_eq!(hex::encode(DataKey([5; 32]).tag(&[6; 16])), GOLDEN_TAG);
    }

    const GOLDEN_WRAPPED: &str = "3e27fbe207ba7d6423586d842c9949be48dba783a6b9bf002c5ad744f797c03bdccfdfceb1b38460ea5a8292c5a0b91a";
    const GOLDEN_TAG: &str = "331869193f33706f25751ef87aa56e34";
}
