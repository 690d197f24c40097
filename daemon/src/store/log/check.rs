//! Reads everything and believes nothing: every byte of every object against its checksum, every count
//! against what is really there. For the offline check, and for tests that want to know whether a file is
//! sound.
//!
//! What it takes as given is only what the opening of a store takes as given: the index and the log say which
//! objects there are. What they say of room and of counts is counted again.

use super::allocator::{Allocator, Run};
use super::index::{Onode, behind, number_key};
use super::open::{Blocking, Loaded, Superblocks, load};
use super::piece::{Piece, Place, References};
use super::segments::Segments;
use super::state::{Checkpoint, Part, State};
use super::step::Step;
use super::{LogStore, Opened};
use crate::store::disk::{BLOCK_BYTES, Disk, Pool};
use crate::store::kv::{KvError, KvStore};
use crate::store::{PgUsage, StoreError};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use store_base::object::ObjectInfo;
use store_base::{ObjectName, PgId};

/// Bytes read at once: a whole number of checksum blocks.
const PART_BYTES_MAX: u32 = 4 << 20;

/// Onodes and omap entries looked at in one go.
const PAGE: usize = 256;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// One of the two superblocks.
    Superblock,
    /// The log.
    Log,
    /// The index: objects may be unknown.
    Index,
    /// Bytes of an object, of a copy that was being brought in, or of a staged entry.
    Data,
    /// What is counted is not what is there; no byte is lost.
    Accounting,
}

/// One thing that is wrong, and what it costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind of thing.
    pub kind: Kind,
    /// Whose, if it is one placement group's.
    pub pg: Option<PgId>,
    /// Whose, if it is one object's.
    pub object: Option<ObjectName>,
    /// Which bytes of the object: offset, length.
    pub range: Option<(u64, u64)>,
    /// A sentence.
    pub what: String,
}

impl Finding {
    fn new(kind: Kind, what: impl Into<String>) -> Finding {
        Finding { kind, pg: None, object: None, range: None, what: what.into() }
    }

    fn of(self, pg: PgId) -> Finding {
        Finding { pg: Some(pg), ..self }
    }
}

/// Where bytes of an object lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lie {
    /// Offset in the object.
    pub at: u64,
    /// Bytes.
    pub length: u64,
    /// Offset in the file; `None` if the place cannot be told.
    pub file: Option<u64>,
    /// In the log, packed with others, and not in an extent of its own.
    pub in_log: bool,
}

/// Adds up bytes.
pub trait Digest {
    /// Takes in some.
    fn update(&mut self, bytes: &[u8]);
    /// The sum.
    fn finish(self: Box<Self>) -> Vec<u8>;
}

/// An object as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Where it belongs.
    pub pg: PgId,
    /// Its name.
    pub name: ObjectName,
    /// Version, size and what else is known.
    pub info: ObjectInfo,
    /// Of its bytes, holes as zeros; `None` if some are lost.
    pub data_digest: Option<Vec<u8>>,
    /// Of xattrs, omap header and omap; `None` if some are lost.
    pub attributes_digest: Option<Vec<u8>>,
    /// Keys of its omap.
    pub omap_keys: u64,
    /// Where its bytes lie.
    pub lies: Vec<Lie>,
}

/// What one placement group has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PgTally {
    /// Counted.
    pub counted: PgUsage,
    /// Objects with lost bytes.
    pub damaged: u64,
    /// Entries that are durable but not applied.
    pub staged: u64,
}

/// What a check has found.
#[derive(Default)]
pub struct Report {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What is there.
    pub pgs: BTreeMap<PgId, PgTally>,
    /// Bytes read from the medium for it.
    pub read_bytes: u64,
    /// Bytes that nobody refers to and that count as used.
    pub leaked_bytes: u64,
    /// Bytes that somebody refers to and that do not count as used, or not often enough.
    pub uncounted_bytes: u64,
    /// The users of units as they were counted.
    recount: Allocator,
    /// Keys of the index that belong to nobody.
    orphans: Vec<Vec<u8>>,
    /// Onodes whose count of omap bytes is wrong, with the right one.
    omaps: Vec<(Vec<u8>, u64)>,
}

