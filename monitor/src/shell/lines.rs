//! Which daemon beats by which connection. A process that dies leaves its connections to the kernel, which closes
//! them at once: so its end is seen before its beats are missed. Every daemon subscribes to maps by the connection
//! by which it beats, so it is the end of the subscription that is watched.

use super::driver::{Mail, Mailbox};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use store_base::ids::{DaemonId, Incarnation};

type Life = (DaemonId, Incarnation);

/// By the far end of a connection with a subscription: the daemon that beat last by it.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines {
    by_address: Arc<Mutex<BTreeMap<SocketAddr, Option<Life>>>>,
}

impl Lines {
    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<SocketAddr, Option<Life>>) -> T) -> T {
        // Whole at every moment, so a panic elsewhere does no harm.
        act(&mut self.by_address.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A subscription begins. Its end is what drops the value.
    pub(super) fn open(&self, from: Option<SocketAddr>, mailbox: Mailbox) -> Line {
        if let Some(address) = from {
            self.with(|lines| *lines.entry(address).or_default() = None);
        }
        Line { lines: self.clone(), from, mailbox }
    }

    /// A daemon beats. Connections without a subscription are not kept, so there are no more than those.
    pub(super) fn beat(&self, from: Option<SocketAddr>, life: Life) {
        let Some(address) = from else { return };
        self.with(|lines| {
            if let Some(line) = lines.get_mut(&address) {
                *line = Some(life);
            }
        });
    }
}

/// One subscription's connection.
#[derive(Debug)]
pub(super) struct Line {
    lines: Lines,
    from: Option<SocketAddr>,
    mailbox: Mailbox,
}

impl Drop for Line {
    fn drop(&mut self) {
        let Some(address) = self.from else { return };
        if let Some((daemon, incarnation)) =
            self.lines.with(|lines| lines.remove(&address)).flatten()
        {
            // If the mailbox is full the missing beats tell, somewhat later.
            let _ = self.mailbox.try_send(Mail::Disconnected(daemon, incarnation));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    #[test]
    fn the_end_of_a_line_names_who_beat_by_it_last() {
        let (mailbox, mut mails) = mpsc::channel(8);
        let lines = Lines::default();
        let address = |port: u16| Some(SocketAddr::from(([127, 0, 0, 1], port)));
        let life = |id: i32| (DaemonId(id), Incarnation(1));
        lines.beat(address(1), life(7)); // no subscription: not kept
        let (first, second) =
            (lines.open(address(1), mailbox.clone()), lines.open(address(2), mailbox.clone()));
        let (nobody, plain) = (lines.open(address(3), mailbox.clone()), lines.open(None, mailbox));
        lines.beat(address(1), life(1));
        lines.beat(address(2), life(2));
        lines.beat(None, life(3));
        drop((nobody, plain));
        assert!(mails.try_recv().is_err(), "others come and go");
        drop(first);
        assert!(matches!(mails.try_recv(), Ok(Mail::Disconnected(id, _)) if id == DaemonId(1)));
        drop(second);
        assert!(matches!(mails.try_recv(), Ok(Mail::Disconnected(id, _)) if id == DaemonId(2)));
        assert!(lines.with(|lines| lines.is_empty()));
    }
}
