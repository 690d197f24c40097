//! Tests of the machine: transcripts (`scripts/`) and random walks, both on a small world of daemons.

mod edges;
mod script;
mod walk;
mod world;
