//! `user`: people and programs, and their S3 keys.

use super::{act, command, flag, items, names, sure};
use crate::cluster::Connection;
use crate::confirm::Sure;
use crate::exit::Failure;
use crate::output::Output;
use crate::table::Table;
use crate::units::field;
use crate::up::env_file::quote;
use serde_json::{Value, json};
use std::fmt::Write;

#[derive(clap::Subcommand, Debug)]
pub(crate) enum UserCommand {
    /// Make a user with a key; the secret is shown now and never again
    Create {
        /// The user's name
        user: String,
        /// For people
        #[arg(long)]
        display_name: Option<String>,
        /// A member of this account, `ACCOUNT:USER` to Swift and in the other commands, instead of one with an account
        /// of its own
        #[arg(long, conflicts_with = "admin")]
        account: Option<String>,
        /// What a member may do in the account: all that its owner may, or only what is granted to it
        #[arg(long, value_name = "full|none", requires = "account")]
        access: Option<String>,
        /// Show what Swift clients log in with, for a shell
        #[arg(long, conflicts_with = "no_key")]
        swift: bool,
        /// May do everything
        #[arg(long)]
        admin: bool,
        /// Make no key
        #[arg(long, conflicts_with = "access_key")]
        no_key: bool,
        /// A user that exists is no error
        #[arg(long)]
        if_not_exists: bool,
        #[command(flatten)]
        own: OwnKey,
    },
    /// List the users
    #[command(visible_alias = "list")]
    Ls,
    /// Show a user and the ids of its keys
    Info {
        /// The user's name
        user: String,
    },
    /// Change a user
    Modify {
        /// The user's name
        user: String,
        /// For people
        #[arg(long)]
        display_name: Option<String>,
        /// What a member may do in its account
        #[arg(long, value_name = "full|none")]
        access: Option<String>,
        /// Whether it may do everything
        #[arg(long, value_name = "BOOL")]
        admin: Option<bool>,
        /// Whether it is refused everywhere
        #[arg(long, value_name = "BOOL")]
        suspended: Option<bool>,
    },
    /// Remove a user and its keys; its buckets stay
    Rm {
        /// The user's name
        user: String,
        #[command(flatten)]
        sure: Sure,
    },
    /// Keys of a user
    #[command(subcommand)]
    Key(KeyCommand),
}

#[derive(clap::Subcommand, Debug)]
pub(crate) enum KeyCommand {
    /// Give a user another key; the secret is shown now and never again
    Add {
        /// The user's name
        user: String,
        #[command(flatten)]
        own: OwnKey,
    },
    /// List a user's keys
    #[command(visible_alias = "list")]
    Ls {
        /// The user's name
        user: String,
        /// Show the secrets too
        #[arg(long)]
        show: bool,
    },
    /// Remove a key: who uses it is refused from then on
    Rm {
        /// The user's name
        user: String,
        /// The key's id
        access_key: String,
        #[command(flatten)]
        sure: Sure,
    },
}

#[derive(clap::Args, Debug)]
pub(crate) struct OwnKey {
    /// An access key of your own
    #[arg(long, requires = "secret_key")]
    access_key: Option<String>,
    /// A secret key of your own; best given by the environment, where other users do not see it
    #[arg(long, requires = "access_key", env = "STORE_SECRET_KEY", hide_env_values = true)]
    secret_key: Option<String>,
}

