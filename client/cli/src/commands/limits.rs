//! `object quota` and `object qos`: what users and buckets of the gateways may have, and how fast.

use super::{command, items};
use crate::cluster::Connection;
use crate::exit::Failure;
use crate::output::Output;
use crate::table::Table;
use crate::units::{bytes, number};
use serde_json::{Value, json};
use store_base::bucket::Limits;
use store_base::config::ByteSize;
use store_gateway::catalogue::CatalogueError;
use store_gateway::cluster::remote::Remote;
use store_gateway::operator::{Operator, OperatorError, Whom};

/// Whose limits.
#[derive(clap::Args, Debug)]
pub(crate) struct Of {
    /// The user
    name: String,
    /// One bucket of his, not all of them together
    #[arg(long, value_name = "BUCKET")]
    bucket: Option<String>,
}

#[derive(clap::Subcommand, Debug)]
pub(crate) enum QuotaCommand {
    /// Set how much a user, or a bucket, may hold
    Set {
        #[command(flatten)]
        of: Of,
        /// Bytes of all objects, as 10GiB; 0 for no bound
        size: ByteSize,
        /// And so many objects at most, older versions included; 0 for no bound. Stays as it is if not given
        #[arg(long, value_name = "NUMBER")]
        objects: Option<u64>,
    },
    /// Show it
    Get(Of),
    /// Switch it off for now; it stays as it is
    Disable(Of),
    /// Switch it on again
    Enable(Of),
    /// Take it back
    Unset(Of),
}

#[derive(clap::Subcommand, Debug)]
pub(crate) enum QosCommand {
    /// Set how fast a user, or a bucket, may go: of each gateway, in a second
    Set {
        #[command(flatten)]
        of: Of,
        /// Bytes of objects that are read, as 100MiB; 0 for no bound
        #[arg(long, value_name = "SIZE")]
        read: Option<ByteSize>,
        /// Bytes of objects that are written
        #[arg(long, value_name = "SIZE")]
        write: Option<ByteSize>,
        /// Requests
        #[arg(long, value_name = "NUMBER")]
        ops: Option<u64>,
    },
    /// Show it
    Get(Of),
    /// Take it back
    Unset(Of),
}

impl Of {
    fn whom(self) -> Whom {
        match self.bucket {
            Some(name) => Whom::Bucket { name, owner: self.name },
            None => Whom::User(self.name),
        }
    }
}

impl Of {
    /// Whose limits are to be set: somebody's who is there. What was set for somebody who is gone can still be seen
    /// and taken back.
    async fn there(self, connection: &Connection) -> Result<Whom, Failure> {
        if self.bucket.is_none() {
            let users = connection.command(command("user ls", [])).await?;
            let names: Vec<&str> = items(&users, "").iter().filter_map(Value::as_str).collect();
            let info = match names.contains(&self.name.as_str()) {
                true => {
                    let args = [("user", Some(json!(self.name)))];
                    Some(connection.command(command("user info", args)).await?)
                }
                false => None,
            };
            check(&self.name, &names, info.as_ref())?;
        }
        Ok(self.whom())
    }
}

/// Whether limits of somebody limit anything, by who is there and what is known of him.
fn check(who: &str, names: &[&str], info: Option<&Value>) -> Result<(), Failure> {
    let Some(info) = info else {
        // An account may have members and no user of its own.
        let is_member =
            |name: &&str| name.split_once(':').is_some_and(|(account, _)| account == who);
        return match names.iter().any(is_member) {
            true => Ok(()),
            false => Err(Failure::not_found(format!("there is no user {who}"))),
        };
    };
    match who.split_once(':') {
        Some((account, _)) if info["caps"]["swift"] == "full" => Err(Failure::failed(format!(
            "what {who} writes and reads is the account's: set the limits of {account}"
        ))),
        _ => Ok(()),
    }
}

impl From<OperatorError> for Failure {
    fn from(error: OperatorError) -> Self {
        match error {
            OperatorError::NotFound(why) => Failure::not_found(why),
            OperatorError::Refused(why) => Failure::failed(why),
            OperatorError::Catalogue(CatalogueError::Cluster(error)) => error.into(),
            OperatorError::Catalogue(error) => Failure::failed(error.to_string()),
        }
    }
}

