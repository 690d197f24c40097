//! The methods that only read.

use super::*;
use std::collections::BTreeSet;

pub(super) fn entity(
    context: &mut dyn ClassContext,
    input: Named,
) -> Result<Option<Entity>, ClassError> {
    stored_at(context, &entity_key(&input.account, input.kind, &input.name))
}

pub(super) fn bundle(
    context: &mut dyn ClassContext,
    input: Named,
) -> Result<Option<Bundle>, ClassError> {
    let entity = entity(context, input.clone())?;
    entity.map(|entity| bundled(context, &input.account, entity)).transpose()
}

pub(super) fn key(
    context: &mut dyn ClassContext,
    input: AskKey,
) -> Result<Option<Holder>, ClassError> {
    let Some(owner) = stored_at::<KeyOwner>(context, &key_in(b'k', &[&input.access_key]))? else {
        return Ok(None);
    };
    let entity = stored_at(context, &entity_key(&owner.account, Kind::User {}, &owner.user))?;
    let entity = entity.ok_or_else(|| ClassError::Damaged("a key of nobody".into()))?;
    let bundle = bundled(context, &owner.account, entity)?;
    Ok(Some(Holder { account: owner.account, bundle }))
}

/// Adds the policies of an entity.
fn bundled(
    context: &mut dyn ClassContext,
    account: &str,
    entity: Entity,
) -> Result<Bundle, ClassError> {
    let mut documents: Vec<String> = entity.inline.values().cloned().collect();
    let mut attached: BTreeSet<String> = entity.attached.clone();
    for group in &entity.groups {
        let group: Option<Entity> =
            stored_at(context, &entity_key(account, Kind::Group {}, group))?;
        let group = group.ok_or_else(|| ClassError::Damaged("a user of no group".into()))?;
        documents.extend(group.inline.into_values());
        attached.extend(group.attached);
    }
    let mut foreign = Vec::new();
    for arn in attached {
        match own_policy(account, &arn) {
            Some(name) => documents.push(document(context, account, name)?),
            None => foreign.push(arn),
        }
    }
    Ok(Bundle { entity, documents, foreign })
}

/// The document of a managed policy that something is attached to.
fn document(
    context: &mut dyn ClassContext,
    account: &str,
    name: &str,
) -> Result<String, ClassError> {
    let policy: Option<ManagedPolicy> = stored_at(context, &policy_key(account, name))?;
    Ok(policy.ok_or_else(|| ClassError::Damaged("no such policy".into()))?.document)
}

/// What an entity's policies add to the bundle of whoever has them.
pub(super) fn policy_bytes(
    context: &mut dyn ClassContext,
    account: &str,
    entity: &Entity,
) -> Result<usize, ClassError> {
    let mut bytes: usize = entity.inline.iter().map(|(name, text)| name.len() + text.len()).sum();
    for arn in &entity.attached {
        bytes += arn.len();
        if let Some(name) = own_policy(account, arn) {
            bytes += document(context, account, name)?.len();
        }
    }
    Ok(bytes)
}

/// Pairs of a listing, from behind a name; one more than `max` where there are more.
fn pairs(
    context: &mut dyn ClassContext,
    prefix: &Bytes,
    after: &str,
) -> Result<Vec<(Bytes, Bytes)>, ClassError> {
    let from = [&prefix[..], lower(after).as_bytes(), &[0]].concat();
    context.omap_range(&from, &behind(prefix), BATCH)
}

