//! Which shards a bucket has, and which of them has a key.
//!
//! A bucket begins with a number of shards that never changes, its *roots*; the key with hash `h` is in the root
//! `h % roots`. A shard that grew too large is split. Shard `s` that was split `depth` times has the keys with
//! `h % (roots << depth) == s`; one more split gives those with `h % (roots << (depth + 1)) == s + (roots << depth)`
//! to the shard of that number, and touches no other shard. This is linear hashing (Litwin, VLDB 1980) with a depth
//! for each shard, as extendible hashing has it (Fagin et al., TODS 1979). A shard's number says whose child it is;
//! that its depth is known suffices to know all of its children.
//!
//! What is known of a layout is a hint: shards say themselves what they have and what is gone, and where to.

use super::*;
use std::collections::BTreeMap;

/// Most shards of a bucket: a shard whose child would have a greater number is not split.
pub const SHARDS_MAX: u32 = 1 << 16;

/// Whether a key is below a bound; `None` is behind all keys.
pub fn is_below(key: &[u8], bound: Option<&[u8]>) -> bool {
    bound.is_none_or(|bound| key < bound)
}

/// The shard that has what `shard` gives away in the split that follows `depth` others. `None` if no shard may
/// have that number.
pub fn child_of(roots: u32, shard: u32, depth: u32) -> Option<u32> {
    let step = u64::from(roots.max(1)).checked_shl(depth).filter(|_| depth < 32)?;
    let child = u64::from(shard) + step;
    u32::try_from(child).ok().filter(|child| *child < SHARDS_MAX)
}

/// How many splits of its parents a shard comes from: its own depth when it is made. 0 for a root.
pub fn birth_depth(roots: u32, shard: u32) -> u32 {
    (0..32).find(|depth| u64::from(shard) < u64::from(roots.max(1)) << depth).unwrap_or(0)
}

/// The shard that a shard was split from; `None` for a root.
pub fn parent_of(roots: u32, shard: u32) -> Option<u32> {
    let before = birth_depth(roots, shard).checked_sub(1)?;
    let step = u64::from(roots.max(1)) << before;
    u32::try_from(u64::from(shard) % step).ok()
}

/// Whether the shard of this depth has the key, were all splits done.
pub(super) fn covers(roots: u32, shard: u32, depth: u32, key: &[u8]) -> bool {
    let step = u64::from(roots.max(1)) << depth.min(31);
    u64::from(crate::hash::rjenkins(key)) % step == u64::from(shard)
}

/// How far the splits of a shard are.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reach {
    /// How many are done.
    pub depth: u32,
    /// While one more goes on: the keys of the new shard that are below are gone.
    pub gone: Option<Bytes>,
}
crate::codec_struct!(Reach { depth, gone });

/// What is known of the layout of a bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    reached: BTreeMap<u32, Reach>,
}

impl Layout {
    /// A shard said how far it is. Whether that was news; what is older is passed over.
    pub fn note(&mut self, shard: u32, reach: Reach) -> bool {
        if reach == Reach::default() || self.reached.get(&shard).is_some_and(|old| *old >= reach) {
            return false;
        }
        self.reached.insert(shard, reach);
        true
    }

    /// The shard that has a key, as far as is known.
    pub fn find(&self, roots: u32, key: &[u8]) -> u32 {
        self.find_from(roots, shard_of(key, roots), key)
    }

    /// The shard that has a key which is that of `start`, or of one that comes from it, as far as is known.
    fn find_from(&self, roots: u32, start: u32, key: &[u8]) -> u32 {
        let mut shard = start;
        let mut depth = birth_depth(roots, start);
        while let Some(reach) = self.reached.get(&shard) {
            let gone = match &reach.gone {
                Some(gone) if depth == reach.depth => is_below(key, Some(gone)),
                _ => depth < reach.depth,
            };
            if !gone {
                break;
            }
            if let Some(child) = child_of(roots, shard, depth)
                && covers(roots, child, depth + 1, key)
            {
                shard = child;
            }
            depth += 1;
        }
        shard
    }

    /// Where a call goes on that `shard` refused with [`Refusal::Moved`], and this reach: to a shard that comes
    /// from it, never to one it comes from. Its parent may still say that the key is on its way, because the last
    /// page was taken and not let go: the new shard may be split from then on, and going by the parent again would
    /// lead back here for as long as no worker comes. `None` if there is no such shard.
    pub fn go_on(&mut self, roots: u32, shard: u32, reach: Reach, key: &[u8]) -> Option<u32> {
        let depth = reach.depth;
        self.note(shard, reach);
        match self.find_from(roots, shard, key) {
            // On its way, and behind what is known to be gone.
            found if found == shard => child_of(roots, shard, depth),
            found => Some(found),
        }
    }

