//! A network of namespaces: one for each node, all on one bridge that has a namespace of its own, so nothing
//! of the machine's own network is touched and any number of these networks may be there at a time.
//!
//! Every node drops what comes from addresses in its set `dropped` and resets connections from those in
//! `refused`; so each direction between two nodes can be cut by itself. Cuts are counted: where two faults cut
//! the same way, it opens when both have ended.
//!
//! A network holds a lock on a file with its name. One whose harness was killed has nobody who holds it: the
//! next harness removes it, and what still runs in it.

use crate::tools::run;
use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::collections::BTreeMap;
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Where the locks are.
const LOCKS: &str = "/run/store-faults";

/// What every name begins with.
const PREFIX: &str = "sf";

/// The rules of one node. The sets are what faults change.
const RULES: &str = "table inet faults {
  set dropped { type ipv4_addr; }
  set refused { type ipv4_addr; }
  chain input {
    type filter hook input priority 0; policy accept;
    ip saddr @dropped drop
    ip saddr @refused meta l4proto tcp reject with tcp reset
    jump loss
  }
  chain loss { }
}";

/// A node of the network.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Node {
    /// `d0`, `m`, `g`, `c1`.
    pub(crate) name: String,
    pub(crate) address: Ipv4Addr,
}

/// The network. Dropping it removes it.
pub(crate) struct Net {
    tag: String,
    nodes: Vec<Node>,
    cuts: BTreeMap<(Ipv4Addr, Ipv4Addr), u32>,
    resets: BTreeMap<(Ipv4Addr, Ipv4Addr), u32>,
    lock: File,
    lock_path: PathBuf,
}

impl Net {
    /// An empty network with a bridge.
    pub(crate) fn new() -> Result<Net> {
        std::fs::create_dir_all(LOCKS).with_context(|| format!("cannot make {LOCKS}"))?;
        remove_left_behind()?;
        let tag = format!("{PREFIX}{:x}", std::process::id());
        let lock_path = Path::new(LOCKS).join(&tag);
        let lock = File::create(&lock_path).context("cannot make the lock of the network")?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .context("another harness has this name")?;
        let net = Net {
            tag,
            nodes: Vec::new(),
            cuts: BTreeMap::new(),
            resets: BTreeMap::new(),
            lock,
            lock_path,
        };
        let switch = net.namespace("sw");
        run(&["ip", "netns", "add", &switch])?;
        run(&["ip", "-n", &switch, "link", "add", "br0", "type", "bridge"])?;
        run(&["ip", "-n", &switch, "link", "set", "br0", "up"])?;
        Ok(net)
    }

    /// Adds a node with the address 198.18.0.`last`.
    pub(crate) fn add(&mut self, name: &str, last: u8) -> Result<Node> {
        let node = Node { name: name.to_owned(), address: Ipv4Addr::new(198, 18, 0, last) };
        let (space, switch) = (self.namespace(name), self.namespace("sw"));
        let port = format!("p-{name}");
        run(&["ip", "netns", "add", &space])?;
        self.nodes.push(node.clone());
        run(&[
            "ip", "-n", &space, "link", "add", "eth0", "type", "veth", "peer", "name", &port,
            "netns", &switch,
        ])?;
        run(&["ip", "-n", &space, "addr", "add", &format!("{}/24", node.address), "dev", "eth0"])?;
        run(&["ip", "-n", &space, "link", "set", "lo", "up"])?;
        run(&["ip", "-n", &space, "link", "set", "eth0", "up"])?;
        run(&["ip", "-n", &switch, "link", "set", &port, "up", "master", "br0"])?;
        self.nft(&node, RULES)?;
        Ok(node)
    }

    fn namespace(&self, name: &str) -> String {
        format!("{}-{name}", self.tag)
    }

