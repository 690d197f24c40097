//! Inputs and outputs of the methods. Plain structs: daemon and gateway of one cluster may differ in
//! version, so what may grow is a versioned struct.

use super::layout::Reach;
use super::records::*;
use bytes::Bytes;

mod access;
mod chores;
mod events;
mod journal;
mod keys;
mod kms;
mod limits;
mod split;
mod swift;
mod versions;

pub use access::*;
pub use chores::*;
pub use events::*;
pub use journal::*;
pub use keys::*;
pub use kms::*;
pub use limits::*;
pub use split::*;
pub use swift::*;
pub use versions::*;

/// Why a write did nothing. Which of them can come is said at each call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The shard is not there or sealed: the bucket is removed, or being removed. Look the bucket up
    /// again.
    NoBucket {},
    /// There is no object of that key, and the condition wants one.
    NoKey {},
    /// The condition does not hold.
    Precondition {},
    /// There is no such upload, or not any more.
    NoUpload {},
    /// The intent is gone: the data may be swept. Write it again under a new id.
    NoIntent {},
    /// A part is not what the caller saw. Read the parts again.
    PartChanged {},
    /// The shard has objects.
    NotEmpty {},
    /// There is no such version of the key.
    NoVersion {},
    /// The version is a delete marker: it has nothing that could be changed.
    DeleteMarker {
        /// Its entry.
        entry: Box<Entry>,
    },
    /// A retention or legal hold forbids it.
    Locked {},
    /// The bucket has no object lock.
    NoLock {},
    /// The bucket's state forbids the setting.
    BucketState {},
    /// As many events wait for their delivery as a shard keeps. Try again later.
    QueueFull {},
    /// The bucket or its owner has used up what he may have.
    Quota {},
    /// The key is another shard's by now. Ask that one.
    Moved {
        /// How far the splits of this shard are.
        reach: Reach,
    },
    /// The key is not this shard's yet. Ask the one that it is split from; if the key is gone there, it is on its
    /// way, and whoever waits for it brings it (`carry`, `take`).
    NotYet {},
    /// The removal of the bucket was taken back by somebody who needs it, or another removal has begun.
    TakenBack {},
}
crate::codec_enum!(Refusal {
    1 => NoBucket {}, 2 => NoKey {}, 3 => Precondition {}, 4 => NoUpload {}, 5 => NoIntent {},
    6 => PartChanged {}, 7 => NotEmpty {}, 8 => NoVersion {}, 9 => DeleteMarker { entry },
    10 => Locked {}, 11 => NoLock {}, 12 => BucketState {}, 13 => QueueFull {}, 14 => Quota {},
    15 => Moved { reach }, 16 => NotYet {}, 17 => TakenBack {},
});

/// What an object is compared with: entity tags, as in If-Match, or other properties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagMatch {
    /// `*`: whatever exists.
    Any {},
    /// One of these. Tags in a form that no object here has are left out by the caller.
    OneOf {
        /// The tags.
        tags: Vec<ETag>,
    },
    /// All of these; what is `None` is not looked at.
    Like {
        /// It has one of these tags.
        tags: Option<Vec<ETag>>,
        /// Bytes of its body.
        size: Option<u64>,
        /// When it was made, in seconds since 1970, as clients see it.
        modified_secs: Option<u64>,
    },
}
// A daemon that does not know `Like` refuses the call.
crate::codec_enum!(TagMatch {
    1 => Any {}, 2 => OneOf { tags }, 3 => Like { tags, size, modified_secs },
});

impl TagMatch {
    /// Whether this object is meant.
    pub fn matches(&self, entry: &Entry) -> bool {
        match self {
            TagMatch::Any {} => true,
            TagMatch::OneOf { tags } => tags.contains(&entry.etag),
            TagMatch::Like { tags, size, modified_secs } => {
                tags.as_ref().is_none_or(|tags| tags.contains(&entry.etag))
                    && size.is_none_or(|size| size == entry.size)
                    && modified_secs.is_none_or(|secs| secs == entry.modified_ms / 1000)
            }
        }
    }
}

