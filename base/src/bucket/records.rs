//! What is stored: the records behind a bucket. All are versioned structs or parts of one; see the
//! codec's rules for how they may grow.

use super::NUMBER_MAX;
use super::acl::Acl;
use super::layout::Lineage;
use crate::codec::{Decode, DecodeError, Encode, Reader, Writer};
use crate::ids::PoolId;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;

mod encryption;
mod kms;
mod versions;

pub use encryption::*;
pub use kms::*;
pub use versions::*;

macro_rules! fixed_bytes {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Encode for $name {
            fn encode(&self, out: &mut Writer) {
                out.put_slice(&self.0);
            }
        }

        impl Decode for $name {
            fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
                let mut bytes = [0; $len];
                bytes.copy_from_slice(&input.take($len)?);
                Ok($name(bytes))
            }
        }
    };
}

fixed_bytes!(
    /// The identity of a bucket: random, so a bucket that is made again under an old name shares nothing
    /// with the old one.
    BucketId, 8
);
fixed_bytes!(
    /// The identity of one body that is written: of a PUT, or of all parts of a multipart upload (it is
    /// the upload id then). Random.
    WriteId, 16
);

impl std::str::FromStr for WriteId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let text = text.as_bytes();
        let mut id = [0; 16];
        if text.len() != 32 {
            return Err(());
        }
        for (byte, digits) in id.iter_mut().zip(text.chunks_exact(2)) {
            let digit = |d: u8| char::from(d).to_digit(16).ok_or(());
            // Two digits of 16 fit a byte.
            *byte = (digit(digits[0])? * 16 + digit(digits[1])?) as u8;
        }
        Ok(WriteId(id))
    }
}

/// An S3 entity tag: the MD5 of the bytes, or for a multipart object the MD5 of the parts' MD5s and
/// their number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ETag {
    /// The digest.
    pub md5: [u8; 16],
    /// Number of parts; 0 for an object that was put in one piece.
    pub parts: u32,
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.md5) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        f.write_str(std::str::from_utf8(&text).expect("digits are ASCII"))?;
        match self.parts {
            0 => Ok(()),
            parts => write!(f, "-{parts}"),
        }
    }
}

impl std::str::FromStr for ETag {
    type Err = ();

    /// Reads the form of `Display`, without quotes.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (digest, parts) = match text.split_once('-') {
            Some((digest, parts)) => (digest, parts.parse().map_err(|_| ())?),
            None => (text, 0),
        };
        Ok(ETag { md5: digest.parse::<WriteId>()?.0, parts })
    }
}

impl Encode for ETag {
    fn encode(&self, out: &mut Writer) {
        out.put_slice(&self.md5);
        self.parts.encode(out);
    }
}

impl Decode for ETag {
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(ETag { md5: WriteId::decode(input)?.0, parts: Decode::decode(input)? })
    }
}

/// A checksum that the client gave or the gateway computed, beside the entity tag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checksum {
    /// Which, by the gateway's numbers: 1 CRC32, 2 CRC32C, 3 CRC64NVME, 4 SHA-1, 5 SHA-256.
    pub algorithm: u8,
    /// Number of parts for a checksum of checksums (composite); 0 for one of the whole object.
    pub parts: u32,
    /// The value, big endian.
    pub value: Bytes,
}
crate::codec_struct!(Checksum { algorithm, parts, value });

