//! A cluster played by one process: a monitor that serves maps, daemons that share one memory (as replicas in
//! step do), real sockets between them and the client. Daemons keep a log of answers by request id, as real
//! ones do, and the harness counts executions.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use store_base::codec::{Decode, Encode, Writer};
use store_base::map::{DaemonInfo, Incremental, OsdMap, PgRecord, Pool};
use store_base::op::{
    Compare, Notification, NotifyResult, ObjectPage, Op, OpResult, Outcome, PAYLOAD_BYTES_MAX,
    Reply, Request, Stat, errno,
};
use store_base::wire::*;
use store_base::{
    ClusterId, DaemonId, Epoch, Incarnation, Interval, ObjectName, PgId, PoolId, RequestId, Version,
};
use store_client::{ClientConfig, StoreClient};
use store_shell::identity::Role;
use store_shell::link::{Hello, Link, LinkAcceptor, LinkMetrics, LinkSender, LinkSettings};
use store_shell::security::Security;
use store_shell::server::Server;
use store_shell::services::monitor_server::{Monitor, MonitorServer};
use store_shell::shutdown::Shutdown;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::{Stream, StreamExt, wrappers::WatchStream};
use tonic::{Request as Call, Response, Status};

pub(crate) const CLUSTER: ClusterId = ClusterId([5; 16]);
pub(crate) const POOL: PoolId = PoolId(1);
const GROUPS: u32 = 8;

#[derive(Clone, Default)]
struct Object {
    data: Vec<u8>,
    xattrs: BTreeMap<Bytes, Bytes>,
    omap: BTreeMap<Bytes, Bytes>,
    version: u64,
}

/// What all daemons have.
#[derive(Default)]
pub(crate) struct Memory {
    objects: BTreeMap<ObjectName, Object>,
    answers: BTreeMap<RequestId, Outcome>,
    counter: u64,
    watchers: BTreeMap<(ObjectName, u64), LinkSender>,
    /// Executions of mutations by id: none may have two.
    pub(crate) executed: BTreeMap<RequestId, u32>,
    pub(crate) resent: u64,
}

struct Process {
    server: JoinHandle<()>,
    address: SocketAddr,
    incarnation: Incarnation,
}

pub(crate) struct Cluster {
    memory: Arc<Mutex<Memory>>,
    maps: watch::Sender<Arc<OsdMap>>,
    daemons: BTreeMap<DaemonId, Process>,
    monitor: Option<JoinHandle<()>>,
    monitor_address: SocketAddr,
}

