//! A disk in memory that behaves as badly as a disk may: it forgets what was not flushed, tears, reorders,
//! rots, fills up and answers late. One seed, one behaviour.
//!
//! Fault model: at a crash, every 512-byte sector of every write that was not made durable is kept or
//! lost, each by itself or the write as a whole, in the order of submission where they overlap. What was
//! durable stays, unless [`SimulatedMedium::rot`] flips a bit of it. Growth that no flush covered may be
//! lost with all that was written there.

use super::{BLOCK_BYTES, Disk, DiskError, Done, Durability, Request};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

/// A disk may tear a write between any two of these.
pub const SECTOR_BYTES: usize = 512;

type Block = Arc<[u8; BLOCK_BYTES]>;

#[derive(Debug, Default)]
struct Media {
    /// What is durable.
    durable: BTreeMap<u64, Block>,
    /// Writes that are not durable, in order of submission. `None` data: was made durable.
    volatile: VecDeque<(u64, u64, Vec<u8>)>,
    /// Submitted, not answered.
    open: VecDeque<(u64, Request)>,
    answers: VecDeque<Done>,
    size: u64,
    /// What the size is at least after a crash.
    size_durable: u64,
    size_max: u64,
    life: u64,
    /// Answered so far, and when the power goes.
    steps: u64,
    steps_max: u64,
    unreadable: BTreeSet<u64>,
    failing: Option<String>,
    /// The next flush, alone or with a write, fails; those behind it do not.
    failing_flush: Option<String>,
    next: u64,
    held: bool,
}

