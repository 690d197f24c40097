//! The cluster under test: the real programs with mutual TLS, each in a namespace of its own, tended like a
//! service manager does it: what ends by itself is written down and started again.

use crate::fault::Place;
use crate::net::{Net, Node, enter};
use crate::process::{Process, Recipe, tail};
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use store_base::config::HostPort;
use store_client::{ClientConfig, MonitorClient};
use store_shell::identity::Identity;
use store_shell::security::Security;

/// Daemon ids that get credentials: each wiped daemon comes back under a new one.
const IDS_MAX: i32 = 200;
/// What a daemon may take.
const CAPACITY: &str = "4GiB";
/// How long the monitor may take to make the cluster.
const BOOTSTRAP: Duration = Duration::from_secs(30);
/// How long one command may take.
const COMMAND: Duration = Duration::from_secs(5);
/// In which what a gateway had asked for is done, or on its way, on every member of its group. What is cut off in
/// the middle may be on some of them only, until they run again.
const UNDER_WAY: Duration = Duration::from_secs(2);
/// Pause before what ended by itself is started again.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// Region that S3 requests are signed for.
pub(crate) const REGION: &str = "us-east-1";
/// The pools of native objects: one keeps copies, one the slots of an erasure code.
pub(crate) const POOL: &str = "faults";
pub(crate) const SLOTS_POOL: &str = "slots";

/// A service: where, how, and whether it runs.
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) node: Node,
    pub(crate) recipe: Recipe,
    pub(crate) process: Option<Process>,
    /// Down or replaced on purpose: the tending leaves it alone.
    pub(crate) held: bool,
    /// Why it may end by itself, and until when.
    pub(crate) excuse: Option<(&'static str, Instant)>,
    ended_at: Option<Instant>,
    /// By which its wall clock is set.
    pub(crate) clock: Option<PathBuf>,
}

impl Service {
    pub(crate) fn start(&mut self, net: &Net) -> Result<()> {
        if self.process.is_none() {
            let recipe = &self.recipe;
            self.process = Some(net.within(&self.node, || recipe.start())?);
        }
        self.held = false;
        self.ended_at = None;
        Ok(())
    }

    /// Ends it at once and keeps it down.
    pub(crate) fn kill(&mut self) {
        self.held = true;
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }
}

/// One daemon's place: node and disk. Its id changes when the disk is replaced.
pub(crate) struct Daemon {
    pub(crate) service: Service,
    pub(crate) id: i32,
    pub(crate) dir: PathBuf,
}

/// What the harness was started with.
pub(crate) struct Setup {
    pub(crate) programs: PathBuf,
    pub(crate) dir: PathBuf,
    pub(crate) daemons: usize,
    pub(crate) clients: usize,
    /// The library that gives a process its own wall clock.
    pub(crate) clock_library: Option<PathBuf>,
    /// Forces the medium whose calls can be seen and failed from outside.
    pub(crate) threads_medium: bool,
    pub(crate) secret: String,
}

/// The whole cluster. Dropping it ends every process and removes the network.
pub(crate) struct Cluster {
    pub(crate) setup: Setup,
    pub(crate) monitor: Service,
    pub(crate) daemons: Vec<Daemon>,
    pub(crate) gateways: Vec<Service>,
    pub(crate) clients: Vec<Node>,
    /// What ended by itself, in words, and whether it had an excuse.
    pub(crate) ends: Vec<(String, bool)>,
    admin: MonitorClient,
    runtime: tokio::runtime::Runtime,
    next_id: i32,
    // Last: the network outlives the processes in it.
    pub(crate) net: Net,
}

