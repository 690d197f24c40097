//! The sending side of a copy.
//!
//! # Invariants
//!
//! - The object does not change while its copy is sent: at the primary its writes wait, from before the
//!   last open entry of it was applied until the copy is whole or given up. Anywhere else the copy is given
//!   up if the object changed.
//! - At most `pushes_max` copies go out at a time over all groups, `pushes_busy_max` while clients are
//!   served; others wait their turn, a bounded number of them.
//! - At most `push_window` parts are under way per copy, and one read.

use super::places;
use crate::machine::config::Fault;
use crate::machine::core::{Core, Pending};
use crate::machine::message::PeerMessage;
use crate::machine::pg::{Pg, Role};
use crate::store::{Install, Store, StoreError};
use bytes::Bytes;
use std::collections::BTreeMap;
use store_base::object::ObjectInfo;
use store_base::{DaemonId, ObjectName, PgId, Time, Version};

/// How many omap entries are asked of the store at a time.
const OMAP_CHUNK: usize = 64;

/// A copy on its way out.
#[derive(Debug)]
pub(crate) struct Push {
    attempt: u64,
    object: ObjectName,
    /// Only this version is wanted.
    exact: Option<Version>,
    state: State,
    /// When it is given up.
    until: Time,
}

#[derive(Debug)]
enum State {
    /// Others go first.
    Queued,
    /// Open entries of the object must be applied first.
    Held,
    /// Parts are being sent.
    Running(Box<Running>),
}

#[derive(Debug)]
struct Running {
    info: ObjectInfo,
    /// Bytes of the object, or of the receiver's shard of it.
    data_bytes: u64,
    /// The bytes are made from those of other members.
    rebuilds: bool,
    as_of: Version,
    /// The next part.
    next: u32,
    /// Parts below this one were taken.
    acked: u32,
    source: Source,
    parts: Vec<Install>,
    bytes: usize,
    is_reading: bool,
}

/// Where the next bytes come from.
#[derive(Debug)]
enum Source {
    Xattrs { left: BTreeMap<Bytes, Bytes> },
    Omap { after: Option<Bytes> },
    Data { offset: u64 },
    End,
}

/// See [`PeerMessage::Push`].
#[derive(Clone, Debug)]
pub(crate) struct PushMessage {
    pub(crate) attempt: u64,
    pub(crate) index: u32,
    pub(crate) as_of: Version,
    pub(crate) parts: Vec<Install>,
}

impl Push {
    /// Whether writes of an object must wait for it.
    pub(crate) fn holds(&self, object: &ObjectName) -> bool {
        self.object == *object && !matches!(self.state, State::Queued)
    }

    fn has_slot(&self) -> bool {
        !matches!(self.state, State::Queued)
    }
}

impl Pg {
    /// Somebody wants a copy.
    pub(crate) fn handle_pull<S: Store>(
        &mut self,
        core: &mut Core<S>,
        from: DaemonId,
        object: ObjectName,
        attempt: u64,
        exact: Option<Version>,
    ) {
        let may = match &self.role {
            Role::Primary(primary) => {
                primary.members.contains_key(&from)
                    || primary.learners.contains_key(&from)
                    || (from == core.me && self.rebuilds())
            }
            // A shard is of no use to another slot.
            Role::Replica(_) if self.rebuilds() => false,
            Role::Replica(replica) => {
                let lacks = self.catch_up.as_ref().is_some_and(|c| c.lacks(&object));
                from == replica.primary && replica.synced && !lacks
            }
            Role::Idle => false,
        };
        let key = (from, object.clone());
        if !may {
            return self.refuse_pull(core, &key, attempt, false);
        }
        self.end_push(core, &key);
        if self.pushes.len() >= core.config.pushes_waiting_max {
            self.refuse_pull(core, &key, attempt, false);
            return;
        }
        let until = core.now + core.config.pull_timeout;
        self.pushes.insert(key, Push { attempt, object, exact, state: State::Queued, until });
        self.set_wake(core, until);
        self.start_pushes(core);
    }

    fn refuse_pull<S: Store>(
        &self,
        core: &mut Core<S>,
        key: &(DaemonId, ObjectName),
        attempt: u64,
        damaged: bool,
    ) {
        let (pg, interval, object) = (self.id, self.interval(), key.1.clone());
        let refused = PeerMessage::PullRefused { pg, interval, object, attempt, damaged };
        core.send(key.0, refused);
    }

