//! The one configuration loader.
//!
//! A role's settings are one struct with `Default`, `Serialize` and `Deserialize`. Later sources win:
//!
//! | source | names a setting as | example |
//! |---|---|---|
//! | default | the struct's `Default` | |
//! | YAML file | the field; nested structs are nested mappings | `data_dir: /var/lib/store` |
//! | a role's section of that file | the same, below the role's name | `daemon: { data_dir: /d }` |
//! | environment | `STORE_` + field in capitals | `STORE_DATA_DIR=/d` |
//! | environment, for this role | `STORE_` + role + field | `STORE_DAEMON_DATA_DIR=/d` |
//! | flags | the field with dashes | `--data-dir /d` |
//!
//! A nested field `disk.size` is `STORE_DISK_SIZE` and `--disk-size`. One file may serve a whole cluster: the
//! sections of other roles are skipped. An unknown key in the file or in the role's own section, an unknown
//! `STORE_<ROLE>_…` and an unknown flag are refused, with the nearest known name; `STORE_…` names of other
//! roles are not this role's business. Every error is one line that says what, where and what to do.
//!
//! Nothing here opens a file or reads the environment: the shell does (`store_shell::config`).
//!
//! The struct must serialise every field (no `skip_serializing_if`): its serialised default is the list of
//! settings. A field whose default is `None` takes whatever its type can be read from.

mod address;
mod units;

pub use address::{HostPort, ListenAddress};
pub use units::{ByteSize, TimeSpan};

use serde::{Serialize, de::DeserializeOwned};
use serde_yaml::{Mapping, Value};
use std::collections::BTreeMap;
use std::fmt;

/// What begins every environment variable of ours.
pub const ENVIRONMENT_PREFIX: &str = "STORE_";

/// Names of roles, which are names of sections in a shared file.
pub const ROLES: [&str; 5] = ["monitor", "daemon", "metadata", "gateway", "client"];

/// The largest configuration file that is read.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The file of this name.
    File(String),
    /// The environment variable of this name.
    Environment(String),
    /// The flag of this name, with its dashes.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(name) => write!(f, "file {name}"),
            Origin::Environment(name) => write!(f, "environment {name}"),
            Origin::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// Why a configuration was refused. The caller prints it and ends: it is one line with the cure in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file is not YAML, or not a mapping.
    #[error("{file}: {problem}")]
    File {
        /// Its name.
        file: String,
        /// What is wrong, with line and column.
        problem: String,
    },
    /// There is no such setting.
    #[error("{origin}: no such setting {key:?}; {hint}")]
    Unknown {
        /// Who named it.
        origin: Origin,
        /// What was named.
        key: String,
        /// The nearest known name, or the list.
        hint: String,
    },
    /// The value does not fit the setting.
    #[error("{origin}: {key} cannot be {value:?}: {problem}")]
    Value {
        /// Who set it.
        origin: Origin,
        /// The setting.
        key: String,
        /// The value as given.
        value: String,
        /// What would fit.
        problem: String,
    },
}

/// A configuration file as text, with its name for messages.
#[derive(Clone, Copy, Debug)]
pub struct File<'a> {
    /// What messages call it: its path.
    pub name: &'a str,
    /// YAML.
    pub text: &'a str,
}

/// Settings, and where each came from.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// The settings.
    pub value: T,
    /// By key (`disk.size`): the value as text and its origin.
    pub settings: BTreeMap<String, (String, Origin)>,
}

impl<T> Loaded<T> {
    /// Where the value of `key` came from; `Default` also for keys that do not exist.
    pub fn origin(&self, key: &str) -> Origin {
        self.settings.get(key).map_or(Origin::Default, |(_, origin)| origin.clone())
    }

    /// One line per setting, `key: value  # origin`: itself a valid file.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for (key, (value, origin)) in &self.settings {
            text.push_str(&format!("{key}: {value}  # {origin}\n"));
        }
        text
    }
}

