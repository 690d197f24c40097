//! The gRPC service: who may do what, and translation to the machine's requests.
//!
//! | call | who, by certificate |
//! |---|---|
//! | Hello | everybody of the cluster |
//! | Subscribe | everybody; users and keys only monitors, gateways and metadata services |
//! | NewClient | gateways, metadata services, administrators |
//! | Boot, Beat, ReportFailure, AskPgs | that very daemon |
//! | ServiceBeat | that very service |
//! | Command | administrators; gateways, who act for administrators; monitors |
//!
//! What is not in the table is denied. In plain text nobody knows who asks, and all is allowed: that is what
//! was asked for by name, or stays on this machine.

use super::driver::{Mail, Mailbox, SUBSCRIBER_QUEUE_MAX};
use super::lines::Lines;
use crate::machine::{ENTROPY_BYTES, Reply, Request as Wish};
use std::pin::Pin;
use std::time::Duration;
use store_base::ClusterId;
use store_base::ids::{DaemonId, Incarnation};
use store_base::wire::*;
use store_shell::clock;
use store_shell::identity::{PeerIdentity, Role};
use store_shell::services::monitor_server::Monitor;
use store_shell::shutdown::Shutdown;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

/// How long a call may wait for its commit.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Maps that one subscription names.
const WANTS_MAX: usize = 8;

/// The service's handler.
pub struct Service {
    mailbox: Mailbox,
    lines: Lines,
    name: String,
    cluster: ClusterId,
    shutdown: Shutdown,
}

type Answer<T> = Result<Response<T>, Status>;

/// Who asks; `None` in plain text.
fn peer<T>(request: &Request<T>) -> Option<PeerIdentity> {
    PeerIdentity::of(request).cloned()
}

fn allow(
    peer: Option<&PeerIdentity>,
    what: &str,
    fits: impl FnOnce(&PeerIdentity) -> bool,
) -> Result<(), Status> {
    match peer {
        None => Ok(()),
        Some(peer) if fits(peer) => Ok(()),
        Some(peer) => {
            tracing::warn!(%peer, what, "denied");
            Err(Status::permission_denied(format!(
                "{peer} may not {what}: use credentials of a service that may"
            )))
        }
    }
}

fn allow_daemon(peer: Option<&PeerIdentity>, daemon: i32) -> Result<(), Status> {
    allow(peer, &format!("speak for daemon.{daemon}"), |peer| {
        peer.role == Role::Daemon && peer.name == daemon.to_string()
    })
}

impl Service {
    /// Speaks to the driver through its mailbox.
    pub fn new(mailbox: Mailbox, name: &str, cluster: ClusterId, shutdown: Shutdown) -> Service {
        Service { mailbox, lines: Lines::default(), name: name.to_string(), cluster, shutdown }
    }

    async fn post<T>(&self, mail: Mail, reply: oneshot::Receiver<T>) -> Result<T, Status> {
        let waited = async {
            let sent = self.mailbox.send(mail).await;
            sent.map_err(|_| Status::unavailable("the monitor is stopping"))?;
            let lost = "the monitor is stopping: it may have been done or not";
            reply.await.map_err(|_| Status::deadline_exceeded(lost))
        };
        let late =
            || Status::deadline_exceeded("the monitor did not answer in time; look and ask again");
        tokio::time::timeout(CALL_TIMEOUT, waited).await.unwrap_or_else(|_| Err(late()))
    }

    async fn ask(&self, wish: Wish) -> Result<Reply, Status> {
        let (sender, reply) = oneshot::channel();
        match self.post(Mail::Request(wish, sender), reply).await? {
            Reply::Unavailable(why) => Err(Status::unavailable(why)),
            // For clients "unavailable" means that nothing was done.
            Reply::Unknown(why) => Err(Status::deadline_exceeded(why)),
            reply => Ok(reply),
        }
    }
}

fn strange(reply: &Reply) -> Status {
    tracing::error!(?reply, "the machine gave an answer of another kind");
    Status::internal("the monitor gave an answer of another kind")
}

#[tonic::async_trait]
impl Monitor for Service {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<MapUpdate, Status>> + Send>>;

    async fn hello(&self, _: Request<HelloRequest>) -> Answer<HelloReply> {
        let (sender, reply) = oneshot::channel();
        let mut hello = self.post(Mail::Hello(sender), reply).await?;
        hello.cluster = bytes::Bytes::copy_from_slice(&self.cluster.0);
        hello.name.clone_from(&self.name);
        Ok(Response::new(hello))
    }

