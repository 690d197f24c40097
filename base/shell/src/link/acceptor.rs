//! The side that takes links in.

use super::dialer::decode;
use super::queue::{LinkBody, Queue, queue};
use super::receiver::LinkReceiver;
use super::{HELLO_TIMEOUT, Hello, Link, LinkMetrics, LinkSettings};
use crate::identity::{PeerIdentity, Role};
use http::{Request, Response};
use hyper::body::Incoming;
use std::sync::{Arc, Mutex, Weak};
use store_base::codec::Encode;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::Status;

/// Links that were greeted and not yet taken by their owner; more are turned away.
const PENDING_MAX: usize = 64;

/// Takes links in for a [`crate::server::Server`]. Cheap to clone.
#[derive(Clone)]
pub struct LinkAcceptor {
    hello: Arc<Mutex<Hello>>,
    roles: Arc<[Role]>,
    settings: LinkSettings,
    metrics: LinkMetrics,
    taken: mpsc::Sender<Link>,
}

impl LinkAcceptor {
    /// An acceptor that answers with `hello` and lets in peers of `roles`; the links come out of the channel.
    /// Who stops taking them turns peers away.
    pub fn new(
        hello: Hello,
        roles: &[Role],
        settings: LinkSettings,
        metrics: LinkMetrics,
    ) -> (LinkAcceptor, mpsc::Receiver<Link>) {
        let (taken, links) = mpsc::channel(PENDING_MAX);
        let hello = Arc::new(Mutex::new(hello));
        (LinkAcceptor { hello, roles: roles.into(), settings, metrics, taken }, links)
    }

    /// Changes what is said to peers from now on (a new incarnation, an id that the monitor gave).
    pub fn set_hello(&self, hello: Hello) {
        *self.hello.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = hello;
    }

    fn hello(&self) -> Hello {
        self.hello.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

/// An acceptor within one running server, which can end the links it took in.
pub(crate) struct LinkService {
    acceptor: LinkAcceptor,
    open: Mutex<Vec<Weak<Queue>>>,
}

impl LinkService {
    pub(crate) fn new(acceptor: LinkAcceptor) -> Self {
        LinkService { acceptor, open: Mutex::default() }
    }

    pub(crate) fn settings(&self) -> &LinkSettings {
        &self.acceptor.settings
    }

    /// Answers one call of `Open`.
    pub(crate) async fn open(
        &self,
        request: Request<Incoming>,
        certified: Option<&PeerIdentity>,
    ) -> Result<Response<LinkBody>, Status> {
        let acceptor = &self.acceptor;
        let mut receiver = LinkReceiver::new(request.into_body(), acceptor.metrics.clone());
        let own = acceptor.hello();
        let refused = |status: Status| {
            acceptor.metrics.hellos_refused.inc();
            tracing::warn!(why = status.message(), "link refused");
            status
        };
        let heard = timeout(HELLO_TIMEOUT, receiver.recv()).await;
        let heard = heard.map_err(|_| refused(Status::deadline_exceeded("no hello came")))?;
        let hello = match heard {
            Some(Ok(bytes)) => decode(bytes)
                .map_err(|why| refused(Status::invalid_argument(format!("no hello: {why}"))))?,
            Some(Err(e)) => {
                return Err(refused(Status::invalid_argument(format!("no hello: {e}"))));
            }
            None => return Err(refused(Status::invalid_argument("no hello: the stream ended"))),
        };
        let judged = own.judge(&hello, certified);
        let peer = judged.map_err(|why| refused(Status::failed_precondition(why)))?;
        if !acceptor.roles.contains(&peer.role) {
            let why = format!(
                "{peer} may not open links to {}.{}: its role is not let in here",
                own.role, own.name
            );
            return Err(refused(Status::permission_denied(why)));
        }
        let (sender, body) =
            queue(acceptor.settings.queue_bytes_max, true, acceptor.metrics.clone());
        let answered = sender.try_send(&[own.to_bytes()]);
        answered.map_err(|e| Status::internal(format!("our hello cannot be sent: {e}")))?;
        self.remember(Arc::downgrade(sender.queue()));
        let link = Link { peer, hello, sender, receiver };
        acceptor.taken.try_send(link).map_err(|_| {
            refused(Status::unavailable(format!(
                "{}.{} takes no more links now; try again",
                own.role, own.name
            )))
        })?;
        let response = Response::builder().header("content-type", "application/grpc");
        Ok(response.body(body).expect("a response of constants"))
    }

    /// Ends every link towards its peer, after what is queued; the peers then end their side.
    pub(crate) fn stop(&self) {
        for queue in self.lock_open().drain(..).filter_map(|queue| queue.upgrade()) {
            queue.stop();
        }
    }

    fn remember(&self, queue: Weak<Queue>) {
        let mut open = self.lock_open();
        open.retain(|queue| queue.strong_count() > 0);
        open.push(queue);
    }

    fn lock_open(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Queue>>> {
        self.open.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