/// Walks over a space by name and keeps what `wanted` wants of the records that `record` reads, at most `max`, and
/// not more than a reply takes.
fn walk<T: Decode>(
    context: &mut dyn ClassContext,
    prefix: &Bytes,
    after: String,
    max: u32,
    mut record: impl FnMut(&mut dyn ClassContext, &str, Bytes) -> Result<Bytes, ClassError>,
    wanted: impl Fn(&T) -> bool,
) -> Result<(Vec<T>, Option<String>), ClassError> {
    let max = (max as usize).clamp(1, BATCH);
    let (mut found, mut last, mut reply) = (Vec::new(), after, Reply::default());
    loop {
        let read = pairs(context, prefix, &last)?;
        let ended = read.len() < BATCH;
        for (key, value) in read {
            if found.len() == max {
                return Ok((found, Some(last)));
            }
            let name = std::str::from_utf8(&key[prefix.len()..])
                .map_err(|_| ClassError::Damaged("a name is no text".into()))?
                .to_owned();
            // What is kept of the root user is no user of the account.
            if !name.is_empty() {
                let value = record(context, &name, value)?;
                let bytes = value.len();
                let one = stored(value)?;
                if wanted(&one) {
                    if !reply.takes(bytes) {
                        return Ok((found, Some(last)));
                    }
                    found.push(one);
                }
            }
            last = name;
        }
        if ended {
            return Ok((found, None));
        }
    }
}

pub(super) fn list(
    context: &mut dyn ClassContext,
    input: ListEntities,
) -> Result<EntityPage, ClassError> {
    let account = &input.account;
    let of_group = !input.group.is_empty();
    let prefix = match of_group {
        true => key_in(b'm', &[account, &lower(&input.group), ""]),
        false => key_in(space(input.kind), &[account, ""]),
    };
    let record = |context: &mut dyn ClassContext, name: &str, value| match of_group {
        false => Ok(value),
        true => context
            .omap_value(&entity_key(account, Kind::User {}, name))?
            .ok_or_else(|| ClassError::Damaged("a member that is not there".into())),
    };
    let wanted = |entity: &Entity| entity.path.starts_with(&input.path_prefix);
    let (entities, next) = walk(context, &prefix, input.after.clone(), input.max, record, wanted)?;
    Ok(EntityPage { entities, next })
}

pub(super) fn policy(
    context: &mut dyn ClassContext,
    input: AskPolicy,
) -> Result<Option<ManagedPolicy>, ClassError> {
    stored_at(context, &policy_key(&input.account, &input.name))
}

pub(super) fn policies(
    context: &mut dyn ClassContext,
    input: ListPolicies,
) -> Result<PolicyPage, ClassError> {
    let prefix = key_in(b'p', &[&input.account, ""]);
    let wanted = |policy: &ManagedPolicy| {
        policy.path.starts_with(&input.path_prefix) && (policy.attachments > 0 || !input.attached)
    };
    let record = |_: &mut dyn ClassContext, _: &str, value| Ok(value);
    let (policies, next) = walk(context, &prefix, input.after.clone(), input.max, record, wanted)?;
    Ok(PolicyPage { policies, next })
}

pub(super) fn counts(
    context: &mut dyn ClassContext,
    input: CountAccount,
) -> Result<Counts, ClassError> {
    let mut of = |space| count(context, &key_in(space, &[&input.account, ""]), ENTITIES_MAX);
    let (users, groups, roles, policies) = (of(b'u')?, of(b'g')?, of(b'r')?, of(b'p')?);
    let root = context.omap_value(&entity_key(&input.account, Kind::User {}, ""))?.is_some();
    Ok(Counts { users: users - u32::from(root), groups, roles, policies })
}

/// How many there are in a space of the account; it stops counting at `max`.
pub(super) fn count(
    context: &mut dyn ClassContext,
    prefix: &Bytes,
    max: u32,
) -> Result<u32, ClassError> {
    let (mut from, until, mut counted) = (prefix.to_vec(), behind(prefix), 0);
    while counted < max {
        let pairs = context.omap_range(&from, &until, BATCH)?;
        counted += pairs.len() as u32;
        match pairs.last() {
            Some((last, _)) if pairs.len() == BATCH => from = [&last[..], &[0]].concat(),
            _ => break,
        }
    }
    Ok(counted)
}
