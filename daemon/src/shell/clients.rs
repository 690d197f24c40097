//! Streams of clients: requests in, answers out.
//!
//! Back-pressure: a request takes credit for what it and its answer may weigh, from its link and from the
//! daemon, until it is answered. Without credit a link is not read; the client's own queue then fills. So
//! memory for requests is bounded whatever the clients do.
//!
//! A client says its id in its hello, and asks under no other: what is done at most once is told apart by that
//! id, so a request that comes under another's could be taken for one that was answered, or hide one.

use super::detach;
use super::inbox::Inbox;
use super::outbox::Outbox;
use crate::machine::{Event, LinkId};
use crate::metrics::{DaemonMetrics, KindLabel, RequestLabels};
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use store_base::codec::{Decode, Encode, Writer};
use store_base::op::{Op, Outcome, PAYLOAD_BYTES_MAX, Reply, Request, errno};
use store_base::{ClientId, Epoch, RequestId, Time};
use store_shell::clock;
use store_shell::link::{FRAME_BYTES_MAX, Link, LinkReceiver};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// What the open requests of one link may weigh.
pub(crate) const LINK_BYTES_MAX: usize = 48 << 20;
/// What the open requests of all links may weigh.
pub(crate) const DAEMON_BYTES_MAX: usize = 192 << 20;
/// Open requests of one link.
pub(crate) const LINK_REQUESTS_MAX: usize = 4096;
/// Answers that a client has not read, in bytes, at which its requests are not read.
const UNREAD_BYTES_MAX: usize = 8 << 20;
/// What a request weighs besides its bytes.
const REQUEST_BYTES: usize = 512;
/// Answers that may wait beside the link's queue before the link is given up: more than the open requests of
/// a link can be answered with, unless they were all guessed far too low.
const WAITING_BYTES_MAX: usize = 128 << 20;
/// What the answer to a read of unknown length is taken for.
const READ_BYTES_GUESS: u64 = 512 << 10;
/// What the answer of a method or to a list is taken for.
const METHOD_BYTES_GUESS: u64 = 32 << 10;
/// Client links at a time.
const LINKS_MAX: usize = 4096;

/// An open request.
struct Open {
    bytes: usize,
    since: Time,
    is_write: bool,
}

/// One client's stream.
struct Client {
    /// As its hello says.
    id: ClientId,
    outbox: Rc<Outbox>,
    /// By id; a request that was sent twice is here twice.
    open: RefCell<BTreeMap<RequestId, Vec<Open>>>,
    open_bytes: Cell<usize>,
    open_count: Cell<usize>,
    room: Notify,
    task: RefCell<Option<AbortHandle>>,
}

/// All clients' streams.
pub(crate) struct Clients {
    inbox: Rc<Inbox>,
    metrics: DaemonMetrics,
    links: RefCell<BTreeMap<LinkId, Rc<Client>>>,
    numbers: Cell<u64>,
    open_bytes: Cell<usize>,
    /// Links wait here for the daemon's credit.
    room: Notify,
}

impl Clients {
    pub(crate) fn new(inbox: Rc<Inbox>, metrics: DaemonMetrics) -> Rc<Self> {
        Rc::new(Clients {
            inbox,
            metrics,
            links: RefCell::default(),
            numbers: Cell::new(0),
            open_bytes: Cell::new(0),
            room: Notify::new(),
        })
    }

