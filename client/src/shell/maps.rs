//! The maps as they change: one subscription at one monitor, at the next one when that fails.

use super::monitor::{MonitorClient, unreachable};
use std::sync::Arc;
use std::time::Duration;
use store_base::codec::Decode;
use store_base::error::Error;
use store_base::map::{AuthMap, ConfigMap, Incremental, OsdMap, ServiceMap};
use store_base::wire::{MapKind, MapUpdate, SubscribeRequest, Want};
use store_base::{ClusterId, Epoch, Time};
use store_shell::clock;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, sleep_until, timeout_at};

/// Pause after a subscription that failed; doubles until something arrives.
const RETRY_MIN: Duration = Duration::from_millis(50);
/// Longest such pause.
const RETRY_MAX: Duration = Duration::from_secs(1);
/// How long a monitor may take to deliver an epoch that a daemon has named. Then another is asked.
const STALE_AFTER: Duration = Duration::from_secs(1);

/// Which maps are kept besides the OSD map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MapsWanted {
    /// Users and keys; only gateways, metadata services and monitors are given it.
    pub auth: bool,
    /// Settings.
    pub config: bool,
    /// Gateways and metadata services.
    pub services: bool,
}

/// The newest maps. Those not asked for stay empty.
#[derive(Clone, Debug)]
pub struct Maps {
    pub(crate) osd: watch::Receiver<Arc<OsdMap>>,
    pub(crate) auth: watch::Receiver<Arc<AuthMap>>,
    pub(crate) config: watch::Receiver<Arc<ConfigMap>>,
    pub(crate) services: watch::Receiver<Arc<ServiceMap>>,
}

/// Where new maps are shown.
pub(super) struct Watched {
    osd: watch::Sender<Arc<OsdMap>>,
    auth: watch::Sender<Arc<AuthMap>>,
    config: watch::Sender<Arc<ConfigMap>>,
    services: watch::Sender<Arc<ServiceMap>>,
}

pub(super) fn channels() -> (Maps, Watched) {
    let (osd_in, osd) = watch::channel(Arc::default());
    let (auth_in, auth) = watch::channel(Arc::default());
    let (config_in, config) = watch::channel(Arc::default());
    let (services_in, services) = watch::channel(Arc::default());
    (
        Maps { osd, auth, config, services },
        Watched { osd: osd_in, auth: auth_in, config: config_in, services: services_in },
    )
}

impl Maps {
    /// Waits for the maps without which nothing can be answered.
    pub(super) async fn wait_for_first(
        &self,
        wanted: MapsWanted,
        until: Time,
    ) -> Result<(), Error> {
        self.wait_for_epoch(Epoch(1), until).await?;
        if wanted.auth {
            let mut auth = self.auth.clone();
            let waiting = auth.wait_for(|map| map.epoch > Epoch(0));
            let came = timeout_at(clock::instant(until), waiting).await;
            came.map_err(|_| late("map of users"))?.map_err(|_| super::stopped())?;
        }
        Ok(())
    }

    pub(super) async fn wait_for_epoch(&self, epoch: Epoch, until: Time) -> Result<Epoch, Error> {
        let mut osd = self.osd.clone();
        let waiting = osd.wait_for(|map| map.epoch >= epoch);
        let came = timeout_at(clock::instant(until), waiting).await;
        let map = came.map_err(|_| late("OSD map"))?.map_err(|_| super::stopped())?;
        Ok(map.epoch)
    }
}

fn late(what: &str) -> Error {
    Error::Unavailable(format!("the monitors sent no {what} in time; nothing was done"))
}

/// Keeps the maps up to date until the task is aborted.
pub(super) fn subscribe(
    monitor: MonitorClient,
    cluster: ClusterId,
    kinds: MapsWanted,
    watched: Watched,
    wanted: watch::Receiver<Epoch>,
) -> JoinHandle<()> {
    let mut subscription = Subscription { monitor, cluster, kinds, watched, wanted };
    tokio::spawn(async move { subscription.run().await })
}

struct Subscription {
    monitor: MonitorClient,
    cluster: ClusterId,
    kinds: MapsWanted,
    watched: Watched,
    /// An epoch that the machine has heard of.
    wanted: watch::Receiver<Epoch>,
}

