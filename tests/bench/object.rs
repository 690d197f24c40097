//! Raw pool objects through the client library.

use crate::load::{self, Line};
use bytes::Bytes;
use std::rc::Rc;
use std::time::Duration;
use store_base::ObjectName;
use store_client::StoreClient;

/// Objects that each worker goes round on.
const OBJECTS_PER_WORKER: u64 = 64;

fn name(worker: usize, round: u64) -> ObjectName {
    ObjectName::new(format!("bench-{worker}-{}", round % OBJECTS_PER_WORKER).into_bytes())
}

/// Writes, then reads, objects of `size` with `depth` at a time.
pub(crate) async fn case(
    client: &StoreClient,
    pool: store_base::PoolId,
    size: u64,
    depth: usize,
    time: Duration,
    pids: &[u32],
) -> Vec<Line> {
    let body = Bytes::from(vec![0x5a; size as usize]);
    let write = {
        let client = client.clone();
        load::run("object write", size, depth, time, pids, move |worker, round| {
            let (client, body) = (client.clone(), body.clone());
            async move {
                client
                    .write_large(pool, &name(worker, round), 0, body)
                    .await
                    .map(|_| ())
                    .map_err(|e| e.to_string())
            }
        })
        .await
    };
    // What a short run did not write cannot be read.
    let written = (write.operations() / depth as u64).clamp(1, OBJECTS_PER_WORKER);
    let client = Rc::new(client.clone());
    let read = load::run("object read", size, depth, time, pids, move |worker, round| {
        let client = client.clone();
        async move {
            let pieces = client
                .read_large(pool, &name(worker, round % written.saturating_sub(1).max(1)), 0, size)
                .await
                .map_err(|e| e.to_string())?;
            let got: usize = pieces.iter().map(Bytes::len).sum();
            if got as u64 == size { Ok(()) } else { Err(format!("{got} bytes instead of {size}")) }
        }
    })
    .await;
    vec![write, read]
}
