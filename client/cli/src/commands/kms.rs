//! `kms`: the keys for encrypted objects of the gateways. Named keys (SSE-KMS) and the cluster's own, which protects
//! those and the objects under SSE-S3. No secret passes here: gateways make them.

use super::items;
use super::limits::operator;
use crate::cluster::Connection;
use crate::confirm::Sure;
use crate::exit::Failure;
use crate::output::Output;
use crate::table::Table;
use crate::units::{date, field, number};
use serde_json::Value;
use store_base::bucket::KmsChange;
use store_gateway::cluster::remote::Remote;
use store_gateway::operator::Operator;
use store_gateway::operator::kms::{
    DELETE_DAYS_DEFAULT, creation, new_id, shown, shown_cluster_keys,
};

#[derive(clap::Subcommand, Debug)]
pub(crate) enum KmsCommand {
    /// Named keys, for SSE-KMS
    #[command(subcommand)]
    Key(KeyCommand),
    /// List the versions of the cluster's own key
    #[command(visible_alias = "list")]
    Ls,
    /// Renew the cluster's own key, or the key that a bucket encrypts with by default; what is there stays readable
    Rotate {
        /// The bucket
        bucket: Option<String>,
    },
}

#[derive(clap::Subcommand, Debug)]
pub(crate) enum KeyCommand {
    /// Make a key
    Create {
        /// What clients call it: letters, digits, _ - and . [default: a random UUID]
        key: Option<String>,
        /// For people
        #[arg(long, default_value = "")]
        description: String,
    },
    /// List the keys
    #[command(visible_alias = "list")]
    Ls,
    /// Show a key and its versions
    Show {
        /// The key
        key: String,
    },
    /// Let a key be used again
    Enable {
        /// The key
        key: String,
    },
    /// Let nobody use a key: what it protects can neither be read nor written
    Disable {
        /// The key
        key: String,
    },
    /// Renew a key: what is written from now on is protected by a new version; what is there stays readable
    Rotate {
        /// The key
        key: String,
    },
    /// Destroy a key after a time in which nobody can use it: what it protects is lost then
    Delete {
        /// The key
        key: String,
        /// After so many days, 7 to 30
        #[arg(long, default_value_t = DELETE_DAYS_DEFAULT, value_parser = clap::value_parser!(u32).range(7..=30))]
        days: u32,
        #[command(flatten)]
        sure: Sure,
    },
    /// Keep a key that is going to be deleted; it stays disabled
    Undelete {
        /// The key
        key: String,
    },
}

pub(crate) async fn run(
    verb: KmsCommand,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    match verb {
        KmsCommand::Key(verb) => key(verb, connection, output).await,
        KmsCommand::Ls => show_cluster_keys(&operator(connection).await?, output).await,
        KmsCommand::Rotate { bucket } => {
            let operator = operator(connection).await?;
            let named = match bucket {
                None => None,
                Some(bucket) => operator.key_of_bucket(&bucket).await?,
            };
            if let Some(key) = named {
                return change(&operator, &key, KmsChange::Rotate {}, output).await;
            }
            operator.rotate_cluster_key().await?;
            show_cluster_keys(&operator, output).await
        }
    }
}

async fn key(verb: KeyCommand, connection: &Connection, output: &Output) -> Result<(), Failure> {
    if let KeyCommand::Delete { key, days, sure } = &verb {
        let harm = format!(
            "In {days} days this destroys the key {key}, and with it every object that it protects; until then they cannot be read."
        );
        sure.confirm(&harm, key)?;
    }
    let operator = operator(connection).await?;
    let (key, wish) = match verb {
        KeyCommand::Ls => {
            let keys = operator.kms_keys().await?;
            output.show(&keys.iter().map(shown).collect(), table);
            return Ok(());
        }
        KeyCommand::Show { key } => {
            output.show(&shown(&operator.kms_key(&key).await?), pairs);
            return Ok(());
        }
        KeyCommand::Create { key, description } => {
            (key.unwrap_or_else(new_id), creation(&description))
        }
        KeyCommand::Enable { key } => (key, KmsChange::Enable {}),
        KeyCommand::Disable { key } => (key, KmsChange::Disable {}),
        KeyCommand::Rotate { key } => (key, KmsChange::Rotate {}),
        KeyCommand::Delete { key, days, .. } => (key, KmsChange::Delete { days }),
        KeyCommand::Undelete { key } => (key, KmsChange::Undelete {}),
    };
    change(&operator, &key, wish, output).await
}

async fn change(
    operator: &Operator<Remote>,
    key: &str,
    wish: KmsChange,
    output: &Output,
) -> Result<(), Failure> {
    let key = operator.change_kms(key, wish).await?;
    output.show(&shown(&key), pairs);
    Ok(())
}

async fn show_cluster_keys(operator: &Operator<Remote>, output: &Output) -> Result<(), Failure> {
    let (keys, wanted) = operator.cluster_keys().await?;
    output.show(&shown_cluster_keys(&keys, wanted), |value| {
        let mut table = Table::new(["version", "created"]).right([0]);
        for row in items(value, "versions") {
            table.row([field(row, "version"), date(number(row, "created"))]);
        }
        let newest = items(value, "versions").last().map_or(0, |row| number(row, "version"));
        if number(value, "version") > newest {
            table.row([field(value, "version"), "at its first use".to_owned()]);
        }
        table
    });
    Ok(())
}

fn table(list: &Value) -> Table {
    let mut table = Table::new(["key", "state", "version", "created", "description"]).right([2]);
    for row in items(list, "") {
        table.row([
            field(row, "id"),
            state(row),
            field(row, "version"),
            date(number(row, "created")),
            field(row, "description"),
        ]);
    }
    table
}

/// The state of a key, and until when.
fn state(key: &Value) -> String {
    match key["delete_at"].as_u64() {
        Some(at) => format!("{} on {}", field(key, "state"), date(at)),
        None => field(key, "state"),
    }
}

fn pairs(key: &Value) -> Table {
    let mut table = Table::new(["name", "value"]);
    let made = items(key, "versions").iter().map(|version| {
        format!("{} of {}", field(version, "version"), date(number(version, "created")))
    });
    for (name, value) in [
        ("key", field(key, "id")),
        ("description", field(key, "description")),
        ("state", state(key)),
        ("created", date(number(key, "created"))),
        ("version", field(key, "version")),
        ("versions in use", made.collect::<Vec<_>>().join(", ")),
    ] {
        table.row([name.to_owned(), value]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn people_see_until_when_a_key_is_there() {
        let mut key = json!({
            "id": "k", "description": "d", "state": "enabled", "created": 0, "delete_at": null,
            "version": 2, "versions": [{"version": 1, "created": 0}],
        });
        assert_eq!(table(&json!([key])).to_plain(), "k\tenabled\t2\t1970-01-01 00:00:00\td\n");
        assert!(pairs(&key).to_plain().contains("versions in use\t1 of 1970-01-01 00:00:00\n"));
        key["state"] = json!("pending-deletion");
        key["delete_at"] = json!(86_400);
        assert_eq!(state(&key), "pending-deletion on 1970-01-02 00:00:00");
    }
}
