//! The queue of events of a shard. An event is recorded in the transaction of its change and leaves when it was
//! delivered, so none is lost, and one may be delivered twice. The numbers are the order of the changes.
//!
//! The queue is bounded: where it is full, a change that somebody wants to be told of is refused. To drop events
//! would be to break the promise; to keep them all would let one dead endpoint fill the index.

use super::index::{allowed, open_head, store_head};
use super::locks::lock_clock;
use super::*;

/// Most events of one reply.
const EVENTS_PER_REPLY: usize = 200;

fn event_key(number: u64) -> Bytes {
    key_in(b'q', &number.to_be_bytes())
}

/// Whether the queue takes what a change might add.
pub(super) fn check_room(head: &ShardHead, notes: Option<&Notes>) -> Done<()> {
    let more = notes.map_or(0, |notes| notes.notices.len() as u64);
    match more > 0 && head.events.saturating_add(more) > EVENTS_MAX {
        true => Err(Refusal::QueueFull {}),
        false => Ok(()),
    }
}

/// Records the events of a change. The caller stores the head.
pub(super) fn record(
    context: &mut dyn ClassContext,
    head: &mut ShardHead,
    notes: Option<&Notes>,
    key: &[u8],
    entry: &Entry,
    marker: bool,
) -> Result<(), ClassError> {
    let Some(notes) = notes else { return Ok(()) };
    for notice in notes.notices.iter().filter(|notice| notice.marker == marker) {
        head.event = next_number(head.event)?;
        head.events += 1;
        let record = EventRecord {
            key: Bytes::copy_from_slice(key),
            entry: entry.clone(),
            notice: notice.clone(),
            at_ms: lock_clock(context),
            requester: notes.requester.clone(),
            address: notes.address.clone(),
            request: notes.request.clone(),
        };
        context.set_omap(event_key(head.event), record.to_bytes());
    }
    Ok(())
}

pub(super) fn events(
    context: &mut dyn ClassContext,
    input: Events,
) -> Result<Answer<Vec<(u64, EventRecord)>>, ClassError> {
    allowed!(open_head(context)?);
    let from = event_key(input.after.saturating_add(1));
    let max = (input.max as usize).min(EVENTS_PER_REPLY);
    let (mut found, mut reply) = (Vec::new(), Reply::default());
    for (key, value) in context.omap_range(&from, &space_end(b'q'), max)? {
        if !reply.takes(value.len()) {
            break;
        }
        let number = key.get(2..).and_then(|number| number.try_into().ok());
        let number = number.ok_or_else(|| ClassError::Damaged("the key of an event".into()))?;
        found.push((u64::from_be_bytes(number), stored(value)?));
    }
    Ok(Answer(Ok(found)))
}

pub(super) fn delivered(
    context: &mut dyn ClassContext,
    input: Delivered,
) -> Result<Answer<Nothing>, ClassError> {
    let mut head = allowed!(open_head(context)?);
    for number in input.events.into_iter().take(EVENTS_PER_REPLY) {
        let key = event_key(number);
        if context.omap_value(&key)?.is_some() {
            context.remove_omap(&key);
            head.events = head.events.saturating_sub(1);
        }
    }
    store_head(context, &head);
    Ok(Answer(Ok(Nothing {})))
}
