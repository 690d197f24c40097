//! Calls to etcd: one member at a time, the next one after a failure; deadlines on all; log in where asked.

use crate::config::EtcdConfig;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};

/// Messages and clients, generated from `proto/etcd.proto`.
pub mod proto {
    #![allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.rs"));
}

use proto::auth_client::AuthClient;
use proto::kv_client::KvClient;
use proto::lease_client::LeaseClient;
use proto::watch_client::WatchClient;
use proto::{
    AuthenticateRequest, LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest, RangeRequest,
    RangeResponse, TxnRequest, TxnResponse,
};

/// HTTP/2 pings; etcd refuses a client that pings more often than every five seconds.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The largest answer.
const MESSAGE_BYTES_MAX: usize = 128 << 20;

/// A read is tried at so many members.
const READ_TRIES_MAX: usize = 3;

/// Files with keys and certificates.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The reason of a failed call, down to its root.
pub fn sentence(status: &Status) -> String {
    let mut text = status.message().to_string();
    let mut source = std::error::Error::source(status);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

struct State {
    member: usize,
    channel: Channel,
    token: Option<MetadataValue<Ascii>>,
}

/// The client. Channels connect when they are used.
pub struct Client {
    endpoints: Vec<Endpoint>,
    login: Option<(String, String)>,
    timeout: Duration,
    state: Mutex<State>,
}

fn read_file(path: &str) -> Result<Vec<u8>, String> {
    store_shell::files::read_bounded(path.as_ref(), FILE_BYTES_MAX).map_err(|e| e.to_string())
}

fn tls(config: &EtcdConfig) -> Result<ClientTlsConfig, String> {
    let mut tls = ClientTlsConfig::new();
    if let Some(path) = &config.ca_file {
        tls = tls.ca_certificate(Certificate::from_pem(read_file(path)?));
    }
    match (&config.cert_file, &config.key_file) {
        (Some(cert), Some(key)) => {
            Ok(tls.identity(Identity::from_pem(read_file(cert)?, read_file(key)?)))
        }
        (None, None) => Ok(tls),
        _ => Err("etcd's cert_file and key_file go together: give both or none".to_string()),
    }
}

impl Client {
    /// Checks the settings; connects to nobody yet. Call it within the runtime.
    pub fn new(config: &EtcdConfig) -> Result<Client, String> {
        let mut endpoints = Vec::new();
        for address in &config.endpoints {
            let wrong = |e: &dyn std::fmt::Display| {
                format!("{address:?} is not an etcd endpoint (http://HOST:2379): {e}")
            };
            let mut endpoint = Endpoint::from_shared(address.clone())
                .map_err(|e| wrong(&e))?
                .connect_timeout(CONNECT_TIMEOUT)
                .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
                .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
                .keep_alive_while_idle(true)
                .tcp_nodelay(true);
            if address.starts_with("https://") {
                endpoint = endpoint.tls_config(tls(config)?).map_err(|e| wrong(&e))?;
            }
            endpoints.push(endpoint);
        }
        let first = endpoints.first().ok_or("no etcd endpoint is given: set etcd.endpoints")?;
        let state = State { member: 0, channel: first.connect_lazy(), token: None };
        let login = match (&config.user, &config.password) {
            (Some(user), Some(password)) => Some((user.clone(), password.clone())),
            (None, None) => None,
            _ => return Err("etcd's user and password go together: give both or none".to_string()),
        };
        let timeout = config.timeout.0;
        Ok(Client { endpoints, login, timeout, state: Mutex::new(state) })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The longest that a call takes.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    fn channel(&self) -> Channel {
        self.state().channel.clone()
    }

    /// The next call goes to the next member, over a new connection.
    pub fn failed(&self) {
        let mut state = self.state();
        state.member = (state.member + 1) % self.endpoints.len();
        state.channel = self.endpoints[state.member].connect_lazy();
    }

    /// A request with the token, where there is one.
    pub async fn request<T>(&self, message: T) -> Result<Request<T>, Status> {
        let mut request = Request::new(message);
        if let Some(token) = self.token().await? {
            request.metadata_mut().insert("token", token);
        }
        Ok(request)
    }

    async fn token(&self) -> Result<Option<MetadataValue<Ascii>>, Status> {
        let Some((name, password)) = &self.login else { return Ok(None) };
        if let Some(token) = self.state().token.clone() {
            return Ok(Some(token));
        }
        let login = AuthenticateRequest { name: name.clone(), password: password.clone() };
        let mut client = AuthClient::new(self.channel());
        let reply = self.in_time(client.authenticate(login)).await?;
        let token = MetadataValue::try_from(reply.token.as_str())
            .map_err(|_| Status::internal("etcd gave a token that cannot be sent"))?;
        self.state().token = Some(token.clone());
        Ok(Some(token))
    }

    /// Waits for an answer, but not for ever; takes note of what failed.
    async fn in_time<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, Status> {
        let late = || Status::deadline_exceeded("no answer in time");
        let answer = tokio::time::timeout(self.timeout, call).await.unwrap_or_else(|_| Err(late()));
        match answer {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => {
                match status.code() {
                    // The token has run out, or the server has forgotten it.
                    Code::Unauthenticated => self.state().token = None,
                    Code::Unavailable
                    | Code::DeadlineExceeded
                    | Code::Unknown
                    | Code::Cancelled => {
                        self.failed();
                    }
                    _ => {}
                }
                Err(status)
            }
        }
    }

    /// Reads; goes to other members where one fails, for nothing can happen twice.
    pub async fn range(&self, message: RangeRequest) -> Result<RangeResponse, Status> {
        let mut tries = 0;
        loop {
            tries += 1;
            let once = async {
                let request = self.request(message.clone()).await?;
                let mut client =
                    KvClient::new(self.channel()).max_decoding_message_size(MESSAGE_BYTES_MAX);
                self.in_time(client.range(request)).await
            };
            match once.await {
                Err(status) if tries < READ_TRIES_MAX && is_transient(&status) => {}
                other => return other,
            }
        }
    }

    /// A transaction. Sent once: an error leaves it open whether it happened, except where the server says
    /// that it did not look at it.
    pub async fn txn(&self, message: TxnRequest) -> Result<TxnResponse, Status> {
        let once = || async {
            let request = self.request(message.clone()).await?;
            let mut client =
                KvClient::new(self.channel()).max_decoding_message_size(MESSAGE_BYTES_MAX);
            self.in_time(client.txn(request)).await
        };
        match once().await {
            Err(status) if status.code() == Code::Unauthenticated && self.login.is_some() => {
                once().await
            }
            other => other,
        }
    }

    /// A new lease.
    pub async fn grant(&self, seconds: i64) -> Result<LeaseGrantResponse, Status> {
        let request = self.request(LeaseGrantRequest { ttl: seconds, id: 0 }).await?;
        let mut client = LeaseClient::new(self.channel());
        self.in_time(client.lease_grant(request)).await
    }

    /// Ends a lease, and what hangs on it.
    pub async fn revoke(&self, id: i64) -> Result<(), Status> {
        let request = self.request(LeaseRevokeRequest { id }).await?;
        let mut client = LeaseClient::new(self.channel());
        self.in_time(client.lease_revoke(request)).await.map(|_| ())
    }

    /// For the keep-alive stream.
    pub fn leases(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.channel())
    }

    /// For the watch stream.
    pub fn watches(&self) -> WatchClient<Channel> {
        WatchClient::new(self.channel()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }
}

fn is_transient(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Unknown
            | Code::Cancelled
            | Code::Unauthenticated
    )
}
