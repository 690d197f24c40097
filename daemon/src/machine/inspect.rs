//! What a store says of a placement group, for somebody who looks at it without being the daemon.

use super::catch_up::CatchUp;
use super::key as daemon_key;
use super::pg::{Synced, key};
use bytes::Bytes;
use std::collections::BTreeMap;
use store_base::codec::Decode;
use store_base::map::PgRecord;
use store_base::{ClusterId, DaemonId, Incarnation, Interval};

/// Who the daemon of a directory is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whose {
    /// Its id, if it ever got one.
    pub daemon: Option<DaemonId>,
    /// Its cluster.
    pub cluster: Option<ClusterId>,
    /// The last of its lives.
    pub incarnation: Option<Incarnation>,
}

/// What a copy of a placement group claims to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// The interval in which the daemon acts, with who leads and who is a member.
    pub confirmed: PgRecord,
    /// The last interval whose log it has.
    pub synced: Interval,
    /// It has all that it knows of: it is not catching up, nor about to. The map says whether that is all
    /// there is.
    pub complete: bool,
}

/// Reads a daemon's named values.
pub fn whose(named: impl Fn(&[u8]) -> Option<Bytes>) -> Whose {
    fn value<T: Decode>(bytes: Option<Bytes>) -> Option<T> {
        T::from_bytes(bytes?).ok()
    }
    Whose {
        daemon: value(named(daemon_key::ID)),
        cluster: value(named(daemon_key::CLUSTER)),
        incarnation: value(named(daemon_key::INCARNATION)),
    }
}

/// Reads what a daemon's placement group has as named values; the error names the one that is damaged.
pub fn claim(daemon: DaemonId, meta: &BTreeMap<Bytes, Bytes>) -> Result<Claim, String> {
    fn value<T: Decode + Default>(bytes: Option<&Bytes>, what: &[u8]) -> Result<T, String> {
        let damaged = |e| format!("{}: {e}", what.escape_ascii());
        bytes.map_or(Ok(T::default()), |bytes| T::from_bytes(bytes.clone()).map_err(damaged))
    }
    let catch_up = meta.get(key::CATCH_UP).map(|bytes| CatchUp::from_bytes(bytes.clone()));
    if let Some(Err(e)) = &catch_up {
        return Err(format!("{}: {e}", key::CATCH_UP.escape_ascii()));
    }
    let synced: Synced = value(meta.get(key::SYNCED), key::SYNCED)?;
    let confirmed: PgRecord = value(meta.get(key::CONFIRMED), key::CONFIRMED)?;
    let is_behind = confirmed.learners.contains(&daemon) && synced.interval < confirmed.interval;
    let complete = catch_up.is_none() && !is_behind;
    Ok(Claim { confirmed, synced: synced.interval, complete })
}
