//! The byte form of everything that is stored or sent between our services.
//!
//! One encoding serves the disk, the wire and the simulator: little endian, fields in the order of
//! declaration, no padding.
//!
//! | type | bytes |
//! |---|---|
//! | u8 … u64, i32, i64 | fixed width, little endian |
//! | bool | one byte, 0 or 1; anything else is refused |
//! | bytes, string | u32 length, then the bytes; a string is UTF-8 |
//! | option | u8 0, or u8 1 and the value |
//! | vector, set, map | u32 count, then the items; a map's as key, value |
//! | enum | u8 tag, then the fields of the variant |
//! | versioned struct | u8 version, u8 compat, u32 length of the body, body (Ceph's form) |
//!
//! A decoder of a versioned struct refuses a `compat` newer than it knows and skips bytes behind the
//! fields that it knows: that is how a struct grows. What may never change: the meaning or width of a
//! field that was ever released; tags of enums are never reused.
//!
//! Large byte strings are not copied while encoding: a [`Writer`] keeps them by reference and hands out
//! a rope. A [`Reader`] slices its input without copying.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::collections::{BTreeMap, BTreeSet};

/// Why bytes could not be understood. The caller treats the message or record as damaged or hostile;
/// nothing of it is used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The input ended within a field.
    #[error("input ends {missing} bytes early in {what}")]
    Truncated {
        /// The type that was being read.
        what: &'static str,
        /// How many bytes are lacking.
        missing: usize,
    },
    /// A tag, flag or length that no version of this type has.
    #[error("invalid {what}: {value}")]
    Invalid {
        /// The type that was being read.
        what: &'static str,
        /// What stood there.
        value: u64,
    },
    /// Written by a newer program that says older ones may not read it.
    #[error(
        "{what} needs a reader of version {compat}, this one knows {known}; upgrade this program"
    )]
    TooNew {
        /// The type that was being read.
        what: &'static str,
        /// The lowest version of reader that may read it.
        compat: u8,
        /// The version of this reader.
        known: u8,
    },
    /// Bytes were left over where the value should have ended.
    #[error("{left} bytes left over behind {what}")]
    TrailingBytes {
        /// The type that was being read.
        what: &'static str,
        /// How many.
        left: usize,
    },
}

/// Writes a value's byte form.
pub trait Encode {
    /// Appends the byte form to `out`. Cannot fail: what can be built can be encoded.
    fn encode(&self, out: &mut Writer);

    /// The byte form as one piece.
    fn to_bytes(&self) -> Bytes {
        let mut out = Writer::new();
        self.encode(&mut out);
        out.into_bytes()
    }
}

/// Reads a value from its byte form.
pub trait Decode: Sized {
    /// Reads one value and leaves the input behind it.
    fn decode(input: &mut Reader) -> Result<Self, DecodeError>;

    /// Reads a value that must fill `bytes` exactly. Byte strings in it are slices of `bytes`.
    fn from_bytes(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut input = Reader::new(bytes);
        let value = Self::decode(&mut input)?;
        match input.remaining() {
            0 => Ok(value),
            left => Err(DecodeError::TrailingBytes { what: std::any::type_name::<Self>(), left }),
        }
    }
}

/// Byte strings of at least this length are kept by reference instead of copied.
pub const REFERENCE_BYTES_MIN: usize = 2048;

/// Collects an encoding as a rope: small fields are gathered, large byte strings stay as they are.
#[derive(Default)]
pub struct Writer {
    done: Vec<Bytes>,
    done_len: usize,
    open: BytesMut,
}

impl Writer {
    /// An empty writer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.done_len + self.open.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies bytes, without a length before them.
    pub fn put_slice(&mut self, bytes: &[u8]) {
        self.open.put_slice(bytes);
    }

    /// Appends bytes without a length; large ones by reference.
    pub fn put_bytes(&mut self, bytes: &Bytes) {
        if bytes.len() < REFERENCE_BYTES_MIN {
            self.open.put_slice(bytes);
            return;
        }
        self.seal();
        self.done_len += bytes.len();
        self.done.push(bytes.clone());
    }

