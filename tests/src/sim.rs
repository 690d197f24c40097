//! A whole cluster on one thread from one seed: the product's own machines (monitor, daemons, clients),
//! and a world that is against them.
//!
//! # Fault model: what the product must survive here
//!
//! - A daemon, or all of them, or the monitor, dies between any two steps and starts again, soon, late, or
//!   not before the end. Of what its disk had not confirmed, any prefix of the batches survives (reference
//!   engine), or any sectors of any unflushed write (real engine).
//! - Disks are slow, each by itself, sometimes for long; are full but for deletes, and have room again.
//! - A disk is lost with all that it had, and an empty one comes in its place as a new daemon: while every
//!   group that it holds is active with another member that runs and was never damaged.
//! - Bits rot in one copy of an object whose group has such another member.
//! - Messages take any time; sessions keep order while they live, and break at any moment, losing what was
//!   under way; between daemons a message may come again, up to seconds later, on whatever session.
//! - Nodes are parted, in one direction or both, for any time; a session that hears nothing for
//!   [`network::KEEP_ALIVE`] breaks.
//! - Monotonic clocks start anywhere and drift by one per cent, or (knob `edge_clocks`) by 2.5: the edge of
//!   what the margin of leases covers. Beyond it nothing is promised. Wall clocks jump by any time.
//! - The monitor loses its lead, and wins it again; a commit under way then may have happened or not. Calls to
//!   it and its answers are lost; maps arrive late and in leaps.
//! - Operators change everything while it recovers: daemons in, out, reweighted, marked down, added, purged;
//!   size and min_size; pools made, grown and removed; exceptions to CRUSH.
//!
//! Not survived, and therefore not done: the last good copy lost or damaged; a lie on the wire (TLS); a disk
//! that says "durable" and is not; clocks that drift by more than the margin.
//!
//! # Files in reading order
//!
//! [`schedule`] what a run is, as data · [`element`] what can be done to a cluster · [`run`] a schedule from
//! start to verdict · [`world`] time, queue, dispatch · [`network`] sessions and partitions · [`node`] the
//! machines and their small shells · [`medium`] their disks · [`damage`] rot and loss · [`workload`] what
//! clients do · [`scrub`] all copies are read · [`observe`] what is seen of a daemon · [`check`] the promises ·
//! [`reached`] the states that runs reach · [`steps`] the event log · [`planted`] bugs that must be found ·
//! [`minimise`] the shortest schedule that still fails.

pub mod check;
pub mod damage;
pub mod element;
pub mod medium;
pub mod minimise;
pub mod network;
pub mod node;
pub mod observe;
pub mod planted;
pub mod random;
pub mod reached;
pub mod run;
pub mod schedule;
pub mod scrub;
pub mod steps;
pub mod workload;
pub mod world;
