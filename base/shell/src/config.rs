//! Reading settings from the places where they are: the file, the environment, the flags.

use crate::files;
use serde::{Serialize, de::DeserializeOwned};
use std::path::Path;
use store_base::config::{self, ConfigError, FILE_BYTES_MAX, File, Loaded};

/// Loads the settings of `role` (`store_base::config` tells the rules). `path` is the YAML file, if one was
/// named: it must exist then.
pub fn load<T: DeserializeOwned + Serialize + Default>(
    role: &str,
    path: Option<&Path>,
    flags: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded<T>, ConfigError> {
    let text = path.map(read).transpose()?;
    let name = path.map(|path| path.display().to_string()).unwrap_or_default();
    let file = text.as_deref().map(|text| File { name: &name, text });
    // A variable that is not UTF-8 cannot be one of ours that means something.
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    config::load(role, file, environment, flags)
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let wrong = |problem: String| ConfigError::File { file: path.display().to_string(), problem };
    let bytes = files::read_bounded(path, FILE_BYTES_MAX)
        .map_err(|e| wrong(format!("{e}; check the path given with --config")))?;
    String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8 text".to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default, Debug, serde::Serialize, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        size: config::ByteSize,
    }

    #[test]
    fn a_file_is_read_and_a_missing_one_is_named() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("store.yaml");
        let error = load::<Settings>("daemon", Some(&path), []).expect_err("not there").to_string();
        assert!(error.contains("store.yaml") && error.contains("--config"), "{error}");
        files::write_durable(&path, b"size: 1MiB\n", 0o644).expect("written");
        let loaded = load::<Settings>("daemon", Some(&path), []).expect("good");
        assert_eq!(loaded.value.size.0, 1 << 20);
        files::write_durable(&path, b"\xff\xfe", 0o644).expect("written");
        assert!(load::<Settings>("daemon", Some(&path), []).is_err());
    }
}