impl Subscription {
    async fn run(&mut self) {
        let mut pause = RETRY_MIN;
        loop {
            let mut heard = false;
            match self.follow(&mut heard).await {
                // Ended in order: the monitor stops, or leads no more.
                Ok(()) => tracing::debug!("map subscription ended"),
                Err(error) => tracing::debug!(%error, "map subscription failed"),
            }
            self.monitor.failed();
            if heard {
                pause = RETRY_MIN;
            }
            sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    /// One subscription, until it fails or falls behind.
    async fn follow(&mut self, heard: &mut bool) -> Result<(), Error> {
        let mut calls = self.monitor.calls().await?;
        let request = SubscribeRequest { wants: self.wants() };
        let mut updates = calls.subscribe(request).await.map_err(unreachable)?.into_inner();
        let mut stale_at = None;
        loop {
            let behind = *self.wanted.borrow_and_update() > self.watched.osd.borrow().epoch;
            stale_at = match stale_at {
                _ if !behind => None,
                None => Some(clock::now() + STALE_AFTER),
                set => set,
            };
            tokio::select! {
                update = updates.message() => match update.map_err(unreachable)? {
                    Some(update) => {
                        *heard = true;
                        self.apply(update)?;
                    }
                    None => return Ok(()),
                },
                Ok(()) = self.wanted.changed() => {}
                () = sleep_until(clock::instant(stale_at.unwrap_or(Time::ZERO))), if stale_at.is_some() => {
                    return Err(Error::Unavailable("the monitor is behind the daemons".into()));
                }
            }
        }
    }

    fn wants(&self) -> Vec<Want> {
        let want = |kind: MapKind, have: Epoch| Want { kind: kind.into(), have: have.0 };
        let mut wants = vec![want(MapKind::MapOsd, self.watched.osd.borrow().epoch)];
        if self.kinds.auth {
            wants.push(want(MapKind::MapAuth, self.watched.auth.borrow().epoch));
        }
        if self.kinds.config {
            wants.push(want(MapKind::MapConfig, self.watched.config.borrow().epoch));
        }
        if self.kinds.services {
            wants.push(want(MapKind::MapServices, self.watched.services.borrow().epoch));
        }
        wants
    }

    fn apply(&self, update: MapUpdate) -> Result<(), Error> {
        let damaged = |error| Error::Damaged(format!("a map cannot be read: {error}"));
        match update.kind() {
            MapKind::MapNone => {}
            MapKind::MapOsd => self.apply_osd(update)?,
            MapKind::MapAuth => {
                let map = AuthMap::from_bytes(update.full).map_err(damaged)?;
                show(&self.watched.auth, map, |map| map.epoch);
            }
            MapKind::MapConfig => {
                let map = ConfigMap::from_bytes(update.full).map_err(damaged)?;
                show(&self.watched.config, map, |map| map.epoch);
            }
            MapKind::MapServices => {
                let map = ServiceMap::from_bytes(update.full).map_err(damaged)?;
                show(&self.watched.services, map, |map| map.epoch);
            }
        }
        Ok(())
    }

    fn apply_osd(&self, update: MapUpdate) -> Result<(), Error> {
        let damaged = |error| Error::Damaged(format!("an OSD map cannot be read: {error}"));
        let map = if update.incrementals.is_empty() {
            OsdMap::from_bytes(update.full).map_err(damaged)?
        } else {
            let mut map = OsdMap::clone(&self.watched.osd.borrow());
            for bytes in update.incrementals {
                let step = Incremental::from_bytes(bytes).map_err(damaged)?;
                if step.epoch > map.epoch {
                    map.apply(&step).map_err(|gap| Error::Unavailable(gap.to_string()))?;
                }
            }
            map
        };
        if map.cluster != self.cluster {
            let (theirs, ours) = (map.cluster, self.cluster);
            return Err(Error::Denied(format!(
                "a monitor of cluster {theirs} answers where one of {ours} was: check the monitors' addresses"
            )));
        }
        show(&self.watched.osd, map, |map| map.epoch);
        Ok(())
    }
}

/// Shows a map unless a newer one is shown already: another monitor may be behind.
fn show<T>(watched: &watch::Sender<Arc<T>>, map: T, epoch: impl Fn(&T) -> Epoch) {
    watched.send_if_modified(|shown| {
        let newer = epoch(&map) > epoch(shown);
        if newer {
            *shown = Arc::new(map);
        }
        newer
    });
}
