//! How a learner catches up (R12): it adopts the primary's log, then brings in what it lacks.
//!
//! If the primary's log reaches back to the learner's last applied entry, the learner lacks the objects
//! named behind it, no others. If not, it compares names and versions of everything, in the order of
//! objects (backfill), and lacks what differs. Either way a set of *missing* objects is worked off by
//! pulls (`copy/pull.rs`), while new entries come in from the moment of joining.
//!
//! # Invariants
//!
//! - An object is lacking if it is in `missing` or behind the scan's `frontier`. Entries of lacking
//!   objects go by without effect; all others take effect.
//! - `missing` says for each object the version that the learner's *applied* log ends with for it: a copy
//!   counts only if it is at least of that version.
//! - A copy, or the absence of an object, was read at the primary when it had applied `as_of`; it is taken
//!   only after the learner has applied up to there too.
//! - What is durable (`from`, `done_to`) lets `missing` be worked out again after a restart: an object at or
//!   before `done_to` is whole unless an entry behind `from` has a newer version of it.
//! - A scan's answer counts only if the learner has applied exactly what the primary had.

use super::config::Fault;
use super::core::{Core, NOBODY, Pending, Stored};
use super::log::Log;
use super::message::{PeerMessage, Trimmed};
use super::pg::{Pg, Progress, Replica, Role, Synced, key};
use super::takeover::Join;
use crate::store::{LogEntry, Store, Write};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use store_base::codec::{Decode, DecodeError, Encode, Reader, Writer};
use store_base::object::ObjectInfo;
use store_base::{DaemonId, ObjectName, Time, Version};

/// What a learner has yet to do.
///
/// Stored as: `from`, whether a scan is under way, `done_to`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CatchUp {
    /// Up to this entry of the log all objects before `done_to` are whole.
    from: Version,
    /// Not everything has been compared.
    scanning: bool,
    /// Everything up to this object has been compared and brought in. Of a scan.
    done_to: Option<ObjectName>,

    /// Everything up to this object has been compared.
    frontier: Option<ObjectName>,
    /// Whether more lies behind the frontier.
    more: bool,
    pub(crate) missing: BTreeMap<ObjectName, Version>,
    /// Ends of the parts of the scan that are not wholly brought in.
    marks: VecDeque<ObjectName>,
    /// When to ask for the next part of the scan again.
    scan_again: Option<Time>,
    /// That nothing is missing is on its way to the disk.
    finishing: bool,
}

impl Encode for CatchUp {
    fn encode(&self, out: &mut Writer) {
        self.from.encode(out);
        self.scanning.encode(out);
        self.done_to.encode(out);
    }
}

impl Decode for CatchUp {
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(CatchUp {
            from: Decode::decode(input)?,
            scanning: Decode::decode(input)?,
            done_to: Decode::decode(input)?,
            ..CatchUp::default()
        })
    }
}

impl CatchUp {
    /// How many objects are known to be lacking, and whether there may be more.
    pub(crate) fn tally(&self) -> (u64, bool) {
        // On its way to the disk is not there yet.
        (self.missing.len() as u64, self.more || self.finishing || self.missing.is_empty())
    }

    /// Whether everything is compared, or only what the log names.
    pub(crate) fn is_scanning(&self) -> bool {
        self.scanning
    }

    pub(crate) fn from(&self) -> Version {
        self.from
    }

    fn is_behind_frontier(&self, object: &ObjectName) -> bool {
        self.more && self.frontier.as_ref().is_none_or(|frontier| object > frontier)
    }

    pub(crate) fn lacks(&self, object: &ObjectName) -> bool {
        self.is_behind_frontier(object) || self.missing.contains_key(object)
    }

    fn is_done(&self) -> bool {
        !self.more && self.missing.is_empty()
    }
}