    /// Takes a stream in.
    pub(crate) fn add(self: &Rc<Self>, link: Link) {
        if self.links.borrow().len() >= LINKS_MAX {
            tracing::warn!(peer = %link.peer, max = LINKS_MAX, "too many clients: the stream is closed");
            return;
        }
        let Ok(own) = ClientId::from_bytes(link.hello.extra.clone()) else {
            tracing::warn!(peer = %link.peer, "a client does not say its id: the stream is closed");
            return;
        };
        self.numbers.set(self.numbers.get() + 1);
        let id = LinkId(self.numbers.get());
        let client = Rc::new(Client {
            id: own,
            outbox: Rc::new(Outbox::new(link.sender, WAITING_BYTES_MAX)),
            open: RefCell::default(),
            open_bytes: Cell::new(0),
            open_count: Cell::new(0),
            room: Notify::new(),
            task: RefCell::default(),
        });
        self.links.borrow_mut().insert(id, client.clone());
        self.metrics.clients.inc();
        tracing::debug!(link = id.0, client = %own, peer = %link.peer, "client");
        let (clients, receiver, peer) = (self.clone(), link.receiver, link.peer);
        let reader = client.clone();
        let task = tokio::task::spawn_local(async move {
            let why = tokio::select! {
                why = clients.read(id, &reader, receiver) => why,
                () = reader.outbox.drain() => "answers cannot be sent".to_string(),
            };
            tracing::debug!(link = id.0, %peer, why, "client gone");
            clients.gone(id);
        });
        *client.task.borrow_mut() = Some(task.abort_handle());
    }

    /// Reads requests until the stream ends, and says why it did.
    async fn read(&self, id: LinkId, client: &Client, mut receiver: LinkReceiver) -> String {
        loop {
            self.wait_for_room(client).await;
            let mut next = receiver.recv().await;
            loop {
                match next {
                    Some(Ok(bytes)) => {
                        if let Err(why) = self.take(id, client, bytes) {
                            return why;
                        }
                    }
                    Some(Err(error)) => return error.to_string(),
                    None => return "closed".to_string(),
                }
                if !self.has_room(client) {
                    break;
                }
                match receiver.recv_now() {
                    Some(ready) => next = Some(ready),
                    None => break,
                }
            }
        }
    }

    fn has_room(&self, client: &Client) -> bool {
        client.open_bytes.get() < LINK_BYTES_MAX
            && client.open_count.get() < LINK_REQUESTS_MAX
            && self.open_bytes.get() < DAEMON_BYTES_MAX
            && client.outbox.waiting_bytes() < UNREAD_BYTES_MAX
    }

    async fn wait_for_room(&self, client: &Client) {
        // One thread: nothing happens between a look and the wait.
        while !self.has_room(client) {
            tokio::select! {
                () = client.room.notified() => {}
                () = self.room.notified() => {}
                () = client.outbox.below(UNREAD_BYTES_MAX), if client.outbox.waiting_bytes() >= UNREAD_BYTES_MAX => {}
            }
        }
    }

    fn take(&self, id: LinkId, client: &Client, bytes: Bytes) -> Result<(), String> {
        self.metrics.client_bytes_received.inc_by(bytes.len() as u64);
        let length = bytes.len();
        let mut request = Request::from_bytes(bytes).map_err(|error| {
            tracing::warn!(link = id.0, %error, "a client sent what is no request");
            format!("no request: {error}")
        })?;
        if request.id.client != client.id {
            self.refuse_foreign(id, client, request.id);
            return Ok(());
        }
        detach::request(&mut request);
        let bytes = length + REQUEST_BYTES + answer_bytes(&request);
        let open = Open { bytes, since: clock::now(), is_write: request.is_mutation() };
        client.open.borrow_mut().entry(request.id).or_default().push(open);
        client.open_bytes.set(client.open_bytes.get() + bytes);
        client.open_count.set(client.open_count.get() + 1);
        self.open_bytes.set(self.open_bytes.get() + bytes);
        self.metrics.requests_open.inc();
        self.inbox.put(Event::Client { link: id, request });
        Ok(())
    }

    /// Sends an answer or notification; dropped if the stream has gone.
    pub(crate) fn send(&self, link: LinkId, reply: &Reply) {
        let Some(client) = self.links.borrow().get(&link).cloned() else { return };
        if let Reply::Answer { id, outcome, .. } = reply {
            self.settle(&client, *id, outcome);
        }
        let mut out = Writer::new();
        reply.encode(&mut out);
        if out.len() > FRAME_BYTES_MAX {
            out = self.too_large(reply, out.len());
        }
        self.metrics.client_bytes_sent.inc_by(out.len() as u64);
        client.outbox.send(out.into_rope());
    }

