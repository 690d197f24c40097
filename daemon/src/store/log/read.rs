//! Reads: planned at once, so that later writes do not change the answer; verified block by block.

use super::piece::{Piece, Place, SHIFT_LARGE, wanted, within};
use super::{LogStore, UnwrittenRun, Waiting};
use crate::store::disk::{BLOCK_BYTES, Buffer, DiskError};
use crate::store::{Completion, StoreError};
use bytes::{Bytes, BytesMut};
use store_base::{ObjectName, PgId, Ticket};

/// Larger pieces are read in parts: a whole number of checksum blocks.
const PART_BYTES_MAX: u32 = 4 << 20;

const _: () = assert!(PART_BYTES_MAX.is_multiple_of(1 << SHIFT_LARGE));

/// A part of an answer.
#[derive(Debug)]
enum Part {
    Zero(usize),
    Ready(Bytes),
    /// Comes from the medium: the piece, and how many bytes of the buffer come before its first stored.
    Disk(Piece, usize),
}

/// A read under way.
#[derive(Debug)]
pub(super) struct ReadJob {
    ticket: Ticket,
    what: String,
    parts: Vec<Part>,
    left: usize,
    error: Option<StoreError>,
}

impl LogStore {
    pub(super) fn start_read(
        &mut self,
        ticket: Ticket,
        pg: PgId,
        object: &ObjectName,
        offset: u64,
        length: u64,
    ) {
        if self.failed.is_some() {
            return; // the caller was told that nothing more comes
        }
        let planned = self.plan(pg, object, offset, length);
        let (parts, requests) = match planned {
            Ok(planned) => planned,
            Err(error) => {
                self.answers.push(Completion::Read { ticket, result: Err(error) });
                self.kick();
                return;
            }
        };
        let job = self.next_read;
        self.next_read += 1;
        let left = requests.len();
        for (part, offset, bytes) in requests {
            self.waiting.push_back(Waiting::Read { job, part, offset, bytes });
        }
        let what = format!("{pg} {object}");
        let job_state = ReadJob { ticket, what, parts, left, error: None };
        if left == 0 {
            self.answers.push(job_state.answer());
        } else {
            self.reads.insert(job, job_state);
        }
        self.kick();
    }

    #[allow(clippy::type_complexity)] // parts, and for some of them: index, offset, bytes
    fn plan(
        &self,
        pg: PgId,
        object: &ObjectName,
        offset: u64,
        length: u64,
    ) -> Result<(Vec<Part>, Vec<(usize, u64, usize)>), StoreError> {
        let (mut parts, mut requests) = (Vec::new(), Vec::new());
        let Some(onode) = self.onode(pg, object)? else { return Ok((parts, requests)) };
        let end = match length {
            0 => onode.info.size,
            length => onode.info.size.min(offset.saturating_add(length)),
        };
        let mut at = offset;
        for (start, piece, from, to) in within(&onode.pieces, offset, end.max(offset)) {
            let mut from = from;
            let first = start + u64::from(from);
            if first > at {
                parts.push(Part::Zero((first - at) as usize));
            }
            at = start + u64::from(to);
            while from < to {
                // Parts end with a block, so that no block is read twice.
                let skew = (piece.skip + from) % (1 << piece.shift);
                let next = to.min(from + PART_BYTES_MAX - skew);
                let next = self.whole_run(piece, from, next);
                self.plan_piece(piece.cut(from, next), &mut parts, &mut requests)?;
                from = next;
            }
        }
        if end > at {
            parts.push(Part::Zero((end - at) as usize));
        }
        Ok((parts, requests))
    }

    /// The run that is still being written and has this byte of the file.
    fn unwritten_run(&self, offset: u64) -> Option<(u64, &UnwrittenRun)> {
        let (run, unwritten) = self.unwritten_runs.range(..=offset).next_back()?;
        (offset < run + unwritten.data.len() as u64).then_some((*run, unwritten))
    }

    /// Whether any byte of a range of the file is still being written.
    pub(super) fn is_unwritten(&self, from: u64, to: u64) -> bool {
        self.unwritten_run(from).is_some() || self.unwritten_runs.range(from..to).next().is_some()
    }

    /// How far a part from `from` may go, at most to `to`, so that it is wholly in one run that is still
    /// being written, or in none: pieces that follow each other were joined, and one may be written already.
    fn whole_run(&self, piece: &Piece, from: u32, to: u32) -> u32 {
        let Place::Disk { offset } = piece.place else { return to };
        let start = offset + u64::from(piece.skip) + u64::from(from);
        let end = start + u64::from(to - from);
        let bound = match self.unwritten_run(start) {
            Some((run, unwritten)) => run + unwritten.data.len() as u64,
            None => match self.unwritten_runs.range(start..).next() {
                Some((run, _)) => *run,
                None => return to,
            },
        };
        from + (end.min(bound) - start) as u32
    }

