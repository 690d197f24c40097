//! The everyday calls on one object, each one op vector.

use crate::shell::{OpReply, Options, StoreClient};
use bytes::Bytes;
use std::collections::BTreeMap;
use store_base::codec::{Decode, DecodeError};
use store_base::error::Error;
use store_base::op::{OmapPage, Op, Stat};
use store_base::{ObjectName, PoolId};

impl StoreClient {
    /// At most `length` bytes from `offset` on, fewer at the object's end. At most 1 MiB; see
    /// [`read_large`](Self::read_large).
    pub async fn read(
        &self,
        pool: PoolId,
        object: &ObjectName,
        offset: u64,
        length: u64,
    ) -> Result<Bytes, Error> {
        self.one(pool, object, Op::Read { offset, length }, true).await
    }

    /// Writes bytes at an offset. At most 1 MiB; see [`write_large`](Self::write_large).
    pub async fn write(
        &self,
        pool: PoolId,
        object: &ObjectName,
        offset: u64,
        data: Bytes,
    ) -> Result<OpReply, Error> {
        self.operate(pool, object, vec![Op::Write { offset, data }], Options::default()).await
    }

    /// Replaces the object's bytes. At most 1 MiB; see [`put_large`](Self::put_large).
    pub async fn write_full(
        &self,
        pool: PoolId,
        object: &ObjectName,
        data: Bytes,
    ) -> Result<OpReply, Error> {
        self.operate(pool, object, vec![Op::WriteFull { data }], Options::default()).await
    }

    /// Removes an object; `NotFound` if there is none.
    pub async fn delete(&self, pool: PoolId, object: &ObjectName) -> Result<(), Error> {
        self.one(pool, object, Op::Delete {}, false).await.map(drop)
    }

    /// Size, time of change and version.
    pub async fn stat(&self, pool: PoolId, object: &ObjectName) -> Result<Stat, Error> {
        let data = self.one(pool, object, Op::Stat {}, true).await?;
        decode(data, object)
    }

    /// An xattr; `NotFound` if the object or the xattr is not there.
    pub async fn xattr(
        &self,
        pool: PoolId,
        object: &ObjectName,
        name: &str,
    ) -> Result<Bytes, Error> {
        let name = Bytes::copy_from_slice(name.as_bytes());
        self.one(pool, object, Op::Xattr { name }, true).await
    }

    /// All xattrs.
    pub async fn xattrs(
        &self,
        pool: PoolId,
        object: &ObjectName,
    ) -> Result<BTreeMap<Bytes, Bytes>, Error> {
        let data = self.one(pool, object, Op::Xattrs {}, true).await?;
        decode(data, object)
    }

    /// Sets an xattr; makes the object if needed.
    pub async fn set_xattr(
        &self,
        pool: PoolId,
        object: &ObjectName,
        name: &str,
        value: Bytes,
    ) -> Result<(), Error> {
        let name = Bytes::copy_from_slice(name.as_bytes());
        self.one(pool, object, Op::SetXattr { name, value }, false).await.map(drop)
    }

    /// A page of omap pairs behind `after` whose keys begin with `prefix`.
    pub async fn omap_list(
        &self,
        pool: PoolId,
        object: &ObjectName,
        after: Bytes,
        prefix: Bytes,
        max: u32,
    ) -> Result<OmapPage, Error> {
        let op = Op::OmapList { after, prefix, max, values: true };
        let data = self.one(pool, object, op, true).await?;
        decode(data, object)
    }

    /// Those of the keys that exist, with their values.
    pub async fn omap_values(
        &self,
        pool: PoolId,
        object: &ObjectName,
        keys: Vec<Bytes>,
    ) -> Result<BTreeMap<Bytes, Bytes>, Error> {
        let data = self.one(pool, object, Op::OmapByKeys { keys }, true).await?;
        decode(data, object)
    }

    /// Sets omap pairs; makes the object if needed.
    pub async fn omap_set(
        &self,
        pool: PoolId,
        object: &ObjectName,
        entries: BTreeMap<Bytes, Bytes>,
    ) -> Result<(), Error> {
        self.one(pool, object, Op::OmapSet { entries }, false).await.map(drop)
    }

    /// Removes omap keys; those not there are passed over.
    pub async fn omap_remove(
        &self,
        pool: PoolId,
        object: &ObjectName,
        keys: Vec<Bytes>,
    ) -> Result<(), Error> {
        self.one(pool, object, Op::OmapRemove { keys }, false).await.map(drop)
    }

    /// Runs a method of a class in the object's transaction.
    pub async fn exec(
        &self,
        pool: PoolId,
        object: &ObjectName,
        (class, method): (&str, &str),
        input: Bytes,
        read_only: bool,
    ) -> Result<Bytes, Error> {
        let op = Op::Exec { class: class.to_string(), method: method.to_string(), input };
        self.one(pool, object, op, read_only).await
    }

    async fn one(
        &self,
        pool: PoolId,
        object: &ObjectName,
        op: Op,
        read_only: bool,
    ) -> Result<Bytes, Error> {
        let options = Options { read_only, deadline: None };
        Ok(self.operate(pool, object, vec![op], options).await?.data(0))
    }
}

/// A result's data as a value.
pub(crate) fn decode<T: Decode>(data: Bytes, object: &ObjectName) -> Result<T, Error> {
    T::from_bytes(data).map_err(|error: DecodeError| {
        Error::Damaged(format!("the answer for object {object} cannot be read: {error}"))
    })
}
