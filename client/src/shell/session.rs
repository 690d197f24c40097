//! Links to daemons: one task dials and then reads, another writes what did not fit the link's queue at once.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use store_base::codec::{Decode, Encode, Writer};
use store_base::config::HostPort;
use store_base::op::{Reply, Request};
use store_base::{ClientId, ClusterId, DaemonId};
use store_shell::identity::Role;
use store_shell::link::{Dialer, Hello, LinkError, LinkReceiver, LinkSender};
use store_shell::net::{self, ConnectError};
use store_shell::security::Expect;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// Batches of news that may wait for the driver; then the links' readers wait.
const NEWS_MAX: usize = 256;

/// Replies handed over at a time.
const REPLIES_MAX: usize = 64;

/// What the tasks tell the driver.
pub(super) enum News {
    /// A link is open.
    Up { daemon: DaemonId, session: u64, open: Open },
    /// It broke, or could not be opened.
    Lost { daemon: DaemonId, session: u64 },
    /// A daemon said something.
    Replies { daemon: DaemonId, session: u64, replies: Vec<Reply> },
}

/// The sending half of an open link.
pub(super) struct Open {
    sender: LinkSender,
}

/// How links are begun.
#[derive(Clone)]
pub(super) struct Dialing {
    dialer: Dialer,
    hello: Arc<Hello>,
}

impl Dialing {
    pub(super) fn new(dialer: Dialer, hello: Hello) -> Self {
        Dialing { dialer, hello: Arc::new(hello) }
    }

    async fn dial(
        &self,
        daemon: DaemonId,
        address: &str,
    ) -> Result<(LinkSender, LinkReceiver), ConnectError> {
        let host: HostPort = address.parse().map_err(ConnectError::Unreachable)?;
        let expect = Expect::peer(Role::Daemon, daemon.0);
        let mut last = ConnectError::Unreachable(format!("{host} has no address"));
        for addr in net::resolve(&host).await? {
            match self.dialer.dial(addr, &expect, &self.hello).await {
                Ok(link) => return Ok((link.sender, link.receiver)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// What a client says first: its name, and the id under which its requests come.
pub(super) fn hello(cluster: ClusterId, role: Role, name: &str, client: ClientId) -> Hello {
    let mut hello = Hello::new(cluster, role, name);
    hello.extra = client.to_bytes();
    hello
}

/// All links, by daemon.
pub(super) struct Sessions {
    dialing: Dialing,
    news: mpsc::Sender<News>,
    by_daemon: BTreeMap<DaemonId, Session>,
}

struct Session {
    number: u64,
    reader: AbortHandle,
    writer: Option<Writing>,
}

/// The sending side of an open session. Messages go into the link's queue directly while there is room; then
/// into the backlog, which a task empties in order. The machine's bound of bytes in flight bounds the backlog.
struct Writing {
    sender: LinkSender,
    backlog: mpsc::UnboundedSender<Vec<Bytes>>,
    waiting: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.reader.abort();
        if let Some(writing) = &self.writer {
            writing.task.abort();
        }
    }
}

impl Sessions {
    pub(super) fn new(dialing: Dialing) -> (Self, mpsc::Receiver<News>) {
        let (news, heard) = mpsc::channel(NEWS_MAX);
        (Sessions { dialing, news, by_daemon: BTreeMap::new() }, heard)
    }

    pub(super) fn dial(&mut self, daemon: DaemonId, session: u64, address: String) {
        let (dialing, news) = (self.dialing.clone(), self.news.clone());
        let task = tokio::spawn(async move {
            match dialing.dial(daemon, &address).await {
                Ok((sender, receiver)) => {
                    let up = News::Up { daemon, session, open: Open { sender } };
                    if news.send(up).await.is_ok() {
                        let error = read(daemon, session, receiver, &news).await;
                        tracing::info!(%daemon, session, why = %error, "session with a daemon ended");
                    }
                }
                Err(error) if error.is_transient() => {
                    tracing::debug!(%daemon, session, why = %error, "daemon not reached");
                }
                Err(error) => tracing::warn!(%daemon, session, why = %error, "daemon not reached"),
            }
            // The driver may be gone; then nobody needs to know.
            let _ = news.send(News::Lost { daemon, session }).await;
        });
        let session = Session { number: session, reader: task.abort_handle(), writer: None };
        self.by_daemon.insert(daemon, session);
    }

    /// Takes an open link, unless it was closed meanwhile.
    pub(super) fn opened(&mut self, daemon: DaemonId, number: u64, open: Open) -> bool {
        let current = self.by_daemon.get_mut(&daemon).filter(|session| session.number == number);
        let Some(session) = current else { return false };
        let (backlog, mut waiting_ropes) = mpsc::unbounded_channel::<Vec<Bytes>>();
        let waiting = Arc::new(AtomicUsize::new(0));
        let (sender, count) = (open.sender.clone(), waiting.clone());
        let task = tokio::spawn(async move {
            while let Some(rope) = waiting_ropes.recv().await {
                // A link that is gone is noticed by its reader.
                let sent = sender.send(rope).await;
                count.fetch_sub(1, Ordering::Release);
                if sent.is_err() {
                    return;
                }
            }
        });
        session.writer =
            Some(Writing { sender: open.sender, backlog, waiting, task: task.abort_handle() });
        true
    }

    pub(super) fn close(&mut self, daemon: DaemonId, number: u64) {
        if self.by_daemon.get(&daemon).is_some_and(|session| session.number == number) {
            self.by_daemon.remove(&daemon);
        }
    }

    /// Sends a request, in order with those before it. A session that is gone loses it: its end is news, and
    /// the machine sends again.
    pub(super) fn send(&self, daemon: DaemonId, number: u64, request: &Request) {
        let current = self.by_daemon.get(&daemon).filter(|session| session.number == number);
        let Some(writing) = current.and_then(|session| session.writer.as_ref()) else { return };
        let mut out = Writer::new();
        request.encode(&mut out);
        let rope = out.into_rope();
        if writing.waiting.load(Ordering::Acquire) == 0 {
            match writing.sender.try_send(&rope) {
                Err(LinkError::Full) => {}
                Err(LinkError::TooLarge { bytes, max }) => {
                    // Checked at submission: the limits of an op vector lie below the frame's.
                    tracing::error!(bytes, max, id = %request.id, "request larger than a frame");
                    return;
                }
                Ok(()) | Err(_) => return,
            }
        }
        writing.waiting.fetch_add(1, Ordering::Relaxed);
        let _ = writing.backlog.send(rope); // its task ends only with the link
    }
}

/// Reads until the link ends, and says why it did.
async fn read(
    daemon: DaemonId,
    session: u64,
    mut receiver: LinkReceiver,
    news: &mpsc::Sender<News>,
) -> String {
    loop {
        let mut next = receiver.recv().await;
        let mut replies = Vec::new();
        let end = loop {
            match next {
                Some(Ok(bytes)) => match Reply::from_bytes(bytes) {
                    Ok(reply) => replies.push(reply),
                    Err(error) => break Some(format!("an answer that is no answer: {error}")),
                },
                Some(Err(error)) => break Some(error.to_string()),
                None => break Some("the daemon closed it".to_string()),
            }
            if replies.len() >= REPLIES_MAX {
                break None;
            }
            next = match receiver.recv_now() {
                Some(ready) => Some(ready),
                None => break None,
            };
        };
        if !replies.is_empty()
            && news.send(News::Replies { daemon, session, replies }).await.is_err()
        {
            return "the client stopped".to_string();
        }
        if let Some(why) = end {
            return why;
        }
    }
}
