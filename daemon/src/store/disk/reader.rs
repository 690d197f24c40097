//! A medium that is only looked at: for the offline check. What would write fails.
#![allow(clippy::disallowed_methods)] // disks are this file's business

use super::file::{FILE_NAME, cure, error_of};
use super::{BLOCK_BYTES, Disk, DiskError, Done, Request};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::Path;

/// The file of a directory, open for reading.
#[derive(Debug)]
pub struct ReadOnly {
    fd: OwnedFd,
    size: u64,
    answers: Vec<Done>,
}

impl ReadOnly {
    /// Opens the file of a directory. Past the page cache where the file system can: it is the medium that is
    /// looked at.
    pub fn open(directory: &Path) -> Result<ReadOnly, DiskError> {
        let path = directory.join(FILE_NAME);
        let wrong = |e: Errno| {
            DiskError::Failed(format!("cannot open {}: {}{}", path.display(), error_of(e), cure(e)))
        };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = match rustix::fs::open(&path, flags | OFlags::DIRECT, Mode::empty()) {
            Err(Errno::INVAL) => rustix::fs::open(&path, flags, Mode::empty()).map_err(wrong)?,
            other => other.map_err(wrong)?,
        };
        let size = rustix::fs::fstat(&fd).map_err(wrong)?.st_size as u64;
        let size = size / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
        Ok(ReadOnly { fd, size, answers: Vec::new() })
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), DiskError> {
        let mut at = 0;
        while at < out.len() {
            match rustix::io::pread(&self.fd, &mut out[at..], offset + at as u64) {
                Ok(0) => return Err(DiskError::Unreadable("the file ends before".into())),
                Ok(read) => at += read,
                Err(Errno::INTR) => {}
                Err(e) => return Err(DiskError::Unreadable(error_of(e).to_string())),
            }
        }
        Ok(())
    }
}

impl Disk for ReadOnly {
    fn submit(&mut self, id: u64, request: Request) {
        let result = match request {
            Request::Read { offset, mut buffer } => {
                self.read(offset, &mut buffer).map(|()| Some(buffer))
            }
            Request::Write { .. } | Request::Flush => {
                Err(DiskError::Failed("the file is open for reading only".into()))
            }
        };
        self.answers.push(Done { id, result });
    }

    fn kick(&mut self) {}

    fn poll(&mut self, done: &mut Vec<Done>) {
        done.append(&mut self.answers);
    }

    fn wait(&mut self) {}

    fn size(&self) -> u64 {
        self.size
    }

    fn grow(&mut self, _: u64) -> Result<(), DiskError> {
        Err(DiskError::Failed("the file is open for reading only".into()))
    }

    fn available(&self) -> u64 {
        0
    }

    fn engine(&self) -> &'static str {
        "read only"
    }
}
