//! What a daemon says to the monitors, and the maps that it hears from them.
//!
//! Losing the monitors stops nothing here: the subscription begins anew, from the epoch that is there, with
//! whichever monitor answers.

use super::inbox::Inbox;
use crate::machine::{Event, MonitorCall, MonitorRequest};
use crate::metrics::DaemonMetrics;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use store_base::codec::Decode;
use store_base::map::{ConfigMap, Incremental, OsdMap};
use store_base::wire::{FailureReport, HelloRequest, MapKind, MapUpdate, SubscribeRequest, Want};
use store_base::{ClusterId, Epoch, Time};
use store_shell::channel::Rotation;
use store_shell::clock;
use store_shell::services::monitor_client::MonitorClient;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tonic::Status;
use tonic::transport::Channel;

/// How long a call may take. The machine asks again by itself sooner.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// The first pause before the subscription begins anew; doubles.
const RETRY_MIN: Duration = Duration::from_millis(50);
/// The longest.
const RETRY_MAX: Duration = Duration::from_secs(1);
/// Failure reports under way; more are dropped, the machine reports again.
const REPORTS_MAX: usize = 64;
/// The largest map that is taken.
const MAP_BYTES_MAX: usize = 256 << 20;

/// The monitors as one.
pub(crate) struct Monitors {
    inbox: Rc<Inbox>,
    metrics: DaemonMetrics,
    rotation: Rotation,
    map: RefCell<Arc<OsdMap>>,
    config: RefCell<ConfigMap>,
    /// Says that `config` is another.
    config_changed: Cell<bool>,
    reports: Cell<usize>,
    told: Cell<bool>,
    last_warning: Cell<Option<Time>>,
}

impl Monitors {
    pub(crate) fn new(inbox: Rc<Inbox>, metrics: DaemonMetrics, rotation: Rotation) -> Rc<Self> {
        Rc::new(Monitors {
            inbox,
            metrics,
            rotation,
            map: RefCell::default(),
            config: RefCell::default(),
            config_changed: Cell::new(false),
            reports: Cell::new(0),
            told: Cell::new(false),
            last_warning: Cell::new(None),
        })
    }

    /// The map from an earlier life, to go on from.
    pub(crate) fn set_map(&self, map: Arc<OsdMap>) {
        *self.map.borrow_mut() = map;
    }

    /// The settings made at run time, if they changed since the last call.
    pub(crate) fn changed_config(&self) -> Option<ConfigMap> {
        self.config_changed.take().then(|| self.config.borrow().clone())
    }

    async fn client(&self) -> Result<MonitorClient<Channel>, String> {
        let channel = self.rotation.channel().await.map_err(|error| error.to_string())?;
        Ok(MonitorClient::new(channel).max_decoding_message_size(MAP_BYTES_MAX))
    }

    /// Makes a call; the answer, or that there was none, becomes an event.
    pub(crate) fn call(self: &Rc<Self>, request: MonitorRequest) {
        if matches!(request, MonitorRequest::Failure(_)) {
            if self.reports.get() >= REPORTS_MAX {
                return;
            }
            self.reports.set(self.reports.get() + 1);
        }
        let monitors = self.clone();
        tokio::task::spawn_local(async move {
            let (call, is_report) = match &request {
                MonitorRequest::Boot(_) => (MonitorCall::Boot, false),
                MonitorRequest::Beat(_) => (MonitorCall::Beat, false),
                MonitorRequest::Ask(_) => (MonitorCall::Ask, false),
                MonitorRequest::Failure(_) => (MonitorCall::Failure, true),
            };
            let answer = timeout(CALL_TIMEOUT, monitors.answer(request)).await;
            if is_report {
                monitors.reports.set(monitors.reports.get() - 1);
            }
            match answer {
                Ok(Ok(Some(event))) => monitors.inbox.put(event),
                Ok(Ok(None)) => {}
                Ok(Err(why)) => monitors.failed(call, &why),
                Err(_) => monitors.failed(call, "no answer in time"),
            }
        });
    }

    /// Makes a report whose outcome is asked for by [`was_told`](Self::was_told) when the task has ended.
    pub(crate) fn tell(self: &Rc<Self>, report: FailureReport) -> JoinHandle<()> {
        let monitors = self.clone();
        tokio::task::spawn_local(async move {
            let answer =
                timeout(CALL_TIMEOUT, monitors.answer(MonitorRequest::Failure(report))).await;
            monitors.told.set(matches!(answer, Ok(Ok(_))));
        })
    }

    /// Whether the report given to `tell` was taken.
    pub(crate) fn was_told(&self) -> bool {
        self.told.get()
    }

    async fn answer(&self, request: MonitorRequest) -> Result<Option<Event>, String> {
        let mut client = self.client().await?;
        let said = |status: Status| status.message().to_string();
        Ok(match request {
            MonitorRequest::Boot(boot) => {
                Some(Event::BootReply(client.boot(boot).await.map_err(said)?.into_inner()))
            }
            MonitorRequest::Beat(beat) => {
                Some(Event::BeatReply(client.beat(beat).await.map_err(said)?.into_inner()))
            }
            MonitorRequest::Ask(asks) => {
                let reply = client.ask_pgs(asks).await.map_err(said)?.into_inner();
                Some(Event::AskReply { epoch: Epoch(reply.epoch) })
            }
            MonitorRequest::Failure(report) => {
                client.report_failure(report).await.map_err(said)?;
                None
            }
        })
    }

