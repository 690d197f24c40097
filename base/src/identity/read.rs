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
    let own = format!(":{account}:policy/");
    let mut foreign = Vec::new();
    for arn in attached {
        if !arn.contains(&own) {
            foreign.push(arn);
            continue;
        }
        let name = arn.rsplit('/').next().unwrap_or_default();
        let policy: Option<ManagedPolicy> = stored_at(context, &policy_key(account, name))?;
        let policy = policy.ok_or_else(|| ClassError::Damaged("no such policy".into()))?;
        documents.push(policy.document);
    }
    Ok(Bundle { entity, documents, foreign })
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

/// Walks over a space by name and keeps what `wanted` makes of it, at most `max`.
fn walk<T>(
    context: &mut dyn ClassContext,
    prefix: &Bytes,
    after: String,
    max: u32,
    mut wanted: impl FnMut(&mut dyn ClassContext, &str, Bytes) -> Result<Option<T>, ClassError>,
) -> Result<(Vec<T>, Option<String>), ClassError> {
    let max = (max as usize).clamp(1, BATCH);
    let (mut found, mut last) = (Vec::new(), after);
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
                found.extend(wanted(context, &name, value)?);
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
    let (entities, next) =
        walk(context, &prefix, input.after.clone(), input.max, |context, name, value| {
            let entity: Entity = match of_group {
                false => stored(value)?,
                true => stored_at(context, &entity_key(account, Kind::User {}, name))?
                    .ok_or_else(|| ClassError::Damaged("a member that is not there".into()))?,
            };
            Ok(entity.path.starts_with(&input.path_prefix).then_some(entity))
        })?;
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
    let (policies, next) = walk(context, &prefix, input.after, input.max, |_, _, value| {
        let policy: ManagedPolicy = stored(value)?;
        let wanted = policy.path.starts_with(&input.path_prefix)
            && (policy.attachments > 0 || !input.attached);
        Ok(wanted.then_some(policy))
    })?;
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