    /// Begins queued copies as far as there is room.
    pub(crate) fn start_pushes<S: Store>(&mut self, core: &mut Core<S>) {
        let max = match core.is_busy() {
            true => core.config.pushes_busy_max,
            false => core.config.pushes_max,
        };
        let queued = self.pushes.iter().filter(|(_, push)| !push.has_slot());
        let queued: Vec<_> =
            queued.map(|(key, push)| (key.clone(), push.exact.is_some())).collect();
        core.pushes_wanted.remove(&self.id);
        let urgency = self.urgency();
        let max = places(max, urgency, &core.pushes_wanted);
        for (key, is_repair) in queued {
            // A reader waits for a repair.
            if !is_repair && (core.pushes_open >= max || !core.may_copy()) {
                core.pushes_wanted.insert(self.id, urgency);
                core.copy_later();
                continue;
            }
            core.pushes_open += 1;
            if let Some(push) = self.pushes.get_mut(&key) {
                push.state = State::Held;
            }
            self.begin_push(core, &key);
        }
    }

    /// Begins a copy, unless open entries of the object have to be applied first.
    fn begin_push<S: Store>(&mut self, core: &mut Core<S>, key: &(DaemonId, ObjectName)) {
        let object = &key.1;
        // Below min_size nothing becomes committed in this interval, so nothing is applied either.
        let is_writable = self.is_writable();
        let Some(push) = self.pushes.get_mut(key) else { return };
        if let Role::Primary(primary) = &self.role
            && (is_writable || self.slots.is_some())
            && primary.overlay.newest(object).is_some()
        {
            return;
        }
        let attempt = push.attempt;
        let as_of = self.log.applied();
        let read = core.store.info(self.id, object).and_then(|info| {
            let xattrs = core.store.xattrs(self.id, object)?;
            Ok((info, xattrs, core.store.omap_header(self.id, object)?))
        });
        let (info, xattrs, header) = match read {
            Ok((Some(info), xattrs, header)) => (info, xattrs, header),
            Ok((None, ..)) if push.exact.is_none() => {
                let parts = vec![Install::Abort {}];
                self.send_part(core, key, PushMessage { attempt, index: 0, as_of, parts });
                return self.end_push(core, key);
            }
            Ok((None, ..)) => {
                self.refuse_pull(core, key, attempt, false);
                return self.end_push(core, key);
            }
            Err(error) => return self.push_failed(core, key, &error),
        };
        if push.exact.is_some_and(|exact| exact != info.version) {
            self.refuse_pull(core, key, attempt, false);
            return self.end_push(core, key);
        }
        let mut parts = vec![Install::Start {}];
        let bytes = header.len();
        if !header.is_empty() {
            parts.push(Install::OmapHeader { data: header });
        }
        if push.exact.is_none() {
            core.spend(info.size);
        }
        let running = Running {
            data_bytes: match (&self.slots, self.confirmed.slot(key.0)) {
                (Some(layout), Some(slot)) => layout.shard_len(slot, info.size),
                _ => info.size,
            },
            rebuilds: self.slots.is_some(),
            info,
            as_of,
            next: 0,
            acked: 0,
            source: Source::Xattrs { left: xattrs },
            parts,
            bytes,
            is_reading: false,
        };
        push.state = State::Running(Box::new(running));
        self.pump(core, key);
    }

    /// Fills and sends parts as far as the window allows.
    fn pump<S: Store>(&mut self, core: &mut Core<S>, key: &(DaemonId, ObjectName)) {
        let (pg, object) = (self.id, &key.1);
        let part_bytes = core.config.push_part_bytes;
        let window = core.config.push_window;
        loop {
            let Some(push) = self.pushes.get_mut(key) else { return };
            let attempt = push.attempt;
            let State::Running(running) = &mut push.state else { return };
            if running.is_reading || running.next - running.acked >= window {
                return;
            }
            let is_sent = matches!(running.source, Source::End) && running.parts.is_empty();
            if is_sent {
                return;
            }
            let filled = running.fill(core, pg, object, part_bytes);
            match filled {
                Ok(Filled::Part) => {}
                Ok(Filled::Read { offset, length }) => {
                    running.is_reading = true;
                    if running.rebuilds {
                        running.reading_at(offset);
                        self.gather_push(core, key, attempt, (offset, length));
                        return;
                    }
                    let pending = Pending::PushRead(pg, key.0, object.clone(), attempt);
                    let ticket = core.ticket(pending);
                    running.reading_at(offset);
                    core.store.read(ticket, pg, object, offset, length);
                    return;
                }
                Err(error) => return self.push_failed(core, key, &error),
            }
            let is_same =
                core.store.info(pg, object).is_ok_and(|info| info.as_ref() == Some(&running.info));
            if !is_same {
                self.refuse_pull(core, key, attempt, false);
                return self.end_push(core, key);
            }
            let message = PushMessage {
                attempt,
                index: running.next,
                as_of: running.as_of,
                parts: std::mem::take(&mut running.parts),
            };
            running.next += 1;
            running.bytes = 0;
            self.send_part(core, key, message);
        }
    }

