//! The medium by io_uring, on a ring of the shard's own: no thread between the shard and the kernel.
//!
//! Buffers are owned by the ring from submission to completion; a ring that is dropped first waits for
//! everything that is under way.
#![allow(unsafe_code)] // the kernel is handed pointers into buffers

use super::file::{DataFile, Wake, available, failed, grow};
use super::{Disk, DiskError, Done, Durability, Request};
use io_uring::types::{Fixed, FsyncFlags};
use io_uring::{IoUring, opcode, squeue};
use rustix::io::Errno;
use std::collections::{HashMap, VecDeque};
use std::os::fd::AsRawFd;
use std::sync::Arc;

/// Entries of the submission queue; what does not fit waits.
const ENTRIES: u32 = 128;

/// The data file, as the ring knows it.
const FILE: Fixed = Fixed(0);

/// Marks the answer of a flush that was linked behind a write.
const LINKED: u64 = 1 << 63;

struct Open {
    request: Request,
    /// Bytes done so far: the kernel may do a part.
    done: usize,
    /// A linked flush follows, whose answer ends the request.
    linked: bool,
    /// How the write went, while the linked flush is under way.
    written: Option<i32>,
}

/// A [`Disk`] by io_uring.
pub(super) struct Ring {
    ring: IoUring,
    file: Arc<DataFile>,
    size: u64,
    /// By a number of the ring's own: ids of the caller may repeat.
    open: HashMap<u64, (u64, Open)>,
    next: u64,
    /// Waits for room in the submission queue.
    backlog: VecDeque<u64>,
    unsubmitted: usize,
    /// Entries that the kernel has.
    entries: usize,
    dead: Option<DiskError>,
    answers: Vec<Done>,
    /// Requests of a ring that failed.
    abandoned: Vec<Open>,
}

impl Ring {
    /// Makes a ring and tries it on the file.
    pub(super) fn new(file: Arc<DataFile>, size: u64, wake: &Wake) -> std::io::Result<Ring> {
        use std::os::fd::AsFd;
        let ring = IoUring::builder().setup_coop_taskrun().build(ENTRIES).or_else(|_| {
            // Kernels before 5.19 do not know the flag.
            IoUring::new(ENTRIES)
        })?;
        ring.submitter().register_files(&[file.fd.as_raw_fd()])?;
        ring.submitter().register_eventfd(wake.as_fd().as_raw_fd())?;
        let mut probe = io_uring::Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        let needed = [opcode::Read::CODE, opcode::Write::CODE, opcode::Fsync::CODE];
        if !needed.iter().all(|code| probe.is_supported(*code)) {
            return Err(std::io::Error::other("the kernel's io_uring lacks read, write or fsync"));
        }
        Ok(Ring {
            ring,
            file,
            size,
            open: HashMap::new(),
            next: 0,
            backlog: VecDeque::new(),
            unsubmitted: 0,
            entries: 0,
            dead: None,
            answers: Vec::new(),
            abandoned: Vec::new(),
        })
    }

    /// Hands the kernel what is left of a request.
    fn push(&mut self, number: u64) {
        // A linked pair needs two entries, and completions must never overflow.
        if self.entries + 2 > ENTRIES as usize {
            self.backlog.push_back(number);
            return;
        }
        let Some((_, open)) = self.open.get_mut(&number) else { return };
        let done = open.done;
        let mut entries: [Option<squeue::Entry>; 2] = [None, None];
        match &mut open.request {
            Request::Flush => {
                entries[0] = Some(opcode::Fsync::new(FILE).flags(FsyncFlags::DATASYNC).build());
            }
            Request::Read { offset, buffer } => {
                let rest = &mut buffer[done..];
                let read = opcode::Read::new(FILE, rest.as_mut_ptr(), rest.len() as u32);
                entries[0] = Some(read.offset(*offset + done as u64).build());
            }
            Request::Write { offset, buffer, durability } => {
                let rest = &buffer[done..];
                let write = opcode::Write::new(FILE, rest.as_ptr(), rest.len() as u32);
                let write = write.offset(*offset + done as u64);
                entries[0] = Some(match durability {
                    Durability::None => write.build(),
                    // A write with RWF_DSYNC would do for `Own`, and saves a lone writer some 60 µs on a quiet
                    // machine. But the kernel ends it on a work queue that has to compete with everything
                    // else for a CPU: on a busy one it took ten times as long as write and fdatasync.
                    Durability::Own | Durability::All => {
                        open.linked = true;
                        let flush = opcode::Fsync::new(FILE).flags(FsyncFlags::DATASYNC).build();
                        entries[1] = Some(flush.user_data(number | LINKED));
                        write.build().flags(squeue::Flags::IO_LINK)
                    }
                });
            }
        }
        let first = entries[0].take().map(|entry| entry.user_data(number));
        for entry in first.into_iter().chain(entries[1].take()) {
            // SAFETY: the entry points into a buffer that is kept in `open` until the kernel has answered
            // it: completed requests only are taken out, and `drop` waits for all of them. A buffer's bytes
            // are on the heap and do not move with it.
            let pushed = unsafe { self.ring.submission().push(&entry) };
            assert!(pushed.is_ok(), "the submission queue has room for what is counted");
            self.entries += 1;
            self.unsubmitted += 1;
        }
    }

