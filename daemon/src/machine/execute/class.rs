//! The object as a class method sees it.

use super::Abort;
use super::transaction::Transaction;
use super::watchers::is_hidden;
use bytes::Bytes;
use std::ops::Bound;
use store_base::class::{ClassContext, ClassError, Method, MethodKind};
use store_base::op::errno;
use store_base::{ClientId, Timestamp};

/// Runs a method. `Err` is what the whole vector ends with; a refusal by the method is `Ok(Err)`.
pub(super) fn run(
    method: &Method,
    transaction: &mut Transaction<'_>,
    client: ClientId,
    now: Timestamp,
    input: Bytes,
) -> Result<Result<Bytes, ClassError>, Abort> {
    let mut context = Context { transaction, kind: method.kind, client, now, abort: None };
    let answer = (method.code)(&mut context, input);
    match context.abort {
        Some(abort) => Err(abort),
        None => Ok(answer),
    }
}

/// The negative errno of a method's refusal, and what to tell.
pub(super) fn refusal(error: &ClassError) -> (i32, Bytes) {
    let code = match error {
        ClassError::Invalid(_) => errno::EINVAL,
        ClassError::Damaged(_) | ClassError::Unreadable(_) => errno::EIO,
    };
    (-code, Bytes::from(error.to_string()))
}

struct Context<'a, 'b> {
    transaction: &'b mut Transaction<'a>,
    kind: MethodKind,
    client: ClientId,
    now: Timestamp,
    /// The first thing that went wrong and that the method cannot be told of; it ends the vector.
    abort: Option<Abort>,
}

impl Context<'_, '_> {
    fn read<T>(
        &mut self,
        read: impl FnOnce(&Transaction<'_>) -> Result<T, Abort>,
    ) -> Result<T, ClassError> {
        read(self.transaction).map_err(|abort| {
            let why = format!("{abort:?}");
            self.abort.get_or_insert(abort);
            ClassError::Unreadable(why)
        })
    }

    /// The vector fails if a change cannot be made; a method of kind `Read` may make none.
    fn write(&mut self, write: impl FnOnce(&mut Transaction<'_>) -> Result<(), Abort>) {
        if self.abort.is_some() {
            return;
        }
        self.abort = match self.kind {
            MethodKind::Read => Some(Abort::Code(errno::EROFS)),
            MethodKind::Write => write(self.transaction).err(),
        };
    }
}

impl ClassContext for Context<'_, '_> {
    fn name(&self) -> &[u8] {
        &self.transaction.view.object.name
    }

    fn exists(&self) -> bool {
        self.transaction.info.is_some()
    }

    fn client(&self) -> ClientId {
        self.client
    }

    fn now(&self) -> Timestamp {
        self.now
    }

    fn create(&mut self) {
        self.write(|transaction| {
            transaction.create();
            Ok(())
        });
    }

    fn remove(&mut self) {
        self.write(|transaction| {
            transaction.remove();
            Ok(())
        });
    }

    fn xattr(&mut self, name: &str) -> Result<Option<Bytes>, ClassError> {
        if is_hidden(name.as_bytes()) {
            return Ok(None);
        }
        self.read(|transaction| transaction.xattr(name.as_bytes()))
    }

    fn set_xattr(&mut self, name: &str, value: Bytes) {
        let name = Bytes::copy_from_slice(name.as_bytes());
        self.write(|transaction| match is_hidden(&name) {
            true => Err(Abort::Code(errno::EINVAL)),
            false => transaction.set_xattr(name, Some(value)),
        });
    }

    fn omap_value(&mut self, key: &[u8]) -> Result<Option<Bytes>, ClassError> {
        self.read(|transaction| transaction.omap(key))
    }

    fn omap_range(
        &mut self,
        from: &[u8],
        until: &[u8],
        max: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, ClassError> {
        self.read(|transaction| {
            let mut entries = Vec::new();
            if max == 0 || from >= until {
                return Ok(entries);
            }
            transaction.walk_omap(Bound::Included(from), &[], |key, value| {
                if key[..] >= *until {
                    return false;
                }
                entries.push((key, value));
                entries.len() < max
            })?;
            Ok(entries)
        })
    }

    fn set_omap(&mut self, key: Bytes, value: Bytes) {
        self.write(|transaction| transaction.set_omap(key, Some(value)));
    }

    fn remove_omap(&mut self, key: &[u8]) {
        let key = Bytes::copy_from_slice(key);
        self.write(|transaction| transaction.set_omap(key, None));
    }

    fn remove_omap_range(&mut self, from: &[u8], until: &[u8]) {
        let (from, until) = (Bytes::copy_from_slice(from), Bytes::copy_from_slice(until));
        self.write(|transaction| transaction.remove_omap_range(from, until));
    }
}
