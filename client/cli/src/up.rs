//! `up`: a whole cluster on this machine, as one process or as one per role.
//!
//! | in the directory | what |
//! |---|---|
//! | `lock` | held while the cluster is up |
//! | `up.json` | roles and ports, so that the same cluster comes up again |
//! | `monitor.a/`, `daemon.N/` | what the roles keep |
//! | `log/` | their logs |
//! | `store.env` | how to use the cluster; there only while it is ready |
//! | `pids`, `commands` | with `--processes`: which process runs which role, and how to start it again |
//!
//! The order of starting is monitor, daemons and metadata service, gateway; of stopping gateway and metadata
//! service, monitor, daemons: without a monitor nobody takes the daemons that end first for lost, and the maps
//! stay as they are. Everything listens on loopback only, so connections between roles are in plain text.

pub(crate) mod add;
mod bootstrap;
pub(crate) mod env_file;
mod member;
mod pids;
mod plan;
mod ports;
pub(crate) mod role;
mod roles;

use crate::cluster::{Connection, DEFAULT_DIR};
use crate::exit::Failure;
use crate::output::Output;
use crate::progress;
use bootstrap::Keys;
use indicatif::ProgressBar;
use member::Member;
use pids::Pids;
use plan::{DAEMONS_MAX, Kind, Plan, RoleName};
use ports::{Choice, Chooser};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;
use store_base::config::ByteSize;
use store_shell::clock;
use store_shell::files::{self, DirectoryLock};
use store_shell::shutdown::Shutdown;
use store_shell::telemetry::{self, Endpoint, Readiness};
use tokio::time::{sleep, timeout};
use tracing_subscriber::EnvFilter;

/// Daemons of a new cluster.
const DAEMONS: u32 = 3;
/// How long the whole may take to be ready.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How often roles are looked at once all is ready.
const WATCH: Duration = Duration::from_millis(200);
/// How often it is looked whether a role is ready.
const LOOK: Duration = Duration::from_millis(10);
/// Pause before a role that ended is started again, with --restart.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// How long roles that a killed supervisor left behind may take to stop.
const LEFTOVER_LIMIT: Duration = Duration::from_secs(10);
/// Where S3 clients believe to be.
const REGION: &str = "us-east-1";

#[derive(clap::Args, Debug)]
pub(crate) struct UpArgs {
    /// Where the cluster is, or will be made
    #[arg(long, default_value = DEFAULT_DIR)]
    dir: PathBuf,
    /// Daemons [default: as many as there are, 3 in a new cluster]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(DAEMONS_MAX)))]
    daemons: Option<u32>,
    /// How much of the disk each daemon of a new cluster may take [default: its share of what is free]
    #[arg(long, value_name = "SIZE")]
    capacity: Option<ByteSize>,
    /// How ports are chosen
    #[arg(long, value_enum, default_value_t)]
    ports: Choice,
    /// Take a row of ports from here on instead of the usual ones
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    base_port: Option<u16>,
    /// Run each role as a process of its own; DIR/pids lists them, DIR/commands tells how to start each again
    #[arg(long)]
    processes: bool,
    /// Start roles again that ended by themselves
    #[arg(long, requires = "processes")]
    restart: bool,
}

/// A path that means the same for every process.
fn absolute(dir: &Path) -> Result<PathBuf, Failure> {
    dir.canonicalize().map_err(|error| {
        Failure::failed(format!("cannot use the directory {}: {error}", dir.display()))
    })
}

fn make_directory(dir: &Path) -> Result<(), Failure> {
    if dir.exists() && !dir.is_dir() {
        let dir = dir.display();
        return Err(Failure::failed(format!(
            "{dir} is not a directory: name another place with --dir"
        )));
    }
    // A parent that is missing is as much a failure as one that cannot be written.
    files::make_directory(dir, 0o700).map_err(|error| Failure::failed(error.to_string()))
}

fn disk_full(dir: &Path) -> Failure {
    let dir = dir.display();
    Failure::failed(format!(
        "the disk of {dir} is full: make room there, or name another place with --dir"
    ))
}

/// As many open files as this user may have: every connection is one.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

