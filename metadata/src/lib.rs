#![doc = include_str!("../README.md")]

pub mod config;
mod service;

pub use service::{Handle, run};
