//! Tests of the machine: transcripts (`scripts/`) and random walks, both on a small world of daemons.

mod backfill;
mod edges;
mod erasure;
mod script;
mod scrub;
mod split;
mod walk;
pub(super) mod world;