impl Report {
    /// Whether anything of this kind was found.
    pub fn has(&self, kind: Kind) -> bool {
        self.findings.iter().any(|finding| finding.kind == kind)
    }

    fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
    }
}

/// A file opened to be looked at.
pub struct Inspection {
    /// Of the file.
    pub superblocks: [Option<super::format::Superblock>; 2],
    /// The last checkpoint.
    pub checkpoint: Checkpoint,
    /// What the opening has read.
    pub opened: Opened,
    /// All that is stored.
    pub state: State,
    segments: Segments,
    faults: Vec<Finding>,
}

impl Inspection {
    /// Opens without writing. The error is what the opening of a daemon would meet.
    pub fn open(disk: &mut dyn Disk, store: Arc<dyn KvStore>) -> Result<Inspection, StoreError> {
        let mut io = Blocking { disk, pool: Pool::default() };
        let superblocks = Superblocks::read(&mut io);
        let Some(best) = superblocks.best().cloned() else {
            let why = match superblocks.second_is_blank {
                true => "nothing was ever stored here",
                false => "both superblocks are damaged",
            };
            return Err(StoreError::Damaged(why.into()));
        };
        if best.format > super::format::FORMAT_VERSION {
            return Err(StoreError::Failed(format!(
                "the file has format {}: use a newer program",
                best.format
            )));
        }
        let mut opened = Opened::default();
        let loaded = load(&mut io, store, &best, &mut opened)?;
        let Loaded { state, checkpoint, scan } = loaded;
        let superblocks = superblocks.found;
        let (segments, faults) = (scan.segments, Vec::new());
        Ok(Inspection { superblocks, checkpoint, opened, state, segments, faults })
    }

    /// Lets all staged entries of a placement group take effect, here only. A group that was catching up would
    /// get objects with holes by this.
    pub fn apply_staged(&mut self, pg: PgId) {
        let to = self.state.last(pg);
        let step = Step::Apply { pg, to, except: Vec::new() };
        if let Err(fault) = self.state.execute(step, &mut VecDeque::new()) {
            self.faults.push(Finding::new(Kind::Index, fault.to_string()).of(pg));
        }
    }

    /// Reads everything. `each` gets every object, with digests made by `digest`.
    pub fn check(
        &mut self,
        disk: &mut dyn Disk,
        digest: &dyn Fn() -> Box<dyn Digest>,
        each: &mut dyn FnMut(Object),
    ) -> Report {
        let io = Blocking { disk, pool: Pool::default() };
        let mut report = Check::new(io, &self.state, &self.segments, digest).run(each);
        report.findings.append(&mut self.faults);
        for (place, found) in self.superblocks.iter().enumerate() {
            if found.is_none() {
                let what = format!("superblock {place} is damaged; the other one stands in for it");
                report.findings.insert(0, Finding::new(Kind::Superblock, what));
            }
        }
        report
    }
}

/// A check under way.
struct Check<'a> {
    io: Blocking<'a>,
    state: &'a State,
    segments: &'a Segments,
    digest: &'a dyn Fn() -> Box<dyn Digest>,
    report: Report,
    /// Stored bytes by place in the file, and whose.
    stored: Vec<(u64, u32, u32)>,
    owners: Vec<(Option<PgId>, ObjectName)>,
    omaps: BTreeSet<u64>,
}