/// What a listing shows of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Bytes of the body.
    pub size: u64,
    /// The entity tag.
    pub etag: ETag,
    /// When it was made, in ms since 1970; the gateway's clock.
    pub modified_ms: u64,
    /// The owner's user id.
    pub owner: String,
    /// [`Checksum::algorithm`], 0 for none.
    pub checksum_algorithm: u8,
    /// Whether the body lies in data objects, so that an overwrite knows without reading the detail.
    pub striped: bool,
    /// The upload that made it, if it was a multipart upload: a completion that is repeated is
    /// recognised by it.
    pub upload: Option<WriteId>,
    /// The shard's number of this version, greater than that of every older version of the key; 0 for
    /// what was written before the bucket had versions. Also says where the detail is.
    pub sequence: u64,
    /// Whether the version has an id; otherwise it is the `null` version.
    pub named: bool,
    /// Whether it stands for a removal: no body, no detail.
    pub delete_marker: bool,
    /// What keeps it from being removed.
    pub lock: ObjectLock,
    /// From when on it is as good as gone, in ms since 1970; 0 for never. While it is the object of its key
    /// the shard finds it by this time.
    pub expires_ms: u64,
    /// The content type, as the detail has it. Empty for what was written before listings showed it.
    pub content_type: String,
    /// What else listings of Swift show, by the names that they have there.
    pub listed: BTreeMap<String, String>,
}
// Version 2 added what belongs to versions and locks, version 3 `expires_ms`, `content_type` and `listed`.
crate::codec_versioned!(Entry, 3, by compat {
    size, etag, modified_ms, owner, checksum_algorithm, striped, upload,
    sequence since 2, named since 2, delete_marker since 2, lock since 2, expires_ms since 3,
    content_type since 3, listed since 3,
});

impl Entry {
    /// Who does not know of versions must take none for a plain object.
    fn compat(&self) -> u8 {
        if self.sequence == 0 && self.lock.is_none() { 1 } else { 2 }
    }

    /// Which version of its key it is.
    pub fn version(&self) -> Version {
        match self.named {
            true => Version::Id { sequence: self.sequence },
            false => Version::Null {},
        }
    }
}

/// What only a read of the object needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// Standard headers that are given back as they came (content-type, cache-control, …), lower case.
    pub headers: BTreeMap<String, String>,
    /// User metadata, by lower-case name without `x-amz-meta-`.
    pub metadata: BTreeMap<String, Bytes>,
    /// The checksum, if there is one.
    pub checksum: Option<Checksum>,
    /// The body, or where it lies.
    pub body: Body,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// Who else may use the object; `None` for nobody.
    pub acl: Option<Acl>,
    /// How the body is encrypted, if it is: the sizes of its parts are those of sealed bytes then.
    pub encryption: Option<Encryption>,
}
// Version 2 added `tags`, version 3 `acl`, version 4 `encryption`. Who does not know of ACLs shows the object to
// its owner only.
crate::codec_versioned!(Detail, 4, by compat {
    headers, metadata, checksum, body, tags since 2, acl since 3, encryption since 4,
});

impl Detail {
    /// Who does not know of encryption must not give sealed bytes away for the body.
    fn compat(&self) -> u8 {
        if self.encryption.is_none() { 1 } else { 4 }
    }

    /// Bytes of the body in a stretch that lies in so many.
    pub fn plain_bytes(&self, lying: u64) -> u64 {
        if self.encryption.is_none() { lying } else { plain_bytes(lying) }
    }
}

/// The header of Swift, among [`Detail::headers`], that says when an object ends, in seconds since 1970.
pub const DELETE_AT: &str = "x-delete-at";

/// What [`Entry::expires_ms`] is for an object with these headers.
pub fn expiry_of(headers: &BTreeMap<String, String>) -> u64 {
    let at = headers.get(DELETE_AT).and_then(|at| at.parse::<u64>().ok());
    at.map_or(0, |secs| secs.saturating_mul(1000))
}

/// Where an object's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Here.
    Inline {
        /// The bytes.
        data: Bytes,
    },
    /// In data objects.
    Striped {
        /// Which.
        manifest: Manifest,
    },
    /// In other objects: a static large object of Swift. Its entry has the size and the entity tag of the
    /// whole. Who does not know of it cannot read the object, and says so.
    Segments {
        /// Which, in JSON, as Swift shows it to clients that ask for the manifest.
        manifest: Bytes,
    },
}
crate::codec_enum!(Body {
    1 => Inline { data }, 2 => Striped { manifest }, 3 => Segments { manifest },
});

