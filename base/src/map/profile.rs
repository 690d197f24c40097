//! Erasure profiles: what new erasure-coded pools are made by, by name.
//!
//! A profile is read once, when a pool is made; the pool keeps a copy of its own. Changing or removing a profile
//! changes no pool.

use crate::map::Erasure;
use serde::{Deserialize, Serialize};

/// The profile that is there without being set, until somebody sets another of this name.
pub const PROFILE_DEFAULT: &str = "default";

/// A profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasureProfile {
    /// The code and the cells.
    pub erasure: Erasure,
    /// What every slot must have its own of: `host`, `rack`, `osd`, …; empty for host where there are hosts
    /// enough, else daemon.
    pub failure_domain: String,
}
crate::codec_versioned!(ErasureProfile, 1, 1 { erasure, failure_domain });

impl Default for ErasureProfile {
    /// k = 2, m = 2: any two daemons may be lost, at the space of two copies; four daemons are enough.
    fn default() -> Self {
        let erasure = Erasure { data: 2, coding: 2, ..Erasure::default() };
        ErasureProfile { erasure, failure_domain: String::new() }
    }
}