    fn send_part<S: Store>(
        &self,
        core: &mut Core<S>,
        key: &(DaemonId, ObjectName),
        message: PushMessage,
    ) {
        let PushMessage { attempt, index, as_of, parts } = message;
        let (pg, interval, object) = (self.id, self.interval(), key.1.clone());
        let push = PeerMessage::Push { pg, interval, object, attempt, index, as_of, parts };
        core.send(key.0, push);
    }

    /// Bytes for a copy have been read.
    pub(crate) fn handle_push_read<S: Store>(
        &mut self,
        core: &mut Core<S>,
        key: &(DaemonId, ObjectName),
        attempt: u64,
        result: Result<Bytes, StoreError>,
    ) {
        let Some(push) = self.pushes.get_mut(key) else { return };
        if push.attempt != attempt {
            return;
        }
        let State::Running(running) = &mut push.state else { return };
        match result {
            Ok(data) => {
                running.take(data);
                self.pump(core, key);
            }
            Err(_) if running.rebuilds => {
                // Not for a fault of this daemon's shard: others are looked at again when it is asked again.
                self.refuse_pull(core, key, attempt, true);
                self.end_push(core, key);
            }
            Err(error) => self.push_failed(core, key, &error),
        }
    }

    fn push_failed<S: Store>(
        &mut self,
        core: &mut Core<S>,
        key: &(DaemonId, ObjectName),
        error: &StoreError,
    ) {
        let damaged = matches!(error, StoreError::Damaged(_));
        tracing::warn!(pg = %self.id, object = %key.1, %error, "cannot send a copy");
        let attempt = self.pushes.get(key).map_or(0, |push| push.attempt);
        self.refuse_pull(core, key, attempt, damaged);
        self.end_push(core, key);
        if damaged {
            self.repair(core, &key.1);
        } else if matches!(error, StoreError::Failed(_)) {
            core.fail(error);
        }
    }

    /// The receiver is ready for more, or done.
    pub(crate) fn handle_push_ack<S: Store>(
        &mut self,
        core: &mut Core<S>,
        key: &(DaemonId, ObjectName),
        attempt: u64,
        next: u32,
        done: bool,
    ) {
        let until = core.now + core.config.pull_timeout;
        let Some(push) = self.pushes.get_mut(key) else { return };
        if push.attempt != attempt {
            return;
        }
        if done {
            core.done.objects_out += 1;
            return self.end_push(core, key);
        }
        push.until = until;
        if let State::Running(running) = &mut push.state {
            running.acked = running.acked.max(next.min(running.next));
        }
        self.pump(core, key);
    }

    /// A copy is over, one way or another: writes of the object go on, the next copy may begin.
    fn end_push<S: Store>(&mut self, core: &mut Core<S>, key: &(DaemonId, ObjectName)) {
        let Some(push) = self.pushes.remove(key) else { return };
        if push.has_slot() {
            core.pushes_open -= 1;
            core.attention.insert(self.id);
            core.attention.extend(core.pushes_wanted.keys());
        }
        self.retry_object(core, &key.1);
    }

    /// Entries were applied: copies that waited for them may begin.
    pub(crate) fn continue_held_pushes<S: Store>(&mut self, core: &mut Core<S>) {
        let held = self.pushes.iter().filter(|(_, push)| matches!(push.state, State::Held));
        let held: Vec<_> = held.map(|(key, _)| key.clone()).collect();
        held.iter().for_each(|key| self.begin_push(core, key));
    }

