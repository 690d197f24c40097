//! Named keys over a cluster in memory: several gateways, each with what it believes.

use super::*;
use crate::catalogue::Commons;
use crate::catalogue::flat::Flat;
use crate::cluster::memory::MemoryCluster;
use crate::keyring::FixedKeys;
use store_base::bucket::BucketId;

const BUCKET: BucketId = BucketId([7; 8]);
const ID: WriteId = WriteId([8; 16]);

/// A gateway.
struct Gateway {
    flat: Flat<MemoryCluster>,
    ring: Ring,
    secrets: FixedKeys,
    kms: NamedKeys,
}

impl Gateway {
    fn new(cluster: &MemoryCluster) -> Gateway {
        Gateway {
            flat: Flat::new(cluster.clone(), Commons::default()),
            ring: Ring::default(),
            secrets: FixedKeys::default(),
            kms: NamedKeys::default(),
        }
    }

    fn sources(&self) -> Sources<'_> {
        Sources { catalogue: &self.flat, ring: &self.ring, secrets: &self.secrets }
    }

    async fn change(&self, id: &str, change: KmsChange) -> KmsKey {
        self.flat.change_kms(change_of(id, change)).await.unwrap().unwrap()
    }

    async fn create(&self, id: &str) {
        let serial = WriteId(clock::random());
        self.change(id, KmsChange::Create { serial, description: String::new() }).await;
    }

    async fn newest(&self, id: &str) -> Result<(KmsGrip, NamedKey), KmsError> {
        let grip = KmsGrip { key: id.into(), ..KmsGrip::default() };
        self.kms.newest(self.sources(), grip).await
    }

    async fn of_grip(&self, grip: &KmsGrip) -> Result<NamedKey, KmsError> {
        self.kms.of_grip(self.sources(), grip).await
    }
}

/// Whether what one wraps the other unwraps.
fn same(one: &NamedKey, other: &NamedKey) -> bool {
    let wrapped = one.wrap(&DataKey::random(), &ID, BUCKET);
    other.unwrap_key(&wrapped, &ID, BUCKET).is_some()
}

#[tokio::test]
async fn all_gateways_make_one_secret_of_a_version() {
    let cluster = MemoryCluster::default();
    let (one, two) = (Gateway::new(&cluster), Gateway::new(&cluster));
    let (a, b) = tokio::join!(one.newest(KMS_KEY_DEFAULT), two.newest(KMS_KEY_DEFAULT));
    let ((grip, a), (other, b)) = (a.unwrap(), b.unwrap());
    assert_eq!((grip.version, &grip), (1, &other));
    assert!(same(&a, &b));
    assert!(same(&a, &Gateway::new(&cluster).of_grip(&grip).await.unwrap()));
    one.create("k").await;
    let (of_k, k) = one.newest("k").await.unwrap();
    assert!(!same(&a, &k));
    assert_ne!(of_k.serial, grip.serial);
}

#[tokio::test]
async fn a_gateway_that_does_not_know_of_a_rotation_reads_what_came_after_it() {
    let cluster = MemoryCluster::default();
    let (one, two) = (Gateway::new(&cluster), Gateway::new(&cluster));
    one.create("k").await;
    let (first, old) = one.newest("k").await.unwrap();
    two.change("k", KmsChange::Rotate {}).await;
    let (second, new) = two.newest("k").await.unwrap();
    assert_eq!((first.version, second.version), (1, 2));
    assert!(!same(&old, &new));
    // It still writes with the version that it believes in, and reads both.
    assert_eq!(one.newest("k").await.unwrap().0.version, 1);
    assert!(same(&new, &one.of_grip(&second).await.unwrap()));
    assert_eq!(one.newest("k").await.unwrap().0.version, 2);
    for gateway in [&one, &two] {
        assert!(same(&old, &gateway.of_grip(&first).await.unwrap()));
    }
    // Rotated twice before anybody wrote: the number between has no secret and needs none.
    two.change("k", KmsChange::Rotate {}).await;
    two.change("k", KmsChange::Rotate {}).await;
    let late = Gateway::new(&cluster);
    assert_eq!(late.newest("k").await.unwrap().0.version, 4);
    let (grip, _) = late.newest("k").await.unwrap();
    assert!(matches!(
        late.of_grip(&KmsGrip { version: 3, ..grip }).await,
        Err(KmsError::Catalogue(CatalogueError::Cluster(Error::Damaged(_))))
    ));
}

#[tokio::test]
async fn what_may_not_be_used_is_not_even_opened() {
    let cluster = MemoryCluster::default();
    let operator = Gateway::new(&cluster);
    assert!(matches!(operator.newest("k").await, Err(KmsError::Missing)));
    operator.create("k").await;
    let (grip, key) = operator.newest("k").await.unwrap();
    operator.change("k", KmsChange::Disable {}).await;
    let other = Gateway::new(&cluster);
    assert!(matches!(other.newest("k").await, Err(KmsError::Disabled)));
    assert!(matches!(other.of_grip(&grip).await, Err(KmsError::Disabled)));
    operator.change("k", KmsChange::Delete { days: 7 }).await;
    let other = Gateway::new(&cluster);
    assert!(matches!(other.newest("k").await, Err(KmsError::Leaving)));
    assert!(matches!(other.of_grip(&grip).await, Err(KmsError::Leaving)));
    operator.change("k", KmsChange::Undelete {}).await;
    operator.change("k", KmsChange::Enable {}).await;
    let other = Gateway::new(&cluster);
    assert!(same(&key, &other.of_grip(&grip).await.unwrap()));
    // A key of the same id that is another one.
    let before = KmsGrip { serial: WriteId([9; 16]), ..grip };
    assert!(matches!(other.of_grip(&before).await, Err(KmsError::Missing)));
}

#[tokio::test]
async fn a_secret_opens_in_its_place_only() {
    let cluster = MemoryCluster::default();
    let gateway = Gateway::new(&cluster);
    for id in ["a", "b"] {
        gateway.create(id).await;
    }
    gateway.newest("a").await.unwrap();
    // Whoever can write to the disks gives `b` the sealed secret of `a`.
    let stolen = gateway.flat.kms_key("a").await.unwrap().unwrap().versions.remove(0);
    gateway.change("b", KmsChange::Supply { version: stolen }).await;
    assert!(matches!(
        gateway.newest("b").await,
        Err(KmsError::Catalogue(CatalogueError::Cluster(Error::Damaged(_))))
    ));
}
