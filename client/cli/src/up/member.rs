//! One role that `store up` looks after: a thread of this process, or a process of its own.

use super::pids::{self, Pids};
use super::plan::{Plan, RoleName};
use super::roles::{self, Shown};
use crate::exit::Failure;
use rustix::process::Signal;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use store_shell::shutdown::Shutdown;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

/// How long a role may take to stop in order.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// How often the end of a role is looked for while it is waited for.
const LOOK: Duration = Duration::from_millis(10);
/// How much of a log's end is searched for its last line.
const TAIL_BYTES: u64 = 4096;
/// A log that is longer at a start is put aside.
const LOG_BYTES_MAX: u64 = 64 << 20;

/// Says to a role process: stop, and the others stop too. SIGTERM stops it alone.
pub(crate) const STOP_TOGETHER: Signal = Signal::USR1;

/// A role that was started.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) role: RoleName,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Thread {
        shutdown: Shutdown,
        ended: oneshot::Receiver<Result<(), String>>,
    },
    Child {
        child: Child,
    },
    /// Started again by somebody else while we were there.
    Foreign {
        pid: i32,
    },
    Gone,
}

impl Member {
    /// Starts a role on a thread of this process and waits until it listens.
    pub(crate) async fn start_here(role: RoleName, plan: &Plan) -> Result<(Self, Shown), Failure> {
        let shutdown = Shutdown::new();
        let started = roles::start_thread(&role, plan, shutdown.clone()).await;
        let (shown, ended) =
            started.map_err(|why| Failure::failed(format!("the {role} cannot start: {why}")))?;
        Ok((Member { role, body: Body::Thread { shutdown, ended } }, shown))
    }

    /// Starts a role as a process that ends with this one.
    pub(crate) fn spawn(role: RoleName, plan: &Plan) -> Result<Self, Failure> {
        let mut command = role_command(&role, plan)?;
        command.args(["--supervisor", &std::process::id().to_string()]);
        let child = command.spawn().map_err(|error| {
            Failure::failed(format!("no process can be started for the {role}: {error}"))
        })?;
        Ok(Member { role, body: Body::Child { child } })
    }

    /// A process that somebody else started.
    pub(crate) fn foreign(role: RoleName, pid: i32) -> Self {
        Member { role, body: Body::Foreign { pid } }
    }

    /// How it ended, if it has. A role that somebody started again counts as running.
    pub(crate) fn poll_end(&mut self, plan: &Plan) -> Option<Result<(), String>> {
        let end = match &mut self.body {
            Body::Thread { ended, .. } => match ended.try_recv() {
                Ok(end) => Some(end),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Closed) => Some(Err("its thread panicked".to_string())),
            },
            Body::Child { child } => match child.try_wait() {
                Ok(None) => None,
                Ok(Some(status)) => Some(describe(status, &plan.log(&self.role.dotted()))),
                Err(error) => Some(Err(error.to_string())),
            },
            Body::Foreign { pid } => (Pids::of(plan.dir()).alive(&self.role) != Some(*pid))
                .then(|| Err("it ended".to_string())),
            Body::Gone => return Some(Ok(())),
        };
        if end.is_some() {
            self.body = Body::Gone;
        }
        end
    }

    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.body, Body::Gone)
    }

    /// Looks whether somebody started the role again.
    pub(crate) fn adopt(&mut self, plan: &Plan) -> bool {
        let found = Pids::of(plan.dir()).alive(&self.role).filter(|_| self.is_gone());
        if let Some(pid) = found {
            self.body = Body::Foreign { pid };
        }
        found.is_some()
    }

    pub(crate) fn ask_to_stop(&self) {
        match &self.body {
            Body::Thread { shutdown, .. } => shutdown.trigger(),
            Body::Child { child } => {
                pids::signal(i32::try_from(child.id()).unwrap_or(0), STOP_TOGETHER);
            }
            Body::Foreign { pid } => pids::signal(*pid, STOP_TOGETHER),
            Body::Gone => {}
        }
    }

    /// Waits for the end that was asked for; a process that does not come to it is killed.
    pub(crate) async fn wait_stopped(&mut self, plan: &Plan) {
        let until = store_shell::clock::now() + STOP_LIMIT;
        while self.poll_end(plan).is_none() {
            if store_shell::clock::now() >= until {
                tracing::warn!(role = %self.role, "did not stop in time");
                match &mut self.body {
                    Body::Child { child } => {
                        let _ = child.kill().and_then(|()| child.wait().map(drop));
                    }
                    Body::Foreign { pid } => pids::signal(*pid, Signal::KILL),
                    Body::Thread { .. } | Body::Gone => {}
                }
                self.body = Body::Gone;
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// The command line of a role, as it stands in `DIR/commands`.
pub(crate) fn command_words(role: &RoleName, plan: &Plan) -> Result<Vec<String>, Failure> {
    let program = std::env::current_exe()?;
    let words = [
        program.display().to_string(),
        "role".to_string(),
        "run".to_string(),
        role.kind.word().to_string(),
        role.id.clone(),
        "--dir".to_string(),
        plan.dir().display().to_string(),
    ];
    Ok(words.into())
}

/// A process for a role: in a group of its own, so that Ctrl-C reaches only whoever started it; output into its
/// log.
pub(crate) fn role_command(role: &RoleName, plan: &Plan) -> Result<Command, Failure> {
    let words = command_words(role, plan)?;
    let log = open_log(&plan.log(&role.dotted()))?;
    let mut command = Command::new(&words[0]);
    command
        .args(&words[1..])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0);
    // What is meant for the command line must not reach the role's settings.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("STORE_") && text != store_shell::telemetry::LOG_VARIABLE {
            command.env_remove(&name);
        }
    }
    Ok(command)
}

