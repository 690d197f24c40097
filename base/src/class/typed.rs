//! Methods whose input, output and records are types with a byte form.

use super::{ClassContext, ClassError};
use crate::codec::{Decode, Encode};
use bytes::Bytes;

/// The table of a class: `methods! { CLASS; "name" Write path::code, … }`.
macro_rules! methods {
    ($class:expr; $($name:literal $kind:ident $code:path,)*) => {
        [$($crate::class::Method {
            class: $class,
            name: $name,
            kind: $crate::class::MethodKind::$kind,
            code: |context, input| $crate::class::run(context, input, $code),
        }),*]
    };
}
pub(crate) use methods;

/// Runs a method on its input.
pub(crate) fn run<I: Decode, O: Encode>(
    context: &mut dyn ClassContext,
    input: Bytes,
    code: fn(&mut dyn ClassContext, I) -> Result<O, ClassError>,
) -> Result<Bytes, ClassError> {
    let input = I::from_bytes(input).map_err(|e| ClassError::Invalid(e.to_string()))?;
    Ok(code(context, input)?.to_bytes())
}

/// A record from its bytes.
pub(crate) fn stored<T: Decode>(value: Bytes) -> Result<T, ClassError> {
    T::from_bytes(value).map_err(|e| ClassError::Damaged(e.to_string()))
}

/// The record under an omap key.
pub(crate) fn stored_at<T: Decode>(
    context: &mut dyn ClassContext,
    key: &[u8],
) -> Result<Option<T>, ClassError> {
    context.omap_value(key)?.map(stored).transpose()
}
