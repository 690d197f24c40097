//! The store for several monitors: etcd, by a small client of our own.
//!
//! | key, behind the prefix | holds |
//! |---|---|
//! | `version` | the version, decimal |
//! | `leader` | name of the monitor that leads, under its lease |
//! | `e/<key>` | an entry: 0 and the value, or 1 and the name of its blob |
//! | `b/<blob>/<piece, 6 digits>` | a piece of a value too large for one transaction |
//!
//! Every batch is one transaction that compares the creation revision of `leader` with that of our own
//! campaign and `version` with what the batch expects. So a monitor that lost its lease, and does not know it
//! yet, changes nothing. Blobs are written before the transaction that names them and are garbage until then;
//! the next leader sweeps what nobody names.
//!
//! Calls have deadlines. Watch and keep-alive are loops that begin again after a broken stream; a watch that
//! fell behind a compaction says "load again". etcd should be run with `--auto-compaction-retention`, for it
//! keeps every revision else.

pub mod client;
mod lease;
mod watch;

use super::recent::Recent;
use super::{Answer, Batch, Change, CommitError, Leadership, StateStore, StoreError, Stored};
use crate::config::EtcdConfig;
use bytes::Bytes;
use client::Client;
use client::proto::{
    Compare, DeleteRangeRequest, KeyValue, PutRequest, RangeRequest, RequestOp, TxnRequest,
    compare::{CompareResult, CompareTarget, TargetUnion},
    request_op, response_op,
};
use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use store_shell::clock;

/// Values that fit into a transaction beside others. etcd refuses requests above 1.5 MiB.
const INLINE_BYTES_MAX: usize = 256 << 10;

/// All values of a transaction; what would make it larger goes into blobs.
const TRANSACTION_BYTES_MAX: usize = 768 << 10;

/// Pieces of blobs.
const PIECE_BYTES_MAX: usize = 512 << 10;

/// Operations of a transaction. etcd's own limit is 128.
const OPERATIONS_MAX: usize = 120;

/// Keys of one page when everything is read.
const PAGE_KEYS: i64 = 128;

/// How often a read is begun again because its revision was compacted meanwhile.
const LOAD_TRIES_MAX: usize = 5;

const INLINE: u8 = 0;
const BLOB: u8 = 1;

/// What all parts of the store share.
struct Shared {
    client: Client,
    prefix: String,
    recent: Recent,
    lease_seconds: i64,
    /// Creation revision of our leader key, while we lead.
    fence: Mutex<Option<i64>>,
    /// The last lease that leadership hung on, to be given back at the end.
    lease: Mutex<Option<i64>>,
    /// Blobs that entries name, by entry, as far as we know.
    blobs: Mutex<BTreeMap<String, String>>,
}

impl Shared {
    fn key(&self, name: &str) -> Bytes {
        format!("{}{name}", self.prefix).into()
    }

    fn fence(&self) -> Option<i64> {
        *self.fence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_fence(&self, fence: Option<i64>) {
        *self.fence.lock().unwrap_or_else(PoisonError::into_inner) = fence;
    }

    fn set_lease(&self, lease: Option<i64>) -> Option<i64> {
        std::mem::replace(&mut *self.lease.lock().unwrap_or_else(PoisonError::into_inner), lease)
    }

    fn blobs(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The version and the revision at which it was read.
    async fn version(&self) -> Result<(u64, i64), StoreError> {
        let request = RangeRequest { key: self.key("version"), ..RangeRequest::default() };
        let reply = self.client.range(request).await.map_err(unavailable)?;
        let revision = reply.header.map_or(0, |header| header.revision);
        match reply.kvs.first() {
            Some(pair) => Ok((parse_version(&pair.value)?, revision)),
            None => Ok((0, revision)),
        }
    }
}

fn unavailable(status: tonic::Status) -> StoreError {
    match status.code() {
        tonic::Code::Unauthenticated | tonic::Code::PermissionDenied => {
            StoreError::Broken(format!("etcd refuses us: {}", status.message()))
        }
        _ => StoreError::Unavailable(format!("etcd: {}", client::sentence(&status))),
    }
}

fn parse_version(bytes: &[u8]) -> Result<u64, StoreError> {
    let parsed = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| StoreError::Broken("the version in etcd is not a number".to_string()))
}

/// The end of the range of all keys that begin so.
fn range_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(&[0]) // to the end of all keys
}