    fn seal(&mut self) {
        if !self.open.is_empty() {
            self.done_len += self.open.len();
            // Given away as a whole: `versioned` may still write a length into it.
            self.done.push(std::mem::take(&mut self.open).freeze());
        }
    }

    /// Writes `body` as a versioned struct.
    pub fn versioned(&mut self, version: u8, compat: u8, body: impl FnOnce(&mut Writer)) {
        self.open.put_u8(version);
        self.open.put_u8(compat);
        let (piece, at) = (self.done.len(), self.open.len());
        self.open.put_u32_le(0);
        let before = self.len();
        body(self);
        let len = u32::try_from(self.len() - before).expect("a struct is below 4 GiB");
        let Some(sealed) = self.done.get_mut(piece) else {
            self.open[at..at + 4].copy_from_slice(&len.to_le_bytes());
            return;
        };
        // Something large came behind it: what was open then is the first piece since.
        let mut patched = match std::mem::take(sealed).try_into_mut() {
            Ok(own) => own,
            Err(shared) => BytesMut::from(shared),
        };
        patched[at..at + 4].copy_from_slice(&len.to_le_bytes());
        *sealed = patched.freeze();
    }

    /// The encoding as a list of pieces, for a vectored write.
    pub fn into_rope(mut self) -> Vec<Bytes> {
        self.seal();
        self.done
    }

    /// The encoding as one piece; copies unless there is only one.
    pub fn into_bytes(mut self) -> Bytes {
        if self.done.is_empty() {
            return self.open.freeze();
        }
        self.seal();
        if self.done.len() == 1 {
            return self.done.remove(0);
        }
        let mut whole = BytesMut::with_capacity(self.done_len);
        self.done.iter().for_each(|piece| whole.put_slice(piece));
        whole.freeze()
    }
}

/// Reads fields off the front of a byte string.
#[derive(Clone, Debug)]
pub struct Reader {
    input: Bytes,
    /// Bytes at the end of `input` that are behind the struct that is being read.
    behind: usize,
}

impl Reader {
    /// Reads from the start of `input`.
    pub fn new(input: Bytes) -> Self {
        Reader { input, behind: 0 }
    }

    /// Bytes not yet read.
    pub fn remaining(&self) -> usize {
        self.input.len() - self.behind
    }

    /// The next `len` bytes, as a slice of the input.
    pub fn take(&mut self, len: usize) -> Result<Bytes, DecodeError> {
        self.need(len, "bytes")?;
        Ok(self.input.split_to(len))
    }

    fn need(&self, len: usize, what: &'static str) -> Result<(), DecodeError> {
        match len.checked_sub(self.remaining()) {
            None | Some(0) => Ok(()),
            Some(missing) => Err(DecodeError::Truncated { what, missing }),
        }
    }

    /// Reads a versioned struct: `body` is given the version and a reader of just the body. Bytes that
    /// it leaves are from a newer writer and are skipped.
    pub fn versioned<T>(
        &mut self,
        what: &'static str,
        known: u8,
        body: impl FnOnce(u8, &mut Reader) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let version = u8::decode(self)?;
        let compat = u8::decode(self)?;
        let len = u32::decode(self)? as usize;
        if compat > known {
            return Err(DecodeError::TooNew { what, compat, known });
        }
        self.need(len, what)?;
        let behind = std::mem::replace(&mut self.behind, self.input.len() - len);
        let value = body(version, self);
        self.input.advance(self.remaining());
        self.behind = behind;
        value
    }

    /// A count of items, each of at least `item_bytes_min` bytes: a lie about the count is found before
    /// memory is set aside for it.
    pub fn count(
        &mut self,
        what: &'static str,
        item_bytes_min: usize,
    ) -> Result<usize, DecodeError> {
        let count = u32::decode(self)? as usize;
        self.need(count.saturating_mul(item_bytes_min.max(1)), what)?;
        Ok(count)
    }
}

