//! Room on the media of others: what a primary may still have them store.
//!
//! A member without room for an entry that its primary has accepted would keep the whole group waiting, and with
//! it the deletes behind that entry, which could make room. So each daemon promises every peer, with its pongs, an
//! equal share of the room that it has, and a primary refuses what is more than any member has promised it. What is
//! accepted may use room that members keep for deletes ([`Write::Follow`](crate::store::Write::Follow)), which covers
//! what cannot be foretold: how bytes fall into blocks, and what the index makes of them.
//!
//! Invariants: the promises of one moment together are at most the room of that moment. A promise counts against
//! all that was sent since the ping before the one that brought it: earlier messages have arrived.

use super::core::Core;
use super::log::mutation_bytes;
use crate::store::{Mutation, Store};
use store_base::DaemonId;

/// What an entry takes besides its bytes, at most: a block for each end of its data, and its place in log and index.
const ENTRY_ROOM_BYTES: u64 = 12 << 10;

/// What one daemon has promised to store for this one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Credit {
    /// Bytes; `None` before the first promise.
    promised: Option<u64>,
    /// Bytes sent since the promise was made.
    spent: u64,
    /// Bytes sent between the one before it and it.
    spent_before: u64,
}

impl Credit {
    /// A new promise.
    pub(crate) fn renew(&mut self, promised: u64) {
        self.promised = Some(promised);
        self.spent_before = std::mem::take(&mut self.spent);
    }

    fn covers(&self, bytes: u64) -> bool {
        let Some(promised) = self.promised else { return true };
        self.spent.saturating_add(self.spent_before).saturating_add(bytes) <= promised
    }

    fn spend(&mut self, bytes: u64) {
        self.spent = self.spent.saturating_add(bytes);
    }
}

/// What a mutation takes on each member.
pub(crate) fn cost(mutation: &Mutation) -> u64 {
    mutation_bytes(mutation) as u64 + ENTRY_ROOM_BYTES
}

impl<S: Store> Core<S> {
    /// What each peer may have this daemon store until the next promise.
    pub(crate) fn share_of_room(&self) -> u64 {
        self.store.room() / (self.peers.len() as u64 + 1)
    }

    /// Whether all of these daemons have room for so much.
    pub(crate) fn have_room(&self, mut of: impl Iterator<Item = DaemonId>, bytes: u64) -> bool {
        let covers = |daemon: DaemonId| match daemon == self.me {
            true => self.credit.covers(bytes),
            false => self.peers.get(&daemon).is_none_or(|peer| peer.credit.covers(bytes)),
        };
        of.all(covers)
    }

    /// Counts what is sent to a daemon, or stored here.
    pub(crate) fn spend_room(&mut self, at: DaemonId, bytes: u64) {
        match at == self.me {
            true => self.credit.spend(bytes),
            false => {
                if let Some(peer) = self.peers.get_mut(&at) {
                    peer.credit.spend(bytes);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_counts_against_what_may_not_have_arrived_when_it_was_made() {
        let mut credit = Credit::default();
        assert!(credit.covers(u64::MAX), "nothing was promised or refused yet");
        credit.renew(100);
        assert!(credit.covers(100) && !credit.covers(101));
        credit.spend(60);
        assert!(credit.covers(40) && !credit.covers(41));
        credit.renew(100);
        assert!(credit.covers(40) && !credit.covers(41), "the 60 may be on their way");
        credit.renew(100);
        assert!(credit.covers(100), "they have arrived before this promise");
        credit.renew(0);
        assert!(!credit.covers(1));
    }
}