/// The store. Its loops run on the runtime that it was opened on, until it is dropped.
pub struct EtcdStore {
    shared: Arc<Shared>,
    watch: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl EtcdStore {
    /// Prepares the connection; nothing is sent yet, so that a monitor may start before its etcd. Call it
    /// within the runtime.
    pub fn open(config: &EtcdConfig) -> Result<EtcdStore, StoreError> {
        let client = Client::new(config).map_err(StoreError::Broken)?;
        let shared = Shared {
            client,
            prefix: config.prefix.clone(),
            recent: Recent::new(0),
            lease_seconds: i64::try_from(config.lease.0.as_secs().max(2)).unwrap_or(i64::MAX),
            fence: Mutex::new(None),
            lease: Mutex::new(None),
            blobs: Mutex::new(BTreeMap::new()),
        };
        Ok(EtcdStore { shared: Arc::new(shared), watch: Mutex::new(None) })
    }

    /// The watch is begun by the first who waits for a change.
    fn begin_watch(&self) {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        if watch.is_none() {
            *watch = Some(tokio::spawn(watch::run(self.shared.clone())));
        }
    }

    async fn load_once(&self) -> Result<Stored, StoreError> {
        let (version, revision) = self.shared.version().await?;
        let mut stored = Stored { version, entries: BTreeMap::new() };
        let mut blobs = BTreeMap::new();
        let prefix = self.shared.key("e/");
        for pair in self.pages(&prefix, revision).await? {
            let key = std::str::from_utf8(&pair.key[prefix.len()..]);
            let key =
                key.map_err(|_| StoreError::Broken("a key in etcd is not text".to_string()))?;
            let value = match pair.value.split_first() {
                Some((&INLINE, _)) => pair.value.slice(1..),
                Some((&BLOB, name)) => {
                    let name = String::from_utf8_lossy(name).into_owned();
                    let value = self.read_blob(&name, revision).await?;
                    blobs.insert(key.to_string(), name);
                    value
                }
                _ => {
                    return Err(StoreError::Broken(format!(
                        "the entry {key:?} in etcd is damaged"
                    )));
                }
            };
            stored.entries.insert(key.to_string(), value);
        }
        *self.shared.blobs() = blobs;
        Ok(stored)
    }

    /// All pairs below a prefix, as of one revision.
    async fn pages(&self, prefix: &Bytes, revision: i64) -> Result<Vec<KeyValue>, StoreError> {
        let end = range_end(prefix);
        let mut from = prefix.clone();
        let mut pairs: Vec<KeyValue> = Vec::new();
        loop {
            let request = RangeRequest {
                key: from,
                range_end: end.clone(),
                limit: PAGE_KEYS,
                revision,
                ..RangeRequest::default()
            };
            let reply = self.shared.client.range(request).await.map_err(unavailable)?;
            pairs.extend(reply.kvs);
            match pairs.last() {
                Some(last) if reply.more => {
                    let mut next = last.key.to_vec();
                    next.push(0);
                    from = next.into();
                }
                _ => return Ok(pairs),
            }
        }
    }

    async fn read_blob(&self, name: &str, revision: i64) -> Result<Bytes, StoreError> {
        let prefix = self.shared.key(&format!("b/{name}/"));
        let pieces = self.pages(&prefix, revision).await?;
        if pieces.is_empty() {
            return Err(StoreError::Broken(format!("the blob {name} in etcd is gone")));
        }
        let whole: Vec<&[u8]> = pieces.iter().map(|pair| &pair.value[..]).collect();
        Ok(whole.concat().into())
    }

    /// Writes what is too large for the transaction, and says by which name it is found.
    async fn write_blob(&self, version: u64, value: &Bytes) -> Result<String, CommitError> {
        let name = format!("{version:020}-{:016x}", clock::random_u64());
        for (number, piece) in value.chunks(PIECE_BYTES_MAX).enumerate() {
            let key = self.shared.key(&format!("b/{name}/{number:06}"));
            let put = put(key, value.slice_ref(piece));
            let request = TxnRequest { success: vec![put], ..TxnRequest::default() };
            self.shared.client.txn(request).await.map_err(|e| unknown(&e))?;
        }
        Ok(name)
    }

    async fn commit(&self, batch: Batch) -> Result<u64, CommitError> {
        batch.check()?;
        let Some(fence) = self.shared.fence() else {
            return Err(CommitError::NotLeader(
                "it did not campaign, or lost its lease".to_string(),
            ));
        };
        let operations = batch.puts.len() + 2 * batch.deletes.len() + 1;
        if operations > OPERATIONS_MAX {
            let text = format!("{operations} changes at once, etcd takes {OPERATIONS_MAX}");
            return Err(CommitError::Invalid(text));
        }
        let (mut success, mut new_blobs, mut room) =
            (Vec::new(), Vec::new(), TRANSACTION_BYTES_MAX);
        // etcd takes a key only once, and a put undoes a delete before it.
        let puts: BTreeMap<&String, &Bytes> =
            batch.puts.iter().map(|(key, value)| (key, value)).collect();
        let deletes: BTreeSet<&String> =
            batch.deletes.iter().filter(|key| !puts.contains_key(key)).collect();
        for key in deletes {
            success.push(delete(self.shared.key(&format!("e/{key}")), Bytes::new()));
        }
        for (key, value) in puts {
            let fits = value.len() <= INLINE_BYTES_MAX.min(room);
            let stored = if fits {
                room -= value.len();
                [&[INLINE], &value[..]].concat()
            } else {
                let name = self.write_blob(batch.expect + 1, value).await?;
                let stored = [&[BLOB], name.as_bytes()].concat();
                new_blobs.push((key.clone(), name));
                stored
            };
            success.push(put(self.shared.key(&format!("e/{key}")), stored.into()));
        }
        // Blobs that nobody names any more go in the same transaction.
        let changed: BTreeSet<&String> =
            batch.deletes.iter().chain(batch.puts.iter().map(|(key, _)| key)).collect();
        let old: Vec<String> = self
            .shared
            .blobs()
            .iter()
            .filter(|(key, _)| changed.contains(key))
            .map(|(_, name)| name.clone())
            .collect();
        for name in &old {
            let prefix = self.shared.key(&format!("b/{name}/"));
            let end = range_end(&prefix);
            success.push(delete(prefix, end));
        }
        let next = batch.expect + 1;
        success.push(put(self.shared.key("version"), next.to_string().into()));
        let request = TxnRequest {
            compare: vec![self.leads(fence), self.is_version(batch.expect)],
            success,
            failure: vec![range(self.shared.key("leader")), range(self.shared.key("version"))],
        };
        let reply = self.shared.client.txn(request).await.map_err(|e| unknown(&e))?;
        if !reply.succeeded {
            return Err(self.why_refused(fence, batch.expect, &reply.responses));
        }
        let mut blobs = self.shared.blobs();
        changed.into_iter().for_each(|key| drop(blobs.remove(key)));
        blobs.extend(new_blobs);
        Ok(next)
    }

    fn leads(&self, fence: i64) -> Compare {
        Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Create.into(),
            key: self.shared.key("leader"),
            target_union: Some(TargetUnion::CreateRevision(fence)),
        }
    }

