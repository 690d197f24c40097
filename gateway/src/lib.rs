#![doc = include_str!("../README.md")]

pub mod admin;
pub mod catalogue;
pub mod cluster;
pub mod config;
pub mod crypt;
pub mod http;
pub mod iam;
pub mod keyring;
pub mod metrics;
pub mod operator;
pub mod pace;
pub mod s3;
pub mod service;
pub mod shell;
pub mod swift;
pub mod transfer;
pub mod webhook;

pub use service::{Handle, run};
