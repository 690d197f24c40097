//! The cluster's maps: immutable values with an epoch, changed by the monitor alone, one step at a time.
//!
//! - [`OsdMap`]: daemons, CRUSH, pools, the record of every placement group (DESIGN 5, R1), blocklist.
//! - [`AuthMap`]: users and their keys.  [`ConfigMap`]: settings.  [`ServiceMap`]: gateways and metadata.
//!
//! A step from epoch n to n + 1 travels as an [`Incremental`]: what was set and what was removed.

pub mod delta;
pub mod osd;
pub mod pool;
pub mod profile;
pub mod scrub;
pub mod services;

pub use delta::Delta;
pub use osd::{DaemonInfo, Incremental, MapFlags, OsdMap, PgRecord};
pub use pool::{Erasure, Pool, PoolKind};
pub use profile::{ErasureProfile, PROFILE_DEFAULT};
pub use scrub::{ScrubOrder, ScrubScope};
pub use services::{AccessKey, AuthMap, ConfigMap, ServiceInfo, ServiceMap, User};

/// Why an incremental could not be applied. The holder asks for the full map.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an incremental map for epoch {step} cannot be applied to epoch {have}")]
pub struct WrongEpoch {
    /// The epoch that the incremental leads to.
    pub step: u32,
    /// The epoch that is there.
    pub have: u32,
}
