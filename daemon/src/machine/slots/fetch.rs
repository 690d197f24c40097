//! The member's side of reading: bytes of its shard for the primary.
//!
//! # Invariants
//!
//! - What is answered is of exactly the version that was asked for, or nothing is.
//! - At most `reads_max` requests of a group are under way; the primary asks again for what was dropped.

use crate::machine::core::{Core, Pending};
use crate::machine::message::PeerMessage;
use crate::machine::pg::{Pg, Role};
use crate::store::{Store, StoreError};
use bytes::Bytes;
use store_base::{DaemonId, ObjectName, Version};

/// What a primary asks. See [`PeerMessage::Fetch`].
#[derive(Clone, Debug)]
pub(crate) struct Fetch {
    pub(crate) number: u64,
    pub(crate) object: ObjectName,
    pub(crate) version: Version,
    pub(crate) as_of: Version,
    pub(crate) ranges: Vec<(u64, u64)>,
}

/// Reads under way for a primary.
#[derive(Debug)]
pub(crate) struct Fetching {
    to: DaemonId,
    object: ObjectName,
    data: Vec<Option<Bytes>>,
}

impl Pg {
    /// The primary wants bytes of the shard here.
    pub(crate) fn handle_fetch<S: Store>(
        &mut self,
        core: &mut Core<S>,
        from: DaemonId,
        fetch: Fetch,
    ) {
        match &self.role {
            Role::Replica(replica) if replica.synced && !replica.is_learner => {}
            _ => return,
        }
        let is_full = self.fetches.len() >= core.config.reads_max;
        if self.fetches.contains_key(&fetch.number) || is_full {
            return;
        }
        self.apply_to(core, fetch.as_of);
        if self.log.applied() < fetch.as_of {
            return; // asked for again
        }
        let here = core.store.info(self.id, &fetch.object).ok().flatten();
        let is_right = here.is_some_and(|info| info.version == fetch.version);
        if !is_right || self.damaged.contains_key(&fetch.object) || fetch.ranges.is_empty() {
            return self.answer_fetch(core, from, fetch.number, None);
        }
        for (index, (offset, length)) in fetch.ranges.iter().enumerate() {
            let ticket = core.ticket(Pending::FetchRead(self.id, fetch.number, index));
            core.store.read(ticket, self.id, &fetch.object, *offset, *length);
        }
        let data = vec![None; fetch.ranges.len()];
        self.fetches.insert(fetch.number, Fetching { to: from, object: fetch.object, data });
    }

    fn answer_fetch<S: Store>(
        &self,
        core: &mut Core<S>,
        to: DaemonId,
        number: u64,
        data: Option<Vec<Bytes>>,
    ) {
        let (pg, interval) = (self.id, self.interval());
        core.send(to, PeerMessage::Fetched { pg, interval, number, data });
    }

    /// Bytes for the primary have been read.
    pub(crate) fn handle_fetch_read<S: Store>(
        &mut self,
        core: &mut Core<S>,
        number: u64,
        index: usize,
        result: Result<Bytes, StoreError>,
    ) {
        let Some(fetching) = self.fetches.get_mut(&number) else { return };
        match result {
            Ok(bytes) => fetching.data[index] = Some(bytes),
            Err(error) => {
                let (to, object) = (fetching.to, fetching.object.clone());
                self.fetches.remove(&number);
                self.answer_fetch(core, to, number, None);
                match error {
                    StoreError::Damaged(why) => {
                        tracing::warn!(pg = %self.id, %object, why, "damaged");
                        self.repair(core, &object);
                    }
                    StoreError::Failed(_) => core.fail(&error),
                    _ => {}
                }
                return;
            }
        }
        if fetching.data.iter().all(Option::is_some)
            && let Some(Fetching { to, data, .. }) = self.fetches.remove(&number)
        {
            let data: Vec<Bytes> = data.into_iter().flatten().collect();
            core.earn(data.iter().map(Bytes::len).sum());
            self.answer_fetch(core, to, number, Some(data));
        }
    }
}