    /// A request under another client's id: answered, and not heard by the machine.
    fn refuse_foreign(&self, link: LinkId, client: &Client, id: RequestId) {
        tracing::warn!(link = link.0, client = %client.id, request = %id, "a request of another client");
        let why =
            format!("this is the session of client {}, not of client {}", client.id, id.client);
        let outcome = Outcome::Refused { code: -errno::EPERM, why };
        let mut out = Writer::new();
        Reply::Answer { id, epoch: Epoch(u32::MAX), outcome }.encode(&mut out);
        client.outbox.send(out.into_rope());
    }

    /// Results are bounded below a frame; should one be larger all the same, the client learns at least that.
    fn too_large(&self, reply: &Reply, bytes: usize) -> Writer {
        tracing::error!(bytes, "an answer is larger than a frame");
        let mut out = Writer::new();
        if let Reply::Answer { id, epoch, .. } = reply {
            let why = format!("the answer has {bytes} bytes, more than a frame takes");
            let outcome = Outcome::Refused { code: -errno::E2BIG, why };
            Reply::Answer { id: *id, epoch: *epoch, outcome }.encode(&mut out);
        }
        out
    }

    /// Gives the request's credit back.
    fn settle(&self, client: &Client, id: RequestId, outcome: &Outcome) {
        let mut all = client.open.borrow_mut();
        let Some(same) = all.get_mut(&id) else { return };
        let open = same.remove(0);
        if same.is_empty() {
            all.remove(&id);
        }
        client.open_bytes.set(client.open_bytes.get() - open.bytes);
        client.open_count.set(client.open_count.get() - 1);
        self.open_bytes.set(self.open_bytes.get() - open.bytes);
        client.room.notify_waiters();
        self.room.notify_waiters();

        let kind = if open.is_write { "write" } else { "read" };
        let outcome = match outcome {
            Outcome::Done { results, .. } if results.last().is_some_and(|last| last.code < 0) => {
                "failed"
            }
            Outcome::Done { .. } => "done",
            Outcome::Misdirected { .. } => "misdirected",
            Outcome::Refused { .. } => "refused",
        };
        self.metrics.requests_open.dec();
        self.metrics.requests.get_or_create(&RequestLabels { kind, outcome }).inc();
        let seconds = clock::now().since(open.since).as_secs_f64();
        self.metrics.request_seconds.get_or_create(&KindLabel { kind }).observe(seconds);
    }

    fn gone(&self, link: LinkId) {
        let Some(client) = self.links.borrow_mut().remove(&link) else { return };
        self.open_bytes.set(self.open_bytes.get() - client.open_bytes.get());
        self.metrics.requests_open.dec_by(client.open_count.get() as i64);
        self.metrics.clients.dec();
        self.room.notify_waiters();
        self.inbox.put(Event::ClientGone { link });
    }

    /// What open requests may weigh.
    pub(crate) fn open_bytes(&self) -> usize {
        self.open_bytes.get()
    }

    /// Cuts all streams.
    pub(crate) fn close(&self) {
        for client in self.links.borrow_mut().values() {
            if let Some(task) = client.task.borrow_mut().take() {
                task.abort();
            }
        }
    }
}

