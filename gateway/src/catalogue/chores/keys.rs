//! Named keys whose waiting period is over. The daemon decides by its own clock whether it is.

use super::*;

/// Destroys the named keys that are due; how many.
pub(super) async fn destroy_due<C: Cluster>(flat: &Flat<C>) -> Result<usize, CatalogueError> {
    let now_ms = clock::timestamp().millis();
    let (mut destroyed, mut after) = (0, String::new());
    loop {
        let object = KMS_OBJECT.to_owned();
        let page: KmsPage = match flat.registry(object, "kms_keys", &ListKms { after }).await {
            // Nobody has made any key yet.
            Err(CatalogueError::Cluster(Error::NotFound(_))) => return Ok(destroyed),
            page => page?,
        };
        for key in page.keys.iter().filter(|key| key.is_leaving() && key.delete_ms <= now_ms) {
            let change = ChangeKms { id: key.id.clone(), change: KmsChange::Destroy {} };
            // A refusal: somebody was faster, or keeps it, or the daemon's clock is behind ours.
            if flat.change_kms(change).await?.is_ok() {
                tracing::info!(key = %key.id, "a named key was destroyed");
                destroyed += 1;
            }
        }
        match page.keys.last() {
            Some(last) if page.more => after = last.id.clone(),
            _ => return Ok(destroyed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::META_POOL;
    use crate::cluster::memory::MemoryCluster;

    /// Writes a key into the ring as it would be after its waiting period.
    async fn plant(flat: &Flat<MemoryCluster>, cluster: &MemoryCluster, id: &str, delete_ms: u64) {
        let create = KmsChange::Create { serial: WriteId::default(), description: String::new() };
        for change in [create, KmsChange::Delete { days: 7 }] {
            let change = ChangeKms { id: id.to_owned(), change };
            flat.change_kms(change).await.expect("an answer").expect("allowed");
        }
        let key = flat.kms_key(id).await.expect("an answer").expect("a key");
        let value = KmsKey { delete_ms, ..key }.to_bytes();
        cluster.set_omap(META_POOL, KMS_OBJECT, format!("k/{id}").into(), value);
    }

    #[tokio::test]
    async fn keys_go_when_they_are_due() {
        let cluster = MemoryCluster::default();
        let flat = Flat::new(cluster.clone(), Commons::default());
        assert_eq!(destroy_due(&flat).await.unwrap(), 0);
        plant(&flat, &cluster, "due", 1).await;
        plant(&flat, &cluster, "not-yet", u64::MAX).await;
        assert_eq!(destroy_due(&flat).await.unwrap(), 1);
        assert_eq!(flat.kms_key("due").await.unwrap(), None);
        assert!(flat.kms_key("not-yet").await.unwrap().is_some());
        assert_eq!(destroy_due(&flat).await.unwrap(), 0);
    }
}
