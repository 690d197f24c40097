//! What a new cluster needs before it is of use: an administrator with keys. And waiting until roles answer.

use crate::cluster::Connection;
use crate::commands::command;
use crate::exit::Failure;
use crate::units::field;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use store_shell::telemetry::{self, Readiness};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// The user whose keys `store up` tells.
const ADMIN: &str = "admin";
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(5);
/// How long one look may take.
const LOOK_LIMIT: Duration = Duration::from_secs(2);
/// How long placement groups may take to serve. Some never do while a disk is missing, and the others are of use.
const SERVING_LIMIT: Duration = Duration::from_secs(10);
/// Pause between two looks at the placement groups.
const SERVING_LOOK: Duration = Duration::from_millis(20);

/// Keys for S3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) access_key: String,
    pub(crate) secret_key: String,
}

/// The administrator's keys: those there are, or new ones.
pub(crate) async fn admin_keys(connection: &Connection) -> Result<Keys, Failure> {
    let user = Some(json!(ADMIN));
    let args = [
        ("user", user.clone()),
        ("admin", Some(json!(true))),
        ("if_not_exists", Some(json!(true))),
    ];
    connection.command(command("user create", args)).await?;
    let args = [("user", user.clone()), ("show", Some(json!(true)))];
    let keys = connection.command(command("user key ls", args)).await?;
    if let Some(keys) = usable(&keys) {
        return Ok(keys);
    }
    let made = connection.command(command("user key add", [("user", user)])).await?;
    usable(&json!([made]))
        .ok_or_else(|| Failure::failed("the monitor made no key for the administrator"))
}

/// The first key that is good and whose secret is told.
fn usable(keys: &Value) -> Option<Keys> {
    keys.as_array()?.iter().find_map(|key| {
        let (access_key, secret_key) = (field(key, "access_key"), field(key, "secret_key"));
        let good =
            key["disabled"] != json!(true) && !access_key.is_empty() && !secret_key.is_empty();
        good.then_some(Keys { access_key, secret_key })
    })
}

/// Waits until something that speaks HTTP answers there, and does not say that it is not ready.
pub(crate) async fn wait_for_s3(address: SocketAddr) {
    while !matches!(timeout(LOOK_LIMIT, http_status(address)).await, Ok(Ok(status)) if status != 503)
    {
        sleep(LOOK).await;
    }
}

/// Waits until a role says that it is ready.
pub(crate) async fn wait_for_health(address: SocketAddr) {
    while telemetry::probe(address).await.is_err() {
        sleep(LOOK).await;
    }
}

/// Waits until all roles of this process are ready.
pub(crate) async fn wait_for_readiness(roles: &[Readiness]) {
    while !roles.iter().all(|ready| ready().is_ok()) {
        sleep(LOOK).await;
    }
}

/// Waits until every placement group serves, but not for ever.
pub(crate) async fn wait_for_groups(connection: &Connection) {
    let serving = async {
        loop {
            let status = connection.command(command("status", [])).await;
            if status.is_ok_and(|status| all_serve(&status)) {
                return;
            }
            sleep(SERVING_LOOK).await;
        }
    };
    if timeout(SERVING_LIMIT, serving).await.is_err() {
        tracing::warn!("some placement groups serve nobody yet; see `store health detail`");
    }
}

/// Whether the monitor knows of every placement group that it is active.
fn all_serve(status: &Value) -> bool {
    let states = status["pgmap"]["pgs_by_state"].as_array();
    let mut names = states.into_iter().flatten().map(|state| field(state, "state_name"));
    names.all(|name| name.split('+').any(|word| word == "active"))
}

/// The status of an answer to a request that needs no rights.
async fn http_status(address: SocketAddr) -> std::io::Result<u16> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).await?;
    let status = head.strip_prefix(b"HTTP/1.1 ").and_then(|code| std::str::from_utf8(code).ok());
    status.and_then(|code| code.parse().ok()).ok_or_else(|| {
        std::io::Error::new(std::io::ErrorKind::InvalidData, "what answers there is not HTTP")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[test]
    fn a_key_is_usable_if_it_is_whole_and_not_disabled() {
        let keys = json!([
            {"access_key": "A", "secret_key": "s", "disabled": true},
            {"access_key": "B", "secret_key": null, "disabled": false},
            {"access_key": "C", "secret_key": "t", "disabled": false},
        ]);
        let found = usable(&keys).expect("the third");
        assert_eq!((found.access_key.as_str(), found.secret_key.as_str()), ("C", "t"));
        assert_eq!(usable(&json!([])), None);
        assert_eq!(usable(&Value::Null), None);
    }

    #[test]
    fn groups_serve_when_each_is_active_whatever_else_it_is() {
        let status = |names: &[&str]| {
            let states = names.iter().map(|name| json!({"state_name": name, "count": 1}));
            json!({"pgmap": {"pgs_by_state": states.collect::<Vec<_>>()}})
        };
        assert!(all_serve(&status(&[])));
        assert!(all_serve(&status(&["active+clean", "active+undersized+degraded"])));
        assert!(!all_serve(&status(&["active+clean", "activating"])));
        assert!(!all_serve(&status(&["unknown"])));
    }

    #[tokio::test]
    async fn s3_is_there_when_it_answers_anything_but_not_ready() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let serving = tokio::spawn(async move {
            for answer in ["", "HTTP/1.1 503 Slow Down\r\n\r\n", "HTTP/1.1 403 Forbidden\r\n\r\n"] {
                let (mut stream, _) = listener.accept().await.expect("a caller");
                let mut request = [0; 16];
                stream.read_exact(&mut request).await.expect("a request");
                stream.write_all(answer.as_bytes()).await.expect("answered");
            }
        });
        timeout(Duration::from_secs(10), wait_for_s3(address)).await.expect("answered in the end");
        serving.await.expect("all three were asked");
    }
}