macro_rules! number {
    ($($type:ty: $put:ident, $read:ident;)*) => {$(
        impl Encode for $type {
            fn encode(&self, out: &mut Writer) {
                out.open.$put(*self);
            }
        }
        impl Decode for $type {
            fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
                input.need(size_of::<$type>(), stringify!($type))?;
                Ok(input.input.$read())
            }
        }
    )*};
}

number! {
    u8: put_u8, get_u8;
    u16: put_u16_le, get_u16_le;
    u32: put_u32_le, get_u32_le;
    u64: put_u64_le, get_u64_le;
    i32: put_i32_le, get_i32_le;
    i64: put_i64_le, get_i64_le;
}

impl Encode for bool {
    fn encode(&self, out: &mut Writer) {
        u8::from(*self).encode(out);
    }
}

impl Decode for bool {
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        match u8::decode(input)? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(DecodeError::Invalid { what: "bool", value: value.into() }),
        }
    }
}

impl Encode for Bytes {
    fn encode(&self, out: &mut Writer) {
        u32::try_from(self.len()).expect("a byte string is below 4 GiB").encode(out);
        out.put_bytes(self);
    }
}

impl Decode for Bytes {
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let len = u32::decode(input)? as usize;
        input.take(len)
    }
}

impl Encode for String {
    fn encode(&self, out: &mut Writer) {
        u32::try_from(self.len()).expect("a string is below 4 GiB").encode(out);
        out.put_slice(self.as_bytes());
    }
}

impl Decode for String {
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let len = u32::decode(input)? as usize;
        input.need(len, "string")?;
        let text = std::str::from_utf8(&input.input[..len]).map(str::to_owned);
        input.input.advance(len);
        text.map_err(|e| DecodeError::Invalid {
            what: "UTF-8 string, at byte",
            value: e.valid_up_to() as u64,
        })
    }
}

impl<T: Encode> Encode for Option<T> {
    fn encode(&self, out: &mut Writer) {
        self.is_some().encode(out);
        if let Some(value) = self {
            value.encode(out);
        }
    }
}

impl<T: Decode> Decode for Option<T> {
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        bool::decode(input)?.then(|| T::decode(input)).transpose()
    }
}

impl<T: Encode> Encode for Box<T> {
    fn encode(&self, out: &mut Writer) {
        (**self).encode(out);
    }
}

impl<T: Decode> Decode for Box<T> {
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Box::new(T::decode(input)?))
    }
}

impl<A: Encode, B: Encode> Encode for (A, B) {
    fn encode(&self, out: &mut Writer) {
        self.0.encode(out);
        self.1.encode(out);
    }
}

impl<A: Decode, B: Decode> Decode for (A, B) {
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok((A::decode(input)?, B::decode(input)?))
    }
}

fn encode_count(len: usize, out: &mut Writer) {
    u32::try_from(len).expect("a collection has below 2^32 items").encode(out);
}

impl<T: Encode> Encode for Vec<T> {
    fn encode(&self, out: &mut Writer) {
        encode_count(self.len(), out);
        self.iter().for_each(|item| item.encode(out));
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let count = input.count("vector", 1)?;
        (0..count).map(|_| T::decode(input)).collect()
    }
}

impl<T: Encode> Encode for BTreeSet<T> {
    fn encode(&self, out: &mut Writer) {
        encode_count(self.len(), out);
        self.iter().for_each(|item| item.encode(out));
    }
}

impl<T: Decode + Ord> Decode for BTreeSet<T> {
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let count = input.count("set", 1)?;
        (0..count).map(|_| T::decode(input)).collect()
    }
}

impl<K: Encode, V: Encode> Encode for BTreeMap<K, V> {
    fn encode(&self, out: &mut Writer) {
        encode_count(self.len(), out);
        self.iter().for_each(|(key, value)| {
            key.encode(out);
            value.encode(out);
        });
    }
}

impl<K: Decode + Ord, V: Decode> Decode for BTreeMap<K, V> {
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let count = input.count("map", 1)?;
        (0..count).map(|_| Ok((K::decode(input)?, V::decode(input)?))).collect()
    }
}

