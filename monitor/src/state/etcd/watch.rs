//! The loop that follows what is committed, by whomever: a watch that begins again where it broke.

use super::client::proto::{
    WatchCreateRequest, WatchRequest, WatchResponse, event::EventType, watch_request,
};
use super::{BLOB, INLINE, Shared, parse_version, range_end};
use crate::state::Batch;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::metadata::MetadataValue;

/// Pause before a broken watch is begun again, and the longest one.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Follows for ever; aborted when the store is dropped.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut from = None;
    let mut pause = RETRY_PAUSE;
    loop {
        match follow(&shared, &mut from, &mut pause).await {
            Ok(()) => {}
            Err(status) => {
                tracing::debug!(error = status.message(), "the watch is begun again");
                shared.client.failed();
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_PAUSE_MAX);
    }
}

/// Follows over one stream. `from` is the first revision that was not seen; `None` where that is not known,
/// at the start and after a compaction: then those who wait must load.
async fn follow(
    shared: &Shared,
    from: &mut Option<i64>,
    pause: &mut Duration,
) -> Result<(), Status> {
    let start = match *from {
        Some(revision) => revision,
        None => {
            let (version, revision) =
                shared.version().await.map_err(|e| Status::unavailable(e.to_string()))?;
            shared.recent.restart(version);
            *from.insert(revision + 1)
        }
    };
    let prefix = shared.key("");
    let create = WatchCreateRequest {
        range_end: range_end(&prefix),
        key: prefix,
        start_revision: start,
        ..WatchCreateRequest::default()
    };
    let (sender, receiver) = mpsc::channel(1);
    let create = watch_request::RequestUnion::CreateRequest(create);
    let first = WatchRequest { request_union: Some(create) };
    sender.send(first).await.map_err(|_| Status::internal("the stream ended"))?;
    let mut request = shared.client.request(ReceiverStream::new(receiver)).await?;
    // A member that is parted from the others ends the stream instead of being silent.
    request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
    let mut client = shared.client.watches();
    let opened = tokio::time::timeout(shared.client.timeout(), client.watch(request)).await;
    let mut answers =
        opened.map_err(|_| Status::deadline_exceeded("no answer in time"))??.into_inner();
    while let Some(answer) = answers.message().await? {
        if answer.canceled {
            // Compacted, most likely: what happened in between cannot be had.
            *from = None;
            return Ok(());
        }
        *pause = RETRY_PAUSE;
        if let Some(last) = take(shared, &answer) {
            *from = Some(last + 1);
        }
    }
    Ok(())
}

/// Takes in the batches of an answer, and says the last revision in it.
fn take(shared: &Shared, answer: &WatchResponse) -> Option<i64> {
    let mut by_revision: BTreeMap<i64, Vec<_>> = BTreeMap::new();
    for event in &answer.events {
        if let Some(pair) = &event.kv {
            by_revision.entry(pair.mod_revision).or_default().push((event.r#type(), pair));
        }
    }
    let (entries, version_key) = (shared.key("e/"), shared.key("version"));
    for events in by_revision.values() {
        let (mut batch, mut version, mut whole) = (Batch::default(), None, true);
        for (kind, pair) in events {
            if pair.key == version_key {
                version = parse_version(&pair.value).ok();
            } else if let Some(key) = pair.key.strip_prefix(&entries[..]) {
                let key = String::from_utf8_lossy(key).into_owned();
                match (kind, pair.value.split_first()) {
                    (EventType::Delete, _) => batch.deletes.push(key),
                    (EventType::Put, Some((&INLINE, _))) => {
                        batch.puts.push((key, pair.value.slice(1..)));
                    }
                    // The blob would have to be fetched: those who wait load it all.
                    (EventType::Put, Some((&BLOB, _)) | Some(_) | None) => whole = false,
                }
            }
        }
        match version {
            Some(version) if whole && version > 0 => {
                batch.expect = version - 1;
                shared.recent.push(batch);
            }
            Some(version) => shared.recent.restart(version),
            None => {} // the leader key, or a blob
        }
    }
    by_revision.keys().next_back().copied()
}
