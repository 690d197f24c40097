//! Leadership: a key under a lease, and the loop that keeps the lease.
//!
//! Holding the key proves nothing by itself, for a lease may run out while we do not look; every commit names
//! the key's creation revision. The loop only makes us notice soon: it gives up when no answer came for as
//! long as the lease lasts, counted from the sending of the last request that was answered.

use super::client::proto::{
    Compare, LeaseKeepAliveRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    compare::{CompareResult, CompareTarget, TargetUnion},
    request_op,
};
use super::{Shared, unavailable};
use crate::state::StoreError;
use std::sync::Arc;
use std::time::Duration;
use store_shell::clock;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

/// How often the leader key is looked at while another leads.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Pause before a broken keep-alive stream is begun again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Leadership that is held. Dropped, the lease is given back.
pub(super) struct Held {
    shared: Arc<Shared>,
    lease: i64,
    fence: i64,
    lost: watch::Receiver<Option<String>>,
    keeper: tokio::task::JoinHandle<()>,
}

impl Held {
    pub(super) async fn lost(&self) -> String {
        let mut lost = self.lost.clone();
        match lost.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => "the keep-alive ended".to_string(),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.keeper.abort();
        if self.shared.fence() == Some(self.fence) {
            self.shared.set_fence(None);
        }
        let (shared, lease) = (self.shared.clone(), self.lease);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // If this fails the lease runs out by itself.
            runtime.spawn(async move { shared.client.revoke(lease).await });
        }
    }
}

/// Waits until nobody leads, and leads.
pub(super) async fn campaign(shared: Arc<Shared>, name: &str) -> Result<Held, StoreError> {
    loop {
        let leader = RangeRequest { key: shared.key("leader"), ..RangeRequest::default() };
        let reply = shared.client.range(leader).await.map_err(unavailable)?;
        if reply.kvs.is_empty()
            && let Some(held) = try_lead(&shared, name).await?
        {
            return Ok(held);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// `None` if another was quicker.
async fn try_lead(shared: &Arc<Shared>, name: &str) -> Result<Option<Held>, StoreError> {
    let sent = clock::now();
    let granted = shared.client.grant(shared.lease_seconds).await.map_err(unavailable)?;
    let put =
        PutRequest { key: shared.key("leader"), value: name.to_string().into(), lease: granted.id };
    let request = TxnRequest {
        compare: vec![Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Create.into(),
            key: shared.key("leader"),
            target_union: Some(TargetUnion::CreateRevision(0)),
        }],
        success: vec![RequestOp { request: Some(request_op::Request::RequestPut(put)) }],
        failure: Vec::new(),
    };
    let reply = match shared.client.txn(request).await {
        Ok(reply) if reply.succeeded => reply,
        Ok(_) => {
            let _ = shared.client.revoke(granted.id).await; // else it runs out
            return Ok(None);
        }
        Err(status) => {
            // It may have happened: giving the lease back undoes it.
            let _ = shared.client.revoke(granted.id).await;
            return Err(unavailable(status));
        }
    };
    let fence = reply.header.map_or(0, |header| header.revision);
    shared.set_fence(Some(fence));
    shared.set_lease(Some(granted.id));
    let (tell, lost) = watch::channel(None);
    let term = Duration::from_secs(u64::try_from(granted.ttl).unwrap_or(1).max(1));
    let keeper = tokio::spawn(keep(shared.clone(), granted.id, fence, term, sent, tell));
    Ok(Some(Held { shared: shared.clone(), lease: granted.id, fence, lost, keeper }))
}

/// Keeps the lease until it is lost.
async fn keep(
    shared: Arc<Shared>,
    lease: i64,
    fence: i64,
    term: Duration,
    granted_at: store_base::Time,
    tell: watch::Sender<Option<String>>,
) {
    let mut good_until = granted_at + term;
    let why = loop {
        match keep_over_one_stream(&shared, lease, term, &mut good_until).await {
            End::Gone => break "the lease has run out".to_string(),
            End::Broken(status) if clock::now() >= good_until => {
                break format!("etcd did not answer for a whole lease: {}", status.message());
            }
            End::Broken(status) => {
                tracing::debug!(error = status.message(), "the keep-alive is begun again");
                shared.client.failed();
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    };
    if shared.fence() == Some(fence) {
        shared.set_fence(None);
    }
    tell.send_replace(Some(why));
}

enum End {
    /// The server does not know the lease any more.
    Gone,
    /// The stream broke, or was silent.
    Broken(Status),
}

async fn keep_over_one_stream(
    shared: &Shared,
    lease: i64,
    term: Duration,
    good_until: &mut store_base::Time,
) -> End {
    let silent = || End::Broken(Status::deadline_exceeded("no answer in time"));
    let (sender, receiver) = mpsc::channel(1);
    let patience = (term / 3).min(shared.client.timeout());
    let request = match shared.client.request(ReceiverStream::new(receiver)).await {
        Ok(request) => request,
        Err(status) => return End::Broken(status),
    };
    // etcd answers the call only with the first message, so that goes first.
    let mut sent = clock::now();
    if sender.send(LeaseKeepAliveRequest { id: lease }).await.is_err() {
        return silent();
    }
    let mut client = shared.client.leases();
    let opened = tokio::time::timeout(patience, client.lease_keep_alive(request)).await;
    let mut answers = match opened {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) if status.code() == Code::NotFound => return End::Gone,
        Ok(Err(status)) => return End::Broken(status),
        Err(_) => return silent(),
    };
    loop {
        match tokio::time::timeout(patience, answers.message()).await {
            Ok(Ok(Some(answer))) if answer.ttl <= 0 => return End::Gone,
            Ok(Ok(Some(_))) => *good_until = sent + term,
            Ok(Ok(None)) => return End::Broken(Status::unavailable("the stream ended")),
            Ok(Err(status)) => return End::Broken(status),
            Err(_) => return silent(),
        }
        tokio::time::sleep(term / 3).await;
        sent = clock::now();
        if sender.send(LeaseKeepAliveRequest { id: lease }).await.is_err() {
            return End::Broken(Status::unavailable("the stream ended"));
        }
    }
}