    /// All shards that are known, parents before their children.
    pub fn shards(&self, roots: u32) -> Vec<u32> {
        let mut shards: Vec<u32> = (0..roots).collect();
        let mut at = 0;
        while let Some(&shard) = shards.get(at) {
            shards.extend(self.children(roots, shard));
            at += 1;
        }
        shards.sort_unstable();
        shards
    }

    /// The children of a shard that are known, the one that is being filled included.
    pub fn children(&self, roots: u32, shard: u32) -> Vec<u32> {
        let reach = self.reached.get(&shard).cloned().unwrap_or_default();
        let end = reach.depth + u32::from(reach.gone.is_some());
        let depths = birth_depth(roots, shard)..end;
        depths.filter_map(|depth| child_of(roots, shard, depth)).collect()
    }
}

/// How a shard takes part in splits. A shard that has none of this was never split and has every key that it
/// is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    /// How many shards the bucket began with.
    pub roots: u32,
    /// The shard's number.
    pub shard: u32,
    /// How many splits are done, those of its parents before it was made included.
    pub depth: u32,
    /// The split that goes on, if one does.
    pub split: Option<Split>,
    /// How far the shard is filled, if it was made by a split.
    pub filling: Option<Filling>,
    /// How many objects and older versions it ever gave away.
    pub given_objects: u64,
    /// Bytes of their bodies.
    pub given_bytes: u64,
}
crate::codec_versioned!(Lineage, 1, 1 {
    roots, shard, depth, split, filling, given_objects, given_bytes,
});

/// A split, as the shard sees it that gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// What the new shard gets and is below is gone, and nothing of it is here.
    pub gone: Bytes,
    /// The page that is being handed over, from `gone` on: its keys are not this shard's any more.
    pub page: Option<Handover>,
}
crate::codec_struct!(Split { gone, page });

/// A page of keys on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handover {
    /// The bound behind it; `None` if it is the last.
    pub until: Option<Bytes>,
}
crate::codec_struct!(Handover { until });

/// A split, as the shard sees it that gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filling {
    /// It has the keys below.
    pub below: Bytes,
    /// It has all.
    pub done: bool,
    /// How much of the next page is here: the place to go on at; empty for none.
    pub staged: Bytes,
    /// Where the page begins that came last, or is coming.
    pub page_from: Bytes,
    /// What of that page is counted here, as the giving shard still does until it lets go.
    pub page: Amounts,
}
crate::codec_struct!(Filling { below, done, staged, page_from, page });

/// Counts of what a shard holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Objects.
    pub objects: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// Older versions and delete markers.
    pub versions: u64,
    /// Bytes of their bodies.
    pub version_bytes: u64,
}
crate::codec_struct!(Amounts { objects, bytes, versions, version_bytes });

impl Lineage {
    /// Whether keys are on their way from or to this shard.
    pub fn is_moving(&self) -> bool {
        self.split.is_some() || self.filling.as_ref().is_some_and(|filling| !filling.done)
    }

    /// Whether a key is, or will be, the new shard's.
    pub(super) fn goes(&self, key: &[u8]) -> bool {
        self.split.is_some() && !covers(self.roots, self.shard, self.depth + 1, key)
    }

    /// The shard that the running split fills.
    pub fn filled(&self) -> Option<u32> {
        self.split.as_ref().and_then(|_| child_of(self.roots, self.shard, self.depth))
    }

    /// How far its splits are.
    pub fn reach(&self) -> Reach {
        let gone = self.split.as_ref().map(|split| split.gone.clone());
        Reach { depth: self.depth, gone }
    }

    /// Whether the key is this shard's now; otherwise whose. Of a page that is handed over nothing is.
    pub fn check(&self, key: &[u8]) -> Done<()> {
        if !covers(self.roots, self.shard, self.depth, key) {
            return Err(Refusal::Moved { reach: self.reach() });
        }
        if let Some(split) = &self.split
            && self.goes(key)
        {
            match &split.page {
                Some(page) if is_below(key, page.until.as_deref()) => {
                    return Err(Refusal::Moved { reach: self.reach() });
                }
                _ if key < &split.gone[..] => {
                    return Err(Refusal::Moved { reach: self.reach() });
                }
                _ => {}
            }
        }
        match &self.filling {
            Some(filling) if !filling.done && key >= &filling.below[..] => Err(Refusal::NotYet {}),
            _ => Ok(()),
        }
    }
}

impl ShardHead {
    /// Whether a key is this shard's now.
    pub fn check_key(&self, key: &[u8]) -> Done<()> {
        self.lineage.as_ref().map_or(Ok(()), |lineage| lineage.check(key))
    }