/// Loads the settings of `role`: defaults, then file, then environment, then flags (pairs of name and value;
/// dashes in names may be written or not).
pub fn load<T: DeserializeOwned + Serialize + Default>(
    role: &str,
    file: Option<File<'_>>,
    environment: impl IntoIterator<Item = (String, String)>,
    flags: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded<T>, ConfigError> {
    let mut loader = Loader::<T>::new();
    if let Some(file) = file {
        loader.apply_file(role, file)?;
    }
    loader.apply_environment(role, environment)?;
    for (name, text) in flags {
        let key = name.trim_start_matches('-').replace('-', "_");
        let origin = Origin::Flag(format!("--{}", key.replace('_', "-")));
        loader.apply_text(&key, &text, origin)?;
    }
    loader.finish()
}

/// A value of the settings' tree under its key.
struct Leaf {
    path: Vec<String>,
    default: Value,
    origin: Origin,
}

struct Loader<T> {
    /// Defaults, overlaid by what was applied so far; always readable as a `T`.
    tree: Value,
    /// By environment form of the key: `disk_size`.
    leaves: BTreeMap<String, Leaf>,
    target: std::marker::PhantomData<T>,
}

impl<T: DeserializeOwned + Serialize + Default> Loader<T> {
    fn new() -> Self {
        let tree = serde_yaml::to_value(T::default())
            .expect("the defaults of a settings struct are plain data");
        let mut leaves = BTreeMap::new();
        collect_leaves(&tree, &mut Vec::new(), &mut leaves);
        Loader { tree, leaves, target: std::marker::PhantomData }
    }

    fn apply_file(&mut self, role: &str, file: File<'_>) -> Result<(), ConfigError> {
        let wrong = |problem| ConfigError::File { file: file.name.to_string(), problem };
        let parsed: Value =
            serde_yaml::from_str(file.text).map_err(|e| wrong(format!("not YAML: {e}")))?;
        let mut top = match parsed {
            Value::Null => return Ok(()), // an empty file, or only comments
            Value::Mapping(mapping) => mapping,
            _ => return Err(wrong("the file must be a list of `key: value` lines".to_string())),
        };
        let mut section = None;
        for name in ROLES {
            // A setting of that very name wins over the section.
            if !self.leaves.contains_key(name) {
                let removed = top.remove(name);
                section = if name == role { removed } else { section };
            }
        }
        self.apply_mapping(&mut Vec::new(), top, file.name)?;
        match section {
            None | Some(Value::Null) => Ok(()),
            Some(Value::Mapping(own)) => self.apply_mapping(&mut Vec::new(), own, file.name),
            Some(_) => {
                Err(wrong(format!("{role} must be followed by indented `key: value` lines")))
            }
        }
    }

    fn apply_mapping(
        &mut self,
        path: &mut Vec<String>,
        mapping: Mapping,
        file: &str,
    ) -> Result<(), ConfigError> {
        for (name, value) in mapping {
            path.push(show(&name));
            let key = path.join("_");
            let is_leaf = self.leaves.get(&key).is_some_and(|leaf| leaf.path == *path);
            match value {
                Value::Mapping(inner) if !is_leaf && self.is_branch(path) => {
                    self.apply_mapping(path, inner, file)?;
                }
                value if is_leaf => {
                    let shown = show(&value);
                    self.apply(&key, [value], &shown, Origin::File(file.to_string()))?;
                }
                _ => {
                    return Err(self.unknown(
                        &path.join("."),
                        Origin::File(file.to_string()),
                        |leaf| leaf.path.join("."),
                    ));
                }
            }
            path.pop();
        }
        Ok(())
    }

    fn is_branch(&self, path: &[String]) -> bool {
        self.leaves.values().any(|leaf| leaf.path.len() > path.len() && leaf.path.starts_with(path))
    }

    /// The general name first, so that the role's own wins.
    fn apply_environment(
        &mut self,
        role: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(), ConfigError> {
        let own_prefix = format!("{ENVIRONMENT_PREFIX}{}_", role.to_uppercase());
        let mut own = Vec::new();
        let mut variables: Vec<_> = environment.into_iter().collect();
        variables.sort(); // so that the first error is always the same
        for (name, text) in variables {
            let Some(rest) = name.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
            let general = rest.to_lowercase();
            if self.leaves.contains_key(&general) {
                self.apply_text(&general, &text, Origin::Environment(name))?;
            } else if let Some(rest) = name.strip_prefix(&own_prefix) {
                own.push((rest.to_lowercase(), name.clone(), text));
            }
        }
        for (key, name, text) in own {
            if self.leaves.contains_key(&key) {
                self.apply_text(&key, &text, Origin::Environment(name))?;
            } else if !is_service_link(&key, &text) {
                let origin = Origin::Environment(name.clone());
                return Err(self.unknown(&name, origin, |leaf| {
                    format!("{own_prefix}{}", leaf.path.join("_").to_uppercase())
                }));
            }
        }
        Ok(())
    }

    fn apply_text(&mut self, key: &str, text: &str, origin: Origin) -> Result<(), ConfigError> {
        let Some(leaf) = self.leaves.get(key) else {
            let named = match &origin {
                Origin::Flag(flag) => flag.clone(),
                _ => key.to_string(),
            };
            return Err(self.unknown(&named, origin, |leaf| {
                format!("--{}", leaf.path.join("-").replace('_', "-"))
            }));
        };
        let readings = readings(&leaf.default, text);
        self.apply(key, readings, text, origin)
    }

    /// Takes the first reading that the struct accepts.
    fn apply(
        &mut self,
        key: &str,
        readings: impl IntoIterator<Item = Value>,
        shown: &str,
        origin: Origin,
    ) -> Result<(), ConfigError> {
        let path = self.leaves[key].path.clone();
        let mut first_problem = None;
        for reading in readings {
            let mut tree = self.tree.clone();
            *at(&mut tree, &path) = reading;
            match serde_yaml::from_value::<T>(tree.clone()) {
                Ok(_) => {
                    self.tree = tree;
                    self.leaves.get_mut(key).expect("the caller looked it up").origin = origin;
                    return Ok(());
                }
                Err(e) => first_problem = first_problem.or_else(|| Some(e.to_string())),
            }
        }
        let problem = first_problem.unwrap_or_else(|| "it cannot be read".to_string());
        Err(ConfigError::Value { origin, key: path.join("."), value: shown.to_string(), problem })
    }

    fn unknown(&self, key: &str, origin: Origin, name: impl Fn(&Leaf) -> String) -> ConfigError {
        let known: Vec<String> = self.leaves.values().map(name).collect();
        let nearest = known.iter().min_by_key(|name| distance(name, key));
        let hint = match nearest {
            Some(name) if distance(name, key) <= NEAR => format!("did you mean {name}?"),
            _ => format!("known are: {}", known.join(", ")),
        };
        ConfigError::Unknown { origin, key: key.to_string(), hint }
    }

    fn finish(mut self) -> Result<Loaded<T>, ConfigError> {
        let mut settings = BTreeMap::new();
        for leaf in self.leaves.into_values() {
            let value = show(at(&mut self.tree, &leaf.path));
            settings.insert(leaf.path.join("."), (value, leaf.origin));
        }
        let value = serde_yaml::from_value(self.tree).map_err(|e| ConfigError::File {
            file: "settings".to_string(),
            problem: format!("the defaults cannot be read back: {e}"),
        })?;
        Ok(Loaded { value, settings })
    }
}

/// Names at most this many edits apart are taken for a slip of the hand.
const NEAR: usize = 3;

fn collect_leaves(tree: &Value, path: &mut Vec<String>, leaves: &mut BTreeMap<String, Leaf>) {
    match tree {
        Value::Mapping(mapping) if !mapping.is_empty() || path.is_empty() => {
            for (name, value) in mapping {
                path.push(show(name));
                collect_leaves(value, path, leaves);
                path.pop();
            }
        }
        value => {
            let leaf = Leaf { path: path.clone(), default: value.clone(), origin: Origin::Default };
            let before = leaves.insert(path.join("_"), leaf);
            assert!(before.is_none(), "two settings share the environment name {}", path.join("_"));
        }
    }
}

fn at<'a>(tree: &'a mut Value, path: &[String]) -> &'a mut Value {
    path.iter().fold(tree, |node, name| {
        node.get_mut(name.as_str()).expect("paths are those of the defaults' tree")
    })
}

