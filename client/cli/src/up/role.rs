//! `role`: single roles of a cluster that `store up` made, as processes of their own.

use super::member::{STOP_TOGETHER, role_command};
use super::pids::{self, Pids};
use super::plan::{Kind, Plan, RoleName};
use super::{absolute, raise_file_limit, roles};
use crate::cluster::DEFAULT_DIR;
use crate::exit::Failure;
use crate::output::Output;
use crate::table::Table;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use store_daemon::shell::Farewell;
use store_shell::clock;
use store_shell::shutdown::Shutdown;
use store_shell::telemetry::{self, Endpoint, LogFormat};
use tokio::signal::unix::{SignalKind, signal};

/// How long a role may take to be ready.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long a role may take to stop in order.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(20);

#[derive(clap::Subcommand, Debug)]
pub(crate) enum RoleCommand {
    /// Run a role in the foreground until it is stopped
    Run {
        #[command(flatten)]
        named: Named,
        /// End with this process
        #[arg(long, hide = true, value_name = "PID")]
        supervisor: Option<i32>,
    },
    /// Start a role again, in the background, and wait until it is ready
    Start {
        #[command(flatten)]
        named: Named,
    },
    /// Stop a role in order
    Stop {
        #[command(flatten)]
        named: Named,
    },
    /// Leave a daemon that was removed from the cluster out from now on; its directory stays
    Rm {
        #[command(flatten)]
        named: Named,
    },
    /// List the roles and their processes
    #[command(visible_alias = "list")]
    Ls {
        /// The cluster's directory
        #[arg(long, default_value = DEFAULT_DIR)]
        dir: PathBuf,
    },
}

#[derive(clap::Args, Debug)]
pub(crate) struct Named {
    /// What it is
    #[arg(value_name = "ROLE")]
    kind: Kind,
    /// Which one, as in DIR/pids
    id: String,
    /// The cluster's directory
    #[arg(long, default_value = DEFAULT_DIR)]
    dir: PathBuf,
}

impl Named {
    fn find(&self) -> Result<(RoleName, Plan), Failure> {
        let plan = load(&self.dir)?;
        let role = RoleName::new(self.kind, &self.id);
        if !plan.roles().contains(&role) {
            let known: Vec<_> = plan.roles().iter().map(ToString::to_string).collect();
            return Err(Failure::not_found(format!(
                "there is no {role}; there are {}",
                known.join(", ")
            )));
        }
        Ok((role, plan))
    }
}

fn load(dir: &std::path::Path) -> Result<Plan, Failure> {
    let plan = match dir.is_dir() {
        true => Plan::load(&absolute(dir)?)?,
        false => None,
    };
    plan.ok_or_else(|| {
        Failure::not_found(format!(
            "there is no cluster in {}: make one with `store up --dir {0}`, or name its directory with --dir",
            dir.display()
        ))
    })
}

pub(crate) fn run(command: &RoleCommand, output: &Output) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match command {
        RoleCommand::Run { named, supervisor } => {
            let (role, plan) = named.find()?;
            end_with(*supervisor)?;
            tokio::task::LocalSet::new().block_on(&runtime, serve(role, plan))
        }
        RoleCommand::Start { named } => {
            let (role, plan) = named.find()?;
            runtime.block_on(start(&role, &plan, output))
        }
        RoleCommand::Stop { named } => {
            let (role, plan) = named.find()?;
            runtime.block_on(stop(&role, &plan, output))
        }
        RoleCommand::Rm { named } => {
            let (role, plan) = named.find()?;
            remove(&role, plan, output)
        }
        RoleCommand::Ls { dir } => list(&load(dir)?, output),
    }
}

/// A role that a supervisor started is asked to stop when the supervisor dies, however it dies.
fn end_with(supervisor: Option<i32>) -> Result<(), Failure> {
    let Some(supervisor) = supervisor else { return Ok(()) };
    set_parent_process_death_signal(Some(STOP_TOGETHER)).map_err(std::io::Error::from)?;
    // It may have died before that.
    if getppid().map(|parent| Pid::as_raw_nonzero(parent).get()) != Some(supervisor) {
        return Err(Failure::failed("the process that started this role is gone"));
    }
    Ok(())
}

