//! The digest of what a daemon has: made at every member for the primary that walks.
//!
//! # Invariants
//!
//! - Nothing is looked at before this daemon has applied what the primary had when it asked.
//! - A digest is of one version: if the object changed while it was read, it is read anew, a few times.
//! - A copy that is being replaced is looked at when the replacement is durable, so that it is the medium that
//!   answers, not what is on its way to it.
//! - At most `digests_max` are made at a time, each with one read under way.

use super::checksum::Running;
use crate::machine::core::{Core, Pending};
use crate::machine::message::PeerMessage;
use crate::machine::pg::Pg;
use crate::store::{Store, StoreError};
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Duration;
use store_base::codec::Encode;
use store_base::object::ObjectInfo;
use store_base::{DaemonId, ObjectName, Version};

/// How often an object that changes is read anew.
const RESTARTS_MAX: u32 = 3;

/// Between two steps of a digest that does not wait for anything.
const PAUSE: Duration = Duration::from_millis(1);

/// How long until it is looked again whether what is waited for has come.
const WAIT: Duration = Duration::from_millis(20);

/// What a round looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Objects behind `after`, up to `to` (to the end, if `None`), at most `max`.
    Range {
        /// Not included.
        after: Option<ObjectName>,
        /// Included.
        to: Option<ObjectName>,
        /// How many.
        max: u32,
    },
    /// These.
    Objects {
        /// In order.
        names: Vec<ObjectName>,
    },
}
store_base::codec_enum!(Scope { 1 => Range { after, to, max }, 2 => Objects { names } });

/// What one copy of an object is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// Its name.
    pub object: ObjectName,
    /// The version that all else is of.
    pub version: Version,
    /// Length of the byte part.
    pub size: u64,
    /// How many xattrs.
    pub xattrs: u64,
    /// How many keys its omap has.
    pub keys: u64,
    /// crc32c of what is known of the object, its xattrs and its omap header.
    pub about: u32,
    /// crc32c of the omap.
    pub omap: u32,
    /// crc32c of the bytes; 0 if they were not read.
    pub data: u32,
    /// It changed too often while it was read.
    pub busy: bool,
    /// Why it could not be read; empty if it could.
    pub damaged: String,
}
store_base::codec_struct!(Digest {
    object,
    version,
    size,
    xattrs,
    keys,
    about,
    omap,
    data,
    busy,
    damaged,
});

impl Digest {
    /// All that must be equal in copies of one version.
    pub(super) fn content(&self) -> [u64; 6] {
        let Digest { size, xattrs, keys, about, omap, data, .. } = self;
        [*size, *xattrs, *keys, (*about).into(), (*omap).into(), (*data).into()]
    }
}

/// What a primary asks.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) number: u64,
    pub(crate) deep: bool,
    pub(crate) as_of: Version,
    pub(crate) scope: Scope,
}

/// What it is told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) digests: Vec<Digest>,
    /// Everything up to here was looked at; `None`: everything asked for.
    pub(crate) covered: Option<ObjectName>,
    /// Why the objects could not even be listed; empty if they could.
    pub(crate) failed: String,
}

/// A digest being made.
#[derive(Debug)]
pub(crate) struct Digesting {
    to: DaemonId,
    ask: Ask,
    has_slot: bool,
    is_listed: bool,
    left: VecDeque<ObjectName>,
    current: Option<Current>,
    is_reading: bool,
    answer: Answer,
}

/// The object that is being read.
#[derive(Debug)]
struct Current {
    object: ObjectName,
    info: ObjectInfo,
    digest: Digest,
    omap: Running,
    data: Running,
    stage: Stage,
    restarts: u32,
}

#[derive(Debug)]
enum Stage {
    Omap { after: Option<Bytes> },
    Data { offset: u64 },
}

/// What is to be done next.
enum Next {
    /// More of the same, soon.
    Soon,
    /// Something has to come first.
    Wait,
    /// A read is under way.
    Read,
    /// The object is done.
    Done(Digest),
}

impl Pg {
    /// At a member: the primary asks for digests. A new request takes the place of the one before.
    pub(crate) fn handle_scrub<S: Store>(&mut self, core: &mut Core<S>, from: DaemonId, ask: Ask) {
        let is_same = |job: &Digesting| job.to == from && job.ask.number == ask.number;
        if self.scrub.digesting.as_deref().is_some_and(is_same) {
            return;
        }
        self.stop_digest(core);
        self.scrub.digesting = Some(Box::new(Digesting {
            to: from,
            ask,
            has_slot: false,
            is_listed: false,
            left: VecDeque::new(),
            current: None,
            is_reading: false,
            answer: Answer::default(),
        }));
        self.continue_digest(core);
    }

