//! Inputs and outputs of the methods that split a shard. What they are for is said in `split`.

use super::super::records::*;
use super::Chore;
use bytes::Bytes;

/// `shape`: how far the shard's splits are; asked together with a page of it. Output: `Answer<Option<Lineage>>`,
/// `None` if the shard never took part in one; `NoBucket`.
///
/// `sprout`: makes the shard that another one will give keys to. Doing it again is harmless. Output:
/// `Answer<Nothing>`; `NoBucket` if the object is a shard of another bucket or another layout, or sealed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sprout {
    /// The bucket.
    pub bucket: BucketId,
    /// Its settings.
    pub settings: ObjectSettings,
    /// As in [`Lineage`](crate::bucket::Lineage).
    pub roots: u32,
    /// The new shard's number.
    pub shard: u32,
}
crate::codec_struct!(Sprout { bucket, settings, roots, shard });

/// `split`: begins a split, if so many are done. The new shard must be there. Output: `Answer<Nothing>`, also if
/// one goes on or is done already; `NoBucket`, `NotYet` if the shard itself is not filled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BeginSplit {
    /// As in [`Lineage`](crate::bucket::Lineage).
    pub roots: u32,
    /// The shard's number.
    pub shard: u32,
    /// How many splits must be done, those of its parents included.
    pub depth: u32,
}
crate::codec_struct!(BeginSplit { roots, shard, depth });

/// `pass`: lets the page go that the new shard has, or sets the next one out. Output: `Answer<Passed>`;
/// `NoBucket`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// The page that begins here, of the split that follows so many others, was seen in the new shard: nothing of
    /// it is needed any more. `None` to see which one is next.
    pub taken: Option<(u32, Bytes)>,
    /// Most keys of the next page, at most [`crate::bucket::PAGE_KEYS_MAX`].
    pub max: u32,
}
crate::codec_struct!(Pass { taken, max });

/// Output of `pass`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passed {
    /// No split goes on.
    Done {},
    /// There was more of the page than one transaction removes, or the next one is to be set out: again.
    Again {},
    /// A page is to be handed over.
    Page {
        /// Where it begins.
        from: Bytes,
        /// The bound behind it; `None` if it is the last.
        until: Option<Bytes>,
    },
}
crate::codec_enum!(Passed { 1 => Done {}, 2 => Again {}, 3 => Page { from, until } });

/// `carry`: what is in a page that is handed over. Output: `Answer<Option<Load>>`, `None` if it is not that page
/// any more; `NoBucket`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carry {
    /// Where the page begins.
    pub from: Bytes,
    /// Where to go on in it; empty for the start.
    pub at: Bytes,
}
crate::codec_struct!(Carry { from, at });

/// A part of a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Pairs of the omap.
    pub pairs: Vec<(Bytes, Bytes)>,
    /// Where to go on; `None` if that was the last of the page.
    pub next: Option<Bytes>,
    /// The giving shard's settings.
    pub settings: ObjectSettings,
    /// [`ShardHead::sequence`] there.
    pub sequence: u64,
    /// [`ShardHead::event`] there.
    pub event: u64,
    /// With the very last: how far the chores are that walk the keys.
    pub chores: Vec<(String, Chore)>,
}
crate::codec_struct!(Load { pairs, next, settings, sequence, event, chores });

/// `take`: a part of a page comes. It is taken if it is the next one, and otherwise nothing happens. Output:
/// `Answer<Filling>`, how far the shard is now; `NoBucket`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Take {
    /// Where the page begins.
    pub from: Bytes,
    /// The bound behind it; `None` if it is the last.
    pub until: Option<Bytes>,
    /// The place in it.
    pub at: Bytes,
    /// The part.
    pub load: Load,
}
crate::codec_struct!(Take { from, until, at, load });
