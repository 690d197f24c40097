//! The medium under the engine: requests with ids in, answers later.
//!
//! What the engine assumes of a medium, and nothing more:
//! - A write that was not made durable may be lost, done in part (any of its 512-byte sectors), or done
//!   before or after others, when the power goes.
//! - A write is durable as its [`Durability`] says once it was answered without error; a flush that
//!   failed promises nothing for ever after: the engine stops.
//! - What was written and answered is what is read afterwards in the same life, flushed or not.
//! - Bytes at rest may rot; every byte is checked against a checksum kept elsewhere.

pub mod buffer;
#[cfg(feature = "shell")]
pub mod file;
#[cfg(feature = "shell")]
mod pool;
#[cfg(feature = "shell")]
pub mod reader;
pub mod simulated;
#[cfg(feature = "shell")]
mod uring;

pub use buffer::{BLOCK_BYTES, Buffer, Pool, round_up};

/// What a write promises when it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Nothing until a later flush.
    None,
    /// This write is durable.
    Own,
    /// This write is durable, and all that were answered before it was submitted.
    All,
}

/// What is asked of a medium.
#[derive(Debug)]
pub enum Request {
    /// Fills the buffer.
    Read {
        /// A multiple of the block.
        offset: u64,
        /// Comes back filled.
        buffer: Buffer,
    },
    /// Writes the buffer.
    Write {
        /// A multiple of the block.
        offset: u64,
        /// Comes back as it was.
        buffer: Buffer,
        /// What the answer promises.
        durability: Durability,
    },
    /// Makes all writes durable that were answered before this was submitted.
    Flush,
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// These bytes cannot be read; others may.
    #[error("unreadable: {0}")]
    Unreadable(String),
    /// No room on the file system.
    #[error("{0}")]
    Full(String),
    /// The medium cannot be trusted any more.
    #[error("{0}")]
    Failed(String),
}

/// The answer to a request.
#[derive(Debug)]
pub struct Done {
    /// Of the request.
    pub id: u64,
    /// The request's buffer; none for a flush.
    pub result: Result<Option<Buffer>, DiskError>,
}

/// A medium of blocks.
pub trait Disk: Send {
    /// Takes a request; `kick` sets it going at the latest.
    fn submit(&mut self, id: u64, request: Request);

    /// Sets going all that was submitted.
    fn kick(&mut self);

    /// Moves answers onto `done`.
    fn poll(&mut self, done: &mut Vec<Done>);

    /// Waits until there may be an answer. Only for the opening of a store and for tools.
    fn wait(&mut self);

    /// Bytes that may be addressed now.
    fn size(&self) -> u64;

    /// Makes more bytes addressable. Their content is undefined; the growth is durable with the next flush,
    /// alone or with a write.
    fn grow(&mut self, size: u64) -> Result<(), DiskError>;

    /// By how much it could grow now.
    fn available(&self) -> u64;

    /// What does the work, for people.
    fn engine(&self) -> &'static str;
}
