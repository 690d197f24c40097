//! The class `lock`: advisory locks kept with an object.
//!
//! | method | input | output |
//! |---|---|---|
//! | `lock.lock` | [`Lock`] | [`Answer`] |
//! | `lock.unlock` | [`Unlock`] | [`Answer`] |
//! | `lock.break` | [`Break`] | [`Answer`] |
//! | `lock.info` | [`Name`] | [`State`] |
//!
//! A holder is a client and a cookie. A lock with a duration ends by itself, by the clock of the daemon that
//! leads the object's placement group; taking it again before then renews it. Locks have a kind and a tag: all
//! holders of one lock agree on both. The state is the xattr `lock.` + name, a [`State`], empty when
//! nobody holds the lock. Locking makes the object.

use super::{ClassContext, ClassError, Method, MethodKind};
use crate::codec::{Decode, Encode};
use bytes::Bytes;

/// Most holders of one shared lock.
pub const HOLDERS_MAX: usize = 1024;

/// Longest name, cookie, tag and description in bytes.
pub const TEXT_BYTES_MAX: usize = 256;

/// Whether others may hold it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One holder.
    Exclusive {},
    /// Many.
    Shared {},
}

impl Default for Kind {
    fn default() -> Self {
        Kind::Exclusive {}
    }
}

crate::codec_enum!(Kind { 1 => Exclusive {}, 2 => Shared {} });

/// Input of `lock.lock`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Which lock of the object.
    pub name: String,
    /// How.
    pub kind: Kind,
    /// Tells holders of one client apart.
    pub cookie: String,
    /// All holders name the same.
    pub tag: String,
    /// For people.
    pub description: String,
    /// After which it ends by itself; 0: never.
    pub duration_millis: u64,
}
crate::codec_struct!(Lock { name, kind, cookie, tag, description, duration_millis });

/// Input of `lock.unlock`; the holder is the sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unlock {
    /// Which lock of the object.
    pub name: String,
    /// As it was locked.
    pub cookie: String,
}
crate::codec_struct!(Unlock { name, cookie });

/// Input of `lock.break`: takes a lock from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Break {
    /// Which lock of the object.
    pub name: String,
    /// The holder.
    pub client: u64,
    /// As it was locked.
    pub cookie: String,
}
crate::codec_struct!(Break { name, client, cookie });

/// Input of `lock.info`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// Which lock of the object.
    pub name: String,
}
crate::codec_struct!(Name { name });

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The client.
    pub client: u64,
    /// Its cookie.
    pub cookie: String,
    /// For people.
    pub description: String,
    /// When it ends by itself, in milliseconds since 1970; 0: never.
    pub until_millis: u64,
}
crate::codec_struct!(Holder { client, cookie, description, until_millis });

/// A lock as it is kept, and the output of `lock.info` (no holders: it is free).
///
/// Versioned form, version 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// How it is held.
    pub kind: Kind,
    /// What all holders named.
    pub tag: String,
    /// By whom.
    pub holders: Vec<Holder>,
}
crate::codec_versioned!(State, 1, 1 { kind, tag, holders });

/// Output of the methods that change a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is as asked for.
    Done {},
    /// Others hold it; nothing was changed.
    Busy {
        /// These.
        state: State,
    },
    /// There is no such holder; nothing was changed.
    NotHeld {},
}
crate::codec_enum!(Answer { 1 => Done {}, 2 => Busy { state }, 3 => NotHeld {} });

/// The methods, for the registry.
pub const METHODS: [Method; 4] = [
    Method { class: "lock", name: "lock", kind: MethodKind::Write, code: lock },
    Method { class: "lock", name: "unlock", kind: MethodKind::Write, code: unlock },
    Method { class: "lock", name: "break", kind: MethodKind::Write, code: break_lock },
    Method { class: "lock", name: "info", kind: MethodKind::Read, code: info },
];

