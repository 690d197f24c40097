//! Commands about users and their keys.

use super::{
    Args, Failure, Kind, Outcome, ReadContext, Spec, WriteContext, data, destroy, done, fail,
};
use super::{invalid, may, missing, need, read, show, time, write};
use crate::machine::users::{self, KeyPair, USERS_MAX};
use serde_json::{Value, json};
use store_base::map::{AccessKey, User};
use store_base::op::errno;

const USER: super::Arg = need("user", Kind::Text, "the user's name");
const ACCESS: super::Arg = may("access_key", Kind::Text, "an access key of your own");
const SECRET: super::Arg = may("secret_key", Kind::Text, "a secret key of your own");

pub(super) const SPECS: &[Spec] = &[
    write(
        "user create",
        &[
            USER,
            may("display_name", Kind::Text, "for people"),
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
    json!({
        "user_id": name,
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

fn create(context: &mut WriteContext<'_>, args: &Args) -> Outcome {
    let name = args.the("user").to_string();
    users::check_name(&name).map_err(invalid)?;
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
    let Some(user) = context.maps.auth_mut().users.get_mut(name) else { return Err(unknown(name)) };
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
