//! Dividing a placement group: its objects stay where they are in the index.
//!
//! The keys of objects begin with a number and the bit-reversed hash, and what belongs to a group by any
//! `pg_num` is one range of that. So a group has the number under which its objects are (its *home*) and the
//! range of them that is its own; a child shares the home of its parent. What costs time is counting what
//! each part has: one pass over the onodes.
//!
//! Invariants:
//! - Parts of one home do not overlap: a home is given once, with a new group, and then only divided.
//! - A batch in the log names the group that it was for. What is alive of it may be a child's today, and the
//!   parent may be gone: who looks for it asks all parts that cover the object.

use super::{Fault, Pg, Staged, State, counts};
use crate::store::PgUsage;
use crate::store::log::index::{Key, behind, number_key, version_key};
use crate::store::log::step::Placed;
use bytes::Bytes;
use std::collections::VecDeque;
use store_base::{ObjectName, PgId, Version};

/// Onodes looked at at once.
const PAGE: usize = 512;

/// Which objects of the index belong to a placement group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// The number in their keys.
    pub home: u64,
    /// The first bit-reversed hash.
    pub first: u32,
    /// The last.
    pub last: u32,
}
store_base::codec_struct!(Part { home, first, last });

impl Part {
    /// All objects under a number.
    pub fn whole(home: u64) -> Part {
        Part { home, first: 0, last: u32::MAX }
    }

    /// Whether it was never divided.
    pub fn is_whole(&self) -> bool {
        self.first == 0 && self.last == u32::MAX
    }

    fn covers(&self, object: &ObjectName) -> bool {
        (self.first..=self.last).contains(&object.hash().reverse_bits())
    }

    /// Keys of a kind: the first, and the first behind.
    pub fn keys(&self, kind: u8) -> (Key, Key) {
        let to = match self.last.checked_add(1) {
            Some(next) => number_key(kind, self.home, &next.to_be_bytes()),
            None => behind(&number_key(kind, self.home, b"")),
        };
        (number_key(kind, self.home, &self.first.to_be_bytes()), to)
    }
}

impl State {
    /// Which objects a placement group has.
    pub fn part(&self, pg: PgId) -> Option<Part> {
        self.pgs.get(&pg).map(|pg| pg.part)
    }

    /// The groups that may have what a batch in the log stored for an object of `pg`.
    pub(super) fn heirs(&self, pg: PgId, object: &ObjectName) -> Vec<PgId> {
        let own = self.pgs.contains_key(&pg).then_some(pg);
        if self.divided == 0 {
            return own.into_iter().collect();
        }
        let first = PgId { seed: 0, ..pg };
        let parts = self.pgs.range(first..).take_while(|(id, _)| id.pool == pg.pool);
        let parts = parts.filter(|(id, found)| {
            **id != pg && !found.part.is_whole() && found.part.covers(object)
        });
        own.into_iter().chain(parts.map(|(id, _)| *id)).collect()
    }

    pub(super) fn split(&mut self, id: PgId, from: u32, to: u32) -> Result<(), Fault> {
        let mut parent =
            self.pgs.remove(&id).ok_or_else(|| Fault(format!("no placement group {id}")))?;
        let runs = self.log_runs(&parent)?;
        self.drop_copies(parent.part)?;
        for child in id.children(from, to) {
            if self.pgs.contains_key(&child) {
                return Err(Fault(format!("{child} is split off {id}, but was here already")));
            }
            let part = self.child(&parent, &runs, child, to)?;
            self.pgs.insert(child, part);
        }
        parent.part = part_of(&parent, id, to);
        parent.usage = self.usage_of(parent.part)?;
        parent.changed = true;
        for staged in parent.staged.iter_mut().filter(|staged| !is_own(staged, id, to)) {
            if std::mem::take(&mut staged.kept) {
                let key = version_key(b'S', parent.uid, staged.placed.entry.version);
                self.index.put_value(key, None);
            }
            staged.placed.forget_effect();
            staged.data = Ok(Vec::new());
        }
        self.pgs.insert(id, parent);
        self.divided = self.pgs.values().filter(|pg| !pg.part.is_whole()).count();
        Ok(())
    }

    /// Whoever was bringing in copies begins again.
    fn drop_copies(&mut self, part: Part) -> Result<(), Fault> {
        let (from, to) = part.keys(b'I');
        for (key, _) in self.index.scan_onodes(&from, &to, usize::MAX)? {
            if let Some(onode) = self.index.take_onode(&key)? {
                self.dispose(onode);
            }
            self.index.put_onode(key, None);
        }
        Ok(())
    }

    /// The runs of a log as the index has them.
    fn log_runs(&self, pg: &Pg) -> Result<Vec<(Version, Version, Bytes)>, Fault> {
        let found = pg.runs.iter().map(|(first, last)| {
            let value = self.index.value(&version_key(b'L', pg.uid, *first))?;
            let value = value.ok_or_else(|| Fault(format!("a log lacks {first}")))?;
            Ok((*first, *last, value))
        });
        found.collect()
    }

    fn child(
        &mut self,
        parent: &Pg,
        runs: &[(Version, Version, Bytes)],
        child: PgId,
        to: u32,
    ) -> Result<Pg, Fault> {
        let uid = self.number();
        for (first, _, value) in runs {
            self.index.put_value(version_key(b'L', uid, *first), Some(value.clone()));
        }
        let mut staged = VecDeque::with_capacity(parent.staged.len());
        for one in &parent.staged {
            let mut placed = one.placed.clone();
            let own = is_own(one, child, to);
            if !own {
                placed.forget_effect();
            }
            let data = if own { one.data.clone() } else { Ok(Vec::new()) };
            staged.push_back(Staged { placed, data, kept: false });
        }
        let part = part_of(parent, child, to);
        Ok(Pg {
            uid,
            part,
            meta: parent.meta.clone(),
            usage: self.usage_of(part)?,
            staged,
            runs: parent.runs.clone(),
            fresh: parent.fresh.clone(),
            trimmed: parent.trimmed,
            changed: true,
        })
    }

    fn usage_of(&self, part: Part) -> Result<PgUsage, Fault> {
        let mut usage = PgUsage::default();
        let (mut from, to) = part.keys(b'O');
        loop {
            let page = self.index.scan_onodes(&from, &to, PAGE)?;
            for (_, onode) in &page {
                let [bytes, omap] = counts(onode);
                usage.objects += 1;
                usage.bytes += bytes;
                usage.omap_bytes += omap;
            }
            match page.last() {
                Some((last, _)) if page.len() == PAGE => from = [&last[..], &[0]].concat(),
                _ => return Ok(usage),
            }
        }
    }
}

fn part_of(parent: &Pg, id: PgId, pg_num: u32) -> Part {
    let span = id.span(pg_num);
    Part { home: parent.part.home, first: *span.start(), last: *span.end() }
}

fn is_own(staged: &Staged, pg: PgId, pg_num: u32) -> bool {
    staged.placed.entry.object.pg(pg.pool, pg_num) == pg
}

impl Placed {
    /// As [`LogEntry::forget_effect`](crate::store::LogEntry::forget_effect). Its pieces are somebody else's now.
    fn forget_effect(&mut self) {
        self.entry.forget_effect();
        self.places.clear();
    }
}
