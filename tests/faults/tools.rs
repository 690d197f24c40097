//! The machine's own commands that the harness needs, and whether it may use them.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What must be there, with the Debian package that has it.
const TOOLS: [(&str, &str); 4] =
    [("ip", "iproute2"), ("nft", "nftables"), ("tc", "iproute2"), ("strace", "strace")];

/// Says with the cure what is missing on this machine.
pub(crate) fn check() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("network namespaces and faults need root: run this as root");
    }
    for (tool, package) in TOOLS {
        let found =
            Command::new(tool).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if found.is_err() {
            bail!(
                "the program {tool} is missing: `tests/run install` installs it (package {package})"
            );
        }
    }
    Ok(())
}

/// Runs a command to its end and returns what it printed; its complaint is the error.
pub(crate) fn run(words: &[&str]) -> Result<String> {
    let [program, rest @ ..] = words else { bail!("no command") };
    let done = Command::new(program)
        .args(rest)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{program} cannot be run"))?;
    if !done.status.success() {
        bail!("{}: {}", words.join(" "), String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// The library that gives a process a wall clock of its own. It has no effect on static programs.
pub(crate) fn clock_library(program: &Path) -> Result<PathBuf> {
    let folder = format!("/usr/lib/{}-linux-gnu/faketime", std::env::consts::ARCH);
    let library = Path::new(&folder).join("libfaketime.so.1");
    if !library.exists() {
        bail!(
            "{} is missing: `tests/run install` installs it (package libfaketime), or leave clocks out by --without clock",
            library.display()
        );
    }
    let bytes =
        std::fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    // A program that names its interpreter is linked at its start.
    if !bytes[..bytes.len().min(4096)].windows(10).any(|window| window == b"/ld-linux-") {
        bail!(
            "{} is a static program, whose clock cannot be moved: name dynamic builds by --bin, or leave clocks out by --without clock",
            program.display()
        );
    }
    Ok(library)
}