/// An operator on the cluster.
pub(crate) async fn operator(connection: &Connection) -> Result<Operator<Remote>, Failure> {
    Ok(Operator::new(Remote::new(connection.client().await?).await?))
}

pub(crate) async fn quota(
    verb: QuotaCommand,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    let operator = operator(connection).await?;
    let limits = match verb {
        QuotaCommand::Set { of, size, objects } => {
            let set = |limits: &mut Limits| {
                (limits.quota, limits.bytes_max) = (true, size.0);
                limits.objects_max = objects.unwrap_or(limits.objects_max);
            };
            operator.change_limits(&of.there(connection).await?, set).await?
        }
        QuotaCommand::Get(of) => operator.limits(&of.whom()).await?,
        QuotaCommand::Enable(of) => {
            operator
                .change_limits(&of.there(connection).await?, |limits| limits.quota = true)
                .await?
        }
        QuotaCommand::Disable(of) => {
            operator
                .change_limits(&of.there(connection).await?, |limits| limits.quota = false)
                .await?
        }
        QuotaCommand::Unset(of) => {
            let unset = |limits: &mut Limits| {
                (limits.quota, limits.bytes_max, limits.objects_max) = (false, 0, 0);
            };
            operator.change_limits(&of.whom(), unset).await?
        }
    };
    output.show(&shown(&limits), |value| {
        let mut table = Table::new(["enabled", "bytes", "objects"]);
        let objects = number(value, "objects_max");
        let objects = if objects == 0 { "any".to_owned() } else { objects.to_string() };
        table.row([limits.quota.to_string(), bound(value, "bytes_max"), objects]);
        table
    });
    Ok(())
}

pub(crate) async fn qos(
    verb: QosCommand,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    let operator = operator(connection).await?;
    let limits = match verb {
        QosCommand::Set { of, read, write, ops } => {
            let set = |limits: &mut Limits| {
                limits.read_rate = read.map_or(limits.read_rate, |rate| rate.0);
                limits.write_rate = write.map_or(limits.write_rate, |rate| rate.0);
                limits.request_rate = ops.unwrap_or(limits.request_rate);
            };
            operator.change_limits(&of.there(connection).await?, set).await?
        }
        QosCommand::Get(of) => operator.limits(&of.whom()).await?,
        QosCommand::Unset(of) => {
            let unset = |limits: &mut Limits| {
                (limits.read_rate, limits.write_rate, limits.request_rate) = (0, 0, 0);
            };
            operator.change_limits(&of.whom(), unset).await?
        }
    };
    output.show(&shown(&limits), |value| {
        let mut table = Table::new(["read", "write", "ops"]);
        let rate = |name| match bound(value, name) {
            any if any == "any" => any,
            rate => format!("{rate}/s"),
        };
        let ops = number(value, "request_rate");
        let ops = if ops == 0 { "any".to_owned() } else { format!("{ops}/s") };
        table.row([rate("read_rate"), rate("write_rate"), ops]);
        table
    });
    Ok(())
}

fn shown(limits: &Limits) -> Value {
    json!({
        "quota_enabled": limits.quota,
        "bytes_max": limits.bytes_max,
        "objects_max": limits.objects_max,
        "read_rate": limits.read_rate,
        "write_rate": limits.write_rate,
        "request_rate": limits.request_rate,
    })
}

fn bound(value: &Value, name: &str) -> String {
    match number(value, name) {
        0 => "any".to_owned(),
        size => bytes(size),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_of_somebody_who_is_there() {
        let names = ["admin", "team:ann", "team:bob"];
        let of = |caps: Value| json!({"caps": caps});
        assert!(check("admin", &names, Some(&of(json!({})))).is_ok());
        assert!(check("team", &names, None).is_ok());
        assert!(check("team:bob", &names, Some(&of(json!({"swift": "none"})))).is_ok());
        let full = check("team:ann", &names, Some(&of(json!({"swift": "full"})))).unwrap_err();
        assert!(format!("{full:?}").contains("limits of team"), "{full:?}");
        for absent in ["admn", "tea", "team:eve"] {
            assert_eq!(check(absent, &names, None).unwrap_err().exit_code(), 3, "{absent}");
        }
    }
}