impl<'a> Check<'a> {
    fn new(
        io: Blocking<'a>,
        state: &'a State,
        segments: &'a Segments,
        digest: &'a dyn Fn() -> Box<dyn Digest>,
    ) -> Check<'a> {
        let report = Report { recount: Allocator::new(io.disk.size()), ..Report::default() };
        let (stored, owners) = (Vec::new(), Vec::new());
        Check { io, state, segments, digest, report, stored, owners, omaps: BTreeSet::new() }
    }

    fn run(mut self, each: &mut dyn FnMut(Object)) -> Report {
        let pgs: Vec<PgId> = self.state.pgs().collect();
        for pg in &pgs {
            self.report.pgs.insert(*pg, PgTally::default());
            let part = self.state.part(*pg).unwrap_or_default();
            self.check_group(b'O', part, Some(*pg), each);
            self.check_group(b'I', part, Some(*pg), &mut |_| {});
            self.check_staged(*pg);
            self.check_usage(*pg);
        }
        // Objects of groups that were removed still have their room.
        for part in self.state.dead_all().collect::<Vec<_>>() {
            self.check_group(b'O', part, None, &mut |_| {});
            self.check_group(b'I', part, None, &mut |_| {});
        }
        self.check_twice();
        self.check_orphans();
        self.check_room();
        self.report
    }

    fn check_group(
        &mut self,
        kind: u8,
        part: Part,
        pg: Option<PgId>,
        each: &mut dyn FnMut(Object),
    ) {
        let (mut from, to) = part.keys(kind);
        loop {
            let page = match self.state.index.scan_onodes(&from, &to, PAGE) {
                Ok(page) => page,
                Err(e) => {
                    let what = format!("objects cannot be listed: {e}; an unknown number is lost");
                    let finding = Finding { pg, ..Finding::new(Kind::Index, what) };
                    return self.report.add(finding);
                }
            };
            let Some((last, _)) = page.last() else { return };
            from = [&last[..], &[0]].concat();
            for (key, onode) in page {
                self.check_object(kind, &key, pg, &onode, each);
            }
        }
    }

    fn check_object(
        &mut self,
        kind: u8,
        key: &[u8],
        pg: Option<PgId>,
        onode: &Onode,
        each: &mut dyn FnMut(Object),
    ) {
        let owner = self.owner(pg, &onode.name);
        for piece in onode.pieces.values() {
            self.count(piece, owner);
        }
        let Some(pg) = pg else {
            self.omaps.insert(onode.omap);
            return; // Nobody will read it again.
        };
        let is_object = kind == b'O';
        let before = self.report.findings.len();
        let (data_digest, lies) = self.read_bytes(pg, onode, is_object);
        let (attributes_digest, omap_keys, omap_bytes) = self.read_attributes(pg, onode);
        if attributes_digest.is_some() && omap_bytes != onode.omap_bytes {
            let what = format!(
                "{} counts {} bytes of omap, there are {omap_bytes}",
                onode.name, onode.omap_bytes
            );
            self.report.add(Finding::new(Kind::Accounting, what).of(pg));
            self.report.omaps.push((key.to_vec(), omap_bytes));
        }
        if !is_object {
            return;
        }
        let damaged = self.report.findings[before..].iter().any(|one| one.kind != Kind::Accounting);
        let tally = self.report.pgs.entry(pg).or_default();
        tally.counted.objects += 1;
        tally.counted.bytes += onode.info.size;
        tally.counted.omap_bytes += omap_bytes;
        tally.damaged += u64::from(damaged);
        each(Object {
            pg,
            name: onode.name.clone(),
            info: onode.info.clone(),
            data_digest,
            attributes_digest,
            omap_keys,
            lies,
        });
    }

    /// Reads all bytes of an object.
    fn read_bytes(
        &mut self,
        pg: PgId,
        onode: &Onode,
        is_object: bool,
    ) -> (Option<Vec<u8>>, Vec<Lie>) {
        let (mut digest, mut whole, mut at) = ((self.digest)(), true, 0);
        let mut lies = Vec::new();
        for (start, piece) in &onode.pieces {
            zeros(&mut *digest, start - at);
            at = start + u64::from(piece.length);
            let file = self.locate(piece);
            lies.push(Lie {
                at: *start,
                length: piece.length.into(),
                file: file.map(|file| file + u64::from(piece.skip)),
                in_log: matches!(piece.place, Place::Log { .. }),
            });
            let mut from = 0;
            while from < piece.length {
                let skew = (piece.skip + from) % (1 << piece.shift);
                let to = piece.length.min(from + PART_BYTES_MAX - skew);
                let part = piece.cut(from, to);
                match self.read_piece(&part) {
                    Ok(bytes) => digest.update(&bytes),
                    Err(lost) => {
                        whole = false;
                        for (offset, length, why) in lost {
                            let range = Some((start + u64::from(from) + offset, length));
                            let what = match is_object {
                                true => {
                                    format!("lost here, to be fetched from another copy: {why}")
                                }
                                false => format!("lost in a copy that is brought in again: {why}"),
                            };
                            let object = Some(onode.name.clone());
                            let pg = Some(pg);
                            self.report.add(Finding { kind: Kind::Data, pg, object, range, what });
                        }
                    }
                }
                from = to;
            }
        }
        zeros(&mut *digest, onode.info.size.saturating_sub(at));
        (whole.then(|| digest.finish()), lies)
    }

    /// The wanted bytes of a piece; or which of them are lost: offset in the piece, length, why.
    fn read_piece(&mut self, piece: &Piece) -> Result<Bytes, Vec<(u64, u64, String)>> {
        let all = |why: String| vec![(0, u64::from(piece.length), why)];
        let Some(offset) = self.locate(piece) else {
            return Err(all("its batch is not in the log".into()));
        };
        let aligned = offset / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
        let before = (offset - aligned) as usize;
        let bytes = (before + piece.stored as usize).next_multiple_of(BLOCK_BYTES);
        if aligned + bytes as u64 > self.io.disk.size() {
            return Err(all(format!("offset {offset} is beyond the end of the file")));
        }
        self.report.read_bytes += bytes as u64;
        let stored = match self.io.read(aligned, bytes) {
            Ok(found) => found.slice(before..before + piece.stored as usize),
            Err(e) if piece.crcs.len() == 1 => return Err(all(format!("{e} at {offset}"))),
            // Block by block: others can be read.
            Err(_) => return Err(self.unreadable_blocks(piece)),
        };
        if piece.verify(&stored) {
            return Ok(super::piece::wanted(piece, &stored));
        }
        let block = 1usize << piece.shift;
        let bad = stored.chunks(block).zip(&piece.crcs).enumerate();
        let bad = bad.filter(|(_, (bytes, crc))| super::format::checksum(bytes) != **crc);
        let lost = bad.filter_map(|(i, _)| {
            let from = (i * block).max(piece.skip as usize);
            let to = ((i + 1) * block).min((piece.skip + piece.length) as usize);
            let why = format!("checksum mismatch at {} of the file", offset + (i * block) as u64);
            let at = (from - piece.skip as usize) as u64;
            (from < to).then(|| (at, (to - from) as u64, why))
        });
        Err(lost.collect())
    }

    fn unreadable_blocks(&mut self, piece: &Piece) -> Vec<(u64, u64, String)> {
        let (mut from, mut lost) = (0, Vec::new());
        while from < piece.length {
            let skew = (piece.skip + from) % (1 << piece.shift);
            let to = piece.length.min(from + (1 << piece.shift) - skew);
            if let Err(bad) = self.read_piece(&piece.cut(from, to)) {
                lost.extend(bad.into_iter().map(|(at, len, why)| (at + u64::from(from), len, why)));
            }
            from = to;
        }
        lost
    }

    fn locate(&self, piece: &Piece) -> Option<u64> {
        match piece.place {
            Place::Disk { offset } => Some(offset),
            Place::Log { seq, offset } => Some(self.segments.locate(seq)? + u64::from(offset)),
        }
    }

    /// Reads xattrs and omap: their digest, and how many keys and bytes the omap has.
    fn read_attributes(&mut self, pg: PgId, onode: &Onode) -> (Option<Vec<u8>>, u64, u64) {
        let mut digest = (self.digest)();
        for (key, value) in &onode.xattrs {
            counted(&mut *digest, key);
            counted(&mut *digest, value);
        }
        counted(&mut *digest, b"");
        counted(&mut *digest, &onode.omap_header);
        let (mut keys, mut bytes) = (0, 0);
        if onode.omap != 0 {
            self.omaps.insert(onode.omap);
            let prefix = number_key(b'M', onode.omap, b"");
            let (mut from, to) = (prefix.clone(), behind(&prefix));
            loop {
                let page = match self.state.index.scan_values(&from, &to, PAGE) {
                    Ok(page) => page,
                    Err(e) => {
                        let what = format!("its omap cannot be read: {e}");
                        let object = Some(onode.name.clone());
                        let finding = Finding { object, ..Finding::new(Kind::Index, what) };
                        self.report.add(finding.of(pg));
                        return (None, keys, bytes);
                    }
                };
                let Some((last, _)) = page.last() else { break };
                from = [&last[..], &[0]].concat();
                for (key, value) in page {
                    counted(&mut *digest, &key[9..]);
                    counted(&mut *digest, &value);
                    keys += 1;
                    bytes += (key.len() - 9 + value.len()) as u64;
                }
            }
        }
        (Some(digest.finish()), keys, bytes)
    }

    fn check_staged(&mut self, pg: PgId) {
        let mut found = Vec::new();
        for staged in self.state.staged(pg) {
            let entry = &staged.placed.entry;
            found.push((entry.version, entry.object.clone(), staged.placed.places.concat()));
        }
        self.report.pgs.entry(pg).or_default().staged = found.len() as u64;
        for (version, object, pieces) in found {
            let owner = self.owner(Some(pg), &object);
            for piece in &pieces {
                self.count(piece, owner);
                if let Err(lost) = self.read_piece(piece) {
                    let why = lost.into_iter().map(|(_, _, why)| why).next().unwrap_or_default();
                    let what = format!("bytes of the staged entry {version} are lost: {why}");
                    let object = Some(object.clone());
                    let finding = Finding { object, ..Finding::new(Kind::Data, what) };
                    self.report.add(finding.of(pg));
                }
            }
        }
    }

    fn check_usage(&mut self, pg: PgId) {
        let counted = self.report.pgs[&pg].counted;
        let noted = self.state.pg_usage(pg);
        if counted != noted {
            let what = format!("the counts say {noted:?}, there are {counted:?}");
            self.report.add(Finding::new(Kind::Accounting, what).of(pg));
        }
    }

    fn owner(&mut self, pg: Option<PgId>, object: &ObjectName) -> u32 {
        self.owners.push((pg, object.clone()));
        self.owners.len() as u32 - 1
    }

    fn count(&mut self, piece: &Piece, owner: u32) {
        self.report.recount.retain(piece);
        if let Place::Disk { offset } = piece.place {
            self.stored.push((offset, piece.stored, owner));
        }
    }

    /// The same bytes of the file for two objects: one of them has written over the other.
    fn check_twice(&mut self) {
        let mut stored = std::mem::take(&mut self.stored);
        stored.sort_unstable();
        let (mut end, mut last) = (0, 0);
        for (offset, bytes, owner) in stored {
            let (a, b) = (&self.owners[last as usize], &self.owners[owner as usize]);
            if offset < end && a != b {
                let name = |(pg, object): &(Option<PgId>, ObjectName)| match pg {
                    Some(pg) => format!("{pg} {object}"),
                    None => format!("{object}, which is to be removed"),
                };
                let what = format!("offset {offset} is of {} and of {}", name(a), name(b));
                let finding = Finding {
                    pg: b.0,
                    object: Some(b.1.clone()),
                    ..Finding::new(Kind::Data, what)
                };
                self.report.add(finding);
            }
            if offset + u64::from(bytes) > end {
                (end, last) = (offset + u64::from(bytes), owner);
            }
        }
    }

    /// Keys of the index that belong to nobody.
    fn check_orphans(&mut self) {
        let parts = self.state.pgs().filter_map(|pg| self.state.part(pg));
        let groups: BTreeSet<u64> =
            parts.chain(self.state.dead_all()).map(|part| part.home).collect();
        for (kind, known) in [(b'O', &groups), (b'I', &groups), (b'M', &self.omaps)] {
            match orphans(self.state, kind, known) {
                Ok(found) if found.is_empty() => {}
                Ok(found) => {
                    let kind = char::from(kind);
                    let what = format!("{} keys of kind {kind} belong to nobody", found.len());
                    self.report.findings.push(Finding::new(Kind::Accounting, what));
                    self.report.orphans.extend(found);
                }
                Err(e) => self.report.findings.push(Finding::new(Kind::Index, e.to_string())),
            }
        }
    }

    /// Whether what counts as used is what somebody refers to.
    fn check_room(&mut self) {
        if let Some(fault) = self.report.recount.fault.take() {
            self.report.add(Finding::new(Kind::Data, fault));
        }
        let (leaked, uncounted) = self.state.allocator.compare(&self.report.recount);
        let list = |runs: &[Run]| {
            let shown: Vec<String> =
                runs.iter().take(5).map(|run| format!("{}+{}", run.offset, run.length)).collect();
            format!("{}{}", shown.join(", "), if runs.len() > 5 { ", …" } else { "" })
        };
        let total = |runs: &[Run]| runs.iter().map(|run| run.length).sum();
        (self.report.leaked_bytes, self.report.uncounted_bytes) =
            (total(&leaked), total(&uncounted));
        if !leaked.is_empty() {
            let bytes = self.report.leaked_bytes;
            let what = format!("{bytes} bytes count as used and are nobody's: {}", list(&leaked));
            self.report.add(Finding::new(Kind::Accounting, what));
        }
        if !uncounted.is_empty() {
            let bytes = self.report.uncounted_bytes;
            let what = format!(
                "{bytes} bytes are somebody's and could be given to others: {}",
                list(&uncounted)
            );
            self.report.add(Finding::new(Kind::Accounting, what));
        }
    }
}