/// What the answer to a request may weigh.
fn answer_bytes(request: &Request) -> usize {
    let read = |length: u64| match length {
        0 => READ_BYTES_GUESS,
        length => length,
    };
    let bytes = request.ops.iter().map(|op| match op {
        Op::Read { length, .. } | Op::SparseRead { length, .. } => read(*length),
        Op::OmapList { max, .. } => (u64::from(*max) * 512).min(READ_BYTES_GUESS),
        Op::Exec { .. } if request.read_only => METHOD_BYTES_GUESS,
        Op::Xattrs {} | Op::OmapByKeys { .. } | Op::List { .. } => METHOD_BYTES_GUESS,
        _ => 16,
    });
    bytes.fold(0, u64::saturating_add).min(PAYLOAD_BYTES_MAX as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use store_base::ClusterId;
    use store_shell::identity::Role;
    use store_shell::link::{Dialer, Hello, LinkAcceptor, LinkMetrics, LinkSettings};
    use store_shell::security::{Expect, Security};
    use store_shell::server::Server;
    use store_shell::shutdown::Shutdown;
    use tonic::service::Routes;

    const CLUSTER: ClusterId = ClusterId([1; 16]);

    /// A client's stream to `clients`, with a hello that ends in `extra`.
    async fn dial(clients: &Rc<Clients>, extra: Bytes) -> Link {
        let security = Security::PlainLoopback;
        let any = "127.0.0.1:0".parse().expect("an address");
        let server = Server::bind(any, &security).expect("loopback has free ports");
        let addr = server.local_addr().expect("bound");
        let settings = LinkSettings::default();
        let own = Hello::new(CLUSTER, Role::Daemon, "0");
        let (acceptor, mut links) =
            LinkAcceptor::new(own, &[Role::Gateway], settings, LinkMetrics::default());
        let serving = server.serve(Routes::default(), Some(acceptor), Shutdown::new());
        tokio::task::spawn_local(serving);
        let dialer = Dialer::new(security, LinkSettings::default(), LinkMetrics::default());
        let mut hello = Hello::new(CLUSTER, Role::Gateway, "g");
        hello.extra = extra;
        let link = dialer.dial(addr, &Expect::role(Role::Daemon), &hello).await;
        clients.add(links.recv().await.expect("it dialled"));
        link.expect("it was let in")
    }

    fn clients() -> (Rc<Inbox>, Rc<Clients>) {
        let inbox = Rc::new(Inbox::default());
        (inbox.clone(), Clients::new(inbox, DaemonMetrics::default()))
    }

    fn request(client: ClientId, tid: u64) -> Request {
        Request { id: RequestId { client, incarnation: 1, tid }, ..Request::default() }
    }

    #[tokio::test]
    async fn a_client_asks_under_its_own_id_only() {
        let local = tokio::task::LocalSet::new();
        let talking = async {
            let (inbox, clients) = clients();
            let mut link = dial(&clients, ClientId(5000).to_bytes()).await;
            for (client, tid) in [(5001, 1), (0, 2), (5000, 3)] {
                let bytes = request(ClientId(client), tid).to_bytes();
                link.sender.send(vec![bytes]).await.expect("the link is open");
            }
            for expected in [1, 2] {
                let answer = link.receiver.recv().await.expect("open").expect("an answer");
                match Reply::from_bytes(answer).expect("a reply") {
                    Reply::Answer { id, outcome: Outcome::Refused { code, why }, .. } => {
                        assert_eq!((id.tid, code), (expected, -errno::EPERM));
                        assert!(why.contains("client"), "{why}");
                    }
                    other => panic!("{other:?}"),
                }
            }
            inbox.filled().await;
            match inbox.take() {
                Some(Event::Client { request, .. }) => assert_eq!(request.id.tid, 3),
                other => panic!("{other:?}"),
            }
            assert!(inbox.is_empty(), "the machine hears of its own requests alone");
        };
        local.run_until(talking).await;
    }

    #[tokio::test]
    async fn who_does_not_say_its_id_is_not_let_in() {
        let local = tokio::task::LocalSet::new();
        let talking = async {
            let (inbox, clients) = clients();
            let mut link = dial(&clients, Bytes::new()).await;
            assert!(!matches!(link.receiver.recv().await, Some(Ok(_))), "the stream is closed");
            assert!(inbox.is_empty() && clients.links.borrow().is_empty());
        };
        local.run_until(talking).await;
    }
}