    fn plan_piece(
        &self,
        piece: Piece,
        parts: &mut Vec<Part>,
        requests: &mut Vec<(usize, u64, usize)>,
    ) -> Result<(), StoreError> {
        let offset = match piece.place {
            Place::Disk { offset } => {
                let wanted = offset + u64::from(piece.skip);
                if let Some((run, unwritten)) = self.unwritten_run(wanted) {
                    let at = (wanted - run) as usize;
                    let bytes = unwritten.data.slice(at..at + piece.length as usize);
                    parts.push(Part::Ready(bytes));
                    return Ok(());
                }
                offset
            }
            Place::Log { seq, offset } => {
                if let Some(data) = self.unwritten.get(&seq) {
                    let bytes = from_memory(data, offset + piece.skip, piece.length);
                    parts.push(Part::Ready(bytes));
                    return Ok(());
                }
                let data = self.segments.locate(seq);
                let lost = || StoreError::Damaged(format!("batch {seq} is not in the log"));
                data.ok_or_else(lost)? + u64::from(offset)
            }
        };
        let aligned = offset / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
        let before = (offset - aligned) as usize;
        let bytes = (before + piece.stored as usize).next_multiple_of(BLOCK_BYTES);
        if aligned + bytes as u64 > self.disk.size() {
            return Err(StoreError::Damaged(format!(
                "offset {offset} is beyond the end of the file"
            )));
        }
        requests.push((parts.len(), aligned, bytes));
        parts.push(Part::Disk(piece, before));
        Ok(())
    }

    pub(super) fn handle_read(
        &mut self,
        job: u64,
        index: usize,
        result: Result<Option<Buffer>, DiskError>,
    ) {
        let Some(read) = self.reads.get_mut(&job) else { return };
        read.left -= 1;
        let verified = match (&read.parts[index], result) {
            (Part::Disk(piece, before), Ok(Some(buffer))) => {
                let end = before + piece.stored as usize;
                let stored = Bytes::from_owner(buffer).slice(*before..end);
                match piece.verify(&stored) {
                    true => Ok(Part::Ready(wanted(piece, &stored))),
                    false => Err(format!("{}: checksum mismatch at {:?}", read.what, piece.place)),
                }
            }
            (_, Err(e)) => Err(format!("{}: {e}", read.what)),
            (part, Ok(_)) => Err(format!("{}: an answer without question: {part:?}", read.what)),
        };
        match verified {
            Ok(part) => read.parts[index] = part,
            Err(why) => {
                self.counters.damaged += 1;
                read.error.get_or_insert(StoreError::Damaged(why));
            }
        }
        if read.left == 0
            && let Some(read) = self.reads.remove(&job)
        {
            self.answers.push(read.answer());
        }
    }
}

impl ReadJob {
    fn answer(mut self) -> Completion {
        let ticket = self.ticket;
        if let Some(error) = self.error {
            return Completion::Read { ticket, result: Err(error) };
        }
        if let [Part::Ready(_)] = &self.parts[..]
            && let Some(Part::Ready(bytes)) = self.parts.pop()
        {
            return Completion::Read { ticket, result: Ok(bytes) };
        }
        let length = self.parts.iter().map(|part| match part {
            Part::Zero(length) => *length,
            Part::Ready(bytes) => bytes.len(),
            Part::Disk(piece, _) => piece.length as usize,
        });
        let mut whole = BytesMut::with_capacity(length.sum());
        for part in &self.parts {
            match part {
                Part::Zero(length) => whole.resize(whole.len() + length, 0),
                Part::Ready(bytes) => whole.extend_from_slice(bytes),
                Part::Disk(..) => unreachable!("all parts were answered"),
            }
        }
        Completion::Read { ticket, result: Ok(whole.freeze()) }
    }
}

/// Bytes of a batch's data, which is in parts.
fn from_memory(data: &[Bytes], offset: u32, length: u32) -> Bytes {
    let (mut skip, mut left) = (offset as usize, length as usize);
    let mut out = BytesMut::new();
    for part in data {
        if skip >= part.len() {
            skip -= part.len();
            continue;
        }
        let end = part.len().min(skip + left);
        if out.is_empty() && end - skip == left {
            return part.slice(skip..end);
        }
        out.extend_from_slice(&part[skip..end]);
        left -= end - skip;
        skip = 0;
        if left == 0 {
            break;
        }
    }
    out.freeze()
}