    fn submit_all(&mut self) {
        while self.unsubmitted > 0 {
            match self.ring.submit() {
                Ok(taken) => self.unsubmitted -= taken.min(self.unsubmitted),
                Err(e) if e.raw_os_error() == Some(Errno::INTR.raw_os_error()) => {}
                // The kernel wants its completions taken first; or it has no memory just now.
                Err(e)
                    if matches!(
                        e.raw_os_error().map(Errno::from_raw_os_error),
                        Some(Errno::BUSY | Errno::AGAIN)
                    ) =>
                {
                    return;
                }
                Err(e) => {
                    self.dead =
                        Some(DiskError::Failed(format!("io_uring takes nothing any more: {e}")));
                    return;
                }
            }
        }
    }

    fn reap(&mut self) {
        loop {
            let Some(entry) = self.ring.completion().next() else { break };
            self.entries -= 1;
            self.complete(entry.user_data(), entry.result());
        }
        while self.entries + 2 <= ENTRIES as usize
            && let Some(number) = self.backlog.pop_front()
        {
            self.push(number);
        }
    }

    fn complete(&mut self, data: u64, result: i32) {
        let number = data & !LINKED;
        let Some((id, mut open)) = self.open.remove(&number) else { return };
        if open.linked && data & LINKED == 0 {
            open.written = Some(result);
            self.open.insert(number, (id, open));
            return;
        }
        let flushed = (data & LINKED != 0).then_some(result);
        let result = match flushed {
            Some(_) => open.written.take().unwrap_or(-(Errno::IO.raw_os_error())),
            None => result,
        };
        match outcome(&mut open, result, flushed) {
            Outcome::Again => {
                open.linked = false;
                self.open.insert(number, (id, open));
                self.push(number);
            }
            Outcome::Done(result) => {
                let buffer = match open.request {
                    Request::Flush => None,
                    Request::Read { buffer, .. } | Request::Write { buffer, .. } => Some(buffer),
                };
                self.answers.push(Done { id, result: result.map(|()| buffer) });
            }
        }
    }
}

enum Outcome {
    Again,
    Done(Result<(), DiskError>),
}

fn outcome(open: &mut Open, result: i32, flushed: Option<i32>) -> Outcome {
    let error = |code: i32| Errno::from_raw_os_error(-code);
    let is_again = |code: i32| matches!(error(code), Errno::INTR | Errno::AGAIN | Errno::CANCELED);
    let length = match &open.request {
        Request::Flush => {
            return match result {
                0.. => Outcome::Done(Ok(())),
                code if is_again(code) => Outcome::Again,
                code => Outcome::Done(Err(failed("flush the disk", error(code)))),
            };
        }
        Request::Read { buffer, .. } | Request::Write { buffer, .. } => buffer.len(),
    };
    let reads = matches!(open.request, Request::Read { .. });
    match result {
        code if code < 0 && is_again(code) => return Outcome::Again,
        code if code < 0 && reads => {
            let why = std::io::Error::from(error(code)).to_string();
            return Outcome::Done(Err(DiskError::Unreadable(why)));
        }
        code if code < 0 => return Outcome::Done(Err(failed("write to the disk", error(code)))),
        0 if reads => {
            return Outcome::Done(Err(DiskError::Unreadable("the file ends early".into())));
        }
        0 => return Outcome::Done(Err(DiskError::Failed("the disk takes no bytes".into()))),
        bytes => open.done += bytes as usize,
    }
    if open.done < length {
        return Outcome::Again;
    }
    match flushed {
        None | Some(0..) => Outcome::Done(Ok(())),
        Some(code) => Outcome::Done(Err(failed("flush the disk", error(code)))),
    }
}

impl Disk for Ring {
    fn submit(&mut self, id: u64, request: Request) {
        let number = self.next;
        self.next += 1;
        let open = Open { request, done: 0, linked: false, written: None };
        self.open.insert(number, (id, open));
        self.push(number);
    }

    fn kick(&mut self) {
        self.submit_all();
    }

    fn poll(&mut self, done: &mut Vec<Done>) {
        self.reap();
        self.submit_all();
        done.append(&mut self.answers);
        if let Some(error) = &self.dead {
            // Nobody knows what of this the kernel has taken: it may still use the buffers, which stay.
            self.backlog.clear();
            for (id, _) in self.open.values() {
                done.push(Done { id: *id, result: Err(error.clone()) });
            }
            self.abandoned
                .extend(std::mem::take(&mut self.open).into_values().map(|(_, open)| open));
        }
    }

    fn wait(&mut self) {
        if self.answers.is_empty() && self.entries > 0 {
            // An error or an interruption shows when the caller polls.
            if self.ring.submit_and_wait(1).is_ok() {
                self.unsubmitted = 0;
            }
        }
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn grow(&mut self, size: u64) -> Result<(), DiskError> {
        if size > self.size {
            grow(&self.file, self.size, size)?;
            self.size = size;
        }
        Ok(())
    }

    fn available(&self) -> u64 {
        available(&self.file)
    }

    fn engine(&self) -> &'static str {
        if self.file.direct { "io_uring" } else { "io_uring, buffered" }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.backlog.clear();
        while self.entries > 0 && self.dead.is_none() {
            self.submit_all();
            if self.ring.submit_and_wait(1).is_ok() {
                self.unsubmitted = 0;
            }
            while self.ring.completion().next().is_some() {
                self.entries -= 1;
            }
        }
        if self.dead.is_some() {
            // The kernel may still write to buffers of a ring that failed: they are given up, not freed.
            std::mem::forget(std::mem::take(&mut self.open));
            std::mem::forget(std::mem::take(&mut self.abandoned));
        }
    }
}