    fn is_version(&self, version: u64) -> Compare {
        let (target, value) = match version {
            // It was never written.
            0 => (CompareTarget::Version, TargetUnion::Version(0)),
            version => (CompareTarget::Value, TargetUnion::Value(version.to_string().into())),
        };
        Compare {
            result: CompareResult::Equal.into(),
            target: target.into(),
            key: self.shared.key("version"),
            target_union: Some(value),
        }
    }

    fn why_refused(
        &self,
        fence: i64,
        expect: u64,
        responses: &[client::proto::ResponseOp],
    ) -> CommitError {
        let pair = |at: usize| match responses.get(at).and_then(|op| op.response.as_ref()) {
            Some(response_op::Response::ResponseRange(reply)) => reply.kvs.first(),
            _ => None,
        };
        match pair(0) {
            Some(leader) if leader.create_revision == fence => {
                let have = pair(1).and_then(|pair| parse_version(&pair.value).ok()).unwrap_or(0);
                CommitError::Conflict { expect, have }
            }
            Some(leader) => {
                self.shared.set_fence(None);
                let name = String::from_utf8_lossy(&leader.value).into_owned();
                CommitError::NotLeader(format!("monitor {name} leads"))
            }
            None => {
                self.shared.set_fence(None);
                CommitError::NotLeader("its lease has run out".to_string())
            }
        }
    }

