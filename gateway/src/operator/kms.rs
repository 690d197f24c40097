//! The keys for encrypted objects, for operators: named keys, and the cluster's own.
//!
//! An operator says what is to be, and sees no secret: those are made by the gateways. Gateways hear of it within
//! [`crate::crypt::kms::BELIEVED_FOR`], of a new key of the cluster within [`crate::crypt::ring::BELIEVED_FOR`].

use super::{Operator, OperatorError};
use crate::catalogue::{Catalogue, CatalogueError};
use crate::cluster::Cluster;
use crate::s3::access::rules::document;
use crate::s3::encryption::default::ByDefault;
use crate::s3::encryption::kms::id_in;
use crate::s3::error::S3Error;
use serde_json::{Value, json};
use store_base::bucket::{
    ChangeKms, KEYS_OBJECT, KMS_KEY_DEFAULT, KMS_OBJECT, KmsChange, KmsKey, KmsPage, KmsRefusal,
    ListKms, Nothing, Refusal, SealedKey, WriteId,
};
use store_base::error::Error;
use store_shell::clock;

/// Days between the wish to delete a key and its end, if nobody says otherwise.
pub const DELETE_DAYS_DEFAULT: u32 = 30;

/// The id of a key that is given none: a random UUID (RFC 9562, version 4).
pub fn new_id() -> String {
    let mut bytes: [u8; 16] = clock::random();
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let text = hex::encode(bytes);
    let fields = [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]];
    fields.join("-")
}

/// The wish for a new key.
pub fn creation(description: &str) -> KmsChange {
    KmsChange::Create { serial: WriteId(clock::random()), description: description.to_owned() }
}

/// Why the key ring did not change, and what to do.
pub fn sentence(id: &str, why: KmsRefusal) -> String {
    match why {
        KmsRefusal::NoKey {} => format!("there is no key {id}"),
        KmsRefusal::Exists {} => format!("there is a key {id} already"),
        KmsRefusal::Disabled {} => format!("the key {id} is disabled: enable it first"),
        KmsRefusal::Leaving {} => {
            format!("the key {id} is going to be deleted: undelete it first")
        }
        KmsRefusal::Staying {} => format!("the key {id} is not going to be deleted"),
        KmsRefusal::Full {} => {
            format!("there can be no more keys, or no more versions of {id}: use another key")
        }
        KmsRefusal::Overtaken {} => format!("somebody else changed the key {id}: look at it again"),
    }
}

/// A key, for programs: times in seconds since 1970; no secrets, sealed or not.
pub fn shown(key: &KmsKey) -> Value {
    let state = match (key.is_leaving(), key.enabled) {
        (true, _) => "pending-deletion",
        (false, true) => "enabled",
        (false, false) => "disabled",
    };
    let versions = key.versions.iter().map(|version| {
        json!({
            "version": version.version,
            "created": version.created_ms / 1000,
            "cluster_version": version.cluster_version,
        })
    });
    json!({
        "id": key.id,
        "description": key.description,
        "state": state,
        "created": key.created_ms / 1000,
        "delete_at": key.is_leaving().then_some(key.delete_ms / 1000),
        "version": key.wanted,
        "versions": versions.collect::<Vec<_>>(),
    })
}

/// The cluster's keys, for programs. A version that is wanted may still be to be made.
pub fn shown_cluster_keys(keys: &[SealedKey], wanted: u32) -> Value {
    let newest = keys.last().map_or(0, |key| key.version);
    let made =
        keys.iter().map(|key| json!({"version": key.version, "created": key.created_ms / 1000}));
    json!({"version": wanted.max(newest), "versions": made.collect::<Vec<_>>()})
}

impl<C: Cluster> Operator<C> {
    /// All named keys, by id.
    pub async fn kms_keys(&self) -> Result<Vec<KmsKey>, OperatorError> {
        let mut found: Vec<KmsKey> = Vec::new();
        loop {
            let after = found.last().map(|key| key.id.clone()).unwrap_or_default();
            let object = KMS_OBJECT.to_owned();
            let asked = self.flat.registry(object, "kms_keys", &ListKms { after }).await;
            let page: KmsPage = match asked {
                Err(CatalogueError::Cluster(Error::NotFound(_))) => return Ok(found),
                page => page?,
            };
            let more = page.more && !page.keys.is_empty();
            found.extend(page.keys);
            if !more {
                return Ok(found);
            }
        }
    }

    /// One of them.
    pub async fn kms_key(&self, id: &str) -> Result<KmsKey, OperatorError> {
        let key = self.flat.kms_key(id).await?;
        key.ok_or_else(|| OperatorError::NotFound(sentence(id, KmsRefusal::NoKey {})))
    }