/// What must hold of the present object for a write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// It exists, with one of these tags.
    pub if_match: Option<TagMatch>,
    /// It does not exist, or has none of these tags.
    pub if_none_match: Option<TagMatch>,
}
crate::codec_struct!(Condition { if_match, if_none_match });

impl Condition {
    /// Says why the write is refused, if so.
    pub fn check(&self, present: Option<&Entry>) -> Result<(), Refusal> {
        if let Some(wanted) = &self.if_match {
            match present {
                None => return Err(Refusal::NoKey {}),
                Some(entry) if !wanted.matches(entry) => {
                    return Err(Refusal::Precondition {});
                }
                Some(_) => {}
            }
        }
        match (&self.if_none_match, present) {
            (Some(unwanted), Some(entry)) if unwanted.matches(entry) => {
                Err(Refusal::Precondition {})
            }
            _ => Ok(()),
        }
    }
}

/// A write that was done, or refused with nothing changed.
pub type Done<T> = Result<T, Refusal>;

/// The byte form of `Done`: u8 1 and the value, or u8 0 and the refusal.
impl<T: crate::codec::Encode> crate::codec::Encode for Answer<T> {
    fn encode(&self, out: &mut crate::codec::Writer) {
        self.0.is_ok().encode(out);
        match &self.0 {
            Ok(value) => value.encode(out),
            Err(refusal) => refusal.encode(out),
        }
    }
}

impl<T: crate::codec::Decode> crate::codec::Decode for Answer<T> {
    fn decode(input: &mut crate::codec::Reader) -> Result<Self, crate::codec::DecodeError> {
        Ok(Answer(match bool::decode(input)? {
            true => Ok(T::decode(input)?),
            false => Err(Refusal::decode(input)?),
        }))
    }
}

/// [`Done`] with a byte form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T>(pub Done<T>);

/// Stands where a method has no input or nothing to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nothing {}
crate::codec_struct!(Nothing {});

/// `init`: makes the shard. Doing it again is harmless. Output: `Answer<Nothing>`, `NoBucket` if the
/// object is a shard of another bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Init {
    /// The bucket.
    pub bucket: BucketId,
    /// Its settings.
    pub settings: ObjectSettings,
}
crate::codec_struct!(Init { bucket, settings });

/// `put`: makes an object visible, as a version where the bucket has versions. Output:
/// `Answer<Committed>`. Refusals: `NoBucket`, `NoKey`, `Precondition`, `NoIntent`, `Locked`, `NoLock`,
/// `Quota`, `QueueFull`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Put {
    /// The key.
    pub key: Bytes,
    /// What must hold of the present object.
    pub condition: Condition,
    /// What listings show. The shard sets which version it is, and the bucket's retention if `lock`
    /// has none.
    pub entry: Entry,
    /// The encoded [`Detail`]; stored as it is.
    pub detail: Bytes,
    /// The data that the intent announced and the detail refers to.
    pub intent: Option<DataRef>,
    /// The caller's clock.
    pub now_ms: u64,
    /// The bucket's settings as the caller knows them.
    pub settings: ObjectSettings,
    /// What the shard may hold at most, where a quota is set.
    pub ceiling: Option<Ceiling>,
    /// Who is told of it.
    pub notes: Option<Notes>,
}
crate::codec_struct!(Put {
    key,
    condition,
    entry,
    detail,
    intent,
    now_ms,
    settings,
    ceiling,
    notes,
});

/// Output of `put` and `complete`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// The entry as it is stored.
    pub entry: Entry,
    /// The version in whose place it came, and whose data is garbage now.
    pub replaced: Option<Entry>,
}
crate::codec_struct!(Committed { entry, replaced });

/// `read`: entry and detail in one round trip. Output: `Answer<Option<Found>>`; `NoBucket`. A delete
/// marker is found as well; its detail is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// The key.
    pub key: Bytes,
    /// Whether an inline body is wanted; otherwise it comes empty.
    pub body: bool,
    /// Which version; `None` for the newest.
    pub version: Option<Version>,
}
crate::codec_struct!(Read { key, body, version });