impl Pg {
    /// At the primary: a learner is in the interval.
    pub(crate) fn handle_learner_join<S: Store>(
        &mut self,
        core: &mut Core<S>,
        from: DaemonId,
        join: Join,
    ) {
        let can_feed = join.synced && self.can_feed(join.head);
        let can_adopt = self.can_feed(self.log.applied());
        let Role::Primary(primary) = &mut self.role else { return };
        let Some(progress) = primary.learners.get_mut(&from) else { return };
        if can_feed && join.nonce == progress.nonce {
            progress.synced = true;
            self.resend(core, from, join.head);
            return;
        }
        // Its numbers grow: it has wished again since, and heeds no answer to this.
        if join.wish < progress.nonce {
            return;
        }
        if self.slots.is_some() && primary.asked != Some(from) && !can_adopt {
            return; // it asks again
        }
        if primary.asked == Some(from) {
            // It is needed like a member by now, so whatever it acknowledged can be sent again.
            tracing::error!(pg = %self.id, learner = %from, "a learner to be promoted lost its log");
            return;
        }
        *progress = Progress {
            synced: true,
            nonce: join.wish,
            scanning: true,
            sent: core.now,
            ..Progress::default()
        };
        let message = self.adoption(from, &join);
        core.send(from, message);
        let at = core.now + core.config.resend_after;
        self.set_wake(core, at);
    }

    fn adoption(&self, to: DaemonId, join: &Join) -> PeerMessage {
        let overlaps = self.log.reaches(join.applied);
        let applied = self.log.applied();
        let tail = if overlaps { join.applied } else { self.log.tail() };
        let (entries, staged): (Vec<LogEntry>, Vec<LogEntry>) =
            self.log.behind(tail).cloned().partition(|entry| entry.version <= applied);
        let entries =
            entries.into_iter().map(|entry| LogEntry { mutation: None, ..entry }).collect();
        let staged = staged.iter().map(|entry| self.entry_for(to, entry)).collect();
        PeerMessage::Adopt {
            pg: self.id,
            interval: self.interval(),
            nonce: join.wish,
            overlaps,
            tail,
            entries,
            staged,
            trimmed: if overlaps { Trimmed::default() } else { self.trimmed.clone() },
        }
    }

    /// At a learner: the log to adopt.
    pub(crate) fn handle_adopt<S: Store>(&mut self, core: &mut Core<S>, adopt: Adopt) {
        let Role::Replica(replica) = &self.role else { return };
        let is_ours = replica.is_learner && replica.wish == adopt.nonce && adopt.nonce != 0;
        let fits = !adopt.overlaps || adopt.tail == self.log.applied();
        if !is_ours || !fits {
            return;
        }
        let (log, catch_up) = self.adopted(&adopt);
        let synced = Synced { interval: self.interval(), nonce: adopt.nonce };
        let trimmed = if adopt.overlaps { &self.trimmed } else { &adopt.trimmed };
        // What is staged here and committed there needs no copy: it is applied before the log is replaced.
        let settled =
            self.settled(&adopt).map(|to| Write::Apply { pg: self.id, to, except: vec![] });
        let mut batch: Vec<Write> = settled.into_iter().collect();
        batch.extend([
            Write::ReplaceLog {
                pg: self.id,
                applied: log.applied_entries().cloned().collect(),
                staged: log.staged_entries().cloned().collect(),
            },
            self.meta(key::SYNCED, &synced),
            self.meta(key::CATCH_UP, &catch_up),
            self.meta(key::TRIMMED, trimmed),
            self.meta(key::TAIL, &log.tail()),
        ]);
        let pending = Pending::Pg(self.id, Stored::Log(self.interval(), adopt.nonce, log.head()));
        if core.submit(Some(pending), batch).is_err() {
            return;
        }
        tracing::info!(pg = %self.id, interval = %self.interval(), head = %log.head(),
            backfill = !adopt.overlaps, "log adopted");
        if !adopt.overlaps {
            self.trimmed = adopt.trimmed;
        }
        self.stop_copies(core);
        self.synced = synced;
        self.log = log;
        self.catch_up = Some(catch_up);
        if let Role::Replica(replica) = &mut self.role {
            replica.synced = true;
            replica.stored = None;
            replica.wish = 0;
        }
        self.begin_catch_up(core);
    }

    /// The last of the own staged entries, counted from the first, that are in the log to adopt as applied.
    /// Not while objects are lacking from before: entries of these must not take effect.
    fn settled(&self, adopt: &Adopt) -> Option<Version> {
        if !adopt.overlaps || self.catch_up.is_some() {
            return None;
        }
        let own = self.log.staged_entries().map(|entry| entry.version);
        let theirs = adopt.entries.iter().map(|entry| entry.version);
        own.zip(theirs).take_while(|(own, theirs)| own == theirs).map(|(own, _)| own).last()
    }

