"""Checks the lock file's packages: where they come from, their licences, and those that may not be there.

Run by `tests/run dependencies`. Prints what is wrong and exits 1, or one line of counts."""

import json
import re
import subprocess
import sys

LICENCES = {
    "MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "BSL-1.0", "Zlib", "0BSD",
    "Unicode-3.0", "CC0-1.0", "Unlicense", "MIT-0", "CDLA-Permissive-2.0",
    "Apache-2.0 WITH LLVM-exception", "bzip2-1.0.6",
}
# Two TLS providers in one tree make rustls panic at run time; the others need programs that a bare
# machine does not have, or are unsound or abandoned.
BANNED = {
    "openssl-sys": "a C library that a bare machine lacks",
    "aws-lc-sys": "a second TLS provider beside ring",
    "serde_yml": "unsound, archived",
    "serde_yaml": "archived; yaml_serde is its continuation",
    "tokio-nbd": "GPL",
    "etcd-client": "its build script needs protoc",
}
SOURCE = "registry+https://github.com/rust-lang/crates.io-index"


def allowed(expression):
    """Whether a licence expression can be met from the list above."""
    expression = expression.replace("/", " OR ")
    alternatives = re.split(r"\s+OR\s+", expression.replace("(", " ").replace(")", " "))
    return any(all(part.strip() in LICENCES for part in re.split(r"\s+AND\s+", a)) for a in alternatives)


def main():
    metadata = json.loads(subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--locked"],
        check=True, stdout=subprocess.PIPE).stdout)
    wrong = []
    packages = [p for p in metadata["packages"] if p["id"] not in set(metadata["workspace_members"])]
    for p in packages:
        name = f"{p['name']} {p['version']}"
        if p["source"] != SOURCE:
            wrong.append(f"{name}: comes from {p['source']}")
        if p["name"] in BANNED:
            wrong.append(f"{name}: {BANNED[p['name']]}")
        if not p["license"] and not p["license_file"]:
            wrong.append(f"{name}: no licence")
        if p["license"] and not allowed(p["license"]):
            wrong.append(f"{name}: licence {p['license']}")
    # The four roles do not depend on each other, and base depends on nothing of ours.
    ours = {p["name"]: {d["name"] for d in p["dependencies"] if d["name"].startswith("store-")}
            for p in metadata["packages"] if p["id"] in set(metadata["workspace_members"])}
    roles = {"store-monitor", "store-daemon", "store-metadata", "store-gateway"}
    for role in roles:
        for other in ours[role] & roles:
            wrong.append(f"{role} depends on {other}: roles do not depend on each other")
    wrong += [f"store-base depends on {other}" for other in ours["store-base"]]
    for line in wrong:
        print(line)
    print(f"{len(packages)} packages checked, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
