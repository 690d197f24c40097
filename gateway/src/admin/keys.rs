//! The keys for encrypted bodies: versions of the cluster's own, a new one, and named keys.

use super::{http_status, respond};
use crate::cluster::META_POOL;
use crate::cluster::remote::name;
use crate::crypt::ring::new_key;
use crate::keyring::KeyRing;
use crate::operator::kms::{DELETE_DAYS_DEFAULT, creation, new_id, sentence, shown};
use crate::s3::error::{Code, S3Result};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use store_base::bucket::{
    AddKey, ChangeKms, KEYS_OBJECT, KMS_OBJECT, KmsChange, KmsOutcome, KmsPage, KmsRefusal,
    ListKms, Nothing, REGISTRY_CLASS, ReadKms, SealedKey,
};
use store_base::codec::{Decode, Encode};
use store_base::error::Error;
use store_base::object::ObjectName;
use store_base::op::Op;
use store_base::op::errno;
use store_client::{Options, StoreClient};

/// Runs a method of an object in pool `s3.meta`.
pub(super) trait Meta: Sync {
    /// Its output.
    fn exec<'a>(
        &'a self,
        object: &'a str,
        method: &'a str,
        input: Bytes,
        read_only: bool,
    ) -> BoxFuture<'a, Result<Bytes, Error>>;
}

fn op(method: &str, input: Bytes) -> Op {
    Op::Exec { class: REGISTRY_CLASS.to_owned(), method: method.to_owned(), input }
}

impl Meta for StoreClient {
    fn exec<'a>(
        &'a self,
        object: &'a str,
        method: &'a str,
        input: Bytes,
        read_only: bool,
    ) -> BoxFuture<'a, Result<Bytes, Error>> {
        Box::pin(async move {
            let pool = self.pool(name(META_POOL)).await?;
            let options = Options { read_only, deadline: None };
            let object = ObjectName::new(object.to_owned());
            let reply = self.operate(pool, &object, vec![op(method, input)], options).await?;
            Ok(reply.results.into_iter().next().map(|result| result.data).unwrap_or_default())
        })
    }
}

async fn call<I: Encode + Sync, O: Decode>(
    meta: &impl Meta,
    object: &str,
    method: &str,
    input: &I,
    read_only: bool,
) -> Result<O, Error> {
    let output = meta.exec(object, method, input.to_bytes(), read_only).await?;
    O::from_bytes(output).map_err(|error| Error::Damaged(error.to_string()))
}

fn done(output: &Value) -> Response<Full<Bytes>> {
    respond(StatusCode::OK, &json!({"code": 0, "status": "", "output": output}))
}

fn failed(code: i32, status: &str) -> Response<Full<Bytes>> {
    respond(http_status(code), &json!({"code": code, "status": status}))
}

fn answered(output: Result<Value, Error>) -> Response<Full<Bytes>> {
    match output {
        Ok(output) => done(&output),
        Err(error) => failed(error.errno(), &error.to_string()),
    }
}

/// Answers with the versions of the cluster's keys, after making a new one if `rotate`.
pub(super) async fn cluster_keys(
    meta: &impl Meta,
    secrets: &dyn KeyRing,
    rotate: bool,
) -> Response<Full<Bytes>> {
    let keys = async {
        let keys: Vec<SealedKey> = match call(meta, KEYS_OBJECT, "keys", &Nothing {}, true).await {
            // Nobody has encrypted anything yet.
            Err(Error::NotFound(_)) => Vec::new(),
            keys => keys?,
        };
        match rotate {
            false => Ok(keys),
            true => add_key(meta, secrets, &keys).await,
        }
    };
    let shown = |keys: Vec<SealedKey>| {
        let one = |key: &SealedKey| json!({"version": key.version, "created_ms": key.created_ms});
        keys.iter().map(one).collect::<Value>()
    };
    answered(keys.await.map(shown))
}

async fn add_key(
    meta: &impl Meta,
    secrets: &dyn KeyRing,
    keys: &[SealedKey],
) -> Result<Vec<SealedKey>, Error> {
    let secret = secrets.seal_key().ok_or_else(|| {
        Error::Unavailable("the monitor gave no key to seal the cluster's keys with".into())
    })?;
    let next = keys.last().map_or(1, |key| key.version.saturating_add(1));
    let add = AddKey { key: new_key(&secret, next) };
    let keys: Vec<SealedKey> = call(meta, KEYS_OBJECT, "add_key", &add, false).await?;
    match keys.last().is_some_and(|last| last.version >= next) {
        true => Ok(keys),
        false => Err(Error::Full("the cluster has all the keys that it can have".into())),
    }
}