    /// The log after an adoption, and what must be brought in.
    fn adopted(&self, adopt: &Adopt) -> (Log, CatchUp) {
        if !adopt.overlaps {
            let log = Log::new(adopt.tail, adopt.entries.clone(), adopt.staged.clone());
            let from = log.applied();
            return (log, CatchUp { from, scanning: true, ..CatchUp::default() });
        }
        let mut applied: Vec<_> = self.log.applied_entries().cloned().collect();
        applied.extend(adopt.entries.iter().cloned());
        let log = Log::new(self.log.tail(), applied, adopt.staged.clone());
        let catch_up = match &self.catch_up {
            // What an earlier catching up left over is still to be done.
            Some(CatchUp { from, scanning, done_to, .. }) => {
                let (from, scanning, done_to) = (*from, *scanning, done_to.clone());
                CatchUp { from, scanning, done_to, ..CatchUp::default() }
            }
            None => CatchUp { from: self.log.applied(), ..CatchUp::default() },
        };
        (log, catch_up)
    }

    /// Works out what is missing, from the log.
    pub(crate) fn begin_catch_up<S: Store>(&mut self, core: &mut Core<S>) {
        let (pool, pg_num, id) = (self.id.pool, self.pg_num, self.id);
        // A log has entries of objects that were split off.
        let is_own = |object: &ObjectName| {
            !object.name.is_empty() && (pg_num == 0 || object.pg(pool, pg_num) == id)
        };
        let Some(catch_up) = &mut self.catch_up else { return };
        catch_up.frontier.clone_from(&catch_up.done_to);
        catch_up.more = catch_up.scanning;
        catch_up.marks.clear();
        catch_up.missing.clear();
        catch_up.scan_again = None;
        catch_up.finishing = false;
        let applied = self.log.applied();
        let mut last: BTreeMap<&ObjectName, (Version, bool)> = BTreeMap::new();
        for entry in self.log.behind(catch_up.from).take_while(|entry| entry.version <= applied) {
            if is_own(&entry.object) && !catch_up.is_behind_frontier(&entry.object) {
                last.insert(&entry.object, (entry.version, entry.removes));
            }
        }
        let mut removals = Vec::new();
        for (object, (version, removes)) in last {
            let have = core.store.info(self.id, object).ok().flatten().map(|info| info.version);
            match (have, removes) {
                (None, true) => {}
                (Some(have), true) if have < version => {
                    let (pg, object) = (self.id, object.clone());
                    removals.push(Write::RemoveObject { pg, object });
                }
                (Some(have), _) if have >= version => {}
                _ => {
                    catch_up.missing.insert(object.clone(), version);
                }
            }
        }
        if !removals.is_empty() {
            // An error has been dealt with by `submit`, or is "full", which removals never meet.
            let _ = core.submit(None, removals);
        }
        core.monitor.changed.insert(self.id);
        self.continue_catch_up(core);
    }

    /// Which staged entries up to `to` must go by without effect.
    pub(crate) fn lacking<S: Store>(&self, core: &Core<S>, to: Version) -> Vec<Version> {
        let Some(catch_up) = &self.catch_up else { return Vec::new() };
        let lacks = |entry: &&LogEntry| {
            let has_newer = || {
                let info = core.store.info(self.id, &entry.object).ok().flatten();
                info.is_some_and(|info| info.version >= entry.version)
            };
            catch_up.lacks(&entry.object) || has_newer()
        };
        let staged = self.log.staged_entries().take_while(|entry| entry.version <= to);
        staged.filter(lacks).map(|entry| entry.version).collect()
    }

    /// Entries went by without effect: what is missing must be at least of their versions.
    pub(crate) fn note_lacking<S: Store>(&mut self, core: &mut Core<S>, passed: &[Version]) {
        let mut gone = BTreeSet::new();
        for version in passed {
            let Some(entry) = self.log.entry(*version) else { continue };
            let Some(catch_up) = &mut self.catch_up else { return };
            let object = &entry.object;
            if entry.removes {
                if catch_up.missing.remove(object).is_some() {
                    gone.insert(object.clone());
                }
            } else if let Some(need) = catch_up.missing.get_mut(object) {
                *need = entry.version;
            } else if gone.remove(object) {
                // Removed and made again in one pass: what made it had no effect here either.
                catch_up.missing.insert(object.clone(), entry.version);
            }
        }
        for object in gone {
            self.end_pull(core, &object);
            let _ = core.submit(None, vec![Write::RemoveObject { pg: self.id, object }]);
        }
    }