pub(crate) fn run(args: &UpArgs, output: &Output) -> Result<(), Failure> {
    let began = clock::now();
    make_directory(&args.dir)?;
    let dir = absolute(&args.dir)?;
    let _lock = DirectoryLock::acquire(&dir).map_err(|error| match error.kind() {
        std::io::ErrorKind::StorageFull => disk_full(&dir),
        _ => error.into(),
    })?;
    remove_file(&dir.join(env_file::NAME))?;
    init_log(&dir)?;
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        stop_leftovers(&dir).await?;
        // Held until all roles listen, so that no other cluster chooses the same ports.
        let ports_lock = (args.ports == Choice::Auto).then(ports::lock).flatten();
        let plan = make_plan(args, &dir)?;
        let shutdown = Shutdown::new();
        shutdown.on_signals()?;
        let mut cluster = Cluster {
            plan,
            members: Vec::new(),
            shown: Endpoint::new(),
            readiness: Vec::new(),
            processes: args.processes,
            restart: args.restart,
            output: output.clone(),
            bar: progress::waiting(output),
        };
        let started = tokio::select! {
            started = timeout(START_LIMIT, cluster.start()) => started.unwrap_or_else(|_| {
                Err(Failure::timed_out(format!("the cluster was not ready in {START_LIMIT:?}; see {}", dir.join("log").display())))
            }),
            () = shutdown.wait() => Err(Failure::failed("stopped before it was ready")),
        };
        drop(ports_lock);
        cluster.bar.finish_and_clear();
        let ended = match started {
            Ok(keys) => {
                cluster.announce(&keys, clock::now().since(began))?;
                cluster.watch(&shutdown).await
            }
            Err(failure) => Err(failure),
        };
        let stopped = remove_file(&dir.join(env_file::NAME));
        cluster.stop().await;
        ended.and(stopped)
    })
}

fn remove_file(path: &Path) -> Result<(), Failure> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::failed(format!("cannot remove {}: {error}", path.display())))
        }
        _ => Ok(()),
    }
}

/// The screen is for the person; what roles log goes into a file.
fn init_log(dir: &Path) -> Result<(), Failure> {
    store_shell::security::install_provider();
    store_shell::alloc::disable_huge_pages();
    let file = member::open_log(&dir.join("log").join("store.log"))?;
    let wished = std::env::var(telemetry::LOG_VARIABLE).ok().filter(|text| !text.trim().is_empty());
    let filter =
        wished.as_deref().unwrap_or("info,h2=warn,hyper=warn,rustls=error,tower=warn,tonic=warn");
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| Failure::usage(format!("{}: {error}", telemetry::LOG_VARIABLE)))?;
    let begun = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(Mutex::new(file))
        .try_init();
    begun.map_err(|error| Failure::failed(format!("logging cannot begin: {error}")))
}

/// Roles whose supervisor was killed may still run; they are ours, because the directory is.
async fn stop_leftovers(dir: &Path) -> Result<(), Failure> {
    let pids = Pids::of(dir);
    let left: Vec<_> =
        pids.list().into_iter().filter_map(|(role, _)| Some((pids.alive(&role)?, role))).collect();
    for (pid, role) in &left {
        tracing::info!(%role, pid, "stopping a role that was left behind");
        pids::signal(*pid, member::STOP_TOGETHER);
    }
    for (pid, role) in left {
        if !pids::wait_gone(pid, LEFTOVER_LIMIT).await {
            pids::signal(pid, Signal::KILL);
            if !pids::wait_gone(pid, LEFTOVER_LIMIT).await {
                return Err(Failure::failed(format!(
                    "the {role} of before, pid {pid}, cannot be stopped"
                )));
            }
        }
    }
    Ok(pids.clear()?)
}

fn make_plan(args: &UpArgs, dir: &Path) -> Result<Plan, Failure> {
    let mut plan = match (Plan::load(dir)?, Plan::daemons_in(dir)) {
        (Some(plan), _) => plan,
        (None, 0) => Plan::new(dir, args.daemons.unwrap_or(DAEMONS)),
        // The file was lost or removed; the data was not.
        (None, daemons) => Plan::new(dir, daemons),
    };
    match args.daemons {
        Some(wished) if wished < plan.daemons => {
            return Err(Failure::usage(format!(
                "this cluster has {} daemons, which hold its data: they are not left away by --daemons {wished}; take them out with `store osd out` first",
                plan.daemons
            )));
        }
        Some(wished) => plan.set_daemons(wished),
        None => {}
    }
    if let Some(capacity) = args.capacity {
        plan.set_capacity(capacity);
    }
    plan.choose_capacity()?;
    plan.choose_ports(&mut Chooser::new(args.ports), args.base_port, args.processes)?;
    plan.save()?;
    Ok(plan)
}

/// How to start each role again, for those who look after them by hand.
fn write_commands(plan: &Plan) -> Result<(), Failure> {
    let mut text = String::new();
    for role in plan.roles() {
        let words = member::command_words(&role, plan)?;
        let words: Vec<_> = words.iter().map(|word| env_file::quote(word)).collect();
        text.push_str(&format!("{role} {}\n", words.join(" ")));
    }
    Ok(files::write_durable(&plan.dir().join("commands"), text.as_bytes(), 0o600)?)
}