    /// Gives up copies that nobody takes.
    pub(crate) fn expire_pushes<S: Store>(&mut self, core: &mut Core<S>) {
        let over = self.pushes.iter().filter(|(_, push)| push.until <= core.now);
        let over: Vec<_> = over.map(|(key, _)| key.clone()).collect();
        over.iter().for_each(|key| self.end_push(core, key));
        if let Some(until) = self.pushes.values().map(|push| push.until).min() {
            self.set_wake(core, until);
        }
    }

    pub(crate) fn stop_pushes<S: Store>(&mut self, core: &mut Core<S>) {
        let slots = self.pushes.values().filter(|push| push.has_slot()).count();
        core.pushes_open -= slots;
        self.pushes.clear();
        core.pushes_wanted.remove(&self.id);
        core.attention.extend(core.pushes_wanted.keys());
    }
}

/// What `Running::fill` came to.
enum Filled {
    /// The part can be sent.
    Part,
    /// Bytes must be read first.
    Read { offset: u64, length: u64 },
}

impl Running {
    /// Adds to the part until it is large enough or everything is in it.
    fn fill<S: Store>(
        &mut self,
        core: &Core<S>,
        pg: PgId,
        object: &ObjectName,
        part_bytes: usize,
    ) -> Result<Filled, StoreError> {
        while self.bytes < part_bytes {
            match &mut self.source {
                Source::Xattrs { left } => {
                    let mut entries = BTreeMap::new();
                    while self.bytes < part_bytes
                        && let Some((name, value)) = left.pop_first()
                    {
                        self.bytes += name.len() + value.len();
                        entries.insert(name, value);
                    }
                    if left.is_empty() {
                        self.source = Source::Omap { after: None };
                    }
                    if !entries.is_empty() {
                        self.parts.push(Install::Xattrs { entries });
                    }
                }
                Source::Omap { after } => {
                    let (listed, mut more) =
                        core.store.omap_list(pg, object, after.as_deref(), b"", OMAP_CHUNK)?;
                    let mut entries = BTreeMap::new();
                    for (key, value) in listed {
                        if self.bytes >= part_bytes {
                            more = true;
                            break;
                        }
                        self.bytes += key.len() + value.len();
                        *after = Some(key.clone());
                        entries.insert(key, value);
                    }
                    if !entries.is_empty() && core.config.fault != Fault::CopySkipsOmap {
                        self.parts.push(Install::Omap { entries });
                    }
                    if !more {
                        self.source = Source::Data { offset: 0 };
                    }
                }
                Source::Data { offset } if *offset >= self.data_bytes => {
                    self.source = Source::End;
                    self.parts.push(Install::Finish { info: self.info.clone() });
                    return Ok(Filled::Part);
                }
                Source::Data { offset } => {
                    let length = (part_bytes as u64).min(self.data_bytes - *offset);
                    if self.rebuilds {
                        return Ok(Filled::Read { offset: *offset, length });
                    }
                    let extents = core.store.extents(pg, object, *offset, length)?;
                    let (from, end) = (*offset, *offset + length);
                    let clipped = extents
                        .iter()
                        .map(|(at, len)| ((*at).max(from), at.saturating_add(*len).min(end)));
                    // One read from the first to the last byte that holds data: holes between read as
                    // zeros, which is what they are.
                    let held = clipped.filter(|(a, b)| a < b);
                    let (first, last) =
                        held.fold((end, from), |(a, b), (x, y)| (a.min(x), b.max(y)));
                    if first < last {
                        return Ok(Filled::Read { offset: first, length: last - first });
                    }
                    *offset = end;
                }
                Source::End => return Ok(Filled::Part),
            }
        }
        Ok(Filled::Part)
    }

    fn reading_at(&mut self, at: u64) {
        self.source = Source::Data { offset: at };
    }

    /// Takes in what was read at `offset`.
    fn take(&mut self, data: Bytes) {
        self.is_reading = false;
        if let Source::Data { offset } = &mut self.source {
            let at = *offset;
            *offset = if data.is_empty() { self.data_bytes } else { at + data.len() as u64 };
            // Zeros that were made need not be kept: they may be a hole.
            if self.rebuilds && data.iter().all(|byte| *byte == 0) {
                return;
            }
            self.bytes += data.len();
            if !data.is_empty() {
                self.parts.push(Install::Data { offset: at, data });
            }
        }
    }
}