/// Gives a struct the plain form: its fields in this order.
#[macro_export]
macro_rules! codec_struct {
    ($name:ident { $($field:ident),* $(,)? }) => {
        impl $crate::codec::Encode for $name {
            fn encode(&self, out: &mut $crate::codec::Writer) {
                let _ = &out; // A struct may have no fields.
                $($crate::codec::Encode::encode(&self.$field, out);)*
            }
        }
        impl $crate::codec::Decode for $name {
            fn decode(
                input: &mut $crate::codec::Reader,
            ) -> Result<Self, $crate::codec::DecodeError> {
                let _ = &input;
                $(let $field = $crate::codec::Decode::decode(input)?;)*
                Ok($name { $($field),* })
            }
        }
    };
}

/// Gives a struct the versioned form: `codec_versioned!(Name, version, compat { fields })`. A field that
/// came later is written as `field since 2` and takes its default from an older writer. Where it depends on the
/// value who may read it, `by method` stands for the compat: the method gives it.
#[macro_export]
macro_rules! codec_versioned {
    ($name:ident, $version:literal, $compat:literal { $($fields:tt)* }) => {
        $crate::codec_versioned!(@both $name, $version, |_| $compat, { $($fields)* });
    };
    ($name:ident, $version:literal, by $compat:ident { $($fields:tt)* }) => {
        $crate::codec_versioned!(@both $name, $version, $name::$compat, { $($fields)* });
    };
    (@both $name:ident, $version:literal, $compat:expr, {
        $($field:ident $(since $since:literal)?),* $(,)?
    }) => {
        impl $crate::codec::Encode for $name {
            fn encode(&self, out: &mut $crate::codec::Writer) {
                let compat: fn(&$name) -> u8 = $compat;
                out.versioned($version, compat(self), |out| {
                    $($crate::codec::Encode::encode(&self.$field, out);)*
                });
            }
        }
        impl $crate::codec::Decode for $name {
            fn decode(
                input: &mut $crate::codec::Reader,
            ) -> Result<Self, $crate::codec::DecodeError> {
                input.versioned(stringify!($name), $version, |version, input| {
                    let _ = version;
                    $(
                        #[allow(unused_mut, unused_assignments)]
                        let mut since = 0u8;
                        $(since = $since;)?
                        let $field = if version >= since {
                            $crate::codec::Decode::decode(input)?
                        } else {
                            Default::default()
                        };
                    )*
                    Ok($name { $($field),* })
                })
            }
        }
    };
}

