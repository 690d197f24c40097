//! The promises, one file each. Every checker answers with what is broken, in words; nothing is an `assert`,
//! so that a run tells all that it found.
//!
//! | file | promise |
//! |---|---|
//! | [`history`] | per-object history is linearizable; no acknowledged write lost; a request takes effect at most once |
//! | [`primary`] | at most one serving primary per placement group; intervals only grow |
//! | [`replicas`] | replicas are equal, whole, when quiet; members are all there |

pub mod history;
pub mod primary;
pub mod replicas;