    async fn subscribe(&self, request: Request<SubscribeRequest>) -> Answer<Self::SubscribeStream> {
        let (peer, from) = (peer(&request), request.remote_addr());
        let wants = request.into_inner().wants;
        if wants.is_empty() || wants.len() > WANTS_MAX {
            return Err(Status::invalid_argument(format!("name 1 to {WANTS_MAX} maps")));
        }
        if wants.iter().any(|want| MapKind::try_from(want.kind).is_err() || want.kind == 0) {
            return Err(Status::invalid_argument("there is no such map"));
        }
        if wants.iter().any(|want| want.kind() == MapKind::MapAuth) {
            allow(peer.as_ref(), "see users and keys", |peer| {
                matches!(peer.role, Role::Monitor | Role::Gateway | Role::Metadata)
            })?;
        }
        let (updates, receiver) = mpsc::channel(SUBSCRIBER_QUEUE_MAX);
        let (sender, reply) = oneshot::channel();
        self.post(Mail::Subscribe(wants, updates, sender), reply)
            .await?
            .map_err(Status::unavailable)?;
        let line = self.lines.open(from, self.mailbox.clone());
        let shutdown = self.shutdown.clone();
        // A subscription has no end of its own; it must not hold up the end of the process.
        let stopped = futures_util::stream::once(async move {
            shutdown.wait().await;
            None
        });
        let updates = ReceiverStream::new(receiver).map(Some);
        let updates =
            futures_util::StreamExt::chain(updates, futures_util::stream::once(async { None }));
        let both = futures_util::stream::select(updates, stopped);
        let stream = both.map_while(move |update| {
            let _held_as_long = &line;
            update.map(Ok)
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn new_client(&self, request: Request<NewClientRequest>) -> Answer<NewClientReply> {
        allow(peer(&request).as_ref(), "become a client", |peer| {
            matches!(peer.role, Role::Gateway | Role::Metadata | Role::Admin)
        })?;
        match self.ask(Wish::NewClient(request.into_inner())).await? {
            Reply::NewClient(reply) => Ok(Response::new(reply)),
            reply => Err(strange(&reply)),
        }
    }

    async fn boot(&self, request: Request<BootRequest>) -> Answer<BootReply> {
        let peer = peer(&request);
        let mut boot = request.into_inner();
        // A certificate names its daemon by number, so a new daemon's id is settled already.
        if let Some(peer) = &peer
            && boot.daemon == -1
            && let Ok(id) = peer.name.parse()
        {
            boot.daemon = id;
        }
        allow_daemon(peer.as_ref(), boot.daemon)?;
        match self.ask(Wish::Boot(boot)).await? {
            Reply::Boot(reply) => Ok(Response::new(reply)),
            reply => Err(strange(&reply)),
        }
    }

    async fn beat(&self, request: Request<BeatRequest>) -> Answer<BeatReply> {
        let (from, beat) = (request.remote_addr(), request.get_ref());
        allow_daemon(peer(&request).as_ref(), beat.daemon)?;
        self.lines.beat(from, (DaemonId(beat.daemon), Incarnation(beat.incarnation)));
        match self.ask(Wish::Beat(request.into_inner())).await? {
            Reply::Beat(reply) => Ok(Response::new(reply)),
            reply => Err(strange(&reply)),
        }
    }

    async fn report_failure(&self, request: Request<FailureReport>) -> Answer<Done> {
        allow_daemon(peer(&request).as_ref(), request.get_ref().reporter)?;
        match self.ask(Wish::Failure(request.into_inner())).await? {
            Reply::Done => Ok(Response::new(Done {})),
            reply => Err(strange(&reply)),
        }
    }

    async fn ask_pgs(&self, request: Request<PgAskBatch>) -> Answer<PgAskReply> {
        allow_daemon(peer(&request).as_ref(), request.get_ref().daemon)?;
        match self.ask(Wish::Asks(request.into_inner())).await? {
            Reply::Asks(reply) => Ok(Response::new(reply)),
            reply => Err(strange(&reply)),
        }
    }

    async fn service_beat(&self, request: Request<ServiceBeatRequest>) -> Answer<ServiceBeatReply> {
        let beat = request.get_ref();
        allow(
            peer(&request).as_ref(),
            &format!("speak for {}.{}", beat.role, beat.name),
            |peer| {
                matches!(peer.role, Role::Gateway | Role::Metadata)
                    && peer.role.as_str() == beat.role
                    && peer.name == beat.name
            },
        )?;
        match self.ask(Wish::Service(request.into_inner())).await? {
            Reply::Service(reply) => Ok(Response::new(reply)),
            reply => Err(strange(&reply)),
        }
    }

    async fn command(&self, request: Request<CommandRequest>) -> Answer<CommandReply> {
        allow(peer(&request).as_ref(), "give commands", |peer| {
            matches!(peer.role, Role::Admin | Role::Gateway | Role::Monitor)
        })?;
        let command = request.into_inner();
        let entropy = clock::random::<ENTROPY_BYTES>();
        match self.ask(Wish::Command { command, entropy }).await? {
            Reply::Command(reply) => Ok(Response::new(reply)),
            reply => Err(strange(&reply)),
        }
    }
}
