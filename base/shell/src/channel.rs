//! tonic channels for the control plane, with this cluster's protection and keep-alive.

use crate::link::{CONNECTION_WINDOW_BYTES, HEADER_BYTES_MAX, STREAM_WINDOW_BYTES};
use crate::net::{self, ConnectError};
use crate::security::{Expect, Security};
use hyper_util::rt::TokioIo;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use store_base::config::HostPort;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

/// How often a channel asks whether its peer is there, busy or idle. Without it a channel cut by a partition
/// hangs for good.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// How long the answer may take before the channel redials.
pub const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// A channel to one address that connects at its first call and again after every loss. A name is resolved at
/// each connecting, so a service may move. Calls fail at once when the connection is refused.
pub fn channel(address: &HostPort, security: &Security, expect: &Expect) -> Channel {
    let connector = {
        let (address, security, expect) = (address.clone(), security.clone(), expect.clone());
        service_fn(move |_: Uri| {
            let (address, security, expect) = (address.clone(), security.clone(), expect.clone());
            async move {
                let (stream, _) = net::connect_host(&address, &security, &expect).await?;
                Ok::<_, ConnectError>(TokioIo::new(stream))
            }
        })
    };
    endpoint(address).connect_with_connector_lazy(connector)
}

fn endpoint(address: &HostPort) -> Endpoint {
    // TLS is the connector's business, so the scheme is plain for tonic. The name is only shown to the peer.
    Endpoint::from_shared(format!("http://{address}"))
        .expect("HostPort holds only what a URI may")
        .connect_timeout(net::RESOLVE_TIMEOUT + net::CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
}

/// Several addresses of equal services (the monitors), of which one is used at a time.
#[derive(Debug)]
pub struct Rotation {
    addresses: Vec<HostPort>,
    security: Security,
    expect: Expect,
    current: Mutex<Current>,
}

#[derive(Debug, Default)]
struct Current {
    index: usize,
    channel: Option<Channel>,
}

impl Rotation {
    /// Begins with the first address. At least one is needed.
    pub fn new(
        addresses: Vec<HostPort>,
        security: Security,
        expect: Expect,
    ) -> Result<Self, ConnectError> {
        if addresses.is_empty() {
            return Err(ConnectError::Unreachable(
                "no monitor address is known: give --monitors HOST:PORT,… or set STORE_MONITORS"
                    .to_string(),
            ));
        }
        Ok(Rotation { addresses, security, expect, current: Mutex::default() })
    }

    /// The channel in use, or a new one to the first address, from the current one on, that answers and is
    /// trusted. The error is that of the address tried last.
    pub async fn channel(&self) -> Result<Channel, ConnectError> {
        let start = {
            let current = self.lock();
            if let Some(channel) = &current.channel {
                return Ok(channel.clone());
            }
            current.index
        };
        let mut last = None;
        for step in 0..self.addresses.len() {
            let index = (start + step) % self.addresses.len();
            let address = &self.addresses[index];
            match net::connect_host(address, &self.security, &self.expect).await {
                // The probe is closed again: the channel makes its own connection, now and after each loss.
                Ok(_) => {
                    let channel = channel(address, &self.security, &self.expect);
                    let mut current = self.lock();
                    *current = Current { index, channel: Some(channel.clone()) };
                    return Ok(channel);
                }
                Err(e) => last = Some(e),
            }
        }
        Err(last.expect("there is at least one address"))
    }

    /// Says that the channel in use failed: the next one goes to the next address.
    pub fn failed(&self) {
        let mut current = self.lock();
        if current.channel.take().is_some() {
            current.index = (current.index + 1) % self.addresses.len();
        }
    }

    /// The address in use or tried next.
    pub fn address(&self) -> HostPort {
        self.addresses[self.lock().index].clone()
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        // Whole at every moment, so a panic elsewhere does no harm.
        self.current.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Authority, PeerIdentity, Role};
    use crate::server::Server;
    use crate::services::metadata_client::MetadataClient;
    use crate::services::metadata_server::{Metadata, MetadataServer};
    use crate::shutdown::Shutdown;
    use std::net::SocketAddr;
    use store_base::ClusterId;
    use store_base::wire::{MetadataStatusReply, MetadataStatusRequest};
    use tokio::task::JoinHandle;
    use tonic::service::Routes;
    use tonic::{Code, Request, Response, Status};

    /// Tells the caller who it is.
    struct WhoAmI;

    #[tonic::async_trait]
    impl Metadata for WhoAmI {
        async fn metadata_status(
            &self,
            request: Request<MetadataStatusRequest>,
        ) -> Result<Response<MetadataStatusReply>, Status> {
            let name = PeerIdentity::of(&request)
                .map_or_else(|| "nobody".to_string(), ToString::to_string);
            assert!(request.remote_addr().is_some_and(|addr| addr.ip().is_loopback()));
            Ok(Response::new(MetadataStatusReply { name, ..Default::default() }))
        }
    }

    fn serve(addr: &str, security: &Security) -> (HostPort, Shutdown, JoinHandle<()>) {
        let addr: SocketAddr = addr.parse().expect("an address");
        let server = Server::bind(addr, security).expect("free");
        let address = server.local_addr().expect("bound").into();
        let shutdown = Shutdown::new();
        let routes = Routes::new(MetadataServer::new(WhoAmI));
        (address, shutdown.clone(), tokio::spawn(server.serve(routes, None, shutdown)))
    }

    async fn ask(channel: Channel) -> Result<String, Status> {
        let reply = MetadataClient::new(channel).metadata_status(MetadataStatusRequest {}).await?;
        Ok(reply.into_inner().name)
    }

    #[tokio::test]
    async fn handlers_know_who_asks() {
        let authority = Authority::create(ClusterId([1; 16])).expect("made");
        let tls = |role, name| {
            Security::tls(authority.issue(role, name).expect("issued")).expect("usable")
        };
        let (address, ..) = serve("127.0.0.1:0", &tls(Role::Metadata, "m"));
        let own = tls(Role::Admin, "ops");
        let expect = Expect::role(Role::Metadata);
        assert_eq!(ask(channel(&address, &own, &expect)).await.expect("good"), "admin.ops");
        let wrong = ask(channel(&address, &own, &Expect::role(Role::Monitor))).await;
        let wrong = wrong.expect_err("not a monitor");
        assert_eq!(wrong.code(), Code::Unavailable, "{wrong:?}");
        let (plain, ..) = serve("127.0.0.1:0", &Security::PlainLoopback);
        let name = ask(channel(&plain, &Security::PlainLoopback, &expect)).await;
        assert_eq!(name.expect("good"), "nobody", "plain text proves nothing");
    }

    #[tokio::test]
    async fn a_channel_finds_a_service_that_came_back() {
        let expect = Expect::role(Role::Metadata);
        let (address, shutdown, served) = serve("127.0.0.1:0", &Security::PlainLoopback);
        let channel = channel(&address, &Security::PlainLoopback, &expect);
        ask(channel.clone()).await.expect("it is there");
        shutdown.trigger();
        served.await.expect("no panic");
        let gone = ask(channel.clone()).await.expect_err("nobody listens");
        assert_eq!(gone.code(), Code::Unavailable, "{gone:?}");
        let (again, ..) = serve(&address.to_string(), &Security::PlainLoopback);
        assert_eq!(again, address);
        ask(channel).await.expect("it is there again");
    }

    #[tokio::test]
    async fn a_rotation_goes_on_to_one_that_answers() {
        let expect = Expect::role(Role::Metadata);
        let (dead, shutdown, served) = serve("127.0.0.1:0", &Security::PlainLoopback);
        shutdown.trigger();
        served.await.expect("no panic");
        let (first, shutdown, served) = serve("127.0.0.1:0", &Security::PlainLoopback);
        let (second, ..) = serve("127.0.0.1:0", &Security::PlainLoopback);
        let addresses = vec![dead.clone(), first.clone(), second.clone()];
        let rotation =
            Rotation::new(addresses, Security::PlainLoopback, expect.clone()).expect("three");
        ask(rotation.channel().await.expect("the second of three")).await.expect("good");
        assert_eq!(rotation.address(), first);
        shutdown.trigger();
        served.await.expect("no panic");
        ask(rotation.channel().await.expect("still in use")).await.expect_err("it is gone");
        rotation.failed();
        ask(rotation.channel().await.expect("the third")).await.expect("good");
        assert_eq!(rotation.address(), second);

        let nobody =
            Rotation::new(vec![dead], Security::PlainLoopback, expect.clone()).expect("one");
        assert!(matches!(nobody.channel().await, Err(ConnectError::Refused(_))));
        let none = Rotation::new(vec![], Security::PlainLoopback, expect).expect_err("none");
        assert!(none.to_string().contains("--monitors"));
    }
}
