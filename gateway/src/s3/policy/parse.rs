//! From a document to a [`Policy`].

use super::condition::Condition;
use super::json::Json;
use super::pattern::{Pattern, Syntax};
use super::principal::Principals;
use super::{
    DOCUMENT_BYTES_MAX, Listed, POLICY_BYTES_MAX, Policy, PolicyError, Resource, Statement,
    VARIABLES_MAX, actions,
};
use std::collections::BTreeSet;

/// How the resources of S3 begin; the fields between the colons are region and account, empty for buckets.
const RESOURCE_PARTITIONS: [&str; 3] = ["arn:aws:s3:", "arn:aws-cn:s3:", "arn:aws-us-gov:s3:"];

fn wrong<T>(sentence: impl Into<String>) -> Result<T, PolicyError> {
    Err(PolicyError(sentence.into()))
}

pub(super) fn policy(document: &[u8], bucket: &str) -> Result<Policy, PolicyError> {
    parse(document, POLICY_BYTES_MAX, Form::Bucket(bucket))
}

pub(super) fn identity(document: &[u8]) -> Result<Policy, PolicyError> {
    parse(document, DOCUMENT_BYTES_MAX, Form::Identity)
}

pub(super) fn trust(document: &[u8]) -> Result<Policy, PolicyError> {
    parse(document, DOCUMENT_BYTES_MAX, Form::Trust)
}

/// What a policy is kept with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form<'a> {
    /// This bucket.
    Bucket(&'a str),
    /// Those whom it is about.
    Identity,
    /// The role that may be assumed.
    Trust,
}

fn parse(document: &[u8], bytes_max: usize, form: Form<'_>) -> Result<Policy, PolicyError> {
    if document.len() > bytes_max {
        return wrong("Policy exceeds the maximum allowed document size.");
    }
    let document = Json::parse(document)?;
    let Some(elements) = document.map() else {
        return wrong("Policies must be JSON objects");
    };
    let mut variables = false;
    let mut statements = None;
    for (name, value) in elements {
        match (name.as_str(), value) {
            ("Version", Json::Text(version)) if version == "2012-10-17" => variables = true,
            ("Version", Json::Text(version)) if version == "2008-10-17" => {}
            ("Version", _) => return wrong("The policy must contain a valid version string"),
            ("Id", Json::Text(_)) => {}
            ("Statement", value) => statements = Some(value),
            _ => return wrong(format!("Unknown field {name}")),
        }
    }
    let statements = match statements {
        None => return wrong("Missing required field Statement"),
        Some(Json::List(list)) if list.is_empty() => {
            return wrong("Could not parse the policy: Statement is empty!");
        }
        Some(Json::List(list)) => list.as_slice(),
        Some(one) => std::slice::from_ref(one),
    };
    let scope = Scope { variables, form };
    if !matches!(form, Form::Bucket(_)) {
        check_ids(statements)?;
    }
    let statements = statements.iter().map(|s| scope.statement(s));
    let statements = statements.collect::<Result<Vec<Statement>, _>>()?;
    if statements.iter().map(Statement::variables).sum::<usize>() > VARIABLES_MAX {
        return wrong(format!("A policy has at most {VARIABLES_MAX} variables"));
    }
    Ok(Policy { statements })
}

/// The ids of statements must differ. (Those of buckets may be the same here.)
fn check_ids(statements: &[Json]) -> Result<(), PolicyError> {
    let mut ids = BTreeSet::new();
    let of = |statement: &Json| {
        let elements = statement.map().unwrap_or_default();
        let id = elements.iter().find(|(name, _)| name == "Sid");
        id.and_then(|(_, id)| id.text().map(str::to_owned))
    };
    match statements.iter().filter_map(of).filter(|id| !id.is_empty()).all(|id| ids.insert(id)) {
        true => Ok(()),
        false => wrong("Statement IDs (SID) in a single policy must be unique."),
    }
}

/// What all statements of a policy have in common.
struct Scope<'a> {
    /// Whether `${…}` is a variable: not in the language's first version.
    variables: bool,
    form: Form<'a>,
}

