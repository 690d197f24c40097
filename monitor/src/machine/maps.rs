//! All that is kept, as values; reading it from a store and making the batch that leads to the next.
//!
//! Maps are shared by reference until somebody changes one, so a draft costs nothing until it is needed.

use super::notes::Notes;
use crate::state::{
    Batch, HISTORY_EPOCHS_MAX, OSD_FULL, OSD_STEP, SNAPSHOT_EVERY, Stored, step_key,
};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use store_base::codec::{Decode, Encode};
use store_base::ids::Epoch;
use store_base::map::{AuthMap, ConfigMap, Incremental, OsdMap, ServiceMap};

/// Key of the notes.
const NOTES: &str = "notes";

/// Every map of the cluster at one moment.
#[derive(Clone, Debug, Default)]
pub struct Maps {
    /// Daemons, pools, placement groups.
    pub osd: Arc<OsdMap>,
    /// Users and keys.
    pub auth: Arc<AuthMap>,
    /// Settings made at run time.
    pub config: Arc<ConfigMap>,
    /// Gateways and metadata services.
    pub services: Arc<ServiceMap>,
    /// What is remembered for people.
    pub notes: Arc<Notes>,
    /// The first client id that was never reserved.
    pub clients_end: u64,
}

/// Which maps differ between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Daemons, pools, placement groups.
    pub osd: bool,
    /// Users and keys.
    pub auth: bool,
    /// Settings.
    pub config: bool,
    /// Gateways and metadata services.
    pub services: bool,
    /// What is remembered for people.
    pub notes: bool,
    /// Client ids were reserved.
    pub clients: bool,
}

impl Changed {
    /// Whether anything does.
    pub fn any(self) -> bool {
        self.osd || self.auth || self.config || self.services || self.notes || self.clients
    }
}

fn differs<T: PartialEq>(a: &Arc<T>, b: &Arc<T>) -> bool {
    !Arc::ptr_eq(a, b) && a != b
}

impl Maps {
    /// For changing.
    pub fn osd_mut(&mut self) -> &mut OsdMap {
        Arc::make_mut(&mut self.osd)
    }

    /// For changing.
    pub fn auth_mut(&mut self) -> &mut AuthMap {
        Arc::make_mut(&mut self.auth)
    }

    /// For changing.
    pub fn config_mut(&mut self) -> &mut ConfigMap {
        Arc::make_mut(&mut self.config)
    }

    /// For changing.
    pub fn services_mut(&mut self) -> &mut ServiceMap {
        Arc::make_mut(&mut self.services)
    }

    /// For changing.
    pub fn notes_mut(&mut self) -> &mut Notes {
        Arc::make_mut(&mut self.notes)
    }

    /// What differs from `old`.
    pub fn changed_since(&self, old: &Maps) -> Changed {
        Changed {
            osd: differs(&self.osd, &old.osd),
            auth: differs(&self.auth, &old.auth),
            config: differs(&self.config, &old.config),
            services: differs(&self.services, &old.services),
            notes: differs(&self.notes, &old.notes),
            clients: self.clients_end != old.clients_end,
        }
    }
}

/// The steps of the osdmap that are still kept, encoded, and the epoch of the stored whole map.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// By the epoch that a step leads to.
    pub steps: BTreeMap<Epoch, Bytes>,
    /// Epoch of `osd/full`.
    pub full: Epoch,
}

impl History {
    /// The steps from `have` to `to`, if all are kept.
    pub fn steps_between(&self, have: Epoch, to: Epoch) -> Option<Vec<Bytes>> {
        if have.0 == 0 || have > to {
            return None;
        }
        let steps: Vec<Bytes> =
            self.steps.range(have.next()..=to).map(|(_, step)| step.clone()).collect();
        (steps.len() as u64 == u64::from(to.0 - have.0)).then_some(steps)
    }
}

/// Reads what a store holds.
pub fn read(stored: &Stored) -> Result<(Maps, History), String> {
    let mut osd: OsdMap = entry(stored, OSD_FULL)?;
    let mut history = History { full: osd.epoch, ..History::default() };
    for (key, bytes) in stored.entries.range(OSD_STEP.to_string()..) {
        let Some(epoch) = key.strip_prefix(OSD_STEP) else { break };
        let epoch =
            Epoch(epoch.parse().map_err(|_| format!("the store's entry {key:?} is not a step"))?);
        if epoch > osd.epoch {
            let step = Incremental::from_bytes(bytes.clone())
                .map_err(|e| format!("the store's entry {key:?} is damaged: {e}"))?;
            osd.apply(&step).map_err(|e| format!("the store lacks a step of the osdmap: {e}"))?;
        }
        history.steps.insert(epoch, bytes.clone());
    }
    let maps = Maps {
        osd: Arc::new(osd),
        auth: Arc::new(entry(stored, "auth")?),
        config: Arc::new(entry(stored, "config")?),
        services: Arc::new(entry(stored, "services")?),
        // A store of before there were any has none.
        notes: match stored.entries.contains_key(NOTES) {
            true => Arc::new(entry(stored, NOTES)?),
            false => Arc::default(),
        },
        clients_end: entry(stored, "clients")?,
    };
    Ok((maps, history))
}

fn entry<T: Decode>(stored: &Stored, key: &str) -> Result<T, String> {
    let bytes =
        stored.entries.get(key).ok_or_else(|| format!("the store lacks the entry {key:?}"))?;
    T::from_bytes(bytes.clone()).map_err(|e| format!("the store's entry {key:?} is damaged: {e}"))
}

/// The batch from `old` to `new`, at store version `version`, and the step of the osdmap in it. Takes the step
/// into `history` as it will be when the batch is committed.
pub fn batch(
    old: &Maps,
    new: &Maps,
    changed: Changed,
    version: u64,
    history: &mut History,
) -> (Batch, Option<Bytes>) {
    let mut batch = Batch { expect: version, ..Batch::default() };
    let mut step = None;
    if changed.osd {
        let bytes = Incremental::between(&old.osd, &new.osd).to_bytes();
        let epoch = new.osd.epoch;
        batch.puts.push((step_key(epoch), bytes.clone()));
        history.steps.insert(epoch, bytes.clone());
        if epoch.0 - history.full.0 >= SNAPSHOT_EVERY {
            batch.puts.push((OSD_FULL.to_string(), new.osd.to_bytes()));
            history.full = epoch;
        }
        // A step may go only when the stored whole map includes it.
        let first =
            Epoch((epoch.0 + 1).saturating_sub(HISTORY_EPOCHS_MAX)).min(history.full.next());
        let kept = history.steps.split_off(&first);
        batch.deletes.extend(history.steps.keys().map(|epoch| step_key(*epoch)));
        history.steps = kept;
        step = Some(bytes);
    }
    let mut put = |changed: bool, key: &str, bytes: &dyn Fn() -> Bytes| {
        if changed {
            batch.puts.push((key.to_string(), bytes()));
        }
    };
    put(changed.auth, "auth", &|| new.auth.to_bytes());
    put(changed.config, "config", &|| new.config.to_bytes());
    put(changed.services, "services", &|| new.services.to_bytes());
    put(changed.notes, NOTES, &|| new.notes.to_bytes());
    put(changed.clients, "clients", &|| new.clients_end.to_bytes());
    (batch, step)
}
