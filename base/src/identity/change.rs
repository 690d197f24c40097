//! The changes of an account. Each looks at all that it depends on before it changes the first thing.

use super::read::{count, policy_bytes};
use super::*;

type Done<T> = Result<Result<T, Refusal>, ClassError>;

/// Ends with a refusal, or goes on with what is there.
macro_rules! there {
    ($done:expr) => {
        match $done? {
            Ok(value) => value,
            Err(refusal) => return Ok(Err(refusal)),
        }
    };
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::User {} => "user",
        Kind::Group {} => "group",
        Kind::Role {} => "role",
    }
}

fn absent<T>(what: &str, name: &str) -> Done<T> {
    Ok(Err(Refusal::Absent { what: format!("The {what} with name {name} cannot be found.") }))
}

fn present<T>(what: &str, name: &str) -> Done<T> {
    Ok(Err(Refusal::Present { what: format!("The {what} with name {name} already exists.") }))
}

fn in_use<T>(what: &str) -> Done<T> {
    Ok(Err(Refusal::InUse { what: what.to_owned() }))
}

fn limit<T>(what: String) -> Done<T> {
    Ok(Err(Refusal::Limit { what }))
}

pub(super) fn change(
    context: &mut dyn ClassContext,
    input: ChangeAccount,
) -> Result<Outcome, ClassError> {
    let at = input.account.as_str();
    let done = match input.change {
        Change::Create { kind, entity } => create(context, at, kind, entity),
        Change::Update { kind, name, new_name, new_path, trust, description, session_secs_max } => {
            let apply = |entity: &mut Entity| {
                set(&mut entity.path, new_path);
                set(&mut entity.trust, trust);
                set(&mut entity.description, description);
                set(&mut entity.session_secs_max, session_secs_max);
            };
            update(context, at, kind, &name, new_name, apply)
        }
        Change::Delete { kind, name } => delete(context, at, kind, &name),
        Change::PutInline { kind, name, policy, document } => {
            put_inline(context, at, kind, &name, policy, document)
        }
        Change::DeleteInline { kind, name, policy } => {
            delete_inline(context, at, kind, &name, &policy)
        }
        Change::Attach { kind, name, arn, policy } => {
            attach(context, at, kind, &name, arn, policy.as_deref())
        }
        Change::Detach { kind, name, arn, policy } => {
            detach(context, at, kind, &name, &arn, policy.as_deref())
        }
        Change::AddKey { user, access_key, key } => add_key(context, at, &user, access_key, key),
        Change::SwitchKey { user, access_key, active } => {
            with_key(context, at, &user, &access_key, |entity| {
                if let Some(key) = entity.keys.get_mut(&access_key) {
                    key.active = active;
                }
            })
        }
        Change::DeleteKey { user, access_key } => {
            let done = with_key(context, at, &user, &access_key, |entity| {
                entity.keys.remove(&access_key);
            });
            if matches!(done, Ok(Ok(()))) {
                context.remove_omap(&key_in(b'k', &[&access_key]));
            }
            done
        }
        Change::Join { group, user } => join(context, at, &group, &user),
        Change::Leave { group, user } => leave(context, at, &group, &user),
        Change::CreatePolicy { policy } => create_policy(context, at, policy),
        Change::DeletePolicy { name } => delete_policy(context, at, &name),
    };
    Ok(Outcome(done?))
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn find(context: &mut dyn ClassContext, at: &str, kind: Kind, name: &str) -> Done<Entity> {
    match stored_at(context, &entity_key(at, kind, name))? {
        Some(entity) => Ok(Ok(entity)),
        None if name.is_empty() && kind == (Kind::User {}) => Ok(Ok(Entity::default())),
        None => absent(word(kind), name),
    }
}

fn keep(context: &mut dyn ClassContext, at: &str, kind: Kind, entity: &Entity) {
    context.create();
    context.set_omap(entity_key(at, kind, &entity.name), entity.to_bytes());
}

fn create(context: &mut dyn ClassContext, at: &str, kind: Kind, entity: Entity) -> Done<()> {
    if entity.name.is_empty() {
        return Err(ClassError::Invalid("an entity without a name".into()));
    }
    let Entity { inline, attached, keys, groups, .. } = &entity;
    if !(inline.is_empty() && attached.is_empty() && keys.is_empty() && groups.is_empty()) {
        return Err(ClassError::Invalid(
            "an entity begins without policies, keys and groups".into(),
        ));
    }
    if context.omap_value(&entity_key(at, kind, &entity.name))?.is_some() {
        return present(word(kind), &entity.name);
    }
    if count(context, &key_in(space(kind), &[at, ""]), ENTITIES_MAX)? >= ENTITIES_MAX {
        return limit(format!("An account has at most {ENTITIES_MAX} {}s.", word(kind)));
    }
    keep(context, at, kind, &entity);
    Ok(Ok(()))
}

fn update(
    context: &mut dyn ClassContext,
    at: &str,
    kind: Kind,
    name: &str,
    new_name: Option<String>,
    apply: impl FnOnce(&mut Entity),
) -> Done<()> {
    if name.is_empty() || new_name.as_ref().is_some_and(String::is_empty) {
        return Err(ClassError::Invalid("an entity without a name".into()));
    }
    let mut entity = there!(find(context, at, kind, name));
    apply(&mut entity);
    let old_name = entity.name.clone();
    if let Some(new_name) = new_name.filter(|new_name| *new_name != old_name) {
        if lower(&new_name) != lower(&old_name)
            && context.omap_value(&entity_key(at, kind, &new_name))?.is_some()
        {
            return present(word(kind), &new_name);
        }
        there!(rename(context, at, kind, &entity, &new_name));
        entity.name = new_name;
    }
    keep(context, at, kind, &entity);
    Ok(Ok(()))
}

/// Moves all that names an entity. A group of more members than one change can move keeps its name.
fn rename(
    context: &mut dyn ClassContext,
    at: &str,
    kind: Kind,
    entity: &Entity,
    new_name: &str,
) -> Done<()> {
    const MEMBERS_MAX: usize = 1000;
    let (old, new) = (lower(&entity.name), lower(new_name));
    match kind {
        Kind::User {} => {
            for access_key in entity.keys.keys() {
                let owner = KeyOwner { account: at.to_owned(), user: new.clone() };
                context.set_omap(key_in(b'k', &[access_key]), owner.to_bytes());
            }
            for group in &entity.groups {
                context.remove_omap(&key_in(b'm', &[at, group, &old]));
                context.set_omap(key_in(b'm', &[at, group, &new]), Bytes::new());
            }
        }
        Kind::Group {} => {
            let prefix = key_in(b'm', &[at, &old, ""]);
            let members = context.omap_range(&prefix, &behind(&prefix), MEMBERS_MAX + 1)?;
            if members.len() > MEMBERS_MAX {
                return limit(format!("A group of more than {MEMBERS_MAX} keeps its name."));
            }
            // A refusal must find nothing written.
            let mut users = Vec::with_capacity(members.len());
            for (key, _) in members {
                let user = String::from_utf8_lossy(&key[prefix.len()..]).into_owned();
                let member = there!(find(context, at, Kind::User {}, &user));
                users.push((key, user, member));
            }
            for (key, user, mut member) in users {
                member.groups.remove(&old);
                member.groups.insert(new.clone());
                keep(context, at, Kind::User {}, &member);
                context.remove_omap(&key);
                context.set_omap(key_in(b'm', &[at, &new, &user]), Bytes::new());
            }
        }
        Kind::Role {} => {}
    }
    context.remove_omap(&entity_key(at, kind, &entity.name));
    Ok(Ok(()))
}

fn delete(context: &mut dyn ClassContext, at: &str, kind: Kind, name: &str) -> Done<()> {
    if name.is_empty() {
        return absent(word(kind), name);
    }
    let entity = there!(find(context, at, kind, name));
    if !entity.keys.is_empty() {
        return in_use("Cannot delete entity, must delete access keys first.");
    }
    if !entity.inline.is_empty() {
        return in_use("Cannot delete entity, must delete policies first.");
    }
    if !entity.attached.is_empty() {
        return in_use("Cannot delete entity, must detach all policies first.");
    }
    let members = key_in(b'm', &[at, &lower(name), ""]);
    if kind == (Kind::Group {}) && count(context, &members, 1)? > 0 {
        return in_use("Cannot delete entity, must remove users from group first.");
    }
    for group in &entity.groups {
        context.remove_omap(&key_in(b'm', &[at, group, &lower(name)]));
    }
    context.remove_omap(&entity_key(at, kind, name));
    Ok(Ok(()))
}

fn put_inline(
    context: &mut dyn ClassContext,
    at: &str,
    kind: Kind,
    name: &str,
    policy: String,
    document: String,
) -> Done<()> {
    let mut entity = there!(find(context, at, kind, name));
    entity.inline.insert(policy, document);
    let bytes: usize = entity.inline.values().map(String::len).sum();
    if bytes > INLINE_BYTES_MAX {
        return limit(format!(
            "Maximum policy size of {INLINE_BYTES_MAX} bytes exceeded for {} {name}.",
            word(kind)
        ));
    }
    there!(check_policies(context, at, kind, &entity));
    keep(context, at, kind, &entity);
    Ok(Ok(()))
}

/// Refuses policies of an entity that are too long together.
fn check_policies(
    context: &mut dyn ClassContext,
    at: &str,
    kind: Kind,
    entity: &Entity,
) -> Done<()> {
    match policy_bytes(context, at, entity)? > POLICIES_BYTES_MAX {
        true => limit(format!(
            "All policies of a {} together have at most {POLICIES_BYTES_MAX} bytes.",
            word(kind)
        )),
        false => Ok(Ok(())),
    }
}

fn delete_inline(
    context: &mut dyn ClassContext,
    at: &str,
    kind: Kind,
    name: &str,
    policy: &str,
) -> Done<()> {
    let mut entity = there!(find(context, at, kind, name));
    if entity.inline.remove(policy).is_none() {
        return absent(&format!("{} policy", word(kind)), policy);
    }
    keep(context, at, kind, &entity);
    Ok(Ok(()))
}

fn managed(context: &mut dyn ClassContext, at: &str, name: &str) -> Done<ManagedPolicy> {
    match stored_at(context, &policy_key(at, name))? {
        Some(policy) => Ok(Ok(policy)),
        None => absent("policy", name),
    }
}

fn attach(
    context: &mut dyn ClassContext,
    at: &str,
    kind: Kind,
    name: &str,
    arn: String,
    policy: Option<&str>,
) -> Done<()> {
    let mut entity = there!(find(context, at, kind, name));
    let policy = match policy {
        Some(policy) => Some(there!(managed(context, at, policy))),
        None => None,
    };
    if !entity.attached.insert(arn) {
        return Ok(Ok(()));
    }
    if entity.attached.len() > ATTACHED_MAX {
        return limit(format!("At most {ATTACHED_MAX} policies can be attached."));
    }
    there!(check_policies(context, at, kind, &entity));
    if let Some(mut policy) = policy {
        policy.attachments = policy.attachments.saturating_add(1);
        context.set_omap(policy_key(at, &policy.name), policy.to_bytes());
    }
    keep(context, at, kind, &entity);
    Ok(Ok(()))
}

fn detach(
    context: &mut dyn ClassContext,
    at: &str,
    kind: Kind,
    name: &str,
    arn: &str,
    policy: Option<&str>,
) -> Done<()> {
    let mut entity = there!(find(context, at, kind, name));
    if !entity.attached.remove(arn) {
        return absent("attached policy", arn);
    }
    if let Some(policy) = policy {
        let mut policy = there!(managed(context, at, policy));
        policy.attachments = policy.attachments.saturating_sub(1);
        context.set_omap(policy_key(at, &policy.name), policy.to_bytes());
    }
    keep(context, at, kind, &entity);
    Ok(Ok(()))
}

fn add_key(
    context: &mut dyn ClassContext,
    at: &str,
    user: &str,
    access_key: String,
    key: Key,
) -> Done<()> {
    let mut entity = there!(find(context, at, Kind::User {}, user));
    let index = key_in(b'k', &[&access_key]);
    if context.omap_value(&index)?.is_some() {
        return present("access key", &access_key);
    }
    if entity.keys.len() >= KEYS_MAX {
        return limit(format!("Cannot exceed quota for AccessKeysPerUser: {KEYS_MAX}"));
    }
    entity.keys.insert(access_key, key);
    keep(context, at, Kind::User {}, &entity);
    let owner = KeyOwner { account: at.to_owned(), user: lower(&entity.name) };
    context.set_omap(index, owner.to_bytes());
    Ok(Ok(()))
}

fn with_key(
    context: &mut dyn ClassContext,
    at: &str,
    user: &str,
    access_key: &str,
    apply: impl FnOnce(&mut Entity),
) -> Done<()> {
    let mut entity = there!(find(context, at, Kind::User {}, user));
    if !entity.keys.contains_key(access_key) {
        return absent("access key", access_key);
    }
    apply(&mut entity);
    keep(context, at, Kind::User {}, &entity);
    Ok(Ok(()))
}

fn join(context: &mut dyn ClassContext, at: &str, group: &str, user: &str) -> Done<()> {
    there!(find(context, at, Kind::Group {}, group));
    let mut entity = there!(find(context, at, Kind::User {}, user));
    if entity.name.is_empty() {
        return absent("user", user);
    }
    entity.groups.insert(lower(group));
    if entity.groups.len() > GROUPS_MAX {
        return limit(format!("Cannot exceed quota for GroupsPerUser: {GROUPS_MAX}"));
    }
    keep(context, at, Kind::User {}, &entity);
    context.set_omap(key_in(b'm', &[at, &lower(group), &lower(user)]), Bytes::new());
    Ok(Ok(()))
}

fn leave(context: &mut dyn ClassContext, at: &str, group: &str, user: &str) -> Done<()> {
    there!(find(context, at, Kind::Group {}, group));
    let mut entity = there!(find(context, at, Kind::User {}, user));
    if !entity.groups.remove(&lower(group)) {
        return absent("user in the group", user);
    }
    keep(context, at, Kind::User {}, &entity);
    context.remove_omap(&key_in(b'm', &[at, &lower(group), &lower(user)]));
    Ok(Ok(()))
}

fn create_policy(context: &mut dyn ClassContext, at: &str, policy: ManagedPolicy) -> Done<()> {
    let key = policy_key(at, &policy.name);
    if policy.name.is_empty() {
        return Err(ClassError::Invalid("a policy without a name".into()));
    }
    if context.omap_value(&key)?.is_some() {
        return present("policy", &policy.name);
    }
    if count(context, &key_in(b'p', &[at, ""]), ENTITIES_MAX)? >= ENTITIES_MAX {
        return limit(format!("An account has at most {ENTITIES_MAX} policies."));
    }
    context.create();
    context.set_omap(key, ManagedPolicy { attachments: 0, ..policy }.to_bytes());
    Ok(Ok(()))
}

fn delete_policy(context: &mut dyn ClassContext, at: &str, name: &str) -> Done<()> {
    let policy = there!(managed(context, at, name));
    if policy.attachments > 0 {
        return in_use("Cannot delete a policy attached to entities.");
    }
    context.remove_omap(&policy_key(at, name));
    Ok(Ok(()))
}