impl Default for Body {
    fn default() -> Self {
        Body::Inline { data: Bytes::new() }
    }
}

/// The data objects of a body, in order. Kept small: 14 bytes a part and the part's checksum, so that
/// the largest (10,000 parts with SHA-256) stays below the longest omap value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// First part of the data objects' names.
    pub id: WriteId,
    /// Bytes in each data object but the last of a part.
    pub stripe_bytes: u32,
    /// Whether this stands for a manifest with many parts, kept apart under `m/` and [`Manifest::id`]; the
    /// fields below are empty then. Removing an object must not depend on how many parts it has.
    pub apart: bool,
    /// The parts; one for a body that was put in one piece.
    pub parts: Vec<ManifestPart>,
    /// Bytes of each part's checksum; 0 if none are kept.
    pub checksum_bytes: u8,
    /// The parts' checksums, one after the other.
    pub checksums: Bytes,
}
crate::codec_struct!(Manifest { id, stripe_bytes, apart, parts, checksum_bytes, checksums });

impl Manifest {
    /// Bytes of the whole body.
    pub fn size(&self) -> u64 {
        self.parts.iter().map(|part| part.size).sum()
    }

    /// The data of each part, in order.
    pub fn refs(&self) -> impl Iterator<Item = DataRef> + '_ {
        self.parts.iter().map(|part| DataRef {
            id: self.id,
            part: part.number,
            attempt: part.attempt,
            size: part.size,
            stripe_bytes: self.stripe_bytes,
        })
    }

    /// The checksum of the part at `index` in `parts`, if the manifest keeps them.
    pub fn part_checksum(&self, index: usize) -> Option<Bytes> {
        let width = usize::from(self.checksum_bytes);
        let end = index.checked_add(1)?.checked_mul(width)?;
        (width > 0 && end <= self.checksums.len()).then(|| self.checksums.slice(end - width..end))
    }
}

/// One part of a [`Manifest`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ManifestPart {
    /// The part number; 0 for a body that was put in one piece.
    pub number: u16,
    /// Which attempt at writing this part.
    pub attempt: u32,
    /// Bytes.
    pub size: u64,
}
crate::codec_struct!(ManifestPart { number, attempt, size });

/// A run of data objects: one body, or one part of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct DataRef {
    /// The write.
    pub id: WriteId,
    /// The part number; 0 for a body that was put in one piece.
    pub part: u16,
    /// Tells attempts at the same part apart. Random.
    pub attempt: u32,
    /// Bytes. For an intent: the most that may have been written.
    pub size: u64,
    /// Bytes in each data object but the last.
    pub stripe_bytes: u32,
}
crate::codec_struct!(DataRef { id, part, attempt, size, stripe_bytes });

impl DataRef {
    /// Identifies the run: the id, the part and the attempt, big endian. 22 bytes.
    pub fn key(&self) -> [u8; 22] {
        let mut key = [0; 22];
        key[..16].copy_from_slice(&self.id.0);
        key[16..18].copy_from_slice(&self.part.to_be_bytes());
        key[18..].copy_from_slice(&self.attempt.to_be_bytes());
        key
    }

    /// How many data objects there are.
    pub fn stripes(&self) -> u64 {
        self.size.div_ceil(u64::from(self.stripe_bytes.max(1)))
    }

    /// The name of a data object.
    pub fn stripe_name(&self, bucket: BucketId, stripe: u64) -> String {
        format!("{bucket}.{}.{}.{:x}.{stripe}", self.id, self.part, self.attempt)
    }
}