impl Scope<'_> {
    fn statement(&self, value: &Json) -> Result<Statement, PolicyError> {
        let Some(elements) = value.map() else {
            return wrong("A statement must be a JSON object");
        };
        let mut effect = None;
        let (mut principals, mut actions, mut resources) = (None, None, None);
        let mut conditions = Vec::new();
        for (name, value) in elements {
            match (name.as_str(), value) {
                ("Sid", Json::Text(_)) => {}
                ("Effect", Json::Text(text)) if text == "Allow" => effect = Some(true),
                ("Effect", Json::Text(text)) if text == "Deny" => effect = Some(false),
                ("Effect", _) => return wrong("Invalid effect in policy"),
                // Those whom it is about need no name; "*" says so.
                ("Principal", value)
                    if self.form == Form::Identity && value.text() == Some("*") => {}
                ("Principal" | "NotPrincipal", _) if self.form == Form::Identity => {
                    return wrong("Policy document should not specify a principal.");
                }
                ("Resource" | "NotResource", _) if self.form == Form::Trust => {
                    return wrong("Has prohibited field Resource");
                }
                ("Principal", value) => {
                    set(&mut principals, name, Listed::These(Principals::parse(value)?))?;
                }
                ("NotPrincipal", value) => {
                    set(&mut principals, name, Listed::AllBut(Principals::parse(value)?))?;
                }
                ("Action", value) => set(&mut actions, name, Listed::These(self.actions(value)?))?,
                ("NotAction", value) => {
                    set(&mut actions, name, Listed::AllBut(self.actions(value)?))?;
                }
                ("Resource", value) => {
                    set(&mut resources, name, Listed::These(self.resources(value)?))?;
                }
                ("NotResource", value) => {
                    set(&mut resources, name, Listed::AllBut(self.resources(value)?))?;
                }
                ("Condition", value) => conditions = self.conditions(value)?,
                _ => return wrong(format!("Unknown field {name}")),
            }
        }
        // It would let in everybody but some, nobody included.
        if let (Some(true), Some(Listed::AllBut(_))) = (effect, &principals) {
            return wrong("Allow with NotPrincipal is not allowed");
        }
        let missing = |name: &str| PolicyError(format!("Missing required field {name}"));
        if self.form == Form::Identity {
            principals = Some(Listed::These(Principals::all()));
        }
        if self.form == Form::Trust {
            resources = Some(Listed::These(vec![Resource::Any]));
        }
        Ok(Statement {
            allows: effect.ok_or_else(|| missing("Effect"))?,
            principals: principals.ok_or_else(|| missing("Principal"))?,
            actions: actions.ok_or_else(|| missing("Action"))?,
            resources: resources.ok_or_else(|| missing("Resource"))?,
            conditions,
        })
    }

    fn actions(&self, value: &Json) -> Result<Vec<Pattern>, PolicyError> {
        let Some(names) = value.texts() else { return wrong("Invalid action in policy") };
        let syntax = Syntax { wildcards: true, variables: false };
        let one = |name: &str| {
            let name = name.to_ascii_lowercase();
            let known = match self.form {
                Form::Bucket(_) => actions::is_action(&name),
                Form::Identity => actions::is_action_of_any(&name),
                Form::Trust => name.starts_with("sts:") && actions::is_action_of_any(&name),
            };
            match known {
                true => Pattern::parse(&name, syntax),
                false => wrong(format!("Policy has invalid action: {name}")),
            }
        };
        names.into_iter().map(one).collect()
    }

    fn resources(&self, value: &Json) -> Result<Vec<Resource>, PolicyError> {
        let Some(names) = value.texts() else { return wrong("Invalid resource in policy") };
        names.into_iter().map(|name| self.resource(name)).collect()
    }

    fn resource(&self, name: &str) -> Result<Resource, PolicyError> {
        let syntax = Syntax { wildcards: true, variables: self.variables };
        let path = match name {
            "*" => return Ok(Resource::Any),
            name => resource_path(name),
        };
        match (self.form, path) {
            (Form::Bucket(bucket), Some(path)) if self.may_be_ours(path, bucket) => {
                Ok(Resource::S3(Pattern::parse(path, syntax)?))
            }
            (Form::Identity, Some(path)) => Ok(Resource::S3(Pattern::parse(path, syntax)?)),
            (Form::Identity, None) if is_foreign_arn(name) => {
                Ok(Resource::Other(Pattern::parse(name, syntax)?))
            }
            _ => wrong(format!("Policy has invalid resource: {name}")),
        }
    }

    /// Whether a pattern can match the bucket or something in it: a policy about another one is a mistake.
    fn may_be_ours(&self, path: &str, bucket: &str) -> bool {
        let special = |c: char| matches!(c, '*' | '?' | '/') || (c == '$' && self.variables);
        match path.find(special) {
            None => path == bucket,
            Some(at) if path.as_bytes()[at] == b'/' => path[..at] == *bucket,
            Some(at) => bucket.starts_with(&path[..at]),
        }
    }

    fn conditions(&self, value: &Json) -> Result<Vec<Condition>, PolicyError> {
        let Some(operators) = value.map() else { return wrong("Invalid Condition in policy") };
        let mut conditions = Vec::new();
        for (operator, keys) in operators {
            let Some(keys) = keys.map() else { return wrong("Invalid Condition in policy") };
            for (key, values) in keys {
                let known = match self.form {
                    Form::Bucket(_) => actions::is_key(key),
                    _ => actions::is_key_of_any(key),
                };
                if !known {
                    return wrong(format!("Policy has an invalid condition key: {key}"));
                }
                conditions.push(Condition::parse(operator, key, values, self.variables)?);
            }
        }
        Ok(conditions)
    }
}

fn set<T>(place: &mut Option<T>, name: &str, value: T) -> Result<(), PolicyError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => wrong(format!("A statement has either {name} or its opposite, once")),
    }
}

/// Bucket and key of an ARN. Region and account may be anything: they are empty in the ARNs of AWS, and
/// Ceph's users write a tenant or `*`.
fn resource_path(arn: &str) -> Option<&str> {
    let rest = RESOURCE_PARTITIONS.iter().find_map(|head| arn.strip_prefix(head))?;
    let (_region, rest) = rest.split_once(':')?;
    let (_account, path) = rest.split_once(':')?;
    (!path.is_empty()).then_some(path)
}

/// Whether this is the ARN of something that is not S3's.
fn is_foreign_arn(name: &str) -> bool {
    let fields: Vec<&str> = name.splitn(6, ':').collect();
    matches!(
        fields[..],
        ["arn", "aws" | "aws-cn" | "aws-us-gov", service, _, _, resource]
            if !service.is_empty() && service != "s3" && !resource.is_empty()
                && service.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    )
}