    /// A missing object is whole now.
    pub(crate) fn found<S: Store>(&mut self, core: &mut Core<S>, object: &ObjectName) {
        if let Some(catch_up) = &mut self.catch_up {
            catch_up.missing.remove(object);
        }
        self.advance_marks(core);
        self.continue_catch_up(core);
        core.monitor.changed.insert(self.id);
    }

    /// Notes durably how far a scan has come.
    fn advance_marks<S: Store>(&mut self, core: &mut Core<S>) {
        let Some(catch_up) = &mut self.catch_up else { return };
        let first_missing = catch_up.missing.first_key_value().map(|(object, _)| object);
        let mut done = None;
        while let Some(mark) = catch_up.marks.front()
            && first_missing.is_none_or(|missing| mark < missing)
        {
            done = catch_up.marks.pop_front();
        }
        if done.is_some() && catch_up.scanning {
            catch_up.done_to = done;
            let meta = self.catch_up.as_ref().map(|catch_up| self.meta(key::CATCH_UP, catch_up));
            let _ = core.submit(None, meta.into_iter().collect());
        }
    }

    /// Pulls, scans, or finds that nothing is left to do.
    pub(crate) fn continue_catch_up<S: Store>(&mut self, core: &mut Core<S>) {
        let Role::Replica(Replica { is_learner: true, synced: true, primary, .. }) = &self.role
        else {
            return;
        };
        let primary = *primary;
        let Some(catch_up) = &mut self.catch_up else { return };
        if catch_up.is_done() {
            if !catch_up.finishing {
                catch_up.finishing = true;
                let nonce = self.synced.nonce;
                let pending = Pending::Pg(self.id, Stored::Complete(self.interval(), nonce));
                let key = bytes::Bytes::from_static(key::CATCH_UP);
                let done = Write::Meta { pg: self.id, key, value: None };
                if core.submit(Some(pending), vec![done]).is_err() {
                    if let Some(catch_up) = &mut self.catch_up {
                        catch_up.finishing = false;
                    }
                    self.set_wake(core, core.now + core.config.resend_after);
                }
            }
            return;
        }
        let has_room = catch_up.missing.len() < core.config.missing_scan_max;
        let is_due = catch_up.scan_again.is_none_or(|at| at <= core.now);
        if catch_up.more && has_room && is_due {
            let at = core.now + core.config.resend_after;
            catch_up.scan_again = Some(at);
            let after = catch_up.frontier.clone();
            let message = PeerMessage::Scan { pg: self.id, interval: self.interval(), after };
            core.send(primary, message);
        }
        // Every tick plans the next: an earlier one may have come instead of the one that was planned here.
        let scan_again = self.catch_up.as_ref().and_then(|catch_up| catch_up.scan_again);
        if let Some(at) = scan_again.filter(|at| *at > core.now) {
            self.set_wake(core, at);
        }
        self.start_pulls(core);
    }

    /// The answer to a scan may be lost.
    pub(crate) fn scan_anew(&mut self) {
        if let Some(catch_up) = &mut self.catch_up {
            catch_up.scan_again = None;
        }
    }

    /// At the primary: what objects there are.
    pub(crate) fn handle_scan<S: Store>(
        &mut self,
        core: &mut Core<S>,
        from: DaemonId,
        after: Option<ObjectName>,
    ) {
        let Role::Primary(primary) = &self.role else { return };
        if !primary.learners.contains_key(&from) {
            return;
        }
        let max = core.config.scan_objects_max;
        let listed = match core.store.list(self.id, after.as_ref(), max) {
            Ok(listed) => listed,
            Err(error) => {
                tracing::error!(pg = %self.id, %error, "cannot list objects for a learner");
                return;
            }
        };
        let end = listed.len() < max;
        let message = PeerMessage::Scanned {
            pg: self.id,
            interval: self.interval(),
            after,
            objects: listed.into_iter().map(|(object, info)| (object, info.version)).collect(),
            end,
            as_of: self.log.applied(),
        };
        core.send(from, message);
    }

