//! Bits that flip at rest, and disks that are lost: never more than the product must survive.

use crate::sim::check::copies;
use crate::sim::medium::Medium;
use crate::sim::world::World;
use store_base::{ClusterId, DaemonId, ObjectName, PgId};
use store_daemon::store::Store;

/// Objects looked at in one page; more than a run makes.
pub const PAGE: usize = 100_000;

/// Flips a bit in one copy of one object, if every other copy is whole.
pub fn rot(world: &mut World, numbers: &[u64]) {
    let number = |at: usize| numbers.get(at).copied().unwrap_or(0);
    let running = world.running();
    let groups: Vec<PgId> = world.groups().into_iter().collect();
    if running.is_empty() || groups.is_empty() {
        return;
    }
    let i = running[(number(0) % running.len() as u64) as usize];
    let pg = groups[(number(1) % groups.len() as u64) as usize];
    let Some(machine) = world.daemons[i].machine.as_ref() else { return };
    let objects = machine.store().list(pg, None, PAGE).unwrap_or_default();
    if objects.is_empty() || !has_whole_copy_elsewhere(world, i, pg) {
        return;
    }
    let (object, info) = &objects[(number(2) % objects.len() as u64) as usize];
    if info.size == 0 {
        return;
    }
    // What lies in the real engine's log goes with the whole group that it was written in, and with what
    // follows: only a medium that knows objects is damaged object by object.
    if let Medium::Memory(medium) = &world.daemons[i].medium {
        // The medium and the daemon would not agree on whether what is being written is damaged.
        if medium.is_changing(pg) {
            return;
        }
        medium.damage(pg, object);
        let object = object.clone();
        world.say_of(i, "rot", || format!("{pg} {object}"));
        world.daemons[i].damaged.insert((pg, object));
    }
}

/// Groups of which a member that runs has a damaged copy, and no member or learner that runs a whole one: it was
/// the last that was left when the others dropped out. The fault model does not go as far as that.
pub fn beyond(world: &World) -> Vec<(PgId, ObjectName)> {
    let Some(map) = world.map() else { return Vec::new() };
    // Where each has it: groups may have been divided since, here and not there.
    let is_damaged = |i: usize, pg: PgId, object: &ObjectName| match &world.daemons[i].medium {
        Medium::Memory(medium) => copies::lineage(pg).any(|pg| medium.is_damaged(pg, object)),
        Medium::Disk { .. } => false,
    };
    let mut lost = Vec::new();
    for i in world.running() {
        for (pg, object) in &world.daemons[i].damaged {
            let Some(pool) = map.pools.get(&pg.pool) else { continue };
            let pg = object.pg(pg.pool, pool.pg_num);
            let Some(record) = map.pgs.get(&pg) else { continue };
            if !is_damaged(i, pg, object) {
                continue;
            }
            let there: Vec<DaemonId> = match pool.erasure {
                // What learners have of other slots, nobody reads.
                Some(_) => record.members.clone(),
                None => record.members.iter().chain(&record.learners).copied().collect(),
            };
            let version = |j: usize| {
                let machine = world.daemons[j].machine.as_ref()?;
                let place = copies::place(world, j, pg)?;
                Some(machine.store().info(place, object).ok()??.version)
            };
            let newest = version(i);
            let has = |j: usize| version(j) >= newest && !is_damaged(j, pg, object);
            let whole: Vec<DaemonId> =
                there.into_iter().filter(|id| world.place_of(*id).is_some_and(has)).collect();
            if !record.suffice(pool, &whole) {
                lost.push((pg, object.clone()));
            }
        }
    }
    lost
}

/// Whether somebody else who runs has all of a group, and none of it was damaged.
fn has_whole_copy_elsewhere(world: &World, i: usize, pg: PgId) -> bool {
    let Some(map) = world.map() else { return false };
    let Some(record) = map.pgs.get(&pg) else { return true };
    let Some(pool) = map.pools.get(&pg.pool) else { return true };
    let is_whole = |id: &&DaemonId| {
        let j = world.place_of(**id).filter(|j| *j != i);
        j.is_some_and(|j| !world.daemons[j].damaged.iter().any(|(in_pg, _)| is_kin(*in_pg, pg)))
    };
    record.is_active() && record.suffice(pool, record.members.iter().filter(is_whole))
}

/// Whether one of two groups was split off the other, or they are one.
fn is_kin(one: PgId, other: PgId) -> bool {
    copies::lineage(one).any(|pg| pg == other) || copies::lineage(other).any(|pg| pg == one)
}

impl World {
    /// Whether everything that daemon `i` has to keep is kept elsewhere too, by daemons that run and whose
    /// copies were never damaged. (Half a commit that is under way cannot change that: who is a member of an
    /// active interval stays a holder until another interval is activated.)
    pub fn may_lose(&self, i: usize) -> bool {
        let Some(map) = self.map() else { return false };
        let Some(id) = self.id_of(i) else { return false };
        map.pgs
            .iter()
            .filter(|(_, record)| record.holders.contains(&id))
            .all(|(pg, _)| has_whole_copy_elsewhere(self, i, *pg))
    }

    /// The disk of daemon `i` is gone; an empty one is in its place.
    pub fn lose_disk(&mut self, i: usize) {
        let Some(id) = self.id_of(i) else { return };
        self.reached_by_loss(i);
        self.crash_daemon(i);
        let uuid = ClusterId(self.daemons[i].identity.uuid);
        self.lost.insert(id, (self.now, uuid));
        let real = matches!(self.daemons[i].medium, Medium::Disk { .. });
        self.daemons[i].medium = Medium::new(real, &mut self.random);
        self.daemons[i].damaged.clear();
        self.daemons[i].full = false;
        let mut uuid = [0; 16];
        uuid.iter_mut().for_each(|byte| *byte = self.random.any() as u8);
        self.daemons[i].identity.uuid = uuid;
    }

    /// The id of a daemon that runs.
    pub fn id_of(&self, i: usize) -> Option<DaemonId> {
        self.daemons[i].machine.as_ref()?.id()
    }

    /// Which daemon that runs has an id.
    pub fn place_of(&self, id: DaemonId) -> Option<usize> {
        (0..self.daemons.len()).find(|i| self.id_of(*i) == Some(id))
    }

    /// Whether the adversary has damaged a copy.
    pub fn is_damaged(&self, i: usize, pg: PgId, object: &ObjectName) -> bool {
        self.daemons[i].damaged.contains(&(pg, object.clone()))
    }
}
