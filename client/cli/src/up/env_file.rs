//! `store.env`: what others need to use the cluster, as lines `NAME=VALUE` that a shell and a program read alike
//! (`set -a; . DIR/store.env; set +a`, `docker --env-file`).

use std::io;
use std::path::Path;
use store_shell::files;

/// Its name in the cluster's directory.
pub(crate) const NAME: &str = "store.env";

/// Far above what is ever in it.
const BYTES_MAX: u64 = 64 << 10;

/// Writes it whole, readable by its owner only: it holds a secret.
pub(crate) fn write(path: &Path, values: &[(&str, String)]) -> io::Result<()> {
    let lines: String =
        values.iter().map(|(name, value)| format!("{name}={}\n", quote(value))).collect();
    files::write_durable(path, lines.as_bytes(), 0o600)
}

/// A value of the file; `None` if there is no file or no such value.
pub(crate) fn value(path: &Path, name: &str) -> Option<String> {
    let bytes = files::read_bounded(path, BYTES_MAX).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(unquote(line))
}

/// As it is where a shell takes it so, else in single quotes.
pub(crate) fn quote(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:,+=@%".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_string();
    }
    format!("'{}'", value.replace('\'', r"'\''"))
}

fn unquote(text: &str) -> String {
    match text.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')) {
        Some(inner) => inner.replace(r"'\''", "'"),
        None => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    #[test]
    fn a_shell_and_we_read_the_same() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join(NAME);
        let values = [
            ("STORE_MONITORS", "127.0.0.1:6789".to_string()),
            ("AWS_SECRET_ACCESS_KEY", "a/b+c=".to_string()),
            ("ODD", "it's $HOME \"x\"; rm".to_string()),
            ("EMPTY", String::new()),
        ];
        write(&path, &values).expect("written");
        let mode = std::fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        for (name, expected) in &values {
            assert_eq!(value(&path, name).as_ref(), Some(expected));
            let script = format!("set -a; . {}; printf %s \"${name}\"", path.display());
            let shell =
                Command::new("sh").args(["-c", &script]).output().expect("there is a shell");
            assert_eq!(String::from_utf8_lossy(&shell.stdout), *expected);
        }
        assert_eq!(value(&path, "STORE"), None);
        assert_eq!(value(&dir.path().join("no"), "STORE_MONITORS"), None);
    }
}