/// Output of `read`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// What listings show.
    pub entry: Entry,
    /// The rest.
    pub detail: Detail,
    /// Whether the bucket has versions, or had some.
    pub versioned: bool,
}
crate::codec_struct!(Found { entry, detail, versioned });

/// `remove`: removes objects, or versions of them. Output: `Answer<Vec<Answer<Removed>>>`: for as many of
/// the items as one transaction could take, at least one; ask again for the rest. Refusals: `NoBucket`;
/// of an item `NoKey`, `Precondition`, `Locked`, `QueueFull`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remove {
    /// What.
    pub items: Vec<RemoveItem>,
    /// The caller's clock.
    pub now_ms: u64,
    /// Who asks: the owner of the delete markers.
    pub owner: String,
    /// The leave to pass over retentions in governance mode.
    pub bypass: bool,
    /// The bucket's settings as the caller knows them.
    pub settings: ObjectSettings,
}
crate::codec_struct!(Remove { items, now_ms, owner, bypass, settings });

/// What is to be removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoveItem {
    /// The key.
    pub key: Bytes,
    /// This version, for good. `None` for the object: in a bucket with versions a delete marker hides
    /// it then.
    pub version: Option<Version>,
    /// What must hold of the version, or of the present object.
    pub condition: Condition,
    /// Who is told of it.
    pub notes: Option<Notes>,
}
crate::codec_struct!(RemoveItem { key, version, condition, notes });

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// The version that is gone for good; its data is garbage.
    pub entry: Option<Entry>,
    /// The delete marker that was made.
    pub marker: Option<Entry>,
}
crate::codec_struct!(Removed { entry, marker });

/// `list`: keys in order. Output: `Answer<Page>`; `NoBucket`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// Only keys that begin so.
    pub prefix: Bytes,
    /// Keys that have this behind the prefix are rolled up to what ends with its first occurrence;
    /// empty for none.
    pub delimiter: Bytes,
    /// Only keys from this one on (included).
    pub from: Bytes,
    /// At most so many items; fewer come where they are long.
    pub max: u32,
}
crate::codec_struct!(List { prefix, delimiter, from, max });

/// Output of `list`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// In order.
    pub items: Vec<Item>,
    /// Where to go on; `None` if this was all.
    pub next: Option<Bytes>,
}
crate::codec_struct!(Page { items, next });

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// An object.
    Key {
        /// Its key.
        key: Bytes,
        /// What is shown.
        entry: Entry,
    },
    /// Keys rolled up.
    Prefix {
        /// What they begin with.
        prefix: Bytes,
    },
}
crate::codec_enum!(Item { 1 => Key { key, entry }, 2 => Prefix { prefix } });

impl Item {
    /// The key or the common prefix.
    pub fn name(&self) -> &Bytes {
        match self {
            Item::Key { key, .. } => key,
            Item::Prefix { prefix } => prefix,
        }
    }
}

/// `intend`: announces data that is about to be written; again, to say that it still is. Output:
/// `Answer<Nothing>`; `NoBucket`, `NoUpload`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intend {
    /// For which key.
    pub key: Bytes,
    /// What will be written, at most.
    pub data: DataRef,
    /// The upload that it is a part of: it must be there.
    pub upload: Option<WriteId>,
    /// The caller's clock.
    pub now_ms: u64,
    /// Whether the intent must be there already (`NoIntent` otherwise): a sign of life of a long write.
    pub renew: bool,
}
crate::codec_struct!(Intend { key, data, upload, now_ms, renew });

/// `cancel`: gives announced data up. Output: `Nothing`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cancel {
    /// What was announced.
    pub data: DataRef,
    /// The caller's clock.
    pub now_ms: u64,
}
crate::codec_struct!(Cancel { data, now_ms });

/// `expire`: turns old intents into garbage. A sealed shard keeps what it has, because the removal of its bucket may
/// be taken back, unless `everything` is to go. Output: `Expired`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expire {
    /// Intents without a sign of life since then.
    pub before_ms: u64,
    /// Goes on behind this key; empty for the start.
    pub after: Bytes,
    /// The caller's clock.
    pub now_ms: u64,
    /// The bucket is removed: every upload, part and intent of the shard is old. Only where it is sealed.
    pub everything: bool,
}
crate::codec_struct!(Expire { before_ms, after, now_ms, everything });

