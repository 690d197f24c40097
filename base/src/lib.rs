#![doc = include_str!("../README.md")]

pub mod bucket;
pub mod ceph;
pub mod class;
pub mod codec;
pub mod config;
pub mod crush;
pub mod erasure;
pub mod error;
pub mod hash;
pub mod identity;
pub mod ids;
pub mod machine;
pub mod map;
pub mod object;
pub mod op;
pub mod wire;

pub use ids::{
    ClientId, ClusterId, DaemonId, Epoch, Incarnation, Interval, PgId, PoolId, RequestId, SnapId,
    Ticket, Timestamp, Version,
};
pub use machine::{Machine, Time};
pub use object::ObjectName;
