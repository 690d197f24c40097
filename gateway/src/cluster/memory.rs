//! A cluster in memory: one copy, no disk, the real class methods. For tests and for developing clients;
//! it can be told to fail.

use super::{Cluster, Place};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use store_base::bucket::placement::{PLACEMENT_DEFAULT, Placement};
use store_base::class::{self, ClassContext, ClassError, MethodKind, memory::MemoryObject};
use store_base::codec::Encode;
use store_base::error::Error;
use store_base::op::{Op, OpResult, Stat, errno};
use store_base::{PoolId, Timestamp};

/// Says what fails: pool, object, ops. An error is returned instead of running them.
pub type Fault = Box<dyn Fn(Place, &str, &[Op]) -> Option<Error> + Send>;

#[derive(Default)]
struct Objects {
    objects: BTreeMap<(Place, String), Stored>,
    placements: BTreeMap<String, PoolId>,
    fault: Option<Fault>,
    requests: u64,
    /// How far its clock is ahead, in seconds.
    ahead: u64,
}

#[derive(Clone, Default)]
struct Stored {
    class: MemoryObject,
    data: Vec<u8>,
    /// The class that keeps the object; 0 for none.
    keeper: u8,
}

/// The cluster; clones share it.
#[derive(Clone, Default)]
pub struct MemoryCluster {
    shared: Arc<Mutex<Objects>>,
}

impl MemoryCluster {
    fn locked<T>(&self, act: impl FnOnce(&mut Objects) -> T) -> T {
        act(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets requests fail from now on.
    pub fn fail_with(&self, fault: Option<Fault>) {
        self.locked(|objects| objects.fault = fault);
    }

    /// Sets the clock that class methods see forward, by so many seconds.
    pub fn advance(&self, secs: u64) {
        self.locked(|objects| objects.ahead += secs);
    }

    /// Adds a placement.
    pub fn add_placement(&self, name: &str, pool: PoolId) {
        self.locked(|objects| objects.placements.insert(name.to_string(), pool));
    }

    /// Names of the objects of a pool.
    pub fn names(&self, pool: Place) -> Vec<String> {
        self.locked(|objects| {
            let of_pool = objects.objects.keys().filter(|(place, _)| *place == pool);
            of_pool.map(|(_, name)| name.clone()).collect()
        })
    }

    /// Whether these bytes lie anywhere, in data or in an omap.
    pub fn has_bytes(&self, wanted: &[u8]) -> bool {
        let within = |bytes: &[u8]| bytes.windows(wanted.len()).any(|window| window == wanted);
        self.locked(|objects| {
            objects.objects.values().any(|stored| {
                within(&stored.data) || stored.class.omap.values().any(|value| within(value))
            })
        })
    }

    /// Changes a byte of the data of every object of a pool.
    pub fn damage(&self, pool: Place, at: usize) {
        self.locked(|objects| {
            for (_, stored) in objects.objects.iter_mut().filter(|((place, _), _)| *place == pool) {
                if let Some(byte) = stored.data.get_mut(at) {
                    *byte ^= 1;
                }
            }
        });
    }

    /// Changes what lies in the omap of an object that is there.
    #[cfg(test)]
    pub(crate) fn set_omap(&self, pool: Place, object: &str, key: Bytes, value: Bytes) {
        self.locked(|objects| {
            if let Some(stored) = objects.objects.get_mut(&(pool, object.to_owned())) {
                stored.class.omap.insert(key, value);
            }
        });
    }

    /// As [`Cluster::operate`], at once.
    pub fn operate_now(
        &self,
        pool: Place,
        object: String,
        ops: &[Op],
        read_only: bool,
    ) -> Result<Vec<OpResult>, Error> {
        self.locked(|objects| {
            objects.requests += 1;
            if let Some(error) = objects.fault.as_ref().and_then(|f| f(pool, &object, ops)) {
                return Err(error);
            }
            let name = (pool, object);
            let mut stored = objects.objects.get(&name).cloned().unwrap_or_default();
            let now = store_shell::clock::timestamp();
            stored.class.name = Bytes::copy_from_slice(name.1.as_bytes());
            stored.class.now = Timestamp { secs: now.secs + objects.ahead, ..now };
            let results =
                ops.iter().map(|op| run(&mut stored, op, read_only)).collect::<Result<_, _>>()?;
            match stored.class.exists {
                true => objects.objects.insert(name, stored),
                false => objects.objects.remove(&name),
            };
            Ok(results)
        })
    }

    /// How many requests were run.
    pub fn requests(&self) -> u64 {
        self.locked(|objects| objects.requests)
    }
}

impl Cluster for MemoryCluster {
    fn operate<'a>(
        &'a self,
        pool: Place,
        object: String,
        ops: Vec<Op>,
        read_only: bool,
    ) -> LocalBoxFuture<'a, Result<Vec<OpResult>, Error>> {
        Box::pin(async move {
            // A real cluster answers later: let others run in between, as they will then.
            tokio::task::yield_now().await;
            self.operate_now(pool, object, &ops, read_only)
        })
    }

