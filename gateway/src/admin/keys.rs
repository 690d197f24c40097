//! The cluster's keys for encrypted bodies: what versions there are, and a new one.

use super::{Admin, http_status, respond};
use crate::cluster::META_POOL;
use crate::cluster::remote::name;
use crate::crypt::ring::new_key;
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use store_base::bucket::{AddKey, KEYS_OBJECT, Nothing, REGISTRY_CLASS, SealedKey};
use store_base::codec::{Decode, Encode};
use store_base::error::Error;
use store_base::object::ObjectName;
use store_base::op::Op;
use store_client::Options;

impl Admin {
    /// Answers with the versions of the keys, after making a new one if `rotate`.
    pub(super) async fn cluster_keys(&self, rotate: bool) -> Response<Full<Bytes>> {
        let keys = async {
            let keys = self.key_call("keys", &Nothing {}, true).await?;
            match rotate {
                false => Ok(keys),
                true => self.add_key(&keys).await,
            }
        };
        match keys.await {
            Ok(keys) => {
                let shown: Vec<Value> = keys
                    .iter()
                    .map(|key| json!({"version": key.version, "created_ms": key.created_ms}))
                    .collect();
                respond(StatusCode::OK, &json!({"code": 0, "status": "", "output": shown}))
            }
            Err(error) => {
                let code = error.errno();
                respond(http_status(code), &json!({"code": code, "status": error.to_string()}))
            }
        }
    }

    async fn add_key(&self, keys: &[SealedKey]) -> Result<Vec<SealedKey>, Error> {
        let secret = self.keys.seal_key();
        let secret = secret.ok_or_else(|| {
            Error::Unavailable("the monitor gave no key to seal the cluster's keys with".into())
        })?;
        let next = keys.last().map_or(1, |key| key.version.saturating_add(1));
        let key = new_key(&secret, next);
        let keys = self.key_call("add_key", &AddKey { key }, false).await?;
        match keys.last().is_some_and(|last| last.version >= next) {
            true => Ok(keys),
            false => Err(Error::Full("the cluster has all the keys that it can have".into())),
        }
    }

    async fn key_call<I: Encode>(
        &self,
        method: &str,
        input: &I,
        read_only: bool,
    ) -> Result<Vec<SealedKey>, Error> {
        let pool = self.client.pool(name(META_POOL)).await?;
        let (class, method) = (REGISTRY_CLASS.to_owned(), method.to_owned());
        let op = Op::Exec { class, method, input: input.to_bytes() };
        let options = Options { read_only, deadline: None };
        let object = ObjectName::new(KEYS_OBJECT.to_owned());
        let reply = match self.client.operate(pool, &object, vec![op], options).await {
            // Nobody has encrypted anything yet.
            Err(Error::NotFound(_)) if read_only => return Ok(Vec::new()),
            reply => reply?,
        };
        let data = reply.results.into_iter().next().map(|result| result.data).unwrap_or_default();
        Vec::<SealedKey>::from_bytes(data).map_err(|error| Error::Damaged(error.to_string()))
    }
}
