//! Delivering events to webhooks: at least once, in the order of the changes of a key.
//!
//! The shard keeps an event until its delivery was acknowledged. One worker at a time has the events of a shard
//! (a lease, as for all work); should he be slower than his lease, another may deliver the same ones again. Of one
//! endpoint and one shard, and so of one key, events go one after the other: while an endpoint fails, nothing later is
//! sent to it. (What waits in a shard that is split stays there, so it may come after what the new shard sends;
//! numbers go on from the old shard's, and tell.) It is asked again after a pause that doubles from [`PAUSE_MIN`] to
//! [`PAUSE_MAX`].
//!
//! An event that could not be delivered for [`EVENT_AGE_MAX`] is given up, and counted, also by gateways that do not
//! know its endpoint: until then they leave it to those that do.

use super::*;
use crate::s3::{dates, uri};
use crate::webhook::{Webhook, Webhooks};
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};

/// The name of the work in the shards.
const WORK: &str = EVENTS_WORK;

/// Events in one page.
const PAGE: u32 = 200;

/// First and longest pause before an endpoint that failed is asked again.
pub const PAUSE_MIN: Duration = Duration::from_millis(500);
/// See [`PAUSE_MIN`].
pub const PAUSE_MAX: Duration = Duration::from_secs(60);

/// How long an event is tried.
pub const EVENT_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// How often shards with events are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What was delivered is told to the shard at least so often.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Where events go, and how the gateway calls itself in them.
#[derive(Clone, Debug, Default)]
pub struct Delivery {
    /// The endpoints.
    pub webhooks: Webhooks,
    /// The region.
    pub region: String,
    /// The gateway.
    pub host_id: String,
}

/// An endpoint that failed.
#[derive(Clone, Copy, Debug)]
struct Failing {
    until: Time,
    pause: Duration,
}

/// The endpoints that fail, by name.
#[derive(Debug, Default)]
pub(super) struct Health {
    failing: RefCell<HashMap<String, Failing>>,
}

impl Health {
    fn is_ready(&self, endpoint: &str) -> bool {
        self.failing.borrow().get(endpoint).is_none_or(|failing| failing.until <= clock::now())
    }

    fn failed(&self, endpoint: &str) {
        let mut failing = self.failing.borrow_mut();
        let before = failing.get(endpoint).map(|failing| failing.pause);
        let pause = before.map_or(PAUSE_MIN, |pause| (pause * 2).min(PAUSE_MAX));
        failing.insert(endpoint.to_owned(), Failing { until: clock::now() + pause, pause });
    }

    fn well(&self, endpoint: &str) {
        self.failing.borrow_mut().remove(endpoint);
    }

    /// When an endpoint is asked again.
    fn ready_at(&self, endpoint: &str) -> Time {
        self.failing.borrow().get(endpoint).map_or_else(clock::now, |failing| failing.until)
    }
}

/// Shards with events that wait for an endpoint: their bucket, and when they are looked at again.
type Later = BTreeMap<(BucketId, u32), (Bucket, Time)>;

/// What is left of the events of a shard.
enum Left {
    /// Nothing, or what waits for somebody else: the search finds it.
    Nothing,
    /// Something, to be looked at then.
    Until(Time),
}

/// What one worker does in one go: what was done is told to the shard now and then.
struct Round<'a> {
    at: (&'a Bucket, u32),
    /// When it began, by the daemon's clock.
    now_ms: u64,
    shutdown: &'a Shutdown,
    told: Time,
    /// Endpoints of events that stay.
    held: BTreeSet<String>,
}