struct Cluster {
    plan: Plan,
    members: Vec<Member>,
    /// What the roles of this process show, until it is served.
    shown: Endpoint,
    /// Of the roles of this process.
    readiness: Vec<Readiness>,
    processes: bool,
    restart: bool,
    output: Output,
    bar: ProgressBar,
}

impl Cluster {
    async fn start(&mut self) -> Result<Keys, Failure> {
        let health = match self.processes {
            true => {
                write_commands(&self.plan)?;
                None
            }
            // A taken port is said before anything is made.
            false => Some(Endpoint::bind(self.plan.health(None)?)?),
        };
        let roles = self.plan.roles();
        let of = |kind: Kind| roles.iter().filter(move |role| role.kind == kind).cloned();
        self.bar.set_message("starting the monitor");
        self.start_all(of(Kind::Monitor).collect()).await?;
        let connection = Connection::local(&self.plan.monitor()?.to_string(), START_LIMIT);
        let keys = self.guard(async { bootstrap::admin_keys(&connection).await }).await?;
        self.bar.set_message("starting the daemons");
        self.start_all(of(Kind::Daemon).chain(of(Kind::Metadata)).collect()).await?;
        // Pools that the gateway makes shall find all daemons there.
        self.until(bootstrap::wait_for_readiness(&self.readiness.clone())).await?;
        self.bar.set_message("starting the gateway");
        self.start_all(of(Kind::Gateway).collect()).await?;
        if let Some(listener) = health {
            let endpoint = std::mem::take(&mut self.shown);
            tokio::spawn(endpoint.serve(listener, Shutdown::new()));
        }
        self.bar.set_message("waiting until all are ready");
        self.until(bootstrap::wait_for_readiness(&self.readiness.clone())).await?;
        let s3 = self.plan.s3()?;
        self.until(bootstrap::wait_for_s3(s3)).await?;
        self.until(bootstrap::wait_for_groups(&connection)).await?;
        Ok(keys)
    }