fn lock(context: &mut dyn ClassContext, input: Bytes) -> Result<Bytes, ClassError> {
    let call: Lock = decode(input)?;
    check(&[&call.name, &call.cookie, &call.tag, &call.description])?;
    let mut state = load(context, &call.name)?;
    let client = context.client().0;
    let is_mine = |holder: &Holder| holder.client == client && holder.cookie == call.cookie;
    let alone = state.holders.iter().all(is_mine);
    let agrees = state.kind == call.kind && state.tag == call.tag;
    let shares = agrees && call.kind == (Kind::Shared {});
    if !alone && !shares {
        return Ok(Answer::Busy { state }.to_bytes());
    }
    state.holders.retain(|holder| !is_mine(holder));
    if state.holders.len() >= HOLDERS_MAX {
        return Ok(Answer::Busy { state }.to_bytes());
    }
    let until_millis = match call.duration_millis {
        0 => 0,
        duration => context.now().millis().saturating_add(duration),
    };
    state.holders.push(Holder {
        client,
        cookie: call.cookie,
        description: call.description,
        until_millis,
    });
    (state.kind, state.tag) = (call.kind, call.tag);
    keep(context, &call.name, &state);
    Ok(Answer::Done {}.to_bytes())
}

fn unlock(context: &mut dyn ClassContext, input: Bytes) -> Result<Bytes, ClassError> {
    let call: Unlock = decode(input)?;
    let client = context.client().0;
    release(context, &call.name, client, &call.cookie)
}

fn break_lock(context: &mut dyn ClassContext, input: Bytes) -> Result<Bytes, ClassError> {
    let call: Break = decode(input)?;
    release(context, &call.name, call.client, &call.cookie)
}

fn info(context: &mut dyn ClassContext, input: Bytes) -> Result<Bytes, ClassError> {
    let call: Name = decode(input)?;
    check(&[&call.name])?;
    Ok(load(context, &call.name)?.to_bytes())
}

fn release(
    context: &mut dyn ClassContext,
    name: &str,
    client: u64,
    cookie: &str,
) -> Result<Bytes, ClassError> {
    check(&[name, cookie])?;
    let mut state = load(context, name)?;
    let held = state.holders.len();
    state.holders.retain(|holder| holder.client != client || holder.cookie != cookie);
    if state.holders.len() == held {
        return Ok(Answer::NotHeld {}.to_bytes());
    }
    keep(context, name, &state);
    Ok(Answer::Done {}.to_bytes())
}

fn decode<T: Decode>(input: Bytes) -> Result<T, ClassError> {
    T::from_bytes(input).map_err(|e| ClassError::Invalid(e.to_string()))
}

fn check(texts: &[&str]) -> Result<(), ClassError> {
    let long = texts.iter().find(|text| text.len() > TEXT_BYTES_MAX);
    match long {
        Some(_) => {
            Err(ClassError::Invalid(format!("a text is longer than {TEXT_BYTES_MAX} bytes")))
        }
        None if texts[0].is_empty() => Err(ClassError::Invalid("a lock needs a name".into())),
        None => Ok(()),
    }
}

fn xattr_of(name: &str) -> String {
    format!("lock.{name}")
}

/// The lock without the holders whose time is over.
fn load(context: &mut dyn ClassContext, name: &str) -> Result<State, ClassError> {
    let Some(stored) = context.xattr(&xattr_of(name))? else { return Ok(State::default()) };
    // Bytes are empty where the last holder left.
    if stored.is_empty() {
        return Ok(State::default());
    }
    let mut state = State::from_bytes(stored).map_err(|e| ClassError::Damaged(e.to_string()))?;
    let now = context.now().millis();
    state.holders.retain(|holder| holder.until_millis == 0 || holder.until_millis > now);
    Ok(state)
}

