//! Bad copies are replaced.
//!
//! # Invariants
//!
//! - A copy is replaced by one of exactly the version that was judged right, and only if nothing newer has been
//!   applied to the object here meanwhile.
//! - Only the primary decides. If its own copy is bad it replaces that first; members fetch from the primary alone.
//! - Nothing here counts as a repair: the walk looks again.

use super::compare::Authority;
use crate::machine::core::Core;
use crate::machine::message::PeerMessage;
use crate::machine::pg::{Pg, Role};
use crate::store::{Store, Write};
use std::collections::BTreeMap;
use store_base::object::ObjectInfo;
use store_base::{DaemonId, ObjectName, Version};

/// The copy that is to take the place of the one here.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) version: Version,
    pub(crate) sources: Vec<DaemonId>,
}

impl Pg {
    /// Has bad copies replaced. `false` if nothing can be done.
    pub(super) fn mend<S: Store>(
        &mut self,
        core: &mut Core<S>,
        object: &ObjectName,
        authority: &Authority,
        bad: &BTreeMap<DaemonId, String>,
    ) -> bool {
        let (pg, interval, as_of) = (self.id, self.interval(), self.log.applied());
        let version = match authority {
            Authority::Copies(version, _) => Some(*version),
            Authority::Absence => None,
        };
        if let Authority::Copies(version, right) = authority
            && bad.contains_key(&core.me)
        {
            // A shard is made from the others, here.
            let sources = match self.rebuilds() {
                true => vec![core.me],
                false => right.iter().copied().collect(),
            };
            self.fetch(core, object, Wanted { version: *version, sources });
            return true;
        }
        for id in bad.keys().copied() {
            let object = object.clone();
            match id == core.me {
                true => self.handle_mend(core, object, version, as_of),
                false => core.send(id, PeerMessage::Mend { pg, interval, object, version, as_of }),
            }
        }
        true
    }

    /// The copy here is bad, the primary says: the one of this version takes its place, or none.
    pub(crate) fn handle_mend<S: Store>(
        &mut self,
        core: &mut Core<S>,
        object: ObjectName,
        version: Option<Version>,
        as_of: Version,
    ) {
        let source = match &self.role {
            Role::Replica(replica) if replica.synced && self.catch_up.is_none() => replica.primary,
            Role::Primary(_) => core.me,
            _ => return,
        };
        match version {
            Some(version) => {
                let sources = vec![source];
                self.fetch(core, &object, Wanted { version, sources });
            }
            None => {
                let is_settled = self.log.applied() >= as_of
                    && self.log.reaches(as_of)
                    && !self.log.behind(as_of).any(|entry| entry.object == object);
                if is_settled {
                    let _ = core.submit(None, vec![Write::RemoveObject { pg: self.id, object }]);
                }
            }
        }
    }

    fn fetch<S: Store>(&mut self, core: &mut Core<S>, object: &ObjectName, wanted: Wanted) {
        if !self.damaged.contains_key(object) {
            self.scrub.wanted.insert(object.clone(), wanted);
            self.replace(core, object);
        }
    }

    /// Whether a copy, read when the sender had applied `as_of`, may take the place of the one here.
    pub(crate) fn is_better<S: Store>(
        &mut self,
        core: &mut Core<S>,
        object: &ObjectName,
        as_of: Version,
        info: Option<&ObjectInfo>,
    ) -> bool {
        let Some(wanted) = self.scrub.wanted.get(object).map(|wanted| wanted.version) else {
            return false;
        };
        if matches!(self.role, Role::Replica(_)) {
            self.apply_to(core, as_of);
        }
        let here = core.store.info(self.id, object).ok().flatten();
        let is_newer_here = here.is_some_and(|here| here.version > wanted);
        let applied = self.log.applied();
        let newer = self.log.behind(wanted).take_while(|entry| entry.version <= applied);
        let is_touched = newer.into_iter().any(|entry| entry.object == *object);
        !is_newer_here && !is_touched && info.is_some_and(|info| info.version == wanted)
    }
}