impl Cluster {
    /// Makes the network, starts everything and waits until it is healthy. The calling thread moves into the
    /// administrator's namespace for good.
    pub(crate) fn start(setup: Setup) -> Result<Cluster> {
        for part in ["keys", "log"] {
            std::fs::create_dir_all(setup.dir.join(part))?;
        }
        let mut net = Net::new()?;
        let mut monitor = service(&setup, "m", net.add("m", 1)?, "store-monitor");
        let issue: Vec<String> = (0..IDS_MAX)
            .map(|id| format!("daemon.{id}"))
            .chain(["gateway.a", "gateway.b", "admin.admin", "admin.load"].map(String::from))
            .collect();
        let keys = setup.dir.join("keys");
        flag(&mut monitor, "data-dir", setup.dir.join("monitor").display());
        flag(&mut monitor, "credentials-dir", keys.display());
        flag(&mut monitor, "issue", issue.join(","));
        let secret = [
            ("STORE_ACCESS_KEY", "faults".to_string()),
            ("STORE_SECRET_KEY", setup.secret.clone()),
        ];
        let secret = secret.map(|(name, value)| (name.to_string(), OsString::from(value)));
        monitor.recipe.environment.extend(secret);
        monitor.start(&net)?;

        let administrator = net.add("a", 250)?;
        let clients = (0..setup.clients).map(|i| net.add(&format!("c{i}"), 150 + i as u8));
        let clients = clients.collect::<Result<Vec<_>>>()?;
        let identity = keys.join("admin.admin.pem");
        wait_for_file(&identity, &monitor)?;
        enter(&net.entry(&administrator))?;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let config = client_config(&setup.dir, "admin")?;
        let admin = MonitorClient::new(config.monitors, config.security)?;
        let mut cluster = Cluster {
            monitor,
            daemons: Vec::new(),
            gateways: Vec::new(),
            clients,
            ends: Vec::new(),
            admin,
            runtime,
            next_id: 0,
            net,
            setup,
        };
        cluster.start_rest()?;
        Ok(cluster)
    }

    fn start_rest(&mut self) -> Result<()> {
        for i in 0..self.setup.daemons {
            let node = self.net.add(&format!("d{i}"), 10 + i as u8)?;
            let daemon = self.new_daemon(i, node);
            self.daemons.push(daemon);
            self.daemons[i].service.start(&self.net)?;
        }
        let all = self.setup.daemons as u64;
        self.wait(BOOTSTRAP, |status| {
            let up = status["osdmap"]["num_up_osds"].as_u64().unwrap_or(0);
            (up < all).then(|| format!("{up} of {all} daemons are up"))
        })?;
        let create =
            json!({"prefix": "osd pool create", "pool": POOL, "pg_num": 16, "if_not_exists": true});
        self.command(&create)?;
        // Fewer slots than daemons: there is one to rebuild on.
        let coding = if self.setup.daemons > 4 { 2 } else { 1 };
        let create = json!({
            "prefix": "osd pool create", "pool": SLOTS_POOL, "pg_num": 16, "pool_type": "erasure",
            "k": 2, "m": coding, "if_not_exists": true,
        });
        self.command(&create)?;
        for (i, name) in ["a", "b"].into_iter().enumerate() {
            let node = self.net.add(&format!("g{i}"), 100 + i as u8)?;
            let mut gateway = service(&self.setup, &format!("g{i}"), node, "store-gateway");
            let identity = self.setup.dir.join("keys").join(format!("gateway.{name}.pem"));
            flag(&mut gateway, "name", name);
            flag(&mut gateway, "monitors", monitors());
            flag(&mut gateway, "identity", identity.display());
            flag(&mut gateway, "threads", 1);
            // Garbage goes soon, so that its removal meets faults too.
            flag(&mut gateway, "garbage-delay", "5s");
            flag(&mut gateway, "sweep-every", "30s");
            gateway.start(&self.net)?;
            self.gateways.push(gateway);
        }
        self.wait_healthy(BOOTSTRAP).map(drop)
    }

    /// A daemon on an empty disk, under an id that none had before.
    fn new_daemon(&mut self, place: usize, node: Node) -> Daemon {
        let id = self.next_id;
        self.next_id += 1;
        let mut daemon = service(&self.setup, &format!("d{place}"), node, "store-daemon");
        let dir = self.setup.dir.join(format!("daemon.{id}"));
        let identity = self.setup.dir.join("keys").join(format!("daemon.{id}.pem"));
        let address = daemon.node.address;
        flag(&mut daemon, "data-dir", dir.display());
        flag(&mut daemon, "monitors", monitors());
        flag(&mut daemon, "advertise", format!("{address}:6800"));
        flag(&mut daemon, "host", format!("d{place}"));
        flag(&mut daemon, "capacity", CAPACITY);
        flag(&mut daemon, "identity", identity.display());
        if self.setup.threads_medium {
            flag(&mut daemon, "engine", "threads");
        }
        Daemon { service: daemon, id, dir }
    }

