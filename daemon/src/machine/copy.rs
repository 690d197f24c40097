//! Copies of whole objects between daemons: for learners, and for repairs.
//!
//! Whoever lacks an object pulls it; whoever has it pushes parts, a few ahead of the acknowledgements. An
//! attempt has a name, parts have numbers, and only the next part of the newest attempt counts.

mod pull;
mod push;

pub(crate) use pull::Pull;
pub(crate) use push::{Push, PushMessage};