/// Output of `expire`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// How many runs of data became garbage.
    pub count: u32,
    /// Where to go on; `None` if this was all.
    pub next: Option<Bytes>,
}
crate::codec_struct!(Expired { count, next });

/// `garbage`: the oldest garbage. Output: `Vec<(Bytes, Vec<DataRef>)>`, to be named in `swept` when the
/// data is removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Garbage {
    /// Only what became garbage before.
    pub before_ms: u64,
    /// Goes on behind this record, as it was given; empty for the start.
    pub after: Bytes,
    /// At most so many records.
    pub max: u32,
}
crate::codec_struct!(Garbage { before_ms, after, max });

/// `swept`: the data of these records is removed. Output: `Nothing`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// As `garbage` gave them.
    pub records: Vec<Bytes>,
}
crate::codec_struct!(Swept { records });

/// `upload`: begins a multipart upload. Output: `Answer<Nothing>`; `NoBucket`, `NoLock`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Begin {
    /// The key.
    pub key: Bytes,
    /// The new upload.
    pub id: WriteId,
    /// What it will become.
    pub upload: Upload,
    /// The bucket's settings as the caller knows them.
    pub settings: ObjectSettings,
}
crate::codec_struct!(Begin { key, id, upload, settings });

/// `part`: a part is written. Output: `Answer<bool>`, whether it replaced one; `NoBucket`, `NoUpload`,
/// `NoIntent`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddPart {
    /// The key.
    pub key: Bytes,
    /// The upload.
    pub id: WriteId,
    /// The part; its data must be announced.
    pub part: Part,
    /// The caller's clock.
    pub now_ms: u64,
}
crate::codec_struct!(AddPart { key, id, part, now_ms });

/// `parts`: the upload and its parts. Output: `Answer<PartPage>`; `NoBucket`, `NoUpload`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// The key.
    pub key: Bytes,
    /// The upload.
    pub id: WriteId,
    /// Only parts with a greater number.
    pub after: u16,
    /// At most so many.
    pub max: u32,
}
crate::codec_struct!(Parts { key, id, after, max });

/// Output of `parts`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartPage {
    /// The upload.
    pub upload: Upload,
    /// The parts, by number.
    pub parts: Vec<Part>,
    /// Whether there are more.
    pub more: bool,
}
crate::codec_struct!(PartPage { upload, parts, more });

/// `uploads`: uploads by key and id. Output: `Answer<UploadPage>`; `NoBucket`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uploads {
    /// Only keys that begin so.
    pub prefix: Bytes,
    /// As in [`List`].
    pub delimiter: Bytes,
    /// Only keys from this one on (included).
    pub from: Bytes,
    /// Only ids behind this one, of uploads of exactly the key `from`.
    pub after_id: Option<WriteId>,
    /// At most so many.
    pub max: u32,
}
crate::codec_struct!(Uploads { prefix, delimiter, from, after_id, max });

/// Output of `uploads`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadPage {
    /// In order.
    pub items: Vec<UploadItem>,
    /// Whether there are more behind the last item.
    pub more: bool,
}
crate::codec_struct!(UploadPage { items, more });

/// One line of a listing of uploads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UploadItem {
    /// An upload.
    Upload {
        /// Its key.
        key: Bytes,
        /// Its id.
        id: WriteId,
        /// What it is.
        upload: Box<Upload>,
    },
    /// Keys rolled up.
    Prefix {
        /// What they begin with.
        prefix: Bytes,
    },
}
crate::codec_enum!(UploadItem { 1 => Upload { key, id, upload }, 2 => Prefix { prefix } });