/// What a text from the environment or a flag may mean, the likeliest first, judged by the default's kind.
fn readings(default: &Value, text: &str) -> Vec<Value> {
    let string = || Value::String(text.to_string());
    let yaml = || serde_yaml::from_str(text).ok();
    let list = |item: fn(&str) -> Value| {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        Value::Sequence(items.map(item).collect())
    };
    let plain = |item: &str| Value::String(item.to_string());
    let scalar = |item: &str| serde_yaml::from_str(item).unwrap_or(Value::Null);
    match default {
        Value::Bool(_) => match text.to_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => vec![Value::Bool(true)],
            "false" | "no" | "off" | "0" => vec![Value::Bool(false)],
            _ => vec![string()],
        },
        Value::String(_) => vec![string()],
        Value::Number(_) => yaml().into_iter().chain([string()]).collect(),
        Value::Sequence(_) if text.trim_start().starts_with('[') => yaml().into_iter().collect(),
        Value::Sequence(_) => vec![list(plain), list(scalar)],
        Value::Mapping(_) => yaml().into_iter().collect(),
        // The type behind a `None` is not known: let it choose.
        _ => [string()].into_iter().chain(yaml()).chain([list(plain), list(scalar)]).collect(),
    }
}

/// A value on one line, as YAML.
fn show(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "null".to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Sequence(items) => {
            format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", "))
        }
        Value::Mapping(pairs) => {
            let pairs: Vec<_> =
                pairs.iter().map(|(k, v)| format!("{}: {}", show(k), show(v))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
        Value::Tagged(tagged) => format!("{} {}", tagged.tag, show(&tagged.value)),
    }
}

/// Container platforms put `STORE_DAEMON_SERVICE_HOST`, `STORE_DAEMON_PORT_6800_TCP` and the like into the
/// environment when a network service is called `store-daemon`. They are not ours and not an error.
fn is_service_link(key: &str, text: &str) -> bool {
    key == "service_host"
        || key.starts_with("service_port")
        || (key == "port" && text.contains("://"))
        || key
            .strip_prefix("port_")
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// Edits between two names: insertions, deletions, replacements.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