pub(crate) async fn run(
    verb: UserCommand,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    let text = |value: Option<String>| value.map(|value| json!(value));
    match verb {
        UserCommand::Create {
            user,
            display_name,
            account,
            access,
            swift,
            admin,
            no_key,
            if_not_exists,
            own,
        } => {
            let args = [
                ("user", Some(json!(user))),
                ("display_name", text(display_name)),
                ("account", text(account)),
                ("access", text(access)),
                ("admin", flag(admin)),
                ("no_key", flag(no_key)),
                ("if_not_exists", flag(if_not_exists)),
                ("access_key", text(own.access_key)),
                ("secret_key", text(own.secret_key)),
            ];
            let mut made = connection.command(command("user create", args)).await?;
            if swift {
                add_login(&mut made);
            }
            output.show_text(&made, describe);
            Ok(())
        }
        UserCommand::Ls => {
            let list = connection.command(command("user ls", [])).await?;
            output.show(&list, names("user"));
            Ok(())
        }
        UserCommand::Info { user } => {
            let args = [("user", Some(json!(user)))];
            let info = connection.command(command("user info", args)).await?;
            output.show_text(&info, describe);
            Ok(())
        }
        UserCommand::Modify { user, display_name, access, admin, suspended } => {
            let args = [
                ("user", Some(json!(user))),
                ("display_name", text(display_name)),
                ("access", text(access)),
                ("admin", admin.map(|admin| json!(admin))),
                ("suspended", suspended.map(|suspended| json!(suspended))),
            ];
            let changed = connection.command(command("user modify", args)).await?;
            output.show_text(&changed, describe);
            Ok(())
        }
        UserCommand::Rm { user, sure: confirmed } => {
            let harm = format!("This removes the user {user} and its keys; its buckets stay.");
            confirmed.confirm(&harm, &user)?;
            act(sure(command("user rm", [("user", Some(json!(user)))])), connection, output).await
        }
        UserCommand::Key(verb) => key(verb, connection, output).await,
    }
}

async fn key(verb: KeyCommand, connection: &Connection, output: &Output) -> Result<(), Failure> {
    match verb {
        KeyCommand::Add { user, own } => {
            let args = [
                ("user", Some(json!(user))),
                ("access_key", own.access_key.map(|key| json!(key))),
                ("secret_key", own.secret_key.map(|key| json!(key))),
            ];
            let made = connection.command(command("user key add", args)).await?;
            output.show_text(&made, describe);
            Ok(())
        }
        KeyCommand::Ls { user, show } => {
            let args = [("user", Some(json!(user))), ("show", flag(show))];
            let keys = connection.command(command("user key ls", args)).await?;
            output.show(&keys, |keys| {
                let mut header = vec!["access key", "created", "disabled"];
                header.extend(show.then_some("secret key"));
                let mut table = Table::new(header);
                for key in items(keys, "") {
                    let mut cells = vec![
                        field(key, "access_key"),
                        field(key, "created"),
                        field(key, "disabled"),
                    ];
                    cells.extend(show.then(|| field(key, "secret_key")));
                    table.row(cells);
                }
                table
            });
            Ok(())
        }
        KeyCommand::Rm { user, access_key, sure: confirmed } => {
            let harm = format!("Who uses the key {access_key} of {user} is refused from then on.");
            confirmed.confirm(&harm, &access_key)?;
            let args = [("user", Some(json!(user))), ("access_key", Some(json!(access_key)))];
            act(sure(command("user key rm", args)), connection, output).await
        }
    }
}

/// What Swift clients send to log in, as their environment has it: beside the address of a gateway.
fn add_login(made: &mut Value) {
    if made["secret_key"].is_string() {
        let id = field(made, "user_id");
        // A user with an account of its own is `USER:USER` there.
        made["st_user"] = json!(if id.contains(':') { id } else { format!("{id}:{id}") });
        made["st_key"] = made["secret_key"].clone();
    }
}

fn describe(user: &Value) -> String {
    let mut text = format!("user:         {}\n", field(user, "user_id"));
    for (label, key) in [
        ("display name", "display_name"),
        ("account", "account"),
        ("admin", "admin"),
        ("suspended", "suspended"),
        ("created", "created"),
    ] {
        let _ = writeln!(text, "{:<14}{}", format!("{label}:"), field(user, key));
    }
    let made = &user["access_key"];
    for key in items(user, "keys").iter().filter(|key| key["access_key"] != *made) {
        let off = if key["disabled"] == json!(true) { " (disabled)" } else { "" };
        let _ = writeln!(text, "key:          {}{off}", field(key, "access_key"));
    }
    // Only where one was just made.
    if user["secret_key"].is_string() {
        let _ = writeln!(text, "access key:   {}", field(user, "access_key"));
        let _ = writeln!(text, "secret key:   {}", field(user, "secret_key"));
    }
    if user["caps"]["swift"].is_string() {
        let _ = writeln!(text, "access:       {}", field(&user["caps"], "swift"));
    }
    if user["st_user"].is_string() {
        let _ = writeln!(text, "ST_USER={}", quote(&field(user, "st_user")));
        let _ = writeln!(text, "ST_KEY={}", quote(&field(user, "st_key")));
    }
    text
}