/// The life of a role process.
async fn serve(role: RoleName, plan: Plan) -> Result<(), Failure> {
    telemetry::init(LogFormat::Text).map_err(Failure::failed)?;
    raise_file_limit();
    let shutdown = Shutdown::new();
    shutdown.on_signals()?;
    let listener = Endpoint::bind(plan.health(Some(&role))?)?;
    let pids = Pids::of(plan.dir());
    pids.set(&role, std::process::id())?;
    let farewell = Arc::new(OnceLock::new());
    stop_with_others(shutdown.clone(), farewell.clone())?;
    let ended = async {
        let running = roles::start(&role, &plan, shutdown.clone()).await?;
        if let Some(of_daemon) = running.farewell {
            farewell.get_or_init(|| of_daemon);
        }
        let readiness = running.shown.readiness;
        let endpoint = Endpoint::new()
            .with_metrics(running.shown.metrics)
            .with_role(role.dotted(), move || readiness());
        tokio::spawn(endpoint.serve(listener, shutdown.clone()));
        running.ended.await
    };
    let ended = ended.await;
    // The line of a process that is gone would only mislead.
    pids.remove(&role, std::process::id())?;
    ended.map_err(Failure::failed)
}

/// Stops this role when the whole cluster stops: a daemon then says nothing to a monitor that stops too.
fn stop_with_others(shutdown: Shutdown, farewell: Arc<OnceLock<Farewell>>) -> Result<(), Failure> {
    let mut together = signal(SignalKind::from_raw(STOP_TOGETHER.as_raw()))?;
    tokio::spawn(async move {
        together.recv().await;
        tracing::info!("stopping with the whole cluster");
        farewell.get().into_iter().for_each(Farewell::skip);
        shutdown.trigger();
    });
    Ok(())
}

pub(super) async fn start(role: &RoleName, plan: &Plan, output: &Output) -> Result<(), Failure> {
    if let Some(pid) = Pids::of(plan.dir()).alive(role) {
        return Err(Failure::failed(format!("the {role} runs already, pid {pid}")));
    }
    let mut child = role_command(role, plan)?.spawn()?;
    let health = plan.health(Some(role))?;
    let until = clock::now() + START_LIMIT;
    let mut why = telemetry::probe(health).await;
    while let Err(reason) = why {
        if let Some(status) = child.try_wait()? {
            let log = plan.log(&role.dotted());
            return Err(Failure::failed(format!(
                "the {role} ended with {status}; see {}",
                log.display()
            )));
        }
        if clock::now() >= until {
            return Err(Failure::timed_out(format!("the {role} runs but is not ready: {reason}")));
        }
        tokio::time::sleep(LOOK).await;
        why = telemetry::probe(health).await;
    }
    let value = json!({"role": role.kind.word(), "id": role.id, "pid": child.id()});
    output.show_text(&value, |_| format!("the {role} is ready, pid {}", child.id()));
    Ok(())
}

async fn stop(role: &RoleName, plan: &Plan, output: &Output) -> Result<(), Failure> {
    let pid = Pids::of(plan.dir()).alive(role);
    let pid = pid.ok_or_else(|| Failure::not_found(format!("no process runs the {role}")))?;
    pids::signal(pid, Signal::TERM);
    if !pids::wait_gone(pid, STOP_LIMIT).await {
        return Err(Failure::timed_out(format!("the {role}, pid {pid}, has not stopped yet")));
    }
    output.done(&format!("the {role} has stopped"));
    Ok(())
}

fn remove(role: &RoleName, mut plan: Plan, output: &Output) -> Result<(), Failure> {
    let number = role.id.parse().ok().filter(|_| role.kind == Kind::Daemon);
    let number = number.ok_or_else(|| Failure::usage(format!("the {role} cannot be left out")))?;
    if let Some(pid) = Pids::of(plan.dir()).alive(role) {
        let why = format!("the {role} runs, pid {pid}: stop it first");
        return Err(Failure::unsafe_(why));
    }
    plan.remove_daemon(number);
    plan.save()?;
    let place = plan.role_dir(role);
    output.done(&format!("the {role} is left out; what it had is in {}", place.display()));
    Ok(())
}

fn list(plan: &Plan, output: &Output) -> Result<(), Failure> {
    let pids = Pids::of(plan.dir());
    let mut rows = Vec::new();
    for role in plan.roles() {
        let address = match role.kind {
            Kind::Gateway => plan.s3()?,
            _ => plan.role_address(&role)?,
        };
        rows.push(json!({
            "role": role.kind.word(),
            "id": role.id,
            "pid": pids.alive(&role),
            "address": address.to_string(),
            "log": plan.log(&role.dotted()).display().to_string(),
        }));
    }
    output.show(&Value::Array(rows), |rows| {
        let mut table = Table::new(["role", "id", "pid", "address", "log"]).right([2]);
        for row in rows.as_array().into_iter().flatten() {
            let cells = ["role", "id", "pid", "address", "log"];
            table.row(cells.map(|key| crate::units::field(row, key)));
        }
        table
    });
    Ok(())
}
