//! Inputs of the methods of the keys for encrypted bodies.

use super::super::records::SealedKey;

/// The object in pool `s3.meta` that has the keys.
pub const KEYS_OBJECT: &str = "encryption.keys";

/// Most keys. One a day lasts for more than ten years.
pub const KEYS_MAX: usize = 4096;

/// `registry.add_key`, on [`KEYS_OBJECT`]: adds a key if its version is the next. Output: `Vec<SealedKey>`, all
/// keys as they are then, by version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddKey {
    /// The key.
    pub key: SealedKey,
}
crate::codec_struct!(AddKey { key });

/// `registry.want_key`, on [`KEYS_OBJECT`]: asks for a new key, which the next gateway that looks makes. Output: the
/// version as u32. Asking again before it is made changes nothing. `registry.wanted_key`: that version, 0 if nobody asked.
pub type WantKey = super::Nothing;