fn lock(memory: &Mutex<Memory>) -> MutexGuard<'_, Memory> {
    memory.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Cluster {
    pub(crate) async fn start(daemons: i32) -> Cluster {
        let mut map =
            OsdMap { cluster: CLUSTER, epoch: Epoch(1), pool_max: 1, ..OsdMap::default() };
        map.pools.insert(POOL, Pool { name: "p".into(), pg_num: GROUPS, ..Pool::default() });
        let mut cluster = Cluster {
            memory: Arc::default(),
            maps: watch::Sender::new(Arc::new(map)),
            daemons: BTreeMap::new(),
            monitor: None,
            monitor_address: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        cluster.start_monitor();
        for id in 0..daemons {
            cluster.boot(DaemonId(id)).await;
        }
        cluster.change(|map| {
            for seed in 0..GROUPS {
                let primary = DaemonId(seed as i32 % daemons);
                let record = PgRecord {
                    interval: Interval(1),
                    primary,
                    members: vec![primary],
                    ..PgRecord::default()
                };
                map.pgs.insert(PgId { pool: POOL, seed }, record);
            }
        });
        cluster
    }

    pub(crate) fn config(&self) -> ClientConfig {
        let monitors = vec![self.monitor_address.to_string().parse().expect("an address")];
        ClientConfig::new(monitors, Security::PlainLoopback)
    }

    pub(crate) async fn client(&self) -> StoreClient {
        StoreClient::connect(self.config()).await.expect("the cluster is there")
    }

    pub(crate) fn memory(&self) -> MutexGuard<'_, Memory> {
        lock(&self.memory)
    }

    pub(crate) fn start_monitor(&mut self) {
        let server = Server::bind(self.monitor_address, &Security::PlainLoopback).expect("a port");
        self.monitor_address = server.local_addr().expect("bound");
        let service = MonitorServer::new(Service { maps: self.maps.subscribe() });
        let routes = tonic::service::Routes::new(service);
        self.monitor = Some(tokio::spawn(server.serve(routes, None, Shutdown::new())));
    }

    pub(crate) async fn kill_monitor(&mut self) {
        if let Some(monitor) = self.monitor.take() {
            monitor.abort();
            let _ = monitor.await;
        }
    }

    /// A daemon starts, anew or again, and the map says so.
    pub(crate) async fn boot(&mut self, id: DaemonId) {
        let before = self.maps.borrow().daemons.get(&id).map_or(0, |info| info.incarnation.0);
        let incarnation = Incarnation(before + 1);
        let server = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0)), &Security::PlainLoopback)
            .expect("a port");
        let address = server.local_addr().expect("bound");
        let mut hello = Hello::new(CLUSTER, Role::Daemon, id.0.to_string());
        hello.incarnation = incarnation;
        let (acceptor, mut links) = LinkAcceptor::new(
            hello,
            &[Role::Admin],
            LinkSettings::default(),
            LinkMetrics::default(),
        );
        let (memory, maps) = (self.memory.clone(), self.maps.subscribe());
        let serving = async move {
            let accepting = async {
                let mut served = tokio::task::JoinSet::new();
                while let Some(link) = links.recv().await {
                    served.spawn(serve(id, link, memory.clone(), maps.clone()));
                }
            };
            let server =
                server.serve(tonic::service::Routes::default(), Some(acceptor), Shutdown::new());
            tokio::join!(server, accepting);
        };
        let process = Process { server: tokio::spawn(serving), address, incarnation };
        self.daemons.insert(id, process);
        let (address, incarnation) = (self.daemons[&id].address, self.daemons[&id].incarnation);
        self.change(|map| {
            let info = DaemonInfo {
                up: true,
                address: address.to_string(),
                incarnation,
                ..DaemonInfo::default()
            };
            map.daemons.insert(id, info);
        });
    }

    /// Cuts a daemon off in the middle of whatever it does. The map still says that it is up.
    pub(crate) async fn kill(&mut self, id: DaemonId) {
        let process = self.daemons.remove(&id).expect("it runs");
        process.server.abort();
        let _ = process.server.await;
    }

    /// The map says that a daemon is down, and others lead what it led.
    pub(crate) fn mark_down(&self, id: DaemonId) {
        self.change(|map| {
            map.daemons.get_mut(&id).expect("known").up = false;
            let heir = map.daemons.iter().find(|(_, info)| info.up).map(|(id, _)| *id);
            let heir = heir.expect("somebody is left");
            for record in map.pgs.values_mut().filter(|record| record.primary == id) {
                record.primary = heir;
                record.interval = record.interval.next();
            }
        });
    }

    pub(crate) fn change(&self, edit: impl FnOnce(&mut OsdMap)) {
        let mut map = OsdMap::clone(&self.maps.borrow());
        map.epoch = map.epoch.next();
        edit(&mut map);
        self.maps.send_replace(Arc::new(map));
    }
}

/// One client's link to one daemon.
async fn serve(
    id: DaemonId,
    link: Link,
    memory: Arc<Mutex<Memory>>,
    maps: watch::Receiver<Arc<OsdMap>>,
) {
    let Link { sender, mut receiver, .. } = link;
    while let Some(Ok(bytes)) = receiver.recv().await {
        let request = Request::from_bytes(bytes).expect("a request");
        let map = maps.borrow().clone();
        let leads = map.pgs.get(&request.pg).is_some_and(|record| record.primary == id);
        let reply = match leads && map.pg_of(POOL, &request.object).is_some() {
            true => lock(&memory).handle(&request, &sender),
            false => {
                let (id, epoch) = (request.id, map.epoch);
                Reply::Answer { id, epoch, outcome: Outcome::Misdirected { epoch } }
            }
        };
        let mut out = Writer::new();
        reply.encode(&mut out);
        if sender.send(out.into_rope()).await.is_err() {
            return;
        }
    }
}

