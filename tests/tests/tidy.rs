//! The rules of the house that no compiler checks: every crate has its README, no file outgrows one concept,
//! no note to oneself is left, and no path or address of one machine slips in.

#![allow(clippy::disallowed_methods)]

use std::path::{Path, PathBuf};

const LINES_MAX: usize = 1200;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lies in the root").to_path_buf()
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    let skipped = ["target", ".git", ".tools", "model", "store-data"];
    for entry in std::fs::read_dir(folder).expect("a folder of the tree can be read").flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && !skipped.iter().any(|s| name == *s) {
            walk(&path, found);
        } else if path.is_file() {
            found.push(path);
        }
    }
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    walk(&root(), &mut found);
    found
        .into_iter()
        .filter(|path| {
            path.extension().is_some_and(|e| {
                ["rs", "md", "toml", "proto", "py", "yaml"].iter().any(|x| e == *x)
            })
        })
        .filter_map(|path| std::fs::read_to_string(&path).ok().map(|text| (path, text)))
        .collect()
}

#[test]
fn every_crate_has_a_readme() {
    for folder in [
        "base",
        "base/shell",
        "client",
        "client/cli",
        "monitor",
        "daemon",
        "metadata",
        "gateway",
        "tests",
    ] {
        let readme = root().join(folder).join("README.md");
        assert!(readme.exists(), "{} is missing", readme.display());
    }
}

#[test]
fn no_file_outgrows_one_concept() {
    for (path, text) in sources() {
        let lines = text.lines().count();
        let is_code = path.extension().is_some_and(|e| e == "rs");
        assert!(!is_code || lines <= LINES_MAX, "{}: {lines} lines; split it", path.display());
    }
}

#[test]
fn no_notes_to_oneself_and_no_paths_of_one_machine() {
    let this = Path::new(file!()).file_name().expect("a file has a name").to_owned();
    for (path, text) in sources().into_iter().filter(|(path, _)| path.file_name() != Some(&this)) {
        for (number, line) in text.lines().enumerate() {
            for word in ["TODO", "FIXME", "XXX:", "todo!(", "unimplemented!(", "/work/", "/root/"] {
                assert!(!line.contains(word), "{}:{}: {word}", path.display(), number + 1);
            }
        }
    }
}
