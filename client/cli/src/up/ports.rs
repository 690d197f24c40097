//! Which ports the roles of a cluster on this machine get.

use crate::exit::Failure;
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;

/// How ports are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Choice {
    /// The usual ones; one that is taken is an error
    #[default]
    Default,
    /// The usual ones, or the next that are free
    Auto,
}

/// How far `auto` looks.
const STEPS_MAX: u16 = 2000;

/// Chooses ports one after another, none twice.
#[derive(Debug)]
pub(crate) struct Chooser {
    choice: Choice,
    given: BTreeSet<u16>,
}

impl Chooser {
    pub(crate) fn new(choice: Choice) -> Self {
        Chooser { choice, given: BTreeSet::new() }
    }

    /// The port that this role had before or usually has, if it is free; else the next free one, or an error.
    pub(crate) fn choose(&mut self, role: &str, wished: u16) -> Result<u16, Failure> {
        let steps = match self.choice {
            Choice::Default => 0,
            Choice::Auto => STEPS_MAX,
        };
        let candidates = (0..=steps).filter_map(|step| wished.checked_add(step));
        for port in candidates {
            if !self.given.contains(&port) && is_free(port) {
                self.given.insert(port);
                return Ok(port);
            }
        }
        Err(Failure::failed(match self.choice {
            Choice::Default => format!(
                "port {wished} for {role} is taken: stop what listens there, or let free ports be found with --ports auto"
            ),
            Choice::Auto => {
                format!(
                    "no port from {wished} to {} is free for {role}",
                    wished.saturating_add(steps)
                )
            }
        }))
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_ok()
}

/// Keeps other clusters of this machine from choosing the same ports between our choice and our listening.
/// Where the lock cannot be had, two of them may still collide, and one of them says so.
pub(crate) fn lock() -> Option<File> {
    let path = std::env::temp_dir().join("store-ports.lock");
    // World-writable, because other users' clusters need it too; it never has contents.
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o666).open(path).ok()?;
    file.lock().ok()?;
    Some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_an_error_or_passed_over() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = taken.local_addr().expect("bound").port();
        let error = Chooser::new(Choice::Default).choose("monitor", port).expect_err("taken");
        assert!(
            error.message().contains(&port.to_string()) && error.message().contains("--ports auto")
        );
        let mut auto = Chooser::new(Choice::Auto);
        let first = auto.choose("monitor", port).expect("there are others");
        let second = auto.choose("daemon", port).expect("there are others");
        assert!(first != port && second != port && first != second);
    }
}