impl Memory {
    fn handle(&mut self, request: &Request, sender: &LinkSender) -> Reply {
        self.resent += u64::from(request.resend > 0);
        let answer = |outcome| Reply::Answer { id: request.id, epoch: request.epoch, outcome };
        if let Some(known) = self.answers.get(&request.id) {
            return answer(known.clone());
        }
        let mut object = self.objects.get(&request.object).cloned();
        let mut results = Vec::new();
        let mut room = PAYLOAD_BYTES_MAX;
        for op in &request.ops {
            let result = self.execute(request, op, &mut object, sender).and_then(|data: Bytes| {
                room = room.checked_sub(data.len()).ok_or(errno::E2BIG)?;
                Ok(data)
            });
            let (code, data) = match result {
                Ok(data) => (0, data),
                Err(code) => (-code, Bytes::new()),
            };
            results.push(OpResult { code, data });
            if code < 0 {
                break;
            }
        }
        let failed = results.last().is_some_and(|result| result.code < 0);
        if request.is_mutation() && !failed {
            self.counter += 1;
            *self.executed.entry(request.id).or_default() += 1;
            match object {
                Some(mut object) => {
                    object.version = self.counter;
                    self.objects.insert(request.object.clone(), object);
                }
                None => {
                    self.objects.remove(&request.object);
                }
            }
        }
        let version = Version { interval: Interval(1), counter: self.counter };
        let outcome = Outcome::Done { version, user_version: self.counter, results };
        if request.is_mutation() {
            self.answers.insert(request.id, outcome.clone());
        }
        answer(outcome)
    }

    fn execute(
        &mut self,
        request: &Request,
        op: &Op,
        object: &mut Option<Object>,
        sender: &LinkSender,
    ) -> Result<Bytes, i32> {
        let there = |object: &Option<Object>| object.clone().ok_or(errno::ENOENT);
        let nothing = Ok(Bytes::new());
        match op {
            Op::AssertVersion { version } => match there(object)?.version {
                found if found == *version => nothing,
                _ => Err(errno::ERANGE),
            },
            Op::CompareXattr { name, compare: Compare::Equal {}, value } => {
                let found = object.as_ref().and_then(|object| object.xattrs.get(name).cloned());
                if found.unwrap_or_default() == value { nothing } else { Err(errno::ECANCELED) }
            }
            Op::Read { offset, length } => {
                let data = there(object)?.data;
                let from = (*offset as usize).min(data.len());
                let to = (from + *length as usize).min(data.len());
                Ok(Bytes::copy_from_slice(&data[from..to]))
            }
            Op::Stat {} => {
                let object = there(object)?;
                let stat = Stat {
                    size: object.data.len() as u64,
                    mtime: request.mtime,
                    version: object.version,
                };
                Ok(stat.to_bytes())
            }
            Op::Xattr { name } => there(object)?.xattrs.get(name).cloned().ok_or(errno::ENODATA),
            Op::Xattrs {} => Ok(there(object)?.xattrs.to_bytes()),
            Op::OmapByKeys { keys } => {
                let omap = there(object)?.omap;
                let found: BTreeMap<_, _> =
                    omap.into_iter().filter(|(key, _)| keys.contains(key)).collect();
                Ok(found.to_bytes())
            }
            Op::Create { exclusive } => match object.is_some() && *exclusive {
                true => Err(errno::EEXIST),
                false => {
                    object.get_or_insert_default();
                    nothing
                }
            },
            Op::Write { offset, data } => {
                let bytes = &mut object.get_or_insert_default().data;
                let end = *offset as usize + data.len();
                bytes.resize(bytes.len().max(end), 0);
                bytes[*offset as usize..end].copy_from_slice(data);
                nothing
            }
            Op::WriteFull { data } => {
                object.get_or_insert_default().data = data.to_vec();
                nothing
            }
            Op::Append { data } => {
                object.get_or_insert_default().data.extend_from_slice(data);
                nothing
            }
            Op::Delete {} => object.take().map(|_| Bytes::new()).ok_or(errno::ENOENT),
            Op::SetXattr { name, value } => {
                object.get_or_insert_default().xattrs.insert(name.clone(), value.clone());
                nothing
            }
            Op::OmapSet { entries } => {
                object.get_or_insert_default().omap.extend(entries.clone());
                nothing
            }
            Op::List { after, max } => Ok(self.list(request.pg, after, *max).to_bytes()),
            Op::Watch { cookie, .. } => {
                there(object)?;
                self.watchers.insert((request.object.clone(), *cookie), sender.clone());
                nothing
            }
            Op::WatchPing { cookie } => {
                match self.watchers.contains_key(&(request.object.clone(), *cookie)) {
                    true => nothing,
                    false => Err(errno::ENOTCONN),
                }
            }
            Op::Unwatch { cookie } => {
                self.watchers.remove(&(request.object.clone(), *cookie));
                nothing
            }
            Op::Notify { payload, .. } => {
                let mut answers = Vec::new();
                for ((object, cookie), watcher) in &self.watchers {
                    if *object == request.object {
                        let notification = Notification {
                            object: object.clone(),
                            cookie: *cookie,
                            notify: 1,
                            payload: payload.clone(),
                        };
                        let mut out = Writer::new();
                        Reply::Notify { notification }.encode(&mut out);
                        let _ = watcher.try_send(&out.into_rope());
                        answers.push(((request.id.client.0, *cookie), Bytes::new()));
                    }
                }
                Ok(NotifyResult { answers, silent: Vec::new() }.to_bytes())
            }
            Op::NotifyAck { .. } => nothing,
            _ => Err(errno::EOPNOTSUPP),
        }
    }