/// Answers with the named key of this id, or with all.
pub(super) async fn named_keys(meta: &impl Meta, id: Option<&str>) -> Response<Full<Bytes>> {
    let Some(id) = id else { return answered(all_named(meta).await) };
    let read = ReadKms { id: id.to_owned() };
    let key = match call(meta, KMS_OBJECT, "kms_key", &read, true).await {
        Err(Error::NotFound(_)) => None,
        Ok(key) => key,
        Err(error) => return answered(Err(error)),
    };
    match key {
        Some(key) => done(&shown(&key)),
        None => failed(-errno::ENOENT, &sentence(id, KmsRefusal::NoKey {})),
    }
}

async fn all_named(meta: &impl Meta) -> Result<Value, Error> {
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let page = call(meta, KMS_OBJECT, "kms_keys", &ListKms { after }, true).await;
        let page: KmsPage = match page {
            // Nobody has made any yet.
            Err(Error::NotFound(_)) => KmsPage::default(),
            page => page?,
        };
        found.extend(page.keys.iter().map(shown));
        match page.keys.last() {
            Some(last) if page.more => after = last.id.clone(),
            _ => return Ok(Value::Array(found)),
        }
    }
}

/// Changes a named key as the document says, and answers with it.
pub(super) async fn change_named(
    meta: &impl Meta,
    document: &[u8],
) -> S3Result<Response<Full<Bytes>>> {
    let wish = wish(document)?;
    let outcome: Result<KmsOutcome, Error> =
        call(meta, KMS_OBJECT, "kms_change", &wish, false).await;
    Ok(match outcome.map(KmsOutcome::into_result) {
        Ok(Ok(key)) => {
            tracing::info!(key = %key.id, enabled = key.enabled, version = key.wanted, "a named key was changed");
            done(&shown(&key))
        }
        Ok(Err(why)) => {
            let code = match why {
                KmsRefusal::NoKey {} => errno::ENOENT,
                KmsRefusal::Exists {} => errno::EEXIST,
                _ => errno::EBUSY,
            };
            failed(-code, &sentence(&wish.id, why))
        }
        Err(error) => answered(Err(error)),
    })
}