impl Media {
    fn random(&mut self) -> u64 {
        // splitmix64
        self.next = self.next.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.next;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn put(&mut self, offset: u64, data: &[u8], keep: impl Fn(u64) -> bool) {
        for (i, sector) in data.chunks(SECTOR_BYTES).enumerate() {
            if !keep(i as u64) {
                continue;
            }
            let at = offset as usize + i * SECTOR_BYTES;
            let block = self
                .durable
                .entry((at / BLOCK_BYTES) as u64)
                .or_insert_with(|| Arc::new([0; BLOCK_BYTES]));
            let from = at % BLOCK_BYTES;
            Arc::make_mut(block)[from..from + sector.len()].copy_from_slice(sector);
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) {
        for (i, chunk) in out.chunks_mut(BLOCK_BYTES).enumerate() {
            match self.durable.get(&(offset / BLOCK_BYTES as u64 + i as u64)) {
                Some(block) => chunk.copy_from_slice(&block[..]),
                None => chunk.fill(0),
            }
        }
        let end = offset + out.len() as u64;
        for (_, at, data) in &self.volatile {
            let (from, to) = ((*at).max(offset), (at + data.len() as u64).min(end));
            if from < to {
                out[(from - offset) as usize..(to - offset) as usize]
                    .copy_from_slice(&data[(from - at) as usize..(to - at) as usize]);
            }
        }
    }

    fn flush(&mut self) {
        self.size_durable = self.size;
        for (_, at, data) in std::mem::take(&mut self.volatile) {
            self.put(at, &data, |_| true);
        }
    }

    /// Answers one open request, chosen by chance.
    fn step(&mut self) -> bool {
        if self.open.is_empty() || self.steps >= self.steps_max {
            return false;
        }
        self.steps += 1;
        let chosen = (self.random() % self.open.len() as u64) as usize;
        let (id, request) = self.open.remove(chosen).expect("an index below the length");
        let result = match request {
            _ if self.failing.is_some() => {
                Err(DiskError::Failed(self.failing.clone().unwrap_or_default()))
            }
            Request::Flush
            | Request::Write { durability: Durability::Own | Durability::All, .. }
                if self.failing_flush.is_some() =>
            {
                Err(DiskError::Failed(self.failing_flush.take().unwrap_or_default()))
            }
            Request::Flush => {
                self.flush();
                Ok(None)
            }
            Request::Read { offset, mut buffer } => {
                let blocks = offset / BLOCK_BYTES as u64
                    ..(offset + buffer.len() as u64) / BLOCK_BYTES as u64;
                assert!(offset + buffer.len() as u64 <= self.size, "a read beyond the end");
                self.read(offset, &mut buffer);
                match self.unreadable.range(blocks).next() {
                    Some(block) => Err(DiskError::Unreadable(format!("block {block}"))),
                    None => Ok(Some(buffer)),
                }
            }
            Request::Write { offset, buffer, durability } => {
                assert!(offset + buffer.len() as u64 <= self.size, "a write beyond the end");
                match durability {
                    Durability::None => self.volatile.push_back((id, offset, buffer.to_vec())),
                    Durability::Own => {
                        // Its sectors are durable; older writes to the same place are not newer.
                        self.volatile.push_back((id, offset, buffer.to_vec()));
                        let (_, offset, data) = self.volatile.pop_back().expect("just put");
                        self.supersede(offset, data.len() as u64);
                        self.size_durable = self.size_durable.max(offset + data.len() as u64);
                        self.put(offset, &data, |_| true);
                    }
                    Durability::All => {
                        self.volatile.push_back((id, offset, buffer.to_vec()));
                        self.flush();
                    }
                }
                Ok(Some(buffer))
            }
        };
        self.answers.push_back(Done { id, result });
        true
    }

    /// Parts of volatile writes that a durable one has overwritten can never come back.
    fn supersede(&mut self, offset: u64, length: u64) {
        let end = offset + length;
        for (id, at, data) in std::mem::take(&mut self.volatile) {
            let to = at + data.len() as u64;
            if to <= offset || at >= end {
                self.volatile.push_back((id, at, data));
                continue;
            }
            if at < offset {
                self.volatile.push_back((id, at, data[..(offset - at) as usize].to_vec()));
            }
            if to > end {
                self.volatile.push_back((id, end, data[(end - at) as usize..].to_vec()));
            }
        }
    }
}

/// The driver's handle on a simulated medium. Clones are the same medium.
#[derive(Clone, Debug)]
pub struct SimulatedMedium(Arc<Mutex<Media>>);

impl SimulatedMedium {
    /// An empty medium that may grow to `size_max` bytes.
    pub fn new(seed: u64, size_max: u64) -> SimulatedMedium {
        let media = Media { size_max, next: seed, steps_max: u64::MAX, ..Media::default() };
        SimulatedMedium(Arc::new(Mutex::new(media)))
    }

    /// A medium that holds these blocks, durable, by their number.
    pub fn from_image(
        seed: u64,
        size_max: u64,
        durable: BTreeMap<u64, Arc<[u8; BLOCK_BYTES]>>,
        size: u64,
    ) -> SimulatedMedium {
        let medium = SimulatedMedium::new(seed, size_max);
        let mut media = medium.media();
        (media.durable, media.size, media.size_durable) = (durable, size, size);
        drop(media);
        medium
    }

    /// One life of the disk. An earlier one gets no more answers, and what it had open is not done.
    pub fn open(&self) -> SimulatedDisk {
        let mut media = self.media();
        media.life += 1;
        media.open.clear();
        media.answers.clear();
        SimulatedDisk { life: media.life, media: self.0.clone() }
    }

    /// The power goes after so many answers: nothing more is answered.
    pub fn stop_after(&self, steps: u64) {
        self.media().steps_max = steps;
    }

    /// Answers so far.
    pub fn steps(&self) -> u64 {
        self.media().steps
    }

    /// With `true`, requests are answered only by [`SimulatedMedium::step`].
    pub fn hold(&self, held: bool) {
        self.media().held = held;
    }

    /// Answers one request, chosen by chance. `false` if none is open.
    pub fn step(&self) -> bool {
        self.media().step()
    }

    /// Chance begins anew: the same history may end in other ways.
    pub fn reseed(&self, seed: u64) {
        self.media().next = seed;
    }

    /// The power goes: volatile writes, answered or not, survive wholly, not at all, or torn.
    pub fn crash(&self) {
        let mut media = self.media();
        let mut lost: Vec<(u64, Vec<u8>)> = std::mem::take(&mut media.volatile)
            .into_iter()
            .map(|(_, at, data)| (at, data))
            .collect();
        for (_, request) in std::mem::take(&mut media.open) {
            if let Request::Write { offset, buffer, .. } = request {
                lost.push((offset, buffer.to_vec()));
            }
        }
        for (offset, data) in lost {
            match media.random() % 4 {
                0 => {}
                1 => media.put(offset, &data, |_| true),
                2 => {
                    let sectors = media.random() % (data.len() / SECTOR_BYTES) as u64;
                    media.put(offset, &data, |i| i < sectors);
                }
                _ => {
                    let salt = media.random();
                    media.put(offset, &data, |i| (salt >> (i % 61)) & 1 == 1);
                }
            }
        }
        if media.random().is_multiple_of(2) {
            media.size = media.size_durable;
            let end = media.size / BLOCK_BYTES as u64;
            media.durable.split_off(&end);
        }
        media.size_durable = media.size;
        media.answers.clear();
        media.life += 1;
        media.steps = 0;
        media.steps_max = u64::MAX;
        media.failing = None;
        media.failing_flush = None;
    }

    /// Flips one bit at rest.
    pub fn rot(&self, offset: u64, bit: u8) {
        let mut media = self.media();
        media.flush();
        let block = media.durable.get_mut(&(offset / BLOCK_BYTES as u64));
        if let Some(block) = block {
            Arc::make_mut(block)[(offset % BLOCK_BYTES as u64) as usize] ^= 1 << (bit % 8);
        }
    }

    /// The bytes at rest, volatile ones included.
    pub fn bytes(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut out = vec![0; length];
        self.media().read(offset, &mut out);
        out
    }

    /// Puts bytes there, durable: what an earlier user of the place may have left.
    pub fn plant(&self, offset: u64, bytes: &[u8]) {
        self.media().put(offset, bytes, |_| true);
    }

    /// Bytes that may be addressed.
    pub fn size(&self) -> u64 {
        self.media().size
    }

    /// Reads of this block fail from now on.
    pub fn unreadable(&self, block: u64) {
        self.media().unreadable.insert(block);
    }

    /// Others take or free space on the same file system.
    pub fn set_size_max(&self, bytes: u64) {
        let mut media = self.media();
        media.size_max = bytes.max(media.size);
    }

    /// Every request fails from now on, until the next crash.
    pub fn fail(&self, why: &str) {
        self.media().failing = Some(why.to_string());
    }

    /// The next flush fails, alone or with a write; those behind it are answered as if nothing had been.
    pub fn fail_flush(&self, why: &str) {
        self.media().failing_flush = Some(why.to_string());
    }

    fn media(&self) -> MutexGuard<'_, Media> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

/// One life of a [`SimulatedMedium`].
#[derive(Debug)]
pub struct SimulatedDisk {
    media: Arc<Mutex<Media>>,
    life: u64,
}

impl Disk for SimulatedDisk {
    fn submit(&mut self, id: u64, request: Request) {
        let mut media = self.media.lock().expect("no holder of this lock panics");
        if media.life == self.life {
            media.open.push_back((id, request));
        }
    }

    fn kick(&mut self) {}

    fn poll(&mut self, done: &mut Vec<Done>) {
        let mut media = self.media.lock().expect("no holder of this lock panics");
        if media.life != self.life {
            return;
        }
        if !media.held {
            media.step();
        }
        done.extend(media.answers.drain(..));
    }

    fn wait(&mut self) {
        let mut media = self.media.lock().expect("no holder of this lock panics");
        if media.life == self.life && media.answers.is_empty() {
            media.step();
        }
    }

    fn size(&self) -> u64 {
        self.media.lock().expect("no holder of this lock panics").size
    }

    fn grow(&mut self, size: u64) -> Result<(), DiskError> {
        let mut media = self.media.lock().expect("no holder of this lock panics");
        if size > media.size_max {
            return Err(DiskError::Full("the simulated file system is full".into()));
        }
        media.size = media.size.max(size);
        Ok(())
    }

    fn available(&self) -> u64 {
        let media = self.media.lock().expect("no holder of this lock panics");
        media.size_max - media.size
    }

    fn engine(&self) -> &'static str {
        "simulated"
    }
}
