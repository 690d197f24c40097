//! Commands about users and their keys.

use super::{
    Args, Failure, Kind, Outcome, ReadContext, Spec, WriteContext, data, destroy, done, fail,
};
use super::{invalid, may, missing, need, read, show, time, write};
use crate::machine::users::{self, ACCESS_CAP, KeyPair, MEMBER_SEPARATOR, USERS_MAX};
use serde_json::{Value, json};
use store_base::map::{AccessKey, User};
use store_base::op::errno;

const USER: super::Arg = need("user", Kind::Text, "the user's name");
const ACCESS: super::Arg = may("access_key", Kind::Text, "an access key of your own");
const SECRET: super::Arg = may("secret_key", Kind::Text, "a secret key of your own");
const RIGHTS: super::Arg = may(
    "access",
    Kind::Text,
    "what a member may do in the account: \"full\" (what its owner may), or \"none\" but what is granted",
);

pub(super) const SPECS: &[Spec] = &[
    write(
        "user create",
        &[
            USER,
            may("display_name", Kind::Text, "for people"),
            may("account", Kind::Text, "the account that the user is a member of, if not his own"),
            RIGHTS,
            may("admin", Kind::Bool, "may do everything"),
            ACCESS,
            SECRET,
            may("no_key", Kind::Bool, "make no key"),
            may("if_not_exists", Kind::Bool, "a user that exists is no error"),
        ],
        "Makes a user with a key; the secret is shown this once.",
        create,
    ),
    read("user ls", &[], "Lists the users.", |context, _| {
        show(data(&context.maps.auth.users.keys().collect::<Vec<_>>()))
    }),
    read("user info", &[USER], "Shows a user and the ids of its keys.", |context, args| {
        let (name, user) = find(context, args)?;
        show(describe(name, user))
    }),
    write(
        "user modify",
        &[
            USER,
            may("display_name", Kind::Text, "for people"),
            RIGHTS,
            may("admin", Kind::Bool, "may do everything"),
            may("suspended", Kind::Bool, "is refused everywhere"),
        ],
        "Changes a user.",
        modify,
    ),
    destroy("user rm", &[USER], "Removes a user and its keys; its buckets stay.", remove),
    write(
        "user key add",
        &[USER, ACCESS, SECRET],
        "Gives a user another key; the secret is shown this once.",
        |context, args| {
            let name = args.the("user").to_string();
            exists(context, &name)?;
            let pair = add_key(context, args, &name)?;
            let user = &context.maps.auth.users[&name];
            show(with_secret(describe(&name, user), &pair))
        },
    ),
    read(
        "user key ls",
        &[USER, may("show", Kind::Bool, "show the secrets too")],
        "Lists a user's keys.",
        keys,
    ),
    destroy(
        "user key rm",
        &[USER, need("access_key", Kind::Text, "the key")],
        "Removes a key; who uses it is refused from then on.",
        remove_key,
    ),
];

fn describe_key(id: &str, key: &AccessKey) -> Value {
    json!({"access_key": id, "created": time(key.created), "disabled": key.disabled})
}

fn describe(name: &str, user: &User) -> Value {
    let account = name.split_once(MEMBER_SEPARATOR).map_or(name, |(account, _)| account);
    json!({
        "user_id": name,
        "account": account,
        "display_name": user.display_name,
        "admin": user.admin,
        "suspended": user.suspended,
        "created": time(user.created),
        "caps": user.caps,
        "keys": user.keys.iter().map(|(id, key)| describe_key(id, key)).collect::<Vec<_>>(),
    })
}

fn with_secret(mut described: Value, pair: &KeyPair) -> Value {
    for key in described["keys"].as_array_mut().into_iter().flatten() {
        if key["access_key"] == json!(pair.access_key) {
            key["secret_key"] = json!(pair.secret_key);
        }
    }
    described["access_key"] = json!(pair.access_key);
    described["secret_key"] = json!(pair.secret_key);
    described
}

fn unknown(name: &str) -> Failure {
    missing(format!("there is no user {name:?} (\"user ls\" lists all)"))
}

fn exists(context: &WriteContext<'_>, name: &str) -> Result<(), Failure> {
    context.maps.auth.users.contains_key(name).then_some(()).ok_or_else(|| unknown(name))
}

fn find<'a>(context: &'a ReadContext<'_>, args: &'a Args) -> Result<(&'a str, &'a User), Failure> {
    let name = args.the("user");
    let user = context.maps.auth.users.get(name).ok_or_else(|| unknown(name))?;
    Ok((name, user))
}

fn add_key(context: &mut WriteContext<'_>, args: &Args, name: &str) -> Result<KeyPair, Failure> {
    let own = |name| args.text(name).map(str::to_string);
    let (access, secret) = (own("access_key"), own("secret_key"));
    if access.is_some() != secret.is_some() {
        return Err(invalid("access_key and secret_key go together"));
    }
    let (pair, nonce) = users::key_pair(context.entropy, access, secret);
    let (sealer, wall) = (context.sealer, context.wall);
    users::add_key(context.maps.auth_mut(), name, &pair, nonce, sealer, wall).map_err(invalid)?;
    Ok(pair)
}

