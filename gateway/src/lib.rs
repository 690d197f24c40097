#![doc = include_str!("../README.md")]

pub mod admin;
pub mod catalogue;
pub mod cluster;
pub mod config;
pub mod http;
pub mod keyring;
pub mod metrics;
pub mod s3;
pub mod service;
pub mod shell;
pub mod transfer;

pub use service::{Handle, run};
