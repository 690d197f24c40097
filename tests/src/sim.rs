//! A whole cluster on one thread from one seed: the product's own machines (monitor, daemons, clients),
//! and a world that is against them.
//!
//! # Fault model: what the product must survive here
//!
//! - a daemon, or all of them, or the monitor, dies between any two steps and starts again; of the batches
//!   that its disk had not confirmed, any prefix survives;
//! - disks are slow, each batch by itself, sometimes for long;
//! - messages take any time; sessions keep order while they live, and break at any moment, losing what was
//!   under way; messages of an old session may arrive after those of a new one was sent;
//! - pairs of nodes are parted, in one direction or both, for any time; a session that hears nothing for
//!   [`network::KEEP_ALIVE`] breaks;
//! - clocks of daemons drift by up to one per cent, and start anywhere;
//! - calls to the monitor and its answers are lost; maps arrive late and in leaps;
//! - objects are damaged on one medium (reads say so).
//!
//! Torn and reordered disk writes are below the seam of the `Store` trait: the engine's own crash tests
//! hold it to "a batch is atomic, and durable in order" on a disk that does these things.
//!
//! # Files in reading order
//!
//! [`run`] one seed from start to verdict · [`world`] time, queue, dispatch · [`network`] sessions and
//! partitions · [`node`] the machines and their small shells · [`workload`] what clients do ·
//! [`fault`] what is done to the cluster · [`check`] the promises.

pub mod check;
pub mod fault;
pub mod network;
pub mod node;
pub mod random;
pub mod run;
pub mod workload;
pub mod world;