fn keep(context: &mut dyn ClassContext, name: &str, state: &State) {
    let value = if state.holders.is_empty() { Bytes::new() } else { state.to_bytes() };
    context.set_xattr(&xattr_of(name), value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::memory::MemoryObject;
    use crate::ids::{ClientId, Timestamp};

    /// An object with a clock, asked by different clients.
    #[derive(Default)]
    struct Bench {
        object: MemoryObject,
        client: u64,
        now: Timestamp,
    }

    impl ClassContext for Bench {
        fn name(&self) -> &[u8] {
            self.object.name()
        }
        fn exists(&self) -> bool {
            self.object.exists()
        }
        fn client(&self) -> ClientId {
            ClientId(self.client)
        }
        fn now(&self) -> Timestamp {
            self.now
        }
        fn create(&mut self) {
            self.object.create();
        }
        fn remove(&mut self) {
            self.object.remove();
        }
        fn xattr(&mut self, name: &str) -> Result<Option<Bytes>, ClassError> {
            self.object.xattr(name)
        }
        fn set_xattr(&mut self, name: &str, value: Bytes) {
            self.object.set_xattr(name, value);
        }
        fn omap_value(&mut self, key: &[u8]) -> Result<Option<Bytes>, ClassError> {
            self.object.omap_value(key)
        }
        fn omap_range(
            &mut self,
            from: &[u8],
            until: &[u8],
            max: usize,
        ) -> Result<Vec<(Bytes, Bytes)>, ClassError> {
            self.object.omap_range(from, until, max)
        }
        fn set_omap(&mut self, key: Bytes, value: Bytes) {
            self.object.set_omap(key, value);
        }
        fn remove_omap(&mut self, key: &[u8]) {
            self.object.remove_omap(key);
        }
        fn remove_omap_range(&mut self, from: &[u8], until: &[u8]) {
            self.object.remove_omap_range(from, until);
        }
    }

    impl Bench {
        fn call(&mut self, client: u64, method: &str, input: &impl Encode) -> Bytes {
            self.client = client;
            let method = crate::class::method("lock", method).expect("registered");
            (method.code)(self, input.to_bytes()).expect("understood")
        }

        fn lock(&mut self, client: u64, kind: Kind, duration_millis: u64) -> Answer {
            let call = Lock {
                name: "l".into(),
                kind,
                cookie: "c".into(),
                tag: "t".into(),
                description: String::new(),
                duration_millis,
            };
            Answer::from_bytes(self.call(client, "lock", &call)).expect("an answer")
        }

        fn unlock(&mut self, client: u64) -> Answer {
            let call = Unlock { name: "l".into(), cookie: "c".into() };
            Answer::from_bytes(self.call(client, "unlock", &call)).expect("an answer")
        }
    }

    #[test]
    fn an_exclusive_lock_has_one_holder() {
        let mut bench = Bench::default();
        assert_eq!(bench.unlock(1), Answer::NotHeld {});
        assert_eq!(bench.lock(1, Kind::Exclusive {}, 0), Answer::Done {});
        assert_eq!(bench.lock(1, Kind::Exclusive {}, 0), Answer::Done {}, "renewed");
        assert!(matches!(bench.lock(2, Kind::Exclusive {}, 0), Answer::Busy { .. }));
        assert!(matches!(bench.lock(2, Kind::Shared {}, 0), Answer::Busy { .. }));
        assert_eq!(bench.unlock(2), Answer::NotHeld {});
        assert_eq!(bench.unlock(1), Answer::Done {});
        assert_eq!(bench.lock(2, Kind::Exclusive {}, 0), Answer::Done {});
        let call = Break { name: "l".into(), client: 2, cookie: "c".into() };
        assert_eq!(Answer::from_bytes(bench.call(1, "break", &call)), Ok(Answer::Done {}));
        let state = State::from_bytes(bench.call(1, "info", &Name { name: "l".into() }));
        assert_eq!(state, Ok(State::default()));
    }

    #[test]
    fn a_shared_lock_has_many_and_one_may_change_its_kind() {
        let mut bench = Bench::default();
        assert_eq!(bench.lock(1, Kind::Shared {}, 0), Answer::Done {});
        assert_eq!(bench.lock(1, Kind::Exclusive {}, 0), Answer::Done {});
        assert_eq!(bench.lock(1, Kind::Shared {}, 0), Answer::Done {});
        assert_eq!(bench.lock(2, Kind::Shared {}, 0), Answer::Done {});
        assert!(matches!(bench.lock(2, Kind::Exclusive {}, 0), Answer::Busy { .. }));
    }

    #[test]
    fn a_lock_ends_when_its_time_is_over() {
        let mut bench = Bench::default();
        bench.now.secs = 10;
        assert_eq!(bench.lock(1, Kind::Exclusive {}, 5000), Answer::Done {});
        bench.now.secs = 14;
        assert!(matches!(bench.lock(2, Kind::Exclusive {}, 0), Answer::Busy { .. }));
        bench.now.secs = 15;
        assert_eq!(bench.lock(2, Kind::Exclusive {}, 0), Answer::Done {});
        assert_eq!(bench.unlock(1), Answer::NotHeld {});
    }

    #[test]
    fn hostile_inputs_are_refused() {
        let mut object = MemoryObject::default();
        for method in &METHODS {
            let error =
                (method.code)(&mut object, Bytes::from_static(b"\xff\xff")).expect_err("hostile");
            assert!(matches!(error, ClassError::Invalid(_)), "{error}");
        }
        object.set_xattr("lock.l", Bytes::from_static(b"junk"));
        let error = info(&mut object, Name { name: "l".into() }.to_bytes()).expect_err("damaged");
        assert!(matches!(error, ClassError::Damaged(_)), "{error}");
    }
}