    fn list(&self, pg: PgId, after: &Bytes, max: u32) -> ObjectPage {
        let own = self.objects.keys().filter(|object| object.pg(POOL, GROUPS) == pg);
        let mut objects: Vec<_> = own
            .filter(|object| after.is_empty() || object.sort_key() > after.to_vec())
            .cloned()
            .collect();
        let more = objects.len() > max as usize;
        objects.truncate(max as usize);
        let next = match objects.last() {
            Some(last) if more => last.sort_key().into(),
            _ => Bytes::new(),
        };
        ObjectPage { objects, next }
    }
}

struct Service {
    maps: watch::Receiver<Arc<OsdMap>>,
}

type Updates = Pin<Box<dyn Stream<Item = Result<MapUpdate, Status>> + Send>>;

#[tonic::async_trait]
impl Monitor for Service {
    async fn hello(&self, _: Call<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        Ok(Response::new(HelloReply {
            cluster: CLUSTER.to_bytes(),
            osd_epoch: self.maps.borrow().epoch.0,
            ..HelloReply::default()
        }))
    }

    type SubscribeStream = Updates;

    async fn subscribe(&self, call: Call<SubscribeRequest>) -> Result<Response<Updates>, Status> {
        let want = call.into_inner().wants.into_iter().find(|want| want.kind() == MapKind::MapOsd);
        let mut held: Option<Arc<OsdMap>> = None;
        let have = want.map_or(0, |want| want.have);
        let updates = WatchStream::new(self.maps.clone()).filter_map(move |map| {
            if held.is_none() && map.epoch.0 <= have {
                return None;
            }
            let mut update = MapUpdate { epoch: map.epoch.0, ..MapUpdate::default() };
            update.set_kind(MapKind::MapOsd);
            match &held {
                Some(old) if old.epoch.next() == map.epoch => {
                    update.incrementals = vec![Incremental::between(old, &map).to_bytes()];
                }
                _ => update.full = map.to_bytes(),
            }
            held = Some(map);
            Some(Ok(update))
        });
        Ok(Response::new(Box::pin(updates)))
    }

    async fn new_client(
        &self,
        _: Call<NewClientRequest>,
    ) -> Result<Response<NewClientReply>, Status> {
        Ok(Response::new(NewClientReply { client: 77 }))
    }

    async fn command(&self, call: Call<CommandRequest>) -> Result<Response<CommandReply>, Status> {
        let known = call.get_ref().json.contains("echo");
        Ok(Response::new(match known {
            true => CommandReply {
                code: 0,
                status: String::new(),
                output: call.into_inner().json.into(),
            },
            false => CommandReply {
                code: -errno::EINVAL,
                status: "no such command".into(),
                output: Bytes::new(),
            },
        }))
    }

    async fn boot(&self, _: Call<BootRequest>) -> Result<Response<BootReply>, Status> {
        Err(Status::unimplemented("no part in these stories"))
    }

    async fn beat(&self, _: Call<BeatRequest>) -> Result<Response<BeatReply>, Status> {
        Err(Status::unimplemented("no part in these stories"))
    }

    async fn report_failure(&self, _: Call<FailureReport>) -> Result<Response<Done>, Status> {
        Err(Status::unimplemented("no part in these stories"))
    }

    async fn ask_pgs(&self, _: Call<PgAskBatch>) -> Result<Response<PgAskReply>, Status> {
        Err(Status::unimplemented("no part in these stories"))
    }

    async fn service_beat(
        &self,
        _: Call<ServiceBeatRequest>,
    ) -> Result<Response<ServiceBeatReply>, Status> {
        Err(Status::unimplemented("no part in these stories"))
    }
}