/// `complete`: makes the object of an upload visible, and the upload vanish. Output:
/// `Answer<Committed>`. Refusals: `NoBucket`, `NoUpload`, `PartChanged`, `NoKey`, `Precondition`,
/// `Locked`, `NoLock`, `Quota`, `QueueFull`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Complete {
    /// The key.
    pub key: Bytes,
    /// The upload.
    pub id: WriteId,
    /// What must hold of the present object.
    pub condition: Condition,
    /// What listings show; as in [`Put`].
    pub entry: Entry,
    /// The encoded [`Detail`] with the manifest of the chosen parts.
    pub detail: Bytes,
    /// The caller's clock.
    pub now_ms: u64,
    /// The bucket's settings as the caller knows them.
    pub settings: ObjectSettings,
    /// As in [`Put`].
    pub ceiling: Option<Ceiling>,
    /// As in [`Put`].
    pub notes: Option<Notes>,
}
crate::codec_struct!(Complete {
    key,
    id,
    condition,
    entry,
    detail,
    now_ms,
    settings,
    ceiling,
    notes,
});

/// `abort`: ends an upload; its parts become garbage. Output: `Answer<Nothing>`; `NoBucket`, `NoUpload`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Abort {
    /// The key.
    pub key: Bytes,
    /// The upload.
    pub id: WriteId,
    /// The caller's clock.
    pub now_ms: u64,
}
crate::codec_struct!(Abort { key, id, now_ms });

/// `registry.create`: takes a name. Output: [`Created`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateBucket {
    /// The bucket, not ready.
    pub record: BucketRecord,
}
crate::codec_struct!(CreateBucket { record });

/// Output of `registry.create`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    /// The name was free and is taken now.
    New {},
    /// The name was taken.
    Present {
        /// By this bucket.
        record: BucketRecord,
    },
}
crate::codec_enum!(Created { 1 => New {}, 2 => Present { record } });

/// Input of `seal` and `unseal`. Output: `Answer<Nothing>`.
///
/// `seal` closes an empty shard for good, or until that removal is over. Refusals: `NoBucket`; `NotEmpty` if it has
/// objects, or versions of any; `TakenBack` if a later removal has sealed it, or this one is known to be over.
///
/// `unseal` says that all removals up to this one are over, and opens the shard unless a later one has sealed it.
/// Refusal: `NoBucket`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seal {
    /// The removal of the bucket.
    pub removal: u64,
}
crate::codec_struct!(Seal { removal });

/// Names one bucket of a name: input of `registry.ready`, `condemn`, `reprieve` and `remove`. Output of `ready` and
/// `remove`: `Answer<Nothing>`; `NoBucket`; of `remove` also `TakenBack`. Output of `condemn`: `Answer<u64>`, the number
/// of the removal, greater than all before; `NoBucket`. Output of `reprieve`: `Answer<u64>`; up to this number all
/// removals are over; `NoBucket`, and `TakenBack` if it was meant for a removal that is not going on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedBucket {
    /// The name.
    pub name: String,
    /// The identity: a bucket that was made again is another one.
    pub id: BucketId,
    /// [`BucketRecord::removing`]: what `remove` wants to find, and `reprieve` unless it is 0.
    pub removing: u64,
}
crate::codec_struct!(NamedBucket { name, id, removing });

/// `registry.read`. Output: `Option<BucketRecord>`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadBucket {
    /// The name.
    pub name: String,
}
crate::codec_struct!(ReadBucket { name });

/// `registry.list`: buckets by name. Output: `BucketPage`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListBuckets {
    /// Only this owner's; `None` for all.
    pub owner: Option<String>,
    /// Only names that begin so.
    pub prefix: String,
    /// Only names behind this one.
    pub after: String,
    /// At most so many.
    pub max: u32,
}
crate::codec_struct!(ListBuckets { owner, prefix, after, max });

/// Output of `registry.list` and `registry.doomed`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BucketPage {
    /// In order of name.
    pub buckets: Vec<BucketRecord>,
    /// Whether there are more.
    pub more: bool,
}
crate::codec_struct!(BucketPage { buckets, more });

/// `registry.doomed`: removed buckets whose shards are still to be cleared, by identity. Output: `BucketPage`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doomed {
    /// Only those behind this one; `None` for all.
    pub after: Option<BucketId>,
    /// At most so many.
    pub max: u32,
}
crate::codec_struct!(Doomed { after, max });

/// `registry.forget`: the shards are cleared. Output: `Nothing`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forget {
    /// The bucket.
    pub id: BucketId,
}
crate::codec_struct!(Forget { id });