/// The cap of a member, where one is asked for.
fn access_of(args: &Args) -> Result<Option<&str>, Failure> {
    let access = args.text("access");
    access.map_or(Ok(()), |access| users::check_access(access).map_err(invalid))?;
    Ok(access)
}

/// The name of a new user, and what he may do in the account of another.
fn new_name(args: &Args) -> Result<(String, Option<String>), Failure> {
    let (name, access) = (args.the("user"), access_of(args)?);
    let Some(account) = args.text("account") else {
        users::check_name(name).map_err(invalid)?;
        return match access {
            None => Ok((name.to_string(), None)),
            Some(_) => Err(invalid("access is about members: say the account")),
        };
    };
    if args.flag("admin") {
        return Err(invalid("a member of an account is no administrator of the cluster"));
    }
    let name = users::member_name(account, name).map_err(invalid)?;
    Ok((name, Some(access.unwrap_or("full").to_string())))
}

fn create(context: &mut WriteContext<'_>, args: &Args) -> Outcome {
    let (name, access) = new_name(args)?;
    if let Some(user) = context.maps.auth.users.get(&name) {
        return match args.flag("if_not_exists") {
            true => show(describe(&name, user)),
            false => fail(errno::EEXIST, format!("the user {name} exists")),
        };
    }
    if context.maps.auth.users.len() >= USERS_MAX {
        return fail(errno::ENOSPC, format!("there are {USERS_MAX} users, the most allowed"));
    }
    let user = User {
        display_name: args.text("display_name").unwrap_or(&name).to_string(),
        admin: args.flag("admin"),
        created: context.wall,
        caps: access.map(|access| (ACCESS_CAP.to_string(), access)).into_iter().collect(),
        ..User::default()
    };
    context.maps.auth_mut().users.insert(name.clone(), user);
    if args.flag("no_key") {
        return show(describe(&name, &context.maps.auth.users[&name]));
    }
    let pair = add_key(context, args, &name)?;
    show(with_secret(describe(&name, &context.maps.auth.users[&name]), &pair))
}

fn modify(context: &mut WriteContext<'_>, args: &Args) -> Outcome {
    let name = args.the("user");
    exists(context, name)?;
    refuse_last_admin(
        context,
        name,
        args.has("admin") && !args.flag("admin") || args.flag("suspended"),
    )?;
    let access = access_of(args)?;
    let is_member = name.contains(MEMBER_SEPARATOR);
    if is_member && args.flag("admin") || !is_member && access.is_some() {
        return Err(invalid("access is for members of an account, admin for all others"));
    }
    let Some(user) = context.maps.auth_mut().users.get_mut(name) else { return Err(unknown(name)) };
    if let Some(access) = access {
        user.caps.insert(ACCESS_CAP.to_string(), access.to_string());
    }
    if let Some(display_name) = args.text("display_name") {
        user.display_name = display_name.to_string();
    }
    if args.has("admin") {
        user.admin = args.flag("admin");
    }
    if args.has("suspended") {
        user.suspended = args.flag("suspended");
    }
    show(describe(name, user))
}

/// Somebody must be left who can manage users.
fn refuse_last_admin(context: &WriteContext<'_>, name: &str, loses: bool) -> Result<(), Failure> {
    let can = |user: &User| user.admin && !user.suspended;
    let users = &context.maps.auth.users;
    let others = users.iter().any(|(other, user)| other != name && can(user));
    match loses && users.get(name).is_some_and(can) && !others {
        true => fail(errno::EBUSY, format!("{name} is the last administrator: make another first")),
        false => Ok(()),
    }
}

fn remove(context: &mut WriteContext<'_>, args: &Args) -> Outcome {
    let name = args.the("user");
    exists(context, name)?;
    refuse_last_admin(context, name, true)?;
    // Who made a new user of that name would have them as members.
    let members = format!("{name}{MEMBER_SEPARATOR}");
    if let Some(member) = context.maps.auth.users.keys().find(|user| user.starts_with(&members)) {
        return fail(errno::EBUSY, format!("{name} has members, as {member}: remove them first"));
    }
    context.maps.auth_mut().users.remove(name);
    done(format!("the user {name} is removed"))
}

fn keys(context: &ReadContext<'_>, args: &Args) -> Outcome {
    let (_, user) = find(context, args)?;
    let rows = user.keys.iter().map(|(id, key)| {
        let mut row = describe_key(id, key);
        if args.flag("show") {
            row["secret_key"] = match context.sealer.unseal(id, &key.sealed_secret) {
                Some(secret) => json!(secret),
                None => Value::Null, // sealed with another cluster's key
            };
        }
        row
    });
    show(rows.collect())
}

fn remove_key(context: &mut WriteContext<'_>, args: &Args) -> Outcome {
    let (name, id) = (args.the("user"), args.the("access_key"));
    exists(context, name)?;
    if !context.maps.auth.users[name].keys.contains_key(id) {
        return Err(missing(format!("{name} has no key {id}")));
    }
    if let Some(user) = context.maps.auth_mut().users.get_mut(name) {
        user.keys.remove(id);
    }
    done(format!("the key {id} is removed"))
}
