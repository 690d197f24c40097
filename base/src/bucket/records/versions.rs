//! Versions, object lock, and the settings of a bucket that its shards must know.

use super::BucketId;
use std::str::FromStr;

/// Names one version of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// The version without an id of its own: written while versioning was off or suspended. A key has at
    /// most one.
    Null {},
    /// One with an id.
    Id {
        /// Its place in its shard's sequence, at least 1.
        sequence: u64,
    },
}
crate::codec_enum!(Version { 1 => Null {}, 2 => Id { sequence } });

impl Version {
    /// The version id that clients see: `null`, or 32 hexadecimal digits, of which the first 16 are the
    /// sequence inverted (so that ids of a key sort as its versions do, newest first) and the others
    /// the bucket (so that ids of a bucket that was made again are never those of the old one).
    pub fn text(self, bucket: BucketId) -> String {
        match self {
            Version::Null {} => "null".into(),
            Version::Id { sequence } => format!("{:016x}{bucket}", !sequence),
        }
    }

    /// Reads the form of `text`. `None` for what is no id of this bucket.
    pub fn parse(text: &str, bucket: BucketId) -> Option<Version> {
        if text == "null" {
            return Some(Version::Null {});
        }
        let digits = text.strip_suffix(&bucket.to_string())?;
        let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if digits.len() != 16 || !digits.bytes().all(lower) {
            return None;
        }
        let sequence = !u64::from_str_radix(digits, 16).ok()?;
        (sequence > 0).then_some(Version::Id { sequence })
    }
}

/// Whether a bucket keeps what is overwritten and removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Versioning {
    /// It never did.
    #[default]
    Off,
    /// It does.
    Enabled,
    /// It keeps what it has, and new objects are the `null` version.
    Suspended,
}
crate::codec_enum!(Versioning { 1 => Off {}, 2 => Enabled {}, 3 => Suspended {} });

/// How firmly a retention holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// Who may bypass it, may shorten and end it.
    Governance,
    /// Nobody may shorten or end it.
    Compliance,
}
crate::codec_enum!(LockMode { 1 => Governance {}, 2 => Compliance {} });

impl LockMode {
    /// As in S3.
    pub fn name(self) -> &'static str {
        match self {
            LockMode::Governance => "GOVERNANCE",
            LockMode::Compliance => "COMPLIANCE",
        }
    }
}

impl FromStr for LockMode {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let modes = [LockMode::Governance, LockMode::Compliance];
        modes.into_iter().find(|mode| mode.name() == text).ok_or(())
    }
}

/// A version may not be removed or replaced for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// How firmly.
    pub mode: LockMode,
    /// Until when, in ms since 1970, by the daemon's clock.
    pub until_ms: u64,
}
crate::codec_struct!(Retention { mode, until_ms });

/// What keeps a version from being removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ObjectLock {
    /// A time.
    pub retention: Option<Retention>,
    /// A legal hold, without end; `None` if it was never set or taken off.
    pub hold: Option<bool>,
}
crate::codec_struct!(ObjectLock { retention, hold });

impl ObjectLock {
    /// Whether there never was any lock.
    pub fn is_none(&self) -> bool {
        *self == ObjectLock::default()
    }

    /// The retention, if its time is not over.
    pub fn retention_at(&self, now_ms: u64) -> Option<Retention> {
        self.retention.filter(|retention| retention.until_ms > now_ms)
    }

    /// Whether the version may not be removed or replaced. `bypass` is the leave to pass over
    /// governance.
    pub fn protects(&self, now_ms: u64, bypass: bool) -> bool {
        let retained = match self.retention_at(now_ms).map(|retention| retention.mode) {
            Some(LockMode::Compliance) => true,
            Some(LockMode::Governance) => !bypass,
            None => false,
        };
        retained || self.hold == Some(true)
    }
}

/// The retention of new objects that name none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefaultRetention {
    /// How firmly.
    pub mode: LockMode,
    /// For so many days, or years.
    pub count: u32,
    /// Whether `count` is years, of 365 days.
    pub years: bool,
}
crate::codec_struct!(DefaultRetention { mode, count, years });

/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;

impl DefaultRetention {
    /// The retention of an object that is made now.
    pub fn from_now(&self, now_ms: u64) -> Retention {
        let days = u64::from(self.count) * if self.years { 365 } else { 1 };
        let until_ms = now_ms.saturating_add(days.saturating_mul(DAY_MS));
        Retention { mode: self.mode, until_ms }
    }
}

/// What the shards must know of their bucket's settings. The bucket's record has the settings in force;
/// each shard keeps a copy, takes a newer one from whoever brings it, and goes by its copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectSettings {
    /// Counts the changes; the greater one is the newer one. 0: never changed.
    pub revision: u64,
    /// Whether old versions are kept.
    pub versioning: Versioning,
    /// Whether versions may be locked. Never taken back; versioning cannot be suspended then.
    pub lock: bool,
    /// The retention of new objects.
    pub retention: Option<DefaultRetention>,
}
crate::codec_versioned!(ObjectSettings, 1, 1 { revision, versioning, lock, retention });
