//! Which process runs which role: `DIR/pids`, lines `role id pid`. Every role process writes its own line, so the
//! list is right whoever started it.
#![allow(clippy::disallowed_methods)] // the list need not survive a crash of the machine: no process does

use super::plan::RoleName;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use store_shell::clock;

const NAME: &str = "pids";
const LOCK: &str = ".pids.lock";

/// The list of one cluster.
#[derive(Clone, Debug)]
pub(crate) struct Pids {
    dir: PathBuf,
}

impl Pids {
    pub(crate) fn of(dir: &Path) -> Self {
        Pids { dir: dir.to_path_buf() }
    }

    /// All lines that can be read.
    pub(crate) fn list(&self) -> Vec<(RoleName, i32)> {
        let text = fs::read_to_string(self.dir.join(NAME)).unwrap_or_default();
        let line = |line: &str| {
            let mut words = line.split_whitespace();
            let role = RoleName::parse(words.next()?, words.next()?)?;
            Some((role, words.next()?.parse().ok().filter(|pid| *pid > 0)?))
        };
        text.lines().filter_map(line).collect()
    }

    /// The process of a role, if it is alive and really is one.
    pub(crate) fn alive(&self, role: &RoleName) -> Option<i32> {
        let found = self.list().into_iter().find(|(listed, _)| listed == role);
        found.map(|(_, pid)| pid).filter(|pid| self.runs(*pid, role))
    }

    /// Numbers of processes are used again, so the command line is looked at.
    fn runs(&self, pid: i32, role: &RoleName) -> bool {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        let expected = [&b"role"[..], b"run", role.kind.word().as_bytes(), role.id.as_bytes()];
        let dir = self.dir.as_os_str().as_encoded_bytes();
        words.windows(expected.len()).any(|window| window == expected) && words.contains(&dir)
    }

    /// Notes the process of a role, instead of the one before.
    pub(crate) fn set(&self, role: &RoleName, pid: u32) -> io::Result<()> {
        self.change(|list| {
            list.retain(|(listed, _)| listed != role);
            list.push((role.clone(), i32::try_from(pid).unwrap_or(0)));
            list.sort();
        })
    }

    /// Takes a line away, unless another process has taken the role over.
    pub(crate) fn remove(&self, role: &RoleName, pid: u32) -> io::Result<()> {
        self.change(|list| {
            list.retain(|(listed, by)| listed != role || u32::try_from(*by) != Ok(pid));
        })
    }

    /// Takes all lines away.
    pub(crate) fn clear(&self) -> io::Result<()> {
        match fs::remove_file(self.dir.join(NAME)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn change(&self, edit: impl FnOnce(&mut Vec<(RoleName, i32)>)) -> io::Result<()> {
        let _lock = self.lock()?;
        let mut list = self.list();
        edit(&mut list);
        let text: String = list.iter().map(|(role, pid)| format!("{role} {pid}\n")).collect();
        let fresh = self.dir.join(format!(".{NAME}.new"));
        fs::write(&fresh, text)?;
        fs::rename(&fresh, self.dir.join(NAME))
    }

    fn lock(&self) -> io::Result<File> {
        let path = self.dir.join(LOCK);
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        file.lock()?;
        Ok(file)
    }
}

/// Sends a signal; a process that is gone is no error.
pub(crate) fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, signal);
    }
}

/// Waits until a process that need not be our child is gone; `false` if it is still there after that time.
pub(crate) async fn wait_gone(pid: i32, patience: Duration) -> bool {
    const PAUSE: Duration = Duration::from_millis(20);
    let until = clock::now() + patience;
    let is_there = || Pid::from_raw(pid).is_some_and(|pid| test_kill_process(pid).is_ok());
    while is_there() && !is_zombie(pid) {
        if clock::now() >= until {
            return false;
        }
        tokio::time::sleep(PAUSE).await;
    }
    true
}

/// A process that has ended and that its parent has not looked at.
fn is_zombie(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name before it is in parentheses and may hold anything.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']))
}

#[cfg(test)]
mod tests {
    use super::super::plan::Kind;
    use super::*;
    use std::process::Command;

    #[test]
    fn lines_are_set_replaced_and_removed() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let pids = Pids::of(dir.path());
        let (first, second) = (RoleName::new(Kind::Daemon, 0), RoleName::new(Kind::Gateway, "a"));
        pids.set(&second, 20).expect("written");
        pids.set(&first, 10).expect("written");
        pids.set(&first, 11).expect("written");
        let text = fs::read_to_string(dir.path().join(NAME)).expect("there");
        assert_eq!(text, "daemon 0 11\ngateway a 20\n");
        pids.remove(&first, 10).expect("written");
        assert_eq!(pids.list().len(), 2, "the line is another process' now");
        pids.remove(&first, 11).expect("written");
        assert_eq!(pids.list(), [(second, 20)]);
        pids.clear().expect("removed");
        pids.clear().expect("nothing to remove");
        assert_eq!(pids.list(), []);
    }

    #[test]
    fn a_number_that_is_another_program_now_is_not_ours() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let pids = Pids::of(dir.path());
        let role = RoleName::new(Kind::Daemon, 0);
        pids.set(&role, std::process::id()).expect("written");
        assert_eq!(pids.alive(&role), None);
    }

    #[tokio::test]
    async fn the_end_of_a_child_is_seen_though_nobody_waited_for_it() {
        let mut child = Command::new("sleep").arg("100").spawn().expect("there is a sleep");
        let pid = i32::try_from(child.id()).expect("a small number");
        assert!(!wait_gone(pid, Duration::from_millis(50)).await);
        signal(pid, Signal::TERM);
        assert!(wait_gone(pid, Duration::from_secs(5)).await);
        child.wait().expect("ended");
    }
}
