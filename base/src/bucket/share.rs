//! `set_acl`: who else may use an object, changed without touching its body.

use super::index::{allowed, head_for};
use super::versions::{detail, detail_key, find};
use super::*;

pub(super) fn set_acl(
    context: &mut dyn ClassContext,
    input: SetAcl,
) -> Result<Answer<Nothing>, ClassError> {
    let head = allowed!(head_for(context, &input.key)?);
    let Some(located) = find(context, &head, &input.key, input.version)? else {
        return Ok(Answer(Err(Refusal::NoKey {})));
    };
    if located.entry != input.seen {
        return Ok(Answer(Err(Refusal::Precondition {})));
    }
    let changed = Detail { acl: Some(input.acl), ..detail(context, &input.key, &located.entry)? };
    context.set_omap(detail_key(&input.key, located.entry.sequence), changed.to_bytes());
    Ok(Answer(Ok(Nothing {})))
}