    pub(crate) fn stop_digest<S: Store>(&mut self, core: &mut Core<S>) {
        if self.scrub.digesting.take().is_some_and(|job| job.has_slot) {
            core.scrub.digesting -= 1;
        }
    }

    /// Goes on with a digest as far as it goes without waiting.
    pub(crate) fn continue_digest<S: Store>(&mut self, core: &mut Core<S>) {
        let Some(mut job) = self.scrub.digesting.take() else { return };
        let next = match job.is_reading {
            true => Next::Read,
            false => self.advance_digest(core, &mut job),
        };
        let pause = match next {
            Next::Read => None,
            Next::Soon => Some(PAUSE),
            Next::Wait => Some(WAIT),
            Next::Done(_) => return self.answer_digest(core, *job),
        };
        self.scrub.digesting = Some(job);
        if let Some(pause) = pause {
            let at = core.now + pause;
            self.set_wake(core, at);
        }
    }

    /// `Done` when nothing is left.
    fn advance_digest<S: Store>(&mut self, core: &mut Core<S>, job: &mut Digesting) -> Next {
        if self.log.applied() < job.ask.as_of {
            return Next::Wait;
        }
        if !job.has_slot {
            if core.scrub.digesting >= core.config.scrub.digests_max {
                return Next::Wait;
            }
            core.scrub.digesting += 1;
            job.has_slot = true;
        }
        if !job.is_listed {
            job.is_listed = true;
            self.list_scope(core, job);
        }
        let mut turns = core.config.scrub.objects_max;
        loop {
            if job.current.is_none() {
                let Some(object) = job.left.front() else { return Next::Done(Digest::default()) };
                if self.damaged.contains_key(object) {
                    return Next::Wait;
                }
                if turns == 0 {
                    return Next::Soon;
                }
                turns -= 1;
                let object = object.clone();
                job.left.pop_front();
                self.begin_object(core, job, object, 0);
                continue;
            }
            match self.advance_object(core, job) {
                Next::Done(digest) => {
                    job.current = None;
                    job.answer.digests.push(digest);
                }
                next => return next,
            }
        }
    }

    fn list_scope<S: Store>(&self, core: &mut Core<S>, job: &mut Digesting) {
        let (after, to, max) = match &job.ask.scope {
            Scope::Objects { names } => {
                job.left = names.iter().cloned().collect();
                return;
            }
            Scope::Range { after, to, max } => (after, to, *max as usize),
        };
        match core.store.list(self.id, after.as_ref(), max) {
            Ok(listed) => {
                let is_cut = listed.len() == max;
                let is_within = |object: &ObjectName| to.as_ref().is_none_or(|to| object <= to);
                job.left = listed.into_iter().map(|(object, _)| object).filter(is_within).collect();
                if is_cut && job.left.len() == max {
                    job.answer.covered = job.left.back().cloned();
                }
            }
            Err(error) => self.digest_failed(core, job, &error),
        }
    }

    fn digest_failed<S: Store>(&self, core: &mut Core<S>, job: &mut Digesting, error: &StoreError) {
        match error {
            StoreError::Failed(_) => core.fail(error),
            error => job.answer.failed = error.to_string(),
        }
    }

    /// Begins with an object: what is known of it, and its xattrs. One that is not here has no digest.
    fn begin_object<S: Store>(
        &self,
        core: &mut Core<S>,
        job: &mut Digesting,
        object: ObjectName,
        restarts: u32,
    ) {
        let read = core.store.info(self.id, &object).and_then(|info| {
            let xattrs = core.store.xattrs(self.id, &object)?;
            Ok((info, xattrs, core.store.omap_header(self.id, &object)?))
        });
        let mut digest = Digest { object: object.clone(), ..Digest::default() };
        let (info, xattrs, header) = match read {
            Ok((Some(info), xattrs, header)) => (info, xattrs, header),
            Ok((None, ..)) => return,
            Err(error) => {
                self.note_unreadable(core, &mut digest, &error);
                job.answer.digests.push(digest);
                return;
            }
        };
        let mut about = Running::default();
        about.add_sized(&info.to_bytes());
        about.add_sized(&header);
        xattrs.iter().for_each(|entry| about.add_entry(entry));
        digest.version = info.version;
        digest.size = info.size;
        digest.xattrs = xattrs.len() as u64;
        digest.about = about.value();
        job.current = Some(Current {
            object,
            info,
            digest,
            omap: Running::default(),
            data: Running::default(),
            stage: Stage::Omap { after: None },
            restarts,
        });
    }

    fn note_unreadable<S: Store>(
        &self,
        core: &mut Core<S>,
        digest: &mut Digest,
        error: &StoreError,
    ) {
        if matches!(error, StoreError::Failed(_)) {
            core.fail(error);
        }
        digest.damaged = error.to_string();
    }