    fn failed(&self, call: MonitorCall, why: &str) {
        self.metrics.monitor_failures.inc();
        self.rotation.failed();
        self.warn(&format!("{call:?}"), why);
        // Silence is what the machine expects of a monitor that is gone: it asks again in its own time. An
        // immediate event would make a refused connection a busy loop.
        tracing::debug!(?call, why, "the monitor did not answer");
    }

    /// Says once in a while that there is no monitor.
    fn warn(&self, doing: &str, why: &str) {
        let now = clock::now();
        let recently = Duration::from_secs(10);
        if self.last_warning.get().is_none_or(|last| now.since(last) >= recently) {
            self.last_warning.set(Some(now));
            tracing::warn!(doing, why, "no monitor answers; trying again");
        }
    }

    /// Hears maps, for ever.
    pub(crate) async fn subscribe(self: Rc<Self>) {
        let mut pause = RETRY_MIN;
        loop {
            match self.hear(&mut pause).await {
                Ok(()) => tracing::debug!("the monitor ended the subscription"),
                Err(why) => self.warn("subscribing to maps", &why),
            }
            self.rotation.failed();
            sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    async fn hear(&self, pause: &mut Duration) -> Result<(), String> {
        let mut client =
            timeout(CALL_TIMEOUT, self.client()).await.map_err(|_| "no answer in time")??;
        self.check_cluster(&mut client).await?;
        let wants = vec![
            Want { kind: MapKind::MapOsd.into(), have: self.map.borrow().epoch.0 },
            Want { kind: MapKind::MapConfig.into(), have: self.config.borrow().epoch.0 },
        ];
        let asking = timeout(CALL_TIMEOUT, client.subscribe(SubscribeRequest { wants })).await;
        let answer = asking.map_err(|_| "no answer in time")?;
        let mut updates = answer.map_err(|status| status.message().to_string())?.into_inner();
        loop {
            let update = updates.message().await.map_err(|status| status.message().to_string())?;
            let Some(update) = update else { return Ok(()) };
            *pause = RETRY_MIN;
            self.last_warning.set(None);
            self.take(update)?;
        }
    }

    /// Steps of a map do not say whose they are: those of another cluster must not get near ours. That the
    /// monitors are the wrong ones is told by the boot.
    async fn check_cluster(&self, client: &mut MonitorClient<Channel>) -> Result<(), String> {
        let map = self.map.borrow().clone();
        if map.epoch.0 == 0 {
            return Ok(());
        }
        let asking = timeout(CALL_TIMEOUT, client.hello(HelloRequest {})).await;
        let answer = asking.map_err(|_| "no answer in time")?;
        let hello = answer.map_err(|status| status.message().to_string())?.into_inner();
        match ClusterId::from_bytes(hello.cluster) {
            Ok(cluster) if cluster == map.cluster => Ok(()),
            Ok(cluster) => Err(format!("monitor {} is of cluster {cluster}", hello.name)),
            Err(_) => Err(format!("monitor {} names no cluster", hello.name)),
        }
    }

    fn take(&self, update: MapUpdate) -> Result<(), String> {
        match update.kind() {
            MapKind::MapOsd => self.take_osd(update),
            MapKind::MapConfig => {
                let config =
                    ConfigMap::from_bytes(update.full).map_err(|e| format!("config map: {e}"))?;
                tracing::info!(epoch = config.epoch.0, "settings changed");
                *self.config.borrow_mut() = config;
                self.config_changed.set(true);
                // Any event makes a turn, in which the settings are looked at.
                self.inbox.put(Event::Wake);
                Ok(())
            }
            other => Err(format!("a map that was not asked for: {other:?}")),
        }
    }

    fn take_osd(&self, update: MapUpdate) -> Result<(), String> {
        let mut map = self.map.borrow_mut();
        if !update.full.is_empty() {
            let full = OsdMap::from_bytes(update.full).map_err(|e| format!("map: {e}"))?;
            if full.epoch <= map.epoch {
                return Ok(());
            }
            *map = Arc::new(full);
        } else {
            let mut next = OsdMap::clone(&map);
            for bytes in update.incrementals {
                let step = Incremental::from_bytes(bytes).map_err(|e| format!("map step: {e}"))?;
                if step.epoch <= next.epoch {
                    continue;
                }
                if let Err(error) = next.apply(&step) {
                    // A gap: the next subscription asks for the whole map.
                    *map = Arc::new(OsdMap::default());
                    return Err(error.to_string());
                }
            }
            if next.epoch == map.epoch {
                return Ok(());
            }
            *map = Arc::new(next);
        }
        tracing::debug!(epoch = map.epoch.0, "map");
        self.inbox.put(Event::Map(map.clone()));
        Ok(())
    }
}