/// `{"action": "create", "id": "…", "description": "…"}` and its kin.
fn wish(document: &[u8]) -> S3Result<ChangeKms> {
    let invalid = |why: &str| Code::InvalidRequest.with(why);
    let fields: Value =
        serde_json::from_slice(document).map_err(|_| invalid("the body is no JSON"))?;
    let fields = fields.as_object().ok_or_else(|| invalid("the body must be a JSON object"))?;
    if let Some(unknown) =
        fields.keys().find(|name| !["action", "id", "description", "days"].contains(&name.as_str()))
    {
        return Err(invalid(&format!(
            "{unknown:?} is unknown: here are action, id, description and days"
        )));
    }
    let text = |name: &str| match fields.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(invalid(&format!("{name:?} must be a string"))),
    };
    let days = match fields.get("days") {
        None => DELETE_DAYS_DEFAULT,
        Some(days) => days
            .as_u64()
            .and_then(|days| u32::try_from(days).ok())
            .ok_or_else(|| invalid("\"days\" must be a number, 7 to 30"))?,
    };
    let change = match text("action")? {
        Some("create") => creation(text("description")?.unwrap_or_default()),
        Some("enable") => KmsChange::Enable {},
        Some("disable") => KmsChange::Disable {},
        Some("rotate") => KmsChange::Rotate {},
        Some("delete") => KmsChange::Delete { days },
        Some("undelete") => KmsChange::Undelete {},
        _ => {
            return Err(invalid(
                "\"action\" must be create, enable, disable, rotate, delete or undelete",
            ));
        }
    };
    let id = match (text("id")?, &change) {
        (Some(id), _) => id.to_owned(),
        (None, KmsChange::Create { .. }) => new_id(),
        (None, _) => return Err(invalid("\"id\" must name a key")),
    };
    Ok(ChangeKms { id, change })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::memory::MemoryCluster;
    use crate::keyring::FixedKeys;
    use http_body_util::BodyExt;

    impl Meta for MemoryCluster {
        fn exec<'a>(
            &'a self,
            object: &'a str,
            method: &'a str,
            input: Bytes,
            read_only: bool,
        ) -> BoxFuture<'a, Result<Bytes, Error>> {
            let ops = [op(method, input)];
            let results = self.operate_now(META_POOL, object.to_owned(), &ops, read_only);
            Box::pin(std::future::ready(results.map(|results| results[0].data.clone())))
        }
    }

    async fn told(answer: Response<Full<Bytes>>) -> (u16, Value) {
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    async fn ask(meta: &MemoryCluster, document: Value) -> (u16, Value) {
        match change_named(meta, document.to_string().as_bytes()).await {
            Ok(answer) => told(answer).await,
            Err(error) => (error.code.status().as_u16(), json!({"status": error.message})),
        }
    }

    #[tokio::test]
    async fn the_clusters_keys_are_shown_and_renewed() {
        let (meta, secrets) = (MemoryCluster::default(), FixedKeys::default());
        let (status, body) = told(cluster_keys(&meta, &secrets, false).await).await;
        assert_eq!((status, &body["output"]), (200, &json!([])));
        for count in 1..4 {
            let (status, body) = told(cluster_keys(&meta, &secrets, true).await).await;
            assert_eq!((status, &body["code"]), (200, &json!(0)));
            let versions: Vec<u64> = body["output"]
                .as_array()
                .unwrap()
                .iter()
                .map(|key| {
                    assert!(key["created_ms"].as_u64() > Some(1_600_000_000_000));
                    assert_eq!(key.as_object().unwrap().len(), 2, "no secret is shown: {key}");
                    key["version"].as_u64().unwrap()
                })
                .collect();
            assert_eq!(versions, (1..=count).collect::<Vec<_>>());
            let again = told(cluster_keys(&meta, &secrets, false).await).await;
            assert_eq!(again.1["output"], body["output"]);
        }
    }

    #[tokio::test]
    async fn named_keys_are_made_changed_and_shown() {
        let meta = MemoryCluster::default();
        assert_eq!(told(named_keys(&meta, None).await).await.1["output"], json!([]));
        assert_eq!(told(named_keys(&meta, Some("k")).await).await.0, 404);
        let (status, made) =
            ask(&meta, json!({"action": "create", "id": "k", "description": "d"})).await;
        assert_eq!((status, &made["output"]["state"]), (200, &json!("enabled")));
        let (_, unnamed) = ask(&meta, json!({"action": "create"})).await;
        assert_eq!(unnamed["output"]["id"].as_str().unwrap().len(), 36);
        for (action, state) in [
            ("disable", "disabled"),
            ("enable", "enabled"),
            ("rotate", "enabled"),
            ("delete", "pending-deletion"),
            ("undelete", "disabled"),
        ] {
            let (status, body) = ask(&meta, json!({"action": action, "id": "k"})).await;
            assert_eq!((status, &body["output"]["state"]), (200, &json!(state)), "{action}");
        }
        let (_, shown) = told(named_keys(&meta, Some("k")).await).await;
        assert_eq!(
            (&shown["output"]["version"], &shown["output"]["description"]),
            (&json!(2), &json!("d"))
        );
        assert_eq!(
            told(named_keys(&meta, None).await).await.1["output"].as_array().unwrap().len(),
            2
        );
        for (document, status) in [
            (json!({"action": "create", "id": "k"}), 409),
            (json!({"action": "rotate", "id": "k"}), 409),
            (json!({"action": "enable", "id": "none"}), 404),
            (json!({"action": "enable"}), 400),
            (json!({"action": "burn", "id": "k"}), 400),
            (json!({"action": "enable", "id": "k", "day": 7}), 400),
            (json!({"action": "enable", "id": 7}), 400),
            (json!({"action": "delete", "id": "k", "days": 6}), 400),
            (json!({"action": "delete", "id": "k", "days": "7"}), 400),
            (json!({"action": "create", "id": "a b"}), 400),
            (json!([]), 400),
        ] {
            let (answered, body) = ask(&meta, document.clone()).await;
            assert_eq!(answered, status, "{document}: {body}");
            assert!(!body["status"].as_str().unwrap().is_empty());
        }
        assert!(change_named(&meta, b"{").await.is_err());
    }
}