/// A log to append to. A long one of before is put aside.
#[allow(clippy::disallowed_methods)] // a log need not survive a crash of the machine
pub(crate) fn open_log(path: &Path) -> Result<File, Failure> {
    if let Some(parent) = path.parent() {
        store_shell::files::make_directory(parent, 0o700)?;
    }
    if std::fs::metadata(path).is_ok_and(|found| found.len() > LOG_BYTES_MAX) {
        std::fs::rename(path, path.with_extension("log.old"))?;
    }
    let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    opened.map_err(|error| {
        Failure::failed(format!("the log {} cannot be written: {error}", path.display()))
    })
}

fn describe(status: ExitStatus, log: &Path) -> Result<(), String> {
    if status.success() {
        return Ok(());
    }
    let end = match (status.signal(), status.code()) {
        (Some(signal), _) => format!("it was killed by signal {signal}"),
        (None, code) => format!("it ended with {}", code.unwrap_or(-1)),
    };
    match last_line(log).filter(|_| status.signal().is_none()) {
        Some(line) => Err(format!("{line} (log: {})", log.display())),
        None => Err(format!("{end} (log: {})", log.display())),
    }
}

/// What a role that failed said last.
fn last_line(log: &Path) -> Option<String> {
    let mut file = File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES))).ok()?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut tail).ok()?;
    let text = String::from_utf8_lossy(&tail);
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(line.trim_start_matches("store: ").to_string())
}

#[cfg(test)]
mod tests {
    use super::super::plan::Kind;
    use super::*;

    #[test]
    fn the_last_line_of_a_log_is_the_reason() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let log = dir.path().join("x.log");
        store_shell::files::write_durable(&log, b"a\nstore: port 1 is taken\n\n", 0o600)
            .expect("written");
        assert_eq!(last_line(&log).as_deref(), Some("port 1 is taken"));
        let failed = describe(ExitStatus::from_raw(256), &log).expect_err("it failed");
        assert!(failed.starts_with("port 1 is taken (log: "), "{failed}");
        let killed = describe(ExitStatus::from_raw(9), &log).expect_err("it failed");
        assert!(killed.starts_with("it was killed by signal 9"), "{killed}");
        assert_eq!(describe(ExitStatus::from_raw(0), &log), Ok(()));
        assert_eq!(last_line(&dir.path().join("none")), None);
    }

    #[test]
    fn a_role_is_started_by_its_name_and_directory_alone() {
        let plan = Plan::new(Path::new("/data dir"), 1);
        let words = command_words(&RoleName::new(Kind::Daemon, 0), &plan).expect("a program");
        assert_eq!(words[1..], ["role", "run", "daemon", "0", "--dir", "/data dir"]);
    }
}