    /// Removes blobs that no entry names: left by commits that came to nothing. Only a leader does this, after
    /// it has loaded, so that no other is just writing one.
    async fn sweep(&self) -> Result<(), StoreError> {
        let named: BTreeSet<String> = self.shared.blobs().values().cloned().collect();
        let prefix = self.shared.key("b/");
        let request = RangeRequest {
            range_end: range_end(&prefix),
            key: prefix.clone(),
            keys_only: true,
            ..RangeRequest::default()
        };
        let reply = self.shared.client.range(request).await.map_err(unavailable)?;
        let found: BTreeSet<String> = reply
            .kvs
            .iter()
            .filter_map(|pair| {
                let rest = std::str::from_utf8(pair.key.get(prefix.len()..)?).ok()?;
                Some(rest.split_once('/')?.0.to_string())
            })
            .collect();
        for name in found.difference(&named) {
            let Some(fence) = self.shared.fence() else { return Ok(()) };
            let prefix = self.shared.key(&format!("b/{name}/"));
            let end = range_end(&prefix);
            let request = TxnRequest {
                compare: vec![self.leads(fence)],
                success: vec![delete(prefix, end)],
                failure: Vec::new(),
            };
            self.shared.client.txn(request).await.map_err(unavailable)?;
        }
        Ok(())
    }
}

fn unknown(status: &tonic::Status) -> CommitError {
    CommitError::Unknown(format!("etcd: {}", client::sentence(status)))
}

fn put(key: Bytes, value: Bytes) -> RequestOp {
    let put = PutRequest { key, value, lease: 0 };
    RequestOp { request: Some(request_op::Request::RequestPut(put)) }
}

fn delete(key: Bytes, range_end: Bytes) -> RequestOp {
    let delete = DeleteRangeRequest { key, range_end };
    RequestOp { request: Some(request_op::Request::RequestDeleteRange(delete)) }
}

fn range(key: Bytes) -> RequestOp {
    let range = RangeRequest { key, ..RangeRequest::default() };
    RequestOp { request: Some(request_op::Request::RequestRange(range)) }
}

impl StateStore for EtcdStore {
    fn kind(&self) -> &'static str {
        "etcd"
    }

    fn load(&self) -> Answer<'_, Stored, StoreError> {
        Box::pin(async {
            let mut tries = 0;
            let stored = loop {
                tries += 1;
                match self.load_once().await {
                    // Its revision was compacted while it was read.
                    Err(StoreError::Unavailable(why))
                        if why.contains("compacted") && tries < LOAD_TRIES_MAX => {}
                    other => break other?,
                }
            };
            if self.shared.fence().is_some() {
                self.sweep().await?;
            }
            Ok(stored)
        })
    }

    fn commit(&self, batch: Batch) -> Answer<'_, u64, CommitError> {
        Box::pin(EtcdStore::commit(self, batch))
    }

    fn next_change(&self, after: u64) -> Answer<'_, Change, StoreError> {
        self.begin_watch();
        let next = self.shared.recent.next(after);
        Box::pin(async move { Ok(next.await) })
    }

    fn campaign(&self, name: &str) -> Answer<'_, Box<dyn Leadership>, StoreError> {
        let name = name.to_string();
        Box::pin(async move {
            let held = lease::campaign(self.shared.clone(), &name).await?;
            Ok(Box::new(held) as Box<dyn Leadership>)
        })
    }

    fn leader(&self) -> Answer<'_, Option<String>, StoreError> {
        Box::pin(async {
            let request =
                RangeRequest { key: self.shared.key("leader"), ..RangeRequest::default() };
            let reply = self.shared.client.range(request).await.map_err(unavailable)?;
            let name =
                reply.kvs.first().map(|pair| String::from_utf8_lossy(&pair.value).into_owned());
            Ok(name)
        })
    }

    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            self.shared.set_fence(None);
            if let Some(lease) = self.shared.set_lease(None)
                && let Err(status) = self.shared.client.revoke(lease).await
            {
                tracing::debug!(error = status.message(), "the lease is left to run out");
            }
        })
    }
}

impl Drop for EtcdStore {
    fn drop(&mut self) {
        let watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(watch) = watch {
            watch.abort();
        }
    }
}

impl Leadership for lease::Held {
    fn lost(&self) -> Pin<Box<dyn Future<Output = String> + Send + '_>> {
        Box::pin(lease::Held::lost(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_the_next_key_that_does_not_begin_so() {
        assert_eq!(range_end(b"/store/e/")[..], *b"/store/e0");
        assert_eq!(range_end(b"a\xff")[..], *b"b");
        assert_eq!(range_end(b"\xff")[..], [0]);
    }
}