    /// Whether the key is this shard's once it is filled.
    pub(super) fn will_have(&self, key: &[u8]) -> bool {
        self.lineage.as_ref().is_none_or(|l| covers(l.roots, l.shard, l.depth, key))
    }

    /// Whether a listing of the shard shows the key.
    pub(super) fn shows(&self, key: &[u8]) -> bool {
        self.check_key(key).is_ok()
    }

    /// How far its splits are.
    pub fn reach(&self) -> Reach {
        self.lineage.as_ref().map(Lineage::reach).unwrap_or_default()
    }

    /// What it holds, as it counts.
    pub fn amounts(&self) -> Amounts {
        Amounts {
            objects: self.objects,
            bytes: self.bytes,
            versions: self.versions,
            version_bytes: self.version_bytes,
        }
    }

    /// What of this child's counts the shard counts as well: the page that is there and not let go here.
    pub fn counted_twice(&self, child: &ShardHead) -> Amounts {
        let (Some(giving), Some(getting)) = (&self.lineage, &child.lineage) else {
            return Amounts::default();
        };
        match (&giving.split, &getting.filling) {
            (Some(split), Some(filling))
                if child_of(giving.roots, giving.shard, giving.depth) == Some(getting.shard)
                    && filling.page_from == split.gone =>
            {
                filling.page
            }
            _ => Amounts::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_one_shard_however_the_shards_are_split() {
        let mut seed = 7u64;
        let mut chance = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) as u32
        };
        for roots in [1, 3, 4, 8] {
            let mut layout = Layout::default();
            for _ in 0..40 {
                let shards = layout.shards(roots);
                let shard = shards[chance() as usize % shards.len()];
                let depth = layout
                    .reached
                    .get(&shard)
                    .map_or_else(|| birth_depth(roots, shard), |r| r.depth);
                if child_of(roots, shard, depth).is_none() {
                    continue;
                }
                // While it goes on, keys below `m` are the child's.
                layout.note(shard, Reach { depth, gone: Some("m".into()) });
                let key = format!("{}", chance());
                let found = layout.find(roots, key.as_bytes());
                let low = layout.find(roots, format!("a{key}").as_bytes());
                assert!(
                    found != child_of(roots, shard, depth).unwrap() || key.as_bytes() < &b"m"[..]
                );
                assert!(layout.shards(roots).contains(&low));
                assert!(layout.note(shard, Reach { depth: depth + 1, gone: None }));
                assert!(!layout.note(shard, Reach { depth, gone: Some("z".into()) }), "older");
            }
            let shards = layout.shards(roots);
            assert!(shards.len() > 10);
            for n in 0..2000 {
                let key = format!("key-{n}");
                let owners: Vec<u32> = shards
                    .iter()
                    .copied()
                    .filter(|&shard| {
                        let depth = layout
                            .reached
                            .get(&shard)
                            .map_or_else(|| birth_depth(roots, shard), |reach| reach.depth);
                        covers(roots, shard, depth, key.as_bytes())
                    })
                    .collect();
                assert_eq!(owners, [layout.find(roots, key.as_bytes())], "{roots} roots, {key}");
            }
            for &shard in &shards {
                match parent_of(roots, shard) {
                    None => assert!(shard < roots),
                    Some(parent) => assert!(layout.children(roots, parent).contains(&shard)),
                }
            }
        }
    }

    #[test]
    fn a_call_never_goes_back_to_the_parent() {
        let given = |key: &&String| covers(2, 6, 2, key.as_bytes());
        let keys: Vec<String> = (0..64).map(|n| format!("{n}")).collect();
        let key = keys.iter().find(given).expect("an eighth of all").as_bytes();
        let mut layout = Layout::default();
        // The root has its last page out, which was taken and not let go; the new shard splits already.
        let out = |depth| Reach { depth, gone: Some(Bytes::new()) };
        assert_eq!(layout.go_on(2, 0, out(0), key), Some(2));
        assert_eq!(layout.go_on(2, 2, out(1), key), Some(6));
        assert_eq!(layout.find(2, key), 0, "the root has not said that the key is gone for good");
        // A late answer of the past does not lead to where the key is not any more.
        let over = Reach { depth: 2, gone: None };
        assert_eq!(layout.go_on(2, 2, over, key), Some(6));
        assert_eq!(layout.go_on(2, 2, out(1), key), Some(6));
    }

    #[test]
    fn numbers_end() {
        assert_eq!(child_of(8, 3, 1), Some(19));
        assert_eq!(child_of(8, 3, 13), None);
        assert_eq!(child_of(8, 3, 40), None);
        assert_eq!((birth_depth(8, 7), birth_depth(8, 8), birth_depth(8, 19)), (0, 1, 2));
        assert_eq!((parent_of(8, 7), parent_of(8, 19)), (None, Some(3)));
    }
}
