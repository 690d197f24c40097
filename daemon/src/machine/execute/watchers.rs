//! Watchers as they are kept with an object: hidden xattrs, so that they are replicated, recovered and
//! removed with it, and a new primary has them.
//!
//! | name | bytes |
//! |---|---|
//! | prefix | `\0watch\0` |
//! | client, cookie | 8 each, big endian |
//!
//! The value is a [`Watcher`] in the codec. Names that begin with `\0` are the daemon's own: clients neither
//! see nor set them.

use super::Abort;
use super::transaction::Transaction;
use bytes::Bytes;
use store_base::codec::{Decode, Encode};
use store_base::op::{Watcher, errno};

const PREFIX: &[u8] = b"\0watch\0";

/// Most watchers of one object.
pub const WATCHERS_MAX: usize = 1024;

/// Whether an xattr is the daemon's own.
pub(super) fn is_hidden(name: &[u8]) -> bool {
    name.first() == Some(&0)
}

/// The xattr of a watch.
pub(super) fn key(client: u64, cookie: u64) -> Bytes {
    let mut key = PREFIX.to_vec();
    key.extend_from_slice(&client.to_be_bytes());
    key.extend_from_slice(&cookie.to_be_bytes());
    Bytes::from(key)
}

/// All watchers, by client and cookie.
pub(super) fn list(transaction: &Transaction<'_>) -> Result<Vec<Watcher>, Abort> {
    let xattrs = transaction.xattrs()?;
    let hidden = xattrs.into_iter().filter(|(name, _)| name.starts_with(PREFIX));
    let decoded =
        hidden.map(|(_, value)| Watcher::from_bytes(value).map_err(|_| Abort::Code(errno::EIO)));
    decoded.collect()
}

/// Registers a watch, or renews its timeout. Whether anything changed.
pub(super) fn register(
    transaction: &mut Transaction<'_>,
    watcher: &Watcher,
) -> Result<bool, Abort> {
    let key = key(watcher.client, watcher.cookie);
    let value = watcher.to_bytes();
    match transaction.xattr(&key)? {
        Some(there) if there == value => return Ok(false),
        Some(_) => {}
        None if list(transaction)?.len() >= WATCHERS_MAX => return Err(Abort::Code(errno::ENOSPC)),
        None => {}
    }
    transaction.set_xattr(key, Some(value))?;
    Ok(true)
}

/// Ends a watch. Whether it was registered.
pub(super) fn remove(
    transaction: &mut Transaction<'_>,
    client: u64,
    cookie: u64,
) -> Result<bool, Abort> {
    let key = key(client, cookie);
    if transaction.xattr(&key)?.is_none() {
        return Ok(false);
    }
    transaction.set_xattr(key, None)?;
    Ok(true)
}