    /// Destroys the disk of a daemon; the id that is lost with it.
    pub(crate) fn wipe(&mut self, place: usize) -> Result<i32> {
        let daemon = &mut self.daemons[place];
        daemon.service.kill();
        std::fs::remove_dir_all(&daemon.dir)?;
        Ok(daemon.id)
    }

    /// Puts a new, empty daemon in the place of one that was wiped.
    pub(crate) fn replace(&mut self, place: usize) -> Result<()> {
        if self.next_id >= IDS_MAX {
            bail!("{IDS_MAX} daemons were made, there are no credentials for more");
        }
        let node = self.daemons[place].service.node.clone();
        let log = self.daemons[place].service.recipe.log.clone();
        self.daemons[place] = self.new_daemon(place, node);
        self.daemons[place].service.recipe.log = log;
        self.daemons[place].service.start(&self.net)
    }

    /// Ends who writes, for good; afterwards nothing is under way.
    pub(crate) fn kill_gateways(&mut self) {
        self.gateways.iter_mut().for_each(Service::kill);
        std::thread::sleep(UNDER_WAY);
    }

    /// Ends every process for good, at once.
    pub(crate) fn kill_everything(&mut self) {
        let daemons = self.daemons.iter_mut().map(|daemon| &mut daemon.service);
        let services: Vec<_> = std::iter::once(&mut self.monitor).chain(daemons).collect();
        services.iter().for_each(|service| service.signal(Signal::KILL));
        services.into_iter().for_each(Service::kill);
    }

    /// Writes down what has ended by itself, and starts it again after a pause.
    pub(crate) fn tend(&mut self) -> Result<()> {
        let daemons = self.daemons.iter_mut().map(|daemon| &mut daemon.service);
        let services = std::iter::once(&mut self.monitor).chain(daemons).chain(&mut self.gateways);
        for service in services.filter(|service| !service.held) {
            if let Some(status) = service.process.as_mut().and_then(Process::ended) {
                service.process = None;
                service.ended_at = Some(Instant::now());
                let excuse = service.excuse.filter(|(_, until)| Instant::now() < *until);
                let why = excuse.map_or(String::new(), |(why, _)| format!(" during {why}"));
                let last = tail(&service.recipe.log, 3);
                let what = format!("{} ended{why}: {status}: {last}", service.name);
                self.ends.push((what, excuse.is_some()));
            }
            if service.ended_at.is_some_and(|at| at.elapsed() >= RESTART_PAUSE) {
                service.start(&self.net)?;
            }
        }
        Ok(())
    }

    /// Starts a service that is held down.
    pub(crate) fn start_service(&mut self, place: Place) -> Result<()> {
        let net = &self.net;
        match place {
            Place::Monitor => self.monitor.start(net),
            Place::Daemon(i) => self.daemons[i].service.start(net),
            Place::Gateway(i) => self.gateways[i].start(net),
        }
    }

    /// Runs a command of the monitor's table.
    pub(crate) fn command(&self, command: &Value) -> Result<Value> {
        let call = self.admin.command(command, Bytes::new(), COMMAND);
        let answer = self.runtime.block_on(async { tokio::time::timeout(2 * COMMAND, call).await });
        Ok(answer.context("the monitor does not answer")??.json()?)
    }