    /// Changes one.
    pub async fn change_kms(&self, id: &str, change: KmsChange) -> Result<KmsKey, OperatorError> {
        let change = ChangeKms { id: id.to_owned(), change };
        self.flat.change_kms(change).await?.map_err(|why| match why {
            KmsRefusal::NoKey {} => OperatorError::NotFound(sentence(id, why)),
            why => OperatorError::Refused(sentence(id, why)),
        })
    }

    /// The cluster's keys, and the version that is wanted.
    pub async fn cluster_keys(&self) -> Result<(Vec<SealedKey>, u32), OperatorError> {
        let keys = self.flat.cluster_keys().await?;
        match self.flat.wanted_cluster_key().await {
            Err(CatalogueError::Cluster(Error::NotFound(_))) => Ok((keys, 0)),
            wanted => Ok((keys, wanted?)),
        }
    }

    /// Asks for a new key of the cluster; its version. The first gateway that looks makes it.
    pub async fn rotate_cluster_key(&self) -> Result<u32, OperatorError> {
        Ok(self.flat.registry(KEYS_OBJECT.to_owned(), "want_key", &Nothing {}).await?)
    }

    /// The named key that a bucket's objects are written with by default; `None` if that is the cluster's.
    pub async fn key_of_bucket(&self, name: &str) -> Result<Option<String>, OperatorError> {
        let bucket = match self.flat.bucket_now(name).await {
            Err(CatalogueError::Refused(Refusal::NoBucket {})) => {
                return Err(OperatorError::NotFound(format!("there is no bucket {name}")));
            }
            bucket => bucket?,
        };
        let default = bucket.documents.get(document::ENCRYPTION);
        let default = default.ok_or_else(|| {
            OperatorError::Refused(format!("the bucket {name} encrypts nothing by default"))
        })?;
        let unreadable = |error: S3Error| OperatorError::Refused(error.message);
        match ByDefault::parse(default).map_err(unreadable)? {
            ByDefault::Cluster => Ok(None),
            ByDefault::Kms { key: None, .. } => Ok(Some(KMS_KEY_DEFAULT.to_owned())),
            ByDefault::Kms { key: Some(key), .. } => match id_in(&key) {
                Some(id) => Ok(Some(id.to_owned())),
                None => Err(OperatorError::NotFound(format!("{key} is the name of no key"))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::memory::MemoryCluster;

    #[test]
    fn ids_are_random_uuids() {
        let id = new_id();
        assert_ne!(id, new_id());
        assert_eq!(id.len(), 36);
        assert_eq!(&id[14..15], "4");
        assert!(["8", "9", "a", "b"].contains(&&id[19..20]));
        assert!(store_base::bucket::is_kms_id(&id));
    }

    #[tokio::test]
    async fn operators_say_what_is_to_be() {
        let operator = Operator::new(MemoryCluster::default());
        assert!(operator.kms_keys().await.unwrap().is_empty());
        assert_eq!(shown_cluster_keys(&operator.cluster_keys().await.unwrap().0, 0)["version"], 0);
        for id in ["b", "a"] {
            operator.change_kms(id, creation("what for")).await.unwrap();
        }
        let keys = operator.kms_keys().await.unwrap();
        assert_eq!(keys.iter().map(|key| &key.id[..]).collect::<Vec<_>>(), ["a", "b"]);
        let again = operator.change_kms("a", creation("")).await;
        assert!(matches!(again, Err(OperatorError::Refused(why)) if why.contains("already")));
        let none = operator.change_kms("c", KmsChange::Rotate {}).await;
        assert!(matches!(none, Err(OperatorError::NotFound(_))));
        assert!(matches!(operator.kms_key("c").await, Err(OperatorError::NotFound(_))));
        let early = operator.change_kms("a", KmsChange::Delete { days: 1 }).await;
        assert!(early.unwrap_err().to_string().contains("7 to 30 days"));
        operator.change_kms("a", KmsChange::Delete { days: 7 }).await.unwrap();
        let value = shown(&operator.kms_key("a").await.unwrap());
        assert_eq!((&value["state"], &value["version"]), (&json!("pending-deletion"), &json!(1)));
        assert!(value["delete_at"].as_u64() > value["created"].as_u64());
        assert!(shown(&operator.kms_key("b").await.unwrap())["delete_at"].is_null());
        assert_eq!(operator.rotate_cluster_key().await.unwrap(), 1);
        assert_eq!(operator.cluster_keys().await.unwrap(), (Vec::new(), 1));
    }
}