/// Data that nothing refers to any more. Small whatever it stands for: a full cluster must take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discarded {
    /// These runs.
    Runs {
        /// As a manifest without checksums.
        runs: Manifest,
    },
    /// All runs of the manifest that is kept apart under this id.
    Manifest {
        /// Its id.
        id: WriteId,
    },
    /// All parts that are kept under this upload.
    Parts {
        /// The upload.
        id: WriteId,
    },
}
crate::codec_enum!(Discarded { 1 => Runs { runs }, 2 => Manifest { id }, 3 => Parts { id } });

/// Data that is being written. It becomes garbage when it is too old.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intent {
    /// What is written.
    pub data: DataRef,
    /// When the writer was last known to be at it, in ms since 1970.
    pub alive_ms: u64,
    /// For which key: whose shard has the intent, and hands it on with the key.
    pub key: Bytes,
}
crate::codec_versioned!(Intent, 1, 1 { data, alive_ms, key });

/// A multipart upload in progress.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upload {
    /// Who began it: the user id.
    pub owner: String,
    /// When, in ms since 1970.
    pub created_ms: u64,
    /// As in [`Detail`].
    pub headers: BTreeMap<String, String>,
    /// As in [`Detail`].
    pub metadata: BTreeMap<String, Bytes>,
    /// [`Checksum::algorithm`] that the client announced, 0 for none.
    pub checksum_algorithm: u8,
    /// Whether the checksum of the object will be one of checksums.
    pub checksum_composite: bool,
    /// As in [`Detail`].
    pub tags: BTreeMap<String, String>,
    /// As in [`Entry`].
    pub lock: ObjectLock,
    /// Who will own the object; empty for who began the upload.
    pub object_owner: String,
    /// As in [`Detail`].
    pub acl: Option<Acl>,
    /// As in [`Detail`]: the parts share a key.
    pub encryption: Option<Encryption>,
}
// Version 2 added `tags` and `lock`, version 3 `object_owner` and `acl`, version 4 `encryption`.
crate::codec_versioned!(Upload, 4, by compat {
    owner, created_ms, headers, metadata, checksum_algorithm, checksum_composite,
    tags since 2, lock since 2, object_owner since 3, acl since 3, encryption since 4,
});

impl Upload {
    /// Who does not know of locks must not make an object that is to be locked, and who does not know of
    /// encryption none that is to be encrypted.
    fn compat(&self) -> u8 {
        match (&self.encryption, self.lock.is_none()) {
            (Some(_), _) => 4,
            (None, false) => 2,
            (None, true) => 1,
        }
    }

    /// As [`Detail::plain_bytes`], of a part.
    pub fn plain_bytes(&self, lying: u64) -> u64 {
        if self.encryption.is_none() { lying } else { plain_bytes(lying) }
    }
}

/// A part of a multipart upload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Where its bytes are.
    pub data: DataRef,
    /// The MD5 of its bytes.
    pub md5: [u8; 16],
    /// When it was written, in ms since 1970.
    pub modified_ms: u64,
    /// Its checksum, if there is one.
    pub checksum: Option<Checksum>,
}

// By hand, because `md5` is a plain array: version 1 is data, md5 (16), modified_ms, checksum.
impl Encode for Part {
    fn encode(&self, out: &mut Writer) {
        out.versioned(1, 1, |out| {
            self.data.encode(out);
            out.put_slice(&self.md5);
            self.modified_ms.encode(out);
            self.checksum.encode(out);
        });
    }
}

impl Decode for Part {
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        input.versioned("Part", 1, |_, input| {
            Ok(Part {
                data: Decode::decode(input)?,
                md5: WriteId::decode(input)?.0,
                modified_ms: Decode::decode(input)?,
                checksum: Decode::decode(input)?,
            })
        })
    }
}

