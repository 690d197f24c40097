//! Control calls to whichever monitor answers.

use bytes::Bytes;
use serde_json::Value;
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;
use store_base::config::HostPort;
use store_base::error::Error;
use store_base::wire::{CommandReply, CommandRequest, HelloReply, HelloRequest, NewClientRequest};
use store_base::{ClientId, ClusterId, Time};
use store_shell::channel::Rotation;
use store_shell::clock;
use store_shell::identity::Role;
use store_shell::net::ConnectError;
use store_shell::security::{Expect, Security};
use store_shell::services::monitor_client::MonitorClient as Calls;
use tokio::time::{sleep, timeout_at};
use tonic::transport::Channel;
use tonic::{Code, Status};

/// Pause before the monitors are asked again; doubles every time.
const RETRY_MIN: Duration = Duration::from_millis(20);
/// Longest such pause.
const RETRY_MAX: Duration = Duration::from_secs(1);
/// Largest answer of a monitor: a full map of a large cluster.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Control calls with fail-over between the monitors. Cheap to clone; clones share the monitor in use.
#[derive(Clone, Debug)]
pub struct MonitorClient {
    rotation: Arc<Rotation>,
}

/// What a command answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandOutput {
    /// A sentence for people; may be empty.
    pub status: String,
    /// Mostly JSON.
    pub output: Bytes,
}

impl CommandOutput {
    /// The output as JSON; `null` if there is none.
    pub fn json(&self) -> Result<Value, Error> {
        if self.output.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&self.output)
            .map_err(|error| Error::Damaged(format!("the monitor's answer is not JSON: {error}")))
    }
}

impl MonitorClient {
    /// Calls to these monitors, of which at least one must be named.
    pub fn new(monitors: Vec<HostPort>, security: Security) -> Result<Self, Error> {
        let rotation = Rotation::new(monitors, security, Expect::role(Role::Monitor));
        let rotation = rotation.map_err(|error| Error::Invalid(error.to_string()))?;
        Ok(MonitorClient { rotation: Arc::new(rotation) })
    }

    /// The generated client on the channel in use, for calls that this type has not wrapped. Say
    /// [`failed`](Self::failed) when one fails for want of a connection.
    pub async fn calls(&self) -> Result<Calls<Channel>, Error> {
        let channel = self.rotation.channel().await.map_err(|error| self.not_reached(error))?;
        Ok(Calls::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX))
    }

    /// The monitor in use did not answer: the next call goes to the next one.
    pub fn failed(&self) {
        self.rotation.failed();
    }

    fn not_reached(&self, error: ConnectError) -> Error {
        match error {
            // Nobody will mend it by waiting.
            ConnectError::Untrusted(_) | ConnectError::Rejected(_) => {
                Error::Denied(format!("no monitor can be reached: {error}"))
            }
            _ => Error::Unavailable(format!("no monitor can be reached: {error}")),
        }
    }

    /// Asks a monitor who it is; tries all until then.
    pub async fn hello_until(&self, until: Time) -> Result<HelloReply, Error> {
        self.retry(until, async |mut calls| calls.hello(HelloRequest {}).await).await
    }

    /// A client id that was never given before.
    pub async fn new_client_until(&self, name: &str, until: Time) -> Result<ClientId, Error> {
        let request = NewClientRequest { name: name.to_string() };
        let ask = async |mut calls: Calls<Channel>| calls.new_client(request.clone()).await;
        Ok(ClientId(self.retry(until, ask).await?.client))
    }

    /// A call that may be made any number of times, made until it is answered.
    async fn retry<T>(
        &self,
        until: Time,
        call: impl AsyncFn(Calls<Channel>) -> Result<tonic::Response<T>, Status>,
    ) -> Result<T, Error> {
        let mut pause = RETRY_MIN;
        loop {
            let attempt = async { call(self.calls().await?).await.map_err(unreachable) };
            let ended = timeout_at(clock::instant(until), attempt).await;
            let error = match ended {
                Ok(Ok(reply)) => return Ok(reply.into_inner()),
                Ok(Err(error @ (Error::Unavailable(_) | Error::TimedOut(_)))) => error,
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(self.silent()),
            };
            self.failed();
            if clock::now() + pause >= until {
                return Err(error);
            }
            sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    fn silent(&self) -> Error {
        Error::TimedOut(format!(
            "the monitor at {} did not answer in time",
            self.rotation.address()
        ))
    }

    /// Runs a command of the table; an error number in the answer is an `Err`.
    pub async fn command(
        &self,
        command: &Value,
        input: Bytes,
        deadline: Duration,
    ) -> Result<CommandOutput, Error> {
        let reply = self.command_reply(command, input, deadline).await?;
        if reply.code < 0 {
            return Err(Error::from_errno(reply.code, reply.status));
        }
        Ok(CommandOutput { status: reply.status, output: reply.output })
    }

    /// Runs a command of the table and hands over the answer as it is, error number and all. Made again only
    /// where it surely was not carried out: while no connection comes about, or when the monitor says that it
    /// did nothing.
    pub async fn command_reply(
        &self,
        command: &Value,
        input: Bytes,
        deadline: Duration,
    ) -> Result<CommandReply, Error> {
        let until = clock::now() + deadline;
        let request = CommandRequest { json: command.to_string(), input };
        let mut pause = RETRY_MIN;
        loop {
            let attempt = async {
                let reply = self.calls().await?.command(request.clone()).await;
                reply.map(tonic::Response::into_inner).map_err(unreachable)
            };
            let ended = timeout_at(clock::instant(until), attempt).await;
            let error = match ended {
                Ok(Err(error @ Error::Unavailable(_))) => error,
                Ok(ended) => return ended,
                Err(_) => return Err(self.silent()),
            };
            self.failed();
            if clock::now() + pause >= until {
                return Err(error);
            }
            sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }
}

/// A failed call as advice. `Unavailable` only where nothing was done: the connection did not come about, or
/// the monitor said so itself.
pub(super) fn unreachable(status: Status) -> Error {
    let text = status.message().to_string();
    match status.code() {
        Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled => {
            let mut source = status.source();
            while let Some(error) = source {
                if let Some(refused) = error.downcast_ref::<ConnectError>() {
                    return Error::Unavailable(format!("no monitor can be reached: {refused}"));
                }
                source = error.source();
            }
            // Without a cause of the transport's it is the monitor that speaks.
            if status.code() == Code::Unavailable && status.source().is_none() {
                return Error::Unavailable(text);
            }
            Error::TimedOut(format!("the connection to the monitor was lost: {text}"))
        }
        Code::DeadlineExceeded => Error::TimedOut(text),
        Code::NotFound => Error::NotFound(text),
        Code::AlreadyExists | Code::Aborted | Code::FailedPrecondition => Error::Conflict(text),
        Code::InvalidArgument | Code::OutOfRange => Error::Invalid(text),
        Code::PermissionDenied | Code::Unauthenticated => Error::Denied(text),
        Code::ResourceExhausted => Error::Full(text),
        Code::DataLoss => Error::Damaged(text),
        Code::Unimplemented => Error::Unsupported(text),
        Code::Ok => Error::Damaged("a monitor failed without an error".into()),
    }
}

/// The cluster that a monitor speaks for.
pub(super) fn cluster_of(reply: &HelloReply) -> Result<ClusterId, Error> {
    let id = <[u8; 16]>::try_from(&reply.cluster[..]);
    id.map(ClusterId).map_err(|_| Error::Damaged("the monitor names no cluster".into()))
}
