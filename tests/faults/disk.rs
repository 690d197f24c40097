//! What disks do: calls that fail or dawdle, by `strace` on the running process, and bits that flip while
//! nobody looks.

use crate::body;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use store_tests::sim::random::Random;

/// Calls that write to the medium and make durable.
const WRITES: &str = "pwrite64,pwritev,pwritev2,fdatasync,fsync";

/// How calls go wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    /// Writes and flushes fail; one of so many.
    WriteError { one_of: u64 },
    /// There is no room; one of so many writes finds that.
    NoRoom { one_of: u64 },
    /// Reads fail; one of so many.
    ReadError { one_of: u64 },
    /// Writes and flushes take so much longer.
    Slow { micros: u64 },
}

impl Trouble {
    fn words(self) -> Vec<String> {
        let (calls, what) = match self {
            Trouble::WriteError { one_of } => (WRITES, format!("error=EIO:when={one_of}+{one_of}")),
            Trouble::NoRoom { one_of } => (
                "pwrite64,pwritev,pwritev2,fallocate",
                format!("error=ENOSPC:when={one_of}+{one_of}"),
            ),
            Trouble::ReadError { one_of } => {
                ("pread64,preadv,preadv2", format!("error=EIO:when={one_of}+{one_of}"))
            }
            Trouble::Slow { micros } => (WRITES, format!("delay_enter={micros}")),
        };
        vec!["-e".into(), format!("trace={calls}"), "-e".into(), format!("inject={calls}:{what}")]
    }
}

/// Calls of a process go wrong until this is ended.
pub(crate) struct Injection {
    strace: Child,
}

impl Injection {
    pub(crate) fn begin(pid: i32, trouble: Trouble, log: &Path) -> Result<Injection> {
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        let strace = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-p", &pid.to_string()])
            .args(trouble.words())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("strace cannot be run")?;
        Ok(Injection { strace })
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        // It lets the process go, and ends.
        crate::process::signal(self.strace.id() as i32, rustix::process::Signal::INT);
        let _ = self.strace.wait();
    }
}

/// The unit in which the engine places data.
const BLOCK: usize = 4096;

/// Looks through the medium of a stopped daemon for bodies of known values, and flips one bit in some of them.
/// How many were flipped.
pub(crate) fn flip_bits(
    data: &Path,
    sizes: &BTreeMap<u64, usize>,
    most: usize,
    random: &mut Random,
) -> Result<usize> {
    let file = File::options().read(true).write(true).open(data)?;
    let mut found = find_bodies(&file, sizes)?;
    let mut flipped = 0;
    while flipped < most && !found.is_empty() {
        let (at, value) = found.swap_remove(random.below(found.len() as u64) as usize);
        let body = body::make(value, sizes[&value]);
        let within = random.below(body.len() as u64);
        let mut byte = [0];
        file.read_exact_at(&mut byte, at + within)?;
        // A body that lies in several places is met in its first one only.
        if byte[0] == body[within as usize] {
            file.write_all_at(&[byte[0] ^ (1 << random.below(8))], at + within)?;
            flipped += 1;
        }
    }
    file.sync_all()?;
    Ok(flipped)
}

fn find_bodies(file: &File, sizes: &BTreeMap<u64, usize>) -> Result<Vec<(u64, u64)>> {
    let heads: BTreeMap<[u8; 16], u64> = sizes
        .keys()
        .filter_map(|value| Some((*body::make(*value, 16).first_chunk::<16>()?, *value)))
        .collect();
    let mut chunk = vec![0; 1 << 20];
    let (mut at, mut found) = (0, Vec::new());
    loop {
        let read = file.read_at(&mut chunk, at)?;
        if read < BLOCK {
            return Ok(found);
        }
        for (i, block) in chunk[..read].chunks(BLOCK).enumerate() {
            let value = block.first_chunk::<16>().and_then(|head| heads.get(head));
            found.extend(value.map(|value| (at + (i * BLOCK) as u64, *value)));
        }
        at += (read - read % BLOCK) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_is_in_a_known_body() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("data");
        let mut bytes = vec![0; 40 * BLOCK];
        let sizes = BTreeMap::from([(7, 9000), (8, 70_000)]);
        for (value, block) in [(7, 2), (8, 10)] {
            let body = body::make(value, sizes[&value]);
            bytes[block * BLOCK..][..body.len()].copy_from_slice(&body);
        }
        std::fs::write(&path, &bytes).expect("written");
        let flipped = flip_bits(&path, &sizes, 5, &mut Random::new(1)).expect("flipped");
        assert_eq!(flipped, 2, "each body once");
        let after = std::fs::read(&path).expect("read");
        let changed: Vec<usize> = (0..bytes.len()).filter(|i| bytes[*i] != after[*i]).collect();
        assert_eq!(changed.len(), 2);
        assert!((2 * BLOCK..2 * BLOCK + 9000).contains(&changed[0]));
        assert!((10 * BLOCK..10 * BLOCK + 70_000).contains(&changed[1]));
    }
}
