//! The balancer's part in making the next maps.

use super::plan::{self, Plan};
use super::{SETTING, SETTING_MOVES, is_quiet, movement, settle, step};
use crate::machine::{Draft, settings};
use store_base::map::MapFlags;

/// Why the balancer begins nothing.
pub(crate) fn held_back(flags: MapFlags) -> Option<&'static str> {
    let rows = [(flags.norebalance, "norebalance"), (flags.nobackfill, "nobackfill")];
    rows.iter().find(|(is_set, _)| *is_set).map(|(_, name)| *name)
}

impl Draft<'_> {
    /// Brings targets and exceptions in line with the draft.
    pub(in crate::machine) fn settle(&mut self) {
        let leader = &mut *self.leader;
        let is_on = settings::flag(&self.maps.config, SETTING);
        let upmaps = settle(&mut leader.targets, &self.maps.osd, &leader.view, is_on);
        let Some(upmaps) = upmaps else { return };
        self.is_replaced = true;
        if upmaps != self.maps.osd.upmap_items {
            self.maps.osd_mut().upmap_items = upmaps;
            leader.targets.refresh(&self.maps.osd);
        }
    }

    /// Moves a few copies if daemons are far from their shares, all is quiet, and nobody forbids it.
    pub(in crate::machine) fn balance(&mut self) {
        let leader = &mut *self.leader;
        let is_measured = self.maps.notes.movement.as_ref().is_none_or(|one| one.ended.is_some());
        let may = settings::flag(&self.maps.config, SETTING)
            && held_back(self.maps.osd.flags).is_none()
            && leader.level_at != Some(leader.targets.generation)
            && is_measured
            && is_quiet(&self.maps.osd, &leader.view, &leader.targets);
        if !may {
            return;
        }
        let moves = settings::integer(&self.maps.config, SETTING_MOVES) as usize;
        let Some(upmaps) = step(&leader.targets, &self.maps.osd, &leader.view, moves) else {
            leader.level_at = Some(leader.targets.generation);
            return;
        };
        self.maps.osd_mut().upmap_items = upmaps;
        leader.targets.refresh(&self.maps.osd);
        let plan = plan::plan(&self.maps.osd, &leader.targets, &leader.view);
        tracing::info!(copies = plan.planned.copies, "the balancer moves copies");
        self.note_balancing(&plan);
    }

    /// Rounds that follow one another are one movement.
    fn note_balancing(&mut self, plan: &Plan) {
        let view = &self.leader.view;
        let fresh = movement::begin("the balancer".to_string(), plan, view, self.wall);
        let notes = self.maps.notes_mut();
        match notes.balancing.as_mut().filter(|one| one.ended.is_none()) {
            Some(one) => one.planned = one.planned.plus(plan.planned),
            None => notes.balancing = Some(fresh),
        }
    }

    /// Begins and ends what movement is measured by.
    pub(in crate::machine) fn measure(&mut self, timed: bool) {
        if self.is_replaced {
            let plan = plan::plan(&self.maps.osd, &self.leader.targets, &self.leader.view);
            let cause = movement::cause(&self.leader.committed.osd, &self.maps.osd);
            if plan.planned.copies > 0 && !cause.is_empty() {
                let begun = movement::begin(cause, &plan, &self.leader.view, self.wall);
                self.maps.notes_mut().movement = Some(begun);
                self.leader.in_place_since = None;
            }
        }
        let notes = &self.maps.notes;
        let is_open = [&notes.movement, &notes.balancing]
            .iter()
            .any(|one| one.as_ref().is_some_and(|one| one.ended.is_none()));
        if timed && is_open {
            self.end_measured();
        }
    }

    fn end_measured(&mut self) {
        let leader = &mut *self.leader;
        if movement::copies_left(&self.maps.osd, &leader.targets) > 0 {
            leader.in_place_since = None;
            return;
        }
        let since = *leader.in_place_since.get_or_insert(self.now);
        if self.now.since(since) < movement::COUNTS_COME {
            return;
        }
        leader.in_place_since = None;
        let (view, wall) = (&leader.view, self.wall);
        let notes = self.maps.notes_mut();
        for one in [&mut notes.movement, &mut notes.balancing].into_iter().flatten() {
            if one.ended.is_none() {
                one.measured = movement::measured(one, view);
                one.ended = Some(wall);
            }
        }
    }
}
