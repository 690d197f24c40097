//! Encryption of bodies at rest.
//!
//! Every encrypted body has a random key of its own ([`keys::DataKey`]). It lies beside the body, wrapped by a
//! key that the client brings with each request ([`keys::CustomerKey`]), by a key of the cluster ([`ring::Ring`]),
//! or by a named key that the cluster's keys protect in turn ([`kms::NamedKeys`]). From it comes a key for each run
//! of data, so that a nonce, which is the number of a segment, is used once only; how segments lie is said in
//! `store_base::bucket`, and [`segments`] seals and opens them. A segment opens in its place only: neither
//! exchanged, nor moved, nor with others cut off behind it.
//!
//! What is not encrypted: keys, headers, metadata, tags, sizes, checksums, and the entity tag of what the
//! cluster's keys protect.

pub mod keys;
pub mod kms;
pub mod ring;
pub mod segments;