    /// Starts several roles at once and waits until they listen, or as processes until they are ready.
    async fn start_all(&mut self, roles: Vec<RoleName>) -> Result<(), Failure> {
        if self.processes {
            for role in &roles {
                self.members.push(Member::spawn(role.clone(), &self.plan)?);
            }
            for role in &roles {
                let address = self.plan.health(Some(role))?;
                self.until(bootstrap::wait_for_health(address)).await?;
            }
            return Ok(());
        }
        let starts = roles.into_iter().map(|role| Member::start_here(role, &self.plan));
        let mut failed = None;
        for started in futures_util::future::join_all(starts).await {
            match started {
                Ok((member, shown)) => {
                    let readiness = shown.readiness;
                    self.readiness.push(readiness.clone());
                    self.shown = std::mem::take(&mut self.shown)
                        .with_metrics(shown.metrics)
                        .with_role(member.role.dotted(), move || readiness());
                    self.members.push(member);
                }
                // Those that did start must be stopped.
                Err(failure) => failed = Some(failure),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Waits for something, unless a role ends meanwhile: then that is the reason why it would not come.
    async fn guard<T>(
        &mut self,
        wait: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let mut wait = std::pin::pin!(wait);
        loop {
            if let Ok(done) = timeout(LOOK, &mut wait).await {
                return done;
            }
            for member in self.members.iter_mut().filter(|member| !member.is_gone()) {
                if let Some(end) = member.poll_end(&self.plan) {
                    let why = end.err().unwrap_or_else(|| "it stopped".to_string());
                    return Err(Failure::failed(format!("the {}: {why}", member.role)));
                }
            }
        }
    }

    async fn until(&mut self, wait: impl Future<Output = ()>) -> Result<(), Failure> {
        self.guard(async {
            wait.await;
            Ok(())
        })
        .await
    }

    /// Says that it is ready, to people and to programs.
    fn announce(&self, keys: &Keys, took: Duration) -> Result<(), Failure> {
        let (s3, admin) =
            (format!("http://{}", self.plan.s3()?), format!("http://{}", self.plan.admin()?));
        let monitors = self.plan.monitor()?.to_string();
        let path = self.plan.dir().join(env_file::NAME);
        let values = [
            ("STORE_MONITORS", monitors.clone()),
            ("STORE_S3_ENDPOINT", s3.clone()),
            ("STORE_ADMIN_ENDPOINT", admin.clone()),
            ("AWS_ENDPOINT_URL", s3.clone()),
            ("AWS_ACCESS_KEY_ID", keys.access_key.clone()),
            ("AWS_SECRET_ACCESS_KEY", keys.secret_key.clone()),
            ("AWS_DEFAULT_REGION", REGION.to_string()),
            ("ST_AUTH", format!("{s3}/auth/v1.0")),
            ("ST_USER", keys.access_key.clone()),
            ("ST_KEY", keys.secret_key.clone()),
        ];
        env_file::write(&path, &values)?;
        let env = path.display().to_string();
        let value = json!({
            "ready": true, "seconds": took.as_secs_f64(), "daemons": self.plan.daemons,
            "s3": s3, "admin": admin, "monitors": monitors, "env": env,
            "dir": self.plan.dir().display().to_string(),
            "access_key": keys.access_key, "secret_key": keys.secret_key,
        });
        self.output.show_text(&value, |_| {
            let health = match self.processes {
                true => String::new(),
                false => self.plan.health(None).map_or_else(
                    |_| String::new(),
                    |address| format!("  health      http://{address}/health/ready\n"),
                ),
            };
            format!(
                "{} ready after {:.2} s, {} daemons\n  S3          {s3}\n  admin       {admin}\n  monitors    {monitors}\n{health}  data        {}\n  access key  {}\n  secret key  {}\n\nIn another terminal:\n  set -a; . {}; set +a\n  aws s3 mb s3://first && aws s3 ls\n  store status\n\nCtrl-C stops it; `store up` goes on with the same data.",
                self.output.mark(crate::output::Mark::Good, "The cluster is"),
                took.as_secs_f64(),
                self.plan.daemons,
                self.plan.dir().display(),
                keys.access_key,
                keys.secret_key,
                env_file::quote(&env),
            )
        });
        Ok(())
    }

    /// Looks after the roles until somebody says stop, or nothing is left to look after.
    async fn watch(&mut self, shutdown: &Shutdown) -> Result<(), Failure> {
        loop {
            tokio::select! {
                () = shutdown.wait() => return Ok(()),
                () = sleep(WATCH) => {}
            }
            self.take_in_added();
            let mut ended = Vec::new();
            for member in &mut self.members {
                if member.is_gone() {
                    member.adopt(&self.plan);
                } else if let Some(end) = member.poll_end(&self.plan) {
                    let why = end.err().unwrap_or_else(|| "it stopped".to_string());
                    ended.push((member.role.clone(), why));
                }
            }
            for (role, why) in ended {
                self.handle_end(role, why).await?;
            }
            if self.members.iter().all(Member::is_gone) {
                return Err(Failure::failed("every role has ended"));
            }
        }
    }

    /// Daemons that `osd add` started are looked after like the others.
    fn take_in_added(&mut self) {
        let pids = Pids::of(self.plan.dir());
        for (role, _) in pids.list() {
            let is_known = self.members.iter().any(|member| member.role == role);
            if let Some(pid) = pids.alive(&role).filter(|_| !is_known) {
                tracing::info!(%role, pid, "was added");
                self.members.push(Member::foreign(role, pid));
            }
        }
    }

    async fn handle_end(&mut self, role: RoleName, why: String) -> Result<(), Failure> {
        tracing::warn!(%role, why, "a role ended");
        if !self.processes && role.kind != Kind::Daemon {
            return Err(Failure::failed(format!("the {role} ended: {why}")));
        }
        self.output.remark(&format!("store: the {role} ended: {why}"));
        if !self.processes {
            return Ok(()); // its copies are on other daemons
        }
        if !self.restart {
            let dir = env_file::quote(&self.plan.dir().display().to_string());
            self.output.remark(&format!(
                "store: start it again with `store role start {role} --dir {dir}`"
            ));
            return Ok(());
        }
        sleep(RESTART_PAUSE).await;
        let fresh = Member::spawn(role.clone(), &self.plan)?;
        if let Some(member) = self.members.iter_mut().find(|member| member.role == role) {
            *member = fresh;
        }
        Ok(())
    }

    /// Gateway and metadata service first, so that nobody asks the daemons any more; then the monitor, so that
    /// daemons which end one after the other change no map.
    async fn stop(&mut self) {
        for kinds in [&[Kind::Gateway, Kind::Metadata][..], &[Kind::Monitor], &[Kind::Daemon]] {
            let is_meant = |member: &&mut Member| kinds.contains(&member.role.kind);
            for member in self.members.iter_mut().filter(is_meant) {
                member.adopt(&self.plan);
                member.ask_to_stop();
            }
            for member in self.members.iter_mut().filter(is_meant) {
                member.wait_stopped(&self.plan).await;
            }
        }
        if self.processes {
            let _ = Pids::of(self.plan.dir()).clear(); // every process took its own line away
        }
    }
}
