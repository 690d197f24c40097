//! Inputs and outputs of the methods of the key ring.

use super::super::records::{KmsKey, KmsVersion, WriteId};

/// The object in pool `s3.meta` that has the key ring.
pub const KMS_OBJECT: &str = "encryption.kms";

/// Most keys of the key ring.
pub const KMS_KEYS_MAX: u32 = 10_000;

/// Most versions of a key that have a secret.
pub const KMS_VERSIONS_MAX: usize = 256;

/// Fewest and most days between the wish to delete a key and its end, as at AWS.
pub const KMS_WAIT_DAYS: std::ops::RangeInclusive<u32> = 7..=30;

/// Why the key ring did nothing. What the caller does is said at each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KmsRefusal {
    /// There is no such key: look at the id.
    NoKey {},
    /// A key of that id is there: take it, or another id.
    Exists {},
    /// The key is disabled: enable it first.
    Disabled {},
    /// The key is to be deleted: take that back first.
    Leaving {},
    /// The key is not to be deleted, or not yet.
    Staying {},
    /// There are as many keys, or versions of this one, as there may be: make no more.
    Full {},
    /// Another version is wanted by now: read the key again.
    Overtaken {},
}
crate::codec_enum!(KmsRefusal {
    1 => NoKey {}, 2 => Exists {}, 3 => Disabled {}, 4 => Leaving {}, 5 => Staying {}, 6 => Full {},
    7 => Overtaken {},
});

/// Output of the methods that change a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KmsOutcome {
    /// Done; the key as it is now, or was at its end.
    Done {
        /// The key.
        key: KmsKey,
    },
    /// Nothing was done.
    Refused {
        /// Why.
        why: KmsRefusal,
    },
}
crate::codec_enum!(KmsOutcome { 1 => Done { key }, 2 => Refused { why } });

impl KmsOutcome {
    /// The key, or why nothing was done.
    pub fn into_result(self) -> Result<KmsKey, KmsRefusal> {
        match self {
            KmsOutcome::Done { key } => Ok(key),
            KmsOutcome::Refused { why } => Err(why),
        }
    }
}

/// What is to become of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KmsChange {
    /// It is made, enabled. Refused: `Exists`, `Full`.
    Create {
        /// What tells it from others of its id. Random.
        serial: WriteId,
        /// For people.
        description: String,
    },
    /// It may be used again. Refused: `NoKey`, `Leaving`.
    Enable {},
    /// It may not be used. Refused: `NoKey`, `Leaving`.
    Disable {},
    /// What is written from now on gets a new version. Refused: `NoKey`, `Disabled`, `Leaving`, `Full`.
    Rotate {},
    /// The wanted version has its secret. Refused: `NoKey`, `Disabled`, `Leaving`, `Overtaken`, `Full`. If
    /// somebody was faster, his secret stays and comes back.
    Supply {
        /// The version.
        version: KmsVersion,
    },
    /// It is to be destroyed in so many days, [`KMS_WAIT_DAYS`], and may not be used until then. Refused:
    /// `NoKey`, `Leaving`.
    Delete {
        /// How many.
        days: u32,
    },
    /// It stays, disabled. Refused: `NoKey`, `Staying`.
    Undelete {},
    /// It is destroyed, if its time has come by the daemon's clock. Refused: `NoKey`, `Staying`.
    Destroy {},
}
crate::codec_enum!(KmsChange {
    1 => Create { serial, description }, 2 => Enable {}, 3 => Disable {}, 4 => Rotate {}, 5 => Supply { version },
    6 => Delete { days }, 7 => Undelete {}, 8 => Destroy {},
});

/// `registry.kms_change`, on [`KMS_OBJECT`]. Output: [`KmsOutcome`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeKms {
    /// The id of the key.
    pub id: String,
    /// What is to become of it.
    pub change: KmsChange,
}
crate::codec_struct!(ChangeKms { id, change });

/// `registry.kms_key`, on [`KMS_OBJECT`]. Output: `Option<KmsKey>`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadKms {
    /// The id of the key.
    pub id: String,
}
crate::codec_struct!(ReadKms { id });

/// `registry.kms_keys`, on [`KMS_OBJECT`]: keys by id. Output: [`KmsPage`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListKms {
    /// Those behind this id.
    pub after: String,
}
crate::codec_struct!(ListKms { after });

/// Output of `registry.kms_keys`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KmsPage {
    /// Keys.
    pub keys: Vec<KmsKey>,
    /// Whether there are more behind them.
    pub more: bool,
}
crate::codec_struct!(KmsPage { keys, more });