impl Chores {
    /// Delivers events until `shutdown`: of the shards that this process changed at once, of all others as they are
    /// found.
    pub(super) async fn deliver<C: Cluster>(&self, flat: &Flat<C>, shutdown: &Shutdown) {
        let (mut search_at, mut later) = (clock::now(), Later::new());
        loop {
            tokio::select! {
                () = shutdown.wait() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if clock::now() >= search_at {
                if let Err(error) = self.search(flat, &mut later).await {
                    tracing::warn!(%error, "looking for events stopped; tried again later");
                }
                search_at = clock::now() + self.every;
            }
            let mut due = flat.commons.eventful();
            if self.delivery.webhooks.is_empty() {
                // There is nobody to tell. What is too old is found by the search.
                due.clear();
            }
            let now = clock::now();
            later.retain(|key, (bucket, at)| {
                if *at <= now {
                    due.entry(*key).or_insert_with(|| bucket.clone());
                }
                *at > now
            });
            for ((id, shard), bucket) in due {
                if shutdown.is_triggered() {
                    return;
                }
                let again = match self.deliver_shard(flat, &bucket, shard, shutdown).await {
                    Ok(Left::Nothing) | Err(CatalogueError::Refused(Refusal::NoBucket {})) => None,
                    Ok(Left::Until(at)) => Some(at),
                    Err(error) => {
                        tracing::debug!(%error, bucket = %id, shard, "events not delivered");
                        Some(clock::now() + PAUSE_MIN)
                    }
                };
                match again {
                    Some(at) if later.len() < EVENTFUL_MAX => {
                        later.insert((id, shard), (bucket, at));
                    }
                    _ => drop(later.remove(&(id, shard))),
                }
            }
        }
    }

    /// Finds the shards that have events, in buckets that have or had somebody to tell.
    async fn search<C: Cluster>(
        &self,
        flat: &Flat<C>,
        later: &mut Later,
    ) -> Result<(), CatalogueError> {
        let (mut waiting, mut oldest_ms) = (0u64, u64::MAX);
        let mut query = ListBuckets { max: BUCKETS_PER_PAGE, ..ListBuckets::default() };
        loop {
            let page = flat.buckets(query.clone()).await?;
            let told = page
                .buckets
                .iter()
                .filter(|bucket| bucket.ready && bucket.documents.contains_key(document::NOTIFIED));
            for bucket in told {
                for (shard, head) in flat.heads(bucket).await? {
                    let events = head.events;
                    if events == 0 {
                        continue;
                    }
                    waiting = waiting.saturating_add(events);
                    // What waits already goes on waiting.
                    if later.len() < EVENTFUL_MAX {
                        let now = || (bucket.clone(), clock::now());
                        later.entry((bucket.id, shard)).or_insert_with(now);
                    }
                    let ask = Events { after: 0, max: 1 };
                    let first: Answer<Vec<(u64, EventRecord)>> =
                        flat.shard(bucket, shard, "events", &ask).await?;
                    let first = first.0.unwrap_or_default().into_iter().next();
                    oldest_ms = oldest_ms.min(first.map_or(u64::MAX, |(_, event)| event.at_ms));
                }
            }
            match page.buckets.last() {
                Some(last) if page.more => query.after.clone_from(&last.name),
                _ => break,
            }
        }
        let age_ms = match waiting {
            0 => 0,
            _ => clock::timestamp().millis().saturating_sub(oldest_ms),
        };
        self.metrics.events_waiting(waiting, Duration::from_millis(age_ms));
        Ok(())
    }

    /// When the first of all endpoints is asked again; `None` if there is none.
    fn first_ready(&self) -> Option<Time> {
        self.delivery.webhooks.names().map(|name| self.health.ready_at(name)).min()
    }

    /// Delivers the events of a shard.
    async fn deliver_shard<C: Cluster>(
        &self,
        flat: &Flat<C>,
        bucket: &Bucket,
        shard: u32,
        shutdown: &Shutdown,
    ) -> Result<Left, CatalogueError> {
        // Nothing can be done before an endpoint that fails is asked again.
        if let Some(at) = self.first_ready().filter(|at| *at > clock::now()) {
            return Ok(Left::Until(at));
        }
        let at = (bucket, shard);
        let again = || Left::Until(clock::now() + PAUSE_MIN);
        let round = clock::timestamp().millis();
        let Some(chore) = self.claim(flat, at, WORK, round, 0).await? else { return Ok(again()) };
        let (now_ms, told) = (chore.heard_ms, clock::now());
        let mut round = Round { at, now_ms, shutdown, told, held: BTreeSet::new() };
        let mut after = 0;
        loop {
            let ask = Events { after, max: PAGE };
            let page: Vec<(u64, EventRecord)> =
                flat.work_shard(bucket, shard, "events", &ask).await?;
            let Some((last, event)) = page.last() else { break };
            after = *last;
            // Events are in the order of their time: who can only give up needs none of the younger ones.
            let young = !too_old(event, now_ms) && self.delivery.webhooks.is_empty();
            if !self.deliver_page(flat, &mut round, page).await? {
                return Ok(again());
            }
            if young {
                break;
            }
        }
        self.report(flat, at, WORK, None, Tally::default()).await?;
        let known = round.held.iter().filter(|name| self.delivery.webhooks.get(name).is_some());
        Ok(known.map(|name| self.health.ready_at(name)).min().map_or(Left::Nothing, Left::Until))
    }

    /// `false` if the work is another's by now, or the gateway stops.
    async fn deliver_page<C: Cluster>(
        &self,
        flat: &Flat<C>,
        round: &mut Round<'_>,
        page: Vec<(u64, EventRecord)>,
    ) -> Result<bool, CatalogueError> {
        let mut done = Vec::new();
        for (number, event) in page {
            let endpoint = &event.notice.endpoint;
            // Behind an event that stays nothing goes to its endpoint, even if that is well again by now.
            let held = round.held.contains(endpoint);
            match self.deliver_one(round.at.0, (number, &event), held, round.now_ms).await {
                true => done.push(number),
                false if held => {}
                false => drop(round.held.insert(endpoint.clone())),
            }
            let stops = round.shutdown.is_triggered();
            if clock::now().since(round.told) >= TELL_EVERY || stops {
                let keeps = self.tell(flat, round, std::mem::take(&mut done)).await?;
                if stops || !keeps {
                    return Ok(false);
                }
            }
        }
        match done.is_empty() {
            true => Ok(true),
            false => self.tell(flat, round, done).await,
        }
    }

    /// Tells the shard what was delivered, and keeps the work.
    async fn tell<C: Cluster>(
        &self,
        flat: &Flat<C>,
        round: &mut Round<'_>,
        events: Vec<u64>,
    ) -> Result<bool, CatalogueError> {
        let (at, acted) = (round.at, events.len() as u64);
        if acted > 0 {
            let delivered = Delivered { events };
            let _: Nothing = flat.work_shard(at.0, at.1, "delivered", &delivered).await?;
        }
        round.told = clock::now();
        let tally = Tally { looked: acted, acted, passed: 0 };
        self.report(flat, at, WORK, Some(Bytes::new()), tally).await
    }

    /// Whether the event need not be kept any longer. How old it is, the daemon's clock says: that gave it its time.
    async fn deliver_one(
        &self,
        bucket: &Bucket,
        (number, event): (u64, &EventRecord),
        held: bool,
        now_ms: u64,
    ) -> bool {
        let endpoint = event.notice.endpoint.as_str();
        let hook: Option<&Webhook> = self.delivery.webhooks.get(endpoint);
        if let Some(hook) = hook.filter(|_| !held && self.health.is_ready(endpoint)) {
            let document = self.delivery.document(bucket, number, event);
            match hook.post(document.to_string().into()).await {
                Ok(()) => {
                    self.health.well(endpoint);
                    self.metrics.event_delivered();
                    return true;
                }
                Err(why) => {
                    self.health.failed(endpoint);
                    self.metrics.event_failed();
                    tracing::warn!(endpoint, why, bucket = %bucket.name, "an event was not taken");
                }
            }
        }
        let too_old = too_old(event, now_ms);
        if too_old {
            self.metrics.event_given_up();
            let key = String::from_utf8_lossy(&event.key);
            tracing::error!(endpoint, bucket = %bucket.name, %key, "an event was given up");
        }
        too_old
    }
}

/// Whether an event was tried for long enough.
fn too_old(event: &EventRecord, now_ms: u64) -> bool {
    now_ms.saturating_sub(event.at_ms) > millis(EVENT_AGE_MAX)
}

impl Delivery {
    /// The event in AWS's form.
    fn document(&self, bucket: &Bucket, number: u64, event: &EventRecord) -> Value {
        let entry = &event.entry;
        let mut object = json!({
            "key": uri::encoded(&event.key, true),
            "sequencer": format!("{number:016X}"),
        });
        if !event.notice.event.contains("Removed") && !entry.delete_marker {
            object["size"] = json!(entry.size);
            object["eTag"] = json!(entry.etag.to_string());
        }
        if entry.sequence > 0 {
            object["versionId"] = json!(entry.version().text(bucket.id));
        }
        json!({"Records": [{
            "eventVersion": "2.2",
            "eventSource": "aws:s3",
            "awsRegion": self.region,
            "eventTime": dates::iso(event.at_ms),
            "eventName": event.notice.event,
            "userIdentity": {"principalId": event.requester},
            "requestParameters": {"sourceIPAddress": event.address},
            "responseElements": {
                "x-amz-request-id": event.request,
                "x-amz-id-2": self.host_id,
            },
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": event.notice.rule,
                "bucket": {
                    "name": bucket.name,
                    "ownerIdentity": {"principalId": bucket.owner},
                    "arn": format!("arn:aws:s3:::{}", bucket.name),
                },
                "object": object,
            },
        }]})
    }
}