/// Keys of a kind whose number nobody has, from the index in order.
fn orphans(state: &State, kind: u8, known: &BTreeSet<u64>) -> Result<Vec<Vec<u8>>, KvError> {
    let deleted = |number: u64| -> Result<bool, KvError> {
        Ok(kind == b'M' && state.index.value(&number_key(b'D', number, b""))?.is_some())
    };
    let (mut from, to) = (vec![kind], vec![kind + 1]);
    let mut found = Vec::new();
    loop {
        let page = match kind {
            b'M' => state.index.scan_values(&from, &to, 1)?.into_iter().map(|(key, _)| key).next(),
            _ => state.index.scan_onodes(&from, &to, 1)?.into_iter().map(|(key, _)| key).next(),
        };
        let Some(key) = page else { return Ok(found) };
        let number = key.get(1..9).and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
        let number = number.map(u64::from_be_bytes);
        match number {
            Some(number) if known.contains(&number) || deleted(number)? => {
                from = behind(&number_key(kind, number, b""));
            }
            _ => {
                from = [&key[..], &[0]].concat();
                found.push(key);
            }
        }
    }
}

fn zeros(digest: &mut dyn Digest, mut length: u64) {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    while length > 0 {
        let bytes = length.min(ZEROS.len() as u64);
        digest.update(&ZEROS[..bytes as usize]);
        length -= bytes;
    }
}