    /// Runs something on a thread of its own that is in the node's namespace; what it starts stays there.
    pub(crate) fn within<T: Send>(
        &self,
        node: &Node,
        work: impl FnOnce() -> Result<T> + Send,
    ) -> Result<T> {
        let space = self.entry(node);
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                enter(&space)?;
                work()
            });
            match thread.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// The file by which a thread enters the node's namespace: see [`enter`].
    pub(crate) fn entry(&self, node: &Node) -> PathBuf {
        Path::new("/run/netns").join(self.namespace(&node.name))
    }

    fn nft(&self, node: &Node, rules: &str) -> Result<()> {
        run(&["ip", "netns", "exec", &self.namespace(&node.name), "nft", rules]).map(drop)
    }

    /// From now on nothing that `from` sends reaches `to`.
    pub(crate) fn cut(&mut self, from: &Node, to: &Node) -> Result<()> {
        if begin(&mut self.cuts, from, to) {
            self.nft(to, &format!("add element inet faults dropped {{ {} }}", from.address))?;
        }
        Ok(())
    }

    /// The end of a [`cut`](Self::cut).
    pub(crate) fn mend(&mut self, from: &Node, to: &Node) -> Result<()> {
        if end(&mut self.cuts, from, to) {
            self.nft(to, &format!("delete element inet faults dropped {{ {} }}", from.address))?;
        }
        Ok(())
    }

    /// From now on what `from` sends to `to` is answered by a reset.
    pub(crate) fn refuse(&mut self, from: &Node, to: &Node) -> Result<()> {
        if begin(&mut self.resets, from, to) {
            self.nft(to, &format!("add element inet faults refused {{ {} }}", from.address))?;
        }
        Ok(())
    }

    /// The end of [`refuse`](Self::refuse).
    pub(crate) fn accept(&mut self, from: &Node, to: &Node) -> Result<()> {
        if end(&mut self.resets, from, to) {
            self.nft(to, &format!("delete element inet faults refused {{ {} }}", from.address))?;
        }
        Ok(())
    }

    /// So many of a hundred packets to the node are lost.
    pub(crate) fn lose(&mut self, node: &Node, percent: u64) -> Result<()> {
        self.nft(node, "flush chain inet faults loss")?;
        if percent > 0 {
            let rule = format!(
                "add rule inet faults loss iifname eth0 numgen random mod 100 < {percent} drop"
            );
            self.nft(node, &rule)?;
        }
        Ok(())
    }

    /// What the node sends is held to a rate, behind a queue that makes it wait; `None` ends it.
    pub(crate) fn slow(&mut self, node: &Node, kilobits: Option<u64>) -> Result<()> {
        let space = self.namespace(&node.name);
        match kilobits {
            Some(kilobits) => {
                let rate = format!("{kilobits}kbit");
                run(&[
                    "tc", "-n", &space, "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate",
                    &rate, "burst", "32k", "latency", "400ms",
                ])
            }
            None => run(&["tc", "-n", &space, "qdisc", "del", "dev", "eth0", "root"]),
        }
        .map(drop)
    }
}

/// Moves the calling thread, for good, into the namespace behind a file of [`Net::entry`].
pub(crate) fn enter(space: &Path) -> Result<()> {
    let file = File::open(space).with_context(|| format!("cannot open {}", space.display()))?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .with_context(|| format!("cannot enter {}", space.display()))
}

fn begin(counts: &mut BTreeMap<(Ipv4Addr, Ipv4Addr), u32>, from: &Node, to: &Node) -> bool {
    let count = counts.entry((from.address, to.address)).or_default();
    *count += 1;
    *count == 1
}

fn end(counts: &mut BTreeMap<(Ipv4Addr, Ipv4Addr), u32>, from: &Node, to: &Node) -> bool {
    let way = (from.address, to.address);
    match counts.get_mut(&way) {
        Some(count) if *count > 1 => {
            *count -= 1;
            false
        }
        Some(_) => counts.remove(&way).is_some(),
        None => false,
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        remove(&self.tag);
        let _ = std::fs::remove_file(&self.lock_path);
        let _ = flock(&self.lock, FlockOperation::Unlock);
    }
}

/// Ends what runs in the namespaces of a network, and removes them.
fn remove(tag: &str) {
    let Ok(spaces) = run(&["ip", "netns", "list"]) else { return };
    let own = format!("{tag}-");
    let names = spaces.lines().filter_map(|line| line.split_whitespace().next());
    for name in names.filter(|name| name.starts_with(&own)) {
        let pids = run(&["ip", "netns", "pids", name]).unwrap_or_default();
        for pid in pids.lines().filter_map(|line| line.trim().parse::<i32>().ok()) {
            // Threads of the harness itself are in namespaces too.
            if pid != std::process::id() as i32 {
                crate::process::signal(pid, rustix::process::Signal::KILL);
            }
        }
        // One that cannot be removed now is removed by the next harness.
        let _ = run(&["ip", "netns", "del", name]);
    }
}

fn remove_left_behind() -> Result<()> {
    for entry in std::fs::read_dir(LOCKS)? {
        let path = entry?.path();
        let Ok(file) = File::open(&path) else { continue };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            if let Some(tag) = path.file_name().and_then(|name| name.to_str()) {
                remove(tag);
            }
            let _ = std::fs::remove_file(&path);
        }
    }
    Ok(())
}