    /// Goes on with the object at hand.
    fn advance_object<S: Store>(&mut self, core: &mut Core<S>, job: &mut Digesting) -> Next {
        let Some(current) = &mut job.current else { return Next::Soon };
        match current.advance(self, core, job.ask.deep) {
            Ok(Step::Soon) => Next::Soon,
            Ok(Step::Read { offset, length }) => {
                let ticket = core.ticket(Pending::ScrubRead(self.id, job.ask.number));
                core.store.read(ticket, self.id, &current.object, offset, length);
                job.is_reading = true;
                Next::Read
            }
            Ok(Step::Done) => {
                let now = core.store.info(self.id, &current.object);
                let is_same = now.is_ok_and(|info| info.as_ref() == Some(&current.info));
                if is_same {
                    return Next::Done(current.whole());
                }
                self.object_changed(core, job)
            }
            Err(error) => {
                let mut digest = current.digest.clone();
                self.note_unreadable(core, &mut digest, &error);
                Next::Done(digest)
            }
        }
    }

    fn object_changed<S: Store>(&mut self, core: &mut Core<S>, job: &mut Digesting) -> Next {
        let Some(current) = job.current.take() else { return Next::Soon };
        if current.restarts >= RESTARTS_MAX {
            return Next::Done(Digest { busy: true, ..current.digest });
        }
        self.begin_object(core, job, current.object, current.restarts + 1);
        Next::Soon
    }

    /// Bytes for a digest have been read.
    pub(crate) fn handle_scrub_read<S: Store>(
        &mut self,
        core: &mut Core<S>,
        number: u64,
        result: Result<Bytes, StoreError>,
    ) {
        let Some(mut job) = self.scrub.digesting.take() else { return };
        if job.ask.number == number && job.is_reading {
            job.is_reading = false;
            match result {
                Ok(data) => {
                    if let Some(Current { stage: Stage::Data { offset }, data: running, .. }) =
                        &mut job.current
                    {
                        running.add(&data);
                        *offset += data.len() as u64;
                        if data.is_empty() {
                            *offset = u64::MAX; // it was cut: the version says so
                        }
                    }
                }
                Err(error) => {
                    if let Some(current) = job.current.take() {
                        let mut digest = current.digest;
                        self.note_unreadable(core, &mut digest, &error);
                        job.answer.digests.push(digest);
                    }
                }
            }
        }
        self.scrub.digesting = Some(job);
        self.continue_digest(core);
    }

    fn answer_digest<S: Store>(&mut self, core: &mut Core<S>, job: Digesting) {
        if job.has_slot {
            core.scrub.digesting -= 1;
        }
        let Digesting { to, ask: Ask { number, .. }, answer, .. } = job;
        if to == core.me {
            return self.handle_scrubbed(core, to, number, answer);
        }
        let (pg, interval) = (self.id, self.interval());
        let Answer { digests, covered, failed } = answer;
        core.send(to, PeerMessage::Scrubbed { pg, interval, number, digests, covered, failed });
    }
}

enum Step {
    Soon,
    Read { offset: u64, length: u64 },
    Done,
}

impl Current {
    fn advance<S: Store>(
        &mut self,
        pg: &Pg,
        core: &Core<S>,
        deep: bool,
    ) -> Result<Step, StoreError> {
        if let Stage::Omap { after } = &mut self.stage {
            let max = core.config.scrub.keys_max;
            let (entries, more) =
                core.store.omap_list(pg.id, &self.object, after.as_deref(), b"", max)?;
            self.digest.keys += entries.len() as u64;
            entries.iter().for_each(|(key, value)| self.omap.add_entry((key, value)));
            if let (true, Some((last, _))) = (more, entries.last()) {
                *after = Some(last.clone());
                return Ok(Step::Soon);
            }
            self.stage = Stage::Data { offset: 0 };
        }
        let Stage::Data { offset } = &mut self.stage else { return Ok(Step::Done) };
        while deep && *offset < self.info.size {
            let length = core.config.scrub.part_bytes.min(self.info.size - *offset);
            let extents = core.store.extents(pg.id, &self.object, *offset, length)?;
            let (from, end) = (*offset, *offset + length);
            let clipped =
                extents.iter().map(|(at, len)| ((*at).max(from), at.saturating_add(*len).min(end)));
            let held = clipped.filter(|(a, b)| a < b);
            let (first, last) = held.fold((end, from), |(a, b), (x, y)| (a.min(x), b.max(y)));
            // What holds no data reads as zeros, whether it is a hole here or was written elsewhere.
            self.data.add_zeros(first - from);
            *offset = first;
            if first < last {
                return Ok(Step::Read { offset: first, length: last - first });
            }
        }
        Ok(Step::Done)
    }

    fn whole(&self) -> Digest {
        Digest { omap: self.omap.value(), data: self.data.value(), ..self.digest.clone() }
    }
}