fn counted(digest: &mut dyn Digest, bytes: &[u8]) {
    digest.update(&(bytes.len() as u64).to_le_bytes());
    digest.update(bytes);
}

impl LogStore {
    /// Reads everything, and puts counts and room right. What is left in the report of kind `Data` or `Index`
    /// is for peers to mend. Only on a store that was just opened; durable with the next checkpoint.
    pub fn mend(&mut self, digest: &dyn Fn() -> Box<dyn Digest>) -> Result<Report, StoreError> {
        let io = Blocking { disk: &mut *self.disk, pool: self.pool.clone() };
        let check = Check::new(io, &self.state, &self.segments, digest);
        let mut report = check.run(&mut |_| {});
        if !report.has(Kind::Accounting) {
            return Ok(report);
        }
        let fault = |e: &dyn std::fmt::Display| StoreError::Damaged(e.to_string());
        for (key, bytes) in std::mem::take(&mut report.omaps) {
            if let Some(mut onode) = self.state.index.take_onode(&key).map_err(|e| fault(&e))? {
                onode.omap_bytes = bytes;
                self.state.index.put_onode(key, Some(onode));
            }
        }
        for key in std::mem::take(&mut report.orphans) {
            match key.first() {
                Some(b'M') => self.state.index.put_value(key, None),
                _ => self.state.index.put_onode(key, None),
            }
        }
        for (pg, tally) in &report.pgs {
            self.state.set_usage(*pg, tally.counted);
        }
        let slots: Vec<Run> = self
            .segments
            .slots
            .iter()
            .map(|(slot, _)| Run { offset: slot.offset, length: slot.size })
            .collect();
        let mut recount = std::mem::take(&mut report.recount);
        recount.start(self.disk.size(), &slots).map_err(|e| fault(&e))?;
        recount.change_all();
        self.state.allocator = recount;
        self.checkpoint();
        Ok(report)
    }
}