    fn placement(&self, name: &str) -> Option<Placement> {
        let pool = self.locked(|objects| objects.placements.get(name).copied());
        match name {
            "" | PLACEMENT_DEFAULT => {
                Some(Placement { name: PLACEMENT_DEFAULT.to_string(), pool: None })
            }
            _ => pool.map(|pool| Placement { name: name.to_string(), pool: Some(pool) }),
        }
    }

    fn placements(&self) -> Vec<String> {
        let added = self.locked(|objects| objects.placements.keys().cloned().collect::<Vec<_>>());
        [PLACEMENT_DEFAULT.to_string()].into_iter().chain(added).collect()
    }
}

fn failed(code: i32, what: &str) -> Error {
    Error::from_errno(-code, what)
}

fn run(stored: &mut Stored, op: &Op, read_only: bool) -> Result<OpResult, Error> {
    let data = match op {
        Op::Exec { class, method, input } => exec(stored, class, method, input, read_only)?,
        _ if op.mutates() && read_only => return Err(failed(errno::EROFS, "a read that writes")),
        _ if op.mutates() && stored.keeper != 0 => {
            return Err(failed(errno::EPERM, "it is kept by a class"));
        }
        Op::Write { offset, data } => {
            let start = *offset as usize;
            let end = start + data.len();
            if stored.data.len() < end {
                stored.data.resize(end, 0);
            }
            stored.data[start..end].copy_from_slice(data);
            stored.class.exists = true;
            Bytes::new()
        }
        _ if !stored.class.exists => return Err(failed(errno::ENOENT, "no such object")),
        Op::Read { offset, length } => {
            let start = (*offset as usize).min(stored.data.len());
            let end = match *length {
                0 => stored.data.len(),
                length => (start + length as usize).min(stored.data.len()),
            };
            Bytes::copy_from_slice(&stored.data[start..end])
        }
        Op::Stat {} => Stat { size: stored.data.len() as u64, ..Stat::default() }.to_bytes(),
        Op::Delete {} => {
            *stored = Stored::default();
            Bytes::new()
        }
        _ => return Err(failed(errno::EOPNOTSUPP, "not in the cluster in memory")),
    };
    Ok(OpResult { code: 0, data })
}

fn exec(
    stored: &mut Stored,
    class: &str,
    method: &str,
    input: &Bytes,
    read_only: bool,
) -> Result<Bytes, Error> {
    let method = class::method(class, method)
        .ok_or_else(|| failed(errno::EOPNOTSUPP, "no such class or method"))?;
    if read_only && method.kind == MethodKind::Write {
        return Err(failed(errno::EROFS, "a read that writes"));
    }
    let keeper = class::keeper_number(method.class);
    if method.kind == MethodKind::Write && stored.keeper != 0 && stored.keeper != keeper {
        return Err(failed(errno::EPERM, "it is kept by another class"));
    }
    let before = (method.kind == MethodKind::Write && keeper != 0).then(|| stored.class.clone());
    let had_data = !stored.data.is_empty();
    let output = (method.code)(&mut stored.class, input.clone()).map_err(|error| match error {
        ClassError::Invalid(_) => failed(errno::EINVAL, &error.to_string()),
        ClassError::Damaged(_) | ClassError::Unreadable(_) => {
            failed(errno::EIO, &error.to_string())
        }
    })?;
    if had_data && !ClassContext::exists(&stored.class) {
        stored.data.clear();
    }
    if before.is_some_and(|before| before != stored.class) {
        stored.keeper = if ClassContext::exists(&stored.class) { keeper } else { 0 };
    }
    Ok(output)
}