    /// Waits until a status has nothing lacking; tends the services meanwhile.
    pub(crate) fn wait(
        &mut self,
        patience: Duration,
        mut lacking: impl FnMut(&Value) -> Option<String>,
    ) -> Result<Duration> {
        let began = Instant::now();
        loop {
            self.tend()?;
            let lacks = match self.command(&json!({"prefix": "status"})) {
                Ok(status) => lacking(&status),
                Err(error) => Some(error.to_string()),
            };
            let Some(lacks) = lacks else { return Ok(began.elapsed()) };
            if began.elapsed() > patience {
                bail!("still not after {} s: {lacks}", patience.as_secs());
            }
            if crate::interrupted() {
                bail!("interrupted");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until health is OK; how long that took.
    pub(crate) fn wait_healthy(&mut self, patience: Duration) -> Result<Duration> {
        self.wait(patience, not_healthy)
    }

    /// Whether every placement group has all its copies, none of them known to be bad, and every daemon is up.
    pub(crate) fn is_clean(&self) -> bool {
        self.all_groups(|state| state == "active+clean")
    }

    /// Whether every placement group has all its copies, though some may be bad, and every daemon is up.
    pub(crate) fn has_all_copies(&self) -> bool {
        self.all_groups(|state| state.starts_with("active+clean"))
    }

    fn all_groups(&self, is_right: fn(&str) -> bool) -> bool {
        let Ok(status) = self.command(&json!({"prefix": "status"})) else { return false };
        let up = status["osdmap"]["num_up_osds"].as_u64();
        let states = status["pgmap"]["pgs_by_state"].as_array();
        up == Some(self.daemons.len() as u64)
            && states.is_some_and(|states| {
                !states.is_empty()
                    && states
                        .iter()
                        .all(|state| is_right(state["state_name"].as_str().unwrap_or_default()))
            })
    }
}

/// What health says, unless it says OK.
pub(crate) fn not_healthy(status: &Value) -> Option<String> {
    let health = &status["health"];
    (health["status"] != "HEALTH_OK").then(|| {
        let checks = health["checks"].as_object();
        let said = checks
            .into_iter()
            .flatten()
            .map(|(name, check)| format!("{name}: {}", check["summary"]["message"]));
        format!("{} ({})", health["status"], said.collect::<Vec<_>>().join("; "))
    })
}

/// How clients of this cluster reach it.
pub(crate) fn client_config(dir: &Path, name: &str) -> Result<ClientConfig> {
    let identity = Identity::load(&dir.join("keys").join(format!("admin.{name}.pem")))?;
    let monitors: HostPort = monitors().parse().map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut config = ClientConfig::new(vec![monitors], Security::tls(identity)?);
    config.name = name.to_string();
    Ok(config)
}

fn monitors() -> String {
    "198.18.0.1:6789".to_string()
}

fn flag(service: &mut Service, name: &str, value: impl std::fmt::Display) {
    service.recipe.flags.extend([format!("--{name}"), value.to_string()]);
}

fn service(setup: &Setup, name: &str, node: Node, program: &str) -> Service {
    let mut environment = vec![("STORE_LOG".to_string(), OsString::from("info"))];
    let clock = setup.clock_library.as_ref().map(|library| {
        let file = setup.dir.join(format!("clock.{name}"));
        environment.extend([
            ("LD_PRELOAD".to_string(), library.clone().into_os_string()),
            ("FAKETIME_TIMESTAMP_FILE".to_string(), file.clone().into_os_string()),
            ("FAKETIME_CACHE_DURATION".to_string(), OsString::from("1")),
            ("FAKETIME_DONT_FAKE_MONOTONIC".to_string(), OsString::from("1")),
            ("DONT_FAKE_MONOTONIC".to_string(), OsString::from("1")),
        ]);
        file
    });
    if let Some(file) = &clock {
        // Without it the library takes the time as it is.
        let _ = std::fs::write(file, "+0\n");
    }
    let recipe = Recipe {
        program: setup.programs.join(program),
        flags: Vec::new(),
        environment,
        log: setup.dir.join("log").join(format!("{name}.log")),
    };
    Service {
        name: name.to_string(),
        node,
        recipe,
        process: None,
        held: true,
        excuse: None,
        ended_at: None,
        clock,
    }
}

fn wait_for_file(path: &Path, monitor: &Service) -> Result<()> {
    let until = Instant::now() + BOOTSTRAP;
    while !path.exists() {
        if Instant::now() > until {
            bail!("the monitor does not start:\n{}", tail(&monitor.recipe.log, 20));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
