//! Frees what is kept long from the frame that it arrived in.
//!
//! Decoded byte strings are slices of a frame of up to a megabyte. Names and results stay in the log for
//! thousands of entries: each would keep its whole frame in memory. They are copied; bytes that are written
//! soon stay slices.

use crate::machine::PeerMessage;
use crate::store::LogEntry;
use bytes::Bytes;
use store_base::ObjectName;
use store_base::op::Request;

fn detach_bytes(bytes: &mut Bytes) {
    if !bytes.is_empty() {
        *bytes = Bytes::copy_from_slice(bytes);
    }
}

fn detach_name(name: &mut ObjectName) {
    detach_bytes(&mut name.namespace);
    detach_bytes(&mut name.locator);
    detach_bytes(&mut name.name);
}

fn detach_entry(entry: &mut LogEntry) {
    detach_name(&mut entry.object);
    for result in &mut entry.results {
        detach_bytes(&mut result.data);
    }
}

/// Of a client's request.
pub(crate) fn request(request: &mut Request) {
    detach_name(&mut request.object);
}

/// Of another daemon's message.
pub(crate) fn message(message: &mut PeerMessage) {
    match message {
        PeerMessage::Replicate { entry, .. } => detach_entry(entry),
        PeerMessage::Sync { staged, .. } => staged.iter_mut().for_each(detach_entry),
        PeerMessage::Adopt { entries, staged, .. } => {
            entries.iter_mut().chain(staged).for_each(detach_entry);
        }
        PeerMessage::Pull { object, .. }
        | PeerMessage::Push { object, .. }
        | PeerMessage::PushAck { object, .. }
        | PeerMessage::PullRefused { object, .. } => detach_name(object),
        PeerMessage::Scanned { objects, .. } => {
            objects.iter_mut().for_each(|(name, _)| detach_name(name));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store_base::{Interval, PgId, Version};

    #[test]
    fn names_do_not_keep_their_frame() {
        let frame = Bytes::from(vec![b'x'; 100_000]);
        let object = ObjectName::new(frame.slice(500..510));
        let entry = LogEntry { object: object.clone(), ..LogEntry::default() };
        let mut replicate = PeerMessage::Replicate {
            pg: PgId::default(),
            interval: Interval(1),
            entry,
            committed: Version::ZERO,
        };
        let mut asked = Request { object, ..Request::default() };
        message(&mut replicate);
        request(&mut asked);
        // Both are equal to what they were, and the frame has no other owner left.
        let PeerMessage::Replicate { entry, .. } = &replicate else { unreachable!("as made") };
        assert_eq!((&entry.object, &entry.object.name[..]), (&asked.object, &b"xxxxxxxxxx"[..]));
        assert!(frame.try_into_mut().is_ok());
    }
}