/// What a shard knows of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardHead {
    /// Its bucket.
    pub bucket: BucketId,
    /// Whether it takes no more entries, because the bucket is being removed.
    pub sealed: bool,
    /// How many objects it lists.
    pub objects: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// The bucket's settings, as far as the shard has heard.
    pub settings: ObjectSettings,
    /// The number of the version that was made last; each is one more.
    pub sequence: u64,
    /// How many older versions and delete markers it keeps.
    pub versions: u64,
    /// Bytes of their bodies.
    pub version_bytes: u64,
    /// How many events wait for their delivery.
    pub events: u64,
    /// The number of the event that was recorded last; each is one more.
    pub event: u64,
    /// Its part in splits, once it had one.
    pub lineage: Option<Lineage>,
    /// The last removal of the bucket that sealed the shard, or that it heard to be over: no earlier one seals it.
    pub removal: u64,
}
// Version 2 added what belongs to versions, version 3 what belongs to events, version 4 `lineage`, version 5 `removal`.
crate::codec_versioned!(ShardHead, 5, by compat {
    bucket, sealed, objects, bytes,
    settings since 2, sequence since 2, versions since 2, version_bytes since 2,
    events since 3, event since 3, lineage since 4, removal since 5,
});

impl ShardHead {
    /// Who does not know of versions, of events, of splits, or whose a seal is, must not write to a shard that has
    /// them.
    fn compat(&self) -> u8 {
        match (self.event, self.settings.revision) {
            _ if self.removal > 0 => 5,
            _ if self.lineage.is_some() => 4,
            (1.., _) => 3,
            (0, 1..) => 2,
            (0, 0) => 1,
        }
    }

    /// Takes newer settings in. Whether they were newer. Who brings them need not be believed: what a bucket never
    /// takes back (its lock, and that it has versions) a shard does not forget.
    pub(super) fn adopt(&mut self, settings: &ObjectSettings) -> bool {
        let newer = settings.revision > self.settings.revision && settings.revision <= NUMBER_MAX;
        if newer {
            let old = std::mem::replace(&mut self.settings, settings.clone());
            self.settings.lock |= old.lock;
            if self.settings.versioning == Versioning::Off {
                self.settings.versioning = old.versioning;
            }
        }
        newer
    }
}

/// A bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BucketRecord {
    /// Its identity.
    pub id: BucketId,
    /// Its name.
    pub name: String,
    /// The owner's user id.
    pub owner: String,
    /// When it was made, in ms since 1970.
    pub created_ms: u64,
    /// Where it was asked to be (LocationConstraint); empty for the default.
    pub location: String,
    /// Number of index shards that it began with; splits make more (`layout`).
    pub shards: u32,
    /// Part of the shards' names.
    pub generation: u32,
    /// Whether all shards are made: until then the bucket is there for its creator only.
    pub ready: bool,
    /// Not 0 while somebody removes the bucket: the number of his removal. Whoever finds a removal that does
    /// not come to its end sets it to 0 first and unseals the shards then; the removal, should it still be
    /// alive, fails at its last step.
    pub removing: u64,
    /// Documents of the bucket by subresource name (policy, cors, versioning, …), as they came.
    pub documents: BTreeMap<String, Bytes>,
    /// The name of the placement that it was made with.
    pub placement: String,
    /// The pool of its data, fixed when it was made; 0 for the gateway's own data pool.
    pub data_pool: PoolId,
    /// Versioning and object lock.
    pub settings: ObjectSettings,
    /// The number of the removal that was begun last; each is one more.
    pub removals: u64,
}
// Version 2 added `placement` and `data_pool`, version 3 `settings`, version 4 `removals`.
crate::codec_versioned!(BucketRecord, 4, by compat {
    id, name, owner, created_ms, location, shards, generation, ready, removing, documents,
    placement since 2, data_pool since 2, settings since 3, removals since 4,
});

impl BucketRecord {
    /// Who does not know of pools for data, of versions, or of the order of removals, must not read, and write back,
    /// a record that has them.
    fn compat(&self) -> u8 {
        match (self.settings.revision, self.data_pool) {
            _ if self.removals > 0 => 4,
            (1.., _) => 3,
            (0, pool) if pool != PoolId::default() => 2,
            _ => 1,
        }
    }
}
