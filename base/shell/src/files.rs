//! Files that survive a crash, and the lock on a data directory.
#![allow(clippy::disallowed_methods)] // the durable way to do what the lint forbids elsewhere

use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Name of the lock file in a data directory.
pub const LOCK_NAME: &str = "lock";

/// Puts `bytes` at `path`, whole or not at all, and durable when this returns: a new file beside it, synced,
/// renamed over it, and the directory synced. `mode` is the file's permission bits (0o600 for secrets).
///
/// An error names the path and what to do about it.
pub fn write_durable(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let wrong = |doing: &str, e: io::Error| {
        io::Error::new(e.kind(), format!("cannot {doing} {}: {e}{}", path.display(), cure(&e)))
    };
    let name = path.file_name().ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{} names no file", path.display()))
    })?;
    let fresh =
        path.with_file_name(format!(".{}.new-{}", name.to_string_lossy(), std::process::id()));
    let written = (|| {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&fresh)?;
        // A file left over from a crash, or a umask, may have given it other bits.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()
    })();
    if let Err(e) = written.and_then(|()| fs::rename(&fresh, path)) {
        let _ = fs::remove_file(&fresh); // it may not exist
        return Err(wrong("write", e));
    }
    sync_directory(directory_of(path)).map_err(|e| wrong("sync the directory of", e))
}

/// Makes names made, renamed or removed in a directory durable.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes a directory and all above it, durably; not an error if it is there. `mode` is for those newly made.
pub fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = directory_of(path);
    if parent != path {
        make_directory(parent, mode)?;
    }
    let made = match fs::create_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => return Ok(()),
        other => other,
    };
    made.and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .and_then(|()| sync_directory(parent))
        .map_err(|e| {
            let text = format!("cannot make the directory {}: {e}{}", path.display(), cure(&e));
            io::Error::new(e.kind(), text)
        })
}

/// Reads a whole file of at most `bytes_max` bytes; an error names it.
pub fn read_bounded(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let wrong =
        |e: io::Error| io::Error::new(e.kind(), format!("cannot read {}: {e}", path.display()));
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(bytes_max + 1).read_to_end(&mut bytes))
        .map_err(wrong)?;
    if bytes.len() as u64 > bytes_max {
        let text = format!("{} is larger than {bytes_max} bytes", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(bytes)
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// What a person does about a full disk.
const FULL: &str = " (make room on that disk)";

/// What a person does about an error of the file system.
fn cure(e: &io::Error) -> &'static str {
    match e.kind() {
        io::ErrorKind::PermissionDenied => " (give this user the right to write there)",
        io::ErrorKind::ReadOnlyFilesystem => " (mount it writable, or choose another directory)",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FULL,
        io::ErrorKind::NotFound => " (make the directory first)",
        _ => "",
    }
}

/// The hold of one process on a data directory. Ends with the value, or with the process, however it dies.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: Option<File>,
    path: PathBuf,
}

impl DirectoryLock {
    /// Takes the directory for this process, or says which process has it. The directory must exist.
    pub fn acquire(directory: &Path) -> io::Result<DirectoryLock> {
        let path = directory.join(LOCK_NAME);
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path);
        let mut file = opened.map_err(|e| {
            let text =
                format!("cannot lock the directory {}: {e}{}", directory.display(), cure(&e));
            io::Error::new(e.kind(), text)
        })?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(taken(directory, &mut file)),
            Err(e) => {
                let text = format!("cannot lock the directory {}: {e}", directory.display());
                return Err(io::Error::new(io::Error::from(e).kind(), text));
            }
        }
        // The number is for people; the lock itself is the kernel's. A full disk leaves it out.
        let noted = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        match noted {
            Err(e) if !matches!(cure(&e), FULL) => {
                let text =
                    format!("cannot lock the directory {}: {e}{}", directory.display(), cure(&e));
                Err(io::Error::new(e.kind(), text))
            }
            _ => Ok(DirectoryLock { _file: Some(file), path }),
        }
    }

    /// As [`DirectoryLock::acquire`], for somebody who only reads: nothing is written, and a directory that
    /// never had a lock is not given one.
    pub fn acquire_to_read(directory: &Path) -> io::Result<DirectoryLock> {
        let path = directory.join(LOCK_NAME);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Ok(DirectoryLock { _file: None, path });
            }
            Err(e) => {
                let text = format!("cannot read {}: {e}{}", path.display(), cure(&e));
                return Err(io::Error::new(e.kind(), text));
            }
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(DirectoryLock { _file: Some(file), path }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(taken(directory, &mut file)),
            Err(e) => {
                let text = format!("cannot lock the directory {}: {e}", directory.display());
                Err(io::Error::new(io::Error::from(e).kind(), text))
            }
        }
    }

    /// The lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn taken(directory: &Path, file: &mut File) -> io::Error {
    let mut holder = String::new();
    let _ = file.take(32).read_to_string(&mut holder); // only for the sentence
    let holder = match holder.trim() {
        "" => "another process".to_string(),
        pid => format!("pid {pid}"),
    };
    let text = format!(
        "the directory {} is in use by {holder}: stop that process, or choose another directory",
        directory.display()
    );
    io::Error::new(io::ErrorKind::ResourceBusy, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_durable_write_replaces_whole_and_keeps_the_mode() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("secret");
        write_durable(&path, b"one", 0o644).expect("first write");
        write_durable(&path, b"two", 0o600).expect("second write");
        assert_eq!(fs::read(&path).expect("readable"), b"two");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(
            fs::read_dir(dir.path()).expect("listable").count(),
            1,
            "nothing is left beside it"
        );
    }

    #[test]
    fn an_error_names_the_path_and_leaves_nothing() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("no/such/file");
        let error = write_durable(&path, b"x", 0o600).expect_err("no directory").to_string();
        assert!(error.contains("no/such/file") && error.contains("make the directory"), "{error}");
        make_directory(path.parent().expect("has one"), 0o700).expect("made");
        write_durable(&path, b"x", 0o600).expect("now it goes");
        assert_eq!(read_bounded(&path, 1).expect("fits"), b"x");
        write_durable(&path, b"xy", 0o600).expect("longer");
        assert!(read_bounded(&path, 1).expect_err("too long").to_string().contains("larger"));
    }

    #[test]
    fn a_second_lock_names_the_holder_and_the_first_frees_it() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let first = DirectoryLock::acquire(dir.path()).expect("free");
        let error = DirectoryLock::acquire(dir.path()).expect_err("taken").to_string();
        assert!(error.contains(&format!("in use by pid {}", std::process::id())), "{error}");
        DirectoryLock::acquire_to_read(dir.path()).expect_err("taken for readers too");
        drop(first);
        let reader = DirectoryLock::acquire_to_read(dir.path()).expect("free");
        DirectoryLock::acquire(dir.path()).expect_err("a reader holds it");
        drop(reader);
        DirectoryLock::acquire(dir.path()).expect("free again");
    }

    #[test]
    fn a_reader_makes_no_lock() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        DirectoryLock::acquire_to_read(dir.path()).expect("nobody has it");
        assert_eq!(fs::read_dir(dir.path()).expect("listable").count(), 0);
    }
}