    /// At a learner: what objects the primary has.
    pub(crate) fn handle_scanned<S: Store>(
        &mut self,
        core: &mut Core<S>,
        from: DaemonId,
        scanned: Scanned,
    ) {
        let primary = self.replica().map_or(NOBODY, |replica| replica.primary);
        let is_ours = self.catch_up.as_ref().is_some_and(|catch_up| {
            catch_up.more && catch_up.scan_again.is_some() && catch_up.frontier == scanned.after
        });
        if from != primary || !is_ours {
            return;
        }
        self.apply_to(core, scanned.as_of);
        let again = core.now + core.config.pull_retry;
        if self.log.applied() != scanned.as_of {
            if let Some(catch_up) = &mut self.catch_up {
                catch_up.scan_again = Some(again);
            }
            self.set_wake(core, again);
            return;
        }
        let max = core.config.scan_objects_max;
        let Ok(own) = core.store.list(self.id, scanned.after.as_ref(), max) else { return };
        let mut end = scanned.end;
        let mut theirs: BTreeMap<_, _> = scanned.objects.into_iter().collect();
        let mut last = theirs.last_key_value().map(|(object, _)| object.clone());
        // Only as far as both lists are complete.
        if own.len() == max
            && let Some((own_last, _)) = own.last()
            && (end || last.as_ref().is_some_and(|last| own_last < last))
        {
            theirs.retain(|object, _| object <= own_last);
            last = Some(own_last.clone());
            end = false;
        }
        let mut own: BTreeMap<_, _> = own.into_iter().collect();
        if !end && let Some(last) = &last {
            own.retain(|object, _| object <= last);
        }
        self.compare_part(core, own, theirs);
        let Some(catch_up) = &mut self.catch_up else { return };
        catch_up.scan_again = None;
        catch_up.more = !end;
        if let Some(last) = last {
            catch_up.frontier = Some(last.clone());
            catch_up.marks.push_back(last);
        }
        self.advance_marks(core);
        self.continue_catch_up(core);
    }

    /// What differs in one part of the scan is missing; what is too much goes.
    fn compare_part<S: Store>(
        &mut self,
        core: &mut Core<S>,
        own: BTreeMap<ObjectName, ObjectInfo>,
        theirs: BTreeMap<ObjectName, Version>,
    ) {
        let strays = own.keys().filter(|object| !theirs.contains_key(*object));
        let removals: Vec<_> = strays
            .map(|object| Write::RemoveObject { pg: self.id, object: object.clone() })
            .collect();
        if !removals.is_empty() {
            let _ = core.submit(None, removals);
        }
        let Some(catch_up) = &mut self.catch_up else { return };
        for (object, version) in theirs {
            let has = own.get(&object).map(|info| info.version);
            let is_taken = core.config.fault == Fault::BackfillSkips && has.is_some();
            if has != Some(version) && !is_taken {
                catch_up.missing.insert(object, version);
            }
        }
        core.monitor.changed.insert(self.id);
    }

    /// That nothing is missing is durable.
    pub(crate) fn handle_complete<S: Store>(&mut self, core: &mut Core<S>) {
        if self.catch_up.as_ref().is_some_and(|catch_up| catch_up.finishing && catch_up.is_done()) {
            tracing::info!(pg = %self.id, interval = %self.interval(), "caught up");
            self.catch_up = None;
            core.monitor.news.insert(self.id);
            self.acknowledge(core);
        }
    }
}

/// See [`PeerMessage::Adopt`].
#[derive(Clone, Debug)]
pub(crate) struct Adopt {
    pub(crate) nonce: u64,
    pub(crate) overlaps: bool,
    pub(crate) tail: Version,
    pub(crate) entries: Vec<LogEntry>,
    pub(crate) staged: Vec<LogEntry>,
    pub(crate) trimmed: Trimmed,
}

/// See [`PeerMessage::Scanned`].
#[derive(Clone, Debug)]
pub(crate) struct Scanned {
    pub(crate) after: Option<ObjectName>,
    pub(crate) objects: Vec<(ObjectName, Version)>,
    pub(crate) end: bool,
    pub(crate) as_of: Version,
}