/// Gives an enum a u8 tag per variant: `codec_enum!(Name { 1 => Variant { a, b }, 2 => Unit {} })`.
/// Every variant is written with braces, also one without fields.
#[macro_export]
macro_rules! codec_enum {
    ($name:ident { $($tag:literal => $variant:ident { $($field:ident),* $(,)? }),* $(,)? }) => {
        impl $crate::codec::Encode for $name {
            fn encode(&self, out: &mut $crate::codec::Writer) {
                match self {
                    $($name::$variant { $($field),* } => {
                        $crate::codec::Encode::encode(&($tag as u8), out);
                        $($crate::codec::Encode::encode($field, out);)*
                    })*
                }
            }
        }
        impl $crate::codec::Decode for $name {
            fn decode(
                input: &mut $crate::codec::Reader,
            ) -> Result<Self, $crate::codec::DecodeError> {
                match <u8 as $crate::codec::Decode>::decode(input)? {
                    $($tag => Ok($name::$variant {
                        $($field: $crate::codec::Decode::decode(input)?),*
                    }),)*
                    tag => Err($crate::codec::DecodeError::Invalid {
                        what: concat!("tag of ", stringify!($name)),
                        value: tag.into(),
                    }),
                }
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, Default, PartialEq)]
    struct Old {
        a: u32,
    }
    codec_versioned!(Old, 1, 1 { a });

    #[derive(Clone, Debug, Default, PartialEq)]
    struct New {
        a: u32,
        b: Vec<String>,
    }
    codec_versioned!(New, 2, 1 { a, b since 2 });

    #[test]
    fn older_and_newer_read_each_other() {
        let new = New { a: 7, b: vec!["x".into()] };
        assert_eq!(Old::from_bytes(new.to_bytes()), Ok(Old { a: 7 }));
        assert_eq!(New::from_bytes(Old { a: 7 }.to_bytes()), Ok(New { a: 7, b: vec![] }));
        assert_eq!(new.to_bytes()[..], *b"\x02\x01\x0d\0\0\0\x07\0\0\0\x01\0\0\0\x01\0\0\0x");
    }

    #[test]
    fn every_truncation_is_an_error() {
        let whole = New { a: 7, b: vec!["x".into(), "yz".into()] }.to_bytes();
        for len in 0..whole.len() {
            assert!(New::from_bytes(whole.slice(..len)).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn large_strings_are_not_copied() {
        let data = Bytes::from(vec![7; 10_000]);
        let mut out = Writer::new();
        data.encode(&mut out);
        1u8.encode(&mut out);
        let rope = out.into_rope();
        assert_eq!(rope.iter().map(Bytes::len).collect::<Vec<_>>(), [4, 10_000, 1]);
        assert_eq!(rope[1].as_ptr(), data.as_ptr());
    }

    #[derive(Clone, Debug, Default, PartialEq)]
    struct Inner {
        before: u8,
        data: Bytes,
        after: String,
    }
    codec_versioned!(Inner, 1, 1 { before, data, after });

    #[derive(Clone, Debug, Default, PartialEq)]
    struct Outer {
        a: Inner,
        b: Vec<Inner>,
        c: u64,
    }
    codec_versioned!(Outer, 1, 1 { a, b, c });

    #[test]
    fn structs_within_structs_have_their_lengths_whatever_is_kept_by_reference() {
        let inner = |len: usize| Inner {
            before: 1,
            data: vec![len as u8; len].into(),
            after: "behind".into(),
        };
        for large in [0, 5, REFERENCE_BYTES_MIN - 1, REFERENCE_BYTES_MIN, 9999] {
            let outer = Outer { a: inner(large), b: vec![inner(3), inner(large)], c: u64::MAX };
            let mut out = Writer::new();
            0u32.encode(&mut out);
            outer.encode(&mut out);
            7u8.encode(&mut out);
            let len = out.len();
            let whole = Bytes::from(out.into_rope().concat());
            assert_eq!(whole.len(), len);
            // Head, then: a u8, two strings with their lengths.
            let inner_bytes = |large: usize| 6 + 1 + 4 + large + 4 + 6;
            let body = inner_bytes(large) * 2 + 4 + inner_bytes(3) + 8;
            assert_eq!(whole[6..10], (body as u32).to_le_bytes());
            assert_eq!(whole[12..16], (inner_bytes(large) as u32 - 6).to_le_bytes());
            let mut input = Reader::new(whole);
            assert_eq!(u32::decode(&mut input), Ok(0));
            assert_eq!(Outer::decode(&mut input), Ok(outer));
            assert_eq!((input.remaining(), u8::decode(&mut input)), (1, Ok(7)));
        }
    }

    #[test]
    fn a_struct_reads_nothing_behind_itself() {
        // The vector within says that it has two bytes more than the struct has.
        let mut out = Writer::new();
        out.versioned(1, 1, |out| {
            1u8.encode(out);
            6u32.encode(out);
            out.put_slice(b"four");
        });
        out.put_slice(b"behind");
        let mut input = Reader::new(out.into_bytes());
        assert_eq!(
            Inner::decode(&mut input),
            Err(DecodeError::Truncated { what: "bytes", missing: 2 })
        );
        assert_eq!(input.remaining(), 6);
    }

    #[test]
    fn a_lie_about_a_count_sets_no_memory_aside() {
        let lie = Bytes::from_static(b"\xff\xff\xff\xff");
        assert!(Vec::<u64>::from_bytes(lie).is_err());
    }
}
